"""What may not happen to data, tried on a real daemon on SQLite. Each raises AssertionError when it does happen.

Owns: the stories, which the tests run on chatd as it is, and on chatd with a guard switched off.
Elsewhere: the bugs (tests.retention.planted).
"""

from __future__ import annotations

import contextlib
import json
import sqlite3
import time
from contextlib import closing
from pathlib import Path
from typing import Any

from chatd.model import User
from chatd.store.contract import Tables
from chatd.store.sqlite import file as sqlite_file
from chatd.store.sqlite import unindexed
from chatd.store.sqlite.tables import open_tables
from tests.harness.daemon import Daemon
from tests.harness.deadline import wait_until
from tests.retention.planted import SLICE, SPAN
from tests.store.steps import done, make, send, team, to, to_group

DAY_MS = 24 * 3600 * 1000
DAYS = {"private_days": 7, "group_days": 7}
SECRET = "correct-horse-battery"


def now_ms() -> int:
    return time.time_ns() // 1_000_000


def store_of(daemon: Daemon) -> Path:
    return daemon.root / "state" / "chatd.db"


@contextlib.contextmanager
def filled(daemon: Daemon) -> Any:
    """The tables of a store that no server uses yet."""
    (daemon.root / "state").mkdir(mode=0o750, exist_ok=True)
    before = unindexed.SPAN, unindexed.SLICE
    unindexed.SPAN, unindexed.SLICE = SPAN, SLICE  # as the daemon has them
    try:
        with closing(open_tables(store_of(daemon), create=True)) as tables:
            yield tables
    finally:
        unindexed.SPAN, unindexed.SLICE = before


def fill(tables: Tables, old: int, young: int) -> tuple[User, User, int]:
    """Messages of alice and bob, two months old and new. The two, and their group."""
    alice, bob = make(tables, "alice", "bob")
    group = team(tables, alice, bob)
    for begin, count, at_ms in ((0, old, now_ms() - 60 * DAY_MS), (old, young, now_ms())):
        for first in range(begin, begin + count, 50):
            numbers = range(first, min(first + 50, begin + count))
            talk = ((alice, to(bob, f"{SECRET} {number}", f"p{number}")) for number in numbers)
            send(
                tables,
                *talk,
                *((bob, to_group(group, f"group {number}", f"g{number}")) for number in numbers),
                now_ms=at_ms,
            )
    return alice, bob, group


def rows(daemon: Daemon, query: str, *values: object) -> list[tuple[Any, ...]]:
    with closing(sqlite3.connect(f"file:{store_of(daemon)}?mode=ro", uri=True)) as db:
        return db.execute(query, values).fetchall()


def remaining(daemon: Daemon) -> dict[int, list[int]]:
    """Of each conversation, the numbers of messages with a text."""
    found: dict[int, list[int]] = {}
    for conversation, seq in rows(daemon, "SELECT conversation, seq FROM message WHERE state <> 5 ORDER BY seq"):
        found.setdefault(conversation, []).append(seq)
    return found


def last_numbers(daemon: Daemon) -> dict[int, int]:
    return dict(rows(daemon, "SELECT conversation, max(seq) FROM message GROUP BY conversation"))


RECEIVED_MS = 5000
"""After this, who is logged in has received a message."""


def age(daemon: Daemon, days: int, received_ms: int = RECEIVED_MS) -> int:
    """What everybody has received, in so much time, was sent so many days earlier. Gives how many messages."""
    with sqlite_file.opening(store_of(daemon), create=False, exclusive=False) as file:
        changed = file.db.execute(
            "UPDATE message SET sent_at_ms = sent_at_ms - ? WHERE sent_at_ms < ?",
            (days * DAY_MS, now_ms() - received_ms),
        ).rowcount
    file.unlock()
    file.close()
    return changed


def switch_on(daemon: Daemon, **options: float) -> None:
    daemon.config["retention"] = DAYS | options
    daemon.write_config()
    reloaded = daemon.ctl("reload")
    assert reloaded.returncode == 0, reloaded.stderr


def slot_0(daemon: Daemon) -> dict[str, Any]:
    worker: dict[str, Any] = next(one for one in daemon.status()["workers"] if one["slot"] == 0)
    return worker


