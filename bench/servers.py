"""The servers that are measured, as processes: chatd on the embedded default, and ideal, the limit.

Owns: starting them on free loopback ports with their state in a directory of their own, and reading what they spent
from /proc: CPU of all their processes, memory (PSS), which worker holds which connection.
Fails: RuntimeError with the end of the server's log when it does not start or dies.
"""

from __future__ import annotations

import contextlib
import json
import os
import random
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import psutil

HERE = Path(__file__).parent
BUILD = HERE / "build"
START_DEADLINE_S = 30.0
STOP_DEADLINE_S = 45.0

CONFIG = """\
[server]
workers = {workers}
state_dir = "state"
runtime_dir = "run"
log_dir = "log"

[[listen]]
protocol = "mobileimsdk"
address = "tcp://127.0.0.1:{mobileimsdk}"
keep_alive_s = 120

[[listen]]
protocol = "mobileimsdk"
address = "udp://127.0.0.1:{mobileimsdk_udp}"
keep_alive_s = 120

[[listen]]
protocol = "mobileimsdk"
address = "ws://127.0.0.1:{mobileimsdk_ws}/websocket"
keep_alive_s = 120

[[listen]]
protocol = "mobileimsdk"
address = "tls://127.0.0.1:{mobileimsdk_tls}"
certificates = [{{ certificate = "tls.pem", key = "tls.key" }}]
keep_alive_s = 120

[[listen]]
protocol = "mobileimsdk"
address = "wss://127.0.0.1:{mobileimsdk_wss}/websocket"
certificates = [{{ certificate = "tls.pem", key = "tls.key" }}]
keep_alive_s = 120

[[listen]]
protocol = "http"
address = "http://127.0.0.1:{page}"
serves = ["chat"]

[[listen]]
protocol = "chatserver"
address = "tcp://127.0.0.1:{chatserver}"

# The load generator is one source, with thousands of connections.
[penalties]
allow = ["127.0.0.0/8", "10.0.0.0/8"]

# Its users send as fast as they can, which no human does.
[limits]
commands_per_s = 0
recipients_per_s = 0
changes_per_hour = 0

[accounts]
login = "open"
insecure_open_login = true

[store]
url = "{store}"

[bus]
url = "{bus}"
keys = ["the key of the benchmarks' clusters"]
"""
LIMITS = (
    "no rates (`limits.*_per_s` and `limits.changes_per_hour` are 0); what may wait for a user is limited as shipped"
)
"""Those of CONFIG, for the page."""
WIRES = ("mobileimsdk", "mobileimsdk-udp", "mobileimsdk-ws", "mobileimsdk-tls", "mobileimsdk-wss", "page", "chatserver")
"""The listeners, by the names of the generators' wires; tls and wss are mobileimsdk and mobileimsdk-ws with --tls."""
LOCAL_STORE, LOCAL_BUS = "sqlite:chatd.db", "local:"


def build() -> None:
    """Compile the generators and the limit, if a source is newer."""
    BUILD.mkdir(exist_ok=True)
    newest = max(path.stat().st_mtime for path in [*HERE.glob("*.cpp"), *HERE.glob("*.hpp")])
    for name in ("loadgen", "fanout", "apigen", "ideal"):
        target = BUILD / name
        if target.exists() and target.stat().st_mtime > newest:
            continue
        command = [
            "g++",
            "-O2",
            "-std=c++20",
            "-Wall",
            "-Wextra",
            "-o",
            str(target),
            str(HERE / f"{name}.cpp"),
            "-lssl",
            "-lcrypto",
        ]
        subprocess.run(command, check=True)


def make_certificate(folder: Path) -> None:
    """Of the kind that public authorities give: ECDSA with P-256."""
    command = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"]
    command += ["-days", "60", "-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost"]
    command += ["-keyout", str(folder / "tls.key"), "-out", str(folder / "tls.pem")]
    subprocess.run(command, check=True, capture_output=True)


def free_port() -> int:
    """Below the range the kernel takes for outgoing connections, and above what the tests give their servers."""
    while True:
        port = random.randint(30_000, 32_767)
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return port


def cpu_s(pid: int) -> float:
    """User and system time of one process so far, in the kernel's ticks of 10 ms."""
    times = psutil.Process(pid).cpu_times()
    return float(times.user + times.system)


class Server:
    """One running server. `ports` maps a wire's name to its port."""

    ports: dict[str, int]
    process: subprocess.Popen[bytes]

    def addresses(self, wire: str) -> str:
        """The port a generator is given, or several with commas between them."""
        return str(self.ports[wire])

    def pids(self) -> list[int]:
        """The server's processes, the first started first."""
        family = [psutil.Process(self.process.pid)]
        family += family[0].children(recursive=True)
        return [process.pid for process in family]

    def cpu_s(self) -> float:
        """User and system time of all processes so far, in the kernel's ticks of 10 ms."""
        return sum(cpu_s(pid) for pid in self.pids())

    def readings(self) -> dict[str, float]:
        """Whatever else grows and is wanted, by name: the CPU seconds of a database beside the server, say."""
        return {}

    def pss_kb(self) -> int:
        """Proportional set size of all processes."""
        return sum(_pss_kb(pid) for pid in self.pids())

    def holders(self, wire: str) -> dict[int, int]:
        """Client port -> pid of the process that holds the server's end of that connection."""
        by_inode = _connections(self.ports[wire])
        holders = {}
        for pid in self.pids():
            for inode in _socket_inodes(pid):
                if inode in by_inode:
                    holders[by_inode[inode]] = pid
        return holders

    def connections(self, wire: str) -> int:
        """Connections the server has not closed yet, also those whose client is gone."""
        return len(_connections(self.ports[wire], ("01", "08")))

    def last_words(self) -> str:
        """The end of what the server logged."""
        return ""

    def stop(self) -> None:
        self.process.terminate()
        try:
            self.process.wait(STOP_DEADLINE_S)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
            raise RuntimeError("the server did not stop in time") from None


