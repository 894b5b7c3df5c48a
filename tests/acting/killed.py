"""`python -m tests.acting.killed MOMENT SIGNAL …`: chatctl that a signal meets at this moment of a backup or a
restore."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable
from typing import Any

from chatd.chatctl.maintenance import restore
from chatd.store.sqlite import backup

MOMENTS: dict[str, tuple[Any, str, bool]] = {
    "backup: copying": (backup._Pace, "step", True),
    "backup: checking": (backup, "finish", True),
    "restore: copying": (restore.Source, "copy_to", False),
    "restore: checking": (restore, "_migrated", False),
    "restore: before the names": (restore, "_without_log", False),
    "restore: one name": (restore, "_exchange", True),
    "restore: both names": (restore, "_exchange", False),
}
"""What is called then, and whether the signal comes before it rather than after."""


def plant(moment: str, number: signal.Signals) -> None:
    owner, name, before = MOMENTS[moment]
    original: Callable[..., Any] = getattr(owner, name)

    def met(*arguments: Any, **named: Any) -> Any:
        if before:
            os.kill(os.getpid(), number)
        value = original(*arguments, **named)
        os.kill(os.getpid(), number)
        return value

    setattr(owner, name, met)


if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell may have it ignored in what runs beside it
    plant(sys.argv.pop(1), signal.Signals[sys.argv.pop(1)])
    from chatd.chatctl.__main__ import main

    sys.exit(main())
