"""What a connection to a server is, whatever it runs over.

Owns: the contract Link, and what a failed verification of a certificate means to a person.
Elsewhere: TCP and TLS (stream_link), WebSocket (websocket_link), when to connect again (connector).
Fails: never by itself.
"""

from __future__ import annotations

import ssl
from collections.abc import AsyncIterator, Callable, Coroutine
from typing import Any, Protocol

from chatd_client.address import ServerAddress
from chatd_client.errors import Untrusted

MAX_FRAME_BYTES = 16 * 1024 * 1024
"""A frame of the server over this is taken for garbage: the connection is dropped."""
MAX_UNSENT_BYTES = 8 * 1024 * 1024
"""With more bytes that the server does not read, the connection is dropped; nothing is lost by that."""


class Link(Protocol):
    """One connection. Frames are whole, without what separates them."""

    def frames(self) -> AsyncIterator[bytes]:
        """Until the server closes. Raises OSError, BadFrame."""
        ...

    def send(self, frame: bytes) -> None:
        """Never blocks. With MAX_UNSENT_BYTES unsent, the connection is dropped."""
        ...

    def finish(self) -> None:
        """Say that nothing more comes, after everything that was sent; the server then closes."""
        ...

    def abort(self) -> None:
        """Drop the connection now."""
        ...


OpenLink = Callable[[], Coroutine[Any, Any, Link]]
"""Connects. Raises Untrusted, OSError (a TimeoutError is one)."""


def untrusted(error: ssl.SSLCertVerificationError, address: ServerAddress, option: str) -> Untrusted:
    """By OpenSSL's codes of a failed verification (x509_vfy.h). option: how the person names trusted certificates."""
    match error.verify_code:
        case 10:
            return Untrusted("its certificate has expired; its operator must renew it")
        case 9:
            return Untrusted("its certificate is not valid yet; check the clock of this machine")
        case 18 | 19:
            return Untrusted(
                f"its certificate is signed by itself; if it is the right one, name its file with {option}"
            )
        case 20 | 21:
            return Untrusted(
                f"its certificate is signed by an authority that this system does not know; name one with {option}"
            )
        case 62 | 64:
            return Untrusted(f"its certificate is not for {address.host}; connect by the name that it is for")
    return Untrusted(f"its certificate is not accepted: {error.verify_message}")
