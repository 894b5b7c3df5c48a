"""The balancer itself is killed under load: messages that it had taken and not passed on are delivered again."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import pytest

from tests.balancers.balancer import Front
from tests.balancers.conftest import MakeBalancer
from tests.balancers.test_serving import PROXIED
from tests.faults.ordeal import EIGHT, acquit, everybody_in, more_talk
from tests.harness.crowd import Crowd
from tests.harness.daemon import Daemon
from tests.harness.deadline import run, until
from tests.harness.person import Wire

WIRES: tuple[Wire, ...] = (*EIGHT, "web", "streaming", "web", "streaming")
GROUPS = ((0, 1, 2, 8), (3, 5, 6, 7, 9))


def came_again(crowd: Crowd, before: int) -> bool:
    return crowd.logins() >= before + len(crowd.people) and all(one.logged_in for one in crowd.people.values())


@pytest.mark.parametrize("rounds", [3, pytest.param(20, marks=[pytest.mark.slow, pytest.mark.timeout(600)])])
def test_what_the_balancer_took_to_its_grave_is_given_again(
    make_daemon: Callable[..., Daemon],
    make_balancer: MakeBalancer,
    record_property: Callable[[str, object], None],
    rounds: int,
) -> None:
    """Clients of chatserver acknowledge nothing; only the kernel of the connected peer does, and that peer is the
    balancer."""
    daemon = make_daemon(workers=2, listen=PROXIED).start()
    balancer = make_balancer([daemon, daemon]).start()

    async def story() -> None:
        crowd = Crowd(Front(balancer), daemon.root / "journal.jsonl")
        await crowd.gather(WIRES, GROUPS)
        async with crowd.talking(window=16, think_s=0.002):
            for _ in range(rounds):
                await more_talk(crowd, 1000)
                await everybody_in(crowd)
                before = crowd.logins()
                balancer.kill()
                balancer.start()
                await until(20, "all came again", partial(came_again, crowd, before))
        acquit(await crowd.verdict(), record_property, at_least=1000 * rounds)

    run(story(), 60 + 20 * rounds)
