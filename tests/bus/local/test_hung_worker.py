"""A real daemon on the bus of one host, one of whose workers hangs."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable

from chatd.errors import Exit
from tests.harness.daemon import Daemon
from tests.harness.deadline import run, wait_until
from tests.harness.person import Town

NOTICED_S = 5.5
"""The bus calls a worker silent after 3 s, and the workers that are well report the state of the bus every second."""


def test_a_hung_worker_is_not_shown_as_a_bus_that_is_down(make_daemon: Callable[..., Daemon]) -> None:
    daemon = make_daemon(workers=3, timeouts={"hang_s": 60}).start()
    name = run(Town(daemon).newcomer("bob"))
    hung = daemon.status()["workers"][0]
    os.kill(hung["pid"], signal.SIGSTOP)

    def down() -> list[int]:
        return [one["slot"] for one in daemon.status()["workers"] if not one["bus_ok"]]

    def silent_for_long() -> bool:
        assert down() == [], "workers for which the bus is down"
        return bool(daemon.status()["workers"][0]["heartbeat_age_s"] > NOTICED_S)

    wait_until(30, "the worker has been silent for long", silent_for_long, 0.2)
    assert daemon.status()["bus_ok"]
    kicked = daemon.ctl("kick", name)
    assert kicked.returncode == Exit.TRY_AGAIN
    assert "no answer from worker 0" in kicked.stderr, "a kick still knows who may have the user's sessions"
    assert "the bus is not whole" not in kicked.stderr
    os.kill(hung["pid"], signal.SIGCONT)
    wait_until(30, "a kick reaches everybody", lambda: daemon.ctl("kick", name).returncode == Exit.OK, 0.2)
