"""The keys that sign login tokens: read from the configuration and from key sets (JWKS), and found by a token's header.

Owns: which keys are good enough, which key may be used with which algorithm, and which keys a token may have.
Elsewhere: the options (config.token_options), fetching key sets again (core.tokens.key_sets), checking a token
(tokens.verifier), signing one (tokens.minting).
Fails: BadKey, with a text for the operator, for a key that cannot be used. No text contains a secret.

A key is used with one algorithm, its own, whatever the token says: that an RSA key is public helps nobody to sign with
HS256, and `none` is the algorithm of no key.
"""

from __future__ import annotations

import base64
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, EllipticCurvePrivateKey, EllipticCurvePublicKey
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey, RSAPublicKey
from cryptography.hazmat.primitives.serialization import load_pem_private_key, load_pem_public_key
from jwt.algorithms import ECAlgorithm, OKPAlgorithm, RSAAlgorithm
from jwt.exceptions import InvalidKeyError

from chatd.config.token_options import TokenKeyOptions
from chatd.errors import ChatdError
from chatd.tokens.contract import MAX_KEY_SET_BYTES, MAX_KID_CHARS, Header, strict_object

MIN_SECRET_BYTES = 32
"""Of HS256 (RFC 7518, section 3.2): a shorter secret can be found by trying, with one token in hand."""
MIN_RSA_BITS, MAX_RSA_BITS = 2048, 8192
"""A longer key makes each check slow."""
MAX_JWKS_KEYS = 64
MAX_TRIED = 8
"""Keys that are tried for one token, where several have its algorithm and `kid`."""

_Public = RSAPublicKey | EllipticCurvePublicKey | Ed25519PublicKey
_Private = RSAPrivateKey | EllipticCurvePrivateKey | Ed25519PrivateKey
_ALGORITHM_OF_KTY = {"RSA": "RS256", "EC": "ES256", "OKP": "EdDSA"}
_FROM_JWK: Mapping[str, Callable[[dict[str, Any]], Any]] = {
    "RSA": RSAAlgorithm.from_jwk,
    "EC": ECAlgorithm.from_jwk,
    "OKP": OKPAlgorithm.from_jwk,
}
_TEXT_OF_A_KEY = re.compile(r"-----BEGIN |^(ssh|ecdsa)-", re.MULTILINE)


class BadKey(ChatdError):
    """A key that cannot be used. Caught where the configuration is checked, and where a key set is read."""


class Key(NamedTuple):
    """kid: "" = it has no name. algorithm: the only one that it is used with. verifies: what the library checks
    signatures with. signs: what it signs with, or None."""

    kid: str
    algorithm: str
    verifies: bytes | _Public
    signs: bytes | _Private | None = None


class KeyRing:
    """All keys that are in force at one moment."""

    def __init__(self, keys: Sequence[Key]) -> None:
        self._keys = tuple(keys)

    def __iter__(self) -> Iterator[Key]:
        return iter(self._keys)

    def of(self, header: Header) -> list[Key]:
        """The keys that may have signed a token with this header, at most MAX_TRIED: those with its `kid`, or if there
        is none, those without one; only keys with its algorithm."""
        named = [one for one in self._keys if one.kid and one.kid == header.kid]
        found = named or [one for one in self._keys if not one.kid or header.kid is None]
        return [one for one in found if one.algorithm == header.algorithm][:MAX_TRIED]


def configured_keys(options: Sequence[TokenKeyOptions]) -> list[Key]:
    """The keys of [[token_key]], except those of key sets. Raises BadKey, which names the section."""
    keys = []
    for index, one in enumerate(options):
        if one.jwks:
            continue
        try:
            keys.append(_configured(one))
        except BadKey as error:
            raise BadKey(f"token_key[{index}]{error}") from None
    return keys


def _configured(one: TokenKeyOptions) -> Key:
    if one.algorithm == "HS256":
        secret = one.secret.encode()
        if _TEXT_OF_A_KEY.search(one.secret):
            raise BadKey(".secret: is the text of a key pair's key; for HS256 it must be a secret text")
        if len(secret) < MIN_SECRET_BYTES:
            text = f"has {len(secret)} bytes, HS256 needs {MIN_SECRET_BYTES} (openssl rand -hex 32)"
            raise BadKey(f".secret: {text}")
        return Key(one.kid, one.algorithm, secret, secret if one.mints else None)
    if one.secret:
        private = _private(one.secret)
        _check(private.public_key(), one.algorithm, ".secret")
        return Key(one.kid, one.algorithm, private.public_key(), private if one.mints else None)
    public = _public(one.public_key)
    _check(public, one.algorithm, ".public_key")
    return Key(one.kid, one.algorithm, public)


