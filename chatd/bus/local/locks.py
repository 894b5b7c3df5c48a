"""Exclusive locks between the processes of one host, released by the kernel when their holder dies.

Owns: a fixed set of files, and one locked byte in one of them for each lock held (open file description locks,
fcntl(2)). They belong to the open files of one LocalLocks, so two of them exclude each other even within one process,
closing the same file elsewhere in the process releases nothing (as it does with lockf(3)), and `kill -9` releases all.
Elsewhere: the purpose of the locks (core.sessions.exclusive).
Fails: Unavailable if the files cannot be opened or the kernel has no memory for a lock.
Cost: 2-3 microseconds for a lock with 10,000 held, 15 with 50,000: the kernel walks a list for each file.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import struct
from collections.abc import Sequence
from pathlib import Path

from chatd.errors import Unavailable

FILES = 64
"""Number of files. Every worker of a host must use the same number: it decides which byte stands for a key."""

_FLOCK = struct.Struct("hhqqi4x")
"""The kernel's struct flock: type, whence, start, length, pid (0 for these locks)."""


class LocalLocks:
    def __init__(self, directory: Path) -> None:
        """Open FILES files in `directory`, which is created if it does not exist.

        Raises:
            Unavailable: they cannot be opened; nothing is left open.
        """
        self._held: set[int] = set()
        self._files: list[int] = []
        """Descriptors; empty once closed."""
        flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW
        try:
            directory.mkdir(mode=0o700, parents=True, exist_ok=True)
            for number in range(FILES):
                self._files.append(os.open(directory / f"{number:02}", flags, 0o600))
        except OSError as error:
            self.close()
            raise Unavailable(f"cannot open the lock files in {directory}: {error}") from error

    def close(self) -> None:
        """Release every lock. May be called twice."""
        while self._files:
            os.close(self._files.pop())
        self._held.clear()

    def take(self, key: int) -> bool:
        """False if somebody else holds the lock of `key`. One held here is granted again.

        Raises:
            Unavailable: the kernel cannot tell, or these locks are closed.
        """
        if key in self._held:
            return True
        if not self._files:
            raise Unavailable("the lock files are closed")
        try:
            _lock(self._files, fcntl.F_WRLCK, key)
        except OSError as error:
            if error.errno in (errno.EAGAIN, errno.EACCES):
                return False
            raise Unavailable(f"cannot lock: {error}") from error
        self._held.add(key)
        return True

    @property
    def descriptors(self) -> tuple[int, ...]:
        """The open files, by which another process can take locks for these."""
        return tuple(self._files)

    def give(self, key: int, descriptors: Sequence[int]) -> bool:
        """Pass the lock of `key` to the locks with these open files. False: it was not held, or somebody else was
        quicker: the kernel cannot do this in one step, so for about two microseconds the lock is free.

        Raises:
            Unavailable: the kernel has no memory for a lock; it is released.
        """
        if key not in self._held:
            return False
        self.drop(key)
        try:
            _lock(descriptors, fcntl.F_WRLCK, key)
        except OSError as error:
            if error.errno in (errno.EAGAIN, errno.EACCES):
                return False
            raise Unavailable(f"cannot lock: {error}") from error
        return True

    def take_back(self, key: int, descriptors: Sequence[int]) -> bool:
        """Undo give(). False: somebody else has it. Raises: Unavailable, as take()."""
        with contextlib.suppress(OSError):  # then it was not given, or take() says why
            _lock(descriptors, fcntl.F_UNLCK, key)
        return self.take(key)

    def keep(self, key: int) -> None:
        """It was given to these."""
        self._held.add(key)

    def drop(self, key: int) -> None:
        """Release the lock of `key`; one that is not held is ignored."""
        if key in self._held:
            self._held.remove(key)
            _lock(self._files, fcntl.F_UNLCK, key)


def _lock(files: Sequence[int], kind: int, key: int) -> None:
    # Neighbouring keys share neither file nor byte; keys in a row become one range in the kernel's list.
    start, number = divmod(key, FILES)
    fcntl.fcntl(files[number], fcntl.F_OFD_SETLK, _FLOCK.pack(kind, os.SEEK_SET, start, 1, 0))
