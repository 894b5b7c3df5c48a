"""One JSON line per thing that happened to a test client.

Owns: the lines, their fields, writing and reading them. What they mean together is judge's.
Every line has `at` (CLOCK_MONOTONIC, nanoseconds: comparable between processes of one host), `event` and `user`;
`conn` numbers the connection. A message is known by `id`, which its sender wrote into its text.
"""

from __future__ import annotations

import hashlib
import itertools
import time
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Literal

import msgspec

Event = Literal[
    "members", "joining", "joined", "leaving", "left",
    "connect", "login", "close", "send", "ok", "refused", "unknown", "receive",
    "change", "changed", "unchanged", "show", "final",
]  # fmt: skip


class Line(msgspec.Struct, omit_defaults=True):
    """members: `users` of the conversation `conv`, from the beginning. joining, joined, leaving, left: somebody asks
    that `user` becomes a member of it, or stops being one (perhaps by a kick), and is told that it is so. connect:
    `dedupe` tells whether this client removes duplicates.
    send: one attempt. ok: acknowledged, with the `seq` the server gave, if the wire says. refused: with `code`.
    unknown: the connection went before an answer. receive: first or further copy a person was *shown*.
    change: `user` asks that the message `id` gets the text with this hash; "" = none any more. changed: acknowledged,
    it has this version now. unchanged: refused. show: a person was shown that a message (`id`, or `seq`) has changed.
    final: what `user` has of the message `seq` in the history, in the end."""

    at: int
    event: Event
    user: str
    conn: int = 0
    id: str = ""
    conv: str = ""
    sender: str = ""
    hash: str = ""
    seq: int = 0
    code: int = 0
    version: int = 0
    dedupe: bool = True
    users: tuple[str, ...] = ()


def digest(text: str) -> str:
    return hashlib.blake2b(text.encode(), digest_size=8).hexdigest()


def pair(one: str, other: str) -> str:
    """The conversation of two users."""
    return "|".join(sorted((one, other)))


_numbers = itertools.count(1)


def next_connection() -> int:
    return next(_numbers)


class Journal:
    """Lines in memory and, with a path, on disk when closed or flushed (a run that fails leaves its evidence)."""

    def __init__(self, path: Path | None = None) -> None:
        self.lines: list[Line] = []
        self.counts: Counter[Event] = Counter()
        """Of `lines`, by event: who waits for more of them asks many times a second."""
        self.path = path

    def note(self, event: Event, user: str, conn: int = 0, *, at: int = 0, **fields: object) -> None:
        self.counts[event] += 1
        self.lines.append(Line(at or time.monotonic_ns(), event, user, conn, **fields))  # type: ignore[arg-type]

    def save(self) -> None:
        if self.path is not None:
            self.path.write_bytes(msgspec.json.Encoder().encode_lines(self.lines))


def read(paths: Iterable[Path]) -> list[Line]:
    """All lines of several journals, in order of time."""
    decoder = msgspec.json.Decoder(Line)
    lines = [line for path in paths for line in decoder.decode_lines(path.read_bytes())]
    lines.sort(key=lambda line: line.at)
    return lines
