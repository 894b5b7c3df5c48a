"""The embedded store: the contract, twice (a tail that is merged rarely and one that is merged all the time), and what
only SQLite has: the file, its schema, its lock, and many processes at once."""

from __future__ import annotations

import contextlib
import json
import os
import sqlite3
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from chatd.errors import BootError, Exit, Unavailable
from chatd.model import Message, User
from chatd.store.contract import Advance, Draft, Stored, Tables
from chatd.store.sql.send_keys import SendKeys
from chatd.store.sqlite import tables as sqlite_tables
from chatd.store.sqlite import unindexed
from chatd.store.sqlite.schema import MIGRATIONS
from tests.store.contract import StoreContract
from tests.store.steps import ANY, make, send, sent, team, to

PROCESSES = 3
MESSAGES = 3000


class SqliteTwin:
    def __init__(self, path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.path = path
        self._monkeypatch = monkeypatch

    def open(self) -> Tables:
        return sqlite_tables.open_tables(self.path, create=True)

    def collide(self) -> None:
        self._monkeypatch.setattr(SendKeys, "first", lambda self, sender, fp: sender << 32 | 0xFFFFFFFE)


class TestContract(StoreContract):
    @pytest.fixture
    def twin(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> SqliteTwin:
        return SqliteTwin(tmp_path / "chatd.db", monkeypatch)


@pytest.mark.slow
@pytest.mark.parametrize(("span", "piece"), [(3, 2), (8, 2)])
class TestContractMergingOften(TestContract):
    """Spans that are in after a message or two, and spans that are half in for a while."""

    @pytest.fixture(autouse=True)
    def merge_often(self, monkeypatch: pytest.MonkeyPatch, span: int, piece: int) -> None:
        monkeypatch.setattr(unindexed, "SPAN", span)
        monkeypatch.setattr(unindexed, "SLICE", piece)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "chatd.db"


def opened(path: Path) -> contextlib.closing[sqlite_tables.SqliteTables]:
    return contextlib.closing(sqlite_tables.open_tables(path, create=True))


# ---------------------------------------------------------------- the file


def test_a_commit_is_on_disk_before_it_returns(path: Path) -> None:
    """What SQLite promises for these settings; that it keeps them is tested with kill -9."""
    with opened(path) as tables:
        pragmas = {name: tables._db.execute(f"PRAGMA {name}").fetchone()[0] for name in ("journal_mode", "synchronous")}
    assert pragmas == {"journal_mode": "wal", "synchronous": 2}


def test_a_newer_schema_is_refused_and_left_alone(path: Path) -> None:
    with opened(path) as tables:
        make(tables, "alice")
    with contextlib.closing(sqlite3.connect(path)) as newer:
        newer.execute(f"PRAGMA user_version = {len(MIGRATIONS) + 1}")
    with pytest.raises(BootError, match="newer") as caught:
        sqlite_tables.open_tables(path, create=True)
    assert caught.value.exit_code is Exit.CONFIG
    with contextlib.closing(sqlite3.connect(path)) as repaired:
        repaired.execute(f"PRAGMA user_version = {len(MIGRATIONS)}")
    with opened(path) as tables:  # the refused open has kept no lock
        assert [name for _, name, _ in tables.accounts.all()] == ["alice"]


@pytest.mark.parametrize("content", [b"this is no database" * 100, b"SQLite format 3\0" + bytes(4000)])
def test_a_file_that_is_no_store_is_refused(path: Path, content: bytes) -> None:
    path.write_bytes(content)
    with pytest.raises(BootError) as caught:
        sqlite_tables.open_tables(path, create=True)
    assert caught.value.exit_code is Exit.UNAVAILABLE
    assert path.read_bytes() == content


def test_a_directory_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BootError) as caught:
        sqlite_tables.open_tables(tmp_path / "missing" / "chatd.db", create=True)
    assert caught.value.exit_code is Exit.UNAVAILABLE


def test_a_merge_changes_nothing_that_is_seen(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two connections, one of which falls behind by several merges."""
    monkeypatch.setattr(unindexed, "SPAN", 10)
    monkeypatch.setattr(unindexed, "SLICE", 2)
    with opened(path) as one, opened(path) as late:
        alice, bob = make(one, "alice", "bob")
        late.history.waiting(bob.id, ANY)
        for number in range(1, 46):
            sent(one, alice, to(bob, str(number), f"fp {number}"))
        assert [int(message.body) for message in late.history.waiting(bob.id, ANY).messages] == list(range(1, 46))
        for number in (1, 30, 41, 45):
            again = sent(late, alice, to(bob, str(number), f"fp {number}"))
            assert (again.fresh, again.message.seq, again.message.body) == (False, number, str(number))
        assert sent(late, alice, to(bob)).message.seq == 46


def test_a_span_that_is_half_in_changes_nothing_that_is_seen(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two writers in turn, one of them opened anew now and then, and rolled back now and then."""
    monkeypatch.setattr(unindexed, "SPAN", 32)
    monkeypatch.setattr(unindexed, "SLICE", 4)
    stored: list[Message] = []
    with opened(path) as one, contextlib.ExitStack() as last:
        alice, bob, carol = make(one, "alice", "bob", "carol")
        other = last.enter_context(opened(path))
        for number in range(200):
            if number % 23 == 0:
                other = last.enter_context(opened(path))
            writer, reader = (one, other) if number % 3 else (other, one)
            if number % 17 == 0:
                writer.begin()
                writer.append([Draft(alice, to(bob, "never", f"never {number}"))] * 7, 1)
                writer.rollback()
            sender = alice if number % 2 else carol
            stored.append(sent(writer, sender, to(bob, str(number), f"fp {number}")).message)
            for tables in (reader, writer):
                for limit in (1, 10, 100):
                    page = tables.history.waiting(bob.id, limit)
                    assert (page.messages, page.more) == (stored[:limit], len(stored) > limit)
                one_side = [message for message in stored if message.conversation == stored[-1].conversation]
                last_seq, conversation = one_side[-1].seq, one_side[-1].conversation
                for limit in (1, 10, 40):
                    assert tables.history.messages(bob.id, conversation, 0, last_seq + 1, limit) == one_side[-limit:]
                    assert (
                        tables.history.messages(bob.id, conversation, last_seq // 2, 0, limit)
                        == one_side[last_seq // 2 :][:limit]
                    )
            old = stored[number * 7 % len(stored)]
            again = sent(
                reader, User(old.sender_id, old.sender_name), to(User(old.to_id, old.to_name), old.body, old.fp)
            )
            assert (again.fresh, again.message) == (False, old)
        with contextlib.closing(sqlite3.connect(path)) as db:
            state = {key: int(value) for key, value in db.execute("SELECT key, value FROM meta WHERE value <> ''")}
            assert state["sliced"] % 4 == 0 < state["sliced"]
            assert (state["merged"] + 1) % 32 == 0
            indexed = f"id <= {state['merged']}"
            assert (
                db.execute(f"SELECT * FROM place WHERE {indexed}").fetchall()
                == db.execute(f"SELECT conversation, seq, id FROM message WHERE {indexed} ORDER BY 1, 2").fetchall()
            )
            assert (
                db.execute(f"SELECT * FROM sent WHERE {indexed}").fetchall()
                == db.execute(f"SELECT send_key, id FROM message WHERE {indexed} ORDER BY 1").fetchall()
            )


def test_a_read_that_fails_half_way_forgets_nothing(path: Path) -> None:
    with opened(path) as one, opened(path) as other:
        alice, bob = make(one, "alice", "bob")
        sent(one, alice, to(bob, "1"))
        other.history.waiting(bob.id, ANY)
        send(one, *((alice, to(bob, str(number))) for number in range(2, 300)))
        with contextlib.closing(_interrupting(other)), pytest.raises(sqlite3.OperationalError, match="interrupted"):
            other.history.waiting(bob.id, ANY)
        assert [int(message.body) for message in other.history.waiting(bob.id, ANY).messages] == list(range(1, 300))
        assert sent(other, alice, to(bob)).message.seq == 300


class _interrupting:
    """Interrupts the connection's statement that reads the tail."""

    def __init__(self, tables: sqlite_tables.SqliteTables) -> None:
        self._db = tables._db
        self._steps = 0
        self._db.set_progress_handler(self._step, 50)

    def _step(self) -> bool:
        self._steps += 1
        return self._steps > 5

    def close(self) -> None:
        self._db.set_progress_handler(None, 0)


# ---------------------------------------------------------------- many processes


class Writer:
    def __init__(self, path: Path, span: int, name: str, count: int) -> None:
        arguments = [str(path), str(span), name, str(count)]
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.store.writer", *arguments],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )  # fmt: skip
        assert self._process.stdout is not None
        assert self._process.stdout.readline() == "ready\n"

    def go(self) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write("go\n")
        self._process.stdin.flush()

    def answers(self) -> list[tuple[int, int, str, bool]]:
        out, err = self._process.communicate(timeout=60)
        assert self._process.returncode == 0, err
        return [tuple(answer) for answer in json.loads(out)]

    def clear(self) -> None:
        self._process.kill()
        self._process.communicate()


def write_at_once(path: Path, span: int, count: int) -> list[list[tuple[int, int, str, bool]]]:
    writers = []
    try:
        writers += [Writer(path, span, name, count) for name in ("one", "two", "three")[:PROCESSES]]
        for writer in writers:
            writer.go()
        return [writer.answers() for writer in writers]
    finally:
        for writer in writers:
            writer.clear()


@pytest.mark.parametrize("span", [50, 8192])
def test_processes_write_at_once(path: Path, span: int) -> None:
    """Nobody meets SQLITE_BUSY, no number is missing or given twice, and one fp is one message everywhere."""
    with opened(path) as tables:
        alice, _ = make(tables, "alice", "bob")
        team(tables, alice)
    answers = [answer for told in write_at_once(path, span, MESSAGES) for answer in told]
    assert len(answers) == PROCESSES * MESSAGES
    fresh = Counter(conversation for conversation, _, _, is_fresh in answers if is_fresh)
    with opened(path) as tables:
        for user in (1, 2):
            stored = tables.history.waiting(user, 10**6).messages
            for conversation in {message.conversation for message in stored}:
                numbers = [message.seq for message in stored if message.conversation == conversation]
                assert numbers == list(range(1, fresh[conversation] + 1))
        by_fp = {
            message.fp: (message.conversation, message.seq) for message in tables.history.waiting(1, 10**6).messages
        }
    assert all(by_fp[fp] == (conversation, seq) for conversation, seq, fp, _ in answers)
    shared = Counter(fp for _, _, fp, is_fresh in answers if is_fresh and fp.startswith("shared"))
    assert len(shared) == MESSAGES // 10
    assert set(shared.values()) == {1}


def test_processes_make_a_new_file_at_once(path: Path) -> None:
    assert write_at_once(path, 100, 0) == [[]] * PROCESSES
    with opened(path) as tables:
        assert tables.accounts.all() == []


# ---------------------------------------------------------------- the disk is full


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    if os.geteuid() != 0:
        pytest.skip("only root can mount a small disk")
    directory = tmp_path / "disk"
    directory.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=4m", "tmpfs", str(directory)], check=True)
    yield directory
    subprocess.run(["umount", str(directory)], check=True)


def fill(tables: Tables, alice: User, bob: User, stored: list[Message]) -> None:
    """Write until the store refuses; what it has stored is appended to `stored`."""
    for number in range(10_000):
        tables.begin()
        try:
            (result,) = tables.append([Draft(alice, to(bob, "x" * 4000, str(number)))], 1)
            tables.commit()
        except sqlite3.Error:
            tables.rollback()
            raise
        assert isinstance(result, Stored)
        stored.append(result.message)


def test_a_full_disk_refuses_and_serves_again_when_there_is_room(small_disk: Path) -> None:
    stored: list[Message] = []
    with opened(small_disk / "chatd.db") as tables:
        alice, bob = make(tables, "alice", "bob")
        (small_disk / "ballast").write_bytes(bytes(2 * 1024 * 1024))
        with pytest.raises((Unavailable, sqlite3.OperationalError)):
            fill(tables, alice, bob, stored)
        assert len(stored) > 10
        assert tables.history.waiting(bob.id, 10**6).messages == stored
        (small_disk / "ballast").unlink()
        repeated = sent(tables, alice, to(bob, "x" * 4000, str(len(stored))))
        assert (repeated.fresh, repeated.message.seq) == (True, len(stored) + 1)
        stored.append(repeated.message)
    with opened(small_disk / "chatd.db") as tables:
        assert tables.history.waiting(bob.id, 10**6).messages == stored


@pytest.mark.parametrize("count", [1, 10, 63, 64])
def test_a_batch_is_few_statements(path: Path, count: int) -> None:
    """Each of them may have to wait for a busy loop (docs/decisions/0016)."""
    with opened(path) as tables:
        alice, bob = make(tables, "alice", "bob")
        sent(tables, alice, to(bob, fp="first"))
        told: list[str] = []
        tables._db.set_trace_callback(told.append)
        batch = [Draft(alice, to(bob, fp=f"fp {number}")) for number in range(count)]
        tables.begin()
        tables.append(batch, 1)
        tables.advance([Advance(bob.id, 1, 1)] * count)
        tables.update_last_seen([(user, number) for user in (alice.id, bob.id) for number in range(count)])
        tables.commit()
        tables._db.set_trace_callback(None)
        assert [text.split()[0] for text in told] == [
            "BEGIN", "PRAGMA", "SELECT", "INSERT", "UPDATE", "UPDATE", "COMMIT",
        ]  # fmt: skip
        assert tables.accounts.last_seen(bob.id) == count - 1
        assert tables.history.waiting(bob.id, ANY).messages[0].seq == 2
