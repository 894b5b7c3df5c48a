"""Sending a message to a user or a group.

Owns: SendMessage, from the check whether the store's queue has room to the sender's acknowledgement, which follows the
commit (P1).
Elsewhere: numbering, membership and full mailboxes, inside the transaction (store.contract.Tables.append); how much a
user may send (core.allowances); the recipients (core.delivery).
Fails: Refused BUSY when the store's queue is full, and TOO_FAST; otherwise the sender is answered by results().
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from chatd.config.schema import Config
from chatd.core import refusals, trail
from chatd.core.delivery import Delivery
from chatd.core.services import Services
from chatd.core.sessions.session import Session, SessionState
from chatd.errors import MEANINGS, ErrorCode, Refused
from chatd.model import ALL_MEMBERS, Message
from chatd.protocol import Accepted, Extras, Failed, SendMessage
from chatd.security_log import SecurityEvent
from chatd.store.contract import Draft, Stored, text_hash

_LIVE = SessionState.LIVE
"""Read per message: an attribute of an enum costs several times a global."""


class Messages:
    def __init__(
        self, services: Services, delivery: Delivery, also_tell: Callable[[Message], None] | None = None
    ) -> None:
        """also_tell: called with each message that is stored for the first time."""
        self._store = services.store
        self._config = services.config
        self._allowances = services.allowances
        self._row = services.row
        self._hub = services.hub
        self._delivery = delivery
        self._also_tell = also_tell
        self._tracing = services.tracing
        self.stored = 0
        """Messages stored for clients, total. Repetitions are not counted."""

    def send(self, session: Session, command: SendMessage, client_body: str | None = None) -> None:
        """Queue the message for the next commit. client_body: the text as the client sent it, if a plug-in may have
        changed it. Raises Refused BUSY, TOO_FAST, LIMIT_REACHED (too many mentions or files)."""
        if command.extras is not None:
            _check_extras(command.extras, self._config())
        store = self._store
        if store.queued >= self._config().limits.store_queue:
            raise Refused(ErrorCode.BUSY)
        if command.to_group:
            self._allowances.spend_recipients(session, command.to_group)
        body_hash = None if client_body is None or client_body == command.body else text_hash(client_body)
        store.append(Draft(session.user, command, body_hash), session)
        if self._tracing.users:
            self._tracing.accepted(session, command)

    def results(
        self, drafts: Sequence[Draft], sessions: Sequence[Session], results: Sequence[Stored | ErrorCode]
    ) -> None:
        """After a commit: acknowledge, then deliver. A repetition is acknowledged again, and delivered again: the
        worker that stored it the first time may have died before it told anybody."""
        for draft, session, result in zip(drafts, sessions, results, strict=True):
            live = session.state is _LIVE
            if self._tracing.follows:
                self._tracing.decided(draft, result, session)
            if isinstance(result, ErrorCode):
                refusals.count(self._row, result)
                if result is ErrorCode.MAILBOX_FULL:
                    self._record_full(session, draft)
                if live:
                    session.peer.push(Failed(result, MEANINGS[result].text, draft.command))
                continue
            message = result.message
            if live:
                session.peer.push(Accepted(draft.command, message.seq, message.sent_at_ms, message.conversation))
            self.stored += result.fresh
            if result.members and (group := self._hub.group(message.group_id)) is not None:
                group.member_count = result.members
            self._delivery.stored(message, result.members_version, tells=session.hears_delivered)
            if self._also_tell is not None and result.fresh:
                self._also_tell(message)

    def _record_full(self, session: Session, draft: Draft) -> None:
        """Too many messages wait for the recipient."""
        self._row.mailbox_refused += 1
        user, command = session.user, draft.command
        to = command.to_name or command.to_id
        trail.record(SecurityEvent.MAILBOX_FULL, session.peer, name=user.name, user=user.id, to=to)


def _check_extras(extras: Extras, config: Config) -> None:
    """Raises Refused LIMIT_REACHED."""
    mentions, files = config.groups.mentions, config.files.per_message
    if len(extras.mentions) > mentions and extras.mentions != ALL_MEMBERS:
        raise Refused(ErrorCode.LIMIT_REACHED, f"at most {mentions} members can be mentioned")
    if len(extras.files) > files:
        raise Refused(ErrorCode.LIMIT_REACHED, f"a message has at most {files} files")
