"""Every point at which plug-ins are asked or told, with real cores and stores."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from chatd.config.schema import PluginOptions
from chatd.core.plugins.contract import (
    LoggedIn,
    LoggedOut,
    LoginAttempt,
    MissedMessage,
    OutgoingMessage,
    Reply,
    Request,
    Rewrite,
    StoredMessage,
    Veto,
)
from chatd.core.plugins.notifier import MAX_CALLS
from chatd.errors import Disconnect, ErrorCode
from chatd.model import Message, Protocol
from chatd.protocol import Accepted, Failed, SendMessage, ServerMessage, ServerRequest
from tests.core.stage import Peer, Stage, Worker, play

WIRES = [Protocol.CHATSERVER, Protocol.MOBILEIMSDK]


class Made:
    """A plug-in of the functions it is given."""

    def __init__(self, **functions: Callable[[Any], Any]) -> None:
        self.__dict__.update(functions)


class Told:
    """Remembers what it was told, by point."""

    def __init__(self) -> None:
        self.events: list[Any] = []

    def after_login(self, event: LoggedIn) -> None:
        self.events.append(event)

    def after_logout(self, event: LoggedOut) -> None:
        self.events.append(event)

    async def after_stored(self, event: StoredMessage) -> None:
        self.events.append(event)

    async def recipient_offline(self, event: MissedMessage) -> None:
        self.events.append(event)

    def of(self, kind: type) -> list[Any]:
        return [event for event in self.events if type(event) is kind]


def it(**options: Any) -> PluginOptions:
    return PluginOptions(**{"name": "it", "fail": "open", **options})


async def worker_with(stage: Stage, *made: object, **options: Any) -> Worker:
    return await stage.worker(plugins=[(it(name=f"{n}", **options), one) for n, one in enumerate(made)])


def write(to: str, body: str, fp: str = "", typeu: int = -1) -> SendMessage:
    return SendMessage(to, 0, 0, body, fp, True, typeu)


def texts(peer: Peer) -> list[str]:
    return [event.body for event in peer.told(ServerMessage)]


async def all_told(worker: Worker) -> None:
    await worker.core.plugins.settle()


# ---------------------------------------------------------------- before a login


@pytest.mark.parametrize("wire", WIRES)
def test_a_login_may_be_refused_with_a_code_of_ones_own(tmp_path: Path, wire: Protocol) -> None:
    asked: list[LoginAttempt] = []

    def before_login(attempt: LoginAttempt) -> Veto | None:
        asked.append(attempt)
        return Veto("not today", 2001) if attempt.name == "mallory" else None

    async def story(stage: Stage) -> None:
        worker = await worker_with(stage, Made(before_login=before_login))
        mallory = await worker.peer(wire).login("mallory")
        (failed,) = mallory.told(Failed)
        assert (failed.code, failed.text, mallory.session) == (2001, "not today", None)
        assert mallory.reason is (Disconnect.LOGIN_REFUSED if wire is Protocol.MOBILEIMSDK else None)
        assert await worker.core.store.read(lambda tables: tables.accounts.all()) == [], "nothing was made for them"
        assert (await worker.peer(wire).login("alice")).logged_in
        assert [(one.name, one.wire, one.remote) for one in asked] == [
            ("mallory", wire.name.lower(), "nowhere:0"),
            ("alice", wire.name.lower(), "nowhere:0"),
        ]

    play(tmp_path, story)


def test_a_login_attempt_is_shown_without_its_secret() -> None:
    assert "hush" not in repr(LoginAttempt("alice", 0, "hush", "mobileimsdk", "nowhere:0"))


# ---------------------------------------------------------------- before a message


def test_a_repetition_is_known_by_what_the_client_sent(tmp_path: Path) -> None:
    """Whatever the plug-in makes of it the second time; another text under the same fp is refused."""
    rewrites: list[Rewrite | None] = [Rewrite("one"), Rewrite("two"), None, Rewrite("one"), None]

    def before_message(event: OutgoingMessage) -> Rewrite | None:
        return rewrites.pop(0)

    async def story(stage: Stage) -> None:
        worker = await worker_with(stage, Made(before_message=before_message))
        alice, bob = await worker.mobile("alice"), await worker.mobile("bob")
        for body in ("hello", "hello", "hello", "other", "other"):
            await alice.do(write("bob", body, "fp"))
        await stage.until("all are answered", lambda: len(alice.accepted) + len(alice.failures) == 5)
        assert {event.seq for event in alice.told(Accepted)} == {1}
        assert alice.failures == [ErrorCode.FP_REUSED] * 2
        assert set(bob.bodies) == {"one"}

    play(tmp_path, story)


def test_a_repeated_request_is_known_by_what_the_client_sent(tmp_path: Path) -> None:
    names = ["one", "two", "one"]

    def before_request(event: Request) -> Rewrite:
        return Rewrite(event.body.replace("team", names.pop(0)))

    async def story(stage: Stage) -> None:
        worker = await worker_with(stage, Made(before_request=before_request))
        alice = await worker.mobile("alice")
        for name in ("team", "team", "other team"):
            await alice.do(ServerRequest(json.dumps({"op": "group.create", "name": name}), "fp", True))
        first, second, third = (json.loads(text) for text in texts(alice))
        assert first == second
        assert third["error"]["code"] == ErrorCode.FP_REUSED
        groups = await worker.core.store.read(lambda tables: tables.groups.of(1, 100))
        assert [row.group.name for row in groups] == ["one"]

    play(tmp_path, story)


@pytest.mark.parametrize("wire", WIRES)
def test_a_message_may_be_refused(tmp_path: Path, wire: Protocol) -> None:
    def before_message(message: OutgoingMessage) -> Veto | None:
        return Veto("mind your words") if "darn" in message.body else None

    async def story(stage: Stage) -> None:
        worker = await worker_with(stage, Made(before_message=before_message))
        alice, bob = await worker.peer(wire).login("alice"), await worker.mobile("bob")
        await alice.do(write("bob", "darn", "1"))
        await alice.do(write("bob", "hello", "2"))
        await stage.settled()
        (failed,) = alice.told(Failed)
        assert (failed.code, failed.text) == (ErrorCode.NOT_ALLOWED, "mind your words")
        assert isinstance(failed.command, SendMessage)
        assert failed.command.fp == "1"
        assert (bob.bodies, alice.accepted) == (["hello"], [1])

    play(tmp_path, story)


def test_each_sees_what_the_one_before_made_of_it(tmp_path: Path) -> None:
    seen: list[tuple[str, int]] = []

    def first(message: OutgoingMessage) -> Rewrite:
        return Rewrite(message.body + " one", 7)

    async def second(message: OutgoingMessage) -> Rewrite:
        seen.append((message.body, message.typeu))
        return Rewrite(message.body + " two")

    async def story(stage: Stage) -> None:
        worker = await worker_with(stage, Made(before_message=first), Made(before_message=second))
        alice, bob = await worker.mobile("alice"), await worker.mobile("bob")
        await alice.do(write("bob", "zero", "1"))
        await stage.settled()
        (given,) = bob.messages
        assert (given.body, given.typeu, given.fp) == ("zero one two", 7, "1")
        assert seen == [("zero one", 7)]
        (accepted,) = alice.told(Accepted)
        assert accepted.command.fp == "1"

    play(tmp_path, story)


def test_a_message_to_a_group_is_one_too(tmp_path: Path) -> None:
    async def story(stage: Stage) -> None:
        asked: list[OutgoingMessage] = []
        worker = await worker_with(stage, Made(before_message=asked.append))
        alice = await worker.desk("alice")
        group = await alice.make_group()
        await alice.do(SendMessage("", 0, group, "hello", "", False))
        await stage.settled()
        (one,) = asked
        assert (one.sender.name, one.to_name, one.to_id, one.to_group, one.body) == ("alice", "", 0, group, "hello")
        assert one.wire == "chatserver"

    play(tmp_path, story)


def test_without_such_a_plugin_a_message_waits_for_nothing(tmp_path: Path) -> None:
    async def story(stage: Stage) -> None:
        worker = await worker_with(stage, Told())
        alice = await worker.mobile("alice")
        assert worker.core.handle(alice, write("alice", "note")) is None

    play(tmp_path, story)


def test_who_leaves_while_a_message_is_looked_at_has_sent_it(tmp_path: Path) -> None:
    gate = threading.Event()

    async def story(stage: Stage) -> None:
        worker = await worker_with(stage, Made(before_message=lambda message: gate.wait(10) and None))
        alice, bob = await worker.mobile("alice"), await worker.mobile("bob")
        sending = asyncio.create_task(alice.do(write("bob", "goodbye")))
        await asyncio.sleep(0)
        alice.leave()
        gate.set()
        await sending
        await stage.until("bob has it", lambda: bob.bodies == ["goodbye"])

    play(tmp_path, story)


@pytest.mark.parametrize("fail", ["open", "closed"])
def test_a_failure_lets_it_pass_or_refuses_it_for_the_moment(tmp_path: Path, fail: str) -> None:
    calls = 0

    def before_message(message: OutgoingMessage) -> None:
        nonlocal calls
        calls += 1
        raise OSError

    async def story(stage: Stage) -> None:
        worker = await worker_with(stage, Made(before_message=before_message), fail=fail, breaker_failures=2)
        alice, bob = await worker.mobile("alice"), await worker.mobile("bob")
        for number in range(5):
            await alice.do(write("bob", f"{number}"))
        await stage.settled()
        assert calls == 2, "then alice was held back, which stands for a failure"
        worker.core.tick()
        assert (worker.row.hooks_open, worker.row.hook_users_held, worker.row.hook_failures) == (0, 1, 2)
        if fail == "open":
            assert bob.bodies == ["0", "1", "2", "3", "4"]
        else:
            assert alice.failures == [ErrorCode.BUSY] * 5
            assert (bob.bodies, alice.accepted) == ([], [])

    play(tmp_path, story)


# ---------------------------------------------------------------- before a request


def request(body: str, fp: str = "r1", typeu: int = -1) -> ServerRequest:
    return ServerRequest(body, fp, True, typeu)


def test_a_text_to_the_server_is_answered(tmp_path: Path) -> None:
    async def before_request(asked: Request) -> Reply:
        return Reply(f"{asked.sender.name} said {asked.body}")

    async def story(stage: Stage) -> None:
        worker = await worker_with(stage, Made(before_request=before_request), Made(before_request=lambda asked: 1 / 0))
        alice = await worker.mobile("alice")
        await alice.do(request("hello"))
        await alice.do(request("hello"))
        assert texts(alice) == ["alice said hello"] * 2
        assert len({event.fp for event in alice.told(ServerMessage)}) == 1, "the client drops the second"
        assert len(alice.told(Accepted)) == 2
        worker.core.tick()
        assert worker.row.hook_failures == 0, "nobody is asked after an answer"

    play(tmp_path, story)


def test_a_text_nobody_answers_is_acknowledged_and_dropped(tmp_path: Path) -> None:
    async def story(stage: Stage) -> None:
        worker = await worker_with(stage, Made(before_request=lambda asked: None))
        alice = await worker.mobile("alice")
        await alice.do(request("hello"))
        assert (texts(alice), len(alice.told(Accepted))) == ([], 1)

    play(tmp_path, story)


def test_a_text_may_be_refused(tmp_path: Path) -> None:
    async def story(stage: Stage) -> None:
        worker = await worker_with(stage, Made(before_request=lambda asked: Veto("no", 2000)))
        alice = await worker.mobile("alice")
        await alice.do(request("hello"))
        (failed,) = alice.told(Failed)
        assert (failed.code, failed.text, alice.told(Accepted)) == (2000, "no", [])

    play(tmp_path, story)


def test_an_operation_is_named_and_refused_in_its_own_terms(tmp_path: Path) -> None:
    asked: list[str] = []

    def before_request(one: Request) -> Veto | None:
        asked.append(one.op)
        return Veto("guests make no groups", 2000) if one.op == "group.create" else None

    async def story(stage: Stage) -> None:
        worker = await worker_with(stage, Made(before_request=before_request))
        alice = await worker.mobile("alice")
        await alice.do(request('{"op":"group.create","ref":"a","name":"team"}', "1"))
        await alice.do(request('{"op":"group.list","ref":"b"}', "2"))
        refused, listed = (json.loads(text) for text in texts(alice))
        error = {"code": 2000, "text": "guests make no groups", "temporary": False}
        assert refused == {"ref": "a", "ok": False, "error": error}
        assert (listed["ref"], listed["ok"], listed["result"]["groups"]) == ("b", True, [])
        assert asked == ["group.create", "group.list"]
        assert len(alice.told(Accepted)) == 2

    play(tmp_path, story)


def test_a_text_may_become_an_operation(tmp_path: Path) -> None:
    def before_request(one: Request) -> Rewrite | None:
        return Rewrite('{"op":"whoami","ref":1}') if one.body == "who am I?" else None

    async def story(stage: Stage) -> None:
        worker = await worker_with(stage, Made(before_request=before_request))
        alice = await worker.mobile("alice")
        await alice.do(request("who am I?"))
        (text,) = texts(alice)
        assert json.loads(text)["result"]["name"] == "alice"

    play(tmp_path, story)


def test_an_operation_is_refused_for_the_moment_where_a_plugin_that_matters_fails(tmp_path: Path) -> None:
    async def story(stage: Stage) -> None:
        worker = await worker_with(stage, Made(before_request=lambda asked: 1 / 0), fail="closed")
        alice = await worker.mobile("alice")
        await alice.do(request('{"op":"whoami","ref":1}'))
        (text,) = texts(alice)
        error = json.loads(text)["error"]
        assert (error["code"], error["temporary"]) == (ErrorCode.BUSY, True)
        await alice.do(request("hello", "r2"))
        assert alice.failures == [ErrorCode.BUSY]

    play(tmp_path, story)


# ---------------------------------------------------------------- afterwards


@pytest.mark.parametrize("wire", WIRES)
def test_logins_and_logouts_are_told(tmp_path: Path, wire: Protocol) -> None:
    async def story(stage: Stage) -> None:
        told = Told()
        worker = await worker_with(stage, told)
        alice = await worker.peer(wire).login("alice")
        await all_told(worker)
        alice.leave()
        await all_told(worker)
        assert [(type(one), one.user.name, one.wire) for one in told.events] == [
            (LoggedIn, "alice", wire.name.lower()),
            (LoggedOut, "alice", wire.name.lower()),
        ]

    play(tmp_path, story)


def test_a_message_is_told_once_when_it_is_stored(tmp_path: Path) -> None:
    async def story(stage: Stage) -> None:
        told = Told()
        worker = await worker_with(stage, told)
        alice, bob = await worker.mobile("alice"), await worker.mobile("bob")
        alice.send("bob", "hello", "1")
        await stage.settled()
        alice.send("bob", "hello", "1")
        alice.send("nobody", "hello", "2")
        await stage.settled()
        await all_told(worker)
        (stored,) = told.of(StoredMessage)
        assert (stored.message, told.of(MissedMessage)) == (bob.messages[0], [])

    play(tmp_path, story)


def missed(told: Told) -> list[tuple[str, list[str]]]:
    """In any order: several are told at once."""
    return sorted((one.message.body, [user.name for user in one.users]) for one in told.of(MissedMessage))


def test_who_is_away_is_told_wherever_others_are(tmp_path: Path) -> None:
    async def story(stage: Stage) -> None:
        told = Told()
        worker, other = await worker_with(stage, told), await stage.worker()
        alice, bob, carol = await worker.mobile("alice"), await other.mobile("bob"), await worker.mobile("carol")
        group = await alice.make_group()
        await bob.join(group)
        await carol.join(group)
        alice.send("bob", "bob is there")
        alice.send(group, "all are there")
        await stage.settled()
        carol.leave()
        alice.send(group, "carol is away")
        await stage.settled()
        bob.leave()
        alice.send(group, "both are away")
        alice.send("bob", "bob is away")
        await stage.settled()
        await all_told(worker)
        assert missed(told) == [
            ("bob is away", ["bob"]),
            ("both are away", ["bob", "carol"]),
            ("carol is away", ["carol"]),
        ]

    play(tmp_path, story)


def test_the_members_of_a_large_group_are_read_page_by_page(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("chatd.core.plugins.pipeline.MEMBERS_PAGE", 2)

    async def story(stage: Stage) -> None:
        told = Told()
        worker = await worker_with(stage, told)
        alice = await worker.mobile("alice")
        group = await alice.make_group()
        names = [f"member{number}" for number in range(5)]
        for name in names:
            peer = await worker.mobile(name)
            await peer.join(group)
            peer.leave()
        alice.send(group, "hello")
        await stage.settled()
        await all_told(worker)
        assert missed(told) == [("hello", names)]

    play(tmp_path, story)


def test_one_that_hangs_afterwards_delays_nobody_and_the_rest_is_dropped(tmp_path: Path) -> None:
    gate = threading.Event()
    began: list[Message] = []

    def after_stored(event: StoredMessage) -> None:
        began.append(event.message)
        gate.wait(30)

    async def story(stage: Stage) -> None:
        stage.limit(hook_queue=10)
        worker = await worker_with(stage, Made(after_stored=after_stored), time_limit_ms=60000)
        alice, bob = await worker.mobile("alice"), await worker.mobile("bob")
        for number in range(100):
            alice.send("bob", f"{number}", f"{number}")
            await stage.settled()
        assert len(alice.accepted) == 100
        assert len(bob.bodies) == 100
        worker.core.tick()
        assert worker.row.hook_dropped == 100 - 10 - MAX_CALLS
        gate.set()
        await all_told(worker)
        assert len(began) == 10 + MAX_CALLS
        assert worker.row.hook_failures == 0

    play(tmp_path, story)


def test_events_for_one_whose_breaker_is_open_are_not_kept(tmp_path: Path) -> None:
    async def story(stage: Stage) -> None:
        def after_stored(event: StoredMessage) -> None:
            raise OSError

        worker = await worker_with(stage, Made(after_stored=after_stored), breaker_failures=1)
        alice = await worker.mobile("alice")
        for number in range(200):
            alice.send("alice", f"{number}")
        await stage.settled()
        await all_told(worker)
        worker.core.tick()
        assert worker.row.hook_users_held == 1
        assert worker.row.hook_failures <= MAX_CALLS, "those under way when it opened"
        assert worker.row.hook_dropped == 0

    play(tmp_path, story)
