"""The request `typing`: telling the other side that somebody is writing.

Owns: its arguments, who may tell whom, how often, and the notice, which only sessions get that asked for the feature.
Elsewhere: who accepts messages from whom, and who may write in a group (the store).
Fails: Refused, Unavailable; core.requests.dispatch answers with them.

Nothing is stored, nothing is sent again, and nobody who is offline learns of it.
"""

from __future__ import annotations

from typing import Annotated, NamedTuple

import msgspec
from msgspec import Meta, field

from chatd import wall_clock
from chatd.bus.contract import topic_of_group, topic_of_user
from chatd.config.schema import Config
from chatd.core import bus_messages, consent
from chatd.core.bus_messages import TypingNoticed
from chatd.core.plugins.contract import NotAsked
from chatd.core.requests.arguments import user_named
from chatd.core.requests.dispatch import Operation, OperationTable
from chatd.core.requests.history import group_number
from chatd.core.requests.notices import notice, of_user
from chatd.core.requests.truncate import squeezed
from chatd.core.services import Services
from chatd.core.sessions.session import Session
from chatd.errors import ErrorCode, Refused
from chatd.model import GroupId, UserId
from chatd.protocol import Feature, ServerMessage
from chatd.store.contract import Purpose, Tables

_AGAIN_S = 2.0
"""Within this time, the same user is not told again in the same conversation."""
_PER_S = 5
"""Maximum requests of one user in a second, over all conversations."""
_NO_TEXT = NotAsked("it has no text: it only says that a message may follow, about which plug-ins are asked")


class Typing(msgspec.Struct, frozen=True):
    place: Annotated[str, Meta(min_length=1, max_length=64)] = field(name="with")


class _Target(NamedTuple):
    """One of the two is not 0."""

    user_id: UserId
    group_id: GroupId


class TypingOperations:
    def __init__(self, services: Services) -> None:
        self._services = services
        self._told_at: dict[tuple[UserId, _Target], float] = {}
        """When the writer last told the target, on the loop's clock; only of the last _AGAIN_S."""
        self._asked: dict[UserId, int] = {}
        """Requests of this second."""

    def table(self) -> OperationTable:
        return {
            "typing": Operation(
                Typing,
                "tell the other side that the user is writing; not stored, and at most once in 2 s per conversation",
                "{}",
                asks=_NO_TEXT,
                read=self._typing,
            ),
        }

    async def _typing(self, session: Session, arguments: Typing) -> object:
        user = session.user
        asked = self._asked[user.id] = self._asked.get(user.id, 0) + 1
        if asked > _PER_S:
            raise Refused(ErrorCode.TOO_FAST)
        place, config = arguments.place, self._services.config()
        target = await self._services.store.read(lambda tables: _target(tables, config, user.id, place))
        now = self._services.loop.time()
        if target is None or now - self._told_at.get((user.id, target), -_AGAIN_S) < _AGAIN_S:
            return {}
        self._told_at[user.id, target] = now
        message = TypingNoticed(user, target.user_id, target.group_id)
        topic = topic_of_group(target.group_id) if target.group_id else topic_of_user(target.user_id)
        if self._services.bus.has_subscribers(topic):
            self._services.bus.publish(topic, bus_messages.encode(message))
        self.notify(message)
        return {}

    def notify(self, message: TypingNoticed) -> None:
        """Tell the sessions on this worker that asked for it."""
        by, hub = message.by, self._services.hub
        sessions = hub.of_group(message.group_id) if message.group_id else hub.of_user(message.user_id)
        place = f"#{message.group_id}" if message.group_id else by.name
        text = ""
        most = self._services.config().limits.outbox_bytes // 4
        for session in tuple(sessions):
            if not session.features & Feature.TYPING or session.user.id == by.id or session.peer.out_bytes > most:
                continue
            text = text or notice("typing", **{"with": place, "by": of_user(by)})
            session.peer.push(ServerMessage(squeezed(text, session.peer.text_bytes), ""))

    def round(self) -> None:
        """Once a second."""
        self._asked.clear()
        if self._told_at:
            since = self._services.loop.time() - _AGAIN_S
            self._told_at = {key: at for key, at in self._told_at.items() if at > since}


def _target(tables: Tables, config: Config, user_id: UserId, place: str) -> _Target | None:
    """Whom to tell; None = nobody is told in a group of this size. Raises Refused if a message to this place would be
    refused."""
    now_ms = wall_clock.now_ms()
    if place[0] == "#":
        group_id = group_number(place)
        members = tables.groups.check_writer(group_id, user_id, now_ms)
        return _Target(0, group_id) if members <= config.groups.typing_members else None
    other = user_named(place)(tables)
    consent.check(tables, config, Purpose.WRITE, user_id, other.id)
    return _Target(other.id, 0)
