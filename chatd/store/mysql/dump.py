"""A MySQL store as chatctl reads and fills it, table by table.

Owns: the canonical rows of store.copy in the tables of store.mysql.schema, with the last number of each conversation;
an exclusive connection.
Elsewhere: serving a store (store.mysql.tables), the connection (store.mysql.connection).
Fails: BootError when it cannot be used, 75 when another program uses it; Unavailable and Again pass through.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence

from chatd.config.urls import MysqlAddress
from chatd.errors import BootError, Exit, Unavailable
from chatd.store.copy import COUNTED, IMPORTED, TABLES, Row, Table, Value, free_keys
from chatd.store.mysql import schema as mysql_schema
from chatd.store.mysql.connection import MysqlConnection, closed_unless_ready
from chatd.store.sql.send_keys import SendKeys
from chatd.store.sql.skeletons import with_hashes
from chatd.store.versions import check_version

_LIMIT_S = 24 * 3600.0
"""Longest wait for one statement: no client waits for an answer."""
_LINGER_S = 2
"""How long a connection that was just closed may still be listed by the server."""
_PAGE, _PAGE_CHARS = 5000, 4 * 1024 * 1024
"""Maximum rows, and about how many characters, read in one statement."""
_STATEMENT_BYTES = 1024 * 1024
_LOCK = "CONCAT('chatd.side:', MD5(DATABASE()))"
_COLUMN = {
    ("user", "name_key"): "CAST(name_key AS CHAR CHARACTER SET utf8mb4)",
    ("user", "profile"): "COALESCE(profile, '{}')",
}
_KEY = {("request", "fp"): "CAST(fp AS BINARY)"}
"""Compared as bytes, as everywhere else: the column's collation ignores spaces at the end."""


def patient(address: MysqlAddress) -> MysqlConnection:
    """A connection whose statements may take long."""
    return MysqlConnection(address, _LIMIT_S)


def alone_with(address: MysqlAddress) -> MysqlConnection:
    """A connection to a database that no server and no other chatctl is connected to. Raises: BootError 69, 75."""
    db = patient(address)
    try:
        if db.execute(f"SELECT GET_LOCK({_LOCK}, {_LINGER_S})").fetchone()[0] != 1:
            raise BootError(f"store {address}: another chatctl is working on it", Exit.TRY_AGAIN)
        until = time.monotonic() + _LINGER_S
        while (found := other_users(db)) and time.monotonic() < until:
            time.sleep(0.05)
        if found:
            raise BootError(f"store {address} is in use by {found}: stop the servers first", Exit.TRY_AGAIN)
    except Unavailable as error:
        raise BootError(f"store {address}: {error}", Exit.UNAVAILABLE) from None
    except BootError:
        db.discard()
        raise
    return db


def other_users(db: MysqlConnection) -> str:
    """The other users connected to the database, as far as our account may see them; "" = none."""
    rows = db.execute(
        "SELECT user, SUBSTRING_INDEX(host, ':', 1), count(*) FROM information_schema.processlist"
        " WHERE db = DATABASE() AND id <> CONNECTION_ID() GROUP BY 1, 2 ORDER BY 1, 2"
    )
    return ", ".join(f"{user}@{host} ({count} connections)" for user, host, count in rows)


