"""Frames on a stream, however the kernel cuts it."""

from __future__ import annotations

import pytest

from chatd.bus.local.frames import FrameKind, frame, pack_topics, unpack_topics
from chatd.bus.local.link import IncomingLink


class Heard:
    """A LinkListener that writes down what it is called with."""

    def __init__(self) -> None:
        self.calls: list[tuple[int, int, bytes]] = []
        self.is_closed = False

    def on_publish(self, topic: int, data: bytes) -> None:
        self.calls.append((FrameKind.PUBLISH, topic, data))

    def link_opened(self, link: IncomingLink) -> None: ...

    def control_frame(self, link: IncomingLink, kind: int, number: int, body: bytes) -> None:
        self.calls.append((kind, number, body))

    def read_done(self, link: IncomingLink) -> None: ...

    def link_closed(self, link: IncomingLink) -> None: ...


class TestFrames:
    FRAMES = (
        (FrameKind.HELLO, 1, b"0-1-abc.sock"),
        (FrameKind.SUBSCRIBE, 7, bytes(range(16))),
        (FrameKind.PUBLISH, -(1 << 63), b""),
        (FrameKind.PUBLISH, (1 << 63) - 1, bytes(5000)),
        (FrameKind.PING, 0, b""),
        (FrameKind.PUBLISH, 0, b"last"),
    )

    @pytest.mark.parametrize("step", [1, 2, 7, 13, 14, 4096, 1 << 20])
    def test_a_stream_is_cut_into_the_same_frames_whatever_the_reads(self, step: int) -> None:
        heard = Heard()
        link = IncomingLink(heard, heard.on_publish)
        stream = b"".join(frame(*one) for one in self.FRAMES * 3)
        for at in range(0, len(stream), step):
            link.data_received(stream[at : at + step])
        assert tuple(heard.calls) == self.FRAMES * 3

    @pytest.mark.parametrize("count", [0, 1, 8192, 8193, 30_000])
    def test_topics_of_one_request_carry_the_batch_in_the_last_frame_only(self, count: int) -> None:
        heard = Heard()
        topics = [(-1) ** number * number << 40 for number in range(count)]
        IncomingLink(heard, heard.on_publish).data_received(pack_topics(FrameKind.SUBSCRIBE, 5, topics))
        assert [topic for _, _, body in heard.calls for topic in unpack_topics(body)] == topics
        assert [number for _, number, _ in heard.calls] == [0] * (len(heard.calls) - 1) + [5] * bool(count)
