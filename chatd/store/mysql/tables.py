"""The store of a cluster: MySQL or MariaDB, many workers on many hosts.

Owns: transactions, numbering and storing messages, and what became of a COMMIT whose answer was lost.
Elsewhere: the connection and its limits (store.mysql.connection), the tables (store.mysql.schema), reading and small
writes (store.mysql.history), accounts, friends and groups (store.sql.accounts, store.sql.groups), batching
(store.group_commit).
Fails: Again when two transactions met: nothing was changed, and it is to be run once more. Unavailable when the
server cannot be reached or does not answer in time; after commit(), what became of the transaction may then be unknown,
and whoever repeats it meets the keys it may have left (P2).

A batch is four round trips: begin and the directory's version; the conversations' locks, then the members of groups;
all rows and the numbers given; commit. Who numbers messages holds the row of each conversation until the commit, so
numbers have no holes and become visible in their order (P3). The rows are locked in the order of their ids, before
anything else is locked, so two batches wait for each other and never in a circle; what deadlocks are left (with joins,
or friends) end in Again.
"""

from __future__ import annotations

import contextlib
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from chatd.config.urls import MysqlAddress
from chatd.errors import BootError, ErrorCode, Exit, Unavailable
from chatd.model import ConversationId, GroupId, Message, Seq, User, UserId
from chatd.protocol import SendMessage
from chatd.store.contract import Again, Draft, Stored
from chatd.store.mysql.connection import MysqlConnection, Taken
from chatd.store.mysql.history import MysqlArchive
from chatd.store.mysql.schema import MIGRATIONS, migrate, version_of
from chatd.store.sql.accounts import name_key
from chatd.store.sql.history import CACHE, COLUMNS, NOBODY, Found, Pair
from chatd.store.versions import FILLING, check_filled, check_version

_MIGRATING_S = 3600.0
_LOOKING_S = 10.0
"""So long after a repetition others are expected: whoever was cut off sends again."""
_STATEMENT_BYTES = 1 << 20
"""Rows of one INSERT, if the server takes as much."""
_INSERT = b"INSERT INTO message (conversation, seq, sender_id, send_key, fp, sent_at_ms, qos, typeu, body) VALUES "
_DIRECTORY = "SELECT value FROM meta WHERE `key` = 'directory'"
_LOCK = b"SELECT id, last FROM conversation FORCE INDEX (PRIMARY) WHERE id IN (%s) ORDER BY id FOR UPDATE"
_MEMBERS = (
    b"SELECT m.team_id, m.user_id, t.members_version FROM member AS m JOIN team AS t ON t.id = m.team_id"
    b" WHERE (m.team_id, m.user_id) IN (%s)"
)
_SENT = f"SELECT m.send_key, {COLUMNS} FROM message AS m WHERE m.send_key IN (%s)".encode()
_COUNT = b"UPDATE conversation SET last = last + %d WHERE id IN (%s)"
_NOTHING = b"SELECT 1 FROM DUAL WHERE FALSE"

Named = tuple[str, UserId]
"""How a sender names the recipient: by one of the two."""
Place = tuple[ConversationId, User]


