"""The contract of a store: address bans. A part of store.contract, which has the rest.

Owns: AddressBanTables.
Elsewhere: the bans (address_bans), the SQL (store.sql.address_bans).
Fails: as store.contract says.
"""

from __future__ import annotations

from typing import Protocol

from chatd.address_bans import AddressBan


class AddressBanTables(Protocol):
    """The networks that an operator keeps out. They are rows of `meta`, so that a store needs no migration for them."""

    def version(self) -> str:
        """Another one after every change; "" = there was never a ban. Cost: one row."""
        ...

    def all(self) -> list[AddressBan]:
        """By network, those that are over too."""
        ...

    def add(self, ban: AddressBan, now_ms: int) -> None:
        """In a transaction. A ban of the same network is replaced; those that are over are deleted.

        Raises: Refused LIMIT_REACHED: there are MAX_BANS."""

    def remove(self, network: str, now_ms: int) -> bool:
        """In a transaction. Whether there was one, and it was in force."""
        ...
