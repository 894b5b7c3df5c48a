"""Every operation of a request to the server, with real clients on one and on two workers, on each store.

Each field and each refusal is tested at the core (tests/core/requests/test_dispatch.py); here is what needs a daemon.
"""

from __future__ import annotations

import json
import time

import pytest

from chatd.errors import ErrorCode
from tests.conversations.asking import Client, Transport, befriend, clients, new_group
from tests.conversations.stages import on_every_stage
from tests.harness.chatserver import chat
from tests.harness.deadline import run, until
from tests.harness.link import LoginRefused
from tests.harness.person import Town

pytestmark = on_every_stage


def test_friends(town: Town) -> None:
    async def story() -> None:
        alice, bob, carol = await clients(town, "alice", "bob", "carol")
        assert (await alice.ask("friend.request", user=bob.name))["friends"] is False
        assert (await bob.hears("friend.request"))["from"] == {"id": town.ids[alice.name], "name": alice.name}
        carol.leave()
        await alice.ask("friend.request", user=town.ids[carol.name])
        await bob.ask("friend.accept", user=alice.name)
        await alice.hears("friend.accepted")
        await carol.arrive()  # who was away is told at login
        assert (await carol.hears("friend.request"))["from"]["name"] == alice.name
        await carol.ask("friend.refuse", user=alice.name)
        await alice.hears("friend.refused")
        (friend,) = (await alice.ask("friend.list"))["friends"]
        assert (friend["name"], friend["online"]) == (bob.name, True)
        await bob.ask("friend.remove", user=alice.name)
        assert await alice.ask("friend.list") == {"friends": [], "requests": []}
        assert await alice.refused("friend.accept", user=bob.name) is ErrorCode.NOT_ALLOWED
        assert await alice.refused("friend.request", user="nobody") is ErrorCode.UNKNOWN_RECIPIENT

    run(story())


def test_a_group_from_its_making_to_its_end(town: Town) -> None:
    async def story() -> None:
        alice, bob, carol = await clients(town, "alice", "bob", "carol")
        number = await new_group(alice, bob, carol)
        place = f"#{number}"
        for name in (bob.name, carol.name):
            await until(5, "told", lambda name=name: any(n["user"]["name"] == name for n in alice.notices))  # type: ignore[misc]
        await alice.says(place, "welcome")
        for one in (bob, carol):
            await one.sees(alice.name, place, "welcome")
        await alice.ask("group.role", group=number, user=carol.name, role="admin")
        await bob.hears("group.role", role="admin")
        await carol.ask("group.rename", group=number, name="pool")
        assert (await bob.hears("group.renamed"))["details"]["name"] == "pool"
        members = (await bob.ask("group.members", group=number))["members"]
        assert {one["name"]: one["role"] for one in members} == {
            alice.name: "owner",
            bob.name: "member",
            carol.name: "admin",
        }
        assert await bob.refused("group.kick", group=number, user=carol.name) is ErrorCode.NOT_ALLOWED
        await carol.ask("group.kick", group=number, user=bob.name)
        assert await bob.hears("group.kicked") == {"event": "group.kicked", "group": number}
        assert (await alice.ask("group.leave", group=number))["owner"] == town.ids[carol.name]
        await carol.hears("group.left")
        assert await carol.ask("group.leave", group=number) == {"owner": None, "ended": True}
        assert (await carol.ask("group.list"))["groups"] == []

    run(story())


@pytest.mark.parametrize("kicked", [True, False])
def test_who_is_out_gets_no_more_and_cannot_write(town: Town, kicked: bool) -> None:
    async def story() -> None:
        alice, bob, carol = await clients(town, "alice", "bob", "carol")
        number = await new_group(alice, bob, carol)
        place = f"#{number}"
        desk = await town.errand(bob.name)
        await alice.says(place, "before")
        await bob.sees(alice.name, place, "before")
        assert (await desk.find(msgid=11))["msg"] == "before"
        if kicked:
            await alice.ask("group.kick", group=number, user=bob.name)
            await bob.hears("group.kicked")
        else:
            await bob.ask("group.leave", group=number)
            await alice.hears("group.left")
        for text in "123":
            await alice.says(place, text)
        await carol.sees(alice.name, place, "3")
        await alice.says(bob.name, "the end")
        await bob.sees(alice.name, bob.name, "the end")
        assert (await desk.take())["msg"] == "the end"
        assert [text for _, to, text in bob.messages if to == place] == ["before"]
        bob.say(place, "me too")
        error = await until(10, "refused", lambda: bob.errors)
        assert error[0]["errorCode"] == ErrorCode.NOT_A_MEMBER
        desk.put({"msgid": 11, "id": town.ids[bob.name], "groupid": number, "msg": "me too", "name": "", "time": ""})
        assert (await desk.find(msgid=12))["ref"] == 11
        if kicked:
            assert await bob.refused("group.join", group=number) is ErrorCode.BANNED
            await alice.ask("group.unban", group=number, user=bob.name)
        await bob.ask("group.join", group=number)
        await alice.says(place, "again")
        await bob.sees(alice.name, place, "again")
        assert (await desk.find(msgid=11))["msg"] == "again"
        assert [text for _, to, text in bob.messages if to == place] == ["before", "again"]

    run(story())


