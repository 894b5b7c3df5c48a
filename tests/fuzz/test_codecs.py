"""Whatever bytes arrive, at length: the codecs and the frames of WebSocket."""

from __future__ import annotations

import random

import pytest

from chatd.errors import WireError
from chatd.net.websocket.frames import FrameReader
from chatd.net.websocket.handshake import END_OF_REQUEST, UpgradePolicy
from tests.fuzz.shares import LEAST_S, SECONDS, rounds
from tests.net.websocket.test_frames import BAD, GOOD, LIMIT, as_event
from tests.wire.test_fuzz import WIRES, mutate, mutation_rounds, reads_of

REQUEST = (
    b"GET /websocket HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n"
    b"Sec-WebSocket-Protocol: mobileimsdk\r\nOrigin: https://a.example\r\n"
)


def test_the_shares_are_enough() -> None:
    assert sum(SECONDS.values()) >= LEAST_S


@pytest.mark.parametrize("wire", WIRES)
def test_codec(wire: str) -> None:
    assert rounds(wire, lambda rng: mutation_rounds(WIRES[wire], rng.randrange(10**9), 300)) > 5


def heard(reads: list[bytes]) -> tuple[list[tuple[int, bytes]], bool]:
    frames, found = FrameReader(LIMIT), []
    try:
        for data in reads:
            for one in frames.receive(data):
                found.append(as_event(one))
                assert len(found[-1][1]) <= LIMIT
            assert frames.buffered_bytes <= LIMIT + 14 + len(data)
            assert frames.fragment_bytes <= LIMIT
    except WireError:
        return found, False
    return found, True


def test_frames_and_requests_of_websocket() -> None:
    corpus = [row[1] for row in [*GOOD, *BAD] if len(row[1]) < 3 * LIMIT]
    policies = [UpgradePolicy("/websocket", []), UpgradePolicy("/websocket", ["https://a.example"])]
    outcomes = set()

    def play(rng: random.Random) -> None:
        stream = mutate(b"".join(rng.choices(corpus, k=rng.randint(1, 4))), rng)
        whole = heard([stream])
        assert heard(reads_of(stream, [rng.randrange(10**6) for _ in range(rng.randint(0, 6))])) == whole
        request = mutate(REQUEST, rng).replace(END_OF_REQUEST, b"") + END_OF_REQUEST
        answer = rng.choice(policies).answer(request)
        assert answer.data.startswith(b"HTTP/1.1 ")
        assert answer.accepted is answer.data.startswith(b"HTTP/1.1 101")
        outcomes.update({("frames", whole[1]), ("request", answer.accepted)})

    assert rounds("websocket", play) > 100
    assert len(outcomes) == 4, "the mutations are too wild or too tame"
