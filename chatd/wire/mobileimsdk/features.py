"""What a client of the MobileIMSDK wire asks for in the `extra` of its login.

Owns: reading the wishes, and their names.
Elsewhere: what a feature means (protocol.Feature), the other fields of a login (wire.mobileimsdk.packets).
Fails: never. `extra` belongs to the application: what is not for chatd is ignored.
"""

from __future__ import annotations

import msgspec
from msgspec import Raw, Struct

from chatd.protocol import Feature

_MAX_EXTRA_BYTES = 4096
"""Of `extra` as it stands in the login's JSON; a longer one is not looked into."""
_BY_NAME = {feature.name.lower(): feature for feature in Feature if feature.name}


class _Wishes(Struct, gc=False):
    features: list[str]


class _Extra(Struct, gc=False):
    chatd: _Wishes


_decode_text = msgspec.json.Decoder(str).decode
_decode_extra = msgspec.json.Decoder(_Extra).decode


def wishes(extra: Raw) -> Feature | None:
    """The features that an `extra` asks for, as far as chatd knows them; None if it does not ask chatd for any. extra:
    the field's JSON, empty = there is none."""
    field = bytes(extra)
    if not field or len(field) > _MAX_EXTRA_BYTES:
        return None
    try:
        asked = _decode_extra(_decode_text(field)).chatd.features
    except (ValueError, RecursionError):  # not JSON, or nothing for chatd
        return None
    found = Feature(0)
    for name in asked:
        found |= _BY_NAME.get(name, Feature(0))
    return found


def names(features: Feature) -> list[str]:
    """As the login answer lists them."""
    return [name for name, feature in _BY_NAME.items() if feature in features]
