"""The HTTP server of one worker: what its connections share.

Owns: HttpServer: uvicorn's configuration and state, the application, and what is done once a second. Nothing of
uvicorn's own server runs: no signal handler, no lifespan, no access log, no sockets.
Elsewhere: accepting (net.acceptor), one connection (http.connection), routes (http.application).
Fails: never. What uvicorn logs goes to chatd's log.
"""

from __future__ import annotations

import asyncio
import logging
import socket
from collections.abc import Callable
from email.utils import formatdate
from typing import TYPE_CHECKING

from starlette.types import ASGIApp
from uvicorn.config import Config as UvicornConfig
from uvicorn.server import ServerState

from chatd import log
from chatd.config.schema import Config
from chatd.core.core import Core
from chatd.errors import Refused
from chatd.http.application import application, serves_files
from chatd.http.connection import BUSY, HttpConnection
from chatd.http.counting import count
from chatd.http.dispatch import Shared
from chatd.http.guard import Guard
from chatd.http.parser import RequestParser
from chatd.http.problems import problem
from chatd.http.transfers import Transfers
from chatd.net.connection import Connection
from chatd.net.connections import Connections
from chatd.net.profile import ConnectionProfile
from chatd.net.websocket.mount import WebSocketMount
from chatd.scoreboard import Row

if TYPE_CHECKING:
    from chatd.webhooks.webhooks import Webhooks

ROUND_S = 1.0


class _ToChatdsLog(logging.Handler):
    """What uvicorn reports is a bug of the application, or of uvicorn."""

    def emit(self, record: logging.LogRecord) -> None:
        error = record.exc_info[1] if record.exc_info else None
        log.get().error("uvicorn reports an error", what=record.getMessage().strip(), exc_info=error)


class HttpServer:
    """net.acceptor.ConnectionMaker."""

    busy = BUSY
    alpn = ("http/1.1",)

    def __init__(
        self,
        core: Core,
        config: Callable[[], Config],
        row: Row,
        loop: asyncio.AbstractEventLoop,
        webhooks: Webhooks | None,
    ) -> None:
        self._config = config
        self._loop = loop
        self._state = ServerState()
        self._guard = Guard(core, config)
        self._row = row
        self._transfers = Transfers()
        shared = Shared(
            core=core,
            guard=self._guard,
            row=row,
            running=lambda: len(self._state.tasks) - self._transfers.running,
            transfers=self._transfers,
            config=config,
            webhooks=webhooks,
        )
        self._by_what: dict[tuple[str, ...], UvicornConfig] = {
            serves: _uvicorn(application(shared, serves=serves))
            for serves in {one.serves for one in config().listen if one.protocol == "http"}
        }
        _listen_to_uvicorn()
        core.keys.open()
        self._round()

    def _round(self) -> None:
        """Once a second."""
        self._state.default_headers = [(b"date", formatdate(usegmt=True).encode())]
        self._guard.round()
        self._loop.call_later(ROUND_S, self._round)

    def connection(
        self,
        connections: Connections,
        profile: ConnectionProfile,
        sock: socket.socket,
        remote: str,
        mount: WebSocketMount | None,
    ) -> Connection:
        """The connection that serves a socket accepted here."""
        connection = HttpConnection(self, connections, profile, sock, remote)
        connection.mount = mount
        return connection

    def serves_files(self, profile: ConnectionProfile) -> bool:
        """Whether a listener does."""
        return serves_files(self._config(), profile.serves)

    def counted(self, refused: Refused) -> None:
        """A request that could not be read is answered with this."""
        count(self._row, problem(refused).status)

    def parser(self, connection: HttpConnection) -> RequestParser:
        """Of a connection on which the first bytes have come."""
        state = {"connection": connection}
        uvicorn = self._by_what[connection.profile.serves]
        return RequestParser(uvicorn, self._state, state, self._config().http, self._loop)


def _uvicorn(app: ASGIApp) -> UvicornConfig:
    uvicorn = UvicornConfig(
        app,
        http=RequestParser,
        ws="none",
        lifespan="off",
        interface="asgi3",
        log_config=None,
        access_log=False,
        proxy_headers=False,
        server_header=False,
    )
    uvicorn.load()
    return uvicorn


def _listen_to_uvicorn() -> None:
    logger = logging.getLogger("uvicorn.error")
    if not any(isinstance(one, _ToChatdsLog) for one in logger.handlers):
        logger.addHandler(_ToChatdsLog(logging.WARNING))
    logger.propagate = False
