"""Users who flood others, each attack an assertion that it did not succeed.

Owns: the attacks, so that the same one finds nothing in chatd as it is, and something in chatd with a guard switched
off (test_floods, test_floods_apart, test_planted_bugs).
Fails: AssertionError, TimeoutError or ConnectionGone when the attack succeeds.
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Callable, Sequence

from chatd.errors import ErrorCode
from tests.conversations.asking import Client, Transport, befriend
from tests.faults.test_resets import worker_of
from tests.floods.flooders import WIRES, Flooder, refused
from tests.harness.deadline import until
from tests.harness.person import Town

QUOTAS = {"waiting_from_one": 1000, "waiting": 10_000}
SHIPPED = {"commands_per_s": 20, "recipients_per_s": 5000, "changes_per_hour": 300, **QUOTAS}
"""As in etc/chatd.toml; the harness switches rates off, and its quotas are larger."""
WINDOW_S = 10
WAITING_FROM_ONE = 1000
FOUR_KB = "x" * 4000
TOO_FAST, FULL = ErrorCode.TOO_FAST, ErrorCode.MAILBOX_FULL

Enlarge = Callable[[int, int], None]
"""(group, members): give the group so many more members."""


def most_groups(began: float) -> float:
    """How often a group of almost 5,000 members may have been told something since `began`, with SHIPPED. Rates are
    topped up once a second, so that of the last second may have come at once."""
    return (WINDOW_S + 1 + time.monotonic() - began) * 1.05


async def told_in_words(flooder: Flooder, *words: str) -> None:
    for text in set(flooder.texts):
        assert all(word in text for word in words), text


# ---------------------------------------------------------------- rates


async def reach_thousands(town: Town, enlarge: Enlarge, wires: Sequence[Transport] = WIRES) -> None:
    """200 messages to a group of 5,000, at once: no more than 50,000 recipients are reached, and then 5,000 a second.
    Needs SHIPPED."""
    names = [await town.newcomer("loud") for _ in wires]
    group = await town.make_group("crowd", names)
    enlarge(group, 5000)
    for name, wire in zip(names, wires, strict=True):
        flooder = await Flooder(town, name, wire).arrive()
        began = time.monotonic()
        outcomes = await flooder.flood(f"#{group}", 195)
        most = most_groups(began)
        assert 5 <= outcomes[0] <= most, f"{outcomes} on {wire}"
        assert refused(outcomes, TOO_FAST) >= 180 - most
        await told_in_words(flooder, "recipients", "5000 per second", "try again in")
        flooder.leave()


async def tell_thousands_what_was_read(town: Town, enlarge: Enlarge) -> None:
    """Read marks in a group of 5,000: all members are told of each. Needs SHIPPED."""
    marks = 40
    names = [await town.newcomer("owner"), await town.newcomer("loud")]
    group = await town.make_group("crowd", names)
    owner = await Flooder(town, names[0], "chatserver").arrive()
    assert (await owner.flood(f"#{group}", marks))[0] == marks
    owner.leave()
    enlarge(group, 5000)
    watcher, reader = [await Client(town, name).arrive() for name in names]
    began = time.monotonic()
    refs = [reader.put("read", with_=f"#{group}", seq=seq) for seq in range(1, marks + 1)]
    answers = [await reader.answer(ref) for ref in refs]
    accepted = sum(answer["ok"] for answer in answers)
    assert 5 <= accepted <= most_groups(began)
    assert {answer["error"]["code"] for answer in answers if not answer["ok"]} == {TOO_FAST}
    await watcher.is_up_to_date()
    assert len([one for one in watcher.notices if one["event"] == "read"]) == accepted
    for client in (watcher, reader):
        client.leave()


async def come_and_go_before_thousands(town: Town, enlarge: Enlarge) -> None:
    """Joins of a group of 4,900, of which all members are told. Needs SHIPPED."""
    rounds = 40
    owner, watcher = await town.newcomer("owner"), await town.newcomer("watcher")
    group = await town.make_group("crowd", [owner, watcher])
    enlarge(group, 4900)
    loud = await Client(town, await town.newcomer("loud")).arrive()
    began, refs = time.monotonic(), []
    for _ in range(rounds):
        refs.append(loud.put("group.join", group=group))
        loud.put("group.leave", group=group)
    answers = [await loud.answer(ref) for ref in refs]
    joined = sum(answer["ok"] for answer in answers)
    assert 5 <= joined <= most_groups(began), answers
    assert {answer["error"]["code"] for answer in answers if not answer["ok"]} == {TOO_FAST}
    loud.leave()


async def say_again_what_was_read(town: Town) -> None:
    """Nobody is told of a read mark that stays where it is."""
    victim, loud = [await Client(town, await town.newcomer(name)).arrive() for name in ("victim", "loud")]
    await victim.says(loud.name, "hello")
    for _ in range(20):
        await loud.ask("read", with_=victim.name, seq=1)
    await victim.is_up_to_date()
    assert [one["seq"] for one in victim.notices if one["event"] == "read"] == [1]
    for client in (victim, loud):
        client.leave()


async def write_to_a_group_that_grows(town: Town, grow: Callable[[int], object]) -> None:
    """The flooder has logged in and written when the group was small; then 4,900 join, one of them while the flooder is
    there. Needs SHIPPED."""
    owner, member = await town.newcomer("owner"), await town.newcomer("member")
    group = await town.make_group("grows", [owner])
    flooder = await Flooder(town, owner, "chatserver").arrive()
    assert (await flooder.flood(f"#{group}", 20))[0] == 20
    grow(group)
    await town.join_group(member, group)
    began = time.monotonic()
    outcomes = await flooder.flood(f"#{group}", 150)
    assert outcomes[0] <= most_groups(began), outcomes
    flooder.leave()


async def send_as_fast_as_possible(town: Town, wires: Sequence[Transport] = WIRES) -> None:
    """2,000 messages of 4 kB to a stranger: 200 come, and then 20 a second. Needs SHIPPED."""
    for wire in wires:
        victim = await town.newcomer("victim")
        flooder = await Flooder(town, await town.newcomer("loud"), wire).arrive()
        began = time.monotonic()
        text = FOUR_KB if wire == "chatserver" else "x" * 400
        outcomes = await flooder.flood(victim, 2000 if wire != "mobileimsdk-udp" else 500, text)
        most = 20 * (WINDOW_S + time.monotonic() - began + 1)
        assert 100 <= outcomes[0] <= most, f"{outcomes} on {wire}"
        assert refused(outcomes, TOO_FAST) > 0
        await told_in_words(flooder, "commands", "20 per second", "try again in")
        flooder.leave()


async def flood_over_two_wires(town: Town) -> None:
    """One user has one allowance on a worker, whatever the wires. For a daemon of one worker. Needs SHIPPED."""
    victim, name = await town.newcomer("victim"), await town.newcomer("loud")
    both = [await Flooder(town, name, wire).arrive() for wire in ("chatserver", "mobileimsdk")]
    began = time.monotonic()
    outcomes: Counter[int] = Counter()
    for counted in await asyncio.gather(*[flooder.flood(victim, 300) for flooder in both]):
        outcomes += counted
    assert outcomes[0] <= 20 * (WINDOW_S + time.monotonic() - began + 1), outcomes
    for flooder in both:
        flooder.leave()


async def come_back_for_more(town: Town) -> None:
    """Logging in again gives nothing back. For a daemon of one worker. Needs SHIPPED."""
    victim, name = await town.newcomer("victim"), await town.newcomer("loud")
    began, accepted = time.monotonic(), 0
    for _ in range(3):
        flooder = await Flooder(town, name, "mobileimsdk").arrive()
        accepted += (await flooder.flood(victim, 250))[0]
        flooder.leave()
        await asyncio.wait_for(flooder.peer.gone.wait(), 10)
    assert accepted <= 20 * (WINDOW_S + time.monotonic() - began + 1)


async def ask_everybody_to_be_friends(towns: Sequence[Town]) -> None:
    """50 requests, and then one every 72 s; on whatever worker and host, over whatever wire. Needs SHIPPED."""
    home = towns[0]
    name = await home.newcomer("lonely")
    victims = [await home.newcomer("asked") for _ in range(70)]
    asked = 0
    for index, victim in enumerate(victims):
        client = Client(towns[index % len(towns)], name)
        if index in range(0, 70, 10):  # comes back on the other one every ten requests
            await client.arrive()
            current = client
        answer = await current.answer(current.put("friend.request", user=victim))
        asked += answer["ok"]
        if not answer["ok"]:
            assert answer["error"]["code"] == TOO_FAST
            assert "300 per hour" in answer["error"]["text"]
            assert "try again in" in answer["error"]["text"]
        if index % 10 == 9:
            current.leave()
            await asyncio.wait_for(current.peer.gone.wait(), 10)
    assert 45 <= asked <= 52, asked
    old = await Flooder(towns[-1], name, "chatserver").arrive()
    old.ask_friend(home.ids[victims[-1]])
    await until(10, "a refusal", lambda: old.outcomes)
    assert [*old.outcomes.values()] == [TOO_FAST]
    old.leave()


# ---------------------------------------------------------------- what waits


async def apart_from(one: Flooder, other: Flooder) -> Flooder:
    """Log the other in on another worker, if that is on the same host."""
    await other.arrive()
    idle = []
    for _ in range(50):
        daemon = one.town.daemon
        if other.town.daemon is not daemon or worker_of(daemon, one.peer) != worker_of(daemon, other.peer):
            for peer in idle:
                peer.close()
            return other
        other.leave()
        idle.append(await one.town.nul_peer())  # makes the other worker the emptier one
        await other.arrive()
    raise AssertionError("every connection came to the same worker")


async def fill_a_mailbox(towns: Sequence[Town]) -> None:
    """A stranger sends more than may wait, from two wires, workers or hosts at once: exactly as many as may wait are
    stored. Read, the mailbox takes more at once. Without rates."""
    home = towns[0]
    victim, name = await home.newcomer("victim"), await home.newcomer("loud")
    flooders = [await Flooder(towns[0], name, "chatserver").arrive()]
    flooders.append(await apart_from(flooders[0], Flooder(towns[-1], name, "mobileimsdk")))
    outcomes: Counter[int] = Counter()
    for counted in await asyncio.gather(*[flooder.flood(victim, 700, limit_s=40.0) for flooder in flooders]):
        outcomes += counted
    assert (outcomes[0], refused(outcomes, FULL)) == (WAITING_FROM_ONE, 1400 - WAITING_FROM_ONE)
    assert await read_all(home, victim) == WAITING_FROM_ONE
    assert (await flooders[0].flood(victim, 1))[0] == 1
    for flooder in flooders:
        flooder.leave()


async def read_all(town: Town, name: str) -> int:
    """The victim comes and receives everything; how much it was."""
    reader = await Client(town, name).arrive()
    count = -1

    def is_quiet() -> bool:
        nonlocal count
        before, count = count, len(reader.messages)
        return 0 < count == before

    await until(20, "everything was read", is_quiet, 0.5)
    reader.leave()
    await asyncio.wait_for(reader.peer.gone.wait(), 10)
    return count


async def fill_a_mailbox_together(town: Town, waiting: int, workers: int) -> None:
    """Ten strangers send a little each; together they fill no more than is open to everybody, and a friend gets in.
    Needs a limit of `waiting`."""
    victim, friend = await town.newcomer("victim"), await town.newcomer("friend")
    both = [await Client(town, name).arrive() for name in (victim, friend)]
    await befriend(*both)
    for one in both:
        one.leave()
        await asyncio.wait_for(one.peer.gone.wait(), 10)
    flooders = [await Flooder(town, await town.newcomer("one"), "chatserver").arrive() for _ in range(10)]
    outcomes: Counter[int] = Counter()
    for counted in await asyncio.gather(*[flooder.flood(victim, waiting // 4) for flooder in flooders]):
        outcomes += counted
    for_everybody = waiting * 3 // 4
    most = for_everybody + (workers - 1) * for_everybody / 16 + workers
    assert for_everybody <= outcomes[0] <= most, outcomes
    assert refused(outcomes, FULL) == 10 * (waiting // 4) - outcomes[0]
    flooders.append(await Flooder(town, friend, "chatserver").arrive())
    of_friend = waiting // 8
    assert (await flooders[-1].flood(victim, of_friend))[0] == of_friend, "the rest is kept for friends"
    assert await read_all(town, victim) == outcomes[0] + of_friend
    for flooder in flooders:
        flooder.leave()
