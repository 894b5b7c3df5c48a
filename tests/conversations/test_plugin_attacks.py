"""Doing what a plug-in forbids: over another wire, under another name of the account, or by making the plug-in fail.

Each attack is made against chatd as it is, where it must fail, and against chatd with a guard switched off, where it
must succeed; otherwise the attack would prove nothing."""

from __future__ import annotations

import json
import os
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from chatd.errors import MEANINGS, ErrorCode
from tests.conversations.planted_plugins import BUGS
from tests.harness import chatserver
from tests.harness.daemon import Daemon
from tests.harness.deadline import run, until
from tests.harness.link import ConnectionGone
from tests.harness.mobileimsdk import ACK, DATA, ERROR, LOGIN_ANSWER, MobilePeer, content
from tests.harness.peer import NulPeer
from tests.harness.person import Town

BANNED, FORBIDDEN, FILTERED = 2001, 2002, 2003
FAILURES = 3
LIMIT_MS = 150
BREAKER_S = 60.0
"""Longer than any of these tests takes."""
SLOW_S = 0.4

PLUGIN = f'''
import asyncio, time
from pathlib import Path
from chatd.hooks import Veto

class Watchman:
    """Users in the file `banned` stay out, guests do nothing but talk, and nobody says "secret". Texts that begin with
    "slow" take long; those that begin with "block" stop everything in the plug-in."""

    def __init__(self, options):
        self.banned = Path(options["banned"])
        self.failed = Path(options["failed"])

    def names(self):
        return self.banned.read_text().split() if self.banned.exists() else []

    async def before_login(self, attempt):
        name = attempt.user.name if attempt.user else attempt.name
        return Veto("banned", {BANNED}) if name in self.names() else None

    async def before_register(self, registration):
        return Veto("no", {FORBIDDEN}) if registration.name.startswith("evil") else None

    async def before_action(self, action):
        return Veto("guests only talk", {FORBIDDEN}) if action.actor.name.startswith("guest") else None

    async def before_message(self, message):
        if message.body.startswith("slow"):
            await asyncio.sleep({SLOW_S})
        if message.body.startswith("block"):
            time.sleep({SLOW_S})
        return Veto("filtered", {FILTERED}) if "secret" in message.body else None

    async def login_failed(self, event):
        with self.failed.open("a") as file:
            file.write(f"{{event.wire}} {{event.user and event.user.name}} {{event.reason}}\\n")
'''


class World:
    """A daemon with the plug-in. bug: what is wrong with it, "" = nothing."""

    def __init__(self, root: Path, bug: str = "") -> None:
        site = root / "site"
        info = site / "watchman-1.0.dist-info"
        info.mkdir(parents=True)
        (site / "watchman.py").write_text(PLUGIN)
        (info / "METADATA").write_text("Metadata-Version: 2.1\nName: watchman\nVersion: 1.0\n")
        (info / "entry_points.txt").write_text("[chatd.hooks]\nwatchman = watchman:Watchman\n")
        self.banned, self.failed = root / "banned", root / "failed"
        self.daemon = Daemon(root, entry=("-m", "tests.conversations.planted_plugins", bug) if bug else ("-m", "chatd"))
        self.daemon.env["PYTHONPATH"] += os.pathsep + str(site)
        self.daemon.config["hook"] = [
            {
                "name": "watchman",
                "fail": "closed",
                "time_limit_ms": LIMIT_MS,
                "breaker_failures": FAILURES,
                "breaker_s": BREAKER_S,
                "options.banned": str(self.banned),
                "options.failed": str(self.failed),
            }
        ]
        self.daemon.write_config()
        for text in ("plug-in failed", "plug-in suspended"):
            self.daemon.expect_error(text)

    def play(self, attack: Attack) -> None:
        try:
            run(attack(self, Town(self.daemon.start())), 60)
        finally:
            complaints = self.daemon.discard()
        assert not complaints, complaints[:10]


Attack = Callable[[World, Town], Awaitable[None]]


# ---------------------------------------------------------------- a ban


def code_of(answer: dict[str, Any]) -> int:
    """Of a login or a registration on the chatserver wire, which has no codes for them, only texts."""
    codes = {"banned": BANNED, "no": FORBIDDEN, MEANINGS[ErrorCode.BAD_CREDENTIALS].text: ErrorCode.BAD_CREDENTIALS}
    return int(codes[answer["errmsg"]]) if answer["errno"] else 0


async def code_of_login(peer: MobilePeer | NulPeer, name: str, number: int, secret: str) -> int:
    if isinstance(peer, NulPeer):
        whom = {"id": number} if number else {"name": name}
        peer.put({"msgid": chatserver.LOGIN, **whom, "password": secret})
        return code_of(await peer.find(msgid=chatserver.LOGIN_ACK))
    peer.put(peer.login_packet(name or str(number), secret))
    return int(content(await peer.find(type=LOGIN_ANSWER))["code"])


