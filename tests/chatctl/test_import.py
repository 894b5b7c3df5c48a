"""`chatctl import-chatserver`: sound tables, dirty tables, interruptions, and old clients on what came out."""

from __future__ import annotations

import contextlib
import json
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit

import pytest

from chatd.chatctl.import_legacy import LegacyImport, import_chatserver
from chatd.config.schema import Config, ServerOptions, StoreOptions
from chatd.config.urls import parse_mysql
from chatd.errors import BootError, Exit
from chatd.importer.legacy import LegacyDatabase
from chatd.importer.report import ImportReport
from chatd.importer.run import ImportSettings, run_import
from chatd.model import Role
from chatd.store.copy import TABLES, DestinationInUse, Row, StoreDump
from chatd.store.open import locate, open_dump
from tests.chatctl.legacy_server import LOOSE, TIME, OldDatabase, friend_request, group_chat, one_chat, ordinary
from tests.harness.chatserver import OldClient
from tests.harness.daemon import Daemon
from tests.harness.deadline import run, until
from tests.harness.mariadb import MariaDB
from tests.store.test_copy import Interrupted, Stop

NOW_MS = 1_800_000_000_000
SETTINGS = ImportSettings(20, lambda secret: f"hash of {secret}", NOW_MS)


def quiet(_what: str, _done: int, _total: int) -> None:
    """Nobody watches."""


@pytest.fixture(params=["sqlite", "mysql"])
def url(request: pytest.FixtureRequest, tmp_path: Path, mariadb: MariaDB) -> str:
    return f"sqlite:{tmp_path}/new.db" if request.param == "sqlite" else mariadb.url()


def imported(old: OldDatabase, url: str, file: Path | None = None, charset: str = "utf8mb4") -> ImportReport:
    report = ImportReport(file)
    tables = LegacyDatabase(parse_mysql(old.url), charset, lambda where: report.change(f"{where}: not UTF-8", where))
    with contextlib.closing(open_dump(locate(url, "/"), create=True)) as dump, contextlib.closing(report):
        run_import(tables, dump, SETTINGS, report, quiet)
    return report


def rows_of(url: str) -> dict[str, list[Row]]:
    with contextlib.closing(open_dump(locate(url, "/"), create=False)) as dump:
        dump.snapshot()
        return {table.name: list(dump.rows(table, ())) for table in TABLES}


# ---------------------------------------------------------------- sound tables


def test_everything_comes_over(mariadb: MariaDB, url: str) -> None:
    report = imported(ordinary(mariadb), url)
    assert (report.rejected, list(report.changed)) == ({}, ["friend: was in one list only, is now in both"])
    rows = rows_of(url)
    assert rows["user"] == [
        (13, "zhang san", "zhang san", "hash of 123456", NOW_MS, 0, "{}", 0, 0, "", 0, 0, 0, 0),
        (15, "李四", "李四", "hash of 666666", NOW_MS, 0, "{}", 0, 0, "", 0, 0, 0, 0),
        (19, "liu shuo", "liu shuo", "hash of 密码 ü", NOW_MS, 0, "{}", 0, 0, "", 0, 0, 0, 0),
        (21, "gao yang", "gao yang", "hash of x", NOW_MS, 0, "{}", 0, 0, "", 0, 0, 0, 0),
    ]
    assert [row[:3] for row in rows["friend"]] == [(13, 15, 1), (15, 13, 1), (15, 19, 1), (19, 15, 1), (21, 15, 0)]
    assert rows["team"] == [
        (1, "C++ chat project", "a 聊天 project", NOW_MS, 1, 1, 0, 0, 3),
        (4, "tennis", "", NOW_MS, 1, 1, 0, 0, 1),
    ]
    owner, member = int(Role.OWNER), int(Role.MEMBER)
    assert [row[:3] for row in rows["member"]] == [(1, 13, owner), (1, 15, member), (1, 19, member), (4, 21, owner)]
    assert rows["pair"] == [(1, 13, 15), (2, 15, 19)]
    assert [(row[1], row[2], row[3], row[8]) for row in rows["message"]] == [
        (1, 1, 13, "你好 李四"), (-1, 1, 13, "first"), (-1, 2, 13, "second"), (2, 1, 19, "hi"), (1, 2, 15, "back"),
    ]  # fmt: skip
    assert sorted(row[:3] for row in rows["cursor"]) == [
        (13, -1, 2), (13, 1, 1), (15, -1, 0), (15, 1, 0), (15, 2, 0), (19, -1, 1), (19, 2, 1), (21, -4, 0),
    ]  # fmt: skip


