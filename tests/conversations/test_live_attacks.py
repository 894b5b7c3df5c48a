"""Attacks on what clients can ask for in their login: floods of typing, typing to people who do not want it, mentions
of very many and of outsiders, replies to what does not exist, and counts that could become wrong. Each is seen by what
the victim's client gets over its socket; with a guard switched off, it is noticed."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator

import pytest

from chatd.errors import ErrorCode
from tests.conversations.asking import StreamingClient, clients, new_group
from tests.conversations.featured import FeaturedClient, live
from tests.conversations.planted_live import BUGS
from tests.harness.deadline import run
from tests.harness.person import Town
from tests.harness.switches import switchable, switched_off

MANY = 900
"""Mentions of one message, as a packet over WebSocket can carry them."""


def _typing_heard(*people: FeaturedClient | StreamingClient) -> int:
    return sum(notice["event"] == "typing" for one in people for notice in one.notices)


async def _typing(town: Town) -> set[str]:
    found: set[str] = set()
    mallory, bob, carol = await live(town, "mallory", "bob", "carol")
    (stock,) = await clients(town, "stock")
    group = await new_group(bob, carol, stock)
    await bob.ask("block", user=mallory.name)

    refs = [mallory.put("typing", with_=carol.name) for _ in range(40)]
    for ref in refs:
        await mallory.answer(ref)
    await mallory.sends(carol.name, "flood over")
    await carol.is_given("flood over")
    if _typing_heard(carol) > 4:
        found.add("typing_without_limits")
    carol.notices.clear()

    eve, *_ = await live(town, "eve")
    await bob.ask("block", user=eve.name)
    await eve.answer(eve.put("typing", with_=bob.name))
    await carol.sends(bob.name, "first")
    await bob.is_given("first")
    if _typing_heard(bob):
        found.add("typing_without_consent")
    bob.notices.clear()

    await eve.answer(eve.put("typing", with_=f"#{group}"))
    await carol.sends(bob.name, "second")
    await bob.is_given("second")
    if _typing_heard(bob):
        found.add("typing_of_outsiders")

    await bob.ask("typing", with_=f"#{group}")
    await bob.sends(stock.name, "third")
    await stock.sees(bob.name, stock.name, "third")
    if any(notice["event"] == "typing" for notice in stock.notices):
        found.add("typing_for_everybody")
    return found


async def _extras(town: Town) -> set[str]:
    found: set[str] = set()
    (mallory,) = await live(town, "mallory", transport="mobileimsdk-ws")
    alice, bob, eve = await live(town, "alice", "bob", "eve")
    place = f"#{await new_group(alice, bob, mallory)}"
    await mallory.answer(mallory.put("history", with_=place))

    async def is_let_through(bug: str, code: ErrorCode, **extras: object) -> None:
        text = f"attack {bug}"
        mallory.peer.say(mallory.name, place, text, bug, **extras)
        await mallory.sends(alice.name, f"after {bug}")
        await alice.is_given(f"after {bug}")
        refused = [error["errorCode"] for error in mallory.errors if f'"{bug}"' in error["errorMsg"]]
        if refused != [code]:
            found.add(bug)

    await is_let_through("everybody_mentions_all", ErrorCode.NOT_ALLOWED, mentions="all")
    await is_let_through("mentions_of_outsiders", ErrorCode.UNKNOWN_RECIPIENT, mentions=[bob.name, eve.name])
    await is_let_through("mentions_without_limit", ErrorCode.LIMIT_REACHED, mentions=[town.ids[bob.name]] * MANY)
    await is_let_through("replies_to_the_future", ErrorCode.UNKNOWN_MESSAGE, reply=10**6)
    return found


async def _counts(town: Town) -> set[str]:
    found: set[str] = set()
    (alice,) = await live(town, "alice")
    bob = FeaturedClient(town, await town.newcomer("bob"), "mobileimsdk-udp")
    desk = StreamingClient(town, bob.name)
    for one in (bob, desk):
        await one.arrive()
    for number in range(3):
        await alice.sends(bob.name, f"{number}" * 1500)
    await alice.ask("message.recall", with_=bob.name, seq=2)
    await bob.hears("message.changed")
    if (await bob.unread())[alice.name]["unread"] != 2:
        found.add("recalled_is_unread")
    await desk.ask("read", with_=alice.name, seq=3)
    await alice.hears("read")
    await alice.sends(bob.name, "the end")
    await bob.is_given("the end")
    if not any(notice["event"] == "read" for notice in bob.notices):
        found.add("read_here_only")
    if not any(notice["event"] == "message.cut" for notice in alice.notices):
        found.add("cut_in_silence")
    return found


PARTS: dict[Callable[[Town], Awaitable[set[str]]], set[str]] = {
    _typing: {"typing_without_limits", "typing_without_consent", "typing_of_outsiders", "typing_for_everybody"},
    _extras: {"everybody_mentions_all", "mentions_of_outsiders", "mentions_without_limit", "replies_to_the_future"},
    _counts: {"recalled_is_unread", "read_here_only", "cut_in_silence"},
}
"""Each with the bugs that it shows."""


def test_every_planted_bug_is_looked_for() -> None:
    assert set().union(*PARTS.values()) == set(BUGS)


@pytest.fixture(scope="module")
def town(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Town]:
    module = "tests.conversations.planted_live"
    with switchable(tmp_path_factory.mktemp("live"), module, workers=1) as daemon:
        yield Town(daemon)


def test_every_guard_holds(town: Town) -> None:
    for part in PARTS:
        assert run(part(town)) == set()


@pytest.mark.parametrize("bug", BUGS)
def test_a_guard_that_is_off_is_noticed(town: Town, bug: str) -> None:
    (part,) = (part for part, bugs in PARTS.items() if bug in bugs)
    with switched_off(bug, town.daemon):
        assert run(part(town)) == {bug}