class MysqlTables(MysqlArchive):
    """store.base.Tables on one connection. Build with open_tables(), and more beside it with open_reader()."""

    gather_s = 0.005

    def __init__(self, db: MysqlConnection) -> None:
        super().__init__(db)
        self._pairs: dict[Pair, ConversationId] = {}
        self._directory = ""
        self._looking_until = 0.0
        self._made_something = False
        self._witness: tuple[str, int] | None = None
        """A row of this transaction: table and number. Where it is afterwards, all of it is."""

    # ---------------------------------------------------------------- transactions

    def begin(self) -> None:
        self._witness = None
        self._made_something = False
        (directory,) = self._db.begin(_DIRECTORY).fetchone()
        if directory != self._directory:
            self._directory = directory
            self.forget_users()

    def commit(self) -> None:
        """A transaction whose COMMIT was not answered is looked for; one without a witness, which only moved marks or
        what can be done twice, is not."""
        mark = self._db.mark
        try:
            self._db.commit()
        except Unavailable:
            if not self._has_happened(mark):
                self._forget_what_was_made()
                raise

    def _has_happened(self, mark: str) -> bool:
        """False also where it cannot be known now. The session that has not answered is ended first, if it still
        lives; its last breath is waited for by the lock on the witness."""
        if self._witness is None:
            return False
        table, number = self._witness
        try:
            holder = self._db.execute("SELECT IS_USED_LOCK(?)", (mark,)).fetchone()[0]
            if holder is not None:
                with contextlib.suppress(Unavailable):  # it may be gone by now
                    self._db.execute("KILL CONNECTION ?", (holder,))
            key = "send_key" if table == "request" else "id"
            found = self._db.execute(f"SELECT {key} FROM {table} WHERE {key} = ? FOR UPDATE", (number,))
            return found.fetchone() is not None
        except (Again, Unavailable):
            return False

    def rollback(self) -> None:
        self._db.rollback()
        self._forget_what_was_made()

    def _forget_what_was_made(self) -> None:
        """What memory says of rows that this transaction made may not be in the store."""
        if self._made_something:
            self.forget_users()
            self._pairs.clear()
            self._pair_members.clear()
            self._names.clear()

    def close(self) -> None:
        self._db.discard()

    def create_user(self, name: str, password: str, now_ms: int) -> User:
        user = super().create_user(name, password, now_ms)
        self._made("user", user.id)
        return user

    def _open_group(self, group_id: GroupId) -> None:
        super()._open_group(group_id)
        self._made("team", group_id)

    def remember(self, sender: UserId, fp: str, answer: str, now_ms: int) -> None:
        self._made("request", self._remember(sender, fp, answer, now_ms))

    def _made(self, table: str, number: int) -> None:
        self._made_something = True
        self._witness = self._witness or (table, number)

    # ---------------------------------------------------------------- messages

    def append(self, drafts: Sequence[Draft], now_ms: int) -> list[Stored | ErrorCode]:
        """Cost: two round trips whatever the number of drafts, two more for recipients seen for the first time.
        Whether something was sent before is asked once an insert has met its key: then, and of every batch for a
        while."""
        places = self._places(drafts)
        first = self._keys.first
        keys = [first(draft.sender.id, draft.command.fp) if draft.command.fp else None for draft in drafts]
        last, versions = self._lock(drafts, places)
        if time.monotonic() >= self._looking_until:
            refused = [key for place, key in zip(places, keys, strict=True) if isinstance(place, ErrorCode)]
            try:
                return self._store(drafts, places, keys, dict(last), self._known(refused), versions, now_ms)
            except Taken:
                self._looking_until = time.monotonic() + _LOOKING_S
        return self._store(drafts, places, keys, last, self._known(keys), versions, now_ms)

    def _store(
        self, drafts: Sequence[Draft], places: Sequence[Place | ErrorCode], keys: Sequence[int | None],
        last: dict[ConversationId, Seq], sent: dict[int, Message], versions: dict[GroupId, int], now_ms: int,
    ) -> list[Stored | ErrorCode]:  # fmt: skip
        """last: as locked, counted on here. sent: what is known to have the keys; joined by what is stored here.
        versions: members_version of the groups."""
        results: list[Stored | ErrorCode] = []
        rows: list[bytes] = []
        given: Counter[ConversationId] = Counter()
        literal = self._db.literal
        for draft, place, key in zip(drafts, places, keys, strict=True):
            sender, command = draft.sender, draft.command
            if key is not None and key in sent:
                key, found = self._probe(key, sender.id, command.fp, sent)
                if key is None or found is not None:
                    results.append(ErrorCode.LIMIT_REACHED if found is None else self._repetition(found, command))
                    continue
            if isinstance(place, ErrorCode):
                results.append(place)
                continue
            conversation, recipient = place
            version = versions[command.to_group] if command.to_group else 0
            seq = last[conversation] = last[conversation] + 1
            given[conversation] += 1
            fp, body, qos, typeu = command.fp, command.body, command.qos, command.typeu
            rows.append(
                b"(%d,%d,%d,%s,%s,%d,%d,%d,%s)"
                % (conversation, seq, sender.id, literal(key), literal(fp), now_ms, qos, typeu, literal(body))
            )
            message = Message(
                conversation, seq, sender.id, sender.name, recipient.id, recipient.name, command.to_group,
                body, fp, qos, typeu, now_ms,
            )  # fmt: skip
            if key is not None:
                sent[key] = message
            results.append(Stored(message, True, version))
        self._insert(rows, given)
        return results

    def _insert(self, rows: list[bytes], given: Counter[ConversationId]) -> None:
        """The numbers given go with the last rows, in one round trip. Taken: nothing was written."""
        by_count: dict[int, list[ConversationId]] = {}
        for conversation, count in given.items():
            by_count.setdefault(count, []).append(conversation)
        counted = [_COUNT % (count, _list(sorted(numbers))) for count, numbers in by_count.items()]
        parts = list(_parts(rows, min(_STATEMENT_BYTES, self._db.packet_bytes // 2)))
        for index, part in enumerate(parts):
            following = counted if index == len(parts) - 1 else []
            try:
                answer = self._db.query_all(_INSERT + b",".join(part), *following)[0]
            except Taken as error:
                if index:
                    self._looking_until = time.monotonic() + _LOOKING_S
                    raise Again("a key of a long batch is taken") from error
                raise
            assert answer.lastrowid
            self._witness = self._witness or ("message", answer.lastrowid)

    def _lock(
        self, drafts: Sequence[Draft], places: list[Place | ErrorCode]
    ) -> tuple[dict[ConversationId, Seq], dict[GroupId, int]]:
        """The last numbers of all conversations, which nobody else can give on now, and the groups' members_versions,
        which nobody else can raise. A draft to a group the sender is not in is refused in `places`."""
        conversations = sorted({place[0] for place in places if not isinstance(place, ErrorCode)})
        asking = {(draft.command.to_group, draft.sender.id) for draft in drafts if draft.command.to_group}
        if not conversations:
            return {}, {}
        locked, members = self._db.query_all(
            _LOCK % _list(conversations), _MEMBERS % _pairs(sorted(asking)) if asking else _NOTHING
        )
        versions: dict[GroupId, int] = {}
        strangers = asking
        for group_id, user_id, version in members:
            versions[group_id] = version
            strangers.discard((group_id, user_id))
        if strangers:
            self._refuse(strangers, drafts, places)
        return dict(locked.fetchall()), versions

    def _refuse(
        self, strangers: set[tuple[GroupId, UserId]], drafts: Sequence[Draft], places: list[Place | ErrorCode]
    ) -> None:
        groups = {row[0] for row in self._chosen("SELECT id FROM team WHERE id IN", {group for group, _ in strangers})}
        for index, draft in enumerate(drafts):
            group = draft.command.to_group
            if group and (group, draft.sender.id) in strangers:
                places[index] = ErrorCode.NOT_A_MEMBER if group in groups else ErrorCode.UNKNOWN_GROUP

    def _known(self, keys: Sequence[int | None]) -> dict[int, Message]:
        """The messages that have one of the keys."""
        wanted = sorted(key for key in keys if key is not None)
        return self._by_key(self._db.query(_SENT % _list(wanted)).fetchall()) if wanted else {}

    def _by_key(self, rows: list[tuple[Any, ...]]) -> dict[int, Message]:
        found: list[Found] = [row[1:] for row in rows]
        return dict(zip((row[0] for row in rows), self._messages(found), strict=True))

    def _sent(self, key: int) -> Message | None:
        return self._by_key(self._db.query(_SENT % b"%d" % key).fetchall()).get(key)

    # ---------------------------------------------------------------- where a message goes

    def _places(self, drafts: Sequence[Draft]) -> list[Place | ErrorCode]:
        """Conversation and recipient (NOBODY for a group, which is looked at later)."""
        if len(self._pairs) + len(self._by_name) + len(self._by_id) > CACHE:
            self._pairs.clear()
            self.forget_users()
        recipients = self._recipients({(draft.command.to_name, draft.command.to_id) for draft in drafts})
        couples = (self._couple(draft.sender, recipients[_named(draft.command)]) for draft in drafts)
        unknown = {pair for pair in couples if pair is not None} - self._pairs.keys()
        if unknown:
            self._know_pairs(sorted(unknown))
        return [self._place(draft, recipients) for draft in drafts]

    def _place(self, draft: Draft, recipients: dict[Named, User | None]) -> Place | ErrorCode:
        if draft.command.to_group:
            return -draft.command.to_group, NOBODY
        recipient = recipients[_named(draft.command)]
        pair = self._couple(draft.sender, recipient)
        return (self._pairs[pair], recipient) if recipient and pair else ErrorCode.UNKNOWN_RECIPIENT

    @staticmethod
    def _couple(sender: User, recipient: User | None) -> Pair | None:
        if recipient is None:
            return None
        one, other = sender.id, recipient.id
        return (one, other) if one < other else (other, one)

    def _know_pairs(self, pairs: list[Pair]) -> None:
        """Read them, and make those that are not there. Of two who make the same, the second waits for the first."""
        asked = b"SELECT low, high, id FROM pair WHERE (low, high) IN (%s)"
        found = {(low, high): number for low, high, number in self._db.query(asked % _pairs(pairs)).fetchall()}
        missing = [pair for pair in pairs if pair not in found]
        if missing:
            self._made_something = True
            self._db.query(b"INSERT IGNORE INTO pair (low, high) VALUES %s" % _pairs(missing))
            asked = (
                b"SELECT p.low, p.high, p.id, v.id IS NULL FROM pair AS p LEFT JOIN conversation AS v ON v.id = p.id"
                b" WHERE (p.low, p.high) IN (%s)"
            )
            made = self._db.query(asked % _pairs(missing)).fetchall()
            found |= {(low, high): number for low, high, number, _ in made}
            self._open_talks([((low, high), number) for low, high, number, is_new in made if is_new])
        self._pairs |= found

    def _open_talks(self, talks: list[tuple[Pair, ConversationId]]) -> None:
        if talks:
            cursors = sorted({(user, number) for pair, number in talks for user in pair})
            self._db.query_all(
                b"INSERT INTO conversation (id, last) VALUES %s" % _pairs(sorted((number, 0) for _, number in talks)),
                b"INSERT IGNORE INTO `cursor` (user_id, conversation, delivered) VALUES "
                + b",".join(b"(%d,%d,0)" % cursor for cursor in cursors),
            )

    def _recipients(self, asked: set[Named]) -> dict[Named, User | None]:
        """As user(), for many at once; those that memory does not have are read in two statements at most."""
        found: dict[Named, User | None] = {}
        for name, number in asked:
            found[name, number] = self._by_name.get(name) if name else self._by_id.get(number)
        names = {name: name_key(name) for (name, _), user in found.items() if name and user is None}
        users = self._users_by_key(set(names.values()))
        for name, key in names.items():
            found[name, 0] = users.get(key)
        numbers = {(name, number): int(name) if name else number for (name, number), user in found.items()
                   if user is None and (not name or _is_number(name))}  # fmt: skip
        ids = self._users_by_id({number for number in numbers.values() if 0 < number < 1 << 62})
        found |= {named: ids.get(number) for named, number in numbers.items()}
        for (name, _), user in found.items():
            if user is not None:
                self._by_id[user.id] = user
                if name:
                    self._by_name[name] = user
        return found

    def _users_by_key(self, keys: set[str]) -> dict[str, User]:
        if not keys:
            return {}
        marks = ",".join("?" * len(keys))
        rows = self._db.execute(f"SELECT name_key, id, name FROM user WHERE name_key IN ({marks})", sorted(keys))
        return {key.decode(): User(number, name) for key, number, name in rows}

    def _users_by_id(self, numbers: set[UserId]) -> dict[UserId, User]:
        sql = "SELECT id, name FROM user WHERE name_key IS NOT NULL AND id IN"
        return {int(number): User(int(number), str(name)) for number, name in self._chosen(sql, numbers)}


def _named(command: SendMessage) -> Named:
    return command.to_name, command.to_id


def _is_number(name: str) -> bool:
    """What is a user's number where nobody has it as a name."""
    return name.isascii() and name.isdigit() and len(name) < 19


def _list(numbers: Iterable[int]) -> bytes:
    return b",".join(b"%d" % number for number in numbers)


def _pairs(pairs: Iterable[tuple[int, int]]) -> bytes:
    return b",".join(b"(%d,%d)" % pair for pair in pairs)


def _parts(rows: list[bytes], most_bytes: int) -> Iterator[list[bytes]]:
    """Cut where a part would become longer than most_bytes; a longer row is a part of its own."""
    part: list[bytes] = []
    size = 0
    for row in rows:
        if part and size + len(row) > most_bytes:
            yield part
            part, size = [], 0
        part.append(row)
        size += len(row) + 1
    if part:
        yield part


# ---------------------------------------------------------------- opening


def open_tables(address: MysqlAddress, limit_s: float, fill: bool = False) -> MysqlTables:
    """Connect and make the store ready: brought up where nobody is in it, otherwise it must be at the newest schema.
    limit_s: longest wait for each answer. fill: one that is being filled is welcome. BootError 69 if it cannot be
    used, 78 if its schema is not this program's."""
    db = MysqlConnection(address, limit_s)
    try:
        _make_ready(db, fill)
    except Unavailable as error:
        db.discard()
        raise BootError(f"store: {address}: {error}", Exit.UNAVAILABLE) from error
    except BootError:
        db.discard()
        raise
    return MysqlTables(db)


def open_reader(address: MysqlAddress, limit_s: float) -> MysqlTables:
    """More tables for a store that was opened: connected when it is first asked."""
    return MysqlTables(MysqlConnection(address, limit_s))


def _make_ready(db: MysqlConnection, fill: bool) -> None:
    store, version, newest = str(db.address), version_of(db), len(MIGRATIONS)
    if version != newest:
        empty = version == 0 or db.execute("SELECT 1 FROM user LIMIT 1").fetchone() is None
        check_version(version, newest, empty, store)
        patient = MysqlConnection(db.address, _MIGRATING_S)
        try:
            migrate(patient, newest)
        finally:
            patient.discard()
    if not fill:
        row = db.execute("SELECT value FROM meta WHERE `key` = ?", (FILLING,)).fetchone()
        check_filled(row[0] if row else "", store)
