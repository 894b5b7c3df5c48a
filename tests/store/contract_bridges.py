"""What every store must do for users of other servers: a part of the contract.

Inherited by contract.StoreContract, so that one subclass per twin runs all of it.
"""

from __future__ import annotations

from collections.abc import Callable

import pytest

from chatd.errors import ErrorCode
from chatd.model import SYSTEM, Audience, User
from chatd.store.contract import Advance, Draft, NewBridged, Purpose, SendingRules, Stored, Tables
from tests.store.steps import ANY, done, make, refused, send, sent, to


def meet(tables: Tables, remote: str, name: str = "", *, heard: bool = True, bridge: str = "java") -> User:
    new = NewBridged(bridge, remote, name or f"{bridge}:{remote}", heard)
    return done(tables, lambda inside: inside.bridges.meet(new, 100))


def waiting(tables: Tables, after: int = 0, limit: int = ANY, bridge: str = "java") -> list[tuple[str, str]]:
    """(recipient there, text) of each message."""
    part = tables.outgoing.waiting(bridge, after, tables.events.marks().message, limit)
    return [(one.remote, one.message.body) for one in part.messages]


class BridgesContract:
    def test_a_user_of_another_server_has_one_account_that_is_locked(self, opened: Callable[[], Tables]) -> None:
        tables, elsewhere = opened(), opened()
        (bob,) = make(tables, "bob")
        anna = meet(tables, "Anna")
        assert meet(elsewhere, "Anna") == anna == User(anna.id, "java:Anna")
        account = tables.accounts.named("JAVA:anna")
        assert account is not None
        assert (account.user, account.password, account.locked_at_ms) == (anna, "", 100)
        assert tables.accounts.details(anna.id).lock_reason == "a user of the other side of bridge java"
        assert [elsewhere.bridges.bridge_of(one) for one in (anna.id, bob.id, 999)] == ["java", "", ""]
        assert elsewhere.bridges.find("java", "Anna") == anna
        assert elsewhere.bridges.find("other", "Anna") is None
        assert elsewhere.bridges.find("java", "anna") is None
        assert (tables.bridges.users("java"), tables.bridges.users("other")) == (1, 0)
        refused(ErrorCode.NOT_ALLOWED, tables, lambda inside: inside.accounts.unlock(anna.id))
        done(tables, lambda inside: inside.accounts.unlock(bob.id))

    def test_the_name_of_another_account_is_never_given(self, tables: Tables) -> None:
        make(tables, "java:bob")
        for heard in (True, False):
            with pytest.raises(Exception, match="that of another account"):
                meet(tables, "bob", heard=heard)
        other = meet(tables, "x", "java:anna", bridge="other")
        with pytest.raises(Exception, match="that of another account"):
            meet(tables, "anna")
        assert tables.bridges.bridge_of(other.id) == "other"
        meet(tables, "eve")
        with pytest.raises(Exception, match="that of another account"):
            meet(tables, "EVE")

    def test_who_was_only_believed_to_exist_is_whoever_is_heard_of(self, opened: Callable[[], Tables]) -> None:
        tables, elsewhere = opened(), opened()
        believed = meet(tables, "anna", heard=False)
        assert tables.bridges.find("java", "anna") is None
        assert meet(elsewhere, "ANNA", heard=False) == believed
        assert meet(elsewhere, "Anna") == believed
        assert tables.bridges.find("java", "Anna") == believed
        assert tables.bridges.find("java", "anna") is None
        believed = meet(tables, "otto", heard=False)
        assert meet(tables, "otto") == believed == tables.bridges.find("java", "otto")

    def test_messages_to_them_are_found_in_order(self, opened: Callable[[], Tables]) -> None:
        tables, elsewhere = opened(), opened()
        bob, eve = make(tables, "bob", "eve")
        anna, otto, other = meet(tables, "Anna"), meet(tables, "7"), meet(tables, "x", bridge="other")
        send(tables, (bob, to(anna, "1")), (anna, to(bob, "not")), (eve, to(otto, "2")), (bob, to(eve, "not")))
        send(elsewhere, (eve, to(anna, "3")), (bob, to(other, "not")), (SYSTEM, to(otto, "4")), (bob, to(anna, "5")))
        assert waiting(tables) == [("Anna", "1"), ("7", "2"), ("Anna", "3"), ("7", "4"), ("Anna", "5")]
        assert waiting(tables, bridge="other") == [("x", "not")]
        end = tables.events.marks().message
        part = tables.outgoing.waiting("java", 0, end, 2)
        assert [one.message.body for one in part.messages] == ["1", "2"]
        rest = tables.outgoing.waiting("java", part.upto, end, ANY)
        assert [one.message.body for one in rest.messages] == ["3", "4", "5"]
        assert rest.upto == end
        assert (rest.messages[0].message.sender_name, rest.messages[1].message.sender_name) == ("eve", "0")
        assert tables.outgoing.waiting("java", end, end, ANY) == ([], end)
        assert [tables.outgoing.count("java", at, end) for at in (0, part.upto, end)] == [5, 3, 0]

    def test_what_has_left_no_longer_waits(self, tables: Tables) -> None:
        (bob,) = make(tables, "bob")
        anna = meet(tables, "anna")
        rules = SendingRules(waiting_from_one=1)

        def say(text: str) -> object:
            (result,) = done(tables, lambda inside: inside.append([Draft(bob, to(anna, text))], 1, rules))
            return result

        first = say("1")
        assert isinstance(first, Stored)
        assert say("2") is ErrorCode.MAILBOX_FULL
        advance = Advance(anna.id, first.message.conversation, first.message.seq)
        done(tables, lambda inside: inside.advance([advance]))
        assert isinstance(say("2"), Stored)

    def test_everybody_may_write_to_them_and_nobody_else_reaches_them(self, tables: Tables) -> None:
        (bob,) = make(tables, "bob")
        anna = meet(tables, "anna")
        for purpose, allowed in ((Purpose.WRITE, None), (Purpose.ASK, 1049), (Purpose.ADD, 1049)):
            assert tables.consent.refusals(purpose, [(bob.id, anna.id)], Audience.NOBODY) == [allowed]
        rules = SendingRules(may_write=Audience.NOBODY)
        (result,) = done(tables, lambda inside: inside.append([Draft(anna, to(bob, "hello"))], 1, rules))
        assert result is ErrorCode.NOT_ACCEPTED

    def test_nobody_can_write_to_users_of_a_bridge_that_is_no_more(self, opened: Callable[[], Tables]) -> None:
        tables, elsewhere = opened(), opened()
        (bob,) = make(tables, "bob")
        anna = meet(tables, "anna")
        sent(elsewhere, bob, to(anna, "1"))
        assert done(tables, lambda inside: inside.bridges.close("java")) == 1
        assert send(elsewhere, (bob, to(anna, "2"))) == [ErrorCode.NOT_ACCEPTED]
        done(tables, lambda inside: inside.bridges.reopen("java"))
        sent(elsewhere, bob, to(anna, "3"))

    def test_an_account_that_is_deleted_is_forgotten_and_made_anew(self, tables: Tables) -> None:
        anna = meet(tables, "anna")
        done(tables, lambda inside: inside.accounts.delete(anna.id))
        assert tables.bridges.find("java", "anna") is None
        assert tables.bridges.users("java") == 0
        assert meet(tables, "anna").id != anna.id
