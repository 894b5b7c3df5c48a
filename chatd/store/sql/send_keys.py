"""The integer keys that make (sender, fp) unique.

Owns: SendKeys.
Elsewhere: the rows under a key (store.sql.repetitions for messages, store.sql.request_log for requests).
Fails: never.
"""

from __future__ import annotations

from collections.abc import Sequence
from zlib import crc32

from chatd.model import UserId
from chatd.store.contract import Draft

PROBES = 16
"""Keys tried for one (sender, fp) before it is refused with LIMIT_REACHED."""


class SendKeys:
    """Maps (sender, fp) to a 64-bit key: the sender in the upper half, a checksum of fp below.

    The keys of one sender are neighbours in the index, which costs half as much as an index on text. If two fps of one
    sender share a key, the second takes the next free one, so the map stays exact. Only a sender who looks for such fps
    has many of them, and only that sender is refused for it.
    """

    __slots__ = ()

    @staticmethod
    def first(sender: UserId, fp: str) -> int:
        return sender << 32 | crc32(fp.encode("utf-8", "surrogatepass"))

    def of(self, drafts: Sequence[Draft]) -> list[int | None]:
        """The first key of each draft; None for one without an fp."""
        first = self.first
        return [first(draft.sender.id, draft.command.fp) if draft.command.fp else None for draft in drafts]

    @staticmethod
    def after(key: int) -> int:
        return key & ~0xFFFFFFFF | (key + 1) & 0xFFFFFFFF
