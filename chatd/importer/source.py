"""The old server's database, as it is read.

Owns: the connections, which tables there are, and what their bytes mean as text.
Not here: what becomes of the rows (takeover.people, takeover.groups, takeover.waiting).
Fails: BootError 69 when it cannot be read, 78 when the tables are not there.

The old server told its database a character set (SET NAMES) that its clients' UTF-8 need not have been. Read back
through the same one, the bytes are those the clients sent; so they are taken for UTF-8 first.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import MySQLdb
import MySQLdb.cursors

from chatd.config.urls import MysqlAddress
from chatd.errors import BootError, Exit

TABLES = {
    "user": ("id", "name", "password"),
    "friend": ("userid", "friendid"),
    "allgroup": ("id", "groupname", "groupdesc"),
    "groupuser": ("groupid", "userid", "grouprole"),
    "offlinemessage": ("userid", "message"),
}
CHARSETS = {"utf8mb4": "utf-8", "utf8": "utf-8", "gbk": "gb18030", "latin1": "cp1252", "big5": "big5hkscs"}
"""Of MySQL, and what Python calls it."""
_PAGE = 1000


class Friends(NamedTuple):
    """Two users, in how many rows, and whether both directions are among them."""

    low: int | None
    high: int | None
    rows: int
    both: bool


class OldTables:
    """Opened and closed for each question, but for users(), which come page by page."""

    def __init__(self, address: MysqlAddress, charset: str, misread: Callable[[str], None]) -> None:
        """misread: told where a text was not UTF-8."""
        self.name = str(address)
        self._address, self._charset, self._misread = address, charset, misread
        found = {row[0].decode().lower(): row[0].decode() for row in self._rows("SHOW TABLES")}
        missing = [name for name in TABLES if name not in found]
        if missing:
            text = f"{self.name}: has no table {', '.join(missing)}: is this the old server's database?"
            raise BootError(text, Exit.CONFIG)
        self._tables = {name: f"`{found[name]}`" for name in TABLES}
        (twice,) = next(self._rows(f"SELECT count(*) - count(DISTINCT id) FROM {self._tables['user']}"))
        self._user_order = "id, name" if twice else "id"
        """The same every time, also where a table has lost its key; by the key alone it is faster."""

    def others(self) -> int:
        """Other connections to this database: perhaps the old server's."""
        query = "SELECT count(*) FROM information_schema.processlist WHERE db = DATABASE() AND id <> CONNECTION_ID()"
        return int(next(self._rows(query))[0])

    def counter(self, table: str) -> int:
        """The highest number ever given, as far as the table knows."""
        name = self._tables[table]
        (highest,) = next(self._rows(f"SELECT COALESCE(max(id), 0) FROM {name}"))
        given = next(self._rows(f"SHOW TABLE STATUS WHERE name = '{name[1:-1]}'"))[10]
        return max(int(highest), int(given or 1) - 1)

    def count(self, table: str) -> int:
        return int(next(self._rows(f"SELECT count(*) FROM {self._tables[table]}"))[0])

    def users(self, after: int | None = None) -> Iterator[tuple[int, str | None, str | None]]:
        """(id, name, password) by id; those beyond `after`. One page is asked for when the one before is used up, so
        the caller may take its time."""
        for number, name, secret in self._users("password", after):
            yield int(number), self._text(name), self._text(secret)

    def names(self) -> Iterator[tuple[int, str, bool]]:
        """(id, name, whether there is a password) by id."""
        for number, name, has in self._users("COALESCE(LENGTH(password) > 0, 0)", None):
            yield int(number), self._told(name, "user.name") or "", bool(has)

    def _users(self, password: str, after: int | None) -> Iterator[tuple[Any, ...]]:
        start = f"SELECT id, name, {password} FROM {self._tables['user']}"
        while True:
            beyond = "" if after is None else f"WHERE id > {after:d}"
            page = list(self._rows(f"{start} {beyond} ORDER BY {self._user_order} LIMIT {_PAGE}"))
            yield from page
            if len(page) < _PAGE:
                return
            after = int(page[-1][0])

    def friends(self) -> Iterator[Friends]:
        """Sorted and joined by the database: a row says one direction."""
        rows = self._rows(
            "SELECT LEAST(userid, friendid) AS low, GREATEST(userid, friendid) AS high, count(*),"
            f" count(DISTINCT userid) FROM {self._tables['friend']} GROUP BY low, high ORDER BY low, high"
        )
        for low, high, count, directions in rows:
            yield Friends(low, high, int(count), directions == 2)

    def groups(self) -> Iterator[tuple[int, str, str]]:
        for number, name, text in self._rows(
            f"SELECT id, groupname, groupdesc FROM {self._tables['allgroup']} ORDER BY id"
        ):
            yield int(number), self._told(name, "allgroup") or "", self._told(text, "allgroup") or ""

    def members(self) -> Iterator[tuple[int | None, int | None, str]]:
        for group, user, role in self._rows(
            f"SELECT groupid, userid, grouprole FROM {self._tables['groupuser']} ORDER BY groupid, userid"
        ):
            yield group, user, self._text(role) or ""

    def offline(self) -> Iterator[tuple[int | None, bytes]]:
        """In the order they were written: the table has no number, so that of its rows on the disk."""
        for user, message in self._rows(f"SELECT userid, message FROM {self._tables['offlinemessage']}"):
            yield user, message or b""

    def text(self, data: bytes) -> str:
        """Of an offline message."""
        return self._told(data, "offlinemessage") or ""

    def _told(self, data: bytes | None, where: str) -> str | None:
        text = self._text(data)
        if text is not None and text.encode() != data:
            self._misread(where)
        return text

    def _text(self, data: bytes | None) -> str | None:
        if data is None:
            return None
        try:
            return data.decode()
        except UnicodeDecodeError:
            return data.decode(CHARSETS[self._charset], "replace")

    def _rows(self, query: str) -> Iterator[tuple[Any, ...]]:
        """Over a connection of its own, as they come: memory does not depend on how many."""
        try:
            with contextlib.closing(self._connect()) as db, contextlib.closing(db.cursor()) as cursor:
                cursor.execute(query)
                while rows := cursor.fetchmany(_PAGE):
                    yield from rows
        except MySQLdb.Error as error:
            text = error.args[1] if len(error.args) > 1 else str(error)
            raise BootError(f"{self.name}: {text}", Exit.UNAVAILABLE) from None

    def _connect(self) -> Any:
        address = self._address
        place: dict[str, Any] = {"host": "127.0.0.1" if address.host == "localhost" else address.host}
        if address.unix_socket:
            place = {"unix_socket": address.unix_socket}
        if address.ssl_ca:
            place |= {"ssl": {"ca": address.ssl_ca}, "ssl_mode": "VERIFY_IDENTITY"}
        db = MySQLdb.connect(
            **place, port=address.port, user=address.user, password=address.password, database=address.database,
            charset=self._charset, use_unicode=False, connect_timeout=10, cursorclass=MySQLdb.cursors.SSCursor,
            init_command="SET SESSION net_write_timeout = 3600",
        )  # fmt: skip
        db.query("SET SESSION TRANSACTION READ ONLY")
        return db
