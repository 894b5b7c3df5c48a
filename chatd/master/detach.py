"""Becoming a daemon (OPS-04).

Owns: `--daemon`: the first process stays until the daemon says how its start went, and ends with the same code and
line; the daemon leaves terminal, session and directory. python-daemon does the detaching and nothing else: its own
pid file would block every start after a crash.
Fails: BootError, exit 71.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable

import msgspec

from chatd.errors import BootError, Exit

Announce = Callable[[int, str], None]


class _Outcome(msgspec.Struct):
    exit: int
    line: str


def detach() -> Announce:
    """Returns in the daemon only, with what tells the first process how the start went.

    Call it before anything is open, with no relative path left.
    """
    from daemon import DaemonContext
    from daemon.daemon import DaemonError

    read, write = os.pipe2(os.O_CLOEXEC)
    try:
        if os.fork() > 0:
            os.close(write)
            _wait(read)
    except OSError as error:
        raise BootError(f"cannot fork: {error.strerror}", Exit.OS) from None
    os.close(read)

    def announce(code: int, line: str) -> None:
        try:
            os.write(write, msgspec.json.encode(_Outcome(code, line)))
        except BrokenPipeError:
            return  # the first process was killed meanwhile
        finally:
            os.close(write)

    context = DaemonContext(
        pidfile=None,
        signal_map={},
        umask=0o027,
        initgroups=os.geteuid() == 0,
        files_preserve=[write],
        detach_process=True,
    )
    try:
        context.open()
    except DaemonError as error:
        announce(Exit.OS, f"cannot detach: {error}")
        os._exit(Exit.OS)
    return announce


def _wait(read: int) -> None:
    """In the first process; never returns."""
    told = b""
    while chunk := os.read(read, 65536):
        told += chunk
    try:
        outcome = msgspec.json.decode(told, type=_Outcome)
    except msgspec.DecodeError:
        outcome = _Outcome(Exit.BUG, "the daemon ended without a word; see its error.log")
    if outcome.line:
        sys.stderr.write(f"chatd: {outcome.line}\n")
        sys.stderr.flush()
    os._exit(outcome.exit)
