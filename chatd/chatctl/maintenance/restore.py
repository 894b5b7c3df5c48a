"""`chatctl restore`: a backup takes the place of the store, which is kept beside it.

Owns: the plan, and the order of the steps: copy the backup beside the store, check it, migrate it, and only then change
the names, both at once.
Elsewhere: the checks (chatctl.maintenance.verify), the migrations (store.sqlite.schema), filling a MySQL store
(store.copy).
Fails: BootError, one line. Until the names are changed the store is as it was; an interruption at any moment, also by
kill -9, leaves either the old store in its place or the new one, and never none.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import os
import sqlite3
import time
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import NamedTuple, Self

from chatd import safe_files
from chatd.chatctl.control_client import note
from chatd.chatctl.maintenance import verify
from chatd.chatctl.progress import Progress
from chatd.chatctl.render import at, duration, print_json, size
from chatd.chatctl.stores import no_server
from chatd.config.schema import Config
from chatd.errors import BootError, Exit, Unavailable
from chatd.store.check import CheckResult
from chatd.store.contract import Again
from chatd.store.copy import DestinationInUse, StoreChanged, copy
from chatd.store.open import StoreLocation, configured, locate, open_dump
from chatd.store.sqlite import file as sqlite_file
from chatd.store.sqlite import schema as sqlite_schema
from chatd.store.versions import check_version

_CHUNK_BYTES = 4 * 1024 * 1024
_SPARE = 1.1
"""Room that must be there, as a multiple of the size of the backup."""
_LOG = "-wal"
_ENDS = ("", _LOG, "-shm", "-journal", ".lock")
_EXCHANGE = 2
"""RENAME_EXCHANGE of renameat2(2)."""
_AT_FDCWD = -100


class Source:
    """A backup, opened by whoever called chatctl. A copied chatd.db may have its log beside it."""

    def __init__(self, path: Path) -> None:
        """Raises: BootError 69."""
        self.path = path
        self._descriptors: dict[str, int] = {}
        for end in ("", _LOG):
            try:
                self._descriptors[end] = safe_files.open_file(f"{path}{end}", os.O_RDONLY)
            except FileNotFoundError:
                if not end:
                    raise BootError(f"restore {path}: there is no such file", Exit.UNAVAILABLE) from None
            except OSError as error:
                raise BootError(f"restore {path}{end}: {error.strerror}", Exit.UNAVAILABLE) from None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for descriptor in self._descriptors.values():
            os.close(descriptor)

    @property
    def bytes(self) -> int:
        return sum(os.fstat(descriptor).st_size for descriptor in self._descriptors.values())

    def copy_to(self, part: Path, progress: Progress) -> None:
        """Raises: OSError."""
        total = self.bytes
        progress.watch("bytes", 0, total)
        for end, descriptor in self._descriptors.items():
            made = safe_files.open_file(f"{part}{end}", os.O_WRONLY | os.O_CREAT | os.O_EXCL)
            try:
                at_byte = 0
                while chunk := os.pread(descriptor, _CHUNK_BYTES, at_byte):
                    view = memoryview(chunk)
                    while view:
                        view = view[os.write(made, view) :]
                    at_byte += len(chunk)
                    progress.watch("bytes", len(chunk), total)
                os.fsync(made)
            finally:
                os.close(made)


class Restored(NamedTuple):
    """kept: where the old store is now, "" = there was none. messages: in the new one; newest_ms: when the last of them
    was sent, 0 = there is none. schema: version that the backup had."""

    store: str
    kept: str
    messages: int
    newest_ms: int
    schema: int
    seconds: float


def run(config: Config, source: Source, *, dry_run: bool, as_json: bool) -> int:
    """Raises: BootError."""
    location = configured(config)
    begun = time.monotonic()
    # Beside the store, so that only names must be changed; for a MySQL store, in the state directory.
    store = location.path or Path(config.server.state_dir, "restore.db")
    part = store.with_name(f"{store.name}.restoring")
    with _one_line(source), no_server(config, location.path or store), _prepared(source, part) as (result, schema):
        messages, newest_ms = _last_of(part)
        note(f"store: {location}")
        if dry_run:
            kept = ""
        elif location.path is not None:
            kept = _put_in_place(part, location.path)
        else:
            kept = _fill(part, location)
    made = Restored(str(location), kept, messages, newest_ms, schema, round(time.monotonic() - begun, 3))
    _report(made, source, result, dry_run=dry_run, as_json=as_json)
    return Exit.OK


def _report(made: Restored, source: Source, result: CheckResult, *, dry_run: bool, as_json: bool) -> None:
    if as_json:
        print_json({"v": 1, "changed": not dry_run, **made._asdict()})
        return
    print(f"{source.path}: schema {made.schema}, sound; {made.messages} messages", end="")
    print(f", the last one of {at(made.newest_ms)}" if made.newest_ms else "")
    if dry_run:
        print("nothing was changed")
        return
    if made.schema < result.newest:
        print(f"migrated to schema {result.newest}")
    if made.kept:
        print(f"the store that was there is now {made.kept}")
    print(f"restored: {made.store}, in {duration(made.seconds)}")


@contextlib.contextmanager
def _one_line(source: Source) -> Iterator[None]:
    try:
        yield
    except KeyboardInterrupt:
        raise BootError(f"restore {source.path}: interrupted; the store is as it was", Exit.TRY_AGAIN) from None
    except OSError as error:
        why = error.strerror or str(error)
        raise BootError(f"restore {source.path}: failed: {why}; the store is as it was", Exit.CANNOT_CREATE) from None
    except (sqlite3.Error, Unavailable, Again) as error:
        raise BootError(f"restore {source.path}: failed: {error}", Exit.UNAVAILABLE) from None


# -------------------------------------------------------------------- before anything is changed


@contextlib.contextmanager
def _prepared(source: Source, part: Path) -> Iterator[tuple[CheckResult, int]]:
    """A copy of the backup, checked and migrated; and the schema that the backup had. Removed when the body has not
    used it. Raises: BootError 73, 78; OSError; sqlite3.Error."""
    room = os.statvfs(part.parent)
    free = room.f_bavail * room.f_frsize
    if free < source.bytes * _SPARE:
        text = f"{part.parent} has {size(free)} free, {size(source.bytes * _SPARE)} are needed"
        raise BootError(f"restore {source.path}: {text}", Exit.CANNOT_CREATE)
    _remove(part)
    try:
        with Progress("restore") as progress:
            source.copy_to(part, progress)
        schema = _migrated(source, part)
        result = verify.examine(StoreLocation(path=part))
        if not result.sound:
            note("\n".join(verify.lines(result)[1:]))
            raise BootError(f"restore {source.path}: the file is not sound; nothing was changed", Exit.CONFIG)
        with contextlib.closing(sqlite_file.connect(part)) as db:  # the last one to close it removes its log
            db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        yield result, schema
    finally:
        _remove(part)


def _migrated(source: Source, part: Path) -> int:
    """Bring the copy to the newest schema; which one it had. Raises: BootError 78."""
    newest = len(sqlite_schema.MIGRATIONS)
    try:
        with contextlib.closing(sqlite_file.connect(part)) as db:
            version = sqlite_file.version_of(db)
            result = db.execute("PRAGMA quick_check(1)").fetchone()[0]
            if result != "ok":
                raise BootError(f"restore {source.path}: damaged: {result}; nothing was changed", Exit.CONFIG)
            if not version:
                raise BootError(f"restore {source.path}: not a store: it has no tables of chatd", Exit.CONFIG)
            check_version(version, newest, True, str(source.path))
            sqlite_file.migrate(db, newest)
    except sqlite3.DatabaseError as error:
        raise BootError(f"restore {source.path}: not a store, or damaged: {error}", Exit.CONFIG) from None
    return version


def _last_of(part: Path) -> tuple[int, int]:
    """(number of messages, when the last one was sent)."""
    with sqlite_file.reading(part) as db:
        count, newest = db.execute("SELECT count(*), max(sent_at_ms) FROM message").fetchone()
    return int(count), int(newest or 0)


def _remove(part: Path) -> None:
    for end in _ENDS:
        part.with_name(part.name + end).unlink(missing_ok=True)


# -------------------------------------------------------------------- the change


def _put_in_place(part: Path, path: Path) -> str:
    """Change the two names; where the old store is now, "" = there was none. Raises: BootError 75, OSError."""
    _sync(part)
    if not os.path.lexists(path):
        part.rename(path)
        sqlite_file.sync_folder(path.parent)
        return ""
    kept = _name_to_keep(path)
    _without_log(path, kept)
    part.rename(kept)  # at this moment the name holds the new store: the next call exchanges the two
    _exchange(kept, path)
    sqlite_file.sync_folder(path.parent)
    return str(kept)


def _without_log(path: Path, kept: Path) -> None:
    """A log beside the name would be applied to the new store. It is written into the old one; where that is damaged,
    it is kept with it. Raises: BootError 75."""
    try:
        with sqlite_file.opening(path, create=False, exclusive=True) as old, contextlib.closing(old):
            old.db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    except BootError as error:
        if error.exit_code == Exit.TRY_AGAIN:
            raise
        note(f"{error}; it is kept as it is")
    for end in (_LOG, "-shm", "-journal"):
        with contextlib.suppress(FileNotFoundError):
            path.with_name(path.name + end).rename(kept.with_name(kept.name + end))


def _name_to_keep(path: Path) -> Path:
    stamp = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime())
    names = (path.with_name(f"{path.name}.replaced-{stamp}{more}") for more in ("", *map("-{}".format, range(2, 99))))
    return next(name for name in names if not os.path.lexists(name))


def _exchange(one: Path, other: Path) -> None:
    """Both names at once, so that there is a store at any moment. Raises: OSError."""
    library = ctypes.CDLL(None, use_errno=True)
    failed = library.renameat2(_AT_FDCWD, os.fsencode(one), _AT_FDCWD, os.fsencode(other), _EXCHANGE)
    number = ctypes.get_errno() if failed else 0
    if number in (errno.EINVAL, errno.ENOSYS):  # a file system that cannot
        beside = one.with_name(f"{one.name}.new")
        one.rename(beside)
        os.link(other, one)
        beside.rename(other)
    elif number:
        raise OSError(number, os.strerror(number), str(one))


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDWR | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _fill(part: Path, location: StoreLocation) -> str:
    """A MySQL store cannot be put aside: the configured database must be empty. Raises: BootError."""
    try:
        with (
            contextlib.closing(open_dump(locate(f"sqlite:{part}", "/"), create=False)) as source,
            contextlib.closing(open_dump(location, create=True)) as target,
            Progress("restore") as progress,
        ):
            compared = copy(source, target, progress.watch)
    except DestinationInUse as error:
        text = "make an empty database, name it in store.url, and run this again; the old one stays as it is"
        raise BootError(f"{error}: {text}", Exit.CANNOT_CREATE) from None
    except StoreChanged as error:
        raise BootError(str(error), Exit.TRY_AGAIN) from None
    different = [one.table for one in compared if not one.same]
    if different:
        raise BootError(f"{location} differs in {', '.join(different)}: was it changed meanwhile?", Exit.TRY_AGAIN)
    return ""
