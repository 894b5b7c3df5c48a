"""`chatctl ban`: a network is kept out on every wire and worker, and what protects an operator from a slip."""

from __future__ import annotations

import json
import os
import socket
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from chatd.errors import Exit
from tests.acting.attacks import ATTACKS, BALANCERS, ban, comes_in, unban
from tests.acting.planted import BUGS
from tests.conversations.test_kick import ctl
from tests.harness.certificates import Certificate
from tests.harness.daemon import Daemon
from tests.harness.deadline import run, until, wait_until
from tests.harness.mariadb import MariaDB
from tests.harness.mobileimsdk import content
from tests.harness.person import Town
from tests.harness.switches import stops, with_switches
from tests.trail.visitors import WIRES, client_of, register, trail

Make = Callable[..., Daemon]
PATIENT = {"keep_alive_s": 120}
"""A busy machine takes long for a chatctl, and clients of these tests send no pings."""
ALLOW = {"allow": ["127.0.0.1", "127.1.0.0/16"]}


@pytest.fixture(scope="module")
def town(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Town]:
    root = tmp_path_factory.mktemp("bans")
    daemon = Daemon(
        root,
        workers=2,
        penalties=ALLOW,
        timeouts={"login_s": 120},  # connections that wait for one are to be ended by a ban
        certificate=Certificate(root / "certificate"),
        listen={"mobileimsdk": {"proxy_from": [BALANCERS], **PATIENT}, **dict.fromkeys(WIRES[2:], PATIENT)},
        entry=("-m", "tests.acting.planted", "switches"),
    )
    try:
        yield Town(with_switches(daemon).start())
    finally:
        complaints = daemon.discard()
    assert not complaints


@pytest.mark.parametrize(
    "bug", [pytest.param(bug, marks=pytest.mark.slow if bug == "bans_never_end" else ()) for bug in ATTACKS]
)
def test_an_attack_fails_and_finds_its_guard_switched_off(town: Town, bug: str) -> None:
    stops(bug, lambda: run(ATTACKS[bug](town)), town.daemon)


def test_every_planted_bug_is_looked_for() -> None:
    assert set(ATTACKS) == set(BUGS)


@pytest.mark.parametrize("wire", WIRES)
def test_sessions_end_with_the_reason_and_new_ones_do_not_begin(town: Town, wire: str) -> None:
    source, other = f"127.2.{WIRES.index(wire)}.7", f"127.2.{WIRES.index(wire)}.8"

    async def story() -> None:
        name, friend = await town.newcomer("user"), await town.newcomer("friend")
        peer, bystander = client_of(wire, source), client_of(wire, other)
        for one, who in ((peer, name), (bystander, friend)):
            await one.open(town.daemon.ports[wire])
            if wire == "chatserver":
                one.put({"msgid": 1, "id": town.ids[who], "password": town.secret})
                assert (await one.find(msgid=2))["errno"] == 0
            else:
                await one.log_in(who, town.secret)
        assert await ban(town, source, "--reason", "guesses passwords") == 1
        last = await peer.find(type=54) if wire == "mobileimsdk-udp" else (await peer.end())[-1]
        if wire == "chatserver":
            assert (last["msgid"], last["errmsg"]) == (12, "guesses passwords")
        else:
            assert (last["type"], content(last)) == (54, {"code": 2, "reason": "guesses passwords"})
        assert not await comes_in(town, wire, name, source)
        assert await comes_in(town, wire, name, other)
        assert not bystander.gone.is_set()
        await unban(town, source)
        assert await comes_in(town, wire, name, source)
        bystander.close()

    run(story())
    refused = [one for one in trail(town.daemon, "connection_refused") if one["source"] == source]
    assert refused
    assert {one["reason"] for one in refused} == {"banned"}


def test_every_worker_refuses_at_once_before_tls_and_without_a_word(town: Town) -> None:
    run(ban(town, "127.3.0.0/24"))
    try:
        for port in (town.daemon.ports["mobileimsdk-tls"], town.daemon.ports["chatserver"]):
            for number in range(1, 21):  # among two workers
                with socket.socket() as client:
                    client.bind((f"127.3.0.{number}", 0))
                    client.settimeout(10)
                    client.connect(("127.0.0.1", port))
                    try:
                        assert client.recv(100) == b"", "nobody says hello, and nothing is said"
                    except ConnectionResetError:
                        continue
    finally:
        run(unban(town, "127.3.0.0/24"))


def test_a_connection_that_has_not_logged_in_ends_too(town: Town) -> None:
    async def story() -> None:
        peers = []
        for number in range(20):
            peer = client_of("chatserver", f"127.4.0.{number + 1}")
            await peer.open(town.daemon.ports["chatserver"])
            peers.append(peer)
        await until(10, "they are accepted", lambda: _connections(town) >= 20)
        assert await ban(town, "127.4.0.0/16") == 20
        for peer in peers:
            await peer.gone.wait()
        await unban(town, "127.4.0.0/16")

    run(story())


def _connections(town: Town) -> int:
    return sum(int(row["connections"]) for row in town.daemon.status()["workers"])


