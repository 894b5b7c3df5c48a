"""Accounts, in the SQL of both twins.

Owns: changing the table `user`; deleting an account with everything that belongs to it.
Elsewhere: identifying a user (store.sql.directory), whether a name or a password is acceptable (core.accounts).
Fails: Refused if the request is not allowed, before anything is written; what the database raises passes through.
"""

from __future__ import annotations

import json
from typing import Any

from chatd import wall_clock
from chatd.errors import ErrorCode, Refused
from chatd.model import User, UserId
from chatd.store.contract import Account, AccountDetails, CredentialsChange, EventKind, ListedAccount
from chatd.store.sql import administrators
from chatd.store.sql.bridges import bridge_of
from chatd.store.sql.database import Backend, Database
from chatd.store.sql.directory import UserDirectory, is_user_id
from chatd.store.sql.files import forget
from chatd.store.sql.groups import SqlGroups
from chatd.texts.names import erased_name, name_key, skeleton_hash

_TRACES = (("admission", "by_id"), ("hidden", "user_id"), ("mention", "user_id"))
"""Rows that an erased account leaves nowhere; those that delete() removes come on top."""

_HIGHEST = "\U0010ffff"
"""No character is behind it."""


class SqlAccounts:
    """store.contract.AccountTables."""

    def __init__(self, db: Database, backend: Backend, directory: UserDirectory, groups: SqlGroups) -> None:
        self._db = db
        self._backend = backend
        self._directory = directory
        self._groups = groups

    def create(self, name: str, password: str, now_ms: int) -> User:
        key, look = name_key(name), skeleton_hash(name)
        self._backend.lock_names()
        if self._db.execute("SELECT 1 FROM user WHERE name_key = ?", (key,)).fetchone():
            raise Refused(ErrorCode.NAME_TAKEN)
        if self._db.execute("SELECT 1 FROM user WHERE skeleton_hash = ?", (look,)).fetchone():
            raise Refused(ErrorCode.NAME_TAKEN, "this name looks like another one, which is taken")
        user_id = self._db.execute(
            "INSERT INTO user (name, name_key, skeleton_hash, password, created_at_ms) VALUES (?, ?, ?, ?, ?)",
            (name, key, look, password, now_ms),
        ).lastrowid
        assert user_id is not None
        if key.isdigit():  # it may have been in use as the id of another user
            self._directory.changed()
        self._backend.created("user", user_id)
        self._backend.record(EventKind.USER_REGISTERED, {"user": user_id})
        return User(user_id, name)

    def find(self, name: str, user_id: UserId) -> Account | None:
        return self._directory.account(name, user_id)

    def named(self, name: str) -> Account | None:
        found = self._directory.account(name, 0) if name else None
        return found if found is not None and name_key(found.user.name) == name_key(name) else None

    def find_any(self, word: str) -> Account | None:
        account = self._directory.account(word, 0)
        return self._directory.account("", int(word)) if account is None and is_user_id(word) else account

    @property
    def names_only(self) -> bool:
        return self._directory.names_only

    @names_only.setter
    def names_only(self, value: bool) -> None:
        self._directory.names_only = value
        self._directory.clear()

    def ever(self, user_id: UserId) -> User | None:
        if not 0 < user_id < 1 << 62:
            return None
        row = self._db.execute("SELECT name FROM user WHERE id = ?", (user_id,)).fetchone()
        return User(user_id, str(row[0])) if row else None

    def canonical(self, name: str) -> str:
        return name_key(name)

    # ---------------------------------------------------------------- credentials

    def set_password(self, user_id: UserId, password: str, expected: int | None = None, known_source: str = "") -> int:
        self._backend.lock_users(user_id)
        account = self._directory.account("", user_id)
        if account is None or expected not in (None, account.credentials):
            raise Refused(ErrorCode.BAD_CREDENTIALS)
        version = self._new_version()
        self._db.execute("UPDATE user SET password = ?, credentials = ? WHERE id = ?", (password, version, user_id))
        self._forget_sources(user_id, known_source)
        return version

    def _forget_sources(self, user_id: UserId, but: str = "") -> None:
        self._db.execute("DELETE FROM known_source WHERE user_id = ? AND hidden <> ?", (user_id, but))

    def upgrade_password(self, user_id: UserId, before: str, after: str) -> None:
        self._db.execute("UPDATE user SET password = ? WHERE id = ? AND password = ?", (after, user_id, before))

    def lock(self, user_id: UserId, reason: str, now_ms: int) -> int:
        self._backend.lock_users(user_id)
        version = self._new_version()
        self._db.execute(
            "UPDATE user SET locked_at_ms = CASE WHEN locked_at_ms = 0 THEN ? ELSE locked_at_ms END,"
            " lock_reason = ?, credentials = ? WHERE id = ?",
            (now_ms, reason, version, user_id),
        )
        self._forget_sources(user_id)
        return version

    def unlock(self, user_id: UserId) -> None:
        if bridge := bridge_of(self._db, user_id):
            text = f"this is a user of the other side of bridge {bridge}, and never logs in here"
            raise Refused(ErrorCode.NOT_ALLOWED, text)
        self._db.execute("UPDATE user SET locked_at_ms = 0, lock_reason = '' WHERE id = ?", (user_id,))

    def _new_version(self) -> int:
        """The row in meta stays locked until the end of the transaction: versions become visible in their order."""
        self._db.execute("UPDATE meta SET value = value + 1 WHERE `key` = 'credentials'")
        return self.newest_credentials()

    def last_deletion_ms(self) -> int:
        return int(self._meta("deleted_at_ms") or 0)

    def newest_credentials(self) -> int:
        return int(self._meta("credentials") or 0)

    def changed_credentials(self, after: int, limit: int) -> list[CredentialsChange]:
        rows = self._db.execute(
            "SELECT id, credentials FROM user WHERE credentials > ? ORDER BY credentials LIMIT ?",
            (max(after, 0), limit),
        )
        return [CredentialsChange(int(user_id), int(version)) for user_id, version in rows]

    def sample_passwords(self, count: int) -> list[str]:
        (last,) = self._db.execute("SELECT max(id) FROM user").fetchone()
        ids = sorted({1 + place * int(last or 0) // count for place in range(count)})
        marks = ",".join("?" * len(ids))
        rows = self._db.execute(f"SELECT password FROM user WHERE id IN ({marks}) AND password <> ''", ids)
        return [str(password) for (password,) in rows]

    def stand_in_key(self) -> str:
        return self._meta("stand_in_key")

    def set_stand_in_key(self, key: str) -> None:
        self._db.execute("UPDATE meta SET value = ? WHERE `key` = 'stand_in_key' AND value = ''", (key,))

    def _meta(self, key: str) -> str:
        row = self._db.execute("SELECT value FROM meta WHERE `key` = ?", (key,)).fetchone()
        return str(row[0]) if row else ""

    # ---------------------------------------------------------------- the rest

    def delete(self, user_id: UserId) -> int:
        """Leaves every group first, so that no group is without an owner."""
        self._backend.lock_users(user_id)
        version = self._new_version()
        for group_id in self._groups.ids_of(user_id):
            self._groups.leave(user_id, group_id)
        self._db.execute(
            "UPDATE user SET name_key = NULL, skeleton_hash = NULL, password = '', credentials = ? WHERE id = ?",
            (version, user_id),
        )
        self._db.execute("DELETE FROM friend WHERE user_id = ?", (user_id,))
        self._db.execute("DELETE FROM friend WHERE friend_id = ?", (user_id,))
        self._db.execute("DELETE FROM `cursor` WHERE user_id = ?", (user_id,))
        for table in ("bridged", "push_subscription", *administrators.TABLES):
            self._db.execute(f"DELETE FROM {table} WHERE user_id = ?", (user_id,))
        self._forget_sources(user_id)
        for table, other in (("block", "blocked_id"), ("refusal", "friend_id"), ("correspondent", "other_id")):
            self._db.execute(f"DELETE FROM {table} WHERE user_id = ?", (user_id,))
            self._db.execute(f"DELETE FROM {table} WHERE {other} = ?", (user_id,))
        self._db.execute("DELETE FROM admission WHERE user_id = ?", (user_id,))
        self._db.execute("DELETE FROM ban WHERE user_id = ?", (user_id,))
        self._db.execute("REPLACE INTO meta (`key`, value) VALUES ('deleted_at_ms', ?)", (str(wall_clock.now_ms()),))
        self._directory.changed()
        self._backend.record(EventKind.USER_DELETED, {"user": user_id})
        return version

    def erase(self, user_id: UserId, now_ms: int) -> int:
        version = self.delete(user_id)
        self._db.execute(
            "UPDATE user SET name = ?, created_at_ms = 0, seen_at_ms = 0, profile = '{}', locked_at_ms = 0,"
            " lock_reason = '', may_write = 0, may_ask = 0, may_see = 0, may_add = 0 WHERE id = ?",
            (erased_name(user_id), user_id),
        )
        for table, column in _TRACES:
            self._db.execute(f"DELETE FROM {table} WHERE {column} = ?", (user_id,))
        forget(self._db, "owner = ?", (user_id,))
        self._db.execute("UPDATE ban SET by_id = 0 WHERE by_id = ?", (user_id,))
        keys = (user_id << 32, (user_id + 1) << 32)
        self._db.execute("DELETE FROM request WHERE send_key >= ? AND send_key < ?", keys)
        self._db.execute("REPLACE INTO erasure (user_id, position, asked_at_ms) VALUES (?, 0, ?)", (user_id, now_ms))
        self._backend.record(EventKind.USER_ERASED, {"user": user_id})
        return version

    def details(self, user_id: UserId) -> AccountDetails:
        row = self._db.execute(
            "SELECT created_at_ms, seen_at_ms, locked_at_ms, lock_reason,"
            " (SELECT count(*) FROM friend WHERE user_id = user.id AND accepted = 1),"
            " (SELECT count(*) FROM member WHERE user_id = user.id) FROM user WHERE id = ?",
            (user_id,),
        ).fetchone()
        return AccountDetails(*row)

    def all(self) -> list[tuple[UserId, str, int]]:
        rows = self._db.execute("SELECT id, name, created_at_ms FROM user WHERE name_key IS NOT NULL ORDER BY id")
        return rows.fetchall()

    def page(self, after: UserId, limit: int) -> list[ListedAccount]:
        rows = self._db.execute(
            "SELECT id, name, created_at_ms, seen_at_ms, locked_at_ms FROM user"
            " WHERE id > ? AND name_key IS NOT NULL ORDER BY id LIMIT ?",
            (after, limit),
        )
        return [_listed(row) for row in rows]

    def beginning_with(self, like: str, after: str, limit: int) -> list[ListedAccount]:
        first = name_key(like)
        rows = self._db.execute(
            "SELECT id, name, created_at_ms, seen_at_ms, locked_at_ms FROM user"
            " WHERE name_key >= ? AND name_key < ? AND name_key > ? ORDER BY name_key LIMIT ?",
            (first, first + _HIGHEST, name_key(after), limit),
        )
        return [_listed(row) for row in rows]

    def profile(self, user_id: UserId) -> dict[str, str]:
        row = self._db.execute("SELECT profile FROM user WHERE id = ?", (user_id,)).fetchone()
        return dict(json.loads(row[0])) if row and row[0] else {}

    def set_profile(self, user_id: UserId, profile: dict[str, str]) -> None:
        text = json.dumps(profile, ensure_ascii=False, sort_keys=True)
        self._db.execute("UPDATE user SET profile = ? WHERE id = ?", (text, user_id))

    def last_seen(self, user_id: UserId) -> int:
        row = self._db.execute("SELECT seen_at_ms FROM user WHERE id = ?", (user_id,)).fetchone()
        return int(row[0]) if row else 0


def _listed(row: Any) -> ListedAccount:
    number, name, *times = row
    return ListedAccount(User(int(number), str(name)), *times)
