"""Friends and groups as commands: who is told what, here and on other workers."""

from __future__ import annotations

from pathlib import Path

from chatd.errors import ErrorCode
from chatd.model import Role, User
from chatd.protocol import (
    AddFriend,
    AnswerFriend,
    CreateGroup,
    FriendAnswered,
    FriendRequested,
    GroupReady,
    JoinGroup,
    LoginAccepted,
)
from tests.core.stage import Peer, Stage, play


def user(peer: Peer) -> User:
    return peer.told(LoginAccepted)[-1].user


async def desks(stage: Stage) -> tuple[Peer, Peer]:
    return await (await stage.worker()).desk("alice"), await (await stage.worker()).desk("bob")


def test_a_request_and_its_answer_reach_the_other_side_on_another_worker(tmp_path: Path) -> None:
    async def story(stage: Stage) -> None:
        alice, bob = await desks(stage)
        await alice.do(AddFriend(user(bob).id))
        await stage.until("bob is asked", lambda: bob.told(FriendRequested))
        (asked,) = bob.told(FriendRequested)
        assert (asked.request.sender, asked.request.to) == (user(alice), user(bob).id)
        await bob.do(AnswerFriend(user(alice).id, True))
        await stage.until("alice is answered", lambda: alice.told(FriendAnswered))
        (answered,) = alice.told(FriendAnswered)
        assert (answered.by, answered.to, answered.accepted) == (user(bob), user(alice).id, True)
        alice.leave()
        alice = await bob.worker.desk("alice")
        (friend,) = alice.told(LoginAccepted)[0].friends
        assert (friend.id, friend.name, friend.online) == (user(bob).id, "bob", True)

    play(tmp_path, story)


def test_a_request_waits_for_who_is_away(tmp_path: Path) -> None:
    async def story(stage: Stage) -> None:
        alice, bob = await desks(stage)
        bob_id = user(bob).id
        bob.leave()
        await alice.do(AddFriend(bob_id))
        bob = await alice.worker.desk("bob")
        (request,) = bob.told(LoginAccepted)[0].requests
        assert request.sender == user(alice)
        await bob.do(AnswerFriend(user(alice).id, False))
        (answered,) = alice.told(FriendAnswered)
        assert not answered.accepted
        bob.leave()
        bob = await alice.worker.desk("bob")
        answer = bob.told(LoginAccepted)[0]
        assert (answer.requests, answer.friends) == ((), ())

    play(tmp_path, story)


def test_requests_that_cross_tell_who_asked_first(tmp_path: Path) -> None:
    async def story(stage: Stage) -> None:
        alice, bob = await desks(stage)
        await alice.do(AddFriend(user(bob).id))
        await bob.do(AddFriend(user(alice).id))
        await stage.until("alice is answered", lambda: alice.told(FriendAnswered))
        assert alice.told(FriendAnswered)[0].accepted
        assert len(bob.told(FriendRequested)) == 1
        assert not alice.told(FriendRequested)

    play(tmp_path, story)


def test_refused_requests_tell_nobody(tmp_path: Path) -> None:
    async def story(stage: Stage) -> None:
        alice, bob = await desks(stage)
        before = len(bob.events)
        for command in (
            AddFriend(user(alice).id),
            AddFriend(999),
            AnswerFriend(user(bob).id, True),
            AnswerFriend(999, True),
        ):
            await alice.do(command)
        await stage.settled()
        assert alice.failures[:3] == [ErrorCode.NOT_ALLOWED, ErrorCode.UNKNOWN_RECIPIENT, ErrorCode.NOT_ALLOWED]
        assert len(alice.failures) == 4
        assert len(bob.events) == before

    play(tmp_path, story)


def test_friends_are_limited(tmp_path: Path) -> None:
    async def story(stage: Stage) -> None:
        stage.limit(friends_per_user=2)
        worker = await stage.worker()
        peers = [await worker.desk(f"user {number}") for number in range(4)]
        for other in peers[1:]:
            await peers[0].do(AddFriend(user(other).id))
        assert peers[0].failures == [ErrorCode.LIMIT_REACHED]
        assert not peers[3].told(FriendRequested)

    play(tmp_path, story)


def test_accepting_friends_is_limited(tmp_path: Path) -> None:
    async def story(stage: Stage) -> None:
        stage.limit(friends_per_user=2)
        worker = await stage.worker()
        asked, *askers = [await worker.desk(f"user {number}") for number in range(4)]
        for asker in askers:
            await asker.do(AddFriend(user(asked).id))
        for asker in askers:
            await asked.do(AnswerFriend(user(asker).id, True))
        assert asked.failures == [ErrorCode.LIMIT_REACHED]
        await stage.settled()
        assert [len(asker.told(FriendAnswered)) for asker in askers] == [1, 1, 0]

    play(tmp_path, story)


def test_a_group_is_listed_at_login_with_its_members(tmp_path: Path) -> None:
    async def story(stage: Stage) -> None:
        alice, bob = await desks(stage)
        await alice.do(CreateGroup("  team ", "what for"))
        (ready,) = alice.told(GroupReady)
        assert (ready.group.name, ready.group.description, ready.created) == ("team", "what for", True)
        await bob.join(ready.group.id)
        (joined,) = bob.told(GroupReady)
        assert (joined.group.id, joined.created) == (ready.group.id, False)
        alice.leave()
        alice = await bob.worker.desk("alice")
        (group,) = alice.told(LoginAccepted)[0].groups
        members = [(member.name, member.online, member.role) for member in group.members]
        assert members == [("alice", True, Role.OWNER), ("bob", True, Role.MEMBER)]

    play(tmp_path, story)


def test_what_groups_refuse(tmp_path: Path) -> None:
    async def story(stage: Stage) -> None:
        stage.limit(groups_per_user=1, group_members=2, name_chars=10)
        alice, bob = await desks(stage)
        carol = await alice.worker.desk("carol")
        for command in (CreateGroup("", ""), CreateGroup("x" * 11, ""), CreateGroup("team", "x" * 201), JoinGroup(7)):
            await alice.do(command)
        assert alice.failures == [*[ErrorCode.BAD_FIELD] * 3, ErrorCode.UNKNOWN_GROUP]
        group = await alice.make_group()
        await bob.join(group)
        await carol.join(group)
        await alice.do(CreateGroup("second", ""))
        assert carol.failures == [ErrorCode.LIMIT_REACHED]
        assert alice.failures[4:] == [ErrorCode.LIMIT_REACHED]
        carol.send(group, "hello")
        carol.send(group + 1, "hello")
        await stage.until("it is refused", lambda: len(carol.failures) == 3)
        assert carol.failures[1:] == [ErrorCode.NOT_A_MEMBER, ErrorCode.UNKNOWN_GROUP]

    play(tmp_path, story)
