"""Closing the listening sockets to new clients and opening them again, without giving up their addresses.

Owns: what is done to each kind of socket, so that a client is refused at once instead of waiting for nobody.
Elsewhere: when (master.master, master.rolling.host); binding (master.listeners, master.udp_sockets).
Fails: open() raises OSError, naming the address; the others are open then, and try_again() tries it again. Shutting
never fails.

What is done holds in every process that has the socket:

* TCP: shutdown(2) for reading ends listening, connects are refused, and the port stays bound, privileged ones too;
  listen(2) begins again.
* Unix: the same refuses connects, but cannot be undone, so a new socket takes the name and the descriptor.
* UDP: see master.udp_sockets.UdpSockets.shut().
* Sockets that belong to systemd are left alone: what comes meanwhile waits there.
"""

from __future__ import annotations

import contextlib
import os
import socket
from collections.abc import Collection, Sequence

from chatd import log
from chatd.config import urls
from chatd.master import listeners
from chatd.master.listeners import Bound
from chatd.master.udp_sockets import UdpSockets


class Listening:
    """adopted: those of the sockets that belong to systemd."""

    def __init__(self, bound: Sequence[Bound], udp_sockets: UdpSockets, adopted: Collection[socket.socket]) -> None:
        self._streams = [(one, sock) for one, sock in bound if sock not in adopted]
        self._udp_sockets = udp_sockets
        self._closed = [
            (one, sock) for one, sock in self._streams if not sock.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN)
        ]
        """Streams that should be listened on, and are not. After an upgrade in place there may be some already."""

    def shut_streams(self) -> None:
        """New connections are refused, and those that no worker has accepted are reset. Idempotent."""
        self._closed = []
        for one, sock in self._streams:
            try:
                sock.shutdown(socket.SHUT_RD)
            except OSError as error:  # it was shut before
                log.get().debug("listener is closed already", address=one.address, why=error.strerror)

    def shut_datagrams(self) -> None:
        """When no worker reads them any more. Idempotent."""
        self._udp_sockets.shut()

    def open(self) -> None:
        """All streams are listened on again; the UDP sockets are bound for each worker. Raises: OSError for the last
        that is not."""
        self._closed = list(self._streams)
        self.try_again()

    def try_again(self) -> None:
        """Listen where open() has failed. Raises: as open()."""
        closed, self._closed = self._closed, []
        failed: OSError | None = None
        for one, sock in closed:
            try:
                if sock.family == socket.AF_UNIX:
                    _bind_again(one.address, one.backlog, sock)
                else:
                    sock.listen(one.backlog)
            except OSError as error:
                address = listeners.actual_address(one, sock)
                log.get().error("cannot listen again", address=address, why=error.strerror)
                failed = OSError(error.errno, error.strerror, address)
                self._closed.append((one, sock))
        if failed is not None:
            raise failed


def _bind_again(address: str, backlog: int, sock: socket.socket) -> None:
    with contextlib.closing(listeners.bind_unix(urls.parse(address).path, backlog)) as fresh:
        os.dup2(fresh.fileno(), sock.fileno(), inheritable=False)
