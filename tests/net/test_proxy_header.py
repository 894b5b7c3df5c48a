"""PROXY protocol headers as bytes: each good one whole, byte by byte and with the client's bytes after it; each bad one
refused; and whatever else may come. And what a balancer's acknowledgement is worth."""

from __future__ import annotations

import contextlib
import ipaddress
import random
import struct

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from chatd.net.proxy_protocol import (
    MAX_V1_BYTES,
    MAX_V2_BYTES,
    Balancers,
    HeaderError,
    ProxyHeader,
    parse,
)
from tests.net.proxy_headers import SIGNATURE, v1, v2

LONGEST_V1 = b"PROXY TCP6 " + b" ".join([b"ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff"] * 2) + b" 65535 65535\r\n"
LINK_TLV = b"\x20\x00\x05\x00\x00\x00\x00\x00"
GOOD = [
    ("v1 TCP4", b"PROXY TCP4 192.0.2.7 198.51.100.1 56324 6000\r\n", "192.0.2.7:56324"),
    ("v1 TCP6", b"PROXY TCP6 2001:db8::7 2001:db8::1 56324 6000\r\n", "[2001:db8::7]:56324"),
    ("v1 mapped", b"PROXY TCP6 ::ffff:192.0.2.7 ::1 1 2\r\n", "192.0.2.7:1"),
    ("v1 longest", LONGEST_V1, "[ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff]:65535"),
    ("v1 UNKNOWN", b"PROXY UNKNOWN\r\n", ""),
    ("v1 UNKNOWN and more", b"PROXY UNKNOWN ffff:f 1 2 whatever\r\n", ""),
    ("v2 TCP4", v2("192.0.2.7", 56324), "192.0.2.7:56324"),
    ("v2 TCP6", v2("2001:db8::7", 56324), "[2001:db8::7]:56324"),
    ("v2 TCP4 with more", v2("192.0.2.7", 1, LINK_TLV), "192.0.2.7:1"),
    ("v2 TCP6 as long as may be", v2("2001:db8::7", 1, b"\0" * 2012), "[2001:db8::7]:1"),
    ("v2 LOCAL", SIGNATURE + b"\x20\0\0\0", ""),
    ("v2 LOCAL with an address", SIGNATURE + b"\x20" + v2("192.0.2.7", 1)[13:], ""),
    ("v2 LOCAL of another kind", SIGNATURE + b"\x20\x99\0\x02ab", ""),
    ("v2 UNSPEC", SIGNATURE + b"\x21\0\0\0", ""),
    ("v2 UNSPEC with more", SIGNATURE + b"\x21\0" + struct.pack("!H", len(LINK_TLV)) + LINK_TLV, ""),
    ("v2 UNIX", SIGNATURE + b"\x21\x31\0\xd8" + b"\0" * 216, ""),
]
BAD = [
    ("nothing of it", b'{"msgid":1}\0'),
    ("zeros", b"\0" * 16),
    ("lower case", b"proxy TCP4 192.0.2.7 192.0.2.1 1 2\r\n"),
    ("v1 without a word", b"PROXY \r\n"),
    ("v1 of another kind", b"PROXY UDP4 192.0.2.7 192.0.2.1 1 2\r\n"),
    ("v1 too few words", b"PROXY TCP4 192.0.2.7 192.0.2.1 1\r\n"),
    ("v1 too many words", b"PROXY TCP4 192.0.2.7 192.0.2.1 1 2 3\r\n"),
    ("v1 two spaces", b"PROXY TCP4  192.0.2.7 192.0.2.1 1 2\r\n"),
    ("v1 the other family", b"PROXY TCP4 ::1 ::1 1 2\r\n"),
    ("v1 half an address", b"PROXY TCP4 192.0.2 192.0.2.1 1 2\r\n"),
    ("v1 leading zeros", b"PROXY TCP4 192.0.02.7 192.0.2.1 1 2\r\n"),
    ("v1 no ASCII", b"PROXY TCP4 192.0.2.\xff 192.0.2.1 1 2\r\n"),
    ("v1 the server's address is none", b"PROXY TCP4 192.0.2.7 192.0.2.x 1 2\r\n"),
    ("v1 port too high", b"PROXY TCP4 192.0.2.7 192.0.2.1 65536 2\r\n"),
    ("v1 port with a sign", b"PROXY TCP4 192.0.2.7 192.0.2.1 +1 2\r\n"),
    ("v1 port with zeros", b"PROXY TCP4 192.0.2.7 192.0.2.1 01 2\r\n"),
    ("v1 the server's port is none", b"PROXY TCP4 192.0.2.7 192.0.2.1 1 x\r\n"),
    ("v1 no end", b"PROXY UNKNOWN " + b"x" * MAX_V1_BYTES),
    ("v1 end one too late", b"PROXY UNKNOWN " + b"x" * (MAX_V1_BYTES - 15) + b"\r\n"),
    ("v2 version 1", SIGNATURE + b"\x11\x11\0\x0c" + b"\0" * 12),
    ("v2 command 2", SIGNATURE + b"\x22\x11\0\x0c" + b"\0" * 12),
    ("v2 family 4", SIGNATURE + b"\x21\x41\0\x0c" + b"\0" * 12),
    ("v2 datagrams", SIGNATURE + b"\x21\x12\0\x0c" + b"\0" * 12),
    ("v2 TCP4 too short", SIGNATURE + b"\x21\x11\0\x0b" + b"\0" * 11),
    ("v2 TCP6 too short", SIGNATURE + b"\x21\x21\0\x23" + b"\0" * 35),
    ("v2 UNIX too short", SIGNATURE + b"\x21\x31\0\xd7" + b"\0" * 215),
    ("v2 too long", SIGNATURE + b"\x21\x11" + struct.pack("!H", MAX_V2_BYTES - 15)),
    ("v2 LOCAL too long", SIGNATURE + b"\x20\0\xff\xff"),
]


