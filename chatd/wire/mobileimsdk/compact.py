"""The shortest way to say a packet of the MobileIMSDK wire.

Owns: fitting a packet into fewer bytes than it has. An address that has not logged in is sent nothing longer than what
it sent, so that a forged sender address turns the server on nobody (docs/protocols/mobileimsdk.md).
Not here: packets as they are otherwise written (wire.mobileimsdk.codec).
Fails: never; a packet that cannot be said so briefly is b"".
"""

from __future__ import annotations

import msgspec
from msgspec import Raw

from chatd.wire.json_stream import decode_fields

_DEFAULTS = {"bridge": b"false", "to": b'"-1"', "fp": b"null", "QoS": b"false", "typeu": b"-1", "sm": b"-1"}
"""Readers must take a field that is absent for this."""
_CODES = {52: "errorCode", 54: "code"}
"""Types whose dataContent is a code and words: without the words it still says what matters."""

_encode = msgspec.json.Encoder().encode


def shortened(packet: bytes, limit: int) -> bytes:
    """`packet` in at most `limit` bytes: without what readers assume anyway, then without the words of an error."""
    fields = decode_fields(packet)
    for name, default in _DEFAULTS.items():
        if bytes(fields.get(name, b"")) == default:
            del fields[name]
    said = _encode(fields)
    if len(said) > limit:
        said = _without_words(fields)
    return said if len(said) <= limit else b""


def _without_words(fields: dict[str, Raw]) -> bytes:
    key = _CODES.get(msgspec.json.decode(fields["type"], type=int))
    if key is None:
        return _encode(fields)
    content = msgspec.json.decode(msgspec.json.decode(fields["dataContent"], type=str), type=dict[str, object])
    return _encode({**fields, "dataContent": _encode({key: content[key]}).decode()})
