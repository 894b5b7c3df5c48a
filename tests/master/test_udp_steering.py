"""Which bucket a client's address falls into: nobody who does not know the seed can choose it."""

from __future__ import annotations

from collections import Counter

import pytest

from chatd.master.udp_steering import BUCKETS, Seed, Steering, bucket_of

HOST = 0x7F000001
PORTS = range(1024, 65536)


def test_every_start_has_another_seed() -> None:
    seeds = [Steering().state().seed for _ in range(4)]
    assert len({(one.of_port, one.mask, one.first, one.second) for one in seeds}) == 4
    assert all(one.of_port & one.first & one.second & 1 for one in seeds), "factors that lose nothing"


def test_an_attacker_who_has_learned_one_seed_hits_all_buckets_under_another() -> None:
    """Whoever knew the hash could send everything from ports, or addresses, of one bucket."""
    learned, other = Seed.new(), Seed.new()
    aimed = [port for port in PORTS if bucket_of(HOST, port, learned) == 7]
    found = Counter(bucket_of(HOST, port, other) for port in aimed)
    assert len(aimed) > 100
    assert max(found.values()) < len(aimed) / 8


@pytest.mark.parametrize("lowest_bit", [0, 8, 16, 24])
def test_no_byte_of_the_address_leaves_the_bucket_as_it_is(lowest_bit: int) -> None:
    """The owner of an IPv6 network chooses all of the last 32 bits. Some seeds spread a byte less well than others, so
    several are tried; a hash without a seed, or one that ignores a byte, would give few buckets with every seed."""
    spread = []
    for _ in range(20):
        seed = Seed.new()
        spread.append(len({bucket_of(HOST ^ byte << lowest_bit, 7000, seed) for byte in range(256)}))
    assert sorted(spread)[10] > 100, spread


def test_ports_and_addresses_of_honest_clients_are_spread() -> None:
    for seed in (Seed.new() for _ in range(5)):
        for clients in (
            [(HOST, port) for port in range(40_000, 44_096)],
            [(0xC0A80000 + number, 5000) for number in range(4096)],
        ):
            found = Counter(bucket_of(host, port, seed) for host, port in clients)
            assert len(found) > BUCKETS / 2
            assert max(found.values()) < 4096 / 16
