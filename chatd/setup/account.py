"""The account that the server runs as.

Owns: looking for it, and creating it with systemd-sysusers or useradd.
Elsewhere: the file for systemd-sysusers (plan).
Fails: BootError if neither command can create it.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

from chatd.errors import BootError, Exit
from chatd.setup.place import STATE, Place

NAME = "chatd"
SYSUSERS_FILE = "chatd.conf"
_PASSWD = Path("/etc/passwd")
LIMIT_S = 60
"""Most that either command may take."""


def ids(place: Place) -> tuple[int, int] | None:
    """Its uid and gid on that system; None: it does not exist."""
    try:
        lines = place.below(_PASSWD).read_text(encoding="utf-8", errors="replace").splitlines()
    except FileNotFoundError:
        return None
    for line in lines:
        fields = line.split(":")
        if fields[0] == NAME and len(fields) > 3:
            return int(fields[2]), int(fields[3])
    return None


def can_create() -> bool:
    return os.geteuid() == 0


def create(place: Place) -> None:
    """Raises: BootError (exit code 73)."""
    where = [] if place.is_this_host else ["--root", str(place.root)]
    errors = []
    for command in (
        ["systemd-sysusers", *where, SYSUSERS_FILE],
        ["useradd", *where, "--system", "--user-group", "--home-dir", str(STATE), "--no-create-home",
         "--shell", "/usr/sbin/nologin", NAME],
    ):  # fmt: skip
        if shutil.which(command[0]) is None:
            errors.append(f"{command[0]}: not found")
            continue
        ended = subprocess.run(command, capture_output=True, text=True, check=False, timeout=LIMIT_S)
        if ids(place) is not None:
            return
        errors.append(f"{command[0]}: {ended.stderr.strip() or f'exit code {ended.returncode}'}")
    raise BootError(f"cannot create the account {NAME}: {'; '.join(errors)}", Exit.CANNOT_CREATE)
