"""`python -m tests.floods.planted BUG -c FILE …` is chatd with a guard against floods switched off in its workers.

Owns: the bugs, by name.
Elsewhere: planting one (tests.faults.planted).
"""

from __future__ import annotations

import sys
from typing import Any

from tests.faults.planted import main


def nothing_is_counted() -> None:
    """What waits is not looked at."""
    from chatd.store.sql.mailboxes import Mailboxes

    Mailboxes.begin = lambda self, rules, now_ms: False  # type: ignore[method-assign]


def a_mailbox_is_never_full() -> None:
    """Only single conversations have a quota."""
    from chatd.store.sql.mailboxes import Mailboxes

    learn = Mailboxes.learn_count

    def generous(self: Mailboxes, recipient: int, count: Any, passed: int = 0) -> None:
        learn(self, recipient, count._replace(waiting=0), passed)

    Mailboxes.learn_count = generous  # type: ignore[method-assign]


def nothing_is_kept_for_friends() -> None:
    """Strangers fill all of a mailbox."""
    from chatd.store.sql import mailboxes

    mailboxes.FRIENDS_SHARE = 1 << 30


def every_worker_has_a_quota() -> None:
    """A worker takes the messages of the others for received."""
    from chatd.store.sqlite.cursors import SqliteCursors

    delivered = SqliteCursors.delivered

    def forgetful(self: Any, user: int, conversation: int) -> int | None:
        return max(delivered(self, user, conversation) or 0, self._backend.last_seq(conversation))

    SqliteCursors.delivered = forgetful  # type: ignore[method-assign]


def a_group_costs_one() -> None:
    from chatd.core.sessions.hub import LocalGroup

    LocalGroup.member_count = property(lambda self: 1, lambda self, count: None)  # type: ignore[assignment, misc]


def a_group_keeps_its_size() -> None:
    """Nobody notices that members join."""
    from chatd.core.sessions.hub import LocalGroup

    sizes: dict[int, int] = {}

    def learn(self: LocalGroup, size: int) -> None:
        if size:
            sizes.setdefault(id(self), size)

    LocalGroup.member_count = property(lambda self: sizes.get(id(self), 0), learn)  # type: ignore[assignment, misc]


def commands_are_free() -> None:
    from chatd.core.dispatcher import Dispatcher, Handler

    register = Dispatcher.register

    def free(self: Dispatcher, kind: type[Any], handler: Handler) -> None:
        register(self, kind, handler._replace(cost=handler.cost._replace(commands=0)))

    Dispatcher.register = free  # type: ignore[method-assign]


def every_session_has_an_allowance() -> None:
    """It belongs to the session, not to the user."""
    from chatd.core.allowance import Allowance
    from chatd.core.allowances import Allowances

    def fresh(self: Allowances, user_id: int) -> Allowance:
        found = Allowance(self.commands.budget, self.recipients.budget, self.changes.budget)
        self._users[id(found)] = found
        return found

    Allowances.of = fresh  # type: ignore[method-assign]


def nobody_is_told_of_changes() -> None:
    """Each worker counts for itself."""
    from chatd.core.allowances import Allowances

    Allowances.spent_elsewhere = lambda self, message: None  # type: ignore[method-assign]


def changes_are_free() -> None:
    from chatd.core.allowances import Allowances

    Allowances.spend_changes = lambda self, session, cost: None  # type: ignore[method-assign]


BUGS = {
    bug.__name__: bug
    for bug in (
        nothing_is_counted,
        a_mailbox_is_never_full,
        nothing_is_kept_for_friends,
        every_worker_has_a_quota,
        a_group_costs_one,
        a_group_keeps_its_size,
        commands_are_free,
        every_session_has_an_allowance,
        nobody_is_told_of_changes,
        changes_are_free,
    )
}


if __name__ == "__main__":
    sys.exit(main(BUGS))
