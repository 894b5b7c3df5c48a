"""UDP sockets of systemd that no place has any more: a worker that runs is told to read them.

Owns: choosing that worker, and telling it.
Elsewhere: which place has which socket (master.udp_sockets); reading (net.udp).
Fails: if no worker can be told, the sockets wait for the next one that is forked or changes; what comes stays in them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from chatd import log
from chatd.orders import ReadDatagramsOrder

if TYPE_CHECKING:
    from chatd.master.workers import WorkerPool


def hand_out(pool: WorkerPool) -> None:
    """After a place was given up. Nothing to do where the sockets are chatd's own, which are closed then."""
    reader = next(iter(pool.ready()), None)
    if reader is None or pool.stopping or pool.suspended:
        return
    for one, sock in pool.shared.udp_sockets.take_unread(reader.index):
        if not pool.order(reader, ReadDatagramsOrder(one.address), sock.fileno()):
            log.get().error("a worker cannot be told to read a UDP socket", slot=reader.index, address=one.address)
