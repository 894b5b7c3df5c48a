"""The file systems that a server writes to, and how much room each has.

Owns: looking at them, rarely, because a file system that hangs would stop the master; how little room is too little.
Elsewhere: what follows from it (master.surroundings, chatctl.doctor.host).
Fails: never. A directory that cannot be looked at is left out.
"""

from __future__ import annotations

import os

import msgspec

from chatd.config.schema import Config

LOW_SHARE, LOW_BYTES = 0.05, 1024**3
"""A file system is nearly full when less than this share of it, and less than so many bytes, are free."""
EVERY_S = 10.0
"""Shortest time between two looks."""


class DiskStatus(msgspec.Struct, frozen=True):
    """One file system. path: a directory on it. used_for: the options of the directories on it. free_bytes: for
    processes without privileges."""

    path: str
    used_for: list[str]
    free_bytes: int
    total_bytes: int

    @property
    def is_low(self) -> bool:
        """It is nearly full."""
        return self.free_bytes < min(self.total_bytes * LOW_SHARE, LOW_BYTES)


class Disks:
    def __init__(self) -> None:
        self._next_at = 0.0
        self._found: list[DiskStatus] = []

    def look(self, config: Config, now: float) -> list[DiskStatus]:
        """As they were at most EVERY_S ago. now: time.monotonic()."""
        if now >= self._next_at:
            self._next_at = now + EVERY_S
            self._found = disks_of(config)
        return self._found


def disks_of(config: Config) -> list[DiskStatus]:
    """Each file system once. Costs a system call per directory."""
    server = config.server
    wanted = {"server.state_dir": server.state_dir, "server.runtime_dir": server.runtime_dir}
    if server.log_dir != "-":
        wanted["server.log_dir"] = server.log_dir
    if config.store.url.startswith("sqlite:"):
        wanted["store.url"] = os.path.dirname(config.store.url.removeprefix("sqlite:"))
    if config.files.dir:
        wanted["files.dir"] = config.files.dir
    found: dict[int, DiskStatus] = {}
    for option, path in wanted.items():
        try:
            device = os.stat(path).st_dev
            if device in found:
                found[device].used_for.append(option)
                continue
            room = os.statvfs(path)
        except OSError:
            continue
        found[device] = DiskStatus(path, [option], room.f_bavail * room.f_frsize, room.f_blocks * room.f_frsize)
    return list(found.values())
