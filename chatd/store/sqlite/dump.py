"""An SQLite store as chatctl reads and fills it, table by table.

Owns: the canonical rows of store.copy in the tables of store.sqlite.schema, with the index tables of the messages.
Elsewhere: serving a store (store.sqlite.tables), opening the file (store.sqlite.file).
Fails: BootError when it cannot be opened, 75 when another process has it open; sqlite3.Error passes through.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

from chatd.store.copy import COUNTED, IMPORTED, TABLES, Row, Table, Value, free_keys
from chatd.store.sql.send_keys import SendKeys
from chatd.store.sql.skeletons import with_hashes
from chatd.store.sqlite import file as sqlite_file


class SqliteDump:
    """store.copy.StoreDump. It holds the write lock all the time, so that no server can open the file."""

    def __init__(self, path: Path, create: bool) -> None:
        """create: a missing file is created. Raises: BootError 69, 75, 78."""
        self.name = f"sqlite:{path}"
        with sqlite_file.opening(path, create=create, exclusive=True) as self._file:
            sqlite_file.make_ready(self._file.db, path, create=create, fill=True)
        self._db = self._file.db
        self._keys = SendKeys()

    def other_users(self) -> str:
        return ""

    def blind_spot(self) -> str:
        return ""

    def close(self) -> None:
        self._file.close()

    # ---------------------------------------------------------------- reading

    def snapshot(self) -> None:
        """Nothing to do: no one else can write."""

    def rows(self, table: Table, after: Row) -> Iterator[Row]:
        keys = ", ".join(table.columns[: table.keys])
        where = f"WHERE ({keys}) > ({', '.join('?' * table.keys)})" if after else ""
        query = f"SELECT {', '.join(table.columns)} FROM {table.name} {where} ORDER BY {keys}"
        yield from self._db.execute(query, after)

    def count(self, table: Table) -> int:
        return int(self._db.execute(f"SELECT count(*) FROM {table.name}").fetchone()[0])

    def counters(self) -> dict[str, int]:
        found = dict(self._db.execute("SELECT name, seq FROM sqlite_sequence").fetchall())
        return {name: int(found.get(name, 0)) for name in COUNTED}

    def read_note(self, key: str) -> str:
        row = self._db.execute("SELECT value FROM meta WHERE key = ?", (key,)).fetchone()
        return str(row[0]) if row else ""

    def notes(self, prefix: str) -> dict[str, str]:
        return dict(self._db.execute("SELECT key, value FROM meta WHERE key LIKE ?", (f"{prefix}%",)).fetchall())

    # ---------------------------------------------------------------- filling

    def begin(self) -> None:
        self._db.execute("BEGIN IMMEDIATE")

    def commit(self) -> None:
        self._db.execute("COMMIT")

    def rollback(self) -> None:
        if self._db.in_transaction:
            self._db.execute("ROLLBACK")

    def write_note(self, key: str, value: str) -> None:
        if value:
            self._db.execute("INSERT OR REPLACE INTO meta VALUES (?, ?)", (key, value))
        else:
            self._db.execute("DELETE FROM meta WHERE key = ?", (key,))

    def raise_counters(self, counters: dict[str, int]) -> None:
        for name, number in counters.items():
            made = self._db.execute("UPDATE sqlite_sequence SET seq = max(seq, ?2) WHERE name = ?1", (name, number))
            if not made.rowcount:
                self._db.execute("INSERT INTO sqlite_sequence VALUES (?, ?)", (name, number))

    def clear(self) -> None:
        self.begin()
        for name in (*(table.name for table in TABLES), "place", "sent"):
            self._db.execute(f"DELETE FROM {name}")
        self._db.execute("UPDATE meta SET value = '0' WHERE key = 'merged'")
        self.write_note(IMPORTED, "")
        self.commit()

    def load(self, table: Table, rows: list[Row]) -> None:
        match table.name:
            case "message":
                self._load_messages(table, rows)
            case "request":
                self._load_requests(table, rows)
            case "user":
                self._insert(table.name, *with_hashes(table.columns, rows))
            case _:
                self._insert(table.name, table.columns, rows)

    def _insert(self, table: str, columns: tuple[str, ...], rows: list[Row]) -> None:
        places = ", ".join("?" * len(columns))
        self._db.executemany(f"INSERT INTO {table} ({', '.join(columns)}) VALUES ({places})", rows)

    def _insert_keyed(self, table: Table, rows: list[Row], keys: list[Value]) -> None:
        """Each row with the key that makes its (sender, fp) unique."""
        keyed: list[Row] = [(*row, key) for row, key in zip(rows, keys, strict=True)]
        self._insert(table.name, (*table.columns, "send_key"), keyed)

    def _load_messages(self, table: Table, rows: list[Row]) -> None:
        """With their index entries, so that there are no unindexed rows."""
        first = self._keys.first
        wanted = [first(int(row[3] or 0), str(row[4])) if row[4] else None for row in rows]
        keys = free_keys(wanted, self._in_use("sent"))
        self._insert_keyed(table, rows, keys)
        self._db.executemany("INSERT INTO place VALUES (?, ?, ?)", sorted((row[1], row[2], row[0]) for row in rows))
        sent = sorted((key, row[0]) for row, key in zip(rows, keys, strict=True) if key is not None)
        self._db.executemany("INSERT INTO sent VALUES (?, ?)", sent)
        self._db.execute("UPDATE meta SET value = ? WHERE key = 'merged'", (str(rows[-1][0]),))

    def _load_requests(self, table: Table, rows: list[Row]) -> None:
        wanted = [self._keys.first(int(row[0] or 0), str(row[1])) for row in rows]
        self._insert_keyed(table, rows, free_keys(wanted, self._in_use("request")))

    def _in_use(self, table: str) -> Callable[[list[int]], set[int]]:
        def in_use(keys: list[int]) -> set[int]:
            query = f"SELECT send_key FROM {table} WHERE send_key IN ({','.join('?' * len(keys))})"
            return {row[0] for row in self._db.execute(query, keys)}

        return in_use
