"""IPv6: every wire at [::1] and at [::], where clients without IPv6 come too and are called by their plain address;
beside a listener of the same port for IPv4; behind a balancer that has IPv6; and answers over UDP, which leave from the
address that was written to, whatever addresses the host has."""

from __future__ import annotations

import itertools
import json
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from chatd.config.schema import ListenerOptions
from chatd.master.listeners import bind_all, takes_both
from tests.client import process
from tests.faults.ordeal import port_of
from tests.harness.daemon import TOP, Daemon, address_of, free_port
from tests.harness.deadline import run, until
from tests.harness.link import Seen
from tests.harness.mobileimsdk import MobilePeer
from tests.harness.person import Person, Town, Wire
from tests.net.proxy_headers import v1, v2
from tests.net.test_proxy_protocol import HEADED, PLAIN, listed, log_in

Make = Callable[..., Daemon]
WIRES: tuple[Wire, ...] = ("old", "streaming", "mobile", "web", "udp")


class Streets(Town):
    """The daemon is reached by several addresses, each wire by all of them."""

    def __init__(self, daemon: Daemon, hosts: tuple[str, ...]) -> None:
        super().__init__(daemon)
        self.hosts = hosts

    def address_of(self, name: str, wire: Wire) -> tuple[int, str]:
        return self.port(wire), self.hosts[int(name.rpartition("_")[2])]


def shown(host: str, port: int) -> str:
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def own_port(person: Person) -> int:
    if person.wire == "udp":
        return int(person.link.address[1])  # type: ignore[union-attr]
    return port_of(person)  # type: ignore[arg-type]


async def everybody_talks(town: Streets) -> None:
    """One per wire and address; each hears the one before, and is known by the address it came from."""
    wires = itertools.product(WIRES, range(len(town.hosts)))
    people = [await town.settle(f"{wire}_{number}", wire) for wire, number in wires]
    for person in people:
        await person.arrive()
    for one, other in zip(people, people[1:] + people[:1], strict=True):
        await one.say(other.name, f"from {one.name}")
        await other.sees(Seen(one.name, f"from {one.name}"))
    for person in people:
        (record,) = [one for one in town.daemon.logged(f'"{person.name}"') if one["event"] == "logged in"]
        host = town.address_of(person.name, person.wire)[1]
        own = "127.0.0.1" if host.startswith("127.") else host
        assert record["peer"] == shown(own, own_port(person))
        if person.wire in ("mobile", "web", "udp"):
            assert isinstance(person.link, MobilePeer)
            assert await listed_to(person.link, person.name) == record["peer"]


async def listed_to(link: MobilePeer, name: str) -> str:
    """As tests.net.test_proxy_protocol's, of a link that hears its messages."""
    link.on_frame = link.frames.append
    return await listed(link, name)


def complaints(daemon: Daemon) -> list[object]:
    """Apart from the warning that these listeners have no TLS."""
    return [
        one
        for one in daemon.records()
        if one["level"] not in ("DEBUG", "NORMAL") and one["event"] != "passwords can be read on the network"
    ]


def told(daemon: Daemon) -> set[str]:
    return {one["address"] for one in daemon.status()["listeners"]}


@pytest.mark.parametrize(
    ("address", "hosts"),
    [("::1", ("::1",)), ("::", ("::1", "127.0.0.1", "127.0.0.3")), ("0.0.0.0", ("127.0.0.1", "127.0.0.2"))],
)
def test_a_whole_conversation(make_daemon: Make, address: str, hosts: tuple[str, ...]) -> None:
    """The clients' UDP sockets are connected: an answer from another address than they wrote to never reaches them."""
    daemon = make_daemon(workers=2, address=address, log={"level": "DEBUG"}).start()
    run(everybody_talks(Streets(daemon, hosts)))
    assert {address_of(name, port, address) for name, port in daemon.ports.items()} == told(daemon)
    assert complaints(daemon) == []


@pytest.mark.parametrize("first", ["::", "0.0.0.0"])
def test_two_listeners_of_one_port(make_daemon: Make, first: str) -> None:
    """[::] leaves IPv4 to a listener that has it: both are bound, in either order, and after a restart again."""
    timeouts = {"drain_s": 5.0, "drain_spread_s": 0.2}
    daemon = make_daemon(address=first, log={"level": "DEBUG"}, timeouts=timeouts)
    second = "0.0.0.0" if first == "::" else "::"
    for name, one in zip(daemon.ports, tuple(daemon.config["listen"]), strict=True):
        daemon.config["listen"].append({**one, "address": address_of(name, daemon.ports[name], second)})
    daemon.write_config()
    daemon.start()
    run(everybody_talks(Streets(daemon, ("::1", "127.0.0.1"))))
    assert len(told(daemon)) == 2 * len(daemon.ports)
    assert daemon.stop() == 0
    daemon.start()


