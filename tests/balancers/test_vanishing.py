"""A client of chatserver that vanishes without a word behind a balancer (its cable is cut): how long until the host
knows, and which of the messages that came meanwhile are given again at its next login."""

from __future__ import annotations

import asyncio
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from chatd.net.receipts import SETTLE_S
from tests.balancers.balancer import Balancer, Front, HAProxy, Nginx
from tests.harness.chatserver import ACK, LOGIN, LOGIN_ACK, ONE_CHAT
from tests.harness.daemon import Daemon
from tests.harness.deadline import run, until
from tests.harness.link import Seen
from tests.harness.network import Cable, Host, Network
from tests.harness.peer import NulPeer
from tests.harness.person import Person, Town

Make = Callable[..., Daemon]
SLACK_S = 6.0
"""For a busy machine, and the rounding of the kernel's clocks."""


@dataclass(frozen=True)
class Times:
    """How soon a balancer notices: idle_s a client to which nothing is sent, busy_s one to which something is. changes:
    to the shipped file. retries: net.ipv4.tcp_retries2 where it runs."""

    kind: type[Balancer]
    idle_s: float
    busy_s: float
    changes: Mapping[str, str] = field(default_factory=dict)
    retries: int = 6


QUICK_HAPROXY = Times(
    HAProxy,
    idle_s=4.0,
    busy_s=4.0,
    changes={
        " tcp-ut 30s": " tcp-ut 4s",
        " clitcpka-idle 15s": " clitcpka-idle 1s",
        " clitcpka-intvl 5s": " clitcpka-intvl 1s",
    },
)
QUICK_NGINX = Times(Nginx, 4.0, 7.0, {" so_keepalive=15s:5s:3": " so_keepalive=1s:1s:3"}, retries=3)
HAPROXY = Times(HAProxy, 30.0, 30.0)
NGINX = Times(Nginx, 30.0, 52.0)
SLOW = [pytest.mark.slow, pytest.mark.timeout(300)]


class Sender(NulPeer):
    """Sits on the host itself and is always there."""

    async def enter(self, daemon: Daemon, town: Town, name: str) -> None:
        await asyncio.get_running_loop().create_unix_connection(lambda: self, str(daemon.runtime_dir / "door"))
        self.put({"msgid": LOGIN, "id": town.ids[name], "password": town.secret, "framing": "nul"})
        assert (await self.find(msgid=LOGIN_ACK))["errno"] == 0

    async def say(self, to: int, text: str) -> float:
        """When it was acknowledged."""
        self.put({"msgid": ONE_CHAT, "toid": to, "msg": text, "fp": text})
        await self.find(msgid=ACK, fp=text)
        return time.monotonic()


@pytest.fixture
def network() -> Iterator[Network]:
    with Network(hosts=2) as made:
        yield made


@pytest.mark.parametrize(
    ("times", "delivered_s"),
    [
        pytest.param(QUICK_HAPROXY, 30.0, id="haproxy-safe"),
        pytest.param(QUICK_NGINX, SETTLE_S, id="nginx"),
        pytest.param(HAPROXY, 35.0, id="haproxy-safe-shipped", marks=SLOW),
        pytest.param(HAPROXY, SETTLE_S, id="haproxy-shipped", marks=SLOW),
        pytest.param(NGINX, 60.0, id="nginx-safe-shipped", marks=SLOW),
        pytest.param(NGINX, SETTLE_S, id="nginx-shipped", marks=SLOW),
    ],
)
def test_a_client_that_vanishes(
    make_daemon: Make,
    network: Network,
    tmp_path: Path,
    record_property: Callable[[str, object], None],
    times: Times,
    delivered_s: float,
) -> None:
    """With listen.proxy_delivered_s longer than the balancer needs to notice, nothing is lost; with a shorter one, only
    what the balancer had for longer than that when the host heard of it."""
    before, host = network.hosts
    door = {"proxy_from": [before.address], "proxy_delivered_s": delivered_s}
    daemon = make_daemon(
        address=host.address, prefix=host.prefix, listen={"chatserver": door}, log={"level": "DEBUG"}
    )  # fmt: skip
    daemon.config["listen"].append({"protocol": "chatserver", "address": "unix:door"})
    daemon.write_config()
    daemon.start()
    set_retries(before, times.retries)
    balancer = times.kind(tmp_path / "balancer", [daemon, daemon], changes=times.changes, place=before)
    try:
        balancer.start()
        run(vanish(network, daemon, balancer, times, delivered_s, record_property), 200)
    finally:
        balancer.kill()


def set_retries(place: Host, retries: int) -> None:
    setting = f"net.ipv4.tcp_retries2={retries}"
    subprocess.run([*place.prefix, "sysctl", "-qw", setting], check=True, timeout=10)


async def vanish(
    network: Network,
    daemon: Daemon,
    balancer: Balancer,
    times: Times,
    delivered_s: float,
    note: Callable[[str, object], None],
) -> None:
    town = Front(balancer)
    alice, carol = [await town.settle(name, "old") for name in ("alice", "carol")]
    await town.register("bob")
    bob = Sender()
    await bob.enter(daemon, town, "bob")
    for person in (alice, carol):
        await person.arrive()
        await bob.say(town.ids[person.name], f"welcome {person.name}")
        await person.sees(Seen("bob", f"welcome {person.name}"))

    cable = Cable(network.switch, "us")  # ours: both are cut, the balancer and its host are not
    cut_at = time.monotonic()
    cable.cut()
    knew: dict[str, float] = {}
    sent: dict[str, float] = {}
    while len(knew) < 2:
        waited = time.monotonic() - cut_at
        assert waited < max(times.idle_s, times.busy_s) + SLACK_S, (
            f"after {waited:.0f} s the host knows of {list(knew)}"
        )
        for name in ("alice", "carol"):
            if name not in knew and is_gone(daemon, town.ids[name]):
                knew[name] = time.monotonic()
        sent[f"number {len(sent)}"] = await bob.say(town.ids["alice"], f"number {len(sent)}")
        await asyncio.sleep(0.1)  # the pace of the talk
    assert knew["alice"] - cut_at < times.busy_s + SLACK_S
    assert knew["carol"] - cut_at < times.idle_s + SLACK_S

    cable.mend()
    last = await bob.say(town.ids["alice"], "at last") and "at last"
    await come_back(alice)
    await until(20, "alice sees the last message", lambda: any(one.text == last for one in alice.seen))
    alice.check()
    shown = [one.text for one in alice.seen]
    lost = [text for text in sent if text not in shown]
    note(
        "verdict",
        f"noticed after {knew['alice'] - cut_at:.1f} s busy, {knew['carol'] - cut_at:.1f} s idle; "
        f"{len(lost)} of {len(sent)} messages lost",
    )
    assert [text for text in shown if text in sent] == [text for text in sent if text not in lost], "in order, once"
    assert not [text for text in lost if sent[text] > knew["alice"] - delivered_s]
    if delivered_s > times.busy_s:
        assert lost == []


def is_gone(daemon: Daemon, user_id: int) -> bool:
    return any(one["event"] == "disconnected" and one["user"] == user_id for one in daemon.records("normal.log"))


async def come_back(person: Person) -> None:
    """When the network is there again, on a new connection."""
    old = person.link
    assert old is not None
    await person.arrive()
    old.abort()
