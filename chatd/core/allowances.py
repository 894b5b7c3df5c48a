"""Rates: how fast each user may send commands, reach recipients, and change what others see.

Owns: Allowances: the allowance of every user who has a session on this worker, or had one a short time ago; topping
them up once a second; refusing what is over the limit, in words; recording users who are refused.
Elsewhere: counting commands (core.dispatcher), recipients (core.messages) and operations (core.requests.dispatch);
what things cost (core.allowance); what may wait for a user (store.sql.mailboxes); guesses and registrations, which are
counted by source (core.penalties).
Fails: Refused TOO_FAST, with the rate and the time to wait in its text.

A user has one allowance on each worker, for the sessions of all wires, and keeps it while it is not full: logging in
again gives nothing back. Changes are few, so each is told to the other workers, and the limit holds for all of them
together. Recipients are counted before the message is stored; the size of a group is that of the last message to it.
"""

from __future__ import annotations

from asyncio import AbstractEventLoop
from collections.abc import Callable
from typing import Literal

from chatd.bus.contract import EVERYBODY, Bus
from chatd.config.schema import Config
from chatd.core import bus_messages, trail
from chatd.core.allowance import Allowance, Cost
from chatd.core.sessions.hub import Hub
from chatd.core.sessions.moving import MovedAllowance
from chatd.core.sessions.session import Session
from chatd.errors import ErrorCode, Refused
from chatd.model import GroupId, UserId
from chatd.rates import Rate, averaged
from chatd.scoreboard import Row
from chatd.security_log import SecurityEvent
from chatd.texts.waits import in_words

WINDOW_S = 10
"""limits.commands_per_s and limits.recipients_per_s are averaged over this time."""
HOUR_S = 3600
KEEP_ALIVES = 20
"""Keep-alives that are answered although no command is left: a client that gets no answer takes its connection for
dead, and comes back with a login."""
RECORD_S = 10.0
"""A user's refusals are recorded at most once in this time."""
MOST = 100_000
"""Maximum users without a session whose allowance is remembered. Beyond it, those remembered longest are forgotten."""
_PURGE_ROUNDS = 60
"""Rounds between two removals of allowances that are full."""
_UNKNOWN_SHARE = 10
"""A message to a group of unknown size costs as if the group were as large as possible, but at most this part of the
budget."""


_Name = Literal["commands", "recipients", "changes"]
"""A rate: an attribute of Allowances, and of Allowance, which has what is left."""


