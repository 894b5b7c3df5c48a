"""`python -m tests.chatctl.killed_migrations FIRST TWIN ARGUMENT…`: `chatctl ARGUMENT…` over and over, killed with -9
before and after each step of every migration of this twin from number FIRST on, and at last left alone.

Prints a line for each run: the migration and how many of its steps had been done. One process is forked for each run,
because starting an interpreter for each would take longer than the migrations.
"""

from __future__ import annotations

import os
import signal
import sys
from typing import Any

from chatd.chatctl.__main__ import main
from chatd.store.mysql import schema as mysql_schema
from chatd.store.sqlite import schema as sqlite_schema

Cut = tuple[int, int]
"""The number of a migration, and how many of its steps are done."""


def plant(schema: Any, cut: Cut) -> None:
    """The process ends there."""

    def planted(number: int, at: int, step: Any) -> Any:
        def run(db: Any) -> None:
            if cut == (number, at):
                os.kill(os.getpid(), signal.SIGKILL)
            if callable(step):
                step(db)
            else:
                db.execute(step)
            if cut == (number, at + 1):
                os.kill(os.getpid(), signal.SIGKILL)

        return run

    schema.MIGRATIONS = tuple(
        tuple(planted(number, at, step) for at, step in enumerate(steps))
        for number, steps in enumerate(schema.MIGRATIONS, 1)
    )


def cuts(schema: Any, first: int) -> list[Cut]:
    return [
        (number, done)
        for number, steps in enumerate(schema.MIGRATIONS, 1)
        if number >= first
        for done in range(len(steps) + 1)
    ]


def killed(schema: Any, cut: Cut) -> None:
    child = os.fork()
    if not child:
        plant(schema, cut)
        os._exit(main() or 1)
    status = os.waitpid(child, 0)[1]
    if not (os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGKILL):
        raise SystemExit(f"the run was to be killed in migration {cut[0]} after {cut[1]} steps: {status}")
    print("killed", *cut, flush=True)


if __name__ == "__main__":
    first, twin = int(sys.argv.pop(1)), sys.argv.pop(1)
    schema: Any = {"sqlite": sqlite_schema, "mysql": mysql_schema}[twin]
    for cut in cuts(schema, first):
        killed(schema, cut)
    sys.exit(main())
