"""A whole chatd on MySQL: what a start says when the store cannot be used, accounts by chatctl, and what a worker
holds open."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Callable
from urllib.parse import quote

import pytest

from chatd.config.urls import parse_mysql
from chatd.errors import Exit
from tests.harness.daemon import Daemon
from tests.harness.deadline import wait_until
from tests.harness.mariadb import PASSWORD, MariaDB

SECRET = quote(PASSWORD, safe="")


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda url: url.replace(SECRET, "wrong"), "Access denied"),
        (lambda url: f"{url}_not", "Unknown database"),
        (lambda url: re.sub(r":\d+/", ":1/", url), "Can't connect"),
    ],
)
def test_a_start_without_the_store_says_why_and_keeps_the_password(
    make_daemon: Callable[..., Daemon], mariadb: MariaDB, change: Callable[[str], str], reason: str
) -> None:
    daemon = make_daemon(store={"url": change(mariadb.url())}, timeouts={"boot_wait_s": 0})
    daemon.expect_error(reason)
    daemon.launch()
    assert daemon.wait_gone() == Exit.UNAVAILABLE
    said = daemon.output.read_text()
    assert reason in said
    everything = said + daemon.tail(10**6)
    assert PASSWORD not in everything
    assert SECRET not in everything


def test_a_start_waits_for_a_database_that_comes_late(make_daemon: Callable[..., Daemon], own_mariadb: MariaDB) -> None:
    daemon = make_daemon(store={"url": own_mariadb.url()}, workers=2, log={"level": "DEBUG"})
    own_mariadb.kill()
    daemon.launch()
    wait_until(30, "waiting", lambda: "waiting up to 60 s" in daemon.output.read_text())
    assert not daemon.answers("echo")
    own_mariadb.start()
    daemon.wait_ready()
    assert PASSWORD not in daemon.output.read_text()


def test_a_schema_of_a_newer_chatd_ends_the_start(make_daemon: Callable[..., Daemon], mariadb: MariaDB) -> None:
    url = mariadb.url()
    make_daemon(store={"url": url}).start().stop()
    mariadb.execute(f"UPDATE `{parse_mysql(url).database}`.meta SET value = '99' WHERE `key` = 'schema'")
    daemon = make_daemon(store={"url": url})
    daemon.expect_error("newer")
    daemon.launch()
    assert daemon.wait_gone() == Exit.CONFIG


def add(daemon: Daemon, name: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "chatd.chatctl", "-c", str(daemon.config_file), "user", "add", name],
        cwd=daemon.root, env=daemon.env, input="secret\n", capture_output=True, text=True, timeout=30, check=False,
    )  # fmt: skip


def test_accounts_are_changed_beside_a_running_server(make_daemon: Callable[..., Daemon], mariadb: MariaDB) -> None:
    url = mariadb.url()
    daemon = make_daemon(workers=2, store={"url": url, "readers": 3}).start()
    made = add(daemon, "alice")
    assert made.returncode == 0, made.stderr
    assert "alice" in daemon.ctl("user", "list").stdout
    assert "taken" in add(daemon, "ALICE").stderr
    database = parse_mysql(url).database
    held = "SELECT count(*) FROM information_schema.processlist WHERE db = %s"
    assert mariadb.execute(held, database)[0][0] <= 2 * (1 + 3)
    assert daemon.stop() == 0
    assert mariadb.execute(held, database) == [(0,)]
