"""A client's frames byte by byte: one table of what a client may send, one of what it may not."""

from __future__ import annotations

import contextlib
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st
from websockets.frames import Close, Frame, Opcode

from chatd.errors import Disconnect, ErrorCode
from chatd.net.websocket import frames
from chatd.net.websocket.connection import CLOSE_CODES
from chatd.net.websocket.frames import CloseCode, FoundFrame, FrameError, FrameReader
from chatd.protocol import Malformed
from chatd.wire.skipped import MAX_SKIPPED_FRAME_BYTES

LIMIT = 1000
MASK = bytes.fromhex("37fa213d")
TEXT, CONT, BINARY, CLOSE, PING, PONG = 1, 0, 2, 8, 9, 10
SKIPPED = -1


def masked(first: int, payload: bytes, mask: bytes = MASK) -> bytes:
    """A client's frame, made here byte by byte and not by what is tested."""
    size = len(payload)
    if size < 126:
        head = bytes([first, 0x80 | size])
    elif size < 65_536:
        head = bytes([first, 0x80 | 126]) + size.to_bytes(2, "big")
    else:
        head = bytes([first, 0x80 | 127]) + size.to_bytes(8, "big")
    return head + mask + bytes(byte ^ mask[i % 4] for i, byte in enumerate(payload))


def final(opcode: int, payload: bytes) -> bytes:
    return masked(0x80 | opcode, payload)


Event = tuple[int, bytes]
GOOD: list[tuple[str, bytes, list[Event]]] = [
    ("the example of RFC 6455, 5.7", bytes.fromhex("818537fa213d7f9f4d5158"), [(TEXT, b"Hello")]),
    ("empty text", final(TEXT, b""), [(TEXT, b"")]),
    ("125 bytes", final(TEXT, b"x" * 125), [(TEXT, b"x" * 125)]),
    ("126 bytes", final(TEXT, b"x" * 126), [(TEXT, b"x" * 126)]),
    ("as long as it may be", final(TEXT, b"x" * LIMIT), [(TEXT, b"x" * LIMIT)]),
    ("a length written longer than needed", b"\x81\xfe\0\x02" + MASK + masked(0, b"hi")[6:], [(TEXT, b"hi")]),
    ("two messages", final(TEXT, b"a") + final(TEXT, b"b"), [(TEXT, b"a"), (TEXT, b"b")]),
    ("two fragments", masked(TEXT, b"Hel") + final(CONT, b"lo"), [(TEXT, b"Hello")]),
    ("empty fragments", masked(TEXT, b"") + masked(CONT, b"") + final(CONT, b""), [(TEXT, b"")]),
    ("a character cut in two", masked(TEXT, b"\xc3") + final(CONT, b"\xa9"), [(TEXT, "é".encode())]),
    ("ping", final(PING, b"are you there"), [(PING, b"are you there")]),
    ("pong is of no interest", final(PONG, b"yes") + final(TEXT, b"a"), [(TEXT, b"a")]),
    (
        "control frames between fragments",
        masked(TEXT, b"a") + final(PING, b"1") + masked(CONT, b"b") + final(PONG, b"") + final(CONT, b"c"),
        [(PING, b"1"), (TEXT, b"abc")],
    ),
    ("close", final(CLOSE, b"\x03\xe8bye"), [(CLOSE, b"\x03\xe8bye")]),
]

BAD: list[tuple[str, bytes, CloseCode]] = [
    ("not masked", b"\x81\x02hi", CloseCode.PROTOCOL_ERROR),
    ("binary", final(BINARY, b"hi"), CloseCode.UNSUPPORTED),
    ("a fragment of binary", masked(BINARY, b"hi"), CloseCode.UNSUPPORTED),
    ("binary between fragments", masked(TEXT, b"a") + final(BINARY, b"hi"), CloseCode.UNSUPPORTED),
    ("text between fragments", masked(TEXT, b"a") + final(TEXT, b"b"), CloseCode.PROTOCOL_ERROR),
    ("a continuation of nothing", final(CONT, b"a"), CloseCode.PROTOCOL_ERROR),
    ("compressed, which nobody offered", masked(0xC1, b"a"), CloseCode.PROTOCOL_ERROR),
    ("second reserved bit", masked(0xA1, b"a"), CloseCode.PROTOCOL_ERROR),
    ("third reserved bit", masked(0x91, b"a"), CloseCode.PROTOCOL_ERROR),
    ("unknown opcode", final(3, b"a"), CloseCode.PROTOCOL_ERROR),
    ("unknown control opcode", final(11, b"a"), CloseCode.PROTOCOL_ERROR),
    ("a ping in fragments", masked(PING, b"a"), CloseCode.PROTOCOL_ERROR),
    ("a ping of 126 bytes", final(PING, b"x" * 126), CloseCode.PROTOCOL_ERROR),
    ("one byte too long", final(TEXT, b"x" * (LIMIT + 1)), CloseCode.TOO_BIG),
    ("one byte too long in fragments", masked(TEXT, b"x" * LIMIT) + final(CONT, b"x"), CloseCode.TOO_BIG),
    ("too long, known by its first bytes", b"\x81\xfe" + (LIMIT + 1).to_bytes(2, "big") + MASK, CloseCode.TOO_BIG),
    ("2^63 bytes", b"\x81\xff" + (1 << 63).to_bytes(8, "big") + MASK, CloseCode.TOO_BIG),
]

