"""Every operation of a request to the server, granted and refused, on one worker and across two."""

from __future__ import annotations

import json
from pathlib import Path

import msgspec
import pytest

from chatd.errors import ErrorCode
from chatd.model import Protocol
from chatd.protocol import (
    Accepted,
    Deliver,
    Failed,
    FriendRequested,
    Kicked,
    Login,
    LoginAccepted,
    Register,
    ServerMessage,
    ServerRequest,
)
from tests.core.asking import answered, ask, befriend, hears, kick, new_group, notices, refused, request, texts
from tests.core.stage import Peer, Stage, play

both = pytest.mark.parametrize("workers", [1, 2])


async def people(stage: Stage, workers: int, *names: str) -> list[Peer]:
    """On alternating workers; all have accounts."""
    made = [await stage.worker() for _ in range(workers)]
    return [await made[number % workers].mobile(name) for number, name in enumerate(names)]


def ids(entries: list[dict]) -> list[str]:
    return [entry["name"] for entry in entries]


# ---------------------------------------------------------------- what is a request, and what is none


def test_a_text_that_is_no_request_is_acknowledged_and_dropped(tmp_path: Path) -> None:
    async def story(stage: Stage) -> None:
        (alice,) = await people(stage, 1, "alice")
        for body in ("", "hello", "{", "[]", "null", "17", '{"ref":1}', '{"op":1}', '{"op":null}', '{"op":["echo"]}'):
            assert await request(alice, body, body) is None
        assert [event.command.body for event in alice.told(Accepted)][:2] == ["", "hello"]
        assert (len(alice.accepted), texts(alice)) == (10, [])

    play(tmp_path, story)


def test_an_unknown_op_is_refused(tmp_path: Path) -> None:
    async def story(stage: Stage) -> None:
        (alice,) = await people(stage, 1, "alice")
        for op in ("friend.eat", "", "Echo"):
            assert await refused(alice, op) is ErrorCode.UNKNOWN_REQUEST

    play(tmp_path, story)


@pytest.mark.parametrize("ref", [None, 0, -5, 2**53 - 1, "", "x", 'é"\\', "r" * 64])
def test_the_answer_has_the_client_s_own_reference(tmp_path: Path, ref: object) -> None:
    async def story(stage: Stage) -> None:
        (alice,) = await people(stage, 1, "alice")
        found = await answered_with_ref(alice, ref)
        assert found == {"ref": ref, "ok": True, "result": {"text": "hi"}}

    play(tmp_path, story)


async def answered_with_ref(peer: Peer, ref: object) -> dict:
    event = await request(peer, msgspec.json.encode({"op": "echo", "ref": ref, "text": "hi"}).decode())
    assert event is not None
    return msgspec.json.decode(event.body)  # type: ignore[no-any-return]


@pytest.mark.parametrize("ref", ["r" * 65, "a\0", "\n", 2**53, -(2**70), 1.5, True, [], {"a": 1}])
def test_a_reference_that_cannot_be_repeated_is_refused(tmp_path: Path, ref: object) -> None:
    async def story(stage: Stage) -> None:
        (alice,) = await people(stage, 1, "alice")
        event = await request(alice, json.dumps({"op": "echo", "ref": ref}))
        assert event is not None
        found = json.loads(event.body)
        assert (found["ref"], found["error"]["code"]) == (None, ErrorCode.BAD_FIELD)

    play(tmp_path, story)


