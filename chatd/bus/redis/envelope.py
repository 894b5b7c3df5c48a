"""What goes around a message on a bus that outlives its workers, so that workers of neighbouring versions understand
each other.

Owns: the header, what of a newer version can be read, and telling our own messages from others'.
Not here: what is inside (core.bus_messages).
Fails: TooNew for a message this version must not guess at; ValueError for bytes that are no envelope.

The rule that keeps hosts of version N and N+1 talking while a cluster is upgraded:
* The header says the writer's version, the oldest version that can read it, and its own length. A later version may
  make the header longer; it leaves what is here where it is. `oldest` is raised only one version after readers of the
  new form are everywhere.
* What is inside are MessagePack arrays with a tag (core.bus_messages). They may grow at the end, by fields with a
  default: an older reader ignores what it does not know, a newer one takes the default. A new kind of signal is a new
  tag; who does not know it drops it. Nothing is ever removed, moved or given another meaning.
"""

from __future__ import annotations

import struct

VERSION = 1
OLDEST = 1

_HEADER = struct.Struct("!BBB8s")
HEADER_BYTES = _HEADER.size
TOKEN = slice(3, 11)
"""Where the publisher's token is."""


class TooNew(Exception):
    """Written by a version that says this one cannot read it."""


def header(token: bytes, version: int = VERSION, oldest: int = OLDEST) -> bytes:
    """What comes before the data of every message of the worker with this token (8 bytes)."""
    return _HEADER.pack(version, oldest, HEADER_BYTES, token)


def content(raw: bytes) -> bytes:
    """The data in the envelope. Raises TooNew, ValueError."""
    if len(raw) < HEADER_BYTES:
        raise ValueError("too short for an envelope")
    if raw[1] > VERSION:
        raise TooNew(f"version {raw[0]}, readable since {raw[1]}, here {VERSION}")
    return raw[raw[2] :]
