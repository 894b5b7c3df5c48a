"""A request is served once, its answer and every notice come until acknowledged, and all of it fits (P2)."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from chatd.core.requests.notices import answer
from chatd.core.requests.truncate import fitted, size_of, squeezed
from chatd.errors import ErrorCode, Unavailable
from chatd.protocol import Accepted, Acknowledge, ServerMessage, ServerRequest
from chatd.store.contract import Tables
from tests.core.asking import answered, ask, befriend, body_of, hears, kick, new_group, notices, request, texts
from tests.core.stage import Peer, Stage, Worker, play

NEW = '{"op":"group.create","ref":1,"name":"team"}'


async def groups_of(peer: Peer) -> list[dict[str, Any]]:
    return (await ask(peer, "group.list"))["groups"]  # type: ignore[no-any-return]


# ---------------------------------------------------------------- one effect, one answer


def test_sent_again_it_has_one_effect_and_the_same_answer(tmp_path: Path) -> None:
    async def story(stage: Stage) -> None:
        one, two = await stage.worker(), await stage.worker()
        alice = await one.mobile("alice")
        first = await request(alice, NEW, "same")
        again = await request(alice, NEW, "same")
        alice = await two.mobile("alice")  # on another worker, as if the first answer had been lost
        elsewhere = await request(alice, NEW, "same")
        assert first is not None
        assert first == again == elsewhere
        assert first.fp == "re:same"
        assert [event.command.fp for event in alice.told(Accepted)] == ["same"]
        assert len(await groups_of(alice)) == 1
        other = await request(alice, NEW, "other")
        assert other is not None
        assert other.body != first.body
        assert len(await groups_of(alice)) == 2

    play(tmp_path, story)


def test_sent_on_two_workers_at_the_same_moment(tmp_path: Path) -> None:
    async def story(stage: Stage) -> None:
        one, two = await stage.worker(), await stage.worker()
        alice = await one.mobile("alice")
        later = two.peer()
        for number in range(10):
            again = two.peer()
            later, before = again, alice
            running = asyncio.ensure_future(before.do(ServerRequest(NEW, f"f{number}", True)))
            await later.login("alice")
            await later.do(ServerRequest(NEW, f"f{number}", True))
            await running
            assert len(await groups_of(later)) == number + 1
            alice = later
            one, two = two, one

    play(tmp_path, story)


def test_a_refusal_is_the_answer_for_ever(tmp_path: Path) -> None:
    """Else a client that has heard it, and whose packet comes again, would be told no and have it done."""

    async def story(stage: Stage) -> None:
        worker = await stage.worker()
        alice, bob = await worker.mobile("alice"), await worker.mobile("bob")
        accept = '{"op":"friend.accept","user":"alice"}'
        first = await request(bob, accept, "f")
        await ask(alice, "friend.request", user="bob")
        assert await request(bob, accept, "f") == first
        assert (await ask(bob, "friend.list"))["friends"] == []
        await request(bob, accept, "g")
        assert len((await ask(bob, "friend.list"))["friends"]) == 1

    play(tmp_path, story)


def test_another_request_under_a_used_fp_is_refused_and_changes_nothing(tmp_path: Path) -> None:
    """Neither served nor answered with the first one's answer, on whatever worker; and the refusal has an fp of its
    own, so that the client does not take it for a copy of the first answer."""
    others = [NEW.replace("team", "other"), NEW.replace("1", "2"), '{"op":"group.join","ref":1,"group":1}', NEW + " "]

    async def story(stage: Stage) -> None:
        one, two = await stage.worker(), await stage.worker()
        first = None
        for worker in (one, two, one):
            alice = await worker.mobile("alice")
            for body in (NEW, *others, NEW):
                found = await request(alice, body, "same")
                assert found is not None
                if body == NEW:
                    first = first or found
                    assert found == first
                    continue
                told = msgspec.json.decode(found.body)
                assert told["ok"] is False
                assert (told["error"]["code"], told["error"]["temporary"]) == (ErrorCode.FP_REUSED, False)
                assert found.fp != "re:same"
            assert [group["name"] for group in await groups_of(alice)] == ["team"]

    play(tmp_path, story)


def test_of_two_requests_with_one_fp_at_the_same_moment_one_is_served(tmp_path: Path) -> None:
    """On one worker and on two, between the look at the request log and the transaction."""

    async def story(stage: Stage) -> None:
        one, two = await stage.worker(), await stage.worker()
        mobile, desk = await one.mobile("alice"), await two.desk("alice")
        for number in range(10):
            fp = f"f{number}"
            bodies = [NEW.replace("team", f"{name} {number}") for name in ("one", "two")]
            running = [
                asyncio.ensure_future(worker.core.requests.serve(peer.session, ServerRequest(body, fp, True)))
                for worker, peer, body in ((one, mobile, bodies[0]), (two, desk, bodies[1]))
                if peer.session is not None
            ]
            assert len(await asyncio.gather(*running)) == 2
        names = [group["name"] for group in await groups_of(mobile)]
        assert sorted(name[-1] for name in names) == [str(number) for number in range(10)]

    play(tmp_path, story)


def test_others_hear_once_of_what_was_asked_twice(tmp_path: Path) -> None:
    async def story(stage: Stage) -> None:
        one, two = await stage.worker(), await stage.worker()
        alice, bob = await one.mobile("alice"), await two.mobile("bob")
        for _ in range(3):
            await request(alice, '{"op":"friend.request","user":"bob"}', "f")
        await ask(alice, "friend.request", user="bob")  # under another fp, while the first is open
        await ask(alice, "friend.remove", user="bob")
        await ask(alice, "friend.request", user="bob")
        stage.people(ask_again_s=0.0)
        await ask(alice, "friend.remove", user="bob")
        await ask(alice, "friend.request", user="bob")
        await hears(stage, bob, "friend.request", 2)
        await stage.settled()
        assert len(notices(bob, "friend.request")) == 2

    play(tmp_path, story)


class Failing:
    """Tables whose commits fail while `broken`."""

    def __init__(self, tables: Tables, broken: list[bool]) -> None:
        self._tables = tables
        self._broken = broken

    def commit(self) -> None:
        if self._broken:
            self._tables.rollback()
            raise Unavailable("broken for this test")
        self._tables.commit()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._tables, name)


def test_a_store_that_fails_is_told_and_the_next_answer_is_another(tmp_path: Path) -> None:
    """The client must not take the second answer for a repeat of the first: it has an fp of its own."""

    async def story(stage: Stage) -> None:
        broken: list[bool] = []
        worker: Worker = await stage.worker(lambda tables: Failing(tables, broken))  # type: ignore[arg-type,return-value]
        alice = await worker.mobile("alice")
        broken.append(True)
        failed = await request(alice, NEW, "f")
        assert failed is not None
        error = msgspec.json.decode(failed.body)["error"]
        assert (error["code"], error["temporary"]) == (ErrorCode.UNAVAILABLE, True)
        broken.clear()
        done = await request(alice, NEW, "f")
        assert done is not None
        assert msgspec.json.decode(done.body)["ok"] is True
        assert done.fp != failed.fp
        assert len(await groups_of(alice)) == 1

    play(tmp_path, story)


def test_a_bug_in_an_operation_is_told_and_the_session_lives(tmp_path: Path) -> None:
    async def story(stage: Stage) -> None:
        worker = await stage.worker()
        alice = await worker.mobile("alice")
        worker.tables.groups.ids_of = None  # type: ignore[assignment,method-assign]
        worker.core.hub.online = None  # type: ignore[assignment,method-assign]
        found = await answered(alice, "presence.get", users=["alice"])
        assert found["error"]["code"] == ErrorCode.INTERNAL
        assert await ask(alice, "echo") == {"text": ""}

    play(tmp_path, story)


# ---------------------------------------------------------------- until acknowledged


def test_answers_and_notices_are_given_again_until_acknowledged(tmp_path: Path) -> None:
    async def story(stage: Stage) -> None:
        worker = await stage.worker()
        alice, bob = await worker.mobile("alice"), await worker.mobile("bob")
        await bob.do(ServerRequest('{"op":"echo","ref":7}', "f", True))
        await ask(alice, "friend.request", user="bob")
        answer, notice = bob.told(ServerMessage)
        assert (answer.fp, notice.fp[:3]) != (notice.fp, "re:")
        copies = []
        for seconds in (4, 2, 9, 2, 30):
            await stage.pass_time(seconds)
            copies.append((bob.told(ServerMessage).count(answer), bob.told(ServerMessage).count(notice)))
        assert copies == [(1, 1), (2, 2), (2, 2), (3, 3), (4, 4)]
        await bob.do(Acknowledge(answer.fp))
        await stage.pass_time(100)
        assert (bob.told(ServerMessage).count(answer), bob.told(ServerMessage).count(notice)) == (4, 5)
        await bob.do(Acknowledge(notice.fp))
        await stage.pass_time(1000)
        assert len(bob.told(ServerMessage)) == 9

    play(tmp_path, story)


def test_an_acknowledgement_of_another_session_s_notice_counts_for_nothing(tmp_path: Path) -> None:
    async def story(stage: Stage) -> None:
        worker = await stage.worker()
        alice, bob = await worker.mobile("alice"), await worker.mobile("bob")
        await ask(alice, "friend.request", user="bob")
        (notice,) = bob.told(ServerMessage)
        await alice.do(Acknowledge(notice.fp))
        await stage.pass_time(10)
        assert bob.told(ServerMessage) == [notice, notice]

    play(tmp_path, story)


def test_who_acknowledges_nothing_holds_a_bounded_number_of_texts(tmp_path: Path) -> None:
    async def story(stage: Stage) -> None:
        stage.limit(in_flight=8)
        worker = await stage.worker()
        alice = await worker.mobile("alice")
        for number in range(40):
            await alice.do(ServerRequest('{"op":"echo"}', f"f{number}", True))
        assert alice.session is not None
        assert len(alice.session.in_flight or ()) == 16
        assert len(texts(alice)) == 40

    play(tmp_path, story)


# ---------------------------------------------------------------- memberships that another worker changed


def test_a_worker_that_missed_the_notification_reads_the_memberships_again(tmp_path: Path) -> None:
    async def story(stage: Stage) -> None:
        one, two = await stage.worker(), await stage.worker()
        alice, bob, carol = await one.mobile("alice"), await two.mobile("bob"), await two.mobile("carol")
        number = await new_group(alice, bob)
        desk = await one.desk("carol")
        stage.exchange.lost = lambda source, target, data: True
        await kick(alice, number, "bob")
        await desk.join(number)
        await stage.settled()
        stage.exchange.lost = lambda source, target, data: False
        alice.send(number, "not for bob")
        stage.exchange.gap(two.slot)
        await stage.until("carol has it", lambda: carol.bodies == ["not for bob"])
        alice.send(number, "nor this")
        await stage.until("carol has both", lambda: carol.bodies == ["not for bob", "nor this"])
        assert bob.session is not None
        assert not bob.session.groups
        assert bob.bodies[1:] == []

    play(tmp_path, story)


@pytest.mark.parametrize("joining", [True, False])
def test_a_change_while_the_user_logs_in_is_not_missed(tmp_path: Path, joining: bool) -> None:
    """It is committed after the login has read the memberships, and told before the login hears the user's topic."""

    async def story(stage: Stage) -> None:
        one, two = await stage.worker(), await stage.worker()
        alice, desk = await one.mobile("alice"), await one.desk("bob")
        number = await new_group(alice)
        if not joining:
            await desk.join(number)
        stage.exchange.gate = asyncio.Event()
        bob = two.peer()
        entering = asyncio.ensure_future(bob.login("bob"))
        await stage.until("the login waits for its topics", lambda: stage.exchange.waiting)
        if joining:
            await asyncio.wait([asyncio.ensure_future(desk.join(number))], timeout=0.1)
        else:
            await kick(alice, number, "bob")
        stage.exchange.gate.set()
        stage.exchange.gate = None
        await entering
        alice.send(number, "hello")
        await stage.settled()
        if joining:
            await stage.until("bob has it", lambda: bob.bodies == ["hello"])
        else:
            assert bob.session is not None
            assert (bob.session.groups or set(), bob.bodies) == (set(), [])

    play(tmp_path, story)


