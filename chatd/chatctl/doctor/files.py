"""Checks of files: who may change or read them, and whether the server can use its directories.

Owns: modes and owners, as the server itself checks them at its start; directories that the server's user cannot write.
Elsewhere: judging modes (strict_modes, config.strict); certificates (chatctl.doctor.listeners).
Fails: never.
"""

from __future__ import annotations

import os
import pwd
import stat
from collections.abc import Iterator
from pathlib import Path

from chatd.chatctl.doctor.finding import Finding, Installation, error, ok
from chatd.config import strict


def modes(installation: Installation) -> Iterator[Finding]:
    """Owners and modes, as at a start."""
    wrong = strict.problems(installation.loaded)
    for line in wrong:
        text, _, command = line.partition("; run: ")
        meaning = "another user of this host could read or change it; chatd does not start without --no-strict"
        yield error("files.modes", text, meaning, f"run: {command}" if command else "correct its owner and mode")
    if not wrong:
        yield ok("files.modes", "no other user of this host may change the server's files or read its secrets")


def directories(installation: Installation) -> Iterator[Finding]:
    """As the server's user would find them: root may write everywhere."""
    server = installation.config.server
    wanted = {"server.state_dir": server.state_dir, "server.runtime_dir": server.runtime_dir}
    if server.log_dir != "-":
        wanted["server.log_dir"] = server.log_dir
    if installation.config.files.dir:
        wanted["files.dir"] = installation.config.files.dir
    user = _user(server.user)
    bad = 0
    for option, path in wanted.items():
        if user is not None and Path(path).exists() and not _may_write(Path(path), user):
            bad += 1
            text = f"{path} ({option}) cannot be written by {user.pw_name}"
            yield error("files.directories", text, "the server does not start", f"chown {user.pw_name} {path}")
        elif not Path(path).exists() and installation.pid:
            bad += 1
            text = f"{path} ({option}) does not exist, although a server runs"
            yield error("files.directories", text, "somebody has removed it", "restart the server")
    if not bad:
        yield ok("files.directories", "the server can write to its directories, or create them")


def _user(name: str) -> pwd.struct_passwd | None:
    """None: nobody by this name, which config.validate reports."""
    try:
        return pwd.getpwnam(name) if name else pwd.getpwuid(os.geteuid())
    except KeyError:
        return None


def _may_write(path: Path, user: pwd.struct_passwd) -> bool:
    if user.pw_uid == 0:
        return True
    found = path.stat()
    if found.st_uid == user.pw_uid:
        return bool(found.st_mode & stat.S_IWUSR)
    if found.st_gid in os.getgrouplist(user.pw_name, user.pw_gid):
        return bool(found.st_mode & stat.S_IWGRP)
    return bool(found.st_mode & stat.S_IWOTH)
