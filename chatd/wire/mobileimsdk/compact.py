"""The shortest way to write a packet of the MobileIMSDK wire.

Owns: fitting a packet that is already encoded into fewer bytes. An address that has not logged in is never sent more
bytes than it sent, so the server cannot be used to flood a forged address (docs/protocols/mobileimsdk.md).
Elsewhere: packets as they are usually written (wire.mobileimsdk.packets).
Fails: never; a packet that does not fit is b"".
"""

from __future__ import annotations

import msgspec
from msgspec import Raw

from chatd.wire.json_stream import decode_fields
from chatd.wire.mobileimsdk.packets import ERROR, KICKED, encode_json

_DEFAULTS = {"bridge": b"false", "to": b'"-1"', "fp": b"null", "QoS": b"false", "typeu": b"-1", "sm": b"-1"}
"""The value that readers must assume for an absent field."""
_CODE_FIELDS = {ERROR: "errorCode", KICKED: "code"}
"""By type, where dataContent is a code and a text: the code alone is enough."""


def shortened(packet: bytes, limit: int) -> bytes:
    """`packet` in at most `limit` bytes: without the fields that have their default, then without the text of an
    error."""
    fields = decode_fields(packet)
    for name, default in _DEFAULTS.items():
        if bytes(fields.get(name, b"")) == default:
            del fields[name]
    short = encode_json(fields)
    if len(short) > limit:
        short = _code_only(fields)
    return short if len(short) <= limit else b""


def _code_only(fields: dict[str, Raw]) -> bytes:
    field = _CODE_FIELDS.get(msgspec.json.decode(fields["type"], type=int))
    if field is None:
        return encode_json(fields)
    content = msgspec.json.decode(msgspec.json.decode(fields["dataContent"], type=str), type=dict[str, object])
    return encode_json({**fields, "dataContent": encode_json({field: content[field]}).decode()})
