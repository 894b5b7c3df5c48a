"""What every store must do for credentials and invite codes: a part of the contract.

Inherited by contract.StoreContract, so that one subclass per twin runs all of it.
"""

from __future__ import annotations

import threading
from collections.abc import Callable

from chatd.errors import ErrorCode, Refused
from chatd.store.contract import Again, CredentialsChange, NewInvite, Tables
from tests.store.steps import done, join, make, refused, team

LATER = 10**15


def version_of(tables: Tables, user_id: int) -> int:
    account = tables.accounts.find("", user_id)
    assert account is not None
    return account.credentials


class CredentialsContract:
    def test_versions_rise_with_every_change_over_all_accounts(self, tables: Tables) -> None:
        alice, bob = make(tables, "alice", "bob")
        assert (version_of(tables, alice.id), tables.accounts.newest_credentials()) == (0, 0)
        assert tables.accounts.changed_credentials(0, 10) == []
        first = done(tables, lambda inside: inside.accounts.set_password(alice.id, "one"))
        second = done(tables, lambda inside: inside.accounts.lock(bob.id, "why", 7))
        third = done(tables, lambda inside: inside.accounts.delete(alice.id))
        assert 0 < first < second < third == tables.accounts.newest_credentials()
        assert tables.accounts.changed_credentials(0, 10) == [
            CredentialsChange(bob.id, second),
            CredentialsChange(alice.id, third),
        ]
        assert tables.accounts.changed_credentials(second, 10) == [CredentialsChange(alice.id, third)]
        assert tables.accounts.changed_credentials(0, 1) == [CredentialsChange(bob.id, second)]

    def test_a_password_is_set_only_over_the_version_that_was_seen(self, tables: Tables) -> None:
        (alice,) = make(tables, "alice")
        seen = done(tables, lambda inside: inside.accounts.set_password(alice.id, "one", 0))
        refused(ErrorCode.BAD_CREDENTIALS, tables, lambda inside: inside.accounts.set_password(alice.id, "two", 0))
        assert version_of(tables, alice.id) == seen
        done(tables, lambda inside: inside.accounts.delete(alice.id))
        refused(ErrorCode.BAD_CREDENTIALS, tables, lambda inside: inside.accounts.set_password(alice.id, "three"))

    def test_a_hash_is_upgraded_only_if_it_is_still_there(self, tables: Tables) -> None:
        (alice,) = make(tables, "alice")
        version = done(tables, lambda inside: inside.accounts.set_password(alice.id, "old"))
        done(tables, lambda inside: inside.accounts.upgrade_password(alice.id, "older", "wrong"))
        done(tables, lambda inside: inside.accounts.upgrade_password(alice.id, "old", "new"))
        account = tables.accounts.find("alice", 0)
        assert account is not None
        assert (account.password, account.credentials) == ("new", version)

    def test_a_locked_account_stays_locked_since_when_it_was(self, tables: Tables) -> None:
        alice, bob = make(tables, "alice", "bob")
        join(tables, alice, team(tables, bob))
        done(tables, lambda inside: inside.accounts.lock(alice.id, "spam", 5))
        done(tables, lambda inside: inside.accounts.lock(alice.id, "more spam", 9))
        details = tables.accounts.details(alice.id)
        assert (details.locked_at_ms, details.lock_reason, details.friends, details.groups) == (5, "more spam", 0, 1)
        account = tables.accounts.find("alice", 0)
        assert account is not None
        assert account.locked_at_ms == 5
        done(tables, lambda inside: inside.accounts.unlock(alice.id))
        details = tables.accounts.details(alice.id)
        assert (details.locked_at_ms, details.lock_reason) == (0, "")

    def test_a_sample_has_the_passwords_of_accounts_that_have_one(self, tables: Tables) -> None:
        users = make(tables, *(f"user{number}" for number in range(12)))
        assert tables.accounts.sample_passwords(100) == []
        for user in users:
            done(tables, lambda inside, user=user: inside.accounts.set_password(user.id, f"hash {user.id}"))
        assert sorted(tables.accounts.sample_passwords(100)) == sorted(f"hash {user.id}" for user in users)
        few = tables.accounts.sample_passwords(4)
        assert len(few) == 4
        assert few == tables.accounts.sample_passwords(4)

    def test_the_key_of_stand_ins_is_made_once(self, tables: Tables) -> None:
        assert tables.accounts.stand_in_key() == ""
        done(tables, lambda inside: inside.accounts.set_stand_in_key("aa"))
        done(tables, lambda inside: inside.accounts.set_stand_in_key("bb"))
        assert tables.accounts.stand_in_key() == "aa"

    # ------------------------------------------------------------ invite codes

    def test_an_invite_is_valid_until_it_is_used_up_expired_or_revoked(self, tables: Tables) -> None:
        twice = done(tables, lambda inside: inside.invites.add(NewInvite("twice", 2, 100, "for ü"), 1))
        other = done(tables, lambda inside: inside.invites.add(NewInvite("other", 1, LATER, ""), 1))
        for _ in range(2):
            assert done(tables, lambda inside: inside.invites.check("twice", 99)) == twice
            done(tables, lambda inside: inside.invites.use(twice))
        for code, now_ms in (("twice", 99), ("other", LATER), ("nothing", 1)):
            assert not tables.invites.find(code, now_ms)
            refused(
                ErrorCode.INVITE_NEEDED,
                tables,
                lambda inside, code=code, now_ms=now_ms: inside.invites.check(code, now_ms),
            )
        assert tables.invites.find("other", 1)
        assert done(tables, lambda inside: inside.invites.revoke(other, 50))
        assert not done(tables, lambda inside: inside.invites.revoke(other, 51))
        assert not done(tables, lambda inside: inside.invites.revoke(other + 1, 51))
        assert not tables.invites.find("other", 1)
        rows = [(one.id, one.uses, one.used, one.revoked_at_ms, one.note) for one in tables.invites.all()]
        assert rows == [(twice, 2, 2, 0, "for ü"), (other, 1, 0, 50, "")]

    def test_of_two_who_race_for_the_last_use_one_gets_it(self, opened: Callable[[], Tables]) -> None:
        places = [opened(), opened()]
        invite = done(places[0], lambda inside: inside.invites.add(NewInvite("once", 1, LATER, ""), 1))
        start, outcomes = threading.Barrier(2), list[str]()

        def register(tables: Tables, name: str) -> None:
            start.wait(10)
            while True:
                tables.begin()
                try:
                    found = tables.invites.check("once", 2)
                    tables.accounts.create(name, "hash", 2)
                    tables.invites.use(found)
                    tables.commit()
                    outcomes.append("made")
                    return
                except Again:
                    tables.rollback()
                except Refused as error:
                    tables.rollback()
                    outcomes.append(ErrorCode(error.code).name)
                    return

        threads = [
            threading.Thread(target=register, args=(tables, name))
            for tables, name in zip(places, ("alice", "bob"), strict=True)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(20)
        assert sorted(outcomes) == ["INVITE_NEEDED", "made"]
        assert len(places[0].accounts.all()) == 1
        assert [(one.id, one.used) for one in places[0].invites.all()] == [(invite, 1)]
