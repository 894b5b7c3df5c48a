"""Keys of the HTTP API: their form, their scopes, and what is stored of them.

Owns: making a key, its hash, the names of the scopes.
Elsewhere: which keys are valid (the store, core.key_ring), what a scope allows (the tables of routes in http), making
one for somebody (chatctl.keys).
Fails: never, except ValueError for scopes that do not exist.

A key is `chatd_` and 43 characters: 256 random bits. The prefix is there for scanners that look for secrets in source
code and logs.
"""

from __future__ import annotations

import secrets
from hashlib import sha256

PREFIX = "chatd_"
_SECRET_BYTES = 32
SCOPES: dict[str, str] = {
    "messages:write": "send messages as any user, as a bot, or as the system",
    "messages:read": "read the history of conversations",
    "users:read": "list users, their profiles, sessions and presence",
    "users:write": "create, lock, change, export and erase accounts; end sessions",
    "groups:read": "list groups and their members",
    "groups:write": "create, change and close groups; add and remove members",
    "tokens:write": "make login tokens for users",
    "webhooks:read": "list webhooks and how far they are",
    "webhooks:write": "test webhooks, and replay events",
    "admin": "everything",
}
"""Every scope, with what a key that has it may do."""
ADMIN = "admin"
"""The scope that stands for all of them."""


def new() -> str:
    """A new key, as it is shown once."""
    return PREFIX + secrets.token_urlsafe(_SECRET_BYTES)


def hashed(key: str) -> str:
    """What is stored of a key. It has too many random bits to be found from its hash, so it needs no salt and no slow
    hash. Cost: about a microsecond."""
    return sha256(key.encode("utf-8", "surrogatepass")).hexdigest()


def read_scopes(text: str) -> tuple[str, ...]:
    """The scopes in a list with commas, each once. Raises ValueError, which names all that exist."""
    asked = tuple(dict.fromkeys(word.strip() for word in text.split(",") if word.strip()))
    unknown = [word for word in asked if word not in SCOPES]
    if unknown or not asked:
        what = f"no such scope: {', '.join(unknown)}" if unknown else "no scope is given"
        raise ValueError(f"{what} (there are: {', '.join(SCOPES)})")
    return asked
