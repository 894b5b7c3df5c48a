"""Where metrics and health are served, as long as the server runs.

Owns: the listening socket: bound before privileges are given up, exchanged by a reload, handed to a later program.
Elsewhere: its connections (master.metrics.gate), the answers (master.metrics.pages), the options
(config.metrics_options).
Fails: BootError at the start, ConfigError in a reload, when the address cannot be bound; then the previous one is
served on.

While no address is configured nothing is imported and nothing is done.
"""

from __future__ import annotations

import socket
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Protocol

import msgspec

from chatd import log
from chatd.config import urls
from chatd.config.metrics_options import MetricsOptions
from chatd.errors import BootError, ConfigError
from chatd.master import listeners


class Acceptor(Protocol):
    """What serves the connections; master.metrics.gate.Gate."""

    def open(self, listener: socket.socket, allow: Sequence[str]) -> None:
        """Accept from this socket from now on, and from no other. allow: networks; none = all."""
        ...

    def shut(self) -> None:
        """Accept no more; the socket stays open."""
        ...

    def check(self, now: float) -> None:
        """Once per turn of the loop: end what takes too long."""
        ...

    def close(self) -> None:
        """All connections, at once."""
        ...

    def leave(self) -> None:
        """In a forked worker: close its copies."""
        ...


class EndpointState(msgspec.Struct, frozen=True, kw_only=True):
    """For a later program. address: as configured."""

    address: str
    descriptor: int


class Listening:
    """A bound socket, and the options it was bound for; no socket without an address. instead: of the one that was
    closed so that this one could be bound; None = there was none."""

    def __init__(
        self, options: MetricsOptions, sock: socket.socket | None, instead: MetricsOptions | None = None
    ) -> None:
        self.options = options
        self.sock = sock
        self.instead = instead

    @property
    def address(self) -> str:
        """As configured, with the port that the kernel chose for port 0."""
        return "" if self.sock is None else listeners.actual_address(self.options, self.sock)

    def close(self) -> None:
        if self.sock is None:
            return
        self.sock.close()
        where = urls.parse(self.options.address)
        if where.transport == "unix":
            Path(where.path).unlink(missing_ok=True)


def bind(options: MetricsOptions, *, after_crash: bool = False) -> Listening:
    """Raises BootError. after_crash: wait for the processes of a crashed server to release the address."""
    if not options.address:
        return Listening(options, None)
    deadline = time.monotonic() + (listeners.CRASH_WAIT_S if after_crash else 0.0)
    return Listening(options, listeners.bind_alone(options, deadline))


def resumed(options: MetricsOptions, before: EndpointState | None) -> Listening:
    """The socket of an earlier program, which was configured with another address perhaps."""
    if before is None:
        return Listening(MetricsOptions(), None)
    sock = socket.socket(fileno=before.descriptor)
    sock.setblocking(False)
    return Listening(msgspec.structs.replace(options, address=before.address), sock)


class MetricsEndpoint:
    """make_acceptor: called when there is an address for the first time. Nothing is served before open()."""

    def __init__(self, listening: Listening, make_acceptor: Callable[[], Acceptor]) -> None:
        self._listening = listening
        self._make_acceptor = make_acceptor
        self._acceptor: Acceptor | None = None

    def open(self) -> None:
        """Begin to serve what was bound at the start."""
        self._take(self._listening)

    def _serve(self, sock: socket.socket) -> None:
        if self._acceptor is None:
            self._acceptor = self._make_acceptor()
        self._acceptor.open(sock, self._listening.options.allow)

    @property
    def address(self) -> str:
        """Where metrics are served; "" = nowhere."""
        return self._listening.address

    def state(self) -> EndpointState | None:
        """For a later program."""
        listening = self._listening
        if listening.sock is None:
            return None
        return EndpointState(address=listening.options.address, descriptor=listening.sock.fileno())

    # ---------------------------------------------------------------- changes

    def prepare(self, options: MetricsOptions, name: str) -> Listening:
        """What a changed configuration needs; nothing else has changed. name: of the configuration file. To be given to
        install() or abandon(). Raises ConfigError."""
        present = self._listening
        if options.address == present.options.address:
            return Listening(options, present.sock)
        try:
            return self._bind_beside(options)
        except BootError as error:
            raise ConfigError(f"{name}: metrics.address: {error}") from None

    def _bind_beside(self, options: MetricsOptions) -> Listening:
        """Two sockets of one port exclude each other, such as of 127.0.0.1 and 0.0.0.0: then the present one is closed
        for a moment. Raises BootError."""
        present = self._listening
        try:
            return bind(options)
        except BootError:
            if not _exclude_each_other(present.options.address, options.address):
                raise
        self._release()
        try:
            return Listening(options, bind(options).sock, instead=present.options)
        except BootError:
            self._take(bind(present.options))
            raise

    def _release(self) -> None:
        if self._acceptor is not None:
            self._acceptor.shut()
        self._listening.close()
        self._listening = Listening(MetricsOptions(), None)

    def install(self, prepared: Listening) -> None:
        """Serve there from now on."""
        before = self._listening
        if prepared.sock is before.sock and prepared.options == before.options:
            return
        if before.sock is not None and before.sock is not prepared.sock:
            self._release()
        self._take(prepared)

    def abandon(self, prepared: Listening) -> None:
        """The change is not made after all."""
        if prepared.sock is not self._listening.sock:
            prepared.close()
        if prepared.instead is not None:
            self.follow(prepared.instead)

    def _take(self, listening: Listening) -> None:
        self._listening = listening
        if listening.sock is not None:
            self._serve(listening.sock)
            log.get().info("metrics are served", address=listening.address)

    def follow(self, options: MetricsOptions) -> None:
        """Serve there if possible; otherwise where it is served now. After an upgrade, because the configuration may
        have changed with the program."""
        try:
            self.install(self.prepare(options, "-"))
        except ConfigError as error:
            log.get().error("metrics cannot be served at another address", why=str(error))

    # ---------------------------------------------------------------- the loop

    def check(self, now: float) -> None:
        """Once per turn of the loop."""
        if self._acceptor is not None:
            self._acceptor.check(now)

    def leave(self) -> None:
        """In a forked worker: close its copies."""
        if self._acceptor is not None:
            self._acceptor.leave()
        if self._listening.sock is not None:
            self._listening.sock.close()

    def close(self) -> None:
        """At the end of the server."""
        if self._acceptor is not None:
            self._acceptor.close()
        self._listening.close()


def _exclude_each_other(one: str, other: str) -> bool:
    """Whether both are TCP addresses with the same port."""
    if not one or not other:
        return False
    first, second = urls.parse(one), urls.parse(other)
    return first.transport == second.transport == "tcp" and first.port == second.port != 0
