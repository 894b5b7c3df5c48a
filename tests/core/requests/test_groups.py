"""Who is told of what is decided in a group, on one worker and on two."""

from __future__ import annotations

from pathlib import Path

import pytest

from chatd.errors import ErrorCode
from chatd.protocol import GroupReady, JoinGroup
from tests.core.asking import ask, befriend, hears, new_group, notices, refused
from tests.core.stage import Peer, Stage, play

both = pytest.mark.parametrize("workers", [1, 2])


async def people(stage: Stage, workers: int, *names: str) -> list[Peer]:
    """On alternating workers."""
    made = [await stage.worker() for _ in range(workers)]
    return [await made[number % workers].mobile(name) for number, name in enumerate(names)]


@both
def test_asking_approving_and_rejecting(tmp_path: Path, workers: int) -> None:
    async def story(stage: Stage) -> None:
        alice, bob, carol, dave = await people(stage, workers, "alice", "bob", "carol", "dave")
        group = await new_group(alice, bob)
        await ask(alice, "group.role", group=group, user="bob", role="admin")
        changed = await ask(alice, "group.set", group=group, join="approval")
        assert changed == {"join": "approval", "history": "joining", "announcements": False}
        for member in (alice, bob):
            told = await hears(stage, member, "group.changed")
            assert (told["join"], told["by"]["name"]) == ("approval", "alice")
        for asker in (carol, dave):
            assert (await ask(asker, "group.join", group=group))["joined"] is False
        for member in (alice, bob):
            told = await hears(stage, member, "group.requested", 2)
            assert (told["user"]["name"], told["details"]["name"]) == ("dave", "team")
        asking = await ask(bob, "group.requests", group=group)
        assert [one["user"]["name"] for one in asking["requests"]] == ["carol", "dave"]
        assert (await ask(bob, "group.approve", group=group, user="carol"))["joined"] is True
        await ask(alice, "group.reject", group=group, user="dave")
        assert (await hears(stage, carol, "group.entered"))["by"]["name"] == "bob"
        assert (await hears(stage, dave, "group.rejected"))["group"] == group
        await stage.until("carol is in", lambda: group in (carol.session.groups or ()))  # type: ignore[union-attr]
        alice.send(group, "welcome")
        await stage.until("carol has it", lambda: carol.bodies == ["welcome"])
        assert dave.bodies == []
        assert await refused(dave, "group.join", group=group) is ErrorCode.NOT_ACCEPTED

    play(tmp_path, story)


@both
def test_inviting_adding_and_declining(tmp_path: Path, workers: int) -> None:
    async def story(stage: Stage) -> None:
        alice, bob, carol, dave = await people(stage, workers, "alice", "bob", "carol", "dave")
        await befriend(alice, bob)
        group = int((await ask(alice, "group.create", name="team"))["group"]["id"])
        assert await refused(bob, "group.join", group=group) is ErrorCode.INVITATION_NEEDED
        assert (await ask(alice, "group.add", group=group, user="bob"))["joined"] is True
        assert (await ask(alice, "group.add", group=group, user="carol"))["joined"] is False
        assert (await ask(alice, "group.invite", group=group, user="dave"))["joined"] is False
        await hears(stage, bob, "group.entered")
        for invited in (carol, dave):
            told = await hears(stage, invited, "group.invited")
            assert (told["by"]["name"], told["details"]["name"]) == ("alice", "team")
            (one,) = (await ask(invited, "group.invitations"))["invitations"]
            assert (one["group"]["id"], one["by"]["name"]) == (group, "alice")
        assert (await ask(carol, "group.join", group=group))["joined"] is True
        await ask(dave, "group.decline", group=group)
        assert (await hears(stage, alice, "group.declined"))["user"]["name"] == "dave"
        assert notices(bob, "group.declined") == []
        details = await ask(alice, "group.get", group=group)
        assert (details["members"], details["invitations"], details["join"]) == (3, 0, "invite")

    play(tmp_path, story)


@both
def test_what_is_so_already_is_not_told_again(tmp_path: Path, workers: int) -> None:
    """An admin cannot fill a member's screen by muting, unmuting or inviting again and again."""

    async def story(stage: Stage) -> None:
        alice, bob, carol = await people(stage, workers, "alice", "bob", "carol")
        group = await new_group(alice, bob)
        for _ in range(3):
            await ask(alice, "group.unmute", group=group, user="bob")
        for arguments in ({"seconds": 3600}, {}, {"seconds": 7200}):
            for _ in range(3):
                await ask(alice, "group.mute", group=group, user="bob", **arguments)
        for _ in range(3):
            await ask(alice, "group.unmute", group=group, user="bob")
            await ask(alice, "group.invite", group=group, user="carol")
        await hears(stage, bob, "group.unmuted")
        await hears(stage, carol, "group.invited")
        for told in (alice, bob):
            ends = [notice["until_ms"] for notice in notices(told, "group.muted")]
            assert [end is None for end in ends] == [False, True, False], "each end once"
            assert len(notices(told, "group.unmuted")) == 1
        assert len(notices(carol, "group.invited")) == 1

    play(tmp_path, story)


