"""A server that has nothing to do costs next to nothing."""

from __future__ import annotations

import time
from collections.abc import Callable

import psutil

from tests.harness.daemon import Daemon

WATCHED_S = 4.0
TIMERS_PER_S = 1
"""The master's one timer (decision 37)."""


def test_an_idle_master_wakes_up_for_its_timer_only(make_daemon: Callable[..., Daemon]) -> None:
    master = psutil.Process(make_daemon(workers=2).start().pid)

    def wake_ups() -> int:
        return int(master.num_ctx_switches().voluntary)

    settled = wake_ups()
    time.sleep(WATCHED_S)  # the time that is measured
    wakes_per_s = (wake_ups() - settled) / WATCHED_S
    assert wakes_per_s <= 2 * TIMERS_PER_S + 1
