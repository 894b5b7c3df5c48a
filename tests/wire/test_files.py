"""Files on the wires: who may name them, who is told of them, and what stock clients see in their place."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest

from chatd.model import Attachment, Message, MessageState
from chatd.protocol import Deliver, Extras, Feature, LoginAccepted, SendMessage
from chatd.texts.sizes import size_text
from chatd.wire.contract import Codec
from chatd.wire.mobileimsdk.group_mark import GroupMark
from tests.wire.chatserver.test_codec import ALICE, make, nul, streaming
from tests.wire.chatserver.test_requests import with_requests
from tests.wire.drive import hear
from tests.wire.mobileimsdk.test_features import codec as mobileimsdk

PICTURE = Attachment(id="p" * 22, name="cat.png", size=1_234_567, media_type="image/png", width=40, height=30)
PAPER = Attachment(id="d" * 22, name="报告.pdf", size=900, media_type="application/pdf")
LINKS = ("https://chat.example/files/p/cat.png?e=1", "https://chat.example/files/d/x.pdf?e=1")
LINES = f"[cat.png, 1.2 MB] {LINKS[0]}\n[报告.pdf, 900 B] {LINKS[1]}"
BARE = "[cat.png, 1.2 MB]\n[报告.pdf, 900 B]"
TOLD = [
    {"id": "p" * 22, "name": "cat.png", "size": 1_234_567, "type": "image/png", "width": 40, "height": 30},
    {"id": "d" * 22, "name": "报告.pdf", "size": 900, "type": "application/pdf"},
]


def message(body: str = "look", group: int = 0, **fields: Any) -> Message:
    fields = {"attachments": (PICTURE, PAPER), **fields}
    to = (0, "") if group else (1, "alice")
    return Message(
        conversation=-group if group else 5,
        seq=3,
        sender_id=2,
        sender_name="bob",
        to_id=to[0],
        to_name=to[1],
        group_id=group,
        body=body,
        fp="f1",
        qos=True,
        typeu=-1,
        sent_at_ms=1_700_000_000_000,
        **fields,
    )


def given(codec: Codec, one: Message, links: tuple[str, ...] = LINKS) -> tuple[dict[str, Any], Deliver]:
    event = Deliver(one, "f1", {}, links=links)
    frame = codec.encode(event)
    return json.loads(frame[frame.index(b"{") :].rstrip(b"\0")), event


# ---------------------------------------------------------------- sending


@pytest.mark.parametrize(
    ("files", "extras"), [(["p" * 22], Extras(files=("p" * 22,))), ([], None), (None, None)], ids=["one", "[]", "null"]
)
def test_a_client_with_seq_may_name_files_and_others_may_not(files: object, extras: Extras | None) -> None:
    text = json.dumps({"type": 2, "dataContent": "", "from": "1", "to": "2", "fp": "f", "files": files}).encode()
    packet = len(text).to_bytes(4, "big") + text
    for features, expected in ((Feature.SEQ, extras), (None, None)):
        (command,), error = hear(mobileimsdk(features), [packet])
        assert isinstance(command, SendMessage)
        assert error is None
        assert command.extras == expected


@pytest.mark.parametrize("to", [{"msgid": 6, "toid": 2}, {"msgid": 11, "groupid": 2}], ids=["user", "group"])
def test_on_the_chatserver_wire_a_client_with_requests_may(to: dict[str, int]) -> None:
    frame = nul(**to, msg="", files=["p" * 22, "d" * 22])
    for made, expected in (
        (with_requests(), Extras(files=("p" * 22, "d" * 22))),
        (streaming(), None),
        (make(), None),
    ):
        (command,), error = hear(made, [frame])
        assert isinstance(command, SendMessage)
        assert error is None
        assert command.extras == expected


@pytest.mark.parametrize("files", [7, "p", [7], ["x" * 65], ["x"] * 101, {"a": 1}])
def test_what_is_no_list_of_ids_is_malformed(files: object) -> None:
    text = json.dumps({"type": 2, "dataContent": "", "from": "1", "to": "2", "fp": "f", "files": files}).encode()
    (command,), _ = hear(mobileimsdk(Feature.SEQ), [len(text).to_bytes(4, "big") + text])
    assert type(command).__name__ == "Malformed"
    (command,), _ = hear(with_requests(), [nul(msgid=6, toid=2, msg="", files=files)])
    assert type(command).__name__ == "Malformed"


# ---------------------------------------------------------------- those who are told


def test_clients_that_know_files_are_told_of_them() -> None:
    for codec, text in ((mobileimsdk(Feature.SEQ), "dataContent"), (with_requests(), "msg")):
        for one in (message(), message(group=4)):
            found, event = given(codec, one)
            assert (found["files"], found[text]) == (TOLD, "look")
            assert "files_cut" not in found
            assert not codec.is_cut(event)
        found, _ = given(codec, message(attachments=()), ())
        assert "files" not in found


def test_a_packet_that_is_too_long_loses_text_then_files() -> None:
    limited = {"mobileimsdk": mobileimsdk(Feature.SEQ, 600), "chatserver": with_requests(1023)}
    many = tuple(Attachment(id=f"{n:022}", name="n" * 120, size=1, media_type="text/plain") for n in range(10))
    for wire, codec in limited.items():
        found, event = given(codec, message("x" * 3000))
        assert found["files"] == TOLD, wire
        assert found.get("dataContent", found.get("msg"))[-1] == "…"
        assert codec.is_cut(event)
        found, event = given(codec, message("x" * 3000, attachments=many), ())
        assert 0 < len(found["files"]) < 10, wire
        assert found["files_cut"] is True
        assert codec.is_cut(event)
        assert [one["id"] for one in found["files"]] == [one.id for one in many][: len(found["files"])]
        assert len(codec.encode(Deliver(message("x" * 3000, attachments=many), "f1", {}))) <= 1028


# ---------------------------------------------------------------- stock clients

STOCK: dict[str, Callable[[], Codec]] = {
    "mobileimsdk": lambda: mobileimsdk(None),
    "compatible": make,
    "streaming": streaming,
}


@pytest.mark.parametrize("wire", STOCK)
def test_stock_clients_see_a_line_for_each_file(wire: str) -> None:
    def text(body: str, links: tuple[str, ...], **fields: Any) -> str:
        found, event = given(STOCK[wire](), message(body, **fields), links)
        assert "files" not in found
        assert not STOCK[wire]().is_cut(event)
        return str(found.get("dataContent", found.get("msg")))

    assert text("look", LINKS) == f"look\n{LINES}"
    assert text("", LINKS) == LINES
    assert text("look", ()) == f"look\n{BARE}"
    assert text("look", LINKS, group=4) == f"look\n{LINES}"
    assert text("", (), attachments=(), state=MessageState.RECALLED, version=1) == "(message recalled)"


def test_what_does_not_fit_goes_in_this_order_addresses_text_lines() -> None:
    long_links = tuple(f"https://chat.example/files/{'s' * 400}/{n}" for n in range(2))
    found, event = given(make(), message("look"), tuple(link * 2 for link in long_links))
    assert found["msg"] == f"look\n{BARE}"
    assert not make().is_cut(event)
    codec = make()
    found, event = given(codec, message("x" * 2000), long_links)
    assert found["msg"].endswith(f"…\n{BARE}")
    assert codec.is_cut(event)
    many = tuple(Attachment(id=f"{n:022}", name="n" * 120, size=1, media_type="text/plain") for n in range(10))
    found, event = given(codec, message("x" * 2000, attachments=many), ())
    assert found["msg"].startswith("[nnn")
    assert found["msg"].endswith("…")
    assert codec.is_cut(event)


def test_a_marked_group_message_has_the_lines_too() -> None:
    marked = mobileimsdk(None, mark=GroupMark("[{group}] ", None))
    event = Deliver(message("look", group=4), "f1", {}, "Team", links=LINKS)
    assert json.loads(marked.encode(event)[4:])["dataContent"] == f"[Team] look\n{LINES}"
    small = mobileimsdk(None, 300, mark=GroupMark("[{group}] ", None))
    packet = json.loads(small.encode(Deliver(message("look", group=4), "f1", {}, "Team", links=LINKS))[4:])
    assert packet["dataContent"].startswith("[Team] ")
    assert BARE.split("\n")[0] in packet["dataContent"]


def test_messages_in_the_login_answer_have_them_as_well() -> None:
    event = LoginAccepted(ALICE, 0, waiting=(message("look"),), links={(5, 3): LINKS[:2]})
    codec = make()
    list(codec.receive(b'{"msgid":1,"id":1,"password":"x"}\0'))
    frame, taken = codec.encode_login(event)
    assert taken == 1
    assert json.loads(json.loads(frame[:-1])["offlinemsg"][0])["msg"] == f"look\n{LINES}"


@pytest.mark.parametrize(
    ("size", "text"),
    [
        (0, "0 B"),
        (999, "999 B"),
        (1000, "1.0 kB"),
        (9_949, "9.9 kB"),
        (9_960, "10 kB"),
        (999_499, "999 kB"),
        (999_500, "1.0 MB"),
        (26_214_400, "26 MB"),
        (10**13, "10000 GB"),
    ],
)
def test_sizes_are_for_people(size: int, text: str) -> None:
    assert size_text(size) == text
