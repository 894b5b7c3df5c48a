"""Which network an operator means, and whom a ban keeps out."""

from __future__ import annotations

import ipaddress
import random

import pytest

from chatd.address_bans import AddressBan, AddressBans, network_named


@pytest.mark.parametrize(
    ("word", "network"),
    [
        ("192.0.2.7", "192.0.2.7/32"),
        ("192.0.2.7/24", "192.0.2.0/24"),
        ("::ffff:192.0.2.7", "192.0.2.7/32"),
        ("::ffff:192.0.2.0/120", "192.0.2.0/24"),
        ("2001:db8::7", "2001:db8::/64"),
        ("2001:db8::7/128", "2001:db8::7/128"),
        ("2001:db8::/32", "2001:db8::/32"),
        ("0.0.0.0/0", "0.0.0.0/0"),
    ],
)
def test_what_an_operator_means(word: str, network: str) -> None:
    assert str(network_named(word)) == network


@pytest.mark.parametrize("word", ["", "example.com", "192.0.2", "192.0.2.7/33", "192.0.2.7:80", "1", "fe80::1%eth0/"])
def test_what_names_no_network(word: str) -> None:
    with pytest.raises(ValueError):  # noqa: PT011  any of ipaddress
        network_named(word)


def test_whom_it_keeps_out() -> None:
    bans = AddressBans()
    assert bans.find("192.0.2.7:80", 0) is None
    bans.replace(
        [
            AddressBan(network="192.0.2.0/24"),
            AddressBan(network="198.51.100.7/32", until_ms=1000),
            AddressBan(network="2001:db8::/64"),
            AddressBan(network="nonsense"),
        ]
    )
    assert len(bans) == 3
    for remote in ("192.0.2.7:80", "192.0.2.255:1", "[::ffff:192.0.2.1]:5", "198.51.100.7:9", "[2001:db8::9]:1"):
        assert bans.find(remote, 999) is not None, remote
    for remote in ("192.0.3.0:80", "198.51.100.8:9", "[2001:db8:0:1::9]:1", "unix", "nowhere:0", ""):
        assert bans.find(remote, 999) is None, remote
    assert bans.find("198.51.100.7:9", 1000) is None, "it is over"


def test_it_agrees_with_ipaddress() -> None:
    """A model: any networks, any addresses."""
    random.seed(7)
    for _ in range(200):
        nets = [
            ipaddress.ip_network((random.getrandbits(32), random.randint(0, 32)), strict=False)
            if random.random() < 0.5
            else ipaddress.ip_network((random.getrandbits(128), random.randint(0, 128)), strict=False)
            for _ in range(random.randint(0, 5))
        ]
        bans = AddressBans()
        bans.replace(AddressBan(network=str(one)) for one in nets)
        for _ in range(20):
            near = (
                random.choice(nets)[0]
                if nets and random.random() < 0.7
                else ipaddress.ip_address(random.getrandbits(32))
            )
            wanted = any(near in one for one in nets if one.version == near.version)
            remote = f"{near}:1" if near.version == 4 else f"[{near}]:1"
            if near.version == 6 and near.ipv4_mapped:
                continue
            assert (bans.find(remote, 0) is not None) is wanted
