"""The source network of a client's address."""

from __future__ import annotations

import pytest

from chatd.config.urls import shown
from chatd.sources import NO_SOURCE, source_of


@pytest.mark.parametrize(
    ("remote", "source"),
    [
        ("192.0.2.1:5000", "192.0.2.1"),
        (shown("::ffff:192.0.2.1", 5000), "192.0.2.1"),
        ("[2001:db8:1:2:3:4:5:6]:5000", "2001:db8:1:2::/64"),
        ("[fe80::1%eth0]:5000", "fe80::/64"),
        ("unix", NO_SOURCE),
        ("", NO_SOURCE),
    ],
)
def test_a_source_is_an_ipv4_address_or_an_ipv6_site(remote: str, source: str) -> None:
    assert source_of(remote) == source
