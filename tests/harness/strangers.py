"""Strangers at every listener: they guess, flood and hold connections, from many addresses of their own.

Owns: Strangers, a bounded attack that goes on beside a test: datagrams with logins, wrong logins for accounts that
exist, connections that are held without a login. Everything comes from 127.1.0.0/16 and goes to 127.0.0.1.
Elsewhere: a crowd of ordinary users (crowd), what is refused (the tests).
Fails: never because of what the server does with it; being refused is what strangers are for.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import json
import socket
from collections import deque
from collections.abc import AsyncIterator, Sequence

from tests.harness.chatserver import LOGIN
from tests.harness.daemon import Daemon
from tests.harness.mobileimsdk import MobilePeer

TURN_S = 0.02
PER_TURN = 4
"""Of each kind: 200 in a second."""
HELD = 200
"""Maximum connections held at a time; the oldest is given up for a new one."""
ADDRESSES = 250


class Strangers:
    """sent: datagrams with a login. guessed: wrong logins over TCP. connected: connections made. names, ids: accounts
    whose passwords are guessed."""

    def __init__(self, daemon: Daemon, ids: dict[str, int]) -> None:
        self.sent = self.guessed = self.connected = 0
        self._names = list(ids)
        self._ids = ids
        self._tcp = daemon.ports["chatserver"]
        self._udp = daemon.ports["mobileimsdk-udp"]
        self._addresses = itertools.cycle([f"127.1.{number // 50}.{number % 50 + 1}" for number in range(ADDRESSES)])
        self._held: deque[socket.socket] = deque()

    @contextlib.asynccontextmanager
    async def attacking(self) -> AsyncIterator[Strangers]:
        """From entering to leaving, the attack goes on."""
        task = asyncio.create_task(self._attack())
        try:
            yield self
        finally:
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task
            for sock in self._held:
                sock.close()

    async def _attack(self) -> None:
        for turn in itertools.count():
            for number in range(PER_TURN):
                name = self._names[(turn * PER_TURN + number) % len(self._names)]
                self._send_login(name)
                self._connect(name)
            await asyncio.sleep(TURN_S)  # the rate of the attack

    def _send_login(self, name: str) -> None:
        packet = json.dumps(MobilePeer().login_packet(name, f"guess {self.sent}")).encode()
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock, contextlib.suppress(OSError):
            sock.bind((next(self._addresses), 0))
            sock.sendto(packet, ("127.0.0.1", self._udp))
            self.sent += 1

    def _connect(self, name: str) -> None:
        """Every second one guesses a password; the others say nothing."""
        sock = socket.socket()
        sock.setblocking(False)
        self._held.append(sock)
        with contextlib.suppress(OSError):
            sock.bind((next(self._addresses), 0))
            with contextlib.suppress(BlockingIOError):
                sock.connect(("127.0.0.1", self._tcp))
            self.connected += 1
            if self.connected % 2:
                guess = {"msgid": LOGIN, "id": self._ids[name], "password": f"guess {self.guessed}"}
                sock.send(json.dumps(guess).encode())
                self.guessed += 1
        while len(self._held) > HELD:
            self._held.popleft().close()


def doing_all(strangers: Strangers, at_least: int) -> Sequence[str]:
    """Which kinds of attack happened less than so often: none, if the test means something."""
    done = {"datagrams": strangers.sent, "guesses": strangers.guessed, "connections": strangers.connected}
    return [f"{name}: {times}" for name, times in done.items() if times < at_least]
