"""The header before every message on Redis: who published it, its signature, and which versions can read it.

Owns: the header, refusing what is forged or replayed, and which messages of a newer version can be read.
Elsewhere: the keys (bus.redis.keyring), what the data means (core.bus_messages, bus.redis.control), counting refusals
(bus.redis.refusals).
Fails: Forged for a message that no worker of this cluster has just published here; TooNew for one that this version
must not guess at; ValueError for bytes that are not a message.

These rules let hosts of version N and N+1 work together while a cluster is upgraded:

* The header says the writer's version, the oldest version that can read the message, and its own length. A later
  version may make the header longer but leaves the present fields where they are. `oldest` is raised only one version
  after readers of the new form are everywhere.
* The data are MessagePack arrays with a tag. They may grow at the end by fields with a default: an older reader ignores
  what it does not know, a newer one takes the default. A new kind of message gets a new tag, and readers that do not
  know it drop it. Nothing is ever removed, moved or given another meaning.

Version 1 has the first four fields. Version 2 adds a number and a signature, if the cluster has a key. The signature is
over everything else in the message and the channel it was published on, so a message cannot be moved to another channel
or given another publisher. Numbers rise with each message of a publisher and are about the time in nanoseconds. A
reader takes only a higher number than before, and none that is old by its own clock: it may have missed a message that
somebody recorded. From a publisher it has not read before, it takes only one close to its own clock.
"""

from __future__ import annotations

import enum
import struct
import time
from collections.abc import Iterable

from chatd.bus.redis.keyring import SIGNATURE_BYTES, Keyring

VERSION = 2
OLDEST = 1

_UNSIGNED = struct.Struct("!BBB8s")
"""Version, oldest version that can read it, length of the header, the publisher's token."""
HEADER_BYTES = _UNSIGNED.size
_NUMBER_BYTES = 8
_SIGNATURE_AT = HEADER_BYTES + _NUMBER_BYTES
"""The number, big-endian, follows the fields above; then comes the signature."""
SIGNED_HEADER_BYTES = _SIGNATURE_AT + SIGNATURE_BYTES
TOKEN = slice(3, 11)
"""Where the publisher's token is in a message."""
_NUMBER = slice(HEADER_BYTES, _SIGNATURE_AT)
_SIGNATURE = slice(_SIGNATURE_AT, SIGNED_HEADER_BYTES)

CLOCKS_APART_S = 30
"""How far the number of a publisher's first message may be from this host's clock."""
_CLOCKS_APART_NS = CLOCKS_APART_S * 1_000_000_000
LATE_S = 60
"""How old a message may be, by this host's clock: clocks may be CLOCKS_APART_S apart, and Redis may hold it up for as
long. One that is held up for longer is as good as lost: refusing it makes a gap known."""
_LATE_NS = LATE_S * 1_000_000_000
PUBLISHERS = 10_000
"""Maximum publishers whose last number is remembered; beyond it, the half that was met first is forgotten."""


class Forgery(enum.StrEnum):
    """Why a message is refused. The values are in the log."""

    UNSIGNED = "no signature"
    SIGNATURE = "wrong signature"
    REPLAYED = "replayed"
    CLOCK = "too old or too new"
    LATE = "held up for too long, or published again"


class Forged(Exception):
    """The message is not one that a worker of this cluster has just published on this channel."""

    def __init__(self, reason: Forgery) -> None:
        super().__init__(reason.value)
        self.reason = reason


class TooNew(Exception):
    """The message was written by a version whose messages this one cannot read."""


class Sealer:
    """Makes the messages of one worker. token: the worker's, 8 bytes."""

    def __init__(self, token: bytes, keyring: Keyring) -> None:
        self._keyring = keyring
        self._number = 0
        """Of the last message."""
        self._unsigned = _UNSIGNED.pack(VERSION, OLDEST, HEADER_BYTES, token)
        self._signed = _UNSIGNED.pack(VERSION, OLDEST, SIGNED_HEADER_BYTES, token)
        """The beginning of a signed message."""

    def command(self, command: bytes, channel: bytes, data: bytes) -> bytes:
        """A complete PUBLISH or SPUBLISH in RESP. For speed it is not made by bus.redis.connection.pack()."""
        signer = self._keyring.signer
        if signer is None:
            header = self._unsigned
        else:
            number = time.time_ns()
            if number <= self._number:
                number = self._number + 1
            self._number = number
            header = self._signed + number.to_bytes(_NUMBER_BYTES, "big")
            hasher = signer.copy()
            hasher.update(header + channel + b"\0" + data)
            header += hasher.digest()
        return b"*3\r\n$%d\r\n%b\r\n$%d\r\n%b\r\n$%d\r\n%b%b\r\n" % (
            len(command), command, len(channel), channel, len(data) + len(header), header, data
        )  # fmt: skip

    def message(self, channel: bytes, data: bytes) -> bytes:
        """The message alone, without the command. For tests."""
        command = self.command(b"", channel, data)
        size = len(data) + (HEADER_BYTES if self._keyring.signer is None else SIGNED_HEADER_BYTES)
        return command[-size - 2 : -2]


class Opener:
    """Checks the messages that arrive on one way, on which those of a publisher keep their order."""

    def __init__(self, keyring: Keyring) -> None:
        self._keyring = keyring
        self._newest: dict[bytes, bytes] = {}
        """The last number of each publisher, by its token. As bytes they have the same order."""

    def content(self, channel: bytes, raw: bytes) -> bytes:
        """The data of a message that arrived on this channel.

        Raises:
            Forged: it is to be dropped.
            TooNew: this version cannot read it.
            ValueError: it is not a message.
        """
        keyring = self._keyring
        if len(raw) < SIGNED_HEADER_BYTES or raw[2] < SIGNED_HEADER_BYTES:
            if not keyring.accepts_unsigned:
                raise Forged(Forgery.UNSIGNED)
            if len(raw) < HEADER_BYTES:
                raise ValueError("too short for an envelope")
        elif keyring.signer is not None:
            if not keyring.is_signed(
                raw[:_SIGNATURE_AT] + channel + b"\0" + raw[SIGNED_HEADER_BYTES:], raw[_SIGNATURE]
            ):
                raise Forged(Forgery.SIGNATURE)
            token, number = raw[TOKEN], raw[_NUMBER]
            newest = self._newest.get(token)
            if newest is None:
                self._meet(number)
            elif number <= newest:
                raise Forged(Forgery.REPLAYED)
            elif number < (time.time_ns() - _LATE_NS).to_bytes(_NUMBER_BYTES, "big"):
                raise Forged(Forgery.LATE)
            self._newest[token] = number
        if raw[1] > VERSION:
            raise TooNew(f"version {raw[0]}, readable since {raw[1]}, here {VERSION}")
        return raw[raw[2] :]

    def _meet(self, number: bytes) -> None:
        """The first message of a publisher is read. Raises Forged."""
        if abs(int.from_bytes(number, "big") - time.time_ns()) > _CLOCKS_APART_NS:
            raise Forged(Forgery.CLOCK)
        if len(self._newest) >= PUBLISHERS:
            self._newest = dict(list(self._newest.items())[PUBLISHERS // 2 :])

    @staticmethod
    def level(openers: Iterable[Opener]) -> None:
        """Messages may take other ways from now on: let every way know the newest number of each publisher."""
        openers = list(openers)
        newest: dict[bytes, bytes] = {}
        for opener in openers:
            for token, number in opener._newest.items():
                newest[token] = max(number, newest.get(token, b""))
        for opener in openers:
            opener._newest = dict(newest)
