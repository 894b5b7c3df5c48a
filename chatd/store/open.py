"""Which store an address names, for commands that work on any of them.

Owns: from an address, written as in the configuration, to an open store.copy.Side.
Elsewhere: the twins (store.sqlite.dump, store.mysql.dump). The store a server serves is opened by chatd.worker.
Fails: BootError: 78 for an address that makes no sense, 69 and 75 as the twin says.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

from chatd.config.urls import MysqlAddress, parse_mysql
from chatd.errors import BootError, Exit
from chatd.store.copy import Side
from chatd.store.sqlite.dump import SqliteSide


def sqlite_path(url: str, state_dir: str) -> Path | None:
    """The file of an SQLite address, else None. As in the configuration, relative to state_dir."""
    scheme, _, rest = url.partition(":")
    if scheme != "sqlite":
        return None
    if not rest:
        raise BootError("sqlite: needs a file name", Exit.CONFIG)
    return Path(state_dir, rest)


def open_side(url: str, state_dir: str, make: bool) -> Side:
    """make: what is not there is made, where the twin can do that."""
    path = sqlite_path(url, state_dir)
    if path is not None:
        return SqliteSide(path, make)
    if url.startswith("mysql:"):
        return _open_mysql(url, make)
    raise BootError(f"no such store: {url.partition(':')[0]}: (there are sqlite:FILE and mysql://…)", Exit.CONFIG)


def same_store(one: str, other: str, state_dir: str) -> bool:
    """As far as the addresses tell."""
    paths = [sqlite_path(url, state_dir) for url in (one, other)]
    if all(paths):
        return len({path.resolve() for path in paths if path is not None}) == 1
    if one.startswith("mysql:") and other.startswith("mysql:"):
        places = [mysql_address(url) for url in (one, other)]
        return len({(place.host, place.port, place.unix_socket, place.database) for place in places}) == 1
    return False


def _open_mysql(url: str, make: bool) -> Side:
    with needing_mysqlclient():
        from chatd.store.mysql.dump import MysqlSide
    return MysqlSide(mysql_address(url), make)


def mysql_address(url: str) -> MysqlAddress:
    try:
        return parse_mysql(url)
    except ValueError as error:
        raise BootError(str(error), Exit.CONFIG) from None


@contextlib.contextmanager
def needing_mysqlclient() -> Iterator[None]:
    """Around an import."""
    try:
        yield
    except ModuleNotFoundError as error:
        if error.name != "MySQLdb":
            raise
        raise BootError("mysql needs mysqlclient: pip install 'chatd[mysql]'", Exit.UNAVAILABLE) from None
