"""`chatctl backup`: the store as it was at one moment, in one SQLite file.

Owns: which way is taken for which twin, and what is printed.
Elsewhere: copying an SQLite file beside a server (store.sqlite.backup), copying a MySQL store table by table
(store.copy).
Fails: BootError: 73 if the file cannot be written, 69 if the store cannot be read. There is no file then, or the one
that was there before. After kill -9 a file FILE.part may be left, which the next backup to FILE removes.
"""

from __future__ import annotations

import contextlib
import os
import pwd
import sqlite3
import time
from pathlib import Path
from typing import NamedTuple

from chatd.chatctl.control_client import note
from chatd.chatctl.progress import Progress
from chatd.chatctl.render import duration, print_json, size
from chatd.config.schema import Config
from chatd.errors import BootError, Exit, Unavailable
from chatd.store.contract import Again
from chatd.store.copy import TABLES, StoreDump, copy
from chatd.store.open import StoreLocation, configured, locate, open_dump, open_snapshot
from chatd.store.sqlite import backup as sqlite_backup
from chatd.store.sqlite import file as sqlite_file
from chatd.store.sqlite import schema as sqlite_schema
from chatd.store.sqlite.backup import BackupOptions

MODE = 0o600
"""Of the file: it holds every message and every password's hash."""
_BYTES_PER_ROW = 250
"""A guess at the size of a backup of a MySQL store."""


class Made(NamedTuple):
    """messages: how many are in it."""

    file: str
    bytes: int
    messages: int
    seconds: float


def run(config: Config, target: Path, *, replace: bool, as_json: bool) -> int:
    """Raises: BootError."""
    location = configured(config)
    note(f"store: {location}")
    _check_writable(target)
    options = BackupOptions(mode=MODE, replace=replace, gentle=True)
    begun = time.monotonic()
    try:
        if location.path is not None:
            _copy_file(location.path, target, options)
        else:
            _copy_tables(location, target, options)
    except KeyboardInterrupt:
        raise BootError("interrupted; there is no backup", Exit.TRY_AGAIN) from None
    with sqlite_file.reading(target) as db:
        (messages,) = db.execute("SELECT count(*) FROM message").fetchone()
    made = Made(str(target), target.stat().st_size, messages, round(time.monotonic() - begun, 3))
    if as_json:
        print_json({"v": 1, **made._asdict()})
    else:
        what = f"{made.messages} messages, {size(made.bytes)}, in {duration(made.seconds)}"
        print(f"backup: {target}: {what}; every page was checked")
    return Exit.OK


def _check_writable(target: Path) -> None:
    """Raises: BootError 73."""
    folder = target.parent
    if folder.is_dir() and not os.access(folder, os.W_OK | os.X_OK):
        who = _name_of(os.geteuid())
        text = f"{who}, who owns the store, cannot write in {folder}; run: install -d -o {who} -m 0700 DIRECTORY"
        raise BootError(f"backup {target}: {text}, and name a file in it", Exit.CANNOT_CREATE)


def _name_of(uid: int) -> str:
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return str(uid)


def _copy_file(path: Path, target: Path, options: BackupOptions) -> None:
    with sqlite_file.reading(path) as db, Progress("backup") as progress:
        sqlite_backup.back_up(db, path, target, progress.reach("pages"), options)


def _copy_tables(location: StoreLocation, target: Path, options: BackupOptions) -> None:
    """A MySQL store, read in one transaction. Every row is compared in the end."""
    try:
        with (
            contextlib.closing(open_snapshot(location)) as source,
            sqlite_backup.new_file(target, _guessed_size(source), target.parent, options) as part,
            Progress("backup") as progress,
        ):
            with contextlib.closing(open_dump(locate(f"sqlite:{part}", "/"), create=True)) as filled:
                compared = copy(source, filled, progress.watch)
            different = [one.table for one in compared if not one.same]
            if different:
                raise BootError(f"backup {target}: differs in {', '.join(different)}: a bug", Exit.BUG)
            sqlite_backup.finish(part, len(sqlite_schema.MIGRATIONS))
    except (Unavailable, Again, sqlite3.Error) as error:
        raise BootError(f"store {location}: {error}", Exit.UNAVAILABLE) from None


def _guessed_size(source: StoreDump) -> int:
    return _BYTES_PER_ROW * sum(source.count(table) for table in TABLES)
