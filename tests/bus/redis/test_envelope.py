"""The envelope: signatures, replays, and what versions N and N+1 on one bus make of each other's messages."""

from __future__ import annotations

import itertools
import struct
import time
from collections.abc import Iterator

import msgspec
import pytest
import redis

from chatd.bus.redis.envelope import (
    CLOCKS_APART_S,
    HEADER_BYTES,
    LATE_S,
    OLDEST,
    SIGNED_HEADER_BYTES,
    TOKEN,
    VERSION,
    Forged,
    Forgery,
    Opener,
    Sealer,
    TooNew,
)
from chatd.bus.redis.keyring import Keyring
from chatd.core import bus_messages
from tests.bus.contract import Stage, play
from tests.bus.redis.place import KEY, RedisPlace
from tests.harness.redis import RedisServer

OTHER_TOKEN = b"stranger"
CHANNEL = b"chatd:u1"
OPEN = Keyring()
KEYED = Keyring([KEY])


def unsigned(version: int, oldest: int, data: bytes) -> bytes:
    return struct.pack("!BBB8s", version, oldest, HEADER_BYTES, OTHER_TOKEN) + data


def signed_by_hand(
    number: int, data: bytes, *, version: int = VERSION, oldest: int = OLDEST, more: bytes = b""
) -> bytes:
    """As a worker with KEY makes it. more: further fields of a header of a later version."""
    header = struct.pack("!BBB8sQ", version, oldest, SIGNED_HEADER_BYTES + len(more), OTHER_TOKEN, number)
    return header + KEYED.sign(header + CHANNEL + b"\0" + more + data) + more + data


def reason_of(opener: Opener, channel: bytes, raw: bytes) -> Forgery | None:
    """Why the message is refused; None: it is not."""
    try:
        opener.content(channel, raw)
    except Forged as forged:
        return forged.reason
    return None


class TestHeader:
    @pytest.mark.parametrize("keyring", [OPEN, KEYED], ids=["open", "keyed"])
    def test_content_is_what_followed_the_header(self, keyring: Keyring) -> None:
        sealer, opener = Sealer(OTHER_TOKEN, keyring), Opener(keyring)
        for data in (b"", b"x", bytes(1000)):
            raw = sealer.message(CHANNEL, data)
            assert opener.content(CHANNEL, raw) == data
            assert raw[TOKEN] == OTHER_TOKEN

    def test_a_command_holds_the_message(self) -> None:
        command = Sealer(OTHER_TOKEN, OPEN).command(b"PUBLISH", CHANNEL, b"data")
        assert (
            command
            == b"*3\r\n$7\r\nPUBLISH\r\n$8\r\nchatd:u1\r\n$15\r\n" + unsigned(VERSION, OLDEST, b"data") + b"\r\n"
        )

    def test_a_longer_header_of_a_later_version_is_skipped(self) -> None:
        raw = struct.pack("!BBB8sI", VERSION + 1, OLDEST, 15, OTHER_TOKEN, 77) + b"data"
        assert Opener(OPEN).content(CHANNEL, raw) == b"data"
        raw = signed_by_hand(time.time_ns(), b"data", version=VERSION + 1, more=b"later")
        assert Opener(KEYED).content(CHANNEL, raw) == b"data"

    def test_a_signed_message_is_readable_by_version_1(self) -> None:
        """Which reads the oldest version that can read it, and the length of the header."""
        raw = Sealer(OTHER_TOKEN, KEYED).message(CHANNEL, b"data")
        assert raw[1] == 1
        assert raw[raw[2] :] == b"data"

    def test_a_message_that_says_it_is_too_new_is_refused(self) -> None:
        with pytest.raises(TooNew, match=f"version {VERSION + 2}"):
            Opener(OPEN).content(CHANNEL, unsigned(VERSION + 2, VERSION + 1, b"data"))
        raw = signed_by_hand(time.time_ns(), b"data", version=VERSION + 2, oldest=VERSION + 1)
        with pytest.raises(TooNew, match=f"version {VERSION + 2}"):
            Opener(KEYED).content(CHANNEL, raw)
        for raw in (b"", b"no"):
            with pytest.raises(ValueError, match="too short"):
                Opener(OPEN).content(CHANNEL, raw)


