"""What clients can ask for in their login: numbers in live messages, replies, mentions, unread counts and typing, and
the notice about a message that was cut; on every transport and store, with one and two workers."""

from __future__ import annotations

from typing import get_args

import pytest

from chatd.errors import ErrorCode
from tests.conversations.asking import StreamingClient, Transport, clients, new_group
from tests.conversations.featured import FeaturedClient, asking_for, live
from tests.conversations.stages import on_every_stage
from tests.harness.deadline import run, until
from tests.harness.person import Town

pytestmark = on_every_stage
transports = pytest.mark.parametrize("transport", [one for one in get_args(Transport) if one != "chatserver"])
STOCK_ANSWER = {"code", "firstLoginTime"}


# ---------------------------------------------------------------- features


@transports
def test_messages_and_acknowledgements_carry_numbers(town: Town, transport: Transport) -> None:
    async def story() -> None:
        alice, bob = await live(town, "alice", "bob", transport=transport)
        assert alice.peer.login_answer["chatd"] == {"features": ["seq", "typing"], "id": town.ids[alice.name]}
        for number in (1, 2):
            done = await alice.sends(bob.name, f"text {number}")
            given = await bob.is_given(f"text {number}")
            assert (done["seq"], given["seq"]) == (number, number)
            assert done["sm"] == given["sm"] > 0
            assert not {"version", "state", "reply", "mentions"} & given.keys()
        (head,) = (await bob.ask("sync"))["conversations"]
        assert given["conv"] == head["id"]
        assert head["last"] == 2

    run(story())


@pytest.mark.parametrize(
    "extra",
    [None, "", "app data", '{"chatd":{"features":"seq"}}', '{"chatd":7}', '{"token":"x"}', '["chatd"]', 7, {"a": 1},
     [], True, '{"chatd":{"features":[1]}}', '{"chatd":{"features":["seq"]},"x":"' + "y" * 5000 + '"}', "[" * 3000],
    ids=str,
)  # fmt: skip
def test_any_other_extra_is_ignored_as_ever(town: Town, extra: object) -> None:
    async def story() -> None:
        (alice, bob) = await clients(town, "alice", "bob")
        alice.leave()
        alice.extra = extra
        await alice.arrive()
        assert alice.peer.login_answer.keys() == STOCK_ANSWER
        packets: list[dict[str, object]] = []
        alice.peer.on_frame = packets.append
        await bob.says(alice.name, "hi")
        got = await until(10, "the message", lambda: next((one for one in packets if one["type"] == 2), None))
        assert got.keys() == {"bridge", "type", "dataContent", "from", "to", "fp", "QoS", "typeu", "sm"}

    run(story())


def test_features_are_granted_as_far_as_they_are_known_and_change_with_the_next_login(town: Town) -> None:
    async def story() -> None:
        alice, bob = await live(town, "alice", "bob", features=("seq", "telepathy"))
        assert alice.peer.login_answer["chatd"]["features"] == ["seq"]
        assert (await alice.sends(bob.name, "numbered"))["seq"] == 1
        bob.peer.extra = asking_for()
        bob.peer.on_frame = bob.peer.frames.append
        await bob.peer.log_in(bob.name, town.secret, bob.first_login_time)
        assert bob.peer.login_answer["chatd"]["features"] == []
        bob.peer.on_frame = bob.hear
        await alice.sends(bob.name, "plain")
        assert "seq" not in await bob.is_given("plain")

    run(story())


def test_a_stock_client_and_a_streaming_one_in_the_same_group(town: Town) -> None:
    async def story() -> None:
        (alice,) = await live(town, "alice")
        (bob,) = await clients(town, "bob")
        carol = await StreamingClient(town, await town.newcomer("carol")).arrive()
        group = await new_group(alice, bob, carol)
        frames = []
        carol.stream.on_frame, hear = lambda frame: (frames.append(dict(frame)), hear(frame))[1], carol.hear
        await alice.sends(f"#{group}", "first")
        await alice.sends(f"#{group}", "second", reply=1, mentions=[bob.name])
        await bob.sees(alice.name, f"#{group}", "second")
        await carol.sees(alice.name, f"#{group}", "second")
        (first, second) = [frame for frame in frames if frame.get("msgid") == 11]
        assert "reply" not in first
        assert (second["reply"], second["seq"]) == (1, 2)

    run(story())


# ---------------------------------------------------------------- replies and mentions


