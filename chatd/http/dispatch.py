"""From a request to its handler and back: what happens to every request, in the same order.

Owns: RouteApp, an ASGI application that serves one route: the key and its scope, the Idempotency-Key, the body, the
handler, the answer.
Elsewhere: bytes (http.parser), finding the route of a path (http.application), the key (http.guard), refusals as
answers (http.problems).
Fails: never towards the server: whatever happens, the request is answered. A bug of a handler is logged once with its
traceback, and answered as INTERNAL.
"""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, MutableMapping
from http import HTTPStatus
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qsl, unquote

import msgspec

from chatd import log
from chatd.api_keys import PREFIX
from chatd.core.core import Core
from chatd.errors import Disconnect, ErrorCode, Refused, Unavailable
from chatd.http.call import Call
from chatd.http.counting import count
from chatd.http.guard import CHALLENGE, Guard
from chatd.http.problems import Answer, HttpRefused, answer_of
from chatd.http.route import Download, NoInput, NoOutput, Route, Streamed
from chatd.http.transfers import Transfers
from chatd.scoreboard import Row

if TYPE_CHECKING:
    from chatd.http.connection import HttpConnection
    from chatd.webhooks.webhooks import Webhooks

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]

SECURITY_HEADERS = [
    (b"cache-control", b"no-store"),
    (b"x-content-type-options", b"nosniff"),
]
"""Of every answer of a route: it is data for one program, and never a page."""
ZIP = b"application/zip"
JSON = b"application/json"
_JSON_HEADERS = [(b"content-type", JSON), *SECURITY_HEADERS]
_NO_BODY = "this request needs a body of application/json, which may be {} if no field is required"
_REPLAYED = (b"idempotency-replayed", b"true")
_SLICE_BYTES = 64 * 1024
"""A longer answer is sent in parts, so that a client that reads slowly holds it up."""
_KEY_PREFIX = PREFIX.encode()
_KEY = re.compile(_KEY_PREFIX + rb"[A-Za-z0-9_-]{43}")
_KEY_IN_QUERY = (
    "a key belongs into the header Authorization, and not into the URL, which is written into logs on its way: "
    "`chatctl key rotate` replaces this one"
)
_encode = msgspec.json.Encoder().encode


class Gone(Exception):
    """The client has left before its request was complete. Caught in RouteApp."""


