"""Changing the program of the master's process, which keeps its pid, its children and everything in the state.

Owns: the one call of execve, what is inherited across it, and the way by which the new program finds the state.
Elsewhere: the state (master.upgrade.state), the new program's first steps (master.upgrade.resume).
Fails: OSError when the program cannot be changed; then everything is as before.

Signals are blocked from here until the new program catches them, so that none ends it while it loads; they stay
pending.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Iterable, MutableMapping
from typing import NoReturn

from chatd.errors import BootError, Exit
from chatd.master.upgrade import state as upgrade_state
from chatd.master.upgrade.program import Program
from chatd.master.upgrade.state import MasterState, NotUnderstood

VARIABLE = "CHATD_UPGRADE"
"""Of the environment, in the new program only: the descriptor of the state."""


def execute(program: Program, state: MasterState) -> NoReturn:
    """Signals must be blocked. Raises: OSError, after which everything is as it was."""
    handed_over = upgrade_state.write(state)
    here = os.open(".", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    inherited = [handed_over, *state.descriptors()]
    try:
        _set_inheritable(inherited, True)
        enter(program.folder)
        environment = {**os.environ, VARIABLE: str(handed_over)}
        os.execve(program.executable, program.arguments, environment)
    finally:
        _set_inheritable(inherited, False)
        os.fchdir(here)
        os.close(here)
        os.close(handed_over)


def enter(folder: str) -> None:
    """Where the first program was started, if that is still there."""
    try:
        os.chdir(folder)
    except OSError:
        os.chdir("/")


def _set_inheritable(descriptors: Iterable[int], value: bool) -> None:
    for one in descriptors:
        os.set_inheritable(one, value)


def take_over(environment: MutableMapping[str, str]) -> MasterState | None:
    """In a new process or program: the state that an earlier program of this very process has left, which is read
    once; None = this is an ordinary start.

    Raises: BootError, when nothing can be done with what was left.
    """
    text = environment.pop(VARIABLE, "")
    if not text.isdigit():
        return None
    handed_over = int(text)
    try:
        state = upgrade_state.read(handed_over)
        os.close(handed_over)
    except (NotUnderstood, OSError) as error:
        raise BootError(f"cannot take over from the earlier program: {error}", Exit.BUG) from None
    if state.pid != os.getpid():  # the variable was inherited by another process
        return None
    _set_inheritable(state.descriptors(), False)
    return state


def block_signals() -> set[signal.Signals | int]:
    """The signals that were blocked before."""
    return set(signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals()))


def restore_signals(blocked: Iterable[signal.Signals | int] = ()) -> None:
    signal.pthread_sigmask(signal.SIG_SETMASK, blocked)
