"""The bytes of one connection: uvicorn's HTTP/1.1 protocol, with limits.

Owns: RequestParser: how large a request may be, how many may wait, what a broken one is answered, and the end of
keep-alive at a drain.
Elsewhere: parsing (httptools), the ASGI cycle of a request (uvicorn), the socket and the time limits
(http.connection), what a request is answered (http.dispatch).
Fails: a request that breaks a rule or a limit is answered with a problem, if nothing else is being answered on the
connection, and the connection is closed: what follows it cannot be trusted. It is logged at DEBUG.

A request that is ambiguous (two lengths, a length and chunks, a bad chunk) is refused by httptools, so that a load
balancer in front and this server never disagree about where it ends.
"""

from __future__ import annotations

import asyncio
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, NoReturn

import httptools
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle

from chatd import log
from chatd.config.http_options import HttpOptions
from chatd.errors import ErrorCode, Refused
from chatd.http.problems import HttpRefused, raw

if TYPE_CHECKING:
    from uvicorn._types import ASGI3Application
    from uvicorn.config import Config as UvicornConfig
    from uvicorn.server import ServerState

    from chatd.http.connection import HttpConnection

SLICE_BYTES = 16 * 1024
"""Parsed in one turn of the loop, at most."""
MAX_HEADERS = 100
"""Headers of a request."""
MAX_WAITING = 16
"""Requests of one connection that wait while an earlier one is served (pipelining)."""
UPLOAD_BYTES = 16 * 1024 * 1024
"""Of the body of one request that uploads a part of a file."""
UPLOAD_STEP_BYTES = 64 * 1024
"""Of such a body, what must come within http.request_s."""
_FILES = b"/files/"
_HEADER_BYTES = 4
"""Of a header besides its name and value: colon, space, CR, LF."""


