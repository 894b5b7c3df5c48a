"""Somebody does not accept that others decide who reaches them, whatever client they use.

Owns: Places, and the attacks (ATTACKS below). The victims are on the first town, the attackers on the second: the same
daemon, with several workers, or another host of its cluster.
Fails: AssertionError or TimeoutError if an attack succeeds.
"""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

from chatd.errors import ErrorCode
from tests.conversations.asking import Client, befriend, make_client, new_group
from tests.harness import chatserver
from tests.harness.deadline import until
from tests.harness.link import Seen
from tests.harness.person import Person, Town, Wire

FLOODED = 40
"""Messages of each attacker before the block, and after it."""
PACE_S = 0.004
REQUESTS = 8
OPEN_REQUESTS = 3
"""limits.friend_requests of the daemons that are attacked."""
WIRES: tuple[Wire, ...] = ("old", "streaming", "mobile", "udp", "web")


@dataclass
class Places:
    here: Town
    there: Town
    wires: tuple[Wire, ...] = WIRES

    async def victim(self, name: str = "victim") -> Client:
        return await Client(self.here, await self.here.newcomer(name)).arrive()

    async def attacker(self, wire: Wire) -> Person:
        person = Person(self.there, await self.here.newcomer(wire), wire)
        await person.arrive()
        return person

    async def asker(self, name: str = "attacker", transport: Any = "mobileimsdk") -> Client:
        return await make_client(self.there, await self.here.newcomer(name), transport).arrive()


Attack = Callable[[Places], Awaitable[None]]


async def refused(person: Person, to: str, text: str = "let me in") -> ErrorCode:
    """What the person's client is told about a message; it must survive it."""
    outcome = await person.told(person.post(to, text))
    assert not outcome.ok, f"{person.name} wrote to {to}: {text}"
    person.check()
    return ErrorCode(outcome.code)


async def texts(reader: Client, other: str) -> list[str]:
    """Everything the store has of this conversation."""
    found = await reader.ask("history", with_=other, limit=1000)
    return [entry["text"] for entry in found["messages"]]


# ---------------------------------------------------------------- messages


async def write_after_the_block(places: Places) -> None:
    """On every wire, from workers that remember that the attacker may write, and again after an unblock."""
    victim, friend = await places.victim(), await places.victim("friend")
    attackers = [await places.attacker(wire) for wire in places.wires]
    for turn in range(2):
        for person in attackers:
            person.post(victim.name, f"before {turn}")
            await victim.sees(person.name, victim.name, f"before {turn}")
        for person in attackers:
            await victim.ask("block", user=person.name)
            assert await refused(person, victim.name) is ErrorCode.NOT_ACCEPTED
            ref = victim.say(person.name, "to somebody I block")
            (error,) = await until(10, "the victim is told", lambda: victim.errors)
            assert (error["errorCode"], ref in victim.accepted) == (ErrorCode.BLOCKED_BY_YOU, False)
            victim.errors.clear()
            person.post(friend.name, f"the client lives {turn}")
            await friend.sees(person.name, friend.name, f"the client lives {turn}")
        await victim.is_up_to_date()
        for person in attackers:
            assert await texts(victim, person.name) == [f"before {one}" for one in range(turn + 1)]
            assert [one for one in victim.messages if one[0] == person.name and "let me in" in one[2]] == []
            await victim.ask("unblock", user=person.name)


async def flood_during_the_block(places: Places) -> None:
    """Messages come all the time. What was sent after the block was acknowledged is not stored, not even once."""
    victim = await places.victim()
    attackers = [await places.attacker(wire) for wire in places.wires if wire != "old"]
    numbers = {person.name: 0 for person in attackers}
    going_on = True

    async def flood(person: Person) -> None:
        while going_on:
            person.post(victim.name, str(numbers[person.name]))
            numbers[person.name] += 1
            await asyncio.sleep(PACE_S)

    floods = [asyncio.create_task(flood(person)) for person in attackers]
    blocked: dict[str, int] = {}
    for person in attackers:
        name = person.name
        await until(20, "messages come", lambda name=name: sum(one[0] == name for one in victim.messages) >= FLOODED)
        await victim.ask("block", user=name)
        blocked[name] = numbers[name]
    await until(20, "the flood goes on", lambda: all(numbers[name] >= blocked[name] + FLOODED for name in blocked))
    going_on = False
    await asyncio.gather(*floods)
    for person in attackers:
        assert await refused(person, victim.name) is ErrorCode.NOT_ACCEPTED
        stored = [int(text) for text in await texts(victim, person.name)]
        late = [number for number in stored if number >= blocked[person.name]]
        assert late == [], f"sent over {person.wire} after the block was acknowledged: {late}"
        assert max(int(one[2]) for one in victim.messages if one[0] == person.name) < blocked[person.name]


