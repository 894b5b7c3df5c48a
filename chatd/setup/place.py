"""Where an installation goes.

Owns: Place, and the names of directories that do not depend on it.
Elsewhere: what is put there (plan), doing it (installer).
Fails: never.
"""

from __future__ import annotations

from pathlib import Path

import msgspec

CONFIGURATION = Path("/etc/chatd")
STATE = Path("/var/lib/chatd")
LOGS = Path("/var/log/chatd")
SYSTEM_COMMANDS = Path("/usr/bin")
"""Where the unit and the logrotate file, as they are shipped, expect the commands."""
PACKAGED_UNITS = (Path("/usr/lib/systemd/system/chatd.service"), Path("/lib/systemd/system/chatd.service"))
"""One of them exists if a package of the distribution has installed chatd."""


class Place(msgspec.Struct, frozen=True, kw_only=True):
    """One installation: the system that it is on, and its directories there."""

    root: Path
    """Directory that stands for /: / itself, or the root of a system that is not running."""
    prefix: Path
    """Where commands, manual pages and completions go, as the installed system sees it."""
    commands: Path
    """The directory that pip put the commands into, as the installed system sees it."""

    def below(self, path: Path) -> Path:
        """Where `path` of the installed system is now."""
        return self.root / path.relative_to("/")

    @property
    def is_this_host(self) -> bool:
        return self.root == Path("/")

    @property
    def bin(self) -> Path:
        """Where the commands can be called."""
        return self.prefix / "bin"

    @property
    def record(self) -> Path:
        """The file that says what was installed."""
        return self.prefix / "share" / "chatd" / "installed.json"
