"""The text of a message for clients that do not know that messages can change.

Owns: shown_text(), the text that a waiting message has for them if its own is gone.
Elsewhere: clients that are given a message's state (wire.mobileimsdk.messages, core.requests.history).
Fails: never.
"""

from __future__ import annotations

from chatd.model import Message, MessageState

_PLACEHOLDERS = {
    MessageState.RECALLED: "(message recalled)",
    MessageState.REMOVED: "(message removed by a group admin)",
    MessageState.ERASED: "(message erased with its sender's account)",
    MessageState.EXPIRED: "(message expired)",
}


def shown_text(message: Message) -> str:
    """Its body, or a placeholder in its place."""
    return message.body or _PLACEHOLDERS.get(message.state, "")
