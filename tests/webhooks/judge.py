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

from chatd.config.urls import parse_mysql
from chatd.store.mysql.connection import MysqlConnection
from tests.harness.daemon import Daemon
from tests.harness.deadline import until
from tests.webhooks.receiver import Receiver

_MESSAGES = "SELECT conversation, seq FROM message"
Stored = set[tuple[int, int]]
"""Conversation and seq of each message."""


def stored_in(path: Path) -> Stored:
    with contextlib.closing(sqlite3.connect(path)) as db:
        return set(db.execute(_MESSAGES))


def stored_by(daemon: Daemon) -> Stored:
    """All messages in its store, on either twin."""
    if not (url := daemon.config.get("store", {}).get("url")):
        return stored_in(daemon.root / "state" / "chatd.db")
    connection = MysqlConnection(parse_mysql(url), 20.0)
    try:
        return set(connection.execute(_MESSAGES).fetchall())
    finally:
        connection.discard()


class Told:
    """The messages that a receiver has, counted as they come. begin: the first request that is of interest."""

    def __init__(self, receiver: Receiver, begin: int = 0) -> None:
        self._receiver, self._at = receiver, begin
        self._places: Stored = set()

    @property
    def places(self) -> Stored:
        requests = self._receiver.requests()
        for request in requests[self._at :]:
            self._places.update(place(one) for one in request["events"] if one["type"] == "message.stored")
        self._at = len(requests)
        return self._places

    async def all(self, stored: Stored, limit_s: float = 60.0) -> None:
        """Until the receiver has all of these."""
        await until(limit_s, "every stored message came", lambda: stored <= self.places, step_s=0.1)


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
