"""Whether one user accepts something from another, in the SQL of both twins, and remembering who may write to whom.

Owns: Permissions: the statement that decides, the senders who are known to be accepted; meta.consent.
Elsewhere: changing blocks and audiences (store.sql.consent), asking for every message (store.sqlite.messages,
store.mysql.recipients).
Fails: what the database raises passes through.
"""

from __future__ import annotations

import enum
import functools
import json
from collections.abc import Sequence
from typing import NamedTuple

from chatd.errors import ErrorCode
from chatd.model import Audience, ConversationId
from chatd.store.consent_contract import Pairing, Purpose
from chatd.store.sql.database import Database


class Ground(enum.IntEnum):
    """Why something is accepted or refused."""

    OWN = 1
    EVERYBODY = 2
    FRIEND = 3
    ANSWER = 4
    """The recipient has written to the sender."""

    GROUP = 5
    REFUSED = 6
    BLOCKED = 7


LASTING = frozenset((Ground.OWN, Ground.EVERYBODY, Ground.FRIEND, Ground.ANSWER))
"""Accepted for a reason that does not end without raising meta.consent."""
CODES: dict[Ground, ErrorCode | None] = {
    Ground.REFUSED: ErrorCode.NOT_ACCEPTED,
    Ground.BLOCKED: ErrorCode.BLOCKED_BY_YOU,
}
"""A refusal does not tell a block from a setting."""
_UNANSWERED = frozenset((*CODES, Ground.OWN))
"""Nobody answers a message that is refused, or to oneself."""
_CACHED = 200_000
"""Maximum entries before they are dropped."""


class Verdict(NamedTuple):
    """selective: the one who does it does not let everybody write to them."""

    ground: Ground
    selective: bool


class Permissions:
    """The decision, and what is remembered of it."""

    def __init__(self, db: Database, pairs_table: str) -> None:
        """pairs_table: the twin's table expression `p` (actor, subject), made from one value, a JSON list of pairs."""
        self._db = db
        self._pairs_table = pairs_table
        self.writers: dict[Pairing, ConversationId] = {}
        """Senders and recipients of messages that are accepted for a reason in LASTING, with the conversation of the
        two. If the sender is selective, they have their row in `correspondent`."""
        self._answered: set[Pairing] = set()
        """Selective senders and those who may answer them: they have their row."""
        self._version = ""
        """Of meta.consent, when `writers` was begun."""
        self._default = Audience.EVERYBODY
        """The audience of users who have not chosen, for which `writers` was begun."""

    # ---------------------------------------------------------------- what is remembered

    def clear(self) -> None:
        self.writers.clear()
        self._answered.clear()

    def learn(self, version: str) -> None:
        """version: the present value of meta.consent."""
        if version != self._version:
            self._version = version
            self.clear()

    def use_default(self, default: Audience) -> None:
        """The audience of users who have not chosen who may write to them."""
        if default is not self._default:
            self._default = default
            self.clear()

    def changed(self) -> None:
        """Within a transaction, after somebody accepts less: every connection clears what it remembers at its next
        transaction."""
        self._db.execute("UPDATE meta SET value = value + 1 WHERE `key` = 'consent'")
        self.clear()

    # ---------------------------------------------------------------- the decision

    def verdicts(self, purpose: Purpose, pairs: Sequence[Pairing], default: Audience) -> dict[Pairing, Verdict]:
        """A pair with a user that never existed is missing. Cost: one statement."""
        if not pairs:
            return {}
        rows = self._db.execute(_statement(self._pairs_table, purpose, default), (json.dumps(pairs),))
        return {(actor, subject): Verdict(Ground(ground), bool(chosen)) for actor, subject, ground, chosen in rows}

    def writing(self, pairs: Sequence[Pairing]) -> dict[Pairing, Verdict]:
        """verdicts() for messages that are about to be stored: a selective sender accepts answers from now on."""
        found = self.verdicts(Purpose.WRITE, pairs, self._default)
        selective = {pair for pair, one in found.items() if one.selective and one.ground not in _UNANSWERED}
        if new := selective - self._answered:
            rows = ",".join(["(?, ?)"] * len(new))
            numbers = [number for pair in sorted(new) for number in pair]
            self._db.execute(f"REPLACE INTO correspondent (user_id, other_id) VALUES {rows}", numbers)
            if len(self._answered) > _CACHED:
                self._answered.clear()
            self._answered |= new
        return found


def admitting(group: Audience, default: Audience) -> str:
    """The stored choices that admit those for whom `group` is the narrowest audience, as a list for IN."""
    values = [int(one) for one in Audience if one is not Audience.DEFAULT and one <= group]
    return ",".join(map(str, [*values, int(Audience.DEFAULT)] if default <= group else values))


@functools.cache
def _statement(pairs_table: str, purpose: Purpose, default: Audience) -> str:
    chosen = f"s.{purpose.value}"
    everybody, contacts, friends = (
        admitting(group, default) for group in (Audience.EVERYBODY, Audience.CONTACTS, Audience.FRIENDS)
    )
    blocks = "EXISTS (SELECT 1 FROM block AS b WHERE b.user_id = p.{} AND b.blocked_id = p.{})"
    cases = [
        ("p.actor = p.subject", Ground.OWN),
        (blocks.format("actor", "subject"), Ground.BLOCKED),
        (blocks.format("subject", "actor"), Ground.REFUSED),
        (f"{chosen} IN ({everybody})", Ground.EVERYBODY),
        (
            f"{chosen} IN ({friends}) AND EXISTS (SELECT 1 FROM friend AS f"
            " WHERE f.user_id = p.subject AND f.friend_id = p.actor AND f.accepted = 1)",
            Ground.FRIEND,
        ),
        (
            "EXISTS (SELECT 1 FROM correspondent AS c WHERE c.user_id = p.subject AND c.other_id = p.actor)",
            Ground.ANSWER,
        ),
        (
            f"{chosen} IN ({contacts}) AND EXISTS (SELECT 1 FROM member AS m JOIN member AS n"
            " ON n.team_id = m.team_id AND n.user_id = p.actor WHERE m.user_id = p.subject)",
            Ground.GROUP,
        ),
    ]
    unused = {Purpose.WRITE: (), Purpose.SEE: (Ground.BLOCKED, Ground.ANSWER)}.get(purpose, (Ground.ANSWER,))
    whens = " ".join(f"WHEN {when} THEN {int(ground)}" for when, ground in cases if ground not in unused)
    return (
        f"SELECT p.actor, p.subject, CASE {whens} ELSE {int(Ground.REFUSED)} END, a.may_write NOT IN"
        f" ({admitting(Audience.EVERYBODY, default)}) FROM {pairs_table}"
        " JOIN user AS s ON s.id = p.subject LEFT JOIN user AS a ON a.id = p.actor"
    )
