"""Serving a route for the chat page: a request of a page of this server, with a cookie.

Owns: PageCall, what a handler is given; PageCallApp: the cookie, the JSON body.
Elsewhere: what is asked (http.chat.calls), pages and cookies (http.browsers), what all routes have in common
(http.dispatch).
Fails: as http.dispatch; refusals are problems.
"""

from __future__ import annotations

import msgspec

from chatd.core.core import Core
from chatd.errors import ErrorCode
from chatd.http.browsers import BrowserApp, Cookie, cookie_in, is_secure
from chatd.http.connection import HttpConnection
from chatd.http.dispatch import JSON, Receive, Scope, json_answer, read_body
from chatd.http.problems import Answer, HttpRefused

LIFETIME_S = 30 * 86_400
"""How long a user stays logged in who has asked for that, at most."""
PATH = b"/chat"
_NAMES = {False: b"chatd", True: b"__Secure-chatd"}
"""By whether the page came over TLS: a page without it cannot set, nor replace, the cookie of one with it."""


class PageCall(msgspec.Struct, kw_only=True):
    """One request. cookie: the value that came with it, "" = none. new_cookie: that is set by the answer; None = none
    is, "" = it is taken back. stays: the cookie outlives the browser."""

    core: Core
    connection: HttpConnection
    cookie: str
    new_cookie: str | None = None
    stays: bool = False


class PageCallApp(BrowserApp):
    """One of these routes as an ASGI application."""

    __slots__ = ()

    async def serve(self, scope: Scope, receive: Receive) -> Answer:
        """Raises Refused, Unavailable, Gone, and whatever a handler raises that has a bug."""
        head, connection = self.head(scope), scope["state"]["connection"]
        if head.media_type != JSON:
            raise HttpRefused(ErrorCode.UNKNOWN_CONTENT_TYPE)
        self.check_busy()
        given = self.read(await read_body(receive))
        secure = is_secure(head, is_encrypted=connection.profile.is_encrypted)
        call = PageCall(core=self.shared.core, connection=connection, cookie=cookie_in(head.cookies, _NAMES[secure]))
        answer = json_answer(await self.route.handler(call, None, given))
        if call.new_cookie is not None:
            lifetime_s = -1 if not call.new_cookie else LIFETIME_S if call.stays else 0
            cookie = Cookie(name=_NAMES[secure], path=PATH, lifetime_s=lifetime_s)
            answer.headers.append((b"set-cookie", cookie.header(call.new_cookie, is_secure=secure)))
        return answer
