"""The HTTP request with which a WebSocket begins, and the answer to it.

Owns: UpgradePolicy, what a listener requires of a request (path, Origin, subprotocol), and the answers to every other
HTTP request.
Elsewhere: frames (net.websocket.frames), limits of time and size (net.websocket.connection).
Fails: never. A request that is not accepted is answered with a short HTTP error, after which the connection closes.
"""

from __future__ import annotations

from collections.abc import Sequence
from http import HTTPStatus
from typing import NamedTuple

from websockets.exceptions import NegotiationError
from websockets.http11 import Request, Response
from websockets.server import ServerProtocol
from websockets.typing import Origin, Subprotocol

MAX_REQUEST_BYTES = 8192
SUBPROTOCOL = Subprotocol("mobileimsdk")
END_OF_REQUEST = b"\r\n\r\n"


class HandshakeAnswer(NamedTuple):
    """data: the whole HTTP response. accepted: frames follow it; otherwise the connection is to be closed."""

    data: bytes
    accepted: bool


class UpgradePolicy:
    """One listener's. origins: pages whose scripts may connect, empty = any. Only browsers name an origin; other
    clients are always accepted."""

    def __init__(self, path: str, origins: Sequence[str]) -> None:
        self._path = path
        self._origins = [*map(Origin, origins), None] if origins else None

    def answer(self, request: bytes) -> HandshakeAnswer:
        """request: one complete request, END_OF_REQUEST included and nothing after it."""
        protocol = ServerProtocol(
            origins=self._origins, subprotocols=[SUBPROTOCOL], select_subprotocol=_select_subprotocol
        )
        protocol.receive_data(request)
        asked = next(iter(protocol.events_received()), None)
        if not isinstance(asked, Request):
            return refusal(HTTPStatus.BAD_REQUEST, "This is not an HTTP request.")
        if "Upgrade" not in asked.headers:
            return refusal(
                HTTPStatus.UPGRADE_REQUIRED, "Only WebSocket connections are accepted here.", "Upgrade: websocket"
            )
        if asked.path.partition("?")[0] != self._path:
            return refusal(HTTPStatus.NOT_FOUND, "Nothing is here.")
        response: Response = protocol.accept(asked)
        return HandshakeAnswer(response.serialize(), response.status_code == HTTPStatus.SWITCHING_PROTOCOLS)


def refusal(status: HTTPStatus, text: str, *headers: str) -> HandshakeAnswer:
    """A response with one line of text."""
    body = f"{text}\n".encode()
    lines = [
        f"HTTP/1.1 {status.value} {status.phrase}",
        "Connection: close",
        "Content-Type: text/plain",
        f"Content-Length: {len(body)}",
        *headers,
        "",
        "",
    ]
    return HandshakeAnswer("\r\n".join(lines).encode() + body, False)


def _select_subprotocol(protocol: ServerProtocol, offered: Sequence[Subprotocol]) -> Subprotocol | None:
    if not offered:
        return None
    if SUBPROTOCOL in offered:
        return SUBPROTOCOL
    raise NegotiationError(f"the only subprotocol of this server is {SUBPROTOCOL}")
