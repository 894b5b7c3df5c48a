"""Becoming a daemon.

Owns: `--daemon`. The first process stays until the daemon reports how its start went, and ends with the same exit code
and line; the daemon leaves the terminal, the session and the directory. python-daemon only detaches: its own pid file
would block every start after a crash.
Elsewhere: the steps of a start (master.start), the pid file (master.instance_lock).
Fails: BootError, exit 71.
"""

from __future__ import annotations

import contextlib
import os
import sys

import msgspec

from chatd import log
from chatd.errors import BootError, Exit


class StartReport:
    """Reports how the start went to the process that started the server: in the foreground, a failure on standard
    error."""

    def send(self, code: int, line: str) -> None:
        """Call it once. code 0 = clients can connect."""
        if code != Exit.OK:
            say(line)

    def progress(self, line: str) -> None:
        """What the start waits for. Before send()."""
        say(line, "WARNING")

    def leave(self) -> None:
        """In a forked worker: close what belongs to the master."""


class _ToFirstProcess(StartReport):
    def __init__(self, write: int) -> None:
        self._write = write

    def send(self, code: int, line: str) -> None:
        self._tell(_Outcome(int(code), line))
        self.leave()

    def progress(self, line: str) -> None:
        self._tell(_Outcome(None, line))

    def _tell(self, outcome: _Outcome) -> None:
        with contextlib.suppress(BrokenPipeError):  # the first process was killed meanwhile
            os.write(self._write, msgspec.json.encode(outcome) + b"\n")

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


def say(line: str, level: str = "ERROR") -> None:
    """Write one or more lines to standard error. level: the journal is told (log.LEVELS)."""
    mark = f"<{log.PRIORITIES[log.LEVELS[level]]}>" if log.is_journal(os.environ) else ""
    for one in line.splitlines():
        sys.stderr.write(f"{mark}chatd: {one}\n")
    sys.stderr.flush()


class _Outcome(msgspec.Struct):
    """exit None: the start goes on."""

    exit: int | None
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
    with open(read, "rb") as pipe:  # until its end; the workers have closed their copies
        for line in pipe:
            outcome = msgspec.json.decode(line, type=_Outcome)
            if outcome.line:
                say(outcome.line)
            if outcome.exit is not None:
                os._exit(outcome.exit)
    say("the daemon ended without reporting why; see error.log in server.log_dir")
    os._exit(Exit.BUG)