def delete_only_what_is_old(daemon: Daemon) -> None:
    """daemon: not started."""
    with filled(daemon) as tables:
        fill(tables, 300, 120)
    daemon.start()
    switch_on(daemon)
    wait_until(20, "the old ones are gone", lambda: all(one[0] > 300 for one in remaining(daemon).values() if one))
    assert len(remaining(daemon)) == 2, "everything is gone"
    for conversation, seqs in remaining(daemon).items():
        assert seqs == list(range(301, 421)), f"conversation {conversation} has {seqs}"
    count = rows(daemon, "SELECT count(*) FROM message")[0][0]
    assert count < 500, f"{count} rows are left: old ones are not deleted"


def let_numbers_go_on(daemon: Daemon) -> None:
    """Also where everything is old. daemon: not started."""
    with filled(daemon) as tables:
        alice, bob, _ = fill(tables, 300, 0)
        carol, dave = make(tables, "carol", "dave")
        send(tables, *((carol, to(dave, str(number))) for number in range(300)), now_ms=now_ms())
    before = last_numbers(daemon)
    daemon.start()
    switch_on(daemon)
    wait_until(20, "only the young talk is left", lambda: len(remaining(daemon)) == 1)
    assert last_numbers(daemon) == before
    with filled(daemon) as tables:
        (stored,) = send(tables, (alice, to(bob, "next")), now_ms=now_ms())
    assert stored.message.seq == 301  # type: ignore[union-attr]


def leave_nothing_of_an_erased_text(daemon: Daemon) -> None:
    """Neither in the file, its unused pages and its log, nor in what the server shows. daemon: not started."""
    with filled(daemon) as tables:
        alice, bob, _ = fill(tables, 0, 300)
        talk = tables.history.conversation_of(alice.id, bob.id, 0)
    daemon.start()
    assert SECRET.encode() in store_of(daemon).read_bytes()
    with filled(daemon) as tables:  # as chatctl does it, and is killed right after
        done(tables, lambda inside: inside.accounts.erase(alice.id, now_ms()))
    wait_until(20, "the erasure has ended", lambda: not rows(daemon, "SELECT 1 FROM erasure"))

    def files() -> list[Path]:
        return [path for path in store_of(daemon).parent.iterdir() if path.is_file()]

    def found() -> list[str]:
        return [path.name for path in files() if SECRET.encode() in path.read_bytes()]

    with contextlib.suppress(TimeoutError):
        wait_until(3, "no file has the text", lambda: not found())
    assert found() == [], f"the text is still in {found()}"
    assert not any(b"alice" in path.read_bytes() for path in files() if path.suffix != ".lock"), "the name is there"
    names = rows(daemon, "SELECT name FROM user WHERE id = ?", alice.id)
    assert names == [(f"erased user {alice.id}",)]
    assert len(rows(daemon, "SELECT 1 FROM message WHERE conversation = ? AND body = ''", talk)) == 300


def delete_nothing_because_a_clock_is_wrong(daemon: Daemon) -> None:
    """daemon: not started. Its store says that retention worked last when the clock was a year behind this one."""
    with filled(daemon) as tables:
        fill(tables, 100, 100)
        tables.begin()
        tables.retention.set_clock(now_ms() - 365 * DAY_MS)
        tables.commit()
    daemon.expect_error("the clock is far ahead")
    daemon.start()
    switch_on(daemon)

    def held() -> bool:
        return bool(slot_0(daemon)["retention_held"]) or len(remaining(daemon)[-1]) < 200

    wait_until(20, "retention has looked at the clock", held)
    assert all(len(seqs) == 200 for seqs in remaining(daemon).values())
    checked = daemon.ctl("check")
    assert (checked.returncode, "the clock is far ahead" in checked.stdout) == (1, True), checked.stdout


def everything_of(archive: Path, name: str) -> list[Any]:
    """Lines of a file in an archive of `chatctl user export`."""
    import zipfile

    with zipfile.ZipFile(archive) as opened:
        return [json.loads(line) for line in opened.read(name).splitlines()]
