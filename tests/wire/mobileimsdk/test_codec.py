"""The MobileIMSDK wire: docs/protocols/mobileimsdk.md, row by row."""

from __future__ import annotations

import json
import struct
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chatd.config.schema import LimitOptions
from chatd.errors import ErrorCode, WireError
from chatd.model import FriendRequest, Group, Message, User
from chatd.protocol import (
    Accepted,
    Acknowledge,
    Command,
    Deliver,
    Draining,
    Echo,
    Echoed,
    Event,
    Failed,
    FriendAnswered,
    FriendRequested,
    GroupReady,
    KeepAlive,
    KeptAlive,
    Kicked,
    Login,
    LoginAccepted,
    Logout,
    Malformed,
    Registered,
    SendMessage,
    ServerMessage,
    ServerRequest,
)
from chatd.wire.mobileimsdk.codec import APART, MAX_PACKET_BYTES, Framing, MobileimsdkCodec
from chatd.wire.skipped import MAX_SKIPPED_FRAME_BYTES
from tests.wire.drive import hear, objects, three_ways

BODY, FP = 4096, 64
ALICE, BOB = User(1, "alice"), User(2, "bob")


def make() -> MobileimsdkCodec:
    return MobileimsdkCodec(0, BODY, FP)


def logged_in(limit: int = 0) -> MobileimsdkCodec:
    codec = MobileimsdkCodec(limit, BODY, FP)
    codec.encode_login(LoginAccepted(ALICE, 7))
    return codec