@pytest.mark.parametrize(
    ("op", "arguments", "named"),
    [
        ("friend.request", {}, "user"), ("friend.request", {"user": ""}, "user"),
        ("friend.request", {"user": 1.5}, "user"), ("friend.accept", {"user": None}, "user"),
        ("friend.request", {"user": 0}, "user"), ("friend.request", {"user": 2**62}, "user"),
        ("friend.request", {"user": "n" * 65}, "user"), ("group.create", {}, "name"),
        ("group.create", {"name": 5}, "name"), ("group.join", {"group": "1"}, "group"),
        ("group.join", {"group": -1}, "group"), ("group.members", {"group": 1, "limit": 0}, "limit"),
        ("group.members", {"group": 1, "limit": 201}, "limit"), ("group.role", {"group": 1, "user": "b"}, "role"),
        ("group.role", {"group": 1, "user": "b", "role": "king"}, "role"), ("history", {}, "with"),
        ("history", {"with_": [5]}, "with"), ("history", {"with_": ""}, "with"),
        ("history", {"with_": "b", "after": -1}, "after"), ("history", {"with_": "b", "limit": 1001}, "limit"),
        ("sync", {"cursors": [1]}, "cursors"), ("sync", {"cursors": {"bob": -1}}, "cursors"),
        ("read", {"with_": "b"}, "seq"), ("presence.get", {"users": []}, "users"),
        ("presence.get", {"users": ["b"] * 101}, "users"), ("profile.set", {"nickname": "n" * 201}, "nickname"),
        ("profile.set", {"status": 1}, "status"), ("password.change", {"old": "x"}, "new"),
        ("session.kick", {"wire": "echo"}, "wire"), ("session.kick", {}, "wire"), ("echo", {"text": 1}, "text"),
    ],
)  # fmt: skip
def test_a_bad_field_is_named(tmp_path: Path, op: str, arguments: dict, named: str) -> None:
    async def story(stage: Stage) -> None:
        (alice,) = await people(stage, 1, "alice")
        found = await answered(alice, op, **arguments)
        assert found["error"]["code"] == ErrorCode.BAD_FIELD
        assert f"`{named}`" in found["error"]["text"] or f"$.{named}" in found["error"]["text"], found
        assert found["error"]["temporary"] is False

    play(tmp_path, story)


def test_without_qos_and_without_fp_it_is_served_all_the_same(tmp_path: Path) -> None:
    async def story(stage: Stage) -> None:
        (alice,) = await people(stage, 1, "alice")
        one, two = [await request(alice, '{"op":"echo","text":"x"}', "") for _ in range(2)]
        assert one is not None
        assert two is not None
        assert one.body == two.body
        assert one.fp != two.fp

    play(tmp_path, story)


def test_a_request_before_login_is_refused_like_everything(tmp_path: Path) -> None:
    async def story(stage: Stage) -> None:
        worker = await stage.worker()
        peer = worker.peer()
        await peer.do(ServerRequest('{"op":"echo"}', "f", True))
        assert peer.failures == [ErrorCode.NOT_LOGGED_IN]

    play(tmp_path, story)


# ---------------------------------------------------------------- friends


@both
def test_asking_accepting_and_ending_a_friendship(tmp_path: Path, workers: int) -> None:
    async def story(stage: Stage) -> None:
        alice, bob = await people(stage, workers, "alice", "bob")
        asked = await ask(alice, "friend.request", user="BOB")
        assert (asked["user"]["name"], asked["friends"]) == ("bob", False)
        assert (await hears(stage, bob, "friend.request"))["from"]["name"] == "alice"
        listed = await ask(bob, "friend.list")
        assert (listed["friends"], ids(listed["requests"])) == ([], ["alice"])
        accepted = await ask(bob, "friend.accept", user=listed["requests"][0]["id"])
        assert accepted["user"]["name"] == "alice"
        assert (await hears(stage, alice, "friend.accepted"))["from"]["name"] == "bob"
        for peer, other in ((alice, "bob"), (bob, "alice")):
            (friend,) = (await ask(peer, "friend.list"))["friends"]
            assert (friend["name"], friend["online"]) == (other, True)
        await ask(alice, "friend.remove", user="bob")
        assert (await ask(bob, "friend.list"))["friends"] == []

    play(tmp_path, story)


