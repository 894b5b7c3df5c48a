"""The contract of a store: accounts, their credentials, and invite codes. A part of store.contract, which has the rest.

Owns: AccountTables and InviteTables, and what they take and give.
Elsewhere: the SQL (store.sql.accounts, store.sql.invites).
Fails: as store.contract says.
"""

from __future__ import annotations

from typing import NamedTuple, Protocol

from chatd.model import User, UserId


class Account(NamedTuple):
    """password: an argon2 hash; "" for an account without a password, which open login created.

    credentials: the version of the account's credentials: another one after every change of the password, lock and
    deletion; 0 before the first. Versions rise over all accounts, in the order of the commits. locked_at_ms: since when
    the account is locked, milliseconds since the epoch; 0 = it is not."""

    user: User
    password: str
    credentials: int = 0
    locked_at_ms: int = 0


class AccountDetails(NamedTuple):
    """What an operator is shown of an account. Times in milliseconds since the epoch; seen_at_ms 0 = never online,
    locked_at_ms 0 = not locked. friends, groups: how many."""

    created_at_ms: int
    seen_at_ms: int
    locked_at_ms: int
    lock_reason: str
    friends: int
    groups: int


class ListedAccount(NamedTuple):
    """An account in a list. Times as in AccountDetails."""

    user: User
    created_at_ms: int
    seen_at_ms: int
    locked_at_ms: int


class CredentialsChange(NamedTuple):
    """The credentials of this account got this version (Account.credentials)."""

    user_id: UserId
    version: int


class NewInvite(NamedTuple):
    """An invite code to be stored. code_hash: as invite_codes.hashed() makes it; the code itself is not stored. uses:
    how many accounts may be registered with it. expires_at_ms: milliseconds since the epoch."""

    code_hash: str
    uses: int
    expires_at_ms: int
    note: str


class Invite(NamedTuple):
    """An invite code as it is stored. used: accounts registered with it. revoked_at_ms: 0 = it is not revoked."""

    id: int
    uses: int
    used: int
    created_at_ms: int
    expires_at_ms: int
    revoked_at_ms: int
    note: str

    def valid(self, now_ms: int) -> bool:
        """Whether another account may be registered with it."""
        return self.used < self.uses and not self.revoked_at_ms and now_ms < self.expires_at_ms