@pytest.mark.parametrize(("charset", "names"), [("gbk", "gbk"), ("utf8mb3", "gbk"), ("latin1", "latin1")])
def test_texts_that_were_stored_as_what_they_were_not(
    mariadb: MariaDB, tmp_path: Path, charset: str, names: str
) -> None:
    """The old server said SET NAMES gbk (or nothing) while its clients sent UTF-8. Only texts whose bytes make sense in
    that character set survived it there at all."""
    old = OldDatabase(mariadb, charset=charset, names=names)
    old.users([(1, "李四", "666666"), (2, "plain", "é")])
    report = imported(old, f"sqlite:{tmp_path}/new.db", charset=names)
    assert not report.changed
    assert [row[1:4] for row in rows_of(f"sqlite:{tmp_path}/new.db")["user"]] == [
        ("李四", "李四", "hash of 666666"),
        ("plain", "plain", "hash of é"),
    ]


def test_texts_that_are_no_utf8_are_read_as_what_the_operator_says(mariadb: MariaDB, tmp_path: Path) -> None:
    old = OldDatabase(mariadb, charset="latin1", names="latin1")
    old.fill("user", [(1, "J\xfcrgen".encode("latin1"), b"pw", "offline")])
    assert list(imported(old, f"sqlite:{tmp_path}/a.db", charset="latin1").changed) == ["user.name: not UTF-8"]
    assert not imported(old, f"sqlite:{tmp_path}/b.db").changed, "the database itself converts it"
    for name in "ab":
        assert rows_of(f"sqlite:{tmp_path}/{name}.db")["user"][0][1] == "Jürgen"


def test_numbers_go_on_above_the_old_ones(mariadb: MariaDB, url: str) -> None:
    old = ordinary(mariadb)
    old.users([(77, "gone", "x")])
    mariadb.execute(f"DELETE FROM {old.name}.user WHERE id = 77")
    imported(old, url)
    with contextlib.closing(open_dump(locate(url, "/"), create=False)) as dump:
        assert dump.counters() == {"user": 77, "team": 4, "invite": 0, "event": 0, "push_subscription": 0}


# ---------------------------------------------------------------- dirt


@pytest.fixture
def dirty(mariadb: MariaDB) -> OldDatabase:
    old = OldDatabase(mariadb, LOOSE, charset="utf8mb4")
    old.users(
        [
            (1, "alice", "a"), (2, "Alice", "b"), (3, "", "c"), (4, "x" * 30, "d"), (5, "12345", "e"), (6, None, None),
            (7, " #tab\tbed ", "g"), (8, "ALICE", ""), (9, "alice-2", "i"), (9, "later", "j"), (0, "zero", "k"),
            (-4, "minus", "l"), (10, "ﬁx", "m"), (11, "fix", "n"), (12, "😀", "o"),
        ]
    )  # fmt: skip
    old.fill("friend", [(1, 2), (2, 1), (1, 2), (1, 1), (1, 99), (None, 2), (9, 10)])
    old.fill(
        "allgroup", [(1, "ok", None), (2, "", "d"), (3, "empty", ""), (4, "two", ""), (4, "dup", ""), (0, "z", "")]
    )
    old.fill(
        "groupuser",
        [
            (1, 2, "creator"), (1, 1, "normal"), (1, 1, "creator"), (1, 99, "normal"), (2, 12, None), (2, 9, "normal"),
            (4, 1, "Creator"), (4, 9, "creator"), (4, 2, "odd"), (77, 1, "normal"), (None, 1, "normal"),
        ],
    )  # fmt: skip
    return old


