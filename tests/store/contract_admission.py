"""What every store must do about who becomes a member of a group, and who cannot: a part of the contract.

Inherited by contract.StoreContract, so that one subclass per twin runs all of it.
"""

from __future__ import annotations

from collections.abc import Callable

import pytest

from chatd.errors import ErrorCode
from chatd.model import Audience, GroupRules, JoinPolicy, User
from chatd.store.contract import AdmissionState, Joined, Purpose, Tables
from chatd.store.group_contract import INVITATIONS_FROM_ONE, STAFF_TOLD
from tests.store.group_steps import (
    AGAIN_MS,
    LIMITS,
    added,
    approved,
    befriended,
    closed,
    code_of,
    invited,
    is_member,
    joined,
    kicked,
    promoted,
    rules,
)
from tests.store.steps import ANY, done, join, make, refused, send, sent, team, to_group


class AdmissionContract:
    # ------------------------------------------------------------ joining

    def test_an_open_group_is_joined_by_its_number(self, tables: Tables) -> None:
        alice, bob = make(tables, "alice", "bob")
        group = team(tables, alice)
        assert tables.groups.details(group, alice.id).rules == GroupRules(join=JoinPolicy.OPEN)
        assert joined(tables, bob, group).pending is None
        assert is_member(tables, group, bob)
        assert joined(tables, bob, group).fresh is False

    def test_a_group_by_invitation_is_not_joined_by_its_number(self, opened: Callable[[], Tables]) -> None:
        one, other = opened(), opened()
        alice, bob, carol = make(one, "alice", "bob", "carol")
        group = team(one, alice)
        join(other, bob, group)
        rules(one, alice, group, join=JoinPolicy.INVITE)
        refused(ErrorCode.INVITATION_NEEDED, other, lambda inside: inside.admission.join(carol.id, group, LIMITS, 1))
        assert not is_member(one, group, carol)
        assert invited(other, alice, group, carol) == Joined(_named(one, group), True, 0, AdmissionState.INVITED)
        assert invited(one, alice, group, carol).fresh is False, "an invitation is told once"
        (pending,) = one.admission.invitations(carol.id, 0, ANY)
        assert (pending.group.id, pending.user, pending.by) == (group, carol, alice)
        assert one.admission.invitations(carol.id, group, ANY) == []
        assert joined(one, carol, group).since_version == 3
        assert one.admission.invitations(carol.id, 0, ANY) == []

    def test_asking_to_join_waits_for_an_answer(self, opened: Callable[[], Tables]) -> None:
        one, other = opened(), opened()
        alice, bob, carol = make(one, "alice", "bob", "carol")
        group = closed(one, JoinPolicy.APPROVAL, alice, bob)
        promoted(one, alice, group, bob)
        asked = joined(one, carol, group, now_ms=7)
        assert asked == Joined(_named(one, group), True, 0, AdmissionState.ASKED, (alice.id, bob.id))
        again = joined(other, carol, group)
        assert (again.fresh, again.staff) == (False, ()), "nobody is told a second time"
        assert not is_member(one, group, carol)
        assert send(one, (carol, to_group(group))) == [ErrorCode.NOT_A_MEMBER]
        (pending,) = other.admission.requests(bob.id, group, 0, ANY)
        assert (pending.user, pending.by, pending.at_ms) == (carol, None, 7)
        assert other.admission.requests(bob.id, group, carol.id, ANY) == []
        assert approved(other, bob, group, carol).since_version == 3
        assert approved(one, bob, group, carol).fresh is False
        assert sent(one, carol, to_group(group)).message.seq == 1
        assert one.admission.requests(bob.id, group, 0, ANY) == []

    def test_those_who_run_groups_find_the_open_requests_to_all_of_them(self, opened: Callable[[], Tables]) -> None:
        one, other = opened(), opened()
        alice, bob, carol, dave = make(one, "alice", "bob", "carol", "dave")
        first, second = (closed(one, JoinPolicy.APPROVAL, alice, bob) for _ in range(2))
        promoted(one, alice, second, bob)
        for at_ms, user, group in ((7, carol, second), (8, dave, first), (9, dave, second)):
            joined(one, user, group, now_ms=at_ms)

        def found(user: User, limit: int = ANY) -> list[tuple[int, str]]:
            return [(one.group.id, one.user.name) for one in other.admission.requests_to(user.id, limit)]

        assert found(alice) == [(second, "carol"), (first, "dave"), (second, "dave")]
        assert found(alice, 2) == [(second, "carol"), (first, "dave")]
        assert found(bob) == [(second, "carol"), (second, "dave")], "bob is a plain member of the first"
        assert found(carol) == []
        approved(one, alice, second, carol)
        assert found(bob) == [(second, "dave")]

    def test_who_was_rejected_cannot_ask_again_for_a_time(self, tables: Tables) -> None:
        alice, bob = make(tables, "alice", "bob")
        group = closed(tables, JoinPolicy.APPROVAL, alice)
        joined(tables, bob, group, now_ms=1)
        done(tables, lambda inside: inside.admission.reject(alice.id, group, bob.id, 5))
        early = 5 + AGAIN_MS - 1
        refused(ErrorCode.NOT_ACCEPTED, tables, lambda inside: inside.admission.join(bob.id, group, LIMITS, early))
        assert joined(tables, bob, group, now_ms=5 + AGAIN_MS).fresh
        done(tables, lambda inside: inside.admission.reject(alice.id, group, bob.id, 6))
        assert invited(tables, alice, group, bob).pending is AdmissionState.INVITED
        assert joined(tables, bob, group).pending is None

    def test_a_request_that_was_taken_back_is_over_and_announced_once(self, tables: Tables) -> None:
        alice, bob = make(tables, "alice", "bob")
        group = closed(tables, JoinPolicy.APPROVAL, alice)
        assert joined(tables, bob, group, now_ms=5).fresh
        assert done(tables, lambda inside: inside.admission.decline(bob.id, group, 6)) == 0
        refused(ErrorCode.NOT_ALLOWED, tables, lambda inside: inside.admission.decline(bob.id, group, 6))
        refused(
            ErrorCode.NOT_ALLOWED, tables, lambda inside: inside.admission.approve(alice.id, group, bob.id, LIMITS, 7)
        )
        again = joined(tables, bob, group, now_ms=5 + AGAIN_MS - 1)
        assert (again.pending, again.fresh) == (AdmissionState.ASKED, False)
        done(tables, lambda inside: inside.admission.decline(bob.id, group, 6))
        assert joined(tables, bob, group, now_ms=5 + AGAIN_MS).fresh

    def test_who_declined_is_neither_invited_nor_added_again_for_a_time(self, tables: Tables) -> None:
        alice, bob = make(tables, "alice", "bob")
        group = closed(tables, JoinPolicy.INVITE, alice)
        invited(tables, alice, group, bob)
        assert done(tables, lambda inside: inside.admission.decline(bob.id, group, 5)) == alice.id
        refused(ErrorCode.NOT_ALLOWED, tables, lambda inside: inside.admission.decline(bob.id, group, 5))
        refused(ErrorCode.INVITATION_NEEDED, tables, lambda inside: inside.admission.join(bob.id, group, LIMITS, 1))
        everybody = LIMITS._replace(may_add=Audience.EVERYBODY)
        for work in (
            lambda inside: inside.admission.invite(alice.id, group, bob.id, LIMITS, 6),
            lambda inside: inside.admission.add(alice.id, group, bob.id, everybody, 6),
        ):
            refused(ErrorCode.NOT_ACCEPTED, tables, work)
        assert invited(tables, alice, group, bob, now_ms=5 + AGAIN_MS).fresh

    def test_whom_nobody_may_add_nobody_invites(self, tables: Tables) -> None:
        """Whether the user or the operator chose so; who asked all the same is admitted."""
        alice, bob, carol = make(tables, "alice", "bob", "carol")
        group = closed(tables, JoinPolicy.APPROVAL, alice)
        nobody = LIMITS._replace(may_add=Audience.NOBODY)
        done(tables, lambda inside: inside.consent.choose(bob.id, {Purpose.ADD: Audience.NOBODY}))
        for user, limits in ((bob, LIMITS), (carol, nobody)):
            for work in (
                lambda inside, user=user, limits=limits: inside.admission.invite(alice.id, group, user.id, limits, 1),
                lambda inside, user=user, limits=limits: inside.admission.add(alice.id, group, user.id, limits, 1),
            ):
                refused(ErrorCode.NOT_ACCEPTED, tables, work)
        joined(tables, bob, group)
        assert invited(tables, alice, group, bob).pending is None

    def test_an_invitation_of_who_has_asked_admits(self, tables: Tables) -> None:
        alice, bob = make(tables, "alice", "bob")
        group = closed(tables, JoinPolicy.APPROVAL, alice)
        joined(tables, bob, group)
        assert invited(tables, alice, group, bob).pending is None
        assert is_member(tables, group, bob)

    def test_who_is_added_must_accept_it(self, tables: Tables) -> None:
        """Friends are added, others invited; nobody who blocks the other is either."""
        alice, bob, carol, dave = make(tables, "alice", "bob", "carol", "dave")
        group = closed(tables, JoinPolicy.INVITE, alice)
        befriended(tables, alice, bob)
        done(tables, lambda inside: inside.consent.block(dave.id, alice.id, ANY, 1))
        assert added(tables, alice, group, bob).pending is None
        assert added(tables, alice, group, bob).fresh is False
        assert added(tables, alice, group, carol).pending is AdmissionState.INVITED
        refused(
            ErrorCode.NOT_ACCEPTED, tables, lambda inside: inside.admission.add(alice.id, group, dave.id, LIMITS, 1)
        )
        assert [is_member(tables, group, user) for user in (bob, carol, dave)] == [True, False, False]

    def test_a_block_of_the_inviter_ends_the_invitation_and_is_not_told(self, opened: Callable[[], Tables]) -> None:
        """To those who run the group it looks like an invitation that is not answered."""
        one, other = opened(), opened()
        alice, bob, carol, dave = make(one, "alice", "bob", "carol", "dave")
        group = closed(one, JoinPolicy.INVITE, alice, carol)
        promoted(one, alice, group, carol)
        for user in (bob, dave):
            invited(one, alice, group, user)

        def seen() -> tuple[object, ...]:
            again = invited(other, alice, group, bob)
            details = one.groups.details(group, alice.id)
            sent = [(one.other, one.state) for one in other.person.everything(alice.id).invitations_sent]
            return again, added(one, alice, group, bob), details.requests, details.invitations, sent

        before = seen()
        done(other, lambda inside: inside.consent.block(bob.id, alice.id, ANY, 1))
        assert seen() == before
        assert one.admission.invitations(bob.id, 0, ANY) == []
        refused(ErrorCode.INVITATION_NEEDED, one, lambda inside: inside.admission.join(bob.id, group, LIMITS, 1))
        refused(ErrorCode.NOT_ALLOWED, one, lambda inside: inside.admission.decline(bob.id, group, 1))
        done(one, lambda inside: inside.consent.unblock(bob.id, alice.id))
        assert one.admission.invitations(bob.id, 0, ANY) == [], "it does not come back"
        assert invited(one, carol, group, bob).fresh is True, "somebody else can invite the user"
        assert joined(other, bob, group).pending is None
        done(one, lambda inside: inside.consent.block(dave.id, alice.id, ANY, 1))
        done(one, lambda inside: inside.admission.ban(alice.id, group, dave.id, 1))
        assert one.groups.details(group, alice.id).invitations == 0

    @pytest.mark.parametrize("act", ["invite", "add", "approve", "reject", "ban", "unban", "requests", "bans"])
    def test_only_the_owner_and_admins_decide_who_comes_in(self, tables: Tables, act: str) -> None:
        alice, bob, carol, dave = make(tables, "alice", "bob", "carol", "dave")
        group = closed(tables, JoinPolicy.APPROVAL, alice, bob)
        joined(tables, carol, group)

        def work(by: User, number: int) -> Callable[[Tables], object]:
            calls: dict[str, Callable[[Tables], object]] = {
                "reject": lambda inside: inside.admission.reject(by.id, number, carol.id, 1),
                "ban": lambda inside: inside.admission.ban(by.id, number, carol.id, 1),
                "unban": lambda inside: inside.admission.unban(by.id, number, carol.id),
                "requests": lambda inside: inside.admission.requests(by.id, number, 0, ANY),
                "bans": lambda inside: inside.admission.bans(by.id, number, 0, ANY),
            }
            return calls.get(act, lambda inside: getattr(inside.admission, act)(by.id, number, carol.id, LIMITS, 1))

        assert code_of(tables, work(bob, group)) is ErrorCode.NOT_ALLOWED
        assert code_of(tables, work(dave, group)) is ErrorCode.NOT_A_MEMBER
        assert code_of(tables, work(alice, group + 1)) is ErrorCode.UNKNOWN_GROUP
        assert not is_member(tables, group, carol)
        assert [one.user for one in tables.admission.requests(alice.id, group, 0, ANY)] == [carol]

    def test_a_request_is_answered_in_its_own_group(self, tables: Tables) -> None:
        alice, bob, carol = make(tables, "alice", "bob", "carol")
        mine, theirs = closed(tables, JoinPolicy.APPROVAL, alice), closed(tables, JoinPolicy.APPROVAL, bob)
        joined(tables, carol, theirs)
        for work in (
            lambda inside: inside.admission.approve(alice.id, mine, carol.id, LIMITS, 1),
            lambda inside: inside.admission.reject(alice.id, mine, carol.id, 1),
        ):
            refused(ErrorCode.NOT_ALLOWED, tables, work)
        refused(
            ErrorCode.NOT_A_MEMBER,
            tables,
            lambda inside: inside.admission.approve(alice.id, theirs, carol.id, LIMITS, 1),
        )
        assert (is_member(tables, mine, carol), is_member(tables, theirs, carol)) == (False, False)

    def test_open_requests_and_invitations_are_limited(self, tables: Tables) -> None:
        alice, *users = make(tables, "alice", *(f"user {number}" for number in range(5)))
        group, other = closed(tables, JoinPolicy.APPROVAL, alice), closed(tables, JoinPolicy.APPROVAL, alice)
        few = LIMITS._replace(pending_of_group=2)
        for user in users[:2]:
            joined(tables, user, group, few)
            joined(tables, user, group, few)
        refused(ErrorCode.LIMIT_REACHED, tables, lambda inside: inside.admission.join(users[2].id, group, few, 1))
        one = LIMITS._replace(pending_of_user=1)
        refused(ErrorCode.LIMIT_REACHED, tables, lambda inside: inside.admission.join(users[0].id, other, one, 1))
        for user in users[3:]:
            invited(tables, alice, group, user, few)
        refused(
            ErrorCode.LIMIT_REACHED,
            tables,
            lambda inside: inside.admission.invite(alice.id, group, users[2].id, few, 1),
        )

    def test_one_inviter_has_few_open_invitations_of_a_user(self, tables: Tables) -> None:
        alice, bob, carol = make(tables, "alice", "bob", "carol")
        groups = [closed(tables, JoinPolicy.INVITE, alice) for _ in range(INVITATIONS_FROM_ONE + 1)]
        for group in groups[:-1]:
            invited(tables, alice, group, carol)
        refused(
            ErrorCode.LIMIT_REACHED,
            tables,
            lambda inside: inside.admission.invite(alice.id, groups[-1], carol.id, LIMITS, 1),
        )
        assert invited(tables, bob, closed(tables, JoinPolicy.INVITE, bob), carol).fresh

    def test_who_is_let_in_finds_room(self, tables: Tables) -> None:
        alice, bob, carol = make(tables, "alice", "bob", "carol")
        group = closed(tables, JoinPolicy.APPROVAL, alice, bob)
        joined(tables, carol, group)
        for limits in (LIMITS._replace(members=2), LIMITS._replace(groups=0)):
            refused(
                ErrorCode.LIMIT_REACHED,
                tables,
                lambda inside, limits=limits: inside.admission.approve(alice.id, group, carol.id, limits, 1),
            )
        kicked(tables, alice, group, bob)
        assert approved(tables, alice, group, carol, LIMITS._replace(members=2)).since_version

    def test_few_of_many_admins_are_told(self, tables: Tables) -> None:
        alice, *users = make(tables, "alice", *(f"user {number}" for number in range(STAFF_TOLD + 2)))
        group = team(tables, alice, *users)
        for user in users[1:]:
            promoted(tables, alice, group, user)
        staff = tables.groups.staff(group)
        assert (len(staff), staff[0]) == (STAFF_TOLD, alice.id)
        assert users[0].id not in staff

    # ------------------------------------------------------------ bans

    def test_a_kick_bans_until_invited(self, opened: Callable[[], Tables]) -> None:
        one, other = opened(), opened()
        alice, bob = make(one, "alice", "bob")
        group = team(one, alice, bob)
        sent(other, bob, to_group(group))
        kicked(one, alice, group, bob)
        for policy in JoinPolicy:
            rules(one, alice, group, join=policy)
            refused(ErrorCode.BANNED, other, lambda inside: inside.admission.join(bob.id, group, LIMITS, 1))
        (ban,) = other.admission.bans(alice.id, group, 0, ANY)
        assert (ban.user, ban.by, ban.at_ms) == (bob, alice, 1)
        invited(other, alice, group, bob)
        assert joined(other, bob, group).pending is None
        assert one.admission.bans(alice.id, group, 0, ANY) == [], "the invitation has ended it"

    def test_a_ban_stays_when_the_invitation_is_declined(self, tables: Tables) -> None:
        alice, bob = make(tables, "alice", "bob")
        group = team(tables, alice, bob)
        kicked(tables, alice, group, bob)
        invited(tables, alice, group, bob)
        done(tables, lambda inside: inside.admission.decline(bob.id, group, 1))
        refused(ErrorCode.BANNED, tables, lambda inside: inside.admission.join(bob.id, group, LIMITS, 1))

    def test_an_invitation_that_a_ban_has_ended_is_told_again_only_after_a_time(self, tables: Tables) -> None:
        alice, bob = make(tables, "alice", "bob")
        group = closed(tables, JoinPolicy.INVITE, alice)
        for now_ms, fresh in (
            (5, True),
            (6, False),
            (4 + AGAIN_MS, False),
            (5 + AGAIN_MS, True),
            (6 + AGAIN_MS, False),
        ):
            assert invited(tables, alice, group, bob, now_ms=now_ms).fresh is fresh, now_ms
            assert len(tables.admission.invitations(bob.id, 0, ANY)) == 1
            done(tables, lambda inside: inside.admission.ban(alice.id, group, bob.id, 1))
            assert tables.admission.invitations(bob.id, 0, ANY) == []
            done(tables, lambda inside: inside.admission.unban(alice.id, group, bob.id))
        refused(ErrorCode.INVITATION_NEEDED, tables, lambda inside: inside.admission.join(bob.id, group, LIMITS, 1))

    def test_a_ban_ends_requests_and_invitations(self, tables: Tables) -> None:
        alice, bob, carol = make(tables, "alice", "bob", "carol")
        group = closed(tables, JoinPolicy.APPROVAL, alice)
        joined(tables, bob, group)
        invited(tables, alice, group, carol)
        for user in (bob, carol):
            assert done(tables, lambda inside, user=user: inside.admission.ban(alice.id, group, user.id, 1)) == 0
            refused(
                ErrorCode.BANNED,
                tables,
                lambda inside, user=user: inside.admission.join(user.id, group, LIMITS, 1),
            )
        assert (
            tables.admission.requests(alice.id, group, 0, ANY) == tables.admission.invitations(carol.id, 0, ANY) == []
        )
        done(tables, lambda inside: inside.admission.unban(alice.id, group, bob.id))
        refused(ErrorCode.NOT_ALLOWED, tables, lambda inside: inside.admission.unban(alice.id, group, bob.id))
        assert joined(tables, bob, group).pending is AdmissionState.ASKED

    def test_a_member_who_is_banned_is_removed(self, tables: Tables) -> None:
        alice, bob = make(tables, "alice", "bob")
        group = team(tables, alice, bob)
        assert done(tables, lambda inside: inside.admission.ban(alice.id, group, bob.id, 1)) == 3
        assert not is_member(tables, group, bob)
        refused(ErrorCode.NOT_ALLOWED, tables, lambda inside: inside.admission.ban(alice.id, group, alice.id, 1))

    def test_an_admin_does_not_undo_what_the_owner_has_decided(self, tables: Tables) -> None:
        alice, bob, carol, dave = make(tables, "alice", "bob", "carol", "dave")
        group = team(tables, alice, bob, carol, dave)
        for user in (bob, carol):
            promoted(tables, alice, group, user)
        refused(ErrorCode.NOT_ALLOWED, tables, lambda inside: inside.admission.ban(bob.id, group, carol.id, 1))
        kicked(tables, alice, group, carol)
        kicked(tables, bob, group, dave)
        for work in (
            lambda inside: inside.admission.unban(bob.id, group, carol.id),
            lambda inside: inside.admission.invite(bob.id, group, carol.id, LIMITS, 1),
            lambda inside: inside.admission.add(bob.id, group, carol.id, LIMITS, 1),
            lambda inside: inside.admission.ban(bob.id, group, carol.id, 1),
        ):
            refused(ErrorCode.NOT_ALLOWED, tables, work)
        done(tables, lambda inside: inside.admission.unban(bob.id, group, dave.id))
        done(tables, lambda inside: inside.admission.unban(alice.id, group, carol.id))


def _named(tables: Tables, group: int) -> object:
    return tables.groups.find(group)
