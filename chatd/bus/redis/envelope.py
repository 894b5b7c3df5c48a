"""The header before every message on Redis, so that workers of neighbouring versions understand each other.

Owns: the header, and which messages of a newer version can be read.
Elsewhere: what the data means (core.bus_messages, bus.redis.control).
Fails: TooNew for a message that this version must not guess at; ValueError for bytes that are not a message.

These rules let hosts of version N and N+1 work together while a cluster is upgraded:

* The header says the writer's version, the oldest version that can read the message, and its own length. A later
  version may make the header longer but leaves the present fields where they are. `oldest` is raised only one version
  after readers of the new form are everywhere.
* The data are MessagePack arrays with a tag. They may grow at the end by fields with a default: an older reader ignores
  what it does not know, a newer one takes the default. A new kind of message gets a new tag, and readers that do not
  know it drop it. Nothing is ever removed, moved or given another meaning.
"""

from __future__ import annotations

import struct

VERSION = 1
OLDEST = 1

_HEADER = struct.Struct("!BBB8s")
"""Version, oldest version that can read it, length of the header, the publisher's token."""
HEADER_BYTES = _HEADER.size
TOKEN = slice(3, 11)
"""Where the publisher's token is in a message."""


class TooNew(Exception):
    """The message was written by a version whose messages this one cannot read."""


def header(token: bytes, version: int = VERSION, oldest: int = OLDEST) -> bytes:
    """The bytes before the data in every message of the worker with this token (8 bytes)."""
    return _HEADER.pack(version, oldest, HEADER_BYTES, token)


def content(raw: bytes) -> bytes:
    """The data of a message.

    Raises:
        TooNew: this version cannot read it.
        ValueError: it is not a message.
    """
    if len(raw) < HEADER_BYTES:
        raise ValueError("too short for an envelope")
    if raw[1] > VERSION:
        raise TooNew(f"version {raw[0]}, readable since {raw[1]}, here {VERSION}")
    return raw[raw[2] :]


def publish_command(command: bytes, channel: bytes, header: bytes, data: bytes) -> bytes:
    """A complete PUBLISH or SPUBLISH command in RESP. For speed it is not made by bus.redis.connection.pack()."""
    return b"*3\r\n$%d\r\n%b\r\n$%d\r\n%b\r\n$%d\r\n%b%b\r\n" % (
        len(command), command, len(channel), channel, len(data) + HEADER_BYTES, header, data
    )  # fmt: skip
