"""`chatctl migrate` and `copy-store`: work on a whole store while no server uses it.

Owns: when that is allowed, the plan, the backup, what is printed.
Elsewhere: the migrations (store.sqlite.schema, store.mysql.schema), copying (store.copy), the command line (chatctl).
Fails: BootError with the exit code, one line; the store is then as it was, or the same command continues.
"""

from __future__ import annotations

import contextlib
import os
import sqlite3
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

from chatd import __version__
from chatd.chatctl.control_client import note
from chatd.chatctl.progress import Progress
from chatd.chatctl.render import duration, size, table
from chatd.config.schema import Config
from chatd.config.urls import MysqlAddress
from chatd.errors import BootError, Exit, Unavailable
from chatd.master import instance_lock
from chatd.master.status import Status
from chatd.store.contract import Again
from chatd.store.copy import Comparison, DestinationInUse, StoreChanged, copy
from chatd.store.open import configured, locate, needing_mysqlclient, open_dump, same_store
from chatd.store.sqlite import backup as sqlite_backup
from chatd.store.sqlite import file as sqlite_file
from chatd.store.sqlite import schema as sqlite_schema
from chatd.store.versions import check_version


def _say(text: str) -> None:
    print(text, flush=True)


@contextlib.contextmanager
def failures_in_one_line() -> Iterator[None]:
    """Around a long operation: its errors become a BootError."""
    try:
        yield
    except DestinationInUse as error:
        raise BootError(str(error), Exit.CANNOT_CREATE) from None
    except StoreChanged as error:
        raise BootError(str(error), Exit.TRY_AGAIN) from None
    except KeyboardInterrupt:
        raise BootError("interrupted; the same command continues from here", Exit.TRY_AGAIN) from None
    except (Unavailable, Again, OSError, sqlite3.Error) as error:
        raise BootError(f"{error}; the same command continues from here", Exit.UNAVAILABLE) from None


@contextlib.contextmanager
def no_server(config: Config, *paths: Path | None) -> Iterator[None]:
    """No server runs, or starts meanwhile, on these databases: the state directory is locked of the server that has the
    configuration, if one of them is its store, and of any other server in the folder of one. Raises: BootError."""
    folders = {path.parent for path in paths if path is not None}
    own, state = configured(config).path, Path(config.server.state_dir)
    if own is not None and own in paths and state.is_dir():
        folders.add(state)
    with contextlib.ExitStack() as held:
        for folder in sorted(folders):
            if folder == Path(config.server.state_dir) or (folder / instance_lock.STATE_LOCK).exists():
                held.callback(os.close, instance_lock.hold_state(folder))
        yield


# ---------------------------------------------------------------- migrate


class MigrateOptions(NamedTuple):
    """file: where the backup goes, "" = beside the store. vacuum: rewrite an SQLite file that cannot give space
    back."""

    dry_run: bool = False
    backup: bool = True
    file: str = ""
    vacuum: bool = True


def migrate(config: Config, running: Status | None, options: MigrateOptions) -> int:
    """running: the status of the server that answers on the control socket."""
    _check_running(running)
    location = configured(config)
    if location.path is not None:
        return _migrate_sqlite(config, location.path, options)
    assert location.mysql is not None
    return _migrate_mysql(location.mysql, options.dry_run, options.backup)


def _check_running(running: Status | None) -> None:
    if running is not None and _number(running.version) > _number(__version__):
        text = f"the running server is chatd {running.version}, newer than this chatctl {__version__}: use its chatctl"
        raise BootError(text, Exit.CONFIG)


def _number(version: str) -> list[int]:
    """The numbers of a version: 1, 2, 3 for 1.2.3rc1."""
    parts = version.split(".")[:3]
    return [int("".join(part[: len(part) - len(part.lstrip("0123456789"))]) or 0) for part in parts]


def _plan(version: int, words: tuple[str, ...], store: str) -> bool:
    """Print it. False: there is nothing to do. Raises: BootError for a schema that is newer."""
    newest = len(words)
    check_version(version, newest, True, store)
    if version == newest:
        _say(f"{store}: schema {version} is what this chatd needs; nothing to do")
        return False
    _say(f"{store}: from schema {version} to {newest}")
    for number in range(version + 1, newest + 1):
        _say(f"  step {number}: {words[number - 1]}")
    return True


def _run_steps(store: str, version: int, newest: int, step: Callable[[int], None]) -> None:
    begun = time.monotonic()
    for number in range(version + 1, newest + 1):
        step(number)
        _say(f"step {number}: done")
    _say(f"{store}: schema {newest}, in {duration(time.monotonic() - begun)}")


def _migrate_sqlite(config: Config, path: Path, options: MigrateOptions) -> int:
    name, words = f"sqlite:{path}", sqlite_schema.WORDS
    if not path.exists():
        _say(f"{name}: does not exist; a server creates it when it starts")
        return Exit.OK
    version, rewrites = _look_at(path)
    rewrites = rewrites and options.vacuum
    older = _plan(version, words, name)
    if rewrites:
        _say(f"{name}: then the file is rewritten, so that it can give unused space back; --no-vacuum leaves this out")
    if not (older or rewrites) or options.dry_run:
        return Exit.OK
    with failures_in_one_line(), alone_with(config, path) as db:
        version = sqlite_file.version_of(db)
        if version < len(words):
            _migrate_file(db, path, options)
        elif older:  # another chatctl was quicker
            _plan(version, words, name)
        if rewrites and not sqlite_file.gives_space_back(db):
            _rewrite(db, path)
    return Exit.OK


