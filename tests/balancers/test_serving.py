"""The shipped configurations in the real balancers, before a real daemon: they are accepted as they are, carry every
wire, pass on the addresses of the clients, and their health checks disturb nobody."""

from __future__ import annotations

import re
import socket
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.balancers.balancer import HOSTS, SHIPPED, Balancer, BalancerError, Front, HAProxy, Nginx, changed, clients
from tests.balancers.conftest import MakeBalancer
from tests.faults.ordeal import port_of
from tests.harness.daemon import Daemon
from tests.harness.deadline import run, until, wait_until
from tests.harness.link import Seen
from tests.harness.person import Person, Wire

PROXIED = {name: {"proxy_from": ["127.0.0.1"]} for name in ("chatserver", "mobileimsdk", "mobileimsdk-ws")}
Make = Callable[..., Daemon]


def test_the_shipped_file_is_accepted_as_it_is(make_daemon: Make, make_balancer: MakeBalancer) -> None:
    daemon = make_daemon()
    balancer = make_balancer([daemon, daemon])
    for file in (balancer.shipped, balancer.file):
        done = balancer.check(file)
        assert done.returncode == 0, done.stderr
        assert not re.search(r"warn|alert|emerg", (done.stdout + done.stderr).lower()), done.stderr


def test_the_ports_are_those_of_the_old_system() -> None:
    for kind in (Nginx, HAProxy):
        text = kind.shipped.read_text()
        assert all(text.count(f"server {place} ") + text.count(f" {place}\n") == 1 for place in HOSTS["chatserver"])
        assert all(re.search(rf"(listen |bind :){SHIPPED[wire]}[ ;]", text) for wire in kind.wires)


def test_every_wire_is_carried_and_the_daemon_knows_its_clients(make_daemon: Make, make_balancer: MakeBalancer) -> None:
    daemon = make_daemon(workers=2, listen=PROXIED, log={"level": "DEBUG"}).start()
    balancer = make_balancer([daemon, daemon]).start()
    wires: list[Wire] = ["old", "streaming", "mobile", "web"]
    if "mobileimsdk-udp" in balancer.wires:
        wires.append("udp")

    async def story() -> None:
        town = Front(balancer)
        people = [await town.settle(f"{wire}_{number}", wire) for wire in wires for number in (1, 2)]
        for person in people:
            await person.arrive()
        for one, other in zip(people, people[1:] + people[:1], strict=True):
            await one.say(other.name, f"from {one.name}")
            await other.sees(Seen(one.name, f"from {one.name}"))
        for person in people:
            (record,) = [one for one in daemon.logged(f'"{person.name}"') if one["event"] == "logged in"]
            own = f"127.0.0.1:{own_port(person)}"
            assert (record["peer"] == own) is (person.wire != "udp"), (record, own)
        await until(20, "every check has been made", lambda: checked(balancer))

    run(story())
    assert [one for one in daemon.records() if one["level"] not in ("DEBUG", "NORMAL")] == []


def test_all_the_way_by_ipv6(make_daemon: Make, make_balancer: MakeBalancer) -> None:
    """Clients, balancer and host: what the balancers themselves write into a PROXY header then, v1 and v2."""
    listen = {name: {"proxy_from": ["::1"]} for name in PROXIED}
    daemon = make_daemon(address="::1", listen=listen, log={"level": "DEBUG"}).start()
    balancer = make_balancer([daemon, daemon], address="::1").start()
    wires: list[Wire] = ["old", "streaming", "mobile", "web"]
    if "mobileimsdk-udp" in balancer.wires:
        wires.append("udp")

    async def story() -> None:
        town = Front(balancer)
        people = [await town.settle(wire, wire) for wire in wires]
        for person in people:
            await person.arrive()
        for one, other in zip(people, people[1:] + people[:1], strict=True):
            await one.say(other.name, f"from {one.name}")
            await other.sees(Seen(one.name, f"from {one.name}"))
        for person in people:
            (record,) = [one for one in daemon.logged(f'"{person.name}"') if one["event"] == "logged in"]
            assert (record["peer"] == f"[::1]:{own_port(person)}") is (person.wire != "udp"), record

    run(story())
    assert [one for one in daemon.records() if one["level"] not in ("DEBUG", "NORMAL")] == []


def own_port(person: Person) -> int:
    return 0 if person.wire == "udp" else port_of(person)  # type: ignore[arg-type]


def checked(balancer: Balancer) -> bool:
    """HAProxy has connected to every server by itself, and left. nginx never does."""
    if not isinstance(balancer, HAProxy):
        return True
    found = balancer.servers("check_status")
    assert len(found) == 6
    return set(found.values()) == {"L4OK"}


def test_a_change_that_meets_nothing_is_told(tmp_path: Path) -> None:
    """What keeps these tests honest: the file they run is the shipped one, with every address replaced."""
    assert changed("server 10.0.0.1:6000 x; # 10.0.0.1:6000", {" 10.0.0.1:6000": " h:1"}) == (
        "server h:1 x; # 10.0.0.1:6000\n"
    )
    for text in ("server 10.0.0.1:60001;", "server 10.0.0.3:6000;", ""):
        with pytest.raises(BalancerError):
            changed(text, {" 10.0.0.1:6000": " h:1"})


def test_a_host_taken_out_by_the_admin_socket_keeps_its_clients_and_gets_no_new_ones(
    make_daemon: Make, tmp_path: Path
) -> None:
    hosts = [make_daemon(listen=PROXIED, timeouts={"login_s": 60.0}).start() for _ in range(2)]
    balancer = HAProxy(tmp_path / "balancer", hosts)
    probes: list[socket.socket] = []

    def spread() -> tuple[int, int] | None:
        found = clients(hosts[0]), clients(hosts[1])
        return found if sum(found) == len(probes) else None

    def more(count: int) -> tuple[int, int] | None:
        """So many new connections; where all of them are now."""
        for _ in range(count):
            probes.append(socket.create_connection((balancer.address, balancer.ports["chatserver"]), 10))
        return wait_until(20, "all arrive, and no check is under way", spread)

    try:
        balancer.start()
        wait_until(10, "checked", lambda: checked(balancer))
        wait_until(10, "nobody is left of the beginning", lambda: sum(map(clients, hosts)) == 0)
        assert more(6) == (3, 3)
        assert balancer.ask("set server chatserver/host1 state drain").strip() == ""
        assert more(6) == (3, 9)
        assert balancer.ask("set server chatserver/host1 state ready").strip() == ""
        assert more(4) == (7, 9), "the emptier host is preferred again"
    finally:
        for probe in probes:
            probe.close()
        balancer.kill()
