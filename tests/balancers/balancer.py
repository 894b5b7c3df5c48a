"""Real nginx and HAProxy with the configurations that are shipped, in front of daemons of a test.

Owns: Balancer (made from a shipped file, whose addresses and ports alone are changed), Nginx, HAProxy, and Front, the
town that is entered through one.
Fails: BalancerError with the end of its log when it does not start, or when the shipped file is not as expected.
"""

from __future__ import annotations

import asyncio
import csv
import io
import os
import re
import signal
import socket
import subprocess
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import cast

import psutil

from tests.harness import chatserver
from tests.harness.certificates import Certificate
from tests.harness.daemon import TOP, Daemon, free_ports
from tests.harness.deadline import wait_until
from tests.harness.network import Host
from tests.harness.peer import NulPeer
from tests.harness.person import Town

SHIPPED = {"chatserver": 8888, "mobileimsdk": 8901, "mobileimsdk-ws": 3000, "mobileimsdk-udp": 7901}
"""The balancers' own ports in the shipped files."""
SECURE = {"chatserver": 8889, "mobileimsdk": 8902, "mobileimsdk-ws": 3443}
"""Those where they speak TLS."""
HOSTS = {
    "chatserver": ("10.0.0.1:6000", "10.0.0.2:6002"),
    "mobileimsdk": ("10.0.0.1:8901", "10.0.0.2:8901"),
    "mobileimsdk-ws": ("10.0.0.1:3000", "10.0.0.2:3000"),
    "mobileimsdk-udp": ("10.0.0.1:7901", "10.0.0.2:7901"),
}
LIMIT_S = 20.0


class BalancerError(AssertionError):
    pass


class Balancer:
    """Not started. `ports` by the names of a Daemon's listeners. hosts: two, or one twice. certificate: the doors with
    TLS are opened with it, too. changes: more of the shipped file, such as its times. place: where it runs. address:
    where its doors are."""

    shipped: Path
    wires: Sequence[str] = ("chatserver", "mobileimsdk", "mobileimsdk-ws")

    def __init__(
        self,
        root: Path,
        hosts: Sequence[Daemon],
        certificate: Certificate | None = None,
        changes: Mapping[str, str] | None = None,
        place: Host | None = None,
        address: str = "127.0.0.1",
    ) -> None:
        root.mkdir(parents=True, exist_ok=True)
        self.root = root
        self.hosts = list(hosts)
        self.certificate = certificate
        self.address, self.prefix = (place.address, place.prefix) if place else (address, ())
        self.ports = dict(zip(self.wires, free_ports(len(self.wires)), strict=True))
        self.secure = dict(zip(SECURE, free_ports(len(SECURE)), strict=True)) if certificate else {}
        self.log = root / "log.txt"
        self.process: subprocess.Popen[bytes] | None = None
        self.file = root / self.shipped.name
        self.file.write_text(changed(self.text(), {**self.own_changes(), **self.places(), **(changes or {})}))

    def places(self) -> dict[str, str]:
        """The hosts of the example, and who they are here."""
        return {
            f" {place}": f" {at(host.address, host.ports[wire])}"
            for wire in self.wires
            for place, host in zip(HOSTS[wire], self.hosts, strict=True)
        }

    def text(self) -> str:
        """The shipped file, with what is shipped for TLS where that is wanted."""
        raise NotImplementedError

    def own_changes(self) -> dict[str, str]:
        """What else of the shipped file is this machine's."""
        raise NotImplementedError

    def command(self) -> list[str]:
        raise NotImplementedError

    def check(self, file: Path) -> subprocess.CompletedProcess[str]:
        """What the balancer itself says of a configuration."""
        raise NotImplementedError

    # ------------------------------------------------------------ life

    def start(self) -> Balancer:
        assert self.process is None
        with self.log.open("ab") as output:
            self.process = subprocess.Popen(
                [*self.prefix, *self.command()], cwd=self.root, stdin=subprocess.DEVNULL, stdout=output, stderr=output,
                start_new_session=True,
            )  # fmt: skip
        wait_until(LIMIT_S, f"the balancer accepts\n{self.tail()}", self.accepts)
        return self

    def accepts(self) -> bool:
        if self.process is not None and self.process.poll() is not None:
            raise BalancerError(f"it left with {self.process.returncode}:\n{self.tail()}")
        try:
            for wire in self.wires:
                if wire != "mobileimsdk-udp":
                    socket.create_connection((self.address, self.ports[wire]), 1.0).close()
        except OSError:
            return False
        return True

    def reload(self) -> None:
        """Read the configuration anew; returns when new connections come to the processes that have. What is connected
        stays in those from before."""
        before = self.generation()
        self.order_reload()
        wait_until(LIMIT_S, "the new generation alone accepts", lambda: self.generation().isdisjoint(before))
        wait_until(LIMIT_S, "it may be reloaded again", self.accepts)

    def order_reload(self) -> None:
        raise NotImplementedError

    def give_up_after(self, limit: str) -> None:
        """Processes that read the configuration from now on disconnect their clients this long after they were
        replaced."""
        raise NotImplementedError

    def generation(self) -> set[int]:
        """The processes that accept."""
        raise NotImplementedError

    def processes(self) -> list[psutil.Process]:
        """Those that serve, of this generation and of those before."""
        if self.process is None:
            return []
        return [one for one in psutil.Process(self.process.pid).children() if title(one)]

    def kill(self) -> None:
        """kill -9, all its processes in one call."""
        process, self.process = self.process, None
        if process is not None:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait(LIMIT_S)

    def tail(self, limit: int = 3000) -> str:
        return self.log.read_text(errors="replace")[-limit:] if self.log.exists() else ""


