"""`python -m tests.penalties.planted BUG -c FILE …` is chatd with a guard against guesses switched off in its workers.

Owns: the bugs, by name.
Elsewhere: planting one (tests.faults.planted).
"""

from __future__ import annotations

import sys
from typing import Any

from tests.faults.planted import main


def nothing_is_counted() -> None:
    """A wrong password costs nothing."""
    from chatd.core.penalties import Penalties

    Penalties.failed = lambda self, subject, origin, *, known: None  # type: ignore[method-assign]


def each_worker_for_itself() -> None:
    """Workers do not share what they have counted."""
    from chatd.core.penalties import Penalties
    from chatd.penalty_table import PenaltyTable

    make = Penalties.__init__

    def alone(self: Penalties, table: PenaltyTable, *arguments: Any) -> None:
        make(self, PenaltyTable(sets=64), *arguments)

    Penalties.__init__ = alone  # type: ignore[method-assign]


def checked_only_at_the_beginning() -> None:
    """Many attempts at once are all admitted before the first of them has failed."""
    from chatd.core.login_guard import LoginGuard

    LoginGuard.check_again = lambda self, attempt: None  # type: ignore[method-assign]


def everybody_is_a_stranger() -> None:
    """From where a user logged in before is not looked at."""
    from chatd.core import login_guard

    login_guard.find_source = lambda known, source: None


def sources_are_kept() -> None:
    """A changed password leaves all sources known."""
    from chatd.store.sql.accounts import SqlAccounts

    SqlAccounts._forget_sources = lambda self, user_id, but="": None  # type: ignore[method-assign]


def sites_do_not_count() -> None:
    """Each IPv6 /64 is looked at by itself."""
    from chatd.core import penalties

    penalties.site_of = lambda source: ""


def hashes_for_those_who_have_gone() -> None:
    """Whether a client still waits for the answer is not looked at."""
    from chatd.net.connection import Connection

    Connection.gone = property(lambda self: False)  # type: ignore[assignment]


BUGS = {
    bug.__name__: bug
    for bug in (
        nothing_is_counted,
        each_worker_for_itself,
        checked_only_at_the_beginning,
        everybody_is_a_stranger,
        sources_are_kept,
        sites_do_not_count,
        hashes_for_those_who_have_gone,
    )
}


if __name__ == "__main__":
    sys.exit(main(BUGS))
