"""Whether a store is one that this program may serve: its schema's version, and that it is complete.

Owns: the rule, and how its refusals are worded, for every twin.
Not here: reading the version and running the steps (store.sqlite.file, and the other twin's schema).
Fails: BootError 78, one line that says what to do.
"""

from __future__ import annotations

from chatd.errors import BootError, Exit

FILLING = "filling"
"""Key of the table `meta`: chatctl is filling this store, and the value says with what. Gone when that has ended."""


def check_version(version: int, newest: int, empty: bool, store: str) -> None:
    """BootError unless a server may use a store of this schema, or bring it up because nobody is in it."""
    if version > newest:
        raise BootError(f"store: {store}: schema {version} is newer than this chatd knows ({newest})", Exit.CONFIG)
    if version < newest and not empty:
        text = f"store: {store}: schema {version} is older than this chatd needs ({newest}): run chatctl migrate"
        raise BootError(text, Exit.CONFIG)


def check_filled(filling: str, store: str) -> None:
    """filling: the value of FILLING, "" where there is none."""
    if filling:
        raise BootError(f"store: {store}: is not complete: {filling} has not ended; run that again", Exit.CONFIG)
