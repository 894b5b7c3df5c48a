"""What a check of `chatctl doctor` finds.

Owns: the finding, its severities, and what every check is given.
Elsewhere: the checks (the other modules of chatctl.doctor).
Fails: never.
"""

from __future__ import annotations

import enum
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import msgspec

from chatd.config.load import Loaded
from chatd.config.schema import Config
from chatd.master.status import Status


class Severity(enum.StrEnum):
    """OK: it was looked at, and is well. NOTE: to know, nothing to do. WARNING: it works, but will not always. ERROR:
    it does not work, or people are in danger."""

    OK = "ok"
    NOTE = "note"
    WARNING = "warning"
    ERROR = "error"


class Finding(msgspec.Struct, frozen=True, kw_only=True):
    """check: a stable name, `subject.what`. text: what was found. meaning: what follows from it. advice: what to do.
    The last two are empty for OK."""

    check: str
    severity: str
    text: str
    meaning: str = ""
    advice: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Installation:
    """What is examined. status: of the running server; None = it does not run, or cannot be asked."""

    loaded: Loaded
    status: Status | None
    pid: int
    """Of the master; 0 = no server runs."""
    is_fast: bool = False
    """Leave out what takes long on a large store."""

    @property
    def config(self) -> Config:
        return self.loaded.config


Check = Callable[[Installation], Iterator[Finding]]


def ok(check: str, text: str) -> Finding:
    """It was looked at, and is well."""
    return Finding(check=check, severity=Severity.OK.value, text=text)


def note(check: str, text: str, advice: str = "") -> Finding:
    """To know; nothing is wrong."""
    return Finding(check=check, severity=Severity.NOTE.value, text=text, advice=advice)


def warning(check: str, text: str, meaning: str, advice: str) -> Finding:
    """It works, but will not always."""
    return Finding(check=check, severity=Severity.WARNING.value, text=text, meaning=meaning, advice=advice)


def error(check: str, text: str, meaning: str, advice: str) -> Finding:
    """It does not work, or people are in danger."""
    return Finding(check=check, severity=Severity.ERROR.value, text=text, meaning=meaning, advice=advice)
