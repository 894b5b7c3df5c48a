"""How far a long command is: a bar on a terminal, a line now and then elsewhere.

Owns: both forms, on standard error, so that standard output is the result alone.
Not here: what is being done. Fails: never on account of the terminal.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from contextlib import ExitStack
from types import TracebackType
from typing import Any

LINE_S = 5.0
"""Least time between two lines about the same work."""


class Progress:
    """`watch` is called with (what, so many more, all there is); the first call of each `what` has 0 more."""

    def __init__(self, title: str) -> None:
        self._title = title
        self._stack = ExitStack()
        self._bar: Any = None
        self._counters: dict[str, Any] = {}
        self._done: dict[str, int] = {}
        self._said_s = 0.0

    def __enter__(self) -> Progress:
        if sys.stderr.isatty() and sys.stdin.isatty():
            from prompt_toolkit.output import create_output
            from prompt_toolkit.shortcuts import ProgressBar

            bar: Any = ProgressBar(title=self._title, output=create_output(stdout=sys.stderr))
            self._bar = self._stack.enter_context(bar)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.__exit__(kind, error, trace)

    def watch(self, what: str, more: int, total: int) -> None:
        done = self._done[what] = self._done.get(what, 0) + more
        if self._bar is not None:
            self._draw(what, done, total)
        elif total and (done == total or time.monotonic() > self._said_s + LINE_S):
            self._said_s = time.monotonic()
            sys.stderr.write(f"{what}: {done} of {total} ({100 * done // total} %)\n")

    def reach(self, what: str) -> Callable[[int, int], None]:
        """A function that is told (done, all there is)."""
        return lambda done, total: self.watch(what, done - self._done.get(what, 0), total)

    def _draw(self, what: str, done: int, total: int) -> None:
        """One bar per kind of work; those that are full go away."""
        if what not in self._counters and total:
            self._counters[what] = self._bar(label=what, total=total, remove_when_done=True)
        counter = self._counters.get(what)
        if counter is not None and not counter.done:
            counter.items_completed = min(done, total)
            counter.done = done >= total
            self._bar.invalidate()