class TestSignature:
    def test_every_changed_byte_is_found(self) -> None:
        raw = Sealer(OTHER_TOKEN, KEYED).message(CHANNEL, b"pay 1")
        assert reason_of(Opener(KEYED), CHANNEL, raw) is None
        for at in range(len(raw)):
            for flip in (0x01, 0x80):
                changed = bytearray(raw)
                changed[at] ^= flip
                assert reason_of(Opener(KEYED), CHANNEL, bytes(changed)) in (Forgery.SIGNATURE, Forgery.UNSIGNED), at

    def test_bytes_cut_off_or_added_are_found(self) -> None:
        raw = Sealer(OTHER_TOKEN, KEYED).message(CHANNEL, b"data")
        for changed in (raw[:-1], raw + b"x", b"", raw[:HEADER_BYTES], raw[:SIGNED_HEADER_BYTES]):
            assert reason_of(Opener(KEYED), CHANNEL, changed) in (Forgery.SIGNATURE, Forgery.UNSIGNED)

    def test_a_message_is_valid_on_its_channel_only(self) -> None:
        raw = Sealer(OTHER_TOKEN, KEYED).message(CHANNEL, b"7data")
        for channel in (b"chatd:u2", b"chatd:u", b"chatd:g1", b"other:u1", CHANNEL + b"7"):
            assert reason_of(Opener(KEYED), channel, raw) is Forgery.SIGNATURE

    def test_an_unsigned_message_is_refused_unless_that_is_allowed(self) -> None:
        raw = unsigned(1, 1, b"data")
        assert reason_of(Opener(KEYED), CHANNEL, raw) is Forgery.UNSIGNED
        assert reason_of(Opener(KEYED), CHANNEL, unsigned(1, 1, bytes(100))) is Forgery.UNSIGNED
        assert Opener(Keyring([KEY], accepts_unsigned=True)).content(CHANNEL, raw) == b"data"

    def test_a_wrong_signature_is_refused_even_where_none_is_needed(self) -> None:
        raw = Sealer(OTHER_TOKEN, Keyring(["another key"])).message(CHANNEL, b"data")
        assert reason_of(Opener(Keyring([KEY], accepts_unsigned=True)), CHANNEL, raw) is Forgery.SIGNATURE

    def test_a_host_without_keys_reads_a_signed_message(self) -> None:
        """While a key is introduced on one host after the other."""
        assert Opener(OPEN).content(CHANNEL, Sealer(OTHER_TOKEN, KEYED).message(CHANNEL, b"data")) == b"data"

    def test_keys_are_replaced_in_three_steps(self) -> None:
        """Each host takes each step at a time of its own, so neighbouring steps understand each other."""
        steps = [Keyring(["old"]), Keyring(["old", "new"]), Keyring(["new", "old"]), Keyring(["new"])]
        for one, other in itertools.pairwise(steps):
            for writer, reader in ((one, other), (other, one)):
                raw = Sealer(OTHER_TOKEN, writer).message(CHANNEL, b"data")
                assert reason_of(Opener(reader), CHANNEL, raw) is None
        raw = Sealer(OTHER_TOKEN, steps[0]).message(CHANNEL, b"data")
        assert reason_of(Opener(steps[3]), CHANNEL, raw) is Forgery.SIGNATURE

    def test_an_entry_of_a_hash_is_valid_under_its_name_only(self) -> None:
        body = b'{"token":"t","more":{"signature":"x"}}'
        value = KEYED.signed_json(b"workers\0t", body)
        assert KEYED.verified_json(b"workers\0t", value) == body
        assert msgspec.json.decode(value)["token"] == "t"
        assert KEYED.verified_json(b"workers\0u", value) is None
        assert KEYED.verified_json(b"workers\0t", value.replace(b'"t"', b'"u"')) is None
        for forged in (body, b"", b'{"signature":"zz"}', value[:-4] + b'00"}', b'{,"signature":"\xff"}'):
            assert KEYED.verified_json(b"workers\0t", forged) is None
        assert OPEN.verified_json(b"workers\0t", value) == body
        assert OPEN.verified_json(b"workers\0t", body) == OPEN.signed_json(b"workers\0t", body) == body


