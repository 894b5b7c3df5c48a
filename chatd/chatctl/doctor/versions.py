"""Checks of versions: Python, libraries, and the running server against the installed one.

Owns: what this version needs, as its package says, and comparing.
Elsewhere: the schema of the store (chatctl.doctor.stores).
Fails: never.
"""

from __future__ import annotations

import importlib.metadata
import platform
import re
import sqlite3
import sys
from collections.abc import Iterator

from chatd import __version__
from chatd.chatctl.doctor.finding import Finding, Installation, error, ok, warning

LEAST_SQLITE = (3, 37, 0)


def python(_installation: Installation) -> Iterator[Finding]:
    """Whether this Python is new enough."""
    needed = importlib.metadata.metadata("chatd")["Requires-Python"] or ""
    least = tuple(int(one) for one in re.findall(r"\d+", needed)[:2])
    text = f"Python {platform.python_version()}, chatd {__version__} needs {needed}"
    if sys.version_info[:2] < least:
        yield error("versions.python", text, "chatd may not start", "install a newer Python")
    else:
        yield ok("versions.python", text)


def libraries(installation: Installation) -> Iterator[Finding]:
    """Every requirement of the installed package, those of extras only where they are configured."""
    bad = 0
    for requirement in importlib.metadata.requires("chatd") or ():
        name, least = _parsed(requirement)
        extra = re.search(r"extra == ['\"](\w+)['\"]", requirement)
        if extra and not (extra[1] == "mysql" and installation.config.store.url.startswith("mysql:")):
            continue
        try:
            found = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            bad += 1
            yield error("versions.libraries", f"{name} is missing", "chatd does not start", f"pip install '{name}'")
            continue
        if _numbers(found) < _numbers(least):
            bad += 1
            text = f"{name} {found} is older than {least}"
            yield error("versions.libraries", text, "chatd may fail", f"pip install --upgrade '{name}>={least}'")
    if sqlite3.sqlite_version_info < LEAST_SQLITE:
        bad += 1
        text = f"SQLite {sqlite3.sqlite_version} is older than {'.'.join(map(str, LEAST_SQLITE))}"
        yield error("versions.libraries", text, "the store cannot be used", "install a newer Python or SQLite")
    if not bad:
        yield ok("versions.libraries", "all libraries are there, and new enough")


def _parsed(requirement: str) -> tuple[str, str]:
    """(name, lowest version or "")."""
    found = re.match(r"([\w.-]+)(?:\[\w+\])?\s*\(?(?:[^;]*?>=\s*([\d.]+))?", requirement)
    return (found[1], found[2] or "") if found else (requirement, "")


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(int(one) for one in re.findall(r"\d+", version)[:4])


def running(installation: Installation) -> Iterator[Finding]:
    """Whether the running server is the installed version."""
    if installation.status is None:
        return
    if installation.status.version != __version__:
        text = f"chatd {installation.status.version} is running, {__version__} is installed"
        yield warning("versions.running", text, "the upgrade is not in force", "chatctl upgrade")
    else:
        yield ok("versions.running", f"the running server is the installed version, {__version__}")