def test_when_both_families_share_a_socket() -> None:
    def of(*addresses: str) -> list[ListenerOptions]:
        return [ListenerOptions(protocol="mobileimsdk", address=one) for one in addresses]

    for others, both in (
        ((), True),
        (("tcp://0.0.0.0:7", "udp://[::]:6", "udp://0.0.0.0:6", "unix:x"), True),
        (("tcp://[::1]:7",), True),
        (("tcp://0.0.0.0:6",), False),
        (("ws://127.0.0.1:6/x",), False),
    ):
        listen = of("tcp://[::]:6", *others)
        assert takes_both(listen[0], listen) is both, others
    listen = of("udp://[::]:6", "tcp://0.0.0.0:6", "udp://192.0.2.1:6", "tcp://[::1]:6")
    assert [takes_both(one, listen) for one in listen] == [False, False, False, False]
    listen = of("tcp://[::]:0", "tcp://0.0.0.0:0")
    assert takes_both(listen[0], listen), "the kernel gives them different ports"


@pytest.mark.parametrize("configured", [("[::]",), ("0.0.0.0",), ("0.0.0.0", "[::1]"), ("[::1]", "0.0.0.0")])
def test_sockets_of_systemd_that_take_both(configured: tuple[str, ...]) -> None:
    """ListenStream=PORT is a socket at [::] that takes both: that of a listener at [::], or else of one at 0.0.0.0. One
    at [::1] is not the same, and is found by its own address."""
    port = free_port()
    given = {"[::]": socket.socket(socket.AF_INET6), "[::1]": socket.socket(socket.AF_INET6)}
    try:
        given["[::]"].setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
        for host, sock in given.items():
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
            sock.bind((host.strip("[]"), port))
            sock.listen(5)
        listen = [ListenerOptions(protocol="chatserver", address=f"tcp://{host}:{port}") for host in configured]
        bound, left = bind_all(listen, list(given.values()), False)
        adopted = [next(host for host, sock in given.items() if sock is found) for _, found in bound]
        assert adopted == [host.replace("0.0.0.0", "[::]") for host in configured]
        assert len(left) == 2 - len(configured)
    finally:
        for sock in given.values():
            sock.close()


# ---------------------------------------------------------------- behind a balancer, from the terminal

CLIENT = "2001:db8::9"


@pytest.mark.parametrize(
    ("balancer", "networks", "stranger"),
    [("::1", ["::1"], "127.0.0.1"), ("::1", ["::/64"], "127.0.0.1"), ("127.0.0.1", ["127.0.0.0/8"], "::1")],
)
def test_a_balancer_of_either_family(make_daemon: Make, balancer: str, networks: list[str], stranger: str) -> None:
    """Its word is taken by its own address, plain, also where both families share a socket."""
    listen = {name: {"proxy_from": networks} for name in HEADED}
    accounts = {"login": "open", "insecure_open_login": True}
    daemon = make_daemon(address="::", listen=listen, accounts=accounts, log={"level": "DEBUG"}).start()

    async def story() -> None:
        for wire in HEADED:
            for kind, head, remote in (
                ("v1", v1(CLIENT, 1001), f"[{CLIENT}]:1001"),
                ("v2", v2(CLIENT, 1002, b"\x04\0\x03abc"), f"[{CLIENT}]:1002"),
                ("v4", v2("203.0.113.7", 1003), "203.0.113.7:1003"),
            ):
                peer = HEADED[wire]()
                peer.head = head
                await peer.open(daemon.ports[wire], balancer)
                assert await known_as(peer, f"{kind}_{wire}") == remote
            direct = PLAIN[wire]()
            await direct.open(daemon.ports[wire], stranger)
            own = direct.transport.get_extra_info("sockname")[1]
            assert await known_as(direct, f"direct_{wire}") == shown(stranger, own)

    async def known_as(peer: Any, name: str) -> str:
        await log_in(peer, name)
        (record,) = [one for one in daemon.logged(f'"{name}"') if one["event"] == "logged in"]
        return str(record["peer"])

    run(story())
    assert complaints(daemon) == []


def test_the_terminal_client_at_an_ipv6_address(make_daemon: Make, tmp_path: Path) -> None:
    daemon = make_daemon(address="::1", log={"level": "DEBUG"}).start()
    script = "/register alice\nopen sesame\n/login alice\nopen sesame\n/chat alice to myself\n"

    async def story() -> None:
        code, printed = await process.run(tmp_path, [f"[::1]:{daemon.ports['chatserver']}"], script)
        assert code == 0, printed
        assert any(line.startswith("# logged in as alice") for line in printed), printed
        await until(10, "she has left", lambda: daemon.logged("disconnected"))

    run(story())
    (record,) = [one for one in daemon.logged("alice") if one["event"] == "logged in"]
    assert record["peer"].startswith("[::1]:")


# ---------------------------------------------------------------- a host with several addresses

FAMILIES = {
    "0.0.0.0": ("10.66.0.1", "10.66.0.2", "127.0.0.9"),
    "::": ("fd66::1", "fd66::2", "10.66.0.2", "fe80::66%lo"),
    "fd66::2": ("fd66::2",),
}


def test_answers_leave_from_the_address_that_was_written_to() -> None:
    """In a network namespace of its own, whose host has them all."""
    done = subprocess.run(
        ["unshare", "--net", sys.executable, "-m", "tests.net.several_addresses", json.dumps(FAMILIES)],
        cwd=TOP, capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    answered = json.loads(done.stdout)
    assert answered == {bound: list(hosts) for bound, hosts in FAMILIES.items()}
