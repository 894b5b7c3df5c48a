"""Bugs planted into webhooks. usage: planted.py switches, then the arguments of chatd: a test switches them on and off
(harness.switches).
"""

from __future__ import annotations

import sys
from typing import Any

from chatd.store.event_contract import ReadLimits
from chatd.store.sql.events import SqlEvents
from chatd.store.sql.webhooks import SqlWebhooks
from chatd.webhooks.delivery import Delivery
from chatd.webhooks.sender import Outcome, Sender
from tests.faults.planted import main
from tests.harness.switches import Bugs, Planted, plant


def moves_before_the_answer() -> Planted:
    """The cursor moves whatever the receiver says."""

    async def send(guard: Any, sender: Any, message_id: str, body: bytes) -> Outcome:
        await guard(sender, message_id, body)
        return Outcome()

    return Sender, "send", send


def has_no_fence() -> Planted:
    """Whoever had the lease once may go on writing."""
    return SqlWebhooks, "_holds", lambda guard, webhooks, name, fence: webhooks.find(name)


def breaks_the_order() -> Planted:
    def read(guard: Any, events: Any, *asked: Any) -> Any:
        found = guard(events, *asked)
        return found._replace(events=found.events[::-1])

    return SqlEvents, "read", read


def cuts_other_batches() -> Planted:
    """What was claimed is forgotten: the next holder cuts the events anew."""

    async def claimed(guard: Any, delivery: Any, position: Any, upto: Any) -> Any:
        whole = ReadLimits(events=3)
        return await delivery._feed.read(position, upto, delivery._kinds, whole)

    return Delivery, "_claimed", claimed


BUGS: Bugs = {
    "moves_before_the_answer": moves_before_the_answer,
    "breaks_the_order": breaks_the_order,
    "cuts_other_batches": cuts_other_batches,
    "has_no_fence": has_no_fence,
}


if __name__ == "__main__":
    sys.exit(main({"switches": lambda: plant(BUGS)}))
