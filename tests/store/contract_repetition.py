"""What every store must do with an fp that was used before: a repetition is answered with the first result (P2), and
another message under the same fp is refused and not stored.

A part of tests.store.contract.StoreContract.
"""

from __future__ import annotations

import itertools
import threading
from collections.abc import Callable

import pytest

from chatd.errors import ErrorCode
from chatd.model import User
from chatd.protocol import SendMessage
from chatd.store.contract import Again, Draft, Stored, Tables, text_hash
from tests.store.steps import ANY, Twin, done, make, refused, send, sent, team, to, to_group, to_name

REUSED = ErrorCode.FP_REUSED
FILLING = 40
"""Messages that follow: with a small span, those before have index entries by then."""


def send_until_done(tables: Tables, sender: User, command: SendMessage) -> list[Stored | ErrorCode]:
    """Again when it met the other's transaction, as group commit does."""
    while True:
        try:
            return send(tables, (sender, command))
        except Again:
            continue


class RepetitionContract:
    def test_another_text_or_recipient_under_a_used_fp_is_refused(self, tables: Tables) -> None:
        alice, bob, carol = make(tables, "alice", "bob", "carol")
        group, other = team(tables, alice, bob), team(tables, alice, bob)
        first = [
            sent(tables, alice, command).message
            for command in (to(bob, "hello", "one"), to_group(group, "hello", "group"), to(alice, "hello", "self"))
        ]
        different = [
            to(bob, "other", "one"), to(carol, "hello", "one"), to(alice, "hello", "one"),
            to_name("carol", "hello", "one"), to_group(group, "hello", "one"),
            to(bob, "", "one"), to(bob, "hello ", "one"), to(bob, "Hello", "one"),
            to_group(group, "other", "group"), to_group(other, "hello", "group"), to(bob, "hello", "group"),
            to(bob, "hello", "self"),
        ]  # fmt: skip
        same = [to(bob, "hello", "one"), to_group(group, "hello", "group"), to(alice, "hello", "self")]
        for drafts in ([[command] for command in different], [different]):
            for batch in drafts:
                assert send(tables, *((alice, command) for command in batch)) == [REUSED] * len(batch)
        assert send(tables, *((alice, command) for command in same)) == [Stored(message, False) for message in first]
        for user, own in ((alice, first), (bob, first[:2]), (carol, [])):
            assert tables.history.waiting(user.id, ANY).messages == own

    def test_what_is_refused_uses_no_number_and_leaves_no_conversation(self, tables: Tables) -> None:
        alice, bob, carol = make(tables, "alice", "bob", "carol")
        sent(tables, alice, to(bob, "1", "fp"))
        assert send(tables, (alice, to(bob, "x", "fp")), (alice, to(carol, "x", "fp"))) == [REUSED, REUSED]
        assert sent(tables, alice, to(bob, "2")).message.seq == 2
        assert tables.history.heads(carol.id, -(1 << 61), ANY) == []
        assert sent(tables, alice, to(carol, "1")).message.seq == 1
        assert [head.last for head in tables.history.heads(carol.id, -(1 << 61), ANY)] == [1]

    def test_two_messages_with_one_fp_in_one_batch(self, tables: Tables) -> None:
        alice, bob, carol = make(tables, "alice", "bob", "carol")
        results = send(
            tables,
            (alice, to(bob, "one", "a")), (alice, to(bob, "two", "a")), (bob, to(alice, "three", "a")),
            (alice, to(carol, "one", "a")), (alice, to(bob, "one", "a")), (alice, to(bob, "four", "b")),
        )  # fmt: skip
        assert [result.message.seq if isinstance(result, Stored) else result for result in results] == [
            1, REUSED, 2, REUSED, 1, 3,
        ]  # fmt: skip
        assert [result.fresh for result in results if isinstance(result, Stored)] == [True, True, False, True]

    def test_the_recipient_is_the_same_however_it_is_named(self, tables: Tables) -> None:
        alice, bob = make(tables, "alice", "Bob")
        first = sent(tables, alice, to_name("bOB", "hello", "fp")).message
        for command in (to(bob, "hello", "fp"), to_name("BOB", "hello", "fp"), to_name(str(bob.id), "hello", "fp")):
            assert sent(tables, alice, command) == Stored(first, False)

    def test_quality_of_service_and_type_do_not_tell_messages_apart(self, tables: Tables) -> None:
        alice, bob = make(tables, "alice", "bob")
        first = sent(tables, alice, SendMessage("", bob.id, 0, "hello", "fp", qos=True, typeu=7)).message
        assert sent(tables, alice, SendMessage("", bob.id, 0, "hello", "fp")) == Stored(first, False)

    def test_a_repetition_is_known_although_the_way_is_closed_since(self, tables: Tables) -> None:
        """The first result is the answer even if the sender has left the group, or the recipient's account is gone."""
        alice, bob, carol = make(tables, "alice", "bob", "carol")
        group = team(tables, bob, alice)
        commands = to_group(group, "x", "group"), to(carol, "x", "id"), to_name("CAROL", "x", "name")
        first = [sent(tables, alice, command).message for command in commands]
        done(tables, lambda inside: inside.groups.leave(alice.id, group))
        done(tables, lambda inside: inside.accounts.delete(carol.id))
        assert send(tables, *((alice, command) for command in commands)) == [Stored(one, False) for one in first]
        assert send(tables, (alice, to_group(group, "y", "group")), (alice, to_group(group, "y", "new"))) == [
            REUSED, ErrorCode.NOT_A_MEMBER,
        ]  # fmt: skip

    @pytest.mark.parametrize("between", [0, FILLING])
    def test_through_another_open_too(self, opened: Callable[[], Tables], between: int) -> None:
        """On another worker, which has not read the first one yet; with and without an index entry."""
        one, other = opened(), opened()
        alice, bob, carol = make(one, "alice", "bob", "carol")
        for number in range(10):
            here, there = (one, other) if number % 2 else (other, one)
            first = sent(here, alice, to(bob, "first", str(number))).message
            for filling in range(between):
                sent(here, carol, to(carol, "", f"{number} {filling}"))
            assert send(there, (alice, to(bob, "second", str(number)))) == [REUSED]
            assert send(there, (alice, to(carol, "first", str(number)))) == [REUSED]
            assert sent(there, alice, to(bob, "first", str(number))) == Stored(first, False)
        assert [message.body for message in one.history.waiting(bob.id, ANY).messages] == ["first"] * 10

    def test_fps_that_share_a_hash_are_told_apart(self, twin: Twin, opened: Callable[[], Tables]) -> None:
        twin.collide()
        one, other = opened(), opened()
        alice, bob = make(one, "alice", "bob")
        for fp in "abc":
            sent(one, alice, to(bob, fp, fp))
        results = send(other, *((alice, to(bob, body, fp)) for fp, body in ("ax", "bb", "cx", "dd", "dx")))
        assert [result.message.seq if isinstance(result, Stored) else result for result in results] == [
            REUSED, 2, REUSED, 4, REUSED,
        ]  # fmt: skip

    def test_a_text_that_a_plug_in_changed_is_known_by_what_the_client_sent(self, opened: Callable[[], Tables]) -> None:
        """The plug-in may change it otherwise the second time, or not at all."""
        one, other = opened(), opened()
        alice, bob = make(one, "alice", "bob")

        def draft(fp: str, sent: str, stored: str) -> Draft:
            return Draft(alice, to(bob, stored, fp), None if sent == stored else text_hash(sent))

        def append(tables: Tables, *drafts: Draft) -> list[Stored | ErrorCode]:
            return done(tables, lambda inside: inside.append(drafts, 1))

        first, plain = append(one, draft("a", "sent", "stored"), draft("b", "sent", "sent"))
        assert isinstance(first, Stored)
        assert isinstance(plain, Stored)
        again = [draft("a", "sent", text) for text in ("stored", "changed otherwise", "sent")]
        different = [draft("a", "other", text) for text in ("stored", "changed otherwise", "other")]
        for tables in (one, other):
            for drafts in ([[one] for one in again + different], [again + different]):
                found = [result for batch in drafts for result in append(tables, *batch)]
                assert found == [Stored(first.message, False)] * 3 + [REUSED] * 3
            assert append(tables, draft("b", "sent", "changed"), draft("b", "other", "sent")) == [
                Stored(plain.message, False), REUSED,
            ]  # fmt: skip
        within = draft("c", "sent", "stored"), draft("c", "sent", "changed"), draft("c", "other", "changed")
        assert [result.fresh if isinstance(result, Stored) else result for result in append(one, *within)] == [
            True, False, REUSED,
        ]  # fmt: skip

    def test_another_request_under_a_used_fp_is_refused(self, opened: Callable[[], Tables]) -> None:
        one, other = opened(), opened()
        (alice,) = make(one, "alice")
        hashes = text_hash("request"), text_hash("other"), text_hash("")
        done(one, lambda inside: inside.request_log.remember(alice.id, "fp", "answer", 1, hashes[0]))
        for tables in (one, other):
            assert tables.request_log.answered(alice.id, "fp", hashes[0]) == "answer"
            assert tables.request_log.answered(alice.id, "fp") == "answer"
            assert tables.request_log.answered(alice.id, "new", hashes[1]) is None
            for another in hashes[1:]:
                refused(REUSED, tables, lambda inside, h=another: inside.request_log.answered(alice.id, "fp", h))

    def test_of_two_messages_at_once_one_is_stored_and_the_other_refused(self, opened: Callable[[], Tables]) -> None:
        """On two workers, each with its own connection."""
        tables = opened(), opened()
        alice, bob, carol = make(tables[0], "alice", "bob", "carol")
        commands = (lambda fp: to(bob, "to bob", fp)), (lambda fp: to(carol, "to carol", fp))
        rounds = 30
        start = threading.Barrier(2)
        results: list[list[Stored | ErrorCode]] = [[], []]

        def write(side: int) -> None:
            for number in range(rounds):
                start.wait(20)
                results[side] += send_until_done(tables[side], alice, commands[side](f"fp {number}"))

        threads = [threading.Thread(target=write, args=(side,)) for side in (0, 1)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(60)
        assert [len(side) for side in results] == [rounds, rounds]
        for pair in zip(*results, strict=True):
            assert sorted(isinstance(result, Stored) for result in pair) == [False, True]
            assert REUSED in pair
        waiting = [tables[0].history.waiting(user.id, ANY).messages for user in (bob, carol)]
        assert len(list(itertools.chain(*waiting))) == rounds