class AccountTables(Protocol):
    """Accounts: names, password hashes, profiles, and when a user was last online."""

    names_only: bool
    """On this connection a name is never taken as a user id, so that a user whom another program calls "7" never
    becomes account 7, nor is sent what is for it. False, unless it is set right after the connection is opened."""

    def create(self, name: str, password: str, now_ms: int) -> User:
        """`password` is a hash, or "" for an account that open login created. A name is taken if an account has the
        same one (texts.names.name_key) or one that looks the same (texts.names.skeleton), also if two transactions
        create the accounts at the same time.

        Raises: Refused NAME_TAKEN."""
        ...

    def find(self, name: str, user_id: UserId) -> Account | None:
        """By name; by `user_id` when name is "". An all-digit name that no account has is taken as a user id,
        except with names_only."""
        ...

    def find_any(self, word: str) -> Account | None:
        """By name, or by id if no account has this name: what an operator typed, also with names_only."""
        ...

    def named(self, name: str) -> Account | None:
        """By name only: for callers whose names may be numbers, which must not reach the account with that id."""
        ...

    def ever(self, user_id: UserId) -> User | None:
        """The user with this id, also if the account was deleted or erased; None: there never was one."""
        ...

    def canonical(self, name: str) -> str:
        """Two names with the same canonical form are the same name. From memory."""
        ...

    def set_password(self, user_id: UserId, password: str, expected: int | None = None, known_source: str = "") -> int:
        """Returns the new version of the account's credentials. expected: the version that they must have now. The
        user's known sources are forgotten, except known_source (KnownSource.hidden): whoever had the old password may
        have logged in from them.

        Raises: Refused BAD_CREDENTIALS: they have another version, or the account is deleted."""
        ...

    def upgrade_password(self, user_id: UserId, before: str, after: str) -> None:
        """Replace the hash `before` by another hash of the same password. The credentials keep their version; a
        password changed meanwhile stays as it is."""

    def lock(self, user_id: UserId, reason: str, now_ms: int) -> int:
        """The account cannot log in until unlock(). Returns the new version of its credentials. An account that is
        locked already stays locked since when it was, with the new reason. The user's known sources are forgotten."""
        ...

    def unlock(self, user_id: UserId) -> None: ...

    def delete(self, user_id: UserId) -> int:
        """The account can no longer log in or be written to. Its messages stay; its name becomes available. Returns the
        new version of its credentials."""
        ...

    def erase(self, user_id: UserId, now_ms: int) -> int:
        """As delete(), and nothing stays by which the person could be recognised: name, profile, settings, blocks,
        requests and their answers, invitations. The bodies of its messages are blanked in slices afterwards
        (store.retention_contract.ErasureTables). Returns the new version of its credentials."""
        ...

    def last_deletion_ms(self) -> int:
        """When an account was last deleted or erased, milliseconds since the epoch; 0 = never. Cost: one row."""
        ...

    def newest_credentials(self) -> int:
        """The highest version of credentials so far; 0 = there was no change. Cost: one row."""
        ...

    def changed_credentials(self, after: int, limit: int) -> list[CredentialsChange]:
        """Accounts whose credentials have a version above `after`, the lowest versions first; with those deleted. Cost:
        the changes found."""
        ...

    def details(self, user_id: UserId) -> AccountDetails: ...

    def sample_passwords(self, count: int) -> list[str]:
        """The password hashes of about `count` accounts, evenly spread over all ids; accounts without one are left out.
        The same accounts at every call, as far as there are no new ones. Cost: `count` rows."""
        ...

    def stand_in_key(self) -> str:
        """A secret of this store, the same for ever and for every worker; "" = it has none yet."""
        ...

    def set_stand_in_key(self, key: str) -> None:
        """Unless the store has one already."""

    def all(self) -> list[tuple[UserId, str, int]]:
        """(id, name, created_at_ms) of every account that is not deleted, by id. Cost: all accounts."""
        ...

    def page(self, after: UserId, limit: int) -> list[ListedAccount]:
        """Accounts that are not deleted, by id, those with an id above `after`."""
        ...

    def beginning_with(self, like: str, after: str, limit: int) -> list[ListedAccount]:
        """Accounts that are not deleted and whose name begins so, by name, those behind the name `after`. Names are
        compared as texts.names.name_key makes them. Cost: the rows that it gives."""
        ...

    def profile(self, user_id: UserId) -> dict[str, str]: ...

    def set_profile(self, user_id: UserId, profile: dict[str, str]) -> None: ...

    def last_seen(self, user_id: UserId) -> int:
        """When the user was last online, in milliseconds since the epoch; 0 = never."""
        ...


class InviteTables(Protocol):
    """Invite codes. They are credentials: only their hashes are stored."""

    def add(self, invite: NewInvite, now_ms: int) -> int:
        """Returns the invite's id."""
        ...

    def all(self) -> list[Invite]:
        """Every invite, by id, with those that are used up, expired or revoked."""
        ...

    def revoke(self, invite_id: int, now_ms: int) -> bool:
        """No further account can be registered with it. False: there is no such invite, or it was revoked before."""
        ...

    def check(self, code_hash: str, now_ms: int) -> int:
        """The id of the valid invite with this hash. In a transaction the invite is locked until its end, so that it
        stays valid until use().

        Raises: Refused INVITE_NEEDED: there is none, or it is used up, expired or revoked."""
        ...

    def find(self, code_hash: str, now_ms: int) -> bool:
        """Whether check() would succeed now; for reading, without a lock."""
        ...

    def use(self, invite_id: int) -> None:
        """Count one more account, after check() in the same transaction."""
