"""The user the server runs as.

Owns: the choice of user and group, giving up root for good, raising the limit of descriptors, and no core dumps.
Elsewhere: the owner of the directories (master.directories).
Fails: BootError, exit 77.
"""

from __future__ import annotations

import contextlib
import grp
import os
import pwd
import resource
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from chatd.config.schema import ServerOptions
from chatd.errors import BootError, Exit

PR_SET_NO_NEW_PRIVS = 38


class Identity(NamedTuple):
    """A user of this host, and the group to run with."""

    name: str
    uid: int
    gid: int


def identity(server: ServerOptions, allow_root: bool) -> Identity | None:
    """The user to become; None = remain the current user. Raises BootError where that is not possible or not
    allowed."""
    if os.geteuid() != 0:
        if server.user and pwd.getpwnam(server.user).pw_uid != os.geteuid():
            raise BootError(f"cannot run as server.user {server.user}: chatd was not started by root", Exit.PERMISSION)
        return None
    if not server.user:
        if not allow_root:
            raise BootError("refusing to run as root: set server.user, or give --allow-root", Exit.PERMISSION)
        return None
    entry = pwd.getpwnam(server.user)
    gid = grp.getgrnam(server.group).gr_gid if server.group else entry.pw_gid
    if entry.pw_uid == 0 and not allow_root:
        raise BootError("refusing to run as root: server.user is root; give --allow-root", Exit.PERMISSION)
    return Identity(entry.pw_name, entry.pw_uid, gid)


@contextlib.contextmanager
def acting_as(user: Identity | None) -> Iterator[None]:
    """Open files as this user would, and come back. None = as the present one. Only root can; one thread."""
    if user is None or os.geteuid() != 0:
        yield
        return
    groups, gid = os.getgroups(), os.getegid()
    try:
        os.initgroups(user.name, user.gid)
        os.setegid(user.gid)
        os.seteuid(user.uid)
        yield
    finally:
        os.seteuid(0)
        os.setegid(gid)
        os.setgroups(groups)


def drop(user: Identity | None) -> None:
    """Become this user with no way back, and never gain privileges by execve. Raises BootError."""
    _no_new_privileges()
    if user is None:
        return
    try:
        os.initgroups(user.name, user.gid)
        os.setresgid(user.gid, user.gid, user.gid)
        os.setresuid(user.uid, user.uid, user.uid)
    except OSError as error:
        raise BootError(f"cannot switch to user {user.name}: {error.strerror}", Exit.PERMISSION) from None
    if os.getresuid() != (user.uid,) * 3 or os.getresgid() != (user.gid,) * 3:
        raise BootError(f"cannot switch to user {user.name}: the kernel did not change the ids", Exit.PERMISSION)


def _no_new_privileges() -> None:
    if "NoNewPrivs:\t1" in Path("/proc/self/status").read_text(encoding="utf-8"):
        return  # systemd has done it, and may forbid the memory mapping that ctypes needs
    import ctypes

    if ctypes.CDLL(None, use_errno=True).prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0:
        raise BootError(f"cannot set no_new_privs: {os.strerror(ctypes.get_errno())}", Exit.PERMISSION)


def forbid_core_dumps() -> None:
    """A core would hold messages, passwords that are being checked, and keys. The hard limit stays, for `prlimit`."""
    with contextlib.suppress(OSError, ValueError):  # a sandbox may forbid it, and the unit sets LimitCORE=0 then
        resource.setrlimit(resource.RLIMIT_CORE, (0, resource.getrlimit(resource.RLIMIT_CORE)[1]))


def raise_descriptor_limit() -> None:
    """Raise the soft limit to the hard one, where that is allowed."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != hard:
        with contextlib.suppress(OSError, ValueError):  # a sandbox may forbid it; then the soft limit applies
            resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
