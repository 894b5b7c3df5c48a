"""The conversation scripts about those who do not belong, on every wire that has what they are about."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import get_args

import pytest

from tests.conversations.conftest import PACE_MS
from tests.conversations.guarded import GUESSES, GuardedPlayer, GuardedTown
from tests.conversations.player import SCRIPTS
from tests.harness.certificates import Certificate
from tests.harness.daemon import Daemon
from tests.harness.deadline import run
from tests.harness.person import Wire

pytestmark = pytest.mark.xdist_group("guarded")
USUAL = "old acking mobile udp web acking-tls mobile-tls web-tls"
"""The wires of a script without a `# casts:` line; in each play everybody is on the same one."""


def casts(script: str) -> list[str]:
    found = re.search(r"^# casts: (.*)$", script, re.MULTILINE)
    return (found[1] if found else USUAL).split()


PLAYS = [
    pytest.param(path, wire, id=f"{path.stem}-{wire}")
    for path in sorted((SCRIPTS / "strangers").glob("*.txt"))
    for wire in casts(path.read_text())
]


@pytest.fixture(scope="module")
def guarded_town(tmp_path_factory: pytest.TempPathFactory) -> Iterator[GuardedTown]:
    root = tmp_path_factory.mktemp("guarded")
    daemon = Daemon(
        root,
        certificate=Certificate(root / "certificate"),
        workers=2,
        listen={"chatserver": {"pace_ms": PACE_MS}},
        accounts={"registration": "invite"},
        penalties={"account_failures": GUESSES, "delay_s": 0},
    )
    try:
        yield GuardedTown(daemon).start()
    finally:
        complaints = daemon.discard()
    assert not complaints, "the daemon logged errors:\n" + "\n".join(complaints[:20])


@pytest.mark.parametrize(("path", "wire"), PLAYS)
def test_script(guarded_town: GuardedTown, path: Path, wire: Wire) -> None:
    assert wire in get_args(Wire)
    run(GuardedPlayer(guarded_town, (wire,)).play(path.read_text()))
