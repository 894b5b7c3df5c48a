"""The bytes of every message between workers stay as hosts of the version before wrote them."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from chatd.bus.contract import EVERYBODY
from chatd.core import bus_messages as said
from chatd.model import FriendRequest, Message, User
from tests.core.stage import Stage, play

ALICE = User(1, "alice")
MESSAGE = Message(
    conversation=7, seq=3, sender_id=1, sender_name="alice", to_id=2, to_name="bob", group_id=0, body="hello",
    fp="fp", qos=True, typeu=-1, sent_at_ms=1_700_000_000_000,
)  # fmt: skip
IN_FIELDS = [7, 3, 1, "alice", 2, "bob", 0, "hello", "fp", True, -1, 1_700_000_000_000]

EXAMPLES: list[tuple[said.BusMessage, list[object]]] = [
    (said.SessionChallenge(1, 2, 5, 9, 250, True), [2, 1, 2, 5, 9, 250, True]),
    (said.SessionVerdict(9, True, 5, True), [3, 9, True, 5, True]),
    (said.GroupJoined(1, 4), [4, 1, 4]),
    (said.FriendRequestAnswered(ALICE, 2, False), [6, {"id": 1, "name": "alice"}, 2, False]),
    (said.GroupLeft(1, 4, True), [7, 1, 4, True]),
    (said.GroupNotice(4, "text"), [8, 4, "text"]),
    (said.UserNotice(1, "text"), [9, 1, "text"]),
    (said.PresenceChanged(1, True), [10, 1, True]),
    (said.SessionEnded(1, 2), [11, 1, 2]),
    (said.SessionsAsked(1, 9), [12, 1, 9]),
    (said.SessionsAnswered(9, said.SessionInfo(2, 5, "host:1")), [13, 9, [2, 5, "host:1"]]),
    (said.KickAsked(1, "tea", 9, 250), [14, 1, "tea", 9, 250]),
    (said.KickAnswered(9, 2, "bus 1"), [15, 9, 2, "bus 1"]),
    (
        said.PenaltiesCounted((said.PenaltyRecord(1, "192.0.2.1", 3000, 20, 9000),)),
        [16, [[1, "192.0.2.1", 3000, 20, 9000]]],
    ),
    (said.PenaltiesCleared(("192.0.2.1", "7")), [17, ["192.0.2.1", "7"]]),
    (said.WorkerSessionsAsked(1, 9), [18, 1, 9]),
    (
        said.WorkerSessionsAnswered(9, "bus 1", "a", 2, (said.SessionInfo(2, 5, "host:1"),)),
        [19, 9, "bus 1", "a", 2, [[2, 5, "host:1"]]],
    ),
    (said.SessionEnded(1, 0, 4), [11, 1, 0, 4]),
    (said.KickAsked(1, "tea", 9, 250, 4), [14, 1, "tea", 9, 250, 4]),
    (said.AllowanceSpent(1, 6), [22, 1, 6]),
]


@pytest.mark.parametrize(("message", "array"), EXAMPLES, ids=lambda value: type(value).__name__)
def test_a_message_is_an_array_with_its_tag(message: said.BusMessage, array: list[object]) -> None:
    decoded = msgspec.msgpack.decode(said.encode(message))
    assert decoded[: len(array)] == array
    assert said.decode(msgspec.msgpack.encode(array)) == message


def test_messages_with_a_struct_in_them() -> None:
    fields = dict(zip(Message.__struct_fields__, IN_FIELDS, strict=False))
    assert said.decode(msgspec.msgpack.encode([1, fields])) == said.MessageStored(MESSAGE)
    request = {"sender": {"id": 1, "name": "alice"}, "to": 2}
    assert said.decode(msgspec.msgpack.encode([5, request])) == said.FriendRequestSent(FriendRequest(ALICE, 2))


@pytest.mark.parametrize(
    ("array", "message"),
    [
        ([2, 1, 2, 5, 9], said.SessionChallenge(1, 2, 5, 9, 0, False)),
        ([3, 9, True], said.SessionVerdict(9, True, 0, False)),
        ([10, 1], said.PresenceChanged(1, False)),
        ([11, 1, 2], said.SessionEnded(1, 2, 0)),
        ([14, 1, "tea", 9, 250], said.KickAsked(1, "tea", 9, 250, 0)),
        ([14, 1, "tea", 9], said.KickAsked(1, "tea", 9, 0)),
        ([15, 9, 2], said.KickAnswered(9, 2, "")),
    ],
)
def test_what_the_first_version_said_is_still_understood(array: list[object], message: said.BusMessage) -> None:
    assert said.decode(msgspec.msgpack.encode(array)) == message


@pytest.mark.parametrize(
    "data", [b"", b"\x93\x09\x01\xa1\xff", b"\x94\x09\x01\xa1x" + b"\x91" * 50_000, b"\x92\x63\x01"]
)
def test_bytes_that_nobody_writes_are_dropped(tmp_path: Path, data: bytes) -> None:
    """Nothing, no UTF-8, arrays in arrays without end, and a tag of a later version."""

    async def story(stage: Stage) -> None:
        worker = await stage.worker()
        worker.core.on_bus_message(EVERYBODY, data)

    play(tmp_path, story)
