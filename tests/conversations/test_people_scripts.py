"""The conversation scripts about people and their say: on every wire and on mixtures with two workers, on some of them
with one worker and on MySQL."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conversations.people import PeoplePlayer
from tests.conversations.player import SCRIPTS
from tests.conversations.stages import STAGES
from tests.harness.deadline import run
from tests.harness.person import Town, Wire

CASTS: dict[str, tuple[Wire, ...]] = {
    "old": ("old",),
    "asking": ("asking",),
    "mobile": ("mobile",),
    "udp": ("udp",),
    "streaming-old-mobile": ("streaming", "old", "mobile"),
    "web-asking-old": ("web", "asking", "old"),
    "numbered": ("numbered",),
    "old-numbered-streaming": ("old", "numbered", "streaming"),
    "tls": ("acking-tls", "mobile-tls", "web-tls"),
}
EVERYWHERE = ("streaming-old-mobile", "old-numbered-streaming")
"""Played on every stage; the others with two workers only."""
USUAL = "2-workers"


def casts(script: str) -> list[str]:
    """Of a script's `# casts:` line, all without one."""
    found = re.search(r"^# casts: (.*)$", script, re.MULTILINE)
    return found[1].split() if found else [cast for cast in CASTS if "numbered" not in cast]


def plays() -> Iterator[object]:
    """Numbered casts only where a script names them: to the others they are mobileimsdk clients like any."""
    for stage in STAGES:
        for path in sorted((SCRIPTS / "people").glob("*.txt")):
            for cast in casts(path.read_text()):
                if stage == USUAL or cast in EVERYWHERE:
                    yield pytest.param(stage, path, cast, id=f"{stage}-{path.stem}-{cast}")


@pytest.mark.parametrize(("town", "path", "cast"), list(plays()), indirect=["town"], scope="session")
def test_script(town: Town, path: Path, cast: str) -> None:
    run(PeoplePlayer(town, CASTS[cast]).play(path.read_text()))