@both
def test_muting_and_banning(tmp_path: Path, workers: int) -> None:
    async def story(stage: Stage) -> None:
        alice, bob, carol = await people(stage, workers, "alice", "bob", "carol")
        group = await new_group(alice, bob, carol)
        await ask(alice, "group.mute", group=group, user="bob", seconds=3600)
        for told in (alice, bob):
            assert (await hears(stage, told, "group.muted"))["until_ms"] > 10**12
        members = (await ask(alice, "group.members", group=group))["members"]
        assert [member.get("muted") for member in members] == [None, True, None]
        assert all("muted" not in member for member in (await ask(carol, "group.members", group=group))["members"])
        own = await ask(bob, "group.get", group=group)
        assert own["muted"] is True
        bob.send(group, "not now")
        await stage.until("bob is refused", lambda: bob.failures == [ErrorCode.MUTED])
        await ask(alice, "group.unmute", group=group, user="bob")
        await hears(stage, bob, "group.unmuted")
        await ask(alice, "group.mute", group=group, user="bob")
        assert (await hears(stage, bob, "group.muted", 2))["until_ms"] is None
        await ask(alice, "group.ban", group=group, user="carol")
        assert (await hears(stage, carol, "group.kicked"))["group"] == group
        assert (await hears(stage, alice, "group.banned"))["user"]["name"] == "carol"
        assert notices(bob, "group.banned") == notices(carol, "group.muted") == []
        (ban,) = (await ask(alice, "group.bans", group=group))["bans"]
        assert (ban["user"]["name"], ban["by"]["name"]) == ("carol", "alice")
        await ask(alice, "group.unban", group=group, user="carol")
        await hears(stage, alice, "group.unbanned")

    play(tmp_path, story)


@both
def test_everybody_hears_of_the_end_and_is_given_nothing_more(tmp_path: Path, workers: int) -> None:
    async def story(stage: Stage) -> None:
        alice, bob, carol = await people(stage, workers, "alice", "bob", "carol")
        group = await new_group(alice, bob, carol)
        alice.send(group, "under way")
        await stage.until("all have it", lambda: bob.bodies == carol.bodies == ["under way"])
        await ask(alice, "group.dissolve", group=group)
        for member in (alice, bob, carol):
            assert (await hears(stage, member, "group.dissolved"))["by"]["name"] == "alice"
        await stage.until("nobody is in it", lambda: not any((one.session.groups or {}) for one in (alice, bob, carol)))  # type: ignore[union-attr]
        for member in (alice, bob):
            member.send(group, "anybody?")
            await stage.until("refused", lambda member=member: member.failures)
            assert member.failures == [ErrorCode.UNKNOWN_GROUP]
        given = len(bob.given)
        await stage.pass_time(600)
        await stage.settled()
        assert len(bob.given) == given, "what was not acknowledged is not given again"

    play(tmp_path, story)


def test_a_desk_is_told_that_it_was_let_in(tmp_path: Path) -> None:
    """GROUP_ACK; whether its client understands that is the codec's to say."""

    async def story(stage: Stage) -> None:
        one, two = await stage.worker(), await stage.worker()
        alice, desk = await one.mobile("alice"), await two.desk("bob")
        group = int((await ask(alice, "group.create", name="team", join="approval"))["group"]["id"])
        await desk.do(JoinGroup(group))
        assert desk.failures == [ErrorCode.APPROVAL_PENDING]
        assert desk.told(GroupReady) == []
        await ask(alice, "group.approve", group=group, user="bob")
        (told,) = await stage.until("the desk is told", lambda: desk.told(GroupReady))
        assert (told.group.id, told.created, told.asked_for) == (group, False, False)
        alice.send(group, "welcome")
        await stage.until("the desk has it", lambda: desk.bodies == ["welcome"])

    play(tmp_path, story)


def test_what_waits_for_an_answer_is_told_at_login(tmp_path: Path) -> None:
    """Invitations to the invited, requests to join to those who run the group; to nobody on a wire without notices."""

    async def story(stage: Stage) -> None:
        worker = await stage.worker()
        alice, bob, carol = [await worker.mobile(name) for name in ("alice", "bob", "carol")]
        group = await new_group(alice)
        await ask(alice, "group.set", group=group, join="approval")
        bob.leave()
        alice.leave()
        await ask(carol, "group.join", group=group)
        alice = await worker.mobile("alice")
        (told,) = notices(alice, "group.requested")
        assert (told["user"]["name"], told["details"]["name"], told["waiting"]) == ("carol", "team", True)
        await ask(alice, "group.invite", group=group, user="bob")
        bob = await worker.mobile("bob")
        (told,) = notices(bob, "group.invited")
        assert (told["group"], told["by"]["name"], told["waiting"]) == (group, "alice", True)
        for name in ("alice", "bob"):
            assert len((await worker.desk(name)).events) == 1, "more than the login answer"
        await ask(alice, "group.approve", group=group, user="carol")
        await ask(bob, "group.decline", group=group)
        for name in ("alice", "bob"):
            assert not [one for one in notices(await worker.mobile(name)) if "waiting" in one]

    play(tmp_path, story)


def test_at_most_a_hundred_of_each_kind_are_told_at_login(tmp_path: Path) -> None:
    async def story(stage: Stage) -> None:
        worker = await stage.worker()
        owner = await worker.mobile("owner")
        group = await new_group(owner)
        await ask(owner, "group.set", group=group, join="approval")
        for number in range(103):
            asker = await worker.mobile(f"asker{number}")
            await ask(asker, "group.join", group=group)
            asker.leave()
        again = await worker.mobile("owner")
        told = [one["user"]["name"] for one in notices(again, "group.requested")]
        assert told == [f"asker{number}" for number in range(100)], "the oldest ones"

    play(tmp_path, story)
