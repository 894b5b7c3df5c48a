"""Invite codes, in the SQL of both twins.

Owns: the table `invite`.
Elsewhere: the form of a code and its hash (invite_codes), who needs one (core.registration).
Fails: Refused before anything is written; what the database raises passes through.
"""

from __future__ import annotations

from chatd.errors import ErrorCode, Refused
from chatd.store.contract import Invite, NewInvite
from chatd.store.sql.database import Backend, Database

_COLUMNS = "id, uses, used, created_at_ms, expires_at_ms, revoked_at_ms, note"


class SqlInvites:
    """store.contract.InviteTables."""

    def __init__(self, db: Database, backend: Backend) -> None:
        self._db = db
        self._backend = backend

    def add(self, invite: NewInvite, now_ms: int) -> int:
        invite_id = self._db.execute(
            "INSERT INTO invite (code_hash, uses, created_at_ms, expires_at_ms, note) VALUES (?, ?, ?, ?, ?)",
            (invite.code_hash, invite.uses, now_ms, invite.expires_at_ms, invite.note),
        ).lastrowid
        assert invite_id is not None
        self._backend.created("invite", invite_id)
        return invite_id

    def all(self) -> list[Invite]:
        return [Invite(*row) for row in self._db.execute(f"SELECT {_COLUMNS} FROM invite ORDER BY id")]

    def revoke(self, invite_id: int, now_ms: int) -> bool:
        self._backend.lock_invite("id", invite_id)
        row = self._db.execute("SELECT revoked_at_ms FROM invite WHERE id = ?", (invite_id,)).fetchone()
        if row is None or row[0]:
            return False
        self._db.execute("UPDATE invite SET revoked_at_ms = ? WHERE id = ?", (now_ms, invite_id))
        return True

    def check(self, code_hash: str, now_ms: int) -> int:
        self._backend.lock_invite("code_hash", code_hash)
        invite = self._of(code_hash)
        if invite is None or not invite.valid(now_ms):
            raise Refused(ErrorCode.INVITE_NEEDED)
        return invite.id

    def find(self, code_hash: str, now_ms: int) -> bool:
        invite = self._of(code_hash)
        return invite is not None and invite.valid(now_ms)

    def _of(self, code_hash: str) -> Invite | None:
        row = self._db.execute(f"SELECT {_COLUMNS} FROM invite WHERE code_hash = ?", (code_hash,)).fetchone()
        return Invite(*row) if row else None

    def use(self, invite_id: int) -> None:
        self._db.execute("UPDATE invite SET used = used + 1 WHERE id = ?", (invite_id,))
