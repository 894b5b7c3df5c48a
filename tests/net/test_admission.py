"""Who is let in and who is ended for it, by numbers alone: no sockets, no clock."""

from __future__ import annotations

import random
from collections import Counter
from typing import Any

import msgspec
import pytest

from chatd.config.schema import Config, LimitOptions, PenaltyOptions
from chatd.net.admission import Admission, Source


class Stranger:
    """A connection that ends when it is told to. dismissed: in this order."""

    def __init__(self, remote: str, dismissed: list[Stranger]) -> None:
        self.remote = remote
        self.source: Source | None = None
        self._dismissed = dismissed

    def dismiss(self) -> None:
        self._dismissed.append(self)

    def __repr__(self) -> str:
        return self.remote


class Gate:
    """An Admission with its configuration, and everybody it has ended."""

    def __init__(self, **limits: Any) -> None:
        self.config = Config(limits=LimitOptions(**limits))
        self.admission = Admission(lambda: self.config)
        self.dismissed: list[Stranger] = []
        self.port = 0

    def comes(self, host: str) -> Stranger:
        self.port += 1
        stranger = Stranger(f"{host}:{self.port}", self.dismissed)
        self.admission.enter(stranger)
        return stranger

    def allow(self, *networks: str) -> None:
        self.config = msgspec.structs.replace(self.config, penalties=PenaltyOptions(allow=networks))

    def left(self) -> list[Stranger]:
        """Those ended since the last call; their sockets are closed now."""
        ended, self.dismissed[:] = list(self.dismissed), []
        for one in ended:
            self.admission.leave(one)
        return ended


def test_the_oldest_of_the_source_with_most_makes_room() -> None:
    gate = Gate(unauthenticated=6)
    honest = [gate.comes("10.0.0.1"), gate.comes("10.0.0.2")]
    greedy = [gate.comes("6.6.6.6") for _ in range(4)]
    newcomers = [gate.comes("10.0.0.3"), gate.comes("10.0.0.4")]
    assert gate.left() == greedy[:2]
    more = gate.comes("6.6.6.6")
    assert gate.left() == [greedy[2]], "whoever has most ends its own"
    for one in (*honest, *newcomers, greedy[3], more):
        assert one.source is not None


def test_when_all_have_the_same_the_oldest_goes() -> None:
    gate = Gate(unauthenticated=3)
    first = gate.comes("10.0.0.1")
    for last in range(2, 5):
        gate.comes(f"10.0.0.{last}")
    assert gate.left() == [first]


def test_an_ipv6_site_is_one_source() -> None:
    gate = Gate(unauthenticated=4)
    site = [gate.comes(f"[2001:db8:0:1::{number}]") for number in range(1, 4)]
    gate.comes("[2001:db8:0:2::1]")
    gate.comes("10.0.0.1")
    assert gate.left() == site[:1]


def test_a_login_that_is_served_is_not_ended() -> None:
    """A crowd that returns at once does not push its own members out of the queue for password checks."""
    gate = Gate(unauthenticated=2)
    served = [gate.comes("10.0.0.1") for _ in range(2)]
    for one in served:
        gate.admission.stops_waiting(one)
    silent = [gate.comes("10.0.0.1") for _ in range(3)]
    assert gate.left() == silent[:1]
    gate.admission.waits(served[0])  # its password was wrong
    assert gate.left() == [silent[1]], "it waits again from now on"
    gate.admission.waits(served[0])
    assert gate.left() == []


def test_a_source_has_no_more_than_its_share_logged_in_or_not() -> None:
    gate = Gate(connections_per_source=3)
    share = [gate.comes("6.6.6.6") for _ in range(3)]
    gate.admission.stops_waiting(share[0])
    refusal = gate.admission.refusal("6.6.6.6:9")
    assert refusal is not None
    assert refusal == ("6.6.6.6:9", "connections_per_source")
    assert gate.admission.refusal("6.6.6.7:9") is None
    gate.admission.leave(share[0])
    assert gate.admission.refusal("6.6.6.6:9") is None
    gate.admission.leave(share[0])
    gate.comes("6.6.6.6")
    assert gate.admission.refusal("6.6.6.6:9") is not None, "leaving twice gives no more room"


def test_zero_is_no_limit_for_a_source() -> None:
    gate = Gate(connections_per_source=0)
    for _ in range(5000):
        gate.admission.stops_waiting(gate.comes("10.0.0.1"))
    assert gate.admission.refusal("10.0.0.1:9") is None


@pytest.mark.parametrize("remote", ["unix", "10.0.0.9:1", "[2001:db8::9]:1"])
def test_unix_sockets_and_allowed_networks_are_not_limited(remote: str) -> None:
    gate = Gate(connections_per_source=1, unauthenticated=1)
    gate.allow("10.0.0.8/29", "2001:db8::/32")
    for _ in range(10):
        exempt = Stranger(remote, gate.dismissed)
        gate.admission.enter(exempt)
        assert gate.admission.refusal(remote) is None
        gate.admission.stops_waiting(exempt)
        gate.admission.waits(exempt)
    assert gate.dismissed == []
    assert not gate.admission.make_room(0)


def test_the_allow_list_may_change() -> None:
    gate = Gate(connections_per_source=1)
    gate.comes("10.0.0.1")
    assert gate.admission.refusal("10.0.0.1:9") is not None
    gate.allow("10.0.0.0/24")
    assert gate.admission.refusal("10.0.0.1:9") is None
    gate.allow("10.0.1.0/24")
    assert gate.admission.refusal("10.0.0.1:9") is not None


def test_a_full_worker_makes_room_at_the_expense_of_a_larger_source_only() -> None:
    gate = Gate()
    greedy = [gate.comes("6.6.6.6") for _ in range(3)]
    gate.comes("10.0.0.1")
    assert not gate.admission.make_room(gate.admission.waiting_of("6.6.6.6:9"))
    assert gate.admission.make_room(gate.admission.waiting_of("10.0.0.1:9"))
    assert gate.left() == greedy[:1]
    assert gate.admission.make_room(gate.admission.waiting_of("10.0.0.1:9"))
    assert not gate.admission.make_room(gate.admission.waiting_of("10.0.0.1:9")), "now they have the same"


def test_it_always_ends_what_a_slow_search_would() -> None:
    """Thousands of random events; the model looks through everything."""
    die = random.Random(7)
    gate = Gate(unauthenticated=40)
    waiting: list[Stranger] = []
    served: list[Stranger] = []
    for _ in range(6000):
        match die.randrange(6):
            case 0 | 1 | 2:
                waiting.append(gate.comes(f"10.0.0.{die.choice([1, 1, 1, 1, 2, 2, 3, 4, 5])}"))
            case 3 if waiting:
                one = waiting.pop(die.randrange(len(waiting)))
                gate.admission.stops_waiting(one)
                served.append(one)
            case 4 if served:
                one = served.pop(die.randrange(len(served)))
                gate.admission.waits(one)
                waiting.append(one)
            case 5 if waiting:
                gate.admission.leave(waiting.pop(die.randrange(len(waiting))))
        for ended in gate.left():
            counts = Counter(one.remote.partition(":")[0] for one in waiting)
            host = ended.remote.partition(":")[0]
            assert counts[host] == max(counts.values())
            assert ended is next(one for one in waiting if one.remote.startswith(f"{host}:"))
            waiting.remove(ended)
        assert len(waiting) <= 40
    for one in (*waiting, *served):
        gate.admission.leave(one)
    assert not gate.admission.make_room(0), "nothing is left"
