"""A worker process of the store tests: `python -m tests.store.writer PATH SPAN NAME COUNT`.

Opens the SQLite store when a line comes on standard input, writes COUNT messages as fast as it can, in batches of
different sizes, and prints what it was answered as one JSON list of [conversation, seq, fp, fresh].
"""

from __future__ import annotations

import json
import random
import sys
from pathlib import Path

from chatd.model import User
from chatd.protocol import SendMessage
from chatd.store.contract import Draft, Stored
from chatd.store.sqlite import tables as sqlite_tables
from chatd.store.sqlite import unindexed


def main(path: str, span: str, name: str, count: str) -> None:
    unindexed.SPAN = int(span)
    unindexed.SLICE = min(int(span) // 8, unindexed.SLICE)
    choose = random.Random(name)
    print("ready", flush=True)
    sys.stdin.readline()
    tables = sqlite_tables.open_tables(Path(path), create=True)
    answers = []
    number = 0
    while number < int(count):
        size = min(choose.choice([1, 1, 2, 5, 40, 200]), int(count) - number)
        drafts = [_draft(name, fp) for fp in range(number, number + size)]
        number += size
        tables.begin()
        results = tables.append(drafts, number)
        tables.commit()
        for result in results:
            assert isinstance(result, Stored), result
            answers.append((result.message.conversation, result.message.seq, result.message.fp, result.fresh))
        tables.history.waiting(2, 10)
    tables.close()
    print(json.dumps(answers), flush=True)


def _draft(name: str, number: int) -> Draft:
    """User 1 writes with fps that the other processes use too; every tenth message is of group 1."""
    if number % 10 == 0:
        return Draft(User(1, "alice"), SendMessage("", 0, 1, name, f"{name}:{number}"))
    if number % 10 == 5:
        return Draft(User(1, "alice"), SendMessage("", 2, 0, "shared", f"shared:{number}"))
    return Draft(User(2, "bob"), SendMessage("alice", 0, 0, name, f"{name}:{number}"))


if __name__ == "__main__":
    main(*sys.argv[1:])
