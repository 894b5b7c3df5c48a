"""Strangers who hold connections, send too much, forge datagrams or flood: against a daemon as it is."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from chatd.errors import ErrorCode
from chatd.net.connection import COMMANDS_BEFORE_LOGIN
from tests.harness.certificates import Certificate
from tests.harness.daemon import Daemon
from tests.harness.deadline import run, until
from tests.harness.person import Town
from tests.strangers import attacks
from tests.strangers.attacks import ATTACKER, STREAMS, USER
from tests.trail.visitors import attempt, trail

Make = Callable[..., Daemon]
FEW_DESCRIPTORS = ("prlimit", "--nofile=420:420")
ROOM = {"unauthenticated": 100}
SHARE = {"connections_per_source": 20}


def test_one_address_that_holds_connections_keeps_nobody_out(make_daemon: Make) -> None:
    """Nor do the records of it fill the log."""
    daemon = make_daemon(limits=ROOM).start(prefix=FEW_DESCRIPTORS)
    run(attacks.hold_every_connection(daemon))
    refused = trail(daemon, "connection_refused")
    assert {(one["source"], one["reason"]) for one in refused} == {(ATTACKER, "unauthenticated")}
    assert len(refused) < 50 < daemon.status()["totals"]["connections_refused"]


def test_without_a_limit_of_its_own_a_full_worker_makes_room(make_daemon: Make) -> None:
    """There are fewer descriptors than connections may wait."""
    daemon = make_daemon().start(prefix=FEW_DESCRIPTORS)
    run(attacks.hold_every_connection(daemon))


def test_handshakes_that_never_end_keep_nobody_out(make_daemon: Make, tmp_path: Path) -> None:
    certificate = Certificate(tmp_path / "certificate", "127.0.0.1")
    daemon = make_daemon(limits=ROOM, certificate=certificate).start(prefix=FEW_DESCRIPTORS)
    run(attacks.hold_every_handshake(daemon))


def test_one_address_has_no_more_than_its_share(make_daemon: Make) -> None:
    daemon = make_daemon(limits=SHARE).start()
    run(attacks.take_more_than_a_share(daemon))
    assert trail(daemon, "connection_refused")[0]["reason"] == "connections_per_source"


def test_a_stranger_may_ask_two_hundred_times(make_daemon: Make) -> None:
    """Then the connection is closed, whatever else was sent with it."""
    daemon = make_daemon().start()

    async def story() -> None:
        town = Town(daemon)
        peer = await town.nul_peer()
        peer.write(b'{"msgid":99}\0' * 1000)
        answers = await peer.end()
        assert len(answers) == COMMANDS_BEFORE_LOGIN + 1
        assert {answer["errno"] for answer in answers[:-1]} == {ErrorCode.UNKNOWN_REQUEST}
        assert answers[-1]["errno"] == ErrorCode.TOO_FAST
        user = await town.errand(await town.newcomer("asks"))
        user.write(b'{"msgid":99}\0' * 1000)
        for _ in range(1000):
            await user.find(msgid=12)

    run(story())


@pytest.mark.parametrize("wire", STREAMS)
def test_who_is_over_the_share_is_told(make_daemon: Make, wire: str) -> None:
    daemon = make_daemon(limits=SHARE).start()
    run(attacks.who_is_refused_is_told(daemon, wire))


def test_an_allowed_network_has_no_limits(make_daemon: Make) -> None:
    daemon = make_daemon(limits={**SHARE, "unauthenticated": 10}, penalties={"allow": [f"{ATTACKER}/32"]}).start()

    async def story() -> None:
        holder = attacks.Holder(daemon)
        await holder.fill(60)
        await until(10, "all are there", lambda: daemon.status()["workers"][0]["connections"] >= 60, 0.1)
        holder.prune()
        assert len(holder.held) == 60
        holder.close()

    run(story())


def test_a_share_of_udp_sessions(make_daemon: Make) -> None:
    daemon = make_daemon(limits={"connections_per_source": 5}).start()

    async def story() -> None:
        town = Town(daemon)
        names = [await town.newcomer("u") for _ in range(6)]
        codes = [await attempt(daemon, "mobileimsdk-udp", name, town.secret, ATTACKER) for name in names]
        assert codes[:5] == [0] * 5
        assert codes[5] != 0
        assert await attempt(daemon, "mobileimsdk-udp", names[5], town.secret, USER) == 0

    run(story())


def test_before_the_login_only_small_frames_are_read(make_daemon: Make) -> None:
    daemon = make_daemon(listen={"mobileimsdk": {"max_frame_bytes": 1024 * 1024}}).start()
    run(attacks.send_much_before_the_login(daemon))


def test_every_legal_login_is_small_enough(make_daemon: Make) -> None:
    """The longest name and password, with every character written as an escape."""
    daemon = make_daemon().start()
    password = "🔑" * 1024

    async def story() -> None:
        town = Town(daemon)
        town.secret = password
        name = await town.newcomer("long")
        for wire in ("chatserver", "mobileimsdk-ws"):
            peer = await (town.nul_peer() if wire == "chatserver" else town.web_peer())
            if wire == "chatserver":
                frame: dict[str, Any] = {"msgid": 1, "name": name, "password": password}
            else:
                frame = peer.login_packet(name, password)  # type: ignore[union-attr]
            body = json.dumps(frame).encode()
            assert 12_000 < len(body) < 16_000
            peer.write(peer.wrap(body))
            answer = await peer.take()
            told = answer["errno"] if wire == "chatserver" else json.loads(answer["dataContent"])["code"]
            assert told == 0, (wire, answer)
            peer.close()

    run(story())


def test_a_client_that_drips_is_ended_with_the_time_for_its_login(make_daemon: Make) -> None:
    """One byte now and then does not count as progress."""
    daemon = make_daemon(timeouts={"login_s": 1.5}).start()

    async def drip(wire: str) -> float:
        reader, writer = await asyncio.open_connection("127.0.0.1", daemon.ports[wire])
        began = time.monotonic()
        ended = asyncio.ensure_future(reader.read())
        for byte in attacks.HALF[wire] + b"x" * 1000:
            writer.write(bytes((byte,)))
            await asyncio.wait([ended], timeout=0.1)
            if ended.done():
                break
        writer.close()
        return time.monotonic() - began

    async def story() -> None:
        for lasted in await asyncio.gather(*(drip(wire) for wire in STREAMS)):
            assert 1.4 < lasted < 15

    run(story())


def test_forged_datagrams_do_nothing_to_a_client_with_a_token(make_daemon: Make) -> None:
    daemon = make_daemon().start()
    run(attacks.forge_datagrams(daemon))
    refused = trail(daemon, "datagram_refused")
    assert refused
    assert all(one["forgeable"] is True for one in refused), "no firewall may block the client for it"


def test_a_client_that_lost_its_token_gets_it_again(make_daemon: Make) -> None:
    run(attacks.forget_the_token(make_daemon().start()))


def test_a_page_of_another_site_cannot_connect(make_daemon: Make) -> None:
    daemon = make_daemon().start()
    run(attacks.connect_from_another_site(daemon))
    assert {one["origin"] for one in trail(daemon, "connection_refused")} >= {"https://evil.example", "null"}


def test_a_flood_of_connects_and_datagrams_leaves_the_worker_responsive(
    make_daemon: Make, record_property: Callable[[str, object], None]
) -> None:
    """2,000 connects and 2,000 login datagrams a second, if this machine manages to send them."""
    daemon = make_daemon().start()

    async def story() -> tuple[int, float]:
        town = Town(daemon)
        name = await town.newcomer("honest")
        before = attacks.memory(daemon)
        flood = asyncio.create_task(attacks.flood(daemon, 5.0, 2000))
        slowest = 0.0
        while not flood.done():
            began = time.monotonic()
            assert await attempt(daemon, "mobileimsdk", name, town.secret, USER) == 0
            slowest = max(slowest, time.monotonic() - began)
            await asyncio.sleep(0.2)
        assert attacks.memory(daemon) - before < 100 * 1024 * 1024
        return await flood, slowest

    connects, slowest = run(story())
    lag_ms = daemon.status()["workers"][0]["loop_lag_us"] / 1000
    record_property(
        "verdict", f"{connects} connects and datagrams in 5 s: slowest login {slowest:.2f} s, loop lag {lag_ms:.0f} ms"
    )
    assert slowest < attacks.LOGIN_S
    assert lag_ms < 1000
    assert len(daemon.records()) < 500, "the log is bounded"
