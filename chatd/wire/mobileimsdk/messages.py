"""A message as a packet that is not the usual one: too long, marked as a group's, or with its number.

Owns: fitting a message into a packet, and noting that its text was cut.
Elsewhere: the usual packet, and which clients get which (wire.mobileimsdk.codec); fields and JSON
(wire.mobileimsdk.packets).
Fails: never.
"""

from __future__ import annotations

from collections.abc import Callable

import msgspec

from chatd.protocol import Deliver
from chatd.wire.contract import note_cut
from chatd.wire.json_stream import ELLIPSIS, fit
from chatd.wire.mobileimsdk.group_mark import GroupMark
from chatd.wire.mobileimsdk.packets import (
    compact_data_packet,
    compact_numbered_packet,
    data_packet,
    numbered_packet,
)
from chatd.wire.shown import fit_files, fit_shown, shown_text

_LEAST_NAME_CHARS = 8
"""Of the group's name in a mark, if the text is cut as well."""


def stock_text(event: Deliver) -> str:
    """For a stock client. Of nearly every message it is the body."""
    message = event.message
    return shown_text(message, event.links) if message.attachments or not message.body else message.body


def shorter_packet(event: Deliver, form: str, limit: int) -> bytes:
    """Without the fields that readers assume anyway; if it is still too long, with the text cut. So every text that a
    stock client can send in one packet is delivered whole."""
    message, fp = event.message, event.fp
    packet, is_cut = fit_shown(lambda text: compact_data_packet(message, fp, text), message, event.links, limit)
    if is_cut:
        note_cut(event, form)
    return packet


def packet_with_number(event: Deliver, form: str, limit: int) -> bytes:
    """For a client that asked for `seq`. It is told the state of a message whose text is gone, so there is no text to
    show in its place."""
    message, fp = event.message, event.fp
    packet = numbered_packet(message, fp, message.body)
    if len(packet) <= limit:
        return packet
    if message.attachments and len(compact_numbered_packet(message, fp, ELLIPSIS)) > limit:
        note_cut(event, form)
        return fit_files(
            lambda fewer, text: compact_numbered_packet(fewer, fp, text, has_all_files=False), message, limit
        )
    return _fitted(event, form, lambda text: compact_numbered_packet(message, fp, text), message.body, limit)


def marked_packet(event: Deliver, mark: GroupMark, form: str, limit: int) -> bytes:
    """A group message for a client that knows no groups. If it is too long, first the group's name is cut, then
    addresses of files go, then the text is cut."""
    message, fp, body = event.message, event.fp, shown_text(event.message, event.links)
    if mark.typeu is not None:
        message = msgspec.structs.replace(message, typeu=mark.typeu)
    number, name = message.group_id, event.group_name or f"#{message.group_id}"
    packet = data_packet(message, fp, mark.text(number, name, body))
    if len(packet) <= limit:
        return packet

    def with_name(name: str) -> bytes:
        return compact_data_packet(message, fp, mark.text(number, name, body))

    packet = fit(with_name, name, limit)
    if len(packet) <= limit:
        return packet
    if len(name) > _LEAST_NAME_CHARS:
        name = name[:_LEAST_NAME_CHARS] + ELLIPSIS

    def with_text(text: str) -> bytes:
        return compact_data_packet(message, fp, mark.text(number, name, text))

    packet, is_cut = fit_shown(with_text, message, event.links, limit)
    if is_cut:
        note_cut(event, form)
    return packet


def _fitted(event: Deliver, form: str, make: Callable[[str], bytes], body: str, limit: int) -> bytes:
    whole = make(body)
    if len(whole) <= limit:
        return whole
    note_cut(event, form)
    return fit(make, body, limit)
