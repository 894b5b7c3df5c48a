"""What the server tells a client of its own accord, or in answer to a request (S2C).

Owns: the JSON of answers and notices, their server-made fp, and the choice between a wire's own event and text.
Elsewhere: giving them again until acknowledged (core.delivery), what is said (core.requests, friends, groups).
Fails: never.

Source: protocols/mobileimsdk.md, "Requests to the server".
"""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable
from typing import Any

import msgspec

from chatd.core.delivery import Delivery
from chatd.core.session import Session
from chatd.errors import MEANINGS, ErrorCode
from chatd.model import Group, User
from chatd.protocol import FriendAnswered, FriendRequested, ServerMessage

Ref = str | int | None

_encode = msgspec.json.Encoder().encode


def answer(ref: Ref, result: object) -> str:
    return _encode({"ref": ref, "ok": True, "result": result}).decode()


def fitted(ref: Ref, result: object, room: int) -> str:
    """The answer, its longest lists cut at the end ("more": true) so that the text takes at most `room` bytes as a
    JSON string. Where not even one entry fits, that entry's "text" is cut and its "cut" says at which character."""
    text = answer(ref, result)
    if _size(text) <= room or not isinstance(result, dict):
        return text
    lists = [key for key, value in result.items() if isinstance(value, list) and value]
    lists.sort(key=lambda key: len(_encode(result[key])), reverse=True)
    left = {**result, "more": True}
    for key in lists:
        whole = result[key]
        rest = dict(left)

        def first(size: int, key: str = key, whole: list[Any] = whole, rest: dict[str, Any] = rest) -> str:
            return answer(ref, {**rest, key: whole[:size]})

        count = _most(len(whole), first, room)
        left[key] = whole[:count]
        if count:
            return answer(ref, left)
        if "text" in whole[0] and len(lists) == 1:
            left[key] = [_cut(whole[0], ref, left, key, room)]
    return answer(ref, left)


def _cut(entry: dict[str, Any], ref: Ref, result: dict[str, Any], key: str, room: int) -> dict[str, Any]:
    words, start = str(entry["text"]), int(entry.get("start", 0))

    def first(size: int) -> dict[str, Any]:
        return {**entry, "text": words[:size], "cut": start + size}

    return first(_most(len(words), lambda size: answer(ref, {**result, key: [first(size)]}), room))


def _most(most: int, make: Callable[[int], str], room: int) -> int:
    """The greatest n of 0..most for which make(n) takes at most `room` bytes."""
    fits, too_many = 0, most + 1
    while too_many - fits > 1:
        middle = (fits + too_many) // 2
        if _size(make(middle)) <= room:
            fits = middle
        else:
            too_many = middle
    return fits


def _size(text: str) -> int:
    return len(_encode(text))


def refusal(ref: Ref, code: ErrorCode, text: str) -> str:
    error = {"code": int(code), "text": text, "temporary": MEANINGS[code].temporary}
    return _encode({"ref": ref, "ok": False, "error": error}).decode()


def notice(event: str, **fields: object) -> str:
    return _encode({"event": event, **fields}).decode()


def of_user(user: User) -> dict[str, object]:
    return {"id": user.id, "name": user.name}


def of_group(group: Group) -> dict[str, object]:
    return {"id": group.id, "name": group.name, "description": group.description}


class Notices:
    def __init__(self, delivery: Delivery) -> None:
        self._delivery = delivery
        self._fp = f"s{time.time_ns():x}"
        self._numbers = itertools.count()

    def tell(self, session: Session, text: str, fp: str = "") -> None:
        """To a wire that has S2C texts; others are told nothing. Given again until acknowledged."""
        if session.explicit:
            fp = fp or f"{self._fp}.{next(self._numbers):x}"
            self._delivery.tell(session, ServerMessage(text, fp))

    def friend_requested(self, session: Session, event: FriendRequested) -> None:
        if session.explicit:
            self.tell(session, notice("friend.request", **{"from": of_user(event.request.sender)}))
        else:
            session.peer.push(event)

    def friend_answered(self, session: Session, event: FriendAnswered) -> None:
        if session.explicit:
            name = "friend.accepted" if event.accepted else "friend.refused"
            self.tell(session, notice(name, **{"from": of_user(event.by)}))
        else:
            session.peer.push(event)
