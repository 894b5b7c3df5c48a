"""chatctl as a process of its own, without the time in which Python begins and loads it: most of what a command costs.

Owns: run(), and the process behind it: one for each process of a test run, with one thread, which has loaded all of
chatctl and forks for each command.
Elsewhere: programs that must begin as users begin them (Daemon.ctl_apart): what they load, what they are told by the
interpreter's own environment.
Fails: subprocess.TimeoutExpired, as subprocess.run; the command is killed before.
"""

from __future__ import annotations

import contextlib
import functools
import importlib
import json
import os
import pkgutil
import select
import signal
import socket
import subprocess
import sys
import tempfile
import time
import traceback
from collections.abc import Mapping
from pathlib import Path

import chatd.chatctl
from chatd.chatctl import __main__ as chatctl

TOP = Path(__file__).resolve().parents[2]
_MOST_BYTES = 256 * 1024
"""Of a request: arguments, environment."""
_LATE = ("chatd.store.sqlite.tables", "chatd.store.mysql.tables", "chatd.core.passwords", "argon2", "getpass")
"""What commands load when they need it, besides modules of chatctl."""


def run(
    arguments: list[str], *, cwd: Path, env: Mapping[str, str], input: str = "", limit_s: float = 30.0
) -> subprocess.CompletedProcess[str]:
    """As subprocess.run of chatctl, with its standard streams in files. It is killed after limit_s."""
    with contextlib.ExitStack() as files:
        streams = [files.enter_context(tempfile.TemporaryFile()) for _ in range(3)]
        streams[0].write(input.encode())
        streams[0].seek(0)
        reader, writer = os.pipe()
        files.callback(os.close, reader)
        request = json.dumps({"arguments": arguments, "cwd": str(cwd), "env": dict(env)}).encode()
        try:
            socket.send_fds(_server(os.getpid()), [request], [*(one.fileno() for one in streams), writer])
        finally:
            os.close(writer)
        told = _result(reader, limit_s, arguments)
        for one in streams[1:]:
            one.seek(0)
        out, err = (one.read().decode() for one in streams[1:])
    return subprocess.CompletedProcess(["chatctl", *arguments], told, out, err)


def _result(reader: int, limit_s: float, arguments: list[str]) -> int:
    """The exit code. The command writes its pid, and at its end the code; without that it was killed."""
    deadline, told = time.monotonic() + limit_s, b""
    while True:
        if not select.select([reader], [], [], max(0.0, deadline - time.monotonic()))[0]:
            if told:
                os.kill(int(told.split()[0]), signal.SIGKILL)
            raise subprocess.TimeoutExpired(["chatctl", *arguments], limit_s)
        piece = os.read(reader, 100)
        if not piece:
            break
        told += piece
    parts = told.split()
    return int(parts[1]) if len(parts) == 2 else -signal.SIGKILL


@functools.cache
def _server(pid: int) -> socket.socket:
    """The connection to the process that forks. pid: of the caller; one that was forked itself needs another."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    ours.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _MOST_BYTES)
    subprocess.Popen(
        [sys.executable, "-m", __name__], cwd=TOP, env={**os.environ, "PYTHONPATH": str(TOP)}, stdin=theirs
    )
    theirs.close()
    return ours


def _load() -> None:
    for found in pkgutil.walk_packages(chatd.chatctl.__path__, chatd.chatctl.__name__ + "."):
        importlib.import_module(found.name)
    for name in _LATE:
        importlib.import_module(name)


def _serve() -> None:
    """Until the test run has closed its end."""
    _load()
    requests = socket.socket(fileno=os.dup(0))
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # nobody waits for them: the pipe tells
    while True:
        request, descriptors, _, _ = socket.recv_fds(requests, _MOST_BYTES, 4)
        if not request:
            return
        if os.fork() == 0:
            requests.close()
            _become(json.loads(request), descriptors)
        for one in descriptors:
            os.close(one)


def _become(request: dict[str, object], descriptors: list[int]) -> None:
    """In the new process. Never returns."""
    code = 1
    try:
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        result = descriptors[3]
        for number in range(3):
            os.dup2(descriptors[number], number)
            os.close(descriptors[number])
        os.write(result, b"%d " % os.getpid())
        os.chdir(str(request["cwd"]))
        os.environ.clear()
        os.environ.update(request["env"])  # type: ignore[call-overload]
        arguments = list(request["arguments"])  # type: ignore[call-overload]
        sys.argv = ["chatctl", *arguments]
        code = chatctl.main(arguments)
    except SystemExit as left:
        code = left.code if isinstance(left.code, int) else int(left.code is not None)
    except BaseException:  # noqa: BLE001 - as the interpreter: it is shown
        traceback.print_exc()
    finally:
        for stream in (sys.stdout, sys.stderr):
            with contextlib.suppress(OSError, ValueError):
                stream.flush()
        os.write(result, b"%d" % code)
        os._exit(code)


if __name__ == "__main__":
    _serve()
