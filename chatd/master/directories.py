"""The directories of a server.

Owns: creating them with the modes and the owner they need, and the names of the files in the runtime directory.
Elsewhere: their options (config.schema: server.state_dir, runtime_dir, log_dir).
Fails: BootError, exit 73, naming the directory.
"""

from __future__ import annotations

import os
from pathlib import Path

from chatd.config.schema import ServerOptions
from chatd.errors import BootError, Exit
from chatd.master.privileges import Identity

BUS = "bus"
CLAIMS = "claims"
CONTROL = "control.sock"


def prepare(server: ServerOptions, owner: Identity | None) -> None:
    """Create state_dir, runtime_dir and log_dir with mode 0750. An existing directory keeps its mode.

    owner: their owner; None = the current user. Raises BootError.
    """
    wanted = [Path(server.state_dir), Path(server.runtime_dir)]
    if server.log_dir != "-":
        wanted.append(Path(server.log_dir))
    for path in wanted:
        _make(path, 0o750, owner)
        if not os.access(path, os.W_OK | os.X_OK):
            raise BootError(f"cannot write to {path}: permission denied", Exit.CANNOT_CREATE)


def prepare_bus(server: ServerOptions, owner: Identity | None) -> None:
    """Create the workers' directories in runtime_dir with mode 0700, and empty that of their sockets. Only under the
    instance lock, because another server's sockets must stay. Raises BootError."""
    for name in (BUS, CLAIMS):
        _make(Path(server.runtime_dir, name), 0o700, owner)
    for left in Path(server.runtime_dir, BUS).iterdir():
        try:
            left.unlink()
        except OSError as error:
            raise BootError(f"cannot remove {left}: {error.strerror}", Exit.CANNOT_CREATE) from None


def _make(path: Path, mode: int, owner: Identity | None) -> None:
    try:
        if not path.is_dir():
            path.parent.mkdir(parents=True, exist_ok=True)
            path.mkdir(mode)
            path.chmod(mode)
        if owner is not None:
            os.chown(path, owner.uid, owner.gid)
    except OSError as error:
        raise BootError(f"cannot create {path}: {error.strerror}", Exit.CANNOT_CREATE) from None
