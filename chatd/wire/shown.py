"""The text of a message for clients that do not know that messages can change, or can have files; and what clients that
know files are shown when there is not room for all.

Owns: shown_text(), the text that a waiting message has for them if its own is gone, and a line for each of its files;
fitting text or files into a packet.
Elsewhere: clients that are given a message's state and files (wire.mobileimsdk.messages, core.requests.history); the
addresses of files (core.file_addresses).
Fails: never.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import msgspec

from chatd.model import Message, MessageState
from chatd.texts.sizes import size_text
from chatd.wire.json_stream import ELLIPSIS, fit

_PLACEHOLDERS = {
    MessageState.RECALLED: "(message recalled)",
    MessageState.REMOVED: "(message removed by a group admin)",
    MessageState.ERASED: "(message erased with its sender's account)",
    MessageState.EXPIRED: "(message expired)",
}


def text_of(message: Message) -> str:
    """Its body, or a placeholder in its place."""
    return message.body or _PLACEHOLDERS.get(message.state, "")


def shown_text(message: Message, links: Sequence[str] = ()) -> str:
    """The same, and a line for each of its files. links: their addresses, in the same order; () = they are not told."""
    text = text_of(message)
    return _with_lines(text, _lines(message, links)) if message.attachments else text


def fit_shown(make: Callable[[str], bytes], message: Message, links: Sequence[str], limit: int) -> tuple[bytes, bool]:
    """make(text) of the shown text, or of as much of it as gives at most `limit` bytes, and whether anything but
    addresses is missing: first the addresses go, then the end of the body, then that of the lines."""
    for known in (links, ()) if links else ((),):
        whole = make(shown_text(message, known))
        if len(whole) <= limit:
            return whole, False
    if message.attachments:
        lines = _lines(message, ())
        if len(make(_with_lines(ELLIPSIS, lines))) > limit:
            return fit(make, lines, limit), True
        return fit(lambda text: make(_with_lines(text, lines)), message.body, limit), True
    return fit(make, shown_text(message), limit), True


def fit_files(make: Callable[[Message, str], bytes], message: Message, limit: int) -> bytes:
    """make(message, text) with as many of its files as give at most `limit` bytes, and nothing of the text. They are
    known not to fit all."""
    packet, text = b"", ELLIPSIS if message.body else ""
    for kept in range(len(message.attachments) - 1, -1, -1):
        packet = make(msgspec.structs.replace(message, attachments=message.attachments[:kept]), text)
        if len(packet) <= limit:
            break
    return packet


def _lines(message: Message, links: Sequence[str]) -> str:
    heads = [f"[{one.name}, {size_text(one.size)}]" for one in message.attachments]
    return "\n".join(f"{head} {link}" for head, link in zip(heads, links, strict=True)) if links else "\n".join(heads)


def _with_lines(text: str, lines: str) -> str:
    return f"{text}\n{lines}" if text else lines