def changed(text: str, changes: Mapping[str, str]) -> str:
    """Every change is of whole words, and applies; no host of the example is left. Comments stay as they are."""
    lines, used = [], set()
    for line in text.splitlines():
        words, mark, comment = line.partition("#")
        for old, new in changes.items():
            words, times = re.subn(rf"{re.escape(old)}(?=[\s;]|$)", new, words)
            if times:
                used.add(old)
        lines.append(words + mark + comment)
        if "10.0.0." in words:
            raise BalancerError(f"a host of the example is left: {line}")
    if missing := set(changes) - used:
        raise BalancerError(f"not in the shipped file: {sorted(missing)}")
    return "\n".join(lines) + "\n"


class Nginx(Balancer):
    """Under a main configuration such as the comments of the shipped file describe."""

    shipped = TOP / "etc" / "nginx" / "chatd-stream.conf"
    wires = ("chatserver", "mobileimsdk", "mobileimsdk-ws", "mobileimsdk-udp")
    shutdown = "12h"  # as these comments say

    def text(self) -> str:
        text = self.shipped.read_text()
        if not self.certificate:
            return text
        include = "# include /etc/nginx/chatd-stream-tls.conf;"
        assert text.count(include) == 1
        return text.replace(include, (self.shipped.parent / "chatd-stream-tls.conf").read_text())

    def own_changes(self) -> dict[str, str]:
        doors = {SHIPPED[wire]: port for wire, port in self.ports.items()}
        doors |= {SECURE[wire]: port for wire, port in self.secure.items()}
        changes = {f" listen {shipped}": f" listen {at(self.address, port)}" for shipped, port in doors.items()}
        return changes | self.certificate.for_nginx() if self.certificate else changes

    def order_reload(self) -> None:
        assert self.process is not None
        self.process.send_signal(signal.SIGHUP)  # what `nginx -s reload` sends

    def give_up_after(self, limit: str) -> None:
        self.shutdown = limit
        self.main(self.file)

    def generation(self) -> set[int]:
        titles = {one.pid: title(one) for one in self.processes()}
        return {pid for pid, text in titles.items() if text and "shutting down" not in text}

    def main(self, file: Path) -> Path:
        main = self.root / f"{file.parent.name}.{file.name}.main"
        main.write_text(
            "load_module /usr/lib/nginx/modules/ngx_stream_module.so;\n"
            "daemon off;\nworker_processes 2;\n"
            f"pid {self.root}/nginx.pid;\nerror_log {self.log} notice;\nworker_shutdown_timeout {self.shutdown};\n"
            "worker_rlimit_nofile 8000;\nevents { worker_connections 4000; }\n"
            f"include {file};\n"
        )
        return main

    def command(self) -> list[str]:
        return ["nginx", "-c", str(self.main(self.file)), "-p", str(self.root), "-e", str(self.log)]

    def check(self, file: Path) -> subprocess.CompletedProcess[str]:
        command = ["nginx", "-t", "-c", str(self.main(file)), "-p", str(self.root), "-e", str(self.log)]
        return subprocess.run(command, capture_output=True, text=True, timeout=LIMIT_S, check=False)


