"""What every store must do about who reads a group's past, who writes in it, and its end: a part of the contract.

Inherited by contract.StoreContract, so that one subclass per twin runs all of it.
"""

from __future__ import annotations

from collections.abc import Callable

from chatd.errors import ErrorCode
from chatd.model import GroupRules, JoinPolicy, Role
from chatd.store.contract import FOREVER, RulesChange, Tables
from tests.store.group_steps import (
    LIMITS,
    closed,
    invited,
    joined,
    kicked,
    muted,
    promoted,
    read,
    rules,
)
from tests.store.steps import ANY, advance, done, join, make, refused, send, sent, team, to, to_group


class GroupRulesContract:
    # ------------------------------------------------------------ history

    def test_members_read_from_their_joining_on(self, opened: Callable[[], Tables]) -> None:
        one, other = opened(), opened()
        alice, bob, carol = make(one, "alice", "bob", "carol")
        group = team(one, alice)
        for _ in range(3):
            sent(one, alice, to_group(group))
        join(other, bob, group)
        sent(one, alice, to_group(group))
        sent(other, bob, to_group(group))
        assert (read(one, alice, group), read(other, bob, group)) == ([1, 2, 3, 4, 5], [4, 5])
        assert read(one, carol, group) == [], "who is not in the group reads nothing"
        waiting = one.history.waiting(bob.id, ANY, (-group,))
        assert ([message.seq for message in waiting.messages], waiting.delivered) == ([4, 5], {-group: 3})
        (head,) = one.history.heads(bob.id, -(1 << 61), ANY)
        assert (head.last, head.delivered, head.seen) == (5, 3, 3), "what was before is not unread"

    def test_who_joins_again_reads_from_the_new_membership_on(self, tables: Tables) -> None:
        alice, bob = make(tables, "alice", "bob")
        group = team(tables, alice, bob)
        sent(tables, bob, to_group(group))
        done(tables, lambda inside: inside.groups.leave(bob.id, group))
        assert read(tables, bob, group) == []
        sent(tables, alice, to_group(group))
        join(tables, bob, group)
        advance(tables, bob, -group, 1)
        sent(tables, alice, to_group(group))
        assert read(tables, bob, group) == [3]
        assert read(tables, alice, group) == [1, 2, 3], "what those who left have written stays"

    def test_the_owner_opens_and_closes_the_past(self, opened: Callable[[], Tables]) -> None:
        one, other = opened(), opened()
        alice, bob, carol = make(one, "alice", "bob", "carol")
        group = team(one, alice, bob)
        promoted(one, alice, group, bob)
        sent(one, alice, to_group(group))
        join(one, carol, group)
        assert read(other, carol, group) == []
        refused(
            ErrorCode.NOT_ALLOWED,
            one,
            lambda inside: inside.groups.set_rules(bob.id, group, RulesChange(whole_history=True)),
        )
        assert rules(one, alice, group, whole_history=True).whole_history
        assert read(other, carol, group) == read(one, carol, group) == [1]
        rules(other, alice, group, whole_history=False)
        assert read(one, carol, group) == []

    # ------------------------------------------------------------ rules, mutes, announcements

    def test_who_sets_the_rules(self, tables: Tables) -> None:
        alice, bob, carol, dave = make(tables, "alice", "bob", "carol", "dave")
        group = team(tables, alice, bob, carol)
        promoted(tables, alice, group, bob)
        assert rules(tables, bob, group, announcements=True) == GroupRules(announcements=True)
        assert rules(tables, bob, group, join=JoinPolicy.INVITE) == GroupRules(
            join=JoinPolicy.INVITE, announcements=True
        )
        change = RulesChange(join=JoinPolicy.OPEN)
        refused(ErrorCode.NOT_ALLOWED, tables, lambda inside: inside.groups.set_rules(carol.id, group, change))
        refused(ErrorCode.NOT_A_MEMBER, tables, lambda inside: inside.groups.set_rules(dave.id, group, change))
        refused(ErrorCode.UNKNOWN_GROUP, tables, lambda inside: inside.groups.set_rules(alice.id, 99, change))
        details = tables.groups.details(group, carol.id)
        assert (details.members, details.role, details.rules.join) == (3, Role.MEMBER, JoinPolicy.INVITE)
        refused(ErrorCode.NOT_A_MEMBER, tables, lambda inside: inside.groups.details(group, dave.id))

    def test_the_counts_are_for_the_owner_and_admins(self, tables: Tables) -> None:
        alice, bob, carol, dave, erin = make(tables, "alice", "bob", "carol", "dave", "erin")
        group = closed(tables, JoinPolicy.APPROVAL, alice, bob)
        joined(tables, carol, group)
        invited(tables, alice, group, dave)
        done(tables, lambda inside: inside.admission.ban(alice.id, group, erin.id, 1))
        seen = [
            (details.requests, details.invitations, details.bans)
            for details in (tables.groups.details(group, user.id) for user in (alice, bob))
        ]
        assert seen == [(1, 1, 1), (0, 0, 0)]

    def test_a_muted_member_does_not_write_on_any_connection(self, opened: Callable[[], Tables]) -> None:
        one, other = opened(), opened()
        alice, bob = make(one, "alice", "bob")
        group = team(one, alice, bob)
        for tables in (one, other):
            sent(tables, bob, to_group(group))
        muted(one, alice, group, bob)
        for tables in (one, other):
            assert send(tables, (bob, to_group(group)), (alice, to_group(group))) != [ErrorCode.MUTED] * 2
            assert send(tables, (bob, to_group(group))) == [ErrorCode.MUTED]
        assert one.groups.muted(group, [alice.id, bob.id], 1) == {bob.id: FOREVER}
        muted(other, alice, group, bob, 0)
        assert [sent(tables, bob, to_group(group)).message.seq for tables in (one, other)] == [5, 6]
        assert one.groups.muted(group, [bob.id], 1) == one.groups.muted(group, [], 1) == {}

    def test_a_mute_ends_by_itself(self, opened: Callable[[], Tables]) -> None:
        one, other = opened(), opened()
        alice, bob = make(one, "alice", "bob")
        group = team(one, alice, bob)
        muted(one, alice, group, bob, 1000)
        for now_ms, code in ((999, ErrorCode.MUTED), (999, ErrorCode.MUTED), (1000, None), (1001, None)):
            for tables in (one, other):
                (result,) = send(tables, (bob, to_group(group)), now_ms=now_ms)
                assert (result if code else None) == code
        assert one.groups.muted(group, [bob.id], 1000) == {}

    def test_a_message_from_before_the_mute_is_still_known(self, tables: Tables) -> None:
        """A client that sends again what is stored is acknowledged."""
        alice, bob = make(tables, "alice", "bob")
        group = team(tables, alice, bob)
        draft = (bob, to_group(group, "text", "fp"))
        first = sent(tables, *draft)
        muted(tables, alice, group, bob)
        again = sent(tables, *draft)
        assert (again.fresh, again.message.seq) == (False, first.message.seq)
        assert send(tables, (bob, to_group(group, "text", "other fp"))) == [ErrorCode.MUTED]

    def test_leaving_and_joining_again_does_not_end_a_mute(self, tables: Tables) -> None:
        alice, bob = make(tables, "alice", "bob")
        group = team(tables, alice, bob)
        muted(tables, alice, group, bob)
        done(tables, lambda inside: inside.groups.leave(bob.id, group))
        join(tables, bob, group)
        assert send(tables, (bob, to_group(group))) == [ErrorCode.MUTED]
        kicked(tables, alice, group, bob)
        invited(tables, alice, group, bob)
        join(tables, bob, group)
        assert send(tables, (bob, to_group(group))) == [ErrorCode.MUTED]
        muted(tables, alice, group, bob, 0)
        done(tables, lambda inside: inside.groups.leave(bob.id, group))
        join(tables, bob, group)
        sent(tables, bob, to_group(group))

    def test_who_mutes_whom(self, tables: Tables) -> None:
        alice, bob, carol, dave = make(tables, "alice", "bob", "carol", "dave")
        group = team(tables, alice, bob, carol)
        promoted(tables, alice, group, bob)
        for by, whom, code in (
            (bob, alice, ErrorCode.NOT_ALLOWED),
            (carol, bob, ErrorCode.NOT_ALLOWED),
            (alice, alice, ErrorCode.NOT_ALLOWED),
            (dave, carol, ErrorCode.NOT_A_MEMBER),
            (alice, dave, ErrorCode.NOT_A_MEMBER),
        ):
            refused(code, tables, lambda inside, by=by, whom=whom: inside.groups.mute(by.id, group, whom.id, FOREVER))
        muted(tables, bob, group, carol)
        muted(tables, alice, group, bob)
        assert send(tables, (bob, to_group(group)), (carol, to_group(group))) == [ErrorCode.MUTED] * 2
        promoted(tables, alice, group, bob, Role.OWNER)
        sent(tables, bob, to_group(group))  # nobody could end it

    def test_only_the_owner_and_admins_write_announcements(self, opened: Callable[[], Tables]) -> None:
        one, other = opened(), opened()
        alice, bob, carol = make(one, "alice", "bob", "carol")
        group = team(one, alice, bob, carol)
        for tables in (one, other):
            sent(tables, carol, to_group(group))
        promoted(one, alice, group, bob)
        rules(one, alice, group, announcements=True)
        for tables in (one, other):
            assert send(tables, (carol, to_group(group))) == [ErrorCode.ANNOUNCEMENTS_ONLY]
            for user in (alice, bob):
                sent(tables, user, to_group(group))
        promoted(other, alice, group, bob, Role.MEMBER)
        for tables in (one, other):
            assert send(tables, (bob, to_group(group))) == [ErrorCode.ANNOUNCEMENTS_ONLY]
        rules(other, alice, group, announcements=False)
        for tables in (one, other):
            sent(tables, carol, to_group(group))

    def test_refusals_leave_no_holes_in_the_numbers(self, tables: Tables) -> None:
        alice, bob, carol = make(tables, "alice", "bob", "carol")
        group = team(tables, alice, bob)
        muted(tables, alice, group, bob)
        results = send(
            tables, (alice, to_group(group)), (bob, to_group(group)), (carol, to_group(group)), (alice, to_group(group))
        )
        assert results[1:3] == [ErrorCode.MUTED, ErrorCode.NOT_A_MEMBER]
        assert read(tables, alice, group) == [1, 2]

    # ------------------------------------------------------------ the end

    def test_a_dissolved_group_ends_for_everybody(self, opened: Callable[[], Tables]) -> None:
        one, other = opened(), opened()
        alice, bob, carol = make(one, "alice", "bob", "carol")
        group, kept = closed(one, JoinPolicy.APPROVAL, alice, bob), team(one, bob)
        promoted(one, alice, group, bob)
        sent(other, bob, to_group(group))
        sent(other, bob, to_group(kept))
        joined(one, carol, group)
        refused(ErrorCode.NOT_ALLOWED, one, lambda inside: inside.groups.dissolve(bob.id, group))
        assert done(one, lambda inside: inside.groups.dissolve(alice.id, group)) == 3
        assert other.groups.find(group) is None
        assert (other.groups.ids_of(alice.id), other.groups.ids_of(bob.id)) == ([], [kept])
        for tables in (one, other):
            assert send(tables, (bob, to_group(group))) == [ErrorCode.UNKNOWN_GROUP]
            assert read(tables, bob, group) == []
            assert [head.conversation for head in tables.history.heads(bob.id, -(1 << 61), ANY)] == [-kept]
        refused(ErrorCode.UNKNOWN_GROUP, other, lambda inside: inside.admission.join(carol.id, group, LIMITS, 1))
        assert team(one, alice) != group

    def test_a_deleted_account_leaves_no_request_and_no_ban(self, tables: Tables) -> None:
        alice, bob, carol = make(tables, "alice", "bob", "carol")
        group = closed(tables, JoinPolicy.APPROVAL, alice, bob)
        kicked(tables, alice, group, bob)
        joined(tables, carol, group)
        for user in (bob, carol):
            done(tables, lambda inside, user=user: inside.accounts.delete(user.id))
        assert (
            tables.admission.requests(alice.id, group, 0, ANY) == tables.admission.bans(alice.id, group, 0, ANY) == []
        )

    def test_private_messages_are_not_concerned(self, tables: Tables) -> None:
        alice, bob = make(tables, "alice", "bob")
        group = team(tables, alice, bob)
        muted(tables, alice, group, bob)
        assert sent(tables, bob, to(alice)).message.seq == 1
