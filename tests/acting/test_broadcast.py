"""`chatctl broadcast`: all connected users are told, in the terms of every wire, and nobody else."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator

import pytest

from chatd.errors import Exit
from tests.conversations.asking import clients
from tests.conversations.test_kick import ctl
from tests.harness.daemon import Daemon
from tests.harness.deadline import run, until
from tests.harness.person import Person, Town
from tests.trail.visitors import trail


@pytest.fixture(scope="module")
def town(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Town]:
    patient = {"keep_alive_s": 120}  # a busy machine takes long for a chatctl, and clients of these tests send no pings
    listen = dict.fromkeys(("mobileimsdk", "mobileimsdk-udp", "mobileimsdk-ws"), patient)
    daemon = Daemon(tmp_path_factory.mktemp("broadcast"), workers=2, listen=listen)
    # The limit of the rate is tested by itself: these tests tell more than an operator would.
    unlimited = "from chatd.master.questions import broadcast; broadcast.MOST, broadcast.WINDOW_S = 1000, 1.0"
    daemon.entry = ("-c", f"import sys; {unlimited}; from chatd.__main__ import main; sys.exit(main())")
    try:
        yield Town(daemon.start())
    finally:
        complaints = daemon.discard()
    assert not complaints


async def told(town: Town, *arguments: str) -> int:
    code, shown, why = await ctl(town, "broadcast", *arguments, "--json")
    assert code == 0, (shown, why)
    return int(json.loads(shown)["told"])


def test_clients_of_every_wire_are_told_in_their_own_terms(town: Town) -> None:
    async def story() -> None:
        asking = [
            (await clients(town, "user", transport=transport))[0]
            for transport in ("mobileimsdk", "mobileimsdk-udp", "mobileimsdk-ws", "chatserver")
        ]
        old = Person(town, await town.newcomer("old"), "old")
        await old.arrive()
        plain = await town.errand(await town.newcomer("plain"))
        text = "The server restarts at 22:00 UTC ☕"
        code, shown, why = await ctl(town, "broadcast", text)
        assert (code, shown, why) == (0, "sessions told: 6", "")
        for one in asking:
            notice = await one.hears("broadcast", text=text)
            assert notice["at"] > 1_700_000_000_000
            assert not one.errors
        frame = await plain.find(msgid=6)
        assert (frame["id"], frame["name"], frame["msg"]) == (0, "server", text)
        await until(10, "the old client shows it", lambda: any(text == seen.text for seen in old.seen))
        # They all go on as before.
        await asking[0].says(asking[3].name, "did you see?")
        await asking[3].sees(asking[0].name, asking[3].name, "did you see?")
        assert (await old.say(asking[0].name, "yes")) is None
        await asking[0].sees(old.name, asking[0].name, "yes")
        await old.leave()
        plain.close()
        for one in asking:
            one.leave()

    run(story())


def test_whoever_is_away_never_sees_it(town: Town) -> None:
    async def story() -> None:
        (one,) = await clients(town, "user")
        one.leave()
        away = "the session is over"
        await until(
            60, away, lambda: not json.loads(town.daemon.ctl("user", "sessions", one.name, "--json").stdout)["sessions"]
        )
        assert await told(town, "nobody is here", "--user", one.name) == 0
        await one.arrive()
        await one.is_up_to_date()
        assert not one.notices
        assert not one.messages
        one.leave()

    run(story())


def test_only_a_wire_a_user_or_a_group(town: Town) -> None:
    async def story() -> None:
        phone, other = await clients(town, "user", "user")
        (desk,) = await clients(town, "user", transport="chatserver")
        group = int((await phone.ask("group.create", name="team", join="open"))["group"]["id"])
        await desk.ask("group.join", group=group)
        counts = await asyncio.gather(  # at once: each is a chatctl of its own
            told(town, "on desks", "--wire", "chatserver"),
            told(town, "to one", "--user", other.name.upper()),
            told(town, "to one by number", "--user", str(town.ids[desk.name])),
            told(town, "to the team", "--group", f"#{group}"),
            told(town, "to the team's phones", "--group", str(group), "--wire", "mobileimsdk"),
        )
        assert counts == [1, 1, 1, 2, 1]
        assert await told(town, "on phones", "--wire", "mobileimsdk") >= 2
        await phone.hears("broadcast", text="to the team's phones")
        await desk.hears("broadcast", text="to the team")
        await other.hears("broadcast", text="to one")
        for one, wanted in (
            (phone, {"on phones", "to the team"}),
            (desk, {"on desks", "to one by number"}),
            (other, {"on phones"}),
        ):
            await one.is_up_to_date()
            assert {notice["text"] for notice in one.notices if notice["event"] == "broadcast"} == wanted
            one.leave()

    run(story())


def test_an_audience_that_does_not_exist(town: Town) -> None:
    code, _, why = run(ctl(town, "broadcast", "x", "--user", "nobody"))
    assert (code, why) == (1, "chatctl: nobody: no such user")
    code, _, why = run(ctl(town, "broadcast", "x", "--group", "777"))
    assert (code, why) == (1, "chatctl: #777: no such group")


@pytest.mark.parametrize("text", ["", " ", "x" * 501, "a\x1b[2Jb", "\u202ebackwards"])
def test_a_text_that_makes_no_sense_is_refused(town: Town, text: str) -> None:
    code, shown, why = run(ctl(town, "broadcast", text))
    assert (code, shown) == (Exit.USAGE, "")
    assert why.startswith("chatctl: the text ")


def test_a_long_text_is_cut_where_packets_are_short(town: Town) -> None:
    async def story() -> None:
        (phone,) = await clients(town, "user", transport="mobileimsdk-udp")
        old = Person(town, await town.newcomer("old"), "old")
        await old.arrive()
        text = "消息" * 250
        assert await told(town, text) >= 2, "clients of another test may not have left yet"
        notice = await phone.hears("broadcast")
        assert notice["text"].rstrip("…") in text
        assert 100 < len(notice["text"]) < 500
        await until(10, "the old client shows it", lambda: old.seen)
        assert old.seen[0].text.rstrip("…") in text
        await old.leave()
        phone.leave()

    run(story())


def test_many_sessions_are_told_a_few_at_a_time(town: Town) -> None:
    async def story() -> None:
        names = [await town.newcomer("crowd") for _ in range(60)]
        crowd = [await town.on_mobile(name) for name in names]
        at: list[float] = []
        loop = asyncio.get_running_loop()
        for peer in crowd:
            peer.on_frame = lambda packet: at.append(loop.time()) if "tea time" in str(packet) else None
        assert await told(town, "tea time") >= len(crowd)
        await until(10, "all have it", lambda: len(at) == len(crowd))
        for peer in crowd:
            peer.close()

    run(story())


def test_it_is_in_the_trail(town: Town) -> None:
    run(told(town, "for the record"))
    ended = [one for one in trail(town.daemon, "order") if one["result"] == "ok"]
    assert ended[-1]["order"] == "broadcast"
    assert ended[-1]["arguments"]["text"] == "for the record"


def test_without_a_server_it_says_so(make_daemon: object) -> None:
    daemon = make_daemon()  # type: ignore[operator]
    refused = daemon.ctl("broadcast", "hello")
    assert refused.returncode == Exit.UNAVAILABLE
    assert "chatd is not running" in refused.stderr