@transports
def test_a_reply_and_mentions_arrive_and_stay(town: Town, transport: Transport) -> None:
    async def story() -> None:
        alice, bob, carol = await live(town, "alice", "bob", "carol", transport=transport)
        (desk,) = await clients(town, "desk", transport="chatserver")
        group = await new_group(alice, bob, carol, desk)
        place = f"#{group}"
        await alice.sends(place, "question")
        await bob.sends(place, "answer", reply=1, mentions=[alice.name, town.ids[carol.name]])
        ids = [town.ids[alice.name], town.ids[carol.name]]
        for one in (alice, carol):
            given = await one.is_given("answer")
            assert (given["reply"], given["mentions"]) == (1, ids)
            heads = await one.unread()
            assert heads[place]["mentioned"] == [2]
        await desk.sees(bob.name, place, "answer")
        assert isinstance(desk, StreamingClient)
        assert [(one.get("reply"), one.get("mentions")) for one in desk.given] == [(None, None), (1, ids)]
        await alice.sends(place, "everybody", mentions="all")
        assert (await bob.is_given("everybody"))["mentions"] == "all"
        assert (await bob.unread())[place]["mentioned"] == [3]
        shown = (await carol.ask("history", with_=place))["messages"]
        assert [(one.get("reply"), one.get("mentions")) for one in shown] == [(None, None), (1, ids), (None, "all")]
        carol.leave()
        await alice.sends(place, "while away", reply=3)
        await carol.arrive()
        assert (await carol.is_given("while away"))["reply"] == 3

    run(story())


def test_extras_that_are_refused_store_nothing(town: Town) -> None:
    async def story() -> None:
        alice, bob, eve = await live(town, "alice", "bob", "eve")
        group = await new_group(alice, bob)
        place = f"#{group}"
        bad = ErrorCode.BAD_FIELD
        for reply in (0, -1, 1.5, "1", True, [1], 2**63, 2**64, 10**30):
            assert await alice.is_refused(bob.name, reply=reply) == bad, reply
        for mentions in ("bob", [], 7, {"a": 1}, [""], [0], [-1], [True], [2**63], [[bob.name]], ["x" * 65]):
            if mentions:
                assert await alice.is_refused(place, mentions=mentions) == bad, mentions
        assert await alice.is_refused(bob.name, mentions=[bob.name]) == bad
        assert await alice.is_refused(bob.name, reply=1) == ErrorCode.UNKNOWN_MESSAGE
        assert await alice.is_refused(place, reply=1) == ErrorCode.UNKNOWN_MESSAGE
        assert await bob.is_refused(place, mentions="all") == ErrorCode.NOT_ALLOWED
        for name in (eve.name, "nobody at all", town.ids[eve.name], 10**15):
            assert await alice.is_refused(place, mentions=[name]) == ErrorCode.UNKNOWN_RECIPIENT
        assert await alice.is_refused(place, mentions=[bob.name] * 51) == ErrorCode.LIMIT_REACHED
        assert await eve.is_refused(place, mentions=[bob.name]) == ErrorCode.NOT_A_MEMBER
        assert (await alice.ask("history", with_=place))["messages"] == []
        assert (await alice.sends(place, "the first", mentions=[bob.name]))["seq"] == 1

    run(story())


def test_a_stock_client_keeps_the_fields_for_itself(town: Town) -> None:
    """Applications may have fields of these names, which the server has always ignored."""

    async def story() -> None:
        (alice,) = await clients(town, "alice")
        (bob,) = await live(town, "bob")
        alice.peer.say(alice.name, bob.name, "own fields", "f1", reply="to you", mentions={"app": 1})
        given = await bob.is_given("own fields")
        assert not {"reply", "mentions"} & given.keys()

    run(story())


def test_a_streaming_client_answers_by_number_and_an_old_one_keeps_the_field(town: Town) -> None:
    async def story() -> None:
        (alice,) = await live(town, "alice")
        carol = await StreamingClient(town, await town.newcomer("carol")).arrive()
        ids = {"id": town.ids[carol.name], "name": carol.name, "toid": town.ids[alice.name], "time": ""}
        await alice.sends(carol.name, "question")
        carol.stream.put({"msgid": 6, **ids, "msg": "answer", "fp": "a1", "reply": 1})
        assert (await alice.is_given("answer"))["reply"] == 1
        for number, reply in enumerate((0, -1, "1", 2**63, 10**30, [1], 1.5)):
            carol.stream.put({"msgid": 6, **ids, "msg": "x", "fp": f"b{number}", "reply": reply})
            error = await until(10, "refused", lambda: carol.errors and carol.errors.pop())
            assert (error["errno"], error["fp"]) == (ErrorCode.BAD_FIELD, f"b{number}")
        carol.stream.put({"msgid": 6, **ids, "msg": "x", "fp": "c", "reply": 99})
        error = await until(10, "refused", lambda: carol.errors and carol.errors.pop())
        assert error["errno"] == ErrorCode.UNKNOWN_MESSAGE
        name = await town.newcomer("dave")
        old = await town.errand(name, framing="")
        old.put({"msgid": 6, "id": town.ids[name], "toid": town.ids[alice.name], "msg": "old", "reply": "mine"})
        assert "reply" not in await alice.is_given("old")

    run(story())


