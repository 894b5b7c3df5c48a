"""Records: their shape, their limits, and that they never hurt."""

from __future__ import annotations

import ast
import json
import logging
import mmap
import os
import subprocess
import sys
import time
import timeit
from datetime import datetime
from pathlib import Path

import msgspec
import psutil
import pytest

from chatd import log
from chatd.config.schema import LogOptions
from chatd.repeats import WINDOW_S
from chatd.scoreboard import ROW_BYTES, Row

TOP = Path(__file__).parents[1]


@pytest.fixture
def row():
    return Row(memoryview(mmap.mmap(-1, ROW_BYTES)).cast("q"))


@pytest.fixture(autouse=True)
def put_back():
    root = logging.getLogger()
    kept = root.handlers[:], root.level
    yield
    log.setup(LogOptions(format="text"), "-")
    root.handlers[:], level = kept
    root.setLevel(level)


@pytest.fixture
def folder(tmp_path, row):
    log.setup(LogOptions(), str(tmp_path), row=row, worker=7)
    return tmp_path


def pass_a_window(monkeypatch):
    later = time.monotonic() + WINDOW_S + 1
    monkeypatch.setattr(time, "monotonic", lambda: later)


def records(path: Path) -> list[dict]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_levels_go_to_their_files(folder, row):
    logger = log.get(part="test")
    logger.debug("unseen")
    logger.info("one", n=1)
    logger.warning("two")
    logger.error("three")
    logger.critical("four")
    normal, error = records(folder / "normal.log"), records(folder / "error.log")
    assert [(one["level"], one["event"]) for one in normal] == [("NORMAL", "one"), ("WARNING", "two")]
    assert [(one["level"], one["event"]) for one in error] == [("ERROR", "three"), ("FATAL", "four")]
    assert list(normal[0]) == ["time", "level", "pid", "worker", "event", "part", "n"]
    assert (normal[0]["pid"], normal[0]["worker"]) == (os.getpid(), 7)
    assert msgspec.convert(normal[0]["time"], datetime).tzinfo is not None
    assert len(normal[0]["time"]) == len("2024-01-01T00:00:00.000Z")
    assert row.errors == 2
    assert (folder / "normal.log").stat().st_mode & 0o777 & ~0o640 == 0


def test_levels_can_change(folder):
    log.set_level("DEBUG")
    log.get().debug("seen")
    log.set_level("FATAL")
    log.get().error("unseen")
    log.get().critical("seen too")
    assert [one["event"] for one in records(folder / "normal.log")] == ["seen"]
    assert [one["event"] for one in records(folder / "error.log")] == ["seen too"]


@pytest.mark.parametrize(
    "fields",
    [
        {"long": "x" * 100_000},
        {"many": ["y" * 50] * 2000},
        {"quotes": '"\\\n' * 20_000},
        {f"field{number}": "z" * 50 for number in range(3000)},
        {"wide": "é" * 40_000},
    ],
)
def test_a_record_has_16_kib_at_most(folder, fields):
    log.get().info("big", short="kept", **fields)
    data = (folder / "normal.log").read_bytes()
    assert len(data) <= log.RECORD_BYTES
    record = json.loads(data)
    assert record["event"] == "big"
    assert "cut" in data.decode()


@pytest.mark.parametrize(
    "value", ["\ud800", 10**30, float("nan"), object(), {1: {2}}, b"\xff", Path("/x"), ValueError("v"), None]
)
def test_odd_values_are_written(folder, value):
    log.get().info("odd", value=value)
    assert records(folder / "normal.log")[0]["event"] == "odd"


def test_a_traceback_is_a_field(folder):
    try:
        raise ZeroDivisionError("why")
    except ZeroDivisionError:
        log.get().exception("failed", session=3)
    record = records(folder / "error.log")[0]
    assert "ZeroDivisionError: why" in record["exception"]
    assert record["session"] == 3


def test_fields_cannot_take_the_place_of_ours(folder):
    log.get().info("mine", level="theirs", pid="theirs")
    record = records(folder / "normal.log")[0]
    assert (record["level"], record["pid"], record["level_"]) == ("NORMAL", os.getpid(), "theirs")


def test_repeated_errors_are_held_back(folder, row, monkeypatch):
    for number in range(50):
        log.get().error("again", number=number)
    log.get().error("another")
    assert [one["event"] for one in records(folder / "error.log")] == ["again"] * 5 + ["another"]
    assert (row.errors, row.log_held_back) == (51, 45)
    pass_a_window(monkeypatch)
    log.tick()
    told = records(folder / "normal.log")
    assert [(one["event"], one["record"], one["times"]) for one in told] == [("records held back", "again", 45)]
    log.get().error("again")
    assert records(folder / "error.log")[-1]["event"] == "again"


