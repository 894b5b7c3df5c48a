"""Statuses of servers that do not exist, for tests of what is made of them."""

from __future__ import annotations

import typing
from typing import Any, get_type_hints

from chatd.master.status import Status, WorkerStatus

_EMPTY: dict[Any, Any] = {int: 0, float: 0.0, str: "", bool: True, list: [], dict: {}}
BAD = ("hooks_open", "bus_forged", "retention_failed", "retention_held")
"""Flags of a worker that are false while all is well."""


def made(kind: Any, **fields: Any) -> Any:
    """All numbers 0, all texts, lists and dicts empty, all flags true, but for the fields."""

    def empty(hint: Any) -> Any:
        return _EMPTY.get(typing.get_origin(hint) or hint)

    return kind(**{**{name: empty(hint) for name, hint in get_type_hints(kind).items()}, **fields})


def worker(**fields: Any) -> WorkerStatus:
    """A worker that is well."""
    found: WorkerStatus = made(
        WorkerStatus, **{"pid": 7, "state": "ready", **dict.fromkeys(BAD, False), "hooks_open": 0, **fields}
    )
    return found


def status(**fields: Any) -> Status:
    """Of a server that is well, with one worker."""
    workers = [worker()]
    usual = {
        "state": "running",
        "workers_wanted": 1,
        "workers_ready": 1,
        "workers": workers,
        "upgrade": None,
        "restart": None,
    }
    found: Status = made(Status, **{**usual, **fields})
    return found
