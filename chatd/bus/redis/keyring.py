"""The keys of a cluster: signing what a worker writes to Redis, and checking what others have written.

Owns: making keys from their text, the signature, and which signatures are accepted.
Elsewhere: what is signed (bus.redis.envelope for messages, bus.redis.membership for entries), the options
(config.schema: keys in the section bus), replays (bus.redis.envelope).
Fails: never.

A signature is BLAKE2b with the key as its key (a keyed hash needs no HMAC around it), cut to 16 bytes
(docs/decisions/0024-signed-bus-messages.md). The first key signs, every key is accepted, so that keys can be replaced
on one host after the other. The keys may change while the bus is open; a key that is no longer named is accepted for
REMOVED_KEY_S more, because messages signed with it may be on their way.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from hashlib import blake2b
from hmac import compare_digest

SIGNATURE_BYTES = 16
REMOVED_KEY_S = 10.0
"""Longer than a message needs from a worker that has just got the new keys to a busy one."""
_KEY_BYTES = 32
_PERSON = b"chatd bus"
"""Keeps keys made here apart from other uses of the same text."""
_JSON_SIGNATURE = b',"signature":"'


class Keyring:
    """Changed by replace() only, from the worker's loop. now: the clock, in seconds."""

    def __init__(
        self,
        texts: Sequence[str] = (),
        *,
        accepts_unsigned: bool = False,
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        self._now = now
        self._keys: dict[str, blake2b] = {}
        self._removed: dict[str, tuple[blake2b, float]] = {}
        """Keys accepted for a while longer, and until when."""
        self.replace(texts, accepts_unsigned=accepts_unsigned)

    def replace(self, texts: Sequence[str], *, accepts_unsigned: bool) -> None:
        """texts: the keys, as in bus.keys. accepts_unsigned: also without a signature; always so without keys."""
        before, now = self._keys, self._now()
        self._keys = {text: _hasher(text) for text in texts}
        """A hasher for each key, which has read its key and nothing else; copying it saves reading the key again."""
        self._removed |= {text: (hasher, now + REMOVED_KEY_S) for text, hasher in before.items()}
        self._removed = {
            text: (hasher, until)
            for text, (hasher, until) in self._removed.items()
            if text not in self._keys and now < until
        }
        self.signer = next(iter(self._keys.values()), None)
        """None: nothing is signed, and signatures are not checked."""
        self.accepts_unsigned = accepts_unsigned or not texts

    def sign(self, data: bytes) -> bytes:
        """The signature by the first key; b"" without keys."""
        if self.signer is None:
            return b""
        hasher = self.signer.copy()
        hasher.update(data)
        return hasher.digest()

    def is_signed(self, data: bytes, signature: bytes) -> bool:
        """Whether one of the keys has signed this. Takes the same time for every wrong signature."""
        if any(_has_signed(key, data, signature) for key in self._keys.values()):
            return True
        now = self._now()
        return any(now < until and _has_signed(key, data, signature) for key, until in self._removed.values())

    # ------------------------------------------------------------ entries of a hash

    def signed_json(self, name: bytes, body: bytes) -> bytes:
        """body, a JSON object, with its signature as the last member, which readers of an earlier version ignore. name:
        where it is kept; it is valid nowhere else. As it is without keys."""
        signature = self.sign(_of_entry(name, body))
        return b'%b%b%b"}' % (body[:-1], _JSON_SIGNATURE, signature.hex().encode()) if signature else body

    def verified_json(self, name: bytes, value: bytes) -> bytes | None:
        """The object in such an entry; None if it is not by a holder of a key."""
        body, mark, rest = value.rpartition(_JSON_SIGNATURE)
        if not mark or not rest.endswith(b'"}'):
            return value if self.accepts_unsigned else None
        body += b"}"
        if self.signer is None:
            return body
        try:
            signature = bytes.fromhex(rest[:-2].decode("ascii"))
        except ValueError:
            return None
        return body if self.is_signed(_of_entry(name, body), signature) else None


def _of_entry(name: bytes, body: bytes) -> bytes:
    """What is signed. It never begins like a message, whose first byte is a version number."""
    return b"entry\0%b\0%b" % (name, body)


def _has_signed(key: blake2b, data: bytes, signature: bytes) -> bool:
    hasher = key.copy()
    hasher.update(data)
    return compare_digest(hasher.digest(), signature)


def _hasher(text: str) -> blake2b:
    key = blake2b(text.encode(), digest_size=_KEY_BYTES, person=_PERSON).digest()
    return blake2b(key=key, digest_size=SIGNATURE_BYTES)
