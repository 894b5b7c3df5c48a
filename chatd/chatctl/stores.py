"""`chatctl migrate`, `copy-store`, `import-chatserver`: what is done to a whole store while no server has it.

Owns: when that is allowed, the plan, the backup, what is printed.
Elsewhere: the steps (store.sqlite.schema), the copying (store.copy), the old tables (takeover), the command line
(chatctl).
Fails: BootError with the exit code, one line; the store is then as it was, or can be taken up by the same command.
"""

from __future__ import annotations

import contextlib
import os
import sqlite3
import sys
import time
from collections.abc import Iterator
from pathlib import Path

from chatd import __version__
from chatd.chatctl.progress import Progress
from chatd.chatctl.render import duration, table
from chatd.config.schema import Config
from chatd.config.urls import MysqlAddress
from chatd.core.passwords import Hasher
from chatd.errors import BootError, Exit, Unavailable
from chatd.importer.report import Report
from chatd.master import instance_lock
from chatd.master.status import Status
from chatd.store.contract import Again
from chatd.store.copy import Compared, Disturbed, NotACopy, copy
from chatd.store.open import configured, locate, mysql_address, needing_mysqlclient, open_dump, same_store
from chatd.store.sqlite import file as sqlite_file
from chatd.store.sqlite import schema as sqlite_schema
from chatd.store.versions import check_version

REJECTED = "import-chatserver.rejected.jsonl"


def _say(text: str) -> None:
    print(text, flush=True)


def _note(text: str) -> None:
    sys.stderr.write(f"chatctl: {text}\n")


# ---------------------------------------------------------------- migrate


def migrate(config: Config, running: Status | None, dry_run: bool, backup: bool, file: str) -> int:
    """running: the server that answers on the control socket. file: where the backup goes, "" = beside the store."""
    _check_running(config, running)
    location = configured(config)
    if location.path is not None:
        return _migrate_sqlite(config, location.path, dry_run, backup, file)
    assert location.mysql is not None
    return _migrate_mysql(location.mysql, dry_run, backup)


def _check_running(config: Config, running: Status | None) -> None:
    if running is None:
        return
    if _number(running.version) > _number(__version__):
        text = (
            f"the server that runs is chatd {running.version}, newer than this chatctl {__version__}: use its chatctl"
        )
        raise BootError(text, Exit.CONFIG)


def _number(version: str) -> list[int]:
    """Of 1.2.3rc1: 1, 2, 3."""
    parts = version.split(".")[:3]
    return [int("".join(part[: len(part) - len(part.lstrip("0123456789"))]) or 0) for part in parts]


def _plan(version: int, words: tuple[str, ...], store: str) -> bool:
    """Print it. False: there is nothing to do. Raises BootError for a schema that is newer."""
    newest = len(words)
    check_version(version, newest, True, store)
    if version == newest:
        _say(f"{store}: schema {version} is what this chatd needs; nothing to do")
        return False
    _say(f"{store}: from schema {version} to {newest}")
    for number in range(version + 1, newest + 1):
        _say(f"  step {number}: {words[number - 1]}")
    return True


def _migrate_sqlite(config: Config, path: Path, dry_run: bool, backup: bool, file: str) -> int:
    name = f"sqlite:{path}"
    if not path.exists():
        _say(f"{name}: is not there; a server makes it when it starts")
        return Exit.OK
    if not _plan(_version_of(path), sqlite_schema.WORDS, name) or dry_run:
        return Exit.OK
    with _told(), alone_with(config, path) as db:
        version = sqlite_file.version_of(db)
        if backup:
            target = Path(file).absolute() if file else sqlite_file.backup_name(path, version, time.time())
            with Progress("backup") as progress:
                sqlite_file.back_up(db, path, target, progress.reach("pages"))
            _say(f"backup: {target}, checked, {target.stat().st_size} bytes")
        begun = time.monotonic()
        try:
            for number in range(version + 1, len(sqlite_schema.MIGRATIONS) + 1):
                sqlite_file.migrate(db, number)
                _say(f"step {number}: done")
        except sqlite3.Error as error:
            text = f"{name}: step {number} failed: {error}; the store is as it was before this step"
            raise BootError(text, Exit.UNAVAILABLE) from None
    _say(f"{name}: schema {number}, in {duration(time.monotonic() - begun)}")
    return Exit.OK


def _version_of(path: Path) -> int:
    """Touches nothing."""
    try:
        with contextlib.closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as db:
            return sqlite_file.version_of(db)
    except sqlite3.Error as error:
        raise BootError(f"sqlite:{path}: {error}", Exit.UNAVAILABLE) from None


@contextlib.contextmanager
def alone_with(config: Config, path: Path) -> Iterator[sqlite3.Connection]:
    """The database, while no other process has it open or can open it. BootError 75 where one has."""
    with _no_server(config, path):
        with sqlite_file.opening(path, create=False, exclusive=True) as file:
            pass
        with contextlib.closing(file):
            yield file.db


