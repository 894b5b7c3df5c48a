"""`chatctl user erase`: what it says before, and blanking the messages while the operator waits.

Owns: the question, and running the slices of pending erasures.
Elsewhere: the slices (store), running servers that finish what is interrupted (core.retention), the command line
(chatctl.__main__).
Fails: ConfigError when it is not confirmed; Unavailable as the store. What is left is finished by a running server, or
by `chatctl user erase --resume`.
"""

from __future__ import annotations

import contextlib
import sys
import time
from functools import partial

from chatd import wall_clock
from chatd.chatctl.accounts import StoredAccounts
from chatd.chatctl.progress import Progress
from chatd.errors import ConfigError
from chatd.model import User
from chatd.store.contract import AccountDetails, Erasure, Slice, Tables

SLICE_ROWS = 500
_REST = 4.0
"""A pause is as many times as long as the slice before it, so that a running server is not slowed down."""

WHAT_HAPPENS = """\
This erases {name} (user {id}) for ever:
  - the account, its name, profile, password and settings; its sessions end within a second
  - its friends ({friends}), blocks, invitations and known networks
  - the text of every message it has sent, in all conversations; their numbers and times stay
It leaves its groups ({groups}); those that it owns are handed over to an admin or member.
What stays: messages of others, copies on other people's devices, log files and backups (docs/data.md).
"""


def confirm(user: User, details: AccountDetails, *, yes: bool) -> None:
    """Raises: ConfigError when the operator does not repeat the name."""
    text = WHAT_HAPPENS.format(name=user.name, id=user.id, friends=details.friends, groups=details.groups)
    sys.stderr.write(text)
    if yes:
        return
    if not sys.stdin.isatty():
        raise ConfigError("nothing was erased: confirm it with --yes")
    sys.stderr.write(f"Type the name to confirm: {user.name}\n> ")
    sys.stderr.flush()
    if sys.stdin.readline().rstrip("\r\n") != user.name:
        raise ConfigError("nothing was erased: the name was not repeated")


def finish(accounts: StoredAccounts) -> list[Erasure]:
    """Blank everything that is stored now. Returns the erasures that are not forgotten yet: their end is looked at once
    more by a running server, or by --resume, a minute after they were asked for. Raises: Unavailable."""
    with contextlib.closing(accounts.open()) as tables, Progress("erase") as progress:
        for erasure in tables.erasure.pending():
            _finish_one(accounts, tables, erasure, progress)
        return tables.erasure.pending()


def _finish_one(accounts: StoredAccounts, tables: Tables, erasure: Erasure, progress: Progress) -> None:
    label, done = f"messages looked at for user {erasure.user_id}", erasure.position
    progress.watch(label, 0, erasure.end)
    while True:
        begun = time.monotonic()
        one: Slice = accounts.change_with(tables, partial(_blank, erasure.user_id))
        seconds = time.monotonic() - begun
        more = min(one.looked_at, erasure.end - done)
        progress.watch(label, max(0, more), erasure.end)
        done += more
        if not one.more:
            return
        time.sleep(_REST * seconds)


def _blank(user_id: int, tables: Tables) -> Slice:
    return tables.erasure.blank(user_id, SLICE_ROWS, wall_clock.now_ms())
