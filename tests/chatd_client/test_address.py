"""Reading addresses, and refusing what is none."""

from __future__ import annotations

from pathlib import Path

import pytest

from chatd_client.address import ServerAddress, make_context, parse_url


@pytest.mark.parametrize(
    ("url", "address"),
    [
        ("tcp://chat.example.org", ServerAddress("chat.example.org", 8901)),
        ("tls://chat.example.org:443", ServerAddress("chat.example.org", 443, tls=True)),
        ("ws://[::1]:3000/websocket", ServerAddress("::1", 3000, path="/websocket")),
        ("wss://chat.example.org/", ServerAddress("chat.example.org", 3000, tls=True, path="/websocket")),
        ("wss://chat.example.org:443/a/b?c=d", ServerAddress("chat.example.org", 443, tls=True, path="/a/b?c=d")),
    ],
)
def test_urls(url: str, address: ServerAddress) -> None:
    assert parse_url(url) == address


@pytest.mark.parametrize(
    "url",
    [
        *("", "chat.example.org:8901", "http://chat.example.org", "udp://chat.example.org:7901", "tcp://"),
        *("tcp://h:0", "tcp://h:99999", "tcp://h:x", "tcp://h:1/path", "tls://user@h", "ws://h/#x", "tcp://h?x=y"),
    ],
)
def test_what_is_no_address_is_refused(url: str) -> None:
    with pytest.raises(ValueError, match=r"is not the address|is more than|has no host"):
        parse_url(url)


def test_of_a_websocket_the_url_is_made_again() -> None:
    assert parse_url("wss://[::1]:443/x").url == "wss://[::1]:443/x"


def test_an_unusable_file_of_authorities_is_named(tmp_path: Path) -> None:
    (tmp_path / "empty.pem").write_text("")
    for name in ("none.pem", "empty.pem"):
        with pytest.raises(OSError, match=name):
            make_context(ServerAddress("h", 1, tls=True, authorities=str(tmp_path / name)))
