"""Becoming the user who owns the store, before chatctl works on it.

Owns: become_owner().
Elsewhere: who that is, and giving up privileges (master.privileges); the directories (master.directories).
Fails: as they do: BootError.
"""

from __future__ import annotations

import os

from chatd.config.schema import Config
from chatd.master import directories, privileges


def become_owner(config: Config, *, create: bool) -> None:
    """Become the user who owns the store. create: create its directories if no server was ever started."""
    os.umask(0o027)
    who = privileges.identity(config.server, allow_root=True)
    if create:
        directories.prepare(config.server, config.files.dir, who)
    privileges.drop(who)
