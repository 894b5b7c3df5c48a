"""`python -m tests.conversations.planted_names BUG -c FILE …` is chatd with one guard of names and texts switched off.

Owns: the bugs. A worker is patched after its fork, before it is built.
"""

from __future__ import annotations

import itertools
import sys

from tests.faults.planted import main


def no_look_alike_check() -> None:
    """Every name looks different."""
    from chatd.store.sql import accounts

    numbers = itertools.count(1)
    accounts.skeleton_hash = lambda name: next(numbers)  # type: ignore[attr-defined]


def no_filter_of_descriptions() -> None:
    """A text of several lines may contain anything."""
    from chatd.texts import fields

    fields.paragraphs = lambda what, text, longest: text  # type: ignore[assignment]


BUGS = {bug.__name__: bug for bug in (no_look_alike_check, no_filter_of_descriptions)}

if __name__ == "__main__":
    sys.exit(main(BUGS))
