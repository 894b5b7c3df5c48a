"""What every store must do for the versions of memberships: a part of the contract.

Inherited by contract.StoreContract, so that one subclass per twin runs all of it.
"""

from __future__ import annotations

from collections.abc import Callable

from chatd.model import Role, User
from chatd.store.contract import FIRST_VERSION, Draft, Membership, Stored, Tables
from tests.store.steps import ANYBODY, done, join, make, send, sent, team, to, to_group


def versions(tables: Tables, *users: User) -> dict[tuple[int, int], tuple[int, int]]:
    """(user, group) -> (since_version, members_version)."""
    found = tables.groups.memberships([user.id for user in users])
    return {(one.user_id, one.group_id): (one.since_version, one.members_version) for one in found}


class MembershipContract:
    def test_a_new_group_begins_with_the_first_version(self, tables: Tables) -> None:
        (alice,) = make(tables, "alice")
        group = team(tables, alice)
        assert tables.groups.memberships([alice.id]) == [Membership(alice.id, group, FIRST_VERSION, FIRST_VERSION, 1)]

    def test_every_change_of_who_is_in_a_group_raises_its_version_by_one(self, tables: Tables) -> None:
        alice, bob, carol, dave = make(tables, "alice", "bob", "carol", "dave")
        group, other = team(tables, alice), team(tables, alice)
        told = [
            done(tables, lambda inside, user=user: inside.admission.join(user.id, group, ANYBODY, 1).since_version)
            for user in (bob, carol, dave)
        ]
        told.append(done(tables, lambda inside: inside.groups.leave(bob.id, group).members_version))
        told.append(done(tables, lambda inside: inside.groups.kick(alice.id, group, carol.id, 1)))
        done(tables, lambda inside: inside.accounts.delete(dave.id))
        told.append(versions(tables, alice)[alice.id, group][1])
        told.append(done(tables, lambda inside: inside.groups.leave(alice.id, group).members_version))
        assert told == list(range(FIRST_VERSION + 1, FIRST_VERSION + 8))
        assert tables.groups.members_among(other, [alice.id]) == (FIRST_VERSION, {alice.id: FIRST_VERSION})

    def test_what_does_not_change_who_is_in_a_group_leaves_its_version(self, tables: Tables) -> None:
        alice, bob = make(tables, "alice", "bob")
        group = team(tables, alice, bob)
        before = versions(tables, alice, bob)
        again = done(tables, lambda inside: inside.admission.join(bob.id, group, ANYBODY, 1))
        assert (again.fresh, again.since_version) == (False, before[bob.id, group][0])
        done(tables, lambda inside: inside.groups.rename(alice.id, group, "new name", None, 0))
        done(tables, lambda inside: inside.groups.set_role(alice.id, group, bob.id, Role.OWNER))
        sent(tables, alice, to_group(group))
        assert versions(tables, alice, bob) == before

    def test_who_joins_again_has_another_since_version(self, tables: Tables) -> None:
        alice, bob = make(tables, "alice", "bob")
        group = team(tables, alice, bob)
        assert versions(tables, bob) == {(bob.id, group): (2, 2)}
        done(tables, lambda inside: inside.groups.leave(bob.id, group))
        assert versions(tables, bob) == {}
        joined = done(tables, lambda inside: inside.admission.join(bob.id, group, ANYBODY, 1))
        assert (joined.fresh, joined.since_version) == (True, 4)
        assert versions(tables, alice, bob) == {(alice.id, group): (1, 4), (bob.id, group): (4, 4)}

    def test_several_changes_of_one_transaction_count_each(self, tables: Tables) -> None:
        alice, bob = make(tables, "alice", "bob")
        group = team(tables, alice)

        def work(inside: Tables) -> list[int]:
            return [
                inside.admission.join(bob.id, group, ANYBODY, 1).since_version,
                inside.groups.leave(bob.id, group).members_version,
                inside.admission.join(bob.id, group, ANYBODY, 1).since_version,
            ]

        assert done(tables, work) == [2, 3, 4]
        assert versions(tables, bob) == {(bob.id, group): (4, 4)}

    def test_a_change_that_is_rolled_back_leaves_the_version(self, tables: Tables) -> None:
        alice, bob = make(tables, "alice", "bob")
        group = team(tables, alice)
        tables.begin()
        assert tables.admission.join(bob.id, group, ANYBODY, 1).since_version == 2
        tables.rollback()
        assert sent(tables, alice, to_group(group)).members_version == 1
        assert tables.groups.members_among(group, [alice.id, bob.id]) == (1, {alice.id: 1})

    def test_who_of_some_users_is_in_a_group(self, tables: Tables) -> None:
        alice, bob, carol = make(tables, "alice", "bob", "carol")
        group = team(tables, alice, bob)
        assert tables.groups.members_among(group, [bob.id, carol.id]) == (2, {bob.id: 2})
        assert tables.groups.members_among(group, []) == (2, {})
        many = [bob.id, *range(10**6, 10**6 + 3000)]
        assert tables.groups.members_among(group, many) == (2, {bob.id: 2})
        assert tables.groups.members_among(group + 1, [bob.id]) == (0, {})
        assert tables.groups.memberships([]) == []

    def test_a_message_has_the_version_of_its_group_at_its_commit(self, opened: Callable[[], Tables]) -> None:
        """Also when another worker has changed the group meanwhile."""
        one, other = opened(), opened()
        alice, bob, carol = make(one, "alice", "bob", "carol")
        group = team(one, alice, bob)
        assert sent(one, alice, to(bob)).members_version == 0
        seen = [sent(other, bob, to_group(group)).members_version]
        join(one, carol, group)
        seen.append(sent(other, bob, to_group(group)).members_version)
        seen.append(sent(one, bob, to_group(group)).members_version)
        done(other, lambda inside: inside.groups.kick(alice.id, group, carol.id, 1))
        seen.append(sent(other, bob, to_group(group)).members_version)
        seen.append(sent(one, alice, to_group(group)).members_version)
        done(one, lambda inside: inside.accounts.delete(alice.id))
        seen.append(sent(one, bob, to_group(group)).members_version)
        seen.append(sent(other, bob, to_group(group)).members_version)
        assert seen == [2, 3, 3, 4, 4, 5, 5]

    def test_messages_come_before_the_changes_of_their_transaction(self, tables: Tables) -> None:
        alice, bob = make(tables, "alice", "bob")
        group = team(tables, alice)
        tables.begin()
        (first,) = tables.append([Draft(alice, to_group(group))], 1)
        tables.admission.join(bob.id, group, ANYBODY, 1)
        tables.commit()
        assert isinstance(first, Stored)
        assert (first.members_version, sent(tables, alice, to_group(group)).members_version) == (1, 2)

    def test_a_repetition_has_no_version(self, tables: Tables) -> None:
        """That of its commit is not stored; it is older than that of now."""
        alice, bob = make(tables, "alice", "bob")
        group = team(tables, alice)
        draft = (alice, to_group(group, "text", "fp"))
        first = sent(tables, *draft)
        join(tables, bob, group)
        results = send(tables, draft, (alice, to_group(group, "more")))
        assert [(one.fresh, one.members_version) for one in (first, *results) if isinstance(one, Stored)] == [
            (True, 1), (False, 0), (True, 2),
        ]  # fmt: skip
