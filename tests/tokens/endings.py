"""Clients of every transport, with TLS and without, whose sessions end when their tokens expire.

Owns: TRANSPORTS, Guest: one logged in by token, and when it is told that its token has expired.
Elsewhere: the daemon (tests.tokens.conftest), tokens (tests.tokens.attacks).
"""

from __future__ import annotations

import asyncio
import math
import time
from dataclasses import dataclass
from typing import Any, NamedTuple

from chatd.errors import ErrorCode
from tests.harness import chatserver
from tests.harness.daemon import Daemon
from tests.harness.datagrams import TokenPeer
from tests.harness.link import ConnectionGone, LoginRefused
from tests.harness.mobileimsdk import MobilePeer, content
from tests.harness.peer import NulPeer, Peer
from tests.harness.websocket import WebPeer
from tests.tokens.attacks import fresh_name, token

TEXT = "the login token has expired"
LATE_S = 5.0
"""A session that ends this long after its token has not ended in time. (It is looked at once a second; the rest is for
a machine that does other things.)"""


class Transport(NamedTuple):
    """port: of Daemon.ports. login: more fields of a LOGIN on the chatserver wire."""

    port: str
    kind: type[Peer]
    login: dict[str, Any] = {}  # noqa: RUF012  never changed

    @property
    def is_secure(self) -> bool:
        return self.port.endswith(("-tls", "-wss"))


TRANSPORTS = {
    "chatserver": Transport("chatserver", NulPeer, {"framing": "nul"}),
    "chatserver-tls": Transport("chatserver-tls", NulPeer, {"framing": "nul", "acks": True}),
    "mobileimsdk": Transport("mobileimsdk", MobilePeer),
    "mobileimsdk-tls": Transport("mobileimsdk-tls", MobilePeer),
    "mobileimsdk-udp": Transport("mobileimsdk-udp", TokenPeer),
    "mobileimsdk-ws": Transport("mobileimsdk-ws", WebPeer),
    "mobileimsdk-wss": Transport("mobileimsdk-wss", WebPeer),
}


@dataclass
class Guest:
    """ends_at: the `exp` of the token, seconds since the epoch."""

    daemon: Daemon
    transport: Transport
    ends_at: int
    name: str
    peer: Peer

    @classmethod
    def of(cls, daemon: Daemon, transport: str, lives_s: float) -> Guest:
        """lives_s: about; tokens count in whole seconds."""
        one = TRANSPORTS[transport]
        return cls(daemon, one, math.ceil(time.time() + lives_s), fresh_name(transport), one.kind())

    async def come(self, secret: str = "") -> None:
        """Log in, by the token or by this secret. Raises LoginRefused, ConnectionGone."""
        self.peer = self.transport.kind()
        if self.transport.is_secure:
            assert self.daemon.certificate is not None
            self.peer.tls = self.daemon.certificate.client()
        await self.peer.open(self.daemon.ports[self.transport.port])
        await self.log_in(secret or token(self.name, exp=self.ends_at))

    async def log_in(self, secret: str) -> None:
        """On the connection that there is. Raises LoginRefused, ConnectionGone."""
        if isinstance(self.peer, MobilePeer):
            await self.peer.log_in(self.name, secret)
            return
        self.peer.put({"msgid": chatserver.LOGIN, "name": self.name, "password": secret, **self.transport.login})
        answer = await self.peer.find(msgid=chatserver.LOGIN_ACK)
        if answer["errno"]:
            has_expired = "expired" in answer["errmsg"]
            raise LoginRefused(ErrorCode.TOKEN_EXPIRED if has_expired else answer["errno"], answer["errmsg"])

    async def stay(self) -> float:
        """As is_told(), of a client that comes again with the same token whenever its connection is lost. (A client
        over UDP does not notice that.)"""
        while True:
            try:
                return await self.is_told()
            except ConnectionGone:
                if await self.comes_too_late():
                    return time.time() - self.ends_at

    async def comes_too_late(self) -> bool:
        """Log in again; whether the token has expired."""
        try:
            await self.come()
        except ConnectionGone:
            await asyncio.sleep(0.05)  # all workers are gone
        except LoginRefused as refused:
            if refused.code != ErrorCode.TOKEN_EXPIRED:
                raise
            return True
        return False

    async def is_told(self, limit_s: float = 60.0) -> float:
        """When it was told that its token has expired, in seconds after the token's end. Raises ConnectionGone."""
        if isinstance(self.peer, MobilePeer):
            packet = await self.peer.find(limit_s, type=54)
            assert content(packet) == {"code": 2, "reason": TEXT}
        else:
            assert (await self.peer.find(limit_s, msgid=12))["errmsg"] == TEXT
        return time.time() - self.ends_at
