"""Plug-ins are asked about everything that a user can do, whatever wire it comes by.

The tables say at which point, or why not; here every command and every operation is tried."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple, get_args

import pytest

from chatd import protocol
from chatd.core.dispatcher import ASKS, Dispatcher, Handler
from chatd.core.plugins.actions import (
    Action,
    AddMember,
    AnswerFriend,
    AnswerJoinRequest,
    AskFriend,
    BanUser,
    BlockUser,
    ChangePassword,
    ChangePrivacy,
    ChangeProfile,
    CreateGroup,
    DeclineInvitation,
    DissolveGroup,
    EditMessage,
    EndSession,
    InviteUser,
    JoinGroup,
    KickMember,
    LeaveGroup,
    MarkRead,
    MuteMember,
    ReadHistory,
    RecallMessage,
    RemoveFriend,
    RemoveMessage,
    RenameGroup,
    SetGroupRules,
    SetRole,
    UnblockUser,
    ViewPresence,
    ViewProfile,
)
from chatd.core.plugins.contract import ACTIONS, NotAsked, Point, Veto
from chatd.core.requests.operations import described
from chatd.errors import ErrorCode
from chatd.model import Group, GroupRules, JoinPolicy, Protocol, Role, User
from chatd.protocol import Command, ServerMessage, ServerRequest
from chatd.store.contract import FOREVER
from tests.core.plugins.test_pipeline import Made, it
from tests.core.stage import Peer, Stage, Worker, play

ALICE, BOB, CAROL, DAVE = User(1, "alice"), User(2, "bob"), User(3, "carol"), User(4, "dave")
TEAM, OTHERS = Group(1, "team", "ours"), Group(2, "others", "")


class Sample(NamedTuple):
    """A request of alice. about: what plug-ins are given besides the actor, wire and address."""

    arguments: dict[str, Any]
    about: type[Action] | None = None
    fields: Mapping[str, Any] = MappingProxyType({})


SAMPLES: dict[str, Sample] = {
    "friend.request": Sample({"user": "BOB"}, AskFriend, {"user": BOB}),
    "friend.accept": Sample({"user": "3"}, AnswerFriend, {"user": CAROL, "accept": True}),
    "friend.refuse": Sample({"user": 3}, AnswerFriend, {"user": CAROL, "accept": False}),
    "friend.remove": Sample({"user": "bob"}, RemoveFriend, {"user": BOB}),
    "friend.list": Sample({}),
    "presence.get": Sample({"users": ["bob", 1]}, ViewPresence, {"users": (BOB, ALICE), "watch": False}),
    "presence.subscribe": Sample({"users": ["bob"]}, ViewPresence, {"users": (BOB,), "watch": True}),
    "message.edit": Sample(
        {"with": "bob", "seq": 1, "text": "bye"},
        EditMessage,
        {"user": BOB, "group": None, "seq": 1, "text": "bye"},
    ),
    "message.recall": Sample({"with": "2", "seq": 1}, RecallMessage, {"user": BOB, "group": None, "seq": 1}),
    "message.remove": Sample({"with": "#1", "seq": 1}, RemoveMessage, {"user": None, "group": TEAM, "seq": 1}),
    "history.delete": Sample({"with": "bob", "up_to": 1}),
    "group.create": Sample(
        {"name": "  new "},
        CreateGroup,
        {"name": "new", "description": "", "rules": GroupRules(join=JoinPolicy.INVITE)},
    ),
    "group.get": Sample({"group": 1}),
    "group.set": Sample(
        {"group": 1, "history": "all"},
        SetGroupRules,
        {"group": TEAM, "join": None, "whole_history": True, "announcements": None},
    ),
    "group.dissolve": Sample({"group": 1}, DissolveGroup, {"group": TEAM}),
    "group.invite": Sample({"group": 1, "user": "carol"}, InviteUser, {"group": TEAM, "user": CAROL}),
    "group.add": Sample({"group": 1, "user": "carol"}, AddMember, {"group": TEAM, "user": CAROL}),
    "group.decline": Sample({"group": 2}, DeclineInvitation, {"group": OTHERS}),
    "group.invitations": Sample({}),
    "group.requests": Sample({"group": 1}),
    "group.approve": Sample(
        {"group": 1, "user": "carol"}, AnswerJoinRequest, {"group": TEAM, "user": CAROL, "accept": True}
    ),
    "group.reject": Sample(
        {"group": 1, "user": "carol"}, AnswerJoinRequest, {"group": TEAM, "user": CAROL, "accept": False}
    ),
    "group.ban": Sample({"group": 1, "user": "carol"}, BanUser, {"group": TEAM, "user": CAROL, "banned": True}),
    "group.unban": Sample({"group": 1, "user": "dave"}, BanUser, {"group": TEAM, "user": DAVE, "banned": False}),
    "group.bans": Sample({"group": 1}),
    "group.mute": Sample({"group": 1, "user": "bob"}, MuteMember, {"group": TEAM, "user": BOB, "until_ms": FOREVER}),
    "group.unmute": Sample({"group": 1, "user": "bob"}, MuteMember, {"group": TEAM, "user": BOB, "until_ms": 0}),
    "group.join": Sample({"group": 2}, JoinGroup, {"group": OTHERS}),
    "group.leave": Sample({"group": 1}, LeaveGroup, {"group": TEAM}),
    "group.list": Sample({}),
    "group.members": Sample({"group": 1}),
    "group.kick": Sample({"group": 1, "user": "bob"}, KickMember, {"group": TEAM, "user": BOB}),
    "group.rename": Sample(
        {"group": 1, "name": " us"}, RenameGroup, {"group": TEAM, "name": "us", "description": None}
    ),
    "group.role": Sample(
        {"group": 1, "user": "bob", "role": "admin"}, SetRole, {"group": TEAM, "user": BOB, "role": Role.ADMIN}
    ),
    "history": Sample({"with": "#1"}, ReadHistory, {"user": None, "group": TEAM}),
    "sync": Sample({}, ReadHistory, {"user": None, "group": None}),
    "read": Sample({"with": "bob", "seq": 1}, MarkRead, {"user": BOB, "group": None, "seq": 1}),
    "profile.get": Sample({"user": "bob"}, ViewProfile, {"user": BOB}),
    "profile.set": Sample({"status": "away"}, ChangeProfile, {"fields": {"status": "away"}}),
    "password.change": Sample({"old": "", "new": "long enough to be good"}, ChangePassword),
    "block": Sample({"user": "bob"}, BlockUser, {"user": BOB}),
    "unblock": Sample({"user": "dave"}, UnblockUser, {"user": DAVE}),
    "block.list": Sample({}),
    "privacy.get": Sample({}),
    "privacy.set": Sample({"write": "friends"}, ChangePrivacy, {"choices": {"write": "friends"}}),
    "push.key": Sample({}),
    "push.subscribe": Sample({"gateway": "apns", "token": "abc"}),
    "push.unsubscribe": Sample({}),
    "session.list": Sample({}),
    "session.kick": Sample({"wire": "chatserver"}, EndSession, {"ended": "chatserver"}),
    "typing": Sample({"with": "bob"}),
    "whoami": Sample({}),
    "echo": Sample({"text": "hi"}),
    "files.limits": Sample({}),
    "files.upload": Sample({"name": "a.txt", "size": 1, "type": "text/plain"}),
    "files.resume": Sample({"file": "x" * 22}),
    "files.cancel": Sample({"file": "x" * 22}),
    "files.link": Sample({"with": "bob", "seq": 1}),
}
REFUSED = {"password.change", "push.subscribe", "files.upload", "files.resume", "files.cancel", "files.link"}
"""The password is wrong, and this town has no notifications and takes no files."""

COMMANDS: dict[type, tuple[Any, Action]] = {
    type(command): (command, about)
    for command, about in (
        (protocol.AddFriend(2), AskFriend(actor=ALICE, wire="chatserver", remote="nowhere:0", user=BOB)),
        (
            protocol.AnswerFriend(3, True),
            AnswerFriend(actor=ALICE, wire="chatserver", remote="nowhere:0", user=CAROL, accept=True),
        ),
        (
            protocol.CreateGroup(" new", "d"),
            CreateGroup(actor=ALICE, wire="chatserver", remote="nowhere:0", name="new", description="d"),
        ),
        (protocol.JoinGroup(2), JoinGroup(actor=ALICE, wire="chatserver", remote="nowhere:0", group=OTHERS)),
    )
}


class Recorder:
    """Asked about every action; answers with `answer`."""

    def __init__(self) -> None:
        self.asked: list[Action] = []
        self.answer: Veto | None = None

    def before_action(self, action: Action) -> Veto | None:
        self.asked.append(action)
        return self.answer


async def settled_town(stage: Stage, recorder: Recorder) -> tuple[Worker, Peer]:
    """Alice on mobileimsdk, with the group 1, a message and a friend request to bob, and a request of carol; bob is in
    group 1, carol has asked to join it, and dave is banned from it; group 2 is carol's, who has invited alice; alice
    blocks dave."""
    before = await stage.worker()
    alice, bob, carol, _ = [await before.desk(name) for name in ("alice", "bob", "carol", "dave")]
    assert await alice.make_group("team") == TEAM.id
    await alice.do(ServerRequest(json.dumps({"op": "group.rename", "group": 1, "name": "team", "description": "ours"})))
    await bob.join(TEAM.id)
    await alice.do(ServerRequest(json.dumps({"op": "group.set", "group": 1, "join": "approval"})))
    await carol.join(TEAM.id)
    await alice.do(ServerRequest(json.dumps({"op": "group.ban", "group": 1, "user": "dave"})))
    assert await carol.make_group("others") == OTHERS.id
    await carol.do(ServerRequest(json.dumps({"op": "group.invite", "group": 2, "user": "alice"})))
    await carol.do(protocol.AddFriend(ALICE.id))
    await alice.do(protocol.AddFriend(BOB.id))
    await alice.do(ServerRequest(json.dumps({"op": "block", "user": "dave"})))
    alice.send("bob", "hello")
    bob.send(TEAM.id, "hello all")
    await stage.settled()
    alice.leave()
    await stage.settled()
    worker = await stage.worker(plugins=[(it(), recorder)])
    return worker, await worker.mobile("alice")


def contents(path: Path) -> dict[str, list[tuple[Any, ...]]]:
    """Every row of the store, without the answers to requests and the times when users were last seen."""
    with sqlite3.connect(path / "chatd.db") as db:
        tables = [name for (name,) in db.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
        return {
            name: sorted(db.execute(f"SELECT * FROM {name}").fetchall(), key=repr)
            for name in tables
            if name not in ("request", "seen")
        }


def answers(peer: Peer) -> list[dict[str, Any]]:
    """To requests, without notices."""
    return [one for one in (json.loads(event.body) for event in peer.told(ServerMessage)) if "ref" in one]


async def ask(peer: Peer, op: str, fp: str = "fp") -> dict[str, Any]:
    await peer.do(ServerRequest(json.dumps({"op": op, "ref": op, **SAMPLES[op].arguments}), fp))
    return answers(peer)[-1]


# ---------------------------------------------------------------- the tables are complete


def test_every_command_has_a_decision() -> None:
    assert set(ASKS) == set(get_args(Command))


def test_a_command_without_a_decision_cannot_be_served() -> None:
    class New(protocol.Echo):
        pass

    with pytest.raises(ValueError, match="New"):
        Dispatcher({New: Handler(lambda peer, command: None)})


def test_every_operation_is_tried_here() -> None:
    assert SAMPLES.keys() == described().keys()


def test_every_command_that_is_an_action_is_tried_here() -> None:
    assert COMMANDS.keys() == {kind for kind, asks in ASKS.items() if asks in ACTIONS}


def test_every_action_has_a_struct_and_something_that_asks_about_it() -> None:
    operations = {one.asks for one in described().values() if isinstance(one.asks, Point)}
    assert operations == ACTIONS
    assert {kind.point for kind in Action.__subclasses__()} == ACTIONS


# ---------------------------------------------------------------- and true


@pytest.mark.parametrize("op", described())
def test_plugins_are_asked_about_an_operation_at_its_point(tmp_path: Path, op: str) -> None:
    async def story(stage: Stage) -> None:
        recorder, sample, asks = Recorder(), SAMPLES[op], described()[op].asks
        _, alice = await settled_town(stage, recorder)
        before = len(recorder.asked)
        answer = await ask(alice, op)
        assert answer["ok"] or op in REFUSED, answer
        asked = recorder.asked[before:]
        if isinstance(asks, NotAsked):
            assert (asked, sample.about) == ([], None)
            return
        assert sample.about is not None
        assert asked == [sample.about(actor=ALICE, wire="mobileimsdk", remote="nowhere:0", **sample.fields)]
        assert asked[0].point is asks

    play(tmp_path, story)


@pytest.mark.parametrize("kind", COMMANDS, ids=lambda kind: kind.__name__)
def test_plugins_are_asked_about_a_command_at_the_same_point(tmp_path: Path, kind: type) -> None:
    async def story(stage: Stage) -> None:
        recorder, (command, about) = Recorder(), COMMANDS[kind]
        worker, _ = await settled_town(stage, recorder)
        alice = await worker.desk("alice")
        await alice.do(command)
        assert (recorder.asked, alice.failures) == ([about], [])
        assert about.point is ASKS[kind]

    play(tmp_path, story)


@pytest.mark.parametrize("op", [name for name, one in described().items() if isinstance(one.asks, Point)])
def test_a_refused_operation_changes_nothing(tmp_path: Path, op: str) -> None:
    async def story(stage: Stage) -> None:
        recorder = Recorder()
        worker, alice = await settled_town(stage, recorder)
        desk = await worker.desk("alice")
        recorder.answer = Veto("no", 2000)
        before = contents(tmp_path)
        answer = await ask(alice, op)
        assert answer["error"] == {"code": 2000, "text": "no", "temporary": False}
        await stage.settled()
        assert contents(tmp_path) == before
        assert desk.logged_in

    play(tmp_path, story)


@pytest.mark.parametrize("kind", COMMANDS, ids=lambda kind: kind.__name__)
def test_a_refused_command_changes_nothing(tmp_path: Path, kind: type) -> None:
    async def story(stage: Stage) -> None:
        recorder = Recorder()
        worker, _ = await settled_town(stage, recorder)
        desk = await worker.desk("alice")
        recorder.answer = Veto("no", 2000)
        before = contents(tmp_path)
        await desk.do(COMMANDS[kind][0])
        await stage.settled()
        assert (desk.failures, contents(tmp_path)) == ([2000], before)

    play(tmp_path, story)


# ---------------------------------------------------------------- repetitions, failures, methods of one's own


@pytest.mark.parametrize("answer", [None, Veto("no", 2000)])
def test_a_repeated_request_is_answered_as_the_first_time_and_nobody_is_asked(
    tmp_path: Path, answer: Veto | None
) -> None:
    async def story(stage: Stage) -> None:
        recorder = Recorder()
        _, alice = await settled_town(stage, recorder)
        recorder.answer = answer
        first = await ask(alice, "group.join", "same")
        recorder.answer = None if answer else Veto("no", 2000)
        assert await ask(alice, "group.join", "same") == first
        assert len(recorder.asked) == 1

    play(tmp_path, story)


def test_a_refusal_for_the_moment_is_not_remembered(tmp_path: Path) -> None:
    async def story(stage: Stage) -> None:
        recorder = Recorder()
        _, alice = await settled_town(stage, recorder)
        recorder.answer = Veto("slowly", ErrorCode.TOO_FAST)
        assert (await ask(alice, "group.join", "same"))["error"]["code"] == ErrorCode.TOO_FAST
        recorder.answer = None
        assert (await ask(alice, "group.join", "same"))["ok"]

    play(tmp_path, story)


def test_what_does_not_exist_is_not_asked_about_and_refused(tmp_path: Path) -> None:
    async def story(stage: Stage) -> None:
        recorder = Recorder()
        worker, alice = await settled_town(stage, recorder)
        desk = await worker.desk("alice")
        for command in (protocol.AddFriend(99), protocol.AnswerFriend(99, True), protocol.JoinGroup(99)):
            await desk.do(command)
        assert desk.failures == [ErrorCode.UNKNOWN_RECIPIENT] * 2 + [ErrorCode.UNKNOWN_GROUP]
        for text in ('{"op":"history","with":"#99"}', '{"op":"profile.get","user":"nobody"}'):
            await alice.do(ServerRequest(text))
            assert not json.loads(alice.told(ServerMessage)[-1].body)["ok"]
        assert recorder.asked == []

    play(tmp_path, story)


@pytest.mark.parametrize("wire", [Protocol.CHATSERVER, Protocol.MOBILEIMSDK])
@pytest.mark.parametrize("fail", ["open", "closed"])
def test_without_an_answer_an_action_is_refused_for_the_moment_or_goes_on(
    tmp_path: Path, wire: Protocol, fail: str
) -> None:
    async def story(stage: Stage) -> None:
        worker = await stage.worker(plugins=[(it(fail=fail), Made(before_group_create=lambda action: 1 / 0))])
        alice = await worker.peer(wire).login("alice")
        await alice.do(protocol.CreateGroup("team", ""))
        groups = await worker.core.store.read(lambda tables: tables.groups.of(1, 10))
        assert (len(groups), alice.failures) == ((1, []) if fail == "open" else (0, [ErrorCode.BUSY]))

    play(tmp_path, story)


def test_who_may_not_be_removed_is_not_removed_by_a_ban(tmp_path: Path) -> None:
    def spared(action: KickMember) -> Veto | None:
        return Veto("not him", 2000) if action.user == BOB else None

    async def story(stage: Stage) -> None:
        await settled_town(stage, Recorder())
        worker = await stage.worker(plugins=[(it(), Made(before_group_kick=spared))])
        alice = await worker.mobile("alice")
        for op in ("group.kick", "group.ban"):
            await alice.do(ServerRequest(json.dumps({"op": op, "ref": op, "group": 1, "user": "bob"}), op))
            assert answers(alice)[-1]["error"]["code"] == 2000, op
        assert worker.tables.groups.role(TEAM.id, BOB.id) is Role.MEMBER
        assert (await ask(alice, "group.ban"))["ok"]

    play(tmp_path, story)


def test_before_action_is_for_what_has_no_method_of_its_own(tmp_path: Path) -> None:
    asked: list[tuple[str, Action]] = []

    async def story(stage: Stage) -> None:
        made = Made(
            before_action=lambda action: asked.append(("any", action)),
            before_group_join=lambda action: asked.append(("join", action)),
        )
        worker = await stage.worker(plugins=[(it(), made)])
        alice, bob = await worker.desk("alice"), await worker.desk("bob")
        await bob.join(await alice.make_group())
        assert [(how, type(action)) for how, action in asked] == [("any", CreateGroup), ("join", JoinGroup)]

    play(tmp_path, story)
