"""`chatctl trace`: the way of a message through workers, from the logs."""

from __future__ import annotations

import asyncio
import gzip
import json
import os
import shutil
import signal
from pathlib import Path
from typing import Any

import pytest

from chatd.chatctl.show import trace_log
from chatd.chatctl.show.trace_log import Traced
from chatd.errors import BootError, Exit
from tests.chatctl.show.conftest import shown
from tests.harness.deadline import run, until, wait_until
from tests.harness.person import Person, Town

pytestmark = pytest.mark.xdist_group("trace")
"""They share a daemon."""

SECRET = "a text that nobody may find in a log"


async def ctl(town: Town, *arguments: str) -> Any:
    return await asyncio.to_thread(town.daemon.ctl, *arguments)


async def ask(town: Town, cmd: str, **more: Any) -> dict[str, Any]:
    """On the control socket, as chatctl does."""
    return await asyncio.to_thread(lambda: town.daemon.request(cmd, **more))


def records(town: Town) -> list[Traced]:
    return trace_log.read(trace_log.files_of(str(town.daemon.root / "log")))


def steps(town: Town, what: str) -> list[str]:
    return [one.trace for one in trace_log.of_message(records(town), what)]


async def worker_of(town: Town, name: str) -> int:
    found = (await ask(town, "clients", query={"user": name}))["clients"]
    return int(found[0]["worker"])


async def on_other_worker(town: Town, person: Person) -> Person:
    """A person whose session is on another worker than this one's."""
    mine = await worker_of(town, person.name)
    for _ in range(40):
        other = Person(town, await town.newcomer("bob"), "acking")
        await other.arrive()
        if await worker_of(town, other.name) != mine:
            return other
    raise AssertionError("everybody came to the same worker")


def test_the_way_of_a_message_across_workers_and_wires(town: Town) -> None:
    async def story() -> None:
        alice = Person(town, await town.newcomer("alice"), "mobile")
        await alice.arrive()
        bob = await on_other_worker(town, alice)
        assert (await ctl(town, "trace", "--on", alice.name, "--for", "1h")).returncode == 0
        fp = alice.post(bob.name, SECRET)
        await alice.told(fp)
        await until(10, "bob has it", lambda: bob.seen)
        expected = {"accepted", "stored", "published", "arrived", "given", "acknowledged"}
        await until(10, "every step is in the log", lambda: expected <= set(steps(town, fp)), 0.05)
        found = (await asyncio.to_thread(shown, town, "trace", fp))["steps"]
        order = [one["trace"] for one in found if one["trace"] in expected]
        assert order.index("accepted") < order.index("stored") < order.index("given") < order.index("acknowledged")
        workers = {one["trace"]: one["worker"] for one in found}
        assert workers["accepted"] == workers["stored"] != workers["given"]
        message = next(one["message"] for one in found if one["trace"] == "stored")
        assert steps(town, message) == [one["trace"] for one in found]
        for who in (alice.name, str(town.ids[alice.name])):
            by_user = (await asyncio.to_thread(shown, town, "trace", who))["steps"]
            assert {one["trace"] for one in by_user} >= expected
        told = await ctl(town, "trace", message)
        assert f"message {message}, fp {fp}, from {town.ids[alice.name]} to {town.ids[bob.name]}" in told.stdout
        assert not any(SECRET in record for record in map(str, town.daemon.records()))
        order_record = next(one for one in town.daemon.records() if one.get("order") == "trace")
        assert order_record["arguments"]["user"] == alice.name
        assert order_record["uid"] == os.geteuid()
        await alice.leave()
        await bob.leave()

    run(story())


def test_a_refused_message_and_a_stranger_to_tracing(town: Town) -> None:
    async def story() -> None:
        carol = Person(town, await town.newcomer("carol"), "mobile")
        dave = Person(town, await town.newcomer("dave"), "mobile")
        await carol.arrive()
        await dave.arrive()
        await ask(town, "trace", user=carol.name, for_s=60)
        fp = carol.post("nobody at all", "text")
        await carol.told(fp)
        found = trace_log.of_message(records(town), fp)
        assert [one.trace for one in found] == ["accepted", "refused"]
        assert found[1].reason == "unknown_recipient"
        untraced = dave.post(dave.name, "text")
        await dave.told(untraced)
        told = await ctl(town, "trace", untraced)
        assert told.returncode == 1
        assert "nothing is logged about" in told.stderr
        assert (await ctl(town, "trace", "--off", carol.name)).returncode == 0
        later = carol.post(dave.name, "text")
        await carol.told(later)
        assert steps(town, later) == []
        await carol.leave()
        await dave.leave()

    run(story())


@pytest.mark.slow
def test_tracing_ends_by_itself(town: Town) -> None:
    async def story() -> None:
        erin = Person(town, await town.newcomer("erin"), "mobile")
        await erin.arrive()
        await ask(town, "trace", user=erin.name, for_s=1)
        for _ in range(100):
            if not (await ask(town, "list-traces"))["traced"]:
                break
            await asyncio.sleep(0.1)

        async def untraced() -> bool:
            fp = erin.post(erin.name, "text")
            await erin.told(fp)
            return not steps(town, fp)

        for _ in range(60):  # the workers look once a second
            if await untraced():
                break
            await asyncio.sleep(0.1)
        else:
            raise AssertionError("it is still traced")
        await erin.leave()

    run(story())


