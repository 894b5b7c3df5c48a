"""Every conversation script: on every wire and on mixtures with two workers, on some of them with one worker and on
MySQL. What a wire does with bytes does not depend on the store."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conversations.player import CASTS, SCRIPTS, Player, allowed
from tests.conversations.stages import STAGES
from tests.harness.deadline import run
from tests.harness.person import Town

EVERYWHERE = ("old-streaming-mobile", "streaming-web-udp", "old-token-mobile", "old-wss-tls")
"""Played on every stage: together they have all wires. The others with two workers only."""
USUAL = "2-workers"


def plays() -> Iterator[object]:
    for stage in STAGES:
        for path in sorted(SCRIPTS.glob("*.txt")):
            wires_of_script = allowed(path.read_text())
            for cast, wires in CASTS.items():
                if set(wires) <= wires_of_script and (stage == USUAL or cast in EVERYWHERE):
                    yield pytest.param(stage, path, cast, id=f"{stage}-{path.stem}-{cast}")


def test_every_wire_is_played_everywhere() -> None:
    assert {wire for cast in EVERYWHERE for wire in CASTS[cast]} >= {
        wire for cast in CASTS.values() for wire in cast if not wire.endswith("-tls")
    }


@pytest.mark.parametrize(("town", "path", "cast"), list(plays()), indirect=["town"], scope="session")
def test_script(town: Town, path: Path, cast: str) -> None:
    run(Player(town, CASTS[cast]).play(path.read_text()))
