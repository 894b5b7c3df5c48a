"""Asking the store something now and then, so that even a worker whose clients do not use it notices when it does not
answer.

Owns: when it is asked.
Elsewhere: what follows from a missing answer (store.group_commit, which keeps Row.store_ok).
Fails: never; a missing answer is logged.
"""

from __future__ import annotations

from chatd import log
from chatd.background import BackgroundTasks
from chatd.errors import Unavailable
from chatd.model import UserId
from chatd.store.group_commit import GroupCommit

EVERY_ROUNDS = 3
"""Rounds between two questions."""


class StoreProbe:
    def __init__(self, store: GroupCommit, background: BackgroundTasks) -> None:
        self._store = store
        self._background = background
        self._log = log.get()
        self._rounds = 0
        self._asking = False
        """A question is under way."""

    def round(self) -> None:
        """Once a second."""
        self._rounds += 1
        if self._rounds % EVERY_ROUNDS == 0 and not self._asking:
            self._asking = True
            self._background.start(self._ask())

    async def _ask(self) -> None:
        nobody: UserId = 0
        try:
            await self._store.read(lambda tables: tables.accounts.last_seen(nobody))
        except Unavailable as error:
            self._log.warning("the store does not answer", why=str(error))
        finally:
            self._asking = False
