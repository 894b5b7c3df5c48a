"""What every store must do when messages change after they were sent: a part of the contract.

Inherited by contract.StoreContract, so that one subclass per twin runs all of it.
"""

from __future__ import annotations

import threading
from collections.abc import Callable

import pytest

from chatd.errors import ErrorCode, Refused
from chatd.model import Message, MessageState, Role, User
from chatd.store.contract import Again, OwnView, Revised, Revision, Tables
from chatd.store.revision_contract import MAX_HIDDEN, MAX_VERSIONS
from tests.store.steps import ANY, advance, done, make, refused, send, sent, team, to, to_group

HOUR = 3_600_000
SENT_AT = 1_000
FILLING = 40
"""Messages that follow: with a small span, those before have index entries by then."""


def edit(tables: Tables, by: User, message: Message, text: str, *, now_ms: int = SENT_AT) -> Revised:
    where = message.conversation, message.seq
    return done(tables, lambda inside: inside.revisions.edit(by.id, *where, (text, HOUR), now_ms))


def recall(tables: Tables, by: User, message: Message, *, now_ms: int = SENT_AT) -> Revised:
    where = message.conversation, message.seq
    return done(tables, lambda inside: inside.revisions.recall(by.id, *where, HOUR, now_ms))


def remove(tables: Tables, by: User, message: Message) -> Revised:
    where = message.conversation, message.seq
    return done(tables, lambda inside: inside.revisions.remove(by.id, *where, SENT_AT))


def cannot(code: ErrorCode, tables: Tables, change: Callable[[Tables], object]) -> None:
    """change: with its own transaction."""
    with pytest.raises(Refused) as caught:
        change(tables)
    assert caught.value.code is code


def read(tables: Tables, message: Message) -> Message:
    (found,) = tables.history.at(message.conversation, (message.seq,))
    return found