def test_a_client_is_held_back_in_records_that_name_it(folder, row, monkeypatch):
    for port in range(50):
        log.get().warning("connection failed", peer=f"192.0.2.1:{port}")
        log.get().warning("no client causes this")
        log.get().debug("nor this")
    log.get().warning("connection failed", peer="[2001:db8::1]:5000")
    log.get().warning("connection failed", peer="192.0.2.1:1", hold=None)
    written = records(folder / "normal.log")
    assert [one["peer"] for one in written if "peer" in one] == [
        *(f"192.0.2.1:{port}" for port in range(5)),
        "[2001:db8::1]:5000",
        "192.0.2.1:1",
    ]
    assert sum(one["event"] == "no client causes this" for one in written) == 50
    pass_a_window(monkeypatch)
    log.tick()
    (told,) = [one for one in records(folder / "normal.log") if one["event"] == "records held back"]
    assert (told["record"], told["client"], told["times"]) == ("connection failed", "192.0.2.1", 45)
    assert row.log_held_back == 45


def test_users_behind_one_address_do_not_hold_each_other_back(folder):
    for user in range(1, 11):
        log.get().info("disconnected", peer="192.0.2.1:5", user=user)
    assert len(records(folder / "normal.log")) == 10


HOSTILE = [
    'x","source":"192.0.2.66',
    "x\n[WARNING][2026-01-01T00:00:00.000Z][1] login failed security=login_failed source=192.0.2.66",
    "x source=192.0.2.66",
    "x\r\nsource=192.0.2.66",
    "\x1b[2J\x9b31m\x07\x00\x7f",
    "\u202e\u2028\u2029\x85\ufeff\u200b",
    "\ud800 \udfff",
    "\U000e0001\U0010ffff",
    "'", '"', "\\", "", " ", "=", "x' source=192.0.2.66 y='",
    "n" * 100_000,
]  # fmt: skip


@pytest.mark.parametrize("text", HOSTILE)
def test_a_text_of_a_stranger_cannot_break_a_json_record(folder, text):
    log.get().warning("login failed", source="192.0.2.1", name=text, number=7)
    data = (folder / "normal.log").read_bytes().decode()
    assert data.endswith("\n")
    assert data[:-1].isprintable()
    record = json.loads(data)
    assert (record["source"], record["number"], record["pid"]) == ("192.0.2.1", 7, os.getpid())
    if text.isprintable() and len(text) < 1000:
        assert record["name"] == text


@pytest.mark.parametrize("text", HOSTILE)
def test_a_text_of_a_stranger_cannot_break_a_text_record(capfd, text):
    log.setup(LogOptions(format="text"), "-")
    log.get().warning("login failed", source="192.0.2.1", name=text, number=7)
    out = capfd.readouterr().err
    assert out.endswith("\n")
    assert out[:-1].isprintable()
    assert len(out.encode()) <= log.RECORD_BYTES + 1
    if len(text) > 1000:
        return
    head, _, rest = out[:-1].partition(" login failed source=192.0.2.1 name=")
    assert head.startswith("[WARNING][")
    shown = rest.removesuffix(" number=7")
    assert shown != rest
    if shown != text:
        assert ast.literal_eval(shown) == text
    else:
        assert not set(text) & set(" =")


def test_a_traceback_cannot_pass_for_a_record_in_text(capfd):
    log.setup(LogOptions(format="text"), "-")
    try:
        raise ValueError("x\n[WARNING][2026-01-01T00:00:00.000Z][1] login failed\x1b[2J")
    except ValueError:
        log.get().exception("failed")
    lines = capfd.readouterr().err.splitlines()
    assert lines[0].startswith("[ERROR][")
    assert [line for line in lines[1:] if not line.startswith("    ")] == []
    assert all(line.isprintable() for line in lines)


def test_a_full_disk_drops_and_counts(folder, row):
    opened = next(one.fd for one in psutil.Process().open_files() if one.path == str(folder / "normal.log"))
    kept, full = os.dup(opened), os.open("/dev/full", os.O_WRONLY)
    os.dup2(full, opened)
    log.get().info("lost")
    os.dup2(kept, opened)
    os.close(kept)
    os.close(full)
    log.get().info("kept")
    assert row.log_dropped == 1
    assert [one["event"] for one in records(folder / "normal.log")] == ["kept"]


