"""Asking the installed code whether it would serve, before anything changes.

Owns: a child process that runs the installed program with the state of this one, its time limit, and what it says.
Elsewhere: what it checks (chatd.preflight, of the installed version).
Fails: OSError when there can be no such process. A child that ends by a signal, is silent, or takes too long is a
refusal like any other.
"""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable
from typing import NamedTuple

from chatd.errors import Exit
from chatd.master.upgrade import state as upgrade_state
from chatd.master.upgrade.execute import enter
from chatd.master.upgrade.program import Program
from chatd.master.upgrade.state import MasterState
from chatd.master.watcher import Watcher

OPTION = "--preflight"
STATE_DESCRIPTOR = 3
"""Of the state, in the child."""
TEXT_BYTES = 4096
"""Maximum of what the child says that is shown; more is cut off."""
_READ_BYTES = 65536


class Refusal(NamedTuple):
    """Why the installed code would not serve. code: of errors.Exit."""

    code: int
    text: str


class Preflight:
    """One child. done: called once, with None if the installed code is good."""

    def __init__(
        self,
        program: Program,
        state: MasterState,
        limit_s: float,
        watcher: Watcher,
        done: Callable[[Refusal | None], None],
    ) -> None:
        """Raises OSError."""
        self._watcher, self._done = watcher, done
        self._limit_s = limit_s
        self.deadline = time.monotonic() + limit_s
        self._said = bytearray()
        self._status: int | None = None
        self._late = False
        self._reader, writer = os.pipe2(os.O_CLOEXEC)
        os.set_blocking(self._reader, False)
        try:
            self.pid = _spawn(program, state, writer)
        except OSError:
            os.close(self._reader)
            raise
        finally:
            os.close(writer)
        watcher.watch(self._reader, self._read)

    def _read(self) -> None:
        try:
            data = os.read(self._reader, _READ_BYTES)
        except BlockingIOError:
            return
        if not data:
            self._watcher.unwatch(self._reader)
        self._said += data[: TEXT_BYTES - len(self._said)]

    def ended(self, pid: int, status: int) -> None:
        """A child of the master has ended; another one is ignored."""
        if pid != self.pid:
            return
        self._read()
        self._watcher.unwatch(self._reader)
        os.close(self._reader)
        self._done(self._verdict(os.waitstatus_to_exitcode(status)))

    def check(self, now: float) -> None:
        """Once per turn of the loop: end a child that takes too long."""
        if not self._late and now >= self.deadline:
            self._late = True
            self._kill()

    def abandon(self) -> None:
        """Its answer is no longer of interest. Somebody else reaps it; `done` is not called."""
        self._kill()
        self._watcher.unwatch(self._reader)
        os.close(self._reader)

    def _kill(self) -> None:
        os.kill(self.pid, signal.SIGKILL)  # not reaped yet, so the pid is still its own

    def _verdict(self, code: int) -> Refusal | None:
        if code == 0:
            return None
        text = "\n".join(line.removeprefix("chatd: ") for line in self._said.decode("utf-8", "replace").splitlines())
        if self._late:
            return Refusal(
                Exit.TRY_AGAIN, f"the installed code did not load within {self._limit_s:g} s\n{text}".strip()
            )
        if code < 0:
            return Refusal(Exit.BUG, f"the installed code ended by {signal.Signals(-code).name}\n{text}".strip())
        return Refusal(code, text or f"the installed code ended with exit code {code}")


def _spawn(program: Program, state: MasterState, writer: int) -> int:
    """Raises OSError."""
    handed_over = upgrade_state.write(state)
    here = os.open(".", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    actions = [
        (os.POSIX_SPAWN_DUP2, writer, 1),
        (os.POSIX_SPAWN_DUP2, writer, 2),
        (os.POSIX_SPAWN_DUP2, handed_over, STATE_DESCRIPTOR),
    ]
    arguments = [*program.arguments, OPTION, str(STATE_DESCRIPTOR)]
    try:
        enter(program.folder)
        return os.posix_spawn(
            program.executable, arguments, os.environ, file_actions=actions, setsigmask=(), setpgroup=0
        )
    finally:
        os.fchdir(here)
        os.close(here)
        os.close(handed_over)
