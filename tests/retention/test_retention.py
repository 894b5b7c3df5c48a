"""Retention and erasure on real daemons: under load, with workers that die, on one store of two hosts; and each guard
switched off, which its attack must notice."""

from __future__ import annotations

import asyncio
import itertools
import os
import signal
import stat
import subprocess
import zipfile
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest

from chatd.config.urls import parse_mysql
from chatd.errors import Exit
from chatd.model import User
from chatd.store.mysql.tables import open_tables as open_mysql
from tests.faults.ordeal import acquit, everybody_in, more_talk, ordeal
from tests.harness.crowd import Crowd
from tests.harness.daemon import Daemon
from tests.harness.deadline import run, until, wait_until
from tests.harness.mariadb import MariaDB
from tests.retention import attacks
from tests.retention.attacks import SECRET, age, fill, filled, rows, slot_0, store_of, switch_on
from tests.retention.planted import BUGS
from tests.store.steps import done

Make = Callable[..., Daemon]
QUICK = ("-m", "tests.retention.planted", "quick")
FOUND_BY = {
    "young_ones_too": attacks.delete_only_what_is_old,
    "the_last_one_too": attacks.let_numbers_go_on,
    "erased_texts_stay_in_the_file": attacks.leave_nothing_of_an_erased_text,
    "the_clock_is_believed": attacks.delete_nothing_because_a_clock_is_wrong,
}


@pytest.mark.parametrize("attack", FOUND_BY.values(), ids=lambda attack: attack.__name__)
def test_data_ends_as_it_should(make_daemon: Make, attack: Callable[[Daemon], None]) -> None:
    attack(make_daemon(workers=2, entry=QUICK))


@pytest.mark.parametrize("bug", FOUND_BY)
def test_a_planted_bug_is_found(make_daemon: Make, bug: str) -> None:
    daemon = make_daemon(workers=2, entry=("-m", "tests.retention.planted", bug))
    with pytest.raises(AssertionError):
        FOUND_BY[bug](daemon)


def test_every_planted_bug_is_looked_for() -> None:
    """sessions_wait_for_ever: tests.core.test_retention shows the same without a daemon."""
    assert set(FOUND_BY) | {"sessions_wait_for_ever"} == set(BUGS)


# ---------------------------------------------------------------- under load


def old_texts(daemon: Daemon) -> int:
    query = "SELECT count(*) FROM message WHERE state <> 5 AND sent_at_ms < ?"
    return int(rows(daemon, query, attacks.now_ms() - 20 * attacks.DAY_MS)[0][0])


def test_retention_under_load_with_workers_that_die(
    make_daemon: Make, record_property: Callable[[str, object], None]
) -> None:
    """What everybody has received grows old and is deleted while they talk on; the worker that deletes is killed in
    between. Nothing younger is lost, and numbers go on."""
    daemon = make_daemon(workers=2, entry=QUICK).start()
    daemon.expect_error("worker died")
    numbers: list[dict[int, int]] = []

    async def fault(crowd: Crowd) -> None:
        for number in range(2):
            await more_talk(crowd, 150)
            await until(20, "something has grown old", lambda: age(daemon, 30) and old_texts(daemon))
            before = old_texts(daemon)
            await asyncio.to_thread(switch_on, daemon, rows_per_s=1000 + number)
            await until(20, "some are deleted", lambda before=before: old_texts(daemon) < before)
            os.kill(slot_0(daemon)["pid"], signal.SIGKILL)
            numbers.append(attacks.last_numbers(daemon))
            await asyncio.to_thread(daemon.wait_ready)
            await everybody_in(crowd)
        await more_talk(crowd, 100)

    verdict = run(ordeal(daemon, fault, half_silent=True), 150)
    acquit(verdict, record_property, at_least=500)
    numbers.append(attacks.last_numbers(daemon))
    for earlier, later in itertools.pairwise(numbers):
        assert all(later.get(conversation, 0) >= seq for conversation, seq in earlier.items())
    position = "SELECT 1 FROM meta WHERE key IN ('retained_private', 'retained_groups') AND value > 0"
    wait_until(20, "rows that have index entries are deleted", lambda: any(rows(daemon, position)))
    for conversation, seqs in attacks.remaining(daemon).items():
        assert seqs == list(range(seqs[0], seqs[-1] + 1)), f"holes in {conversation}"


