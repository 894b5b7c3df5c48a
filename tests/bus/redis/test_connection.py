"""One connection: answers find their questions however the bytes are cut, and what does not fit ends it."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import hiredis
import pytest

from chatd.bus.redis.connection import ConnectionCallbacks, RedisConnection, pack
from chatd.errors import Unavailable


class Wire(asyncio.WriteTransport):
    """What was written; nobody reads it unless `stuck` is false."""

    def __init__(self) -> None:
        super().__init__()
        self.written = b""
        self.waiting = 0
        self.aborted = False

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        self.high = high or 0

    def get_write_buffer_size(self) -> int:
        return self.waiting

    def is_closing(self) -> bool:
        return self.aborted

    def write(self, data: Any) -> None:
        self.written += data

    def abort(self) -> None:
        self.aborted = True


class Heard:
    def __init__(self, limit: int = 1 << 20) -> None:
        self.messages: list[tuple[bytes, bytes]] = []
        self.refused: list[str] = []
        self.ended: list[bytes] = []
        self.gaps = 0
        self.connection = RedisConnection(
            limit,
            ConnectionCallbacks(
                on_message=lambda channel, data: self.messages.append((channel, data)),
                on_publish_refused=lambda error: self.refused.append(str(error)),
                on_subscription_ended=self.ended.append,
                on_gap=self.on_gap,
            ),
        )
        self.wire = Wire()
        self.connection.connection_made(self.wire)

    def on_gap(self) -> None:
        self.gaps += 1


def play(scenario: Callable[[], Awaitable[None]]) -> None:
    async def whole() -> None:
        await scenario()

    asyncio.run(whole())


STREAM = (
    b">3\r\n$9\r\nsubscribe\r\n$1\r\na\r\n:1\r\n"
    b">3\r\n$7\r\nmessage\r\n$1\r\na\r\n$5\r\nfirst\r\n"
    b">3\r\n$9\r\nsubscribe\r\n$1\r\nb\r\n:2\r\n"
    b":1\r\n:0\r\n"
    b"$5\r\nvalue\r\n"
    b">3\r\n$8\r\nsmessage\r\n$1\r\nb\r\n$0\r\n\r\n"
    b"-NOSCRIPT no such script\r\n"
    b"-MOVED 1 h:1\r\n"
    b"_\r\n"
)


@pytest.mark.parametrize("step", [1, 2, 7, 13, 64, 4096])
def test_answers_match_their_commands_however_the_stream_is_cut(step: int) -> None:
    async def scenario() -> None:
        heard = Heard()
        connection = heard.connection
        both = connection.subscription(b"SUBSCRIBE", [b"a", b"b"])
        connection.publish(pack(("PUBLISH", "c", "1")))
        connection.publish(pack(("PUBLISH", "c", "2")))
        value = connection.ask("GET", "k")
        script = connection.ask("EVALSHA", "x", 0)
        connection.publish(pack(("PUBLISH", "c", "3")))
        nothing = connection.ask("GET", "l")
        await asyncio.sleep(0)
        assert heard.wire.written == b"".join(
            pack(words)
            for words in (
                ("SUBSCRIBE", "a", "b"), ("PUBLISH", "c", "1"), ("PUBLISH", "c", "2"), ("GET", "k"),
                ("EVALSHA", "x", 0), ("PUBLISH", "c", "3"), ("GET", "l"),
            )
        )  # fmt: skip
        for at in range(0, len(STREAM), step):
            connection.data_received(STREAM[at : at + step])
        assert both.done()
        assert heard.messages == [(b"a", b"first"), (b"b", b"")]
        assert value.result() == b"value"
        assert isinstance(script.exception(), hiredis.ReplyError)
        assert heard.refused == ["MOVED 1 h:1"]
        assert nothing.result() is None
        assert not connection.lost.done()

    play(scenario)


def test_a_subscription_ended_by_the_server_is_reported_and_one_ended_by_us_is_not() -> None:
    async def scenario() -> None:
        heard = Heard()
        ours = heard.connection.subscription(b"SUNSUBSCRIBE", [b"a"])
        heard.connection.data_received(b">3\r\n$12\r\nsunsubscribe\r\n$1\r\nb\r\n:1\r\n")
        assert (heard.ended, ours.done()) == ([b"b"], False)
        heard.connection.data_received(b">3\r\n$12\r\nsunsubscribe\r\n$1\r\na\r\n:0\r\n")
        assert (heard.ended, ours.done()) == ([b"b"], True)

    play(scenario)


def test_a_refused_subscription_fails_alone() -> None:
    async def scenario() -> None:
        heard = Heard()
        first = heard.connection.subscription(b"SSUBSCRIBE", [b"a"])
        second = heard.connection.subscription(b"SSUBSCRIBE", [b"b"])
        heard.connection.data_received(b"-MOVED 3 h:1\r\n>3\r\n$10\r\nssubscribe\r\n$1\r\nb\r\n:1\r\n")
        assert str(first.exception()) == "MOVED 3 h:1"
        assert second.done()
        assert not second.exception()

    play(scenario)


@pytest.mark.parametrize(
    ("data", "why"),
    [
        (b"+OK\r\n", "an answer to no question"),
        (b"?what\r\n", "it does not speak RESP3"),
        (b"HTTP/1.1 400 Bad Request\r\n", "it does not speak RESP3"),
    ],
)
def test_bytes_that_cannot_be_an_answer_drop_the_connection(data: bytes, why: str) -> None:
    async def scenario() -> None:
        heard = Heard()
        heard.connection.data_received(data)
        assert heard.connection.lost.result().startswith(why)
        assert heard.wire.aborted

    play(scenario)


def test_a_lost_connection_fails_every_command_and_says_whether_publishes_were_lost() -> None:
    async def scenario() -> None:
        for with_publish in (False, True):
            heard = Heard()
            asked = heard.connection.ask("GET", "k")
            subscribed = heard.connection.subscription(b"SUBSCRIBE", [b"a"])
            if with_publish:
                heard.connection.publish(pack(("PUBLISH", "c", "1")))
            heard.connection.connection_lost(None)
            for future in (asked, subscribed, heard.connection.ask("GET", "k")):
                with pytest.raises(Unavailable, match="closed the connection"):
                    await future
            assert heard.connection.publishes_unanswered is with_publish
            assert heard.connection.gap is False
            heard.connection.publish(pack(("PUBLISH", "c", "2")))
            assert heard.connection.gap is True

    play(scenario)


def test_publishes_that_do_not_fit_leave_one_hole_reported_when_there_is_room() -> None:
    async def scenario() -> None:
        heard = Heard(limit=1000)
        connection, wire = heard.connection, heard.wire
        connection.publish(b"x" * 400)
        await asyncio.sleep(0)
        wire.waiting = 400
        connection.pause_writing()
        connection.publish(b"y" * 500)
        connection.publish(b"z" * 200)  # this one does not fit
        connection.publish(b"w")  # this one would, but after the hole
        await asyncio.sleep(0)
        assert (wire.written, heard.gaps) == (b"x" * 400, 0)
        wire.waiting = 0
        connection.resume_writing()
        assert wire.written == b"x" * 400 + b"y" * 500
        assert heard.gaps == 1
        connection.publish(b"v")
        await asyncio.sleep(0)
        assert wire.written.endswith(b"v")

    play(scenario)


def test_commands_that_pile_up_drop_the_connection() -> None:
    async def scenario() -> None:
        heard = Heard(limit=1000)
        heard.connection.pause_writing()
        for _ in range(100):
            heard.connection.ask("GET", "a name of some length").add_done_callback(lambda done: done.exception())
        await asyncio.sleep(0)
        assert heard.connection.lost.result() == "too much waits for it"

    play(scenario)
