"""One server per runtime directory and per state directory.

Owns: the pid file and the two locks. The lock is the truth, the number in the file is for people: after a crash the
kernel has released the lock and a plain start works, whatever process now has that number.
Fails: BootError, exit 75 when another server holds a lock, 73 when a file cannot be made.
"""

from __future__ import annotations

import fcntl
import os
import time
from pathlib import Path

from chatd.config.schema import ServerOptions
from chatd.errors import BootError, Exit
from chatd.master.privileges import Identity

PIDFILE = "chatd.pid"
STATE_LOCK = "lock"
LOOKS = 5


class Lock:
    """Both locks, held. crashed: the server before us did not end by itself."""

    def __init__(self, server: ServerOptions, owner: Identity | None) -> None:
        self.path = Path(server.runtime_dir, PIDFILE)
        self.descriptors: list[int] = []
        pidfile = _acquire(self.path, owner, "it is running")
        self.descriptors.append(pidfile)
        self.crashed = os.fstat(pidfile).st_size > 0
        try:
            self.descriptors.append(
                _acquire(Path(server.state_dir, STATE_LOCK), owner, "its state directory is in use")
            )
        except BootError:
            self.release()
            raise
        for descriptor in self.descriptors:
            os.ftruncate(descriptor, 0)
            os.pwrite(descriptor, f"{os.getpid()}\n".encode(), 0)

    def close(self) -> None:
        """In a worker: give up our copy. The master's lock is not touched, because it has its own."""
        for descriptor in self.descriptors:
            os.close(descriptor)
        self.descriptors = []

    def release(self) -> None:
        """In the master, at the very end: another server may start."""
        self.path.unlink(missing_ok=True)
        self.close()


def hold_state(state_dir: Path) -> int:
    """For chatctl: as long as the descriptor is open, no server starts in this state directory. Raises BootError 75
    while one runs."""
    return _acquire(state_dir / STATE_LOCK, None, "a server runs on this state directory, stop it first")


def _acquire(path: Path, owner: Identity | None, taken: str) -> int:
    while True:
        try:
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o640)
        except OSError as error:
            raise BootError(f"{path}: cannot be made: {error.strerror}", Exit.CANNOT_CREATE) from None
        if not _locked(descriptor):
            holder = os.pread(descriptor, 32, 0).decode("ascii", "replace").strip()
            os.close(descriptor)
            raise BootError(f"{path}: {taken}{f' (process {holder})' if holder else ''}", Exit.TRY_AGAIN) from None
        if _is_still(path, descriptor):
            if owner is not None:
                os.fchown(descriptor, owner.uid, owner.gid)
            return descriptor
        os.close(descriptor)  # removed by a server that was just ending: take the new one


def _locked(descriptor: int) -> bool:
    """Several tries: chatctl looks at the lock by taking it for an instant."""
    for attempt in range(LOOKS):
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return True
        except BlockingIOError:
            if attempt < LOOKS - 1:
                time.sleep(0.02)
    return False


def _is_still(path: Path, descriptor: int) -> bool:
    try:
        return os.path.samestat(os.stat(path), os.fstat(descriptor))
    except FileNotFoundError:
        return False


def holder(server: ServerOptions) -> tuple[bool, int]:
    """For chatctl: (is a server running?, the number in the pid file or 0)."""
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
