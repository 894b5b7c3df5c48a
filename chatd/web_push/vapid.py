"""Who sends: the key by which a push service knows this server again (VAPID, RFC 8292).

Owns: VapidKey: reading the key, its public half as browsers are given it, signing a request.
Elsewhere: where the key comes from (config.push_options, chatctl.push), sending (push.sender).
Fails: ValueError, with a text for the operator that does not show the key.
"""

from __future__ import annotations

import time
from urllib.parse import urlsplit

import jwt
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, EllipticCurvePrivateKey, generate_private_key
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_pem_private_key,
)

from chatd.web_push.encoding import encoded

VALID_S = 12 * 3600
"""Of a signature: the most that is allowed is 24 hours, and clocks differ."""
_AGAIN_S = 3600
"""A signature is used for this long."""
_MOST_KEPT = 64
"""Signatures, one for each push service."""


def new_pem() -> str:
    """A new key, to be kept in a file that only the server reads."""
    key = generate_private_key(SECP256R1())
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()


class VapidKey:
    def __init__(self, pem: str) -> None:
        """Raises ValueError."""
        try:
            key = load_pem_private_key(pem.encode(), None)
        except (ValueError, TypeError, UnsupportedAlgorithm):
            raise ValueError("is not a private key in PEM; make one: chatctl push key FILE") from None
        if not isinstance(key, EllipticCurvePrivateKey) or not isinstance(key.curve, SECP256R1):
            raise ValueError("is not a key of the curve P-256; make one: chatctl push key FILE")
        self._key = key
        point = key.public_key().public_bytes(Encoding.X962, PublicFormat.UncompressedPoint)
        self.public = encoded(point)
        """applicationServerKey of a browser's PushManager.subscribe()."""
        self._kept: dict[tuple[str, str], tuple[float, str]] = {}
        """By push service and subject: when it was signed, and the header."""

    def authorization(self, endpoint: str, subject: str) -> str:
        """The header Authorization of a request to this endpoint. subject: whom the push service may ask."""
        parts, now_s = urlsplit(endpoint), time.time()
        service = f"{parts.scheme}://{parts.netloc}"
        signed_s, header = self._kept.get((service, subject), (0.0, ""))
        if not 0 <= now_s - signed_s < _AGAIN_S:
            claims = {"aud": service, "exp": int(now_s) + VALID_S, "sub": subject}
            header = f"vapid t={jwt.encode(claims, self._key, algorithm='ES256')}, k={self.public}"
            if len(self._kept) >= _MOST_KEPT:
                self._kept.clear()
            self._kept[service, subject] = now_s, header
        return header
