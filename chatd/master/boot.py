"""The boot of the server: from the first fork until all workers have been ready at once.

Owns: whether a worker that cannot start ends the server or is tried again, and waiting for a store or a bus that is not
there yet (timeouts.boot_wait_s).
Elsewhere: forking and back-off afterwards (master.workers), telling systemd (master.announcer).
Fails: a boot that cannot succeed is reported as `failure`, with the exit code of the server.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

from chatd import log
from chatd.config.schema import Config
from chatd.errors import Exit

TRIES = 3
"""Attempts to start a worker that ends by a bug or a signal."""
RETRY_S = 1.0
"""Pause between two attempts while the store or the bus is waited for."""
FINAL_EXITS = (Exit.CONFIG, Exit.UNAVAILABLE, Exit.OS, Exit.CANNOT_CREATE, Exit.PERMISSION)
"""Exit codes of a starting worker after which it is not tried again, but for UNAVAILABLE, which is waited for."""


@dataclass(slots=True)
class BootFailure:
    """Why the server cannot start."""

    code: int
    line: str


class Boot:
    """Made when the first worker is about to be forked."""

    def __init__(self, config: Config) -> None:
        self._wait_s = config.timeouts.boot_wait_s if _are_elsewhere(config) else 0.0
        self._wait_until = time.monotonic() + self._wait_s
        self.failure: BootFailure | None = None
        """None while the boot can succeed."""
        self.on_wait: Callable[[str], None] = lambda line: None
        """Called with a line for the operator when the wait begins, or its reason changes."""
        self.waiting_for = ""
        """Why the last worker could not start, if that may pass; "" = nothing is waited for."""

    def succeeded(self) -> None:
        """A worker is ready: what it needs is there."""
        if self.waiting_for:
            log.get().info("the store and the bus are there")
            self.waiting_for = ""

    def worker_failed(self, code: int, line: str, tries: int, now: float) -> bool:
        """A starting worker has ended. code: its exit code, negative for a signal. line: why, for the operator. tries:
        how often a worker of its slot has failed. Returns whether it is tried again; if not, `failure` is set."""
        if code == Exit.UNAVAILABLE and now < self._wait_until:
            if line != self.waiting_for:
                log.get().warning("a worker cannot start yet, waiting", why=line, boot_wait_s=self._wait_s)
                self.on_wait(f"waiting up to {self._wait_s:g} s (timeouts.boot_wait_s): {line}")
            self.waiting_for = line
            return True
        if code not in FINAL_EXITS and tries < TRIES:
            return True
        self.fail(code if code > 0 else Exit.BUG, line)
        return False

    def fail(self, code: int, line: str) -> None:
        self.failure = BootFailure(code, line)


def _are_elsewhere(config: Config) -> bool:
    """Whether the store or the bus is another server. A file does not come later by itself."""
    return config.store.url.startswith("mysql:") or not config.bus.url.startswith("local:")
