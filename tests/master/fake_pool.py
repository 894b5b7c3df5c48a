"""Workers as master.questions sees them, without processes."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any


class Pool:
    """Workers 0 and 1, with process ids 100 and 101. taken: the orders, each with the worker that took it. busy:
    workers that take none."""

    def __init__(self) -> None:
        self.slots = [worker(0), worker(1)]
        self.taken: list[tuple[int, Any]] = []
        self.busy: set[int] = set()

    def ready(self) -> list[Any]:
        return self.slots

    present = ready

    def order(self, slot: Any, order: Any) -> bool:
        if slot.index not in self.busy:
            self.taken.append((slot.index, order))
        return slot.index not in self.busy

    def replace(self, index: int) -> None:
        """The worker ends, and another one takes its place."""
        pid = self.slots[index].worker.child.pid
        self.slots[index] = worker(index, pid + 100)


def worker(index: int, pid: int = 0) -> Any:
    child = SimpleNamespace(pid=pid or 100 + index)
    return SimpleNamespace(index=index, worker=SimpleNamespace(child=child, ready_at=1.0))
