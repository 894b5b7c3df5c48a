"""Blocks and choices: the operations, their refusals, and what the other user is told: nothing."""

from __future__ import annotations

from pathlib import Path

import pytest

from chatd.core import presence
from chatd.errors import ErrorCode
from chatd.protocol import AddFriend, AnswerFriend, Failed, FriendAnswered, FriendRequested
from tests.core.asking import ask, befriend, new_group, notices, refused
from tests.core.requests.test_dispatch import id_of, people
from tests.core.stage import Stage, play
from tests.core.test_presence import comes_and_goes, heard, rounds, watching

DEFAULT = {"write": "default", "ask": "default", "see": "default", "add": "default"}


def test_blocking_is_answered_listed_and_taken_back(tmp_path: Path) -> None:
    async def story(stage: Stage) -> None:
        alice, bob, carol = await people(stage, 2, "alice", "bob", "carol")
        shown = {"id": id_of(bob), "name": "bob"}
        assert await ask(alice, "block", user="bob") == {"user": shown}
        assert await ask(alice, "block", user=id_of(bob)) == {"user": shown}
        await ask(alice, "block", user="carol")
        assert await ask(alice, "block.list") == {
            "users": [shown, {"id": id_of(carol), "name": "carol"}],
            "more": False,
        }
        assert await ask(alice, "block.list", limit=1) == {"users": [shown], "more": True}
        assert [one["name"] for one in (await ask(alice, "block.list", after=id_of(bob)))["users"]] == ["carol"]
        assert await ask(bob, "block.list") == {"users": [], "more": False}
        assert await ask(alice, "unblock", user="bob") == {"user": shown}
        assert [one["name"] for one in (await ask(alice, "block.list"))["users"]] == ["carol"]
        await stage.settled()
        assert (notices(bob), notices(carol)) == ([], [])

    play(tmp_path, story)


def test_blocks_that_are_refused(tmp_path: Path) -> None:
    async def story(stage: Stage) -> None:
        stage.limit(blocks_per_user=1)
        alice, _, _ = await people(stage, 1, "alice", "bob", "carol")
        for op in ("block", "unblock"):
            assert await refused(alice, op, user="nobody") is ErrorCode.UNKNOWN_RECIPIENT
            assert await refused(alice, op, user=999) is ErrorCode.UNKNOWN_RECIPIENT
            assert await refused(alice, op) is ErrorCode.BAD_FIELD
            assert await refused(alice, op, user="alice") is ErrorCode.NOT_ALLOWED
        assert await refused(alice, "unblock", user="bob") is ErrorCode.NOT_ALLOWED
        await ask(alice, "block", user="bob")
        assert await refused(alice, "block", user="carol") is ErrorCode.LIMIT_REACHED
        assert await refused(alice, "block.list", limit=0) is ErrorCode.BAD_FIELD
        assert await refused(alice, "block.list", limit=201) is ErrorCode.BAD_FIELD

    play(tmp_path, story)


def test_choices_are_changed_one_by_one_and_shown_with_the_operators(tmp_path: Path) -> None:
    async def story(stage: Stage) -> None:
        stage.people(may_write="contacts", may_add="nobody")
        (alice,) = await people(stage, 1, "alice")
        defaults = {"write": "contacts", "ask": "everybody", "see": "contacts", "add": "nobody"}
        assert await ask(alice, "privacy.get") == {"privacy": DEFAULT, "defaults": defaults}
        assert await ask(alice, "privacy.set", write="friends") == {"privacy": {**DEFAULT, "write": "friends"}}
        chosen = {**DEFAULT, "write": "friends", "see": "nobody", "ask": "everybody"}
        assert await ask(alice, "privacy.set", see="nobody", ask="everybody") == {"privacy": chosen}
        assert await ask(alice, "privacy.set") == {"privacy": chosen}
        assert (await ask(alice, "privacy.get"))["privacy"] == chosen
        for wrong in ({"write": "all"}, {"write": 1}, {"see": ""}, {"add": None, "ask": []}):
            assert await refused(alice, "privacy.set", **wrong) is ErrorCode.BAD_FIELD
        assert (await ask(alice, "privacy.get"))["privacy"] == chosen
        assert await ask(alice, "privacy.set", **DEFAULT) == {"privacy": DEFAULT}

    play(tmp_path, story)


