"""Upgrading a password's hash when its user logs in.

Owns: hashing the password again, in the background, when its hash was made with other argon2_* options than are
configured now.
Elsewhere: hashing and its queue (core.passwords), whether the password was right (core.accounts).
Fails: never; a hash that could not be upgraded is upgraded at a later login.
"""

from __future__ import annotations

from chatd.core.admission import OPERATOR
from chatd.core.passwords import Hasher
from chatd.core.services import Services
from chatd.errors import Refused, Unavailable
from chatd.store.contract import Account

AT_ONCE = 1
"""Upgrades under way per worker. When many users log in after the options were changed, most of them are upgraded at
later logins: nobody waits longer for a login because of the upgrades of others."""


class PasswordUpgrades:
    def __init__(self, services: Services, hasher: Hasher) -> None:
        self._services = services
        self._hasher = hasher
        self._under_way = 0

    def consider(self, account: Account, secret: str) -> None:
        """`secret` is the password of this account, as it was verified just now."""
        if self._under_way < AT_ONCE and self._hasher.is_outdated(account.password):
            self._under_way += 1
            self._services.background.start(self._upgrade(account, secret))

    async def _upgrade(self, account: Account, secret: str) -> None:
        user_id, before = account.user.id, account.password
        try:
            after = await self._hasher.hash(secret, OPERATOR)
            await self._services.store.write(lambda tables: tables.accounts.upgrade_password(user_id, before, after))
        except (Refused, Unavailable) as error:
            self._services.log.debug("password hash not upgraded", user=user_id, why=str(error))
        finally:
            self._under_way -= 1
