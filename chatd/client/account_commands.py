"""Commands about accounts and logins.

Owns: register, login, takeover, passwd, sessions, logout. Elsewhere: logging in
(chatd_client). Fails: Usage, ChatError.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence

from chatd.client.app import App
from chatd.client.grammar import Usage, quoted
from chatd.client.live import when
from chatd.client.screen import Screen
from chatd.client.target import Target
from chatd_client.errors import ChatError

AskPassword = Callable[[str, bool], Awaitable[str | None]]
"""(prompt, new) -> the password, None if none is given. new: it is being chosen."""


class AccountCommands:
    def __init__(self, app: App, screen: Screen, target: Target, ask_password: AskPassword) -> None:
        self._app = app
        self._client = app.client
        self._screen = screen
        self._target = target
        self._ask_password = ask_password
        self._last_name = ""
        """Under which the person logged in last."""

    def verbs(self) -> dict[str, Callable[[Sequence[str]], Awaitable[None]]]:
        return {
            "register": self._register,
            "login": self._login,
            "takeover": self._take_over,
            "passwd": self._change_password,
            "sessions": self._sessions,
            "logout": self._logout,
        }

    async def _register(self, words: Sequence[str]) -> None:
        name = words[0]
        password = await self._password(f"password of {name}: ", new=True)
        number = await self._client.register(name, password)
        self._screen.notice(f"registered {name}, your number is {number}; now: /login {quoted(name)}")

    async def _login(self, words: Sequence[str]) -> None:
        await self._enter(words, takeover=False)

    async def _take_over(self, words: Sequence[str]) -> None:
        if not words and not self._last_name:
            raise Usage("/takeover NAME: whose session?")
        await self._enter(words or (self._last_name,), takeover=True)

    async def _enter(self, words: Sequence[str], *, takeover: bool) -> None:
        password = words[1] if len(words) > 1 else await self._password(f"password of {words[0]}: ")
        self._last_name = words[0]
        await self._client.login(words[0], password, takeover=takeover)
        self._target.forget()

    async def _password(self, prompt: str, *, new: bool = False) -> str:
        password = await self._ask_password(prompt, new)
        if password is None:
            raise ChatError("no password given")
        return password

    async def _change_password(self, words: Sequence[str]) -> None:
        self._client.require_login()
        old = await self._password("old password: ")
        new = await self._password("new password: ", new=True)
        await self._client.account.change_password(old, new)
        self._screen.notice("password changed; your other sessions have ended")

    async def _sessions(self, words: Sequence[str]) -> None:
        self._client.require_login()
        found = await self._client.account.sessions()
        for one in found.sessions:
            here = ", this one" if one.this else ""
            self._screen.notice(f"{one.wire} from {one.peer} since {when(one.since)}{here}")
        if not found.complete:
            self._screen.notice("not every part of the server has answered: there may be more")

    async def _logout(self, words: Sequence[str]) -> None:
        was = self._client.user
        await self._client.logout()
        self._target.forget()
        self._screen.notice("logged out" if was else "not logged in")
