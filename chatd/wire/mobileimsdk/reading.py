"""What a packet of a MobileIMSDK client asks for, where it takes more than reading fields.

Owns: logins, what a client that asked for `seq` may add to a message, and what is wrong with a packet.
Elsewhere: messages and control packets, which are most of the traffic (wire.mobileimsdk.codec), the fields of packets
(wire.mobileimsdk.packets).
Fails: wrong_field() raises WireError for bytes that are not a packet; otherwise what is wrong is a Malformed.
"""

from __future__ import annotations

import msgspec

from chatd.errors import MEANINGS, ErrorCode, WireError
from chatd.model import ALL_MEMBERS
from chatd.protocol import Command, Extras, Login, Malformed, SendMessage
from chatd.wire.json_stream import as_int, as_str, check_utf8, fields_of, too_deep
from chatd.wire.mobileimsdk.features import wishes
from chatd.wire.mobileimsdk.packets import ClientPacket, LoginContent, NumberedClientPacket

_decode_login = msgspec.json.Decoder(LoginContent).decode


def login(packet: ClientPacket) -> Command:
    try:
        body = _decode_login(packet.dataContent or "")
    except (ValueError, RecursionError):
        return malformed(packet, "dataContent is not a login")
    if not body.loginUserId:
        return malformed(packet, "no loginUserId")
    return Login(
        name=body.loginUserId,
        user_id=0,
        secret=body.loginToken or "",
        first_login_time=body.firstLoginTime or 0,
        wants_token=body.datagramToken or False,
        features=wishes(body.extra),
    )


def with_extras(command: Command, packet: ClientPacket) -> Command:
    """What only a client that asked for `seq` may add to a message."""
    assert isinstance(packet, NumberedClientPacket)
    reply, mentions, files = packet.reply, packet.mentions, packet.files
    if not (reply or mentions or files) or not isinstance(command, SendMessage):
        return command
    if mentions and not command.to_group:
        return malformed(packet, "mentions: only in a message to a group")
    named = ALL_MEMBERS if mentions == "all" else tuple(mentions or ())
    return msgspec.structs.replace(
        command, extras=Extras(reply_to=reply or 0, mentions=named, files=tuple(files or ()))
    )


def group_number(to: str) -> int:
    """The number in "#<number>" as chatd writes it; 0 for any other text."""
    digits = to[1:]
    if len(digits) <= 18 and digits.isascii() and digits.isdigit() and digits[0] != "0":
        return int(digits)
    return 0


def malformed(packet: ClientPacket, text: str) -> Malformed:
    return Malformed(ErrorCode.BAD_FIELD, text, ref(packet.type), packet.fp or "")


def ref(kind: int | None) -> int:
    return kind if kind is not None and abs(kind) < 2**31 else 0


def wrong_field(frame: bytes) -> Malformed:
    """What is wrong with a packet that the typed decoder refused. Raises WireError if it is not a packet at all."""
    check_utf8(frame)
    if too_deep(frame):
        raise WireError(ErrorCode.INVALID_PACKET, "nested too deep")
    fields = fields_of(frame)
    text = MEANINGS[ErrorCode.BAD_FIELD].text
    return Malformed(ErrorCode.BAD_FIELD, text, ref(as_int(fields.get("type"))), as_str(fields.get("fp")))
