"""Becoming a daemon (OPS-04).

Owns: `--daemon`: the first process stays until the daemon says how its start went, and ends with the same code and
line; the daemon leaves terminal, session and directory. python-daemon does the detaching and nothing else: its own
pid file would block every start after a crash.
Fails: BootError, exit 71.
"""

from __future__ import annotations

import os
import sys

import msgspec

from chatd.errors import BootError, Exit


class Announcer:
    """Tells whoever started us how the start went: in the foreground, a failure on standard error."""

    def tell(self, code: int, line: str) -> None:
        """Once. code 0 = clients can connect."""
        if code != Exit.OK:
            say(line)

    def leave(self) -> None:
        """In a worker: close what is the master's."""


class _ToFirstProcess(Announcer):
    def __init__(self, write: int) -> None:
        self._write = write

    def tell(self, code: int, line: str) -> None:
        try:
            os.write(self._write, msgspec.json.encode(_Outcome(int(code), line)))
        except BrokenPipeError:
            return  # the first process was killed meanwhile
        finally:
            self.leave()

    def leave(self) -> None:
        if self._write >= 0:
            os.close(self._write)
            self._write = -1


def say(line: str) -> None:
    sys.stderr.write(f"chatd: {line}\n")
    sys.stderr.flush()


class _Outcome(msgspec.Struct):
    exit: int
    line: str


def detach() -> Announcer:
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

    announcer = _ToFirstProcess(write)
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
        announcer.tell(Exit.OS, f"cannot detach: {error}")
        os._exit(Exit.OS)
    return announcer


def _wait(read: int) -> None:
    """In the first process; never returns."""
    told = b""
    while chunk := os.read(read, 65536):  # to its end: the workers do not hold it
        told += chunk
    try:
        outcome = msgspec.json.decode(told, type=_Outcome)
    except msgspec.DecodeError:
        outcome = _Outcome(Exit.BUG, "the daemon ended without a word; see its error.log")
    if outcome.line:
        say(outcome.line)
    os._exit(outcome.exit)
