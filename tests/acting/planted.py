"""`python -m tests.acting.planted switches -c FILE …` is chatd in whose workers guards of address bans can be switched
off (tests.harness.switches).

Owns: the bugs, by name.
Elsewhere: running them (tests.faults.planted).
"""

from __future__ import annotations

import sys

from tests.faults.planted import main
from tests.harness.switches import Planted, plant


async def _nobody() -> int:
    return 0


def connections_stay() -> Planted:
    from chatd.net.connections import Connections

    return Connections, "end_banned", lambda guard, *asked: _nobody()


def new_ones_come() -> Planted:
    from chatd.net.admission import Admission

    return Admission, "is_banned", lambda guard, *asked: False


def bans_never_end() -> Planted:
    from chatd.address_bans import AddressBan

    return AddressBan, "in_force", lambda guard, *asked: True


def other_workers_are_not_told() -> Planted:
    from chatd.core.bans import BanWatch

    return BanWatch, "asked", lambda guard, *asked: None


def nobody_looks_at_the_client_behind_a_balancer() -> Planted:
    from chatd.net.proxy_reader import ProxyHeaderReader

    def by_the_balancer(guard, self, header, rest):  # type: ignore[no-untyped-def]
        from chatd.net.proxy_protocol import ProxyHeader

        guard(self, ProxyHeader("", header.length), rest)

    return ProxyHeaderReader, "_hand_over", by_the_balancer


BUGS = {
    bug.__name__: bug
    for bug in (
        connections_stay,
        new_ones_come,
        bans_never_end,
        other_workers_are_not_told,
        nobody_looks_at_the_client_behind_a_balancer,
    )
}


if __name__ == "__main__":
    sys.exit(main({"switches": lambda: plant(BUGS)}))
