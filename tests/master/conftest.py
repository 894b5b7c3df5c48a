"""A real master with trial workers, in a directory of its own."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec
import psutil
import pytest

from chatd.chatctl.control_client import ControlClient, ServerUnreachable
from tests.harness import forked

TRIAL = str(Path(__file__).with_name("trial_worker.py"))


def wait_for(what: str, check: Callable[[], Any], limit_s: float = 10.0) -> Any:
    """What `check` returns as soon as it is true."""
    until = time.monotonic() + limit_s
    while True:
        found = check()
        if found:
            return found
        if time.monotonic() > until:
            raise AssertionError(f"not within {limit_s} s: {what}")
        time.sleep(0.01)


class Server:
    """`tables` is TOML text after [server]."""

    def __init__(self, root: Path, workers: int = 2, log_dir: str = "log", tables: str = "", server: str = "") -> None:
        self.root = root
        self.file = root / "chatd.toml"
        self.workers = workers
        self.head = f'state_dir = "state"\nruntime_dir = "run"\nlog_dir = "{log_dir}"\n{server}\n'
        self.listen = '[[listen]]\nprotocol = "echo"\naddress = "tcp://127.0.0.1:0"\n'
        self.environment = dict(os.environ)
        self.client = ControlClient(str(root / "run"))
        self.process: subprocess.Popen[str] | None = None
        self.known: set[int] = set()
        self.write(tables)

    def write(self, tables: str = "", workers: int | None = None) -> None:
        self.workers = workers or self.workers
        self.file.write_text(f"[server]\nworkers = {self.workers}\n{self.head}{self.listen}{tables}\n")

    def command(self, *arguments: str) -> list[str]:
        return [sys.executable, TRIAL, "-c", str(self.file), "--allow-root", *arguments]

    def launch(self, *arguments: str, **options: Any) -> subprocess.Popen[str]:
        self.process = subprocess.Popen(
            self.command(*arguments), env=self.environment, text=True, stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, start_new_session=True, **options,
        )  # fmt: skip
        return self.process

    def start(self, *arguments: str, **options: Any) -> Server:
        self.launch(*arguments, **options)
        self.wait_ready()
        return self

    def run(self, *arguments: str, limit_s: float = 20.0) -> subprocess.CompletedProcess[str]:
        """To its end."""
        return subprocess.run(
            self.command(*arguments), env=self.environment, text=True, capture_output=True, timeout=limit_s, check=False
        )

    def ctl(self, *arguments: str, **options: Any) -> subprocess.CompletedProcess[str]:
        return forked.run(["-c", str(self.file), *arguments], cwd=Path.cwd(), env=os.environ, **options)

    def status(self) -> dict[str, Any]:
        try:
            found: dict[str, Any] = msgspec.to_builtins(self.client.status())
        except ServerUnreachable:
            return {"state": "none", "workers": []}
        self.known |= {found["pid"], *(one["pid"] for one in found["workers"] if one["pid"])}
        return found

    def wait_ready(self, limit_s: float = 15.0) -> dict[str, Any]:
        def ready() -> dict[str, Any] | None:
            if self.process is not None and self.process.poll() not in (None, 0):
                assert self.process.stderr is not None
                raise AssertionError(f"ended with {self.process.returncode}: {self.process.stderr.read()}")
            found = self.status()
            return found if found["state"] == "running" and not self.leaving(found) else None

        return wait_for("all workers ready", ready, limit_s)

    @staticmethod
    def leaving(found: dict[str, Any]) -> list[dict[str, Any]]:
        return [one for one in found["workers"] if one["state"] != "ready"]

    def pids(self) -> list[int]:
        return [one["pid"] for one in self.status()["workers"] if one["pid"]]

    def port(self) -> int:
        return int(self.status()["listeners"][0]["address"].rpartition(":")[2])

    def connect(self) -> socket.socket:
        made = socket.create_connection(("127.0.0.1", self.port()), 5)
        made.settimeout(5)
        return made

    def signal(self, number: int) -> None:
        assert self.process is not None
        self.process.send_signal(number)

    def wait(self, limit_s: float = 15.0) -> int:
        assert self.process is not None
        return self.process.wait(limit_s)

    def records(self, name: str = "*.log*") -> list[dict[str, Any]]:
        return [json.loads(line) for path in sorted((self.root / "log").glob(name)) for line in path.open()]

    def events(self, name: str = "*.log*") -> list[str]:
        return [record["event"] for record in self.records(name)]

    def clear(self) -> None:
        if self.process is not None and self.process.poll() is None:
            self.known.add(self.process.pid)
        for pid in self.known:
            with contextlib.suppress(psutil.NoSuchProcess):
                found = psutil.Process(pid)
                if TRIAL in found.cmdline():
                    found.kill()
        if self.process is not None:
            self.process.wait(10)
            for pipe in (self.process.stdout, self.process.stderr):
                if pipe is not None:
                    pipe.close()


@pytest.fixture
def make(tmp_path: Path) -> Iterator[Callable[..., Server]]:
    made: list[Server] = []

    def one(name: str = "s", **options: Any) -> Server:
        root = tmp_path / name
        root.mkdir(exist_ok=True)
        made.append(Server(root, **options))
        return made[-1]

    yield one
    for server in made:
        server.status()
        server.clear()


def say(client: socket.socket, line: str) -> list[str]:
    """The trial worker's answer: slot, pid, generation, log level."""
    client.sendall(line.encode() + b"\n")
    return client.recv(1000).decode().split()


def open_way(folder: Path) -> None:
    """Let everybody pass through the folders that pytest made for us alone."""
    temporary = Path(tempfile.gettempdir())
    for one in (folder, *folder.parents):
        if one == temporary or temporary not in one.parents:
            return
        one.chmod(one.stat().st_mode | 0o011)


def is_alive(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def kill(pid: int, number: signal.Signals = signal.SIGKILL) -> None:
    os.kill(pid, number)
