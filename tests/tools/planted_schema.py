"""`python -m tests.tools.planted_schema chatd|chatctl …`: a command of a later version, whose schema has a second step.

PLANTED in the environment: what the step does, "works" or "fails" (half-way).
"""

from __future__ import annotations

import os
import sys

from chatd.store import schema

WORKS = (
    "ALTER TABLE team ADD COLUMN topic TEXT NOT NULL DEFAULT ''",
    "UPDATE team SET topic = name",
)
FAILS = (*WORKS, "INSERT INTO nowhere VALUES (1)")
WORDS = "a topic for every group"


def plant(steps: tuple[str, ...] = WORKS) -> None:
    schema.MIGRATIONS = (*schema.MIGRATIONS, steps)
    schema.WORDS = (*schema.WORDS, WORDS)


def main() -> int:
    plant(FAILS if os.environ.get("PLANTED") == "fails" else WORKS)
    program = sys.argv.pop(1)
    if program == "chatctl":
        from chatd.chatctl import main
    else:
        from chatd.__main__ import main
    return main()


if __name__ == "__main__":
    sys.exit(main())
