"""The cables do what the tests of hosts rely on: a cut is silent, mending brings everything back, runs are apart."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from tests.harness import network
from tests.harness.deadline import wait_until
from tests.harness.network import MYSQL_ADDRESS, REDIS_ADDRESS, Network, ip

ECHO = """
import socket, sys
server = socket.create_server((sys.argv[1], 7))
print("ready", flush=True)
peer = server.accept()[0]
while data := peer.recv(100):
    peer.sendall(data)
"""
ASK = """
import socket, sys
peer = socket.create_connection((sys.argv[1], 7), 2)
peer.sendall(b"x")
sys.exit(peer.recv(1) != b"x")
"""


@contextmanager
def echo(prefix: tuple[str, ...], address: str) -> Iterator[None]:
    """Answers one connection on port 7 of the address."""
    with subprocess.Popen([*prefix, sys.executable, "-c", ECHO, address], stdout=subprocess.PIPE) as server:
        assert server.stdout is not None
        assert server.stdout.readline() == b"ready\n"
        yield
        server.kill()


def test_a_cut_is_silent_and_what_was_under_way_arrives_when_it_is_mended() -> None:
    with Network(1) as net:
        (host,) = net.hosts
        with echo(host.prefix, host.address), socket.create_connection((host.address, 7), 5) as client:
            client.settimeout(5)
            client.sendall(b"1")
            assert client.recv(10) == b"1"
            host.cables["clients"].cut()
            client.sendall(b"2")
            client.settimeout(1)
            with pytest.raises(TimeoutError):
                client.recv(10)
            host.cables["clients"].mend()
            client.settimeout(10)
            assert client.recv(10) == b"2"


def test_each_way_to_a_server_has_a_cable_of_its_own() -> None:
    with Network(2) as net:
        one, other = net.hosts
        one.cables["redis"].cut()
        reached = {}
        for host in (one, other):
            for address in (REDIS_ADDRESS, MYSQL_ADDRESS):
                with echo(net.prefix, address):
                    ask = [*host.prefix, sys.executable, "-c", ASK, address]
                    done = subprocess.run(ask, stderr=subprocess.DEVNULL, timeout=30, check=False)
                    reached[host.name, address] = done.returncode == 0
        assert reached == {
            (one.name, REDIS_ADDRESS): False,
            (one.name, MYSQL_ADDRESS): True,
            (other.name, REDIS_ADDRESS): True,
            (other.name, MYSQL_ADDRESS): True,
        }


def test_a_slow_cable_is_slow() -> None:
    with Network(1) as net:
        (host,) = net.hosts
        with echo(host.prefix, host.address), socket.create_connection((host.address, 7), 5) as client:
            host.cables["clients"].slow("64kbit")
            began = time.monotonic()
            client.sendall(bytes(20_000))
            received = 0
            while received < 20_000:
                received += len(client.recv(65536))
            assert time.monotonic() - began > 1.0, "20 kB at 64 kbit/s take longer than that"
            host.cables["clients"].quicken()


def test_what_a_killed_run_has_left_is_cleared_away_and_what_lives_is_not(monkeypatch: pytest.MonkeyPatch) -> None:
    with subprocess.Popen(["true"]) as ended:
        ended.wait()
    left = f"ct{ended.pid}x1s"
    ip("netns", "add", left)
    with Network(1) as net:
        names = network.namespaces()
        assert left not in names
        assert net.switch in names
    assert not [name for name in network.namespaces() if name.startswith(f"ct{os.getpid()}x")]
    wait_until(5, "our end of the cables is gone", lambda: net.name not in ip("-br", "link"))


def test_who_is_not_root_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    with pytest.raises(network.NetworkError, match="run them as root"):
        Network(1)
