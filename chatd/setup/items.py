"""What an installation consists of: files, links, directories.

Owns: their form, and the fingerprint by which one that was changed is noticed.
Elsewhere: which there are (plan), making and removing them (installer).
Fails: never.
"""

from __future__ import annotations

import hashlib
from enum import Enum
from pathlib import Path

import msgspec


class Kind(Enum):
    """Whose a file is, once it is installed."""

    PROGRAM = "program"
    """Part of chatd: replaced by that of another version."""
    SETTINGS = "settings"
    """The operator may edit it: an edited one is never replaced, nor removed without --purge."""


class File(msgspec.Struct, frozen=True, kw_only=True):
    """A file, mode 0644. path: as the installed system sees it."""

    path: Path
    content: bytes
    kind: Kind = Kind.PROGRAM

    @property
    def fingerprint(self) -> str:
        return hashlib.sha256(self.content).hexdigest()


class Link(msgspec.Struct, frozen=True, kw_only=True):
    """A symbolic link."""

    path: Path
    target: Path
    kind: Kind = Kind.PROGRAM

    @property
    def fingerprint(self) -> str:
        return link_fingerprint(self.target)


class Directory(msgspec.Struct, frozen=True, kw_only=True):
    """One that is made for the server; others are made as they are needed, mode 0755."""

    path: Path
    mode: int
    of_server: bool
    """It belongs to the account of the server, not to root."""


def link_fingerprint(target: Path) -> str:
    return f"-> {target}"


def found_fingerprint(path: Path) -> str | None:
    """Of what is at `path` now; None: nothing is there. Raises OSError."""
    if path.is_symlink():
        return link_fingerprint(path.readlink())
    if path.is_file():
        return hashlib.sha256(path.read_bytes()).hexdigest()
    return "a directory" if path.exists() else None
