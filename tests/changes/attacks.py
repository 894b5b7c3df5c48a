"""Attacks on messages of others, each an assertion that it did not succeed.

Owns: the attacks, so that the same one finds nothing in chatd as it is, and something in chatd with a guard switched
off (test_attacks, test_planted_bugs).
Fails: AssertionError or TimeoutError when the attack succeeds.
"""

from __future__ import annotations

import asyncio
import json
import uuid
from collections.abc import Callable, Coroutine
from typing import Any

from chatd.errors import ErrorCode
from tests.conversations.asking import Client, StreamingClient, Transport, clients, make_client, new_group
from tests.harness.chatserver import OldClient, chat
from tests.harness.deadline import until
from tests.harness.person import Town

FLOOD = 400
"""Edits at once."""
EDIT_S = 0.5
"""people.edit_s where an attack is too late."""

Attack = Callable[[Town, Transport], Coroutine[Any, Any, None]]


async def history(client: Client, place: str) -> list[tuple[int, str, str]]:
    """(seq, text, state) of the last messages, the newest last."""
    found = (await client.ask("history", with_=place, before=1 << 40))["messages"]
    return [(one["seq"], one["text"], one.get("state", "sent")) for one in reversed(found)]


async def edit_what_somebody_else_wrote(town: Town, transport: Transport) -> None:
    """To oneself, in a group, and between two other people."""
    alice, bob, mallory = await clients(town, "alice", "bob", "mallory", transport=transport)
    number = await new_group(alice, bob, mallory)
    await alice.says(bob.name, "private")
    await alice.says(mallory.name, "to you")
    await alice.says(f"#{number}", "to all")
    for op, arguments in (("message.edit", {"text": "hacked"}), ("message.recall", {})):
        for place in (alice.name, f"#{number}"):
            assert await mallory.refused(op, with_=place, seq=1, **arguments) is ErrorCode.NOT_ALLOWED
        for place in (bob.name, mallory.name):  # nothing was written there
            assert await mallory.refused(op, with_=place, seq=1, **arguments) is ErrorCode.UNKNOWN_MESSAGE
    assert await history(bob, alice.name) == [(1, "private", "sent")]
    assert await history(alice, mallory.name) == [(1, "to you", "sent")]
    assert await history(bob, f"#{number}") == [(1, "to all", "sent")]
    await bob.is_up_to_date()
    assert not [one for one in bob.notices if one["event"] == "message.changed"]


async def guess_the_numbers_of_other_conversations(town: Town, transport: Transport) -> None:
    alice, bob, mallory = await clients(town, "alice", "bob", "mallory", transport=transport)
    number = await new_group(alice, bob)
    for text in ("one", "two", "three"):
        await alice.says(bob.name, text)
        await alice.says(f"#{number}", text)
    await mallory.says(alice.name, "hello")
    for seq in (2, 3, 4, 1 << 40):
        assert await mallory.refused("message.recall", with_=alice.name, seq=seq) is ErrorCode.UNKNOWN_MESSAGE
    for seq in (1, 2, 3, 4):
        for op, arguments in (("message.edit", {"text": "x"}), ("message.recall", {}), ("message.remove", {})):
            answer = await mallory.refused(op, with_=f"#{number}", seq=seq, **arguments)
            assert answer is ErrorCode.NOT_A_MEMBER
    assert [text for _, text, _ in await history(bob, alice.name)] == ["one", "two", "three"]
    assert [text for _, text, _ in await history(bob, f"#{number}")] == ["one", "two", "three"]


async def edit_when_it_is_too_late(town: Town, transport: Transport) -> None:
    """The daemon has people.edit_s = EDIT_S, and people.recall_s too. The client's own times do not matter."""
    alice, bob = await clients(town, "alice", "bob", transport=transport)
    await alice.says(bob.name, "said")
    await asyncio.sleep(EDIT_S + 0.3)  # the limit itself
    assert await alice.refused("message.edit", with_=bob.name, seq=1, text="denied") is ErrorCode.TOO_LATE
    assert await alice.refused("message.recall", with_=bob.name, seq=1) is ErrorCode.TOO_LATE
    assert await history(bob, alice.name) == [(1, "said", "sent")]