@pytest.mark.parametrize("read_before", [False, True])
def test_a_message_under_way_to_who_was_kicked_is_not_given_nor_looked_for_for_ever(
    tmp_path: Path, read_before: bool
) -> None:
    async def story(stage: Stage) -> None:
        one, two = await stage.worker(), await stage.worker()
        alice, bob = await one.mobile("alice"), await two.mobile("bob")
        number = await new_group(alice, bob)
        for _ in range(3):
            alice.send(number, "x")
        await stage.until("bob has them", lambda: len(bob.bodies) == 3)
        assert bob.session is not None
        bob.session.cursors = None  # as after a login at which nothing waited
        gate, reads, keep = asyncio.Event(), [0], two.core.store.read

        async def read(work: Any) -> Any:
            reads[0] += 1
            found = await keep(work) if read_before else None
            await gate.wait()
            return found or await keep(work)

        two.core.store.read = read  # type: ignore[method-assign]
        alice.send(number, "under way")
        await stage.until("bob's worker asks its store about it", lambda: reads[0])
        await kick(alice, number, "bob")
        await hears(stage, bob, "group.kicked")
        gate.set()
        await asyncio.sleep(0.2)
        await stage.settled()
        assert (reads[0], len(bob.bodies)) == (1, 3)
        await ask(bob, "group.join", group=number)
        alice.send(number, "again")
        await stage.until("bob has it", lambda: len(bob.bodies) > 3)
        await stage.settled()
        assert bob.bodies == ["x", "x", "x", "again"]

    play(tmp_path, story)


