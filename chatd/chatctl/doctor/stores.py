"""Checks of the store: whether it can be reached and used, its schema, its pages, and the clock of its server.

Owns: reading the store beside a running server, without changing anything.
Elsewhere: opening a store to use it (store.open).
Fails: never. These checks run as the user who owns the store, so that no file appears that another user owns.
"""

from __future__ import annotations

import contextlib
import sqlite3
import time
from collections.abc import Iterator
from pathlib import Path

from chatd.chatctl.doctor.finding import Finding, Installation, error, note, ok, warning
from chatd.chatctl.progress import Progress
from chatd.errors import BootError, Unavailable
from chatd.store.open import StoreLocation, configured, open_tables
from chatd.store.sqlite.schema import MIGRATIONS

SKEW_S = 5.0
"""Difference between two clocks from which on it is reported."""
_DAMAGE_SHOWN = 5


def store(installation: Installation) -> Iterator[Finding]:
    """Whether the store can be read, its schema, damaged pages, and the clock of MySQL."""
    location = configured(installation.config)
    if location.path is not None:
        yield from _sqlite(location, location.path, installation)
    else:
        yield from _mysql(location, installation)


def _sqlite(location: StoreLocation, path: Path, installation: Installation) -> Iterator[Finding]:
    if not path.exists():
        yield note("store.exists", f"{location} does not exist: the first start creates it")
        return
    try:
        with contextlib.closing(_read_only(path)) as db:
            version = int(db.execute("PRAGMA user_version").fetchone()[0])
            yield from _schema(str(location), version)
            if installation.is_fast:
                yield note("store.pages", "the pages were not checked", "run chatctl doctor without --fast")
            else:
                yield from _pages(location, db)
    except sqlite3.Error as failure:
        meaning = "the server cannot use it either, or will not when it is started next"
        advice = "look at the disk (dmesg) and at the owner of the files; if it is damaged, restore a backup"
        yield error("store.readable", f"{location} cannot be read: {failure}", meaning, advice)


def _read_only(path: Path) -> sqlite3.Connection:
    """A store that nobody has open has no log beside it: it is read as it is, so that none is created."""
    is_idle = not Path(f"{path}-wal").exists()
    return sqlite3.connect(
        f"{path.absolute().as_uri()}?mode=ro{'&immutable=1' if is_idle else ''}", uri=True, timeout=5.0
    )


def _schema(name: str, version: int) -> Iterator[Finding]:
    newest = len(MIGRATIONS)
    if version > newest:
        text = f"{name} has schema {version}, this version knows {newest}"
        meaning = "a newer chatd has used it; this one does not start"
        yield error("store.schema", text, meaning, "install the newer version, or restore a backup")
    elif version < newest:
        meaning = "chatd of this version does not start before it is upgraded"
        advice = "chatctl stop, chatctl migrate --dry-run, chatctl migrate"
        yield warning("store.schema", f"{name} has schema {version}, the newest is {newest}", meaning, advice)
    else:
        yield ok("store.schema", f"{name} has schema {version}, the newest")


def _pages(location: StoreLocation, db: sqlite3.Connection) -> Iterator[Finding]:
    """Beside a running server, of the state at this moment. Reads the whole file."""
    with Progress("checking pages"):
        damage = [str(row[0]) for row in db.execute(f"PRAGMA quick_check({_DAMAGE_SHOWN})").fetchall()]
    if damage == ["ok"]:
        yield ok("store.pages", f"{location} has no damaged page")
    else:
        meaning = "messages are lost or will be; other parts can still be read"
        advice = "stop the server, copy the files, look at the disk (dmesg, smartctl), and restore a backup"
        yield error("store.pages", f"{location} is damaged: {'; '.join(damage)}", meaning, advice)


def _mysql(location: StoreLocation, installation: Installation) -> Iterator[Finding]:
    try:
        with contextlib.closing(open_tables(location, installation.config.timeouts.store_s, create=False)):
            yield ok("store.schema", f"{location} can be used, its schema is the newest")
    except (BootError, Unavailable) as failure:
        meaning = "chatd does not start, or senders are told that nothing is stored"
        advice = "start the database, check store.url and its user's rights; for an old schema, chatctl migrate"
        yield error("store.readable", str(failure), meaning, advice)
        return
    yield from _mysql_clock(location, installation)


def _mysql_clock(location: StoreLocation, installation: Installation) -> Iterator[Finding]:
    from chatd.store.mysql.connection import MysqlConnection

    assert location.mysql is not None
    db = MysqlConnection(location.mysql, installation.config.timeouts.store_s)
    try:
        db.open()
        before = time.time()
        (seconds,) = db.execute("SELECT UNIX_TIMESTAMP(NOW(6))").fetchone()
        skew_s = float(seconds) - (before + time.time()) / 2
    except (BootError, Unavailable) as failure:
        yield note("clock.store", f"the clock of {location} cannot be read: {failure}")
        return
    finally:
        db.discard()
    yield from skew("clock.store", str(location), skew_s)


def skew(check: str, whose: str, skew_s: float) -> Iterator[Finding]:
    """skew_s: how far the other clock is ahead."""
    if abs(skew_s) > SKEW_S:
        text = f"the clock of {whose} is {abs(skew_s):.0f} s {'ahead of' if skew_s > 0 else 'behind'} this host's"
        meaning = "times do not agree; hosts of a cluster refuse each other's messages from 30 s on"
        yield warning(check, text, meaning, "run chrony or systemd-timesyncd on both")
    else:
        yield ok(check, f"the clock of {whose} agrees with this host's ({skew_s * 1000:+.0f} ms)")
