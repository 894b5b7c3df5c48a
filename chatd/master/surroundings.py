"""Reasons why a server is not well that lie around its processes: disks, queues of the kernel, files.

Owns: looking at them.
Elsewhere: reasons that the workers give (master.observing.health_monitor), what to do about each (docs/runbook.md).
Fails: never; what cannot be looked at is no reason.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator

from chatd import __version__
from chatd.master.disks import Disks
from chatd.master.health import Code, Reason
from chatd.master.listeners import Bound, actual_address, waiting
from chatd.master.reload import Reload
from chatd.master.upgrade.program import InstalledVersion
from chatd.master.upgrade.upgrade import Upgrade
from chatd.master.workers import WorkerPool

SHOWN_CHARS = 300
"""Longest text of a reason: an error of a configuration can have many lines."""


class Surroundings:
    """bound: one listening socket per listener. disks: as they were at the last look. installed: the version."""

    def __init__(
        self, pool: WorkerPool, reload: Reload, upgrade: Upgrade, bound: Callable[[], tuple[Bound, ...]]
    ) -> None:
        self._pool = pool
        self._reload = reload
        self._upgrade = upgrade
        self._bound = bound
        self.disks = Disks()
        self.installed = InstalledVersion()

    def reasons(self) -> Iterator[Reason]:
        """Costs some system calls."""
        yield from self._of_disks()
        yield from self._of_queues()
        if error := self._reload.last_error:
            text = f"the last reload was rejected, the previous configuration stays in force: {error}"
            yield Reason(code=Code.RELOAD, text=_line(text), advisory=True)
        if failure := self._upgrade.failure:
            yield Reason(code=Code.UPGRADE_FAILED, text=_line(f"the last upgrade failed: {failure}"), advisory=True)
        if (installed := self.installed.look()) and installed != __version__:
            text = f"an upgrade is pending: {installed} is installed, {__version__} runs (chatctl upgrade)"
            yield Reason(code=Code.UPGRADE_PENDING, text=text, advisory=True)

    def _of_disks(self) -> Iterator[Reason]:
        for one in self.disks.look(self._pool.config, time.monotonic()):
            if one.is_low:
                share = 100 * one.free_bytes / max(one.total_bytes, 1)
                text = f"the disk is nearly full: {share:.0f} % free at {one.path} ({', '.join(one.used_for)})"
                yield Reason(code=Code.DISK, text=text)

    def _of_queues(self) -> Iterator[Reason]:
        for one, sock in self._bound():
            if one.address.startswith("udp:"):
                continue
            if waiting(sock) >= one.backlog:
                address = actual_address(one, sock)
                text = f"too many connections wait at {address}, further ones are lost (listen.backlog)"
                yield Reason(code=Code.QUEUE_FULL, text=text)


def _line(text: str) -> str:
    line = " ".join(text.split())
    return line if len(line) <= SHOWN_CHARS else f"{line[:SHOWN_CHARS]}…"