def test_history_sync_and_read_marks(town: Town) -> None:
    async def story() -> None:
        alice, bob, carol = await clients(town, "alice", "bob", "carol")
        number = await new_group(alice, bob)
        for text in "12345":
            await alice.says(bob.name, text)
        await alice.says(f"#{number}", "to all")
        page = (await bob.ask("history", with_=alice.name, after=1, limit=2))["messages"]
        assert [(entry["seq"], entry["text"]) for entry in page] == [(2, "2"), (3, "3")]
        assert abs(page[0]["sm"] - time.time() * 1000) < 60_000
        page = (await alice.ask("history", with_=bob.name, before=5, limit=2))["messages"]
        assert [entry["text"] for entry in page] == ["4", "3"]
        assert await carol.refused("history", with_=f"#{number}") is ErrorCode.NOT_A_MEMBER
        assert (await carol.ask("history", with_=alice.name))["messages"] == []
        assert await bob.ask("read", with_=alice.name, seq=4) == {"seq": 4}
        told = await alice.hears("read")
        assert (told["with"], told["by"]["name"], told["seq"]) == (bob.name, bob.name, 4)
        found = await bob.ask("sync", cursors={alice.name: 3})
        assert {head["with"]: (head["last"], head["read"]) for head in found["conversations"]} == {
            alice.name: (5, 4),
            f"#{number}": (1, 0),
        }
        assert [entry["text"] for entry in found["messages"] if entry["with"] == alice.name] == ["4", "5"]
        for typed in (bob.name.upper(), str(town.ids[bob.name])):
            assert (await alice.ask("history", with_=typed))["with"] == bob.name

    run(story())


def test_profile_password_and_sessions(town: Town) -> None:
    async def story() -> None:
        alice, bob = await clients(town, "alice", "bob")
        await alice.ask("profile.set", nickname="Al", about="é" * 300)
        assert await bob.refused("profile.get", user=alice.name) is ErrorCode.NOT_ACCEPTED
        await befriend(alice, bob)
        found = await bob.ask("profile.get", user=alice.name)
        assert found["profile"] == {"nickname": "Al", "about": "é" * 300}
        who = await alice.ask("whoami")
        assert (who["id"], who["name"], who["wire"]) == (town.ids[alice.name], alice.name, "mobileimsdk")
        assert await alice.refused("password.change", old="wrong", new="x") is ErrorCode.BAD_CREDENTIALS
        await alice.ask("password.change", old=town.secret, new="other secret")
        with pytest.raises(LoginRefused):
            await town.on_mobile(alice.name)
        await alice.is_up_to_date()  # the session that changed it stays
        await alice.ask("password.change", old="other secret", new=town.secret)
        desk = await town.errand(alice.name)
        found = await alice.ask("session.list")
        assert [(one["wire"], one["this"]) for one in found["sessions"]] == [
            ("mobileimsdk", True),
            ("chatserver", False),
        ]
        assert found["complete"] is True
        await alice.ask("session.kick", wire="chatserver")
        assert (await desk.end())[-1]["msgid"] == 12
        assert len((await alice.ask("session.list"))["sessions"]) == 1

    run(story())


def test_a_text_that_is_no_request_is_acknowledged_and_dropped(town: Town) -> None:
    async def story() -> None:
        (alice,) = await clients(town, "alice")
        for text in ("hello", "{", '{"op":5}', ""):
            await alice.says("0", text)
        assert await alice.refused("no.such.op") is ErrorCode.UNKNOWN_REQUEST
        assert len(alice.answers) == 1

    run(story())


