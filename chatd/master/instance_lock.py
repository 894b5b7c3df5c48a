"""The instance lock: one server per runtime directory and per state directory.

Owns: the pid file and the two locks. Only the lock counts, the number in the file is for people: after a crash the
kernel has released the lock and a plain start works, whatever process has that number by then.
Elsewhere: the lock of the database itself (store.sqlite).
Fails: BootError, exit 75 when another server holds a lock, 73 when a file cannot be created.
"""

from __future__ import annotations

import fcntl
import os
import time
from pathlib import Path

from chatd import safe_files
from chatd.config.schema import ServerOptions
from chatd.errors import BootError, Exit
from chatd.master.privileges import Identity

PIDFILE = "chatd.pid"
STATE_LOCK = "lock"
TRIES = 5
"""Attempts to take a lock: chatctl checks it by taking it for an instant."""
TRY_AGAIN_S = 0.02


class InstanceLock:
    """Both locks, held. crashed: the previous server ended without releasing them itself."""

    def __init__(self, server: ServerOptions, owner: Identity | None, held: tuple[int, ...] = ()) -> None:
        """held: both, if this process has them already, from an earlier program."""
        self.path = Path(server.runtime_dir, PIDFILE)
        self.descriptors = list(held)
        self.crashed = False
        if not held:
            self._take(server, owner)

    def _take(self, server: ServerOptions, owner: Identity | None) -> None:
        pidfile = _acquire(self.path, owner, "another chatd is already running")
        self.descriptors.append(pidfile)
        self.crashed = os.fstat(pidfile).st_size > 0
        try:
            taken = "another chatd uses the same server.state_dir"
            self.descriptors.append(_acquire(Path(server.state_dir, STATE_LOCK), owner, taken))
        except BootError:
            self.release()
            raise
        for descriptor in self.descriptors:
            os.ftruncate(descriptor, 0)
            os.pwrite(descriptor, f"{os.getpid()}\n".encode(), 0)

    def close(self) -> None:
        """In a forked worker: close its copies of the descriptors. The master keeps the lock."""
        for descriptor in self.descriptors:
            os.close(descriptor)
        self.descriptors = []

    def release(self) -> None:
        """In the master, as its last act: another server may start."""
        self.path.unlink(missing_ok=True)
        self.close()


def hold_state(state_dir: Path) -> int:
    """For chatctl: until the descriptor is closed, no server starts in this state directory. Raises BootError, exit 75,
    while one runs."""
    return _acquire(state_dir / STATE_LOCK, None, "a chatd is running on this state directory; stop it first")


def _acquire(path: Path, owner: Identity | None, taken: str) -> int:
    while True:
        try:
            descriptor = safe_files.open_file(path, os.O_RDWR | os.O_CREAT)
        except OSError as error:
            raise BootError(f"cannot create {path}: {error.strerror}", Exit.CANNOT_CREATE) from None
        if not _locked(descriptor):
            holder = os.pread(descriptor, 32, 0).decode("ascii", "replace").strip()
            os.close(descriptor)
            who = f"pid {holder}, {path}" if holder else str(path)
            raise BootError(f"{taken} ({who})", Exit.TRY_AGAIN) from None
        if _is_still(path, descriptor):
            if owner is not None:
                os.fchown(descriptor, owner.uid, owner.gid)
            return descriptor
        os.close(descriptor)  # removed by a server that was just ending: try the new file


def _locked(descriptor: int) -> bool:
    for attempt in range(TRIES):
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return True
        except BlockingIOError:
            if attempt < TRIES - 1:
                time.sleep(TRY_AGAIN_S)
    return False


def _is_still(path: Path, descriptor: int) -> bool:
    try:
        return os.path.samestat(os.stat(path), os.fstat(descriptor))
    except FileNotFoundError:
        return False


def holder(server: ServerOptions) -> tuple[bool, int]:
    """For chatctl: (is a server running?, the number in the pid file or 0). Raises PermissionError."""
    try:
        descriptor = os.open(Path(server.runtime_dir, PIDFILE), os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
    except FileNotFoundError:
        return False, 0
    try:
        text = os.pread(descriptor, 32, 0).decode("ascii", "replace").strip()
        pid = int(text) if text.isdigit() else 0
        try:
            fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return True, pid
        return False, pid
    finally:
        os.close(descriptor)