class Shared(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """What all routes of a worker share. running: the number of requests being served, those for files left out.
    webhooks: None = none is configured."""

    core: Core
    guard: Guard
    row: Row
    running: Callable[[], int]
    transfers: Transfers
    config: Callable[[], Any]
    webhooks: Webhooks | None


class RouteApp:
    """One route as an ASGI application."""

    __slots__ = ("_decode", "_parameters", "route", "shared")

    def __init__(self, route: Route, shared: Shared) -> None:
        self.route = route
        self.shared = shared
        self._decode = msgspec.json.Decoder(route.input).decode
        self._parameters = route.parameters

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        shared = self.shared
        try:
            answer = await self.serve(scope, receive)
            if isinstance(answer, Download):
                await _send_file(answer, send)
                count(shared.row, HTTPStatus.OK)
                return
            if isinstance(answer, Streamed):
                count(shared.row, answer.status)
                await _send_parts(answer, scope["state"]["connection"], send)
                return
        except Gone:
            return
        except Refused as refused:
            answer = self.problem_of(refused)
        except Unavailable as error:
            answer = self.problem_of(Refused(ErrorCode.UNAVAILABLE, str(error)))
        except Exception as error:  # noqa: BLE001  the one place where bugs of handlers are caught
            log.get().error("unexpected exception in a route of the API", route=self.route.path, exc_info=error)
            answer = self.problem_of(Refused(ErrorCode.INTERNAL))
        count(shared.row, answer.status)
        await respond(answer, send)

    def problem_of(self, refused: Refused) -> Answer:
        """A refusal as an answer of this route."""
        return problem(refused)

    def check_busy(self) -> None:
        """Raises Refused BUSY when this worker serves too many requests."""
        if self.shared.running() > self.shared.config().http.concurrent_requests:
            raise Refused(ErrorCode.BUSY)

    async def serve(self, scope: Scope, receive: Receive) -> Answer | Download | Streamed:
        """Raises Refused, Unavailable, Gone, and whatever a handler raises that has a bug."""
        route = self.route
        authorization = key = content_type = b""
        for name, value in scope["headers"]:
            if name == b"authorization":
                authorization = _single(authorization, value, name)
            elif name == b"idempotency-key":
                key = _single(key, value, name)
            elif name == b"content-type":
                content_type = _single(content_type, value, name)
        if _KEY_PREFIX in scope["query_string"]:
            _refuse_key_in(scope["query_string"])
        name = self.admitted(scope, authorization) if route.scope else ""
        self.check_busy()
        call = self.call(name, scope)
        if key:
            call.fp = fp_of(key)
        if route.has_body:
            if content_type != JSON and media_type(content_type) != JSON:
                raise HttpRefused(ErrorCode.UNKNOWN_CONTENT_TYPE, _NO_BODY if not content_type else "")
            _no_query(scope["query_string"])
            call.body = await read_body(receive)
            given = self.read(call.body)
        elif route.input is NoInput:
            _no_query(scope["query_string"])
            given = _PLAIN
        else:
            given = self.query(scope["query_string"])
        parameters = _PLAIN
        if self._parameters is not NoInput:
            parameters = _convert(_decoded(scope["path_params"]), self._parameters, "the path")
        return self._answer(call, await route.handler(call, parameters, given))

    def admitted(self, scope: Scope, authorization: bytes) -> str:
        """The name of the key, if it allows this route. Raises: HttpRefused, Refused; Unavailable."""
        connection = scope["state"]["connection"]
        connection.check_private()
        name = self.shared.guard.admit(authorization, self.route.scope, connection.remote).name
        connection.authenticated()
        return name

    def call(self, name: str, scope: Scope) -> Call:
        """What the handler is given. name: as admitted() gave it."""
        shared = self.shared
        call = Call(shared.core, name, scope["state"]["connection"].remote, f"{self.route.method} {scope['path']}")
        call.webhooks = shared.webhooks
        return call

    def read(self, body: bytes) -> Any:
        """The input. Raises HttpRefused."""
        try:
            return self._decode(body)
        except msgspec.ValidationError as error:
            raise _bad_field(error) from None
        except (msgspec.DecodeError, RecursionError, UnicodeDecodeError) as error:
            raise HttpRefused(ErrorCode.NOT_JSON, f"the body is not JSON: {error}") from None

    def query(self, query: bytes) -> Any:
        """The input of a route without a body. Raises HttpRefused."""
        try:
            pairs = parse_qsl(query.decode("ascii"), keep_blank_values=True, max_num_fields=100, errors="strict")
        except (ValueError, UnicodeDecodeError) as error:
            raise HttpRefused(ErrorCode.BAD_FIELD, f"the query cannot be read: {error}") from None
        given = dict(pairs)
        if len(given) != len(pairs):
            raise HttpRefused(ErrorCode.BAD_FIELD, "a parameter of the query is given more than once", field="$")
        return _convert(given, self.route.input, "the query")

    def _answer(self, call: Call, output: Any) -> Answer | Download:
        if isinstance(output, Download):
            return output
        if self.route.output is NoOutput:
            return Answer(HTTPStatus.NO_CONTENT, [*SECURITY_HEADERS], b"")
        answer = json_answer(output, self.route.status)
        if call.replayed:
            answer.headers.append(_REPLAYED)
        return answer


_PLAIN = NoInput()


def _single(before: bytes, value: bytes, name: bytes) -> bytes:
    """The value of a header that a request has once: of two, a balancer might look at the other one. Raises
    HttpRefused."""
    if before:
        raise HttpRefused(ErrorCode.INVALID_PACKET, f"a request has one header {name.decode('ascii')}")
    return value


def _no_query(query: bytes) -> None:
    """Raises HttpRefused: a parameter that means nothing was meant to mean something."""
    if query:
        raise HttpRefused(ErrorCode.BAD_FIELD, "this request has no parameters in the query", field="$")


def _refuse_key_in(query: bytes) -> None:
    """Raises HttpRefused if it contains a key, however the request is authorized."""
    if _KEY.search(query):
        raise HttpRefused(ErrorCode.UNKNOWN_KEY, _KEY_IN_QUERY, headers=CHALLENGE)


def media_type(content_type: bytes) -> bytes:
    """Without its parameters, in lower case."""
    return content_type.partition(b";")[0].strip().lower()


def json_answer(output: Any, status: HTTPStatus = HTTPStatus.OK) -> Answer:
    """A struct as an answer of a route."""
    body = _encode(output)
    return Answer(status, [(b"content-length", b"%d" % len(body)), *_JSON_HEADERS], body)


def problem(refused: Refused) -> Answer:
    """A refusal as an answer of a route."""
    answer = answer_of(refused)
    answer.headers.extend(SECURITY_HEADERS)
    return answer


async def _send_file(download: Download, send: Send) -> None:
    """Raises Refused, Unavailable; then nothing was sent. While the client does not read, this waits."""
    async with download.opened as archive:
        headers = [
            (b"content-type", ZIP),
            (b"content-length", b"%d" % archive.size),
            (b"content-disposition", f'attachment; filename="{download.name}"'.encode("ascii")),
            *SECURITY_HEADERS,
        ]
        await send({"type": "http.response.start", "status": int(HTTPStatus.OK), "headers": headers})
        while part := archive.file.read(_SLICE_BYTES):
            await send({"type": "http.response.body", "body": part, "more_body": True})
        await send({"type": "http.response.body", "body": b"", "more_body": False})


async def _send_parts(answer: Streamed, connection: HttpConnection, send: Send) -> None:
    """While the client does not read, this waits. If a part cannot be had, the answer is broken off: its length says
    that it is not complete."""
    await send({"type": "http.response.start", "status": answer.status, "headers": answer.headers})
    try:
        async for part in answer.parts:
            await send({"type": "http.response.body", "body": part, "more_body": True})
    except (Refused, Unavailable, OSError) as error:
        log.get().warning("a file could not be sent completely", peer=connection.remote, why=str(error))
        connection.cut(Disconnect.INTERNAL)
    if not connection.closed:
        await send({"type": "http.response.body", "body": b"", "more_body": False})


async def respond(answer: Answer, send: Send) -> None:
    """Send it. While the client does not read, this waits."""
    await send({"type": "http.response.start", "status": answer.status, "headers": answer.headers})
    body = answer.body
    for at in range(_SLICE_BYTES, len(body), _SLICE_BYTES):
        await send({"type": "http.response.body", "body": body[at - _SLICE_BYTES : at], "more_body": True})
    rest = body[(max(0, len(body) - 1) // _SLICE_BYTES) * _SLICE_BYTES :]
    await send({"type": "http.response.body", "body": rest, "more_body": False})


async def read_body(receive: Receive) -> bytes:
    """The whole body; its size is limited by http.parser. Raises Gone."""
    message = await receive()
    if message["type"] == "http.disconnect":
        raise Gone
    if not message["more_body"]:
        return bytes(message["body"])
    parts = [message["body"]]
    while message["more_body"]:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise Gone
        parts.append(message["body"])
    return b"".join(parts)


def fp_of(key: bytes) -> str:
    """The text of an Idempotency-Key. The draft standard writes it in double quotes, most clients do not. Raises
    HttpRefused."""
    try:
        text = key.decode("ascii")
    except UnicodeDecodeError:
        text = ""
    if len(text) > 1 and text[0] == text[-1] == '"':
        text = text[1:-1]
    if not text or not text.isprintable():
        raise HttpRefused(ErrorCode.BAD_FIELD, "an Idempotency-Key consists of printable ASCII characters")
    return text


def _decoded(parameters: dict[str, str]) -> dict[str, str]:
    """The parts of a path as they are meant. Raises HttpRefused."""
    try:
        return {name: unquote(text, errors="strict") for name, text in parameters.items()}
    except UnicodeDecodeError:
        raise HttpRefused(ErrorCode.BAD_FIELD, "the path is not percent-encoded UTF-8") from None


def _convert(texts: dict[str, str], kind: type[msgspec.Struct], where: str) -> Any:
    """Raises HttpRefused."""
    try:
        return msgspec.convert(texts, kind, strict=False)
    except msgspec.ValidationError as error:
        raise _bad_field(error, where) from None


def _bad_field(error: msgspec.ValidationError, where: str = "the body") -> HttpRefused:
    """msgspec's texts end with the path of the field: "Expected `str`, got `int` - at `$.to`"."""
    text, _, path = str(error).partition(" - at ")
    return HttpRefused(ErrorCode.BAD_FIELD, f"{text}, in {where}", field=path.strip("`") or "$")
