"""A page or file that is always the same, as an ASGI application.

Owns: PageApp: its headers, compression, and what a browser is answered that has it already.
Elsewhere: which pages there are (http.pages, http.assets).
Fails: never.
"""

from __future__ import annotations

import gzip
from collections.abc import Sequence
from hashlib import sha256
from http import HTTPStatus

from chatd.errors import ErrorCode
from chatd.http.dispatch import Receive, Scope, Send, respond
from chatd.http.problems import Answer, HttpRefused, answer_of

_HEADERS = ((b"x-content-type-options", b"nosniff"), (b"referrer-policy", b"no-referrer"))
_SMALL_BYTES = 600
"""Not compressed: it fits into a packet."""


class PageApp:
    """headers: besides the ones that every page has. cache: the value of Cache-Control."""

    __slots__ = ("_body", "_compressed", "_headers", "_tag")

    def __init__(
        self,
        body: bytes,
        content_type: str,
        headers: Sequence[tuple[bytes, bytes]] = (),
        *,
        cache: bytes = b"max-age=300",
    ) -> None:
        self._body = body
        self._compressed = gzip.compress(body, mtime=0) if len(body) > _SMALL_BYTES else b""
        self._tag = f'"{sha256(body).hexdigest()[:16]}"'.encode()
        self._headers = [
            (b"content-type", content_type.encode()),
            (b"etag", self._tag),
            (b"cache-control", cache),
            (b"vary", b"accept-encoding"),
            *_HEADERS,
            *headers,
        ]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["method"] not in ("GET", "HEAD"):
            allowed = HttpRefused(ErrorCode.METHOD_NOT_ALLOWED, headers=((b"allow", b"GET"),))
            await respond(answer_of(allowed), send)
            return
        given = dict(scope["headers"])
        if given.get(b"if-none-match") == self._tag:
            await respond(Answer(HTTPStatus.NOT_MODIFIED, self._headers, b""), send)
            return
        body, headers = self._body, self._headers
        if self._compressed and b"gzip" in given.get(b"accept-encoding", b""):
            body, headers = self._compressed, [(b"content-encoding", b"gzip"), *headers]
        await respond(Answer(HTTPStatus.OK, [(b"content-length", b"%d" % len(body)), *headers], body), send)
