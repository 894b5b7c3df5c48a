"""Base64 as browsers write keys: for URLs, without padding.

Owns: encoded(), decoded().
Elsewhere: what is encoded (web_push.vapid, web_push.encryption).
Fails: ValueError for a text that is not in this form.
"""

from __future__ import annotations

import base64
import binascii
import re

_FORM = re.compile(r"[A-Za-z0-9_-]*={0,2}", re.ASCII)


def encoded(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def decoded(text: str) -> bytes:
    """With or without padding. Raises ValueError."""
    if not _FORM.fullmatch(text):
        raise ValueError("is not Base64 for URLs")
    bare = text.rstrip("=")
    try:
        return base64.urlsafe_b64decode(bare + "=" * (-len(bare) % 4))
    except binascii.Error:
        raise ValueError("is not Base64 for URLs") from None
