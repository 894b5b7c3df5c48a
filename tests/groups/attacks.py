"""Somebody does not accept what the owner and the admins of a group have decided, whatever client they use.

Owns: the attacks (ATTACKS below). The group's people are on the first town, the attackers on the second: the same
daemon, with several workers, or another host of its cluster.
Fails: AssertionError or TimeoutError if an attack succeeds.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

from chatd.errors import ErrorCode
from chatd.store.group_contract import INVITATIONS_FROM_ONE
from tests.consent.attacks import Places
from tests.conversations.asking import Client, Transport, new_group
from tests.harness import chatserver
from tests.harness.deadline import until
from tests.harness.link import Seen
from tests.harness.peer import NulPeer
from tests.harness.person import Person

TRANSPORTS: tuple[Transport, ...] = ("mobileimsdk", "mobileimsdk-udp", "mobileimsdk-ws", "chatserver")
EVERYTHING = 1 << 40
SETTLED_S = 0.3
"""How long a message that must not come is waited for, after one that came."""

Attack = Callable[[Places], Awaitable[None]]


async def made(owner: Client, **policy: Any) -> int:
    return int((await owner.ask("group.create", name="team", **policy))["group"]["id"])


async def asked_to_join(places: Places, name: str, group: int) -> dict[str, Any]:
    """The answer to the only way into a group that the deployed client knows: GROUP_ACK or ERROR."""
    peer = await places.there.errand(name)
    peer.put({"msgid": chatserver.JOIN_GROUP, "id": places.there.ids[name], "groupid": group})
    answer = await _answer(peer)
    await places.there.finish(peer)
    return answer


async def _answer(peer: NulPeer) -> dict[str, Any]:
    def there() -> dict[str, Any] | None:
        return next((one for one in peer.frames if one["msgid"] in (chatserver.GROUP_ACK, chatserver.ERROR)), None)

    return await until(10, "the join is answered", there)


async def is_refused_everywhere(places: Places, group: int, code: ErrorCode) -> None:
    """A stranger joins the group by its number, over each wire in turn."""
    for transport in TRANSPORTS:
        stranger = await places.asker("stranger", transport)
        assert await stranger.refused("group.join", group=group) is code
        assert (await stranger.ask("group.list"))["groups"] == []
        stranger.leave()
    name = await places.here.newcomer("stranger")
    answer = await asked_to_join(places, name, group)
    assert (answer["msgid"], answer["errno"], answer["ref"]) == (chatserver.ERROR, code, chatserver.JOIN_GROUP)
    old = Person(places.there, name, "streaming")
    await old.arrive()
    outcome = await old.told(old.post(f"#{group}", "I am in"))
    assert (outcome.ok, outcome.code) == (False, ErrorCode.NOT_A_MEMBER)
    await old.leave()


# ---------------------------------------------------------------- coming in


async def join_by_number(places: Places) -> None:
    owner = await places.victim("owner")
    group = await made(owner)
    await is_refused_everywhere(places, group, ErrorCode.INVITATION_NEEDED)
    await owner.is_up_to_date()
    assert owner.notices == []
    seen = await owner.ask("group.get", group=group)
    assert (seen["members"], seen["join"]) == (1, "invite"), "the default of requests"


async def ask_again_and_again(places: Places) -> None:
    """The owner is told once, and not at all after a refusal."""
    owner, mallory = await places.victim("owner"), await places.asker("mallory")
    group = await made(owner, join="approval")
    for _ in range(5):
        assert (await mallory.ask("group.join", group=group))["joined"] is False
    answer = await asked_to_join(places, mallory.name, group)
    assert (answer["msgid"], answer["errno"]) == (chatserver.ERROR, ErrorCode.APPROVAL_PENDING)
    await owner.hears("group.requested", group=group)
    await owner.ask("group.reject", group=group, user=mallory.name)
    await mallory.hears("group.rejected", group=group)
    for _ in range(3):
        assert await mallory.refused("group.join", group=group) is ErrorCode.NOT_ACCEPTED
    await owner.is_up_to_date()
    assert owner.notices == []
    assert (await owner.ask("group.requests", group=group))["requests"] == []


async def come_back_after_a_kick(places: Places) -> None:
    owner, mallory = await places.victim("owner"), await places.asker("mallory")
    group = await new_group(owner, mallory)
    await owner.says(f"#{group}", "before")
    await owner.ask("group.kick", group=group, user=mallory.name)
    await mallory.hears("group.kicked", group=group)
    assert await mallory.refused("group.join", group=group) is ErrorCode.BANNED
    answer = await asked_to_join(places, mallory.name, group)
    assert (answer["msgid"], answer["errno"]) == (chatserver.ERROR, ErrorCode.BANNED)
    for policy in ("approval", "open"):
        await owner.ask("group.set", group=group, join=policy)
        assert await mallory.refused("group.join", group=group) is ErrorCode.BANNED
    await owner.says(f"#{group}", "without mallory")
    assert await mallory.refused("history", with_=f"#{group}") is ErrorCode.NOT_A_MEMBER
    assert await mallory.refused("group.members", group=group) is ErrorCode.NOT_A_MEMBER
    await owner.ask("group.invite", group=group, user=mallory.name)
    await mallory.hears("group.invited", group=group)
    assert (await mallory.ask("group.join", group=group))["joined"] is True
    await owner.says(f"#{group}", "welcome back")
    await mallory.sees(owner.name, f"#{group}", "welcome back")
    assert [text for _, to, text in mallory.messages if to == f"#{group}" and text == "without mallory"] == []


async def spam_with_invitations(places: Places) -> None:
    victim, spammer = await places.victim(), await places.asker("spammer")
    groups = [await made(spammer) for _ in range(INVITATIONS_FROM_ONE + 2)]
    for group in groups[:INVITATIONS_FROM_ONE]:
        for _ in range(3):
            await spammer.ask("group.invite", group=group, user=victim.name)
    for group in groups[INVITATIONS_FROM_ONE:]:
        for op in ("group.invite", "group.add"):
            assert await spammer.refused(op, group=group, user=victim.name) is ErrorCode.LIMIT_REACHED
    invitations = (await victim.ask("group.invitations"))["invitations"]
    assert [one["group"]["id"] for one in invitations] == groups[:INVITATIONS_FROM_ONE]
    for group in groups[:INVITATIONS_FROM_ONE]:
        await victim.hears("group.invited", group=group)
        await victim.ask("group.decline", group=group)
        for op in ("group.invite", "group.add"):
            assert await spammer.refused(op, group=group, user=victim.name) is ErrorCode.NOT_ACCEPTED
    await victim.ask("block", user=spammer.name)
    for op in ("group.invite", "group.add"):
        assert await spammer.refused(op, group=groups[-1], user=victim.name) is ErrorCode.NOT_ACCEPTED
    await victim.is_up_to_date()
    assert (victim.notices, (await victim.ask("group.list"))["groups"]) == ([], [])


async def invite_and_ban_in_turn(places: Places) -> None:
    """To notify somebody of an invitation again and again, each time with another name of the group."""
    victim, spammer = await places.victim(), await places.asker("spammer")
    group = await made(spammer)
    for number in range(5):
        await spammer.ask("group.rename", group=group, name=f"buy {number}")
        await spammer.ask("group.invite", group=group, user=victim.name)
        await spammer.ask("group.ban", group=group, user=victim.name)
        await spammer.ask("group.unban", group=group, user=victim.name)
    await victim.hears("group.invited", group=group)
    await victim.is_up_to_date()
    assert victim.notices == []


# ---------------------------------------------------------------- deciding


async def decide_as_a_plain_member(places: Places) -> None:
    owner, bob, mallory = await places.victim("owner"), await places.victim("bob"), await places.asker("mallory")
    accomplice = await places.asker("accomplice")
    group = await made(owner, join="approval")
    for member in (bob, mallory):
        await member.ask("group.join", group=group)
        await owner.ask("group.approve", group=group, user=member.name)
    await accomplice.ask("group.join", group=group)
    for op in ("approve", "reject", "invite", "add", "ban", "unban"):
        code = await mallory.refused(f"group.{op}", group=group, user=accomplice.name)
        assert code is ErrorCode.NOT_ALLOWED, op
    for op in ("kick", "ban", "mute", "unmute"):
        for whom in (owner, bob):
            code = await mallory.refused(f"group.{op}", group=group, user=whom.name)
            assert code is ErrorCode.NOT_ALLOWED, op
    for op, arguments in (
        ("group.set", {"join": "open"}), ("group.set", {"history": "all"}), ("group.set", {"announcements": True}),
        ("group.dissolve", {}), ("group.requests", {}), ("group.bans", {}), ("group.rename", {"name": "mine"}),
        ("group.role", {"user": mallory.name, "role": "owner"}),
    ):  # fmt: skip
        assert await mallory.refused(op, group=group, **arguments) is ErrorCode.NOT_ALLOWED, op
    seen = await owner.ask("group.get", group=group)
    assert (seen["members"], seen["requests"], seen["bans"]) == (3, 1, 0)
    assert (await accomplice.ask("group.list"))["groups"] == []


async def answer_requests_of_other_groups(places: Places) -> None:
    """mallory owns a group, and uses its number for the request to another one, and the other way round."""
    owner, mallory = await places.victim("owner"), await places.asker("mallory")
    accomplice = await places.asker("accomplice")
    group, own = await made(owner, join="approval"), await made(mallory, join="approval")
    await accomplice.ask("group.join", group=group)
    for op in ("approve", "reject", "invite", "add", "ban", "unban"):
        code = await mallory.refused(f"group.{op}", group=group, user=accomplice.name)
        assert code is ErrorCode.NOT_A_MEMBER, op
    for op in ("approve", "reject"):
        assert await mallory.refused(f"group.{op}", group=own, user=accomplice.name) is ErrorCode.NOT_ALLOWED
    assert (await accomplice.ask("group.list"))["groups"] == []
    assert len((await owner.ask("group.requests", group=group))["requests"]) == 1


async def look_into_a_group(places: Places) -> None:
    """From outside, and after leaving."""
    owner, mallory = await places.victim("owner"), await places.asker("mallory")
    group = await new_group(owner, mallory)
    await owner.says(f"#{group}", "said")
    await mallory.ask("group.leave", group=group)
    for op, arguments in (
        ("group.members", {"group": group}), ("group.get", {"group": group}), ("group.requests", {"group": group}),
        ("group.bans", {"group": group}), ("history", {"with_": f"#{group}"}),
        ("read", {"with_": f"#{group}", "seq": 1}), ("message.recall", {"with_": f"#{group}", "seq": 1}),
    ):  # fmt: skip
        assert await mallory.refused(op, **arguments) is ErrorCode.NOT_A_MEMBER, op
    assert (await mallory.ask("sync"))["conversations"] == []
    assert await mallory.refused("presence.subscribe", users=[owner.name]) is ErrorCode.NOT_ACCEPTED


# ---------------------------------------------------------------- the past


async def read_the_past(places: Places) -> None:
    """A group that is open, and history from joining on, as one made by the deployed client."""
    owner = await places.victim("owner")
    group = await new_group(owner)
    place, secrets = f"#{group}", [f"secret {number}" for number in range(5)]
    for text in secrets:
        await owner.says(place, text)
    for transport in TRANSPORTS:
        mallory = await places.asker("mallory", transport)
        await mallory.ask("group.join", group=group)
        seen = [
            await mallory.ask("history", with_=place),
            await mallory.ask("history", with_=place, before=EVERYTHING),
            await mallory.ask("history", with_=place, before=5),
            *[await mallory.ask("history", with_=place, after=seq, limit=1) for seq in range(5)],
            await mallory.ask("history", with_=place, after=0, limit=1, start=1),
            await mallory.ask("sync", cursors={place: 0}),
            await mallory.ask("sync"),
        ]
        assert [one for page in seen for one in page["messages"]] == [], transport
        await mallory.ask("read", with_=place, seq=1)
        assert [one["with"] for one in (await mallory.ask("sync"))["conversations"]] == [place]
        for op in ("message.edit", "message.recall", "message.remove"):
            arguments = {"text": "x"} if op == "message.edit" else {}
            assert not (await mallory.answer(mallory.put(op, with_=place, seq=1, **arguments)))["ok"], op
        mallory.leave()
        await mallory.arrive()
        await owner.says(place, f"welcome {transport}")
        await mallory.sees(owner.name, place, f"welcome {transport}")
        await asyncio.sleep(SETTLED_S)
        assert [text for _, _, text in mallory.messages if text in secrets] == []
        assert [one["text"] for one in (await mallory.ask("history", with_=place, before=EVERYTHING))["messages"]] == [
            f"welcome {transport}"
        ]
        await mallory.ask("group.leave", group=group)
        await owner.says(place, f"secret from {transport}")
        secrets.append(f"secret from {transport}")
        await mallory.ask("group.join", group=group)
        assert (await mallory.ask("history", with_=place))["messages"] == [], "it is a new membership"
        mallory.leave()
    await _is_not_shown_to_a_desk(places, owner, group, secrets)


async def _is_not_shown_to_a_desk(places: Places, owner: Client, group: int, secrets: list[str]) -> None:
    """What the chatserver wire gives a client at its login and afterwards."""
    name = await places.here.newcomer("desk")
    assert (await asked_to_join(places, name, group))["msgid"] == chatserver.GROUP_ACK
    for wire in ("old", "acking"):
        desk = Person(places.there, name, wire)  # type: ignore[arg-type]
        await desk.arrive()
        await owner.says(f"#{group}", f"for {wire}")
        await desk.sees(Seen(owner.name, f"for {wire}", group))
        assert [one.text for one in desk.seen if one.text in secrets] == []
        await desk.leave()


# ---------------------------------------------------------------- writing


async def _members_on_every_wire(places: Places, owner: Client, group: int) -> list[Person]:
    people = []
    for wire in places.wires:
        name = await places.here.newcomer(wire)
        await places.here.join_group(name, group)
        person = Person(places.there, name, wire)
        await person.arrive()
        people.append(person)
        person.post(f"#{group}", "I am a member")
        await owner.sees(person.name, f"#{group}", "I am a member")
    return people


async def _is_told(person: Person, group: int, text: str) -> ErrorCode:
    outcome = await person.told(person.post(f"#{group}", text))
    assert not outcome.ok, f"{person.name} wrote {text}"
    person.check()
    return ErrorCode(outcome.code)


async def write_while_muted(places: Places) -> None:
    """On every wire, by workers that remember that the member may write; leaving and joining again does not help."""
    owner = await places.victim("owner")
    group = await new_group(owner)
    people = await _members_on_every_wire(places, owner, group)
    for person in people:
        await owner.ask("group.mute", group=group, user=person.name)
        assert await _is_told(person, group, "while muted") is ErrorCode.MUTED
    for person in people:
        await person.leave()
        errand = await Client(places.there, person.name).arrive()
        await errand.ask("group.leave", group=group)
        await errand.ask("group.join", group=group)
        assert (await errand.ask("group.get", group=group))["muted"] is True
        errand.leave()
        await person.arrive()
        assert await _is_told(person, group, "while muted") is ErrorCode.MUTED
    await owner.is_up_to_date()
    assert [text for _, _, text in owner.messages if text == "while muted"] == []
    for person in people:
        await owner.ask("group.unmute", group=group, user=person.name)
        person.post(f"#{group}", "again")
        await owner.sees(person.name, f"#{group}", "again")


async def write_by_renaming_while_muted(places: Places) -> None:
    """All members read the name and the description of their group."""
    owner, mallory = await places.victim("owner"), await places.asker("mallory")
    group = await new_group(owner, mallory)
    await owner.ask("group.role", group=group, user=mallory.name, role="admin")
    await owner.ask("group.mute", group=group, user=mallory.name)
    loud = {"name": "read this", "description": "I am muted"}
    assert await mallory.refused("group.rename", group=group, **loud) is ErrorCode.MUTED
    await owner.ask("group.unmute", group=group, user=mallory.name)
    await mallory.ask("group.rename", group=group, name="quiet")
    await owner.hears("group.renamed", group=group)
    assert [one for one in owner.notices if one["event"] == "group.renamed"] == []


async def write_in_an_announcements_group(places: Places) -> None:
    owner = await places.victim("owner")
    group = await new_group(owner)
    people = await _members_on_every_wire(places, owner, group)
    await owner.ask("group.set", group=group, announcements=True)
    for person in people:
        assert await _is_told(person, group, "an announcement") is ErrorCode.ANNOUNCEMENTS_ONLY
    await owner.says(f"#{group}", "the announcement")
    for person in people:
        await until(10, f"{person.name} has it", lambda person=person: _has(person, "the announcement"))
    await owner.ask("group.role", group=group, user=people[0].name, role="admin")
    people[0].post(f"#{group}", "by an admin")
    await owner.sees(people[0].name, f"#{group}", "by an admin")
    assert [text for _, _, text in owner.messages if text == "an announcement"] == []


def _has(person: Person, text: str) -> bool:
    return any(one.text == text for one in person.seen)


async def go_on_after_the_end(places: Places) -> None:
    """Of a dissolved group, on every wire; also for somebody who was away."""
    owner, away = await places.victim("owner"), await places.asker("away")
    group = await new_group(owner, away)
    people = await _members_on_every_wire(places, owner, group)
    away.leave()
    await owner.says(f"#{group}", "for who is away")
    await owner.ask("group.dissolve", group=group)
    await owner.is_up_to_date()
    assert [one["group"] for one in owner.notices if one["event"] == "group.dissolved"] == [group]
    for person in people:
        assert await _is_told(person, group, "still here") is ErrorCode.UNKNOWN_GROUP
    await away.arrive()
    assert (await away.ask("group.list"))["groups"] == []
    assert await away.refused("group.join", group=group) is ErrorCode.UNKNOWN_GROUP
    assert [text for _, to, text in away.messages if to == f"#{group}" and text == "for who is away"] == []
    assert await away.refused("history", with_=f"#{group}") is ErrorCode.UNKNOWN_GROUP


ATTACKS: tuple[Attack, ...] = (
    join_by_number,
    ask_again_and_again,
    come_back_after_a_kick,
    spam_with_invitations,
    invite_and_ban_in_turn,
    decide_as_a_plain_member,
    answer_requests_of_other_groups,
    look_into_a_group,
    read_the_past,
    write_while_muted,
    write_by_renaming_while_muted,
    write_in_an_announcements_group,
    go_on_after_the_end,
)
