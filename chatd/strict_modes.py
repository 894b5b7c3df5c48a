"""Who else on this host may change or read chatd's files: the checks that sshd calls StrictModes.

Owns: walking to a file or directory as the kernel does, and judging the owner and mode of everything on the way.
Elsewhere: which files and directories of a configuration are checked (config.strict), refusing symbolic links at the
moment a file is opened (safe_files).
Fails: never; what is wrong is collected as lines for the operator, each with the command that fixes it. What cannot be
looked at, or does not exist, is left to the code that needs it.

Trusted are root and the given owners. An account with an id below SYSTEM_UIDS is the distribution's: a directory that
only such accounts may write to, as /var/log of group syslog on some systems, is accepted. So is a directory with the
sticky bit, like /tmp, on the way: nobody else can rename or remove what is in it.
"""

from __future__ import annotations

import grp
import os
import pwd
import stat
from collections.abc import Collection
from pathlib import Path
from typing import NamedTuple

SYSTEM_UIDS = 1000
"""Ids below this belong to the system (SYS_UID_MAX of login.defs is one less)."""
OVERFLOW_ID = 65534
"""What a user namespace shows instead of an id that it does not know; also nobody's."""
MAX_LINKS = 40
"""Symbolic links followed on the way to one file, as in Linux."""


class _Found(NamedTuple):
    """Where a path led. by_group, by_anybody: whether the group, or everybody, may search every directory on the
    way."""

    path: Path
    info: os.stat_result
    by_group: bool
    by_anybody: bool


class StrictModes:
    """Collects what is wrong; a path that several files share is reported once."""

    def __init__(self, owners: Collection[int]) -> None:
        """owners: ids of the accounts that may own chatd's files, besides root."""
        self._owners = frozenset((0, *owners))
        self._found: dict[str, None] = {}
        self._members: dict[int, list[str]] = {}
        """By id of a group: the names of its members who are not trusted."""

    @property
    def problems(self) -> tuple[str, ...]:
        """One line each: path, what is wrong, and the command that fixes it."""
        return tuple(self._found)

    def file(self, path: str | Path, *, secret: bool = False) -> None:
        """Nobody else may write to it, or to a directory that leads to it. secret: nor read it."""
        found = self._walk(Path(path))
        if found is None or not stat.S_ISREG(found.info.st_mode):
            return
        self._check(found.path, found.info)
        mode = found.info.st_mode
        if secret and mode & 0o004 and found.by_anybody:
            self._report(found.path, mode, "readable by others, but it holds secrets", "chmod o-r")
        elif secret and mode & 0o040 and found.by_group and (names := self._untrusted(found.info.st_gid)):
            self._report(found.path, mode, f"readable by {names}, but it holds secrets", "chmod g-r")

    def directory(self, path: str | Path) -> None:
        """Nobody else may create, rename or remove anything in it, or in a directory that leads to it."""
        found = self._walk(Path(path))
        if found is not None and stat.S_ISDIR(found.info.st_mode):
            self._check(found.path, found.info)

    # ------------------------------------------------------------ on the way

    def _walk(self, path: Path) -> _Found | None:
        """Follow the path, checking every directory on the way and the owner of every symbolic link. None: it does not
        exist, or cannot be looked at."""
        at, by_group, by_anybody, links = Path("/"), True, True, 0
        pending = [*reversed(path.absolute().parts[1:])]
        try:
            info = at.lstat()
            while pending:
                self._check(at, info, on_the_way=True)
                by_group = by_group and bool(info.st_mode & 0o011)
                by_anybody = by_anybody and bool(info.st_mode & 0o001)
                here = at / pending.pop()
                info = here.lstat()
                if stat.S_ISLNK(info.st_mode):
                    links += 1
                    if links > MAX_LINKS or not self._owns(here, info):
                        return None
                    target = here.readlink()
                    pending += [part for part in reversed(target.parts) if part != "/"]
                    at = Path("/") if target.is_absolute() else at
                    info = at.lstat()
                else:
                    at = here.parent.parent if here.name == ".." else here
        except OSError:
            return None
        return _Found(at, info, by_group, by_anybody)

    def _owns(self, path: Path, info: os.stat_result) -> bool:
        """Whether it belongs to a trusted account; otherwise that is reported."""
        if info.st_uid in self._owners:
            return True
        what = "symbolic link" if stat.S_ISLNK(info.st_mode) else "it"
        self._found[
            f"{path}: {what} belongs to {_user(info.st_uid)}, who could replace it; run: chown -h root {path}"
        ] = None
        return False

    def _check(self, path: Path, info: os.stat_result, *, on_the_way: bool = False) -> None:
        self._owns(path, info)
        mode = info.st_mode
        if on_the_way and mode & stat.S_ISVTX:
            return
        if mode & 0o002:
            self._report(path, mode, "writable by others", "chmod o-w")
        if mode & 0o020 and (names := self._untrusted(info.st_gid)):
            self._report(path, mode, f"writable by {names}", "chmod g-w")

    def _report(self, path: Path, mode: int, what: str, command: str) -> None:
        self._found[f"{path}: mode {stat.S_IMODE(mode):04o}, {what}; run: {command} {path}"] = None

    # ------------------------------------------------------------ accounts

    def _untrusted(self, gid: int) -> str:
        """The members of a group who are not trusted, for a message; "" = none."""
        if gid not in self._members:
            self._members[gid] = self._members_of(gid)
        names = self._members[gid]
        if not names:
            return ""
        more = f" and {len(names) - 3} more" if len(names) > 3 else ""
        return f"its group, with {', '.join(names[:3])}{more}"

    def _members_of(self, gid: int) -> list[str]:
        if gid == OVERFLOW_ID:
            return []
        try:
            named = set(grp.getgrgid(gid).gr_mem)
        except KeyError:
            named = set()
        accounts = [one for one in pwd.getpwall() if one.pw_gid == gid or one.pw_name in named]
        return sorted(
            {
                one.pw_name
                for one in accounts
                if one.pw_uid >= SYSTEM_UIDS and one.pw_uid != OVERFLOW_ID and one.pw_uid not in self._owners
            }
        )


def _user(uid: int) -> str:
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return f"user {uid}"