def test_a_new_worker_traces_too(town: Town) -> None:
    async def story() -> None:
        frank = Person(town, await town.newcomer("frank"), "mobile")
        await ask(town, "trace", user=frank.name, for_s=60)
        town.daemon.expect_error("worker died")
        before = set(town.daemon.workers())
        for pid in before:
            os.kill(pid, signal.SIGKILL)
        await until(20, "new workers", lambda: not before & set(town.daemon.workers()) and town.daemon.all_ready(), 0.1)
        await frank.arrive()
        fp = frank.post(frank.name, "text")
        await frank.told(fp)
        assert "stored" in steps(town, fp)
        await frank.leave()

    run(story())


def test_a_trace_goes_on_after_an_upgrade(town: Town) -> None:
    async def story() -> None:
        ivan = Person(town, await town.newcomer("ivan"), "mobile")
        await ask(town, "trace", user=ivan.name, for_s=600)
        done = await ctl(town, "upgrade")
        assert done.returncode == 0, done.stderr
        assert ivan.name in [one["name"] for one in (await ask(town, "list-traces"))["traced"]]
        await ivan.arrive()
        fp = ivan.post(ivan.name, "text")
        await ivan.told(fp)
        assert "stored" in steps(town, fp)
        await ivan.leave()

    run(story())


def test_it_is_written_whatever_the_level_is(town: Town) -> None:
    async def story() -> None:
        grace = Person(town, await town.newcomer("grace"), "mobile")
        await grace.arrive()
        await ask(town, "trace", user=grace.name, for_s=60)
        await ask(town, "log-level", level="ERROR")
        try:
            fp = grace.post(grace.name, "text")
            await grace.told(fp)
            assert "stored" in steps(town, fp)
        finally:
            await ask(town, "log-level", level="NORMAL")
        await grace.leave()

    run(story())


def test_nobody_is_not_traced(town: Town) -> None:
    told = town.daemon.ctl("trace", "--on", "nobody at all")
    assert (told.returncode, told.stderr) == (1, "chatctl: nobody at all: no such user\n")
    assert town.daemon.ctl("trace", "--on", "x", "--for", "2d").returncode == Exit.USAGE


def test_no_more_than_sixteen_users_are_traced(town: Town) -> None:
    async def story() -> None:
        names = [await town.newcomer("many") for _ in range(17)]
        replies = [await ask(town, "trace", user=name, for_s=60) for name in names]
        refused = [one for one in replies if not one["ok"]]
        assert refused
        assert all("the limit" in one["error"] and one["exit"] == Exit.TRY_AGAIN for one in refused)
        for name in names:
            await ask(town, "trace", user=name, for_s=0)

    run(story())


# ---------------------------------------------------------------- reading logs


def test_rotated_and_compressed_files_are_read_in_order(tmp_path: Path) -> None:
    def line(second: int, step: str, **more: object) -> str:
        record: dict[str, object] = {
            "time": f"2026-01-01T00:00:{second:02}.000Z",
            "level": "NORMAL",
            "pid": 1,
            "worker": 0,
        }
        record |= {"event": "traced message", "trace": step, "sender": 7, "fp": "f", **more}
        return json.dumps(record, separators=(",", ":")) + "\n"

    (tmp_path / "normal.log").write_text("no record\n" + line(3, "acknowledged", fp="", message="5.1", user=8))
    (tmp_path / "normal.log.1").write_text(line(2, "given", message="5.1") + '{"trace":"broken\n')
    with gzip.open(tmp_path / "normal.log.2.gz", "wt") as old:
        old.write(line(1, "stored", message="5.1") + line(0, "accepted"))
    (tmp_path / "error.log").write_text(line(9, "given", message="5.1"))
    for second, name in enumerate(("normal.log.2.gz", "normal.log.1", "normal.log")):
        os.utime(tmp_path / name, (second, second))
    records = trace_log.read(trace_log.files_of(str(tmp_path)))
    wanted = ["accepted", "stored", "given", "acknowledged"]
    assert [one.trace for one in trace_log.of_message(records, "5.1")] == wanted
    assert [one.trace for one in trace_log.of_message(records, "f")] == wanted
    assert [one.trace for one in trace_log.of_user(records, {8})] == wanted
    assert trace_log.of_user(records, {9}) == []
    shutil.copy(tmp_path / "normal.log.2.gz", tmp_path / "cut.gz")
    data = (tmp_path / "cut.gz").read_bytes()
    (tmp_path / "cut.gz").write_bytes(data[:-9])
    assert trace_log.read([tmp_path / "cut.gz"]) is not None


def test_a_log_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    (tmp_path / "normal.log.2.gz").write_text("not compressed")
    for name in ("normal.log", "normal.log.2.gz"):
        with pytest.raises(BootError, match=rf"cannot read .*/{name}: "):
            trace_log.read([tmp_path / name])


def test_a_log_of_another_host_can_be_given(town: Town, tmp_path: Path) -> None:
    elsewhere = tmp_path / "normal.log"
    elsewhere.write_text(
        'host2 {"time":"2026-01-01T00:00:00.000Z","trace":"given","message":"77.7","worker":3,"sender":1,"user":2}\n'
    )
    told = town.daemon.ctl("trace", "77.7", "--from", str(elsewhere))
    assert told.returncode == 0
    assert "given" in told.stdout
    wait_until(5, "nothing without it", lambda: town.daemon.ctl("trace", "77.7").returncode == 1)