def test_a_half_written_record_does_not_spoil_the_next(tmp_path, row):
    """RLIMIT_FSIZE cuts a write short, as a disk does that fills up within it."""
    code = (
        "import mmap, resource, signal, sys\nfrom chatd import log\nfrom chatd.config.schema import LogOptions\n"
        "from chatd.scoreboard import ROW_BYTES, Row\nrow = Row(memoryview(mmap.mmap(-1, ROW_BYTES)).cast('q'))\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\nlog.setup(LogOptions(), sys.argv[1], row=row)\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (400, resource.RLIM_INFINITY))\n"
        "for n in range(4): log.get().info('one', n=n, text='x' * 50)\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))\n"
        "log.get().info('after')\nprint(row.log_dropped)"
    )
    ended = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path)], capture_output=True, text=True, timeout=20, check=True
    )
    lines = (tmp_path / "normal.log").read_text().splitlines()
    whole = [json.loads(line)["event"] for line in lines if line.endswith("}")]
    assert whole == ["one", "one", "after"]
    assert len(lines) == 4
    assert int(ended.stdout) == 2


def test_a_rotation_is_noticed_before_the_next_record(tmp_path, row):
    log.setup(LogOptions(), str(tmp_path), row=row, master_row=row, worker="master")
    log.get().info("before")
    (tmp_path / "normal.log").rename(tmp_path / "normal.log.1")
    log.get().info("still there")
    row.log_generation += 1
    log.get().info("after")
    assert [one["event"] for one in records(tmp_path / "normal.log.1")] == ["before", "still there"]
    assert [one["event"] for one in records(tmp_path / "normal.log")] == ["after"]


def test_a_symbolic_link_is_not_followed(tmp_path):
    (tmp_path / "normal.log").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(OSError, match=r"normal\.log"):
        log.setup(LogOptions(), str(tmp_path))
    assert not (tmp_path / "elsewhere").exists()


def test_text_for_people(capfd):
    log.setup(LogOptions(format="text"), "-")
    log.get().warning("something happened", name="with space", count=3, newline="a\nb")
    line = capfd.readouterr().err
    assert line.startswith("[WARNING][20")
    assert line.endswith(f"][{os.getpid()}] something happened name='with space' count=3 newline='a\\nb'\n")


def test_json_where_nobody_sits(capfd):
    log.setup(LogOptions(), "-", worker=1)
    log.get().info("hello")
    assert json.loads(capfd.readouterr().err)["event"] == "hello"


def test_libraries_are_heard(folder):
    logging.getLogger("asyncio").error("task failed: %s", "why")
    logging.getLogger("asyncio").info("chatter")
    record = records(folder / "error.log")[0]
    assert (record["library"], record["text"]) == ("asyncio", "task failed: why")
    assert records(folder / "normal.log") == []


def test_what_is_not_logged_costs_nothing(folder):
    logger = log.get()
    per_call = min(timeit.repeat(lambda: logger.debug("x", a=1), number=5000, repeat=20)) / 5000
    assert per_call < 1e-6


PRINTS = """
import os, sys
sys.path.insert(0, os.getcwd())
from chatd import log
from chatd.config.schema import LogOptions
log.setup(LogOptions(format=sys.argv[1], level="DEBUG"), "-")
for level in ("debug", "info", "warning", "error", "critical"):
    getattr(log.get(), level)("an event")
try:
    1 / 0
except ZeroDivisionError:
    log.get().exception("broken")
"""


def printed(stderr: int, form: str, journal: str) -> None:
    environment = {**os.environ, "JOURNAL_STREAM": journal}
    subprocess.run(
        [sys.executable, "-c", PRINTS, form], stderr=stderr, cwd=TOP, env=environment, timeout=30, check=True
    )


@pytest.mark.parametrize("form", ["json", "text"])
def test_in_the_journal_every_line_has_its_priority(tmp_path, form):
    with (tmp_path / "journal").open("wb") as journal:
        found = os.fstat(journal.fileno())
        printed(journal.fileno(), form, f"{found.st_dev}:{found.st_ino}")
    lines = (tmp_path / "journal").read_text().splitlines()
    assert [line[:3] for line in lines[:5]] == ["<7>", "<6>", "<4>", "<3>", "<2>"]
    assert {line[:3] for line in lines[5:]} == {"<3>"}
    assert (len(lines) > 6) == (form == "text"), "a traceback has several lines"


@pytest.mark.parametrize("journal", ["", "1:2", "no:number", "8"])
def test_elsewhere_no_line_has_one(tmp_path, journal):
    """Also where standard error was redirected after systemd had set the variable."""
    with (tmp_path / "file").open("wb") as file:
        printed(file.fileno(), "text", journal)
    assert not [line for line in (tmp_path / "file").read_text().splitlines() if line.startswith("<")]


def test_on_a_terminal_no_line_has_one():
    ours, theirs = os.openpty()
    found = os.fstat(theirs)
    printed(theirs, "auto", f"{found.st_dev + 1}:{found.st_ino}")
    assert os.read(ours, 65536).startswith(b"[DEBUG]")
    os.close(ours)
    os.close(theirs)
