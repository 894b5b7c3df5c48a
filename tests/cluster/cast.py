"""Who talks in the ordeals of a cluster, on which wires.

Owns: CAST and GROUPS, small enough for two cores that also run the cluster, and `ordeal` for it.
Not here: the ordeal itself and what it must show (tests.faults.ordeal).
"""

from __future__ import annotations

from tests.faults.ordeal import Fault, ordeal
from tests.harness.cluster import Throng
from tests.harness.judge import Verdict
from tests.harness.person import Wire

CAST: tuple[Wire, ...] = (
    "mobile", "streaming", "web", "udp", "streaming", "web", "udp", "mobile", "streaming", "streaming",
    "mobile", "mobile", "web", "mobile", "udp", "streaming", "old", "streaming", "mobile", "old",
)  # fmt: skip
"""Neighbours talk to each other and live on different hosts: every wire across, to and from the old one too."""
GROUPS = ((0, 3, 5, 8, 10), (1, 2, 6, 9, 11, 12))
THINK_S = 0.1


async def throng_ordeal(throng: Throng, fault: Fault, **options: object) -> Verdict:
    """As tests.faults.ordeal.ordeal, with the usual cast on all hosts."""
    usual = {"wires": CAST, "groups": GROUPS, "think_s": THINK_S}
    return await ordeal(throng.cluster.daemons[0], fault, crowd=throng, **{**usual, **options})  # type: ignore[arg-type]
