"""The people who talk in the ordeals of a cluster, their wires, and the people who watch them.

Owns: CAST and GROUPS, small enough for two cores that also run the cluster, and `trial`: an ordeal of them under watch.
Elsewhere: the ordeal itself and what it must show (tests.faults.ordeal).
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from tests.cluster.watchers import Watchers, watching
from tests.faults.ordeal import acquit, ordeal
from tests.harness.cluster import Cluster, Throng
from tests.harness.crowd import Crowd
from tests.harness.daemon import Daemon
from tests.harness.deadline import run
from tests.harness.judge import Verdict
from tests.harness.person import Person, Wire

Note = Callable[[str, object], None]
"""pytest's record_property."""

CAST: tuple[Wire, ...] = (
    "mobile", "streaming", "web", "udp", "streaming", "web", "udp", "mobile", "streaming", "streaming",
    "mobile", "mobile", "web", "mobile", "udp", "streaming", "old", "streaming", "mobile", "old",
)  # fmt: skip
"""Neighbours talk to each other and live on different hosts: every wire across, to and from the old one too."""
GROUPS = ((0, 3, 5, 8, 10, 17), (1, 2, 6, 9, 11, 12, 18))
THINK_S = 0.1
ALL_SEE = {"may_see": "everybody"}
OLD_PACE = {"chatserver": {"pace_ms": 100}}
"""Ample, because here an old client shares a busy process with all the others."""
ARRIVES: tuple[Wire, ...] = ("mobile", "streaming", "web", "udp")


def slow(*values: object, limit_s: float) -> Any:
    """A parameter of the long version."""
    return pytest.param(*values, marks=[pytest.mark.slow, pytest.mark.timeout(limit_s)])


class Trial:
    """What a fault is given: the cluster, the people, those who watch them."""

    def __init__(self, cluster: Cluster, throng: Throng) -> None:
        self.cluster, self.throng = cluster, throng
        self.watchers = Watchers([], [])

    @property
    def daemons(self) -> list[Daemon]:
        return self.cluster.daemons

    def present(self) -> dict[str, int]:
        """Who is logged in, by which connection."""
        return {name: talker.conn for name, talker in self.throng.people.items() if talker.logged_in}

    def dropped(self, before: dict[str, int]) -> list[str]:
        """The people who are not on that connection any more. An old client may have died of what it was sent."""
        people = self.throng.people
        return [
            f"{name} ({people[name].wire}) {' '.join(people[name].deaths)}"
            for name, conn in before.items()
            if people[name].conn != conn
        ]


def try_cluster(
    cluster: Cluster,
    fault: Callable[[Trial], Awaitable[None]],
    note: Note,
    *,
    at_least: int,
    limit_s: float = 100.0,
    watched: bool = True,
    **options: Any,
) -> tuple[Trial, Verdict]:
    """The usual cast talks while `fault` runs. No defect, and no live user was ever shown offline."""
    throng = Throng(cluster)
    trial = Trial(cluster, throng)

    async def under_watch(crowd: Crowd) -> None:
        if not watched:
            await fault(trial)
            return
        async with watching(throng, list(crowd.people)) as trial.watchers:
            await fault(trial)

    usual: dict[str, Any] = {"wires": CAST, "groups": GROUPS, "think_s": THINK_S, **options}
    verdict = run(ordeal(cluster.daemons[0], under_watch, crowd=throng, **usual), limit_s)
    acquit(verdict, note, at_least)
    if watched:
        false = trial.watchers.falsely_offline(throng.journal.lines, throng.people)
        note("verdict", f"{len(false)} live users shown offline in N = {len(trial.watchers.told)} told")
        assert not false, false[:5]
    return trial, verdict


async def newcomers_talk(trial: Trial, limit_s: float = 10.0) -> float:
    """Of each wire on each host a new account logs in and writes to the one before; the longest login in seconds.
    The messages need not arrive now, only be accepted."""
    longest, before = 0.0, ""
    for number in range(len(trial.daemons)):
        town = trial.throng.region.of(number)
        for wire in ARRIVES:
            person = Person(town, await town.newcomer("n"), wire)
            began = time.monotonic()
            async with asyncio.timeout(limit_s):
                await person.arrive()
            longest = max(longest, time.monotonic() - began)
            if before:
                outcome = await person.say(before, "hello")
                assert outcome is not None
                assert outcome.ok, f"{wire}: {outcome}"
            before = person.name
            await person.leave()
    return longest