# ---------------------------------------------------------------- unread


def test_unread_counts_stay_right(town: Town) -> None:
    async def story() -> None:
        alice, bob = await live(town, "alice", "bob")
        desk = await StreamingClient(town, bob.name).arrive()
        place = f"#{await new_group(alice, bob)}"
        for number in range(4):
            await alice.sends(place, f"text {number}", mentions=[bob.name])
            await alice.sends(bob.name, f"text {number}")
        await bob.sends(alice.name, "own")
        heads = await bob.unread()
        assert (heads[place]["unread"], heads[place]["mentioned"]) == (4, [1, 2, 3, 4])
        assert (heads[alice.name]["unread"], heads[alice.name].get("mentioned")) == (4, None)
        assert (await alice.unread())[bob.name]["unread"] == 1
        await alice.ask("message.recall", with_=place, seq=2)
        await alice.ask("message.edit", with_=place, seq=3, text="edited")
        assert (await bob.unread())[place] | {"changes": 0} == heads[place] | {
            "unread": 3, "mentioned": [1, 3, 4], "changes": 0,
        }  # fmt: skip
        await desk.ask("read", with_=alice.name, seq=2)  # elsewhere, on the other wire
        assert (await bob.hears("read", seq=2))["with"] == alice.name
        assert (await alice.hears("read", seq=2))["with"] == bob.name
        assert (await bob.unread())[alice.name]["unread"] == 2
        await bob.ask("read", with_=place, seq=3)
        assert (await desk.hears("read", seq=3))["with"] == place
        for one in (bob, desk):
            found = {head["with"]: head for head in (await one.ask("sync"))["conversations"]}
            assert (found[place]["unread"], found[place]["mentioned"]) == (1, [4])
        assert not [one for one in bob.notices if one["event"] == "read"], "a session is told of its own mark"
        await alice.ask("group.kick", group=int(place[1:]), user=bob.name)
        assert place not in await bob.unread()

    run(story())


# ---------------------------------------------------------------- typing


@transports
def test_typing_is_told_to_those_who_asked_for_it(town: Town, transport: Transport) -> None:
    async def story() -> None:
        alice, bob = await live(town, "alice", "bob", transport=transport)
        (carol,) = await clients(town, "carol")
        dave = await StreamingClient(town, await town.newcomer("dave")).arrive()
        place = f"#{await new_group(alice, bob, carol, dave)}"
        by = {"id": town.ids[alice.name], "name": alice.name}
        assert await alice.ask("typing", with_=bob.name) == {}
        assert await bob.hears("typing") == {"event": "typing", "with": alice.name, "by": by}
        await alice.ask("typing", with_=place)
        for one in (bob, dave):
            assert await one.hears("typing") == {"event": "typing", "with": place, "by": by}
        await alice.ask("typing", with_=carol.name)
        await alice.says(carol.name, "after")
        await carol.sees(alice.name, carol.name, "after")
        assert not [one for one in (*carol.notices, *alice.notices) if one["event"] == "typing"]
        carol.leave()
        await alice.ask("typing", with_=carol.name)  # who is away never learns of it
        carol.extra = asking_for("typing")
        await carol.arrive()
        await carol.is_up_to_date()
        assert not [one for one in carol.notices if one["event"] == "typing"]

    run(story())


def test_a_flood_of_typing_reaches_nobody(town: Town) -> None:
    async def story() -> None:
        mallory, bob = await live(town, "mallory", "bob")
        place = f"#{await new_group(mallory, bob)}"
        asked = [mallory.put("typing", with_=(bob.name, bob.name.upper(), str(town.ids[bob.name]), place)[n % 4])
                 for n in range(200)]  # fmt: skip
        answers = [await mallory.answer(ref) for ref in asked]
        refused = [one["error"]["code"] for one in answers if not one["ok"]]
        assert set(refused) == {ErrorCode.TOO_FAST}
        await mallory.sends(bob.name, "the end")
        await bob.is_given("the end")
        heard = [one["with"] for one in bob.notices if one["event"] == "typing"]
        # At most one per conversation and 2 s; the flood may have taken longer than that on a slow machine.
        assert 1 <= len(heard) <= 6
        assert len(refused) > 100

    run(story())