class TestReplay:
    def test_a_message_is_taken_once(self) -> None:
        sealer, opener = Sealer(OTHER_TOKEN, KEYED), Opener(KEYED)
        first, second = sealer.message(CHANNEL, b"1"), sealer.message(CHANNEL, b"2")
        assert opener.content(CHANNEL, first) == b"1"
        assert reason_of(opener, CHANNEL, first) is Forgery.REPLAYED
        assert opener.content(CHANNEL, second) == b"2"
        assert reason_of(opener, CHANNEL, first) is Forgery.REPLAYED
        assert reason_of(opener, CHANNEL, second) is Forgery.REPLAYED

    def test_publishers_do_not_disturb_each_other(self) -> None:
        opener = Opener(KEYED)
        late = Sealer(b"a" * 8, KEYED).message(CHANNEL, b"a")
        assert opener.content(CHANNEL, Sealer(b"b" * 8, KEYED).message(CHANNEL, b"b")) == b"b"
        assert opener.content(CHANNEL, late) == b"a"

    def test_an_old_message_of_a_publisher_not_met_before_is_refused(self) -> None:
        now, second = time.time_ns(), 1_000_000_000
        for away_s in (-CLOCKS_APART_S - 5, CLOCKS_APART_S + 5, -86_400):
            raw = signed_by_hand(now + away_s * second, b"data")
            assert reason_of(Opener(KEYED), CHANNEL, raw) is Forgery.CLOCK
        for away_s in (-CLOCKS_APART_S + 5, CLOCKS_APART_S - 5):
            assert reason_of(Opener(KEYED), CHANNEL, signed_by_hand(now + away_s * second, b"data")) is None

    def test_a_publisher_met_before_may_be_late(self) -> None:
        opener, longest_ago = Opener(KEYED), time.time_ns() - (CLOCKS_APART_S - 5) * 1_000_000_000
        assert reason_of(opener, CHANNEL, signed_by_hand(longest_ago, b"1")) is None
        assert reason_of(opener, CHANNEL, signed_by_hand(longest_ago + 1, b"2")) is None

    def test_a_recorded_message_that_its_reader_missed_is_refused_later(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """The reader knows the publisher, and has heard nothing newer of it."""
        opener, now = Opener(KEYED), time.time_ns()
        assert reason_of(opener, CHANNEL, signed_by_hand(now, b"heard")) is None
        missed = signed_by_hand(now + 1, b"missed and recorded")
        monkeypatch.setattr(time, "time_ns", lambda: now + (LATE_S + 1) * 1_000_000_000)
        assert reason_of(opener, CHANNEL, missed) is Forgery.LATE
        monkeypatch.setattr(time, "time_ns", lambda: now + (LATE_S - 1) * 1_000_000_000)
        assert reason_of(opener, CHANNEL, missed) is None, "Redis may have held it up"

    def test_a_message_is_not_taken_again_on_another_way(self) -> None:
        """A slot of a Redis Cluster has moved to another node."""
        sealer, one, other = Sealer(OTHER_TOKEN, KEYED), Opener(KEYED), Opener(KEYED)
        raw = sealer.message(CHANNEL, b"data")
        assert one.content(CHANNEL, raw) == b"data"
        Opener.level([one, other])
        assert reason_of(other, CHANNEL, raw) is Forgery.REPLAYED
        assert reason_of(other, CHANNEL, sealer.message(CHANNEL, b"next")) is None


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
        place.keys = ()

        def publish(channel: str, version: int, oldest: int, data: bytes) -> None:
            other.publish(f"{place.prefix}:{channel}", unsigned(version, oldest, data))

        async def scenario(stage: Stage) -> None:
            a = await stage.member()
            await a.bus.subscribe([1 << 2])
            publish("u1", VERSION + 1, VERSION, b"readable")
            await a.until_received(1)
            # A word nobody here knows, one that has grown, and a worker that says more of itself.
            publish("all", VERSION + 1, VERSION, msgspec.msgpack.encode(("unheard", 1)))
            publish("all", VERSION + 1, VERSION, msgspec.msgpack.encode(("bye", "nobody", "more")))
            worker = {"token": "newer", "epoch": 1, "host": "h", "zone": "a later field"}
            publish("all", VERSION + 1, VERSION, msgspec.msgpack.encode(("hello", worker, "more")))
            publish("u1", VERSION, VERSION, b"still here")
            await a.until_received(2)
            assert a.gaps == 0
            publish("u1", VERSION + 2, VERSION + 1, b"not readable")
            await a.until_gap()
            other.publish(f"{place.prefix}:u1", b"rubbish")
            other.publish(f"{place.prefix}:all", unsigned(VERSION, VERSION, b"\xc1"))
            publish("u1", VERSION, VERSION, b"the last")
            await a.until_received(3)
            await a.until_gap(1)
            assert [data for _, data in a.received] == [b"readable", b"still here", b"the last"]
            assert a.bus.healthy

        play(place, scenario)
        other.close()
