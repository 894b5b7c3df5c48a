"""Which user has which name and id, remembered between statements.

Owns: UserDirectory, reading the table `user` to identify someone, meta.directory.
Elsewhere: when two names are the same (texts.names), changing accounts (store.sql.accounts), reading many users in one
statement (store.mysql.recipients).
Fails: what the database raises passes through.

A user's id and name never change, so what is cached stays true until an account is deleted, or one is created whose
name is a number. Both raise meta.directory; every other connection clears its cache when it sees another value there.
"""

from __future__ import annotations

from chatd.model import SYSTEM, User, UserId
from chatd.store.contract import Account
from chatd.store.sql.database import Database
from chatd.texts.names import name_key

_CACHED = 200_000
"""Maximum entries before the cache is emptied."""


def is_user_id(name: str) -> bool:
    """Whether a name has the form of a user id."""
    return name.isascii() and name.isdigit() and len(name) < 19


class UserDirectory:
    """Users by name and by id. Deleted users are not found, except by user_or_deleted()."""

    def __init__(self, db: Database) -> None:
        self._db = db
        self.names_only = False
        """See store.account_contract.AccountTables."""
        self.by_name: dict[str, User] = {}
        """Users by a name as someone wrote it: several keys may lead to one user."""
        self.by_id: dict[UserId, User] = {}

    def may_be_id(self, name: str) -> bool:
        """Whether a name that no account has may be taken as a user id here."""
        return not self.names_only and is_user_id(name)

    def clear(self) -> None:
        self.by_name.clear()
        self.by_id.clear()

    def changed(self) -> None:
        """Within a transaction: every connection clears its directory at its next transaction."""
        self._db.execute("UPDATE meta SET value = value + 1 WHERE `key` = 'directory'")
        self.clear()

    def find(self, name: str, user_id: UserId) -> User | None:
        """As account(), from the cache where possible."""
        found = self.by_name.get(name) if name else self.by_id.get(user_id)
        if found is None:
            account = self.account(name, user_id)
            if account is None:
                return None
            found = account.user
            if len(self.by_name) + len(self.by_id) > _CACHED:
                self.clear()
            if name:
                self.by_name[name] = found
            self.by_id[found.id] = found
        return found

    def account(self, name: str, user_id: UserId) -> Account | None:
        """As store.contract.AccountTables.find: always from the database."""
        query = "SELECT id, name, password, credentials, locked_at_ms FROM user WHERE name_key IS NOT NULL AND "
        row = None
        if name:
            row = self._db.execute(query + "name_key = ?", (name_key(name),)).fetchone()
            if row is None and self.may_be_id(name):
                user_id = int(name)
        if row is None and 0 < user_id < 1 << 62:
            row = self._db.execute(query + "id = ?", (user_id,)).fetchone()
        return Account(User(int(row[0]), str(row[1])), str(row[2]), int(row[3]), int(row[4])) if row else None

    def user_or_deleted(self, user_id: UserId) -> User:
        """A deleted user keeps the name under which its messages were written. "#7" when there never was a user 7."""
        if user_id == SYSTEM.id:
            return SYSTEM
        found = self.by_id.get(user_id)
        if found is None:
            row = self._db.execute("SELECT name FROM user WHERE id = ?", (user_id,)).fetchone()
            found = User(user_id, str(row[0]) if row else f"#{user_id}")
            if row:
                return self.find("", user_id) or found
        return found