WAYS = {
    "whole": lambda data: [data],
    "byte by byte": lambda data: [data[i : i + 1] for i in range(len(data))],
    "in threes": lambda data: [data[i : i + 3] for i in range(0, len(data), 3)],
}


def as_event(found: FoundFrame) -> Event:
    """A message that was skipped is (SKIPPED, its fp)."""
    if isinstance(found, Malformed):
        assert found.code == ErrorCode.TOO_LONG
        return SKIPPED, found.fp.encode()
    return int(found[0]), found[1]


def take_all(pieces: list[bytes], into: FrameReader, events: list[Event]) -> None:
    for piece in pieces:
        for found in into.receive(piece):
            events.append(as_event(found))  # what came before a bad frame stays


def receive(pieces: list[bytes], into: FrameReader | None = None) -> list[Event]:
    events: list[Event] = []
    take_all(pieces, into or FrameReader(LIMIT), events)
    return events


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize(("name", "data", "events"), GOOD, ids=[row[0] for row in GOOD])
def test_good_frames(name: str, data: bytes, events: list[Event], way: str) -> None:
    into = FrameReader(LIMIT)
    assert receive(WAYS[way](data), into) == events
    assert receive(WAYS[way](final(TEXT, b"next")), into) == [(TEXT, b"next")]


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize(("name", "data", "code"), BAD, ids=[row[0] for row in BAD])
def test_bad_frames(name: str, data: bytes, code: CloseCode, way: str) -> None:
    """What came before a bad frame is not lost."""
    events: list[Event] = []
    with pytest.raises(FrameError) as caught:
        take_all(WAYS[way](final(TEXT, b"before") + data), FrameReader(LIMIT), events)
    assert events == [(TEXT, b"before")]
    assert caught.value.close_code == code
    assert caught.value.code == (ErrorCode.TOO_LONG if code == CloseCode.TOO_BIG else ErrorCode.INVALID_PACKET)


# ---------------------------------------------------------------- messages over the limit


def long_packet(size: int, fp: str = "f-1") -> bytes:
    """A packet of `size` bytes, its fields in the order of the stock clients."""
    start, end = b'{"bridge":false,"type":2,"dataContent":"', b'","from":"a","to":"b","fp":"%b"}' % fp.encode()
    return start + b"x" * (size - len(start) - len(end)) + end


def fragmented(payload: bytes, size: int) -> bytes:
    parts = [payload[at : at + size] for at in range(0, len(payload), size)]
    last = len(parts) - 1
    return b"".join(
        masked((CONT if number else TEXT) | (0x80 if number == last else 0), part) + final(PONG, b"")
        for number, part in enumerate(parts)
    )


