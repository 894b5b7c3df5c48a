"""Webhooks: how far each has come, and who holds its lease, in the SQL of both twins.

Owns: the table `webhook`, and raising the wanted kinds in `meta`.
Elsewhere: the events (store.sql.events), sending them (webhooks).
Fails: what the database raises passes through.

Leases are measured by the clock of the store, which all hosts of a cluster share. They only keep two workers from
sending the same events: what is written is protected by the fence.
"""

from __future__ import annotations

from collections.abc import Collection

from chatd.store.event_contract import Position, Progress, WebhookState
from chatd.store.sql.database import Database
from chatd.store.sql.event_log import WANTED

_COLUMNS = (
    "name, kinds, holder, fence, lease_until_ms, message, event, claimed_message, claimed_event, created_at_ms,"
    " seen_at_ms, delivered, delivered_at_ms, failures, failed_at_ms, error, disabled_at_ms, replays, dropped"
)
_ERROR_CHARS = 500
_END = "(SELECT coalesce(max(id), 0) FROM message), (SELECT coalesce(max(id), 0) FROM event)"


class SqlWebhooks:
    """store.event_contract.WebhookTables. clock: an expression, milliseconds since the epoch. for_update: appended to a
    SELECT whose row must not change until the commit."""

    def __init__(self, db: Database, clock: str, for_update: str = "") -> None:
        self._db = db
        self._clock = clock
        self._for_update = for_update

    def _now_ms(self) -> int:
        return int(self._db.execute(f"SELECT {self._clock}").fetchone()[0])

    # ---------------------------------------------------------------- which there are

    def all(self) -> list[WebhookState]:
        return [_state(row) for row in self._db.execute(f"SELECT {_COLUMNS} FROM webhook ORDER BY name").fetchall()]

    def find(self, name: str) -> WebhookState | None:
        row = self._db.execute(f"SELECT {_COLUMNS} FROM webhook WHERE name = ?", (name,)).fetchone()
        return _state(row) if row else None

    def _locked(self, name: str) -> WebhookState | None:
        query = f"SELECT {_COLUMNS} FROM webhook WHERE name = ?{self._for_update}"
        row = self._db.execute(query, (name,)).fetchone()
        return _state(row) if row else None

    def register(self, name: str, kinds: Collection[str]) -> None:
        now_ms, wanted = self._now_ms(), " ".join(sorted(kinds))
        state = self._locked(name)
        if state is None:
            message, event = self._db.execute(f"SELECT {_END}").fetchone()
            self._db.execute(
                "INSERT INTO webhook (name, kinds, message, event, claimed_message, claimed_event, created_at_ms,"
                " seen_at_ms) VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
                (name, wanted, message, event, message, event, now_ms, now_ms),
            )
        else:
            self._db.execute("UPDATE webhook SET kinds = ?, seen_at_ms = ? WHERE name = ?", (wanted, now_ms, name))
        self._set_wanted()

    def _set_wanted(self) -> None:
        rows = self._db.execute("SELECT kinds FROM webhook").fetchall()
        wanted = sorted({kind for (kinds,) in rows for kind in str(kinds).split()})
        self._db.execute("REPLACE INTO meta VALUES (?, ?)", (WANTED, " ".join(wanted)))

    def forget(self, name: str) -> bool:
        if self._locked(name) is None:
            return False
        self._db.execute("DELETE FROM webhook WHERE name = ?", (name,))
        self._set_wanted()
        return True

    def forget_unseen(self, before_ms: int) -> list[str]:
        old = [state.name for state in self.all() if state.seen_at_ms < before_ms]
        return [name for name in old if self.forget(name)]

    # ---------------------------------------------------------------- the lease

    def take(self, name: str, holder: str, lease_ms: int) -> WebhookState | None:
        state, now_ms = self._locked(name), self._now_ms()
        if state is None or state.disabled_at_ms:
            return None
        if state.holder not in ("", holder) and state.lease_until_ms > now_ms:
            return None
        position, claimed = state.position, state.claimed
        (end,) = self._db.execute("SELECT coalesce(max(id), 0) FROM message").fetchone()
        if position.message > end:  # the store was copied or restored: ids beyond its end will be given again
            position = position._replace(message=end)
            claimed = claimed._replace(message=end)
        self._db.execute(
            "UPDATE webhook SET holder = ?, fence = ?, lease_until_ms = ?, seen_at_ms = ?, message = ?,"
            " claimed_message = ? WHERE name = ?",
            (holder, state.fence + 1, now_ms + lease_ms, now_ms, position.message, claimed.message, name),
        )
        return self.find(name)

    def _holds(self, name: str, fence: int) -> WebhookState | None:
        state = self._locked(name)
        return state if state is not None and state.fence == fence else None

    def renew(self, name: str, fence: int, lease_ms: int) -> bool:
        if self._holds(name, fence) is None:
            return False
        now_ms = self._now_ms()
        self._db.execute(
            "UPDATE webhook SET lease_until_ms = ?, seen_at_ms = ? WHERE name = ?", (now_ms + lease_ms, now_ms, name)
        )
        return True

    def release(self, name: str, fence: int) -> bool:
        if self._holds(name, fence) is None:
            return False
        self._free(name)
        return True

    def _free(self, name: str) -> None:
        """Whoever holds the lease has it no more."""
        self._db.execute(
            "UPDATE webhook SET holder = '', fence = fence + 1, lease_until_ms = 0 WHERE name = ?", (name,)
        )

    # ---------------------------------------------------------------- progress

    def move(self, name: str, fence: int, progress: Progress, lease_ms: int) -> bool:
        state = self._holds(name, fence)
        if state is None:
            return False
        now_ms = self._now_ms()
        position = _later(state.position, progress.position)
        claimed = _later(position, progress.claimed)
        self._db.execute(
            "UPDATE webhook SET message = ?, event = ?, claimed_message = ?, claimed_event = ?, lease_until_ms = ?,"
            " seen_at_ms = ?, delivered = delivered + ? WHERE name = ?",
            (*position, *claimed, now_ms + lease_ms, now_ms, progress.delivered, name),
        )
        if progress.delivered:
            self._db.execute(
                "UPDATE webhook SET failures = 0, error = '', delivered_at_ms = ? WHERE name = ?", (now_ms, name)
            )
        return True

    def failed(self, name: str, fence: int, error: str, lease_ms: int) -> bool:
        if self._holds(name, fence) is None:
            return False
        now_ms = self._now_ms()
        self._db.execute(
            "UPDATE webhook SET failures = failures + 1, failed_at_ms = ?, error = ?, lease_until_ms = ?,"
            " seen_at_ms = ? WHERE name = ?",
            (now_ms, error[:_ERROR_CHARS], now_ms + lease_ms, now_ms, name),
        )
        return True

    def recovered(self, name: str, fence: int, lease_ms: int) -> bool:
        if not self.renew(name, fence, lease_ms):
            return False
        self._db.execute("UPDATE webhook SET failures = 0, error = '' WHERE name = ?", (name,))
        return True

    def disable(self, name: str, fence: int, error: str) -> bool:
        if self._holds(name, fence) is None:
            return False
        now_ms = self._now_ms()
        self._db.execute(
            "UPDATE webhook SET disabled_at_ms = ?, failures = failures + 1, failed_at_ms = ?, error = ?"
            " WHERE name = ?",
            (now_ms, now_ms, error[:_ERROR_CHARS], name),
        )
        self._free(name)
        return True

    # ---------------------------------------------------------------- orders

    def enable(self, name: str) -> bool:
        if self._locked(name) is None:
            return False
        self._db.execute("UPDATE webhook SET disabled_at_ms = 0, failures = 0, error = '' WHERE name = ?", (name,))
        self._free(name)
        return True

    def replay(self, name: str, position: Position) -> bool:
        if self._locked(name) is None:
            return False
        self._db.execute(
            "UPDATE webhook SET message = ?, event = ?, claimed_message = ?, claimed_event = ?, failures = 0,"
            " replays = replays + 1 WHERE name = ?",
            (*position, *position, name),
        )
        self._free(name)
        return True

    def position_at(self, at_ms: int) -> Position:
        return Position(self._first("message", "sent_at_ms", at_ms), self._first("event", "at_ms", at_ms))

    def _first(self, table: str, column: str, at_ms: int) -> int:
        """The id before the first row of this time or later. Times rise with ids, as far as hosts agree on them."""
        low, high = self._db.execute(f"SELECT coalesce(min(id), 1) - 1, coalesce(max(id), 0) FROM {table}").fetchone()
        while low < high:
            middle = (low + high + 1) // 2
            row = self._db.execute(
                f"SELECT id, {column} FROM {table} WHERE id >= ? ORDER BY id LIMIT 1", (middle,)
            ).fetchone()
            if row is None or row[1] >= at_ms:
                high = middle - 1
            else:
                low = row[0]
        return int(low)


def _later(one: Position, other: Position) -> Position:
    return Position(max(one.message, other.message), max(one.event, other.event))


def _state(row: tuple[int | str, ...]) -> WebhookState:
    name, kinds, holder, fence, until, message, event, claimed_message, claimed_event, *rest = row
    numbers = (Position(int(message), int(event)), Position(int(claimed_message), int(claimed_event)))
    return WebhookState(
        str(name),
        tuple(str(kinds).split()),
        str(holder),
        int(fence),
        int(until),
        *numbers,
        *rest,  # type: ignore[arg-type]
    )
