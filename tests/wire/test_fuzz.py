"""Whatever arrives, a codec gives Commands or one WireError, holds little and takes time linear in the bytes."""

from __future__ import annotations

import itertools
import random
import time
from collections.abc import Callable
from typing import get_args

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from chatd.errors import ErrorCode, WireError
from chatd.model import ALL_MEMBERS, User
from chatd.protocol import Command, Failed, Feature, LoginAccepted, SendMessage, ServerRequest
from chatd.wire.chatserver.codec import ChatserverCodec
from chatd.wire.contract import Codec
from chatd.wire.mobileimsdk.codec import MobileimsdkCodec
from chatd.wire.mobileimsdk.packets import MAX_MENTIONS
from tests.wire.chatserver import test_codec as test_chatserver
from tests.wire.chatserver.test_requests import REQUESTS, UNUSABLE_REQUESTS
from tests.wire.drive import Heard, hear
from tests.wire.mobileimsdk import test_codec as test_mobileimsdk
from tests.wire.mobileimsdk import test_features

LIMIT = 600
BODY, FP = 200, 64
COMMANDS = get_args(Command)


def chatserver() -> ChatserverCodec:
    return ChatserverCodec(LIMIT, 5, BODY, FP)


def with_requests() -> ChatserverCodec:
    codec = chatserver()
    list(codec.receive(b'{"msgid":1,"id":1,"password":"x","framing":"nul","requests":true}\0'))
    codec.encode_login(LoginAccepted(User(1, "x"), 0))
    return codec


def mobileimsdk() -> MobileimsdkCodec:
    return MobileimsdkCodec(LIMIT, BODY, FP)


def with_numbers() -> MobileimsdkCodec:
    codec = mobileimsdk()
    codec.encode_login(LoginAccepted(User(1, "x"), 0, features=Feature.SEQ))
    return codec


def swallow(codec: Codec, reads: list[bytes]) -> Heard:
    """Everything a peer can do is answered; nothing is out of bounds."""
    commands: list[Command] = []
    refused: WireError | None = None
    try:
        for data in reads:
            for command in codec.receive(data):
                assert isinstance(command, COMMANDS)
                check(command)
                assert codec.encode(Failed(ErrorCode.NOT_LOGGED_IN, "no", command))
                commands.append(command)
            assert codec.buffered_bytes <= LIMIT + len(data)
    except WireError as error:
        refused = error
    if refused is not None:
        assert codec.encode(Failed(refused.code, refused.text, None, refused.ref))
    return commands, refused


def check(command: Command) -> None:
    """What core may rely on."""
    if isinstance(command, SendMessage):
        assert [bool(command.to_name), command.to_id != 0, command.to_group != 0].count(True) == 1
        assert 0 <= command.to_id < 2**63
        assert 0 <= command.to_group < 2**63
        assert len(command.body.encode()) <= BODY
        assert len(command.fp.encode()) <= FP
        assert -(2**31) <= command.typeu < 2**31
        if command.extras is not None:
            reply, mentions = command.extras.reply_to, command.extras.mentions
            assert 0 <= reply < 2**62
            assert mentions == ALL_MEMBERS or len(mentions) <= MAX_MENTIONS
            assert not mentions or command.to_group
            assert all(0 < name < 2**62 if isinstance(name, int) else name for name in mentions if name != 0)
    if isinstance(command, ServerRequest):
        assert len(command.body.encode()) <= BODY
        assert len(command.fp.encode()) <= FP


def reads_of(stream: bytes, cuts: list[int]) -> list[bytes]:
    places = [0, *sorted(cut % (len(stream) + 1) for cut in cuts), len(stream)]
    return [stream[a:b] for a, b in itertools.pairwise(places)]


def mutate(stream: bytes, rng: random.Random) -> bytes:
    data = bytearray(stream)
    for _ in range(rng.randint(1, 4)):
        at = rng.randrange(len(data))
        match rng.randrange(5):
            case 0:
                data[at] ^= 1 << rng.randrange(8)
            case 1:
                data[at] = rng.choice(b'\0{}[]",:\\0-9eu\xff')
            case 2:
                del data[at : at + rng.randint(1, 8)]
            case 3:
                data[at:at] = rng.choice([b"null", b"1e9", b"99999999999999999999", b"[[", b"{", b'"', b"\\ud800"])
            case _:
                data[at:at] = data[at : at + rng.randint(1, 60)]
        if not data:
            return b"{"
    return bytes(data)


Wire = tuple[Callable[[], Codec], list[bytes]]
WIRES: dict[str, Wire] = {
    "chatserver": (chatserver, [row[1] for row in [*test_chatserver.RECEIVED, *test_chatserver.REFUSED]]),
    "chatserver with requests": (with_requests, [row[1] for row in [*REQUESTS, *UNUSABLE_REQUESTS]]),
    "mobileimsdk with numbers": (
        with_numbers,
        [*(row[0] for row in test_features.RECEIVED), *test_features.BAD_FIELDS],
    ),
    "mobileimsdk": (mobileimsdk, [row[1] for row in [*test_mobileimsdk.RECEIVED, *test_mobileimsdk.REFUSED]]),
}
wires = pytest.mark.parametrize("wire", WIRES.values(), ids=WIRES)


