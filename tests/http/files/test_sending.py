"""A file on its way: announced, uploaded in parts, sent, told to whoever may read the message, downloaded, gone."""

from __future__ import annotations

import asyncio
import hashlib
import json

import pytest

from chatd.errors import ErrorCode
from tests.harness.mobileimsdk import MobilePeer
from tests.harness.peer import Frame
from tests.http.files.office import BASE, MAX_BYTES, PER_MESSAGE, QUOTA_BYTES, Office, Refusal, png

DATA = bytes(range(256)) * 1500


def test_a_file_is_uploaded_in_parts_sent_and_downloaded(office: Office) -> None:
    async def scene() -> None:
        ann, bob = await office.colleague(), await office.colleague()
        begun = await ann.announce(DATA, "data.bin", "application/octet-stream")
        assert (begun["offset"], begun["base"]) == (0, BASE)
        assert office.offset(begun["url"]) == 0
        answer = office.put(begun["url"], DATA[:100_000])
        assert (answer.status, answer.headers["upload-offset"]) == (204, "100000")
        assert (await ann.ask("files.resume", file=begun["file"]))["offset"] == 100_000
        with pytest.raises(Refusal) as unfinished:
            await ann.say(bob, "look", (begun["file"],))
        assert unfinished.value.code == ErrorCode.UNKNOWN_FILE
        head = office.ask("HEAD", begun["url"])
        assert (head.headers["upload-length"], head.headers["cache-control"]) == (str(len(DATA)), "no-store")
        answer = office.put(begun["url"], DATA[100_000:], 100_000)
        told = {"id": begun["file"], "name": "data.bin", "size": len(DATA), "type": "application/octet-stream"}
        assert (answer.status, answer.json()) == (200, told)
        assert office.put(begun["url"], b"", len(DATA)).json() == told  # its answer was lost
        resumed = await ann.ask("files.resume", file=begun["file"])
        assert (resumed["offset"], resumed["complete"]) == (len(DATA), True)

        sent = await ann.say(bob, "look", (begun["file"],))
        message = await bob.hears()
        assert (message["msg"], message["files"]) == ("look", [told])
        page = await bob.ask("history", with_=ann.name)
        assert page["messages"][-1]["files"] == [told]
        synced = await bob.ask("sync", cursors={ann.name: 0})
        assert synced["messages"][-1]["files"] == [told]

        (link,) = await bob.links(ann.name, sent["seq"])
        assert await bob.links(ann.name, sent["seq"], begun["file"]) == [link]
        assert await ann.links(bob.name, sent["seq"]) == [link]
        got = office.fetch(link)
        assert got.body == DATA
        assert got.headers["etag"] == f'"{hashlib.sha256(DATA).hexdigest()}"'
        assert got.headers["content-type"] == "application/octet-stream"
        assert got.headers["content-disposition"].startswith('attachment; filename="data.bin"')
        head = office.ask("HEAD", link)
        assert (head.status, head.headers["content-length"], head.body) == (200, str(len(DATA)), b"")
        part = office.fetch(link, Range="bytes=1000-1999")
        assert (part.status, part.body) == (206, DATA[1000:2000])
        assert part.headers["content-range"] == f"bytes 1000-1999/{len(DATA)}"
        assert office.fetch(link, Range="bytes=300000-").body == DATA[300_000:]
        assert office.fetch(link, If_None_Match=got.headers["etag"]).status == 304
        outside = office.fetch(link, Range=f"bytes={len(DATA)}-")
        assert (outside.status, outside.headers["content-range"]) == (416, f"bytes */{len(DATA)}")

    asyncio.run(scene())


def test_a_picture_is_shown_and_its_size_is_known_before_it_is_loaded(office: Office) -> None:
    async def scene() -> None:
        ann, bob = await office.colleague(), await office.colleague()
        picture = png(30, 20)
        file = await ann.upload(picture, "报告 1.png", "image/png")
        sent = await ann.say(bob, "", (file,))
        (told,) = (await bob.hears())["files"]
        assert (told["width"], told["height"], told["name"]) == (30, 20, "报告 1.png")
        got = office.fetch((await bob.links(ann.name, sent["seq"]))[0])
        assert (got.body, got.headers["content-type"]) == (picture, "image/png")
        name = "inline; filename=\"__ 1.png\"; filename*=UTF-8''%E6%8A%A5%E5%91%8A%201.png"
        assert got.headers["content-disposition"] == name

    asyncio.run(scene())