async def write_while_the_bus_hangs(places: Places, hang: Callable[[], Callable[[], object]]) -> None:
    """hang: the bus hangs until what it returns is called. Not one of ATTACKS: one daemon has no bus that could."""
    victim = await places.victim()
    attackers = [await places.attacker(wire) for wire in places.wires]
    for person in attackers:
        person.post(victim.name, "before")
        await victim.sees(person.name, victim.name, "before")
    go_on = hang()
    try:
        for person in attackers:
            await victim.ask("block", user=person.name)
            assert await refused(person, victim.name) is ErrorCode.NOT_ACCEPTED
    finally:
        go_on()
    for person in attackers:
        assert await texts(victim, person.name) == ["before"]


async def repeat_what_was_stored_before(places: Places) -> None:
    """No attack: a client that was not told repeats a message, and is told; it is not stored twice."""
    victim = await places.victim()
    for wire in places.wires:
        if wire == "old":
            continue
        person = await places.attacker(wire)
        fp = person.post(victim.name, "once")
        first = await person.told(fp)
        await victim.sees(person.name, victim.name, "once")
        await victim.ask("block", user=person.name)
        person.outcomes.clear()
        again = await person.told(person.post(victim.name, "once", fp))
        assert (first.ok, again.ok) == (True, True)
        assert await texts(victim, person.name) == ["once"]


async def edit_after_the_block(places: Places) -> None:
    """To write by editing what was written before. Taking it back is allowed."""
    victim, attacker = await places.victim(), await places.asker()
    await attacker.says(victim.name, "harmless")
    await victim.sees(attacker.name, victim.name, "harmless")
    await victim.ask("block", user=attacker.name)
    edited = {"with_": victim.name, "seq": 1, "text": "harmful"}
    assert await attacker.refused("message.edit", **edited) is ErrorCode.NOT_ACCEPTED
    assert await texts(victim, attacker.name) == ["harmless"]
    await attacker.ask("message.recall", with_=victim.name, seq=1)
    assert await texts(victim, attacker.name) == [""]


async def write_as_a_stranger(places: Places) -> None:
    """To somebody who lets friends write, and those to whom they write."""
    victim = await places.victim()
    attackers = [await places.attacker(wire) for wire in places.wires]
    for person in attackers:
        person.post(victim.name, "hello")
        await victim.sees(person.name, victim.name, "hello")
    shown = await victim.ask("privacy.set", write="friends")
    assert shown["privacy"]["write"] == "friends"
    for person in attackers:
        assert await refused(person, victim.name) is ErrorCode.NOT_ACCEPTED
    for person in attackers:
        await victim.says(person.name, "answer me")
        await person.sees(Seen(victim.name, "answer me"))
        outcome = await person.say(victim.name, "an answer")
        assert outcome is None or outcome.ok, outcome
        await victim.sees(person.name, victim.name, "an answer")
    await victim.ask("privacy.set", write="nobody")
    for person in attackers:
        assert await refused(person, victim.name) is ErrorCode.NOT_ACCEPTED


