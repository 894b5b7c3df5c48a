"""Group messages marked for stock clients (listen.group_prefix, listen.group_typeu), on every transport."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.conversations.asking import Client, StreamingClient, Transport, clients, new_group
from tests.conversations.featured import live
from tests.harness.daemon import Daemon
from tests.harness.deadline import run, until
from tests.harness.peer import Frame
from tests.harness.person import Town

MARKS: dict[str, dict[str, object]] = {
    "mobileimsdk": {"group_prefix": "[{group}] "},
    "mobileimsdk-udp": {"group_prefix": "{number}/{group}: ", "group_typeu": 77},
    "mobileimsdk-ws": {"group_typeu": 0},
}


@pytest.fixture(scope="module")
def marked(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Town]:
    daemon = Daemon(tmp_path_factory.mktemp("marked"), workers=2, listen=MARKS)
    try:
        yield Town(daemon.start())
    finally:
        complaints = daemon.discard()
    assert not complaints, "the daemon logged errors:\n" + "\n".join(complaints[:20])


class Reader(Client):
    """given: every packet with a message, as it came."""

    def __init__(self, town: Town, name: str, transport: Transport) -> None:
        super().__init__(town, name, transport)
        self.given: list[Frame] = []

    def hear(self, packet: Frame) -> None:
        if packet["type"] == 2 and packet["from"] != "0" and packet.get("fp") not in self.seen:
            self.given.append(packet)
        super().hear(packet)

    async def reads(self) -> Frame:
        """The next message."""
        await until(10, f"{self.name} reads something", lambda: self.given)
        return self.given.pop(0)


async def reader(town: Town, transport: Transport) -> Reader:
    one = Reader(town, await town.newcomer("reader"), transport)
    await one.arrive()
    return one


def test_each_listener_marks_in_its_own_way(marked: Town) -> None:
    async def story() -> None:
        (alice,) = await clients(marked, "alice")
        tcp, udp, web = [await reader(marked, one) for one in MARKS]  # type: ignore[arg-type]
        (bob,) = await live(marked, "bob")
        carol = await StreamingClient(marked, await marked.newcomer("carol")).arrive()
        group = await new_group(alice, tcp, udp, web, bob, carol, name="Ü 7 {number}")
        place = f"#{group}"
        alice.peer.say(alice.name, place, "hello {group}", "fp-1", typeu=5)
        for one, text, typeu in (
            (tcp, "[Ü 7 {number}] hello {group}", 5),
            (udp, f"{group}/Ü 7 {{number}}: hello {{group}}", 77),
            (web, "hello {group}", 0),
        ):
            packet = await one.reads()
            assert (packet["dataContent"], packet["typeu"]) == (text, typeu)
            assert (packet["to"], packet["fp"], packet["QoS"]) == (place, "fp-1", True)
        given = await bob.is_given("hello {group}")  # who asked for numbers is told the group in `to`
        assert (given["typeu"], given["seq"]) == (5, 1)
        await carol.sees(alice.name, place, "hello {group}")
        await alice.says(tcp.name, "private")
        assert (await tcp.reads())["dataContent"] == "private"
        shown = (await tcp.ask("history", with_=place))["messages"]
        assert [one["text"] for one in shown] == ["hello {group}"]

    run(story())


def test_a_new_name_is_shown_at_once_on_every_worker_and_after_a_login(marked: Town) -> None:
    async def story() -> None:
        (alice,) = await clients(marked, "alice")
        readers = [await reader(marked, "mobileimsdk") for _ in range(6)]
        group = await new_group(alice, *readers, name="old")
        for round_, name in enumerate(("old", "new", "newest")):
            if round_:
                await alice.ask("group.rename", group=group, name=name)
                for one in readers:
                    await one.hears("group.renamed")
            await until_named(alice, readers, f"#{group}", name)
        readers[0].leave()
        await alice.says(f"#{group}", "while away")
        await alice.ask("group.rename", group=group, name="other")
        await readers[0].arrive()
        assert (await readers[0].reads())["dataContent"] == "[other] while away"

    run(story())


async def until_named(alice: Client, readers: list[Reader], place: str, name: str) -> None:
    """A worker reads the new name a moment after it has heard of it."""

    async def shown() -> bool:
        await alice.says(place, "x")
        return {(await one.reads())["dataContent"] for one in readers} == {f"[{name}] x"}

    for _ in range(20):
        if await shown():
            return
    raise AssertionError(f"{name} is not shown")


def test_the_name_is_cut_before_the_text_and_a_cut_text_is_told(marked: Town) -> None:
    async def story() -> None:
        (alice,) = await clients(marked, "alice")
        udp = await reader(marked, "mobileimsdk-udp")
        group = await new_group(alice, udp, name="n" * 50)
        place = f"#{group}"
        whole = 0
        for size in range(700, 960, 20):  # a datagram has 1,024 bytes
            await alice.says(place, "x" * size)
            text = (await udp.reads())["dataContent"]
            mark, _, body = text.partition(": ")
            if body == "x" * size:
                whole = size
                assert mark in (f"{group}/{'n' * 50}", f"{group}/") or mark.endswith("…")
            else:
                assert (mark, body[-1]) == (f"{group}/nnnnnnnn…", "…")
        assert 820 < whole < 940, "the name gives way to the text"
        assert udp.peer.too_long == 0  # type: ignore[attr-defined]
        notice = await alice.hears("message.cut")
        assert (notice["with"], notice["user"]["name"]) == (place, udp.name)

    run(story())
