"""Serving a route for files: a request at a signed address.

Owns: FileRequest, what a handler is given; FileApp: whether the address counts, and the headers that every answer has.
Elsewhere: the routes (http.files.routes), addresses (core.file_addresses), what all routes have in common
(http.dispatch), limits of bodies (http.parser) and of transfers (http.transfers).
Fails: as http.dispatch; refusals are problems.
"""

from __future__ import annotations

import re
from typing import Any

import msgspec

from chatd.core.core import Core
from chatd.core.file_addresses import Allows
from chatd.core.uploads import Uploads
from chatd.errors import ErrorCode, Refused
from chatd.http.connection import HttpConnection
from chatd.http.dispatch import Receive, RouteApp, Scope, Send
from chatd.http.problems import Answer, HttpRefused, answer_of
from chatd.http.route import Route, Streamed
from chatd.http.transfers import Transfers
from chatd.model import FileId

POLICY = b"sandbox; default-src 'none'"
"""What a browser may do with a file that it shows by itself: nothing."""
HEADERS = (
    (b"x-content-type-options", b"nosniff"),
    (b"content-security-policy", POLICY),
    (b"referrer-policy", b"no-referrer"),
    (b"cross-origin-resource-policy", b"same-origin"),
)
"""Of every answer."""
NO_STORE = (b"cache-control", b"no-store")
_ID = re.compile(r"[A-Za-z0-9_-]{22}", re.ASCII)
_EXPIRED = "this address has expired, or it is not one of this server's"


class Signed(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The query of an address."""

    expires: str
    signature: str


class FileRequest(msgspec.Struct, kw_only=True):
    """One request at an address that counts. expires_at: when it no longer does, epoch, seconds. headers: by name in
    lower case; of a name that comes twice, nothing."""

    core: Core
    uploads: Uploads
    transfers: Transfers
    connection: HttpConnection
    method: str
    file_id: FileId
    expires_at: int
    headers: dict[bytes, bytes]
    receive: Receive


class FileApp(RouteApp):
    """One of these routes as an ASGI application."""

    __slots__ = ()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        transfers = self.shared.transfers
        transfers.running += 1
        try:
            await super().__call__(scope, receive, send)
        finally:
            transfers.running -= 1

    def problem_of(self, refused: Refused) -> Answer:
        answer = answer_of(refused)
        answer.headers.extend((*HEADERS, NO_STORE))
        if self.route.method == "PATCH":  # the rest of the body is not read
            answer.headers.append((b"connection", b"close"))
        return answer

    async def serve(self, scope: Scope, receive: Receive) -> Answer | Streamed:
        """Raises Refused, Unavailable, Gone, and whatever a handler raises that has a bug."""
        shared, connection, path = self.shared, scope["state"]["connection"], scope["path_params"]
        connection.check_private()
        if shared.transfers.running > shared.config().http.concurrent_requests:
            raise Refused(ErrorCode.BUSY)
        file_id, core = path["id"], shared.core
        allows = Allows.DOWNLOAD if "name" in path else Allows.UPLOAD
        given: Signed = self.query(scope["query_string"])
        if _ID.fullmatch(file_id) is None:
            raise HttpRefused(ErrorCode.UNKNOWN_FILE)
        expires_at = core.file_addresses.expiry(allows, file_id, given.expires, given.signature)
        if expires_at is None:
            raise HttpRefused(ErrorCode.NOT_ALLOWED, _EXPIRED)
        connection.authenticated()
        request = FileRequest(
            core=core,
            uploads=core.uploads,
            transfers=shared.transfers,
            connection=connection,
            method=scope["method"],
            file_id=file_id,
            expires_at=expires_at,
            headers=_once(scope["headers"]),
            receive=receive,
        )
        answer: Answer | Streamed = await self.route.handler(request, None, None)
        return answer


def _once(headers: list[tuple[bytes, bytes]]) -> dict[bytes, bytes]:
    found: dict[bytes, bytes] = {}
    twice: set[bytes] = set()
    for name, value in headers:
        twice.update((name,) if name in found else ())
        found[name] = value
    return {name: value for name, value in found.items() if name not in twice}


def file_route(method: Any, path: str, handler: Any, text: str) -> Route:
    return Route(method=method, path=path, scope="", handler=handler, text=text, input=Signed)
