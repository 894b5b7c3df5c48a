"""Accounts: names, and passwords.

Owns: logins by password, locked accounts, accounts that a login makes; who may have a reserved name.
Elsewhere: which kinds of login are accepted (core.authentication), which names a new account may have (texts.names),
registration (core.registration), the rules for passwords (core.password_policy) and their hashes (core.passwords),
sessions and duplicate logins (core.sessions), the rows (store).
Fails: Refused (wrong name or password, locked, name not allowed, busy); Unavailable from the store.

An unknown user costs the same time as a wrong password, so that response times do not reveal which accounts exist; see
core.stand_in_hashes.
"""

from __future__ import annotations

import secrets
from typing import NamedTuple

from chatd import wall_clock
from chatd.config.bridge_options import prefixes
from chatd.config.schema import Config
from chatd.core.admission import Applicant
from chatd.core.password_policy import MAX_PASSWORD_CHARS, check_password
from chatd.core.password_upgrades import PasswordUpgrades
from chatd.core.passwords import Hasher
from chatd.core.proof import OLDER_THAN_DELETION, UNKNOWN_USER, WRONG_PASSWORD, NotProved, Proved
from chatd.core.services import Services
from chatd.core.stand_in_hashes import SAMPLE, StandInHashes
from chatd.errors import ErrorCode, Refused, Unavailable
from chatd.model import User, UserId
from chatd.protocol import Login
from chatd.store.contract import Account, KnownSource, Tables
from chatd.texts.names import in_namespace, is_reserved, new_name

NAME_RESERVED = "this name is not allowed: it is, or looks like, one of the reserved names of this server"

NAME_ELSEWHERE = "this name is not allowed: it is, or looks like, that of a user of another server"


def check_new(name: str, secret: str, config: Config) -> str:
    """The form in which a new account's name is stored. Raises Refused unless an account with this name and password
    may be made."""
    stored = check_name(name, config)
    check_password(secret, stored, config)
    return stored


def check_name(name: str, config: Config, *, reserved: bool = False, digits: bool = False) -> str:
    """The form in which a new account's name is stored. reserved: also one of accounts.reserved_names. digits: it may
    be a number. Raises Refused unless an account with this name may be made."""
    stored = new_name(name, config.limits.name_chars, digits=digits)
    if config.bridge and in_namespace(stored, prefixes(config.bridge)):
        raise Refused(ErrorCode.NAME_NOT_ALLOWED, NAME_ELSEWHERE)
    if not reserved and is_reserved(stored, config.accounts.reserved_names):
        raise Refused(ErrorCode.NAME_NOT_ALLOWED, NAME_RESERVED)
    return stored


class Candidate(NamedTuple):
    """Whom a login names. account: None = there is no such account. name: canonical, as the client wrote it. sources:
    from where the user has logged in."""

    account: Account | None
    name: str
    sources: tuple[KnownSource, ...] = ()

    @property
    def user_id(self) -> UserId:
        """0 = there is no such account."""
        return self.account.user.id if self.account else 0


