"""A real chatd in a directory of its own: made, started, watched, hurt and cleared away.

Owns: the generated configuration, free ports, the processes (found again by a mark in their environment, so that
no orphan survives a test), and what its logs say.
Elsewhere: clients (person, chatserver, mobileimsdk).
Fails: DaemonError with the end of the daemon's own output.
"""

from __future__ import annotations

import itertools
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import uuid
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import psutil

from chatd.chatctl.control_client import ControlClient, ServerUnreachable
from tests.harness import forked
from tests.harness.certificates import Certificate
from tests.harness.deadline import wait_until

MARK = "CHATD_TEST_MARK"
TOP = Path(__file__).resolve().parents[2]

Table = Mapping[str, Any]

LISTENERS = {
    "chatserver": ("chatserver", "tcp"),
    "mobileimsdk": ("mobileimsdk", "tcp"),
    "mobileimsdk-udp": ("mobileimsdk", "udp"),
    "mobileimsdk-ws": ("mobileimsdk", "ws"),
    "echo": ("echo", "tcp"),
}
"""Protocol and transport, by the name under which a test finds the port."""
SECURE_LISTENERS = {
    "chatserver-tls": ("chatserver", "tls"),
    "mobileimsdk-tls": ("mobileimsdk", "tls"),
    "mobileimsdk-wss": ("mobileimsdk", "wss"),
    "echo-tls": ("echo", "tls"),
}
"""Those that a daemon with a certificate has as well."""
HTTP_LISTENERS = {"http": ("http", "http")}
"""Of a daemon with the HTTP API."""
WEBSOCKET_PATH = "/websocket"


_USUAL = ("-m", "chatd")
_AS_A_PROGRAM = ("tests.upgrade.late_imports",)
"""Entries that begin as a program of their own, as all do where _begins_usually() is False."""
"""What is run unless a test says otherwise."""
_AT_ITS_START = ("PYTHONUTF8", "PYTHONIOENCODING", "PYTHONWARNINGS", "LANG", "LC_ALL", "LC_CTYPE", "SSH_CONNECTION")
"""Variables that count as they were when the program began."""


class DaemonError(AssertionError):
    pass


def _ports() -> Iterator[int]:
    """Every port of this process's share, in turn, for ever: one that was given comes back after thousands of others.

    All lie below the range the kernel takes for outgoing connections, so no client of a neighbour can have one; and
    each process of a test run has a share of its own, so none is given twice between being chosen and listened on.
    """
    lowest, highest = 10_000, 29_999
    processes = int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1"))
    number = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw"))
    each = (highest - lowest + 1) // processes
    share = range(lowest + number * each, lowest + (number + 1) * each)
    begin = os.getpid() * 97 % each  # another run beside this one begins elsewhere
    yield from itertools.cycle([*share[begin:], *share[:begin]])


_PORTS = _ports()


def free_port() -> int:
    """A port of TCP and UDP that nobody has, and nobody else was given."""
    for port in itertools.islice(_PORTS, 1000):
        with socket.socket() as stream, socket.socket(type=socket.SOCK_DGRAM) as datagrams:
            try:
                stream.bind(("127.0.0.1", port))
                datagrams.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port
    raise DaemonError("no free port")


def free_ports(count: int) -> list[int]:
    return [free_port() for _ in range(count)]


def toml(config: Mapping[str, Any]) -> str:
    """The subset of TOML the configuration needs: tables of scalars and arrays of such tables."""
    parts = []
    for name, table in config.items():
        for one in table if isinstance(table, list) else [table]:
            parts.append(f"[[{name}]]" if isinstance(table, list) else f"[{name}]")
            parts.extend(f"{key} = {_value(value)}" for key, value in one.items())
            parts.append("")
    return "\n".join(parts)


def _value(value: Any) -> str:
    """A list of tables is that of certificates."""
    if isinstance(value, list) and value and isinstance(value[0], Mapping):
        tables = (", ".join(f"{key} = {json.dumps(one)}" for key, one in table.items()) for table in value)
        return f"[{', '.join(f'{{ {table} }}' for table in tables)}]"
    return json.dumps(value)


def address_of(name: str, port: int, host: str = "127.0.0.1") -> str:
    transport = (LISTENERS | SECURE_LISTENERS | HTTP_LISTENERS)[name][1]
    host = f"[{host}]" if ":" in host else host
    return f"{transport}://{host}:{port}{WEBSOCKET_PATH if transport in ('ws', 'wss') else ''}"