async def log_in_although_banned(world: World, town: Town) -> None:
    """By every name of the account, on every wire; also on a connection that was let in before the ban."""
    mallory = await town.newcomer("mallory")
    number = town.ids[mallory]
    connected = [await open_() for open_ in (town.mobile_peer, town.web_peer, town.datagram_peer)]
    live = connected[0]
    assert await code_of_login(live, mallory, 0, town.secret) == 0
    world.banned.write_text(mallory)
    for name, by_number in ((mallory, 0), (mallory.upper(), 0), ("", number)):
        for open_ in (town.nul_peer, town.mobile_peer, town.web_peer, town.datagram_peer):
            peer = await open_()
            assert await code_of_login(peer, name, by_number, town.secret) == BANNED
            peer.close()
    assert await code_of_login(live, mallory, 0, town.secret) == BANNED, "it logs in again"
    await until(10, "its session has ended", lambda: town.daemon.status()["workers"][0]["sessions"] == 0)


def test_a_ban_holds_on_every_wire_and_for_every_name(tmp_path: Path) -> None:
    World(tmp_path).play(log_in_although_banned)


# ---------------------------------------------------------------- what a guest may not do


async def refused_request(peer: MobilePeer, op: str, **arguments: Any) -> int:
    body = json.dumps({"op": op, "ref": op, **arguments})
    peer.put({"type": DATA, "from": "", "to": "0", "dataContent": body, "fp": op, "QoS": True, "typeu": -1})
    while True:
        packet = await peer.find(type=DATA)
        peer.acknowledge(packet)
        answer = json.loads(packet["dataContent"])
        if answer.get("ref") == op:
            return 0 if answer["ok"] else int(answer["error"]["code"])


async def refused_command(peer: NulPeer, command: dict[str, Any]) -> int:
    peer.put(command)
    while True:
        frame = await peer.take()
        if frame["msgid"] == chatserver.ERROR:
            return int(frame["errno"])
        if frame["msgid"] == chatserver.GROUP_ACK:
            return 0


async def act_as_a_guest(world: World, town: Town) -> None:
    """Over both wires."""
    alice, guest = await town.newcomer("alice"), await town.newcomer("guest")
    group = await town.make_group("team", [alice])
    mine, other = town.ids[guest], town.ids[alice]
    desk = await town.errand(guest, "nul")
    for command in (
        {"msgid": chatserver.CREATE_GROUP, "id": mine, "groupname": "g", "groupdesc": "d"},
        {"msgid": chatserver.JOIN_GROUP, "id": mine, "groupid": group},
        {"msgid": chatserver.FRIEND_REQUEST, "id": mine, "toid": other, "friendid": other},
    ):
        assert await refused_command(desk, command) == FORBIDDEN, command
    for open_ in (town.on_mobile, town.on_web, town.on_datagrams):
        peer = await open_(guest)
        assert await refused_request(peer, "group.create", name="g") == FORBIDDEN
        assert await refused_request(peer, "group.join", group=group) == FORBIDDEN
        assert await refused_request(peer, "friend.request", user=alice) == FORBIDDEN
        assert await refused_request(peer, "password.change", old=town.secret, new="another one 77") == FORBIDDEN
        assert await refused_request(peer, "whoami") == 0
        peer.put({"type": 3, "from": guest, "to": "0"})
        await until(10, "it has left", lambda: town.daemon.status()["workers"][0]["sessions"] == 1)
    host = await town.on_mobile(alice)
    assert await refused_request(host, "group.create", name="g") == 0


def test_what_a_plugin_forbids_is_forbidden_on_every_wire(tmp_path: Path) -> None:
    World(tmp_path).play(act_as_a_guest)


def test_a_registration_can_be_refused_and_failed_logins_are_told(tmp_path: Path) -> None:
    world = World(tmp_path)

    async def story(_: World, town: Town) -> None:
        peer = await town.nul_peer()
        peer.put({"msgid": chatserver.REGISTER, "name": "evil1", "password": town.secret})
        assert code_of(await peer.find(msgid=chatserver.REGISTER_ACK)) == FORBIDDEN
        alice = await town.newcomer("alice")
        for open_ in (town.nul_peer, town.mobile_peer, town.web_peer, town.datagram_peer):
            for name in (alice, "nobody"):
                one = await open_()
                assert await code_of_login(one, name, 0, "wrong") == ErrorCode.BAD_CREDENTIALS
        expected = sorted(
            f"{wire} {who}"
            for wire in ("chatserver", "mobileimsdk", "mobileimsdk", "mobileimsdk")
            for who in (f"{alice} wrong_password", "None unknown_user")
        )
        await until(10, "all are told", lambda: world.failed.exists() and len(lines(world)) == len(expected))
        assert sorted(lines(world)) == expected

    world.play(story)