class RevisionContract:
    def test_an_edited_message_keeps_its_place_and_has_a_version(self, opened: Callable[[], Tables]) -> None:
        one, other = opened(), opened()
        alice, bob = make(one, "alice", "bob")
        first, second = [sent(one, alice, to(bob, text, qos=True), now_ms=SENT_AT).message for text in ("a", "b")]
        for version, text in ((1, "x"), (2, "y"), (3, "")):
            revised = edit(other, alice, first, text)
            changed = revised.message
            assert (changed.body, changed.state, changed.version) == (text, MessageState.EDITED, version)
            assert revised.number == version
        kept = ("conversation", "seq", "sender_id", "to_name", "fp", "qos", "typeu", "sent_at_ms")
        assert [getattr(changed, name) for name in kept] == [getattr(first, name) for name in kept]
        for tables in (one, other):
            assert tables.history.messages(alice.id, first.conversation, 0, 0, ANY) == [changed, second]
            assert tables.history.waiting(bob.id, ANY).messages == [changed, second]

    @pytest.mark.parametrize("later", [0, FILLING])
    def test_a_recalled_message_has_no_text_any_more(self, tables: Tables, later: int) -> None:
        alice, bob = make(tables, "alice", "bob")
        message = sent(tables, alice, to(bob, "secret"), now_ms=SENT_AT).message
        for _ in range(later):
            sent(tables, bob, to(alice))
        gone = recall(tables, alice, message).message
        assert (gone.body, gone.state, gone.version, gone.seq) == ("", MessageState.RECALLED, 1, message.seq)
        assert tables.history.messages(alice.id, message.conversation, 0, 0, 1) == [gone]
        assert tables.history.waiting(bob.id, ANY).messages[0] == gone

    def test_only_the_sender_edits_and_recalls(self, tables: Tables) -> None:
        alice, bob, carol = make(tables, "alice", "bob", "carol")
        group = team(tables, alice, bob)
        private, public = [
            sent(tables, alice, command, now_ms=SENT_AT).message for command in (to(bob), to_group(group))
        ]
        for change in (lambda by, message: edit(tables, by, message, "x"), lambda by, m: recall(tables, by, m)):
            for by, message, code in (
                (bob, private, ErrorCode.NOT_ALLOWED), (carol, private, ErrorCode.UNKNOWN_MESSAGE),
                (bob, public, ErrorCode.NOT_ALLOWED), (carol, public, ErrorCode.NOT_A_MEMBER),
            ):  # fmt: skip
                cannot(code, tables, lambda _, change=change, by=by, message=message: change(by, message))
        assert [read(tables, message) for message in (private, public)] == [private, public]

    def test_a_seq_names_a_message_of_its_own_conversation_alone(self, tables: Tables) -> None:
        alice, bob, carol = make(tables, "alice", "bob", "carol")
        talk = sent(tables, alice, to(bob), now_ms=SENT_AT).message.conversation
        for _ in range(3):
            sent(tables, alice, to(carol), now_ms=SENT_AT)
        for seq in (0, -1, 2, 3, 1 << 60):
            refused(
                ErrorCode.UNKNOWN_MESSAGE,
                tables,
                lambda inside, seq=seq: inside.revisions.recall(alice.id, talk, seq, HOUR, SENT_AT),
            )

    def test_the_time_is_that_of_the_change(self, tables: Tables) -> None:
        alice, bob = make(tables, "alice", "bob")
        message = sent(tables, alice, to(bob), now_ms=SENT_AT).message
        late = SENT_AT + HOUR + 1
        cannot(ErrorCode.TOO_LATE, tables, lambda _: edit(tables, alice, message, "x", now_ms=late))
        cannot(ErrorCode.TOO_LATE, tables, lambda _: recall(tables, alice, message, now_ms=late))
        where = alice.id, message.conversation, 1
        refused(ErrorCode.TOO_LATE, tables, lambda inside: inside.revisions.edit(*where, ("x", 0), SENT_AT))
        refused(ErrorCode.TOO_LATE, tables, lambda inside: inside.revisions.recall(*where, 0, SENT_AT))
        assert edit(tables, alice, message, "x", now_ms=late - 1).number == 1
        assert recall(tables, alice, message, now_ms=late - 1).number == 2

    def test_what_has_no_text_any_more_does_not_change_again(self, tables: Tables) -> None:
        alice, bob = make(tables, "alice", "bob")
        group = team(tables, alice, bob)
        message = sent(tables, bob, to_group(group), now_ms=SENT_AT).message
        recall(tables, bob, message)
        cannot(ErrorCode.UNKNOWN_MESSAGE, tables, lambda _: edit(tables, bob, message, "back"))
        cannot(ErrorCode.UNKNOWN_MESSAGE, tables, lambda _: recall(tables, bob, message))
        cannot(ErrorCode.UNKNOWN_MESSAGE, tables, lambda _: remove(tables, alice, message))
        assert tables.revisions.last(-group) == 1

    def test_a_message_is_not_edited_for_ever(self, tables: Tables) -> None:
        alice, bob = make(tables, "alice", "bob")
        message = sent(tables, alice, to(bob), now_ms=SENT_AT).message
        for number in range(MAX_VERSIONS):
            edit(tables, alice, message, str(number))
        cannot(ErrorCode.LIMIT_REACHED, tables, lambda _: edit(tables, alice, message, "more"))
        assert recall(tables, alice, message).message.version == MAX_VERSIONS + 1

    def test_the_owner_and_admins_remove_by_rank(self, tables: Tables) -> None:
        owner, admin, other, plain, gone = make(tables, "owner", "admin", "other", "plain", "gone")
        group = team(tables, owner, admin, other, plain, gone)
        for user in (admin, other):
            done(tables, lambda inside, user=user: inside.groups.set_role(owner.id, group, user.id, Role.ADMIN))

        def written(by: User) -> Message:
            return sent(tables, by, to_group(group, "spam"), now_ms=SENT_AT).message

        of_gone = written(gone), written(gone)
        done(tables, lambda inside: inside.groups.leave(gone.id, group))
        for by, sender in ((plain, plain), (plain, other), (admin, owner), (admin, other)):
            cannot(ErrorCode.NOT_ALLOWED, tables, lambda _, by=by, sender=sender: remove(tables, by, written(sender)))
        for by, message in (
            (owner, written(owner)), (owner, written(admin)), (owner, written(plain)), (owner, of_gone[0]),
            (admin, written(admin)), (admin, written(plain)), (admin, of_gone[1]),
        ):  # fmt: skip
            removed = remove(tables, by, message).message
            assert (removed.body, removed.state, removed.seq) == ("", MessageState.REMOVED, message.seq)

    def test_nobody_removes_between_two_users_or_from_outside(self, tables: Tables) -> None:
        alice, bob, carol = make(tables, "alice", "bob", "carol")
        group = team(tables, alice, bob)
        private = sent(tables, alice, to(bob)).message
        public = sent(tables, bob, to_group(group)).message
        for by in (alice, bob):
            cannot(ErrorCode.NOT_ALLOWED, tables, lambda _, by=by: remove(tables, by, private))
        cannot(ErrorCode.NOT_A_MEMBER, tables, lambda _: remove(tables, carol, public))
        done(tables, lambda inside: inside.groups.leave(bob.id, group))
        cannot(ErrorCode.NOT_A_MEMBER, tables, lambda _: recall(tables, bob, public))
        cannot(ErrorCode.NOT_A_MEMBER, tables, lambda _: edit(tables, bob, public, "x"))

    def test_changes_are_numbered_without_gaps(self, opened: Callable[[], Tables]) -> None:
        one, other = opened(), opened()
        alice, bob = make(one, "alice", "bob")
        group = team(one, alice, bob)
        private = [sent(one, alice, to(bob), now_ms=SENT_AT).message for _ in range(3)]
        public = sent(one, alice, to_group(group), now_ms=SENT_AT).message
        talk = private[0].conversation
        assert (one.revisions.last(talk), one.revisions.since(talk, 0, ANY)) == (0, [])
        numbers = [
            edit(one, alice, private[2], "x").number, edit(other, alice, private[0], "x").number,
            edit(one, alice, private[2], "y").number, recall(other, alice, private[1]).number,
        ]  # fmt: skip
        assert numbers == [1, 2, 3, 4]
        assert edit(one, alice, public, "x").number == 1
        for tables in (one, other):
            assert tables.revisions.last(talk) == 4
            assert tables.revisions.since(talk, 0, ANY) == [Revision(2, 1), Revision(3, 3), Revision(4, 2)]
            assert tables.revisions.since(talk, 0, 1) == [Revision(1, 3)]
            assert tables.revisions.since(talk, 3, ANY) == [Revision(4, 2)]
            assert tables.revisions.since(-group, 0, ANY) == [Revision(1, 1)]

    def test_changes_at_once_have_different_numbers(self, opened: Callable[[], Tables]) -> None:
        tables = opened()
        alice, bob = make(tables, "alice", "bob")
        messages = [sent(tables, alice, to(bob), now_ms=SENT_AT).message for _ in range(8)]
        numbers: list[int] = []

        def some(connection: Tables, mine: list[Message]) -> None:
            for message in mine:
                while True:
                    try:
                        numbers.append(edit(connection, alice, message, "x").number)
                        break
                    except Again:
                        continue

        threads = [
            threading.Thread(target=some, args=(connection, messages[begin::2]))
            for begin, connection in enumerate((opened(), opened()))
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(30)
        assert sorted(numbers) == list(range(1, 9))

    def test_members_who_cannot_read_it_are_named(self, tables: Tables) -> None:
        alice, bob = make(tables, "alice", "bob")
        group = team(tables, alice, bob)
        revised = edit(tables, alice, sent(tables, alice, to_group(group), now_ms=SENT_AT).message, "x")
        version, _ = tables.groups.members_among(group, (alice.id,))
        assert (revised.members_version, revised.excluded) == (version, ())
        assert edit(tables, alice, sent(tables, alice, to(bob), now_ms=SENT_AT).message, "x").members_version == 0

    # ------------------------------------------------------------ repetitions

    @pytest.mark.parametrize("later", [0, FILLING])
    @pytest.mark.parametrize("recalled", [False, True])
    def test_a_repetition_of_the_first_text_is_recognised_and_undoes_nothing(
        self, tables: Tables, later: int, recalled: bool
    ) -> None:
        alice, bob = make(tables, "alice", "bob")
        first = sent(tables, alice, to(bob, "first", "fp"), now_ms=SENT_AT).message
        for _ in range(later):
            sent(tables, bob, to(alice))
        changed = (recall(tables, alice, first) if recalled else edit(tables, alice, first, "second")).message
        again = sent(tables, alice, to(bob, "first", "fp"))
        assert (again.message, again.fresh) == (changed, False)
        reused = send(tables, (alice, to(bob, "second", "fp")), (alice, to(bob, "", "fp")))
        assert reused == [ErrorCode.FP_REUSED, ErrorCode.FP_REUSED]
        assert read(tables, first) == changed

    # ------------------------------------------------------------ a user's own history

    def test_what_one_deletes_the_other_keeps(self, opened: Callable[[], Tables]) -> None:
        one, other = opened(), opened()
        alice, bob = make(one, "alice", "bob")
        messages = [sent(one, alice, to(bob)).message for _ in range(5)]
        talk = messages[0].conversation
        done(one, lambda inside: inside.revisions.hide(bob.id, talk, (2, 5, 5, 99, 0, -1)))
        assert other.revisions.own_view(bob.id, talk) == OwnView(0, frozenset({2, 5}))
        assert other.revisions.deleted(bob.id, messages) == {(talk, 2), (talk, 5)}
        assert done(one, lambda inside: inside.revisions.clear(bob.id, talk, 3)) == 3
        assert other.revisions.own_view(bob.id, talk) == OwnView(3, frozenset({5}))
        assert other.revisions.deleted(bob.id, messages) == {(talk, seq) for seq in (1, 2, 3, 5)}
        assert other.revisions.own_view(alice.id, talk) == OwnView(0, frozenset())
        assert other.revisions.deleted(alice.id, messages) == frozenset()
        assert other.history.messages(alice.id, talk, 0, 0, ANY) == messages
        assert other.revisions.last(talk) == 0

    def test_what_is_cleared_does_not_wait(self, tables: Tables) -> None:
        alice, bob = make(tables, "alice", "bob")
        for _ in range(5):
            talk = sent(tables, alice, to(bob)).message.conversation
        advance(tables, bob, talk, 1)
        for up_to, cleared, waiting in ((3, 3, [4, 5]), (2, 3, [4, 5]), (99, 5, [])):
            assert done(tables, lambda inside, up_to=up_to: inside.revisions.clear(bob.id, talk, up_to)) == cleared
            assert [message.seq for message in tables.history.waiting(bob.id, ANY).messages] == waiting
        sent(tables, alice, to(bob))
        assert [message.seq for message in tables.history.waiting(bob.id, ANY).messages] == [6]

    def test_single_deleted_messages_are_limited(self, tables: Tables) -> None:
        alice, bob = make(tables, "alice", "bob")
        send(tables, *[(alice, to(bob)) for _ in range(MAX_HIDDEN + 1)])
        talk = tables.history.conversation_of(alice.id, bob.id, 0)
        done(tables, lambda inside: inside.revisions.hide(bob.id, talk, range(1, MAX_HIDDEN + 1)))
        refused(ErrorCode.LIMIT_REACHED, tables, lambda inside: inside.revisions.hide(bob.id, talk, (MAX_HIDDEN + 1,)))
        done(tables, lambda inside: inside.revisions.clear(bob.id, talk, 500))
        done(tables, lambda inside: inside.revisions.hide(bob.id, talk, (MAX_HIDDEN + 1,)))
        assert len(tables.revisions.own_view(bob.id, talk).hidden) == MAX_HIDDEN - 500 + 1
