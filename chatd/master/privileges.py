"""Who the server runs as.

Owns: the choice of user and group, and giving up root for good (OPS-05).
Fails: BootError, exit 77.
"""

from __future__ import annotations

import contextlib
import grp
import os
import pwd
import resource
from pathlib import Path
from typing import NamedTuple

from chatd.config.schema import ServerOptions
from chatd.errors import BootError, Exit

PR_SET_NO_NEW_PRIVS = 38


class Identity(NamedTuple):
    user: str
    uid: int
    gid: int


def identity(server: ServerOptions, allow_root: bool) -> Identity | None:
    """Who to become; None = stay who we are. Raises BootError where root would serve without being allowed to."""
    if os.geteuid() != 0:
        if server.user and pwd.getpwnam(server.user).pw_uid != os.geteuid():
            raise BootError(f"server.user: only root can become {server.user}", Exit.PERMISSION)
        return None
    if not server.user:
        if not allow_root:
            raise BootError("will not serve as root: set server.user, or give --allow-root", Exit.PERMISSION)
        return None
    entry = pwd.getpwnam(server.user)
    gid = grp.getgrnam(server.group).gr_gid if server.group else entry.pw_gid
    if entry.pw_uid == 0 and not allow_root:
        raise BootError("will not serve as root: server.user is root; give --allow-root", Exit.PERMISSION)
    return Identity(entry.pw_name, entry.pw_uid, gid)


def drop(who: Identity | None) -> None:
    """Become `who` with no way back, and never gain privileges by execve."""
    _no_new_privileges()
    if who is None:
        return
    try:
        os.initgroups(who.user, who.gid)
        os.setresgid(who.gid, who.gid, who.gid)
        os.setresuid(who.uid, who.uid, who.uid)
    except OSError as error:
        raise BootError(f"cannot become {who.user}: {error.strerror}", Exit.PERMISSION) from None
    if os.getresuid() != (who.uid,) * 3 or os.getresgid() != (who.gid,) * 3:
        raise BootError(f"did not become {who.user}", Exit.PERMISSION)


def _no_new_privileges() -> None:
    if "NoNewPrivs:\t1" in Path("/proc/self/status").read_text(encoding="utf-8"):
        return  # systemd has done it, and may forbid what ctypes needs
    import ctypes

    if ctypes.CDLL(None, use_errno=True).prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0:
        raise BootError(f"no_new_privs: {os.strerror(ctypes.get_errno())}", Exit.PERMISSION)


def raise_descriptor_limit() -> None:
    """The soft limit to the hard one, where that is allowed."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != hard:
        with contextlib.suppress(OSError, ValueError):  # a sandbox may forbid it; the soft limit then holds
            resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
