"""`chatctl import-chatserver` finds out the character set, notices a server that still runs, and can be taken back."""

from __future__ import annotations

import contextlib
import json
import socket
import sqlite3
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from chatd.errors import Exit
from chatd.importer.charset import Guess, guess
from tests.chatctl.legacy_server import OldDatabase, one_chat, ordinary
from tests.harness import forked
from tests.harness.daemon import Daemon
from tests.harness.deadline import run
from tests.harness.mariadb import MariaDB
from tests.harness.person import Town

Make = Callable[..., Daemon]
NAMES = ("李四", "张三丰", "王五", "中文", "用户名字")


def take_over(daemon: Daemon, url: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    source = [] if "--undo" in arguments else ["env:OLD"]
    command = ["-c", str(daemon.config_file), "import-chatserver", *source, *arguments]
    return forked.run(command, cwd=daemon.root, env={**daemon.env, "OLD": url}, limit_s=100)


def names_in(daemon: Daemon) -> list[str]:
    with contextlib.closing(sqlite3.connect(daemon.root / "state" / "chatd.db")) as db:
        return [row[0] for row in db.execute("SELECT name FROM user ORDER BY id")]


def old_of(server: MariaDB, charset: str, names: str, users: tuple[str, ...] = NAMES) -> OldDatabase:
    old = OldDatabase(server, charset=charset, names=names)
    old.users([(number, name, "secret") for number, name in enumerate(users, 1)])
    return old


# ---------------------------------------------------------------- the character set


@pytest.mark.parametrize(
    ("charset", "names", "wanted"),
    [
        ("gbk", "gbk", "gbk"),  # as the C++ server makes it: SET NAMES gbk, clients send UTF-8
        pytest.param("utf8mb3", "gbk", "gbk", marks=pytest.mark.slow),
        pytest.param("utf8mb4", "gbk", "gbk", marks=pytest.mark.slow),
        ("latin1", "latin1", "latin1"),  # no SET NAMES
        pytest.param("utf8mb4", "latin1", "latin1", marks=pytest.mark.slow),
        ("utf8mb4", "utf8mb4", "utf8mb4"),
        pytest.param("gbk", "utf8mb4", "utf8mb4", marks=pytest.mark.slow),  # the database converts, and gives them back
    ],
)
def test_the_character_set_is_found_and_names_are_shown(
    make_daemon: Make, mariadb: MariaDB, charset: str, names: str, wanted: str
) -> None:
    users = tuple(name for name in NAMES if names != "gbk" or _survives(name))
    old = old_of(mariadb, charset, names, users)
    old.close()
    daemon = make_daemon()
    dry = take_over(daemon, old.url, "--dry-run")
    assert dry.returncode == 0, dry.stderr
    assert f"chatctl: character set: {wanted}, because " in dry.stderr
    assert f"chatctl:   as {wanted}: {', '.join(users[:5])}" in dry.stderr
    assert take_over(daemon, old.url).returncode == 0
    assert names_in(daemon) == list(users)


def _survives(name: str) -> bool:
    """Whether the bytes of the name make sense in GBK, so that the old database kept them."""
    try:
        return name.encode().decode("gbk").encode("gbk") == name.encode()
    except UnicodeError:
        return False


def test_western_names_are_what_they_are(make_daemon: Make, mariadb: MariaDB) -> None:
    old = OldDatabase(mariadb, charset="latin1", names="latin1")
    for number, name in enumerate(("Jürgen", "André", "Zoë", "Çelik"), 1):
        old.fill("user", [(number, name.encode("latin1"), b"pw", "offline")])
    old.close()
    daemon = make_daemon()
    done = take_over(daemon, old.url)
    assert done.returncode == 0, done.stderr
    assert "character set: utf8mb4, because 4 texts outside ASCII make sense only as they are" in done.stderr
    assert names_in(daemon) == ["Jürgen", "André", "Zoë", "Çelik"]


def test_in_doubt_nothing_is_imported_until_the_operator_says_which(make_daemon: Make, mariadb: MariaDB) -> None:
    """Some were written by a server that said one thing, some by one that said another."""
    old = old_of(mariadb, "utf8mb4", "latin1", NAMES[:3])
    old.server.execute(f"INSERT INTO {old.name}.user VALUES (9, '赵六', 'x', 'offline'), (10, '钱七', 'x', 'offline')")
    old.close()
    daemon = make_daemon()
    for dry in ((), ("--dry-run",)):
        refused = take_over(daemon, old.url, *dry)
        assert (refused.returncode, refused.stdout) == (Exit.USAGE, "")
        assert "character set: not certain: 3 of 5 texts outside ASCII are UTF-8 when read as latin1" in refused.stderr
        assert "as latin1: 李四, 张三丰, 王五" in refused.stderr
        assert "say which character set is right: --charset utf8mb4, or --charset gbk" in refused.stderr
    assert not (daemon.root / "state" / "chatd.db").exists()
    done = take_over(daemon, old.url, "--charset", "latin1")
    assert done.returncode == 0, done.stderr
    assert names_in(daemon)[:3] == list(NAMES[:3])


def test_what_the_operator_says_is_questioned_if_it_looks_wrong(make_daemon: Make, mariadb: MariaDB) -> None:
    old = old_of(mariadb, "utf8mb4", "latin1")
    old.close()
    dry = take_over(make_daemon(), old.url, "--dry-run", "--charset", "utf8mb4")
    assert dry.returncode == 0
    assert "character set: utf8mb4, as you say, although all 5 texts outside ASCII are UTF-8 when" in dry.stderr


@pytest.mark.parametrize("count", [1, 2])
def test_two_names_are_not_enough(count: int) -> None:
    """In GBK the bytes of these characters happen to be UTF-8, too."""
    names = ["模", "劝模"][:count]

    def read(charset: str) -> list[bytes]:
        if charset == "latin1":  # the database puts "?" for what this character set does not have
            return [b"?" * len(name) for name in names]
        return [name.encode(charset if charset == "gbk" else "utf-8") for name in names]

    assert guess(read).charset == ""
    names.append("李四")
    assert guess(read).charset == ""


def test_without_texts_outside_ascii_there_is_nothing_to_decide() -> None:
    found = guess(lambda charset: [b"alice", b"bob", b""])
    assert found == Guess("utf8mb4", "all texts are ASCII, which is the same in every character set", {"utf8mb4": []})


# ---------------------------------------------------------------- the old server


def test_while_the_old_server_seems_to_run_nothing_is_imported(make_daemon: Make, mariadb: MariaDB) -> None:
    old, daemon = ordinary(mariadb), make_daemon()
    refused = take_over(daemon, old.url)
    assert refused.returncode == Exit.TRY_AGAIN
    assert "the legacy server seems to run: its database is used by chatd@" in refused.stderr
    assert "Stop the old server first, or add --even-if-running" in refused.stderr
    dry = take_over(daemon, old.url, "--dry-run")
    assert (dry.returncode, "Stop it before the import" in dry.stderr) == (0, True)
    old.close()
    with socket.create_server(("127.0.0.1", 0)) as listening:
        place = f"127.0.0.1:{listening.getsockname()[1]}"
        refused = take_over(daemon, old.url, "--old-server", place)
        assert refused.returncode == Exit.TRY_AGAIN
        assert f"the legacy server seems to run: {place} answers" in refused.stderr
    assert take_over(daemon, old.url, "--old-server", "nonsense").returncode == Exit.USAGE
    done = take_over(daemon, old.url, "--old-server", place)
    assert done.returncode == 0, done.stderr


# ---------------------------------------------------------------- the report


def test_the_report_says_what_became_of_every_table_and_name(make_daemon: Make, mariadb: MariaDB) -> None:
    old = ordinary(mariadb)
    old.users([(100 + number, f"long {'long ' * 8}{number} ", "x") for number in range(20)])
    old.fill("offlinemessage", [(13, "no json")])
    old.close()
    done = take_over(make_daemon(), old.url)
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    renamed = [line for line in lines if "long long" in line and "is now" in line]
    assert len(renamed) == 20, "all of them, not only some"
    counted = {line.split()[0]: line.split()[1:] for line in lines if line.split() and line.split()[0] in
               ("user", "friend", "allgroup", "groupuser", "offlinemessage")}  # fmt: skip
    assert counted["user"] == ["24", "24", "accounts", "0"]
    assert counted["friend"] == ["3", "2", "friendships", "0"]
    assert counted["offlinemessage"] == ["8", "5", "messages", "1"]
    assert any("argon2id" in line for line in lines)


# ---------------------------------------------------------------- again, and back


@pytest.mark.parametrize("twin", ["sqlite", "mysql"])
def test_an_import_can_be_repeated_and_undone_while_nobody_has_done_anything(
    make_daemon: Make, mariadb: MariaDB, twin: str
) -> None:
    old = ordinary(mariadb)
    old.close()
    store = {"url": mariadb.url()} if twin == "mysql" else {}
    daemon = make_daemon(store=store)
    assert take_over(daemon, old.url).returncode == 0
    again = take_over(daemon, old.url)
    assert (again.returncode, "nothing was done" in again.stdout) == (0, True), again.stderr
    assert "since then nothing was changed: it can be undone (--undo) and repeated" in again.stdout
    other = ordinary(mariadb)
    other.close()
    refused = take_over(daemon, other.url)
    assert refused.returncode == Exit.CANNOT_CREATE
    assert "or undo that first (--undo)" in refused.stderr

    # Users log in and receive what waited for them: that is nothing they would miss.
    daemon.start()
    town = Town(daemon, {"zhang san": 13, "李四": 15}, "666666")

    async def look() -> None:
        peer = await town.on_mobile("李四")
        packet = await peer.find(type=2)
        peer.acknowledge(packet)
        peer.close()

    run(look())
    daemon.stop()
    undone = take_over(daemon, "", "--undo")
    assert undone.returncode == 0, undone.stderr
    if twin == "sqlite":
        (kept,) = (daemon.root / "state").glob("chatd.db.imported-*Z")
        assert str(kept) in undone.stdout
        assert not (daemon.root / "state" / "chatd.db").exists()
    assert take_over(daemon, old.url).returncode == 0
    assert "李四" in daemon.ctl("user", "list").stdout
    assert daemon.ctl("verify").returncode == 0


def test_what_people_have_done_since_is_not_undone_without_force(make_daemon: Make, mariadb: MariaDB) -> None:
    old = ordinary(mariadb)
    old.close()
    daemon = make_daemon()
    assert take_over(daemon, old.url).returncode == 0
    assert daemon.ctl("user", "add", "newcomer", input="a good password\n").returncode == 0
    daemon.start()
    town = Town(daemon, {}, "666666")

    async def talk() -> None:
        peer = await town.on_mobile("李四")
        peer.say("李四", "zhang san", "new", "1")
        await peer.find(type=4)
        peer.close()

    run(talk())
    refused = take_over(daemon, "", "--undo")
    assert refused.returncode == Exit.TRY_AGAIN, "the server is running"
    daemon.stop()
    refused = take_over(daemon, "", "--undo")
    assert refused.returncode == Exit.CANNOT_CREATE
    assert "user: 4 rows when it was imported, 5 now" in refused.stderr
    assert "message: 5 rows when it was imported, 6 now" in refused.stderr
    assert "Nothing was undone; --force undoes it nevertheless" in refused.stderr
    again = take_over(daemon, old.url)
    assert (again.returncode, "since then: user: 4 rows then, 5 now" in again.stdout) == (0, True)
    forced = take_over(daemon, "", "--undo", "--force")
    assert forced.returncode == 0, forced.stderr
    (kept,) = (daemon.root / "state").glob("chatd.db.imported-*Z")
    assert kept.stat().st_size > 0


def test_a_store_that_was_not_imported_is_not_undone(make_daemon: Make) -> None:
    daemon = make_daemon()
    assert daemon.ctl("user", "add", "alice", input="a good password\n").returncode == 0
    refused = take_over(daemon, "", "--undo")
    assert refused.returncode == Exit.CANNOT_CREATE
    assert "was not made by import-chatserver" in refused.stderr
    assert take_over(daemon, "", "--undo", "env:OLD").returncode == Exit.USAGE


def test_orders_are_recorded_without_the_password(make_daemon: Make, mariadb: MariaDB) -> None:
    old = ordinary(mariadb)
    old.close()
    daemon = make_daemon()
    (daemon.root / "log").mkdir()
    assert take_over(daemon, old.url).returncode == 0
    orders = [one for one in daemon.records("normal.log") if one.get("order") == "import-chatserver"]
    assert [one["result"] for one in orders] == ["begun", "ok"]
    assert orders[0]["arguments"] == {"source": "env:OLD"}
    assert "pass/word" not in json.dumps(daemon.records())


def test_messages_take_part_in_the_guess(make_daemon: Make, mariadb: MariaDB, tmp_path: Path) -> None:
    old = OldDatabase(mariadb, charset="utf8mb4", names="latin1")
    old.users([(1, "alice", "x"), (2, "bob", "x")])
    texts = [json.dumps(json.loads(one_chat(1, 2, text)), ensure_ascii=False) for text in ("你好", "在吗", "再见")]
    old.fill("offlinemessage", [(2, text) for text in texts])
    old.close()
    daemon = make_daemon()
    done = take_over(daemon, old.url)
    assert (done.returncode, "character set: latin1" in done.stderr) == (0, True), done.stderr
    with contextlib.closing(sqlite3.connect(daemon.root / "state" / "chatd.db")) as db:
        assert [row[0] for row in db.execute("SELECT body FROM message ORDER BY id")] == ["你好", "在吗", "再见"]
