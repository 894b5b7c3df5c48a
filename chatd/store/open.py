"""Opening a store: the one way, for workers, chatctl and tests.

Owns: choosing the implementation that an address names, and whether a missing store may be created.
Elsewhere: how each twin opens, checks and prepares its store (store.sqlite.tables, store.sqlite.dump,
store.mysql.tables, store.mysql.dump); the syntax of an address (config.urls).
Fails: BootError: 78 for an invalid address, a schema or state this program must not use, or mysqlclient
missing; 69 when the store does not exist or cannot be used; 75 when it is in use and would have to be exclusive.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import msgspec

from chatd.config.schema import Config
from chatd.config.urls import MysqlAddress, parse_mysql
from chatd.errors import BootError, Exit, Unavailable
from chatd.store.bridge_contract import OutgoingTables
from chatd.store.check import StoreCheck
from chatd.store.contract import Tables
from chatd.store.copy import StoreDump
from chatd.store.event_contract import EventTables
from chatd.store.push_contract import MissedPart
from chatd.store.sqlite import file as sqlite_file
from chatd.store.sqlite.check import SqliteCheck
from chatd.store.sqlite.dump import SqliteDump
from chatd.store.sqlite.event_reader import SqliteEventReader
from chatd.store.sqlite.file import check_schema as check_sqlite_schema
from chatd.store.sqlite.tables import open_tables as open_sqlite_tables


class StoreLocation(msgspec.Struct, frozen=True):
    """Where a store is: a file or a database, exactly one of the two. Its text form has no password."""

    path: Path | None = None
    mysql: MysqlAddress | None = None

    def __str__(self) -> str:
        return str(self.mysql) if self.path is None else f"sqlite:{self.path}"


def locate(url: str, state_dir: str) -> StoreLocation:
    """url: as store.url in the configuration; a relative path is taken from state_dir. Raises: BootError 78."""
    scheme, _, rest = url.partition(":")
    if scheme == "sqlite":
        if not rest:
            raise BootError(f"store {url} needs a file name, as in sqlite:chatd.db", Exit.CONFIG)
        return StoreLocation(path=Path(state_dir, rest))
    if scheme == "mysql":
        return StoreLocation(mysql=mysql_address(url))
    text = "unknown kind of store (supported: sqlite:FILE and mysql://USER:PASSWORD@HOST:PORT/DB)"
    raise BootError(f"store {scheme}: {text}", Exit.CONFIG)


def configured(config: Config) -> StoreLocation:
    """The store that this configuration names."""
    return locate(config.store.url, config.server.state_dir)


def open_tables(location: StoreLocation, limit_s: float, *, create: bool, patient: bool = False) -> Tables:
    """The store as a server uses it, and chatctl beside a running server.

    limit_s: longest wait for each answer of a database server. create: a missing store is created; otherwise it is an
    error, and nothing is created. patient: a database server that cannot be reached now is no error; everything raises
    Unavailable until it can be reached and its schema has been checked. Raises: BootError."""
    if location.path is not None:
        return open_sqlite_tables(location.path, create=create)
    with needing_mysqlclient():
        from chatd.store.mysql.tables import open_tables as open_mysql_tables
    return open_mysql_tables(_mysql(location), limit_s, create=create, patient=patient)


def check_schema(location: StoreLocation, limit_s: float) -> None:
    """Whether a server may be upgraded to this program while it uses the store. Changes nothing. Raises: BootError."""
    if location.path is not None:
        check_sqlite_schema(location.path)
        return
    with needing_mysqlclient():
        from chatd.store.mysql.tables import check_schema as check_mysql_schema
    check_mysql_schema(_mysql(location), limit_s)


def open_readers(location: StoreLocation, limit_s: float, count: int) -> list[Tables]:
    """More tables of a store that open_tables() has opened, for threads that read beside the commits. None for SQLite:
    there, the store thread reads."""
    if location.path is not None:
        return []
    with needing_mysqlclient():
        from chatd.store.mysql.tables import open_reader
    return [open_reader(_mysql(location), limit_s) for _ in range(count)]


class EventReader(NamedTuple):
    """A connection that only reads what others are told in order, for one thread at a time."""

    events: EventTables
    outgoing: OutgoingTables
    missed: Callable[[int, int], MissedPart]
    """PushTables.missed()."""
    close: Callable[[], None]


def open_event_reader(location: StoreLocation, limit_s: float) -> EventReader:
    """Of a store that open_tables() has opened, beside its commits. Raises: sqlite3.Error."""
    if location.path is not None:
        sqlite_reader = SqliteEventReader(location.path)
        return EventReader(sqlite_reader.events, sqlite_reader.outgoing, sqlite_reader.missed, sqlite_reader.close)
    with needing_mysqlclient():
        from chatd.store.mysql.tables import open_reader
    mysql_reader = open_reader(_mysql(location), limit_s)
    return EventReader(mysql_reader.events, mysql_reader.outgoing, mysql_reader.push.missed, mysql_reader.close)


def open_dump(location: StoreLocation, *, create: bool) -> StoreDump:
    """The whole store, row by row, while no server uses it. create: as in open_tables(). Raises: BootError."""
    if location.path is not None:
        return SqliteDump(location.path, create)
    with needing_mysqlclient():
        from chatd.store.mysql.dump import MysqlDump
    return MysqlDump(_mysql(location), create)


def open_snapshot(location: StoreLocation) -> StoreDump:
    """A MySQL store, to be read at one moment while servers use it. Raises: BootError."""
    with needing_mysqlclient():
        from chatd.store.mysql.dump import MysqlDump
    return MysqlDump(_mysql(location), False, shared=True)


@contextlib.contextmanager
def open_check(location: StoreLocation) -> Iterator[StoreCheck]:
    """The store, only to be checked, whether servers use it or not. Raises: BootError 69, 78."""
    if location.path is not None:
        with sqlite_file.reading(location.path) as db:
            yield SqliteCheck(db, location.path)
        return
    with needing_mysqlclient():
        from chatd.store.mysql.check import MysqlCheck
    try:
        with contextlib.closing(MysqlCheck(_mysql(location))) as made:
            yield made
    except Unavailable as error:
        raise BootError(f"store {location}: {error}", Exit.UNAVAILABLE) from None


def same_store(one: StoreLocation, other: StoreLocation) -> bool:
    """Whether the two are the same store, as far as the addresses show it."""
    if one.path is not None and other.path is not None:
        return one.path.resolve() == other.path.resolve()
    if one.mysql is not None and other.mysql is not None:
        servers = [(at.host, at.port, at.unix_socket, at.database) for at in (one.mysql, other.mysql)]
        return servers[0] == servers[1]
    return False


def mysql_address(url: str) -> MysqlAddress:
    """Raises: BootError 78."""
    try:
        return parse_mysql(url)
    except ValueError as error:
        raise BootError(str(error), Exit.CONFIG) from None


@contextlib.contextmanager
def needing_mysqlclient() -> Iterator[None]:
    """Around an import of a module that needs it. Raises: BootError 78 when it is missing or broken; an ImportError of
    anything else passes through."""
    try:
        yield
    except ImportError as error:
        package = (error.name or "").partition(".")[0]
        if package != "MySQLdb":
            raise
        if isinstance(error, ModuleNotFoundError):
            raise BootError(MYSQLCLIENT_MISSING, Exit.CONFIG) from None
        raise BootError(f"mysqlclient is installed but cannot be loaded: {error}", Exit.CONFIG) from None


MYSQLCLIENT_MISSING = "mysql needs mysqlclient: pip install 'chatd[mysql]'"


def _mysql(location: StoreLocation) -> MysqlAddress:
    assert location.mysql is not None
    return location.mysql