def test_names_that_cannot_stay(dirty: OldDatabase, url: str) -> None:
    report = imported(dirty, url)
    assert {row[0]: row[1] for row in rows_of(url)["user"]} == {
        1: "alice", 2: "Alice-2-2", 3: "user-3", 4: "x" * 20, 5: "12345-5", 6: "user-6", 7: "tabbed", 8: "ALICE-8",
        9: "alice-2", 10: "ﬁx", 11: "fix-11", 12: "😀",
    }  # fmt: skip
    assert {rule: count for rule, count in report.changed.items() if rule.startswith("user:")} == {
        "user: has no password and cannot log in before it is given one": 2,
        "user: the name differs from another one only in case or form": 3,
        "user: the name is empty": 2,
        "user: the name is too long": 1,
        "user: the name is a number, which would hide an id": 1,
        "user: the name has characters that are not allowed": 1,
    }
    assert {row[0]: row[3] for row in rows_of(url)["user"] if row[0] in (6, 8, 9)} == {6: "", 8: "", 9: "hash of i"}


def test_what_points_nowhere_is_left_out_and_kept(dirty: OldDatabase, url: str, tmp_path: Path) -> None:
    file = tmp_path / "rejected"
    report = imported(dirty, url, file)
    assert report.rejected == {
        "user: the id occurs twice": 1,
        "user: the id is not a positive number": 2,
        "friend: a user cannot be their own friend": 1,
        "friend: there is no such account": 2,
        "allgroup: the id occurs twice": 1,
        "allgroup: the id is not a positive number": 1,
        "allgroup: the group has no members": 1,
        "groupuser: there is no such account": 1,
        "groupuser: there is no such group": 2,
    }
    kept = [json.loads(line) for line in file.read_text().splitlines()]
    assert len(kept) == sum(report.rejected.values())
    assert {"table": "friend", "why": "there is no such account", "userid": 1, "friendid": 99} in kept
    assert file.stat().st_mode & 0o777 == 0o600
    assert not any("password" in one for one in kept)


def test_groups_have_one_owner(dirty: OldDatabase, url: str) -> None:
    report = imported(dirty, url)
    rows = rows_of(url)
    owner, admin, member = (int(role) for role in (Role.OWNER, Role.ADMIN, Role.MEMBER))
    assert rows["team"] == [
        (1, "ok", "", NOW_MS, 1, 1, 0, 0, 2),
        (2, "group-2", "d", NOW_MS, 1, 1, 0, 0, 2),
        (4, "two", "", NOW_MS, 1, 1, 0, 0, 3),
    ]
    assert [row[:3] for row in rows["member"]] == [
        (1, 1, owner), (1, 2, admin), (2, 9, owner), (2, 12, member), (4, 1, owner), (4, 2, member), (4, 9, admin),
    ]  # fmt: skip
    told = list(report.lines())
    assert "    2 'group-2': 9" in told, "a group that had no owner is named"
    assert (
        report.changed["allgroup: had several creators; the one with the lowest id owns it, the others are admins"] == 2
    )
    assert [row[:3] for row in rows["friend"]] == [(1, 2, 1), (2, 1, 1), (9, 10, 1), (10, 9, 1)]
    assert report.changed["friend: occurred several times"] == 1


BROKEN = [
    (1, "no json", "it is not JSON"),
    (1, one_chat(2, 1, "x" * 600)[:500], "it is not JSON"),
    (1, "[1]", "it is not a JSON object"),
    (1, "", "it is not JSON"),
    (1, None, "it is not JSON"),
    (1, "[" * 400, "it is not JSON"),
    (1, '{"msgid": 6, "id": 2, "toid": 1}', "it has no text"),
    (1, '{"msgid": 6, "id": 2, "toid": 1, "msg": "\\ud800"}', "its text is not valid Unicode"),
    (1, '{"msgid": true}', "its msgid is not that of an offline message"),
    (1, '{"msgid": 8, "from": 2, "flag": true}', "it only reports the answer to a friend request"),
    (1, one_chat(99, 1, "ghost"), "its sender does not exist"),
    (99, one_chat(2, 99, "to nobody"), "its recipient does not exist"),
    (None, one_chat(2, 1, "to nobody"), "its recipient does not exist"),
    (1, group_chat(2, 77, "nowhere"), "its group does not exist"),
    (12, group_chat(2, 1, "outside"), "its recipient is not a member of the group"),
    (1, group_chat(1, 1, "own"), "its recipient is its sender"),
    (1, friend_request(99, 1), "its sender does not exist"),
    (1, friend_request(1, 1), "a user cannot be their own friend"),
    (1, friend_request(2, 1), "the two are friends already"),
]


