"""Serving a route for the operator's page: a request of a page of this server, by an administrator.

Owns: AdminCall, what a handler is given; AdminCallApp: the cookie, what the role allows, the fresh code of a dangerous
call.
Elsewhere: what is asked (http.admin.calls and others), sessions and codes (core.administrators), pages and cookies
(http.browsers), what all routes have in common (http.dispatch).
Fails: as http.dispatch; refusals are problems.

What a call needs is the scope of its route: NOBODY, READ, WRITE or FRESH.
"""

from __future__ import annotations

from typing import Any

import msgspec

from chatd import security_log
from chatd.core.core import Core
from chatd.errors import ErrorCode, Refused
from chatd.http.browsers import BrowserApp, Cookie, Head, cookie_in, is_secure
from chatd.http.connection import HttpConnection
from chatd.http.dispatch import JSON, Receive, Scope, json_answer, read_body
from chatd.http.problems import Answer, HttpRefused
from chatd.http.route import Handler, Method, NoInput, Route
from chatd.security_log import SecurityEvent
from chatd.store.contract import AdminRole, FoundSession

PATH = b"/admin"
NOBODY = ""
"""No session is needed."""
READ = "read"
"""Every administrator."""
WRITE = "write"
"""An administrator whose role is `admin`."""
FRESH = "fresh"
"""As WRITE, with a code of the second factor that was not used before."""
_NAMES = {False: b"chatd-admin", True: b"__Secure-chatd-admin"}
"""By whether the page came over TLS, as the chat page's."""
LONGEST_S = 100_000 * 86_400
"""Of what is made with an end: a ban, a key, an invite code."""
_ONLY_READS = "an administrator with the role `read` changes nothing"


class AdminCall(msgspec.Struct, kw_only=True):
    """One request. cookie: the value that came with it, "" = none. found: the session; None = the route needs none.
    new_cookie: that is set by the answer; None = none is, "" = it is taken back."""

    core: Core
    connection: HttpConnection
    cookie: str
    found: FoundSession | None = None
    new_cookie: str | None = None

    @property
    def session(self) -> FoundSession:
        """Of a route that needs one."""
        assert self.found is not None
        return self.found

    @property
    def by(self) -> str:
        """The name of the administrator's account."""
        return self.session.account.user.name

    def record(self, event: SecurityEvent, **fields: Any) -> None:
        """In the security trail, with the name of the administrator. fields: as in security_log.record."""
        security_log.record(event, peer=self.connection.remote, wire="http", administrator=self.by, **fields)


def header(values: list[bytes]) -> str:
    """Of one that a request has once; "" = it is not there, or more than once."""
    return values[0].decode("latin-1") if len(values) == 1 else ""


def _is_over_tls(head: Head, connection: HttpConnection) -> bool:
    """Whether the page came over TLS: to here, or to a proxy in front. Browsers name no Origin when they only read, but
    they send the cookie with the prefix __Secure- over TLS alone."""
    if is_secure(head, is_encrypted=connection.profile.is_encrypted):
        return True
    return not head.origins and cookie_in(head.cookies, _NAMES[True]) != ""


async def admit(core: Core, connection: HttpConnection, head: Head, needs: str) -> FoundSession:
    """The session of a call. needs: READ, WRITE or FRESH. Raises Refused NOT_LOGGED_IN, SCOPE_MISSING, or as
    core.administrators.check_code; Unavailable."""
    token = cookie_in(head.cookies, _NAMES[_is_over_tls(head, connection)])
    found = await core.administrators.find(token, keeps_alive=not head.background)
    if found is None:
        raise Refused(ErrorCode.NOT_LOGGED_IN)
    connection.authenticated()
    if needs != READ and found.administrator.role is not AdminRole.ADMIN:
        raise Refused(ErrorCode.SCOPE_MISSING, _ONLY_READS)
    if needs == FRESH:
        await core.administrators.check_code(connection, found, header(head.codes))
    return found


def route(  # one line per route is what makes a table of them
    method: Method, path: str, needs: str, handler: Handler, given: type[msgspec.Struct], output: type[Any], text: str
) -> Route:
    """A route of the page. path: below /admin/. needs: NOBODY, READ, WRITE or FRESH. given: its input."""
    return Route(
        method=method,
        path=f"/admin/{path}",
        scope=needs,
        handler=handler,
        text=text,
        input=given,
        output=output,
    )


class AdminCallApp(BrowserApp):
    """One of these routes as an ASGI application."""

    __slots__ = ()

    async def serve(self, scope: Scope, receive: Receive) -> Answer:
        """Raises Refused, Unavailable, Gone, and whatever a handler raises that has a bug."""
        one, core = self.route, self.shared.core
        head, connection = self.head(scope), scope["state"]["connection"]
        connection.check_private()
        found = await admit(core, connection, head, one.scope) if one.scope else None
        self.check_busy()
        given = await self._given(scope, receive, head)
        secure = _is_over_tls(head, connection)
        name = _NAMES[secure]
        call = AdminCall(core=core, connection=connection, cookie=cookie_in(head.cookies, name), found=found)
        answer = json_answer(await one.handler(call, NoInput(), given), one.status)
        if call.new_cookie is not None:
            cookie = Cookie(name=name, path=PATH, lifetime_s=0 if call.new_cookie else -1)
            answer.headers.append((b"set-cookie", cookie.header(call.new_cookie, is_secure=secure)))
        return answer

    async def _given(self, scope: Scope, receive: Receive, head: Head) -> Any:
        """The input: the JSON body of what changes something, or else the query. Raises HttpRefused, Gone."""
        if scope["method"] in ("GET", "HEAD"):
            return self.query(scope["query_string"])
        if head.media_type != JSON:
            raise HttpRefused(ErrorCode.UNKNOWN_CONTENT_TYPE)
        return self.read(await read_body(receive))