def test_refusing_crossing_and_taking_back(tmp_path: Path) -> None:
    async def story(stage: Stage) -> None:
        alice, bob = await people(stage, 2, "alice", "bob")
        await ask(alice, "friend.request", user="bob")
        await ask(bob, "friend.refuse", user="alice")
        assert (await hears(stage, alice, "friend.refused"))["from"]["name"] == "bob"
        assert await refused(alice, "friend.request", user="bob") is ErrorCode.NOT_ALLOWED
        stage.people(ask_again_s=0.0)
        await ask(alice, "friend.request", user="bob")
        await ask(alice, "friend.remove", user="bob")
        assert await refused(bob, "friend.accept", user="alice") is ErrorCode.NOT_ALLOWED
        await ask(alice, "friend.request", user="bob")
        assert (await ask(bob, "friend.request", user="alice"))["friends"] is True
        await hears(stage, alice, "friend.accepted")

    play(tmp_path, story)


def test_friend_requests_that_are_refused(tmp_path: Path) -> None:
    async def story(stage: Stage) -> None:
        stage.limit(friends_per_user=1)
        alice, bob, carol = await people(stage, 1, "alice", "bob", "carol")
        assert await refused(alice, "friend.request", user="nobody") is ErrorCode.UNKNOWN_RECIPIENT
        assert await refused(alice, "friend.request", user=999) is ErrorCode.UNKNOWN_RECIPIENT
        assert await refused(alice, "friend.request", user="alice") is ErrorCode.NOT_ALLOWED
        for op in ("friend.accept", "friend.refuse", "friend.remove"):
            assert await refused(alice, op, user="bob") is ErrorCode.NOT_ALLOWED
        await befriend(alice, bob)
        assert await refused(alice, "friend.request", user="bob") is ErrorCode.NOT_ALLOWED
        assert await refused(alice, "friend.request", user="carol") is ErrorCode.LIMIT_REACHED
        assert notices(carol) == []

    play(tmp_path, story)


def test_requests_that_wait_are_told_at_login_up_to_a_number(tmp_path: Path) -> None:
    async def story(stage: Stage) -> None:
        worker = await stage.worker()
        bob = await worker.mobile("bob")
        bob.leave()
        for number in range(102):
            await ask(await worker.mobile(f"user {number}"), "friend.request", user="bob")
        again = await worker.mobile("bob")
        told = [notice["from"]["name"] for notice in notices(again, "friend.request")]
        assert told == [f"user {number}" for number in range(100)]
        assert len((await ask(again, "friend.list"))["requests"]) == 102

    play(tmp_path, story)


def test_the_other_wire_has_its_own_words_for_friendship(tmp_path: Path) -> None:
    async def story(stage: Stage) -> None:
        (alice,) = await people(stage, 1, "alice")
        desk = await stage.workers[0].desk("bob")
        await ask(alice, "friend.request", user="bob")
        assert desk.told(FriendRequested)[0].request.sender.name == "alice"
        assert desk.told(ServerMessage) == []

    play(tmp_path, story)


# ---------------------------------------------------------------- groups