async def tell_a_block_from_a_setting(places: Places) -> None:
    """What the attacker is told is the same, word for word, but for the name of the victim."""
    blocker, shy = await places.victim("blocker"), await places.victim("shy")
    attacker = await places.asker()
    group = await new_group(attacker)
    await blocker.ask("block", user=attacker.name)
    await shy.ask("privacy.set", write="nobody", ask="nobody", see="nobody", add="nobody")
    told: list[list[object]] = []
    for one in (blocker, shy):
        said: list[object] = []
        for op, arguments in (
            ("friend.request", {"user": one.name}),
            ("profile.get", {"user": one.name}),
            ("presence.get", {"users": [one.name]}),
            ("presence.subscribe", {"users": [one.name]}),
            ("typing", {"with_": one.name}),
            ("group.invite", {"group": group, "user": one.name}),
            ("group.add", {"group": group, "user": one.name}),
        ):
            found = await attacker.answer(attacker.put(op, **arguments))
            assert found["ok"] is False, (op, found)
            said.append(str(found["error"]).replace(one.name, "NAME"))
        fp = attacker.say(one.name, "hello")
        (error,) = await until(10, "a refusal", lambda: attacker.errors)
        attacker.errors.clear()
        said.append(str(error).replace(fp, "FP").replace(one.name, "NAME"))
        told.append(said)
    assert told[0] == told[1], told


# ---------------------------------------------------------------- friend requests


async def ask_again_and_again(places: Places) -> None:
    """On both wires: repeating, withdrawing and asking anew, after a refusal, and after a block."""
    victim, attacker = await places.victim(), await places.asker()
    desk = chatserver.OldClient()
    await desk.open(places.here.daemon.ports["chatserver"], places.here.daemon.address)
    desk.put({"msgid": chatserver.LOGIN, "id": places.here.ids[victim.name], "password": places.here.secret})
    await desk.answer()
    old = Person(places.there, attacker.name, "old")
    await old.arrive()

    def ask_on_the_old_wire() -> None:
        assert isinstance(old.link, chatserver.OldLink)
        mine, whom = places.here.ids[attacker.name], places.here.ids[victim.name]
        old.link.put({"msgid": chatserver.FRIEND_REQUEST, "id": mine, "toid": whom, "friendid": whom, "msg": "please"})

    for _ in range(REQUESTS):
        assert (await attacker.ask("friend.request", user=victim.name))["friends"] is False
        ask_on_the_old_wire()
    for _ in range(REQUESTS):
        await attacker.ask("friend.remove", user=victim.name)
        await attacker.ask("friend.request", user=victim.name)
    await victim.hears("friend.request", **{"from": {"id": places.here.ids[attacker.name], "name": attacker.name}})
    await victim.ask("friend.refuse", user=attacker.name)
    ask_on_the_old_wire()
    again = await attacker.answer(attacker.put("friend.request", user=victim.name))
    assert again["ok"] is False
    assert (again["error"]["code"], "you can ask again in 7 days" in again["error"]["text"]) == (
        ErrorCode.NOT_ALLOWED, True,
    ), again  # fmt: skip
    await victim.ask("block", user=attacker.name)
    assert await attacker.refused("friend.request", user=victim.name) is ErrorCode.NOT_ACCEPTED
    assert await victim.refused("friend.request", user=attacker.name) is ErrorCode.BLOCKED_BY_YOU
    ask_on_the_old_wire()
    codes = await until(10, "the old client is refused twice", lambda: _refusals(old))
    assert codes == [ErrorCode.NOT_ALLOWED, ErrorCode.NOT_ACCEPTED]
    await victim.is_up_to_date()
    assert [one for one in victim.notices if one["event"] == "friend.request"] == []
    asked = [frame for frame in desk.ignored if frame["msgid"] == chatserver.FRIEND_REQUEST]
    assert len(asked) == 1, asked
    assert (await victim.ask("friend.list"))["requests"] == []
    desk.check()
    old.check()


def _refusals(old: Person) -> list[int] | None:
    assert isinstance(old.link, chatserver.OldLink)
    codes = [frame["errno"] for frame in old.link.ignored if frame["msgid"] == chatserver.ERROR]
    return codes if len(codes) >= 2 else None


async def ask_with_many_accounts(places: Places) -> None:
    victim = await places.victim()
    attackers = [await places.asker() for _ in range(OPEN_REQUESTS + 2)]
    for one in attackers[:OPEN_REQUESTS]:
        await one.ask("friend.request", user=victim.name)
    for one in attackers[OPEN_REQUESTS:]:
        assert await one.refused("friend.request", user=victim.name) is ErrorCode.LIMIT_REACHED
    assert len((await victim.ask("friend.list"))["requests"]) == OPEN_REQUESTS


