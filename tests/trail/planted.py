"""`python -m tests.trail.planted BUG -c FILE …` is chatd with a guard of its log switched off in its workers.

Owns: the bugs, by name.
Elsewhere: planting one (tests.faults.planted).
"""

from __future__ import annotations

import sys
from typing import Any

from tests.faults.planted import main


def nothing_held_back() -> None:
    """Every record is written, however often it repeats."""
    from chatd.repeats import Repeats

    Repeats.admit = lambda self, key, source, limits, now: True  # type: ignore[method-assign]


def names_as_they_are() -> None:
    """Records are put together without quoting, as with a format string."""
    from chatd import log

    def naive(level: str, now: str, event: str, fields: Any) -> bytes:
        told = " ".join([event, *(f"{key}={value}" for key, value in fields.items())])
        return f"[{level}][{now}][1] {told}\n".encode("utf-8", "replace")

    log._text = naive


def failures_without_a_source() -> None:
    """The address is where people look for it, but not in the field that programs read."""
    from chatd import security_log

    security_log.address_of = lambda remote: ""  # type: ignore[attr-defined]


BUGS = {bug.__name__: bug for bug in (nothing_held_back, names_as_they_are, failures_without_a_source)}


if __name__ == "__main__":
    sys.exit(main(BUGS))
