"""chatd.socket: systemd holds the sockets of streams, of datagrams, and the control socket."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from chatd.errors import ErrorCode
from tests.harness.datagrams import DatagramPeer
from tests.harness.deadline import run, until, wait_until
from tests.harness.mobileimsdk import LOGIN_ANSWER, content
from tests.systemd.unit import PORTS, SOCKET, UNIT, Service

BAD_CREDENTIALS = int(ErrorCode.BAD_CREDENTIALS)
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
    run(login(activated, "nobody", BAD_CREDENTIALS), 60)
    activated.container.wait_active(UNIT)


def test_nobody_is_refused_while_chatd_is_restarted_or_killed(activated: Service) -> None:
    activated.start()
    with connecting(activated) as outcomes:
        activated.container.systemctl("restart", UNIT)
        activated.container.signal(activated.pid, "KILL")
        wait_until(30, "started again", lambda: activated.restarts() == 1, 0.2)
        activated.container.wait_active(UNIT)
        wait_until(20, "more connections", lambda: outcomes.count("served") > 20)
    assert set(outcomes) <= {"served", "cut"}, outcomes
    assert outcomes.count("cut") < outcomes.count("served")


def test_each_worker_serves_clients_over_udp_and_what_comes_during_a_restart_waits(activated: Service) -> None:
    activated.start()
    users = [f"clara-{number}" for number in range(12)]
    lines = "".join(f"{name} a-long-password\n" for name in users)
    activated.container.run("chatctl", "user", "add", "--file", "-", "--force", input=lines)

    async def log_in_all() -> None:
        clients = await asyncio.gather(*(login(activated, name, 0) for name in users))
        await until(8, "the kernel spreads them over both sockets", lambda: all(peers(activated)), 0.1)
        await until(8, "all are there", lambda: sum(peers(activated)) == len(users), 0.1)
        for client in clients:
            client.abort()

    async def log_in_late() -> None:
        clients = [DatagramPeer() for _ in range(8)]
        for client in clients:
            await client.open(PORTS["mobileimsdk-udp"], activated.container.address)
            client.put(client.login_packet("nobody", "wrong"))
        await asyncio.to_thread(activated.container.systemctl, "start", UNIT)
        for client in clients:
            await client.find(limit_s=20, type=LOGIN_ANSWER)
            client.abort()

    run(log_in_all(), 60)
    activated.container.systemctl("stop", SOCKET, UNIT)
    activated.container.systemctl("start", SOCKET)
    run(log_in_late(), 60)


def test_the_sockets_of_a_worker_that_is_removed_are_read_by_another(activated: Service) -> None:
    activated.start()
    assert activated.ctl("scale", "-1").returncode == 0
    wait_until(20, "one worker", lambda: len(rows(activated)) == 1, 0.1)

    async def story() -> None:
        for _ in range(12):  # about half of them come to the socket of the worker that has gone
            await login(activated, "nobody", BAD_CREDENTIALS)

    run(story(), 60)


def test_a_client_that_waits_does_not_make_systemd_start_a_broken_chatd_for_ever(activated: Service) -> None:
    """A wrong configuration is not tried again and again, though the waiting connection asks for it."""
    activated.drop_in("few", "[Socket]\nTriggerLimitBurst=1\n", SOCKET)
    activated.container.systemctl("restart", SOCKET)
    activated.write_config("[nonsense]\n")
    since = activated.container.cursor()
    with activated.connect():
        activated.container.wait_state(SOCKET, "failed", limit_s=60)
        activated.container.wait_state(UNIT, "failed", limit_s=60)
    told = activated.container.show(SOCKET, "Result")
    assert told == {"Result": "trigger-limit-hit"}
    starts = [one for one in activated.container.journal(UNIT, since=since) if "status=78" in str(one["MESSAGE"])]
    assert 1 <= len(starts) <= 2


def test_chatctl_uses_the_control_socket_of_systemd_and_starts_nothing(activated: Service) -> None:
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
    for command in ("bans", "clients", "reload"):
        activated.ctl(command)
    assert activated.container.state(UNIT) == "inactive"


async def login(service: Service, name: str, code: int) -> DatagramPeer:
    """A client over UDP that was answered with this code. chatd may have to start first."""
    client = DatagramPeer()
    await client.open(PORTS["mobileimsdk-udp"], service.container.address)
    client.put(client.login_packet(name, "a-long-password"))
    answer = content(await client.find(limit_s=40, type=LOGIN_ANSWER))
    assert answer["code"] == code, answer
    return client


def peers(service: Service) -> list[int]:
    return [row["udp_peers"] for row in rows(service)]


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
