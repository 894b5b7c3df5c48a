"""One connection to MySQL or MariaDB, which is discarded as soon as anything is wrong with it.

Owns: the settings of the session, time limits, reconnecting, and what an error of the server means.
Elsewhere: the SQL (store.sql, store.mysql); addresses (config.urls).
Fails: Again when two transactions conflicted (a deadlock, a lock wait, a unique key): the connection is kept, and the
transaction is to be rolled back; and when the server closed the connection in the middle of a transaction. Unavailable
for everything else: the connection is then discarded (P12), so a late answer is never taken for the answer to another
statement. The text of an error never contains a password or a message.
"""

from __future__ import annotations

import contextlib
import math
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import MySQLdb

from chatd.config.urls import MysqlAddress
from chatd.errors import BootError, Exit, Unavailable
from chatd.store.contract import Again

_DUPLICATE_KEY = 1062
_MET_ANOTHER = (1205, 1213)
"""A lock wait that took too long, a deadlock."""
_COMMIT = b"COMMIT"
_CLOSED = (2006, 2013)
"""The server had closed the connection, or closes it now."""
_MODE = "STRICT_ALL_TABLES,NO_ZERO_DATE,NO_ZERO_IN_DATE,ERROR_FOR_DIVISION_BY_ZERO,NO_ENGINE_SUBSTITUTION"
_FIRST_PAUSE_S, _LONGEST_PAUSE_S = 0.1, 1.0
"""Between two attempts to connect; each pause is twice the one before."""


class DuplicateKey(Again):
    """A unique key is in use: the statement did nothing, and the transaction may continue."""


class StoredRows:
    """The result of a statement, read completely: nothing is left on the connection. See store.sql.database.Rows."""

    __slots__ = ("_rows", "lastrowid")

    def __init__(self, rows: Sequence[Any], lastrowid: int) -> None:
        self._rows = iter(rows)
        self.lastrowid: int | None = lastrowid

    def fetchone(self) -> Any:
        return next(self._rows, None)

    def fetchall(self) -> list[Any]:
        return list(self._rows)

    def __iter__(self) -> Iterator[Any]:
        return self._rows