# ---------------------------------------------------------------- what fits


def test_a_long_list_is_cut_and_read_on(tmp_path: Path) -> None:
    async def story(stage: Stage) -> None:
        worker = await stage.worker()
        alice, bob = await worker.mobile("alice"), await worker.mobile("bob")
        for number in range(40):
            alice.send("bob", f"{number} " + '"é' * 20)
        await stage.settled()
        bob.text_bytes = 1000
        read: list[dict[str, Any]] = []
        while True:
            after = read[-1]["seq"] if read else 0
            page = await ask(bob, "history", with_="alice", after=after, limit=100)
            read += page["messages"]
            if not page["messages"]:
                break
            assert page.get("more", False) is (read[-1]["seq"] < 40)
        assert [entry["seq"] for entry in read] == list(range(1, 41))
        check_sizes(bob)

    play(tmp_path, story)


def check_sizes(peer: Peer) -> None:
    for event in peer.told(ServerMessage):
        assert size_of(event.body) + size_of(event.fp) <= peer.text_bytes, event


@pytest.mark.parametrize("text", ["x" * 4000, '"\\\n' * 1300, "é😀" * 600, "\1" * 4000])
def test_a_long_text_is_cut_and_read_on(tmp_path: Path, text: str) -> None:
    async def story(stage: Stage) -> None:
        worker = await stage.worker()
        alice, bob = await worker.mobile("alice"), await worker.mobile("bob")
        alice.send("bob", text)
        await stage.settled()
        bob.text_bytes = 700
        parts, start = [], 0
        while True:
            (entry,) = (await ask(bob, "history", with_="alice", limit=1, start=start))["messages"]
            assert entry.get("start", 0) == start
            parts.append(entry["text"])
            if "cut" not in entry:
                break
            assert entry["cut"] > start
            start = entry["cut"]
        assert "".join(parts) == text
        check_sizes(bob)

    play(tmp_path, story)