def same_however_cut(make: Callable[[], Codec], stream: bytes, cuts: list[int]) -> None:
    whole = swallow(make(), [stream])
    pieces = swallow(make(), reads_of(stream, cuts))
    assert (whole[0], whole[1] is None) == (pieces[0], pieces[1] is None)


@wires
@given(data=st.data())
@settings(max_examples=150, deadline=None)
def test_arbitrary_bytes(wire: Wire, data: st.DataObject) -> None:
    make, _ = wire
    pieces = st.sampled_from(
        [b"{", b"}", b'"', b"\\", b"\0", b"[", b"]", b'{"msgid":6,"msg":"', b'"type":2', b"\0\0\0\x02{}"]
    )
    stream = b"".join(data.draw(st.lists(pieces | st.binary(max_size=20), max_size=40)))
    same_however_cut(make, stream, data.draw(st.lists(st.integers(0, 10**6), max_size=8)))


def mutation_rounds(wire: Wire, seed: int, rounds: int) -> None:
    make, corpus = wire
    rng = random.Random(seed)
    small = [frame for frame in corpus if len(frame) < LIMIT]
    outcomes = set()
    for _ in range(rounds):
        frames = rng.choices(small, k=rng.randint(1, 4))
        stream = mutate(b"".join(frames), rng)
        cuts = [rng.randrange(10**6) for _ in range(rng.randint(0, 6))]
        same_however_cut(make, stream, cuts)
        outcomes.add(hear(make(), [stream])[1] is None)
    assert outcomes == {True, False}, "the mutations are too wild or too tame"


@wires
def test_mutated_frames(wire: Wire) -> None:
    mutation_rounds(wire, 1, 2_000)


@pytest.mark.slow
@wires
@pytest.mark.parametrize("seed", range(20))
def test_mutated_frames_at_length(wire: Wire, seed: int) -> None:
    mutation_rounds(wire, 100 + seed, 20_000)


# ---------------------------------------------------------------- linear time


def chat_codec() -> Codec:
    return logged_in(ChatserverCodec(10**7, 5, 10**7, FP))


def packet_codec() -> Codec:
    return logged_in(MobileimsdkCodec(10**7, 10**7, FP))


def logged_in(codec: Codec) -> Codec:
    """Before that, a frame may not be long enough to tell."""
    codec.encode_login(LoginAccepted(User(1, "x"), 0))
    return codec


def dripped_chat(size: int) -> tuple[Codec, list[bytes]]:
    """One frame of `size` bytes, byte by byte, full of what could end it."""
    frame = test_chatserver.nul(msgid=6, toid=1, msg='}"{' * (size // 5))
    return chat_codec(), [frame[at : at + 1] for at in range(len(frame))]


def unfinished_chat(size: int) -> tuple[Codec, list[bytes]]:
    """Reads that each end with what looks like the end of a frame."""
    return chat_codec(), [b'{"msgid":6,"msg":"', *[b"}" * 16] * (size // 16)]


def glued_chats(size: int) -> tuple[Codec, list[bytes]]:
    """Many small frames without NUL in one read."""
    return chat_codec(), [b'{"msgid":3}' * (size // 11)]


def blanks(size: int) -> tuple[Codec, list[bytes]]:
    return chat_codec(), [b"\0 \r\n"] * (size // 4)


def dripped_packet(size: int) -> tuple[Codec, list[bytes]]:
    frame = test_mobileimsdk.packet(type=2, to="b", dataContent="x" * size)
    return packet_codec(), [frame[at : at + 1] for at in range(len(frame))]


def glued_packets(size: int) -> tuple[Codec, list[bytes]]:
    return packet_codec(), [test_mobileimsdk.packet(type=1) * (size // 15)]


def bracketed_packet(size: int) -> tuple[Codec, list[bytes]]:
    """Not deep, but every test for depth has to look."""
    body = b'{"type":1,"x":[%b1]}' % (b"[1]," * (size // 4))
    return packet_codec(), [test_mobileimsdk.framed(body)]


CASES = [dripped_chat, unfinished_chat, glued_chats, blanks, dripped_packet, glued_packets, bracketed_packet]


@pytest.mark.parametrize("case", CASES)
def test_time_is_linear(case: Callable[[int], tuple[Codec, list[bytes]]]) -> None:
    def seconds(size: int) -> float:
        codec, reads = case(size)
        began = time.process_time()
        for data in reads:
            for _ in codec.receive(data):
                pass
        return time.process_time() - began

    small = min(seconds(15_000) for _ in range(3))
    large = min(seconds(240_000) for _ in range(3))
    assert large < 16 * 5 * max(small, 0.0005), f"16 times the bytes took {large / small:.0f} times as long"
