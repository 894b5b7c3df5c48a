"""Checks of the running server: what it says of itself.

Owns: a finding for each of its problems.
Elsewhere: the problems (master.health), what to do about each (docs/runbook.md).
Fails: never.
"""

from __future__ import annotations

from collections.abc import Iterator

from chatd.chatctl.commands import NOT_REACHABLE
from chatd.chatctl.doctor.finding import Finding, Installation, error, note, ok, warning


def server(installation: Installation) -> Iterator[Finding]:
    """Each of its problems, as `chatctl check` has them."""
    if installation.status is None and installation.pid:
        text = f"chatd (pid {installation.pid}) runs, but does not answer on its control socket"
        meaning = "it cannot be operated; its workers may serve nevertheless"
        yield error("server.answers", text, meaning, f"docs/runbook.md has it under {NOT_REACHABLE}")
    elif installation.status is None:
        yield note("server.runs", "no server is running: what only a running one can tell was left out")
    else:
        for one in installation.status.reasons:
            make = error if one.critical else warning
            meaning = "the server is not well"
            yield make(f"server.{one.code}", one.text, meaning, f"docs/runbook.md has it under {one.code}")
        if not installation.status.reasons:
            yield ok("server.well", f"the server (pid {installation.pid}) has no problem that it knows of")