def test_everything_the_server_says_fits_into_a_datagram(tmp_path: Path) -> None:
    async def story(stage: Stage) -> None:
        worker = await stage.worker()
        alice, bob = await worker.mobile("𠮷" * 50), await worker.mobile("bob")
        for peer in (alice, bob):
            peer.text_bytes = 700
        await befriend(alice, bob)
        number = await new_group(alice, bob, name="😀" * 50)
        await ask(alice, "group.rename", group=number, name='"' * 50, description='"\t' * 100)
        await ask(alice, "echo", text="\1" * 600)
        await ask(alice, "profile.set", nickname='"' * 50, about="é" * 900, status='"' * 200)
        await ask(bob, "profile.get", user=alice.name)
        await answered(alice, "group.role", group=number, user="bob", role="\1" * 500)
        await request(alice, body_of("\1" * 600, {}))
        await ask(alice, "friend.list")
        await ask(alice, "group.members", group=number)
        check_sizes(alice)
        check_sizes(bob)
        assert any(text.get("more") for text in texts(alice))

    play(tmp_path, story)


lines = st.text(st.sampled_from('a"\\\n\1é😀'), max_size=80)
values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | lines,
    lambda inner: st.lists(inner, max_size=5) | st.dictionaries(st.sampled_from("abc"), inner, max_size=3),
    max_leaves=20,
)


