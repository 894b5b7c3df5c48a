"""Telling a sender that a recipient's client was given only the beginning of a message, because a packet to it could
not be longer.

Owns: the notice `message.cut`, once per message and recipient.
Elsewhere: cutting (wire), giving messages (core.in_flight).
Fails: never. The notice is not stored: a sender who is away is not told.
"""

from __future__ import annotations

from chatd.core.requests.notices import Notices, notice, of_user
from chatd.core.services import Services
from chatd.core.sessions.session import Session
from chatd.model import ConversationId, Message, Seq, User, UserId

_REMEMBERED = 10_000
"""Notices of this worker that are not given again, for instance after the recipient has logged in again."""
_NAMED = 10
"""Maximum recipients of one message that one worker names: a group may have thousands."""


class CutNotices:
    def __init__(self, services: Services, notices: Notices) -> None:
        self._services = services
        self._notices = notices
        self._told: dict[tuple[ConversationId, Seq], set[UserId]] = {}
        """By message, in the order of the first notice."""

    def given(self, session: Session, message: Message) -> None:
        """The session's client was given a part of the message."""
        told = self._told.setdefault((message.conversation, message.seq), set())
        user = session.user
        if user.id in told or len(told) >= _NAMED:
            return
        told.add(user.id)
        if len(self._told) > _REMEMBERED:
            del self._told[next(iter(self._told))]
        # Not at once: the message is just being given to one session after the other.
        self._services.loop.call_soon(self._tell, message, user)

    def _tell(self, message: Message, user: User) -> None:
        place = f"#{message.group_id}" if message.group_id else message.to_name
        text = notice("message.cut", **{"with": place, "seq": message.seq, "user": of_user(user)})
        # Two workers that tell it of the same recipient give it the same fp: clients drop the second one.
        fp = f"cut:{message.conversation}.{message.seq}.{user.id}"
        self._notices.tell_user(message.sender_id, text, fp)
