"""Reader threads: reads that run beside the commits, each thread on its own connection.

Owns: the threads, and the reads they were given, until each is answered or refused.
Elsewhere: when a read may start, which is after the commit of everything asked for before it (store.group_commit).
Fails: a read that fails or takes too long raises Unavailable only to its caller.

A store without readers (SQLite) has none of these threads; its reads run in the store thread.
"""

from __future__ import annotations

import asyncio
import queue
import threading
import time
from collections.abc import Callable, Sequence

from chatd.errors import Unavailable
from chatd.scoreboard import Row
from chatd.store.batch import Call
from chatd.store.contract import Tables


class Readers:
    """Used from the loop; false if there are no readers. on_idle: called when a read has ended."""

    def __init__(
        self, tables: Sequence[Tables], loop: asyncio.AbstractEventLoop, row: Row, on_idle: Callable[[], None]
    ) -> None:
        self._loop = loop
        self._row = row
        self._on_idle = on_idle
        self._pending: dict[Call, float] = {}
        """Reads that were given to the threads, and since when each one waits."""
        self.trouble = ""
        """Why the last read failed or does not end, for an operator; "" = it succeeded."""
        self._calls: queue.SimpleQueue[Call | None] = queue.SimpleQueue()
        self._threads = [
            threading.Thread(target=self._serve, args=(one,), name="store reader", daemon=True) for one in tables
        ]
        for thread in self._threads:
            thread.start()

    def __bool__(self) -> bool:
        return bool(self._threads)

    @property
    def idle(self) -> bool:
        return not self._pending

    def submit(self, call: Call, since: float) -> None:
        """since: when it was asked for, by the loop's clock."""
        self._pending[call] = since
        self._calls.put(call)

    def refuse_overdue(self, now: float, limit_s: float) -> None:
        for call in [call for call, since in self._pending.items() if now - since > limit_s]:
            del self._pending[call]
            call.refuse()
            self._row.store_ok = False
            self.trouble = "a read takes too long"

    def close(self) -> None:
        """Let the threads close their connections and end. Does not wait for them."""
        for _ in self._threads:
            self._calls.put(None)

    def join(self, limit_s: float) -> None:
        ends = time.monotonic() + limit_s
        for thread in self._threads:
            thread.join(max(0.0, ends - time.monotonic()))

    def _finished(self, call: Call) -> None:
        if self._pending.pop(call, None) is not None:
            self._row.store_ok = not isinstance(call.error, Unavailable)
            self.trouble = "" if self._row.store_ok else str(call.error)
        call.answer()
        self._on_idle()

    # ---------------------------------------------------------------- in the threads

    def _serve(self, tables: Tables) -> None:
        while (call := self._calls.get()) is not None:
            if not call.future.done():  # otherwise it has been refused, or its caller has gone
                call.run_read(tables)
            self._loop.call_soon_threadsafe(self._finished, call)
        tables.close()
