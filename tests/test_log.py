"""Records: their shape, their limits, and that they never hurt."""

from __future__ import annotations

import json
import logging
import mmap
import os
import subprocess
import sys
import timeit
from datetime import datetime
from pathlib import Path

import msgspec
import psutil
import pytest

from chatd import log
from chatd.config.schema import LogOptions
from chatd.scoreboard import ROW_BYTES, Row


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
    assert [one["event"] for one in records(folder / "error.log")] == ["again"] * log.REPEATS + ["another"]
    assert row.errors == 51
    monkeypatch.setattr(log, "REPEAT_WINDOW_S", -1.0)
    log.tick()
    told = records(folder / "normal.log")
    assert [(one["event"], one["error"], one["times"]) for one in told] == [("repeated error held back", "again", 45)]
    log.get().error("again")
    assert records(folder / "error.log")[-1]["event"] == "again"


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