def lines(world: World) -> list[str]:
    return world.failed.read_text().splitlines()


# ---------------------------------------------------------------- making the filter fail


async def outcome(peer: MobilePeer, sender: str, to: str, text: str, fp: str) -> int:
    """0: accepted; otherwise the code."""
    peer.say(sender, to, text, fp)
    while True:
        packet = await peer.take()
        if packet["type"] == ACK and packet["dataContent"] == fp:
            return 0
        if packet["type"] == ERROR and json.loads(content(packet)["errorMsg"])["fp"] == fp:
            return int(content(packet)["errorCode"])


async def suspend_the_filter_alone(world: World, town: Town) -> None:
    """One user sends texts that the filter takes long for, then one that it forbids. Nobody else may notice."""
    mallory, alice, bob = [await town.newcomer(name) for name in ("mallory", "alice", "bob")]
    attacker, sender, recipient = await town.on_mobile(mallory), await town.on_mobile(alice), await town.on_mobile(bob)
    for number in range(2 * FAILURES):
        assert await outcome(attacker, mallory, bob, f"slow {number}", f"m{number}") == ErrorCode.BUSY
        assert await outcome(sender, alice, bob, f"hello {number}", f"a{number}") == 0
        assert await outcome(sender, alice, bob, "secret", f"s{number}") == FILTERED
    assert await outcome(attacker, mallory, bob, "secret", "m") == ErrorCode.BUSY
    heard = [(await recipient.find(type=DATA))["dataContent"] for _ in range(2 * FAILURES)]
    assert heard == [f"hello {number}" for number in range(2 * FAILURES)]
    await until(10, "the status shows it", lambda: row(town)["hook_users_held"] == 1)
    assert row(town)["hooks_open"] == 0
    assert town.daemon.ctl("check").returncode == 0
    (record,) = town.daemon.logged("plug-in suspended")
    assert (record["security"], record["point"], record["user"]) == (
        "hook_suspended", "before_message", town.ids[mallory],
    )  # fmt: skip


async def suspend_the_filter_for_all(world: World, town: Town) -> None:
    """Several users stop the plug-in altogether, until its filter is suspended. Nothing gets through unfiltered
    meanwhile, and its check of logins goes on."""
    names = [await town.newcomer(name) for name in ("mallory", "trudy", "eve")]
    alice, bob = await town.newcomer("alice"), await town.newcomer("bob")
    peers = [await town.on_mobile(name) for name in names]
    sender = await town.on_mobile(alice)
    for name, peer in zip(names, peers, strict=True):
        assert await outcome(peer, name, bob, "block", "b") == ErrorCode.BUSY
        await until(10, "its call has ended", lambda: row(town)["hook_users_held"] == 0)
    await until(10, "it is suspended", lambda: row(town)["hooks_open"] == 1)
    for name, peer in zip(names, peers, strict=True):
        assert await outcome(peer, name, bob, "secret", "s") == ErrorCode.BUSY
    assert await outcome(sender, alice, bob, "secret", "s0") == ErrorCode.BUSY
    checked = town.daemon.ctl("check")
    assert (checked.returncode, "plug-ins" in checked.stdout) == (1, True)
    world.banned.write_text(names[0])
    peer = await town.mobile_peer()
    assert await code_of_login(peer, names[0], 0, town.secret) == BANNED
    (record,) = town.daemon.logged("plug-in suspended")
    assert (record["point"], record["scope"], record["fail"]) == ("before_message", "for all users", "closed")


def row(town: Town) -> dict[str, Any]:
    found: dict[str, Any] = town.daemon.status()["workers"][0]
    return found


def test_one_user_cannot_suspend_a_filter(tmp_path: Path) -> None:
    World(tmp_path).play(suspend_the_filter_alone)


def test_a_suspended_filter_lets_nothing_through_and_other_checks_go_on(tmp_path: Path) -> None:
    World(tmp_path).play(suspend_the_filter_for_all)


# ---------------------------------------------------------------- planted bugs

ATTACKS: dict[str, Attack] = {
    "one_wire_not_asked": act_as_a_guest,
    "login_without_account": log_in_although_banned,
    "fails_open": suspend_the_filter_for_all,
    "shared_guard": suspend_the_filter_for_all,
    "all_for_one": suspend_the_filter_alone,
}


@pytest.mark.parametrize("bug", BUGS)
def test_an_attack_succeeds_where_its_guard_is_switched_off(tmp_path: Path, bug: str) -> None:
    with pytest.raises((AssertionError, TimeoutError, ConnectionGone)):
        World(tmp_path, bug).play(ATTACKS[bug])
