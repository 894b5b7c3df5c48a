"""What every store must do with blocks, and with what users accept. A part of tests.store.contract.StoreContract.

`opened` opens further connections, as other workers and hosts have: each remembers who may write to whom.
"""

from __future__ import annotations

from collections.abc import Callable

import pytest

from chatd.errors import ErrorCode, Refused
from chatd.model import Audience, User
from chatd.store.contract import ANYTHING, Asked, AskingRules, Audiences, Draft, Purpose, SendingRules, Stored, Tables
from chatd.store.sql.verdicts import Permissions
from tests.store.group_steps import invited
from tests.store.steps import ANY, ASKING, done, join, make, refused, sent, team, to

EVERYBODY, CONTACTS, FRIENDS, NOBODY = Audience.EVERYBODY, Audience.CONTACTS, Audience.FRIENDS, Audience.NOBODY
DAY_MS = 86_400_000


def block(tables: Tables, user: User, other: User, limit: int = ANY) -> bool:
    return done(tables, lambda inside: inside.consent.block(user.id, other.id, limit, 1))


def unblock(tables: Tables, user: User, other: User) -> None:
    done(tables, lambda inside: inside.consent.unblock(user.id, other.id))


def choose(tables: Tables, user: User, purpose: Purpose, audience: Audience) -> Audiences:
    return done(tables, lambda inside: inside.consent.choose(user.id, {purpose: audience}))


def befriend(tables: Tables, one: User, other: User) -> None:
    done(tables, lambda inside: inside.friends.request(one, other.id, ASKING, 1))
    done(tables, lambda inside: inside.friends.answer(other.id, one.id, True, ANY, 1))


def written(tables: Tables, sender: User, other: User, rules: SendingRules = ANYTHING, fp: str = "") -> object:
    """The refusal of a message, or the number it got."""
    draft = Draft(sender, to(other, fp=fp))
    (result,) = done(tables, lambda inside: inside.append([draft], 1, rules))
    return result.message.seq if isinstance(result, Stored) else result


def accepted(result: object) -> bool:
    return not isinstance(result, ErrorCode)


def verdict(tables: Tables, purpose: Purpose, actor: User, subject: User, default: Audience) -> ErrorCode | None:
    (code,) = tables.consent.refusals(purpose, [(actor.id, subject.id)], default)
    return code


