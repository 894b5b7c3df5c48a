"""What every store must do about messages that wait: refuse those beyond a quota, and store nothing of them.

A part of tests.store.contract.StoreContract.
"""

from __future__ import annotations

from collections.abc import Callable

import pytest

from chatd.errors import ErrorCode
from chatd.model import User
from chatd.protocol import SendMessage
from chatd.store.contract import Draft, SendingRules, Stored, Tables
from tests.store.steps import ANY, ASKING, advance, befriend, done, make, sent, team, to, to_group

FULL = ErrorCode.MAILBOX_FULL
ONE = SendingRules(waiting_from_one=5)
ALL = SendingRules(waiting=8)
OPEN = 6
"""Of these, for everybody; the last quarter is kept for friends."""
LATER_MS = 2000
"""A mailbox that was full has been counted again by then."""
Outcome = list[int | ErrorCode]


def sending(tables: Tables, rules: SendingRules, *drafts: tuple[User, SendMessage], now_ms: int = 1) -> Outcome:
    """The seq of each draft that was stored, or why it was refused."""
    batch = [Draft(sender, command) for sender, command in drafts]
    results = done(tables, lambda inside: inside.append(batch, now_ms, rules))
    return [result.message.seq if isinstance(result, Stored) else result for result in results]


class MailboxContract:
    @pytest.mark.parametrize("batched", [True, False])
    def test_so_many_messages_of_one_user_wait(self, tables: Tables, batched: bool) -> None:
        alice, bob, carol = make(tables, "alice", "bob", "carol")
        drafts = [(alice, to(bob, str(number))) for number in range(8)]
        batches = [drafts] if batched else [[draft] for draft in drafts]
        outcome = [each for batch in batches for each in sending(tables, ONE, *batch)]
        assert outcome == [1, 2, 3, 4, 5, FULL, FULL, FULL]
        assert sending(tables, ONE, (carol, to(bob)), (alice, to(carol))) == [1, 1]
        assert [message.body for message in tables.history.waiting(bob.id, ANY).messages] == [*"01234", "hello"]

    def test_what_was_received_makes_room_exactly(self, tables: Tables) -> None:
        alice, bob = make(tables, "alice", "bob")
        conversation = sent(tables, alice, to(bob)).message.conversation
        assert sending(tables, ONE, *[(alice, to(bob))] * 5) == [2, 3, 4, 5, FULL]
        for received in (2, 3, 5):
            advance(tables, bob, conversation, received)
            assert sending(tables, ONE, *[(alice, to(bob))] * 9)[-1] is FULL
            assert tables.history.waiting(bob.id, ANY).messages[-1].seq == received + 5

    def test_another_worker_sees_the_same(self, opened: Callable[[], Tables]) -> None:
        here, there = opened(), opened()
        alice, bob = make(here, "alice", "bob")
        assert sending(here, ONE, *[(alice, to(bob))] * 3) == [1, 2, 3]
        assert sending(there, ONE, *[(alice, to(bob))] * 3) == [4, 5, FULL]
        assert sending(here, ONE, (alice, to(bob))) == [FULL]
        conversation = here.history.waiting(bob.id, ANY).messages[0].conversation
        advance(there, bob, conversation, 4)
        assert sending(here, ONE, *[(alice, to(bob))] * 5) == [6, 7, 8, 9, FULL]

    def test_both_directions_have_a_quota(self, tables: Tables) -> None:
        alice, bob = make(tables, "alice", "bob")
        assert sending(tables, ONE, *[(alice, to(bob))] * 3) == [1, 2, 3]
        assert sending(tables, ONE, *[(bob, to(alice))] * 6) == [4, 5, 6, 7, 8, FULL]

    @pytest.mark.parametrize("batched", [True, False])
    def test_who_writes_without_an_answer_can_still_be_answered(self, tables: Tables, batched: bool) -> None:
        """The cursor of somebody who only writes does not move by itself."""
        alice, bob = make(tables, "alice", "bob")
        for number in range(1, 31):
            conversation = sent(tables, bob, to(alice)).message.conversation
            advance(tables, alice, conversation, number)
        drafts = [(alice, to(bob))] * 7
        batches = [drafts] if batched else [[draft] for draft in drafts]
        outcome = [each for batch in batches for each in sending(tables, ONE, *batch)]
        assert outcome == [31, 32, 33, 34, 35, FULL, FULL]
        waiting = tables.history.waiting(bob.id, ANY).messages
        assert [message.seq for message in waiting] == [31, 32, 33, 34, 35]

    def test_who_writes_to_many_without_an_answer_can_be_answered_by_all(self, tables: Tables) -> None:
        bob, *others = make(tables, "bob", *(f"user {number}" for number in range(40)))
        for _ in range(3):
            for user in others:
                sent(tables, bob, to(user))
        outcome = [
            sending(tables, ALL, (user, to(bob)), now_ms=LATER_MS * number)[0] for number, user in enumerate(others)
        ]
        assert FULL not in outcome[:OPEN]
        assert outcome[-1] is FULL
        assert len(tables.history.waiting(bob.id, ANY).messages) < 40 * 4

    def test_a_note_to_oneself_waits_too(self, tables: Tables) -> None:
        (alice,) = make(tables, "alice")
        assert sending(tables, ONE, *[(alice, to(alice))] * 6) == [1, 2, 3, 4, 5, FULL]

    def test_all_senders_together_have_a_quota(self, tables: Tables) -> None:
        bob, *senders = make(tables, "bob", *(f"user {number}" for number in range(12)))
        outcome = [sending(tables, ALL, (sender, to(bob)))[0] for sender in senders]
        assert outcome == [1] * OPEN + [FULL] * 6
        assert sending(tables, ALL, *[(senders[0], to(senders[1]))] * 3) == [1, 2, 3]
        first, *others = tables.history.waiting(bob.id, ANY).messages
        assert len(others) == OPEN - 1
        advance(tables, bob, first.conversation, 1)
        assert sending(tables, ALL, (senders[10], to(bob)), (senders[11], to(bob)), now_ms=LATER_MS) == [1, FULL]

    @pytest.mark.parametrize("batched", [True, False])
    def test_ten_accounts_cannot_keep_friends_out(self, tables: Tables, batched: bool) -> None:
        """Each fills what one user may have waiting, which is a tenth of the mailbox."""
        rules = SendingRules(waiting_from_one=10, waiting=100)
        names = ("bob", "friend", "other", "asking", *(f"user {number}" for number in range(10)))
        bob, friend, other, asking, *strangers = make(tables, *names)
        befriend(tables, bob, friend)
        befriend(tables, bob, other)
        done(tables, lambda inside: inside.friends.request(asking, bob.id, ASKING, 1))
        outcome: Outcome = []
        for stranger in strangers:
            drafts = [(stranger, to(bob))] * 12
            batches = [drafts] if batched else [[draft] for draft in drafts]
            outcome += [each for batch in batches for each in sending(tables, rules, *batch)]
        assert len(outcome) - outcome.count(FULL) == 75
        assert sending(tables, rules, *[(asking, to(bob))] * 2) == [FULL] * 2
        found = [each for _ in range(3) for each in sending(tables, rules, *[(friend, to(bob)), (other, to(bob))] * 4)]
        assert found == [seq for seq in range(1, 11) for _ in range(2)] + [FULL] * 4

    def test_friends_fill_what_is_kept_for_them_and_no_more(self, tables: Tables) -> None:
        bob, *friends = make(tables, "bob", *(f"user {number}" for number in range(12)))
        for friend in friends[:10]:
            befriend(tables, bob, friend)
        outcome = sending(tables, ALL, *[(friend, to(bob)) for friend in friends])
        assert outcome == [1] * 8 + [FULL] * 4
        for waiting in tables.history.waiting(bob.id, ANY).messages[:2]:
            advance(tables, bob, waiting.conversation, 1)
        later = [(friends[11], to(bob)), (friends[9], to(bob)), (friends[8], to(bob)), (friends[0], to(bob))]
        assert sending(tables, ALL, *later, now_ms=LATER_MS) == [FULL, 1, 1, FULL]

    def test_who_becomes_a_friend_gets_in(self, tables: Tables) -> None:
        bob, friend, *strangers = make(tables, "bob", "friend", *(f"user {number}" for number in range(OPEN)))
        sending(tables, ALL, *[(stranger, to(bob)) for stranger in strangers])
        assert sending(tables, ALL, (friend, to(bob))) == [FULL]
        befriend(tables, bob, friend)
        assert sending(tables, ALL, *[(friend, to(bob))] * 3, now_ms=LATER_MS) == [1, 2, FULL]

    def test_a_mailbox_that_empties_is_never_refused(self, tables: Tables) -> None:
        bob, alice, carol = make(tables, "bob", "alice", "carol")
        for number in range(100):
            for sender in (alice, carol):
                assert sending(tables, ALL, (sender, to(bob))) == [number + 1]
                advance(tables, bob, tables.history.waiting(bob.id, ANY).messages[0].conversation, number + 1)

    def test_groups_have_no_quota(self, tables: Tables) -> None:
        alice, bob = make(tables, "alice", "bob")
        group = team(tables, alice, bob)
        rules = SendingRules(waiting_from_one=2, waiting=2)
        assert sending(tables, rules, *[(alice, to_group(group))] * 5) == [1, 2, 3, 4, 5]
        assert sending(tables, rules, *[(alice, to(bob))] * 3) == [1, 2, FULL]

    def test_a_repetition_is_answered_as_before(self, tables: Tables) -> None:
        alice, bob = make(tables, "alice", "bob")
        drafts = [(alice, to(bob, str(number), f"fp{number}")) for number in range(7)]
        assert sending(tables, ONE, *drafts) == [1, 2, 3, 4, 5, FULL, FULL]
        assert sending(tables, ONE, *drafts) == [1, 2, 3, 4, 5, FULL, FULL]
        assert sending(tables, ONE, drafts[2], (alice, to(bob, "other", "fp3")), drafts[6]) == [
            3, ErrorCode.FP_REUSED, FULL,
        ]  # fmt: skip
        conversation = tables.history.waiting(bob.id, ANY).messages[0].conversation
        advance(tables, bob, conversation, 5)
        assert sending(tables, ONE, *drafts) == [1, 2, 3, 4, 5, 6, 7]

    def test_quotas_change_while_running(self, tables: Tables) -> None:
        alice, bob = make(tables, "alice", "bob")
        assert sending(tables, ONE, *[(alice, to(bob))] * 6)[-1] is FULL
        more = SendingRules(waiting_from_one=7, waiting=100)
        assert sending(tables, more, *[(alice, to(bob))] * 3) == [6, 7, FULL]
        assert sending(tables, SendingRules(), *[(alice, to(bob))] * 3) == [8, 9, 10]
        assert sending(tables, ONE, (alice, to(bob))) == [FULL]

    def test_what_is_refused_leaves_no_trace(self, tables: Tables) -> None:
        alice, bob = make(tables, "alice", "bob")
        outcome = sending(tables, ONE, *[(alice, to(bob))] * 5, (alice, to(bob, "x", "lost")), (bob, to(alice)))
        assert outcome == [1, 2, 3, 4, 5, FULL, FULL]
        conversation = tables.history.waiting(bob.id, ANY).messages[0].conversation
        advance(tables, bob, conversation, 5)
        advance(tables, alice, conversation, 5)
        assert sending(tables, ONE, (alice, to(bob, "y", "lost")), (bob, to(alice))) == [6, 7]