async def edit_after_being_blocked(town: Town, transport: Transport) -> None:
    """To write to somebody who does not want that any more. Taking it back is allowed."""
    mallory, bob = await clients(town, "mallory", "bob", transport=transport)
    for text in ("one", "two"):
        await mallory.says(bob.name, text)
    await bob.ask("block", user=mallory.name)
    assert await mallory.refused("message.edit", with_=bob.name, seq=1, text="abuse") is ErrorCode.NOT_ACCEPTED
    assert await bob.refused("message.edit", with_=mallory.name, seq=1, text="x") is ErrorCode.NOT_ALLOWED
    await mallory.ask("message.recall", with_=bob.name, seq=2)
    assert await history(bob, mallory.name) == [(1, "one", "sent"), (2, "", "recalled")]


async def edit_in_a_group_one_has_left(town: Town, transport: Transport) -> None:
    alice, bob, mallory = await clients(town, "alice", "bob", "mallory", transport=transport)
    number = await new_group(alice, bob, mallory)
    place = f"#{number}"
    await mallory.says(place, "one")
    await mallory.says(place, "two")
    await mallory.ask("group.leave", group=number)
    assert await mallory.refused("message.edit", with_=place, seq=1, text="spam") is ErrorCode.NOT_A_MEMBER
    assert await mallory.refused("message.recall", with_=place, seq=2) is ErrorCode.NOT_A_MEMBER
    assert [text for _, text, _ in await history(bob, place)] == ["one", "two"]


async def edit_while_muted(town: Town, transport: Transport) -> None:
    """To write in a group in which one may not write. Taking it back is allowed."""
    alice, mallory = await clients(town, "alice", "mallory", transport=transport)
    number = await new_group(alice, mallory)
    place = f"#{number}"
    for text in ("one", "two"):
        await mallory.says(place, text)
    await alice.ask("group.mute", group=number, user=mallory.name, seconds=3600)
    assert await mallory.refused("message.edit", with_=place, seq=1, text="spam") is ErrorCode.MUTED
    await mallory.ask("message.recall", with_=place, seq=2)
    assert await history(alice, place) == [(1, "one", "sent"), (2, "", "recalled")]


async def remove_as_a_plain_member(town: Town, transport: Transport) -> None:
    """Messages of the owner, of an admin and of other members; and as an admin, those of the owner."""
    owner, admin, mallory = await clients(town, "owner", "admin", "mallory", transport=transport)
    number = await new_group(owner, admin, mallory)
    place = f"#{number}"
    await owner.ask("group.role", group=number, user=admin.name, role="admin")
    await owner.says(place, "of the owner")
    await admin.says(place, "of the admin")
    await mallory.says(place, "of mallory")
    for seq in (1, 2, 3):
        assert await mallory.refused("message.remove", with_=place, seq=seq) is ErrorCode.NOT_ALLOWED
    assert await admin.refused("message.remove", with_=place, seq=1) is ErrorCode.NOT_ALLOWED
    await mallory.says(owner.name, "private")
    assert await owner.refused("message.remove", with_=mallory.name, seq=1) is ErrorCode.NOT_ALLOWED
    assert [state for *_, state in await history(owner, place)] == ["sent"] * 3


async def edit_to_more_than_the_limit(town: Town, transport: Transport) -> None:
    """The daemon has limits.body_bytes = 256. On mobileimsdk the whole request is a text, and has the same limit."""
    alice, bob = await clients(town, "alice", "bob", transport=transport)
    await alice.says(bob.name, "short")
    for text in ("x" * 257, "ä" * 129):
        before = len(alice.errors)
        ref = alice.put("message.edit", with_=bob.name, seq=1, text=text)
        await until(10, "refused", lambda ref=ref, before=before: ref in alice.answers or len(alice.errors) > before)
        if ref in alice.answers:
            assert alice.answers[ref]["error"]["code"] == ErrorCode.TOO_LONG
    assert await history(bob, alice.name) == [(1, "short", "sent")]


