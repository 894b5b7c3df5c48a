"""What chatd-setup has installed: a fingerprint of each file, so that an edited one is noticed.

Owns: the file PREFIX/share/chatd/installed.json.
Elsewhere: who changes it (installer).
Fails: ConfigError for a file that cannot be understood, OSError.
"""

from __future__ import annotations

from pathlib import Path

import msgspec

from chatd.errors import ConfigError


class Record(msgspec.Struct, kw_only=True):
    """The content of the file. Changed by installer.Installer only."""

    version: str = ""
    """Version of chatd that was installed last; empty: none."""
    fingerprints: dict[str, str] = msgspec.field(default_factory=dict)
    """By the path of the file or link, as the installed system sees it."""
    directories: list[str] = msgspec.field(default_factory=list)
    """Those that were made on the way, and are removed when they are empty."""


def read(path: Path) -> Record:
    """An empty one if there is no file. Raises ConfigError, OSError."""
    try:
        return msgspec.json.decode(path.read_bytes(), type=Record)
    except FileNotFoundError:
        return Record()
    except msgspec.DecodeError as error:
        raise ConfigError(f"{path}: -: cannot be understood: {error}") from None


def write(path: Path, record: Record) -> None:
    """Raises OSError."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(msgspec.json.format(msgspec.json.encode(record)) + b"\n")
