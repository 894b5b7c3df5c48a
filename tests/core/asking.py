"""Requests to the server (C2S) by the peers of a stage: ask, read the answer, hear notices."""

from __future__ import annotations

import itertools
import re
from typing import Any

import msgspec

from chatd.core.requests.notices import NOTICES
from chatd.errors import ErrorCode
from chatd.protocol import Acknowledge, ServerMessage, ServerRequest
from chatd.store.contract import Tables
from tests.core.stage import Peer, Stage

_numbers = itertools.count()


def body_of(op: str, arguments: dict[str, Any]) -> str:
    """`with_` stands for the argument "with"."""
    named = {name.rstrip("_"): value for name, value in arguments.items()}
    return msgspec.json.encode({"op": op, "ref": op, **named}).decode()


def texts(peer: Peer) -> list[dict[str, Any]]:
    return [msgspec.json.decode(event.body) for event in peer.told(ServerMessage)]


def notices(peer: Peer, event: str = "") -> list[dict[str, Any]]:
    """Those with this event, or all; each once, however often it was given."""
    by_fp = {event.fp: msgspec.json.decode(event.body) for event in peer.told(ServerMessage)}
    found = [text for text in by_fp.values() if "event" in text]
    for text in found:
        fields = re.findall(r'"(\w+)":', NOTICES[text["event"]][0])
        assert text.keys() <= {"event", "more", *fields}, f"not as documented: {text}"
    return [text for text in found if event in ("", text["event"])]


async def request(peer: Peer, body: str, fp: str | None = None) -> ServerMessage | None:
    """The answer of the server to one text; None when it gives none."""
    fp = f"r{next(_numbers)}" if fp is None else fp
    before = len(peer.told(ServerMessage))
    await peer.do(ServerRequest(body, fp, bool(fp)))
    answers = [event for event in peer.told(ServerMessage)[before:] if "event" not in msgspec.json.decode(event.body)]
    assert len(answers) <= 1, answers
    return answers[0] if answers else None


async def answered(peer: Peer, op: str, fp: str | None = None, **arguments: Any) -> dict[str, Any]:
    """The whole answer, acknowledged."""
    event = await request(peer, body_of(op, arguments), fp)
    assert event is not None, f"{op}: no answer"
    await peer.do(Acknowledge(event.fp))
    found: dict[str, Any] = msgspec.json.decode(event.body)
    assert found["ref"] == op
    return found


async def ask(peer: Peer, op: str, fp: str | None = None, **arguments: Any) -> dict[str, Any]:
    """The result of a request that must be granted."""
    found = await answered(peer, op, fp, **arguments)
    assert found["ok"] is True, found
    result: dict[str, Any] = found["result"]
    documented = peer.worker.core.requests.table[op].result
    assert result.keys() <= {"more", *re.findall(r'"(\w+)"', documented)}, f"{op}: not as documented"
    return result


async def refused(peer: Peer, op: str, fp: str | None = None, **arguments: Any) -> ErrorCode:
    """The code of a request that must be refused."""
    found = await answered(peer, op, fp, **arguments)
    assert found["ok"] is False, found
    assert found["error"]["text"]
    return ErrorCode(found["error"]["code"])


async def befriend(one: Peer, other: Peer) -> None:
    await ask(one, "friend.request", user=other.name)
    await ask(other, "friend.accept", user=one.name)


async def new_group(owner: Peer, *members: Peer, name: str = "team") -> int:
    """Open: the members join by its number."""
    number = int((await ask(owner, "group.create", name=name, join="open"))["group"]["id"])
    for member in members:
        await ask(member, "group.join", group=number)
    return number


async def kick(by: Peer, group: int, name: str) -> None:
    """Remove a member, who can join again: the ban is lifted in the store, and nobody is notified of that."""
    await ask(by, "group.kick", group=group, user=name)

    def lift(tables: Tables) -> None:
        account = tables.accounts.find(name, 0)
        assert account is not None
        assert by.session is not None
        tables.admission.unban(by.session.user.id, group, account.user.id)

    await by.worker.core.store.write(lift)


async def hears(stage: Stage, peer: Peer, event: str, count: int = 1) -> dict[str, Any]:
    """The latest of `count` notices with this event."""
    await stage.until(f"{peer.name} hears {event}", lambda: len(notices(peer, event)) >= count)
    found = notices(peer, event)
    assert len(found) == count, found
    return found[-1]