def test_what_is_shown(town: Town) -> None:
    async def story() -> None:
        await ban(town, "192.0.2.0/24", "--for", "1d12h", "--reason", "flood ☔")
        code, shown, _ = await ctl(town, "bans", "--json")
        (one,) = json.loads(shown)["bans"]
        assert (code, one["network"], one["reason"]) == (0, "192.0.2.0/24", "flood ☔")
        assert one["until_ms"] - one["at_ms"] == 36 * 3600 * 1000
        assert one["by"]
        code, shown, _ = await ctl(town, "bans")
        assert [line.split()[0] for line in shown.splitlines()] == ["NETWORK", "192.0.2.0/24"]
        code, shown, why = await ctl(town, "unban", "192.0.2.7")
        assert (code, shown) == (1, "")
        assert why.endswith("chatctl: 192.0.2.7/32 is not banned; there is a ban of 192.0.2.0/24")
        await unban(town, "192.0.2.0/24")

    run(story())
    orders = [one for one in trail(town.daemon, "order") if one["order"] in ("ban", "unban") and one["result"] == "ok"]
    assert {"network": "192.0.2.0/24", "for_s": 36 * 3600, "reason": "flood ☔"} in [one["arguments"] for one in orders]
    assert {one["uid"] for one in orders} == {os.getuid()}


@pytest.mark.parametrize(
    ("network", "why"),
    [
        ("::1", "::1"),
        ("0.0.0.0/0", "127.0.0.0/8: this host itself"),
        ("127.1.2.3", "127.1.0.0/16: penalties.allow lets it in"),
        ("::ffff:192.0.2.50", "192.0.2.50/32: you are logged in from there"),
    ],
)
def test_a_slip_is_asked_back(town: Town, network: str, why: str) -> None:
    town.daemon.env["SSH_CONNECTION"] = "192.0.2.50 55000 192.0.2.1 22"
    try:
        code, shown, said = run(ctl(town, "ban", network))
    finally:
        del town.daemon.env["SSH_CONNECTION"]
    assert (code, shown) == (1, "")
    assert why in said
    assert said.endswith("nothing was changed; if you mean it, add --force")


@pytest.mark.parametrize(
    "arguments",
    [("ban", "example.com"), ("ban", "192.0.2.1", "--for", "soon"), ("unban", ""), ("kick", "a", "--address", "::1")],
)
def test_what_makes_no_sense_is_refused(town: Town, arguments: tuple[str, ...]) -> None:
    assert run(ctl(town, *arguments))[0] == Exit.USAGE


def test_sessions_from_an_address_or_on_a_wire_are_kicked(town: Town) -> None:
    async def story() -> None:
        name, other = await town.newcomer("user"), await town.newcomer("other")
        far = client_of("mobileimsdk-ws", "127.6.0.9")
        await far.open(town.daemon.ports["mobileimsdk-ws"])
        await far.log_in(other, town.secret)
        web, desk = await town.on_web(name), await town.errand(name)
        assert await ctl(town, "kick", name, "--wire", "chatserver") == (0, "sessions ended: 1", "")
        await desk.end()
        assert not web.gone.is_set()
        told = await ctl(town, "kick", "--address", "127.6.0.0/16", "--reason", "tea")
        assert told == (0, "sessions ended: 1", "")
        assert content((await far.end())[-1]) == {"code": 2, "reason": "tea"}
        assert not web.gone.is_set()
        assert await comes_in(town, "mobileimsdk-ws", other, "127.6.0.9"), "a kick keeps nobody out"
        web.close()

    run(story())


@pytest.mark.parametrize("twin", ["sqlite", "mysql"])
def test_it_survives_a_restart_and_needs_no_server(make_daemon: Make, mariadb: MariaDB, twin: str) -> None:
    store = {"url": mariadb.url()} if twin == "mysql" else {}
    daemon = make_daemon(penalties=ALLOW, store=store).start()
    town = Town(daemon)
    run(town.register("alice"))
    assert daemon.stop() == 0
    told = daemon.ctl("ban", "127.7.0.1", "--force", "--reason", "before the start")
    assert (told.returncode, "no server is running here" in told.stderr) == (0, True), told.stderr
    daemon.start()

    async def story() -> None:
        assert not await comes_in(town, "chatserver", "alice", "127.7.0.1")
        assert await comes_in(town, "chatserver", "alice", "127.7.0.2")
        daemon.kill_all()
        daemon.start()
        assert not await comes_in(town, "chatserver", "alice", "127.7.0.1")

    run(story())


@pytest.mark.slow
def test_workers_find_a_change_of_which_nobody_tells_them(make_daemon: Make) -> None:
    """As after a ban on another host while the message bus is cut off."""
    daemon = make_daemon(workers=2, penalties=ALLOW).start()
    town = Town(daemon)
    run(town.register("alice"))
    hidden = daemon.runtime_dir / "control.sock"
    hidden.rename(daemon.runtime_dir / "elsewhere.sock")
    told = daemon.ctl("ban", "127.8.0.1", "--force")
    assert told.returncode == 0, told.stderr
    assert "its workers apply it within 2 s" in told.stderr
    (daemon.runtime_dir / "elsewhere.sock").rename(hidden)

    def kept_out() -> bool:
        return not any(run(comes_in(town, "chatserver", "alice", "127.8.0.1")) for _ in range(8))

    wait_until(20, "every worker keeps it out", kept_out, 0.1)


@pytest.mark.slow
def test_bans_are_copied_with_the_store(make_daemon: Make, mariadb: MariaDB) -> None:
    daemon = make_daemon().start()
    assert run(register(daemon, "alice", "open sesame")) == 0
    daemon.stop()
    assert daemon.ctl("ban", "203.0.113.0/24", "--reason", "x", "--force").returncode == 0
    copied = daemon.ctl("copy-store", "sqlite:chatd.db", mariadb.url(), limit_s=60)
    assert copied.returncode == 0, copied.stderr
    shown: list[Any] = []
    for url in ("sqlite:chatd.db", copied.args[-1]):
        daemon.config["store"] = {"url": url}
        daemon.write_config()
        shown.append(json.loads(daemon.ctl("bans", "--json").stdout)["bans"])
    assert shown[0] == shown[1]
    assert shown[0][0]["network"] == "203.0.113.0/24"
