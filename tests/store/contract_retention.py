"""What every store must do to let data end: a part of the contract.

Inherited by contract.StoreContract, so that one subclass per twin runs all of it. Stores differ in when an old message
is gone and when it is only empty; what people can read, and the numbers of new messages, are the same.
"""

from __future__ import annotations

from collections.abc import Callable

import pytest

from chatd.model import MessageState, User
from chatd.store.contract import Tables
from chatd.store.retention_contract import SETTLE_MS, Kind, Slice
from chatd.store.revision_contract import Revised
from tests.store.steps import ANY, ASKING, Twin, advance, done, make, send, sent, team, to, to_group

OLD, NEW, NOW = 1_000, 5_000, 9_000
BEFORE = 3_000
"""Between OLD and NEW."""


def expire(tables: Tables, kind: Kind = Kind.PRIVATE, before_ms: int = BEFORE, limit: int = 7) -> Slice:
    """In slices, until there is no more to do. The sum."""
    looked = deleted = blanked = 0
    for _ in range(1000):
        one = done(tables, lambda inside: inside.retention.expire(kind, before_ms, NOW, limit))
        looked, deleted, blanked = looked + one.looked_at, deleted + one.deleted, blanked + one.blanked
        if not one.more:
            return Slice(looked, deleted, blanked)
    raise AssertionError("it never ends")


def bodies(
    tables: Tables, reader: User, conversation: int, after: int = 0, before: int = 0, limit: int = ANY
) -> list[str]:
    return [one.body for one in tables.history.messages(reader.id, conversation, after, before, limit)]


def erase_all(tables: Tables, user: User, now_ms: int, limit: int = 3) -> int:
    blanked = 0
    while True:
        one = done(tables, lambda inside: inside.erasure.blank(user.id, limit, now_ms))
        blanked += one.blanked
        if not one.more:
            return blanked


