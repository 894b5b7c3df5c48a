"""What a test client is, whatever its wire.

Owns: Link, the contract kept by chatserver.OldLink, chatserver.StreamingLink and mobileimsdk.StockLink, and what goes
over it. A Link is one connection; who comes back after losing one is person.Person.
"""

from __future__ import annotations

import asyncio
import socket
import struct
from dataclasses import dataclass, field
from typing import Any, Protocol


class LoginRefused(Exception):
    """`code` as the wire has it: LOGIN_ACK's errno, or the code of a type 50."""

    def __init__(self, code: int, text: str) -> None:
        super().__init__(f"login refused: {code} {text}")
        self.code = code


class ConnectionGone(Exception):
    pass


@dataclass(frozen=True)
class Seen:
    """A message as shown to a person. group 0: one-to-one. seq 0, fp "": the wire does not say."""

    sender: str
    text: str
    group: int = 0
    seq: int = 0
    fp: str = field(default="", compare=False)


@dataclass(frozen=True)
class Outcome:
    """What became of a sent message: acknowledged, or refused with `code` (chatd's, ErrorCode)."""

    ok: bool
    code: int = 0
    seq: int = 0


class Ears(Protocol):
    """Who is told. Called from the loop, in the order of the wire, duplicates already removed where the wire's
    own client removes them."""

    def message(self, seen: Seen) -> None: ...

    def outcome(self, fp: str, outcome: Outcome) -> None: ...

    def closed(self) -> None: ...

    def notice(self, body: dict[str, Any]) -> None:
        """A text of the server: a notice, or the answer to a request."""


class Link(Protocol):
    removes_duplicates: bool
    acknowledges: bool
    """Whether the sender is told that its message is safe."""

    async def open(self, port: int, host: str = "127.0.0.1") -> None: ...

    async def login(self, name: str, user_id: int, secret: str) -> int:
        """The numeric id where the wire tells it, else 0. Raises LoginRefused, ConnectionGone."""
        ...

    def send(self, to: str, to_id: int, text: str, fp: str) -> None:
        """to "#5" is a group. Never waits; a connection that is gone swallows it."""
        ...

    def close(self) -> None:
        """Say goodbye: FIN after everything written."""
        ...

    def abort(self) -> None:
        """Vanish: RST, whatever was under way."""
        ...


def reset(sock: socket.socket | asyncio.trsock.TransportSocket) -> None:
    """Make the coming close a reset."""
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