class Accounts:
    def __init__(self, services: Services) -> None:
        self._store = services.store
        self._config = services.config
        self._log = services.log
        self.hasher = Hasher(services.config().accounts, services.config)
        self._stand_ins = StandInHashes(self.hasher.cost)
        self._upgrades = PasswordUpgrades(services, self.hasher)
        self.secret = ""
        """The store's, hexadecimal, the same on every worker and host, and for ever; "" = it has not been read yet."""

    async def learn_costs(self) -> None:
        """Look at what the passwords of the store's accounts cost. At the start, and now and then. Never raises."""

        def make_key(tables: Tables) -> None:
            tables.accounts.set_stand_in_key(secrets.token_hex(32))

        try:
            if not await self._store.read(lambda tables: tables.accounts.stand_in_key()):
                await self._store.write(make_key)
            key, passwords = await self._store.read(
                lambda tables: (tables.accounts.stand_in_key(), tables.accounts.sample_passwords(SAMPLE))
            )
        except Unavailable as error:
            self._log.warning("cannot look at the costs of passwords", why=str(error))
        else:
            self.secret = key
            self._stand_ins.learn(key, passwords)

    async def hash_new(self, secret: str, name: str, applicant: Applicant) -> str:
        """The hash of a new password for this user. Raises Refused PASSWORD_NOT_ALLOWED or BUSY."""
        check_password(secret, name, self._config())
        return await self.hasher.hash(secret, applicant)

    async def find(self, command: Login) -> Account | None:
        """The account that a login names, by name in any spelling or by id; None = there is none. Raises
        Unavailable."""
        name, user_id = command.name, command.user_id
        return await self._store.read(lambda tables: tables.accounts.find(name, user_id))

    async def candidate(self, command: Login) -> Candidate:
        """Whom a login names. Raises Unavailable."""
        name, user_id = command.name, command.user_id

        def read(tables: Tables) -> Candidate:
            account = tables.accounts.find(name, user_id)
            sources = tables.known_sources.of(account.user.id) if account else ()
            return Candidate(account, tables.accounts.canonical(name) or str(user_id), sources)

        return await self._store.read(read)

    async def check_password(self, command: Login, account: Account | None, applicant: Applicant) -> Account:
        """The account, as find() gave it, if the secret is its password. applicant: for whom the password is hashed.

        Raises: NotProved, whatever was wrong, Refused ACCOUNT_LOCKED (only after the right password), BUSY, or as
        applicant.check does; Unavailable.
        """
        secret = command.secret if len(command.secret) <= MAX_PASSWORD_CHARS else ""
        hashed = account.password if account else ""
        stand_in = "" if hashed else self._stand_ins.of(command.name or str(command.user_id))
        matches = await self.hasher.verify(hashed or stand_in, secret, applicant)
        if account is None or not hashed or not matches:
            raise NotProved(WRONG_PASSWORD if account else UNKNOWN_USER)
        self._upgrades.consider(unlocked(account), secret)
        return account

    async def is_account_of(self, command: Login, user: User) -> bool:
        """Whether the login names the account of this user, by name in any spelling or by id. Raises Unavailable."""
        account = await self.find(command)
        return account is not None and account.user.id == user.id

    def name_to_open(self, command: Login) -> str:
        """The name of the account that a login creates with open login, because it names none. Raises Refused
        BAD_CREDENTIALS, NAME_NOT_ALLOWED."""
        if not command.name:
            raise Refused(ErrorCode.BAD_CREDENTIALS)
        config = self._config()
        return check_name(command.name, config, digits=True)

    async def open_account(self, command: Login, account: Account | None) -> Account:
        """With open login: the account, as find() gave it, or one that is made now. Raises Refused BAD_CREDENTIALS,
        NAME_NOT_ALLOWED, NAME_TAKEN, ACCOUNT_LOCKED; Unavailable."""
        if account is not None:
            return unlocked(account)
        return (await self.find_or_make(self.name_to_open(command))).account

    async def find_or_make(self, name: str, vouched_at: float | None = None) -> Proved:
        """The account with this name, which was made a moment ago or is made now, without a password. name: as
        check_name() gave it. vouched_at: when another program said that there is such a user, seconds since the epoch;
        None = now.

        Raises: Refused NAME_TAKEN, ACCOUNT_LOCKED; NotProved: an account was deleted since then, perhaps this one;
        Unavailable."""
        now_ms = wall_clock.now_ms()

        def find_or_make(tables: Tables) -> Proved:
            account = tables.accounts.named(name)
            if account is not None:
                return Proved(account)
            if vouched_at is not None and vouched_at * 1000 <= tables.accounts.last_deletion_ms():
                raise NotProved(OLDER_THAN_DELETION, ErrorCode.TOKEN_EXPIRED, is_guess=False)
            return Proved(Account(tables.accounts.create(name, "", now_ms), ""), is_new=True)

        try:
            proved = await self._store.write(find_or_make)
        except Refused as refused:
            made = await self._store.read(lambda tables: tables.accounts.named(name))
            if refused.code != ErrorCode.NAME_TAKEN or made is None:
                raise
            proved = Proved(made)  # by another host, at the same moment
        unlocked(proved.account)
        return proved


def unlocked(account: Account) -> Account:
    """Raises Refused ACCOUNT_LOCKED."""
    if account.locked_at_ms:
        raise Refused(ErrorCode.ACCOUNT_LOCKED)
    return account
