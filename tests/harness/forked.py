"""chatd and chatctl as processes of their own, without the time in which Python begins and loads them: most of what a
command costs, and half of what a test of a daemon does.

Owns: Forked, one such process; run(), a command to its end; the process behind them, one for each process of a test
run, with one thread: it has loaded all that a server needs, forks for each of them, and tells how they ended.
Elsewhere: programs that must begin as users begin them (Daemon.ctl_apart, tests.master, tests.systemd, tests.packages):
what they load, what the kernel knows of their command lines and environments.
Fails: subprocess.TimeoutExpired, as subprocess does.
"""

from __future__ import annotations

import contextlib
import functools
import gc
import importlib
import json
import os
import pkgutil
import runpy
import select
import signal
import socket
import subprocess
import sys
import tempfile
import traceback
import weakref
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NoReturn

TOP = Path(__file__).resolve().parents[2]
_MOST_BYTES = 256 * 1024
"""Of a request: arguments and environment."""
_MOST_DESCRIPTORS = 4096
_BEGUN_S = 60.0
_LATE = (
    "chatd.__main__",
    "chatd.preload",
    "chatd.bus.redis.bus",
    "chatd.bus.redis.cluster",
    "chatd.store.sqlite.tables",
    "chatd.store.mysql.tables",
    "chatd.core.passwords",
    "argon2",
    "getpass",
)
"""What programs load when they need it, besides modules of chatctl."""


class Forked:
    """What subprocess.Popen is of a program, as far as tests use it. module: a program of chatd, or one of tests that
    changes chatd and then runs it. streams: descriptors of its standard input, output
    and errors. apart: in a session of its own."""

    def __init__(
        self,
        module: str,
        arguments: Sequence[str],
        *,
        cwd: Path,
        env: Mapping[str, str],
        streams: Sequence[int],
        apart: bool = False,
    ) -> None:
        self.args = [module, *arguments]
        self.returncode: int | None = None
        self._told = b""
        self._reader, writer = os.pipe()
        weakref.finalize(self, os.close, self._reader)
        request = {"module": module, "arguments": arguments, "cwd": str(cwd), "env": dict(env), "apart": apart}
        try:
            socket.send_fds(_server(os.getpid()), [json.dumps(request).encode()], [*streams, writer])
        finally:
            os.close(writer)
        self._listen(_BEGUN_S, lines=1)
        self.pid = int(self._told.split()[0])

    def _listen(self, limit_s: float, lines: int) -> None:
        """The pid and, at the end, the status are told in a line each."""
        while self._told.count(b"\n") < lines:
            if not select.select([self._reader], [], [], limit_s)[0]:
                raise subprocess.TimeoutExpired(self.args, limit_s)
            if not (piece := os.read(self._reader, 100)):
                raise AssertionError("the process that forks has died")
            self._told += piece

    def wait(self, timeout: float = 1e6) -> int:
        if self.returncode is None:
            self._listen(timeout, lines=2)
            self.returncode = os.waitstatus_to_exitcode(int(self._told.split()[1]))
        return self.returncode

    def poll(self) -> int | None:
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.wait(0)
        return self.returncode

    def send_signal(self, number: int) -> None:
        if self.poll() is None:
            os.kill(self.pid, number)

    def terminate(self) -> None:
        self.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)


def run(
    arguments: Sequence[str], *, cwd: Path, env: Mapping[str, str], input: str = "", limit_s: float = 30.0
) -> subprocess.CompletedProcess[str]:
    """As subprocess.run of chatctl, with its standard streams in files. It is killed after limit_s."""
    with contextlib.ExitStack() as files:
        streams = [files.enter_context(tempfile.TemporaryFile()) for _ in range(3)]
        streams[0].write(input.encode())
        streams[0].seek(0)
        process = Forked("chatd.chatctl", arguments, cwd=cwd, env=env, streams=[one.fileno() for one in streams])
        try:
            code = process.wait(limit_s)
        except subprocess.TimeoutExpired:
            process.kill()
            raise
        for one in streams[1:]:
            one.seek(0)
        out, err = (one.read().decode() for one in streams[1:])
    return subprocess.CompletedProcess(process.args, code, out, err)


@functools.cache
def _server(pid: int) -> socket.socket:
    """The connection to the process that forks. pid: of the caller; one that was forked itself needs another."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    ours.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _MOST_BYTES)
    command = [sys.executable, "-m", __name__]
    subprocess.Popen(command, cwd=TOP, env={**os.environ, "PYTHONPATH": str(TOP)}, stdin=theirs)
    theirs.close()
    return ours


# ---------------------------------------------------------------- in the process that forks


def _load() -> None:
    import chatd.chatctl
    import chatd.preload

    for found in pkgutil.walk_packages(chatd.chatctl.__path__, chatd.chatctl.__name__ + "."):
        importlib.import_module(found.name)
    for name in (*_LATE, *chatd.preload.ALWAYS, *chatd.preload.HTTP, *chatd.preload.MYSQL, *chatd.preload.TLS):
        importlib.import_module(name)
    gc.freeze()  # what is forked shares it


def _serve() -> None:
    """Until the test run has closed its end."""
    _load()
    requests = socket.socket(fileno=os.dup(0))
    ended, ends = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    signal.set_wakeup_fd(ends, warn_on_full_buffer=False)
    tell: dict[int, int] = {}
    while True:
        ready = select.select([requests, ended], [], [])[0]
        if ended in ready:
            os.read(ended, 4096)
            _reap(tell)
        if requests in ready:
            request, descriptors, _, _ = socket.recv_fds(requests, _MOST_BYTES, 4)
            if not request:
                return
            if (pid := os.fork()) == 0:
                _become(json.loads(request), descriptors)
            for one in descriptors[:3]:
                os.close(one)
            tell[pid] = descriptors[3]
            _say(tell[pid], pid)


def _reap(tell: dict[int, int]) -> None:
    while tell:
        pid, status = os.waitpid(-1, os.WNOHANG)
        if not pid:
            return
        _say(tell[pid], status)
        os.close(tell.pop(pid))


def _say(where: int, number: int) -> None:
    with contextlib.suppress(BrokenPipeError):  # nobody asks any more
        os.write(where, b"%d\n" % number)


def _become(request: dict[str, Any], descriptors: list[int]) -> NoReturn:
    code = 1
    try:
        signal.set_wakeup_fd(-1)
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        for number in range(3):
            os.dup2(descriptors[number], number)
        os.closerange(3, _MOST_DESCRIPTORS)
        if request["apart"]:
            os.setsid()
        os.chdir(request["cwd"])
        os.environ.clear()
        os.environ.update(request["env"])
        module, arguments = request["module"], request["arguments"]
        sys.argv = [module.rpartition(".")[2], *arguments]
        sys.orig_argv = [sys.executable, "-m", module, *arguments]
        code = _run(module)
    except SystemExit as left:
        code = left.code if isinstance(left.code, int) else int(left.code is not None)
    except BaseException:  # noqa: BLE001 - as the interpreter: it is shown
        traceback.print_exc()
    finally:
        for stream in (sys.stdout, sys.stderr):
            with contextlib.suppress(OSError, ValueError):
                stream.flush()
        os._exit(code)


def _run(module: str) -> int:
    """As `python -m module`."""
    if module.startswith("chatd"):
        return int(importlib.import_module(f"{module}.__main__").main())
    runpy.run_module(module, run_name="__main__", alter_sys=True)
    return 0


if __name__ == "__main__":
    _serve()
