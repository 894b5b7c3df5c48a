"""What every store must do to hand a person everything about them: a part of the contract.

Inherited by contract.StoreContract, so that one subclass per twin runs all of it.
"""

from __future__ import annotations

import msgspec
import pytest

from chatd.store.contract import Tables
from tests.store.steps import ANY, done, make, sent, team, to, to_group


class PersonContract:
    def test_everything_about_a_person(self, tables: Tables) -> None:
        alice, bob, carol = make(tables, "alice", "bob", "carol")
        group = team(tables, alice, bob)
        done(tables, lambda inside: inside.accounts.set_profile(alice.id, {"mail": "a@example.org"}))
        done(tables, lambda inside: inside.request_log.remember(alice.id, "r1", "an answer", 7))
        done(tables, lambda inside: inside.consent.block(alice.id, carol.id, ANY, 8))
        found = tables.person.everything(alice.id)
        assert (found.name, found.profile, found.has_password) == ("alice", {"mail": "a@example.org"}, False)
        assert [(one.id, one.role) for one in found.groups] == [(group, "owner")]
        assert [(one.fp, one.answer) for one in found.answered_requests] == [("r1", "an answer")]
        assert [one.name for one in found.blocked] == ["carol"]
        assert "alice" not in msgspec.json.encode(tables.person.everything(carol.id)).decode()
        with pytest.raises(LookupError):
            tables.person.everything(99)

    def test_what_was_written_to_groups_that_were_left(self, tables: Tables) -> None:
        alice, bob = make(tables, "alice", "bob")
        left, kept = team(tables, alice, bob), team(tables, alice, bob)
        for number in range(3):
            for group in (left, kept):
                sent(tables, bob, to_group(group, f"{group} {number}"))
                sent(tables, alice, to_group(group, "of another"))
            sent(tables, bob, to(alice))
        assert tables.person.sent_to_groups(bob.id, 0).messages == []
        done(tables, lambda inside: inside.groups.leave(bob.id, left))
        found = tables.person.sent_to_groups(bob.id, 0)
        assert [message.body for message in found.messages] == [f"{left} {number}" for number in range(3)]
        assert not found.more
        assert tables.person.sent_to_groups(bob.id, found.position).messages == []
