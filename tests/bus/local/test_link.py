"""The bounded queue of an outgoing link, with a transport that only writes down."""

from __future__ import annotations

import asyncio
from typing import Any

from chatd.bus.local.frames import FrameKind, frame
from chatd.bus.local.link import OutgoingLink


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

    def test_publishes_that_do_not_fit_leave_one_hole_with_the_gap_frame_in_its_place(self) -> None:
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
