"""Messages are edited and recalled while people talk, come and go, and workers are killed."""

from __future__ import annotations

from collections.abc import Callable

from tests.changes.ordeal import RESEND, talk
from tests.faults.ordeal import OLD_PACE, acquit, database, everybody_in, kill, more_talk, pick_victim
from tests.faults.record import inspect
from tests.faults.test_workers_die import replaced
from tests.harness.crowd import Crowd
from tests.harness.daemon import Daemon
from tests.harness.deadline import run
from tests.harness.judge import Verdict

Note = Callable[[str, object], None]


def check(verdict: Verdict, note: Note, at_least: int) -> None:
    acquit(verdict, note, at_least)
    assert verdict.counts["changed"] >= at_least // 10, f"too little was changed: {verdict}"
    assert verdict.counts["show"] > verdict.counts["changed"], f"too little was told: {verdict}"
    assert verdict.counts["final"] >= at_least, f"too little was looked back at: {verdict}"


def test_without_a_fault(make_daemon: Callable[..., Daemon], record_property: Note) -> None:
    """Somebody also tries to change what others have said."""
    daemon = make_daemon(workers=2, timeouts=RESEND).start()
    check(run(talk(daemon, with_a_thief=True), 90), record_property, 150)
    inspect(database(daemon))


def test_what_is_in_flight(make_daemon: Callable[..., Daemon], record_property: Note) -> None:
    """Clients get nothing for a while, and are then sent again what changed meanwhile. They see it in whatever order,
    which the judge would take for a defect of the server."""
    daemon = make_daemon(workers=2, timeouts=RESEND).start()
    verdict = run(talk(daemon, deaf=True), 90)
    record_property("verdict", str(verdict).splitlines()[0])
    assert verdict.kinds() <= {"reorder", "divergent"}, verdict
    assert verdict.counts["changed"] > 10, verdict


def test_workers_are_killed(make_daemon: Callable[..., Daemon], record_property: Note) -> None:
    daemon = make_daemon(workers=2, listen=OLD_PACE).start()
    daemon.expect_error("worker died")

    async def fault(crowd: Crowd) -> None:
        for _ in range(2):
            await everybody_in(crowd)
            victim = pick_victim(daemon)
            kill(victim)
            await replaced(daemon, victim)
            await more_talk(crowd, 100)

    check(run(talk(daemon, fault), 120), record_property, 200)
    inspect(database(daemon))
