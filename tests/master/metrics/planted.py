"""`python -m tests.master.metrics.planted -c FILE …` is chatd in whose master the guards of metrics can be switched off
(tests.harness.switches).

Owns: the bugs, by name.
Elsewhere: the attacks (tests.master.metrics.test_strangers).
"""

from __future__ import annotations

import sys

import chatd.__main__ as entry
from tests.harness.switches import Planted, plant


def everybody_may_ask() -> Planted:
    from chatd.master.metrics.gate import Gate

    return Gate, "_is_allowed", lambda guard, self, address: True


def connections_are_kept_for_ever() -> Planted:
    """Neither time nor the next client ends one."""
    from chatd.master.metrics.gate import Gate

    return Gate, "_make_room", lambda guard, self: None


BUGS = {one.__name__: one for one in (everybody_may_ask, connections_are_kept_for_ever)}

if __name__ == "__main__":
    plant(BUGS)
    sys.exit(entry.main(sys.argv[1:]))
