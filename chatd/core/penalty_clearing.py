"""Clearing penalties on every host, as an operator asks.

Owns: which records a word of the operator means, and clearing them here and elsewhere.
Elsewhere: the table (core.penalties), other hosts (core.penalty_exchange), the operator's order
(master.questions.penalties).
Fails: Unavailable from the store, which is asked for a name; then nothing was cleared.
"""

from __future__ import annotations

import ipaddress

from chatd.core.penalties import Penalties, subject_of
from chatd.core.penalty_exchange import PenaltyExchange
from chatd.core.services import Services
from chatd.sources import source_of


def source_named(word: str) -> str:
    """The source, or IPv6 /48, that an operator means by an address or a network; "" = the word is neither."""
    try:
        if "/" in word:
            return str(ipaddress.ip_network(word, strict=False))
        return source_of(f"[{ipaddress.ip_address(word)}]:0")
    except ValueError:
        return ""


class PenaltyClearing:
    """exchange: None where there are no other hosts."""

    def __init__(self, services: Services, penalties: Penalties, exchange: PenaltyExchange | None) -> None:
        self._store = services.store
        self._penalties = penalties
        self._exchange = exchange

    async def clear(self, word: str) -> int:
        """Remove the records about an address, a network, or a user (name or id), or with "" every record, here and on
        every other host that the bus reaches. Returns how many there were on this host. Raises Unavailable."""
        subjects = await self._subjects(word) if word else []
        removed = self._penalties.clear(subjects)
        if self._exchange is not None:
            self._exchange.cleared(subjects)
        return removed

    async def _subjects(self, word: str) -> list[str]:
        """How the table calls it. Raises Unavailable."""
        if source := source_named(word):
            return [source]
        account, canonical = await self._store.read(
            lambda tables: (tables.accounts.find_any(word), tables.accounts.canonical(word))
        )
        return [subject_of(0, canonical), *([subject_of(account.user.id, "")] if account else [])]
