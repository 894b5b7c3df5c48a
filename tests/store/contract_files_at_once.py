"""What every store must do when several workers use the same files at the same moment: a part of the contract."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import TypeVar

import pytest

from chatd.errors import ErrorCode, Refused
from chatd.model import User
from chatd.store.contract import Again, Content, Draft, FileState, Stored, Tables
from chatd.store.file_contract import CHARGED_BYTES, blob_name
from tests.store.contract_files import HASH, begin, complete, new, uploaded, with_files
from tests.store.steps import Twin, done, make, to

T = TypeVar("T")
WORKERS = 6


def at_once(twin: Twin, works: list[Callable[[Tables], T]]) -> list[T | ErrorCode]:
    """Each in a transaction of its own worker, all begun together; refusals as results."""
    start, results = threading.Barrier(len(works)), dict[int, T | ErrorCode]()

    def run(number: int, work: Callable[[Tables], T]) -> None:
        tables = twin.open()
        try:
            start.wait()
            while True:
                try:
                    results[number] = done(tables, work)
                    return
                except Again:
                    pass
                except Refused as refused:
                    results[number] = ErrorCode(refused.code)
                    return
        finally:
            tables.close()

    threads = [threading.Thread(target=run, args=one) for one in enumerate(works)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    return [results[number] for number in range(len(works))]


class FilesAtOnceContract:
    def test_the_quota_holds_for_uploads_begun_at_once(self, tables: Tables, twin: Twin) -> None:
        (alice,) = make(tables, "alice")
        quota = 4 * CHARGED_BYTES

        def beginning(name: str) -> Callable[[Tables], object]:
            return lambda inside: inside.files.begin(new(alice, name, 1), quota, 1)

        results = at_once(twin, [beginning(str(number)) for number in range(2 * WORKERS)])
        assert results.count(ErrorCode.QUOTA_REACHED) == 2 * WORKERS - 4
        assert tables.files.used(alice.id) == quota

    def test_the_same_content_completed_at_once_is_kept_once(self, tables: Tables, twin: Twin) -> None:
        (alice,) = make(tables, "alice")
        files = [new(alice, str(number)) for number in range(WORKERS)]
        for file in files:
            begin(tables, file)

        def completing(file_id: str) -> Callable[[Tables], object]:
            return lambda inside: inside.files.complete(file_id, Content(blob_name(file_id, HASH), HASH))

        at_once(twin, [completing(file.id) for file in files])
        rows = tables.files.owned(alice.id, "", WORKERS)
        assert {row.state for row in rows} == {FileState.COMPLETE}
        (blob,) = {row.blob for row in rows}
        doomed = done(tables, lambda inside: inside.files.doomed(1, 99))
        assert sorted([blob, *doomed]) == sorted(blob_name(file.id, HASH) for file in files)

    def test_a_file_sent_at_once_is_in_one_message(self, tables: Tables, twin: Twin) -> None:
        alice, *others = make(tables, "alice", *(f"user{number}" for number in range(WORKERS)))
        file = uploaded(tables, alice)

        def sending(other: User) -> Callable[[Tables], list[Stored | ErrorCode]]:
            draft = Draft(alice, with_files(to(other), file))
            return lambda inside: inside.append([draft], 1)

        results = at_once(twin, [sending(other) for other in others])
        stored = [one[0] for one in results if isinstance(one, list) and isinstance(one[0], Stored)]
        assert results.count([ErrorCode.UNKNOWN_FILE]) == WORKERS - 1
        (only,) = stored
        row = tables.files.find(file.id)
        assert row is not None
        assert isinstance(only, Stored)
        assert (row.conversation, row.seq) == (only.message.conversation, only.message.seq)

    @pytest.mark.parametrize("other", ["cancel", "expire", "erase"])
    def test_a_file_that_is_sent_while_it_is_removed(self, tables: Tables, twin: Twin, other: str) -> None:
        """Either the message has it, and it is there, or it is gone, and the message was refused."""
        for number in range(5):
            alice, bob = make(tables, f"alice{number}", f"bob{number}")
            file = uploaded(tables, alice, f"file{number}", f"{number:064x}")
            works: dict[str, Callable[[Tables], object]] = {
                "send": lambda inside, a=alice, b=bob, f=file: inside.append([Draft(a, with_files(to(b), f))], 1),  # type: ignore[misc]
                "cancel": lambda inside, f=file: inside.files.cancel(f.id),  # type: ignore[misc]
                "expire": lambda inside: inside.files.expire(99, 99),
                "erase": lambda inside, a=alice: inside.accounts.erase(a.id, 1),  # type: ignore[misc]
            }
            sent, _ = at_once(twin, [works["send"], works[other]])
            row = tables.files.find(file.id)
            doomed = done(tables, lambda inside: inside.files.doomed(1, 99))
            assert (row is None) == (file.blob in doomed)
            assert isinstance(sent, list)
            if other != "erase":
                assert isinstance(sent[0], Stored) == (row is not None)

    def test_content_that_is_shared_while_its_last_file_goes(self, tables: Tables, twin: Twin) -> None:
        """Either the new file has the old content, and that stays, or it has its own."""
        for number in range(8):
            alice, bob = make(tables, f"alice{number}", f"bob{number}")
            sha256 = f"{number:064x}"
            old, file = uploaded(tables, alice, f"old{number}", sha256), new(bob, f"new{number}")
            begin(tables, file)

            def completing(inside: Tables, file_id: str = file.id, sha256: str = sha256) -> object:
                return inside.files.complete(file_id, Content(blob_name(file_id, sha256), sha256))

            def removing(inside: Tables, file_id: str = old.id) -> object:
                return inside.files.cancel(file_id)

            def sweeping(inside: Tables) -> object:
                names = inside.files.doomed(1, 99)
                inside.files.deleted(names, 1)
                return names

            *_, swept = at_once(twin, [completing, removing, sweeping])
            row = tables.files.find(file.id)
            assert row is not None
            gone = {*(swept if isinstance(swept, list) else ()), *done(tables, sweeping)}  # type: ignore[misc]
            assert row.blob not in gone
            assert gone == {old.blob, blob_name(file.id, sha256)} - {row.blob}
            assert complete(tables, file, sha256) == row
