"""What a push service cannot read: the content of a notification, encrypted for one browser (RFC 8291, aes128gcm).

Owns: encrypt(), and Secrets, what is random in it; checking a browser's keys.
Elsewhere: the content (push.payload), sending (push.sender).
Fails: ValueError for keys that no browser has made, and for a content that is too long.

One record is made, as the RFC demands of a server: salt, length, key of the sender, and then AES-128-GCM of the content
with a delimiter. The key of the sender is used once.
"""

from __future__ import annotations

import os
import struct
from typing import NamedTuple

from cryptography.hazmat.primitives.asymmetric.ec import (
    ECDH,
    SECP256R1,
    EllipticCurvePrivateKey,
    EllipticCurvePublicKey,
    generate_private_key,
)
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from chatd.web_push.encoding import decoded

POINT_BYTES = 65
AUTH_BYTES = 16
_SALT_BYTES = 16
RECORD_BYTES = 4096
"""Of the whole body: the most that every push service takes."""
_TAG_BYTES = 16
CONTENT_BYTES = RECORD_BYTES - _SALT_BYTES - 4 - 1 - POINT_BYTES - _TAG_BYTES - 1
"""Longest content."""
_LAST = b"\x02"
"""Behind the content of the last record."""


class BrowserKeys(NamedTuple):
    """Of one subscription. point: public key, uncompressed. auth: a secret of the browser and this server."""

    point: bytes
    auth: bytes


class Secrets(NamedTuple):
    """What must be random, for each message."""

    salt: bytes
    key: EllipticCurvePrivateKey


def browser_keys(p256dh: str, auth: str) -> BrowserKeys:
    """Raises ValueError unless the two are keys, as a browser encodes them: a point of the curve, and a secret of the
    right length."""
    keys = BrowserKeys(decoded(p256dh), decoded(auth))
    if len(keys.point) != POINT_BYTES or len(keys.auth) != AUTH_BYTES:
        raise ValueError("p256dh must have 65 bytes, and auth 16")
    _public(keys.point)
    return keys


def encrypt(content: bytes, keys: BrowserKeys, secrets: Secrets | None = None) -> bytes:
    """The body of a request with Content-Encoding aes128gcm. secrets: only for tests. Raises ValueError. Cost: some
    hundred µs."""
    if len(content) > CONTENT_BYTES:
        raise ValueError(f"{len(content)} bytes, at most {CONTENT_BYTES}")
    secrets = secrets or Secrets(os.urandom(_SALT_BYTES), generate_private_key(SECP256R1()))
    sender = secrets.key.public_key().public_bytes(Encoding.X962, PublicFormat.UncompressedPoint)
    shared = secrets.key.exchange(ECDH(), _public(keys.point))
    secret = _derived(keys.auth, b"WebPush: info\x00" + keys.point + sender, 32, shared)
    key = _derived(secrets.salt, b"Content-Encoding: aes128gcm\x00", 16, secret)
    nonce = _derived(secrets.salt, b"Content-Encoding: nonce\x00", 12, secret)
    head = secrets.salt + struct.pack(">IB", RECORD_BYTES, len(sender)) + sender
    return head + AESGCM(key).encrypt(nonce, content + _LAST, None)


def _public(point: bytes) -> EllipticCurvePublicKey:
    """Raises ValueError for a point that is not on the curve."""
    return EllipticCurvePublicKey.from_encoded_point(SECP256R1(), point)


def _derived(salt: bytes, info: bytes, length: int, secret: bytes) -> bytes:
    return HKDF(algorithm=SHA256(), length=length, salt=salt, info=info).derive(secret)
