"""Messages that change: who is told, and that no earlier version is given afterwards.

Two workers over one store; what the store allows is in tests/store/contract_revisions.py."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest

from chatd.core import bus_messages
from chatd.core.bus_messages import MessageChanged, MessageStored
from chatd.core.recent_changes import KEPT_S, MAX_KEPT, RecentChanges
from chatd.errors import ErrorCode
from chatd.hooks import OutgoingMessage, Rewrite, Veto
from chatd.model import Message, MessageState
from chatd.protocol import Changed, SendMessage, ServerMessage, ServerRequest
from chatd.store.contract import Tables
from tests.core.plugins.test_pipeline import it
from tests.core.stage import Peer, Stage, play


async def ask(peer: Peer, op: str, place: str, fp: str = "", **arguments: Any) -> dict[str, Any]:
    """The answer to a request."""
    ref = len(peer.events)
    await peer.do(ServerRequest(json.dumps({"op": op, "ref": ref, "with": place, **arguments}), fp))
    (answer,) = [one for one in texts(peer) if one.get("ref") == ref]
    return answer


def texts(peer: Peer) -> list[dict[str, Any]]:
    """Each once, as clients see them who drop what they have."""
    return [json.loads(body) for body in {event.fp: event.body for event in peer.told(ServerMessage)}.values()]


def notices(peer: Peer) -> list[dict[str, Any]]:
    return [one for one in texts(peer) if one.get("event") == "message.changed"]


async def pair(stage: Stage) -> tuple[Peer, Peer]:
    """Alice and bob, on two workers."""
    return await (await stage.worker()).mobile("alice"), await (await stage.worker()).mobile("bob")


def losing(kind: type) -> Callable[[int, int, bytes], bool]:
    """Messages of this kind do not arrive."""
    return lambda source, target, data: isinstance(bus_messages.decode(data), kind)


# ---------------------------------------------------------------- telling


def test_everybody_s_sessions_are_told_but_the_one_that_made_the_change(tmp_path: Path) -> None:
    async def story(stage: Stage) -> None:
        alice, bob = await pair(stage)
        alice_desk, bob_desk = await stage.workers[1].desk("alice"), await stage.workers[0].desk("bob")
        alice.send("bob", "hallo", "f")
        await stage.until("bob has it", lambda: bob.bodies == bob_desk.bodies == ["hallo"])
        answer = await ask(alice, "message.edit", "bob", seq=1, text="hello")
        assert answer["result"] == {"seq": 1, "version": 1, "state": "edited", "change": 1}
        await stage.until("both are told", lambda: notices(bob) and bob_desk.told(Changed))
        by = {"id": alice.session.user.id, "name": "alice"} if alice.session else None
        about = {"seq": 1, "version": 1, "state": "edited", "text": "hello", "by": by, "change": 1}
        assert notices(bob) == [{"event": "message.changed", "with": "alice", **about}]
        assert [(event.message.body, event.by.name) for event in bob_desk.told(Changed)] == [("hello", "alice")]
        assert (notices(alice), alice_desk.told(Changed)) == ([], [])
        other = await ask(bob, "message.edit", "alice", seq=1, text="mine")
        assert other["error"]["code"] == ErrorCode.NOT_ALLOWED

    play(tmp_path, story)


def test_the_user_s_own_session_elsewhere_is_told_with_the_other_s_name(tmp_path: Path) -> None:
    async def story(stage: Stage) -> None:
        alice, bob = await pair(stage)
        desk = await stage.workers[1].desk("alice")
        desk.send("bob", "hallo", "f")
        await stage.until("bob has it", lambda: bob.bodies)
        assert (await ask(alice, "message.recall", "bob", seq=1))["ok"]
        assert desk.told(Changed) == []
        (told,) = await stage.until("bob is told", lambda: notices(bob))
        assert (told["with"], told["state"], "text" in told) == ("alice", "recalled", False)

    play(tmp_path, story)


def test_members_are_told_unless_they_may_not_read_it_or_have_left(tmp_path: Path) -> None:
    async def story(stage: Stage) -> None:
        alice, bob = await pair(stage)
        carol, dora = [await stage.workers[1].mobile(name) for name in ("carol", "dora")]
        group = await alice.make_group()
        for peer in (bob, carol):
            await peer.join(group)
        bob.send(group, "rude", "f")
        await stage.until("carol has it", lambda: carol.bodies == ["rude"])
        await dora.join(group)  # who joins later does not read it
        await carol.do(ServerRequest(json.dumps({"op": "group.leave", "group": group})))
        assert (await ask(carol, "message.remove", f"#{group}", seq=1))["error"]["code"] == ErrorCode.NOT_A_MEMBER
        gone = await ask(dora, "message.remove", f"#{group}", seq=1)
        assert gone["error"]["code"] == ErrorCode.UNKNOWN_MESSAGE
        assert (await ask(alice, "message.remove", f"#{group}", seq=1))["ok"]
        (told,) = await stage.until("bob is told", lambda: notices(bob))
        assert (told["with"], told["by"]["name"], told["state"]) == (f"#{group}", "alice", "removed")
        await stage.settled()
        assert (notices(carol), notices(dora), notices(alice)) == ([], [], [])

    play(tmp_path, story)


def test_who_joins_after_the_change_is_not_told_of_it(tmp_path: Path) -> None:
    """The notification of the change is late."""

    async def story(stage: Stage) -> None:
        alice, bob = await pair(stage)
        group = await alice.make_group()
        alice.send(group, "old", "f")
        await stage.settled()
        await ask(alice, "message.edit", f"#{group}", seq=1, text="new")
        change = await stage.workers[0].core.store.read(lambda tables: changed(tables, group))
        await bob.join(group)
        stage.workers[1].core.changes.arrived(change)
        await stage.settled()
        assert notices(bob) == []

    def changed(tables: Tables, group: int) -> MessageChanged:
        (message,) = tables.history.at(-group, (1,))
        version, _ = tables.groups.members_among(group, ())
        return MessageChanged(message, tables.groups.members(group, 0, 1)[0][0], 1, 1, version)

    play(tmp_path, story)


# ---------------------------------------------------------------- no earlier version afterwards


@pytest.mark.parametrize("op", ["message.edit", "message.recall"])
def test_a_message_in_flight_is_sent_again_as_it_is_now_under_its_fp(tmp_path: Path, op: str) -> None:
    async def story(stage: Stage) -> None:
        alice, bob = await pair(stage)
        alice.send("bob", "secret", "f")
        await stage.until("bob has it", lambda: bob.bodies)
        bob.read_all()
        await ask(alice, op, "bob", seq=1, **({"text": "new"} if op == "message.edit" else {}))
        await stage.until("bob is told", lambda: notices(bob))
        await stage.pass_time(30)
        again = bob.given[1:]
        assert [event.fp for event in again] == ["f"]
        assert [event.message.body for event in again] == ["new" if op == "message.edit" else ""]
        bob.acknowledge("f")
        bob.leave()
        await stage.settled()
        assert (await stage.workers[1].mobile("bob")).messages == []

    play(tmp_path, story)


@pytest.mark.parametrize("wire", ["mobile", "desk"])
def test_what_is_still_queued_is_replaced(tmp_path: Path, wire: str) -> None:
    async def story(stage: Stage) -> None:
        alice, _ = await pair(stage)
        carol = await getattr(stage.workers[1], wire)("carol")
        carol.read_all()
        for body in ("one", "two", "three"):
            alice.send("carol", body, body)
        await stage.until("they are queued", lambda: len(carol.given) == 3)
        await ask(alice, "message.recall", "carol", seq=2)
        assert carol.bodies == ["one", "", "three"]

    play(tmp_path, story)


def test_a_late_notification_of_the_message_does_not_bring_its_text_back(tmp_path: Path) -> None:
    async def story(stage: Stage) -> None:
        alice, bob = await pair(stage)
        alice.send("bob", "first", "1")
        await stage.until("bob has it", lambda: bob.bodies)
        late: list[bytes] = []

        def keep(source: int, target: int, data: bytes) -> bool:
            is_message = isinstance(bus_messages.decode(data), MessageStored)
            if is_message:
                late.append(data)
            return is_message

        stage.exchange.lost = keep
        alice.send("bob", "secret", "2")
        await stage.until("it is stored", lambda: len(late) == 1)
        assert (await ask(alice, "message.recall", "bob", seq=2))["ok"]
        stage.workers[1].core.on_bus_message(0, late[0])
        await stage.settled()
        assert bob.bodies == ["first", ""]
        assert notices(bob) == []

    play(tmp_path, story)


def test_a_late_change_does_not_undo_a_later_one(tmp_path: Path) -> None:
    async def story(stage: Stage) -> None:
        alice, bob = await pair(stage)
        alice.send("bob", "a", "f")
        await stage.until("bob has it", lambda: bob.bodies)
        late: list[bytes] = []
        stage.exchange.lost = lambda source, target, data: bool(
            isinstance(bus_messages.decode(data), MessageChanged) and not late and (late.append(data) or True)
        )
        bob.read_all()
        await ask(alice, "message.edit", "bob", seq=1, text="b")
        await ask(alice, "message.edit", "bob", seq=1, text="c")
        await stage.until("bob is told", lambda: notices(bob))
        stage.workers[1].core.on_bus_message(0, late[0])
        await stage.pass_time(30)
        assert [one["text"] for one in notices(bob)] == ["c"]
        assert bob.bodies == ["a", "c"]

    play(tmp_path, story)


def test_a_login_that_has_read_the_store_before_the_change_gives_it_as_it_is(tmp_path: Path) -> None:
    async def story(stage: Stage) -> None:
        alice, _ = await pair(stage)
        (await stage.workers[1].desk("carol")).leave()
        alice.send("carol", "secret", "f")
        await stage.settled()
        old = await stage.workers[0].core.store.read(lambda tables: tables.history.waiting(3, 10).messages)
        assert [message.body for message in old] == ["secret"]
        recent = stage.workers[1].core.delivery.recent
        assert (await ask(alice, "message.recall", "carol", seq=1))["ok"]
        recalled = msgspec.structs.replace(old[0], body="", state=MessageState.RECALLED, version=1)
        recent.note(recalled)
        assert recent.all_latest(old) == [recalled]
        carol = stage.workers[1].peer(alice.protocol.CHATSERVER)
        carol.login_room = 5
        await carol.login("carol")
        assert carol.bodies == [""]

    play(tmp_path, story)


def test_a_recall_is_acknowledged_when_every_worker_has_applied_it(tmp_path: Path) -> None:
    async def story(stage: Stage) -> None:
        alice, bob = await pair(stage)
        alice.send("bob", "secret", "f")
        await stage.until("bob has it", lambda: bob.bodies)
        stage.exchange.hold(0, 1)
        before = len(texts(alice))
        recall = stage.workers[0].core.handle(alice, ServerRequest('{"op":"message.recall","with":"bob","seq":1}', "r"))
        assert recall is not None
        task = asyncio.ensure_future(recall)
        await stage.settled()
        assert (len(texts(alice)), notices(bob)) == (before, [])
        stage.exchange.let_go()
        await task
        assert (len(texts(alice)), len(notices(bob))) == (before + 1, 1)

    play(tmp_path, story)


def test_a_worker_that_does_not_answer_delays_a_recall_for_a_moment_only(tmp_path: Path) -> None:
    async def story(stage: Stage) -> None:
        alice, bob = await pair(stage)
        alice.send("bob", "secret", "f")
        await stage.until("bob has it", lambda: bob.bodies)
        stage.exchange.lost = losing(MessageChanged)
        assert (await ask(alice, "message.recall", "bob", seq=1))["ok"]
        assert notices(bob) == []

    play(tmp_path, story)


def test_after_a_gap_what_is_in_flight_is_read_again(tmp_path: Path) -> None:
    async def story(stage: Stage) -> None:
        alice, bob = await pair(stage)
        alice.send("bob", "a", "f")
        await stage.until("bob has it", lambda: bob.bodies)
        bob.read_all()
        stage.exchange.lost = losing(MessageChanged)
        await ask(alice, "message.edit", "bob", seq=1, text="b")
        stage.exchange.gap(1)
        await stage.until("the store is read", lambda: stage.workers[1].core.delivery.catch_up is not None)
        await stage.settled()
        await stage.until("it is in flight as it is now", lambda: in_flight(bob) == ["b"])
        await stage.pass_time(30)
        assert bob.bodies == ["a", "b"]

    def in_flight(peer: Peer) -> list[str]:
        assert peer.session is not None
        return [one.event.message.body for one in (peer.session.in_flight or {}).values() if one.cursor]  # type: ignore[union-attr]

    play(tmp_path, story)


# ---------------------------------------------------------------- repetitions and limits


def test_a_repeated_edit_changes_nothing_and_a_repeated_message_undoes_nothing(tmp_path: Path) -> None:
    async def story(stage: Stage) -> None:
        alice, bob = await pair(stage)
        alice.send("bob", "a", "f")
        await stage.until("bob has it", lambda: bob.bodies)
        first = ServerRequest('{"op":"message.edit","with":"bob","seq":1,"text":"b"}', "e1")
        await alice.do(first)
        await alice.do(ServerRequest('{"op":"message.edit","with":"bob","seq":1,"text":"c"}', "e2"))
        await alice.do(first)
        alice.send("bob", "a", "f")
        await stage.until("it is acknowledged again", lambda: [seq for seq in alice.accepted if seq] == [1, 1])
        await stage.settled()
        past = await ask(bob, "history", "alice")
        assert [(one["text"], one["version"]) for one in past["result"]["messages"]] == [("c", 2)]
        assert [one["text"] for one in notices(bob)] == ["b", "c"]
        alice.send("bob", "c", "f")
        await stage.until("that is another message", lambda: alice.failures == [ErrorCode.FP_REUSED])

    play(tmp_path, story)


def test_a_text_over_the_limit_is_refused(tmp_path: Path) -> None:
    async def story(stage: Stage) -> None:
        stage.limit(body_bytes=10)
        alice, bob = await pair(stage)
        alice.send("bob", "a", "f")
        await stage.settled()
        for text, ok in (("ääääää", False), ("x" * 11, False), ("äääää", True)):
            answer = await ask(alice, "message.edit", "bob", seq=1, text=text)
            assert answer["ok"] is ok, answer
        assert (await ask(alice, "message.edit", "nobody", seq=1, text=""))["error"]["code"] == 1032
        assert (await ask(alice, "message.edit", "bob", seq=2, text=""))["error"]["code"] == 1057
        assert bob.logged_in

    play(tmp_path, story)


def test_who_is_blocked_recalls_but_does_not_edit(tmp_path: Path) -> None:
    async def story(stage: Stage) -> None:
        alice, bob = await pair(stage)
        alice.send("bob", "a", "f")
        await stage.until("bob has it", lambda: bob.bodies)
        await stage.workers[0].core.store.write(lambda tables: tables.consent.block(2, 1, 10, 1))
        answer = await ask(alice, "message.edit", "bob", seq=1, text="abuse")
        assert answer["error"]["code"] == ErrorCode.NOT_ACCEPTED
        assert (await ask(alice, "message.recall", "bob", seq=1))["ok"]

    play(tmp_path, story)


class Censor:
    """Refuses one word in messages, and rewrites another."""

    def before_message(self, message: OutgoingMessage) -> Veto | Rewrite | None:
        if "bad" in message.body:
            return Veto("no", 2000)
        return Rewrite(body=message.body.replace("damn", "d**n"))


def test_filters_of_messages_are_asked_about_edits(tmp_path: Path) -> None:
    """What may not be sent does not come in by editing."""

    async def story(stage: Stage) -> None:
        worker = await stage.worker(plugins=[(it(), Censor())])
        alice, bob = await worker.mobile("alice"), await worker.mobile("bob")
        await alice.do(SendMessage("bob", 0, 0, "fine", "f", True))
        await stage.until("bob has it", lambda: bob.bodies)
        assert (await ask(alice, "message.edit", "bob", seq=1, text="a bad word"))["error"]["code"] == 2000
        assert (await ask(alice, "message.edit", "bob", seq=1, text="damn"))["ok"]
        assert [one["text"] for one in notices(bob)] == ["d**n"]

    play(tmp_path, story)


# ---------------------------------------------------------------- sync


def test_sync_tells_what_was_changed_meanwhile(tmp_path: Path) -> None:
    async def story(stage: Stage) -> None:
        alice, bob = await pair(stage)
        for number in range(4):
            alice.send("bob", str(number), f"f{number}")
        await stage.until("bob has them", lambda: len(bob.given) == 4)
        for number in range(4):
            bob.acknowledge(f"f{number}")
        bob.leave()
        await ask(alice, "message.edit", "bob", seq=2, text="x")
        await ask(alice, "message.recall", "bob", seq=4)
        await ask(alice, "message.edit", "bob", seq=2, text="y")
        bob = await stage.workers[1].mobile("bob")
        plain = (await ask(bob, "sync", "", cursors={"alice": 4}))["result"]
        assert "changes" not in plain
        assert "changes" not in plain["conversations"][0]

        async def sync(known: int, **more: Any) -> list[tuple[int, int, str, str]]:
            answer = (await ask(bob, "sync", "", cursors={"alice": 4}, changes={"alice": known}, **more))["result"]
            assert answer["conversations"][0]["changes"] == 3
            return [(one["change"], one["seq"], one["state"], one["text"]) for one in answer["changes"]]

        assert await sync(0) == [(2, 4, "recalled", ""), (3, 2, "edited", "y")]
        assert await sync(2) == [(3, 2, "edited", "y")]
        assert await sync(3) == []
        assert await sync(0, limit=1) == [(1, 2, "edited", "y")]
        await ask(bob, "history.delete", "alice", seqs=[2])
        answer = (await ask(bob, "sync", "", changes={"alice": 2}))["result"]
        assert answer["changes"] == [{"with": "alice", "change": 3}]

    play(tmp_path, story)


# ---------------------------------------------------------------- one's own history


def test_deleted_from_one_s_own_history(tmp_path: Path) -> None:
    async def story(stage: Stage) -> None:
        alice, bob = await pair(stage)
        desk = await stage.workers[0].desk("bob")
        for number in range(1, 7):
            alice.send("bob", str(number), f"f{number}")
        await stage.until("bob has them", lambda: len(bob.given) == len(desk.given) == 6)
        bob.read_all()
        answer = await ask(bob, "history.delete", "alice", seqs=[4, 4, 99], up_to=2)
        assert answer["result"] == {"up_to": 2}

        async def past(peer: Peer, other: str, **page: int) -> list[int]:
            return [one["seq"] for one in (await ask(peer, "history", other, **page))["result"]["messages"]]

        assert await past(bob, "alice") == [3, 5, 6]
        assert await past(bob, "alice", limit=2) == [3, 5]
        assert await past(bob, "alice", before=6, limit=2) == [5, 3]
        assert await past(bob, "alice", before=4) == [3]
        assert await past(alice, "bob") == [1, 2, 3, 4, 5, 6]
        await stage.pass_time(30)
        assert bob.bodies[6:] == ["3", "5", "6"]  # what is deleted is not sent again
        bob.leave()
        desk.leave()
        await stage.settled()
        again = await stage.workers[1].mobile("bob")
        assert again.bodies == ["3", "5", "6"]
        alice.send("bob", "7", "f7")
        await stage.until("it goes on", lambda: again.bodies == ["3", "5", "6", "7"])

    play(tmp_path, story)


# ---------------------------------------------------------------- the memory of changes


def a_message(seq: int, version: int) -> Message:
    return Message(
        conversation=1, seq=seq, sender_id=1, sender_name="alice", to_id=2, to_name="bob", group_id=0,
        body=str(version), fp="", qos=False, typeu=-1, sent_at_ms=0, version=version,
    )  # fmt: skip


def test_what_was_read_counts_until_it_is_forgotten() -> None:
    now = 0.0
    recent = RecentChanges(lambda: now)
    for version in (0, 2, 1):
        recent.read(a_message(1, version))
    assert recent.note(a_message(1, 1)), "an earlier change is still one that is not known"
    assert recent.latest(a_message(1, 0)).version == 2
    assert recent.latest(a_message(1, 3)).version == 3
    assert [recent.note(a_message(1, version)) for version in (2, 2, 3)] == [True, False, True]
    assert recent.latest(a_message(1, 0)).version == 3
    now = KEPT_S + 1
    recent.sweep()
    assert recent.latest(a_message(1, 0)).version == 0
    for seq in range(MAX_KEPT + 1):
        recent.read(a_message(seq, 1))
    assert [recent.latest(a_message(seq, 0)).version for seq in (0, 1, MAX_KEPT)] == [0, 1, 1]


def test_the_newest_version_counts_until_it_is_forgotten() -> None:
    now = 0.0
    recent = RecentChanges(lambda: now)
    assert [recent.note(a_message(1, version)) for version in (2, 1, 2, 3)] == [True, False, False, True]
    assert recent.latest(a_message(1, 0)).version == 3
    assert recent.latest(a_message(1, 4)).version == 4
    assert recent.latest(a_message(2, 0)).version == 0
    now = KEPT_S / 2
    recent.note(a_message(2, 1))
    now = KEPT_S + 1
    recent.sweep()
    assert [recent.latest(a_message(seq, 0)).version for seq in (1, 2)] == [0, 1]
    for seq in range(10, 10 + MAX_KEPT):
        recent.note(a_message(seq, 1))
    assert len(recent.known) == MAX_KEPT
    assert recent.latest(a_message(2, 0)).version == 0
