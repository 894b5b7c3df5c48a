"""What every store must do for the system: the operator's own programs, which are no user and no member."""

from __future__ import annotations

from chatd.errors import ErrorCode
from chatd.model import SYSTEM, GroupRules, JoinPolicy, MessageState, Role, User
from chatd.store.contract import FOREVER, RulesChange, Tables
from tests.store.steps import ANY, ANYBODY, done, make, refused, sent, team, to, to_group

_LONG = 1 << 50
"""Milliseconds; no message is as old."""


def _roles(tables: Tables, group: int) -> dict[str, Role]:
    return {user.name: role for user, role in tables.groups.members(group, 0, ANY)}


class SystemContract:
    # ------------------------------------------------------------ accounts

    def test_a_name_of_digits_never_finds_the_account_with_that_number(self, tables: Tables) -> None:
        alice, bob = make(tables, "alice", "bob")
        assert tables.accounts.find(str(bob.id), 0) is not None
        assert tables.accounts.named(str(bob.id)) is None
        (number,) = make(tables, str(bob.id))
        for named in (tables.accounts.named(str(bob.id)), tables.accounts.find(str(bob.id), 0)):
            assert named is not None
            assert named.user == number
        found = tables.accounts.named("ALICE")
        assert found is not None
        assert found.user == alice
        assert tables.accounts.named("") is None
        assert tables.accounts.named("carol") is None

    def test_accounts_are_listed_in_pages_without_the_deleted(self, tables: Tables) -> None:
        users = make(tables, "a", "b", "c", "d", "e")
        done(tables, lambda inside: inside.accounts.delete(users[1].id))
        done(tables, lambda inside: inside.accounts.lock(users[2].id, "why", 77))
        kept = [users[0], *users[2:]]
        first = tables.accounts.page(0, 2)
        assert [one.user for one in first] == kept[:2]
        assert [one.locked_at_ms for one in first] == [0, 77]
        second = tables.accounts.page(first[-1].user.id, 2)
        assert [one.user for one in second] == kept[2:]
        assert tables.accounts.page(second[-1].user.id, 2) == []

    def test_accounts_are_found_by_the_beginning_of_their_name(self, tables: Tables) -> None:
        users = {one.name: one for one in make(tables, "Anna", "ann", "anton", "an", "bob", "a%n", "\uff21nke", "安娜")}
        done(tables, lambda inside: inside.accounts.delete(users["anton"].id))

        def found(like: str, after: str = "", limit: int = ANY) -> list[str]:
            return [one.user.name for one in tables.accounts.beginning_with(like, after, limit)]

        assert found("AN") == ["an", "\uff21nke", "ann", "Anna"]
        assert found("an", "ann") == ["Anna"]
        assert found("an", "", 2) == ["an", "\uff21nke"]
        assert (found("a%"), found("安"), found("x"), found("anna ")) == (["a%n"], ["安娜"], [], [])
        assert len(found("")) == 7

    # ------------------------------------------------------------ friends

    def test_two_users_are_made_friends_without_being_asked(self, tables: Tables) -> None:
        alice, bob, carol = make(tables, "alice", "bob", "carol")
        assert done(tables, lambda inside: inside.friends.befriend(alice.id, bob.id, ANY, 1))
        assert not done(tables, lambda inside: inside.friends.befriend(bob.id, alice.id, ANY, 2))
        assert tables.friends.of(alice.id) == [bob]
        assert tables.friends.of(bob.id) == [alice]
        refused(ErrorCode.NOT_ALLOWED, tables, lambda inside: inside.friends.befriend(alice.id, alice.id, ANY, 3))
        refused(ErrorCode.UNKNOWN_RECIPIENT, tables, lambda inside: inside.friends.befriend(alice.id, 99, ANY, 3))
        refused(ErrorCode.LIMIT_REACHED, tables, lambda inside: inside.friends.befriend(carol.id, alice.id, 1, 3))
        done(tables, lambda inside: inside.consent.block(carol.id, bob.id, ANY, 3))
        refused(ErrorCode.NOT_ACCEPTED, tables, lambda inside: inside.friends.befriend(bob.id, carol.id, ANY, 3))
        assert tables.friends.of(carol.id) == []

    # ------------------------------------------------------------ groups

    def test_groups_are_listed_in_pages_with_their_owners(self, tables: Tables) -> None:
        alice, bob = make(tables, "alice", "bob")
        first, second, third = team(tables, alice), team(tables, bob, alice), team(tables, alice)
        change = RulesChange(join=JoinPolicy.INVITE, announcements=True)
        done(tables, lambda inside: inside.groups.set_rules(SYSTEM.id, second, change))
        done(tables, lambda inside: inside.groups.dissolve(SYSTEM.id, first))
        (found,) = tables.groups.page(0, 1)
        assert found == tables.groups.overview(second)
        assert (found.group.id, found.owner, found.members, found.created_at_ms) == (second, bob, 2, 1)
        assert found.rules == GroupRules(join=JoinPolicy.INVITE, announcements=True)
        assert [one.group.id for one in tables.groups.page(second, 5)] == [third]
        assert tables.groups.overview(first) is None

    def test_the_system_outranks_the_owner_of_every_group(self, tables: Tables) -> None:
        alice, bob, carol = make(tables, "alice", "bob", "carol")
        group = team(tables, alice)
        assert tables.groups.role(group, SYSTEM.id) is Role.SYSTEM
        refused(ErrorCode.UNKNOWN_GROUP, tables, lambda inside: inside.groups.role(99, SYSTEM.id))
        done(tables, lambda inside: inside.admission.add(SYSTEM.id, group, bob.id, ANYBODY, 1))
        done(tables, lambda inside: inside.admission.add(SYSTEM.id, group, carol.id, ANYBODY, 1))
        done(tables, lambda inside: inside.groups.rename(SYSTEM.id, group, "ours", None, 1))
        change = RulesChange(whole_history=True)
        assert done(tables, lambda inside: inside.groups.set_rules(SYSTEM.id, group, change)).whole_history
        done(tables, lambda inside: inside.groups.mute(SYSTEM.id, group, carol.id, FOREVER))
        assert tables.groups.muted(group, [carol.id], 5) == {carol.id: FOREVER}
        done(tables, lambda inside: inside.groups.kick(SYSTEM.id, group, carol.id, 1))
        assert [(one.user, one.by.id) for one in tables.admission.bans(SYSTEM.id, group, 0, ANY)] == [(carol, 0)]
        done(tables, lambda inside: inside.admission.unban(SYSTEM.id, group, carol.id))
        assert _roles(tables, group) == {"alice": Role.OWNER, "bob": Role.MEMBER}

    def test_a_user_who_accepts_nobody_is_added_by_the_system_all_the_same(self, tables: Tables) -> None:
        """Also one who was banned, and one who has declined an invitation."""
        alice, bob = make(tables, "alice", "bob")
        group = team(tables, alice)
        done(tables, lambda inside: inside.admission.ban(alice.id, group, bob.id, 1))
        done(tables, lambda inside: inside.admission.invite(alice.id, group, bob.id, ANYBODY, 1))
        done(tables, lambda inside: inside.admission.decline(bob.id, group, 1))
        joined = done(tables, lambda inside: inside.admission.add(SYSTEM.id, group, bob.id, ANYBODY, 2))
        assert joined.fresh
        assert joined.pending is None
        assert not done(tables, lambda inside: inside.admission.add(SYSTEM.id, group, bob.id, ANYBODY, 2)).fresh
        assert tables.admission.bans(alice.id, group, 0, ANY) == []

    def test_the_system_names_the_owner_and_a_group_always_has_one(self, tables: Tables) -> None:
        alice, bob = make(tables, "alice", "bob")
        group = team(tables, alice, bob)
        for role in (Role.ADMIN, Role.MEMBER):
            refused(
                ErrorCode.NOT_ALLOWED, tables, lambda inside: inside.groups.set_role(0, group, alice.id, role)  # noqa: B023
            )  # fmt: skip
        done(tables, lambda inside: inside.groups.set_role(SYSTEM.id, group, alice.id, Role.OWNER))
        assert _roles(tables, group) == {"alice": Role.OWNER, "bob": Role.MEMBER}
        done(tables, lambda inside: inside.groups.set_role(SYSTEM.id, group, bob.id, Role.OWNER))
        assert _roles(tables, group) == {"alice": Role.ADMIN, "bob": Role.OWNER}

    # ------------------------------------------------------------ messages

    def test_the_system_reads_and_removes_every_message(self, tables: Tables) -> None:
        alice, bob, carol = make(tables, "alice", "bob", "carol")
        group = team(tables, alice)
        sent(tables, alice, to_group(group, "before"))
        private = sent(tables, bob, to(carol, "private")).message
        assert tables.history.users_of(private.conversation) == (bob.id, carol.id)
        assert tables.history.users_of(99) is None
        for conversation, text in ((-group, "before"), (private.conversation, "private")):
            (message,) = tables.history.messages(SYSTEM.id, conversation, 0, 0, ANY)
            assert message.body == text
            revised = done(
                tables, lambda inside: inside.revisions.remove(SYSTEM.id, conversation, 1, 9)  # noqa: B023
            ).message  # fmt: skip
            assert (revised.state, revised.body) == (MessageState.REMOVED, "")
            refused(
                ErrorCode.UNKNOWN_MESSAGE, tables, lambda inside: inside.revisions.remove(0, conversation, 1, 9)  # noqa: B023
            )  # fmt: skip

    def test_the_system_puts_no_words_into_the_mouth_of_a_user(self, tables: Tables) -> None:
        alice, bob = make(tables, "alice", "bob")
        group = team(tables, alice)
        private = sent(tables, alice, to(bob, "mine")).message.conversation
        sent(tables, alice, to_group(group, "mine"))
        for conversation in (private, -group):
            refused(
                ErrorCode.NOT_ALLOWED,
                tables,
                lambda inside: inside.revisions.edit(SYSTEM.id, conversation, 1, ("yours", _LONG), 9),  # noqa: B023
            )
            refused(
                ErrorCode.NOT_ALLOWED,
                tables,
                lambda inside: inside.revisions.recall(SYSTEM.id, conversation, 1, _LONG, 9),  # noqa: B023
            )

    def test_a_user_with_no_account_is_not_the_system(self, tables: Tables) -> None:
        """Nor is one whose id could be taken for it."""
        alice, bob = make(tables, "alice", "bob")
        group = team(tables, alice)
        private = sent(tables, alice, to(bob)).message.conversation
        stranger = User(bob.id + 50, "nobody")
        refused(ErrorCode.NOT_A_MEMBER, tables, lambda inside: inside.groups.role(group, stranger.id))
        refused(ErrorCode.NOT_A_MEMBER, tables, lambda inside: inside.groups.dissolve(bob.id, group))
        refused(ErrorCode.UNKNOWN_MESSAGE, tables, lambda inside: inside.revisions.remove(stranger.id, private, 1, 9))
