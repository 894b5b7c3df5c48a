"""The directories of a server.

Owns: creating them with the modes and the owner they need, and the names of the files in the runtime directory.
Elsewhere: their options (config.schema: server.state_dir, runtime_dir, log_dir, and that of config.files_options).
Fails: BootError, exit 73, naming the directory.
"""

from __future__ import annotations

import contextlib
import errno
import os
from pathlib import Path

from chatd import safe_files
from chatd.config.schema import ServerOptions
from chatd.errors import BootError, Exit
from chatd.master.privileges import Identity
from chatd.orders import CONTROL as CONTROL

BUS = "bus"
CLAIMS = "claims"


def prepare(server: ServerOptions, files_dir: str, owner: Identity | None) -> None:
    """Create state_dir, runtime_dir, log_dir and files_dir (unless it is "") with mode 0750. An existing directory
    keeps its mode.

    owner: their owner; None = the current user. Raises BootError.
    """
    wanted = [Path(server.state_dir), Path(server.runtime_dir)]
    if server.log_dir != "-":
        wanted.append(Path(server.log_dir))
    if files_dir:
        wanted.append(Path(files_dir))
    for path in wanted:
        _make(path, 0o750, owner)
        if not os.access(path, os.W_OK | os.X_OK):
            raise BootError(f"cannot write to {path}: permission denied", Exit.CANNOT_CREATE)


def prepare_bus(server: ServerOptions, owner: Identity | None) -> None:
    """Create the workers' directories in runtime_dir, set their mode to 0700, and empty that of their sockets. Only
    under the instance lock, because another server's sockets must stay. Raises BootError."""
    for name in (BUS, CLAIMS):
        _make(Path(server.runtime_dir, name), 0o700, owner, private=True)
    for left in Path(server.runtime_dir, BUS).iterdir():
        try:
            left.unlink()
        except OSError as error:
            raise BootError(f"cannot remove {left}: {error.strerror}", Exit.CANNOT_CREATE) from None


def _make(path: Path, mode: int, owner: Identity | None, *, private: bool = False) -> None:
    """private: an existing directory is given the mode too, and must not be reached through a symbolic link."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with contextlib.suppress(FileExistsError):
            path.mkdir(mode)
            private = True
        if private and path.is_symlink():
            raise OSError(errno.ELOOP, "is a symbolic link")
        descriptor = safe_files.open_directory(path)
        try:
            if private:
                os.fchmod(descriptor, mode)
            if owner is not None:
                os.fchown(descriptor, owner.uid, owner.gid)
        finally:
            os.close(descriptor)
    except OSError as error:
        raise BootError(f"cannot create {path}: {error.strerror}", Exit.CANNOT_CREATE) from None
