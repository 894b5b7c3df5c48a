"""Past messages as one user sees them: without those that the user has deleted, and their changes.

Owns: own_messages(), changes_since().
Elsewhere: what the user may read at all (HistoryTables.messages), the operations (core.requests.history).
Fails: what the store raises passes through.
"""

from __future__ import annotations

from typing import NamedTuple

from chatd.model import ConversationId, Message, Seq, UserId
from chatd.store.contract import Tables


class Page(NamedTuple):
    """As the arguments of HistoryTables.messages()."""

    after: Seq
    before: Seq
    limit: int


class PastChange(NamedTuple):
    """number: of the change. message: as it is now; None: the user may not read it, or has deleted it."""

    number: int
    message: Message | None


def own_messages(tables: Tables, user_id: UserId, conversation: ConversationId, page: Page) -> list[Message]:
    """A page of the messages that the user may read and has not deleted. Cost: as many rows more as there are single
    deleted messages in it (store.revision_contract.MAX_HIDDEN at most)."""
    cleared, hidden = tables.revisions.own_view(user_id, conversation)
    after, before, limit = page
    found = tables.history.messages(user_id, conversation, max(after, cleared), before, limit + len(hidden))
    kept = [message for message in found if message.seq > cleared and message.seq not in hidden]
    return kept[-limit:] if before > 0 else kept[:limit]


def changes_since(
    tables: Tables, user_id: UserId, conversation: ConversationId, after: int, limit: int
) -> list[PastChange]:
    """The first changes with a number above `after`, ascending; of each message its last one."""
    revisions = tables.revisions.since(conversation, after, limit) if limit else []
    if not revisions:
        return []
    first = tables.history.first_readable(user_id, conversation)
    cleared, hidden = tables.revisions.own_view(user_id, conversation)
    readable = {one.seq for one in revisions if one.seq >= first and one.seq > cleared} - hidden
    messages = {message.seq: message for message in tables.history.at(conversation, readable)}
    return [PastChange(one.number, messages.get(one.seq)) for one in revisions]