def test_nobody_is_bothered_by_typing_who_would_not_get_the_message(town: Town) -> None:
    async def story() -> None:
        mallory, bob, carol = await live(town, "mallory", "bob", "carol")
        group = await new_group(bob, carol)
        await bob.ask("block", user=mallory.name)
        assert await mallory.refused("typing", with_=bob.name) is ErrorCode.NOT_ACCEPTED
        assert await bob.refused("typing", with_=mallory.name) is ErrorCode.BLOCKED_BY_YOU
        assert await mallory.refused("typing", with_=f"#{group}") is ErrorCode.NOT_A_MEMBER
        assert await mallory.refused("typing", with_="#1000000000") is ErrorCode.UNKNOWN_GROUP
        await bob.ask("group.mute", group=group, user=carol.name)
        assert await carol.refused("typing", with_=f"#{group}") is ErrorCode.MUTED
        await bob.ask("group.unmute", group=group, user=carol.name)
        await bob.ask("group.set", group=group, announcements=True)
        assert await carol.refused("typing", with_=f"#{group}") is ErrorCode.ANNOUNCEMENTS_ONLY
        for place in ("", "x" * 65, 7, None, ["bob"]):
            assert await carol.refused("typing", with_=place) is ErrorCode.BAD_FIELD
        await carol.sends(bob.name, "the end")
        await bob.is_given("the end")
        for one in (mallory, bob, carol):
            assert not [notice for notice in one.notices if notice["event"] == "typing"]

    run(story())


# ---------------------------------------------------------------- cut


def test_the_sender_is_told_that_a_message_was_cut(town: Town) -> None:
    async def story() -> None:
        alice, bob = await live(town, "alice", "bob")
        bob.leave()
        bob = FeaturedClient(town, bob.name, "mobileimsdk-udp")
        await bob.arrive()
        place = f"#{await new_group(alice, bob)}"
        user = {"id": town.ids[bob.name], "name": bob.name}
        for to, where in ((bob.name, bob.name), (place, place)):
            done = await alice.sends(to, "x" * 3000)
            notice = await alice.hears("message.cut")
            assert notice == {"event": "message.cut", "with": where, "seq": done["seq"], "user": user}
            got = await until(10, "the message", lambda: bob.given and bob.given.pop())
            assert got["dataContent"].endswith("…")
            assert (got["seq"], got["conv"] == -int(place[1:])) == (done["seq"], to == place)
        assert bob.peer.too_long == 0  # type: ignore[attr-defined]
        bob.peer.abort()
        await bob.arrive()  # given again, but the sender has been told
        await alice.sends(bob.name, "short")
        await bob.is_given("short")
        await alice.is_up_to_date()
        assert not [one for one in alice.notices if one["event"] == "message.cut"]

    run(story())


def test_a_message_cut_for_tcp_and_for_the_old_client(town: Town) -> None:
    async def story() -> None:
        (alice,) = await live(town, "alice", transport="mobileimsdk-ws")
        bob, carol = await clients(town, "bob", "carol")
        name = await town.newcomer("dave")
        old = await town.errand(name, framing="")
        await alice.sends(bob.name, '"' * 4000)  # twice as long in JSON
        await alice.hears("message.cut", user={"id": town.ids[bob.name], "name": bob.name})
        await carol.says(name, "y" * 1500)
        await carol.hears("message.cut", seq=1, user={"id": town.ids[name], "name": name})
        assert (await old.find(msgid=6))["msg"].endswith("…")

    run(story())


def test_an_old_client_is_told_nothing_new(town: Town) -> None:
    async def story() -> None:
        name = await town.newcomer("dave")
        old = await town.errand(name, framing="")
        (bob,) = await live(town, "bob", transport="mobileimsdk-udp")
        old.put({"msgid": 6, "id": town.ids[name], "toid": town.ids[bob.name], "msg": "x" * 3000})
        await until(10, "the message", lambda: bob.given)
        await bob.sends(name, "z")
        assert (await old.take())["msg"] == "z"

    run(story())
