"""The progress of a long command: a bar on a terminal, otherwise a line at intervals.

Owns: both forms, on standard error, so that standard output has only the result.
Elsewhere: the work itself (chatctl.stores).
Fails: never because of the terminal.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from contextlib import ExitStack
from types import TracebackType
from typing import Any

LINE_S = 5.0
"""Minimum time between two lines."""


class Progress:
    """A context manager. watch() is called as the work goes on; its first call for each kind of work has more = 0."""

    def __init__(self, title: str) -> None:
        self._title = title
        self._stack = ExitStack()
        self._bar: Any = None
        self._counters: dict[str, Any] = {}
        """The bars, by kind of work."""
        self._done: dict[str, int] = {}
        self._line_at = 0.0
        """When the last line was written, by the monotonic clock."""

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
        """what: the kind of work, shown as the label. more: done since the last call. total: all there is to do."""
        done = self._done[what] = self._done.get(what, 0) + more
        if self._bar is not None:
            self._draw(what, done, total)
        elif total and (done == total or time.monotonic() > self._line_at + LINE_S):
            self._line_at = time.monotonic()
            sys.stderr.write(f"{what}: {done} of {total} ({100 * done // total} %)\n")

    def reach(self, what: str) -> Callable[[int, int], None]:
        """A function to call with (done so far, total) instead."""
        return lambda done, total: self.watch(what, done - self._done.get(what, 0), total)

    def _draw(self, what: str, done: int, total: int) -> None:
        """One bar per kind of work; a full one is removed."""
        if what not in self._counters and total:
            self._counters[what] = self._bar(label=what, total=total, remove_when_done=True)
        counter = self._counters.get(what)
        if counter is not None and not counter.done:
            counter.items_completed = min(done, total)
            counter.done = done >= total
            self._bar.invalidate()
