"""Frames on a stream, and the bounded queue of a link, with a transport that only writes down."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from chatd.bus.local.frames import FrameKind, frame, pack_topics, unpack_topics
from chatd.bus.local.link import IncomingLink, OutgoingLink


class Pipe(asyncio.Transport):
    """A transport that keeps what is written."""

    def __init__(self) -> None:
        super().__init__()
        self.writes: list[bytes] = []
        self.waiting = 0

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        pass

    def get_write_buffer_size(self) -> int:
        return self.waiting

    def is_closing(self) -> bool:
        return False

    def write(self, data: bytes | bytearray | memoryview[Any]) -> None:
        self.writes.append(bytes(data))


class TestLink:
    def test_all_frames_of_a_turn_leave_in_one_write(self) -> None:
        async def scenario() -> None:
            link, pipe = OutgoingLink(1 << 20, lambda link: None), Pipe()
            link.connection_made(pipe)
            for turn in range(3):
                sent = [frame(FrameKind.PUBLISH, turn, b"%d" % number) for number in range(100)]
                for one in sent[:50]:
                    link.publish(one)
                link.send_control(frame(FrameKind.SUBSCRIBE, turn))
                for one in sent[50:]:
                    link.publish(one)
                assert len(pipe.writes) == turn
                await asyncio.sleep(0)
                assert len(pipe.writes) == turn + 1
                assert pipe.writes[-1] == b"".join([*sent[:50], frame(FrameKind.SUBSCRIBE, turn), *sent[50:]])

        asyncio.run(scenario())

    def test_what_does_not_fit_is_one_hole_with_the_gap_in_its_place(self) -> None:
        async def scenario() -> None:
            link, pipe = OutgoingLink(1000, lambda link: None), Pipe()
            link.connection_made(pipe)
            pipe.waiting = 600
            link.pause_writing()
            fits, does_not = frame(FrameKind.PUBLISH, 1, bytes(300)), frame(FrameKind.PUBLISH, 2, bytes(200))
            small = frame(FrameKind.PUBLISH, 3, b"would fit, but not before what was dropped")
            link.publish(fits)
            link.publish(does_not)
            link.publish(small)
            await asyncio.sleep(0)
            assert pipe.writes == []
            link.resume_writing()
            assert pipe.writes == [fits + frame(FrameKind.GAP, 0)]
            link.publish(small)
            await asyncio.sleep(0)
            assert pipe.writes[1:] == [small]

        asyncio.run(scenario())


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
