"""A copy of an SQLite store in another file: complete, checked and durable, or not there at all.

Owns: copying the open database in slices, beside a server that writes to it; the temporary file beside the target; the
check of the copy.
Elsewhere: the connection (store.sqlite.file), when an operator may do that (chatctl.stores, chatctl.maintenance).
Fails: BootError 73; the temporary file is then removed. One that was left by kill -9 is removed by the next backup to
the same target.

The copy shows the store at one moment: the source is read in one transaction, which keeps SQLite from starting again
whenever somebody writes. Until it ends, the write-ahead log cannot be restarted, and grows by what is written
meanwhile.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import sqlite3
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

from chatd.errors import BootError, Exit
from chatd.store.sqlite import file as sqlite_file

SPARE = 1.05
"""Room that must be there, as a multiple of the size of the store."""
_SLICE_PAGES = 256
"""Copied in one step: 1 MiB, a few milliseconds."""
_SYNC_BYTES = 8 * 1024 * 1024
"""The copy is written to the disk after so many bytes. All of it at once, in the end, would make the commits of the
server wait."""
_REST = 1.0
"""A pause after each step, as a multiple of the time that the step took."""

Watch = Callable[[int, int], None]
"""Called with (pages done, pages in all)."""


class BackupOptions(NamedTuple):
    """mode: of the file. replace: the target may exist. gentle: a server works on the store: leave it time."""

    mode: int = 0o640
    replace: bool = False
    gentle: bool = False


def back_up(
    db: sqlite3.Connection, path: Path, target: Path, watch: Watch, options: BackupOptions | None = None
) -> None:
    """Copy the open database at `path` to `target`. The copy belongs to the owner of the database. Raises: BootError
    73."""
    options = options or BackupOptions()
    with new_file(target, size_of(db), path, options) as part:
        db.execute("BEGIN")
        try:
            db.execute("SELECT count(*) FROM sqlite_master").fetchone()  # from now on, one moment
            with contextlib.closing(sqlite3.connect(part, isolation_level=None)) as copy:
                copy.execute("PRAGMA synchronous = OFF")  # new_file() writes it to the disk
                copy.execute("PRAGMA journal_mode = OFF")
                with contextlib.closing(_Pace(part, watch, options.gentle)) as pace:
                    db.backup(copy, pages=_SLICE_PAGES, progress=pace.step)
        finally:
            db.execute("ROLLBACK")
        finish(part, sqlite_file.version_of(db))


def size_of(db: sqlite3.Connection) -> int:
    """Bytes of the database without its log."""
    pages, size = (int(db.execute(f"PRAGMA {name}").fetchone()[0]) for name in ("page_count", "page_size"))
    return pages * size


def finish(part: Path, version: int) -> None:
    """Make it a file that needs no log beside it, and read all its pages. Raises: sqlite3.DatabaseError."""
    with contextlib.closing(sqlite3.connect(part, isolation_level=None)) as copy:
        copy.execute("PRAGMA journal_mode = DELETE")
        result = copy.execute("PRAGMA quick_check(1)").fetchone()[0]
        if result != "ok" or sqlite_file.version_of(copy) != version:
            raise sqlite3.DatabaseError(f"the copy is damaged: {result}")


class _Pace:
    """The steps of a copy: progress, the pauses between them, and writing to the disk."""

    def __init__(self, part: Path, watch: Watch, gentle: bool) -> None:
        self._descriptor = os.open(part, os.O_RDWR | os.O_CLOEXEC)
        self._watch, self._gentle = watch, gentle
        self._unwritten = 0
        self._last = 0
        """Pages done at the last step."""
        self._begun = time.monotonic()

    def step(self, _status: int, left: int, total: int) -> None:
        done = total - left
        self._watch(done, total)
        self._unwritten += (done - self._last) * 4096
        self._last = done
        if self._unwritten >= _SYNC_BYTES:
            os.fdatasync(self._descriptor)
            self._unwritten = 0
        if self._gentle:
            time.sleep(_REST * (time.monotonic() - self._begun))
            self._begun = time.monotonic()

    def close(self) -> None:
        """Closing any descriptor of a file ends the locks that this process has on it: after the copy."""
        os.close(self._descriptor)


@contextlib.contextmanager
def new_file(target: Path, size: int, owner: Path, options: BackupOptions) -> Iterator[Path]:
    """An empty file beside the target, which gets the target's name when the body ends, or is removed. size: about what
    the body will write, in bytes; without room for it, nothing is begun. owner: a file to whose owner it is to belong.

    Raises: BootError 73, also for sqlite3.Error and OSError of the body."""
    part = target.with_name(target.name + ".part")
    try:
        descriptor = _created(target, part, size, options)
    except OSError as error:
        raise BootError(f"backup {target}: cannot be created: {error.strerror}", Exit.CANNOT_CREATE) from None
    try:
        if os.geteuid() == 0:
            info = owner.stat()
            os.fchown(descriptor, info.st_uid, info.st_gid)
        yield part
        os.fsync(descriptor)
        if not options.replace and os.path.lexists(target):
            raise BootError(f"backup {target}: exists already", Exit.CANNOT_CREATE)
        part.rename(target)
        sqlite_file.sync_folder(target.parent)
    except (OSError, sqlite3.Error) as error:
        raise BootError(f"backup {target}: failed: {error}", Exit.CANNOT_CREATE) from None
    finally:
        for end in ("", "-journal", "-wal", "-shm", ".lock"):
            part.with_name(part.name + end).unlink(missing_ok=True)
        os.close(descriptor)


def _created(target: Path, part: Path, size: int, options: BackupOptions) -> int:
    """Raises: BootError 73, OSError."""
    room = os.statvfs(target.parent)
    if room.f_bavail * room.f_frsize < size * SPARE:
        free = room.f_bavail * room.f_frsize
        text = f"no room for a backup of {size} bytes in {target.parent}, which has {free} free"
        raise BootError(f"backup {target}: {text}", Exit.CANNOT_CREATE)
    if os.path.lexists(target) and not (options.replace and target.is_file() and not target.is_symlink()):
        raise BootError(f"backup {target}: exists already", Exit.CANNOT_CREATE)
    _remove_left_over(target, part)
    descriptor = os.open(part, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, options.mode)
    fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    os.fchmod(descriptor, options.mode)
    return descriptor


def _remove_left_over(target: Path, part: Path) -> None:
    """Of a backup that was killed; one that is being written is locked. Raises: BootError 73, OSError."""
    try:
        descriptor = os.open(part, os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK)
    except FileNotFoundError:
        return
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise BootError(f"backup {target}: another backup is writing {part}", Exit.CANNOT_CREATE) from None
    finally:
        os.close(descriptor)
    for end in ("", "-journal", "-wal", "-shm", ".lock"):
        part.with_name(part.name + end).unlink(missing_ok=True)