def test_a_group_has_files_and_a_file_goes_with_its_message(office: Office) -> None:
    async def scene() -> None:
        ann, bob = await office.colleague(), await office.colleague()
        group = (await ann.ask("group.create", name="Team", join="open"))["group"]["id"]
        await bob.ask("group.join", group=group)
        files = (await ann.upload(b"one"), await ann.upload(b"two"))
        sent = await ann.say(group, "both", files)
        assert [one["id"] for one in (await bob.hears())["files"]] == list(files)
        links = await bob.links(f"#{group}", sent["seq"])
        assert [office.fetch(link).body for link in links] == [b"one", b"two"]
        edited = await ann.ask("message.edit", with_=f"#{group}", seq=sent["seq"], text="both of them")
        assert edited["state"] == "edited"
        page = await bob.ask("history", with_=f"#{group}")
        assert len(page["messages"][-1]["files"]) == 2
        await ann.ask("message.recall", with_=f"#{group}", seq=sent["seq"])
        page = await bob.ask("history", with_=f"#{group}")
        assert "files" not in page["messages"][-1]
        for link in links:
            gone = office.fetch(link)
            assert (gone.status, gone.code) == (404, ErrorCode.UNKNOWN_FILE)
        with pytest.raises(Refusal) as refusal:
            await bob.links(f"#{group}", sent["seq"])
        assert refusal.value.code == ErrorCode.UNKNOWN_FILE

    asyncio.run(scene())


def test_a_file_announced_twice_under_one_fp_is_one_file_and_a_message_sent_twice_is_one(office: Office) -> None:
    async def scene() -> None:
        ann, bob = await office.colleague(), await office.colleague()
        begun = await ann.announce(b"once", fp="same")
        assert await ann.announce(b"once", fp="same") == begun
        assert office.put(begun["url"], b"once").status == 200
        sent = await ann.say(bob, "x", (begun["file"],), fp="twice")
        assert (await ann.say(bob, "x", (begun["file"],), fp="twice"))["seq"] == sent["seq"]

    asyncio.run(scene())