def _migrate_file(db: sqlite3.Connection, path: Path, options: MigrateOptions) -> None:
    name, version = f"sqlite:{path}", sqlite_file.version_of(db)
    if options.backup:
        file = Path(options.file).absolute() if options.file else sqlite_file.backup_name(path, version, time.time())
        _back_up(db, path, file)

    def step(number: int) -> None:
        try:
            sqlite_file.migrate(db, number)
        except sqlite3.Error as error:
            text = f"step {number} failed: {error}; the store is as it was before this step"
            raise BootError(f"store {name}: {text}", Exit.UNAVAILABLE) from None

    _run_steps(name, version, len(sqlite_schema.WORDS), step)


def _rewrite(db: sqlite3.Connection, path: Path, say: Callable[[str], None] = _say) -> None:
    """say: how it is told. If there is no room for it, it is left out: the store works without."""
    needed, room = sqlite_file.room_to_rewrite(db), os.statvfs(path.parent)
    free = room.f_bavail * room.f_frsize
    if free < needed:
        say(
            f"sqlite:{path}: not rewritten: {path.parent} has {size(free)} free, {size(needed)} are needed; run this"
            " again when there is room"
        )
        return
    begun, before = time.monotonic(), path.stat().st_size
    say(f"sqlite:{path}: rewriting {size(before)}, which takes a while; if it is interrupted, the file is as it was")
    sqlite_file.rewrite(db, path)
    say(f"rewritten: {size(path.stat().st_size)}, in {duration(time.monotonic() - begun)}")


def rewrite_alone(config: Config, path: Path) -> None:
    """Rewrite the file of a store that no server uses, so that it has no unused pages. Raises: BootError."""
    with failures_in_one_line(), alone_with(config, path) as db:
        _rewrite(db, path, note)


def _back_up(db: sqlite3.Connection, path: Path, target: Path) -> None:
    with Progress("backup") as progress:
        sqlite_backup.back_up(db, path, target, progress.reach("pages"))
    _say(f"backup: {target}, checked, {target.stat().st_size} bytes")


def _look_at(path: Path) -> tuple[int, bool]:
    """Version of the schema, and whether the file should be rewritten. Changes nothing."""
    try:
        with contextlib.closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as db:
            return sqlite_file.version_of(db), not sqlite_file.gives_space_back(db)
    except sqlite3.Error as error:
        raise BootError(f"store sqlite:{path}: {error}", Exit.UNAVAILABLE) from None


@contextlib.contextmanager
def alone_with(config: Config, path: Path) -> Iterator[sqlite3.Connection]:
    """The database, while no other process has it open or can open it. Raises: BootError 75 if one has."""
    with no_server(config, path):
        with sqlite_file.opening(path, create=False, exclusive=True) as file:
            pass
        with contextlib.closing(file):
            yield file.db


def _migrate_mysql(address: MysqlAddress, dry_run: bool, backup: bool) -> int:
    with needing_mysqlclient():
        from chatd.store.mysql import dump as mysql_dump
        from chatd.store.mysql import schema as mysql_schema
    name, words = str(address), mysql_schema.WORDS
    with failures_in_one_line(), contextlib.ExitStack() as end:
        looking = mysql_dump.patient(address)
        end.callback(looking.discard)
        version = mysql_schema.version_of(looking)
    if not _plan(version, words, name) or dry_run:
        return Exit.OK
    if backup and version:
        text = "chatctl makes no backup of a database server: make one (mysqldump --single-transaction)"
        raise BootError(f"store {name}: {text}, then repeat this with --no-backup", Exit.USAGE)
    with failures_in_one_line(), contextlib.ExitStack() as end:
        db = mysql_dump.alone_with(address)
        end.callback(db.discard)
        version = mysql_schema.version_of(db)
        if version == len(words):  # another chatctl was quicker
            _plan(version, words, name)
            return Exit.OK
        _run_steps(name, version, len(words), lambda number: mysql_schema.migrate(db, number))
    return Exit.OK


# ---------------------------------------------------------------- copy-store


def copy_store(config: Config, source_url: str, target_url: str) -> int:
    """Copy the whole source into the empty target, or continue such a copy. Raises: BootError."""
    source_location, target_location = (locate(url, config.server.state_dir) for url in (source_url, target_url))
    if same_store(source_location, target_location):
        raise BootError("the source and the destination are the same store", Exit.USAGE)
    begun = time.monotonic()
    with contextlib.ExitStack() as opened:
        opened.enter_context(no_server(config, source_location.path, target_location.path))
        source = opened.enter_context(contextlib.closing(open_dump(source_location, create=False)))
        target = opened.enter_context(contextlib.closing(open_dump(target_location, create=True)))
        note(f"copying {source.name} to {target.name}")
        for blind_spot in filter(None, (source.blind_spot(), target.blind_spot())):
            note(blind_spot)
        with failures_in_one_line(), Progress("copy-store") as progress:
            compared = copy(source, target, progress.watch)
        _say(_table_of(compared))
        different = [one.table for one in compared if not one.same]
        if different:
            text = f"{target.name} differs from {source.name} in {', '.join(different)}: was it changed meanwhile?"
            raise BootError(f"{text} Empty the destination and copy again", Exit.TRY_AGAIN)
    rows = sum(one.source.rows for one in compared)
    _say(f"every row is the same in both stores: {rows} rows in {duration(time.monotonic() - begun)}")
    return Exit.OK


def _table_of(compared: list[Comparison]) -> str:
    rows = [
        [one.table, str(one.source.rows), str(one.target.rows), str(one.source), "same" if one.same else "DIFFERENT"]
        for one in compared
    ]
    return table(["TABLE", "SOURCE", "DESTINATION", "DIGEST", ""], rows)