# ---------------------------------------------------------------- being seen


async def watch_after_the_block(places: Places) -> None:
    """A friend and member of a common group watched the victim; a bystander still does."""
    victim, friend, bystander = await places.victim(), await places.asker("friend"), await places.asker("bystander")
    for other in (friend, bystander):
        await befriend(victim, other)
        await other.ask("presence.subscribe", users=[victim.name])
    group = await new_group(victim, friend, bystander)
    victim.leave()
    for other in (friend, bystander):
        assert (await other.hears("presence"))["online"] is False
    await victim.arrive()
    for other in (friend, bystander):
        assert (await other.hears("presence"))["online"] is True
    await victim.ask("block", user=friend.name)
    victim.leave()
    assert (await bystander.hears("presence"))["online"] is False
    await victim.arrive()
    assert (await bystander.hears("presence"))["online"] is True
    await friend.is_up_to_date()
    assert [one for one in friend.notices if one["event"] == "presence"] == []
    for op, arguments in (
        ("profile.get", {"user": victim.name}),
        ("presence.get", {"users": [victim.name]}),
        ("presence.subscribe", {"users": [victim.name]}),
    ):
        assert await friend.refused(op, **arguments) is ErrorCode.NOT_ACCEPTED
        assert await bystander.ask(op, **arguments)
    for one, shown in ((friend, False), (bystander, True)):
        members = (await one.ask("group.members", group=group))["members"]
        assert {member["name"]: member["online"] for member in members}[victim.name] is shown
    old = Person(places.there, friend.name, "old")
    await old.arrive()
    assert isinstance(old.link, chatserver.OldLink)
    (team,) = old.link.groups
    members = [old.link.inner(text) for text in team["users"]]
    assert {member["name"]: member["state"] for member in members}[victim.name] == "offline"
    assert old.link.friends == []


async def watch_after_a_choice(places: Places) -> None:
    """The victim shows herself to nobody any more; another friend, who leaves after her, does."""
    victim, other = await places.victim(), await places.victim("other")
    friend, late = await places.asker("friend"), await places.asker("late")
    for one in (victim, other):
        await befriend(one, friend)
    await befriend(victim, late)
    await friend.ask("presence.subscribe", users=[victim.name, other.name])
    await victim.ask("privacy.set", see="nobody")
    shown = (await friend.ask("friend.list"))["friends"]
    assert {one["name"]: one["online"] for one in shown} == {victim.name: False, other.name: True}
    assert await late.refused("presence.subscribe", users=[victim.name]) is ErrorCode.NOT_ACCEPTED
    for goes, online in (("leave", False), ("arrive", True)):
        for one in (victim, other):
            going = getattr(one, goes)()
            if going is not None:
                await going
        assert (await friend.hears("presence", user={"id": places.here.ids[other.name], "name": other.name}))[
            "online"
        ] is online
    await friend.is_up_to_date()
    assert [one for one in friend.notices if one["event"] == "presence"] == []


async def mark_as_read_after_the_block(places: Places) -> None:
    """Neither learns any more what the other has read."""
    victim, attacker = await places.victim(), await places.asker()
    for number in itertools.count(1):
        if number > 3:
            break
        await victim.says(attacker.name, str(number))
    await attacker.ask("read", with_=victim.name, seq=1)
    assert (await victim.hears("read"))["seq"] == 1
    await victim.ask("block", user=attacker.name)
    await attacker.ask("read", with_=victim.name, seq=2)
    await victim.ask("read", with_=attacker.name, seq=3)
    for one in (victim, attacker):
        await one.is_up_to_date()
        assert [notice for notice in one.notices if notice["event"] == "read"] == []


ATTACKS: tuple[Attack, ...] = (
    write_after_the_block,
    flood_during_the_block,
    repeat_what_was_stored_before,
    edit_after_the_block,
    write_as_a_stranger,
    tell_a_block_from_a_setting,
    ask_again_and_again,
    ask_with_many_accounts,
    watch_after_the_block,
    watch_after_a_choice,
    mark_as_read_after_the_block,
)
