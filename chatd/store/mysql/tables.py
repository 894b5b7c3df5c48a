"""The store of a cluster: MySQL or MariaDB, many workers on many hosts.

Owns: MysqlTables: transactions, finding out the fate of a COMMIT whose answer was lost, and putting the parts together;
moving cursors; opening.
Elsewhere: the connection and its time limits (store.mysql.connection), storing messages (store.mysql.messages), reading
them (store.mysql.history), accounts, friends and groups (store.sql), batching (store.group_commit), the tables
(store.mysql.schema).
Fails: Again when two transactions conflicted: nothing was changed, and the transaction is to be run again. Unavailable
when the server cannot be reached or does not answer in time; after commit() it may then be unknown whether the
transaction happened, and a caller who repeats it finds the keys that it left (P2).

A batch takes four round trips: begin and the versions of directory and consent; locking the conversations and reading
the members of groups; all rows and the new last numbers; commit. A transaction that numbers messages holds the row of
each conversation until its commit, so numbers have no holes and become visible in order (P3). The rows are locked in
the order of their ids, before anything else is locked, so two batches never deadlock with each other; the deadlocks
that remain (with joins or friends) end in Again.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Sequence
from functools import partial

from chatd.config.urls import MysqlAddress
from chatd.errors import BootError, ErrorCode, Exit, Unavailable
from chatd.model import UserId
from chatd.store.contract import ANYTHING, Advance, Again, Draft, SendingRules, Stored
from chatd.store.mysql import barrier
from chatd.store.mysql.backend import MysqlBackend
from chatd.store.mysql.connection import MysqlConnection, closed_unless_ready
from chatd.store.mysql.history import MysqlHistory
from chatd.store.mysql.messages import MysqlMessages
from chatd.store.mysql.retention import MysqlRetention
from chatd.store.mysql.schema import MIGRATIONS, migrate, version_of
from chatd.store.sql.accounts import SqlAccounts
from chatd.store.sql.address_bans import SqlAddressBans
from chatd.store.sql.administrators import SqlAdministrators
from chatd.store.sql.api_keys import SqlApiKeys
from chatd.store.sql.bridges import SqlBridges, SqlOutgoing
from chatd.store.sql.consent import SqlConsent
from chatd.store.sql.erasure import SqlErasure
from chatd.store.sql.events import EventReading, SqlEvents
from chatd.store.sql.files import SqlFiles
from chatd.store.sql.friends import SqlFriends
from chatd.store.sql.group_admission import SqlGroupAdmission
from chatd.store.sql.groups import SqlGroups
from chatd.store.sql.invites import SqlInvites
from chatd.store.sql.known_sources import SqlKnownSources
from chatd.store.sql.person import SqlPerson
from chatd.store.sql.push import SqlMissed, SqlPush
from chatd.store.sql.request_log import SqlRequestLog
from chatd.store.sql.revisions import SqlRevisions
from chatd.store.sql.webhooks import SqlWebhooks
from chatd.store.versions import FILLING, check_filled, check_upgradable, check_version

_MIGRATING_S = 3600.0
_VERSIONS = "SELECT value FROM meta WHERE `key` IN ('consent', 'directory', 'events') ORDER BY `key`"
"""Of `events`, there may be no row."""


class MysqlTables:
    """store.contract.Tables on one connection. Made by open_tables(), and more beside it by open_reader()."""

    gather_s = 0.005

    def __init__(self, connection: MysqlConnection) -> None:
        self.connection = db = connection
        self._backend = backend = MysqlBackend(db)
        self.groups = SqlGroups(db, backend)
        self.files = SqlFiles(db, backend, " FOR UPDATE")
        self._messages = MysqlMessages(db, backend, self.groups, self.files)
        self.accounts = SqlAccounts(db, backend, backend.directory, self.groups)
        self.invites = SqlInvites(db, backend)
        self.friends = friends = SqlFriends(db, backend, backend.directory, backend.permissions)
        self.consent = SqlConsent(db, backend, backend.permissions, friends)
        self.admission = SqlGroupAdmission(db, backend, backend.directory, self.groups, self.consent)
        self.history = MysqlHistory(db, backend, self.groups)
        self.request_log = SqlRequestLog(db, backend)
        self.revisions = SqlRevisions(db, backend, self.groups, self.history.at)
        self.known_sources = SqlKnownSources(db, backend)
        self.address_bans = SqlAddressBans(db)
        self.api_keys = SqlApiKeys(db, backend)
        self.administrators = SqlAdministrators(db, backend)
        self.retention = MysqlRetention(db, backend)
        self.person = SqlPerson(db, backend.messages)
        self.erasure = SqlErasure(db, " FOR UPDATE")
        self.events = SqlEvents(
            db,
            EventReading(
                messages=backend.messages,
                user=backend.user_or_deleted,
                message_id=backend.message_id,
                log=backend.events,
                slots=barrier.SLOTS,
                free=barrier.FREE,
            ),
        )
        self.webhooks = SqlWebhooks(db, barrier.CLOCK, " FOR UPDATE")
        self.bridges = SqlBridges(db, backend, backend.permissions)
        self.outgoing = SqlOutgoing(db, backend.messages, "STRAIGHT_JOIN")
        self.push = SqlPush(db, backend, SqlMissed(db, "STRAIGHT_JOIN"), self.history.at, " FOR UPDATE")
        self._directory_version = ""

    # ---------------------------------------------------------------- transactions

    def begin(self) -> None:
        self._backend.begin_transaction()
        (consent,), (version,), *wanted = self.connection.begin(_VERSIONS).fetchall()
        self._backend.has_webhooks = any(kinds for (kinds,) in wanted)
        self._backend.permissions.learn(consent)
        if version != self._directory_version:
            self._directory_version = version
            self._backend.forget_names()

    def commit(self) -> None:
        """If the COMMIT is not answered, the transaction's witness is looked for. A transaction without one only moved
        cursors or made changes that can be repeated: it is reported as failed."""
        session = self.connection.session_lock
        try:
            self.connection.commit()
        except Unavailable:
            if not self._has_happened(session):
                self._lost()
                raise

    def _has_happened(self, session: str) -> bool:
        """False also if that cannot be known now. session: the named lock of the connection that did not answer; its
        session is ended first, if it still exists, and the lock on the witness waits for its end."""
        if self._backend.witness is None:
            return False
        table, number = self._backend.witness
        try:
            holder = self.connection.execute("SELECT IS_USED_LOCK(?)", (session,)).fetchone()[0]
            if holder is not None:
                with contextlib.suppress(Unavailable):  # it may be gone by now
                    self.connection.execute("KILL CONNECTION ?", (holder,))
            key = "send_key" if table == "request" else "id"
            found = self.connection.execute(f"SELECT {key} FROM {table} WHERE {key} = ? FOR UPDATE", (number,))
            return found.fetchone() is not None
        except (Again, Unavailable):
            return False

    def rollback(self) -> None:
        self.connection.rollback()
        self._lost()

    def _lost(self) -> None:
        self._backend.transaction_lost()
        self.retention.transaction_lost()

    def close(self) -> None:
        self.connection.discard()

    # ---------------------------------------------------------------- the operations of a batch

    def append(self, drafts: Sequence[Draft], now_ms: int, rules: SendingRules = ANYTHING) -> list[Stored | ErrorCode]:
        return self._messages.append(drafts, now_ms, rules)

    def advance(self, advances: Sequence[Advance]) -> None:
        """In one order everywhere, and each row once, as the statement demands."""
        highest = {(user_id, conversation): seq for user_id, conversation, seq in sorted(advances)}
        self.connection.execute(
            "UPDATE JSON_TABLE(?, '$[*]' COLUMNS (user_id BIGINT PATH '$[0]', conversation BIGINT PATH '$[1]',"
            " seq BIGINT PATH '$[2]')) AS n STRAIGHT_JOIN `cursor` AS c"
            " ON c.user_id = n.user_id AND c.conversation = n.conversation"
            " SET c.delivered = n.seq WHERE c.delivered < n.seq",
            (json.dumps([(*key, seq) for key, seq in highest.items()]),),
        )

    def update_last_seen(self, seen: Sequence[tuple[UserId, int]]) -> None:
        latest = dict(sorted(seen))
        self.connection.execute(
            "UPDATE JSON_TABLE(?, '$[*]' COLUMNS (id BIGINT PATH '$[0]', at_ms BIGINT PATH '$[1]')) AS n"
            " STRAIGHT_JOIN user AS u ON u.id = n.id SET u.seen_at_ms = n.at_ms WHERE u.seen_at_ms < n.at_ms",
            (json.dumps(list(latest.items())),),
        )


# ---------------------------------------------------------------- opening


def open_tables(address: MysqlAddress, limit_s: float, *, create: bool, patient: bool = False) -> MysqlTables:
    """limit_s: longest wait for each answer. create: the tables of an empty database are created. A store without users
    is migrated; one with users must be at the newest schema. patient: if the server cannot be reached now, all this is
    done when it can; until then, and if the schema is found to be wrong, everything raises Unavailable.

    Raises: BootError 69 if there is no store or it cannot be used, 78 if its schema is not this program's or it is
    being filled."""
    connection = MysqlConnection(address, limit_s)
    with closed_unless_ready(str(address), connection.discard):
        try:
            _make_ready(connection, create)
        except Unavailable:
            if not patient:
                raise
            connection.discard()
            connection.on_connect = partial(_make_ready_later, create=create)
    return MysqlTables(connection)


def _make_ready_later(db: MysqlConnection, *, create: bool) -> None:
    """On the first connection. Raises Unavailable, which ends it."""
    try:
        _make_ready(db, create)
    except BootError as error:
        raise Unavailable(str(error)) from None
    db.on_connect = None


def open_reader(address: MysqlAddress, limit_s: float) -> MysqlTables:
    """More tables of a store that was opened. Connects when first used."""
    return MysqlTables(MysqlConnection(address, limit_s))


def check_schema(address: MysqlAddress, limit_s: float) -> None:
    """Whether a server may be upgraded to this program while it uses the database. Reads only. Raises: BootError 69,
    78."""
    connection = MysqlConnection(address, limit_s)
    with closed_unless_ready(str(address), connection.discard):
        check_upgradable(version_of(connection), len(MIGRATIONS), str(address))
    connection.discard()


def _make_ready(db: MysqlConnection, create: bool) -> None:
    store, version, newest = str(db.address), version_of(db), len(MIGRATIONS)
    if version == 0 and not create:
        raise BootError(f"store {store} does not exist: the database is empty", Exit.UNAVAILABLE)
    if version != newest:
        empty = version == 0 or db.execute("SELECT 1 FROM user LIMIT 1").fetchone() is None
        check_version(version, newest, empty, store)
        patient = MysqlConnection(db.address, _MIGRATING_S)
        try:
            migrate(patient, newest)
        finally:
            patient.discard()
    row = db.execute("SELECT value FROM meta WHERE `key` = ?", (FILLING,)).fetchone()
    check_filled(row[0] if row else "", store)
