"""The parts from which a core is made.

Owns: CoreParts, filled by worker.
Elsewhere: putting them together (core.core), the implementations (worker).
Fails: never.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence

import msgspec

from chatd.address_bans import AddressBans
from chatd.bus.contract import Bus
from chatd.config.schema import Config
from chatd.core.backend_logins import BackendLogins
from chatd.core.elsewhere import Elsewhere
from chatd.core.plugins.plugin import Plugin
from chatd.core.tokens.contract import Tokens
from chatd.files.content import FileContent
from chatd.penalty_table import PenaltyTable
from chatd.scoreboard import Row
from chatd.store.contract import Tables


class CoreParts(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """The parts from which a core is made. readers: further connections to the store, see store.group_commit. row: this
    worker's row of the scoreboard. slot: its number. leads: see core.services."""

    tables: Tables
    readers: Sequence[Tables] = ()
    bus: Bus
    plugins: Sequence[Plugin] = ()
    config: Callable[[], Config]
    row: Row
    penalty_table: PenaltyTable
    address_bans: AddressBans = msgspec.field(default_factory=AddressBans)
    """Filled by the core, and asked by net."""
    many_hosts: bool = False
    """The bus reaches other hosts, which have penalty tables of their own."""
    tokens: Tokens | None = None
    """None = the configuration has no keys."""
    backend: BackendLogins | None = None
    """None = no backend is asked."""
    elsewhere: Elsewhere | None = None
    """None = no bridge is configured."""
    files: FileContent | None = None
    """The content of files; None = this server takes none."""
    loop: asyncio.AbstractEventLoop
    slot: int = 0
    leads: Callable[[], bool] = lambda: True