def framed(body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + body


def packet(**fields: Any) -> bytes:
    if "sender" in fields:
        fields["from"] = fields.pop("sender")
    return framed(json.dumps(fields, ensure_ascii=False).encode())


def unframed(frame: bytes) -> dict[str, Any]:
    """The one packet in `frame`."""
    assert struct.unpack(">I", frame[:4])[0] == len(frame) - 4
    found: dict[str, Any] = json.loads(frame[4:])
    return found


def login(**body: Any) -> bytes:
    return packet(type=0, dataContent=json.dumps(body), sender="alice", to="0", QoS=True, fp="x")


def malformed(code: ErrorCode, ref: int, fp: str = "") -> tuple[ErrorCode, int, str]:
    return code, ref, fp


KEEP_ALIVE = (packet(type=1, dataContent="{}", sender="alice", to="0"), KeepAlive())

JAVA = (
    b'{"bridge":false,"type":2,"dataContent":"1 \\u003d 2 \\u003c \\u0026 \\u0027","from":"a","to":"bob",'
    b'"fp":"f","QoS":true,"typeu":3,"sm":-1}'
)

RECEIVED: list[tuple[str, bytes, Command]] = [
    ("login", login(loginUserId="alice", loginToken="secret", firstLoginTime=0), Login("alice", 0, "secret", 0)),
    ("login again", login(loginUserId="1", loginToken="s", extra="e", firstLoginTime=9), Login("1", 0, "s", 9)),
    ("login, token", login(loginUserId="a", datagramToken=True), Login("a", 0, "", 0, wants_token=True)),
    ("login, least", packet(dataContent='{"loginUserId":"a"}'), Login("a", 0, "", 0)),
    ("login, nulls", login(loginUserId="a", loginToken=None, extra=None, firstLoginTime=None), Login("a", 0, "", 0)),
    ("type null is 0", packet(type=None, dataContent='{"loginUserId":"a"}'), Login("a", 0, "", 0)),
    ("keep-alive", *KEEP_ALIVE),
    ("keep-alive, bare", packet(type=1), KeepAlive()),
    ("text", packet(type=2, dataContent="hi", to="bob", fp="f", QoS=True), SendMessage("bob", 0, 0, "hi", "f", True)),
    ("text, Java's escapes", framed(JAVA), SendMessage("bob", 0, 0, "1 = 2 < & '", "f", True, 3)),
    ("text, no QoS", packet(type=2, dataContent="hi", to="bob"), SendMessage("bob", 0, 0, "hi")),
    (
        "text, nulls",
        packet(type=2, dataContent=None, to="b", fp=None, QoS=None, typeu=None),
        SendMessage("b", 0, 0, ""),
    ),
    ("text, any from", packet(type=2, dataContent="x", sender="mallory", to="b"), SendMessage("b", 0, 0, "x")),
    ("text, unknown field", packet(type=2, dataContent="x", to="b", more={"a": [1]}), SendMessage("b", 0, 0, "x")),
    ("text, raw UTF-8", packet(type=2, dataContent="é😀", to="bøb"), SendMessage("bøb", 0, 0, "é😀")),
    ("text with NUL", packet(type=2, dataContent="a\0b", to="b"), SendMessage("b", 0, 0, "a\0b")),
    ("text like JSON", packet(type=2, dataContent='{"a":[1]}', to="b"), SendMessage("b", 0, 0, '{"a":[1]}')),
    ("text, many braces", packet(type=2, dataContent="{" * 99, to="b"), SendMessage("b", 0, 0, "{" * 99)),
    ("to a number", packet(type=2, dataContent="x", to="17"), SendMessage("17", 0, 0, "x")),
    ("to nobody", packet(type=2, dataContent="x"), SendMessage("-1", 0, 0, "x")),
    ("to a group", packet(type=2, dataContent="x", to="#12", typeu=5), SendMessage("", 0, 12, "x", "", False, 5)),
    ("to no group", packet(type=2, dataContent="x", to="#"), SendMessage("#", 0, 0, "x")),
    ("to group 0", packet(type=2, dataContent="x", to="#0"), SendMessage("#0", 0, 0, "x")),
    ("to group 007", packet(type=2, dataContent="x", to="#007"), SendMessage("#007", 0, 0, "x")),
    ("to group ²", packet(type=2, dataContent="x", to="#²"), SendMessage("#²", 0, 0, "x")),
    ("to group 10^30", packet(type=2, dataContent="x", to="#1" + "0" * 30), SendMessage("#1" + "0" * 30, 0, 0, "x")),
    ("to the server", packet(type=2, dataContent="x", to="0", fp="f", QoS=True), ServerRequest("x", "f", True)),
    ("logout", packet(type=3), Logout()),
    ("acknowledgement", packet(type=4, dataContent="f-1", sender="alice", to="bob"), Acknowledge("f-1")),
    ("echo", packet(type=5, dataContent="e"), Echo(packet(type=5, dataContent="e")[4:])),
]


@pytest.mark.parametrize(("frame", "command"), [row[1:] for row in RECEIVED], ids=[row[0] for row in RECEIVED])
def test_received(frame: bytes, command: Command) -> None:
    three_ways(make, frame, command, KEEP_ALIVE)


REFUSED: list[tuple[str, bytes, tuple[ErrorCode, int, str]]] = [
    ("unknown type", packet(type=6, fp="f"), malformed(ErrorCode.INVALID_PACKET, 6, "f")),
    ("a server's type", packet(type=50), malformed(ErrorCode.INVALID_PACKET, 50)),
    ("negative type", packet(type=-2), malformed(ErrorCode.INVALID_PACKET, -2)),
    ("huge type", packet(type=2**70), malformed(ErrorCode.INVALID_PACKET, 0)),
    ("type of 5,000 digits", framed(b'{"type":1%b}' % (b"0" * 5000)), malformed(ErrorCode.BAD_FIELD, 0)),
    ("type a string", packet(type="2", to="b", fp="f"), malformed(ErrorCode.BAD_FIELD, 0, "f")),
    ("type a bool", packet(type=True), malformed(ErrorCode.BAD_FIELD, 0)),
    ("type a float", framed(b'{"type":2.0,"to":"b"}'), malformed(ErrorCode.BAD_FIELD, 0)),
    ("to an int", packet(type=2, to=5, fp="f"), malformed(ErrorCode.BAD_FIELD, 2, "f")),
    ("to empty", packet(type=2, to="", fp="f"), malformed(ErrorCode.BAD_FIELD, 2, "f")),
    ("to null", packet(type=2, to=None), malformed(ErrorCode.BAD_FIELD, 2)),
    ("text an object", packet(type=2, to="b", dataContent={}, fp="f"), malformed(ErrorCode.BAD_FIELD, 2, "f")),
    ("QoS an int", packet(type=2, to="b", QoS=1), malformed(ErrorCode.BAD_FIELD, 2)),
    ("fp an int", packet(type=2, to="b", fp=1), malformed(ErrorCode.BAD_FIELD, 2)),
    ("typeu too big", packet(type=2, to="b", typeu=2**31), malformed(ErrorCode.BAD_FIELD, 2)),
    ("QoS without fp", packet(type=2, to="b", QoS=True), malformed(ErrorCode.BAD_FIELD, 2)),
    ("QoS, fp empty", packet(type=2, to="b", QoS=True, fp=""), malformed(ErrorCode.BAD_FIELD, 2)),
    ("fp too long", packet(type=2, to="b", fp="f" * 65), malformed(ErrorCode.TOO_LONG, 2, "f" * 65)),
    ("fp too long in bytes", packet(type=2, to="b", fp="é" * 33), malformed(ErrorCode.TOO_LONG, 2, "é" * 33)),
    ("text too long", packet(type=2, to="b", fp="f", dataContent="x" * 4097), malformed(ErrorCode.TOO_LONG, 2, "f")),
    ("in bytes", packet(type=2, to="b", fp="f", dataContent="é" * 2049), malformed(ErrorCode.TOO_LONG, 2, "f")),
    ("request too long", packet(type=2, to="0", dataContent="x" * 4097), malformed(ErrorCode.TOO_LONG, 2)),
    ("login, no body", packet(type=0), malformed(ErrorCode.BAD_FIELD, 0)),
    ("login, no JSON", packet(type=0, dataContent="{"), malformed(ErrorCode.BAD_FIELD, 0)),
    ("login, nested", packet(type=0, dataContent='{"x":' + "[" * 2900), malformed(ErrorCode.BAD_FIELD, 0)),
    ("login, no name", packet(type=0, dataContent='{"loginToken":"x"}'), malformed(ErrorCode.BAD_FIELD, 0)),
    ("login, name empty", packet(type=0, dataContent='{"loginUserId":""}'), malformed(ErrorCode.BAD_FIELD, 0)),
    ("login, name an int", packet(type=0, dataContent='{"loginUserId":1}'), malformed(ErrorCode.BAD_FIELD, 0)),
    ("acknowledges nothing", packet(type=4), malformed(ErrorCode.BAD_FIELD, 4)),
    ("echo too long", packet(type=5, dataContent="x" * 6114), malformed(ErrorCode.TOO_LONG, 5)),
]


@pytest.mark.parametrize(("frame", "expected"), [row[1:] for row in REFUSED], ids=[row[0] for row in REFUSED])
def test_refused_and_the_connection_stays(frame: bytes, expected: tuple[ErrorCode, int, str]) -> None:
    codec = logged_in()
    commands, error = hear(codec, [frame + KEEP_ALIVE[0]])
    assert error is None
    bad, after = commands
    assert after == KEEP_ALIVE[1]
    assert isinstance(bad, Malformed)
    assert (bad.code, bad.ref, bad.fp) == expected
    answer = unframed(codec.encode(Failed(bad.code, bad.text, bad, bad.ref)))
    assert (answer["type"], answer["from"], answer["to"]) == (52, "0", "-1")
    inner = objects(answer["dataContent"])
    assert inner["errorCode"] == bad.code
    assert objects(inner["errorMsg"]) == {"fp": bad.fp[:FP], "text": bad.text, "temporary": False}


def nested(levels: int) -> bytes:
    return framed(b'{"type":1,"x":' + b"[" * (levels - 1) + b"]" * (levels - 1) + b"}")


GARBAGE: list[tuple[str, bytes]] = [
    ("no bytes", framed(b"")),
    ("over the limit", struct.pack(">I", MAX_PACKET_BYTES + 1)),
    ("far over the limit", b"GET / HTTP/1.1\r\n"),
    ("not JSON", framed(b"hello")),
    ("JSON cut short", framed(b'{"type":1')),
    ("two objects", framed(b'{"type":1}{"type":1}')),
    ("an array", framed(b"[1]")),
    ("a string", framed(b'"type"')),
    ("null", framed(b"null")),
    ("bad UTF-8 in a text", framed(b'{"type":2,"to":"b","dataContent":"\xff"}')),
    ("bad UTF-8 in an unknown field", framed(b'{"type":1,"x":"\xff"}')),
    ("bad UTF-8 in a name", framed(b'{"type":1,"\xff":1}')),
    ("bad UTF-8 after a wrong field", framed(b'{"type":"1","x":"\xff"}')),
    ("half a surrogate pair", framed(b'{"type":1,"dataContent":"\\ud800"}')),
    ("a raw NUL", framed(b'{"type":1,"dataContent":"\0"}')),
    ("17 levels", nested(17)),
    ("3,000 levels", nested(3000)),
    ("17 levels in a known field", framed(b'{"type":1,"to":' + b"[" * 16 + b"]" * 16 + b"}")),
    ("17 levels of objects", framed(b'{"type":1,"x":' + b'{"a":' * 16 + b"1" + b"}" * 17)),
]


@pytest.mark.parametrize("garbage", [row[1] for row in GARBAGE], ids=[row[0] for row in GARBAGE])
def test_garbage_ends_it_after_the_good_commands(garbage: bytes) -> None:
    codec = make()
    commands, error = hear(codec, [KEEP_ALIVE[0] + garbage])
    assert commands == [KEEP_ALIVE[1]]
    assert error is not None
    answer = unframed(codec.encode(Failed(error.code, error.text, None, error.ref)))
    inner = objects(answer["dataContent"])
    assert (answer["type"], answer["to"], inner["errorCode"]) == (52, "-1", 4)
    assert objects(inner["errorMsg"])["text"] == error.text


def test_a_length_over_the_limit_is_refused_before_its_body_comes() -> None:
    with pytest.raises(WireError):
        list(make().receive(struct.pack(">I", MAX_PACKET_BYTES + 1)))


def test_sixteen_levels_are_not_too_deep() -> None:
    assert hear(make(), [nested(16)]) == ([KeepAlive()], None)


def test_the_limit_is_the_body_s() -> None:
    body = b'{"type":1,"x":"' + b"x" * (MAX_PACKET_BYTES - 17) + b'"}'
    assert len(body) == MAX_PACKET_BYTES
    assert hear(make(), [framed(body)]) == ([KeepAlive()], None)
    assert hear(MobileimsdkCodec(100, BODY, FP), [framed(body)])[1] is not None
    assert hear(MobileimsdkCodec(len(body), BODY, FP), [framed(body)])[1] is None


# ---------------------------------------------------------------- packets over the limit


def long_packet(size: int, fp: str = "f-1") -> bytes:
    """A framed packet of `size` bytes, its fields in the order of the stock clients."""
    start, end = '{"bridge":false,"type":2,"dataContent":"', f'","from":"a","to":"b","fp":"{fp}","QoS":true}}'
    return framed(f"{start}{'x' * (size - len(start) - len(end))}{end}".encode())


@pytest.mark.parametrize("size", [MAX_PACKET_BYTES + 1, 20_000, MAX_SKIPPED_FRAME_BYTES])
@pytest.mark.parametrize("step", [1, 3, 1000, 10**7])
def test_a_packet_over_the_limit_is_refused_with_its_fp_and_the_connection_stays(size: int, step: int) -> None:
    if size // step > 100_000:
        step = 100
    codec = logged_in()
    stream = KEEP_ALIVE[0] + long_packet(size) + KEEP_ALIVE[0] + long_packet(size, "f-2") + KEEP_ALIVE[0]
    commands, error = hear(codec, [stream[at : at + step] for at in range(0, len(stream), step)])
    assert error is None
    assert [type(one) for one in commands] == [KeepAlive, Malformed, KeepAlive, Malformed, KeepAlive]
    refused = commands[1]
    assert isinstance(refused, Malformed)
    assert (refused.code, refused.fp) == (ErrorCode.TOO_LONG, "f-1")
    inner = objects(unframed(codec.encode(Failed(refused.code, refused.text, refused, 0)))["dataContent"])
    assert inner["errorCode"] == ErrorCode.TOO_LONG
    assert objects(inner["errorMsg"])["fp"] == "f-1"
    assert codec.buffered_bytes == 0


def test_what_is_skipped_is_not_kept() -> None:
    codec, most = logged_in(), 0
    stream = long_packet(500_000)
    for at in range(0, len(stream), 100):
        list(codec.receive(stream[at : at + 100]))
        most = max(most, codec.buffered_bytes)
    assert most < 10_000


def test_before_a_login_and_over_the_bounds_a_packet_over_the_limit_ends_the_connection() -> None:
    assert hear(make(), [long_packet(MAX_PACKET_BYTES + 1)])[1] is not None
    assert hear(logged_in(), [struct.pack(">I", MAX_SKIPPED_FRAME_BYTES + 1)])[1] is not None
    assert hear(logged_in(), [struct.pack(">I", 0)])[1] is not None
    codec, most = logged_in(), long_packet(MAX_SKIPPED_FRAME_BYTES)
    assert hear(codec, [most, most])[1] is None
    codec.next_second()
    commands, error = hear(codec, [most, most, most])
    assert len(commands) == 2
    assert error is not None


def test_a_text_of_the_longest_packet_of_a_stock_client_is_admitted_and_delivered_whole() -> None:
    """With the default of limits.body_bytes. The server adds its time, and leaves out what readers assume."""
    head = '{"bridge":false,"type":2,"dataContent":"'
    tail = '","from":"bob","to":"alice","fp":"8f14e45f-ceea-467f-a8d9-f1c6a3b8f6d1","QoS":true,"typeu":-1,"sm":-1}'
    body = "x" * (MAX_PACKET_BYTES - len(head) - len(tail))
    sent = f"{head}{body}{tail}".encode()
    assert len(sent) == MAX_PACKET_BYTES
    limits = LimitOptions()
    codec = MobileimsdkCodec(0, limits.body_bytes, limits.fp_bytes)
    codec.encode_login(LoginAccepted(BOB, 7))
    (command,) = list(codec.receive(framed(sent)))
    assert isinstance(command, SendMessage)
    assert command.body == body
    stored = Message(
        conversation=5, seq=9, sender_id=2, sender_name="bob", to_id=1, to_name="alice", group_id=0,
        body=command.body, fp=command.fp, qos=command.qos, typeu=command.typeu, sent_at_ms=1234567890123,
    )  # fmt: skip
    frame = logged_in().encode(Deliver(stored, stored.fp, {}))
    assert len(frame) <= MAX_PACKET_BYTES + 4
    given = unframed(frame)
    assert (given["dataContent"], given["fp"], given["QoS"], given["sm"]) == (body, stored.fp, True, 1234567890123)
    assert (given["from"], given["to"], given["type"]) == ("bob", "alice", 2)


def apart(limit: int = 0) -> MobileimsdkCodec:
    """For a transport that keeps packets apart."""
    return MobileimsdkCodec(limit, BODY, FP, framing=APART)


@pytest.mark.parametrize(("frame", "command"), [row[1:] for row in RECEIVED], ids=[row[0] for row in RECEIVED])
def test_received_apart(frame: bytes, command: Command) -> None:
    assert hear(apart(), [KEEP_ALIVE[0][4:], frame[4:]]) == ([KEEP_ALIVE[1], command], None)


@pytest.mark.parametrize("garbage", [b"", b"hello", b'{"type":1}{"type":1}', b'{"type":1,"x":"' + b"x" * 6144 + b'"}'])
def test_garbage_apart(garbage: bytes) -> None:
    commands, error = hear(apart(), [KEEP_ALIVE[0][4:], garbage])
    assert (commands, error is None) == ([KEEP_ALIVE[1]], False)


# ---------------------------------------------------------------- events


def message(text: str = "hi", fp: str = "f-1", group: int = 0, typeu: int = -1) -> Message:
    return Message(
        conversation=5, seq=9, sender_id=2, sender_name="bob", to_id=0 if group else 1,
        to_name="" if group else "alice", group_id=group, body=text, fp=fp, qos=True, typeu=typeu,
        sent_at_ms=1234567890123,
    )  # fmt: skip


def plain(kind: int, content: str, sender: str, to: str) -> bytes:
    text = f'{{"bridge":false,"type":{kind},"dataContent":{json.dumps(content)},"from":"{sender}","to":"{to}"'
    return framed((text + ',"QoS":false,"typeu":-1,"sm":-1}').encode())


def notice(content: str) -> bytes:
    return plain(2, content, "0", "alice")


def failed(content: dict[str, Any], code: int) -> bytes:
    compact = json.dumps(content, separators=(",", ":"))
    return plain(52, json.dumps({"errorCode": code, "errorMsg": compact}, separators=(",", ":")), "0", "-1")


REFUSED_TEXT = SendMessage("nobody", 0, 0, "x", "f-9", True)

SENT: list[tuple[str, Event, bytes]] = [
    ("login", LoginAccepted(ALICE, 77), plain(50, '{"code":0,"firstLoginTime":77}', "0", "alice")),
    (
        "login refused",
        Failed(ErrorCode.BAD_CREDENTIALS, "no", Login("x", 0, "y")),
        plain(50, '{"code":1025,"firstLoginTime":-1}', "0", "-1"),
    ),
    ("kept alive", KeptAlive(), plain(51, "{}", "0", "alice")),
    ("accepted", Accepted(SendMessage("bob", 0, 0, "x", "f", True), 1, 2), plain(4, "f", "bob", "alice")),
    ("accepted, group", Accepted(SendMessage("", 0, 12, "x", "f", True), 1, 2), plain(4, "f", "#12", "alice")),
    ("accepted, number", Accepted(SendMessage("17", 0, 0, "x", "f", True), 1, 2), plain(4, "f", "17", "alice")),
    ("request served", Accepted(ServerRequest("x", "f", True), 0, 0), plain(4, "f", "0", "alice")),
    ("accepted, no QoS", Accepted(SendMessage("bob", 0, 0, "x", "f"), 1, 2), b""),
    (
        "text",
        Deliver(message('"é\n', typeu=4), "f-1", {}),
        framed(
            '{"bridge":false,"type":2,"dataContent":"\\"é\\n","from":"bob","to":"alice","fp":"f-1","QoS":true,'
            '"typeu":4,"sm":1234567890123}'.encode()
        ),
    ),
    (
        "text, no QoS",
        Deliver(message(), "", {}),
        framed(
            b'{"bridge":false,"type":2,"dataContent":"hi","from":"bob","to":"alice","QoS":false,"typeu":-1,"sm":1234567890123}'
        ),
    ),
    (
        "text of a group",
        Deliver(message(group=12), "f-1", {}),
        framed(
            b'{"bridge":false,"type":2,"dataContent":"hi","from":"bob","to":"#12","fp":"f-1","QoS":true,'
            b'"typeu":-1,"sm":1234567890123}'
        ),
    ),
    ("echo", Echoed(b'{ "x":1.50, "type":5,"y":"\\u003d"}'), framed(b'{"x":1.50,"type":53,"y":"\\u003d"}')),
    ("kicked", Kicked(False, ""), plain(54, '{"code":1}', "0", "alice")),
    ("kicked by admin", Kicked(True, "bye"), plain(54, '{"code":2,"reason":"bye"}', "0", "alice")),
    ("friend request", FriendRequested(FriendRequest(BOB, 1)), b""),
    ("friend accepted", FriendAnswered(BOB, 1, True), b""),
    ("group joined", GroupReady(Group(12, "g", "d"), False), b""),
    (
        "text of the server",
        ServerMessage('{"ref":1,"ok":true}', "s-1"),
        framed(
            b'{"bridge":false,"type":2,"dataContent":"{\\"ref\\":1,\\"ok\\":true}","from":"0","to":"alice","fp":"s-1",'
            b'"QoS":true,"typeu":-1,"sm":-1}'
        ),
    ),
    ("draining", Draining(5000, 70), notice('{"event":"draining","resume_before":5000,"retry_after_ms":70}')),
    (
        "refused",
        Failed(ErrorCode.UNKNOWN_RECIPIENT, "no such user", REFUSED_TEXT),
        failed({"fp": "f-9", "text": "no such user", "temporary": False}, 1032),
    ),
    (
        "refused for now",
        Failed(ErrorCode.UNAVAILABLE, "later", REFUSED_TEXT),
        failed({"fp": "f-9", "text": "later", "temporary": True}, 1040),
    ),
    ("not of this wire", Registered(ALICE), b""),
]


@pytest.mark.parametrize(("event", "frame"), [row[1:] for row in SENT], ids=[row[0] for row in SENT])
def test_sent(event: Event, frame: bytes) -> None:
    assert logged_in().encode(event) == frame


@pytest.mark.parametrize(("event", "frame"), [row[1:] for row in SENT], ids=[row[0] for row in SENT])
def test_sent_apart(event: Event, frame: bytes) -> None:
    codec = apart()
    codec.encode_login(LoginAccepted(ALICE, 7))
    assert codec.encode(event) == frame[4:]


def test_a_fan_out_over_both_kinds_of_transport() -> None:
    event = Deliver(message(), "f-1", {})
    together, single = logged_in().encode(event), apart().encode(event)
    assert together == framed(single)
    assert (logged_in().encode(event), apart().encode(event)) == (together, single)
    assert len(apart(len(single) - 1).encode(event)) < len(single)


def test_not_logged_in_returns_the_refused_packet() -> None:
    codec = make()
    first = packet(type=2, dataContent="é", to="b")
    for command in codec.receive(first + packet(type=1)):
        refused = codec.encode(Failed(ErrorCode.NOT_LOGGED_IN, "not logged in", command))
        inner = objects(unframed(refused)["dataContent"])
        assert inner["errorCode"] == 301
        assert objects(inner["errorMsg"])["type"] == (2 if isinstance(command, SendMessage) else 1)


def test_the_packet_in_a_refusal_is_that_of_the_command() -> None:
    """Whatever has been read since, and on whatever codec it is encoded."""
    codec = make()
    first, second = codec.receive(packet(type=2, dataContent="a", to="b", sender="x") + packet(type=1))
    for other in (codec, make()):
        inner = objects(unframed(other.encode(Failed(ErrorCode.NOT_LOGGED_IN, "", first)))["dataContent"])
        assert objects(inner["errorMsg"]) == {"type": 2, "dataContent": "a", "to": "b", "from": "x"}
        inner = objects(unframed(other.encode(Failed(ErrorCode.NOT_LOGGED_IN, "", second)))["dataContent"])
        assert objects(inner["errorMsg"]) == {"type": 1}


def test_nothing_is_kept_of_a_packet_after_the_login() -> None:
    for frame in (packet(type=1), packet(type=2, dataContent="a", to="b"), packet(type=4, dataContent="f")):
        (command,) = list(logged_in().receive(frame))
        assert command.packet == b""  # type: ignore[union-attr]


def test_a_refused_packet_that_does_not_fit_is_cut() -> None:
    codec = make()
    for command in codec.receive(packet(type=2, dataContent='"' * 3000, to="b")):
        refused = codec.encode(Failed(ErrorCode.NOT_LOGGED_IN, "not logged in", command))
        assert len(refused) <= MAX_PACKET_BYTES + 4
        assert objects(unframed(refused)["dataContent"])["errorMsg"].endswith("…")


def test_login_answer_holds_no_waiting_messages() -> None:
    frame, taken = make().encode_login(LoginAccepted(ALICE, 77, waiting=(message(),)))
    assert taken == 0
    assert objects(unframed(frame)["dataContent"]) == {"code": 0, "firstLoginTime": 77}


def test_a_fan_out_is_encoded_once() -> None:
    event = Deliver(message(), "f-1", {})
    assert logged_in().encode(event) is logged_in().encode(event)


def test_frames_of_other_fps_and_limits_are_not_mixed_up() -> None:
    frames: dict[str, bytes] = {}
    long = message("x" * 1000)
    for _ in range(2):
        for fp in ("f-1", "", "5.9"):
            assert unframed(logged_in().encode(Deliver(long, fp, frames))).get("fp", "") == fp
            small = logged_in(500).encode(Deliver(long, fp, frames))
            assert len(small) <= 504
            assert unframed(small)["dataContent"].endswith("…")
            assert unframed(logged_in().encode(Deliver(long, fp, frames)))["dataContent"] == long.body


@given(st.text(max_size=2000), st.sampled_from([0, 3]))
def test_any_text_survives(text: str, group: int) -> None:
    to = f"#{group}" if group else "alice"
    commands, error = hear(make(), [packet(type=2, to=to, dataContent=text, fp="f", QoS=True)])
    if len(text.encode()) > BODY:
        assert isinstance(commands[0], Malformed)
        return
    assert error is None
    assert commands == [SendMessage("" if group else to, 0, group, text, "f", True)]
    sent = unframed(logged_in(65536).encode(Deliver(message(text, "f", group), "f", {})))
    assert (sent["dataContent"], sent["to"], sent["QoS"]) == (text, to, True)


@given(
    st.text(st.sampled_from('a"\\\n\0é😀…'), min_size=1000, max_size=4096),
    st.sampled_from(["", "f-1"]),
    st.integers(300, 6144),
)
def test_a_text_is_cut_at_a_character_to_fit(text: str, fp: str, limit: int) -> None:
    frame = logged_in(limit).encode(Deliver(message(text), fp, {}))
    assert len(frame) - 4 <= limit
    sent = unframed(frame)["dataContent"]
    if sent != text:
        assert sent.endswith("…")
        assert text.startswith(sent[:-1])
        longer = text[: len(sent)] + "…"
        assert len(logged_in(10**6).encode(Deliver(message(longer), fp, {}))) - 4 > limit, "cut more than needed"


@given(st.text(max_size=3000), st.text(max_size=80), st.sampled_from(list(ErrorCode)))
def test_errors_and_kicks_always_fit(text: str, fp: str, code: ErrorCode) -> None:
    codec = logged_in(1024)
    for event in (
        Failed(code, text, SendMessage("b", 0, 0, "", fp, True)),
        Failed(code, text, Malformed(code, text, 2, fp * 50)),
        Failed(code, text, Login(text, 0, text)),
        Kicked(True, text),
    ):
        frame = codec.encode(event)
        assert len(frame) <= 1028
        assert isinstance(objects(unframed(frame)["dataContent"]), dict)


@given(st.text(max_size=60), st.text(max_size=300), st.text(min_size=1), st.integers(600, 6144), st.booleans())
def test_the_room_for_a_text_of_the_server_is_exact(name: str, text: str, fp: str, limit: int, prefixed: bool) -> None:
    codec = MobileimsdkCodec(limit, BODY, FP, framing=Framing(prefixed))
    codec.encode_login(LoginAccepted(User(1, name), 7))
    used = len(json.dumps(text, ensure_ascii=False).encode()) + len(json.dumps(fp, ensure_ascii=False).encode())
    frame = codec.encode(ServerMessage("", "f"))
    assert codec.text_bytes - 4 - 1 == limit - (len(frame) - 4 * prefixed)
    whole = codec.encode(ServerMessage(text, fp))
    assert (len(whole) - 4 * prefixed <= limit) == (used <= codec.text_bytes)
