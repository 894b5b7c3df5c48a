"""Versions N and N+1 on one bus: what each makes of what the other sends."""

from __future__ import annotations

import struct
from collections.abc import Iterator

import msgspec
import pytest
import redis

from chatd.bus.redis import envelope
from chatd.core import bus_messages
from tests.bus.contract import Stage, play
from tests.bus.redis.place import RedisPlace
from tests.harness.redis import RedisServer

OTHER_TOKEN = b"stranger"


class TestHeader:
    def test_content_is_what_followed_the_header(self) -> None:
        for data in (b"", b"x", bytes(1000)):
            raw = envelope.header(OTHER_TOKEN) + data
            assert envelope.content(raw) == data
            assert raw[envelope.TOKEN] == OTHER_TOKEN

    def test_a_longer_header_of_a_later_version_is_skipped(self) -> None:
        raw = struct.pack("!BBB8sI", envelope.VERSION + 1, envelope.VERSION, 15, OTHER_TOKEN, 77) + b"data"
        assert envelope.content(raw) == b"data"
        assert raw[envelope.TOKEN] == OTHER_TOKEN

    def test_a_message_that_says_it_is_too_new_is_refused(self) -> None:
        newer = envelope.header(OTHER_TOKEN, envelope.VERSION + 2, envelope.VERSION + 1)
        with pytest.raises(envelope.TooNew, match=f"version {envelope.VERSION + 2}"):
            envelope.content(newer + b"data")
        for raw in (b"", b"no"):
            with pytest.raises(ValueError, match="too short"):
                envelope.content(raw)


class SessionsAskedGrown(msgspec.Struct, frozen=True, array_like=True, tag=12):
    """core.bus_messages.SessionsAsked of a later version."""

    user_id: int
    ref: int
    why: str = "because"


class Unheard(msgspec.Struct, frozen=True, array_like=True, tag=99):
    user_id: int


class TestBusMessages:
    def test_an_additional_field_is_ignored(self) -> None:
        sent = msgspec.msgpack.encode(SessionsAskedGrown(1, 2, "curious"))
        assert bus_messages.decode(sent) == bus_messages.SessionsAsked(1, 2)

    def test_a_missing_field_has_its_default(self) -> None:
        sent = bus_messages.encode(bus_messages.SessionsAsked(1, 2))
        assert msgspec.msgpack.decode(sent, type=SessionsAskedGrown) == SessionsAskedGrown(1, 2, "because")

    def test_an_unknown_kind_is_an_error_that_the_caller_expects(self) -> None:
        with pytest.raises(msgspec.DecodeError):
            bus_messages.decode(msgspec.msgpack.encode(Unheard(1)))


class TestOnTheBus:
    @pytest.fixture
    def place(self, tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisPlace]:
        with RedisServer(tmp_path_factory.mktemp("redis")) as server:
            yield RedisPlace(server.url)

    def test_a_worker_of_version_n_among_others_of_n_plus_1(self, place: RedisPlace) -> None:
        other = redis.Redis.from_url(place.url)

        def publish(channel: str, version: int, oldest: int, data: bytes) -> None:
            other.publish(f"{place.prefix}:{channel}", envelope.header(OTHER_TOKEN, version, oldest) + data)

        async def scenario(stage: Stage) -> None:
            a = await stage.member()
            await a.bus.subscribe([1 << 2])
            publish("u1", envelope.VERSION + 1, envelope.VERSION, b"readable")
            await a.until_received(1)
            # A word nobody here knows, one that has grown, and a worker that says more of itself.
            publish("all", envelope.VERSION + 1, envelope.VERSION, msgspec.msgpack.encode(("unheard", 1)))
            publish("all", envelope.VERSION + 1, envelope.VERSION, msgspec.msgpack.encode(("bye", "nobody", "more")))
            worker = {"token": "newer", "epoch": 1, "host": "h", "zone": "a later field"}
            publish("all", envelope.VERSION + 1, envelope.VERSION, msgspec.msgpack.encode(("hello", worker, "more")))
            publish("u1", envelope.VERSION, envelope.VERSION, b"still here")
            await a.until_received(2)
            assert a.gaps == 0
            publish("u1", envelope.VERSION + 2, envelope.VERSION + 1, b"not readable")
            await a.until_gap()
            other.publish(f"{place.prefix}:u1", b"rubbish")
            other.publish(f"{place.prefix}:all", envelope.header(OTHER_TOKEN) + b"\xc1")
            publish("u1", envelope.VERSION, envelope.VERSION, b"the last")
            await a.until_received(3)
            await a.until_gap(1)
            assert [data for _, data in a.received] == [b"readable", b"still here", b"the last"]
            assert a.bus.healthy

        play(place, scenario)
        other.close()