@pytest.mark.slow
def test_two_hosts_on_one_database_take_turns(make_daemon: Make, mariadb: MariaDB) -> None:
    url = mariadb.url()
    with closing(open_mysql(parse_mysql(url), 5.0, create=True)) as tables:
        alice, _, group = fill(tables, 1500, 50)
        hosts = [make_daemon(entry=QUICK, store={"url": url}, retention=attacks.DAYS) for _ in range(2)]
        for host in hosts:
            host.launch()
        for host in hosts:
            host.wait_ready()
            host.expect_error("worker died")

        def left() -> int:
            (count,) = tables.connection.execute("SELECT count(*) FROM message").fetchone()
            return int(count)

        wait_until(30, "some are deleted", lambda: left() < 3000)
        os.kill(slot_0(hosts[0])["pid"], signal.SIGKILL)
        wait_until(60, "the old ones are gone", lambda: left() == 100)
        talk = done(tables, lambda inside: inside.history.conversation_of(alice.id, 2, 0))
        for conversation in (talk, -group):
            messages = tables.history.messages(alice.id, conversation, 0, 0, 1000)
            assert [message.seq for message in messages] == list(range(1501, 1551))
        assert sum(host.status()["totals"]["retention_deleted"] for host in hosts) <= 3000


# ---------------------------------------------------------------- export and erase


def test_everything_of_a_person_is_exported_while_the_server_runs(make_daemon: Make, tmp_path: Path) -> None:
    daemon = make_daemon(workers=1, entry=QUICK)
    with filled(daemon) as tables:
        alice, bob, group = fill(tables, 0, 700)
        done(tables, lambda inside: inside.accounts.set_profile(alice.id, {"mail": "a@example.org"}))
        done(tables, lambda inside: inside.groups.leave(bob.id, group))
    daemon.start()
    archive = tmp_path / "alice.zip"
    made = daemon.ctl("user", "export", "alice", "--to", str(archive))
    assert made.returncode == 0, made.stderr
    assert stat.S_IMODE(archive.stat().st_mode) == 0o600
    with zipfile.ZipFile(archive) as opened:
        assert opened.testzip() is None
        assert {"README.txt", "account.json", "conversations.json", "left-groups.jsonl"} < set(opened.namelist())
        account = opened.read("account.json").decode()
    for text in ("alice", "a@example.org", '"owner"'):
        assert text in account
    (private,) = rows(daemon, "SELECT id FROM pair")
    lines = attacks.everything_of(archive, f"conversations/private-{bob.id}.jsonl")
    assert private
    assert [line["seq"] for line in lines] == list(range(1, 701))
    assert lines[699] == lines[699] | {"from": "alice", "to": "bob", "text": f"{SECRET} 699", "fp": "p699"}
    assert len(attacks.everything_of(archive, f"conversations/group-{group}.jsonl")) == 700
    of_bob = tmp_path / "bob.zip"
    assert daemon.ctl("user", "export", "bob", "--to", str(of_bob)).returncode == 0
    assert len(attacks.everything_of(of_bob, "left-groups.jsonl")) == 700
    assert any(record.get("security") == "account_exported" for record in daemon.records())


def test_a_person_is_exported_and_erased_on_mysql(make_daemon: Make, mariadb: MariaDB, tmp_path: Path) -> None:
    """By chatctl beside a running server, on the other kind of store."""
    url = mariadb.url()
    with closing(open_mysql(parse_mysql(url), 5.0, create=True)) as tables:
        alice, bob, group = fill(tables, 0, 600)
        done(tables, lambda inside: inside.accounts.set_profile(alice.id, {"mail": "a@example.org"}))
        daemon = make_daemon(workers=2, entry=QUICK, store={"url": url}).start()
        archive = tmp_path / "alice.zip"
        made = daemon.ctl("user", "export", "alice", "--to", str(archive))
        assert made.returncode == 0, made.stderr
        with zipfile.ZipFile(archive) as opened:
            assert "a@example.org" in opened.read("account.json").decode()
        for name, seqs in ((f"private-{bob.id}", 600), (f"group-{group}", 600)):
            lines = attacks.everything_of(archive, f"conversations/{name}.jsonl")
            assert [line["seq"] for line in lines] == list(range(1, seqs + 1))
        erased = daemon.ctl("user", "erase", "alice", "--yes")
        assert erased.returncode == 0, erased.stderr

        def texts(user: int) -> int:
            query = "SELECT count(*) FROM message WHERE sender_id = ? AND body <> ''"
            (count,) = tables.connection.execute(query, (user,)).fetchone()
            return int(count)

        assert (texts(alice.id), texts(bob.id)) == (0, 600)
        query = "SELECT count(*) FROM erasure"
        wait_until(20, "the server ends it", lambda: tables.connection.execute(query).fetchone() == (0,))
        assert tables.accounts.ever(alice.id) == User(alice.id, f"erased user {alice.id}")
        talk = done(tables, lambda inside: inside.history.conversation_of(alice.id, bob.id, 0))
        assert [one.seq for one in tables.history.messages(bob.id, talk, 0, 0, 1000)] == list(range(1, 601))