class RequestParser(HttpToolsProtocol):
    """One connection's. options: the limits, of the moment when it was made.

    running: the cycle that is being answered. is_leaving: the connection closes after the present request.
    is_receiving: a part of a request has come, and the rest has not; has_head: its head has come. begun: requests of
    which a part has come; count: those whose head has come. size: of the head of the present request as far as it is
    parsed, then of its body; trailers: of what is behind its chunks. unparsed: bytes since the last head, or part of a
    body, was complete: a header is parsed when its end has come. refusal: why the present request is refused.
    is_upgrading: the present request is for a WebSocket. most_body: bytes that the body of the present request may
    have; upload_step: of an upload, how many are missing for it to count as alive again.
    """

    def __init__(
        self,
        config: UvicornConfig,
        state: ServerState,
        app_state: dict[str, Any],
        options: HttpOptions,
        loop: asyncio.AbstractEventLoop,
    ) -> None:
        super().__init__(config, state, app_state, loop)
        self.options = options
        self.running: RequestResponseCycle | None = None
        self.is_leaving = False
        self.is_receiving = False
        self.has_head = False
        self.begun = 0
        self.count = 0
        self.size = 0
        self.trailers = 0
        self.unparsed = 0
        self.refusal: Refused | None = None
        self.is_broken = False
        self.is_upgrading = False
        self.most_body = options.body_bytes
        self.upload_step = 0

    @property
    def _connection(self) -> HttpConnection:
        connection: HttpConnection = self.app_state["connection"]
        return connection

    # ---------------------------------------------------------------- the parser's callbacks

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self.is_receiving, self.has_head = True, False
        self.begun += 1
        self.size = self.trailers = 0

    def on_url(self, url: bytes) -> None:
        self._grow(len(url))
        super().on_url(url)

    def on_header(self, name: bytes, value: bytes) -> None:
        size = len(name) + len(value) + _HEADER_BYTES
        if self.has_head:  # a trailer, behind the chunks: a balancer has not looked at it, and nobody here wants any
            self.trailers += size
            if self.trailers > self.options.header_bytes:
                self._refuse_head()
            return
        self._grow(size)
        if len(self.headers) >= MAX_HEADERS:
            self._refuse(ErrorCode.TOO_LONG, f"a request has at most {MAX_HEADERS} headers", _HEAD_TOO_LARGE)
        super().on_header(name, value)

    def _grow(self, size: int) -> None:
        self.size += size
        if self.size > self.options.header_bytes:
            self._refuse_head()

    def _refuse_head(self) -> NoReturn:
        text = f"the first line and the headers of a request have at most {self.options.header_bytes} bytes"
        self._refuse(ErrorCode.TOO_LONG, text, _HEAD_TOO_LARGE)

    def on_headers_complete(self) -> None:
        self.size = self.unparsed = hosts = 0
        self._choose_limits()
        for name, value in self.headers:
            if name == b"content-length":
                self._check_body(int(value) if value.isdigit() else 0)
            elif name == b"host":
                hosts += 1
        if hosts != 1 and (hosts or self.parser.get_http_version() != "1.0"):
            self._refuse(ErrorCode.INVALID_PACKET, "a request has one header Host")
        if self.parser.should_upgrade():
            if not self._is_for_websocket():
                self._refuse(ErrorCode.NOT_ALLOWED, "this server speaks HTTP/1.1 only", HTTPStatus.BAD_REQUEST)
            self.is_upgrading = True
            return
        if len(self.pipeline) >= MAX_WAITING:
            self._refuse(ErrorCode.TOO_FAST, f"at most {MAX_WAITING} requests may wait on one connection")
        super().on_headers_complete()
        self.has_head = True
        self.count += 1
        most = self.options.requests_per_connection
        if self.is_leaving or (most and self.count >= most):
            self.is_leaving = True
            self.cycle.keep_alive = False

    def _is_for_websocket(self) -> bool:
        """Whether this request asks for the WebSocket, and all earlier ones have been answered."""
        mount = self._connection.mount
        if mount is None or self.url.partition(b"?")[0] != mount.path.encode():
            return False
        served = self.running is None or self.running.response_complete
        names = {name for name, _ in self.headers}
        asks = any(name == b"upgrade" and value.lower() == b"websocket" for name, value in self.headers)
        return asks and served and not names & _OF_BODIES

    def _upgrade(self, rest: bytes) -> None:
        lines = [self.parser.get_method() + b" " + self.url + b" HTTP/1.1"]
        lines += [name + b": " + value for name, value in self.headers]
        self.is_broken = True
        self.connections.discard(self)
        self._connection.become_websocket(b"\r\n".join([*lines, b"", b""]), rest)

    def on_body(self, body: bytes) -> None:
        self._check_body(self.size + len(body))
        self.size += len(body)
        self.unparsed = 0
        if self.upload_step:
            self._count_upload(len(body))
        super().on_body(body)

    def _choose_limits(self) -> None:
        """The body of an upload is taken as it comes, so it may be longer than others, and take longer."""
        path = self.url.partition(b"?")[0]
        is_upload = path.startswith(_FILES) and self.parser.get_method() == b"PATCH" and self._connection.serves_files
        self.most_body = UPLOAD_BYTES if is_upload else self.options.body_bytes
        self.upload_step = UPLOAD_STEP_BYTES if is_upload else 0

    def _count_upload(self, size: int) -> None:
        """Each UPLOAD_STEP_BYTES are due as a request is."""
        self.upload_step -= size
        if self.upload_step <= 0:
            self.upload_step = UPLOAD_STEP_BYTES
            self._connection.began = self._connection.heard

    def _check_body(self, size: int) -> None:
        if size > self.most_body:
            code = ErrorCode.FILE_TOO_LARGE if self.upload_step else ErrorCode.TOO_LONG
            text = f"the body of a request has at most {self.most_body} bytes"
            self._refuse(code, text, HTTPStatus.REQUEST_ENTITY_TOO_LARGE)

    def on_message_complete(self) -> None:
        self.is_receiving = False
        if self.is_upgrading:
            return
        super().on_message_complete()
        if self.is_leaving and self.is_idle:  # it was answered before all of it had come
            self.transport.close()

    def _refuse(self, code: ErrorCode, text: str, status: HTTPStatus | None = None) -> NoReturn:
        self.refusal = HttpRefused(code, text, status=status)
        raise self.refusal  # httptools passes it on as an HttpParserError

    # ---------------------------------------------------------------- bytes in

    def data_received(self, data: bytes) -> None:
        if self.is_broken:
            return
        self.unparsed += len(data)
        try:
            self.parser.feed_data(data)
            if self.unparsed > self.options.header_bytes + SLICE_BYTES:
                self._refuse_head()
        except httptools.HttpParserUpgrade as upgrade:
            self._upgrade(data[upgrade.args[0] :])
        except (httptools.HttpParserError, HttpRefused) as error:
            self.break_off(self.refusal or HttpRefused(ErrorCode.INVALID_PACKET, f"not an HTTP request: {error}"))

    def break_off(self, refused: Refused) -> None:
        """Read nothing more. Answer the request that is being received, unless it has its answer already, or an earlier
        one is being served: then the connection ends after that one."""
        self.is_broken = self.is_leaving = True
        self.pipeline.clear()
        running = self.running
        log.get().debug("HTTP request refused", peer=self._connection.remote, why=refused.text)
        if running is not None and not running.response_complete:
            if running is not self.cycle or not (self.is_receiving and self.has_head):
                running.keep_alive = False
                return
            running.disconnected = True
            running.message_event.set()
            if running.response_started:
                self.transport.close()
                return
        elif running is not None and running is self.cycle and self.is_receiving and self.has_head:
            self.transport.close()  # it was answered before all of it had come; a second answer would be another's
            return
        self._connection.server.counted(refused)
        self.transport.write(raw(refused))
        self.transport.close()

    # ---------------------------------------------------------------- requests

    def _start_asgi_task(self, cycle: RequestResponseCycle, app: ASGI3Application) -> None:
        self.running = cycle
        super()._start_asgi_task(cycle, app)

    def on_response_complete(self) -> None:
        """As in uvicorn, but without a timer for each request: http.connection looks at idle connections."""
        self.server_state.total_requests += 1
        if self.transport.is_closing():
            return
        self.flow.resume_reading()
        if self.pipeline:
            cycle, app = self.pipeline.pop()
            if self.is_leaving and not self.pipeline:
                cycle.keep_alive = False
            self._start_asgi_task(cycle, app)

    @property
    def is_idle(self) -> bool:
        """No request is being received, waits, or is being answered."""
        served = self.running is None or self.running.response_complete
        return served and not self.is_receiving and not self.pipeline

    def leave(self) -> None:
        """Close the connection: now if it is idle, or after what has been received."""
        self.is_leaving = True
        if self.is_idle:
            self.transport.close()
            return
        if self.has_head or not self.is_receiving:  # otherwise a later one is the last, see on_headers_complete
            self.cycle.keep_alive = False


_OF_BODIES = frozenset((b"content-length", b"transfer-encoding"))
_HEAD_TOO_LARGE = HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE
