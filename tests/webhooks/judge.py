"""Whether a receiver was told of everything, in order.

Owns: the verdict on what came, against what the store has.
Elsewhere: the receiver (tests.webhooks.receiver).
Fails: AssertionError that says what is wrong.
"""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Collection
from pathlib import Path
from typing import Any

Stored = set[tuple[int, int]]
"""Conversation and seq of each message."""


def stored_in(path: Path) -> Stored:
    with contextlib.closing(sqlite3.connect(path)) as db:
        return set(db.execute("SELECT conversation, seq FROM message"))


def place(event: dict[str, Any]) -> tuple[int, int]:
    return event["data"]["conversation"], event["data"]["seq"]


def judge(requests: Collection[dict[str, Any]], stored: Stored) -> None:
    """Every stored message came; those of a conversation in the order of their numbers; what came again came under the
    same webhook-id, with the same events, whether it was answered well or not."""
    assert [one["bad"] for one in requests if "bad" in one] == []
    seen: dict[str, str] = {}
    for request in requests:
        for event_id in request.get("seen", ()):
            first = seen.setdefault(event_id, request["id"])
            assert first == request["id"], f"event {event_id} came under two webhook-ids"
    taken: dict[str, list[str]] = {}
    last: dict[int, int] = {}
    told: Stored = set()
    for request in requests:
        if not request["events"]:
            continue
        ids = [event["id"] for event in request["events"]]
        if request["id"] in taken:
            assert taken[request["id"]] == ids, "another request has this webhook-id"
            continue
        taken[request["id"]] = ids
        for event in request["events"]:
            if event["type"] != "message.stored":
                continue
            conversation, seq = place(event)
            assert (conversation, seq) not in told, f"message {conversation}:{seq} came under two webhook-ids"
            assert seq > last.get(conversation, 0), f"message {conversation}:{seq} came after {last[conversation]}"
            last[conversation] = seq
            told.add((conversation, seq))
    assert stored - told == set(), f"{len(stored - told)} of {len(stored)} messages never came"
    assert told - stored == set()
