"""The parts of a worker that most of core shares, as one value.

Owns: Services, made once per worker. A part that needs more takes it as a separate parameter.
Elsewhere: what each part does.
Fails: never.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import msgspec

from chatd import log
from chatd.background import BackgroundTasks
from chatd.bus.contract import Bus
from chatd.bus.survey import Surveys
from chatd.config.schema import Config
from chatd.core.allowances import Allowances
from chatd.core.sessions.hub import Hub
from chatd.core.tracing import Tracing
from chatd.scoreboard import Row
from chatd.store.group_commit import GroupCommit


class Services(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """Shared by the parts of one worker's core; everything is called from the worker's loop."""

    store: GroupCommit
    bus: Bus
    hub: Hub
    """The sessions of this worker."""

    loop: asyncio.AbstractEventLoop
    """The clock: time() in seconds, monotonic, and call_later()."""

    config: Callable[[], Config]
    """The configuration in force. It may change between two turns of the loop (a reload): ask again, keep nothing."""

    log: log.Logger

    surveys: Surveys
    """Questions to other workers; core.core hands over the answers."""

    allowances: Allowances
    """What each user may still do."""

    row: Row
    """This worker's row of the scoreboard."""

    background: BackgroundTasks
    """Core's background tasks."""

    tracing: Tracing
    """Whose messages are traced."""

    slot: int = 0
    """This worker's, for people."""

    leads: Callable[[], bool] = lambda: True
    """Whether this worker does what one worker of the host does for all (scoreboard.leader)."""
