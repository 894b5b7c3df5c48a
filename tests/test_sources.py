"""The source network of a client's address."""

from __future__ import annotations

import pytest

from chatd.config.urls import shown
from chatd.sources import NO_SOURCE, Networks, site_of, source_of


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


@pytest.mark.parametrize(
    ("source", "site"),
    [("2001:db8:1:2::/64", "2001:db8:1::/48"), ("192.0.2.1", ""), (NO_SOURCE, "")],
)
def test_ipv6_sources_of_one_site_have_a_network_in_common(source: str, site: str) -> None:
    assert site_of(source) == site


@pytest.mark.parametrize(
    ("networks", "source", "contained"),
    [
        ([], "192.0.2.1", False),
        ([], NO_SOURCE, True),
        (["192.0.2.0/24"], "192.0.2.1", True),
        (["192.0.2.1"], "192.0.2.1", True),
        (["192.0.2.0/24"], "192.0.3.1", False),
        (["192.0.2.0/24", "2001:db8::/32"], "2001:db8:1:2::/64", True),
        (["2001:db8:1:2::/64"], "2001:db8:1:2::/64", True),
        (["2001:db8:1:2::7"], "2001:db8:1:2::/64", True),
        (["2001:db8:1:3::7"], "2001:db8:1:2::/64", False),
        (["2001:db8::/32"], "192.0.2.1", False),
        (["192.0.2.0/24"], "nowhere", False),
    ],
)
def test_a_list_of_networks_contains_sources(networks: list[str], source: str, contained: bool) -> None:
    listed = Networks(networks)
    assert (source in listed) is contained
    assert (source in listed) is contained, "asked again"
