"""Tracing: for some users, and for a time, each step of their messages is a record in the log.

Owns: who is traced and until when, and the records of each step: accepted, stored or refused, published, arrived on
another worker, given to a session, waiting, sent again, acknowledged. Steps by which the delay of a delivery is
measured are told to core.delivery_delay.
Elsewhere: the steps themselves (core.messages, core.delivery, core.in_flight), switching it on
(master.questions.tracing), finding the records again (chatctl.show.trace_log).
Fails: never.

A message is traced if its sender or its recipient is, for every recipient of a group's message. Records have the ids of
messages and users, never a text. While nobody is traced and nothing is measured, a step costs one look at an attribute.

Every record has the field `trace`, the name of the step, and as far as they are known `message` (CONVERSATION.SEQ),
`fp`, `sender`, `to` or `group`, and for a step of one session `user`, `wire` and `peer`.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from chatd import log
from chatd.errors import ErrorCode

if TYPE_CHECKING:
    from chatd.core.delivery_delay import DeliveryDelay
    from chatd.core.sessions.session import Session
    from chatd.model import ConversationId, Message, Seq, UserId
    from chatd.protocol import SendMessage
    from chatd.store.contract import Draft, Stored

MAX_USERS = 16
"""Maximum users traced at a time: each message of theirs is several records."""
_MAX_FOLLOWED = 10_000
"""Messages given and not acknowledged that are followed because their sender is traced. Beyond it, acknowledgements of
others are not recorded."""


class Tracing:
    """users: those that are traced, each with the time.monotonic() at which that ends. Steps are recorded by whoever
    finds it not empty. follows: the same for the steps that are also measured."""

    def __init__(self, delay: DeliveryDelay | None = None) -> None:
        self.users: dict[UserId, float] = {}
        self.follows = False
        self._delay = delay
        self._followed: set[tuple[UserId, ConversationId, Seq]] = set()
        """(recipient, conversation, seq) of messages whose sender is traced."""

    def trace(self, user_id: UserId, for_s: float) -> None:
        """Trace the user from now on for this time, or (0) no longer. Beyond MAX_USERS nothing happens."""
        if for_s <= 0:
            self._forget(user_id)
        elif user_id in self.users or len(self.users) < MAX_USERS:
            self.users[user_id] = time.monotonic() + for_s
        self._update()

    def measure(self) -> None:
        """Measure the delivery of one of the next messages."""
        if self._delay is not None:
            self._delay.allow()
            self._update()

    def _update(self) -> None:
        self.follows = bool(self.users) or (self._delay is not None and self._delay.wants)

    def round(self) -> None:
        """Once a second: end what has lasted long enough."""
        if self.users:
            now = time.monotonic()
            for user_id in [one for one, ends_at in self.users.items() if now >= ends_at]:
                self._forget(user_id)
            self._update()

    def _forget(self, user_id: UserId) -> None:
        self.users.pop(user_id, None)
        if not self.users:
            self._followed.clear()

    # ---------------------------------------------------------------- at the sender's worker

    def accepted(self, session: Session, command: SendMessage) -> None:
        """It waits for the store. Its recipient is not known by id yet, so only the sender matters."""
        if session.user.id in self.users:
            to: dict[str, Any] = {"group": command.to_group} if command.to_group else {}
            to = to or {"to": command.to_name or command.to_id}
            _record("accepted", fp=command.fp, sender=session.user.id, **to, **_client(session))

    def decided(self, draft: Draft, result: Stored | ErrorCode, session: Session) -> None:
        """The store has answered."""
        command, sender = draft.command, draft.sender
        if isinstance(result, ErrorCode):
            if sender.id in self.users:
                reason = result.name.lower()
                _record("refused", fp=command.fp, sender=sender.id, reason=reason, **_client(session))
            return
        if self._concerns(result.message):
            _record("stored", **_ids(result.message), repeated=not result.fresh, **_client(session))
        if result.fresh:
            self._begin_measuring(result.message)

    def _begin_measuring(self, message: Message) -> None:
        if self._delay is not None and self._delay.wants:
            self._delay.began(message)
            self._update()

    def published(self, message: Message) -> None:
        """It is on the bus, for the sessions of other workers."""
        if self._concerns(message):
            _record("published", **_ids(message))

    # ---------------------------------------------------------------- at the recipients' workers

    def arrived(self, message: Message) -> None:
        """Over the bus."""
        if self._concerns(message):
            _record("arrived", **_ids(message))
        self._begin_measuring(message)

    def given(self, session: Session, message: Message, step: str = "given") -> None:
        """It was sent to the client. step: "given", or "given again"."""
        if self._delay is not None and self._delay.wants:
            self._delay.given(session, message)
            self._update()
        if self._concerns(message) or session.user.id in self.users:
            _record(step, **_ids(message), **_client(session))
            if len(self._followed) < _MAX_FOLLOWED:
                self._followed.add((session.user.id, message.conversation, message.seq))

    def waits(self, session: Session, message: Message, why: str) -> None:
        """It stays in the store until the session has room."""
        if self._concerns(message) or session.user.id in self.users:
            _record("waits", **_ids(message), reason=why, **_client(session))

    def acknowledged(self, session: Session, conversation: ConversationId, seq: Seq) -> None:
        key = session.user.id, conversation, seq
        if key in self._followed or session.user.id in self.users:
            self._followed.discard(key)
            _record("acknowledged", message=f"{conversation}.{seq}", **_client(session))

    def _concerns(self, message: Message) -> bool:
        return message.sender_id in self.users or message.to_id in self.users


def _ids(message: Message) -> dict[str, Any]:
    to = {"group": message.group_id} if message.group_id else {"to": message.to_id}
    return {
        "message": f"{message.conversation}.{message.seq}",
        "fp": message.fp,
        "sender": message.sender_id,
        "sent_at_ms": message.sent_at_ms,
        **to,
    }


def _client(session: Session) -> dict[str, Any]:
    return {"user": session.user.id, "wire": session.protocol.name.lower(), "peer": session.peer.remote}


def _record(step: str, **fields: Any) -> None:
    log.get().trace("traced message", trace=step, **fields)
