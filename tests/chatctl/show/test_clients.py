"""`chatctl clients`: who is logged in, in pages, without disturbing the workers."""

from __future__ import annotations

import asyncio
import os
import signal
from typing import Any

import pytest

from chatd.client_list import PAGE_ROWS
from chatd.errors import Exit
from tests.chatctl.show.conftest import shown
from tests.harness.deadline import run, wait_until
from tests.harness.person import Person, Town

pytestmark = pytest.mark.xdist_group("clients")
"""They share a daemon."""

WIRES = {"streaming": "chatserver", "mobile": "mobileimsdk", "udp": "mobileimsdk", "web": "mobileimsdk"}
CARRIERS = {"streaming": "tcp", "mobile": "tcp", "udp": "udp", "web": "ws"}


async def listed(town: Town, *arguments: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = (await asyncio.to_thread(shown, town, "clients", *arguments))["clients"]
    return found


async def arrived(town: Town, prefix: str) -> dict[str, Person]:
    """One person on each wire, by wire."""
    people = {}
    for wire in WIRES:
        person = Person(town, await town.newcomer(prefix), wire)  # type: ignore[arg-type]
        await person.arrive()
        people[wire] = person
    return people


async def gone(people: dict[str, Person]) -> None:
    for wire, person in people.items():
        assert person.link is not None
        await (person.leave() if wire != "udp" else person.vanish())


def test_every_session_is_listed_with_its_wire_address_and_worker(town: Town) -> None:
    async def story() -> None:
        people = await arrived(town, "ann")
        rows = {row["name"]: row for row in await listed(town)}
        for wire, person in people.items():
            row = rows[person.name]
            assert (row["wire"], row["carrier"]) == (WIRES[wire], CARRIERS[wire])
            assert row["user_id"] == town.ids[person.name]
            assert row["address"].startswith("127.0.0.1:")
            assert row["worker"] in (0, 1)
            assert 0 <= row["idle_s"] < 30
            assert (row["in_flight"], row["waiting_bytes"], row["behind"]) == (0, 0, False)
        assert len({rows[person.name]["address"] for person in people.values()}) == len(people)
        told = await asyncio.to_thread(town.daemon.ctl, "clients")
        assert told.returncode == 0
        assert all(person.name in told.stdout for person in people.values())
        everywhere = {row["name"] for row in await listed(town, "--all-hosts")}
        assert {person.name for person in people.values()} <= everywhere
        await gone(people)

    run(story())


def test_filters_leave_out_what_does_not_match(town: Town) -> None:
    async def story() -> None:
        people = await arrived(town, "bea")
        names = {wire: person.name for wire, person in people.items()}
        for who in (names["web"], names["web"].upper(), str(town.ids[names["web"]])):
            assert [row["name"] for row in await listed(town, who)] == [names["web"]]
        assert await listed(town, "nobody") == []
        on_udp = await listed(town, "--wire", "udp")
        assert names["udp"] in [row["name"] for row in on_udp]
        assert {row["carrier"] for row in on_udp} == {"udp"}
        assert {row["wire"] for row in await listed(town, "--wire", "chatserver")} == {"chatserver"}
        assert await listed(town, "--address", "192.0.2.0/24") == []
        rows = await listed(town, "--address", "127.0.0.1")
        assert {names["streaming"], names["mobile"], names["web"]} <= {row["name"] for row in rows}
        assert await listed(town, "--idle", "1h") == []
        await gone(people)

    run(story())


def test_messages_in_flight_and_waiting_are_counted(town: Town) -> None:
    async def story() -> None:
        sender = Person(town, await town.newcomer("cat"), "mobile")
        await sender.arrive()
        silent = await town.on_mobile(await town.newcomer("silent"))  # a bare peer acknowledges nothing
        name = next(name for name in town.ids if name.startswith("silent"))
        for number in range(3):
            await sender.say(name, f"text {number}")
        rows = await listed(town, name)
        assert [row["in_flight"] for row in rows] == [3]
        worst = await listed(town, "--sort", "in-flight", "--reverse", "--limit", "1")
        assert [row["name"] for row in worst] == [name]
        silent.close()
        await sender.leave()

    run(story())


def test_pages_together_are_the_whole_list_in_order(town: Town) -> None:
    async def story() -> None:
        peers = [await town.on_mobile(await town.newcomer("page")) for _ in range(7)]
        for order in ("name", "since", "address", "idle"):
            for more in ((), ("--reverse",)):
                rows = await listed(town, "--sort", order, "--all", *more)
                values = [row[{"since": "since_ms", "idle": "idle_s"}.get(order, order)] for row in rows]
                assert values == sorted(values, reverse=bool(more))
                assert len(rows) >= len(peers)
        found = await asyncio.to_thread(shown, town, "clients", "--limit", "3")
        assert (len(found["clients"]), found["matching"]) == (3, found["sessions"])
        assert found["matching"] >= len(peers)
        told = await asyncio.to_thread(town.daemon.ctl, "clients", "--limit", "3")
        assert f"3 of {found['matching']} shown" in told.stderr
        for peer in peers:
            peer.close()

    run(story())


def test_a_page_that_is_too_large_is_refused(town: Town) -> None:
    asked = b'{"v": 1, "cmd": "clients", "query": {"limit": %d}}\n' % (PAGE_ROWS + 1)
    done = town.daemon.ask(asked)
    assert (done["ok"], done["exit"]) == (False, Exit.USAGE)


def test_a_worker_that_hangs_is_named(town: Town) -> None:
    hung = town.daemon.workers()[1]
    os.kill(hung, signal.SIGSTOP)
    try:
        told = town.daemon.ctl("clients")
        assert told.returncode == Exit.TRY_AGAIN
        slots = {row["pid"]: row["slot"] for row in town.daemon.status()["workers"]}
        assert f"no answer from worker {slots[hung]}: there may be more clients" in told.stderr
    finally:
        os.kill(hung, signal.SIGCONT)
    wait_until(10, "it answers again", lambda: town.daemon.ctl("clients").returncode == 0)
