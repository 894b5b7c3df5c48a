"""Serving a route whose input is a form and whose answer is always 200, as the page of the demo expects.

Owns: FormApp: the parameters from the query and the body, and refusals as a DemoAnswer.
Elsewhere: what the two calls do (http.demo.calls), pages and cookies (http.browsers), what all routes have in common
(http.dispatch).
Fails: as http.dispatch. What is wrong with the bytes of a request is answered by http.parser, and not with 200.

Pages of other origins are kept out twice: see http.browsers.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Any
from urllib.parse import parse_qsl

import msgspec
from msgspec import Meta

from chatd.errors import ErrorCode, Refused
from chatd.http.browsers import BrowserApp, Cookie, Head, cookie_in, is_secure
from chatd.http.call import Call
from chatd.http.connection import HttpConnection
from chatd.http.dispatch import Receive, Scope, fp_of, json_answer, read_body
from chatd.http.problems import Answer, HttpRefused

FORM = b"application/x-www-form-urlencoded"
SUCCESS = "SUCCESS"
LIFETIME_S = 12 * 3600
"""How long a login lasts, at most."""
COOKIE = Cookie(name=b"chatd_demo", path=b"/api", lifetime_s=LIFETIME_S)
OK, NOT_LOGGED_IN, WRONG_PASSWORD, FAILED = 200, 401, 402, -1
"""DemoAnswer.code."""
_CODES: dict[int, int] = {
    ErrorCode.NOT_LOGGED_IN: NOT_LOGGED_IN,
    ErrorCode.BAD_CREDENTIALS: WRONG_PASSWORD,
    ErrorCode.TOKEN_EXPIRED: WRONG_PASSWORD,
}
_MOST_FIELDS = 20


class DemoAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """What the calls of the demo answer, with status 200 whatever happened."""

    code: Annotated[
        int,
        Meta(description="200: done; 401: not logged in; 402: wrong name or password; -1: refused for another reason"),
    ]
    message: Annotated[str, Meta(description="SUCCESS, or what is wrong", examples=[SUCCESS])]
    data: None = None


class FormCall(msgspec.Struct, kw_only=True):
    """One request. call: without a key. connection: the client's, as core sees it. cookie: the value that came with the
    request, "" = none. new_cookie: that is set by the answer; "" = none is."""

    call: Call
    connection: HttpConnection
    cookie: str
    new_cookie: str = ""


class FormApp(BrowserApp):
    """One of these routes as an ASGI application."""

    __slots__ = ()

    def problem_of(self, refused: Refused) -> Answer:
        answer = json_answer(DemoAnswer(code=_CODES.get(refused.code, FAILED), message=refused.text))
        if refused.retry_after_s:
            answer.headers.append((b"retry-after", b"%d" % refused.retry_after_s))
        return answer

    async def serve(self, scope: Scope, receive: Receive) -> Answer:
        """Raises Refused, Unavailable, Gone, and whatever a handler raises that has a bug."""
        shared, connection = self.shared, scope["state"]["connection"]
        head = self.head(scope, tuple(shared.config().http.origins))
        self.check_busy()
        given = msgspec.convert(await _fields(scope["query_string"], head, receive), dict[str, str])
        call = Call(shared.core, "", connection.remote, f"{self.route.method} {scope['path']}")
        if head.keys:
            call.fp = fp_of(head.keys[-1])
        asked = FormCall(call=call, connection=connection, cookie=cookie_in(head.cookies, COOKIE.name))
        await self.route.handler(asked, None, self._input(given))
        answer = json_answer(DemoAnswer(code=OK, message=SUCCESS))
        if asked.new_cookie:
            secure = is_secure(head, is_encrypted=connection.profile.is_encrypted)
            answer.headers.append((b"set-cookie", COOKIE.header(asked.new_cookie, is_secure=secure)))
        return answer

    def _input(self, given: dict[str, str]) -> Any:
        """Raises Refused."""
        try:
            return msgspec.convert(given, self.route.input)
        except msgspec.ValidationError as error:
            raise Refused(ErrorCode.BAD_FIELD, str(error)) from None


async def _fields(query: bytes, head: Head, receive: Receive) -> dict[str, str]:
    """From both places. Raises Refused, Gone."""
    body = await read_body(receive)
    if body and head.media_type != FORM:
        raise HttpRefused(ErrorCode.UNKNOWN_CONTENT_TYPE, f"the body must be {FORM.decode()}")
    found: dict[str, str] = {}
    for name, value in (*_pairs(query), *_pairs(body)):
        if name in found:
            raise Refused(ErrorCode.BAD_FIELD, f"{name} is given more than once")
        found[name] = value
    return found


def _pairs(text: bytes) -> Iterator[tuple[str, str]]:
    """Raises Refused."""
    try:
        yield from parse_qsl(text.decode("ascii"), keep_blank_values=True, max_num_fields=_MOST_FIELDS, errors="strict")
    except ValueError as error:
        raise Refused(ErrorCode.BAD_FIELD, f"the parameters cannot be read: {error}") from None
