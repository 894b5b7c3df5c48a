"""Whether this program may serve a store: the version of its schema, and that it is complete.

Owns: the rule and the texts of its refusals, for both twins.
Elsewhere: reading the version and migrating (store.sqlite.file, store.mysql.schema).
Fails: BootError 78, one line that says what to do.
"""

from __future__ import annotations

from chatd.errors import BootError, Exit

FILLING = "filling"
"""Key in the table `meta` while chatctl fills the store; the value says from where. Deleted when it is complete."""


def check_version(version: int, newest: int, empty: bool, store: str) -> None:
    """empty: the store has no users, so it may be migrated without asking. Raises: BootError 78 unless a server may
    use the store or migrate it."""
    if version > newest:
        text = f"schema {version} is newer than this chatd knows ({newest}): use a newer chatd"
        raise BootError(f"store {store}: {text}", Exit.CONFIG)
    if version < newest and not empty:
        text = f"schema {version} is older than this chatd needs ({newest}): run chatctl migrate"
        raise BootError(f"store {store}: {text}", Exit.CONFIG)


def check_upgradable(version: int, newest: int, store: str) -> None:
    """For a server that is upgraded while it runs: its old workers go on serving, so the schema must be theirs and
    this program's. Raises: BootError 78."""
    if version > newest:
        check_version(version, newest, empty=False, store=store)
    if version < newest:
        text = f"schema {version} must become {newest}, and workers of the earlier version cannot serve meanwhile"
        restart = "restart needed: stop the server, run chatctl migrate, start it"
        raise BootError(f"store {store}: {text}; {restart}", Exit.CONFIG)


def check_filled(filling: str, store: str) -> None:
    """filling: the value of FILLING, "" when there is none. Raises: BootError 78."""
    if filling:
        raise BootError(f"store {store} is not complete: {filling} has not ended; run it again", Exit.CONFIG)
