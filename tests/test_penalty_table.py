"""The table of penalties: a hundred thousand sources, several processes, and the death of one."""

from __future__ import annotations

import os
import signal

from chatd.penalty_table import NEVER, SETS, TABLE_BYTES, Key, Kind, PenaltyTable, Record

REMEMBERED = 100_000
AT_MS = 1_000_000


def one_more(record: Record) -> Record:
    return Record(record.offences + 1, AT_MS, record.since_ms or AT_MS, record.until_ms)


def test_a_hundred_thousand_sources_are_remembered_in_32_megabytes() -> None:
    assert TABLE_BYTES <= 32 * 1024 * 1024
    table = PenaltyTable(SETS)
    keys = [Key(Kind.SOURCE, f"10.{n >> 16}.{n >> 8 & 255}.{n & 255}") for n in range(REMEMBERED)]
    for key in keys:
        table.update(key, one_more, AT_MS)
    forgotten = sum(table.read(key) == NEVER for key in keys)
    assert forgotten <= 10
    assert sum(1 for _ in table.all()) == REMEMBERED - forgotten
    assert table.clear() == REMEMBERED - forgotten
    table.close()


def test_a_hundred_thousand_logins_without_a_failure_take_two_megabytes() -> None:
    """The records of most users are never there, and are looked for at each login."""
    table = PenaltyTable(SETS)
    for number in range(REMEMBERED):
        assert table.read(Key(Kind.ACCOUNT, str(number))) == NEVER
    assert os.fstat(table.state.descriptor).st_blocks * 512 <= 2.2e6
    table.close()


def test_a_flood_of_sources_does_not_push_out_a_penalty() -> None:
    table = PenaltyTable(sets=1)
    worst = Key(Kind.ACCOUNT, "7")
    table.update(worst, lambda _: Record(9, AT_MS, AT_MS, AT_MS + 60_000), AT_MS)
    for number in range(1000):
        table.update(Key(Kind.SOURCE, f"source {number}"), one_more, AT_MS)
    assert table.read(worst).offences == 9
    table.close()


def test_processes_that_count_at_once_lose_nothing_and_one_that_is_stopped_blocks_nobody() -> None:
    table = PenaltyTable(sets=1)
    key = Key(Kind.SOURCE, "192.0.2.1")
    children = []
    for _ in range(4):
        pid = os.fork()
        if pid == 0:
            for _ in range(500):
                table.update(key, one_more, AT_MS)
            os._exit(0)
        children.append(pid)
    for pid in children:
        os.waitpid(pid, 0)
    assert table.read(key).offences == 2000
    ready, told = os.pipe()
    pid = os.fork()
    if pid == 0:  # stops inside a change, with the lock of the set

        def stop(record: Record) -> Record:
            os.write(told, b".")
            os.kill(os.getpid(), signal.SIGSTOP)
            return record

        table.update(key, stop, AT_MS)
        os._exit(0)
    os.read(ready, 1)
    os.waitpid(pid, os.WUNTRACED)
    table.update(key, one_more, AT_MS)
    assert table.read(key).offences == 2001
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
    table.update(key, one_more, AT_MS)
    assert table.read(key).offences == 2002
    table.close()