class ConsentContract:
    # ------------------------------------------------------------ blocks

    def test_a_blocked_user_cannot_write_and_neither_can_the_blocker(self, tables: Tables) -> None:
        alice, bob = make(tables, "alice", "bob")
        assert (written(tables, bob, alice), written(tables, alice, bob)) == (1, 2)
        assert block(tables, alice, bob)
        assert written(tables, bob, alice) is ErrorCode.NOT_ACCEPTED
        assert written(tables, alice, bob) is ErrorCode.BLOCKED_BY_YOU
        unblock(tables, alice, bob)
        assert (written(tables, bob, alice), written(tables, alice, bob)) == (3, 4)

    def test_a_block_holds_for_the_next_message_on_every_other_connection(self, opened: Callable[[], Tables]) -> None:
        """Each remembers that the two write to each other."""
        one, other = opened(), opened()
        alice, bob, carol = make(one, "alice", "bob", "carol")
        for turn in range(3):
            for tables in (one, other):
                assert accepted(written(tables, bob, alice))
                assert accepted(written(tables, alice, bob))
                assert accepted(written(tables, carol, alice))
            block(one if turn % 2 else other, alice, bob)
            for tables in (one, other):
                assert written(tables, bob, alice) is ErrorCode.NOT_ACCEPTED
                assert written(tables, alice, bob) is ErrorCode.BLOCKED_BY_YOU
                assert accepted(written(tables, carol, alice))
            unblock(one if turn % 2 else other, alice, bob)

    def test_a_first_message_to_somebody_who_blocks_leaves_no_trace(self, tables: Tables) -> None:
        alice, bob = make(tables, "alice", "bob")
        block(tables, alice, bob)
        assert written(tables, bob, alice) is ErrorCode.NOT_ACCEPTED
        assert tables.history.heads(alice.id, -(1 << 61), 10) == []
        assert tables.history.waiting(alice.id, 10).messages == []

    def test_one_batch_has_accepted_and_refused_messages(self, tables: Tables) -> None:
        alice, bob, carol = make(tables, "alice", "bob", "carol")
        block(tables, alice, bob)
        drafts = [Draft(bob, to(alice)), Draft(carol, to(alice)), Draft(bob, to(carol)), Draft(bob, to(alice))]
        results = done(tables, lambda inside: inside.append(drafts, 1))
        assert [isinstance(result, Stored) for result in results] == [False, True, True, False]

    def test_a_message_from_before_the_block_is_still_acknowledged_when_it_is_repeated(
        self, opened: Callable[[], Tables]
    ) -> None:
        one, other = opened(), opened()
        alice, bob = make(one, "alice", "bob")
        first = sent(one, bob, to(alice, fp="a"))
        block(one, alice, bob)
        for tables in (one, other):
            again = sent(tables, bob, to(alice, fp="a"))
            assert (again.message, again.fresh) == (first.message, False)
            assert written(tables, bob, alice, fp="b") is ErrorCode.NOT_ACCEPTED

    def test_a_block_ends_a_friendship_and_withdraws_requests_both_ways(self, tables: Tables) -> None:
        alice, bob, carol, dave = make(tables, "alice", "bob", "carol", "dave")
        befriend(tables, alice, bob)
        done(tables, lambda inside: inside.friends.request(alice, carol.id, ASKING, 1))
        done(tables, lambda inside: inside.friends.request(dave, alice.id, ASKING, 1))
        for other in (bob, carol, dave):
            block(tables, alice, other)
        assert [tables.friends.of(one.id) for one in (alice, bob)] == [[], []]
        assert [tables.friends.requests_to(one.id) for one in (alice, carol)] == [[], []]

    def test_a_block_withdraws_invitations_by_the_blocked_user_alone(self, tables: Tables) -> None:
        alice, bob, carol = make(tables, "alice", "bob", "carol")
        for owner in (bob, carol):
            invited(tables, owner, team(tables, owner), alice)
        block(tables, alice, bob)
        assert [one.by for one in tables.admission.invitations(alice.id, 0, 10)] == [carol]

    def test_whom_a_user_blocks_is_listed_in_pages_and_limited(self, tables: Tables) -> None:
        alice, bob, carol, dave = make(tables, "alice", "bob", "carol", "dave")
        assert block(tables, alice, carol, 2)
        assert block(tables, alice, bob, 2)
        assert not block(tables, alice, bob, 2)
        refused(ErrorCode.LIMIT_REACHED, tables, lambda inside: inside.consent.block(alice.id, dave.id, 2, 1))
        assert tables.consent.blocked(alice.id, 0, 10) == [bob, carol]
        assert tables.consent.blocked(alice.id, 0, 1) == [bob]
        assert tables.consent.blocked(alice.id, bob.id, 10) == [carol]
        assert tables.consent.blocked(bob.id, 0, 10) == []

    def test_blocks_that_make_no_sense_are_refused(self, tables: Tables) -> None:
        alice, bob = make(tables, "alice", "bob")
        refused(ErrorCode.NOT_ALLOWED, tables, lambda inside: inside.consent.block(alice.id, alice.id, ANY, 1))
        refused(ErrorCode.UNKNOWN_RECIPIENT, tables, lambda inside: inside.consent.block(alice.id, 999, ANY, 1))
        refused(ErrorCode.NOT_ALLOWED, tables, lambda inside: inside.consent.unblock(alice.id, bob.id))

    def test_a_deleted_account_neither_blocks_nor_is_blocked(self, tables: Tables) -> None:
        alice, bob, carol = make(tables, "alice", "bob", "carol")
        block(tables, alice, bob)
        block(tables, bob, carol)
        done(tables, lambda inside: inside.accounts.delete(bob.id))
        assert tables.consent.blocked(alice.id, 0, 10) == []
        assert tables.consent.blocked(bob.id, 0, 10) == []

    def test_who_blocks_whom_decides_about_invitations(self, tables: Tables) -> None:
        alice, bob = make(tables, "alice", "bob")
        assert tables.consent.block_between(bob.id, alice.id) is None
        block(tables, alice, bob)
        assert tables.consent.block_between(bob.id, alice.id) is ErrorCode.NOT_ACCEPTED
        assert tables.consent.block_between(alice.id, bob.id) is ErrorCode.BLOCKED_BY_YOU

    # ------------------------------------------------------------ audiences

    @pytest.mark.parametrize("own", [True, False], ids=["chosen", "default"])
    def test_each_audience_admits_whom_it_says(self, tables: Tables, own: bool) -> None:
        alice, friend, mate, stranger, asker = make(tables, "alice", "friend", "mate", "stranger", "asker")
        befriend(tables, alice, friend)
        team(tables, alice, mate)
        done(tables, lambda inside: inside.friends.request(asker, alice.id, ASKING, 1))
        admitted = {
            EVERYBODY: [alice, friend, mate, stranger, asker],
            CONTACTS: [alice, friend, mate],
            FRIENDS: [alice, friend],
            NOBODY: [alice],
        }
        others = (alice, friend, mate, stranger, asker)
        for purpose in Purpose:
            for audience, expected in admitted.items():
                default = audience
                if own:
                    choose(tables, alice, purpose, audience)
                    default = NOBODY if audience is EVERYBODY else EVERYBODY
                found = [one for one in others if verdict(tables, purpose, one, alice, default) is None]
                assert found == expected, (purpose, audience)
                codes = {verdict(tables, purpose, one, alice, default) for one in others}
                assert codes <= {None, ErrorCode.NOT_ACCEPTED}

    def test_a_block_comes_before_every_audience(self, tables: Tables) -> None:
        alice, bob = make(tables, "alice", "bob")
        team(tables, alice, bob)
        block(tables, alice, bob)
        for purpose in Purpose:
            choose(tables, alice, purpose, EVERYBODY)
            assert verdict(tables, purpose, bob, alice, EVERYBODY) is ErrorCode.NOT_ACCEPTED
            own = None if purpose is Purpose.SEE else ErrorCode.BLOCKED_BY_YOU
            assert verdict(tables, purpose, alice, bob, EVERYBODY) is own

    def test_choices_are_kept_one_by_one(self, tables: Tables) -> None:
        (alice,) = make(tables, "alice")
        assert tables.consent.audiences(alice.id) == Audiences()
        assert choose(tables, alice, Purpose.SEE, NOBODY) == Audiences(see=NOBODY)
        assert choose(tables, alice, Purpose.WRITE, FRIENDS) == Audiences(write=FRIENDS, see=NOBODY)
        assert choose(tables, alice, Purpose.SEE, Audience.DEFAULT) == Audiences(write=FRIENDS)
        assert tables.consent.audiences(alice.id) == Audiences(write=FRIENDS)

    def test_who_may_write_holds_for_the_next_message_on_every_connection(self, opened: Callable[[], Tables]) -> None:
        one, other = opened(), opened()
        alice, bob = make(one, "alice", "bob")
        for tables in (one, other):
            assert accepted(written(tables, bob, alice))
        choose(one, alice, Purpose.WRITE, FRIENDS)
        for tables in (one, other):
            assert written(tables, bob, alice) is ErrorCode.NOT_ACCEPTED
        befriend(one, alice, bob)
        for tables in (one, other):
            assert accepted(written(tables, bob, alice))
        done(other, lambda inside: inside.friends.remove(bob.id, alice.id))
        for tables in (one, other):
            assert written(tables, bob, alice) is ErrorCode.NOT_ACCEPTED
        choose(other, alice, Purpose.WRITE, EVERYBODY)
        for tables in (one, other):
            assert accepted(written(tables, bob, alice))

    def test_members_of_a_group_that_was_left_are_no_contacts(self, opened: Callable[[], Tables]) -> None:
        one, other = opened(), opened()
        alice, bob = make(one, "alice", "bob")
        choose(one, alice, Purpose.WRITE, CONTACTS)
        group = team(one, alice, bob)
        for tables in (one, other):
            assert accepted(written(tables, bob, alice))
        done(one, lambda inside: inside.groups.leave(bob.id, group))
        for tables in (one, other):
            assert written(tables, bob, alice) is ErrorCode.NOT_ACCEPTED
        join(other, bob, group)
        assert accepted(written(one, bob, alice))

    def test_the_operators_default_holds_from_the_next_batch_on(self, tables: Tables) -> None:
        alice, bob = make(tables, "alice", "bob")
        for default, expected in ((EVERYBODY, True), (FRIENDS, False), (EVERYBODY, True), (NOBODY, False)):
            result = written(tables, bob, alice, SendingRules(may_write=default))
            assert accepted(result) is expected, default

    def test_everybody_writes_to_themselves(self, tables: Tables) -> None:
        (alice,) = make(tables, "alice")
        choose(tables, alice, Purpose.WRITE, NOBODY)
        assert [written(tables, alice, alice, SendingRules(may_write=NOBODY)) for _ in range(2)] == [1, 2]

    def test_whoever_one_writes_to_may_answer(self, opened: Callable[[], Tables]) -> None:
        one, other = opened(), opened()
        alice, bob, carol = make(one, "alice", "bob", "carol")
        choose(one, alice, Purpose.WRITE, FRIENDS)
        assert written(one, bob, alice) is ErrorCode.NOT_ACCEPTED
        assert written(other, alice, bob) == 1
        assert (written(one, bob, alice), written(other, bob, alice)) == (2, 3)
        assert written(one, carol, alice) is ErrorCode.NOT_ACCEPTED
        assert verdict(one, Purpose.ASK, bob, alice, FRIENDS) is ErrorCode.NOT_ACCEPTED

    def test_a_new_choice_takes_back_what_writing_had_granted(self, opened: Callable[[], Tables]) -> None:
        one, other = opened(), opened()
        alice, bob = make(one, "alice", "bob")
        assert written(one, alice, bob) == 1  # while everybody may write, this grants nothing
        choose(one, alice, Purpose.WRITE, FRIENDS)
        for tables in (one, other):
            assert written(tables, bob, alice) is ErrorCode.NOT_ACCEPTED
        assert written(one, alice, bob) == 2
        assert written(other, bob, alice) == 3
        choose(one, alice, Purpose.WRITE, NOBODY)
        for tables in (one, other):
            assert written(tables, bob, alice) is ErrorCode.NOT_ACCEPTED
        assert written(one, alice, bob) == 4
        assert written(other, bob, alice) == 5

    def test_a_block_takes_back_what_writing_had_granted(self, tables: Tables) -> None:
        alice, bob = make(tables, "alice", "bob")
        choose(tables, alice, Purpose.WRITE, FRIENDS)
        assert (written(tables, alice, bob), written(tables, bob, alice)) == (1, 2)
        block(tables, alice, bob)
        unblock(tables, alice, bob)
        assert written(tables, bob, alice) is ErrorCode.NOT_ACCEPTED

    def test_a_message_that_was_rolled_back_grants_nothing(self, tables: Tables) -> None:
        alice, bob = make(tables, "alice", "bob")
        choose(tables, alice, Purpose.WRITE, FRIENDS)
        tables.begin()
        tables.append([Draft(alice, to(bob)), Draft(bob, to(alice))], 1)
        tables.rollback()
        assert written(tables, bob, alice) is ErrorCode.NOT_ACCEPTED
        assert (written(tables, alice, bob), written(tables, bob, alice)) == (1, 2)

    def test_who_is_accepted_for_a_lasting_reason_is_not_looked_up_again(
        self, tables: Tables, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        alice, bob, friend, answering, mate = make(tables, "alice", "bob", "friend", "answering", "mate")
        befriend(tables, alice, friend)
        team(tables, alice, mate)
        choose(tables, alice, Purpose.WRITE, CONTACTS)
        pairs = [(alice, answering), (alice, bob), (answering, alice), (friend, alice), (alice, alice), (mate, alice)]
        looked_up: list[tuple[int, int]] = []
        verdicts = Permissions.verdicts

        def counting(self: Permissions, purpose: Purpose, asked: list[tuple[int, int]], default: Audience) -> object:
            looked_up.extend(asked)
            return verdicts(self, purpose, asked, default)

        monkeypatch.setattr(Permissions, "verdicts", counting)
        for _ in range(3):
            for sender, recipient in pairs:
                assert accepted(written(tables, sender, recipient))
        each = [(sender.id, recipient.id) for sender, recipient in pairs]
        assert looked_up == [*each, (mate.id, alice.id), (mate.id, alice.id)]

    def test_the_version_rises_when_somebody_accepts_less(self, tables: Tables) -> None:
        alice, bob = make(tables, "alice", "bob")
        befriend(tables, alice, bob)
        versions = [tables.consent.version()]
        for step in (
            lambda: block(tables, alice, bob),
            lambda: choose(tables, bob, Purpose.SEE, NOBODY),
            lambda: (unblock(tables, alice, bob), befriend(tables, alice, bob)),
            lambda: done(tables, lambda inside: inside.friends.remove(alice.id, bob.id)),
        ):
            step()
            versions.append(tables.consent.version())
        assert versions[0] < versions[1] < versions[2] == versions[3] < versions[4]

    def test_contacts_who_do_not_show_themselves_are_found_at_once(self, tables: Tables) -> None:
        alice, friend, shy, hidden, blocking, mate = make(
            tables, "alice", "friend", "shy", "hidden", "blocking", "mate"
        )
        befriend(tables, alice, friend)
        everybody = (alice, friend, shy, hidden, blocking, mate)
        team(tables, *everybody)
        choose(tables, friend, Purpose.SEE, FRIENDS)
        choose(tables, shy, Purpose.SEE, FRIENDS)
        choose(tables, hidden, Purpose.SEE, NOBODY)
        block(tables, blocking, alice)
        block(tables, alice, mate)
        numbers = [user.id for user in everybody]
        for default in (EVERYBODY, CONTACTS):
            assert tables.consent.unseen(alice.id, numbers, default) == {shy.id, hidden.id, blocking.id}
        assert tables.consent.unseen(alice.id, numbers, FRIENDS) == {shy.id, hidden.id, blocking.id, mate.id}
        assert tables.consent.unseen(alice.id, [], NOBODY) == set()
        assert tables.consent.unseen(alice.id, [*range(2, 1200)], CONTACTS) == {shy.id, hidden.id, blocking.id}

    # ------------------------------------------------------------ friend requests

    def test_a_blocked_user_cannot_ask(self, tables: Tables) -> None:
        alice, bob = make(tables, "alice", "bob")
        block(tables, alice, bob)
        refused(ErrorCode.NOT_ACCEPTED, tables, lambda inside: inside.friends.request(bob, alice.id, ASKING, 1))
        refused(ErrorCode.BLOCKED_BY_YOU, tables, lambda inside: inside.friends.request(alice, bob.id, ASKING, 1))

    def test_a_refused_user_cannot_ask_again_for_a_time(self, tables: Tables) -> None:
        alice, bob = make(tables, "alice", "bob")
        rules = AskingRules(again_ms=7 * DAY_MS)
        assert done(tables, lambda inside: inside.friends.request(bob, alice.id, rules, 1)) is Asked.NEW
        done(tables, lambda inside: inside.friends.answer(alice.id, bob.id, False, ANY, DAY_MS))
        for at_ms, left in ((DAY_MS, "7 days"), (7 * DAY_MS + 1, "24 hours"), (8 * DAY_MS - 61_000, "2 minutes")):
            with pytest.raises(Refused, match=f"you can ask again in {left}") as caught:
                done(tables, lambda inside, at=at_ms: inside.friends.request(bob, alice.id, rules, at))
            assert caught.value.code is ErrorCode.NOT_ALLOWED
        assert done(tables, lambda inside: inside.friends.request(bob, alice.id, rules, 8 * DAY_MS)) is Asked.NEW

    def test_the_one_who_refused_may_ask(self, tables: Tables) -> None:
        alice, bob = make(tables, "alice", "bob")
        rules = AskingRules(again_ms=7 * DAY_MS)
        done(tables, lambda inside: inside.friends.request(bob, alice.id, rules, 1))
        done(tables, lambda inside: inside.friends.answer(alice.id, bob.id, False, ANY, 2))
        assert done(tables, lambda inside: inside.friends.request(alice, bob.id, rules, 3)) is Asked.NEW
        assert done(tables, lambda inside: inside.friends.request(bob, alice.id, rules, 4)) is Asked.FRIENDS
        done(tables, lambda inside: inside.friends.remove(alice.id, bob.id))
        assert done(tables, lambda inside: inside.friends.request(bob, alice.id, rules, 5)) is Asked.NEW

    def test_withdrawing_and_asking_in_turn_tells_once(self, tables: Tables) -> None:
        alice, bob = make(tables, "alice", "bob")
        rules = AskingRules(again_ms=DAY_MS)
        asked = []
        for at_ms in (1, 10, 20, 30, DAY_MS, DAY_MS + 1, DAY_MS + 2):
            asked.append(done(tables, lambda inside, at=at_ms: inside.friends.request(bob, alice.id, rules, at)))
            if at_ms == 20:
                block(tables, bob, alice)  # withdraws too
                unblock(tables, bob, alice)
            else:
                done(tables, lambda inside: inside.friends.remove(bob.id, alice.id))
        assert asked == [Asked.NEW, *[Asked.AGAIN] * 4, Asked.NEW, Asked.AGAIN]

    def test_open_requests_to_one_user_are_limited(self, tables: Tables) -> None:
        alice, bob, carol, dave = make(tables, "alice", "bob", "carol", "dave")
        rules = AskingRules(waiting=2)
        for one in (bob, carol):
            done(tables, lambda inside, one=one: inside.friends.request(one, alice.id, rules, 1))
        refused(ErrorCode.LIMIT_REACHED, tables, lambda inside: inside.friends.request(dave, alice.id, rules, 1))
        assert done(tables, lambda inside: inside.friends.request(bob, alice.id, rules, 1)) is Asked.AGAIN
        assert done(tables, lambda inside: inside.friends.request(alice, carol.id, rules, 1)) is Asked.FRIENDS
        assert done(tables, lambda inside: inside.friends.request(dave, alice.id, rules, 1)) is Asked.NEW

    def test_who_asked_is_accepted_by_asking_whatever_they_chose(self, tables: Tables) -> None:
        alice, bob = make(tables, "alice", "bob")
        choose(tables, alice, Purpose.ASK, NOBODY)
        refused(ErrorCode.NOT_ACCEPTED, tables, lambda inside: inside.friends.request(bob, alice.id, ASKING, 1))
        done(tables, lambda inside: inside.friends.request(alice, bob.id, ASKING, 1))
        assert done(tables, lambda inside: inside.friends.request(bob, alice.id, ASKING, 2)) is Asked.FRIENDS
