"""Every conversation script, on every wire and on mixtures, with one worker and with two, on each store."""

from __future__ import annotations

import pytest

from tests.conversations.player import CASTS, SCRIPTS, Player, allowed
from tests.conversations.stages import on_every_stage
from tests.harness.deadline import run
from tests.harness.person import Town

pytestmark = on_every_stage
PLAYS = [
    pytest.param(path, cast, id=f"{path.stem}-{cast}")
    for path in sorted(SCRIPTS.glob("*.txt"))
    for cast, wires in CASTS.items()
    if set(wires) <= allowed(path.read_text())
]


@pytest.mark.parametrize(("path", "cast"), PLAYS)
def test_script(town: Town, path: object, cast: str) -> None:
    run(Player(town, CASTS[cast]).play(path.read_text()))  # type: ignore[attr-defined]