def test_what_a_request_and_its_answer_look_like(town: Town) -> None:
    async def story() -> None:
        name = await town.newcomer("alice")
        peer = await town.on_mobile(name)
        peer.say(name, "0", '{"op":"echo","ref":"r-1","text":"hi"}', "f-1", typeu=9)
        accepted, answer = await peer.take(), await peer.take()
        assert accepted == {
            "bridge": False,
            "type": 4,
            "dataContent": "f-1",
            "from": "0",
            "to": name,
            "QoS": False,
            "typeu": -1,
            "sm": -1,
        }
        assert answer == {
            "bridge": False,
            "type": 2,
            "dataContent": '{"ref":"r-1","ok":true,"result":{"text":"hi"}}',
            "from": "0",
            "to": name,
            "fp": "re:f-1",
            "QoS": True,
            "typeu": -1,
            "sm": -1,
        }
        peer.say(name, "0", '{"op":"friend.accept","ref":2,"user":"nobody"}', None, qos=False)
        packet = await peer.take()
        assert json.loads(packet["dataContent"]) == {
            "ref": 2,
            "ok": False,
            "error": {"code": 1032, "text": "no such user", "temporary": False},
        }
        assert packet["fp"]

    run(story())


def test_the_other_wire_meets_the_same_rules(town: Town) -> None:
    async def story() -> None:
        (alice,) = await clients(town, "alice")
        name = await town.newcomer("bob")
        desk = await town.errand(name)
        await alice.ask("friend.request", user=name)
        assert (await desk.find(msgid=7))["from"] == town.ids[alice.name]
        desk.put({"msgid": 8, "id": town.ids[name], "friendid": town.ids[alice.name], "flag": True})
        await alice.hears("friend.accepted")
        number = await new_group(alice)
        desk.put({"msgid": 10, "id": town.ids[name], "groupid": number})
        await alice.hears("group.joined", group=number)
        await alice.says(f"#{number}", "welcome")
        assert (await desk.find(msgid=11))["msg"] == "welcome"
        desk.put(chat(town.ids[name], name, alice.name, town.ids[alice.name], "thanks"))
        await alice.sees(name, alice.name, "thanks")

    run(story())


# ---------------------------------------------------------------- exactly once


def test_a_repeat_on_any_connection_has_one_effect_and_the_same_answer(town: Town) -> None:
    """Also when the first answer was lost: the connection is reset before it can be read."""

    async def story() -> None:
        (alice,) = await clients(town, "alice")
        for number in range(10):
            fp = f"create {number} {alice.name}"
            alice.put("group.create", fp=fp, ref=fp, name="team")
            if number % 2:
                alice.peer.abort()
            else:
                await alice.answer(fp)
                alice.answers.clear()
                alice.seen.clear()
                alice.leave()
            await alice.arrive()
            alice.put("group.create", fp=fp, ref=fp, name="team")
            first = await alice.answer(fp)
            await until(10, "acknowledged again", lambda fp=fp: fp in alice.accepted)  # type: ignore[misc]
            alice.put("group.create", fp=fp, ref=fp, name="team")
            await alice.is_up_to_date()
            assert alice.answers[fp] == first
            alice.put("group.create", fp=fp, ref="other", name="another name")
            assert (await alice.answer("other"))["error"]["code"] == ErrorCode.FP_REUSED
            alice.answers.clear()
            groups = (await alice.ask("group.list"))["groups"]
            assert (len(groups), groups[-1]) == (number + 1, first["result"]["group"])

    run(story())


def test_answers_and_notices_come_again_until_acknowledged(town: Town) -> None:
    async def story() -> None:
        alice, bob = await clients(town, "alice", "bob")
        await befriend(alice, bob)
        bob.acknowledging = False
        bob.copies.clear()
        bob.put("whoami", fp="who")
        await alice.ask("group.create", name="x")
        await alice.ask("friend.remove", user=bob.name)
        await alice.ask("friend.request", user=bob.name)
        await bob.hears("friend.request")
        await until(10, "both came again", lambda: sorted(bob.copies.values()) == [2, 2])
        assert bob.answers["who"]["ok"] is True
        bob.acknowledging = True
        await until(20, "and again", lambda: sorted(bob.copies.values()) == [3, 3])
        assert "re:who" in bob.copies

    run(story())


# ---------------------------------------------------------------- what fits


