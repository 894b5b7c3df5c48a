"""What every store must do with replies, mentions and unread messages: a part of the contract.

Inherited by contract.StoreContract, so that one subclass per twin runs all of it.
"""

from __future__ import annotations

from collections.abc import Callable

import msgspec
import pytest

from chatd.errors import ErrorCode
from chatd.model import ALL_MEMBERS, Role, User
from chatd.protocol import Extras, SendMessage
from chatd.store.contract import UNREAD_WINDOW, Head, Tables, Unread
from chatd.store.sql.unread import MENTIONS_SHOWN
from tests.store.steps import ANY, done, join, make, refused, send, sent, team, to, to_group


def extra(command: SendMessage, *mentions: str | int, reply: int = 0) -> SendMessage:
    return msgspec.structs.replace(command, extras=Extras(reply_to=reply, mentions=mentions))


def unread(tables: Tables, user: User) -> list[Unread]:
    return tables.history.unread(user.id, tables.history.heads(user.id, -(1 << 61), ANY))


def one_unread(tables: Tables, user: User) -> Unread:
    (found,) = unread(tables, user)
    return found


def mark(tables: Tables, user: User, conversation: int, seq: int) -> None:
    done(tables, lambda inside: inside.history.mark_seen(user.id, conversation, seq))


class ExtrasContract:
    # ---------------------------------------------------------------- replies and mentions

    def test_a_reply_is_kept_and_read_by_every_worker(self, opened: Callable[[], Tables]) -> None:
        one, other = opened(), opened()
        alice, bob = make(one, "alice", "bob")
        first = sent(one, alice, to(bob, "question")).message
        second = sent(other, bob, extra(to(alice, "answer"), reply=1)).message
        assert (first.reply_to, second.reply_to) == (0, 1)
        for tables in (one, other):
            assert tables.history.messages(alice.id, first.conversation, 0, 0, ANY) == [first, second]
            assert tables.history.waiting(alice.id, ANY).messages[-1] == second

    def test_a_reply_in_the_batch_of_the_message_that_it_answers(self, tables: Tables) -> None:
        alice, bob = make(tables, "alice", "bob")
        results = send(tables, (alice, to(bob, "1")), (bob, extra(to(alice, "2"), reply=1)))
        assert [result.message.reply_to for result in results if not isinstance(result, ErrorCode)] == [0, 1]

    def test_a_reply_to_a_message_that_is_not_there_is_refused_and_takes_no_number(self, tables: Tables) -> None:
        alice, bob = make(tables, "alice", "bob")
        assert send(tables, (alice, extra(to(bob), reply=1))) == [ErrorCode.UNKNOWN_MESSAGE]
        sent(tables, alice, to(bob))
        results = send(tables, (bob, extra(to(alice), reply=2)), (bob, to(alice)))
        assert results[0] is ErrorCode.UNKNOWN_MESSAGE
        assert not isinstance(results[1], ErrorCode)
        assert results[1].message.seq == 2

    def test_mentions_by_name_and_id_are_kept_once_each(self, opened: Callable[[], Tables]) -> None:
        one, other = opened(), opened()
        alice, bob, carol = make(one, "alice", "bob", "carol")
        group = team(one, alice, bob, carol)
        message = sent(one, alice, extra(to_group(group), "BOB", carol.id, "bob", reply=0)).message
        assert message.mentions == (bob.id, carol.id)
        assert other.history.messages(bob.id, -group, 0, 0, ANY) == [message]

    @pytest.mark.parametrize("by_id", [False, True])
    def test_who_is_not_in_the_group_cannot_be_told_from_who_does_not_exist(
        self, tables: Tables, *, by_id: bool
    ) -> None:
        alice, bob, carol = make(tables, "alice", "bob", "carol")
        group = team(tables, alice, bob)
        outsider, nobody = (carol.id, 1 << 40) if by_id else (carol.name, "nobody")
        for name in (outsider, nobody):
            assert send(tables, (alice, extra(to_group(group), "bob", name))) == [ErrorCode.UNKNOWN_RECIPIENT]
        assert tables.history.messages(alice.id, -group, 0, 0, ANY) == []

    def test_only_the_owner_and_admins_mention_everybody(self, tables: Tables) -> None:
        alice, bob, carol = make(tables, "alice", "bob", "carol")
        group = team(tables, alice, bob, carol)
        everybody = msgspec.structs.replace(to_group(group), extras=Extras(mentions=ALL_MEMBERS))
        assert send(tables, (bob, everybody)) == [ErrorCode.NOT_ALLOWED]
        done(tables, lambda inside: inside.groups.set_role(alice.id, group, bob.id, Role.ADMIN))
        assert sent(tables, bob, everybody).message.mentions == ALL_MEMBERS
        assert one_unread(tables, carol).mentioned == (1,)
        assert one_unread(tables, bob) == Unread()

    def test_mentions_between_two_users_are_refused(self, tables: Tables) -> None:
        alice, bob = make(tables, "alice", "bob")
        assert send(tables, (alice, extra(to(bob), "bob"))) == [ErrorCode.BAD_FIELD]

    def test_very_many_mentions(self, tables: Tables) -> None:
        alice, *others = make(tables, "alice", *(f"user{number}" for number in range(450)))
        group = team(tables, alice, *others)
        message = sent(tables, alice, extra(to_group(group), *(user.id for user in others))).message
        assert message.mentions == tuple(user.id for user in others)
        for user in (others[0], others[-1]):
            assert one_unread(tables, user).mentioned == (1,)

    def test_a_repetition_is_the_first_message_with_its_extras(self, tables: Tables) -> None:
        alice, bob = make(tables, "alice", "bob")
        group = team(tables, alice, bob)
        sent(tables, alice, to_group(group))
        command = extra(to_group(group, fp="f"), "bob", reply=1)
        first = sent(tables, alice, command).message
        again = sent(tables, alice, command)
        assert (again.fresh, again.message) == (False, first)
        assert one_unread(tables, bob) == Unread(2, mentioned=(2,))

    # ---------------------------------------------------------------- unread

    def test_unread_are_the_messages_of_others_beyond_the_mark(self, opened: Callable[[], Tables]) -> None:
        one, other = opened(), opened()
        alice, bob = make(one, "alice", "bob")
        for number in range(6):
            sender, recipient = ((alice, bob), (bob, alice))[number % 2]
            talk = sent((one, other)[number % 3 == 0], sender, to(recipient)).message.conversation
        for tables in (one, other):
            assert (one_unread(tables, alice), one_unread(tables, bob)) == (Unread(3), Unread(3))
        mark(one, bob, talk, 3)
        assert one_unread(other, bob) == Unread(1)
        mark(one, bob, talk, 6)
        assert one_unread(other, bob) == Unread()

    def test_unread_over_many_merges_of_an_index(self, opened: Callable[[], Tables]) -> None:
        one, other = opened(), opened()
        alice, bob, carol = make(one, "alice", "bob", "carol")
        for number in range(40):
            talk = sent(one, alice, to(bob, str(number))).message.conversation
            sent(one, carol, to(bob))
            for tables in (one, other):
                assert [found.messages for found in unread(tables, bob)] == [number + 1, number + 1]
        mark(other, bob, talk, 11)
        assert [found.messages for found in unread(one, bob)] == [29, 40]

    def test_nothing_counts_that_was_recalled_removed_hidden_or_cleared(self, tables: Tables) -> None:
        alice, bob = make(tables, "alice", "bob")
        group = team(tables, alice, bob)
        for _ in range(6):
            sent(tables, alice, extra(to_group(group), "bob"))
        assert one_unread(tables, bob) == Unread(6, mentioned=(1, 2, 3, 4, 5, 6))
        done(tables, lambda inside: inside.revisions.recall(alice.id, -group, 2, ANY, 1))
        done(tables, lambda inside: inside.revisions.remove(alice.id, -group, 3, 1))
        done(tables, lambda inside: inside.revisions.edit(alice.id, -group, 4, ("edited", ANY), 1))
        done(tables, lambda inside: inside.revisions.hide(bob.id, -group, [5]))
        assert one_unread(tables, bob) == Unread(3, mentioned=(1, 4, 6))
        done(tables, lambda inside: inside.revisions.clear(bob.id, -group, 4))
        assert one_unread(tables, bob) == Unread(1, mentioned=(6,))

    def test_mentions_that_are_gone_do_not_hide_later_ones(self, tables: Tables) -> None:
        alice, bob = make(tables, "alice", "bob")
        group = team(tables, alice, bob)
        everybody = msgspec.structs.replace(to_group(group), extras=Extras(mentions=ALL_MEMBERS))
        for _ in range(MENTIONS_SHOWN + 5):
            sent(tables, alice, extra(to_group(group), "bob"))
            sent(tables, alice, everybody)
        sent(tables, bob, extra(to_group(group), "alice"))
        last = sent(tables, alice, extra(to_group(group), "bob")).message.seq
        for seq in range(1, last - 1):
            done(tables, lambda inside, seq=seq: inside.revisions.recall(alice.id, -group, seq, ANY, 1))
        assert one_unread(tables, bob) == Unread(1, mentioned=(last,))
        for _ in range(MENTIONS_SHOWN + 5):
            sent(tables, alice, everybody)
        assert one_unread(tables, alice).mentioned == (last - 1,)
        assert len(one_unread(tables, bob).mentioned) == MENTIONS_SHOWN

    def test_the_window_is_bounded_and_says_that_there_is_more(self, tables: Tables) -> None:
        alice, bob = make(tables, "alice", "bob")
        for part in range(3):
            send(tables, *((alice, to(bob)) for _ in range(500)))
            talk = sent(tables, bob, to(alice)).message.conversation
            expected = (Unread(500), Unread(UNREAD_WINDOW - 1, more=True), Unread(UNREAD_WINDOW - 1, more=True))[part]
            assert one_unread(tables, bob) == expected
        mark(tables, bob, talk, 1002)
        assert one_unread(tables, bob) == Unread(500)

    def test_a_new_member_has_read_the_past_and_a_returning_one_starts_anew(self, tables: Tables) -> None:
        alice, bob, carol = make(tables, "alice", "bob", "carol")
        group = team(tables, alice, bob)
        for _ in range(3):
            sent(tables, alice, to_group(group))
        join(tables, carol, group)
        assert one_unread(tables, carol) == Unread()
        sent(tables, alice, extra(to_group(group), "carol", "bob"))
        assert one_unread(tables, carol) == Unread(1, mentioned=(4,))
        done(tables, lambda inside: inside.groups.kick(alice.id, group, bob.id, 1))
        assert unread(tables, bob) == []

    def test_notes_to_oneself_are_never_unread(self, tables: Tables) -> None:
        (alice,) = make(tables, "alice")
        sent(tables, alice, to(alice))
        assert one_unread(tables, alice) == Unread()

    def test_only_the_heads_asked_for(self, tables: Tables) -> None:
        alice, bob = make(tables, "alice", "bob")
        talk = sent(tables, alice, to(bob)).message.conversation
        assert tables.history.unread(bob.id, []) == []
        assert tables.history.unread(bob.id, [Head(talk, alice, 1, 0, 1)]) == [Unread()]

    # ---------------------------------------------------------------- who may write, and names

    def test_names_of_groups(self, opened: Callable[[], Tables]) -> None:
        one, other = opened(), opened()
        (alice,) = make(one, "alice")
        first, second = team(one, alice), team(one, alice)
        done(one, lambda inside: inside.groups.rename(alice.id, second, "pool", None, 0))
        assert other.groups.names([first, second, second + 1]) == {first: "team", second: "pool"}
        assert other.groups.names([]) == {}

    def test_a_writer_is_a_member_whom_nothing_forbids_to_write(self, tables: Tables) -> None:
        alice, bob, carol = make(tables, "alice", "bob", "carol")
        group = team(tables, alice, bob)
        assert tables.groups.check_writer(group, bob.id, 1) == 2
        for user, number, code in (
            (carol, group, ErrorCode.NOT_A_MEMBER), (bob, group + 1, ErrorCode.UNKNOWN_GROUP),
        ):  # fmt: skip
            refused(code, tables, lambda inside, who=user.id, at=number: inside.groups.check_writer(at, who, 1))