def test_offline_messages_that_cannot_come_over(dirty: OldDatabase, tmp_path: Path) -> None:
    good = one_chat(2, 1, "good")
    dirty.fill("offlinemessage", [row[:2] for row in BROKEN] + [(1, good)])
    file = tmp_path / "rejected"
    url = f"sqlite:{tmp_path}/new.db"
    imported(dirty, url, file)
    kept = [json.loads(line) for line in file.read_text().splitlines()]
    told = [(one["userid"], one["why"]) for one in kept if one["table"] == "offlinemessage"]
    assert sorted(map(str, told)) == sorted(str((user, why)) for user, _, why in BROKEN)
    assert [row[8] for row in rows_of(url)["message"]] == ["good"]


@pytest.mark.parametrize(
    ("time", "kept"),
    [
        (TIME, True), ("2021-03-04", True), ("", False), ("yesterday", False), ("0001-01-01 00:00:00", False),
        ("2999-01-01 00:00:00", False), (5, False), (None, False),
    ],
)  # fmt: skip
def test_times(mariadb: MariaDB, tmp_path: Path, time: str, kept: bool) -> None:
    old = ordinary(mariadb)
    mariadb.execute(f"DELETE FROM {old.name}.offlinemessage")
    old.fill("offlinemessage", [(13, one_chat(15, 13, "x", time))])
    report = imported(old, f"sqlite:{tmp_path}/new.db")
    (message,) = rows_of(f"sqlite:{tmp_path}/new.db")["message"]
    assert (message[5] != NOW_MS) is kept
    assert bool(report.changed["offlinemessage: its time is not plausible; it has that of the import"]) is not kept


def test_equal_messages_of_a_group_stay_apart(mariadb: MariaDB, url: str) -> None:
    """The same text twice in one second is two messages; a member who lacks an earlier one is given what followed."""
    old = ordinary(mariadb)
    mariadb.execute(f"DELETE FROM {old.name}.offlinemessage")
    hello, more = group_chat(13, 1, "hello"), group_chat(19, 1, "more")
    old.fill("offlinemessage", [(15, hello), (19, hello), (15, hello), (19, hello), (13, more), (15, more)])
    report = imported(old, url)
    rows = rows_of(url)
    assert [(row[2], row[3], row[8]) for row in rows["message"]] == [
        (1, 13, "hello"),
        (2, 13, "hello"),
        (3, 19, "more"),
    ]
    assert [row[:3] for row in rows["cursor"] if row[1] == -1] == [(13, -1, 2), (15, -1, 0), (19, -1, 0)]
    assert not any("may have it already" in rule for rule in report.changed)


def test_a_member_is_rather_given_a_message_twice_than_never(mariadb: MariaDB, tmp_path: Path) -> None:
    old = ordinary(mariadb)
    mariadb.execute(f"DELETE FROM {old.name}.offlinemessage")
    old.fill("offlinemessage", [(15, group_chat(13, 1, "one")), (19, group_chat(13, 1, "two"))])
    report = imported(old, f"sqlite:{tmp_path}/new.db")
    assert report.changed["offlinemessage: a group's message is given to a member who may have it already"] == 1
    cursors = rows_of(f"sqlite:{tmp_path}/new.db")["cursor"]
    assert [row[:3] for row in cursors if row[1] == -1] == [(13, -1, 2), (15, -1, 0), (19, -1, 1)]


# ---------------------------------------------------------------- not at once