def test_answers_that_do_not_fit_are_cut_and_read_on(town: Town) -> None:
    """The client's model drops the connection at a packet over 6,144 bytes, as stock clients do."""

    async def story() -> None:
        alice, bob = await clients(town, "alice", "bob")
        for number in range(30):
            await alice.says(bob.name, f"{number} " + "é" * 500)
        read: list[int] = []
        while len(read) < 30:
            page = await bob.ask("history", with_=alice.name, after=len(read), limit=100)
            read += [entry["seq"] for entry in page["messages"]]
            assert page.get("more", False) is (len(read) < 30)
        assert read == list(range(1, 31))
        long = '"' * 2000 + "😀" * 400
        await alice.says(bob.name, long)
        parts, start = [], 0
        while True:
            (entry,) = (await bob.ask("history", with_=alice.name, after=30, start=start))["messages"]
            parts.append(entry["text"])
            if "cut" not in entry:
                break
            start = entry["cut"]
        assert "".join(parts) == long
        assert len(parts) > 1
        await bob.ask("profile.set", about='"' * 1000)
        await bob.ask("profile.set", avatar='"' * 1000)
        await befriend(alice, bob)
        cut = await alice.ask("profile.get", user=bob.name)
        assert [set(text) for text in cut["profile"].values()] == [{'"', "…"}] * 2
        assert not bob.peer.gone.is_set()

    run(story())


@pytest.mark.parametrize("transport", ["mobileimsdk", "mobileimsdk-udp", "mobileimsdk-ws"])
def test_over_every_transport(town: Town, transport: Transport) -> None:
    """A datagram has 1,024 bytes: what is longer is told short, and read on by history."""

    async def story() -> None:
        alice, bob = await clients(town, "alice", "bob", transport=transport)
        watcher = Client(town, await town.newcomer("watcher"))
        await watcher.arrive()
        await befriend(alice, bob)
        await befriend(watcher, bob)
        await watcher.ask("presence.subscribe", users=[bob.name])
        number = await new_group(alice, bob, watcher, name="😀" * 40)
        await alice.ask("group.rename", group=number, name='"' * 40, description='"' * 200)
        renamed = await bob.hears("group.renamed")
        assert ("more" in renamed) is (transport == "mobileimsdk-udp")
        long = "".join(f"{count} é😀" for count in range(150))
        await alice.says(bob.name, long)
        await until(10, "bob is told", lambda: any(sender == alice.name for sender, _, _ in bob.messages))
        parts, start = [], 0
        while True:
            (entry,) = (await bob.ask("history", with_=alice.name, start=start))["messages"]
            parts.append(entry["text"])
            if "cut" not in entry:
                break
            start = entry["cut"]
        assert "".join(parts) == long
        assert (len(parts) > 1) is (transport == "mobileimsdk-udp")
        await bob.ask("read", with_=alice.name, seq=1)
        assert (await alice.hears("read"))["seq"] == 1
        bob.put("session.list", fp="list")
        bob.put("session.list", fp="list")
        assert len((await bob.answer("list"))["result"]["sessions"]) == 1
        bob.peer.put({"type": 3, "from": bob.name, "to": "0"})
        assert (await watcher.hears("presence"))["online"] is False

    run(story())


# ---------------------------------------------------------------- presence


async def watch(alice: Client, bob: Client) -> None:
    await befriend(alice, bob)
    (entry,) = (await alice.ask("presence.subscribe", users=[bob.name]))["users"]
    assert entry["online"] is True


def test_coming_and_going_is_told(town: Town) -> None:
    async def story() -> None:
        alice, bob, carol = await clients(town, "alice", "bob", "carol")
        await watch(alice, bob)
        bob.leave()
        assert (await alice.hears("presence"))["online"] is False
        (entry,) = (await alice.ask("presence.get", users=[bob.name]))["users"]
        assert entry["online"] is False
        assert abs(entry["last_seen"] - time.time() * 1000) < 60_000
        await bob.arrive()
        assert (await alice.hears("presence"))["online"] is True
        assert await carol.refused("presence.get", users=[bob.name]) is ErrorCode.NOT_ACCEPTED
        assert carol.notices == []

    run(story())


def test_who_comes_and_goes_all_the_time_makes_one_notice_a_second_at_most(town: Town) -> None:
    async def story() -> None:
        alice, bob = await clients(town, "alice", "bob")
        await watch(alice, bob)
        began, flaps = time.monotonic(), 0
        while time.monotonic() < began + 4 or flaps <= 10:
            bob.leave()
            await bob.arrive()
            flaps += 1
        bob.leave()
        await alice.ask("presence.get", users=[bob.name])
        await until(20, "the last state is told", lambda: _presence(alice)[-1:] == [False])
        took = time.monotonic() - began
        assert len(_presence(alice)) <= took + 1
        assert not any(a is b for a, b in zip(_presence(alice), _presence(alice)[1:], strict=False))

    run(story())


def _presence(client: Client) -> list[bool]:
    return [notice["online"] for notice in client.notices if notice["event"] == "presence"]