class Daemon:
    """`tables` are merged over the defaults below, option by option; `listen` is options of a listener by its name.

    entry: what is run; another one may plant bugs before chatd starts (tests.faults.planted). address: where its
    listeners are; prefix: a command that runs it there, such as `ip netns exec NAME`. certificate: it has the listeners
    of SECURE_LISTENERS too, with this one. api: it has that of HTTP_LISTENERS too.
    """

    def __init__(
        self,
        root: Path,
        *,
        workers: int = 1,
        listen: Mapping[str, Table] | None = None,
        entry: Iterable[str] = _USUAL,
        env: Mapping[str, str] | None = None,
        address: str = "127.0.0.1",
        prefix: Iterable[str] = (),
        certificate: Certificate | None = None,
        api: bool = False,
        **tables: Table | list[dict[str, Any]],
    ) -> None:
        root.mkdir(parents=True, exist_ok=True)
        self.root = root
        self.runtime_dir = Path(tempfile.mkdtemp(prefix="chatd-"))  # short: the names of Unix sockets are limited
        self.entry = tuple(entry)
        self.python = sys.executable
        """That runs it and chatctl; of another installation if a test says so (tests.upgrade.installation)."""
        self.address, self.prefix = address, tuple(prefix)
        self.mark = uuid.uuid4().hex
        self.env = {**os.environ, **(env or {}), MARK: self.mark, "PYTHONPATH": str(TOP)}
        self.certificate = certificate
        listeners = LISTENERS | SECURE_LISTENERS if certificate else LISTENERS
        if api:
            listeners = listeners | HTTP_LISTENERS
        self.ports = dict(zip(listeners, free_ports(len(listeners)), strict=True))
        self.config: dict[str, Any] = {
            "server": {
                "workers": workers,
                "state_dir": "state",
                "runtime_dir": str(self.runtime_dir),
                "log_dir": "log",
            },
            # All clients of a test come from one address, and many tests fail logins or register accounts on purpose.
            # Tests of penalties connect from other addresses of the loopback network.
            "penalties": {
                "allow": ["127.0.0.1", "::1", "10.96.0.0/11"],
                "account_failures": 10_000,
                "attempts_per_connection": 0,
            },
            # The people of these tests do more in a second than any human, and some are away for thousands of messages.
            # What waits is counted nevertheless.
            "limits": {
                "commands_per_s": 0,
                "recipients_per_s": 0,
                "changes_per_hour": 0,
                "waiting_from_one": 100_000,
                "waiting": 1_000_000,
            },
            # Most tests are not about registration and passwords: everybody may register, with any password, and
            # hashing is cheap.
            "accounts": {
                "argon2_memory_kib": 1024,
                "argon2_passes": 1,
                "registration": "open",
                "min_password_chars": 1,
                "common_passwords": "accept",
            },
            "listen": [
                {
                    "protocol": listeners[name][0],
                    "address": address_of(name, port, address),
                    **({"certificates": certificate.options()} if certificate and name in SECURE_LISTENERS else {}),
                    **(listen or {}).get(name, {}),
                }
                for name, port in self.ports.items()
            ],
        }
        for name, table in tables.items():
            if isinstance(table, list):
                self.config[name] = table
            else:
                self.config.setdefault(name, {}).update(table)
        self.config_file = root / "chatd.toml"
        self.output = root / "output.txt"
        self.expected_errors: set[str] = set()
        self.process: subprocess.Popen[bytes] | forked.Forked | None = None
        self._sessions: set[str] = set()
        """Of the kernel: one of each start."""
        self.write_config()

    def write_config(self) -> None:
        listen = self.config.pop("listen")
        self.config["listen"] = listen  # arrays of tables last
        self.config_file.touch(mode=0o600)  # it may hold the password of a database
        self.config_file.write_text(toml(self.config))

    # ------------------------------------------------------------ life

    @property
    def metrics_port(self) -> int:
        """Where metrics are, of a daemon that has them over TCP."""
        return int(self.config["metrics"]["address"].rpartition(":")[2])

    def start(self, limit_s: float = 30.0, prefix: Iterable[str] = ()) -> Daemon:
        """Return when every worker is ready. prefix: a command that runs it, such as prlimit."""
        self.launch(prefix)
        self.wait_ready(limit_s)
        return self

    def launch(self, prefix: Iterable[str] = ()) -> None:
        arguments = ["-c", str(self.config_file), *(["--allow-root"] if os.geteuid() == 0 else [])]
        with self.output.open("ab") as output, open(os.devnull, "rb") as nothing:
            if self._begins_usually() and not self.prefix and not prefix and self._can_be_forked():
                streams = [nothing.fileno(), output.fileno(), output.fileno()]
                module, *first = self.entry[1:]
                self.process = forked.Forked(
                    module, [*first, *arguments], cwd=self.root, env=self.env, streams=streams, apart=True
                )
            else:
                self.process = subprocess.Popen(
                    [*self.prefix, *prefix, self.python, *self.entry, *arguments], cwd=self.root, env=self.env,
                    stdin=nothing, stdout=output, stderr=output, start_new_session=True,
                )  # fmt: skip
        self._sessions.add(str(self.process.pid))

    def _can_be_forked(self) -> bool:
        """chatd, or one of its bugs; but not what concerns the loading of modules."""
        return self.entry[0] == "-m" and self.entry[1] not in _AS_A_PROGRAM

    def _begins_usually(self) -> bool:
        """As nearly every one: it can be forked."""
        same = all(self.env.get(name) == os.environ.get(name) for name in _AT_ITS_START)
        return same and self.python == sys.executable and self.env["PYTHONPATH"] == str(TOP)

    def wait_ready(self, limit_s: float = 30.0) -> None:
        def ready() -> bool:
            if self.process is not None and self.process.poll() is not None:
                raise DaemonError(f"chatd left with {self.process.returncode}:\n{self.tail()}")
            return self.answers("echo") and self.all_ready()

        try:
            wait_until(limit_s, "every worker ready", ready, 0.05)
        except TimeoutError as error:
            raise DaemonError(f"{error}\n{self.tail()}") from None

    def all_ready(self) -> bool:
        rows = self.status()["workers"]
        return len(rows) == self.config["server"]["workers"] and all(
            str(row["state"]).lower() == "ready" for row in rows
        )

    def answers(self, protocol: str, limit_s: float = 1.0) -> bool:
        try:
            with socket.create_connection((self.address, self.ports[protocol]), limit_s) as probe:
                if protocol != "echo":
                    return True
                probe.sendall(b"ready?\n")
                return b"server[echo]" in probe.recv(100)
        except OSError:
            return False

    def stop(self, limit_s: float = 30.0) -> int:
        """Ask for a graceful stop; the exit code."""
        assert self.process is not None
        self.process.send_signal(signal.SIGTERM)
        return self.wait_gone(limit_s)

    def wait_gone(self, limit_s: float = 30.0) -> int:
        assert self.process is not None
        try:
            return self.process.wait(limit_s)
        except subprocess.TimeoutExpired:
            raise DaemonError(f"chatd is still there after {limit_s} s:\n{self.tail()}") from None

    @property
    def pid(self) -> int:
        assert self.process is not None
        return self.process.pid

    def workers(self) -> list[int]:
        """The pids of the master's children, as the kernel sees them."""
        try:
            return sorted(child.pid for child in psutil.Process(self.pid).children() if child.status() != "zombie")
        except psutil.NoSuchProcess:
            return []

    def processes(self) -> list[psutil.Process]:
        """Everything this daemon ever left running, whoever its parent is now."""
        mine = []
        mark = f"{MARK}={self.mark}".encode()
        for name in os.listdir("/proc"):
            if not name.isdecimal():
                continue
            try:
                session = Path("/proc", name, "stat").read_text().rpartition(")")[2].split()[3]
                environ = Path("/proc", name, "environ").read_bytes()  # a zombie's is empty
                if environ and (session in self._sessions or mark in environ.split(b"\0")):
                    mine.append(psutil.Process(int(name)))
            except (OSError, psutil.NoSuchProcess):
                continue
        return mine

    def kill_all(self) -> None:
        """kill -9 of the whole process group, master and workers in one call."""
        assert self.process is not None
        os.killpg(self.pid, signal.SIGKILL)
        self.process.wait(10)
        self.clear()

    def clear(self, limit_s: float = 10.0) -> None:
        """End what is left of it, and wait until it is gone."""
        for process in self.processes():
            try:
                process.send_signal(signal.SIGCONT)
                process.kill()
            except psutil.NoSuchProcess:
                continue
        if self.process is not None and self.process.poll() is None:
            self.process.wait(limit_s)
        wait_until(limit_s, "no process left", lambda: not self.processes())

    def discard(self) -> list[str]:
        """The end of a test: what was logged that should not have been; then nothing of it is left running."""
        complaints = self.unexpected()
        self.clear()
        shutil.rmtree(self.runtime_dir, ignore_errors=True)
        return complaints

    # ------------------------------------------------------------ asking it

    def ctl(self, *arguments: str, limit_s: float = 30.0, input: str = "") -> subprocess.CompletedProcess[str]:
        """input: what it reads on standard input, a password for example."""
        if not self._begins_usually():
            return self.ctl_apart(*arguments, limit_s=limit_s, input=input)
        arguments = ("-c", str(self.config_file), *arguments)
        return forked.run(list(arguments), cwd=self.root, env=self.env, input=input, limit_s=limit_s)

    def ctl_apart(self, *arguments: str, limit_s: float = 30.0, input: str = "") -> subprocess.CompletedProcess[str]:
        """As ctl(), by a Python that begins with it, as every chatctl of an operator does."""
        return subprocess.run(
            [self.python, "-m", "chatd.chatctl", "-c", str(self.config_file), *arguments],
            cwd=self.root, env=self.env, input=input, capture_output=True, text=True, timeout=limit_s, check=False,
        )  # fmt: skip

    def ctl_said(self, *arguments: str) -> tuple[int, str, str]:
        """As ctl(): exit code, what it printed, and what it said on standard error."""
        done = self.ctl(*arguments)
        return done.returncode, done.stdout, done.stderr

    def ask(self, request: bytes) -> dict[str, Any]:
        """A request on the control socket, as it is; the reply."""
        with socket.socket(socket.AF_UNIX) as client:
            client.settimeout(15)
            client.connect(str(self.runtime_dir / "control.sock"))
            client.sendall(request)
            received = b"".join(iter(lambda: client.recv(65536), b""))
        found: dict[str, Any] = json.loads(received)
        return found

    def request(self, cmd: str, **more: Any) -> dict[str, Any]:
        """As ask(), of this command."""
        return self.ask(json.dumps({"v": 1, "cmd": cmd, **more}).encode() + b"\n")

    def test(self, *options: str) -> subprocess.CompletedProcess[str]:
        """`chatd -t` with its configuration."""
        return subprocess.run(
            [sys.executable, "-m", "chatd", "-c", str(self.config_file), "-t", *options],
            cwd=self.root, env=self.env, capture_output=True, text=True, timeout=30, check=False,
        )  # fmt: skip

    def status(self) -> dict[str, Any]:
        """What `chatctl status --json` prints, without the time that a program takes to begin."""
        try:
            found: dict[str, Any] = json.loads(ControlClient(str(self.runtime_dir)).status_json())
        except ServerUnreachable:
            return {"state": "none", "workers": []}
        return found

    # ------------------------------------------------------------ what it wrote

    def records(self, name: str = "*.log*") -> list[dict[str, Any]]:
        """Log records, oldest file first."""
        found = []
        for path in sorted((self.root / "log").glob(name), key=lambda path: path.stat().st_mtime):
            for line in path.read_text(errors="replace").splitlines():
                try:
                    found.append(json.loads(line))
                except ValueError:
                    found.append({"level": "TORN", "event": line})
        return found

    def logged(self, text: str) -> list[dict[str, Any]]:
        return [record for record in self.records() if text in json.dumps(record)]

    def expect_error(self, text: str) -> None:
        """Records at ERROR or FATAL that contain `text` belong to this test."""
        self.expected_errors.add(text)

    def unexpected(self) -> list[str]:
        """What a healthy daemon would not have written."""
        bad = [json.dumps(record) for record in self.records() if record.get("level") in ("ERROR", "FATAL", "TORN")]
        output = self.output.read_text(errors="replace") if self.output.exists() else ""
        if "Traceback" in output:
            bad.append(output[-4000:])
        return [line for line in bad if not any(text in line for text in self.expected_errors)]

    def tail(self, limit: int = 3000) -> str:
        parts = [self.output, *sorted((self.root / "log").glob("*.log"))]
        return "\n".join(
            f"--- {path.name}\n{path.read_text(errors='replace')[-limit:]}" for path in parts if path.exists()
        )