class MysqlDump:
    """store.copy.StoreDump on one connection."""

    def __init__(self, address: MysqlAddress, create: bool, *, shared: bool = False) -> None:
        """create: the tables of an empty database are created. shared: servers may be at work: it is only read, after
        snapshot(), which sees one moment whatever they write. Raises: BootError 69, 75, 78."""
        self.name = str(address)
        self._shared = shared
        self._db = patient(address) if shared else alone_with(address)
        self._keys = SendKeys()
        with closed_unless_ready(self.name, self.close):
            self._prepare(create)

    def _prepare(self, create: bool) -> None:
        version, newest = mysql_schema.version_of(self._db), len(mysql_schema.MIGRATIONS)
        if not version and not create:
            raise BootError(f"store {self.name} does not exist: the database is empty", Exit.UNAVAILABLE)
        check_version(version, newest, version == 0, self.name)
        if not self._shared:
            mysql_schema.migrate(self._db, newest)
        self._db.execute("SET SESSION TRANSACTION ISOLATION LEVEL REPEATABLE READ")
        if self._db.execute("SHOW VARIABLES LIKE 'information_schema_stats_expiry'").fetchone():
            self._db.execute("SET SESSION information_schema_stats_expiry = 0")  # MySQL 8 would tell old counters

    def close(self) -> None:
        self._db.discard()

    def other_users(self) -> str:
        return "" if self._shared else other_users(self._db)

    def blind_spot(self) -> str:
        if self._shared:
            return ""
        sees_all = self._db.execute(
            "SELECT count(*) FROM information_schema.user_privileges WHERE privilege_type = 'PROCESS'"
            " AND REPLACE(grantee, CHAR(39), '') = CURRENT_USER()"
        ).fetchone()[0]
        text = f"{self.name}: servers that use another account are not seen: make sure that none is running"
        return "" if sees_all else text

    # ---------------------------------------------------------------- reading

    def snapshot(self) -> None:
        """In a transaction, so that a lost connection is an error and not another state."""
        self._db.rollback()
        self._db.begin("SELECT count(*) FROM meta")

    def rows(self, table: Table, after: Row) -> Iterator[Row]:
        """Page by page, so that memory is bounded."""
        columns = ", ".join(_COLUMN.get((table.name, name), f"`{name}`") for name in table.columns)
        keys = [_KEY.get((table.name, name), f"`{name}`") for name in table.columns[: table.keys]]
        start = f"SELECT {columns} FROM `{table.name}`"
        order = f"ORDER BY {', '.join(keys)} LIMIT"
        size = 250
        while True:
            page = self._db.execute(
                f"{start} {f'WHERE {_beyond(keys)}' if after else ''} {order} {size}", _bounds(after)
            ).fetchall()
            yield from page
            if len(page) < size:
                return
            after = page[-1][: table.keys]
            chars = sum(len(value) for row in page for value in row if isinstance(value, str))
            size = max(1, min(_PAGE, size * _PAGE_CHARS // (chars + 1)))

    def count(self, table: Table) -> int:
        return int(self._db.execute(f"SELECT count(*) FROM `{table.name}`").fetchone()[0])

    def counters(self) -> dict[str, int]:
        found = self._db.execute(
            "SELECT table_name, auto_increment FROM information_schema.tables WHERE table_schema = DATABASE()"
        )
        numbers = {str(name): int(number or 1) - 1 for name, number in found}
        return {name: numbers[name] for name in COUNTED}

    def read_note(self, key: str) -> str:
        row = self._db.execute("SELECT value FROM meta WHERE `key` = ?", (key,)).fetchone()
        return str(row[0]) if row else ""

    def notes(self, prefix: str) -> dict[str, str]:
        found = self._db.execute("SELECT `key`, value FROM meta WHERE `key` LIKE ?", (f"{prefix}%",))
        return {str(key): str(value) for key, value in found}

    # ---------------------------------------------------------------- filling

    def begin(self) -> None:
        """Ends the snapshot."""
        self._db.rollback()
        self._db.begin("SELECT 1")

    def commit(self) -> None:
        self._db.commit()

    def rollback(self) -> None:
        self._db.rollback()

    def write_note(self, key: str, value: str) -> None:
        if value:
            self._db.execute("REPLACE INTO meta VALUES (?, ?)", (key, value))
        else:
            self._db.execute("DELETE FROM meta WHERE `key` = ?", (key,))

    def raise_counters(self, counters: dict[str, int]) -> None:
        self._db.rollback()  # ends the snapshot
        now = self.counters()
        for name, number in counters.items():
            if number > now[name]:
                self._db.execute(f"ALTER TABLE `{name}` AUTO_INCREMENT = {number + 1:d}")

    def clear(self) -> None:
        self.begin()
        for name in (*(table.name for table in TABLES), "conversation"):
            self._db.execute(f"DELETE FROM `{name}`")
        self.write_note(IMPORTED, "")
        self.commit()

    def load(self, table: Table, rows: list[Row]) -> None:
        columns = table.columns
        match table.name:
            case "message":
                wanted = [self._keys.first(int(row[3] or 0), str(row[4])) if row[4] else None for row in rows]
                columns, rows = (*columns, "send_key"), self._keyed(rows, wanted, "message")
            case "request":
                wanted = [self._keys.first(int(row[0] or 0), str(row[1])) for row in rows]
                columns, rows = (*columns, "send_key"), self._keyed(rows, wanted, "request")
            case "user":
                columns, rows = with_hashes(table.columns, rows)
        self._insert(f"INSERT INTO `{table.name}` (`{'`, `'.join(columns)}`) VALUES ", rows)
        if table.name in ("team", "pair", "message"):
            self._number(table, rows)

    def _number(self, table: Table, rows: list[Row]) -> None:
        """Set the last number of each conversation; 0 if it has no messages."""
        match table.name:
            case "team":
                last = {-int(row[0] or 0): 0 for row in rows}
            case "pair":
                last = {int(row[0] or 0): 0 for row in rows}
            case _:
                last = {}
                for row in rows:
                    conversation, seq = int(row[1] or 0), int(row[2] or 0)
                    last[conversation] = max(seq, last.get(conversation, 0))
        end = " ON DUPLICATE KEY UPDATE last = GREATEST(last, VALUES(last))"
        self._insert("INSERT INTO conversation (id, last) VALUES ", sorted(last.items()), end)

    def _insert(self, start: str, rows: list[Row] | list[tuple[int, int]], end: str = "") -> None:
        """In as few statements as the server's limit on their length allows."""
        literal, head, tail = self._db.literal, start.encode(), end.encode()
        most = min(_STATEMENT_BYTES, self._db.packet_bytes - len(head) - len(tail) - 1024)
        parts: list[bytes] = []
        size = 0
        for row in rows:
            part = b"(" + b",".join([b"%d" % value if type(value) is int else literal(value) for value in row]) + b")"
            if parts and size + len(part) > most:
                self._db.query(head + b",".join(parts) + tail)
                parts, size = [], 0
            parts.append(part)
            size += len(part) + 1
        if parts:
            self._db.query(head + b",".join(parts) + tail)

    def _keyed(self, rows: list[Row], wanted: Sequence[Value], table: str) -> list[Row]:
        """Each row with the key that makes its (sender, fp) unique."""

        def in_use(keys: list[int]) -> set[int]:
            marks = ",".join(map(str, keys))
            query = f"SELECT send_key FROM `{table}` WHERE send_key IN ({marks})"
            return {int(row[0]) for row in self._db.query(query.encode())}

        return [(*row, key) for row, key in zip(rows, free_keys(wanted, in_use), strict=True)]


def _beyond(keys: list[str]) -> str:
    """In a form that makes MySQL use the index. Takes _bounds()."""
    first, *others = keys
    mark = "CAST(? AS BINARY)" if "BINARY" in first else "?"
    return f"{first} >= {mark} AND ({first} > {mark} OR ({_beyond(others)}))" if others else f"{first} > {mark}"


def _bounds(after: Row) -> Row:
    """Every value of the key twice, the last one once."""
    return (*(value for value in after[:-1] for _ in range(2)), *after[-1:])


def optimize(address: MysqlAddress, watch: Callable[[str, int, int], None]) -> Iterator[str]:
    """Rewrite every table, so that what deleted rows have left is given back; servers may be at work. Gives what the
    database server has to say against it. Raises Unavailable."""
    db = patient(address)
    try:
        tables = [str(name) for (name,) in db.execute("SHOW TABLES").fetchall()]
        watch("tables", 0, len(tables))
        for table in tables:
            for row in db.execute(f"OPTIMIZE TABLE `{table}`").fetchall():
                if str(row[2]).lower() in ("error", "warning"):
                    yield f"{table}: {row[3]}"
            watch("tables", 1, len(tables))
    finally:
        db.discard()
