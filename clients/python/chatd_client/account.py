"""The user's own account and sessions.

Owns: one method per operation.
Elsewhere: asking (requests), the results (results).
Fails: each method raises Refused, NoAnswer, Overloaded and SessionEnded, as Requests.ask.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

from chatd_client import results
from chatd_client.requests import Requests


class Account:
    def __init__(self, requests: Requests, password_changed: Callable[[str], None]) -> None:
        self._ask = requests.ask
        self._password_changed = password_changed

    async def whoami(self) -> results.Whoami:
        """The user and session of the present connection."""
        return await self._ask("whoami", results.Whoami)

    async def change_password(self, old: str, new: str) -> None:
        """The user's other sessions end. The client logs in with the new one from now on."""
        await self._ask("password.change", results.Nothing, old=old, new=new)
        self._password_changed(new)

    async def sessions(self) -> results.OwnSessions:
        """Where the user is logged in."""
        return await self._ask("session.list", results.OwnSessions)

    async def end_session(self, wire: Literal["chatserver", "mobileimsdk"]) -> None:
        """End the user's session on this wire. On "mobileimsdk" that is this one."""
        await self._ask("session.kick", results.Nothing, wire=wire)