@contextlib.contextmanager
def _no_server(config: Config, *paths: Path | None) -> Iterator[None]:
    """No server runs, or starts meanwhile, on the state directories these databases lie in."""
    folders = {path.parent for path in paths if path is not None}
    with contextlib.ExitStack() as held:
        for folder in sorted(folders):
            if folder == Path(config.server.state_dir) or (folder / instance_lock.STATE_LOCK).exists():
                held.callback(os.close, instance_lock.hold_state(folder))
        yield


def _migrate_mysql(address: MysqlAddress, dry_run: bool, backup: bool) -> int:
    with needing_mysqlclient():
        from chatd.store.mysql import schema as mysql_schema
        from chatd.store.mysql.dump import alone_with, patient
    with _told(), contextlib.ExitStack() as end:
        looking = patient(address)
        end.callback(looking.discard)
        version = mysql_schema.version_of(looking)
    if not _plan(version, mysql_schema.WORDS, str(address)) or dry_run:
        return Exit.OK
    if backup and version:
        text = (
            "chatctl makes no backup of a database server: make one (mysqldump --single-transaction), then --no-backup"
        )
        raise BootError(f"{address}: {text}", Exit.USAGE)
    begun = time.monotonic()
    with _told(), contextlib.ExitStack() as end:
        db = alone_with(address)
        end.callback(db.discard)
        for number in range(version + 1, len(mysql_schema.MIGRATIONS) + 1):
            mysql_schema.migrate(db, number)
            _say(f"step {number}: done")
    _say(f"{address}: schema {number}, in {duration(time.monotonic() - begun)}")
    return Exit.OK


# ---------------------------------------------------------------- copy-store


def copy_store(config: Config, source_url: str, target_url: str) -> int:
    one, other = (locate(url, config.server.state_dir) for url in (source_url, target_url))
    if same_store(one, other):
        raise BootError("the source and the destination are the same store", Exit.USAGE)
    begun = time.monotonic()
    with contextlib.ExitStack() as open_sides:
        open_sides.enter_context(_no_server(config, one.path, other.path))
        source = open_sides.enter_context(contextlib.closing(open_dump(one, create=False)))
        target = open_sides.enter_context(contextlib.closing(open_dump(other, create=True)))
        for doubt in filter(None, (source.doubt(), target.doubt())):
            _note(doubt)
        with _told(), Progress("copy-store") as progress:
            compared = copy(source, target, progress.watch)
        _say(_comparison(compared))
        different = [one.table for one in compared if not one.same]
        if different:
            text = f"{target.name}: differs from {source.name} in {', '.join(different)}: was it changed meanwhile?"
            raise BootError(f"{text} Empty the destination and copy again", Exit.TRY_AGAIN)
    rows = sum(one.source.rows for one in compared)
    _say(f"every row is the same on both sides: {rows} rows in {duration(time.monotonic() - begun)}")
    return Exit.OK


@contextlib.contextmanager
def _told() -> Iterator[None]:
    """What may end a long command, as one line."""
    try:
        yield
    except NotACopy as error:
        raise BootError(str(error), Exit.CANNOT_CREATE) from None
    except Disturbed as error:
        raise BootError(str(error), Exit.TRY_AGAIN) from None
    except KeyboardInterrupt:
        raise BootError("interrupted; the same command goes on from here", Exit.TRY_AGAIN) from None
    except (Unavailable, Again, OSError, sqlite3.Error) as error:
        raise BootError(f"{error}; the same command goes on from here", Exit.UNAVAILABLE) from None


def _comparison(compared: list[Compared]) -> str:
    rows = [
        [one.table, str(one.source.rows), str(one.target.rows), str(one.source), "same" if one.same else "DIFFERENT"]
        for one in compared
    ]
    return table(["TABLE", "SOURCE", "DESTINATION", "DIGEST", ""], rows)


# ---------------------------------------------------------------- import-chatserver


def import_chatserver(config: Config, url: str, charset: str, dry_run: bool, file: str) -> int:
    """file: where rows are kept that are left out, "" = in the state directory."""
    with needing_mysqlclient():
        from chatd.importer.run import Settings, take_over
        from chatd.importer.source import OldTables
    state_dir = config.server.state_dir
    report = Report(None if dry_run and not file else Path(file or Path(state_dir, REJECTED)).absolute())
    old = OldTables(
        mysql_address(url),
        charset,
        lambda where: report.change(f"{where}: a text is not UTF-8; read as {charset}", where),
    )
    if others := old.others():
        _note(f"{old.name} has {others} other connections: is the old server stopped?")
    settings = Settings(config.limits.name_chars, Hasher(config.accounts).hash_now, time.time_ns() // 1_000_000)
    begun = time.monotonic()
    with contextlib.ExitStack() as opened:
        target = None
        if not dry_run:
            location = configured(config)
            opened.enter_context(_no_server(config, location.path))
            target = opened.enter_context(contextlib.closing(open_dump(location, create=True)))
            if doubt := target.doubt():
                _note(doubt)
        opened.enter_context(contextlib.closing(report))
        with _told(), Progress("import-chatserver") as progress:
            take_over(old, target, settings, report, progress.watch)
    for line in report.lines():
        _say(line)
    _say("nothing was written" if dry_run else f"done in {duration(time.monotonic() - begun)}")
    return Exit.OK