@given(st.dictionaries(st.sampled_from(["a", "event", "users"]), values, max_size=3), st.integers(0, 3000))
@settings(deadline=None)
def test_squeezing_keeps_the_shape(content: dict[str, Any], room: int) -> None:
    text = msgspec.json.encode(content).decode()
    cut = squeezed(text, room)
    if size_of(text) <= room:
        assert cut == text
        return
    found = msgspec.json.decode(cut)
    assert found.keys() == content.keys() | {"more"}
    assert found.get("event") == content.get("event")
    bare = squeezed(text, 0)
    assert size_of(cut) <= max(room, size_of(bare))


@given(st.lists(st.fixed_dictionaries({"seq": st.integers(0, 9), "text": lines}), max_size=30), st.integers(150, 3000))
@settings(deadline=None)
def test_fitting_gives_the_longest_beginning_that_fits(entries: list[dict[str, Any]], room: int) -> None:
    def make(result: object) -> str:
        return answer("r", result)

    text = fitted({"messages": entries}, make, room)
    result = msgspec.json.decode(text)["result"]
    given_entries = result["messages"]
    if "more" not in result:
        assert given_entries == entries
        return
    assert size_of(text) <= room
    if given_entries and "cut" in given_entries[0]:
        assert entries[0]["text"][: given_entries[0]["cut"]] == given_entries[0]["text"]
        longer = {**entries[0], "text": entries[0]["text"][: given_entries[0]["cut"] + 1]}
        assert size_of(make({"messages": [{**longer, "cut": given_entries[0]["cut"] + 1}], "more": True})) > room
        return
    assert given_entries == entries[: len(given_entries)]
    more = make({"messages": entries[: len(given_entries) + 1], "more": True})
    assert size_of(more) > room


def test_notices_of_a_flood_do_not_hide_messages(tmp_path: Path) -> None:
    async def story(stage: Stage) -> None:
        worker = await stage.worker()
        alice, bob = await worker.mobile("alice"), await worker.mobile("bob")
        number = await new_group(alice, bob)
        for count in range(30):
            await ask(alice, "group.rename", group=number, name=f"name {count}")
        alice.send("bob", "hello")
        await stage.until("bob has it", lambda: bob.bodies == ["hello"])
        assert len(notices(bob, "group.renamed")) == 30

    play(tmp_path, story)
