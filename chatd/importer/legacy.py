"""The database of the legacy server, which is only read.

Owns: the connections, which tables are expected, and what their bytes mean as text.
Elsewhere: importing the rows (importer.accounts, importer.groups, importer.offline_messages).
Fails: BootError 69 when it cannot be read, 78 when the tables are missing.

The legacy server declared a character set to its database (SET NAMES), which need not be the UTF-8 that its clients
sent. Read back with the same declaration, the bytes are those that the clients sent; so UTF-8 is tried first.
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
"""The character sets of MySQL, and the names that Python has for them."""
_PAGE = 1000
_SAMPLED = 5000
"""Rows of a table that are looked at to guess the character set."""


LegacyUser = tuple[int, str | None, str | None]
"""(id, name, password)"""


class Friendship(NamedTuple):
    """Two users who are friends in at least one row."""

    low: int | None
    high: int | None
    rows: int
    both: bool
    """Whether each of the two has the other."""


class LegacyDatabase:
    """Every method opens its own connection; users() one per page."""

    def __init__(self, address: MysqlAddress, charset: str, misread: Callable[[str], None]) -> None:
        """charset: of CHARSETS, as the legacy server declared it. misread: called with the place of a text that is not
        UTF-8. Raises: BootError."""
        self.name = str(address)
        self.charset = charset
        """May be changed before anything is read but samples."""
        self._address, self._misread = address, misread
        found = {row[0].decode().lower(): row[0].decode() for row in self._rows("SHOW TABLES")}
        missing = [name for name in TABLES if name not in found]
        if missing:
            text = f"{self.name} has no table {', '.join(missing)}: is this the database of the legacy server?"
            raise BootError(text, Exit.CONFIG)
        self._tables = {name: f"`{found[name]}`" for name in TABLES}
        (twice,) = next(self._rows(f"SELECT count(*) - count(DISTINCT id) FROM {self._tables['user']}"))
        self._user_order = "id, name" if twice else "id"
        """An order that is the same every time, even if the table has no primary key; ordering by the key alone is
        faster."""

    def other_users(self) -> str:
        """The others that are connected to this database, perhaps the legacy server; "" = none that our account may
        see."""
        rows = self._rows(
            "SELECT user, SUBSTRING_INDEX(host, ':', 1), count(*) FROM information_schema.processlist"
            " WHERE db = DATABASE() AND id <> CONNECTION_ID() GROUP BY 1, 2 ORDER BY 1, 2"
        )
        return ", ".join(f"{user.decode()}@{host.decode()} ({count} connections)" for user, host, count in rows)

    def sample(self, charset: str) -> list[bytes]:
        """The texts of the first rows of each table, in an order that is the same every time. charset: of CHARSETS."""
        before, self.charset = self.charset, charset
        try:
            return [text or b"" for query in self._samples() for row in self._rows(query) for text in row]
        finally:
            self.charset = before

    def _samples(self) -> Iterator[str]:
        yield f"SELECT name FROM {self._tables['user']} ORDER BY {self._user_order} LIMIT {_SAMPLED}"
        yield f"SELECT groupname, groupdesc FROM {self._tables['allgroup']} ORDER BY id LIMIT {_SAMPLED}"
        yield f"SELECT message FROM {self._tables['offlinemessage']} LIMIT {_SAMPLED}"

    def counter(self, table: str) -> int:
        """The highest id ever used, as far as the table knows."""
        name = self._tables[table]
        (highest,) = next(self._rows(f"SELECT COALESCE(max(id), 0) FROM {name}"))
        given = next(self._rows(f"SHOW TABLE STATUS WHERE name = '{name[1:-1]}'"))[10]
        return max(int(highest), int(given or 1) - 1)

    def count(self, table: str) -> int:
        return int(next(self._rows(f"SELECT count(*) FROM {self._tables[table]}"))[0])

    def users(self, after: int | None = None) -> Iterator[LegacyUser]:
        """By id; those beyond `after`. A page is read when the previous one is used up, so the caller may be slow."""
        for number, name, secret in self._users("password", after):
            yield int(number), self._text(name), self._text(secret)

    def names(self) -> Iterator[tuple[int, str, bool]]:
        """(id, name, whether there is a password) by id."""
        for number, name, has in self._users("COALESCE(LENGTH(password) > 0, 0)", None):
            yield int(number), self._reported(name, "user.name") or "", bool(has)

    def _users(self, password: str, after: int | None) -> Iterator[tuple[Any, ...]]:
        start = f"SELECT id, name, {password} FROM {self._tables['user']}"
        while True:
            beyond = "" if after is None else f"WHERE id > {after:d}"
            page = list(self._rows(f"{start} {beyond} ORDER BY {self._user_order} LIMIT {_PAGE}"))
            yield from page
            if len(page) < _PAGE:
                return
            after = int(page[-1][0])

    def friends(self) -> Iterator[Friendship]:
        """Both directions as one, sorted by the database."""
        rows = self._rows(
            "SELECT LEAST(userid, friendid) AS low, GREATEST(userid, friendid) AS high, count(*),"
            f" count(DISTINCT userid) FROM {self._tables['friend']} GROUP BY low, high ORDER BY low, high"
        )
        for low, high, count, directions in rows:
            yield Friendship(low, high, int(count), directions == 2)

    def groups(self) -> Iterator[tuple[int, str, str]]:
        for number, name, text in self._rows(
            f"SELECT id, groupname, groupdesc FROM {self._tables['allgroup']} ORDER BY id"
        ):
            yield int(number), self._reported(name, "allgroup") or "", self._reported(text, "allgroup") or ""

    def members(self) -> Iterator[tuple[int | None, int | None, str]]:
        for group, user, role in self._rows(
            f"SELECT groupid, userid, grouprole FROM {self._tables['groupuser']} ORDER BY groupid, userid"
        ):
            yield group, user, self._text(role) or ""

    def offline(self) -> Iterator[tuple[int | None, bytes]]:
        """In the order in which they were written. The table has no id, so that is the order of its rows on disk."""
        for user, message in self._rows(f"SELECT userid, message FROM {self._tables['offlinemessage']}"):
            yield user, message or b""

    def text(self, data: bytes) -> str:
        """The text of an offline message."""
        return self._reported(data, "offlinemessage") or ""

    def _reported(self, data: bytes | None, where: str) -> str | None:
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
            return data.decode(CHARSETS[self.charset], "replace")

    def _rows(self, query: str) -> Iterator[tuple[Any, ...]]:
        """One by one, so that memory does not depend on their number."""
        try:
            with contextlib.closing(self._connect()) as db, contextlib.closing(db.cursor()) as cursor:
                cursor.execute(query)
                while rows := cursor.fetchmany(_PAGE):
                    yield from rows
        except MySQLdb.Error as error:
            text = error.args[1] if len(error.args) > 1 else str(error)
            raise BootError(f"legacy database {self.name}: {text}", Exit.UNAVAILABLE) from None

    def _connect(self) -> Any:
        address = self._address
        place: dict[str, Any] = {"host": "127.0.0.1" if address.host == "localhost" else address.host}
        if address.unix_socket:
            place = {"unix_socket": address.unix_socket}
        if address.ssl_ca:
            place |= {"ssl": {"ca": address.ssl_ca}, "ssl_mode": "VERIFY_IDENTITY"}
        db = MySQLdb.connect(
            **place, port=address.port, user=address.user, password=address.password, database=address.database,
            charset=self.charset, use_unicode=False, connect_timeout=10, cursorclass=MySQLdb.cursors.SSCursor,
            init_command="SET SESSION net_write_timeout = 3600",
        )  # fmt: skip
        db.query("SET SESSION TRANSACTION READ ONLY")
        return db
