"""What strangers, users and operators do is in the security trail: with the right source, and without a secret."""

from __future__ import annotations

import asyncio
import json
import os
import signal
from collections.abc import Callable

import pytest

from chatd.errors import ErrorCode, Exit
from tests.conversations.asking import Client
from tests.harness.daemon import Daemon
from tests.harness.deadline import run, until, wait_until
from tests.harness.person import Town
from tests.net.proxy_headers import Headed, v1, v2
from tests.trail.visitors import WIRES, attempt, client_of, register, trail

Make = Callable[..., Daemon]
UNLIMITED = {"allow": ["127.0.0.0/8"]}
"""Penalties would keep these clients out before the trail has shown what it should."""
SECRETS = ("Open-Sesame-1", "wrong-Guess-2", "next-Secret-3", "other-Guess-4")


def everything_written(daemon: Daemon) -> str:
    files = [*(daemon.root / "log").iterdir(), daemon.output]
    return "".join(path.read_text(errors="replace") for path in files)


@pytest.mark.parametrize("wire", WIRES)
def test_logins_are_recorded_on_every_wire(make_daemon: Make, wire: str) -> None:
    daemon = make_daemon(penalties=UNLIMITED).start()

    async def story() -> None:
        assert await register(daemon, "alice", SECRETS[0], "127.0.0.3") == 0
        assert await register(daemon, "alice", SECRETS[0], "127.0.0.4") != 0
        assert await attempt(daemon, wire, "alice", SECRETS[1], "127.0.0.5") != 0
        assert await attempt(daemon, wire, "nobody", SECRETS[1], "127.0.0.6") != 0
        assert await attempt(daemon, wire, "alice", SECRETS[0], "127.0.0.7") == 0
        await until(10, "all is recorded", lambda: len(trail(daemon)) >= 5)

    run(story())
    told = [(one["security"], one["source"], one.get("reason"), one["name"]) for one in trail(daemon)]
    assert told == [
        ("registered", "127.0.0.3", None, "alice"),
        ("registration_refused", "127.0.0.4", "name_taken", "alice"),
        ("login_failed", "127.0.0.5", "wrong_password", "alice"),
        ("login_failed", "127.0.0.6", "unknown_user", "nobody"),
        ("login", "127.0.0.7", None, "alice"),
    ]
    for one in trail(daemon):
        assert one["peer"].startswith(f"{one['source']}:")
        assert one["wire"] == (
            "chatserver" if "registr" in one["security"] or "register" in one["security"] else wire.partition("-")[0]
        )
    logins = trail(daemon, "login", "login_failed")
    assert [one.get("forgeable", False) for one in logins] == [wire == "mobileimsdk-udp"] * 3
    assert [one["user"] > 0 for one in logins] == [True, False, True]
    totals = daemon.status()["totals"]
    assert (totals["logins"], totals["logins_failed"], totals["registrations"]) == (1, 2, 1)
    assert totals["registrations_refused"] == 1
    assert [secret for secret in SECRETS if secret in everything_written(daemon)] == []


@pytest.mark.parametrize("wire", ["mobileimsdk", "mobileimsdk-udp", "mobileimsdk-ws"])
def test_changes_of_passwords_are_recorded(make_daemon: Make, wire: str) -> None:
    daemon = make_daemon(penalties=UNLIMITED).start()
    town = Town(daemon, secret=SECRETS[0])

    async def story() -> None:
        await town.register("alice")
        alice = Client(town, "alice", wire)  # type: ignore[arg-type]
        alice.source = "127.0.0.8"
        await alice.arrive()
        refused = await alice.refused("password.change", old=SECRETS[1], new=SECRETS[2])
        assert refused is ErrorCode.BAD_CREDENTIALS
        await alice.ask("password.change", old=SECRETS[0], new=SECRETS[2])
        assert await attempt(daemon, "chatserver", "alice", SECRETS[2], "127.0.0.9") == 0

    run(story())
    failed, changed = trail(daemon, "password_change_failed", "password_changed")
    assert (failed["reason"], failed["level"]) == ("wrong_password", "WARNING")
    assert changed["level"] == "NORMAL"
    for one in (failed, changed):
        assert (one["source"], one["name"], one["user"], one["wire"]) == (
            "127.0.0.8",
            "alice",
            town.ids["alice"],
            "mobileimsdk",
        )
    assert [secret for secret in SECRETS if secret in everything_written(daemon)] == []


def test_orders_and_kicks_are_recorded_with_the_operator(make_daemon: Make) -> None:
    daemon = make_daemon(workers=2).start()
    town = Town(daemon)

    async def story() -> None:
        await town.register("alice")
        await town.on_mobile("alice")
        assert (
            await asyncio.to_thread(daemon.ctl, "kick", "alice", "--reason", "see you, source=192.0.2.66")
        ).returncode == 0
        assert (await asyncio.to_thread(daemon.ctl, "kick", "nobody")).returncode == 1
        assert (await asyncio.to_thread(daemon.ctl, "reload")).returncode == 0

    run(story())
    kicked = trail(daemon, "kicked")
    assert [(one["name"], one["sessions"], one["source"]) for one in kicked] == [("alice", 1, ""), ("nobody", 0, "")]
    orders = [one for one in trail(daemon, "order") if one["result"] != "begun"]
    assert [(one["order"], one["result"]) for one in orders] == [("kick", "ok"), ("kick", "failed"), ("reload", "ok")]
    expected = {"user": "alice", "user_id": 0, "network": "", "wire": "", "reason": "see you, source=192.0.2.66"}
    assert orders[0]["arguments"] == expected
    assert {(one["uid"], one["source"]) for one in orders} == {(os.getuid(), "")}


