"""`chatctl vacuum`: giving the space of deleted messages back.

Owns: how it is done for each twin, the pauses, and what is printed.
Elsewhere: the slices (store.retention_contract.RetentionTables.reclaim), rewriting a file (chatctl.stores).
Fails: BootError, Unavailable; what was given back stays given back.
"""

from __future__ import annotations

import contextlib
import time
from pathlib import Path

from chatd.chatctl.accounts import StoredAccounts
from chatd.chatctl.control_client import note
from chatd.chatctl.progress import Progress
from chatd.chatctl.render import print_json, size
from chatd.chatctl.stores import rewrite_alone
from chatd.config.schema import Config
from chatd.config.urls import MysqlAddress
from chatd.errors import BootError, Exit
from chatd.store.open import configured, needing_mysqlclient
from chatd.store.sqlite import backup as sqlite_backup
from chatd.store.sqlite import file as sqlite_file

_PAGES = 64
"""Given back in one transaction: a few milliseconds, in which messages wait."""
_REST = 8.0
"""A pause after each, as a multiple of the time that it took."""


def run(config: Config, *, full: bool, as_json: bool) -> int:
    """full: rewrite the whole file, which needs the store alone. Raises: BootError, Unavailable."""
    location = configured(config)
    note(f"store: {location}")
    if location.path is None:
        assert location.mysql is not None
        _optimize(location.mysql)
        before = after = 0
    else:
        before = _bytes_of(location.path)
        if full:
            rewrite_alone(config, location.path)
        else:
            _in_slices(config, location.path)
            with contextlib.closing(sqlite_file.connect(location.path)) as db:  # from the log into the file
                db.execute("PRAGMA wal_checkpoint(PASSIVE)")
        after = _bytes_of(location.path)
    if as_json:
        print_json({"v": 1, "bytes_before": before, "bytes_after": after})
    elif location.path is not None:
        print(f"{location}: {size(before)} before, {size(after)} now")
    return Exit.OK


def _bytes_of(path: Path) -> int:
    """With what is still in the log."""
    with sqlite_file.reading(path) as db:
        return sqlite_backup.size_of(db)


def _in_slices(config: Config, path: Path) -> None:
    """Beside a running server, or without one."""
    store = StoredAccounts(config)
    with contextlib.closing(store.open()) as tables, Progress("vacuum") as progress:
        space = tables.retention.space()
        if not space.reclaims:
            text = "this file was made by an early version, and cannot give space back while it is used"
            raise BootError(f"store sqlite:{path}: {text}: stop the server and run chatctl vacuum --full", Exit.CONFIG)
        watch, total = progress.reach("bytes"), space.free
        watch(0, total)
        while True:
            begun = time.monotonic()
            if not store.change_with(tables, lambda tables: tables.retention.reclaim(_PAGES)):
                return
            left = tables.retention.space().free
            watch(max(0, total - left), max(1, total))
            time.sleep(_REST * (time.monotonic() - begun))


def _optimize(address: MysqlAddress) -> None:
    """The database server rewrites each table, while it is used."""
    with needing_mysqlclient():
        from chatd.store.mysql.dump import optimize
    with Progress("vacuum") as progress:
        for text in optimize(address, progress.watch):
            note(text)
