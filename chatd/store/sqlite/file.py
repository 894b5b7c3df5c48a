"""The file of the embedded store: opening it, migrating it, rewriting it, and finding the process that has it open.

Owns: the settings of a connection, the file of the write lock, running migrations.
Elsewhere: the migrations (store.sqlite.schema), backups (store.sqlite.backup), which schemas are served
(store.versions), using an open store (store.sqlite.tables, store.sqlite.dump), when an operator may migrate
(chatctl.stores).
Fails: BootError 69 when the file cannot be opened, 75 when it is in use, 78 for a schema or a state that this version
must not touch; otherwise sqlite3.Error passes through.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import sqlite3
import struct
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple
from urllib.parse import quote

from chatd import safe_files
from chatd.errors import BootError, Exit
from chatd.store.sqlite import schema as sqlite_schema
from chatd.store.versions import FILLING, check_filled, check_upgradable, check_version

_LOG_PAGES = 50_000
"""If the checkpointer cannot keep up, SQLite itself makes a checkpoint at this size."""
_CACHE_KIB = 16 * 1024
_SHARED_LOCK = (0x40000002, 510)
"""Start and length of the bytes that SQLite locks in every process that has the file open."""
_FLOCK = "hhqqi4x"
"""struct flock."""
INCREMENTAL = 2
"""PRAGMA auto_vacuum of a file whose unused pages can be given back."""


class OpenFile(NamedTuple):
    """The database, and the descriptor whose flock is its write lock, which is held."""

    db: sqlite3.Connection
    lock_fd: int

    def unlock(self) -> None:
        fcntl.flock(self.lock_fd, fcntl.LOCK_UN)

    def close(self) -> None:
        self.db.close()
        os.close(self.lock_fd)


@contextlib.contextmanager
def opening(path: Path, *, create: bool, exclusive: bool) -> Iterator[OpenFile]:
    """Open the database and take its write lock; the body prepares it. Closed again if the body fails, otherwise left
    open for the caller.

    create: a missing file is created; otherwise nothing is created. exclusive: instead of waiting for the lock, fail if
    another process has the database open. Raises: BootError 69, 75 (exclusive)."""
    name = f"sqlite:{path}"
    if not create:
        _check_exists(path)
    if exclusive and (pid := holder(path)):
        raise BootError(f"store {name} is in use by process {pid}: stop the server first", Exit.TRY_AGAIN)
    with contextlib.ExitStack() as undo:
        try:
            for name in ("", "-wal", "-shm", "-journal"):
                safe_files.check_regular(f"{path}{name}")
            lock_fd = safe_files.open_file(f"{path}.lock", os.O_RDWR | os.O_CREAT)
            undo.callback(os.close, lock_fd)
            fcntl.flock(lock_fd, fcntl.LOCK_EX | (fcntl.LOCK_NB if exclusive else 0))
            db = connect(path)
            undo.callback(db.close)
            yield OpenFile(db, lock_fd)
        except BlockingIOError:
            raise BootError(f"store {name} is in use by another process", Exit.TRY_AGAIN) from None
        except (OSError, sqlite3.Error) as error:
            raise BootError(f"store {name}: {error}", Exit.UNAVAILABLE) from error
        undo.pop_all()


@contextlib.contextmanager
def reading(path: Path) -> Iterator[sqlite3.Connection]:
    """The database, only to be read, beside a server or without one. Its schema is not looked at. Raises: BootError
    69."""
    _check_exists(path)
    try:
        for end in ("", "-wal", "-shm", "-journal"):
            safe_files.check_regular(f"{path}{end}")
        db = _connect_to_read(path)
    except (OSError, sqlite3.Error) as error:
        raise BootError(f"store sqlite:{path}: {error}", Exit.UNAVAILABLE) from error
    with contextlib.closing(db):
        db.execute("PRAGMA query_only = ON")
        yield db


def _has_log(path: Path) -> bool:
    """Whether the file is one that a server uses, in WAL mode. A connection that may only read would leave the log and
    its index behind; one that may write, and does not, removes them when it is the last. A backup is not in WAL
    mode."""
    with path.open("rb") as file:
        head = file.read(20)
    return head[18:20] == b"\2\2" and os.access(path, os.W_OK)


def _connect_to_read(path: Path) -> sqlite3.Connection:
    if _has_log(path):
        with contextlib.suppress(sqlite3.DatabaseError):  # it is damaged: what can be read of it may be read
            return connect(path)
    return sqlite3.connect(f"file:{quote(str(path))}?mode=ro", uri=True, isolation_level=None, timeout=2.0)


def _check_exists(path: Path) -> None:
    """Without opening it: SQLite would write to an empty file."""
    try:
        size = path.stat().st_size
    except FileNotFoundError:
        raise BootError(f"store sqlite:{path} does not exist", Exit.UNAVAILABLE) from None
    except OSError as error:
        raise BootError(f"store sqlite:{path}: {error.strerror}", Exit.UNAVAILABLE) from None
    if not size:
        raise BootError(f"store sqlite:{path} does not exist: the file is empty", Exit.UNAVAILABLE)


def connect(path: Path) -> sqlite3.Connection:
    """In WAL mode, and durable when a commit returns."""
    db = sqlite3.connect(path, isolation_level=None, check_same_thread=False, timeout=2.0, cached_statements=256)
    try:
        db.execute(f"PRAGMA auto_vacuum = {INCREMENTAL}")  # of a new file, or by the next VACUUM
        db.execute("PRAGMA journal_mode = WAL")
        db.execute("PRAGMA secure_delete = ON")  # deleted texts are overwritten
        db.execute("PRAGMA synchronous = FULL")
        db.execute(f"PRAGMA wal_autocheckpoint = {_LOG_PAGES}")
        db.execute(f"PRAGMA cache_size = -{_CACHE_KIB}")
    except sqlite3.Error:
        db.close()
        raise
    return db


def version_of(db: sqlite3.Connection) -> int:
    """Version of the schema; 0: there are no tables."""
    return int(db.execute("PRAGMA user_version").fetchone()[0])


def check_schema(path: Path) -> None:
    """Whether a server may be upgraded to this program while it uses the file. Reads only, and takes no lock. Raises:
    BootError 69, 78."""
    _check_exists(path)
    try:
        with contextlib.closing(sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True)) as db:
            version = version_of(db)
    except sqlite3.Error as error:
        raise BootError(f"store sqlite:{path}: {error}", Exit.UNAVAILABLE) from None
    check_upgradable(version, len(sqlite_schema.MIGRATIONS), f"sqlite:{path}")


def migrate(db: sqlite3.Connection, upto: int) -> None:
    """Each migration is one transaction: a crash leaves the store at the one before."""
    for number in range(version_of(db) + 1, upto + 1):
        db.execute("BEGIN IMMEDIATE")
        try:
            for step in sqlite_schema.MIGRATIONS[number - 1]:
                if callable(step):
                    step(db)
                else:
                    db.execute(step)
            db.execute(f"PRAGMA user_version = {number}")
            db.execute("COMMIT")
        except sqlite3.Error:
            with contextlib.suppress(sqlite3.Error):
                db.execute("ROLLBACK")
            raise


def make_ready(db: sqlite3.Connection, path: Path, *, create: bool, fill: bool = False) -> None:
    """Under the write lock, before the store is used. A store without users is migrated; one with users must be at the
    newest schema. create: an empty file becomes a store. fill: a store that is being filled is accepted.

    Raises: BootError 69 for an empty file without `create`, 78."""
    version, newest = version_of(db), len(sqlite_schema.MIGRATIONS)
    if version == 0 and not create:
        raise BootError(f"store sqlite:{path} does not exist: the file has no tables of it", Exit.UNAVAILABLE)
    if version != newest:
        empty = version == 0 or db.execute("SELECT 1 FROM user LIMIT 1").fetchone() is None
        check_version(version, newest, empty, f"sqlite:{path}")
        migrate(db, newest)
    if not fill:
        row = db.execute("SELECT value FROM meta WHERE key = ?", (FILLING,)).fetchone()
        check_filled(row[0] if row else "", f"sqlite:{path}")


def holder(path: Path) -> int:
    """The id of a process that has the database open; 0 = none, except perhaps this one. Must be called before this
    process opens the database, because closing the descriptor opened here releases this process's own locks."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return 0
    try:
        asked = struct.pack(_FLOCK, fcntl.F_WRLCK, os.SEEK_SET, *_SHARED_LOCK, 0)
        kind, _, _, _, pid = struct.unpack(_FLOCK, fcntl.fcntl(descriptor, fcntl.F_GETLK, asked))
        return 0 if kind == fcntl.F_UNLCK else int(pid)
    finally:
        os.close(descriptor)


