"""Hosts on one machine: network namespaces with cables that can be pulled.

Owns: Network (a switch namespace with three bridges, so many host namespaces, and what connects them), Cable (one
host's way into one bridge: cut, mended, made slow), and the clearing away of what a run that was killed has left.
Elsewhere: what runs inside (cluster).
Fails: NetworkError; also when not root, because skipping these tests would hide what they are for.

    this process --- clients --- host 1, host 2 ...      a private network that is nobody else's on this machine
    redis server --- redis ----- host 1, host 2 ...      both servers live in the switch namespace,
    database ------- mysql ----- host 1, host 2 ...      each on a bridge of its own

A cable is cut at the switch: nobody is told, no packet comes back. Names begin with `ct` and the owner's pid.
"""

from __future__ import annotations

import fcntl
import itertools
import json
import os
import random
import re
import socket
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from ipaddress import IPv4Network
from pathlib import Path
from typing import Literal

import psutil

Bridge = Literal["clients", "redis", "mysql"]
BRIDGES: tuple[Bridge, ...] = ("clients", "redis", "mysql")
BACK: dict[Bridge, str] = {"redis": "10.77.1", "mysql": "10.77.2"}
"""Only seen inside the namespaces, so every run may have the same."""
REDIS_ADDRESS = f"{BACK['redis']}.1"
MYSQL_ADDRESS = f"{BACK['mysql']}.1"
POOL = IPv4Network("10.96.0.0/11")
"""Where the networks of the clients are taken from, a /24 each."""
FIRST_HOST = 11
LOCK = Path("/tmp/chatd-test-networks.lock")
OURS = re.compile(r"^ct(\d+)x")

_serials = itertools.count(1)


class NetworkError(AssertionError):
    pass


def own_address() -> str | None:
    """An IPv4 address of this machine that is not loopback; None = it has none."""
    for addresses in psutil.net_if_addrs().values():
        for one in addresses:
            if one.family == socket.AF_INET and not one.address.startswith("127."):
                return str(one.address)
    return None


def ip(*arguments: str) -> str:
    return _command("ip", *arguments)


def _command(*command: str) -> str:
    done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=30, check=False)
    if done.returncode != 0:
        raise NetworkError(f"{' '.join(command)}: {done.stderr.strip()}")
    return done.stdout


@dataclass
class Cable:
    """One host's way into one bridge; `port` is its end at the switch."""

    switch: str
    port: str

    def cut(self) -> None:
        """Silently: what is under way is lost, connections stay as they are."""
        ip("-n", self.switch, "link", "set", self.port, "down")

    def mend(self) -> None:
        ip("-n", self.switch, "link", "set", self.port, "up")

    def slow(self, rate: str) -> None:
        """What goes to the host may come no faster, for example "256kbit"."""
        _command(
            "tc", "-n", self.switch, "qdisc", "replace", "dev", self.port, "root", "tbf", "rate", rate,
            "burst", "4kb", "latency", "400ms",
        )  # fmt: skip

    def quicken(self) -> None:
        _command("tc", "-n", self.switch, "qdisc", "del", "dev", self.port, "root")


@dataclass
class Host:
    """A namespace. address: where clients find it. prefix: a command that runs another one inside."""

    name: str
    address: str
    cables: dict[Bridge, Cable] = field(default_factory=dict)

    @property
    def prefix(self) -> tuple[str, ...]:
        return inside(self.name)


def inside(namespace: str) -> tuple[str, ...]:
    return ("ip", "netns", "exec", namespace)


class Network:
    """Used as a context; at the end everything is gone, with what still runs inside cut off for good."""

    def __init__(self, hosts: int = 2) -> None:
        if os.geteuid() != 0:
            raise NetworkError("these tests make network namespaces: run them as root")
        self.name = f"ct{os.getpid()}x{next(_serials)}"
        self.switch = f"{self.name}s"
        self.hosts: list[Host] = []
        self._count = hosts

    def __enter__(self) -> Network:
        with _lock():
            clear_left_behind()
            try:
                self._make()
            except BaseException:
                self.close()
                raise
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    @property
    def prefix(self) -> tuple[str, ...]:
        """Runs a command where Redis and the database live."""
        return inside(self.switch)

    def close(self) -> None:
        for name in namespaces():
            if name.startswith(self.name) and not name[len(self.name) :][:1].isdigit():
                ip("netns", "del", name)

    def _make(self) -> None:
        clients = _free_network()
        first_three = str(clients.network_address).rpartition(".")[0]
        ip("netns", "add", self.switch)
        ip("-n", self.switch, "link", "set", "lo", "up")
        for bridge in BRIDGES:
            ip("-n", self.switch, "link", "add", bridge, "type", "bridge", "forward_delay", "0")
            ip("-n", self.switch, "link", "set", bridge, "up")
        for bridge, start in BACK.items():
            ip("-n", self.switch, "addr", "add", f"{start}.1/24", "dev", bridge)
        self._plug("clients", "us", None, self.name, f"{first_three}.1")
        for number in range(self._count):
            host = Host(f"{self.name}h{number}", f"{first_three}.{FIRST_HOST + number}")
            ip("netns", "add", host.name)
            ip("-n", host.name, "link", "set", "lo", "up")
            self.hosts.append(host)
            for bridge in BRIDGES:
                start = BACK.get(bridge, first_three)
                address = f"{start}.{FIRST_HOST + number}"
                host.cables[bridge] = self._plug(bridge, f"{bridge}{number}", host.name, bridge, address)

    def _plug(self, bridge: Bridge, port: str, namespace: str | None, device: str, address: str) -> Cable:
        """A cable from a namespace (None: ours) to a bridge; `device` is its name there."""
        there = ("-n", namespace) if namespace else ()
        peer_there = ("netns", namespace) if namespace else ("netns", str(os.getpid()))
        ip("-n", self.switch, "link", "add", port, "type", "veth", "peer", "name", device, *peer_there)
        ip("-n", self.switch, "link", "set", port, "master", bridge, "up")
        ip(*there, "addr", "add", f"{address}/24", "dev", device)
        ip(*there, "link", "set", device, "up")
        return Cable(self.switch, port)


def namespaces() -> list[str]:
    return [one["name"] for one in json.loads(ip("-j", "netns", "list") or "[]")]


def _free_network() -> IPv4Network:
    """One that nothing on this machine has a route to."""
    taken = []
    for route in json.loads(ip("-j", "-4", "route", "show", "table", "all") or "[]"):
        if route["dst"] != "default":
            taken.append(IPv4Network(route["dst"], strict=False))
    choices = list(POOL.subnets(new_prefix=24))
    random.shuffle(choices)
    for choice in choices:
        if not any(choice.overlaps(other) for other in taken):
            return choice
    raise NetworkError("no free private network")


def clear_left_behind() -> None:
    """Namespaces of a run that is no more; their cables go with them."""
    for name in namespaces():
        found = OURS.match(name)
        if found is not None and not Path(f"/proc/{found[1]}").exists():
            for pid in ip("netns", "pids", name).split():
                os.kill(int(pid), 9)
            ip("netns", "del", name)


@contextmanager
def _lock() -> Iterator[None]:
    """Two runs at once do not choose the same network."""
    with LOCK.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield
