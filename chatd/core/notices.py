"""What the server tells a client of its own accord, or in answer to a request (S2C).

Owns: the JSON of answers and notices, their server-made fp, and the choice between a wire's own event and text.
Elsewhere: giving them again until acknowledged (core.delivery), what is said (core.requests, core.friends,
core.groups), how it is cut to fit (core.fitting).
Fails: never.

Source: protocols/mobileimsdk.md, "Requests to the server".
"""

from __future__ import annotations

import itertools
import time

from chatd.core.delivery import Delivery
from chatd.core.fitting import encode, size_of, squeezed
from chatd.core.session import Session
from chatd.errors import meaning
from chatd.model import Group, User
from chatd.protocol import FriendAnswered, FriendRequested, ServerMessage

Ref = str | int | None
_REASON_CHARS = 300


def answer(ref: Ref, result: object) -> str:
    return encode({"ref": ref, "ok": True, "result": result}).decode()


def refusal(ref: Ref, code: int, text: str) -> str:
    error = {"code": int(code), "text": text[:_REASON_CHARS], "temporary": meaning(code).temporary}
    return encode({"ref": ref, "ok": False, "error": error}).decode()


def notice(event: str, **fields: object) -> str:
    return encode({"event": event, **fields}).decode()


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
            self._delivery.tell(session, ServerMessage(squeezed(text, session.peer.text_bytes - size_of(fp)), fp))

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
