"""Blocks, and the audiences that users choose, in the SQL of both twins.

Owns: changing the table `block` and the columns may_write, may_ask, may_see, may_add of `user`; taking back the rows of
`correspondent`, and invitations by somebody who is blocked.
Elsewhere: the decision (store.sql.verdicts), friendships (store.sql.friends).
Fails: Refused, before anything is written; what the database raises passes through.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

from chatd.errors import ErrorCode, Refused
from chatd.model import Audience, User, UserId
from chatd.store.consent_contract import Audiences, Pairing, Purpose
from chatd.store.group_contract import AdmissionState
from chatd.store.sql.database import Backend, Database
from chatd.store.sql.friends import SqlFriends
from chatd.store.sql.verdicts import CODES, Ground, Permissions, Verdict, admitting

_NOBODY = Verdict(Ground.REFUSED, False)
_ASKED_AT_ONCE = 500
"""Maximum users of one IN (…)."""


class SqlConsent:
    """store.consent_contract.ConsentTables."""

    def __init__(self, db: Database, backend: Backend, permissions: Permissions, friends: SqlFriends) -> None:
        self._db = db
        self._backend = backend
        self._permissions = permissions
        self._friends = friends

    # ---------------------------------------------------------------- blocks

    def block(self, user_id: UserId, blocked: UserId, limit: int, now_ms: int) -> bool:
        if user_id == blocked:
            raise Refused(ErrorCode.NOT_ALLOWED, "you cannot block yourself")
        self._backend.lock_users(user_id, blocked)
        known = "SELECT 1 FROM user WHERE id = ? AND name_key IS NOT NULL"
        if self._db.execute(known, (blocked,)).fetchone() is None:
            raise Refused(ErrorCode.UNKNOWN_RECIPIENT)
        if self._blocks(user_id, blocked):
            return False
        (count,) = self._db.execute("SELECT count(*) FROM block WHERE user_id = ?", (user_id,)).fetchone()
        if count >= limit:
            raise Refused(ErrorCode.LIMIT_REACHED, f"you block {limit} users already")
        self._db.execute("INSERT INTO block (user_id, blocked_id, at_ms) VALUES (?, ?, ?)", (user_id, blocked, now_ms))
        self._friends.part(user_id, blocked)
        self._db.execute(
            "UPDATE admission SET state = ? WHERE user_id = ? AND state = ? AND by_id = ?",
            (int(AdmissionState.UNWANTED), user_id, int(AdmissionState.INVITED), blocked),
        )
        self._db.execute("DELETE FROM correspondent WHERE user_id = ? AND other_id = ?", (user_id, blocked))
        self._permissions.changed()
        return True

    def unblock(self, user_id: UserId, blocked: UserId) -> None:
        self._backend.lock_users(user_id, blocked)
        if not self._blocks(user_id, blocked):
            raise Refused(ErrorCode.NOT_ALLOWED, "you do not block this user")
        self._db.execute("DELETE FROM block WHERE user_id = ? AND blocked_id = ?", (user_id, blocked))

    def _blocks(self, user_id: UserId, other: UserId) -> bool:
        found = self._db.execute("SELECT 1 FROM block WHERE user_id = ? AND blocked_id = ?", (user_id, other))
        return found.fetchone() is not None

    def blocked(self, user_id: UserId, after: UserId, limit: int) -> list[User]:
        rows = self._db.execute(
            "SELECT u.id, u.name FROM block AS b JOIN user AS u ON u.id = b.blocked_id"
            " WHERE b.user_id = ? AND b.blocked_id > ? ORDER BY b.blocked_id LIMIT ?",
            (user_id, after, limit),
        )
        return [User(int(number), str(name)) for number, name in rows]

    # ---------------------------------------------------------------- audiences

    def audiences(self, user_id: UserId) -> Audiences:
        row = self._db.execute(
            "SELECT may_write, may_ask, may_see, may_add FROM user WHERE id = ?", (user_id,)
        ).fetchone()
        return Audiences(*map(Audience, row)) if row else Audiences()

    def choose(self, user_id: UserId, chosen: Mapping[Purpose, Audience]) -> Audiences:
        self._backend.lock_users(user_id)
        before = self.audiences(user_id)
        for purpose, audience in chosen.items():
            self._db.execute(f"UPDATE user SET {purpose.value} = ? WHERE id = ?", (int(audience), user_id))
        after = self.audiences(user_id)
        if after.write is not before.write:
            self._db.execute("DELETE FROM correspondent WHERE user_id = ?", (user_id,))
        if after != before:
            self._permissions.changed()
        return after

    # ---------------------------------------------------------------- decisions

    def refusals(self, purpose: Purpose, pairs: Sequence[Pairing], default: Audience) -> list[ErrorCode | None]:
        found = self._permissions.verdicts(purpose, pairs, default)
        return [CODES.get(found.get(pair, _NOBODY).ground) for pair in pairs]

    def block_between(self, actor: UserId, subject: UserId) -> ErrorCode | None:
        if self._blocks(actor, subject):
            return ErrorCode.BLOCKED_BY_YOU
        return ErrorCode.NOT_ACCEPTED if self._blocks(subject, actor) else None

    def unseen(self, viewer: UserId, contacts: Collection[UserId], default: Audience) -> set[UserId]:
        """Nearly all users let their contacts see them: only the others are looked at one by one."""
        numbers, found = sorted(contacts), set[UserId]()
        contacts_see, friends_see = admitting(Audience.CONTACTS, default), admitting(Audience.FRIENDS, default)
        for at in range(0, len(numbers), _ASKED_AT_ONCE):
            some = f"IN ({','.join(map(str, numbers[at : at + _ASKED_AT_ONCE]))})"
            rows = self._db.execute(
                f"SELECT b.user_id FROM block AS b WHERE b.blocked_id = ? AND b.user_id {some}"
                f" UNION SELECT u.id FROM user AS u WHERE u.id {some} AND u.may_see NOT IN ({contacts_see})"
                f" AND NOT (u.may_see IN ({friends_see}) AND EXISTS (SELECT 1 FROM friend AS f"
                " WHERE f.user_id = u.id AND f.friend_id = ? AND f.accepted = 1))",
                (viewer, viewer),
            )
            found.update(int(row[0]) for row in rows)
        return found - {viewer}

    def version(self) -> int:
        return int(self._db.execute("SELECT value FROM meta WHERE `key` = 'consent'").fetchone()[0])