def test_an_import_that_is_interrupted_anywhere_continues(dirty: OldDatabase, url: str, tmp_path: Path) -> None:
    dirty.fill("offlinemessage", [(1, one_chat(2, 1, str(number))) for number in range(20)])
    whole = imported(dirty, f"sqlite:{tmp_path}/whole.db")
    ended, report = 0, ImportReport(None)
    for calls in range(1, 100):
        report = ImportReport(None)
        tables = LegacyDatabase(parse_mysql(dirty.url), "utf8mb4", lambda where: None)
        try:
            with contextlib.closing(open_dump(locate(url, "/"), create=True)) as dump:
                broken: StoreDump = Interrupted(dump, calls)  # type: ignore[assignment]
                run_import(tables, broken, SETTINGS, report, quiet)
            break
        except Stop:
            ended += 1
    assert ended > 5
    assert list(report.lines()) == list(whole.lines()), "the report is whole, whoever did the work"
    assert rows_of(url) == rows_of(f"sqlite:{tmp_path}/whole.db")


def test_a_store_with_accounts_is_refused(mariadb: MariaDB, url: str) -> None:
    old = ordinary(mariadb)
    imported(old, url)
    with pytest.raises(DestinationInUse, match="is not empty"):
        imported(old, url)


def test_what_is_no_legacy_database_is_refused(mariadb: MariaDB, tmp_path: Path) -> None:
    empty = mariadb.url()
    with pytest.raises(BootError, match="has no table user, friend, allgroup, groupuser, offlinemessage") as caught:
        LegacyDatabase(parse_mysql(empty), "utf8mb4", lambda where: None)
    assert caught.value.exit_code is Exit.CONFIG
    with pytest.raises(BootError, match="Access denied") as caught:
        LegacyDatabase(parse_mysql(empty.replace("pass%2Fword", "wrong")), "utf8mb4", lambda where: None)
    assert (caught.value.exit_code, "wrong" in str(caught.value)) == (Exit.UNAVAILABLE, False)


# ---------------------------------------------------------------- the command, and the daemon on its result


@pytest.fixture
def daemon(tmp_path: Path) -> Iterator[Callable[..., Daemon]]:
    made: list[Daemon] = []

    def one(**tables: dict[str, object]) -> Daemon:
        made.append(Daemon(tmp_path / f"d{len(made)}", **tables))
        return made[-1]

    yield one
    assert [complaint for one in made for complaint in one.discard()] == []


def command(
    daemon: Daemon, old: OldDatabase, *arguments: str, program: tuple[str, ...] = ("chatd.chatctl",)
) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", *program, "-c", daemon.config_file, "import-chatserver", "env:OLD", *arguments],
        cwd=daemon.root, env={**daemon.env, "OLD": old.url}, stdin=subprocess.DEVNULL, capture_output=True, text=True,
        timeout=100, check=False,
    )  # fmt: skip


@pytest.mark.parametrize("kind", ["sqlite", "mysql"])
def test_old_clients_find_everything(mariadb: MariaDB, daemon: Callable[..., Daemon], kind: str) -> None:
    old = ordinary(mariadb)
    old.close()
    server = daemon(store={"url": "sqlite:chatd.db" if kind == "sqlite" else mariadb.url()})
    dry = command(server, old, "--dry-run")
    assert (dry.returncode, dry.stdout.splitlines()[-1]) == (0, "nothing was written"), dry.stderr
    done = command(server, old)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[0] == (
        "imported: 4 accounts, 2 friendships, 2 groups, 4 memberships, 5 messages, 3 copies of group messages, "
        "1 friend requests"
    )
    assert "123456" not in done.stdout + done.stderr
    server.start()
    run(visit(server.ports["chatserver"]))


async def visit(port: int) -> None:
    clients = {number: OldClient() for number in (15, 19, 13)}
    for number, password in ((15, "666666"), (19, "密码 ü"), (13, "123456")):
        client = clients[number]
        await client.open(port)
        client.put({"msgid": 1, "id": number, "password": password})
        assert (await client.answer())["errno"] == 0
    si, shuo, san = clients.values()
    assert (si.name, [one["name"] for one in si.friends]) == ("李四", ["zhang san", "liu shuo"])
    (group,) = si.groups
    assert (group["id"], group["groupname"], group["groupdesc"]) == (1, "C++ chat project", "a 聊天 project")
    assert [json.loads(one)["role"] for one in group["users"]] == ["creator", "normal", "normal"]
    assert [one["from"] for one in si.requests] == [21]
    await until(10, "what waited for li si", lambda: len(si.shown) == 4)
    shown = {(one["msgid"], one["id"], one["msg"], one["time"]) for one in si.shown}
    assert shown == {
        (6, 13, "你好 李四", TIME), (11, 13, "first", TIME), (11, 13, "second", TIME), (6, 19, "hi", TIME),
    }  # fmt: skip
    await until(10, "what waited for the others", lambda: shuo.shown and san.shown)
    assert [one["msg"] for one in shuo.shown] == ["second"]
    assert [(one["msg"], one["time"]) for one in san.shown] == [("back", "2021-03-05 00:00:00")]
    shuo.put({"msgid": 6, "id": 19, "name": "liu shuo", "toid": 15, "msg": "new", "time": TIME})
    await until(10, "a new message", lambda: si.shown[-1]["msg"] == "new")
    stranger = OldClient()
    await stranger.open(port)
    stranger.put({"msgid": 4, "name": "new one", "password": "x"})
    assert (await stranger.answer())["id"] == 22
    for client in (*clients.values(), stranger):
        client.check()
        client.close()