@pytest.mark.parametrize("there", ["file", "link"])
def test_an_export_never_overwrites_or_follows(make_daemon: Make, tmp_path: Path, there: str) -> None:
    daemon = make_daemon(entry=QUICK)
    with filled(daemon) as tables:
        fill(tables, 0, 1)
    other, target = tmp_path / "other", tmp_path / "target"
    other.write_text("precious")
    if there == "link":
        target.symlink_to(other)
    else:
        target.write_text("precious")
    refused = daemon.ctl("user", "export", "alice", "--to", str(target))
    assert refused.returncode == Exit.CANNOT_CREATE
    assert (other.read_text(), target.read_text()) == ("precious", "precious")
    fresh = tmp_path / "fresh"
    assert daemon.ctl("user", "export", "nobody", "--to", str(fresh)).returncode == 1
    assert not fresh.exists()


def test_a_deleted_account_can_be_erased_later_by_its_number(make_daemon: Make) -> None:
    daemon = make_daemon(workers=1, entry=QUICK)
    with filled(daemon) as tables:
        alice, bob, _ = fill(tables, 0, 20)
    daemon.start()
    deleted = daemon.ctl("user", "del", "alice")
    assert (deleted.returncode, f"chatctl user erase --id {alice.id}" in deleted.stderr) == (0, True), deleted.stderr
    of_alice = ("SELECT count(*) FROM message WHERE sender_id = ? AND body <> ''", alice.id)
    assert rows(daemon, *of_alice)[0][0] > 0
    for wrong in (("alice",), ("--id", "999"), ("--id", "0"), (str(alice.id),)):
        assert daemon.ctl("user", "erase", *wrong, "--yes").returncode == 1, wrong
    for both in (("bob", "--id", str(alice.id)), ("--resume", "--id", str(alice.id)), ()):
        assert daemon.ctl("user", "erase", *both, "--yes").returncode == Exit.USAGE, both
    assert rows(daemon, *of_alice)[0][0] > 0
    erased = daemon.ctl("user", "erase", "--id", str(alice.id), "--yes")
    assert erased.returncode == 0, erased.stderr
    assert rows(daemon, *of_alice) == [(0,)]
    assert rows(daemon, "SELECT name FROM user WHERE id = ?", alice.id) == [(f"erased user {alice.id}",)]
    assert rows(daemon, "SELECT count(*) > 0 FROM message WHERE sender_id = ? AND body <> ''", bob.id) == [(1,)]


def test_an_erasure_asks_first_and_a_server_finishes_what_is_interrupted(make_daemon: Make) -> None:
    daemon = make_daemon(workers=1, entry=QUICK)
    with filled(daemon) as tables:
        alice, _, _ = fill(tables, 0, 3000)
    daemon.start()
    refused = daemon.ctl("user", "erase", "alice")
    assert refused.returncode == Exit.CONFIG
    assert "--yes" in refused.stderr
    assert rows(daemon, "SELECT count(*) FROM erasure") == [(0,)]
    with subprocess.Popen(
        [os.sys.executable, "-m", "chatd.chatctl", "-c", str(daemon.config_file), "user", "erase", "alice", "--yes"],
        cwd=daemon.root, env=daemon.env, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    ) as erasing:  # fmt: skip
        wait_until(20, "it has begun", lambda: rows(daemon, "SELECT 1 FROM user WHERE name LIKE 'erased%'"))
        erasing.kill()
    query = "SELECT count(*) FROM message WHERE sender_id = ? AND body <> ''"
    wait_until(20, "the server has finished it", lambda: rows(daemon, query, alice.id) == [(0,)])
    wait_until(20, "nothing is pending", lambda: rows(daemon, "SELECT count(*) FROM erasure") == [(0,)])
    erased = [record for record in daemon.records() if record.get("security") == "account_erased"]
    assert not any("alice" in str(record) for record in erased)
    assert store_of(daemon).exists()
