"""Events for applications are deleted once every webhook has read them, or when they are too old or too many."""

from __future__ import annotations

import asyncio
import contextlib
import sqlite3
from pathlib import Path

import pytest

from chatd import wall_clock
from chatd.core.event_upkeep import EVERY_ROUNDS
from chatd.core.retention import DAY_MS
from chatd.store.contract import Tables
from chatd.store.event_contract import ALL_KINDS, Position, Progress, ReadLimits
from tests.core.test_retention import Host, on_host
from tests.store.steps import done, make

NAMES = [f"user{number}" for number in range(1200)]
"""More than are deleted in one transaction."""


async def minute(host: Host) -> None:
    """Events are looked at once."""
    for _ in range(EVERY_ROUNDS):
        host.retention.round()
    await asyncio.wait_for(host.background.settle(), 20)


def register(tables: Tables, *names: str) -> None:
    for name in names:
        done(tables, lambda inside, name=name: inside.webhooks.register(name, ALL_KINDS))  # type: ignore[misc]


def read_to(tables: Tables, name: str, event: int) -> None:
    """This webhook has been told of everything up to here."""
    place = Position(0, event)
    state = done(tables, lambda inside: inside.webhooks.take(name, "one", 60_000))
    assert state is not None
    assert done(tables, lambda inside: inside.webhooks.move(name, state.fence, Progress(place, place, 0), 60_000))


def kept(tables: Tables) -> list[str]:
    found = tables.events.read(Position(), tables.events.marks(), ALL_KINDS, ReadLimits(events=10_000)).events
    return [user.name for one in found for user in one.users.values()]


def dropped(tables: Tables) -> dict[str, int]:
    return {state.name: state.dropped for state in tables.webhooks.all()}


def test_events_are_deleted_behind_the_slowest_webhook_only(tmp_path: Path) -> None:
    async def story(host: Host) -> None:
        register(host.tables, "quick", "slow")
        make(host.tables, *NAMES)
        await minute(host)
        assert kept(host.tables) == NAMES, "nobody has read them"
        read_to(host.tables, "quick", 1150)
        read_to(host.tables, "slow", 1100)
        host.leads = False
        await minute(host)
        assert kept(host.tables) == NAMES, "another worker of the host does it"
        host.leads = True
        await minute(host)
        assert kept(host.tables) == NAMES[1100:]
        assert dropped(host.tables) == {"quick": 0, "slow": 0}

    on_host(tmp_path, story)


def test_events_that_are_too_many_are_deleted_unread_and_counted(tmp_path: Path) -> None:
    async def story(host: Host) -> None:
        register(host.tables, "quick", "slow")
        make(host.tables, *NAMES)
        read_to(host.tables, "quick", 1190)
        await minute(host)
        assert kept(host.tables) == NAMES[-100:]
        assert dropped(host.tables) == {"quick": 0, "slow": 1100}

    on_host(tmp_path, story, events_rows=100)


def test_events_that_are_too_old_are_deleted_unread_and_counted(tmp_path: Path) -> None:
    async def story(host: Host) -> None:
        register(host.tables, "slow")
        make(host.tables, "ann", "bob", "cyd")
        with contextlib.closing(sqlite3.connect(tmp_path / "chatd.db")) as db:
            db.execute("UPDATE event SET at_ms = at_ms - ? WHERE id <= 2", (2 * DAY_MS,))
            db.commit()
        await minute(host)
        assert kept(host.tables) == ["cyd"]
        assert dropped(host.tables) == {"slow": 2}

    on_host(tmp_path, story, events_days=1)


def test_a_webhook_that_no_host_has_is_forgotten_and_its_events_with_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def story(host: Host) -> None:
        register(host.tables, "gone")
        make(host.tables, *NAMES)
        await minute(host)
        assert (len(kept(host.tables)), dropped(host.tables)) == (1200, {"gone": 0})
        now_ms = wall_clock.now_ms()
        monkeypatch.setattr(wall_clock, "now_ms", lambda: now_ms + 2 * DAY_MS)
        await minute(host)
        assert (kept(host.tables), dropped(host.tables)) == ([], {})
        make(host.tables, "late")
        assert kept(host.tables) == [], "nobody is told any more, so nothing is recorded"

    on_host(tmp_path, story, events_days=1)
