"""What every store must do for the addresses that an operator keeps out: a part of the contract.

Inherited by contract.StoreContract, so that one subclass per twin runs all of it.
"""

from __future__ import annotations

from collections.abc import Callable

import pytest

from chatd.address_bans import AddressBan
from chatd.errors import ErrorCode
from chatd.store.contract import Tables
from chatd.store.sql import address_bans
from tests.store.steps import done, refused

NET = AddressBan(network="192.0.2.0/24", reason="guesses ☔", by="root", at_ms=5, until_ms=1000)
SITE = AddressBan(network="2001:db8::/32", at_ms=6)


def add(tables: Tables, ban: AddressBan, now_ms: int = 10) -> None:
    done(tables, lambda inside: inside.address_bans.add(ban, now_ms))


class AddressBansContract:
    def test_bans_are_kept_and_every_change_has_another_version(self, opened: Callable[[], Tables]) -> None:
        tables, elsewhere = opened(), opened()
        versions = [elsewhere.address_bans.version()]
        assert (versions, elsewhere.address_bans.all()) == ([""], [])
        add(tables, SITE)
        versions.append(elsewhere.address_bans.version())
        add(tables, NET)
        versions.append(elsewhere.address_bans.version())
        assert elsewhere.address_bans.all() == [NET, SITE]
        again = AddressBan(network=NET.network, reason="other", at_ms=7)
        add(tables, again)
        versions.append(elsewhere.address_bans.version())
        assert elsewhere.address_bans.all() == [again, SITE]
        assert done(tables, lambda inside: inside.address_bans.remove(SITE.network, 10))
        versions.append(elsewhere.address_bans.version())
        assert not done(tables, lambda inside: inside.address_bans.remove(SITE.network, 10))
        assert elsewhere.address_bans.all() == [again]
        assert len(set(versions)) == len(versions)

    def test_what_is_over_is_tidied_away_and_is_not_there_to_be_removed(self, tables: Tables) -> None:
        add(tables, NET)
        assert tables.address_bans.all() == [NET]
        assert not done(tables, lambda inside: inside.address_bans.remove(NET.network, 1000))
        assert tables.address_bans.all() == []
        add(tables, NET)
        add(tables, SITE, now_ms=1000)
        assert tables.address_bans.all() == [SITE]

    def test_bans_are_limited(self, tables: Tables, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(address_bans, "MAX_BANS", 2)
        add(tables, NET)
        add(tables, SITE)
        third = AddressBan(network="198.51.100.1/32")
        refused(ErrorCode.LIMIT_REACHED, tables, lambda inside: inside.address_bans.add(third, 10))
        add(tables, NET)
        add(tables, third, now_ms=1000)  # the first one is over
        assert tables.address_bans.all() == [third, SITE]