def gives_space_back(db: sqlite3.Connection) -> bool:
    """Whether unused pages can be cut off (PRAGMA incremental_vacuum). Files that this version made can."""
    return bool(db.execute("PRAGMA auto_vacuum").fetchone()[0] == INCREMENTAL)


def room_to_rewrite(db: sqlite3.Connection) -> int:
    """Bytes that rewrite() needs beside the file, for a short time: its content twice."""
    pages, unused, size = (
        int(db.execute(f"PRAGMA {name}").fetchone()[0]) for name in ("page_count", "freelist_count", "page_size")
    )
    return int(2.1 * (pages - unused) * size)


def rewrite(db: sqlite3.Connection, path: Path) -> None:
    """Write the whole file anew, without unused pages and so that later ones can be given back. Alone with the file.
    An interruption at any moment leaves it as it was. Raises: sqlite3.Error."""
    before = os.environ.get("SQLITE_TMPDIR")
    os.environ["SQLITE_TMPDIR"] = str(path.parent.absolute())  # where room was looked for
    db.set_progress_handler(lambda: 0, 100_000)  # so that a signal can interrupt it
    try:
        db.execute(f"PRAGMA auto_vacuum = {INCREMENTAL}")
        db.execute("VACUUM")
        db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    finally:
        db.set_progress_handler(None, 0)
        if before is None:
            del os.environ["SQLITE_TMPDIR"]
        else:
            os.environ["SQLITE_TMPDIR"] = before


def sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def backup_name(path: Path, version: int, now_s: float) -> Path:
    """chatd.db.v1-20260102T030405Z.bak, beside the database; with a number if that exists."""
    stamp = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime(now_s))
    names = (
        path.with_name(f"{path.name}.v{version}-{stamp}{more}.bak") for more in ("", *map("-{}".format, range(99)))
    )
    return next(name for name in names if not os.path.lexists(name))