@both
def test_a_group_from_its_making_to_its_end(tmp_path: Path, workers: int) -> None:
    async def story(stage: Stage) -> None:
        alice, bob, carol = await people(stage, workers, "alice", "bob", "carol")
        made = (await ask(alice, "group.create", name=" team ", description="what for", join="open"))["group"]
        number = made["id"]
        assert made == {"id": number, "name": "team", "description": "what for"}
        assert (await ask(bob, "group.join", group=number))["group"] == made
        assert (await hears(stage, alice, "group.joined"))["user"]["name"] == "bob"
        await ask(carol, "group.join", group=number)
        await hears(stage, bob, "group.joined")
        assert (await ask(bob, "group.list"))["groups"] == [made]
        members = (await ask(bob, "group.members", group=number))["members"]
        assert [(m["name"], m["role"], m["online"]) for m in members] == [
            ("alice", "owner", True), ("bob", "member", True), ("carol", "member", True),
        ]  # fmt: skip
        renamed = (await ask(alice, "group.rename", group=number, name="pool"))["group"]
        assert renamed == {"id": number, "name": "pool", "description": "what for"}
        assert (await hears(stage, carol, "group.renamed"))["details"]["name"] == "pool"
        await ask(alice, "group.role", group=number, user="carol", role="admin")
        assert (await hears(stage, bob, "group.role"))["role"] == "admin"
        await ask(carol, "group.kick", group=number, user="bob")
        assert (await hears(stage, bob, "group.kicked"))["group"] == number
        assert (await hears(stage, alice, "group.kicked"))["user"]["name"] == "bob"
        assert await ask(alice, "group.leave", group=number) == {"owner": id_of(carol), "ended": False}
        assert (await hears(stage, carol, "group.left"))["owner"] == id_of(carol)
        assert await ask(carol, "group.leave", group=number) == {"owner": None, "ended": True}
        assert await refused(alice, "group.join", group=number) is ErrorCode.UNKNOWN_GROUP

    play(tmp_path, story)


def id_of(peer: Peer) -> int:
    assert peer.session is not None
    return peer.session.user.id


def test_who_may_not_do_what_in_a_group(tmp_path: Path) -> None:
    async def story(stage: Stage) -> None:
        stage.limit(group_members=2, groups_per_user=1)
        alice, bob, carol = await people(stage, 2, "alice", "bob", "carol")
        number = await new_group(alice, bob)
        for peer, op, arguments, code in [
            (carol, "group.join", {}, ErrorCode.LIMIT_REACHED),
            (carol, "group.leave", {}, ErrorCode.NOT_A_MEMBER),
            (carol, "group.members", {}, ErrorCode.NOT_A_MEMBER),
            (carol, "group.kick", {"user": "bob"}, ErrorCode.NOT_A_MEMBER),
            (carol, "group.rename", {"name": "x"}, ErrorCode.NOT_A_MEMBER),
            (carol, "group.role", {"user": "bob", "role": "admin"}, ErrorCode.NOT_A_MEMBER),
            (bob, "group.kick", {"user": "alice"}, ErrorCode.NOT_ALLOWED),
            (bob, "group.rename", {"name": "x"}, ErrorCode.NOT_ALLOWED),
            (bob, "group.role", {"user": "bob", "role": "owner"}, ErrorCode.NOT_ALLOWED),
            (alice, "group.kick", {"user": "alice"}, ErrorCode.NOT_ALLOWED),
            (alice, "group.kick", {"user": "carol"}, ErrorCode.NOT_A_MEMBER),
            (alice, "group.kick", {"user": "nobody"}, ErrorCode.UNKNOWN_RECIPIENT),
            (alice, "group.rename", {"name": "  "}, ErrorCode.BAD_FIELD),
            (alice, "group.rename", {"name": "n" * 51}, ErrorCode.BAD_FIELD),
            (alice, "group.rename", {"name": "x", "description": "d" * 201}, ErrorCode.BAD_FIELD),
        ]:
            assert await refused(peer, op, group=number, **arguments) is code, (peer.name, op)
            assert await refused(peer, op, group=number + 7, **arguments) in (code, ErrorCode.UNKNOWN_GROUP)
        assert await refused(alice, "group.create", name="second") is ErrorCode.LIMIT_REACHED
        assert await refused(carol, "group.create", name="") is ErrorCode.BAD_FIELD
        assert notices(carol) == []

    play(tmp_path, story)


def test_joining_again_changes_nothing_and_tells_nobody(tmp_path: Path) -> None:
    async def story(stage: Stage) -> None:
        alice, bob = await people(stage, 2, "alice", "bob")
        number = await new_group(alice, bob)
        await hears(stage, alice, "group.joined")
        await ask(bob, "group.join", group=number)
        await ask(bob, "group.leave", group=number)
        await hears(stage, alice, "group.left")
        assert len(notices(alice, "group.joined")) == 1

    play(tmp_path, story)


