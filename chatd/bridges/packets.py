"""The packets that cross a bridge, as JSON.

Owns: reading a packet of the other server, writing one for it, and why a packet cannot be used.
Elsewhere: the fields of packets (wire.mobileimsdk.packets), who is who (bridges.people).
Fails: Unusable, for a packet that can never be delivered.
"""

from __future__ import annotations

import uuid
from typing import Annotated

import msgspec
from msgspec import Meta, field

from chatd.config.schema import Config
from chatd.errors import ChatdError, ErrorCode, Refused, WireError
from chatd.model import Message
from chatd.texts.sizes import over
from chatd.wire.json_stream import check_utf8, too_deep
from chatd.wire.mobileimsdk.packets import DATA, ClientPacket, encode_json
from chatd.wire.shown import shown_text

UNKNOWN_RECIPIENT = ErrorCode.UNKNOWN_RECIPIENT.name.lower()
"""Reason of Unusable: nobody here is meant."""
_NOBODY = ("", "-1", "0")
"""Ids that name no user who could receive something."""
_TEXT_CHARS = 300
"""Of the text of a dead letter, which may quote the packet."""
_FINGERPRINTS = uuid.UUID("5f1b6b3e-6f0c-4d0c-9a52-1f0f8e0b7c11")
"""Namespace of the fps of messages that were sent without one."""


class Unusable(ChatdError):
    """A packet goes to the dead letters. reason: one word, for programs; the text is for people."""

    def __init__(self, reason: str, text: str) -> None:
        text = text if len(text) <= _TEXT_CHARS else f"{text[:_TEXT_CHARS]}…"
        super().__init__(text)
        self.reason = reason
        self.text = text


def refusal(refused: Refused, before: str = "") -> Unusable:
    """Why chatd refuses a packet, as a reason for programs: the name of the code."""
    code = refused.code
    word = ErrorCode(code).name.lower() if code in set(ErrorCode) else f"refused_{code}"
    return Unusable(word, before + refused.text)


class _IncomingPacket(ClientPacket, gc=False):
    """`from` is what the other server says it is."""

    sender: Annotated[str, Meta(max_length=255)] | None = field(name="from", default=None)


class _OutgoingPacket(msgspec.Struct, gc=False, frozen=True, kw_only=True):
    """Every field, as the other server writes them."""

    bridge: bool = True
    type: int = DATA
    dataContent: str
    sender: str = field(name="from")
    to: str
    fp: str
    QoS: bool = True
    typeu: int
    sm: int


class Packet(msgspec.Struct, frozen=True, kw_only=True):
    """A message of a user of the other side. sender, to: ids there. fp: "" = the sender gave none."""

    sender: str
    to: str
    text: str
    fp: str
    typeu: int


_decode = msgspec.json.Decoder(_IncomingPacket).decode


def read(body: bytes, longest: int, config: Config) -> Packet:
    """longest: bytes of a packet. Raises: Unusable."""
    if len(body) > longest:
        raise Unusable(
            "too_large", f"the packet has {len(body)} bytes, at most {longest} are accepted (incoming_bytes)"
        )
    packet = _decoded(body)
    text, fp, limits = packet.dataContent or "", packet.fp or "", config.limits
    if packet.type != DATA:
        raise Unusable("wrong_type", f"packets of type {packet.type} do not cross, only those of type {DATA}")
    if not packet.sender or packet.sender == "-1":
        raise Unusable("no_sender", 'the packet has no "from"')
    if not packet.to or packet.to in _NOBODY:
        raise Unusable("no_recipient", f"{packet.to!r} is no user")
    if over(text, limits.body_bytes):
        raise Unusable("too_long", f"the text has more than {limits.body_bytes} bytes (limits.body_bytes)")
    if over(fp, limits.fp_bytes):
        raise Unusable("too_long", f"the fp has more than {limits.fp_bytes} bytes (limits.fp_bytes)")
    typeu = -1 if packet.typeu is None else packet.typeu
    return Packet(sender=packet.sender, to=packet.to, text=text, fp=fp, typeu=typeu)


def _decoded(body: bytes) -> _IncomingPacket:
    """Raises: Unusable."""
    try:
        check_utf8(body)
        if too_deep(body):
            raise Unusable("not_a_packet", "nested too deep")
        return _decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError, WireError) as error:
        raise Unusable("not_a_packet", f"not a packet: {error}") from None


def write(bridge: str, message: Message, sender: str, to: str, links: tuple[str, ...] = ()) -> bytes:
    """A packet for the other server, which sends it to the client of its user. A client there drops what it was given
    before by the fp, so every message has one. links: see protocol.Deliver."""
    fp = message.fp or str(uuid.uuid5(_FINGERPRINTS, f"{bridge} {message.conversation} {message.seq}"))
    typeu, sm = message.typeu, message.sent_at_ms
    text = shown_text(message, links) if message.attachments else message.body
    return encode_json(_OutgoingPacket(dataContent=text, sender=sender, to=to, fp=fp, typeu=typeu, sm=sm))


def size_of(text: str, sender: str, to: str, fp: str) -> int:
    """Bytes of a packet with this text, at most. fp: as the sender gave it."""
    fp = fp or str(_FINGERPRINTS)
    return len(encode_json(_OutgoingPacket(dataContent=text, sender=sender, to=to, fp=fp, typeu=-(2**31), sm=10**15)))