def test_killed_among_the_accounts_it_goes_on(mariadb: MariaDB, daemon: Callable[..., Daemon]) -> None:
    """kill -9 in the third batch of a hundred accounts: the first two are there."""
    old = OldDatabase(mariadb)
    old.users((number, f"user{number}", f"secret{number}") for number in range(1, 351))
    server = daemon()

    def accounts() -> int:
        with contextlib.closing(sqlite3.connect(f"file:{server.root}/state/chatd.db?mode=ro", uri=True)) as db:
            return int(db.execute("SELECT count(*) FROM user").fetchone()[0])

    early = command(server, old)
    assert early.returncode == Exit.TRY_AGAIN, early.stderr
    assert "Stop the old server first, or add --even-if-running" in early.stderr
    first = command(server, old, "--even-if-running", program=("tests.chatctl.killed", "user", "3"))
    assert (first.returncode, accounts()) == (-9, 200), first.stderr
    assert "the legacy server seems to run: its database is used by chatd@" in first.stderr
    refused = server.ctl("user", "list")
    assert (refused.returncode, "import-chatserver from" in refused.stderr) == (Exit.CONFIG, True)
    second = command(server, old, "--even-if-running")
    assert (second.returncode, second.stdout.splitlines()[0]) == (0, "imported: 350 accounts"), second.stderr
    assert accounts() == 350
    old.close()
    run(log_in(server.start().ports["chatserver"], (1, 200, 201, 350)))


async def log_in(port: int, numbers: tuple[int, ...]) -> None:
    for number in numbers:
        client = OldClient()
        await client.open(port)
        client.put({"msgid": 1, "id": number, "password": f"secret{number}"})
        assert (await client.answer())["name"] == f"user{number}"
        client.close()


def test_errors_of_the_command_are_one_line(mariadb: MariaDB, tmp_path: Path, daemon: Callable[..., Daemon]) -> None:
    config = Config(server=ServerOptions(state_dir=str(tmp_path)), store=StoreOptions(url="sqlite:new.db"))
    old = ordinary(mariadb)
    parts = urlsplit(old.url)
    stranger = urlunsplit(parts._replace(netloc=f"u:top-secret@127.0.0.1:{parts.port}"))
    for url, code, text in (
        ("http://x/y", Exit.CONFIG, "is not mysql://"),
        (urlunsplit(parts._replace(path="/nothing")), Exit.UNAVAILABLE, "Unknown database"),
        (stranger, Exit.UNAVAILABLE, "Access denied"),
    ):
        with pytest.raises(BootError) as caught:
            import_chatserver(config, LegacyImport(url))
        told = str(caught.value)
        assert (caught.value.exit_code, text in told, "\n" in told, "secret" in told) == (code, True, False, False)
    unknown = daemon().ctl("import-chatserver", "env:NOWHERE")
    assert (unknown.returncode, unknown.stderr) == (
        Exit.CONFIG,
        "chatctl: source: the environment has no variable NOWHERE\n",
    )
    refused = daemon().ctl("import-chatserver", stranger)
    warning, told = refused.stderr.splitlines()
    assert (refused.returncode, refused.stdout, "Access denied" in told) == (Exit.UNAVAILABLE, "", True)
    assert "every user of this host" in warning