@both
@pytest.mark.parametrize("kicked", [False, True])
def test_who_is_out_gets_no_more_and_cannot_write(tmp_path: Path, workers: int, kicked: bool) -> None:
    """bob is on two wires; what was given and not acknowledged is not given again either."""

    async def story(stage: Stage) -> None:
        alice, bob, carol = await people(stage, workers, "alice", "bob", "carol")
        desk = await stage.workers[0].desk("bob")
        number = await new_group(alice, bob, carol)
        alice.send(number, "before")
        await stage.until("all have it", lambda: all(peer.bodies == ["before"] for peer in (bob, desk, carol)))
        if kicked:
            await kick(alice, number, "bob")
            await hears(stage, bob, "group.kicked")
        else:
            await ask(bob, "group.leave", group=number)
            await hears(stage, carol, "group.left")
        await stage.until("no session of bob's", lambda: not any(in_group(peer, number) for peer in (bob, desk)))
        for number_sent in range(5):
            alice.send(number, f"after {number_sent}")
        await stage.until("carol has them", lambda: len(carol.bodies) == 6)
        await stage.pass_time(600)
        await stage.settled()
        assert bob.bodies == desk.bodies == ["before"]
        for peer in (bob, desk):
            peer.send(number, "me too")
        await stage.until("both are refused", lambda: bob.failures and desk.failures)
        assert bob.failures == desk.failures == [ErrorCode.NOT_A_MEMBER]
        await ask(bob, "group.join", group=number)
        alice.send(number, "again")
        await stage.until("bob is back", lambda: bob.bodies[1:] and desk.bodies[1:])
        assert bob.bodies == desk.bodies == ["before", "again"]

    play(tmp_path, story)


def in_group(peer: Peer, number: int) -> bool:
    assert peer.session is not None
    return number in (peer.session.groups or ())


# ---------------------------------------------------------------- history, sync, read marks


@both
def test_history_of_a_talk_and_of_a_group(tmp_path: Path, workers: int) -> None:
    async def story(stage: Stage) -> None:
        stage.limit(history_page=5)
        alice, bob, carol = await people(stage, workers, "alice", "bob", "carol")
        number = await new_group(alice, bob)
        for count in range(1, 9):
            (alice, bob)[count % 2].send(("bob", "alice")[count % 2], str(count), f"f{count}")
            await stage.settled()
        alice.send(number, "to all")
        await stage.settled()
        found = await ask(bob, "history", with_="Alice")
        assert [m["seq"] for m in found["messages"]] == [1, 2, 3, 4, 5]
        first = found["messages"][0]
        assert (first["from"], first["text"], first["fp"], first["typeu"]) == ("bob", "1", "f1", -1)
        assert first["sm"] > 10**12
        older = await ask(alice, "history", with_="bob", before=6, limit=2)
        assert [m["text"] for m in older["messages"]] == ["5", "4"]
        assert [m["seq"] for m in (await ask(alice, "history", with_="bob", after=7))["messages"]] == [8]
        (one,) = (await ask(bob, "history", with_=f"#{number}"))["messages"]
        assert one["text"] == "to all"
        assert (await ask(carol, "history", with_="bob"))["messages"] == []
        assert await refused(carol, "history", with_=f"#{number}") is ErrorCode.NOT_A_MEMBER
        assert await refused(carol, "history", with_=f"#{number + 1}") is ErrorCode.UNKNOWN_GROUP
        for nothing in ("#", "#0", "#00"):
            assert await refused(carol, "history", with_=nothing) is ErrorCode.UNKNOWN_GROUP
        assert await refused(carol, "history", with_="#²") is ErrorCode.UNKNOWN_GROUP
        assert await refused(carol, "history", with_="nobody") is ErrorCode.UNKNOWN_RECIPIENT

    play(tmp_path, story)


