"""Who may use the operator's page, and their sessions there, in the SQL of both twins.

Owns: the tables `administrator` and `admin_session`.
Elsewhere: logging in (core.administrators); that the rows go with the account (store.sql.accounts).
Fails: what the database raises passes through.
"""

from __future__ import annotations

from typing import Any

from chatd.model import User, UserId
from chatd.store.account_contract import Account
from chatd.store.administrator_contract import Administrator, AdminRole, AdminSession, FoundSession, NewAdministrator
from chatd.store.sql.database import Backend, Database

TABLES = ("administrator", "admin_session")
"""Those with rows of an account, in their column user_id."""
_OF_ADMINISTRATOR = "u.id, u.name, a.role, a.totp_secret, a.last_step, a.created_by, a.created_at_ms, a.used_at_ms"
_OF_ACCOUNT = "u.password, u.credentials, u.locked_at_ms"
_OF_SESSION = "s.token_hash, s.user_id, s.credentials, s.began_at_ms, s.seen_at_ms, s.ends_at_ms, s.address"
_JOINED = "administrator AS a JOIN user AS u ON u.id = a.user_id"


class SqlAdministrators:
    """store.administrator_contract.AdministratorTables."""

    def __init__(self, db: Database, backend: Backend) -> None:
        self._db = db
        self._backend = backend

    def all(self) -> list[Administrator]:
        rows = self._db.execute(f"SELECT {_OF_ADMINISTRATOR} FROM {_JOINED} ORDER BY u.id").fetchall()
        return [_administrator(row) for row in rows]

    def find(self, user_id: UserId) -> Administrator | None:
        row = self._db.execute(f"SELECT {_OF_ADMINISTRATOR} FROM {_JOINED} WHERE u.id = ?", (user_id,)).fetchone()
        return _administrator(row) if row else None

    def put(self, new: NewAdministrator, now_ms: int) -> None:
        self.remove(new.user_id)
        self._db.execute(
            "INSERT INTO administrator (user_id, role, totp_secret, created_by, created_at_ms) VALUES (?, ?, ?, ?, ?)",
            (new.user_id, str(new.role), new.totp_secret, new.by, now_ms),
        )

    def remove(self, user_id: UserId) -> bool:
        self._backend.lock_users(user_id)
        was = self.find(user_id) is not None
        for table in TABLES:
            self._db.execute(f"DELETE FROM {table} WHERE user_id = ?", (user_id,))
        return was

    def take_step(self, user_id: UserId, step: int) -> bool:
        self._backend.lock_users(user_id)
        found = self.find(user_id)
        if found is None or step <= found.last_step:
            return False
        self._db.execute("UPDATE administrator SET last_step = ? WHERE user_id = ?", (step, user_id))
        return True

    def begin(self, session: AdminSession) -> None:
        self._db.execute("DELETE FROM admin_session WHERE ends_at_ms <= ?", (session.began_at_ms,))
        self._db.execute(
            "INSERT INTO admin_session (token_hash, user_id, credentials, began_at_ms, seen_at_ms, ends_at_ms, address)"
            " VALUES (?, ?, ?, ?, ?, ?, ?)",
            (
                session.token_hash,
                session.user_id,
                session.credentials,
                session.began_at_ms,
                session.seen_at_ms,
                session.ends_at_ms,
                session.address,
            ),
        )
        self._db.execute(
            "UPDATE administrator SET used_at_ms = ? WHERE user_id = ?", (session.began_at_ms, session.user_id)
        )

    def session(self, token_hash: str) -> FoundSession | None:
        row = self._db.execute(
            f"SELECT {_OF_SESSION}, {_OF_ADMINISTRATOR}, {_OF_ACCOUNT} FROM admin_session AS s"
            " JOIN administrator AS a ON a.user_id = s.user_id JOIN user AS u ON u.id = s.user_id"
            " WHERE s.token_hash = ?",
            (token_hash,),
        ).fetchone()
        if row is None:
            return None
        administrator = _administrator(row[7:15])
        password, credentials, locked_at_ms = row[15:]
        return FoundSession(
            session=_session(row[:7]),
            administrator=administrator,
            account=Account(administrator.user, password, credentials, locked_at_ms),
        )

    def seen(self, token_hash: str, now_ms: int) -> None:
        self._db.execute(
            "UPDATE admin_session SET seen_at_ms = ? WHERE token_hash = ? AND seen_at_ms < ?",
            (now_ms, token_hash, now_ms),
        )

    def end(self, token_hash: str) -> bool:
        was = self._db.execute("SELECT 1 FROM admin_session WHERE token_hash = ?", (token_hash,)).fetchone()
        self._db.execute("DELETE FROM admin_session WHERE token_hash = ?", (token_hash,))
        return was is not None


def _administrator(row: Any) -> Administrator:
    """A row of _OF_ADMINISTRATOR."""
    user_id, name, role, totp_secret, last_step, by, created_at_ms, used_at_ms = row
    return Administrator(
        user=User(user_id, name),
        role=AdminRole(role),
        totp_secret=totp_secret,
        last_step=last_step,
        by=by,
        created_at_ms=created_at_ms,
        used_at_ms=used_at_ms,
    )


def _session(row: Any) -> AdminSession:
    """A row of _OF_SESSION."""
    token_hash, user_id, credentials, began_at_ms, seen_at_ms, ends_at_ms, address = row
    return AdminSession(
        token_hash=token_hash,
        user_id=user_id,
        credentials=credentials,
        began_at_ms=began_at_ms,
        seen_at_ms=seen_at_ms,
        ends_at_ms=ends_at_ms,
        address=address,
    )
