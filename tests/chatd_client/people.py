"""Users of a daemon, and clients of the library for them."""

from __future__ import annotations

import itertools
import random
from pathlib import Path
from typing import Any

import msgspec

from chatd_client import Client, Options, Timing
from tests.harness.daemon import WEBSOCKET_PATH, Daemon
from tests.harness.person import Town

QUICK = Timing(connect_s=3, answer_s=5, backoff_first_s=0.01, backoff_most_s=0.2, enter_s=15, send_s=30, settle_s=10)
TRANSPORTS = {
    "tcp": "mobileimsdk",
    "ws": "mobileimsdk-ws",
    "tls": "mobileimsdk-tls",
    "wss": "mobileimsdk-wss",
}
"""The listener of the daemon, by the scheme of its URL."""


class People:
    """Registers users and makes their clients."""

    def __init__(self, daemon: Daemon) -> None:
        self.daemon = daemon
        self.town = Town(daemon)
        self._numbers = itertools.count(random.randrange(10**6) * 100)

    async def user(self, name: str = "user") -> str:
        """A new account, whose name begins with this."""
        made = f"{name}{next(self._numbers)}"
        await self.town.register(made)
        return made

    def url(self, scheme: str = "tcp", port: int = 0) -> str:
        """port: of a proxy before the listener; 0 = the listener's own."""
        path = WEBSOCKET_PATH if scheme in ("ws", "wss") else ""
        return f"{scheme}://127.0.0.1:{port or self.daemon.ports[TRANSPORTS[scheme]]}{path}"

    def options(self, **options: Any) -> Options:
        """Quick, and trusting the daemon's certificate."""
        certificate = self.daemon.certificate
        return Options(**{"timing": QUICK, "ca": str(certificate.pem) if certificate else "", **options})

    def client(self, name: str, scheme: str = "tcp", port: int = 0, **options: Any) -> Client:
        return Client(self.url(scheme, port), name, password=self.town.secret, options=self.options(**options))


def quick(**changed: float) -> Timing:
    return msgspec.structs.replace(QUICK, **changed)


def journal(folder: Path, name: str) -> Path:
    return folder / f"{name}.journal"