def test_sync_gives_what_a_client_does_not_have(tmp_path: Path) -> None:
    async def story(stage: Stage) -> None:
        alice, bob, carol = await people(stage, 2, "alice", "bob", "carol")
        number = await new_group(alice, bob)
        for text in "12345":
            alice.send("bob", text)
        alice.send(number, "g1")
        carol.send("bob", "c1")
        await stage.settled()
        found = await ask(bob, "sync", cursors={"alice": 3, f"#{number}": 0, "carol": 1})
        heads = {head["with"]: (head["last"], head["read"]) for head in found["conversations"]}
        assert heads == {f"#{number}": (1, 0), "alice": (5, 0), "carol": (1, 0)}
        assert [(m["with"], m["text"]) for m in found["messages"]] == [
            (f"#{number}", "g1"),
            ("alice", "4"),
            ("alice", "5"),
        ]
        assert found["more"] is False
        pages, after = [], -(1 << 61)
        while page := (await ask(bob, "sync", after=after, limit=1))["conversations"]:
            pages += page
            after = page[-1]["id"]
        assert [head["with"] for head in pages] == [f"#{number}", "alice", "carol"]

    play(tmp_path, story)


@both
def test_read_marks_are_told_to_the_others(tmp_path: Path, workers: int) -> None:
    async def story(stage: Stage) -> None:
        alice, bob, carol = await people(stage, workers, "alice", "bob", "carol")
        number = await new_group(alice, bob, carol)
        for text in "123":
            alice.send("bob", text)
        alice.send(number, "g1")
        await stage.settled()
        assert await ask(bob, "read", with_="alice", seq=2) == {"seq": 2}
        told = await hears(stage, alice, "read")
        assert (told["with"], told["by"]["name"], told["seq"]) == ("bob", "bob", 2)
        assert await ask(bob, "read", with_="alice", seq=1) == {"seq": 2}
        assert await ask(bob, "read", with_="alice", seq=99) == {"seq": 3}
        await ask(bob, "read", with_=f"#{number}", seq=1)
        told = await hears(stage, carol, "read")
        assert (told["with"], told["by"]["name"], told["seq"]) == (f"#{number}", "bob", 1)
        assert notices(bob, "read") == []
        heads = (await ask(bob, "sync", cursors={}))["conversations"]
        assert {head["with"]: head["read"] for head in heads} == {"alice": 3, f"#{number}": 1}
        assert await refused(bob, "read", with_="carol", seq=1) is ErrorCode.BAD_FIELD
        assert await refused(bob, "read", with_="nobody", seq=1) is ErrorCode.UNKNOWN_RECIPIENT
        assert await refused(bob, "read", with_=f"#{number + 1}", seq=1) is ErrorCode.UNKNOWN_GROUP

    play(tmp_path, story)


# ---------------------------------------------------------------- about oneself


def test_profiles(tmp_path: Path) -> None:
    async def story(stage: Stage) -> None:
        alice, bob = await people(stage, 2, "alice", "bob")
        assert await refused(bob, "profile.get", user="alice") is ErrorCode.NOT_ACCEPTED
        await befriend(alice, bob)
        assert (await ask(bob, "profile.get", user="alice"))["profile"] == {}
        await ask(alice, "profile.set", nickname="Al", status="here", colour="ignored")
        assert await ask(alice, "profile.set", status="", about="me") == {"profile": {"nickname": "Al", "about": "me"}}
        for found in (await ask(bob, "profile.get", user="alice"), await ask(alice, "profile.get")):
            assert (found["user"]["name"], found["profile"]) == ("alice", {"nickname": "Al", "about": "me"})
        assert await refused(bob, "profile.get", user="nobody") is ErrorCode.UNKNOWN_RECIPIENT

    play(tmp_path, story)


