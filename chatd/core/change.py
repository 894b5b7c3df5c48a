"""A change of the store, and notifying those it concerns.

Owns: Change. A command of the chatserver wire and a request of the mobileimsdk wire that mean the same share one.
Elsewhere: the changes (core.friends, core.groups, core.requests).
Fails: with what `write` raises; then nothing was changed and `after` is not called.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Generic, NamedTuple, TypeVar

from chatd.store.contract import Tables
from chatd.store.group_commit import GroupCommit

T = TypeVar("T")


def _nothing() -> None:
    pass


def _tell_nobody(result: object) -> None:
    pass


class Change(NamedTuple, Generic[T]):
    """write: called in the transaction. It raises Refused before it writes anything, or gives the result.
    after: called with the result once it is committed, to notify those it concerns. over: called last, whatever came of
    the change."""

    write: Callable[[Tables], T]
    after: Callable[[T], Awaitable[None] | None] = _tell_nobody
    over: Callable[[], None] = _nothing

    async def apply(self, store: GroupCommit) -> T:
        """Write, commit, notify. Raises Refused, Unavailable: nothing was changed and nobody was notified."""
        try:
            result = await store.write(self.write)
            await self.tell(result)
        finally:
            self.over()
        return result

    async def tell(self, result: T) -> None:
        """The change is committed with this result."""
        notifying = self.after(result)
        if notifying is not None:
            await notifying
