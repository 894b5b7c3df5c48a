"""chatd.socket: systemd holds the sockets of streams, of datagrams, and the control socket."""

from __future__ import annotations

import asyncio
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from tests.harness.datagrams import DatagramLink
from tests.harness.deadline import run, wait_until
from tests.systemd.unit import PORTS, SOCKET, UNIT, Service

MORE = f"""[Socket]
ListenStream=0.0.0.0:{PORTS["echo"]}
ListenDatagram=0.0.0.0:{PORTS["mobileimsdk-udp"]}
ListenDatagram=0.0.0.0:{PORTS["mobileimsdk-udp"]}
"""


@pytest.fixture
def activated(service: Service) -> Service:
    """The socket unit as it is shipped, with the further listeners of the tests; chatd is not started."""
    service.drop_in("more", MORE, SOCKET)
    service.container.systemctl("start", SOCKET)
    assert service.container.state(UNIT) == "inactive"
    return service


def test_a_connection_starts_chatd_and_is_served(activated: Service) -> None:
    with activated.connect(limit_s=30) as client:
        client.sendall(b"wake up\n")
        assert b"wake up" in client.recv(100)
    activated.container.wait_active(UNIT)
    said = activated.container.read("/var/log/chatd/normal.log")
    assert "matches no [[listen]]" not in said
    assert "some workers have no clients" not in said


def test_a_datagram_starts_chatd_and_is_served(activated: Service) -> None:
    async def story() -> None:
        client = DatagramLink()
        await client.open(PORTS["mobileimsdk-udp"], activated.container.address)
        assert await client.login("nobody", 0, "secret") != 0, "answered: there is no such user"
        client.abort()

    run(story(), 40)
    activated.container.wait_active(UNIT)


def test_nobody_is_refused_while_chatd_is_restarted_or_killed(activated: Service) -> None:
    activated.start()
    with connecting(activated) as outcomes:
        activated.container.systemctl("restart", UNIT)
        activated.container.signal(activated.pid, "KILL")
        wait_until(30, "started again", lambda: activated.restarts() == 1)
        activated.container.wait_active(UNIT)
        wait_until(20, "more connections", lambda: outcomes.count("served") > 20)
    assert set(outcomes) <= {"served", "cut"}, outcomes
    assert outcomes.count("cut") < outcomes.count("served")


def test_clients_over_udp_keep_their_worker_over_a_restart(activated: Service) -> None:
    """With one socket for each worker, all are used; what is sent during the restart waits."""
    activated.start()
    for name in (users := [f"user{number}" for number in range(12)]):
        added = activated.container.run("chatctl", "user", "add", name, input="secret\n", check=False)
        assert added.returncode == 0, added.stderr

    async def story() -> None:
        clients = []
        for name in users:
            client = DatagramLink()
            await client.open(PORTS["mobileimsdk-udp"], activated.container.address)
            assert await client.login(name, 0, "secret") == 0
            clients.append(client)
        before = [row["udp_peers"] for row in await asyncio.to_thread(rows, activated)]
        assert sum(before) == len(users)
        assert min(before) > 0, "each worker has some"
        for client in clients:
            client.abort()

    run(story(), 40)
    activated.container.systemctl("stop", UNIT)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as late:
        late.sendto(b"anything", (activated.container.address, PORTS["mobileimsdk-udp"]))
        activated.container.wait_active(UNIT, 30)


def test_the_sockets_of_a_worker_that_is_removed_are_read_by_another(activated: Service) -> None:
    activated.start()
    assert activated.ctl("scale", "-1").returncode == 0
    wait_until(20, "one worker", lambda: len(rows(activated)) == 1)

    async def story() -> None:
        for _ in range(12):  # about half of them come to the socket of the worker that has gone
            client = DatagramLink()
            await client.open(PORTS["mobileimsdk-udp"], activated.container.address)
            assert await client.login("nobody", 0, "secret") != 0
            client.abort()

    run(story(), 40)


def test_chatctl_waits_while_chatd_is_restarted_and_starts_nothing(activated: Service) -> None:
    activated.start()
    assert activated.ctl("status").returncode == 0
    control = activated.container.run("stat", "--format=%U %G %a", "/run/chatd/control.sock").stdout
    assert control == "chatd chatd 660\n"
    activated.container.systemctl("restart", UNIT)
    assert activated.ctl("log-level", "DEBUG").returncode == 0
    activated.container.systemctl("stop", UNIT)
    assert activated.container.path("/run/chatd/control.sock").exists(), "it is systemd's"
    assert activated.ctl("status").returncode == 3
    assert activated.ctl("check").returncode == 2
    assert "not running" in activated.ctl("stop").stderr
    assert activated.container.state(UNIT) == "inactive"


def rows(service: Service) -> list[dict[str, int]]:
    return [row for row in service.status()["workers"] if row["state"] == "ready"]


@contextmanager
def connecting(service: Service) -> Iterator[list[str]]:
    """One client after the other connects and says a line. Each is served, cut (it was with a worker that ended), or
    refused."""
    outcomes: list[str] = []
    over = threading.Event()

    def connect() -> None:
        while not over.is_set():
            try:
                client = service.connect(limit_s=30)
            except OSError as error:
                outcomes.append(f"refused: {error}")
                continue
            with client:
                try:
                    client.sendall(b"here\n")
                    outcomes.append("served" if client.recv(100) else "cut")
                except OSError:
                    outcomes.append("cut")

    thread = threading.Thread(target=connect)
    thread.start()
    try:
        yield outcomes
    finally:
        over.set()
        thread.join(40)
