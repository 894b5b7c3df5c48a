"""`python -m tests.chatctl.planted_schema chatd|chatctl …`: a command of a later version, whose schema has a second
step.

PLANTED in the environment: what the step does, "works" or "fails" (half-way).
"""

from __future__ import annotations

import os
import sys

from chatd.store.sqlite import schema as sqlite_schema

WORKS = (
    "ALTER TABLE team ADD COLUMN topic TEXT NOT NULL DEFAULT ''",
    "UPDATE team SET topic = name",
)
FAILS = (*WORKS, "INSERT INTO nowhere VALUES (1)")
WORDS = "a topic for every group"


def plant(steps: tuple[str, ...] = WORKS) -> None:
    sqlite_schema.MIGRATIONS = (*sqlite_schema.MIGRATIONS, steps)
    sqlite_schema.WORDS = (*sqlite_schema.WORDS, WORDS)


def main() -> int:
    plant(FAILS if os.environ.get("PLANTED") == "fails" else WORKS)
    program = sys.argv.pop(1)
    if program == "chatctl":
        from chatd.chatctl.__main__ import main
    else:
        from chatd.__main__ import main
    return main()


if __name__ == "__main__":
    sys.exit(main())
