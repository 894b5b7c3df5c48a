"""The program of this process: how to start it again, and which version of it is installed now.

Owns: the command line as the kernel got it, and looking for the installed version in the files of the package.
Elsewhere: starting it again (master.upgrade.execute, master.upgrade.preflight), showing the versions
(master.observing.status_collector).
Fails: never. A version that cannot be found out is "".
"""

from __future__ import annotations

import os
import re
import sys
from pathlib import Path

import msgspec

import chatd

_METADATA = re.compile(r"^Version: *(\S+)", re.MULTILINE)
_SOURCE = re.compile(r'^__version__ = "([^"]+)"', re.MULTILINE)
_HEAD_BYTES = 4096
"""The version is among the first lines of either file."""


class Program(msgspec.Struct, frozen=True, kw_only=True):
    """executable: of the interpreter. arguments: what it was given, itself included. folder: where it was started,
    because relative names in the arguments, and the modules of `python -m`, are looked for there."""

    executable: str
    arguments: tuple[str, ...]
    folder: str

    @staticmethod
    def of_this_process() -> Program:
        """To be called before the process changes its directory."""
        try:
            folder = os.getcwd()
        except FileNotFoundError:
            folder = "/"
        return Program(executable=sys.executable, arguments=(sys.executable, *sys.orig_argv[1:]), folder=folder)


class InstalledVersion:
    """The version of the package that a start would use now. Its files are read again only when they have changed."""

    def __init__(self) -> None:
        self._known, self._read_at = "", (0, 0)

    def look(self) -> str:
        """ "" = not known, as while it is being installed. Costs two system calls."""
        package = Path(chatd.__file__).parent
        try:
            changed_at = package.parent.stat().st_mtime_ns, (package / "__init__.py").stat().st_mtime_ns
        except OSError:
            return ""
        if not self._known or changed_at != self._read_at:
            self._known, self._read_at = _installed_version(package), changed_at
        return self._known


def _installed_version(package: Path) -> str:
    """Reads two or three small files; imports nothing, so the running program stays as it is."""
    try:
        found = sorted(package.parent.glob("chatd-*.dist-info/METADATA"))
        if found:
            return _first(_METADATA, found[-1])
        return _first(_SOURCE, package / "__init__.py")
    except OSError:  # it is being installed at this moment
        return ""


def _first(pattern: re.Pattern[str], path: Path) -> str:
    with path.open(encoding="utf-8", errors="replace") as file:
        found = pattern.search(file.read(_HEAD_BYTES))
    return found[1] if found else ""
