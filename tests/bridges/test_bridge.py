"""Users of the two servers write to each other. One daemon and one RabbitMQ for all."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator

import pytest

from chatd.errors import ErrorCode
from tests.bridges.house import House, options
from tests.harness.api import Answer, Api
from tests.harness.deadline import run, until, wait_until
from tests.harness.mobileimsdk import DATA
from tests.harness.rabbitmq import APP2WEB, JavaSide, RabbitServer
from tests.harness.switches import switchable, switched_off

NOT_ACCEPTED, UNKNOWN_RECIPIENT, TOO_LONG, BLOCKED_BY_YOU = 1049, 1032, 1035, 1050


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory, rabbit: RabbitServer) -> Iterator[House]:
    root = tmp_path_factory.mktemp("bridge")
    with switchable(root, "tests.bridges.planted", bus={"lease_s": 2}, api=True) as daemon:
        house = House(daemon)
        run(house.register("java:veteran"))  # before there is a bridge
        daemon.config["bridge"] = [options(rabbit)]
        daemon.write_config()
        assert daemon.ctl("reload").returncode == 0
        assert daemon.ctl("restart-workers").returncode == 0
        yield house


def test_both_write_to_each_other(house: House, rabbit: RabbitServer) -> None:
    async def story() -> None:
        async with JavaSide(rabbit) as java:
            bob = await house.person("bob")
            fp = await java.say("Alice-1", bob.name, "good morning", typeu=7)
            await house.says(bob, "good morning")
            assert bob.seen[-1].sender == "java:Alice-1"
            assert bob.seen[-1].fp == fp
            outcome = await bob.say("java:Alice-1", "and to you")
            assert outcome is not None
            assert outcome.ok
            packet = await java.came("and to you")
            fields = {"type": 2, "dataContent": "and to you", "from": bob.name, "to": "Alice-1", "typeu": -1}
            assert packet | {"fp": "", "sm": 0} == {"bridge": True, **fields, "fp": "", "QoS": True, "sm": 0}
            assert packet["fp"] == bob.last_fp
            assert packet["sm"] > 1_700_000_000_000
            properties = java.properties[java.packets.index(packet)]
            assert (properties.delivery_mode, properties.content_type) == (2, "text/plain")
            assert properties.content_encoding == "UTF-8"
            await until(10, "it has moved on", lambda: house.state()["waiting"] == 0)
            state = house.state()
            assert (state["state"], state["sent"] >= 1, state["users"] >= 1) == ("working", True, True)

    run(story())


def test_the_order_of_a_conversation_is_kept_in_both_directions(house: House, rabbit: RabbitServer) -> None:
    async def story() -> None:
        async with JavaSide(rabbit) as java:
            bob, eve = await house.person("bob"), await house.person("eve")
            texts = [f"{number} of many" for number in range(300)]
            for text in texts:
                await java.say("anna", bob.name, text)
            await house.says(bob, texts[-1], 30)
            assert [one.text for one in bob.seen] == texts
            for number, text in enumerate(texts):
                bob.post("java:anna", f"to anna: {text}")
                if number % 3 == 0:
                    eve.post("java:otto", f"to otto: {text}")
            await java.came(f"to anna: {texts[-1]}", 30)
            to_anna = [one["dataContent"] for one in java.packets if one["to"] == "anna"]
            assert to_anna == [f"to anna: {text}" for text in texts]
            await java.came("to otto: 297 of many")
            to_otto = [one["dataContent"] for one in java.packets if one["to"] == "otto"]
            assert to_otto == [f"to otto: {text}" for text in texts[::3]]

    run(story())


def test_a_packet_that_comes_twice_is_stored_once(house: House, rabbit: RabbitServer) -> None:
    async def twice(suffix: str) -> int:
        async with JavaSide(rabbit) as java:
            bob = await house.person("bob")
            fp = await java.say("anna", bob.name, f"once {suffix}")
            await java.say("anna", bob.name, f"once {suffix}", fp)
            await java.say("anna", bob.name, f"later {suffix}")
            await house.says(bob, f"later {suffix}")
            return len([one for one in bob.seen if one.text == f"once {suffix}"])

    assert run(twice("only")) == 1
    with switched_off("does_not_recognise_repetitions", house.daemon):
        assert run(twice("but not")) == 2


def test_what_cannot_be_delivered_goes_to_the_dead_letters_and_keeps_nobody_waiting(
    house: House, rabbit: RabbitServer
) -> None:
    async def story() -> None:
        async with JavaSide(rabbit) as java:
            bob, eve = await house.person("bob"), await house.person("eve")
            await java.say("anna", bob.name, "first")
            await house.says(bob, "first")
            await bob.say("java:anna", "hello")
            await java.came("hello")
            await java.publish(b"\xff\xfe no text")
            await java.publish(b'{"type":2,"from":"anna"')
            await java.publish(b"[" * 5000)
            await java.publish(json.dumps({"type": 2, "from": 7, "to": bob.name, "dataContent": "x"}).encode())
            await java.say("anna", "nobody", "who?")
            await java.say("anna", "java:anna", "to myself")
            await java.say("anna", f"#{house.ids[bob.name]}", "to a group")
            await java.say("anna", str(house.ids[bob.name]), "to a number")
            await java.say("-1", bob.name, "from nobody")
            await java.say("a\nb", bob.name, "with a strange name")
            await java.say("anna", "-1", "to nobody")
            await java.say("anna", bob.name, "of another type", type=1)
            await java.say("anna", bob.name, "x" * 70_000)
            await java.say("anna", bob.name, "x" * 7_000)
            await java.say("anna", bob.name, "with a long fp", "f" * 300)
            fp = await java.say("anna", bob.name, "used", "fp-of-anna")
            await java.say("anna", eve.name, "used for another", fp)
            await java.say("ANNA", bob.name, "in another spelling")
            await java.say("anna", bob.name, "last")
            await house.says(bob, "last")
            found = await java.dead()
            assert [reason for reason, _ in found] == [
                *("not_a_packet", "not_a_packet", "not_a_packet", "not_a_packet", "unknown_recipient"),
                *("unknown_recipient", "unknown_recipient", "unknown_recipient", "no_sender", "name_not_allowed"),
                *("no_recipient", "wrong_type", "too_large", "too_long", "too_long", "fp_reused", "name_taken"),
            ]
            assert found[0][1] == b"\xff\xfe no text"
            assert await java.waiting(APP2WEB) == 0
            await until(5, "they are counted", lambda: house.figure("bridge_dead_letters") >= len(found))

    run(story())


def test_users_of_the_other_side_are_nobody_here(house: House, rabbit: RabbitServer) -> None:
    """Neither by name nor by number; and nobody here can take their names."""

    async def story() -> None:
        async with JavaSide(rabbit) as java:
            bob, eve = await house.person("bob"), await house.person("eve")
            number = str(house.ids[eve.name])
            for claimed in (eve.name, number, f"java:{eve.name}", "0"):
                await java.say(claimed, bob.name, f"I am {claimed}")
                await house.says(bob, f"I am {claimed}")
                assert bob.seen[-1].sender == f"java:{claimed}"
            await bob.say(f"java:{number}", "who are you?")
            assert (await java.came("who are you?"))["to"] == number
            assert eve.seen == []
            for name in (f"java:{number}", "java:mallory", "JAVA:mallory", "j\u0430va:mallory"):
                with pytest.raises(AssertionError, match="not allowed"):
                    await house.register(name)
            house.ids[f"java:{number}"] = 0
            got, _, err = house.daemon.ctl_said("user", "unlock", f"java:{number}")
            assert (got != 0, "never logs in here" in err) == (True, True)
            peer = await house.mobile_peer()
            with pytest.raises(Exception, match="1025"):
                await peer.log_in(f"java:{number}", "")
            peer.close()

    run(story())


@pytest.mark.parametrize(
    ("bug", "seen"),
    [("", 0), ("takes_names_for_numbers", 1), ("lets_them_be_anybody", 1)],
    ids=lambda value: str(value),
)
def test_an_impersonation_fails_and_would_be_found(house: House, rabbit: RabbitServer, bug: str, seen: int) -> None:
    """An account that had its name before there was a bridge, and one that is addressed by its number."""

    async def story() -> None:
        async with JavaSide(rabbit) as java:
            bob, person = await house.person("bob"), next(house.suffixes)
            await java.say("veteran", bob.name, "I am the veteran")
            await java.say("anna", str(house.ids[bob.name]), "to a number")
            await java.say(f"anna{person}", bob.name, "last")
            await house.says(bob, "last")
            assert len(bob.seen) == 1 + seen
            assert {reason for reason, _ in await java.dead()} <= {"name_taken", "unknown_recipient"}

    with switched_off(bug, house.daemon) if bug else contextlib.nullcontext():
        run(story())


def test_applications_write_to_the_other_side_but_never_in_its_name(house: House, rabbit: RabbitServer) -> None:
    made = house.daemon.ctl("key", "add", "shop", "--scope", "admin", "--json")
    api = Api(house.daemon.ports["http"], json.loads(made.stdout)["key"])

    def called(path: str, body: dict[str, str]) -> Answer:
        """The key is known to every worker within a moment."""
        return wait_until(10, "the key is known", lambda: one if (one := api.post(path, body)).status != 401 else None)

    async def story() -> None:
        async with JavaSide(rabbit) as java:
            bob = await house.person("bob")
            assert called("/v1/messages", {"to": "java:anna", "text": "from the shop"}).status == 201
            assert (await java.came("from the shop"))["from"] == "0"
            refused = called("/v1/messages", {"from": "java:anna", "to": bob.name, "text": "forged"})
            assert refused.code == ErrorCode.ACCOUNT_LOCKED
            assert api.put("/v1/users/java:mallory", {"password": "open sesame"}).code == ErrorCode.NAME_NOT_ALLOWED

    try:
        run(story())
    finally:
        api.close()


def test_blocks_and_choices_of_the_recipient_hold(house: House, rabbit: RabbitServer) -> None:
    async def story() -> None:
        async with JavaSide(rabbit) as java:
            bob, ann = await house.person("bob"), await house.person("ann")
            await java.say("pest", ann.name, "hello")
            await house.says(ann, "hello")
            peer = await house.on_web(ann.name)
            peer.say(ann.name, "0", json.dumps({"op": "block", "ref": "1", "user": "java:pest"}), "block-1")
            answer = json.loads((await peer.find(type=DATA, **{"from": "0"}))["dataContent"])
            assert answer["ok"], answer
            peer.close()
            await java.say("pest", ann.name, "hello again")
            await java.say("pest", bob.name, "to another")
            await house.says(bob, "to another")
            assert [reason for reason, _ in await java.dead()] == ["not_accepted"]
            assert [one.text for one in ann.seen] == ["hello"]

    run(story())


def test_a_message_that_cannot_cross_is_refused_at_once(house: House, rabbit: RabbitServer) -> None:
    async def story() -> None:
        bob = await house.person("bob")
        for to, text, code in (("java:anna", "x" * 6100, TOO_LONG), ("java:", "hello", UNKNOWN_RECIPIENT)):
            outcome = await bob.say(to, text)
            assert outcome is not None
            assert (outcome.ok, outcome.code) == (False, code)

    run(story())
