"""Retention: sessions that are behind what is deleted go on, and a clock that cannot be right deletes nothing."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from types import SimpleNamespace

import pytest

from chatd import log
from chatd.background import BackgroundTasks
from chatd.config.people_options import RetentionOptions
from chatd.config.schema import Config
from chatd.core.retention import BELIEVE_S, CHECK_S, CLOCK_AHEAD_MS, DAY_MS, Retention
from chatd.model import ConversationId, Protocol
from chatd.scoreboard import ROW_BYTES, Row
from chatd.store.contract import Kind, Tables
from chatd.store.group_commit import Connections, GroupCommit
from chatd.store.open import StoreLocation, open_tables
from chatd.store.retention_contract import SETTLE_MS
from chatd.store.sqlite import unindexed
from tests.core.stage import Clock, Peer, Stage, play
from tests.store.steps import done, make, send, sent, to

LATER_MS = time.time_ns() // 1_000_000 + 400 * DAY_MS
"""To this moment, everything that the tests send now is old."""


@pytest.fixture(params=[unindexed.SPAN, 4], ids=["blanked", "deleted"])
def span(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> int:
    """Rows of a span: with few, rows are deleted; with many, they have no index entry and only lose their text."""
    monkeypatch.setattr(unindexed, "SPAN", request.param)
    monkeypatch.setattr(unindexed, "SLICE", 2)
    return int(request.param)


def expire(tables: Tables, kind: Kind) -> None:
    """Everything that is stored now. No commit of the worker is under way."""
    while done(tables, lambda inside: inside.retention.expire(kind, LATER_MS, LATER_MS, 3)).more:
        pass


def receive(peer: Peer) -> None:
    """The client acknowledges everything that it was given."""
    peer.read_all()
    for event in peer.given:
        if event.fp:
            peer.acknowledge(event.fp)


# ---------------------------------------------------------------- sessions that are behind


@pytest.mark.parametrize("group", [False, True], ids=["two users", "group"])
@pytest.mark.parametrize("protocol", [Protocol.MOBILEIMSDK, Protocol.CHATSERVER])
@pytest.mark.usefixtures("span")
def test_a_session_that_is_behind_goes_on_after_what_was_deleted(
    tmp_path: Path, protocol: Protocol, *, group: bool
) -> None:
    """Its window is full, and everything that waits for it in the store expires."""

    async def story(stage: Stage) -> None:
        stage.limit(in_flight=4)
        worker = await stage.worker()
        alice = await worker.desk("alice")
        bob = await worker.peer(protocol).login("bob")
        number = await alice.make_group("team") if group else 0
        if group:
            await bob.join(number)
        target = number or "bob"
        for index in range(12):
            alice.send(target, str(index))
        await stage.settled()
        assert len(bob.messages) == 4
        expire(worker.tables, Kind.GROUPS if group else Kind.PRIVATE)
        for index in range(12, 15):
            alice.send(target, str(index))
        await stage.settled()

        def caught_up() -> bool:
            receive(bob)
            return bob.bodies[-1:] == ["14"]

        await stage.until("the new ones are given", caught_up)
        assert bob.bodies == ["0", "1", "2", "3", "12", "13", "14"]
        assert alice.failures == []

    play(tmp_path, story)


def test_a_session_that_is_given_everything_notices_nothing(tmp_path: Path) -> None:
    async def story(stage: Stage) -> None:
        worker = await stage.worker()
        alice, bob = await worker.mobile("alice"), await worker.mobile("bob")
        for index in range(30):
            alice.send("bob", str(index))
            if index % 5 == 4:
                await stage.settled()
                receive(bob)
                await stage.settled()
                expire(worker.tables, Kind.PRIVATE)
        await stage.until("all are given", lambda: len(bob.messages) == 30)
        assert bob.bodies == [str(index) for index in range(30)]

    play(tmp_path, story)


# ---------------------------------------------------------------- when it works


class Host:
    """Retention on a store of its own. now_ms: its clock."""

    def __init__(self, tables: Tables, loop: asyncio.AbstractEventLoop, **options: float) -> None:
        self.tables = tables
        self.now_ms = LATER_MS
        self.leads = True
        self.clock = Clock(loop)
        self.options = RetentionOptions(**{"rows_per_s": 1_000_000, **options})  # type: ignore[arg-type]
        self.row = Row(memoryview(bytearray(ROW_BYTES)).cast("q"))
        self._store = GroupCommit(Connections(tables), self.clock, self.row, lambda *_: None)  # type: ignore[arg-type]
        self.background = BackgroundTasks(loop)
        services = SimpleNamespace(
            store=self._store,
            loop=self.clock,
            config=lambda: Config(retention=self.options),
            log=log.get(),
            background=self.background,
            leads=lambda: self.leads,
        )
        self.retention = Retention(services, self.row, lambda: self.now_ms)  # type: ignore[arg-type]

    async def run(self) -> None:
        """Until the next look at the store is over."""
        self.clock.ahead_s += CHECK_S + 1
        self.retention.round()
        await asyncio.wait_for(self.background.settle(), 20)

    async def close(self) -> None:
        await self._store.settle()
        self._store.close()


def on_host(path: Path, story: Callable[[Host], Awaitable[None]], **options: float) -> None:
    async def whole() -> None:
        host = Host(
            open_tables(StoreLocation(path=path / "chatd.db"), 2.0, create=True), asyncio.get_running_loop(), **options
        )
        try:
            await story(host)
        finally:
            await host.close()

    asyncio.run(whole())


def test_only_the_worker_that_leads_works_and_another_one_goes_on(tmp_path: Path) -> None:
    """After its slot was given up, for example by a rolling restart, what it showed is not shown any more."""

    async def story(host: Host) -> None:
        fill(host)
        host.leads = False
        await host.run()
        assert (host.row.retention_deleted, host.row.store_bytes) == (0, 0)
        host.leads = True
        await host.run()
        assert host.row.retention_deleted == 20
        assert host.row.store_bytes > 0
        host.leads = False
        await host.run()
        assert (host.row.store_bytes, host.row.retention_at_ms) == (0, 0)
        assert host.row.retention_deleted == 20, "a total stays"

    on_host(tmp_path, story, private_days=30)


def fill(host: Host, count: int = 20) -> ConversationId:
    """Old messages of two users. The conversation."""
    alice, bob = make(host.tables, "alice", "bob")
    send(host.tables, *((alice, to(bob, str(number))) for number in range(count)), now_ms=host.now_ms - 60 * DAY_MS)
    return sent(host.tables, alice, to(bob, "new"), host.now_ms).message.conversation


def left(host: Host, conversation: ConversationId) -> list[str]:
    return [one.body for one in host.tables.history.messages(1, conversation, 0, 0, 1000)]


def test_old_messages_go_and_the_status_says_so(tmp_path: Path) -> None:
    async def story(host: Host) -> None:
        talk = fill(host)
        await host.run()
        assert left(host, talk) == ["new"]
        assert (host.row.retention_deleted, host.row.retention_at_ms) == (20, host.now_ms)
        assert host.row.oldest_message_ms == host.now_ms
        assert host.row.store_bytes > 0
        assert not host.row.retention_failed

    on_host(tmp_path, story, private_days=30)


def test_nothing_goes_without_an_option(tmp_path: Path) -> None:
    async def story(host: Host) -> None:
        talk = fill(host)
        await host.run()
        assert len(left(host, talk)) == 21

    on_host(tmp_path, story, group_days=7)


def test_a_clock_that_jumps_ahead_deletes_nothing_until_it_is_believed(tmp_path: Path) -> None:
    async def story(host: Host) -> None:
        host.now_ms -= 59 * DAY_MS
        talk = fill(host, 5)
        await host.run()
        assert len(left(host, talk)) == 6
        host.now_ms += 365 * DAY_MS
        for _ in range(3):
            await host.run()
        assert len(left(host, talk)) == 6
        assert host.row.retention_held
        host.clock.ahead_s += BELIEVE_S
        await host.run()
        assert left(host, talk) == []
        assert not host.row.retention_held

    on_host(tmp_path, story, private_days=100)


def test_a_clock_that_is_set_right_again_is_believed_at_once(tmp_path: Path) -> None:
    async def story(host: Host) -> None:
        fill(host)
        await host.run()
        host.now_ms += CLOCK_AHEAD_MS + DAY_MS
        await host.run()
        assert host.row.retention_held
        host.now_ms -= CLOCK_AHEAD_MS
        await host.run()
        assert not host.row.retention_held

    on_host(tmp_path, story, private_days=30)


def test_an_interrupted_erasure_is_finished(tmp_path: Path) -> None:
    async def story(host: Host) -> None:
        talk = fill(host)
        done(host.tables, lambda inside: inside.accounts.erase(1, host.now_ms))
        await host.run()
        assert set(left(host, talk)) == {""}
        assert host.row.erasures_pending == 1
        host.now_ms += SETTLE_MS
        await host.run()
        assert (host.tables.erasure.pending(), host.row.erasures_pending) == ([], 0)

    on_host(tmp_path, story, dissolved_days=0)
