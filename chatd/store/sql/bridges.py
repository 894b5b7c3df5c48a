"""Users of other servers, and messages to them, in the SQL of both twins.

Owns: the table `bridged`, making the accounts of its users, and finding the messages to them.
Elsewhere: all other changes of accounts (store.sql.accounts), the bridges (bridges).
Fails: Refused before anything is written; what the database raises passes through.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from chatd.errors import ErrorCode, Refused
from chatd.model import Audience, Message, User, UserId
from chatd.store.bridge_contract import COUNTED, NewBridged, Outgoing, OutgoingPart
from chatd.store.sql.database import Backend, Database
from chatd.store.sql.messages import COLUMNS, MessageRow
from chatd.store.sql.verdicts import Permissions
from chatd.texts.names import name_key, skeleton_hash

_SCANNED = 20_000
"""Messages that are looked at, at most, by one read."""
_REASON = "a user of the other side of bridge {}"


class SqlBridges:
    """store.bridge_contract.BridgeTables."""

    def __init__(self, db: Database, backend: Backend, permissions: Permissions) -> None:
        self._db = db
        self._backend = backend
        self._permissions = permissions

    def bridge_of(self, user_id: UserId) -> str:
        return bridge_of(self._db, user_id)

    def find(self, bridge: str, remote: str) -> User | None:
        found = self._db.execute(
            "SELECT u.id, u.name FROM bridged AS b JOIN user AS u ON u.id = b.user_id"
            " WHERE b.bridge = ? AND b.remote = ? AND b.heard_at_ms > 0",
            (bridge, remote),
        ).fetchone()
        return User(int(found[0]), str(found[1])) if found is not None else None

    def meet(self, new: NewBridged, now_ms: int) -> User:
        self._backend.lock_names()
        found = self._db.execute(
            "SELECT u.id, u.name, b.heard_at_ms FROM bridged AS b JOIN user AS u ON u.id = b.user_id"
            " WHERE b.bridge = ? AND b.remote = ?",
            (new.bridge, new.remote),
        ).fetchone()
        if found is not None:
            user_id, name, heard_at_ms = found
            if new.heard and not heard_at_ms:
                self._db.execute("UPDATE bridged SET heard_at_ms = ? WHERE user_id = ?", (now_ms, user_id))
            return User(int(user_id), str(name))
        return self._meet_by_name(new, now_ms)

    def _meet_by_name(self, new: NewBridged, now_ms: int) -> User:
        found = self._db.execute(
            "SELECT u.id, u.name, b.bridge, b.heard_at_ms FROM user AS u LEFT JOIN bridged AS b ON b.user_id = u.id"
            " WHERE u.name_key = ?",
            (name_key(new.name),),
        ).fetchone()
        if found is None:
            return self._make(new, now_ms)
        user_id, name, bridge, heard_at_ms = found
        if bridge != new.bridge or (new.heard and heard_at_ms):
            raise Refused(ErrorCode.NAME_TAKEN, f"the name {new.name} is that of another account")
        if new.heard:
            self._db.execute(
                "UPDATE bridged SET remote = ?, heard_at_ms = ? WHERE user_id = ?", (new.remote, now_ms, user_id)
            )
        return User(int(user_id), str(name))

    def _make(self, new: NewBridged, now_ms: int) -> User:
        """Everybody may write to a bridged user, whatever the operator's default is: the other side decides. Nobody can
        ask them, or add them to groups, because that does not cross."""
        nobody = int(Audience.NOBODY)
        user_id = self._db.execute(
            "INSERT INTO user (name, name_key, skeleton_hash, password, created_at_ms, locked_at_ms, lock_reason,"
            " may_write, may_ask, may_add) VALUES (?, ?, ?, '', ?, ?, ?, ?, ?, ?)",
            (
                *(new.name, name_key(new.name), skeleton_hash(new.name), now_ms, now_ms, _REASON.format(new.bridge)),
                *(int(Audience.EVERYBODY), nobody, nobody),
            ),
        ).lastrowid
        assert user_id is not None
        self._db.execute(
            "INSERT INTO bridged (user_id, bridge, remote, heard_at_ms) VALUES (?, ?, ?, ?)",
            (user_id, new.bridge, new.remote, now_ms if new.heard else 0),
        )
        self._backend.created("user", user_id)
        return User(user_id, new.name)

    def users(self, bridge: str) -> int:
        return int(self._db.execute("SELECT count(*) FROM bridged WHERE bridge = ?", (bridge,)).fetchone()[0])

    def close(self, bridge: str) -> int:
        self._let_write(bridge, Audience.NOBODY)
        return self.users(bridge)

    def reopen(self, bridge: str) -> None:
        self._let_write(bridge, Audience.EVERYBODY)

    def _let_write(self, bridge: str, audience: Audience) -> None:
        """Writes nothing, and clears no cache, where it is so already."""
        some = "may_write <> ? AND id IN (SELECT user_id FROM bridged WHERE bridge = ?)"
        if self._db.execute(f"SELECT 1 FROM user WHERE {some} LIMIT 1", (int(audience), bridge)).fetchone():
            self._db.execute(f"UPDATE user SET may_write = ? WHERE {some}", (int(audience), int(audience), bridge))
            self._permissions.changed()


class SqlOutgoing:
    """store.bridge_contract.OutgoingTables. messages: makes messages of rows. join: the twin's word for a join whose
    tables are read in the order in which they are written."""

    def __init__(self, db: Database, messages: Callable[[Sequence[MessageRow]], list[Message]], join: str) -> None:
        self._db = db
        self._messages = messages
        self._from = (
            f" FROM message AS m {join} pair AS p ON p.id = m.conversation {join} bridged AS b"
            " ON b.user_id = CASE WHEN p.low = m.sender_id THEN p.high ELSE p.low END"
            " WHERE m.id > ? AND m.id <= ? AND b.bridge = ?"
        )

    def waiting(self, bridge: str, after: int, upto: int, limit: int) -> OutgoingPart:
        upto = min(upto, after + _SCANNED)
        query = f"SELECT {COLUMNS}, b.remote{self._from} ORDER BY m.id LIMIT ?"
        rows = [tuple(row) for row in self._db.execute(query, (after, upto, bridge, limit))]
        made = self._messages([row[:-1] for row in rows])
        found = [Outgoing(message, str(row[-1])) for message, row in zip(made, rows, strict=True)]
        return OutgoingPart(found, rows[-1][0] if len(rows) == limit else upto)

    def count(self, bridge: str, after: int, upto: int) -> int:
        query = f"SELECT count(*) FROM (SELECT m.id{self._from} LIMIT {COUNTED}) AS w"
        return int(self._db.execute(query, (after, upto, bridge)).fetchone()[0])


def bridge_of(db: Database, user_id: UserId) -> str:
    row = db.execute("SELECT bridge FROM bridged WHERE user_id = ?", (user_id,)).fetchone()
    return str(row[0]) if row else ""
