"""Conversation scripts about messages that grow old, on several wires."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Iterator, Sequence

import pytest

from tests.conversations.conftest import PACE_MS
from tests.conversations.people import PeoplePlayer
from tests.conversations.player import SCRIPTS
from tests.harness.daemon import Daemon
from tests.harness.deadline import run, until
from tests.harness.person import Town, Wire
from tests.retention import attacks
from tests.retention.attacks import DAY_MS, age, rows

CASTS: tuple[tuple[Wire, ...], ...] = (("streaming", "old", "mobile"), ("numbered", "asking", "udp"))
OLD = "SELECT count(*) FROM message WHERE state <> 5 AND sent_at_ms < ?"


class RetentionPlayer(PeoplePlayer):
    def __init__(self, town: Town, cast: Sequence[Wire]) -> None:
        super().__init__(town, cast)
        self.lines = [*RETENTION_LINES, *self.lines]

    async def grows_old(self, days: str) -> None:
        assert await asyncio.to_thread(age, self.town.daemon, int(days), 0)

    async def is_done(self) -> None:
        def left() -> int:
            return int(rows(self.town.daemon, OLD, attacks.now_ms() - 8 * DAY_MS)[0][0])

        await until(15, "what is old is gone", lambda: not left())


RETENTION_LINES = [
    (re.compile(r"what was said grows (\d+) days old"), RetentionPlayer.grows_old),
    (re.compile(r"retention has done its work"), RetentionPlayer.is_done),
]


@pytest.fixture(scope="module")
def town(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Town]:
    daemon = Daemon(
        tmp_path_factory.mktemp("scripts"),
        workers=2,
        entry=("-m", "tests.retention.planted", "quick"),
        listen={"chatserver": {"pace_ms": PACE_MS}},
        retention=attacks.DAYS,
    )
    try:
        yield Town(daemon.start())
    finally:
        complaints = daemon.discard()
    assert complaints == []


@pytest.mark.parametrize("cast", CASTS, ids="-".join)
@pytest.mark.parametrize("path", sorted((SCRIPTS / "retention").glob("*.txt")), ids=lambda path: path.stem)
def test_script(town: Town, path: object, cast: tuple[Wire, ...]) -> None:
    run(RetentionPlayer(town, cast).play(path.read_text()), 60)  # type: ignore[attr-defined]
