"""The API, for the operator's page: the same routes below /admin, with the cookie of an administrator instead of a key.

Owns: which routes the page may use, and what each of them needs; AdminApiApp.
Elsewhere: the routes (http.table), who an administrator is (http.admin.requests).
Fails: as http.dispatch.

The page shows no conversations and makes no tokens: an operator who can read what people write, or be one of them, is
something that they have to be told; whoever needs it has chatctl and a key.
"""

from __future__ import annotations

import msgspec

from chatd.http.admin.requests import FRESH, READ, WRITE, admit
from chatd.http.browsers import BrowserApp
from chatd.http.call import Call, CallerKind
from chatd.http.dispatch import Receive, Scope, Shared
from chatd.http.problems import Answer
from chatd.http.route import Download, Route, Streamed
from chatd.http.table import ROUTES
from chatd.security_log import SecurityEvent

PREFIX = "/admin"
_LEFT_OUT = ("messages:read", "messages:write", "tokens:write")
"""Scopes of routes that the page has not."""
_DANGEROUS = {
    ("DELETE", "/v1/users/{name}"),
    ("PUT", "/v1/users/{name}"),
    ("PUT", "/v1/users/{name}/password"),
    ("GET", "/v1/users/{name}/export"),
    ("DELETE", "/v1/groups/{number}"),
}


def needs(route: Route) -> str:
    """READ, WRITE or FRESH."""
    if (route.method, route.path) in _DANGEROUS:
        return FRESH
    return READ if route.scope.endswith(":read") else WRITE


class AdminApiApp(BrowserApp):
    """One route of the API as the page calls it."""

    __slots__ = ("_needs",)

    def __init__(self, route: Route, shared: Shared) -> None:
        super().__init__(msgspec.structs.replace(route, path=PREFIX + route.path), shared)
        self._needs = needs(route)

    async def serve(self, scope: Scope, receive: Receive) -> Answer | Download | Streamed:
        """Raises Refused, Unavailable, Gone, and whatever a handler raises that has a bug."""
        connection = scope["state"]["connection"]
        head = self.head(scope)
        connection.check_private()
        found = await admit(self.shared.core, connection, head, self._needs)
        scope["administrator"] = found.account.user.name
        answer = await super().serve(scope, receive)
        self._record(scope["call"])
        return answer

    def _record(self, call: Call) -> None:
        """Whatever was changed is in the security trail: what its handler does not record is recorded here, without the
        body, which may hold a secret."""
        if self._needs != READ and not call.recorded:
            call.record(SecurityEvent.ORDER, order=call.target, result="ok")

    def admitted(self, scope: Scope, authorization: bytes) -> str:
        """By serve()."""
        return str(scope["administrator"])

    def call(self, name: str, scope: Scope) -> Call:
        """In the name of the administrator."""
        call = super().call(name, scope)
        call.kind = CallerKind.ADMINISTRATOR
        scope["call"] = call
        return call


def apps(shared: Shared) -> list[AdminApiApp]:
    """Every route that the page may use."""
    return [AdminApiApp(route, shared) for route in ROUTES if route.scope and route.scope not in _LEFT_OUT]
