"""What every store must do to let people read what was written: a part of the contract.

Inherited by contract.StoreContract, so that one subclass per twin runs all of it.
"""

from __future__ import annotations

from collections.abc import Callable

import pytest

from chatd.errors import ErrorCode
from chatd.model import Group
from chatd.store.contract import Head, Tables
from tests.store.steps import ANY, advance, done, make, refused, sent, team, to, to_group


class HistoryContract:
    def test_the_conversation_of_two_people_or_a_group(self, tables: Tables) -> None:
        alice, bob, carol = make(tables, "alice", "bob", "carol")
        group = team(tables, alice, bob)
        assert tables.history.conversation_of(alice.id, bob.id, 0) == 0
        talk = sent(tables, alice, to(bob)).message.conversation
        assert (
            tables.history.conversation_of(alice.id, bob.id, 0)
            == tables.history.conversation_of(bob.id, alice.id, 0)
            == talk
        )
        assert tables.history.conversation_of(alice.id, carol.id, 0) == 0
        assert tables.history.conversation_of(bob.id, 0, group) == -group
        refused(ErrorCode.NOT_A_MEMBER, tables, lambda inside: inside.history.conversation_of(carol.id, 0, group))
        refused(ErrorCode.UNKNOWN_GROUP, tables, lambda inside: inside.history.conversation_of(carol.id, 0, group + 1))

    @pytest.mark.parametrize(
        ("after", "before", "limit", "expected"),
        [
            (0, 0, ANY, range(1, 11)), (0, 0, 4, range(1, 5)), (4, 0, 3, range(5, 8)), (9, 0, 5, range(10, 11)),
            (10, 0, 5, range(0)), (99, 0, 5, range(0)), (0, 11, 3, range(8, 11)), (0, 99, 3, range(8, 11)),
            (0, 8, 3, range(5, 8)), (0, 3, 5, range(1, 3)), (0, 1, 5, range(0)), (5, 8, 2, range(6, 8)),
        ],
    )  # fmt: skip
    def test_history_in_pages(self, tables: Tables, after: int, before: int, limit: int, expected: range) -> None:
        alice, bob, carol = make(tables, "alice", "bob", "carol")
        for number in range(1, 11):
            talk = sent(tables, (alice, bob)[number % 2], to((bob, alice)[number % 2], str(number))).message
            sent(tables, alice, to(carol, "another talk"))
        messages = tables.history.messages(alice.id, talk.conversation, after, before, limit)
        assert [message.seq for message in messages] == list(expected)
        assert [message.body for message in messages] == [str(number) for number in expected]

    def test_history_of_another_worker_over_many_merges(self, opened: Callable[[], Tables]) -> None:
        one, other = opened(), opened()
        alice, bob = make(one, "alice", "bob")
        group = team(one, alice, bob)
        messages = [sent(one, alice, to_group(group, str(number))).message for number in range(1, 21)]
        assert other.history.messages(alice.id, -group, 0, 0, ANY) == messages
        messages.append(sent(other, bob, to_group(group, "21")).message)
        assert one.history.messages(alice.id, -group, 17, 0, 3) == messages[17:20]
        assert one.history.messages(alice.id, -group, 0, 22, 3) == messages[18:]
        assert one.history.messages(alice.id, -group - 1, 0, 0, ANY) == []

    def test_heads_are_the_user_s_conversations(self, opened: Callable[[], Tables]) -> None:
        one, other = opened(), opened()
        alice, bob, carol = make(one, "alice", "bob", "carol")
        team(one, bob, carol)
        group = team(one, alice, bob)
        for _ in range(3):
            first = sent(one, alice, to(bob)).message.conversation
        second = sent(one, carol, to(alice)).message.conversation
        sent(one, bob, to(carol))
        sent(other, bob, to_group(group))
        advance(one, alice, first, 2)
        described = Group(group, "team", "")
        heads = [Head(-group, described, 1, 0, 0), Head(first, bob, 3, 2, 0), Head(second, carol, 1, 0, 0)]
        for tables in (one, other):
            assert tables.history.heads(alice.id, -(1 << 61), ANY) == heads
            assert tables.history.heads(alice.id, -group, 1) == heads[1:2]
            assert tables.history.heads(alice.id, second, ANY) == []

    def test_heads_name_who_is_no_more_and_forget_groups_left(self, tables: Tables) -> None:
        alice, bob = make(tables, "alice", "bob")
        group = team(tables, bob, alice)
        sent(tables, bob, to(alice))
        sent(tables, bob, to_group(group))
        done(tables, lambda inside: inside.groups.leave(alice.id, group))
        done(tables, lambda inside: inside.accounts.delete(bob.id))
        (head,) = tables.history.heads(alice.id, -(1 << 61), ANY)
        assert (head.other.name, head.last) == ("bob", 1)

    def test_a_mark_moves_forward_within_what_there_is(self, opened: Callable[[], Tables]) -> None:
        one, other = opened(), opened()
        alice, bob = make(one, "alice", "bob")
        for _ in range(5):
            talk = sent(one, alice, to(bob)).message.conversation
        for seq, reached in [(2, 2), (1, 2), (4, 4), (99, 5), (0, 5)]:
            assert done(other, lambda inside, seq=seq: inside.history.mark_seen(bob.id, talk, seq)) == reached
            assert one.history.seen(bob.id, talk) == reached
            (head,) = one.history.heads(bob.id, 0, ANY)
            assert (head.seen, head.delivered) == (reached, 0)
        (head,) = one.history.heads(alice.id, 0, ANY)
        assert head.seen == 0
        assert done(one, lambda inside: inside.history.mark_seen(bob.id, talk + 1, 5)) == 0
