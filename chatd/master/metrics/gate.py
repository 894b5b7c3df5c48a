"""Which monitoring programs are connected.

Owns: accepting from the listening socket, the allowed addresses, and the limits that keep strangers from holding the
master up.
Elsewhere: the listening socket (master.metrics.endpoint), one connection (master.metrics.exchange).
Fails: never.

Whatever comes, a turn of the master's loop accepts a few connections, and a second few more: the rest waits in the
kernel. A new connection is never refused because others are idle: the oldest that has not sent its request makes room.
"""

from __future__ import annotations

import ipaddress
import socket
from collections.abc import Callable, Sequence

from chatd import log
from chatd.config import urls
from chatd.master.metrics.exchange import Exchange, Phase
from chatd.master.metrics.pages import Answer, Request
from chatd.master.watcher import Watcher

CONNECTIONS = 16
"""Maximum at a time."""
ACCEPTS_PER_TURN = 8
ACCEPTS_PER_S = 100
WINDOW_S = 1.0


class Gate:
    """answer: to a complete request."""

    def __init__(self, watcher: Watcher, answer: Callable[[Request], Answer]) -> None:
        self._watcher = watcher
        self._answer = answer
        self._listener: socket.socket | None = None
        self._allowed: tuple[ipaddress.IPv4Network | ipaddress.IPv6Network, ...] = ()
        self._exchanges: dict[Exchange, None] = {}
        """The open ones, the oldest first."""
        self._accepted = 0
        """In the window of WINDOW_S that ends at _window_ends."""
        self._window_ends = 0.0

    def open(self, listener: socket.socket, allow: Sequence[str]) -> None:
        """Accept from this socket from now on, and from no other. allow: networks; none = all."""
        self.shut()
        self._allowed = tuple(ipaddress.ip_network(one) for one in allow)
        self._listener = listener
        self._watcher.watch(listener.fileno(), self._accept)

    def shut(self) -> None:
        """Accept no more; the socket stays open."""
        if self._listener is not None:
            self._watcher.unwatch(self._listener.fileno())
            self._listener = None

    def _accept(self) -> None:
        listener = self._listener
        for _ in range(ACCEPTS_PER_TURN):
            if listener is None or not self._may_accept(listener):
                return
            try:
                sock, address = listener.accept()
            except OSError:  # none is left, or it has gone again
                return
            self._accepted += 1
            if not self._is_allowed(address):
                host = str(address[0])
                log.get().warning("metrics: connection refused, its address is not in metrics.allow", source=host)
                sock.close()
                continue
            sock.setblocking(False)
            self._make_room()
            exchange = Exchange(sock, self._watcher, self._answer, self._forget)
            self._exchanges[exchange] = None
            exchange.receive()

    def _may_accept(self, listener: socket.socket) -> bool:
        if self._accepted < ACCEPTS_PER_S:
            return True
        self._watcher.unwatch(listener.fileno())  # until the window ends
        return False

    def _is_allowed(self, address: object) -> bool:
        """A client on a Unix socket has no address."""
        if not self._allowed or not isinstance(address, tuple):
            return True
        client = ipaddress.ip_address(urls.plain(str(address[0])).partition("%")[0])
        return any(client in network for network in self._allowed)

    def _make_room(self) -> None:
        if len(self._exchanges) >= CONNECTIONS:
            reading = (one for one in self._exchanges if one.phase is Phase.READING)
            next(reading, next(iter(self._exchanges))).close()

    def _forget(self, exchange: Exchange) -> None:
        self._exchanges.pop(exchange, None)

    def check(self, now: float) -> None:
        """Once per turn of the loop: close what takes too long, and accept again after a pause."""
        for exchange in [one for one in self._exchanges if now > one.deadline]:
            exchange.close()
        if now >= self._window_ends:
            self._window_ends = now + WINDOW_S
            is_paused, self._accepted = self._accepted >= ACCEPTS_PER_S, 0
            if is_paused and self._listener is not None:
                self._watcher.watch(self._listener.fileno(), self._accept)

    def close(self) -> None:
        """All connections, at once."""
        self.shut()
        for exchange in tuple(self._exchanges):
            exchange.close()

    def leave(self) -> None:
        """In a forked worker: close its copies."""
        for exchange in self._exchanges:
            exchange.leave()
