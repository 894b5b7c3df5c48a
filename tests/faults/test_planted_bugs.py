"""The same ordeal over chatd as it is, and over chatd with a bug planted. The judge must acquit the one and
convict each of the others, of the right thing."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable

import pytest

from tests.faults.ordeal import OLD_PACE, acquit, everybody_in, more_talk, ordeal, resets_ordeal
from tests.faults.planted import BUGS
from tests.harness.crowd import Crowd
from tests.harness.daemon import Daemon
from tests.harness.deadline import run
from tests.harness.judge import Verdict
from tests.harness.mobileimsdk import StockLink

SIGNS: dict[str, set[str]] = {
    "acknowledge_before_commit": {"lost"},
    "no_dedupe": {"duplicate"},
    "cursor_before_acknowledgement": {"lost", "hole"},
    "out_of_order": {"reorder"},
    "skipped": {"lost", "hole"},
    "to_somebody_else": {"leak", "phantom"},
    "deaf_bus": {"lost", "stale"},
    "empty_queue_counts": {"lost", "hole"},
}
"""What a verdict on each must contain at least one of."""
SLOW = ("cursor_before_acknowledgement", "skipped", "empty_queue_counts")
"""They lose messages, as two of the others do."""
STALE_S = 2.0


async def trouble(daemon: Daemon, crowd: Crowd) -> None:
    """Clients stop reading, then vanish without a word; then everything is killed; twice.

    Only clients of the wire on which they acknowledge: on the other, what their kernel has taken is theirs."""
    for _ in range(2):
        await more_talk(crowd, 50)
        leaving = [link for talker in crowd.people.values() if isinstance(link := talker.link, StockLink)]
        leaving = random.sample(leaving, len(leaving) * 2 // 3)
        for link in leaving:
            if link.transport is not None:
                link.transport.pause_reading()
        await more_talk(crowd, 100)
        for link in leaving:
            link.abort()
        await everybody_in(crowd)
        await more_talk(crowd, 100)
        await asyncio.to_thread(daemon.kill_all)
        await asyncio.to_thread(daemon.start)
        await everybody_in(crowd)


def stand_trial(daemon: Daemon) -> Verdict:
    return run(ordeal(daemon, lambda crowd: trouble(daemon, crowd), settle_s=4), 90)


def calm_talk(daemon: Daemon, settle_s: float) -> Verdict:
    """No fault at all, but everything must arrive soon. Who also sends would find a gap by its own numbers."""
    talk = ordeal(
        daemon, lambda crowd: more_talk(crowd, 500), settle_s=settle_s, stale_s=STALE_S, half_silent=True
    )  # fmt: skip
    return run(talk, 90)


def test_every_planted_bug_has_a_sign() -> None:
    assert set(SIGNS) == set(BUGS)


@pytest.mark.parametrize("bug", [pytest.param(bug, marks=[pytest.mark.slow] * (bug in SLOW)) for bug in BUGS])
def test_a_planted_bug_is_found(
    make_daemon: Callable[..., Daemon], record_property: Callable[[str, object], None], bug: str
) -> None:
    daemon = make_daemon(workers=2, listen=OLD_PACE, entry=("-m", "tests.faults.planted", bug)).start()
    if bug == "deaf_bus":
        verdict = calm_talk(daemon, settle_s=4)
    elif bug == "empty_queue_counts":
        verdict = resets_ordeal(daemon, rounds=3, settle_s=4)
    else:
        verdict = stand_trial(daemon)
    record_property("verdict", f"planted {bug}: {str(verdict).splitlines()[0]}")
    assert verdict.kinds() & SIGNS[bug], f"{bug} went unnoticed: {verdict}"


def test_without_a_bug_the_same_ordeal_finds_nothing(
    make_daemon: Callable[..., Daemon], record_property: Callable[[str, object], None]
) -> None:
    acquit(stand_trial(make_daemon(workers=2).start()), record_property, at_least=400)
    acquit(calm_talk(make_daemon(workers=2).start(), settle_s=30), record_property, at_least=500)