class Ideal(Server):
    """bench/ideal.cpp: forwards and acknowledges, stores nothing."""

    def __init__(self) -> None:
        self.ports = {"mobileimsdk": free_port()}
        self.process = subprocess.Popen([BUILD / "ideal", str(self.ports["mobileimsdk"])])
        deadline = time.monotonic() + START_DEADLINE_S
        while not _accepts(self.ports["mobileimsdk"]):
            if time.monotonic() > deadline or self.process.poll() is not None:
                raise RuntimeError("ideal did not start")
            time.sleep(0.02)


class Chatd(Server):
    """A real chatd: master, `workers` workers, SQLite and the local bus unless told otherwise, logs in files, open
    logins."""

    def __init__(self, workers: int, store: str = LOCAL_STORE, bus: str = LOCAL_BUS) -> None:
        self.workers = workers
        self.ports = {wire: free_port() for wire in WIRES}
        self.home = Path(tempfile.mkdtemp(prefix="state-", dir=BUILD))
        make_certificate(self.home)
        self.config = self.home / "chatd.toml"
        ports = {wire.replace("-", "_"): port for wire, port in self.ports.items()}
        self.config.write_text(self.settings(CONFIG.format(workers=workers, store=store, bus=bus, **ports)))
        command = [_beside("chatd"), "-c", str(self.config)] + (["--allow-root"] if os.getuid() == 0 else [])
        with (self.home / "output").open("wb") as output:
            self.process = subprocess.Popen(command, stdout=output, stderr=output)
        self._wait_for_workers()

    def settings(self, usual: str) -> str:
        """The text of its configuration. usual: that of every benchmark."""
        return usual

    def _wait_for_workers(self) -> None:
        deadline = time.monotonic() + START_DEADLINE_S
        while self._ready_workers() < self.workers:
            if time.monotonic() > deadline or self.process.poll() is not None:
                self.process.kill()
                raise RuntimeError("chatd did not start:\n" + self.last_words())
            time.sleep(0.1)

    def _ready_workers(self) -> int:
        command = [_beside("chatctl"), "-c", str(self.config), "status", "--json"]
        answer = subprocess.run(command, capture_output=True, text=True, check=False)
        if answer.returncode != 0:
            return 0
        return sum(row["state"] == "ready" for row in json.loads(answer.stdout)["workers"])

    def last_words(self) -> str:
        texts = [
            path.read_text(errors="replace")[-2000:] for path in [self.home / "output", *self.home.glob("log/*.log")]
        ]
        return "\n".join(texts)

    def errors_logged(self) -> int:
        log = self.home / "log" / "error.log"
        return len(log.read_text().splitlines()) if log.exists() else 0

    def stop(self) -> None:
        super().stop()
        shutil.rmtree(self.home)


class Hosts(Server):
    """Several chatds that are one: users are spread over them in turn."""

    def __init__(self, hosts: list[Chatd]) -> None:
        self.hosts = hosts
        self.ports = hosts[0].ports

    def addresses(self, wire: str) -> str:
        return ",".join(str(host.ports[wire]) for host in self.hosts)

    def pids(self) -> list[int]:
        return [pid for host in self.hosts for pid in host.pids()]

    def last_words(self) -> str:
        return "\n".join(host.last_words() for host in self.hosts)

    def errors_logged(self) -> int:
        return sum(host.errors_logged() for host in self.hosts)

    def stop(self) -> None:
        for host in self.hosts:
            host.stop()


def _beside(command: str) -> str:
    """The command installed in the same environment as this Python."""
    return str(Path(sys.executable).parent / command)


def _accepts(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), 1).close()
    except OSError:
        return False
    return True


def _pss_kb(pid: int) -> int:
    for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
        if line.startswith("Pss:"):
            return int(line.split()[1])
    return 0


def _connections(server_port: int, states: tuple[str, ...] = ("01",)) -> dict[str, int]:
    """Inode of the server's socket -> the client's port, for the connections to server_port in these of the kernel's
    states: 01 established, 08 closed by the client alone."""
    found = {}
    for line in Path("/proc/net/tcp").read_text().splitlines()[1:]:
        fields = line.split()
        local_port, remote_port = (int(fields[i].split(":")[1], 16) for i in (1, 2))
        if local_port == server_port and fields[3] in states:
            found[fields[9]] = remote_port
    return found


def _socket_inodes(pid: int) -> list[str]:
    inodes = []
    for link in Path(f"/proc/{pid}/fd").iterdir():
        try:
            target = os.readlink(link)
        except FileNotFoundError:
            continue  # closed in the meantime
        if target.startswith("socket:["):
            inodes.append(target[8:-1])
    return inodes
