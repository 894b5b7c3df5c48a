"""What the log must not hold, open login with names made of digits, and a Unix socket as a listener."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable

from chatd.errors import ErrorCode
from tests.harness.daemon import Daemon
from tests.harness.deadline import run, within
from tests.harness.mobileimsdk import MobilePeer, content
from tests.harness.peer import NulPeer
from tests.harness.person import Town

SECRETS = ("a very secret password", "another wrong password", "what alice told bob", "to a whole group", "not a frame")


def test_bodies_and_passwords_are_never_logged(make_daemon: Callable[..., Daemon]) -> None:
    """Not even at DEBUG, and not in refusals and protocol errors."""
    password, wrong, body, group_body, garbage = SECRETS
    daemon = make_daemon(workers=1, log={"level": "DEBUG"}).start()

    async def story() -> None:
        town = Town(daemon, secret=password)
        alice, bob = await town.newcomer("alice"), await town.newcomer("bob")
        group = await town.make_group("group", [alice, bob])
        for name in (alice, "nobody"):
            peer = await town.nul_peer()
            peer.put({"msgid": 1, "name": name, "password": wrong})
            assert (await peer.take())["errno"] == 1
            mobile = await town.mobile_peer()
            mobile.put(mobile.login_packet(name, wrong))
            await mobile.end()
        one, other = await town.on_mobile(alice), await town.errand(bob)
        one.say(alice, bob, body, "fp-1")
        one.say(alice, f"#{group}", group_body, "fp-2")
        one.say(alice, "nobody", body, "fp-3")
        one.say(alice, bob, body * 1000, "fp-4")
        assert (await other.find(msgid=6))["msg"] == body
        other.put({"msgid": 6, "id": 4711, "toid": town.ids[alice], "msg": body})
        assert (await other.find(msgid=12))["errno"] == ErrorCode.CLAIMED_IDENTITY
        other.put({"msgid": 6, "id": town.ids[bob], "toid": "x", "msg": body})
        await other.find(msgid=12)
        other.write(garbage.encode() + b"\0")
        await other.end()

    run(story())
    assert daemon.stop() == 0
    written = daemon.output.read_text() + "".join(path.read_text() for path in (daemon.root / "log").iterdir())
    assert "claimed identity" in written
    assert [secret for secret in SECRETS if secret in written] == []


def test_open_login_makes_accounts_and_a_name_of_digits_is_a_name_first(make_daemon: Callable[..., Daemon]) -> None:
    daemon = make_daemon(workers=1, accounts={"login": "open", "insecure_open_login": True}).start()

    async def story() -> None:
        town = Town(daemon)
        first = await town.on_mobile("alice")  # the account with number 1
        digits = await town.on_mobile("700700700")
        digits.say("", "alice", "are you there?", "fp-1")
        packet = await first.take()
        assert packet["from"] == "700700700"
        first.acknowledge(packet)
        first.say("", "700700700", "to a name of digits", "fp-2")
        assert (await digits.find(type=2))["dataContent"] == "to a name of digits"
        digits.say("", "1", "to a number", "fp-3")
        packet = await first.find(type=2)
        assert (packet["dataContent"], packet["to"]) == ("to a number", "alice")
        first.say("", "700700701", "to nobody", "fp-4")
        refusal = content(await first.find(type=52))
        assert refusal["errorCode"] == ErrorCode.UNKNOWN_RECIPIENT
        again = MobilePeer()
        await again.open(daemon.ports["mobileimsdk"])
        await again.log_in("700700700", "any other token")
        assert (await digits.end())[-1]["type"] == 54

    run(story())


def test_a_unix_socket_is_a_listener_like_any_other(make_daemon: Callable[..., Daemon]) -> None:
    daemon = make_daemon(workers=2)
    path = daemon.runtime_dir / "listener"
    daemon.config["listen"].append({"protocol": "chatserver", "address": f"unix:{path}"})
    daemon.write_config()
    daemon.start()

    async def story() -> None:
        town = Town(daemon)
        alice, bob = await town.newcomer("alice"), await town.newcomer("bob")
        other = await town.errand(bob)
        for expected in (["kept 1", "kept 2"], []):
            peer = NulPeer()
            await asyncio.get_running_loop().create_unix_connection(lambda one=peer: one, str(path))
            if expected:
                for number in (1, 2):
                    other.put({"msgid": 6, "toid": town.ids[alice], "msg": f"kept {number}", "fp": f"fp-{number}"})
                    await other.find(msgid=13)
            peer.put({"msgid": 1, "id": town.ids[alice], "password": town.secret, "framing": "nul"})
            answer = await peer.take()
            assert answer["errno"] == 0
            assert [json.loads(text)["msg"] for text in answer.get("offlinemsg", [])] == expected
            peer.put({"msgid": 6, "toid": town.ids[bob], "msg": "through the listener", "fp": f"listener {expected}"})
            await peer.find(msgid=13)
            assert (await other.find(msgid=6))["msg"] == "through the listener"
            peer.put({"msgid": 3, "id": town.ids[alice]})
            peer.put({"msgid": 99})
            assert (await within(5, "the logout", peer.take()))["ref"] == 99
            peer.close()

    run(story())