async def flood_with_edits(town: Town, transport: Transport) -> None:
    """The recipient is told a bounded number of times, and others are served meanwhile."""
    mallory, bob, carol = await clients(town, "mallory", "bob", "carol", transport=transport)
    await mallory.says(bob.name, "0")
    refs = [mallory.put("message.edit", with_=bob.name, seq=1, text=str(number)) for number in range(FLOOD)]
    await carol.says(bob.name, "am I heard?")
    answers = [await mallory.answer(ref) for ref in refs[:1]]
    await until(
        20,
        "the flood is over",
        lambda: len(mallory.answers) + len(mallory.errors) >= FLOOD or len(mallory.answers) > 150,
    )
    assert answers[0]["ok"]
    done = [one for one in mallory.answers.values() if one["ok"]]
    assert len(done) <= 100, f"{len(done)} edits of one message"
    await bob.is_up_to_date()
    assert len([one for one in bob.notices if one["event"] == "message.changed"]) <= 100


async def read_what_was_recalled(town: Town, transport: Transport) -> None:
    """Bob does not acknowledge, so he is sent messages again, and comes back again and again. Of what was recalled he
    is sent the text neither again, nor at a login, nor in an answer."""
    (alice,) = await clients(town, "alice", transport=transport)
    bob = make_client(town, await town.newcomer("bob"))  # a stock client, whatever alice has
    bob.acknowledging = False
    sent: list[dict[str, Any]] = []

    def listen() -> None:
        hear = bob.peer.on_frame

        def both(packet: dict[str, Any]) -> None:
            sent.append(packet)
            hear(packet)

        bob.peer.on_frame = both

    await bob.arrive()
    listen()
    for text in ("secret one", "secret two"):
        await alice.says(bob.name, text)
    await until(10, "bob was sent them", lambda: len(bob.messages) == 2)
    for seq in (1, 2):
        await alice.ask("message.recall", with_=bob.name, seq=seq)
    del sent[:]
    await until(20, "bob is sent them again", lambda: sum(one.get("from") == alice.name for one in sent) >= 2)
    for _ in range(2):
        bob.leave()
        await bob.arrive()
        listen()
        await bob.ask("history", with_=alice.name)
        await bob.ask("sync", changes={alice.name: 0}, cursors={alice.name: 0})
    await until(10, "bob is given them", lambda: sum(one.get("from") == alice.name for one in sent) >= 2)
    assert "secret" not in json.dumps(sent)
    old = OldClient()
    await old.open(town.port("old"), town.daemon.address)
    old.put({"msgid": 1, "id": town.ids[bob.name], "password": town.secret})
    assert (await old.answer())["errno"] == 0
    await until(10, "the old client is shown them", lambda: len(old.shown) >= 2)
    assert {frame["msg"] for frame in old.shown[:2]} == {"(message recalled)"}
    old.check()
    old.close()


async def change_what_was_sent_by_repeating_it(town: Town, transport: Transport) -> None:
    """A repeated message brings no text back, and no other text comes in under its fp."""
    alice, bob = await clients(town, "alice", "bob", transport=transport)
    fp = str(uuid.uuid4())

    def say(text: str) -> None:
        if isinstance(alice, StreamingClient):
            alice.stream.put({**chat(town.ids[alice.name], alice.name, bob.name, 0, text), "fp": fp})
        else:
            alice.peer.say(alice.name, bob.name, text, fp)

    say("first")
    await bob.sees(alice.name, bob.name, "first")
    await alice.ask("message.recall", with_=bob.name, seq=1)
    alice.accepted.clear()
    say("first")
    await until(10, "it is answered again", lambda: fp in alice.accepted or alice.errors)
    assert fp in alice.accepted, "a repetition is refused"
    say("")
    await until(10, "another text is refused", lambda: alice.errors)
    assert await history(bob, alice.name) == [(1, "", "recalled")]


ATTACKS: tuple[Attack, ...] = (
    edit_what_somebody_else_wrote,
    guess_the_numbers_of_other_conversations,
    edit_after_being_blocked,
    edit_in_a_group_one_has_left,
    edit_while_muted,
    remove_as_a_plain_member,
    edit_to_more_than_the_limit,
    flood_with_edits,
    read_what_was_recalled,
    change_what_was_sent_by_repeating_it,
)
"""On one daemon, with OPTIONS; edit_when_it_is_too_late has its own."""
OPTIONS: dict[str, Any] = {
    "workers": 2,
    "limits": {"body_bytes": 256},
    "timeouts": {"resend_s": 1.0},
    "listen": {"chatserver": {"pace_ms": 20}},
}
LATE_OPTIONS: dict[str, Any] = {"people": {"edit_s": EDIT_S, "recall_s": EDIT_S}}
