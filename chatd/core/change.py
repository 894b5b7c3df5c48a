"""A change of the store that others must hear of.

Owns: Change, so that a command and a request that mean the same share one description of it.
Fails: what `write` raises; then `after` is not called.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Generic, NamedTuple, TypeVar

from chatd.store.contract import Tables
from chatd.store.group_commit import GroupCommit

T = TypeVar("T")


class Change(NamedTuple, Generic[T]):
    """write: in the transaction, Refused before it writes. after: once it is committed: tell whom it concerns."""

    write: Callable[[Tables], T]
    after: Callable[[T], Awaitable[None] | None]

    async def apply(self, store: GroupCommit) -> T:
        result = await store.write(self.write)
        told = self.after(result)
        if told is not None:
            await told
        return result