class RetentionContract:
    def test_old_messages_go_and_the_numbers_go_on(self, opened: Callable[[], Tables]) -> None:
        one, other = opened(), opened()
        alice, bob = make(one, "alice", "bob")
        for number in range(20):
            talk = sent(one, alice, to(bob, f"old {number}", f"o{number}"), OLD).message.conversation
        for number in range(5):
            sent(other, bob, to(alice, f"new {number}", f"n{number}"), NEW)
        gone = expire(one)
        assert gone.deleted + gone.blanked == 20
        for tables in (one, other, opened()):
            assert bodies(tables, alice, talk) == [f"new {number}" for number in range(5)]
            assert bodies(tables, alice, talk, after=3, limit=2) == ["new 0", "new 1"]
            assert bodies(tables, alice, talk, before=23) == ["new 0", "new 1"]
            assert bodies(tables, alice, talk, before=21) == []
            assert [one.seq for one in tables.history.waiting(bob.id, ANY).messages] == [21, 22, 23, 24, 25]
        assert sent(other, alice, to(bob, "next")).message.seq == 26
        assert expire(one) == Slice(0, 0, 0) or expire(one).deleted == 0

    def test_the_last_message_stays_without_its_text_so_that_numbers_never_begin_again(
        self, opened: Callable[[], Tables]
    ) -> None:
        one = opened()
        alice, bob = make(one, "alice", "bob")
        for number in range(4):
            talk = sent(one, alice, to(bob, str(number)), OLD).message.conversation
        expire(one, before_ms=NOW)
        for tables in (one, opened()):
            assert bodies(tables, bob, talk) == []
            (head,) = tables.history.heads(bob.id, 0, ANY)
            assert (head.last, head.delivered, head.seen) == (4, 4, 4)
        assert sent(opened(), bob, to(alice, "5"), NEW).message.seq == 5
        assert bodies(one, bob, talk) == ["5"]
        expire(one)
        assert bodies(opened(), bob, talk) == ["5"]

    def test_groups_and_people_are_kept_for_different_times(self, tables: Tables) -> None:
        alice, bob = make(tables, "alice", "bob")
        group = team(tables, alice, bob)
        for number in range(12):
            talk = sent(tables, alice, to(bob, f"p{number}"), OLD).message.conversation
            sent(tables, alice, to_group(group, f"g{number}"), OLD)
        assert expire(tables, Kind.GROUPS).deleted + 0 <= 12
        assert bodies(tables, bob, -group) == []
        assert bodies(tables, bob, talk) == [f"p{number}" for number in range(12)]
        expire(tables, Kind.PRIVATE)
        assert bodies(tables, bob, talk) == []
        assert sent(tables, alice, to_group(group)).message.seq == 13
        assert sent(tables, alice, to(bob)).message.seq == 13

    def test_cursors_and_read_marks_move_beyond_what_is_deleted(self, tables: Tables) -> None:
        alice, bob, carol = make(tables, "alice", "bob", "carol")
        group = team(tables, alice, bob, carol)
        for number in range(6):
            talk = sent(tables, alice, to(bob, str(number)), OLD).message.conversation
            sent(tables, alice, to_group(group, str(number)), OLD)
        sent(tables, alice, to(bob, "new"), NEW)
        sent(tables, alice, to_group(group, "new"), NEW)
        advance(tables, carol, -group, 7)
        for kind in Kind:
            expire(tables, kind)
        where = {
            head.conversation: (head.last, head.delivered, head.seen)
            for head in tables.history.heads(bob.id, -(1 << 61), ANY)
        }
        assert where == {talk: (7, 6, 6), -group: (7, 6, 6)}
        (theirs,) = tables.history.heads(carol.id, -(1 << 61), ANY)
        assert (theirs.delivered, theirs.seen) == (7, 6)
        assert [one.body for one in tables.history.waiting(bob.id, ANY).messages] == ["new", "new"]

    def test_what_belongs_to_a_deleted_message_goes_and_changes_are_numbered_on(self, tables: Tables) -> None:
        alice, bob = make(tables, "alice", "bob")
        for number in range(3):
            talk = sent(tables, alice, to(bob, str(number)), OLD).message.conversation
        sent(tables, alice, to(bob, "new"), NEW)

        def revise(seq: int) -> Revised:
            return done(tables, lambda inside: inside.revisions.edit(alice.id, talk, seq, ("edited", 1 << 40), NOW))

        assert [revise(seq).number for seq in (1, 2, 4)] == [1, 2, 3]
        expire(tables)
        assert [one.seq for one in tables.revisions.since(talk, 0, ANY)] == [4]
        assert revise(4).number == 4

    def test_a_clock_ahead_hides_nothing_behind_it(self, tables: Tables) -> None:
        """A message that was sent while the clock was wrong does not keep those behind it for ever."""
        alice, bob, carol = make(tables, "alice", "bob", "carol")
        sent(tables, alice, to(carol, "future"), NOW + 1)
        for number in range(3):
            talk = sent(tables, alice, to(bob, str(number)), OLD).message.conversation
        expire(tables)
        assert bodies(tables, bob, talk) == []

    def test_nothing_is_deleted_while_it_is_young(self, tables: Tables) -> None:
        alice, bob = make(tables, "alice", "bob")
        for number in range(9):
            talk = sent(tables, alice, to(bob, str(number)), NEW).message.conversation
        assert expire(tables).deleted == expire(tables, before_ms=0).blanked == 0
        assert len(bodies(tables, bob, talk)) == 9

    def test_a_slice_that_is_rolled_back_has_done_nothing(self, opened: Callable[[], Tables]) -> None:
        one = opened()
        alice, bob = make(one, "alice", "bob")
        for number in range(9):
            talk = sent(one, alice, to(bob, str(number), f"fp {number}"), OLD).message.conversation
        one.begin()
        one.retention.expire(Kind.PRIVATE, BEFORE, NOW, 5)
        one.rollback()
        for tables in (one, opened()):
            assert len(bodies(tables, bob, talk)) == 9
        expire(one)
        assert bodies(one, bob, talk) == []

    def test_a_resent_message_is_recognised_although_one_before_it_under_the_same_key_is_gone(
        self, opened: Callable[[], Tables], twin: Twin
    ) -> None:
        twin.collide()
        tables = opened()
        alice, bob = make(tables, "alice", "bob")
        for number in range(3):
            sent(tables, alice, to(bob, f"old {number}", f"old {number}"), OLD)
        young = sent(tables, alice, to(bob, "young", "young"), NEW).message
        for _ in range(3):
            sent(tables, bob, to(alice, "more"), NEW)
        expire(tables)
        again = sent(tables, alice, to(bob, "young", "young"), NOW)
        assert (again.message.seq, again.fresh) == (young.seq, False)

    # ------------------------------------------------------------ dissolved groups

    def test_the_messages_of_a_dissolved_group_go_after_a_while(self, opened: Callable[[], Tables]) -> None:
        tables = opened()
        alice, bob = make(tables, "alice", "bob")
        group, other = team(tables, alice, bob), team(tables, alice)
        for number in range(9):
            sent(tables, alice, to_group(group, str(number), f"g{number}"), OLD)
            sent(tables, alice, to_group(other, str(number), f"o{number}"), OLD)
        for user in (bob, alice):
            done(tables, lambda inside, user=user: inside.groups.leave(user.id, group))

        def dissolve(before_ms: int) -> None:
            while done(tables, lambda inside: inside.retention.expire_dissolved(before_ms, NOW, 4)).more:
                pass

        dissolve(BEFORE)
        dissolve(NOW)
        assert done(tables, lambda inside: inside.retention.space().oldest_ms) == OLD
        dissolve(NOW + 1)
        assert len(bodies(tables, alice, -other)) == 9
        assert sent(opened(), alice, to_group(other)).message.seq == 10

    # ------------------------------------------------------------ erased accounts

    def test_an_erased_user_has_no_name_and_its_messages_no_text(self, opened: Callable[[], Tables]) -> None:
        one, other = opened(), opened()
        alice, bob = make(one, "alice", "bob")
        group = team(one, alice, bob)
        for number in range(10):
            talk = sent(one, alice, to(bob, f"secret {number}", f"a{number}"), OLD).message.conversation
            sent(one, bob, to(alice, f"mine {number}", f"b{number}"), OLD)
            sent(one, alice, to_group(group, f"secret {number}"), OLD)
        assert other.history.messages(bob.id, talk, 0, 0, 1)[0].sender_name == "alice"
        done(one, lambda inside: inside.friends.request(alice, bob.id, ASKING, 1))
        done(one, lambda inside: inside.accounts.set_profile(alice.id, {"mail": "alice@example.org"}))
        done(one, lambda inside: inside.request_log.remember(alice.id, "r1", "answer", OLD))
        version = done(one, lambda inside: inside.accounts.erase(alice.id, NOW))
        assert version == one.accounts.newest_credentials()
        assert [erasure.user_id for erasure in other.erasure.pending()] == [alice.id]
        assert erase_all(other, alice, NOW) == 20
        assert one.erasure.pending() != []
        erase_all(other, alice, NOW + SETTLE_MS)
        assert one.erasure.pending() == []
        for tables in (one, opened()):
            messages = tables.history.messages(bob.id, talk, 0, 0, ANY)
            assert [message.seq for message in messages] == list(range(1, 21))
            for message in messages:
                if message.sender_id == alice.id:
                    assert (message.body, message.fp, message.state) == ("", "", MessageState.ERASED)
                    assert message.sender_name == f"erased user {alice.id}"
                else:
                    assert (message.body[:4], message.to_name) == ("mine", f"erased user {alice.id}")
            assert tables.accounts.find("alice", 0) is None
            assert tables.accounts.profile(alice.id) == {}
            assert tables.friends.requests_to(bob.id) == []
            assert done(tables, lambda inside: inside.request_log.answered(alice.id, "r1")) is None
            assert all(
                message.sender_name == f"erased user {alice.id}"
                for message in tables.history.messages(bob.id, -group, 0, 0, ANY)
            )
        (again,) = make(one, "alice")
        assert again.id != alice.id
        assert sent(one, again, to(bob, "hello", "a1")).fresh

    def test_a_message_sent_while_the_account_was_erased_is_found(self, tables: Tables) -> None:
        alice, bob = make(tables, "alice", "bob")
        talk = sent(tables, alice, to(bob, "secret"), OLD).message.conversation
        done(tables, lambda inside: inside.accounts.erase(alice.id, NOW))
        assert erase_all(tables, alice, NOW) == 1
        sent(tables, alice, to(bob, "late secret"), NOW)
        assert erase_all(tables, alice, NOW + SETTLE_MS) == 1
        assert bodies(tables, bob, talk) == ["", ""]
        assert tables.erasure.pending() == []

    def test_the_groups_of_an_erased_user_are_handed_over(self, tables: Tables) -> None:
        alice, bob = make(tables, "alice", "bob")
        group = team(tables, alice, bob)
        done(tables, lambda inside: inside.accounts.erase(alice.id, NOW))
        assert [(user.name, role.name) for user, role in tables.groups.members(group, 0, ANY)] == [("bob", "OWNER")]

    @pytest.mark.parametrize("limit", [1, 2, 100])
    def test_an_erasure_that_was_interrupted_goes_on(self, opened: Callable[[], Tables], limit: int) -> None:
        one = opened()
        alice, bob = make(one, "alice", "bob")
        send(one, *((alice, to(bob, "secret", str(number))) for number in range(9)), now_ms=OLD)
        done(one, lambda inside: inside.accounts.erase(alice.id, NOW))
        talk = one.history.heads(bob.id, 0, ANY)[0].conversation
        while any(bodies(one, bob, talk)):
            worker = opened()
            worker.begin()
            worker.erasure.blank(alice.id, limit, NOW)
            worker.rollback()
            done(opened(), lambda inside: inside.erasure.blank(alice.id, limit, NOW))
        assert [one.position == one.end for one in one.erasure.pending()] == [True]

    def test_the_clock_of_retention_never_goes_back(self, tables: Tables) -> None:
        assert tables.retention.clock() == 0
        for now, kept in [(5, 5), (3, 5), (9, 9)]:
            done(tables, lambda inside, now=now: inside.retention.set_clock(now))
            assert tables.retention.clock() == kept