class HAProxy(Balancer):
    shipped = TOP / "etc" / "haproxy" / "chatd.cfg"

    def text(self) -> str:
        text = self.shipped.read_text()
        if not self.certificate:
            return text
        text, opened = re.subn(r"# (bind :\d+ .*ssl crt .*)", r"\1", text)
        assert opened == len(SECURE)
        return text

    def own_changes(self) -> dict[str, str]:
        doors = {SHIPPED[wire]: port for wire, port in self.ports.items()}
        doors |= {SECURE[wire]: port for wire, port in self.secure.items()}
        binds = {f" bind :{shipped}": f" bind {at(self.address, port)}" for shipped, port in doors.items()}
        return {
            **binds,
            **(self.certificate.for_haproxy() if self.certificate else {}),
            " /run/haproxy/admin.sock": f" {self.root}/admin.sock",
            " log /dev/log local0": " log stdout format raw local0",
            " maxconn 100000": " maxconn 3000",
        }

    def command(self) -> list[str]:
        """With a master, as Debian's unit runs it; -db only keeps it in the foreground."""
        return ["haproxy", "-W", "-db", "-f", str(self.file)]

    def accepts(self) -> bool:
        """And its master waits for events: it forgets signals that come before."""
        if not super().accepts():
            return False
        assert self.process is not None
        return "poll" in Path(f"/proc/{self.process.pid}/wchan").read_text()

    def order_reload(self) -> None:
        assert self.process is not None
        self.process.send_signal(signal.SIGUSR2)  # what `systemctl reload haproxy` sends

    def give_up_after(self, limit: str) -> None:
        text, times = re.subn(r"(?m)^( +hard-stop-after) \w+", rf"\1 {limit}", self.file.read_text())
        assert times == 1
        self.file.write_text(text)

    def generation(self) -> set[int]:
        """The process that answers on the admin socket; no other listens there."""
        found = re.search(r"^Pid: (\d+)$", self.ask("show info"), re.MULTILINE)
        assert found is not None
        return {int(found[1])}

    def check(self, file: Path) -> subprocess.CompletedProcess[str]:
        command = ["haproxy", "-c", "-f", str(file)]
        return subprocess.run(command, capture_output=True, text=True, timeout=LIMIT_S, check=False)

    def ask(self, command: str) -> str:
        """One command over the admin socket."""
        with socket.socket(socket.AF_UNIX) as admin:
            admin.settimeout(LIMIT_S)
            admin.connect(f"{self.root}/admin.sock")
            admin.sendall(command.encode() + b"\n")
            return b"".join(iter(lambda: admin.recv(4096), b"")).decode()

    def servers(self, column: str) -> dict[str, str]:
        """One column of `show stat` for every server, by "listen/server"."""
        rows = csv.DictReader(io.StringIO(self.ask("show stat").removeprefix("# ")))
        return {
            f"{row['pxname']}/{row['svname']}": row[column]
            for row in rows
            if row["svname"] not in ("FRONTEND", "BACKEND")
        }


def at(address: str, port: int) -> str:
    return f"[{address}]:{port}" if ":" in address else f"{address}:{port}"


def title(process: psutil.Process) -> str:
    """What it calls itself; "" of one that has ended."""
    try:
        return " ".join(process.cmdline())
    except (psutil.NoSuchProcess, psutil.ZombieProcess):
        return ""


def clients(host: Daemon) -> int:
    """Connections at this host's doors."""
    doors = set(host.ports.values())
    found = 0
    for pid in host.workers():
        for one in psutil.Process(pid).net_connections("tcp"):
            found += one.status == psutil.CONN_ESTABLISHED and one.laddr.port in doors
    return found


class Front(Town):
    """Whose people come through a balancer, for setting up, too."""

    def __init__(self, balancer: Balancer) -> None:
        super().__init__(cast(Daemon, balancer))  # address and ports are all a town asks of its daemon

    async def errand(self, name: str, framing: str = "nul") -> NulPeer:
        """A host hears of a client's leaving a moment after the client heard the balancer's goodbye."""
        ends = time.monotonic() + LIMIT_S
        while True:
            peer = await self.nul_peer()
            peer.put({"msgid": chatserver.LOGIN, "id": self.ids[name], "password": self.secret, "framing": framing})
            answer = await peer.find(msgid=chatserver.LOGIN_ACK)
            if answer["errno"] == 0:
                return peer
            assert answer["errno"] == 2, answer
            assert time.monotonic() < ends, f"{name} is still logged in"
            peer.close()
            await asyncio.sleep(0.02)