@pytest.mark.parametrize("op", ["profile.get", "presence.get", "presence.subscribe"])
def test_who_may_see_decides_about_each_way_to_see(tmp_path: Path, op: str) -> None:
    async def story(stage: Stage) -> None:
        alice, friend, mate, stranger = await people(stage, 1, "alice", "friend", "mate", "stranger")
        await befriend(alice, friend)
        await new_group(alice, mate)
        arguments = {"user": "alice"} if op == "profile.get" else {"users": ["alice"]}
        sees = {"everybody": 4, "contacts": 3, "friends": 2, "nobody": 1, "default": 3}
        for choice, count in sees.items():
            await ask(alice, "privacy.set", see=choice)
            for number, one in enumerate((alice, friend, mate, stranger)):
                if number < count:
                    await ask(one, op, **arguments)
                else:
                    assert await refused(one, op, **arguments) is ErrorCode.NOT_ACCEPTED

    play(tmp_path, story)


def test_nothing_is_told_after_a_block_though_no_bus_message_arrives(tmp_path: Path) -> None:
    async def story(stage: Stage) -> None:
        one, two = await stage.worker(), await stage.worker()
        alice, bob, carol = await one.mobile("alice"), await two.mobile("bob"), await one.mobile("carol")
        for watcher in (alice, carol):
            await befriend(watcher, bob)
            await ask(watcher, "presence.subscribe", users=["bob"])
        stage.exchange.lost = lambda source, target, data: True
        await ask(bob, "block", user="alice")
        await stage.settled()
        await comes_and_goes(stage, bob)
        await rounds(stage, presence.REFRESH_ROUNDS)
        assert (heard(alice), watching(alice)) == ([], set())
        assert heard(carol) != []

    play(tmp_path, story)


def test_the_operators_choice_of_who_may_see_holds_for_watchers_at_once(tmp_path: Path) -> None:
    async def story(stage: Stage) -> None:
        stage.people(may_see="everybody")
        alice, bob = await people(stage, 2, "alice", "bob")
        await ask(alice, "presence.subscribe", users=["bob"])
        stage.people(may_see="contacts")
        await comes_and_goes(stage, bob)
        await rounds(stage, presence.REFRESH_ROUNDS)
        assert (heard(alice), watching(alice)) == ([], set())

    play(tmp_path, story)


def test_friend_requests_on_the_chatserver_wire_keep_to_the_same_rules(tmp_path: Path) -> None:
    async def story(stage: Stage) -> None:
        worker = await stage.worker()
        alice, bob, phone = await worker.desk("alice"), await worker.desk("bob"), await worker.mobile("bob")
        for _ in range(3):
            await alice.do(AddFriend(id_of(bob)))
        await stage.settled()
        assert (len(bob.told(FriendRequested)), len(notices(phone, "friend.request"))) == (1, 1)
        await bob.do(AnswerFriend(id_of(alice), False))
        await alice.do(AddFriend(id_of(bob)))
        await ask(phone, "privacy.set", ask="nobody")
        stage.people(ask_again_s=0.0)
        await alice.do(AddFriend(id_of(bob)))
        await ask(phone, "block", user="alice")
        await alice.do(AddFriend(id_of(bob)))
        await bob.do(AddFriend(id_of(alice)))
        codes = [[event.code for event in one.told(Failed)] for one in (alice, bob)]
        assert codes == [
            [ErrorCode.NOT_ALLOWED, ErrorCode.NOT_ACCEPTED, ErrorCode.NOT_ACCEPTED],
            [ErrorCode.BLOCKED_BY_YOU],
        ]
        assert len(alice.told(FriendAnswered)) == 1
        assert (len(bob.told(FriendRequested)), len(notices(phone, "friend.request"))) == (1, 1)

    play(tmp_path, story)
