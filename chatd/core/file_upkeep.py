"""Deleting files that were never sent, and content that no file has any more.

Owns: when it is done.
Elsewhere: which files and contents these are (store.file_contract), the places of content (chatd.files).
Fails: never; what store or place refuse is tried again.

One worker of each host does it; several hosts may delete the same content, which does no harm.
"""

from __future__ import annotations

from functools import partial

from chatd import wall_clock
from chatd.core.services import Services
from chatd.errors import Unavailable
from chatd.files.content import FileContent
from chatd.scoreboard import Row
from chatd.store.contract import Tables

EVERY_ROUNDS = 5
"""Rounds between two looks."""
_TOTALS_EVERY = 60
"""Looks between two counts of all files."""
_AT_ONCE = 50
"""Files of one transaction, which messages share."""


class FileUpkeep:
    """_looks: at the store, so far; _rounds: calls of round()."""

    def __init__(self, services: Services, row: Row, content: FileContent | None) -> None:
        self._store = services.store
        self._config = services.config
        self._leads = services.leads
        self._background = services.background
        self._log = services.log
        self._row = row
        self._content = content
        self._rounds = 0
        self._looks = 0
        self._working = False

    def round(self) -> None:
        """Once a second."""
        if self._content is None:
            return
        self._rounds += 1
        if self._rounds % EVERY_ROUNDS or self._working:
            return
        if self._leads():
            self._working = True
            self._background.start(self._run(self._content))
        else:
            self._row.files_stored = self._row.file_bytes_stored = self._looks = 0

    async def _run(self, content: FileContent) -> None:
        try:
            await self._work(content)
            if self._looks % _TOTALS_EVERY == 0:
                totals = await self._store.read(lambda tables: tables.files.totals())
                self._row.files_stored, self._row.file_bytes_stored = totals.files, totals.blob_bytes
            self._looks += 1
        except Unavailable as error:
            self._log.warning("files are not deleted now", why=str(error))
        finally:
            self._working = False

    async def _work(self, content: FileContent) -> None:
        """Raises Unavailable."""
        now_ms = wall_clock.now_ms()
        before_ms = now_ms - self._config().files.unfinished_s * 1000
        while self._leads() and await self._store.read(partial(_has_upkeep, before_ms, now_ms)):
            names = await self._store.write(partial(_expire, before_ms, now_ms))
            gone = [name for name in names if await self._delete(content, name)]
            await self._store.write(partial(_deleted, gone, now_ms))
            if len(gone) < len(names):  # they come again at the next look, with others
                return

    async def _delete(self, content: FileContent, name: str) -> bool:
        """False: it is still there."""
        try:
            await content.delete(name)
        except Unavailable as error:
            self._log.warning("the content of a file cannot be deleted now", content=name, why=str(error))
            return False
        except ValueError:  # a row that chatd has not written
            self._log.warning("the list of contents to be deleted has a name that is none", content=name)
        return True


def _has_upkeep(before_ms: int, now_ms: int, tables: Tables) -> bool:
    return tables.files.has_upkeep(before_ms, now_ms)


def _expire(before_ms: int, now_ms: int, tables: Tables) -> list[str]:
    tables.files.expire(before_ms, _AT_ONCE)
    return tables.files.doomed(now_ms, _AT_ONCE)


def _deleted(names: list[str], now_ms: int, tables: Tables) -> None:
    tables.files.deleted(names, now_ms)