def _public(pem: str) -> Any:
    try:
        return load_pem_public_key(pem.encode())
    except (ValueError, TypeError, UnsupportedAlgorithm):
        raise BadKey('.public_key: is no public key in PEM ("-----BEGIN PUBLIC KEY-----")') from None


def _private(pem: str) -> Any:
    try:
        return load_pem_private_key(pem.encode(), None)
    except (ValueError, TypeError, UnsupportedAlgorithm):
        raise BadKey('.secret: is no private key in PEM without a password ("-----BEGIN PRIVATE KEY-----")') from None


def _check(key: Any, algorithm: str, where: str) -> None:
    """Raises BadKey unless the key may be used with the algorithm."""
    kinds = {"RS256": RSAPublicKey, "ES256": EllipticCurvePublicKey, "EdDSA": Ed25519PublicKey}
    if not isinstance(key, kinds[algorithm]):
        needed = {"RS256": "an RSA key", "ES256": "a key on the curve P-256", "EdDSA": "an Ed25519 key"}[algorithm]
        raise BadKey(f"{where}: {algorithm} needs {needed}")
    if isinstance(key, EllipticCurvePublicKey) and not isinstance(key.curve, SECP256R1):
        raise BadKey(f"{where}: ES256 needs a key on the curve P-256, this one is on {key.curve.name}")
    if isinstance(key, RSAPublicKey) and not MIN_RSA_BITS <= key.key_size <= MAX_RSA_BITS:
        raise BadKey(f"{where}: has {key.key_size} bits, allowed are {MIN_RSA_BITS} to {MAX_RSA_BITS}")


# ---------------------------------------------------------------- key sets


def keys_of_set(data: bytes, algorithm: str = "") -> list[Key]:
    """The keys of a JWKS that can check signatures. algorithm: only keys for this one; "" = for any. Secrets (`oct`),
    keys for encryption, and those of unknown kinds are left out: a set may have keys for others.

    Raises BadKey: it is no JWKS, too large, has no usable key, or a private one, which must not be there."""
    if len(data) > MAX_KEY_SET_BYTES:
        raise BadKey(f"has more than {MAX_KEY_SET_BYTES} bytes")
    try:
        entries = strict_object(data).get("keys")
    except ValueError:
        raise BadKey("is not JSON") from None
    if not isinstance(entries, list):
        raise BadKey('is no key set: it has no list "keys"')
    if len(entries) > MAX_JWKS_KEYS:
        raise BadKey(f"has {len(entries)} keys, the limit is {MAX_JWKS_KEYS}")
    found = [_of_entry(one) for one in entries if isinstance(one, dict)]
    keys = [one for one in found if one is not None and algorithm in ("", one.algorithm)]
    if not keys:
        raise BadKey(f"has no key for {algorithm or 'RS256, ES256 or EdDSA'}")
    return keys


def _of_entry(jwk: dict[str, Any]) -> Key | None:
    """None: it is for something else."""
    kty, kid = jwk.get("kty"), jwk.get("kid", "")
    if not isinstance(kty, str) or kty not in _ALGORITHM_OF_KTY or jwk.get("use", "sig") != "sig":
        return None
    if "d" in jwk:
        raise BadKey("has a private key: publish public keys only, and replace this one")
    algorithm = _ALGORITHM_OF_KTY[kty]
    if jwk.get("alg", algorithm) not in (algorithm, "Ed25519" if kty == "OKP" else algorithm):
        return None
    if not isinstance(kid, str) or len(kid) > MAX_KID_CHARS or _is_oversized(jwk):
        return None
    try:
        public = _FROM_JWK[kty](jwk)
        _check(public, algorithm, "")
    except (InvalidKeyError, ValueError, TypeError, KeyError, BadKey, UnsupportedAlgorithm):
        return None
    return Key(kid, algorithm, public)


def _is_oversized(jwk: dict[str, Any]) -> bool:
    """Whether a number of the key is longer than any that is allowed: making it would take long."""
    longest = len(base64.b64encode(bytes(MAX_RSA_BITS // 8)))
    return any(len(value) > longest for name in ("n", "e", "x", "y") if isinstance(value := jwk.get(name), str))
