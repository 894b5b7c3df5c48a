"""Asking the operator at the terminal.

Owns: one question and its answer.
Elsewhere: passwords (chatctl.account_commands), what is asked (the commands).
Fails: never.
"""

from __future__ import annotations

import sys


def answer(question: str) -> str | None:
    """What was typed, without spaces around it. None: nobody sits at a terminal, so nothing was asked."""
    if not (sys.stdin.isatty() and sys.stderr.isatty()):
        return None
    sys.stderr.write(f"{question} ")
    sys.stderr.flush()
    return sys.stdin.readline().strip()


def agreed(question: str) -> bool | None:
    """Whether the answer is yes. None: as answer()."""
    found = answer(f"{question} [y/N]")
    return None if found is None else found.lower() in ("y", "yes")
