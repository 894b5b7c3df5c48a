"""Checks of the running server: what it says of itself.

Owns: a finding for each of its problems.
Elsewhere: the problems (master.health), what to do about each (docs/runbook.md).
Fails: never.
"""

from __future__ import annotations

from collections.abc import Iterator

from chatd.chatctl.commands import NOT_REACHABLE
from chatd.chatctl.doctor.finding import Finding, Patient, error, note, ok, warning


def server(patient: Patient) -> Iterator[Finding]:
    """Each of its problems, as `chatctl check` has them."""
    if patient.status is None and patient.pid:
        text = f"chatd (pid {patient.pid}) runs, but does not answer on its control socket"
        meaning = "it cannot be operated; its workers may serve nevertheless"
        yield error("server.answers", text, meaning, f"docs/runbook.md has it under {NOT_REACHABLE}")
    elif patient.status is None:
        yield note("server.runs", "no server is running: what only a running one can tell was left out")
    else:
        for one in patient.status.reasons:
            make = error if one.critical else warning
            meaning = "the server is not well"
            yield make(f"server.{one.code}", one.text, meaning, f"docs/runbook.md has it under {one.code}")
        if not patient.status.reasons:
            yield ok("server.well", f"the server (pid {patient.pid}) has no problem that it knows of")
