"""Becoming a daemon.

Owns: `--daemon`. The first process stays until the daemon reports how its start went, and ends with the same exit code
and line; the daemon leaves the terminal, the session and the directory. python-daemon only detaches: its own pid file
would block every start after a crash.
Elsewhere: the steps of a start (master.start), the pid file (master.instance_lock).
Fails: BootError, exit 71.
"""

from __future__ import annotations

import os
import sys

import msgspec

from chatd.errors import BootError, Exit


class StartReport:
    """Reports how the start went to the process that started the server: in the foreground, a failure on standard
    error."""

    def send(self, code: int, line: str) -> None:
        """Call it once. code 0 = clients can connect."""
        if code != Exit.OK:
            say(line)

    def leave(self) -> None:
        """In a forked worker: close what belongs to the master."""


class _ToFirstProcess(StartReport):
    def __init__(self, write: int) -> None:
        self._write = write

    def send(self, code: int, line: str) -> None:
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


def has_terminal() -> bool:
    """Whether this process has a controlling terminal, which sends signals of its own."""
    try:
        os.close(os.open("/dev/tty", os.O_RDONLY | os.O_NOCTTY | os.O_CLOEXEC))
    except OSError:
        return False
    return True


def say(line: str) -> None:
    """Write one or more lines to standard error."""
    for one in line.splitlines():
        sys.stderr.write(f"chatd: {one}\n")
    sys.stderr.flush()


class _Outcome(msgspec.Struct):
    exit: int
    line: str


def detach() -> StartReport:
    """Returns only in the daemon, with the object that reports to the first process. Call it before anything is open,
    and with absolute paths only. Raises BootError."""
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

    report = _ToFirstProcess(write)
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
        report.send(Exit.OS, f"cannot detach: {error}")
        os._exit(Exit.OS)
    return report


def _wait(read: int) -> None:
    """In the first process; never returns."""
    received = b""
    while chunk := os.read(read, 65536):  # until the end of the pipe; the workers have closed their copies
        received += chunk
    try:
        outcome = msgspec.json.decode(received, type=_Outcome)
    except msgspec.DecodeError:
        outcome = _Outcome(Exit.BUG, "the daemon ended without reporting why; see error.log in server.log_dir")
    if outcome.line:
        say(outcome.line)
    os._exit(outcome.exit)
