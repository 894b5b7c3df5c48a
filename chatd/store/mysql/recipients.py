"""Where the messages of a batch go: recipients and conversations, looked up for all drafts at once.

Owns: finding many users in two statements, whether they accept the messages, and the rows of `pair`, which are made for
users who write to each other for the first time.
Elsewhere: numbering (store.mysql.messages), one user at a time (store.sql.directory).
Fails: Again and Unavailable as store.mysql.connection.
"""

from __future__ import annotations

from collections.abc import Sequence

from chatd.errors import ErrorCode
from chatd.model import SYSTEM, Audience, ConversationId, User, UserId
from chatd.protocol import SendMessage
from chatd.store.consent_contract import Pairing
from chatd.store.contract import Draft
from chatd.store.mysql.backend import MysqlBackend
from chatd.store.mysql.connection import MysqlConnection
from chatd.store.mysql.statements import pair_list
from chatd.store.sql.messages import CACHED, NO_USER, Pair, pair_of
from chatd.store.sql.verdicts import CODES, LASTING
from chatd.texts.names import name_key

Address = tuple[str, UserId]
"""How a draft names its recipient: by name or, if that is empty, by id."""
Destination = tuple[ConversationId, User]
"""NO_USER for a group."""


class Recipients:
    def __init__(self, db: MysqlConnection, backend: MysqlBackend) -> None:
        self._db = db
        self._backend = backend
        self._directory = backend.directory
        self._conversations = backend.pairs.conversations
        self._permissions = backend.permissions

    def destinations(self, drafts: Sequence[Draft], may_write: Audience) -> list[Destination | ErrorCode]:
        """Of each draft, or why it is refused. Whether the sender is in the group is not checked here. may_write: for
        users who have not chosen."""
        if len(self._conversations) + len(self._directory.by_name) + len(self._directory.by_id) > CACHED:
            self._conversations.clear()
            self._directory.clear()
            self._permissions.clear()
        self._permissions.use_default(may_write)
        recipients = self._find_all({_address(draft.command) for draft in drafts})
        found = ((draft.sender, recipients[_address(draft.command)]) for draft in drafts)
        pairings = {(sender.id, to.id) for sender, to in found if to is not None}
        asked = sorted(one for one in pairings - self._permissions.writers.keys() if one[0] != SYSTEM.id)
        verdicts = self._permissions.writing(asked)
        self._backend.made_rows |= any(verdict.selective for verdict in verdicts.values())
        refused = {pairing: code for pairing, one in verdicts.items() if (code := CODES.get(one.ground)) is not None}
        unknown = {pair_of(*pairing) for pairing in pairings - refused.keys()} - self._conversations.keys()
        if unknown:
            self._find_pairs(sorted(unknown))
        for pairing, verdict in verdicts.items():
            if verdict.ground in LASTING:
                self._permissions.writers[pairing] = self._conversations[pair_of(*pairing)]
        return [self._destination(draft, recipients, refused) for draft in drafts]

    def _destination(
        self, draft: Draft, recipients: dict[Address, User | None], refused: dict[Pairing, ErrorCode]
    ) -> Destination | ErrorCode:
        if draft.command.to_group:
            return -draft.command.to_group, NO_USER
        recipient = recipients[_address(draft.command)]
        if recipient is None:
            return ErrorCode.UNKNOWN_RECIPIENT
        if (code := refused.get((draft.sender.id, recipient.id))) is not None:
            return code
        return self._conversations[pair_of(draft.sender.id, recipient.id)], recipient

    def _find_pairs(self, pairs: list[Pair]) -> None:
        """Read them, and insert the missing ones. If two transactions insert the same one, the second waits for the
        first."""
        asked = b"SELECT low, high, id FROM pair WHERE (low, high) IN (%s)"
        found = {(low, high): number for low, high, number in self._db.query(asked % pair_list(pairs)).fetchall()}
        missing = [pair for pair in pairs if pair not in found]
        if missing:
            self._backend.made_rows = True
            self._db.query(b"INSERT IGNORE INTO pair (low, high) VALUES %s" % pair_list(missing))
            asked = (
                b"SELECT p.low, p.high, p.id, v.id IS NULL FROM pair AS p LEFT JOIN conversation AS v ON v.id = p.id"
                b" WHERE (p.low, p.high) IN (%s)"
            )
            made = self._db.query(asked % pair_list(missing)).fetchall()
            found |= {(low, high): number for low, high, number, _ in made}
            self._open_conversations([((low, high), number) for low, high, number, is_new in made if is_new])
        self._conversations.update(found)

    def _open_conversations(self, opened: list[tuple[Pair, ConversationId]]) -> None:
        if opened:
            cursors = sorted({(user, number) for pair, number in opened for user in pair if user != SYSTEM.id})
            self._db.query_all(
                b"INSERT INTO conversation (id, last) VALUES %s"
                % pair_list(sorted((number, 0) for _, number in opened)),
                b"INSERT IGNORE INTO `cursor` (user_id, conversation, delivered) VALUES "
                + b",".join(b"(%d,%d,0)" % cursor for cursor in cursors),
            )

    def _find_all(self, asked: set[Address]) -> dict[Address, User | None]:
        """As UserDirectory.find for each; those that are not cached are read in two statements at most."""
        by_name, by_id = self._directory.by_name, self._directory.by_id
        found: dict[Address, User | None] = {}
        for name, number in asked:
            found[name, number] = by_name.get(name) if name else by_id.get(number)
        names = {name: name_key(name) for (name, _), user in found.items() if name and user is None}
        users = self._users_by_key(set(names.values()))
        for name, key in names.items():
            found[name, 0] = users.get(key)
        numbers = {(name, number): int(name) if name else number for (name, number), user in found.items()
                   if user is None and (not name or self._directory.may_be_id(name))}  # fmt: skip
        ids = self._users_by_id({number for number in numbers.values() if 0 < number < 1 << 62})
        found |= {address: ids.get(number) for address, number in numbers.items()}
        for (name, _), user in found.items():
            if user is not None:
                by_id[user.id] = user
                if name:
                    by_name[name] = user
        return found

    def _users_by_key(self, keys: set[str]) -> dict[str, User]:
        if not keys:
            return {}
        marks = ",".join("?" * len(keys))
        rows = self._db.execute(f"SELECT name_key, id, name FROM user WHERE name_key IN ({marks})", sorted(keys))
        return {key.decode(): User(number, name) for key, number, name in rows}

    def _users_by_id(self, numbers: set[UserId]) -> dict[UserId, User]:
        sql = "SELECT id, name FROM user WHERE name_key IS NOT NULL AND id IN"
        return {int(number): User(int(number), str(name)) for number, name in self._backend.select_in(sql, numbers)}


def _address(command: SendMessage) -> Address:
    return command.to_name, command.to_id
