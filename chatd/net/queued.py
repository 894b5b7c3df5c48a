"""What is queued for a peer, changed before it is written.

Owns: replace_queued().
Elsewhere: the queues (net.connection, net.udp.peer), why something is replaced (core.in_flight).
Fails: never.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence


def replace_queued(
    queues: Sequence[list[bytes] | deque[bytes]], begin: int, end: int, new: bytes
) -> list[tuple[int, int]]:
    """Replace the entry that ends at byte `end`, and those equal to it. begin: the byte at which the first entry of the
    first queue begins; the queues follow each other. Returns the end of each replaced entry, and by how much it has
    grown. Cost: linear in the entries."""
    places: list[tuple[int, list[bytes] | deque[bytes], int]] = []
    old = None
    at = begin
    for queue in queues:
        for index, data in enumerate(queue):
            at += len(data)
            places.append((at, queue, index))
            if at == end:
                old = data
    replaced = []
    for at, queue, index in places:
        if queue[index] == old:
            replaced.append((at, len(new) - len(queue[index])))
            queue[index] = new
    return replaced
