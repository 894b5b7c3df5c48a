"""`python tests/upgrade/stopping.py -c FILE …` is the installed chatd, which a test stops at any phase of an upgrade.

Owns: the stops. While a file with the name of a phase is in the directory STOPS, the program that reaches the phase
makes a file NAME.reached, and goes no further; with a file NAME.fails, it fails there. "loading" is in the new program,
before it has taken over.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from chatd import __main__ as entry
from chatd.master.upgrade import upgrade

_FOLDER = Path(os.environ["STOPS"])


def stop_at(name: str) -> None:
    if (_FOLDER / f"{name}.fails").exists():
        raise RuntimeError(f"{name} fails")
    stop = _FOLDER / name
    if not stop.exists():
        return
    (_FOLDER / f"{name}.reached").write_text(str(os.getpid()))
    while stop.exists():
        time.sleep(0.005)


def first(name: str, go_on: Callable[..., Any]) -> Callable[..., Any]:
    def stopping(*arguments: Any) -> Any:
        stop_at(name)
        return go_on(*arguments)

    return stopping


if __name__ == "__main__":
    entry.prepare = first("loading", entry.prepare)
    upgrade.reached = lambda phase: stop_at(phase.value)  # type: ignore[assignment]
    sys.exit(entry.main())