def test_who_am_i_and_echo(tmp_path: Path) -> None:
    async def story(stage: Stage) -> None:
        (alice,) = await people(stage, 1, "alice")
        found = await ask(alice, "whoami")
        assert (found["name"], found["id"], found["wire"]) == ("alice", id_of(alice), "mobileimsdk")
        assert await ask(alice, "echo", text='\0"é') == {"text": '\0"é'}
        assert await ask(alice, "echo") == {"text": ""}

    play(tmp_path, story)


def test_changing_the_password(tmp_path: Path) -> None:
    async def story(stage: Stage) -> None:
        stage.account(login="password", min_password_chars=4)
        one, two = await stage.worker(), await stage.worker()
        await one.peer().do(Register("alice", "first"))
        alice = one.peer()
        alice.name = "alice"
        await alice.do(Login("alice", 0, "first"))
        assert await refused(alice, "password.change", old="wrong", new="second") is ErrorCode.BAD_CREDENTIALS
        assert await refused(alice, "password.change", old="first", new="2nd") is ErrorCode.PASSWORD_NOT_ALLOWED
        for _ in range(2):  # sent again, it is answered again, though "first" is the password no more
            assert await ask(alice, "password.change", "change", old="first", new="second") == {}
        for secret, good in (("first", False), ("second", True)):
            peer = two.peer()
            await peer.do(Login("alice", 0, secret))
            assert bool(peer.told(LoginAccepted)) is good
            assert bool(peer.told(Failed)) is not good

    play(tmp_path, story)


@pytest.mark.parametrize("apart", [False, True])
def test_one_s_own_sessions(tmp_path: Path, apart: bool) -> None:
    async def story(stage: Stage) -> None:
        one, two = await stage.worker(), await stage.worker()
        mobile = await one.mobile("bob")
        await one.mobile("alice")
        found = await ask(mobile, "session.list")
        assert [entry["wire"] for entry in found["sessions"]] == ["mobileimsdk"]
        desk = await (two if apart else one).desk("bob")
        found = await ask(mobile, "session.list")
        assert [(entry["wire"], entry["this"]) for entry in found["sessions"]] == [
            ("mobileimsdk", True), ("chatserver", False),
        ]  # fmt: skip
        assert found["complete"] is True
        assert await refused(mobile, "session.kick", wire="mobileimsdk") is ErrorCode.NOT_ALLOWED
        await ask(mobile, "session.kick", wire="chatserver")
        await stage.until("the desk is out", lambda: desk.closed)
        assert [event.by_admin for event in desk.told(Kicked)] == [False]
        assert mobile.logged_in
        await stage.settled()
        assert (await desk_again(stage, apart)).logged_in

    play(tmp_path, story)


async def desk_again(stage: Stage, apart: bool) -> Peer:
    return await stage.workers[apart].desk("bob")


def test_a_session_list_that_another_worker_does_not_answer_says_so(tmp_path: Path) -> None:
    async def story(stage: Stage) -> None:
        one, two = await stage.worker(), await stage.worker()
        mobile, _ = await one.mobile("bob"), await two.desk("bob")
        stage.exchange.hold(one.slot, two.slot)
        found = await ask(mobile, "session.list")
        assert (len(found["sessions"]), found["complete"]) == (1, False)
        stage.exchange.let_go()
        found = await ask(mobile, "session.list")
        assert (len(found["sessions"]), found["complete"]) == (2, True)

    play(tmp_path, story)


def test_the_other_wire_joins_and_creates_by_the_same_rules(tmp_path: Path) -> None:
    async def story(stage: Stage) -> None:
        (alice,) = await people(stage, 2, "alice")
        desk = await stage.workers[1].peer(Protocol.CHATSERVER).login("bob")
        number = await new_group(alice)
        await desk.join(number)
        assert (await hears(stage, alice, "group.joined"))["user"]["name"] == "bob"
        alice.send(number, "welcome")
        await stage.until("bob has it", lambda: desk.bodies == ["welcome"])
        assert not desk.told(ServerMessage)
        assert len(desk.told(Deliver)) == 1

    play(tmp_path, story)
