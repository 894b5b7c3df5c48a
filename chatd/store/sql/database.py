"""What the SQL that both twins share is run on.

Owns: Database and Rows, the part of sqlite3.Connection that store.sql.accounts, store.sql.groups and store.sql.history
use; a twin that speaks another protocol offers the same (store.mysql.connection).
Not here: transactions, which every twin has its own way of.
Fails: as the twin does.

The shared SQL is what both dialects take: `?` for a value, REPLACE INTO, `key` and `cursor` between backquotes.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, Protocol


class Rows(Protocol):
    """Of one statement. lastrowid: the number the store gave to the row it inserted."""

    @property
    def lastrowid(self) -> int | None: ...

    def fetchone(self) -> Any: ...

    def fetchall(self) -> list[Any]: ...

    def __iter__(self) -> Iterator[Any]: ...


class Database(Protocol):
    def execute(self, sql: str, parameters: Sequence[Any] = ..., /) -> Rows: ...