def names(rows: list[tuple[str, bytes, str]] | list[tuple[str, bytes]]) -> list[str]:
    return [row[0] for row in rows]


@pytest.mark.parametrize(("_name", "data", "remote"), GOOD, ids=names(GOOD))
def test_a_good_header(_name: str, data: bytes, remote: str) -> None:
    found = ProxyHeader(remote, len(data))
    assert parse(data) == found
    assert [parse(data[:end]) for end in range(len(data))] == [None] * len(data), "whole at its last byte, not before"
    assert parse(data + b'{"msgid":1}\0') == found
    assert parse(data + data) == found, "what follows is the client's, whatever it is"


@pytest.mark.parametrize(("_name", "data"), BAD, ids=names(BAD))
def test_a_bad_header(_name: str, data: bytes) -> None:
    with pytest.raises(HeaderError):
        parse(data)


def test_the_longest_line_is_as_long_as_the_specification_says() -> None:
    assert len(LONGEST_V1) == 104
    line = b"PROXY UNKNOWN " + b"x" * (MAX_V1_BYTES - 16) + b"\r\n"
    assert parse(line) == ProxyHeader("", MAX_V1_BYTES)


@given(st.ip_addresses(), st.integers(0, 65535), st.binary(max_size=60))
def test_every_address_is_said_in_both_versions(
    host: ipaddress.IPv4Address | ipaddress.IPv6Address, port: int, rest: bytes
) -> None:
    first, second = parse(v1(str(host), port) + rest), parse(v2(str(host), port) + rest)
    assert first is not None
    assert second is not None
    plain = getattr(host, "ipv4_mapped", None) or host
    assert first.remote == second.remote == (f"[{plain}]:{port}" if plain.version == 6 else f"{plain}:{port}")


def outcome(data: bytes) -> ProxyHeader | str | None:
    with contextlib.suppress(HeaderError):
        return parse(data)
    return "refused"


def whatever(chosen: random.Random) -> bytes:
    """A good header with a few bytes changed, left out or put in."""
    data = bytearray(chosen.choice([*GOOD, *BAD])[1])
    for _ in range(chosen.randrange(4)):
        at = chosen.randrange(len(data) + 1)
        match chosen.randrange(3):
            case 0:
                data[at : at + 1] = chosen.randbytes(1)
            case 1:
                del data[at : at + chosen.randrange(1, 9)]
            case _:
                data[at:at] = chosen.choice([b"\r\n", b" ", b"\0", b"\xff", b"PROXY ", SIGNATURE, b"9" * 200])
    return bytes(data)


@settings(max_examples=1500, deadline=None)
@given(st.one_of(st.randoms(use_true_random=False).map(whatever), st.binary(max_size=300)))
def test_whatever_comes_is_decided_once_and_in_time(data: bytes) -> None:
    decided_once(data)


def decided_once(data: bytes) -> None:
    """No exception but HeaderError; what was decided of a beginning holds for all that follows, so pieces do not
    matter; nothing is waited for beyond the limit."""
    decided: ProxyHeader | str | None = None
    for end in range(0, len(data) + 1, 1 if len(data) < 400 else 97):
        now = outcome(data[:end])
        assert decided is None or now == decided
        decided = now
    found = outcome(data + b"x" * MAX_V2_BYTES)
    assert found is not None
    assert decided is None or found == decided
    if isinstance(found, ProxyHeader):
        assert found.length <= MAX_V2_BYTES


@pytest.mark.parametrize(
    ("host", "is_one"),
    [
        ("192.0.2.1", True),
        ("192.0.2.2", False),
        ("10.9.8.7", True),
        ("::ffff:10.9.8.7", True),
        ("11.0.0.1", False),
        ("2001:db8::1", True),
        ("2001:db9::1", False),
        ("fe80::1%eth0", False),
    ],
)
def test_whose_word_is_taken(host: str, is_one: bool) -> None:
    assert (host in Balancers(["192.0.2.1", "10.0.0.0/8", "2001:db8::/32"])) is is_one
