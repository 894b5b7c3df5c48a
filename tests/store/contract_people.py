"""What every store must do for groups with roles, and for what people tell, see and ask: a part of the contract.

Inherited by contract.StoreContract, so that one subclass per twin runs all of it.
"""

from __future__ import annotations

from collections.abc import Callable

import pytest

from chatd.errors import ErrorCode
from chatd.model import Role
from chatd.store.contract import Left, Tables
from tests.store.steps import ANY, ANYBODY, Twin, done, join, make, refused, send, sent, team, to, to_group

DAY_MS = 24 * 3600 * 1000
STRANGER = 10**6


def roles(tables: Tables, group: int) -> dict[str, Role]:
    return {user.name: role for user, role in tables.groups.members(group, 0, ANY)}


class PeopleContract:
    # ------------------------------------------------------------ roles

    def test_a_role_is_of_a_member(self, tables: Tables) -> None:
        alice, bob, carol = make(tables, "alice", "bob", "carol")
        group = team(tables, alice, bob)
        assert (tables.groups.role(group, alice.id), tables.groups.role(group, bob.id)) == (Role.OWNER, Role.MEMBER)
        refused(ErrorCode.NOT_A_MEMBER, tables, lambda inside: inside.groups.role(group, carol.id))
        refused(ErrorCode.UNKNOWN_GROUP, tables, lambda inside: inside.groups.role(group + 1, alice.id))

    def test_the_owner_gives_roles_and_may_hand_over(self, tables: Tables) -> None:
        alice, bob, carol = make(tables, "alice", "bob", "carol")
        group = team(tables, alice, bob, carol)
        done(tables, lambda inside: inside.groups.set_role(alice.id, group, bob.id, Role.ADMIN))
        assert roles(tables, group) == {"alice": Role.OWNER, "bob": Role.ADMIN, "carol": Role.MEMBER}
        done(tables, lambda inside: inside.groups.set_role(alice.id, group, carol.id, Role.OWNER))
        assert roles(tables, group) == {"alice": Role.ADMIN, "bob": Role.ADMIN, "carol": Role.OWNER}
        done(tables, lambda inside: inside.groups.set_role(carol.id, group, bob.id, Role.MEMBER))
        assert roles(tables, group)["bob"] is Role.MEMBER

    def test_who_may_not_give_roles(self, tables: Tables) -> None:
        alice, bob, carol, dave = make(tables, "alice", "bob", "carol", "dave")
        group = team(tables, alice, bob, carol)
        done(tables, lambda inside: inside.groups.set_role(alice.id, group, bob.id, Role.ADMIN))
        for by, whom, code in [
            (bob, carol, ErrorCode.NOT_ALLOWED),
            (carol, bob, ErrorCode.NOT_ALLOWED),
            (alice, alice, ErrorCode.NOT_ALLOWED),
            (dave, carol, ErrorCode.NOT_A_MEMBER),
            (alice, dave, ErrorCode.NOT_A_MEMBER),
        ]:
            refused(
                code, tables, lambda inside, by=by, whom=whom: inside.groups.set_role(by.id, group, whom.id, Role.ADMIN)
            )
        refused(
            ErrorCode.UNKNOWN_GROUP, tables, lambda inside: inside.groups.set_role(alice.id, 99, bob.id, Role.ADMIN)
        )
        assert roles(tables, group) == {"alice": Role.OWNER, "bob": Role.ADMIN, "carol": Role.MEMBER}

    @pytest.mark.parametrize(
        ("by", "whom", "allowed"),
        [
            ("owner", "admin", True), ("owner", "member", True), ("owner", "owner", False),
            ("admin", "member", True), ("admin", "admin2", False), ("admin", "owner", False),
            ("admin", "admin", False), ("member", "member2", False), ("member", "owner", False),
        ],
    )  # fmt: skip
    def test_who_may_kick_whom(self, tables: Tables, by: str, whom: str, allowed: bool) -> None:
        users = {user.name: user for user in make(tables, "owner", "admin", "admin2", "member", "member2")}
        group = team(tables, *users.values())
        for name in ("admin", "admin2"):
            done(
                tables,
                lambda inside, name=name: inside.groups.set_role(users["owner"].id, group, users[name].id, Role.ADMIN),
            )
        before = roles(tables, group)
        if allowed:
            done(tables, lambda inside: inside.groups.kick(users[by].id, group, users[whom].id, 1))
            assert roles(tables, group) == {name: role for name, role in before.items() if name != whom}
        else:
            refused(
                ErrorCode.NOT_ALLOWED, tables, lambda inside: inside.groups.kick(users[by].id, group, users[whom].id, 1)
            )
            assert roles(tables, group) == before

    def test_non_members_kick_nobody_and_are_not_kicked(self, tables: Tables) -> None:
        alice, bob, carol = make(tables, "alice", "bob", "carol")
        group = team(tables, alice, bob)
        refused(ErrorCode.NOT_A_MEMBER, tables, lambda inside: inside.groups.kick(carol.id, group, bob.id, 1))
        refused(ErrorCode.NOT_A_MEMBER, tables, lambda inside: inside.groups.kick(alice.id, group, carol.id, 1))
        refused(ErrorCode.UNKNOWN_GROUP, tables, lambda inside: inside.groups.kick(alice.id, group + 1, bob.id, 1))

    def test_renaming(self, tables: Tables) -> None:
        alice, bob, carol = make(tables, "alice", "bob", "carol")
        group = done(tables, lambda inside: inside.groups.create(alice.id, "old", "what for", ANY, 1))
        join(tables, bob, group)
        renamed = done(tables, lambda inside: inside.groups.rename(alice.id, group, "new", None, 0))
        assert (renamed.id, renamed.name, renamed.description) == (group, "new", "what for")
        assert tables.groups.find(group) == renamed
        refused(ErrorCode.NOT_ALLOWED, tables, lambda inside: inside.groups.rename(bob.id, group, "mine", None, 0))
        refused(ErrorCode.NOT_A_MEMBER, tables, lambda inside: inside.groups.rename(carol.id, group, "mine", None, 0))
        done(tables, lambda inside: inside.groups.set_role(alice.id, group, bob.id, Role.ADMIN))
        done(tables, lambda inside: inside.groups.rename(bob.id, group, "newer", "", 0))
        done(tables, lambda inside: inside.groups.mute(alice.id, group, bob.id, 5))
        refused(ErrorCode.MUTED, tables, lambda inside: inside.groups.rename(bob.id, group, "loud", "", 4))
        done(tables, lambda inside: inside.groups.rename(bob.id, group, "newer", "", 5))
        found = tables.groups.find(group)
        assert found is not None
        assert (found.name, found.description) == ("newer", "")
        assert tables.groups.find(group + 1) is None

    def test_members_in_pages(self, tables: Tables) -> None:
        users = make(tables, *(f"user {number}" for number in range(7)))
        group = team(tables, *users)
        pages, after = [], 0
        while page := tables.groups.members(group, after, 3):
            pages.append([user for user, _ in page])
            after = page[-1][0].id
        assert pages == [users[:3], users[3:6], users[6:]]
        assert tables.groups.members(group + 1, 0, 3) == []

    # ------------------------------------------------------------ leaving

    def test_who_leaves_is_no_member_and_has_nothing_waiting(self, tables: Tables) -> None:
        alice, bob = make(tables, "alice", "bob")
        group = team(tables, alice, bob)
        sent(tables, alice, to_group(group, "1"))
        assert done(tables, lambda inside: inside.groups.leave(bob.id, group)) == Left(None, False, 3)
        assert (tables.groups.ids_of(bob.id), tables.history.waiting(bob.id, ANY).messages) == ([], [])
        assert send(tables, (bob, to_group(group))) == [ErrorCode.NOT_A_MEMBER]
        refused(ErrorCode.NOT_A_MEMBER, tables, lambda inside: inside.groups.leave(bob.id, group))
        sent(tables, alice, to_group(group, "2"))
        join(tables, bob, group)
        sent(tables, alice, to_group(group, "3"))
        assert [message.body for message in tables.history.waiting(bob.id, ANY).messages] == ["3"]

    def test_a_kicked_member_cannot_write_on_any_worker(self, opened: Callable[[], Tables]) -> None:
        one, other = opened(), opened()
        alice, bob = make(one, "alice", "bob")
        group = team(one, alice, bob)
        sent(other, bob, to_group(group))
        done(one, lambda inside: inside.groups.kick(alice.id, group, bob.id, 1))
        assert send(other, (bob, to_group(group))) == [ErrorCode.NOT_A_MEMBER]
        assert send(one, (bob, to_group(group))) == [ErrorCode.NOT_A_MEMBER]

    def test_an_owner_who_leaves_hands_over_to_the_oldest_admin_else_member(self, tables: Tables) -> None:
        users = make(tables, "owner", "first", "second", "third")
        owner, first, second, third = users
        group = done(tables, lambda inside: inside.groups.create(owner.id, "team", "", ANY, 1))
        for at_ms, user in [(30, third), (20, second), (40, first)]:  # who came first is not who has the least id
            done(tables, lambda inside, u=user, at=at_ms: inside.admission.join(u.id, group, ANYBODY, at))
        for admin in (first, third):
            done(tables, lambda inside, admin=admin: inside.groups.set_role(owner.id, group, admin.id, Role.ADMIN))
        heirs = []
        for _ in range(3):
            (leaver,) = [user for user, role in tables.groups.members(group, 0, ANY) if role is Role.OWNER]
            left = done(tables, lambda inside, leaver=leaver: inside.groups.leave(leaver.id, group))
            assert left.ended is False
            heirs.append(left.heir)
        assert heirs == [third.id, first.id, second.id]

    def test_the_last_one_who_leaves_ends_the_group(self, tables: Tables) -> None:
        alice, bob = make(tables, "alice", "bob")
        group = team(tables, alice, bob)
        assert done(tables, lambda inside: inside.groups.leave(alice.id, group)) == Left(bob.id, False, 3)
        assert done(tables, lambda inside: inside.groups.leave(bob.id, group)) == Left(None, True, 4)
        assert tables.groups.find(group) is None
        refused(ErrorCode.UNKNOWN_GROUP, tables, lambda inside: inside.groups.leave(bob.id, group))
        refused(ErrorCode.UNKNOWN_GROUP, tables, lambda inside: inside.admission.join(bob.id, group, ANYBODY, 1))
        assert team(tables, alice) != group, "the number of an ended group is not given again"

    def test_a_deleted_owner_hands_over_too(self, tables: Tables) -> None:
        alice, bob, carol = make(tables, "alice", "bob", "carol")
        group, lonely = team(tables, alice, bob, carol), team(tables, alice)
        done(tables, lambda inside: inside.accounts.delete(alice.id))
        assert roles(tables, group) == {"bob": Role.OWNER, "carol": Role.MEMBER}
        assert tables.groups.find(lonely) is None

    # ------------------------------------------------------------ what people tell of themselves

    def test_a_profile_is_kept_as_it_was_given(self, opened: Callable[[], Tables]) -> None:
        one, other = opened(), opened()
        alice, bob = make(one, "alice", "bob")
        assert one.accounts.profile(alice.id) == {}
        profile = {"nickname": 'Al "the\n\\ice" \0 \U0001f600', "about": ""}
        done(one, lambda inside: inside.accounts.set_profile(alice.id, profile))
        assert other.accounts.profile(alice.id) == profile
        assert other.accounts.profile(bob.id) == other.accounts.profile(STRANGER) == {}
        done(other, lambda inside: inside.accounts.set_profile(alice.id, {}))
        assert one.accounts.profile(alice.id) == {}

    def test_last_seen_never_goes_back(self, tables: Tables) -> None:
        alice, bob = make(tables, "alice", "bob")
        assert tables.accounts.last_seen(alice.id) == 0
        done(tables, lambda inside: inside.update_last_seen([(alice.id, 500), (bob.id, 7), (STRANGER, 9)]))
        done(tables, lambda inside: inside.update_last_seen([(alice.id, 400)]))
        assert [tables.accounts.last_seen(user_id) for user_id in (alice.id, bob.id, STRANGER)] == [500, 7, 0]

    # ------------------------------------------------------------ requests are answered once

    def test_an_answer_is_remembered_on_every_worker(self, opened: Callable[[], Tables]) -> None:
        one, other = opened(), opened()
        alice, bob = make(one, "alice", "bob")
        assert one.request_log.answered(alice.id, "fp") is None
        done(one, lambda inside: inside.request_log.remember(alice.id, "fp", '{"a": "é"}', 1))
        for tables in (one, other):
            assert tables.request_log.answered(alice.id, "fp") == '{"a": "é"}'
            assert tables.request_log.answered(alice.id, "fp2") is None
            assert tables.request_log.answered(bob.id, "fp") is None

    def test_what_was_rolled_back_is_not_remembered(self, tables: Tables) -> None:
        (alice,) = make(tables, "alice")
        tables.begin()
        tables.request_log.remember(alice.id, "fp", "lost", 1)
        assert tables.request_log.answered(alice.id, "fp") == "lost"
        tables.rollback()
        assert tables.request_log.answered(alice.id, "fp") is None

    def test_answers_are_kept_for_seven_days_and_not_for_ever(self, tables: Tables) -> None:
        alice, bob = make(tables, "alice", "bob")
        done(tables, lambda inside: inside.request_log.remember(alice.id, "old", "old", DAY_MS))
        done(tables, lambda inside: inside.request_log.remember(alice.id, "next", "next", 2 * DAY_MS))
        done(tables, lambda inside: inside.request_log.remember(bob.id, "x", "x", 8 * DAY_MS))
        assert tables.request_log.answered(alice.id, "old") == "old"
        done(tables, lambda inside: inside.request_log.remember(bob.id, "y", "y", 8 * DAY_MS + 1))
        assert (tables.request_log.answered(alice.id, "old"), tables.request_log.answered(alice.id, "next")) == (
            None,
            "next",
        )

    def test_answers_that_share_a_hash_stay_apart_also_when_one_expires(
        self, twin: Twin, opened: Callable[[], Tables]
    ) -> None:
        twin.collide()
        one, other = opened(), opened()
        alice, bob = make(one, "alice", "bob")
        for day, fp in [(1, "a"), (6, "b"), (6, "c")]:
            done(one, lambda inside, day=day, fp=fp: inside.request_log.remember(alice.id, fp, fp, day * DAY_MS))
        assert [other.request_log.answered(alice.id, fp) for fp in "abcd"] == ["a", "b", "c", None]
        done(
            one, lambda inside: inside.request_log.remember(bob.id, "a", "bob's", 9 * DAY_MS)
        )  # the place of "a" is free now
        assert [other.request_log.answered(alice.id, fp) for fp in "abcd"] == [None, "b", "c", None]
        done(one, lambda inside: inside.request_log.remember(alice.id, "d", "d", 9 * DAY_MS))
        assert [other.request_log.answered(alice.id, fp) for fp in "abcd"] == [None, "b", "c", "d"]

    def test_a_request_and_a_message_may_have_the_same_fp(self, tables: Tables) -> None:
        alice, bob = make(tables, "alice", "bob")
        done(tables, lambda inside: inside.request_log.remember(alice.id, "fp", "answer", 1))
        assert sent(tables, alice, to(bob, "text", "fp")).fresh
        assert tables.request_log.answered(alice.id, "fp") == "answer"