def test_a_signal_is_recorded_and_its_sender_is_said_to_be_unknown(make_daemon: Make) -> None:
    daemon = make_daemon().start()
    os.kill(daemon.pid, signal.SIGUSR1)
    wait_until(10, "it is recorded", lambda: trail(daemon, "signal"))
    (record,) = trail(daemon, "signal")
    assert (record["name"], record["by"], record["event"]) == ("SIGUSR1", "unknown", "signal")


@pytest.mark.parametrize("running", [False, True], ids=["stopped", "running"])
def test_a_command_on_the_whole_store_is_recorded_whatever_becomes_of_it(make_daemon: Make, *, running: bool) -> None:
    daemon = make_daemon().start()
    if not running:
        daemon.stop()
    (daemon.root / "copy.url").write_text("mysql://u:s3cret@127.0.0.1:1/db")
    (daemon.root / "copy.url").chmod(0o600)
    told = daemon.ctl("copy-store", "sqlite:chatd.db", "file:copy.url")
    assert told.returncode == (Exit.TRY_AGAIN if running else Exit.UNAVAILABLE), told.stderr
    begun, ended = trail(daemon, "order")
    assert (begun["order"], begun["result"], begun["arguments"]["destination"]) == (
        "copy-store",
        "begun",
        "file:copy.url",
    )
    assert (ended["result"], ended["uid"]) == ("failed", os.getuid())
    assert ended["why"] in told.stderr
    assert "s3cret" not in everything_written(daemon)
    assert daemon.ctl("copy-store", "sqlite:chatd.db", "mysql://u:s3cret@127.0.0.1:1/db").returncode != 0
    assert "s3cret" not in everything_written(daemon)


class HeadedNul(Headed, type(client_of("chatserver", ""))):  # type: ignore[misc]
    pass


def test_through_a_balancer_the_source_is_the_clients(make_daemon: Make) -> None:
    listener = {"proxy_from": ["127.0.0.0/8"]}
    daemon = make_daemon(listen={"mobileimsdk": listener, "mobileimsdk-ws": listener}).start()
    town = Town(daemon)

    async def story() -> None:
        await town.register("alice")
        for wire in ("mobileimsdk", "mobileimsdk-ws"):
            for number, head in enumerate((v1("198.51.100.7", 1001), v2("2001:db8::9", 1003))):
                made = client_of(wire, "")
                headed = type("Made", (Headed, type(made)), {})()
                headed.head = head
                await headed.open(daemon.ports[wire])
                await headed.log_in("alice", town.secret)
                headed.close()
                await until(10, "it is recorded", lambda: trail(daemon, "login"))
                del number

    run(story())
    told = [(one["source"], one["peer"]) for one in trail(daemon, "login")]
    assert told == [("198.51.100.7", "198.51.100.7:1001"), ("2001:db8::9", "[2001:db8::9]:1003")] * 2


HOSTILE = [
    'a","source":"192.0.2.66"',
    "a\n[WARNING][x][1] login failed",
    "\x1b[2J\x9b\u202e\x00\x7f",
    "\ud800",
    "n" * 3000,
]


async def attempt_raw(daemon: Daemon, wire: str, name: str) -> None:
    """A login with any text as its name, also one that is no Unicode."""
    peer = client_of(wire, "127.0.0.5")
    await peer.open(daemon.ports[wire])
    frame = {"msgid": 1, "name": name, "password": "x"} if wire == "chatserver" else peer.login_packet(name, "x")
    peer.write(peer.wrap(json.dumps(frame).encode()))
    await until(10, "an answer", lambda: peer.frames or peer.gone.is_set())
    peer.close()


@pytest.mark.parametrize("wire", WIRES)
def test_hostile_names_are_recorded_and_break_nothing(make_daemon: Make, wire: str) -> None:
    daemon = make_daemon(penalties=UNLIMITED).start()

    async def story() -> None:
        for name in HOSTILE if wire != "mobileimsdk-udp" else HOSTILE[:-2]:  # a datagram like the last two is dropped
            await attempt_raw(daemon, wire, name)

    run(story())
    text = (daemon.root / "log" / "normal.log").read_text()
    assert text.replace("\n", "").isprintable()
    failed = trail(daemon, "login_failed")
    assert {one["source"] for one in failed} == {"127.0.0.5"}
    assert HOSTILE[0] in {one["name"] for one in failed}
    assert all(isinstance(one["pid"], int) and len(one["name"]) < 300 for one in failed)
