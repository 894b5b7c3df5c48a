"""Opening files and directories that are written, so that nobody can lead the write to another file.

Owns: refusing symbolic links, files with a second name (hard links), and what is not a regular file or a directory.
Elsewhere: who may write to the directories on the way (strict_modes); Unix sockets, whose bind() follows no links.
Fails: OSError whose strerror says what the name is instead.

SQLite opens its files by name, and has no way to refuse a link: check_regular() is called for them before.
"""

from __future__ import annotations

import errno
import os
import stat
from pathlib import Path

FILE_MODE = 0o640


def open_file(path: str | Path, flags: int, mode: int = FILE_MODE) -> int:
    """A descriptor of a regular file that has no other name. flags: of os.open(), to which O_NOFOLLOW and O_CLOEXEC are
    added. Raises: OSError."""
    try:
        # O_NONBLOCK: a named pipe must not block; it means nothing for regular files
        descriptor = os.open(path, flags | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK, mode)
    except OSError as error:
        raise _explained(error, path) from None
    try:
        _check(os.fstat(descriptor), path)
    except OSError:
        os.close(descriptor)
        raise
    return descriptor


def check_regular(path: str | Path) -> None:
    """The same for a file that something else is going to open by its name. A missing one is right. Raises: OSError."""
    try:
        info = os.lstat(path)
    except FileNotFoundError:
        return
    _check(info, path)


def open_directory(path: str | Path) -> int:
    """A descriptor of a directory, by which its mode and owner can be changed. A symbolic link is
    followed only if it belongs to root or to our user. Raises: OSError."""
    flags = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC
    try:
        return os.open(path, flags | os.O_NOFOLLOW)
    except OSError as error:
        if error.errno not in (errno.ELOOP, errno.ENOTDIR) or not _is_our_link(path):
            raise _explained(error, path) from None
    return os.open(path, flags)


def _is_our_link(path: str | Path) -> bool:
    info = os.lstat(path)
    return stat.S_ISLNK(info.st_mode) and info.st_uid in (0, os.geteuid())


def _check(info: os.stat_result, path: str | Path) -> None:
    if stat.S_ISLNK(info.st_mode):
        raise OSError(errno.ELOOP, "is a symbolic link", str(path))
    if not stat.S_ISREG(info.st_mode):
        raise OSError(errno.EINVAL, "is not a regular file", str(path))
    if info.st_nlink > 1:
        raise OSError(errno.EMLINK, f"has {info.st_nlink} names (hard links)", str(path))


def _explained(error: OSError, path: str | Path) -> OSError:
    if error.errno == errno.ELOOP or (error.errno == errno.ENOTDIR and Path(path).is_symlink()):
        return OSError(errno.ELOOP, "is a symbolic link", str(path))
    if error.errno == errno.ENXIO:
        return OSError(errno.EINVAL, "is not a regular file", str(path))
    return error
