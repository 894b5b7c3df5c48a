"""Logins by token, as the rest of core sees them. Needs no library, so that a server without tokens loads none.

Owns: Tokens, what a worker with keys offers; KeysUnavailable.
Elsewhere: the implementation (core.tokens.current_keys), what a token is (tokens.contract), what a login does with it
(core.authentication).
Fails: as the methods say.
"""

from __future__ import annotations

from typing import Protocol

from chatd.background import BackgroundTasks
from chatd.config.schema import Config
from chatd.errors import ChatdError
from chatd.tokens.contract import Claims


class KeysUnavailable(ChatdError):
    """It cannot be said now whether the token is good, because a key set cannot be read. Caught in
    core.authentication."""


class Tokens(Protocol):
    """The keys in force on this worker. Called from its loop."""

    async def open(self, background: BackgroundTasks) -> None:
        """Before the first login: read the key sets, which may take some seconds. Never raises: a set that cannot be
        read is tried again in the background."""

    async def verify(self, token: str) -> Claims:
        """The claims of a token that is valid now. Raises TokenRefused; KeysUnavailable."""
        ...

    def mint(self, name: str, ttl_s: float) -> str:
        """A login token for this name, valid for ttl_s seconds from now. The name is taken as it is. Raises Refused
        NOT_ALLOWED (no key may sign), BAD_FIELD (the lifetime is not allowed)."""
        ...

    def replace(self, config: Config) -> None:
        """Use the keys and options of this configuration. Raises ValueError, and then nothing is changed."""

    def round(self) -> None:
        """Once a second: read key sets again when they are due, and forget the keys of those that are too old."""
