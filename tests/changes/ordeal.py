"""A crowd that edits and recalls what it says, and the verdict on what it saw.

Owns: WIRES, `ChangingCrowd`, and `talk`, an ordeal without a fault.
Elsewhere: ordeals (tests.faults.ordeal), who changes what (tests.harness.crowd), the rules
(tests.harness.judge_changes).
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

from tests.faults.ordeal import more_talk, ordeal
from tests.harness.chatserver import AskingLink
from tests.harness.crowd import Crowd
from tests.harness.daemon import Daemon
from tests.harness.judge import Verdict
from tests.harness.mobileimsdk import StockLink
from tests.harness.person import Town, Wire

WIRES: tuple[Wire, ...] = ("asking", "mobile", "asking", "streaming", "asking", "asking", "asking", "web") * 2
"""Neighbours talk to each other. Only "asking" changes what it has said."""
RESEND = {"resend_s": 1.0}
"""Of these daemons, so that what was not acknowledged comes again soon."""
GROUPS = ((0, 2, 5, 6, 11), (1, 3, 4, 8, 14, 15))
EVERY = 4


class ChangingCrowd(Crowd):
    change_every = EVERY


async def talk(
    daemon: Daemon,
    fault: Callable[[Crowd], Awaitable[None]] | None = None,
    *,
    settle_s: float = 30.0,
    with_a_thief: bool = False,
    deaf: bool = False,
    **options: Any,
) -> Verdict:
    """with_a_thief: somebody also tries to change what others have said. Some clients acknowledge nothing at first.
    deaf: they do not even get the messages, and are then sent them again in the same session, in whatever order."""
    crowd = ChangingCrowd(Town(daemon), daemon.root / "journal.jsonl")

    async def usual(crowd: Crowd) -> None:
        slow = [one for one in crowd.people.values() if isinstance(one.link, StockLink)]
        links = [one.link for one in slow if isinstance(one.link, StockLink)]
        for link in links:
            link.deaf, link.acknowledging = deaf, False
        await more_talk(crowd, 100)
        if with_a_thief:
            steal(crowd)
        for link in links:
            link.deaf, link.acknowledging = False, True
            if not deaf:
                link.abort()
        await more_talk(crowd, 80)

    return await ordeal(daemon, fault or usual, crowd=crowd, wires=WIRES, groups=GROUPS, settle_s=settle_s, **options)


def steal(crowd: Crowd) -> None:
    """Everybody tries to edit what others have said: the first messages of their conversations."""
    by_place = {(line.conv, line.seq): line.id for line in crowd.journal.lines if line.event == "receive" and line.seq}
    for talker in crowd.people.values():
        if not isinstance(talker.link, AskingLink):
            continue
        for (conv, seq), message_id in list(by_place.items()):
            if conv.startswith("#") and talker.name in crowd.members[conv] and not message_id.startswith(talker.name):
                talker.change(conv, seq, message_id, f"{message_id} stolen by {talker.name}", f"theft-{talker.name}")
                break