class Allowances:
    """commands, recipients, changes: the rates in force."""

    def __init__(self, config: Callable[[], Config], hub: Hub, bus: Bus, row: Row, loop: AbstractEventLoop) -> None:
        self._config = config
        self._hub = hub
        self._bus = bus
        self._row = row
        self._now = loop.time
        self._users: dict[UserId, Allowance] = {}
        self._rounds = 0
        self._read_rates()

    def _read_rates(self) -> None:
        limits = self._config().limits
        self.commands = averaged(limits.commands_per_s, 1, WINDOW_S)
        self.recipients = averaged(limits.recipients_per_s, 1, WINDOW_S)
        self.changes = averaged(limits.changes_per_hour, HOUR_S, HOUR_S)

    def __len__(self) -> int:
        """Users whose allowance is remembered."""
        return len(self._users)

    def of(self, user_id: UserId) -> Allowance:
        """The user's, on this worker."""
        found = self._users.get(user_id)
        if found is None:
            full = Allowance(self.commands.budget, self.recipients.budget, self.changes.budget)
            found = self._users[user_id] = full
        return found

    def resume(self, user_id: UserId, moved: MovedAllowance) -> None:
        """A session of the user has come from another worker, where they had this left: they have no more here."""
        allowance = self.of(user_id)
        allowance.commands = min(allowance.commands, moved.commands)
        allowance.recipients = min(allowance.recipients, moved.recipients)
        allowance.changes = min(allowance.changes, moved.changes)

    # ---------------------------------------------------------------- spending

    def refuses_command(self, session: Session, cost: int, *, keeps_alive: bool) -> Refused | None:
        """For a command that costs more than is left: why it is refused. None: it may be served nevertheless."""
        left = session.allowance.commands
        if keeps_alive and left - cost >= -KEEP_ALIVES:
            return None
        return self._too_many_commands(session, cost)

    def take(self, session: Session, cost: int = 1) -> bool:
        """Spend commands without a word; False: not enough are left."""
        left = session.allowance.commands - cost
        if left < 0:
            self._refusal(session, "commands", cost, "")
            return False
        session.allowance.commands = left
        return True

    def spend(self, session: Session, cost: Cost) -> None:
        """For an operation, beyond the command in which it came. Raises: Refused TOO_FAST; nothing was spent."""
        allowance, commands = session.allowance, cost.commands - 1
        if commands > 0 and allowance.commands < min(commands, self.commands.budget):
            raise self._too_many_commands(session, commands)
        if cost.changes:
            self.spend_changes(session, cost.changes)
        allowance.commands -= max(0, commands)

    def spend_changes(self, session: Session, cost: int) -> None:
        """Raises: Refused TOO_FAST; nothing was spent."""
        allowance = session.allowance
        if allowance.changes < min(cost, self.changes.budget):
            limit = f"{self._config().limits.changes_per_hour} per hour"
            what = "friend requests, invitations, groups and changes of a profile"
            raise self._refusal(session, "changes", cost, limit, what)
        allowance.changes -= cost
        spent = bus_messages.AllowanceSpent(session.user.id, cost)
        self._bus.publish(EVERYBODY, bus_messages.encode(spent))

    def spend_recipients(self, session: Session, group_id: GroupId) -> None:
        """For a message to a group. Raises: Refused TOO_FAST; nothing was spent."""
        allowance, budget = session.allowance, self.recipients.budget
        group = self._hub.group(group_id)
        known = group.member_count if group is not None else 0
        cost = min(known or min(self._config().limits.group_members, budget // _UNKNOWN_SHARE), budget)
        if allowance.recipients < cost:
            limit = f"{self._config().limits.recipients_per_s} per second"
            raise self._refusal(session, "recipients", cost, limit)
        allowance.recipients -= cost

    def spent_elsewhere(self, message: bus_messages.AllowanceSpent) -> None:
        """The user has made changes on another worker."""
        allowance = self.of(message.user_id)
        allowance.changes = max(allowance.changes - message.changes, -self.changes.budget)

    # ---------------------------------------------------------------- refusing

    def _too_many_commands(self, session: Session, cost: int) -> Refused:
        per_s = self._config().limits.commands_per_s
        return self._refusal(session, "commands", cost, f"{per_s} per second")

    def _refusal(self, session: Session, name: _Name, cost: float, limit: str, what: str = "") -> Refused:
        """Counted, and recorded now and then. limit: in words."""
        rate: Rate = getattr(self, name)
        self._row.rate_refused += 1
        allowance, now = session.allowance, self._now()
        if now - allowance.recorded_at >= RECORD_S:
            allowance.recorded_at = now
            trail.record(SecurityEvent.RATE_EXCEEDED, session.peer, reason=name)
        wait_s = rate.wait_s(getattr(allowance, name), cost)
        text = f"too many {what or name}: the limit is {limit}, try again in {in_words(wait_s)}"
        return Refused(ErrorCode.TOO_FAST, text, wait_s)

    # ---------------------------------------------------------------- the clock

    def round(self) -> None:
        """Once a second. Cost: one step per user."""
        self._read_rates()
        commands, recipients, changes = self.commands, self.recipients, self.changes
        for allowance in self._users.values():
            if allowance.commands != commands.budget:
                allowance.commands = commands.topped_up(allowance.commands)
            if allowance.recipients != recipients.budget:
                allowance.recipients = recipients.topped_up(allowance.recipients)
            if allowance.changes != changes.budget:
                allowance.changes = changes.topped_up(allowance.changes)
        self._rounds += 1
        if self._rounds % _PURGE_ROUNDS == 0:
            self._purge()

    def _purge(self) -> None:
        full = (self.commands.budget, self.recipients.budget, self.changes.budget)
        absent = [user_id for user_id in self._users if not self._hub.of_user(user_id)]
        surplus = len(absent) - MOST
        for number, user_id in enumerate(absent):
            left = self._users[user_id]
            if number < surplus or (left.commands, left.recipients, left.changes) == full:
                del self._users[user_id]
