"""Telling the sender that a message has been delivered: that a client of the other user has acknowledged it.

Owns: who may know, joining what is acknowledged within a moment into one notice, and the notice, which only sessions
get that asked for the feature.
Elsewhere: whom a conversation is told about (core.delivery, by core.sessions.session.Cursor.tells), acknowledgements
(core.in_flight), the position of the other user at the next sync (core.requests.history).
Fails: never. A notice that is lost is made up for by the next one, or by the next sync.

Being told says that the other user's client is there. So nobody is told who may not see whether that user is online.
Only messages between two users are told about: in a group there would be one notice for each message and member.
"""

from __future__ import annotations

from chatd.bus.contract import topic_of_user
from chatd.core import bus_messages
from chatd.core.bus_messages import DeliveredNoticed
from chatd.core.consent import default_of
from chatd.core.requests.notices import notice, of_user
from chatd.core.requests.truncate import squeezed
from chatd.core.services import Services
from chatd.core.sessions.session import Session
from chatd.errors import Unavailable
from chatd.model import Seq, User, UserId
from chatd.protocol import ServerMessage
from chatd.store.contract import Purpose, Tables

JOIN_S = 0.2
"""Acknowledgements of this time are told at once."""
_MOST = 2000
"""Maximum notices of one moment; further ones are not sent, and the next sync says how it is."""

_Pair = tuple[UserId, UserId]
"""(sender, recipient)"""


class DeliveredNotices:
    def __init__(self, services: Services) -> None:
        self._services = services
        self._waiting: dict[_Pair, tuple[User, Seq]] = {}
        """The recipient, and how far they have come; told in a moment."""

    def reached(self, session: Session, sender_id: UserId, seq: Seq) -> None:
        """The session's client has everything of the conversation with the sender, up to seq."""
        waiting, pair = self._waiting, (sender_id, session.user.id)
        if len(waiting) >= _MOST and pair not in waiting:
            return
        if not waiting:
            self._services.loop.call_later(JOIN_S, self._tell_soon)
        waiting[pair] = session.user, max(seq, waiting[pair][1] if pair in waiting else 0)

    def _tell_soon(self) -> None:
        waiting, self._waiting = self._waiting, {}
        self._services.background.start(self._tell(waiting))

    async def _tell(self, waiting: dict[_Pair, tuple[User, Seq]]) -> None:
        services, pairs = self._services, list(waiting)
        here, bus = services.hub, services.bus
        pairs = [pair for pair in pairs if here.of_user(pair[0]) or bus.has_subscribers(topic_of_user(pair[0]))]
        if not pairs:
            return
        default = default_of(services.config(), Purpose.SEE)

        def ask(tables: Tables) -> list[bool]:
            return [code is None for code in tables.consent.refusals(Purpose.SEE, pairs, default)]

        try:
            allowed = await services.store.read(ask)
        except Unavailable as error:
            services.log.debug("nobody is told of deliveries", why=str(error))
            return
        for pair, may_see in zip(pairs, allowed, strict=True):
            if may_see:
                by, seq = waiting[pair]
                message = DeliveredNoticed(by, pair[0], seq)
                topic = topic_of_user(pair[0])
                if bus.has_subscribers(topic):
                    bus.publish(topic, bus_messages.encode(message))
                self.notify(message)

    def notify(self, message: DeliveredNoticed) -> None:
        """Tell the sessions on this worker that asked for it."""
        by, text = message.by, ""
        most = self._services.config().limits.outbox_bytes // 4
        for session in self._services.hub.of_user(message.user_id):
            if session.hears_delivered and session.peer.out_bytes <= most:
                about = {"with": by.name, "by": of_user(by), "seq": message.seq}
                text = text or notice("delivered", **about)
                session.peer.push(ServerMessage(squeezed(text, session.peer.text_bytes), ""))