def test_a_client_is_told_the_limits_and_they_hold(office: Office) -> None:
    async def scene() -> None:
        ann, bob = await office.colleague(), await office.colleague()
        limits = await ann.ask("files.limits")
        assert limits["max_bytes"] == MAX_BYTES
        assert (limits["quota_bytes"], limits["used_bytes"]) == (QUOTA_BYTES, 0)
        assert (limits["per_message"], limits["base"]) == (PER_MESSAGE, BASE)
        file = await ann.upload(b"x" * 5000)
        assert (await ann.ask("files.limits"))["used_bytes"] == 5000
        for arguments, code in (
            ({"size": MAX_BYTES + 1}, ErrorCode.FILE_TOO_LARGE),
            ({"size": 0}, ErrorCode.BAD_FIELD),
            ({"size": -5}, ErrorCode.BAD_FIELD),
            ({"type": "application/x-msdownload"}, ErrorCode.FILE_TYPE_NOT_ALLOWED),
            ({"type": "text/html"}, ErrorCode.FILE_TYPE_NOT_ALLOWED),
            ({"type": "*/*"}, ErrorCode.BAD_FIELD),
            ({"type": "image/png\r\nx: y"}, ErrorCode.BAD_FIELD),
            ({"name": ".."}, ErrorCode.BAD_FIELD),
            ({"name": "dir/"}, ErrorCode.BAD_FIELD),
            ({"name": "a\nb.txt"}, ErrorCode.BAD_FIELD),
            ({"name": "evil\u202egnp.exe"}, ErrorCode.BAD_FIELD),
            ({"name": "x" * 121}, ErrorCode.BAD_FIELD),
            ({"name": "报" * 86}, ErrorCode.BAD_FIELD),
            ({"sha256": "abc"}, ErrorCode.BAD_FIELD),
        ):
            with pytest.raises(Refusal) as refusal:
                await ann.ask("files.upload", **{"name": "a.txt", "size": 5, "type": "text/plain", **arguments})
            assert refusal.value.code == code, arguments
        with pytest.raises(Refusal) as refusal:
            await ann.say(bob, "x", tuple(f"{n:022}" for n in range(PER_MESSAGE + 1)))
        assert refusal.value.code == ErrorCode.LIMIT_REACHED
        for _ in range(QUOTA_BYTES // MAX_BYTES - 1):
            await ann.ask("files.upload", name="a.txt", size=MAX_BYTES, type="text/plain")
        with pytest.raises(Refusal) as refusal:
            await ann.ask("files.upload", name="a.txt", size=MAX_BYTES, type="text/plain")
        assert refusal.value.code == ErrorCode.QUOTA_REACHED
        await ann.ask("files.cancel", file=file)
        assert (await ann.ask("files.limits"))["used_bytes"] == QUOTA_BYTES - MAX_BYTES

    asyncio.run(scene())


def test_names_lose_their_directories(on_sqlite: Office) -> None:
    office = on_sqlite

    async def scene() -> None:
        ann, bob = await office.colleague(), await office.colleague()
        names = {"../../etc/passwd": "passwd", "C:\\Users\\ann\\cat.png": "cat.png", "/a//b.txt": "b.txt"}
        for given, kept in names.items():
            begun = await ann.announce(b"hello", given)
            assert office.put(begun["url"], b"hello").json()["name"] == kept
            sent = await ann.say(bob, "", (begun["file"],))
            (link,) = await bob.links(ann.name, sent["seq"])
            assert f'filename="{kept}"' in office.fetch(link).headers["content-disposition"]

    asyncio.run(scene())


# ---------------------------------------------------------------- stock clients


@pytest.mark.parametrize("wire", ["compatible", "streaming", "mobileimsdk", "udp", "web"])
def test_stock_clients_get_a_line_for_each_file_with_an_address(on_sqlite: Office, wire: str) -> None:
    office = on_sqlite

    async def scene() -> None:
        ann, bob = await office.colleague(), await office.colleague()
        bob.peer.close()
        file = await ann.upload(DATA[:5000], "cat & dog.txt")
        late = await ann.upload(b"waited", "late.txt")
        await ann.say(bob, "look", (late,))
        hears = await _stock(office, bob.name, bob.id, wire)
        text = await hears()
        assert text.startswith("look\n[late.txt, 6 B] https://chat.example/files/")
        assert office.fetch(text.split(" ")[-1]).body == b"waited"
        await ann.say(bob, "and", (file,))
        text = await hears()
        assert text.startswith("and\n[cat & dog.txt, 5.0 kB] https://chat.example/files/")
        got = office.fetch(text.split(" ")[-1])
        assert got.body == DATA[:5000]
        assert got.headers["content-disposition"].startswith('attachment; filename="cat _ dog.txt"')

    asyncio.run(scene())


async def _stock(office: Office, name: str, user_id: int, wire: str):  # type: ignore[no-untyped-def]
    """Log in; a function that waits for the next text."""
    town = office.town
    if wire in ("compatible", "streaming"):
        peer = await town.nul_peer()
        framing = {"framing": "nul"} if wire == "streaming" else {}
        peer.put({"msgid": 1, "id": user_id, "password": town.secret, **framing})
        answer = await peer.find(msgid=2)
        waiting = [json.loads(one)["msg"] for one in answer.get("offlinemsg", [])]

        async def hears() -> str:
            return str(waiting.pop(0) if waiting else (await peer.find(msgid=6))["msg"])

        return hears
    makers = {"mobileimsdk": town.on_mobile, "udp": town.on_datagrams, "web": town.on_web}
    mobile: MobilePeer = await makers[wire](name)  # type: ignore[operator]

    async def next_text() -> str:
        while True:
            packet: Frame = await mobile.find(type=2)
            if packet["from"] != "0":
                mobile.acknowledge(packet)
                assert "files" not in packet
                return str(packet["dataContent"])

    return next_text


def test_a_mobileimsdk_client_with_seq_is_told_of_files_and_sends_them(on_sqlite: Office) -> None:
    office = on_sqlite

    async def scene() -> None:
        ann, bob = await office.colleague(), await office.colleague()
        file = await ann.upload(b"hello", "a.txt")
        ann.peer.close()
        peer = await office.town.mobile_peer()
        peer.extra = json.dumps({"chatd": {"features": ["seq"]}})
        await peer.log_in(ann.name, office.town.secret)
        peer.say(ann.name, bob.name, "look", "m1", files=[file])
        told = (await bob.hears())["files"]
        assert [one["id"] for one in told] == [file]
        other = await bob.upload(b"back", "b.txt")
        await bob.say(ann, "", (other,))
        while True:
            packet = await peer.find(type=2)
            if packet["from"] == bob.name:
                break
        assert packet["dataContent"] == ""
        assert packet["files"] == [{"id": other, "name": "b.txt", "size": 4, "type": "text/plain"}]

    asyncio.run(scene())
