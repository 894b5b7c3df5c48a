"""Keys and tokens for tests: made once per process, and tokens that no library would make.

Owns: KEYS, one pair per algorithm, and raw(), a token of any header and any payload.
Elsewhere: what becomes of them (the tests).
"""

from __future__ import annotations

import base64
import functools
import hashlib
import hmac
import json
import time
from collections.abc import Mapping
from typing import Any, NamedTuple

import jwt
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat
from jwt.algorithms import ECAlgorithm, OKPAlgorithm, RSAAlgorithm

SECRET = "a secret of the tests, of more than 32 bytes"


class Pair(NamedTuple):
    """Texts in PEM."""

    algorithm: str
    private: str
    public: str

    def sign(self, claims: Mapping[str, Any], kid: str = "") -> str:
        return jwt.encode(dict(claims), self.private, algorithm=self.algorithm, headers={"kid": kid} if kid else None)

    def jwk(self, kid: str) -> dict[str, Any]:
        """The public key, as in a key set."""
        made = {"RS256": RSAAlgorithm, "ES256": ECAlgorithm, "EdDSA": OKPAlgorithm}[self.algorithm]
        algorithm = made(made.SHA256) if made is not OKPAlgorithm else made()  # type: ignore[attr-defined]
        found = json.loads(made.to_jwk(algorithm.prepare_key(self.public)))
        return {**found, "kid": kid, "use": "sig", "alg": self.algorithm}


def pair(algorithm: str, number: int = 0) -> Pair:
    """number: another pair of the same algorithm."""
    return _pair(algorithm, number)


@functools.cache
def _pair(algorithm: str, number: int) -> Pair:
    private: Any = {
        "RS256": lambda: rsa.generate_private_key(65537, 2048),
        "ES256": lambda: ec.generate_private_key(ec.SECP256R1()),
        "EdDSA": ed25519.Ed25519PrivateKey.generate,
    }[algorithm]()
    return Pair(
        algorithm,
        private.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode(),
        private.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode(),
    )


def key_set(*pairs: Pair) -> bytes:
    """A JWKS whose kids are key0, key1, …"""
    return json.dumps({"keys": [one.jwk(f"key{at}") for at, one in enumerate(pairs)]}).encode()


def claims(name: str = "alice", lives_s: float = 600.0, **more: Any) -> dict[str, Any]:
    """more: further claims, or others; None leaves one out."""
    now = time.time()
    made = {"sub": name, "iat": now, "exp": now + lives_s, **more}
    return {key: value for key, value in made.items() if value is not None}


def hs256(name: str = "alice", lives_s: float = 600.0, kid: str = "", **more: Any) -> str:
    return jwt.encode(claims(name, lives_s, **more), SECRET, algorithm="HS256", headers={"kid": kid} if kid else None)


def part(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def raw(header: str | Mapping[str, Any], payload: str | Mapping[str, Any], secret: str = SECRET) -> str:
    """Signed with HS256, whatever the header says. Both parts may be any text."""
    texts = [one if isinstance(one, str) else json.dumps(one) for one in (header, payload)]
    signed = ".".join(part(text.encode()) for text in texts)
    return f"{signed}.{part(hmac.digest(secret.encode(), signed.encode(), hashlib.sha256))}"
