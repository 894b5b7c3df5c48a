"""What every store must do for the networks from which users log in: a part of the contract.

Inherited by contract.StoreContract, so that one subclass per twin runs all of it.
"""

from __future__ import annotations

from collections.abc import Callable

from chatd.model import User
from chatd.store.contract import KNOWN_SOURCES, KnownSource, Tables
from tests.store.steps import done, make

TODAY = 20_000
LONGEST = "f" * 48
"""As core.login_guard makes it: a salt of 8 bytes and a hash of 16."""


def remember(tables: Tables, user: User, hidden: str, day: int, credentials: int = 0) -> None:
    done(tables, lambda inside: inside.known_sources.remember(user.id, KnownSource(hidden, day), credentials))


def days(tables: Tables, user: User) -> dict[str, int]:
    return dict(tables.known_sources.of(user.id))


class SourcesContract:
    def test_a_source_is_one_row_with_the_day_it_was_seen_last(self, opened: Callable[[], Tables]) -> None:
        tables, elsewhere = opened(), opened()
        (alice,) = make(tables, "alice")
        assert tables.known_sources.of(alice.id) == ()
        remember(tables, alice, LONGEST, TODAY)
        remember(tables, alice, LONGEST, TODAY + 1)
        assert tables.known_sources.of(alice.id) == (KnownSource(LONGEST, TODAY + 1),)
        assert elsewhere.known_sources.of(alice.id) == (KnownSource(LONGEST, TODAY + 1),)

    def test_users_have_sources_of_their_own(self, tables: Tables) -> None:
        alice, bob = make(tables, "alice", "bob")
        remember(tables, alice, "aa", TODAY)
        remember(tables, bob, "aa", TODAY - 3)
        remember(tables, bob, "bb", TODAY)
        assert days(tables, alice) == {"aa": TODAY}
        assert days(tables, bob) == {"aa": TODAY - 3, "bb": TODAY}
        assert tables.known_sources.of(bob.id + 1) == ()

    def test_those_not_seen_for_the_longest_time_are_forgotten(self, tables: Tables) -> None:
        """Also one that was remembered first but is still used stays."""
        alice, bob = make(tables, "alice", "bob")
        remember(tables, bob, "00", 1)
        for number in range(KNOWN_SOURCES):
            remember(tables, alice, f"{number:02x}", TODAY + number)
        assert len(days(tables, alice)) == KNOWN_SOURCES
        remember(tables, alice, "00", TODAY + 100)
        remember(tables, alice, "aa", TODAY + 101)
        remember(tables, alice, "bb", TODAY + 102)
        kept = {f"{number:02x}": TODAY + number for number in range(3, KNOWN_SOURCES)}
        assert days(tables, alice) == {"00": TODAY + 100, **kept, "aa": TODAY + 101, "bb": TODAY + 102}
        assert days(tables, bob) == {"00": 1}

    def test_a_new_source_stays_though_all_others_were_seen_later(self, tables: Tables) -> None:
        """The clocks of hosts differ: the user who has just logged in from there must not be forgotten."""
        (alice,) = make(tables, "alice")
        for number in range(KNOWN_SOURCES):
            remember(tables, alice, f"{number:02x}", TODAY)
        remember(tables, alice, "aa", TODAY - 1)
        found = days(tables, alice)
        assert len(found) == KNOWN_SOURCES
        assert found["aa"] == TODAY - 1

    def test_a_transaction_that_is_rolled_back_remembers_nothing(self, tables: Tables) -> None:
        (alice,) = make(tables, "alice")
        tables.begin()
        tables.known_sources.remember(alice.id, KnownSource("aa", TODAY), 0)
        tables.rollback()
        assert tables.known_sources.of(alice.id) == ()

    def test_a_deleted_account_leaves_no_sources(self, tables: Tables) -> None:
        alice, bob = make(tables, "alice", "bob")
        for user in (alice, bob):
            remember(tables, user, "aa", TODAY)
        done(tables, lambda inside: inside.accounts.delete(alice.id))
        assert tables.known_sources.of(alice.id) == ()
        assert days(tables, bob) == {"aa": TODAY}

    def test_a_changed_password_leaves_the_source_it_was_changed_from(self, opened: Callable[[], Tables]) -> None:
        """An operator changes it from nowhere."""
        tables, elsewhere = opened(), opened()
        alice, bob = make(tables, "alice", "bob")
        for user in (alice, bob):
            for hidden in ("aa", "bb", LONGEST):
                remember(tables, user, hidden, TODAY)
        done(tables, lambda inside: inside.accounts.set_password(alice.id, "new", None, "bb"))
        assert days(tables, alice) == days(elsewhere, alice) == {"bb": TODAY}
        done(tables, lambda inside: inside.accounts.set_password(alice.id, "newer", None, "not known"))
        assert days(tables, alice) == {}
        done(tables, lambda inside: inside.accounts.set_password(bob.id, "by an operator"))
        assert days(elsewhere, bob) == {}

    def test_a_locked_account_has_no_sources(self, tables: Tables) -> None:
        alice, bob = make(tables, "alice", "bob")
        for user in (alice, bob):
            remember(tables, user, "aa", TODAY)
        done(tables, lambda inside: inside.accounts.lock(alice.id, "stolen", 1))
        assert (days(tables, alice), days(tables, bob)) == ({}, {"aa": TODAY})

    def test_a_password_that_is_only_hashed_anew_is_the_same_one(self, tables: Tables) -> None:
        (alice,) = make(tables, "alice")
        remember(tables, alice, "aa", TODAY)
        done(tables, lambda inside: inside.accounts.upgrade_password(alice.id, "", "another hash"))
        assert days(tables, alice) == {"aa": TODAY}

    def test_a_login_with_the_old_password_is_not_remembered_after_the_change(
        self, opened: Callable[[], Tables]
    ) -> None:
        tables, elsewhere = opened(), opened()
        (alice,) = make(tables, "alice")
        version = done(elsewhere, lambda inside: inside.accounts.set_password(alice.id, "new"))
        remember(tables, alice, "aa", TODAY)
        assert days(tables, alice) == {}
        remember(tables, alice, "aa", TODAY, version)
        assert days(tables, alice) == {"aa": TODAY}
        remember(tables, User(alice.id + 1, "nobody"), "aa", TODAY)
        assert tables.known_sources.of(alice.id + 1) == ()
