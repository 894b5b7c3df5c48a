"""Everything about one person, in the SQL of both twins.

Owns: reading every table that names a user.
Elsewhere: messages of the user's conversations (store.sqlite.history, store.mysql.history).
Fails: what the database raises passes through; LookupError for a user who does not exist.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import msgspec

from chatd.model import Audience, Message, MessageState, Role, UserId
from chatd.store.group_contract import SEEMS_OPEN, AdmissionState
from chatd.store.person_contract import Answered, InGroup, Network, Notified, Other, Person, Scanned, WithGroup
from chatd.store.sql.database import Database
from chatd.store.sql.messages import COLUMNS

_SCANNED = 4000
"""Rows looked at for one page of sent_to_groups()."""


_INVITED = f"AND t.state IN ({','.join(str(int(state)) for state in SEEMS_OPEN)})"


class _Relation(NamedTuple):
    """Rows of `table` that relate a user, in the column `own`, to another, in the column `other`."""

    table: str
    other: str
    own: str
    condition: str = ""


class SqlPerson:
    """store.contract.PersonTables. messages: makes messages of rows."""

    def __init__(self, db: Database, messages: Callable[[Sequence[Any]], list[Message]]) -> None:
        self._db = db
        self._messages = messages

    def everything(self, user_id: UserId) -> Person:
        row = self._db.execute(
            "SELECT name, created_at_ms, seen_at_ms, locked_at_ms, lock_reason, password, profile,"
            " may_write, may_ask, may_see, may_add FROM user WHERE id = ?",
            (user_id,),
        ).fetchone()
        if row is None:
            raise LookupError(user_id)
        name, created, seen, locked, reason, password, profile, *audiences = row
        write, ask, see, add = (Audience(one).name.lower() for one in audiences)
        return Person(
            id=user_id,
            name=name,
            created_at_ms=created,
            last_seen_at_ms=seen,
            locked_at_ms=locked,
            lock_reason=reason,
            has_password=bool(password),
            profile=json.loads(profile) if profile else {},
            may_write=write,
            may_ask=ask,
            may_see=see,
            may_add=add,
            friends=self._others(_Relation("friend", "friend_id", "user_id", "AND t.accepted = 1"), user_id),
            friend_requests_sent=self._others(
                _Relation("friend", "friend_id", "user_id", "AND t.accepted = 0"), user_id
            ),
            friend_requests_received=self._others(
                _Relation("friend", "user_id", "friend_id", "AND t.accepted = 0"), user_id
            ),
            friend_requests_refused_by=self._others(_Relation("refusal", "friend_id", "user_id"), user_id),
            friend_requests_refused=self._others(_Relation("refusal", "user_id", "friend_id"), user_id),
            blocked=self._others(_Relation("block", "blocked_id", "user_id"), user_id),
            groups=self._groups(user_id),
            may_answer=self._others(_Relation("correspondent", "other_id", "user_id"), user_id, at="0"),
            admissions=self._with_groups(_Relation("admission", "by_id", "user_id"), user_id),
            invitations_sent=[
                msgspec.structs.replace(one, state=AdmissionState.INVITED.name.lower())
                for one in self._with_groups(_Relation("admission", "user_id", "by_id", _INVITED), user_id)
            ],
            bans=self._with_groups(_Relation("ban", "by_id", "user_id"), user_id),
            known_networks=self._networks(user_id),
            answered_requests=self._answered(user_id),
            push_subscriptions=self._notified(user_id),
        )

    def _notified(self, user_id: UserId) -> list[Notified]:
        rows = self._db.execute(
            "SELECT gateway, endpoint, created_at_ms, worked_at_ms FROM push_subscription WHERE user_id = ?"
            " ORDER BY id",
            (user_id,),
        )
        return [
            Notified(gateway=gateway, endpoint=endpoint, created_at_ms=created, used_at_ms=used)
            for gateway, endpoint, created, used in rows
        ]

    def _others(self, relation: _Relation, user_id: UserId, at: str = "t.at_ms") -> list[Other]:
        """at: when it began; "0" = the table does not have that."""
        rows = self._db.execute(
            f"SELECT u.id, u.name, {at} FROM {relation.table} AS t JOIN user AS u ON u.id = t.{relation.other}"
            f" WHERE t.{relation.own} = ? {relation.condition} ORDER BY u.id",
            (user_id,),
        )
        return [Other(id=number, name=name, at_ms=at_ms) for number, name, at_ms in rows]

    def _groups(self, user_id: UserId) -> list[InGroup]:
        rows = self._db.execute(
            "SELECT t.id, t.name, t.description, m.role, m.joined_at_ms, m.muted_until_ms FROM member AS m"
            " JOIN team AS t ON t.id = m.team_id WHERE m.user_id = ? ORDER BY t.id",
            (user_id,),
        )
        return [
            InGroup(
                id=number,
                name=name,
                description=description,
                role=Role(role).name.lower(),
                joined_at_ms=joined,
                muted_until_ms=muted,
            )
            for number, name, description, role, joined, muted in rows
        ]

    def _with_groups(self, relation: _Relation, user_id: UserId) -> list[WithGroup]:
        table, other, own, condition = relation
        state = "t.state" if table == "admission" else "0"
        rows = self._db.execute(
            f"SELECT t.team_id, g.name, {state}, t.{other}, u.name, t.at_ms FROM {table} AS t"
            f" LEFT JOIN team AS g ON g.id = t.team_id LEFT JOIN user AS u ON u.id = t.{other}"
            f" WHERE t.{own} = ? {condition} ORDER BY t.team_id, t.{other}",
            (user_id,),
        )
        return [
            WithGroup(
                group_id=group_id,
                group=group or "",
                state=AdmissionState(state).name.lower() if state else "banned",
                other_id=other_id,
                other=name or "",
                at_ms=at_ms,
            )
            for group_id, group, state, other_id, name, at_ms in rows
        ]

    def _networks(self, user_id: UserId) -> list[Network]:
        rows = self._db.execute(
            "SELECT hidden, seen_day FROM known_source WHERE user_id = ? ORDER BY seen_day, hidden", (user_id,)
        )
        return [Network(hidden=hidden, last_seen_day=day) for hidden, day in rows]

    def _answered(self, user_id: UserId) -> list[Answered]:
        rows = self._db.execute(
            "SELECT fp, answer, at_ms FROM request WHERE send_key >= ? AND send_key < ? AND sender_id = ?"
            " ORDER BY at_ms, fp",
            (user_id << 32, (user_id + 1) << 32, user_id),
        )
        return [Answered(fp=fp, answer=answer, at_ms=at_ms) for fp, answer, at_ms in rows]

    def sent_to_groups(self, user_id: UserId, position: int) -> Scanned:
        scanned, upto = self._db.execute(
            "SELECT count(*), max(id) FROM (SELECT id FROM message WHERE id > ? ORDER BY id LIMIT ?) AS m",
            (position, _SCANNED),
        ).fetchone()
        if not scanned:
            return Scanned([], position, False)
        rows = self._db.execute(
            f"SELECT {COLUMNS} FROM message AS m LEFT JOIN member AS g ON g.team_id = -m.conversation"
            " AND g.user_id = m.sender_id WHERE m.id > ? AND m.id <= ? AND m.sender_id = ? AND m.conversation < 0"
            " AND m.state <> ? AND g.user_id IS NULL ORDER BY m.id",
            (position, upto, user_id, int(MessageState.EXPIRED)),
        ).fetchall()
        return Scanned(self._messages(rows), upto, scanned == _SCANNED)