class MysqlConnection:
    """Connects when it is first used, and again after it was discarded."""

    def __init__(self, address: MysqlAddress, limit_s: float) -> None:
        """limit_s: longest wait for connecting, and for each statement."""
        self.address = address
        self.session_lock = ""
        """The name of a lock that the server holds as long as the session of this connection exists."""
        self.packet_bytes = 1 << 20
        """The longest statement that the server accepts."""
        self.on_connect: Callable[[MysqlConnection], None] | None = None
        """Called with each new connection before it is used; raises Unavailable if it must not be used."""
        self._limit_s = limit_s
        self._db: Any = None
        """None: not connected."""
        self._inside = False
        """In a transaction."""
        self._patterns: dict[str, bytes] = {}
        """Statements with %s instead of ?, by their SQL."""
        self._pause_s = 0.0
        self._not_before = 0.0
        """No attempt to connect before this time (monotonic)."""
        self._why = ""
        """Why the last attempt failed."""

    # ---------------------------------------------------------------- statements

    def execute(self, sql: str, parameters: Sequence[Any] = (), /) -> StoredRows:
        """`?` stands for a value. Outside a transaction, every statement is its own transaction."""
        pattern = self._patterns.get(sql)
        if pattern is None:
            pattern = self._patterns[sql] = sql.replace("%", "%%").replace("?", "%s").encode()
        self.open()
        return self.query(pattern % tuple(map(self.literal, parameters)))

    def literal(self, value: int | str | None) -> bytes:
        """The value as it is written in a statement. A lone surrogate, which no wire lets through, becomes "?"."""
        if value is None:
            return b"NULL"
        if isinstance(value, str):
            return bytes(self._db.string_literal(value.encode("utf-8", "replace")))
        return b"%d" % value

    def query(self, statement: bytes) -> StoredRows:
        """A complete statement, with its values in it."""
        return self.query_all(statement)[-1]

    def query_all(self, *statements: bytes) -> list[StoredRows]:
        """Several in one round trip, run in order until one fails. If the server had closed the connection, they are
        run again on a new one, provided that they are outside a transaction and begin with SELECT or BEGIN. Raises
        Again and Unavailable."""
        statement = b";".join(statements)
        used = self._db is not None
        self.open()
        begun = time.monotonic()
        try:
            return self._run(statement)
        except MySQLdb.Error as error:
            soon = time.monotonic() - begun < self._limit_s / 2
            harmless = not self._inside and statement.startswith((b"SELECT", b"BEGIN"))
            closed = used and soon and _code(error) in _CLOSED
            if closed and self._inside and statement != _COMMIT:
                self.discard()
                raise Again("the connection was closed before COMMIT") from error
            if not (closed and harmless):
                raise self._failure(error) from error
        self.discard()
        self.open()
        try:
            return self._run(statement)
        except MySQLdb.Error as error:
            raise self._failure(error) from error

    def _run(self, statement: bytes) -> list[StoredRows]:
        db = self._db
        db.query(statement)
        answers = []
        while True:
            result = db.store_result()
            answers.append(StoredRows(result.fetch_row(0, 0) if result is not None else (), db.insert_id()))
            if db.next_result() != 0:
                return answers

    def _failure(self, error: MySQLdb.Error) -> Exception:
        if _code(error) == _DUPLICATE_KEY:
            return DuplicateKey("a unique key is in use")
        if _code(error) in _MET_ANOTHER:
            return Again(str(_code(error)))
        self.discard()
        return Unavailable(f"mysql: {_text(error)}")

    # ---------------------------------------------------------------- transactions

    def begin(self, question: str) -> StoredRows:
        """Start a transaction; returns the result of `question`, in the same round trip."""
        answers = self.query_all(b"BEGIN", question.encode())
        self._inside = True
        return answers[-1]

    def commit(self) -> None:
        """Raises: Unavailable: the connection is lost, and the fate of the transaction is not known."""
        try:
            self.query(_COMMIT)
        finally:
            self._inside = False

    def rollback(self) -> None:
        """Never raises: a connection that cannot roll back is discarded, which rolls back too."""
        if self._inside and self._db is not None:
            with contextlib.suppress(Again, Unavailable):
                self.query(b"ROLLBACK")
        self._inside = False

    # ---------------------------------------------------------------- the connection

    def open(self) -> None:
        """Connected when it returns. A transaction does not continue on a new connection. Raises: Unavailable."""
        if self._db is not None:
            return
        if self._inside:
            raise Unavailable(f"mysql: {self._why or 'the transaction is gone'}")
        if time.monotonic() < self._not_before:
            raise Unavailable(f"mysql: {self._why}")
        try:
            self._connect()
        except MySQLdb.Error as error:
            self.discard()
            self._why = _text(error)
            self._pause_s = min(max(_FIRST_PAUSE_S, 2 * self._pause_s), _LONGEST_PAUSE_S)
            self._not_before = time.monotonic() + self._pause_s
            raise Unavailable(f"mysql: {self._why}") from error
        self._pause_s = 0.0
        if self.on_connect is not None:
            try:
                self.on_connect(self)
            except Unavailable:
                self.discard()
                raise

    def _connect(self) -> None:
        address, seconds = self.address, math.ceil(self._limit_s)
        place: dict[str, Any] = {"host": "127.0.0.1" if address.host == "localhost" else address.host}
        if address.unix_socket:
            place = {"unix_socket": address.unix_socket}
        if address.ssl_ca:
            place |= {"ssl": {"ca": address.ssl_ca}, "ssl_mode": "VERIFY_IDENTITY"}
        self._db = MySQLdb.connect(
            **place, port=address.port, user=address.user, password=address.password, database=address.database,
            charset="utf8mb4", collation="utf8mb4_bin", sql_mode=_MODE, autocommit=True, local_infile=False,
            connect_timeout=seconds, read_timeout=seconds, write_timeout=seconds,
        )  # fmt: skip
        # A client that is cut off in the middle of a transaction must not keep its locks for the usual eight hours.
        if "MariaDB" in self._db.get_server_info():
            limit = f"max_statement_time = {self._limit_s:.3f}, SESSION idle_transaction_timeout = {seconds}"
        else:
            limit = f"max_execution_time = {self._limit_s * 1000:.0f}, SESSION wait_timeout = {5 * seconds}"
        self.session_lock = f"chatd:{uuid.uuid4().hex}"
        settings = (
            "SET SESSION TRANSACTION ISOLATION LEVEL READ COMMITTED;"
            f"SET SESSION innodb_lock_wait_timeout = {max(1, seconds - 1)}, SESSION {limit};"
            f"SELECT GET_LOCK('{self.session_lock}', 0), @@max_allowed_packet"
        )
        _, self.packet_bytes = self._run(settings.encode())[-1].fetchone()

    def discard(self) -> None:
        """Close the connection; the server rolls back what was not committed."""
        if self._db is not None:
            with contextlib.suppress(MySQLdb.Error):
                self._db.close()
        self._db = None


@contextlib.contextmanager
def closed_unless_ready(name: str, close: Callable[[], None]) -> Iterator[None]:
    """While a store is opened and its schema is checked: on failure it is closed. name: the store's, without password.

    Raises: BootError 69 where the body raises Unavailable; a BootError of the body as it is.
    """
    try:
        yield
    except Unavailable as error:
        close()
        raise BootError(f"store {name}: {error}", Exit.UNAVAILABLE) from None
    except BootError:
        close()
        raise


def _code(error: MySQLdb.Error) -> int:
    return error.args[0] if error.args and isinstance(error.args[0], int) else 0


def _text(error: MySQLdb.Error) -> str:
    """The server's text, if it is about the server. A text about a statement may quote a message, so only its number is
    returned."""
    if isinstance(error, MySQLdb.OperationalError | MySQLdb.InterfaceError) and len(error.args) > 1:
        return f"{error.args[1]} ({_code(error)})"
    return f"error {_code(error)}"
