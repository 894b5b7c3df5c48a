"""Many processes on one MySQL: no number is missing or given twice, one fp is one message, no deadlock reaches
anybody (P3), and nothing acknowledged is lost when the server is killed under them (P1, P2)."""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
import time
from collections import Counter
from typing import Any

import pytest

from chatd.config.urls import parse_mysql
from chatd.store.mysql import tables as mysql_tables
from chatd.store.mysql.tables import MysqlTables
from tests.harness.deadline import wait_until
from tests.harness.mariadb import MariaDB
from tests.store.steps import make, team

PATIENT_S = 30.0
PROCESSES = 4
MESSAGES = 2000


class Writer:
    def __init__(self, url: str, name: str, count: int, limit_s: float) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.store.mysql_writer", url, name, str(count), str(limit_s)],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )  # fmt: skip

    def ready(self) -> None:
        assert self._process.stdout is not None
        assert self._process.stdout.readline() == "ready\n"

    def go(self) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write("go\n")
        self._process.stdin.flush()

    @property
    def at_work(self) -> bool:
        return self._process.poll() is None

    def told(self) -> dict[str, Any]:
        out, err = self._process.communicate(timeout=110)
        assert self._process.returncode == 0, err
        found: dict[str, Any] = json.loads(out)
        return found

    def clear(self) -> None:
        self._process.kill()
        self._process.communicate()


@contextlib.contextmanager
def writing(url: str, count: int, limit_s: float, processes: int = PROCESSES) -> Any:
    writers: list[Writer] = []
    try:
        writers += [Writer(url, f"process {number}", count, limit_s) for number in range(processes)]
        for writer in writers:
            writer.ready()
        for writer in writers:
            writer.go()
        yield writers
    finally:
        for writer in writers:
            writer.clear()


def opened(url: str) -> contextlib.closing[MysqlTables]:
    return contextlib.closing(mysql_tables.open_tables(parse_mysql(url), PATIENT_S, create=True))


def furnish(url: str) -> None:
    with opened(url) as tables:
        users = make(tables, "alice", "bob", "carol", "dave")
        for _ in range(4):
            team(tables, *users)


def check(server: MariaDB, url: str, told: list[dict[str, Any]]) -> None:
    """What was answered is what is stored, and every conversation is numbered 1, 2, 3 …"""
    assert [line for one in told for line in one["wrong"]] == []
    database = parse_mysql(url).database
    rows = server.execute(f"SELECT conversation, seq, fp, id FROM `{database}`.message ORDER BY conversation, seq")
    by_fp = {fp: (conversation, seq) for conversation, seq, fp, _ in rows}
    assert len(by_fp) == len(rows), "one fp is one message"
    answers = [answer for one in told for answer in one["answers"]]
    assert [answer for answer in answers if by_fp.get(answer[2]) != (answer[0], answer[1])] == []
    assert {answer[2] for answer in answers} == by_fp.keys()
    last = dict(server.execute(f"SELECT id, last FROM `{database}`.conversation"))
    for conversation, count in Counter(row[0] for row in rows).items():
        mine = [row for row in rows if row[0] == conversation]
        assert [seq for _, seq, _, _ in mine] == list(range(1, count + 1))
        assert [number for *_, number in mine] == sorted(number for *_, number in mine), "ids rise with seq"
        assert last[conversation] == count


def test_processes_write_the_same_conversations_at_once(mariadb: MariaDB) -> None:
    url = mariadb.url()
    furnish(url)
    with writing(url, MESSAGES, PATIENT_S) as writers:
        told = [writer.told() for writer in writers]
    assert [one["refused"] for one in told] == [0] * PROCESSES
    check(mariadb, url, told)
    fresh = Counter(fp for one in told for _, _, fp, is_fresh in one["answers"] if is_fresh)
    assert set(fresh.values()) == {1}
    assert sum(fresh.values()) == PROCESSES * MESSAGES - (PROCESSES - 1) * MESSAGES // 10


@pytest.mark.parametrize("rounds", [3, pytest.param(25, marks=[pytest.mark.slow, pytest.mark.timeout(900)])])
def test_a_server_that_is_killed_loses_nothing_it_has_committed(own_mariadb: MariaDB, rounds: int) -> None:
    url = own_mariadb.url()
    furnish(url)
    refused = 0
    with writing(url, 400 * rounds, 2.0, 2) as writers:
        killed = 0
        database = parse_mysql(url).database
        authors = f"SELECT count(DISTINCT body) FROM `{database}`.message WHERE body <> 'shared'"
        wait_until(20, "both have begun", lambda: own_mariadb.execute(authors) == [(2,)])
        while killed < rounds and all(writer.at_work for writer in writers):
            _wait_for_growth(own_mariadb, database)
            own_mariadb.restart()
            killed += 1
        told = [writer.told() for writer in writers]
    refused += sum(one["refused"] for one in told)
    check(own_mariadb, url, told)
    assert killed >= 2
    assert refused > 0, "somebody was writing when it died"


def _wait_for_growth(server: MariaDB, database: str) -> None:
    count = f"SELECT count(*) FROM `{database}`.message"
    before = server.execute(count)
    ends = time.monotonic() + 20
    while time.monotonic() < ends and server.execute(count) == before:
        time.sleep(0.02)


def test_many_open_an_empty_database_at_once(mariadb: MariaDB) -> None:
    url = mariadb.url()
    with writing(url, 0, PATIENT_S, 6) as writers:
        assert [writer.told()["answers"] for writer in writers] == [[]] * 6
    with opened(url) as tables:
        assert tables.accounts.all() == []
