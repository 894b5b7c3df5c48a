"""Passes: short texts by which this server knows somebody again whom it has let in before.

Owns: Pass, what one says; sealing it with an HMAC, and opening it again; Passes, whether it still counts.
Elsewhere: where they are used: as cookies (http.demo, http.chat), and as the secret of a login (core.authentication);
the store's secret (store.account_contract.AccountTables.stand_in_key), from which the keys are derived.
Fails: Unavailable from the store. A pass that this store did not seal, or sealed for another purpose, or that has
expired, opens to None.

Nothing is kept on the server, so every worker and host takes what another has sealed. A pass counts while its account
has the credentials with which it was made: they change with the password, and when the account is locked, deleted or
erased. That is read from the store at each use, so a pass ends at the commit of the change, on every host. It is not
encrypted: a client may read the number of its account.
"""

from __future__ import annotations

import base64
import enum
import hmac
import re
import time
from typing import NamedTuple

from chatd.core.accounts import Accounts
from chatd.core.proof import Proved
from chatd.core.services import Services
from chatd.errors import Unavailable
from chatd.model import UserId
from chatd.store.contract import Account

_FORM = re.compile(r"(1\.([0-9]{1,18})\.([0-9]{1,18})\.([0-9]{1,11})\.([0-9]{1,14}))\.([A-Za-z0-9_-]{43})", re.ASCII)


class Purpose(enum.Enum):
    """What keeps the keys apart that are derived from the same secret: a pass counts for one of these only."""

    DEMO = b"chatd: cookie of the MobileIMSDK demo, 1"
    CHAT_PAGE = b"chatd: cookie of the chat page, 1"
    LOGIN = b"chatd: secret of a login, 1"
    FILES = b"chatd: addresses of files, 1"
    """No passes: core.file_addresses."""


class Pass(NamedTuple):
    """credentials: their version when it was made (store.account_contract.Account). expires_at: epoch, seconds.
    ends_at_ms: when a session must end that begins with it, epoch; 0 = it need not."""

    user_id: UserId
    credentials: int
    expires_at: int
    ends_at_ms: int = 0

    @classmethod
    def of(cls, proved: Proved, lifetime_s: int) -> Pass:
        """For somebody who was let in just now. It expires with what has proved it, if that expires earlier."""
        account, ends_at_ms = proved.account, proved.ends_at_ms
        expires_at = int(time.time()) + lifetime_s
        if ends_at_ms:
            expires_at = min(expires_at, ends_at_ms // 1000)
        return cls(account.user.id, account.credentials, expires_at, ends_at_ms)


def key_of(secret: str, purpose: Purpose) -> bytes:
    """secret: the store's, hexadecimal. Raises ValueError if it has none: nothing can be sealed with that."""
    if not secret:
        raise ValueError("the store has no secret yet")
    return hmac.digest(bytes.fromhex(secret), purpose.value, "sha256")


def sealed(key: bytes, one: Pass) -> str:
    """Of characters that may stand in a cookie."""
    text = f"1.{one.user_id}.{one.credentials}.{one.expires_at}.{one.ends_at_ms}"
    return f"{text}.{_mac(key, text)}"


def looks_like_pass(text: str) -> bool:
    """Whether it has the form of one."""
    return _FORM.fullmatch(text) is not None


def opened(key: bytes, text: str, now_s: float) -> Pass | None:
    """What sealed() was given, unless it has expired."""
    found = _FORM.fullmatch(text)
    if found is None or not hmac.compare_digest(found[6], _mac(key, found[1])):
        return None
    one = Pass(int(found[2]), int(found[3]), int(found[4]), int(found[5]))
    return one if now_s < one.expires_at else None


def _mac(key: bytes, text: str) -> str:
    return base64.urlsafe_b64encode(hmac.digest(key, text.encode(), "sha256")).decode().rstrip("=")


def still_counts(one: Pass, account: Account) -> bool:
    """Whether the account is as it was when its user was let in."""
    return account.credentials == one.credentials and not account.locked_at_ms


class Passes:
    """Made and found with the store's secret."""

    def __init__(self, services: Services, accounts: Accounts) -> None:
        self._store = services.store
        self._accounts = accounts

    def make(self, one: Pass, purpose: Purpose) -> str:
        """Raises Unavailable."""
        return sealed(self._key(purpose), one)

    def open(self, text: str, purpose: Purpose) -> Pass | None:
        """What it says, if this server has sealed it for this purpose; whether it still counts, the account says.
        Raises Unavailable."""
        return opened(self._key(purpose), text, time.time())

    async def find(self, text: str, purpose: Purpose) -> tuple[Pass, Account] | None:
        """What it says, and the account, if it counts. Raises Unavailable. Cost: one small read of the store, and of a
        forged one none."""
        one = self.open(text, purpose)
        if one is None:
            return None
        user_id = one.user_id
        account = await self._store.read(lambda tables: tables.accounts.find("", user_id))
        return (one, account) if account is not None and still_counts(one, account) else None

    def _key(self, purpose: Purpose) -> bytes:
        """Raises Unavailable."""
        try:
            return key_of(self._accounts.secret, purpose)
        except ValueError as error:
            raise Unavailable(str(error)) from None
