"""The frames between two workers of a host.

Owns: the kinds of frames, and writing and reading their bodies.
Elsewhere: cutting a stream into frames and the connections they travel on (bus.local.link); their effect
(bus.local.peers).
Fails: struct.error for a body of the wrong size.

A frame is HEADER (length of the body, kind, one number) and a body. Both ends are the same program on the same host, so
byte order and struct layout are the machine's. A worker refuses links of another VERSION.
"""

from __future__ import annotations

import enum
import struct
from collections.abc import Collection

from chatd.bus.contract import Topic

HEADER = struct.Struct("=IBq")
MAX_BODY_BYTES = 16 * 1024 * 1024
"""A longer body means a broken peer: the link is refused."""
TOPICS_PER_FRAME = 8192
VERSION = 1


class FrameKind(enum.IntEnum):
    """Each comment gives the frame's number and body, then its meaning.

    A batch is the number that a worker gives to one call of its subscribe(); numbers rise from 1."""

    HELLO = 1  # VERSION; the sender's name. The first frame of every link.
    SUBSCRIBE = 2  # batch, or 0 if more frames of it follow; topics, 8 bytes each.
    SYNCED = 3  # batch; nothing. Everything the sender was subscribed to when the link came up has been sent.
    UNSUBSCRIBE = 4  # 0; topics, as in SUBSCRIBE.
    CONFIRM = 5  # batch; nothing. The subscriptions up to this batch are in force at the sender.
    CONFIRM_LATE = 6  # As CONFIRM, and the sender may have published before they were in force.
    PUBLISH = 7  # topic; data.
    PING = 8  # 0; nothing.
    GAP = 9  # 0; nothing. Publishes were dropped before this frame.
    BYE = 10  # 0; nothing. The sender leaves; everything it published came before.


def frame(kind: int, number: int, body: bytes = b"") -> bytes:
    return HEADER.pack(len(body), kind, number) + body


def pack_topics(kind: int, batch: int, topics: Collection[Topic]) -> bytes:
    """SUBSCRIBE or UNSUBSCRIBE frames for all of topics; the last one carries `batch`."""
    chosen = list(topics)
    pieces = [chosen[at : at + TOPICS_PER_FRAME] for at in range(0, len(chosen), TOPICS_PER_FRAME)]
    return b"".join(
        frame(kind, batch if piece is pieces[-1] else 0, struct.pack(f"={len(piece)}q", *piece)) for piece in pieces
    )


def unpack_topics(body: bytes) -> tuple[Topic, ...]:
    """Raises struct.error if the body is not a whole number of topics."""
    return struct.unpack(f"={len(body) // 8}q", body)
