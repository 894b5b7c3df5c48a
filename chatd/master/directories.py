"""The directories a server lives in.

Owns: making them, with the modes and the owner they need.
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
    """state_dir, runtime_dir, log_dir (0750) and the workers' folders in runtime_dir (0700), bus/ emptied.

    An existing directory keeps its mode. owner: to whom they are given (None = they stay ours).
    """
    wanted = [Path(server.state_dir), Path(server.runtime_dir)]
    if server.log_dir != "-":
        wanted.append(Path(server.log_dir))
    for path in wanted:
        _make(path, 0o750, owner)
        if not os.access(path, os.W_OK | os.X_OK):
            raise BootError(f"{path}: cannot be written", Exit.CANNOT_CREATE)


def prepare_bus(server: ServerOptions, owner: Identity | None) -> None:
    """The folders for the workers' sockets and marks. Only under the lock: another server's must stay."""
    for name in (BUS, CLAIMS):
        _make(Path(server.runtime_dir, name), 0o700, owner)
    for left in Path(server.runtime_dir, BUS).iterdir():
        try:
            left.unlink()
        except OSError as error:
            raise BootError(f"{left}: cannot be removed: {error.strerror}", Exit.CANNOT_CREATE) from None


def _make(path: Path, mode: int, owner: Identity | None) -> None:
    try:
        if not path.is_dir():
            path.parent.mkdir(parents=True, exist_ok=True)
            path.mkdir(mode)
            path.chmod(mode)
        if owner is not None:
            os.chown(path, owner.uid, owner.gid)
    except OSError as error:
        raise BootError(f"{path}: cannot be made: {error.strerror}", Exit.CANNOT_CREATE) from None