LONG = {
    "one byte over": final(TEXT, long_packet(LIMIT + 1)),
    "much longer": final(TEXT, long_packet(20 * LIMIT)),
    "in short fragments": fragmented(long_packet(3 * LIMIT), LIMIT // 3),
    "in long fragments": fragmented(long_packet(5 * LIMIT), 2 * LIMIT),
    "a short fragment, then a long one": masked(TEXT, long_packet(2 * LIMIT)[:10])
    + final(CONT, long_packet(2 * LIMIT)[10:]),
}


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("name", LONG)
def test_a_message_over_the_limit_is_skipped_and_its_fp_is_found(name: str, way: str) -> None:
    into = FrameReader(LIMIT)
    into.skips = True
    stream = final(TEXT, b"before") + LONG[name] + final(PING, b"p") + final(TEXT, b"after")
    expected = [(TEXT, b"before"), (SKIPPED, b"f-1"), (PING, b"p"), (TEXT, b"after")]
    assert receive(WAYS[way](stream), into) == expected
    assert (into.buffered_bytes, into.fragment_bytes) == (0, 0)


def test_what_is_skipped_is_not_kept() -> None:
    into = FrameReader(LIMIT)
    into.skips = True
    data = final(TEXT, long_packet(500_000))
    most = 0
    for at in range(0, len(data), 100):
        assert list(into.receive(data[at : at + 100])) == [] or at + 100 >= len(data)
        most = max(most, into.buffered_bytes + into.fragment_bytes)
    assert most < 10_000


@pytest.mark.parametrize(
    "data",
    [
        final(TEXT, b"x" * (MAX_SKIPPED_FRAME_BYTES + 1)),
        final(CONT, b"x" * (LIMIT + 1)),
        final(BINARY, b"x" * (LIMIT + 1)),
        final(PING, b"x" * (LIMIT + 1)),
        masked(TEXT, b"x") + final(TEXT, b"x" * (LIMIT + 1)),
        masked(TEXT, b"x" * (LIMIT + 1)) + final(TEXT, b"x"),
    ],
    ids=["too much", "no message to continue", "binary", "a ping", "a message in a message", "the same, longer"],
)
def test_what_is_over_the_limit_and_not_allowed_ends_the_connection(data: bytes) -> None:
    into = FrameReader(LIMIT)
    into.skips = True
    with pytest.raises(FrameError):
        list(into.receive(data))


def test_messages_are_skipped_up_to_a_number_of_bytes_per_second() -> None:
    into = FrameReader(LIMIT)
    into.skips = True
    message = final(TEXT, long_packet(MAX_SKIPPED_FRAME_BYTES))
    for _ in range(3):
        assert receive([message] * 2, into) == [(SKIPPED, b"f-1")] * 2
        into.next_second()
    with pytest.raises(FrameError) as caught:
        receive([message] * 3, into)
    assert caught.value.close_code == CloseCode.TOO_BIG


@given(st.lists(st.binary(max_size=300), max_size=8), st.randoms(use_true_random=False))
def test_however_frames_are_cut_into_fragments_and_reads(messages: list[bytes], dice: random.Random) -> None:
    stream = b""
    for message in messages:
        cuts = sorted(dice.randrange(len(message) + 1) for _ in range(dice.randrange(3)))
        parts = [message[a:b] for a, b in zip([0, *cuts], [*cuts, len(message)], strict=True)]
        for number, part in enumerate(parts):
            first = (TEXT if number == 0 else CONT) | (0x80 if number == len(parts) - 1 else 0)
            stream += masked(first, part, dice.randbytes(4))
            if dice.random() < 0.3:
                stream += final(PONG, b"unasked")
    pieces = []
    while stream:
        size = dice.choice((1, 2, 7, 100, 5000))
        pieces.append(stream[:size])
        stream = stream[size:]
    assert receive(pieces) == [(TEXT, message) for message in messages]


@given(st.binary(max_size=400))
def test_no_bytes_do_anything_but_frames_or_a_frame_error(data: bytes) -> None:
    into = FrameReader(LIMIT)
    with contextlib.suppress(FrameError):  # any other exception is a failure
        for found in into.receive(data):
            assert not isinstance(found, Malformed)
            opcode, payload = found
            assert opcode in (Opcode.TEXT, Opcode.PING, Opcode.CLOSE)
            assert len(payload) <= LIMIT
            if opcode is Opcode.CLOSE:
                frames.code_of(payload)


def test_a_slow_message_is_kept_once() -> None:
    """64 KiB in single bytes must not be copied at each of them (this would take minutes)."""
    into = FrameReader(65_536)
    data = final(TEXT, b"x" * 65_000)
    events = [event for i in range(len(data)) for event in into.receive(data[i : i + 1])]
    assert events == [(Opcode.TEXT, b"x" * 65_000)]


@pytest.mark.parametrize("size", [0, 1, 125, 126, 65_535, 65_536, 70_000])
def test_our_frames_are_what_the_library_writes(size: int) -> None:
    payload = b"p" * size
    assert frames.text(payload) == Frame(Opcode.TEXT, payload).serialize(mask=False)
    if size <= 125:
        assert frames.pong(payload) == Frame(Opcode.PONG, payload).serialize(mask=False)


CODES = [
    (b"", 1000),
    (b"\x03\xe8", 1000),
    (b"\x03\xe9leaving", 1001),
    (b"\x0f\xa0", 4000),
    (b"\x03", CloseCode.PROTOCOL_ERROR),
    (b"\x03\xed", CloseCode.PROTOCOL_ERROR),  # 1005 may not be sent
    (b"\x03\xee", CloseCode.PROTOCOL_ERROR),  # nor 1006
    (b"\x00\x00", CloseCode.PROTOCOL_ERROR),
    (b"\x13\x88", CloseCode.PROTOCOL_ERROR),  # 5000
    (b"\x03\xe8\xff", CloseCode.INVALID_DATA),
]


@pytest.mark.parametrize(("payload", "code"), CODES)
def test_codes_a_client_may_close_with(payload: bytes, code: int) -> None:
    try:
        found = frames.code_of(payload)
    except FrameError as error:
        found = error.close_code
    assert found == code


@pytest.mark.parametrize("reason", Disconnect)
def test_every_end_has_a_code_that_may_be_sent(reason: Disconnect) -> None:
    frame = frames.close(CLOSE_CODES[reason], reason.text)
    payload = frame[2:]
    assert frame[0] == 0x88
    assert frame[1] == len(payload) <= 125
    assert Close.parse(payload) == Close(CLOSE_CODES[reason], reason.text)
