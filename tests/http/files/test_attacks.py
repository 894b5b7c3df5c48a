"""What others try with files: foreign ones, forged addresses, other people's conversations, bombs, slow bodies, wrong
offsets, two writers, content that is not what it says, names that leave their place."""

from __future__ import annotations

import asyncio
import socket
import threading
import time
from typing import Any

import pytest

from chatd.config.load import load
from chatd.config.schema import Config, FilesOptions
from chatd.core.file_addresses import FileAddresses
from chatd.errors import ErrorCode
from chatd.http.parser import UPLOAD_BYTES
from chatd.model import Attachment
from chatd.store.open import configured, open_tables
from tests.harness.deadline import wait_until
from tests.http.files.office import REQUEST_S, UPLOAD_TYPE, Colleague, Office, Refusal, png, request
from tests.http.raw import Said

NOBODYS = "x" * 22
SANDBOX = "sandbox; default-src 'none'"


async def refused(work: Any) -> int:
    with pytest.raises(Refusal) as refusal:
        await work
    return refusal.value.code


def forger(office: Office, at_s: float) -> FileAddresses:
    """Addresses as this server makes them at that time."""
    tables = open_tables(configured(load(str(office.daemon.config_file)).config), 10.0, create=False)
    try:
        secret = tables.accounts.stand_in_key()
    finally:
        tables.close()
    config = Config(files=FilesOptions())
    services, accounts = type("S", (), {"config": lambda self: config})(), type("A", (), {"secret": secret})()
    return FileAddresses(services, accounts, lambda: at_s)


# ---------------------------------------------------------------- files of others


def test_files_of_others_are_unknown(office: Office) -> None:
    async def scene() -> None:
        ann, eve, bob = await office.colleague(), await office.colleague(), await office.colleague()
        file = await ann.upload(b"private")
        begun = await ann.announce(b"private")
        for one in (file, begun["file"], NOBODYS):
            assert await refused(eve.ask("files.resume", file=one)) == ErrorCode.UNKNOWN_FILE
            assert await refused(eve.ask("files.cancel", file=one)) == ErrorCode.UNKNOWN_FILE
            assert await refused(eve.say(bob, "mine", (one,))) == ErrorCode.UNKNOWN_FILE
        await ann.say(bob, "yours", (file,))
        assert await refused(ann.say(eve, "again", (file,))) == ErrorCode.UNKNOWN_FILE
        assert await refused(ann.ask("files.cancel", file=file)) == ErrorCode.UNKNOWN_FILE
        other = await ann.upload(b"x")
        assert await refused(ann.say(bob, "twice", (other, other))) == ErrorCode.UNKNOWN_FILE
        assert await refused(ann.say(bob, "one of two", (other, NOBODYS))) == ErrorCode.UNKNOWN_FILE
        assert (await ann.say(bob, "still there", (other,)))["seq"] == 2

    asyncio.run(scene())


def test_only_who_may_read_a_message_gets_links_to_its_files(office: Office) -> None:
    async def scene() -> None:
        ann, bob, eve = await office.colleague(), await office.colleague(), await office.colleague()
        sent = await ann.say(bob, "for bob", (await ann.upload(b"for bob"),))
        await eve.say(ann, "hi")
        seq = sent["seq"]
        assert await refused(eve.links(ann.name, seq)) == ErrorCode.UNKNOWN_FILE
        assert await refused(eve.links(bob.name, seq)) == ErrorCode.UNKNOWN_FILE
        assert await refused(bob.links(ann.name, seq + 1)) == ErrorCode.UNKNOWN_FILE
        assert await refused(bob.links(ann.name, seq, NOBODYS)) == ErrorCode.UNKNOWN_FILE

        group = (await ann.ask("group.create", name="Team", join="open"))["group"]["id"]
        await bob.ask("group.join", group=group)
        sent = await ann.say(group, "for us", (await ann.upload(b"for us"),))
        place = f"#{group}"
        assert len(await bob.links(place, sent["seq"])) == 1
        assert await refused(eve.links(place, sent["seq"])) == ErrorCode.NOT_A_MEMBER
        await bob.ask("group.leave", group=group)
        assert await refused(bob.links(place, sent["seq"])) == ErrorCode.NOT_A_MEMBER
        await eve.ask("group.join", group=group)  # and reads from here on
        assert await refused(eve.links(place, sent["seq"])) == ErrorCode.UNKNOWN_FILE

        sent = await ann.say(bob, "deleted by bob", (await ann.upload(b"x"),))
        await bob.ask("history.delete", with_=ann.name, seqs=[sent["seq"]])
        assert await refused(bob.links(ann.name, sent["seq"])) == ErrorCode.UNKNOWN_FILE
        assert len(await ann.links(bob.name, sent["seq"])) == 1

    asyncio.run(scene())


# ---------------------------------------------------------------- addresses


def test_an_address_counts_for_one_file_one_purpose_and_a_while(on_sqlite: Office) -> None:
    office = on_sqlite

    async def scene() -> None:
        ann, bob = await office.colleague(), await office.colleague()
        file = await ann.upload(b"secret")
        sent = await ann.say(bob, "", (file,))
        (link,) = await bob.links(ann.name, sent["seq"])
        begun = await ann.announce(b"other")
        path, _, query = link.partition("?")
        expires, _, signature = query.partition("&signature=")
        number = int(expires.removeprefix("expires="))
        wrong = [
            f"{path}?{expires}&signature={'A' * 43}",
            f"{path}?expires={number + 1}&signature={signature}",
            f"{path}?{expires}&signature=",
            f"{path}?{expires}&signature={signature[:-1]}",
            f"{path.replace(file, begun['file'])}?{query}",
            f"/files/{file}?{query}",  # a link for downloading is none for uploading
            begun["url"].replace("?", "/x?"),  # nor the other way round
        ]
        for address in wrong:
            found = office.fetch(address)
            assert (found.status, found.code) == (403, ErrorCode.NOT_ALLOWED), address
            assert b"secret" not in found.body
        assert office.put(f"/files/{file}?{query}", b"x").status == 403
        for address in (path, f"{path}?{expires}", f"{path}?{query}&more=1", f"{path}?{query}&{query}", f"{path}?%"):
            assert office.fetch(address).status in (403, 422), address
        told = Attachment(id=file, name="a", size=1, media_type="a/b")
        late, fresh = forger(office, time.time() - 4000), forger(office, time.time())
        assert office.fetch(fresh.download(told).path).status == 200
        assert office.fetch(late.download(told).path).status == 403
        assert office.ask("HEAD", fresh.upload(begun["file"]).path).status == 200
        assert office.put(late.upload(begun["file"]).path, b"other").status == 403

    asyncio.run(scene())


@pytest.mark.parametrize(
    "path",
    [
        "/files/../../etc/passwd",
        "/files/%2e%2e/%2e%2e/etc/passwd",
        "/files/..%2f..%2fetc%2fpasswd",
        "/files/" + NOBODYS + "/../../../etc/passwd",
        "/files/" + NOBODYS + "/..%2f..%2fchatd.toml",
        "/files/",
        "/files",
        "/files/" + "x" * 3000,
        "/files/%00",
        "/files/" + NOBODYS + "%00/x",
    ],
)
def test_a_path_names_a_file_or_nothing(on_sqlite: Office, path: str) -> None:
    for query in ("", f"?expires=1900000000&signature={'A' * 43}"):
        found = on_sqlite.ask("GET", path + query)
        assert found.status in (403, 404, 422), (path, found)
        assert b"root:" not in found.body
        assert b"[server]" not in found.body


def test_every_answer_is_harmless_in_a_browser(on_sqlite: Office) -> None:
    async def scene() -> None:
        ann, bob = await on_sqlite.colleague(), await on_sqlite.colleague()
        html = b"<!doctype html><script>alert(document.domain)</script>"
        svg = b'<svg xmlns="http://www.w3.org/2000/svg"><script>alert(1)</script></svg>'
        files = (
            await ann.upload(html, "a.html", "text/plain"),
            await ann.upload(svg, "a.svg", "image/svg+xml"),
            await ann.upload(png(), 'a"; filename=evil.html;.png', "image/png"),
        )
        sent = await ann.say(bob, "", files)
        links = await bob.links(ann.name, sent["seq"])
        answers = [on_sqlite.fetch(link) for link in links]
        assert [one.headers["content-type"] for one in answers] == [*["application/octet-stream"] * 2, "image/png"]
        kinds = [one.headers["content-disposition"].partition(";")[0] for one in answers]
        assert kinds == ["attachment", "attachment", "inline"]
        assert 'filename="a__ filename_evil.html_.png";' in answers[2].headers["content-disposition"]
        answers += [on_sqlite.fetch(links[0][:-3]), on_sqlite.fetch(f"/files/{NOBODYS}/x?expires=1&signature=x")]
        answers.append(on_sqlite.fetch(links[0], Range="bytes=999999-"))
        for answer in answers:
            headers = answer.headers
            assert (headers["x-content-type-options"], headers["referrer-policy"]) == ("nosniff", "no-referrer"), answer
            assert headers["cross-origin-resource-policy"] == "same-origin"
            assert headers["content-security-policy"] == SANDBOX
            assert "access-control-allow-origin" not in headers
            assert headers["cache-control"].startswith(("private", "no-store"))

    asyncio.run(scene())


def test_what_is_removed_cannot_be_downloaded_by_an_old_link(office: Office) -> None:
    """A locked sender uploads no more; what was sent stays with its recipients."""

    async def scene() -> None:
        ann, bob = await office.colleague(), await office.colleague()
        sent = await ann.say(bob, "", (await ann.upload(b"gone soon"),))
        kept = await ann.say(bob, "", (await ann.upload(b"kept"),))
        links = [(await bob.links(ann.name, one["seq"]))[0] for one in (sent, kept)]
        begun = await ann.announce(b"never")
        await ann.ask("message.recall", with_=bob.name, seq=sent["seq"])
        assert [office.fetch(link).status for link in links] == [404, 200]
        api = office.api(office.admin)
        assert api.put(f"/v1/users/{ann.name}/lock", {}).status in (200, 204)
        assert office.put(begun["url"], b"never").status == 404
        assert office.fetch(links[1]).status == 200
        assert api.delete(f"/v1/users/{ann.name}").status in (200, 202, 204)
        wait_until(20, "it is erased with its sender", lambda: office.fetch(links[1]).status == 404)
        api.close()

    asyncio.run(scene())


# ---------------------------------------------------------------- bodies


def test_bodies_that_do_not_fit_are_refused(on_sqlite: Office) -> None:
    office = on_sqlite

    async def scene() -> None:
        ann = await office.colleague()
        begun = await ann.announce(b"12345")
        url = begun["url"]

        def code(answer: Said) -> tuple[int, int]:
            return answer.status, answer.code

        assert code(office.put(url, b"123456")) == (413, ErrorCode.FILE_TOO_LARGE)
        bomb = office.ask("PATCH", url, b"", Content_Type=UPLOAD_TYPE, Upload_Offset=0, Content_Length=UPLOAD_BYTES + 1)
        assert code(bomb) == (413, ErrorCode.FILE_TOO_LARGE)
        chunks = (b"10000\r\n" + b"x" * 65536 + b"\r\n") * 20
        chunked = {"Content_Type": UPLOAD_TYPE, "Upload_Offset": 0, "Transfer_Encoding": "chunked"}
        assert code(office.ask("PATCH", url, chunks, **chunked)) == (413, ErrorCode.FILE_TOO_LARGE)
        assert office.offset(url) == 0
        assert code(office.put(url, b"12", Content_Type="text/plain")) == (415, ErrorCode.UNKNOWN_CONTENT_TYPE)
        for offset in ("", "x", "-1", "1e3", "²", "9" * 40):
            assert office.put(url, b"12", offset).status == 422 if offset.isascii() else True  # type: ignore[arg-type]
        assert office.ask("PATCH", url, b"12", Content_Type=UPLOAD_TYPE).status == 422
        assert code(office.put(url, b"45", 3)) == (409, ErrorCode.OFFSET_MISMATCH)
        assert office.put(url, b"123").headers["upload-offset"] == "3"
        again = office.put(url, b"123")
        assert (*code(again), again.headers["upload-offset"]) == (409, ErrorCode.OFFSET_MISMATCH, "3")
        assert office.put(url, b"4", 3, Transfer_Encoding="chunked", Content_Length=1).status == 400
        assert office.ask("PATCH", url, b"1\r\n4\r\n0\r\n\r\n", **{**chunked, "Upload_Offset": 3}).status == 204
        assert office.put(url, b"5", 4).status == 200
        assert code(office.put(url, b"6", 5)) == (409, ErrorCode.OFFSET_MISMATCH)
        for method in ("POST", "PUT", "DELETE"):
            assert office.ask(method, url, b"").status == 405

    asyncio.run(scene())


def test_two_writers_at_one_offset_do_not_mix(office: Office) -> None:
    async def scene() -> None:
        ann = await office.colleague()
        data = [bytes([65 + number]) * 3_000_000 for number in range(6)]
        begun = await ann.announce(data[0])
        answers: list[Said] = []
        threads = [
            threading.Thread(target=lambda one=one: answers.append(office.put(begun["url"], one))) for one in data
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert sum(one.status == 200 for one in answers) <= 1
        assert {one.status for one in answers} <= {200, 409}
        offset = office.offset(begun["url"])
        if offset < 3_000_000:
            assert office.put(begun["url"], b"Z" * (3_000_000 - offset), offset).status == 200
        sent = await ann.say(ann, "", (begun["file"],))
        got = office.fetch((await ann.links(ann.name, sent["seq"]))[0]).body
        assert len(got) == 3_000_000

    asyncio.run(scene())


def test_a_slow_body_is_ended_and_costs_others_nothing(on_sqlite: Office) -> None:
    async def scene() -> None:
        ann, office = await on_sqlite.colleague(), on_sqlite
        begun = await ann.announce(b"x" * 1_000_000)
        head = request("PATCH", begun["url"], b"", Content_Type=UPLOAD_TYPE, Upload_Offset=0, Content_Length=1_000_000)
        slow = [office.connect() for _ in range(6)]
        for raw in slow:
            raw.send(head + b"x" * 70_000)
        began = time.monotonic()
        assert (await ann.ask("echo", text="hi"))["text"] == "hi"
        assert time.monotonic() - began < REQUEST_S
        for raw in slow:
            found = raw.said()
            assert found.status in (408, 409)
            raw.sock.close()
        assert 70_000 <= office.offset(begun["url"]) <= 140_000
        offset, step = office.offset(begun["url"]), 190_000
        with office.connect() as raw:  # one that is slow, but goes on, may take longer than a request
            raw.send(
                head.replace(b"Upload-Offset: 0", b"Upload-Offset: %d" % offset).replace(
                    b"1000000", b"%d" % (1_000_000 - offset)
                )
            )
            sent = 0
            began = time.monotonic()
            while sent < 1_000_000 - offset:
                piece = b"x" * min(step, 1_000_000 - offset - sent)
                raw.send(piece)
                sent += len(piece)
                await asyncio.sleep(REQUEST_S * 0.45)
            assert time.monotonic() - began > 2 * REQUEST_S
            assert raw.said().status == 200

    asyncio.run(scene())


def test_what_came_before_a_break_is_kept(on_sqlite: Office) -> None:
    office = on_sqlite

    async def scene() -> None:
        ann = await office.colleague()
        data = bytes(range(256)) * 4000
        begun = await ann.announce(data)
        with office.connect() as raw:
            raw.send(
                request("PATCH", begun["url"], b"", Content_Type=UPLOAD_TYPE, Upload_Offset=0, Content_Length=len(data))
            )
            raw.send(data[:600_000])
            raw.sock.shutdown(socket.SHUT_RDWR)
        wait_until(10, "what was sent has arrived", lambda: office.offset(begun["url"]) > 0)
        last = -1
        while (offset := office.offset(begun["url"])) != last:
            last = offset
            await asyncio.sleep(0.1)
        assert offset <= 600_000
        assert office.put(begun["url"], data[offset:], offset).status == 200

    asyncio.run(scene())


# ---------------------------------------------------------------- content


def test_content_that_is_not_what_was_announced_is_refused_and_gone(office: Office) -> None:
    async def scene() -> None:
        ann, bob = await office.colleague(), await office.colleague()
        picture = png()
        for data, media_type, sha256, status, code in (
            (b"<html>", "image/png", "", 415, ErrorCode.FILE_TYPE_NOT_ALLOWED),
            (picture, "image/jpeg", "", 415, ErrorCode.FILE_TYPE_NOT_ALLOWED),
            (picture[:20], "image/png", "", 415, ErrorCode.FILE_TYPE_NOT_ALLOWED),
            (b"hello", "text/plain", "0" * 64, 422, ErrorCode.FILE_DAMAGED),
        ):
            begun = await ann.announce(data, "a.bin", media_type, sha256=sha256)
            answer = office.put(begun["url"], data)
            assert (answer.status, answer.code) == (status, code), answer
            assert office.ask("HEAD", begun["url"]).status == 404
            assert await refused(ann.say(bob, "", (begun["file"],))) == ErrorCode.UNKNOWN_FILE
        assert (await ann.ask("files.limits"))["used_bytes"] == 0

    asyncio.run(scene())


def test_a_cancelled_upload_is_gone(on_sqlite: Office) -> None:
    office = on_sqlite

    async def scene() -> None:
        ann = await office.colleague()
        begun = await ann.announce(b"12345")
        assert office.put(begun["url"], b"123").status == 204
        await ann.ask("files.cancel", file=begun["file"])
        assert office.put(begun["url"], b"45", 3).status == 404
        assert await refused(ann.ask("files.resume", file=begun["file"])) == ErrorCode.UNKNOWN_FILE

    asyncio.run(scene())


# ---------------------------------------------------------------- faults


def test_an_upload_goes_on_after_kill_9(tmp_path_factory: pytest.TempPathFactory) -> None:
    office = Office(tmp_path_factory.mktemp("killed"))
    data = bytes(range(251)) * 40_000

    async def before() -> tuple[Colleague, Any]:
        ann = await office.colleague("ann")
        return ann, await ann.announce(data)

    async def after() -> None:
        await ann.arrive()
        resumed = await ann.ask("files.resume", file=begun["file"])
        offset = resumed["offset"]
        assert 0 < offset < len(data)
        assert office.put(begun["url"], data[offset:], offset).status == 200
        sent = await ann.say(ann, "", (begun["file"],))
        assert office.fetch((await ann.links("ann", sent["seq"]))[0]).body == data

    ann, begun = asyncio.run(before())
    with office.connect() as raw:
        raw.send(
            request("PATCH", begun["url"], b"", Content_Type=UPLOAD_TYPE, Upload_Offset=0, Content_Length=len(data))
        )
        raw.send(data[:5_000_000])
        wait_until(10, "some of it has come", lambda: office.offset(begun["url"]) > 1_000_000)
        office.daemon.kill_all()
    office.daemon.start()
    asyncio.run(after())
    assert office.daemon.discard() == []


def test_an_upload_goes_on_with_another_worker(on_sqlite: Office) -> None:
    """While its worker leaves, and others come."""
    office, data = on_sqlite, bytes(range(256)) * 4000

    async def before() -> tuple[Colleague, Any]:
        ann = await office.colleague()
        return ann, await ann.announce(data)

    async def after() -> None:
        await ann.arrive()
        offset = (await ann.ask("files.resume", file=begun["file"]))["offset"]
        assert office.put(begun["url"], data[offset:], offset).status == 200
        sent = await ann.say(ann, "", (begun["file"],))
        assert office.fetch((await ann.links(ann.name, sent["seq"]))[0]).body == data

    ann, begun = asyncio.run(before())
    with office.connect() as raw:
        fields = {"Content_Type": UPLOAD_TYPE, "Upload_Offset": 0, "Content_Length": len(data)}
        raw.send(request("PATCH", begun["url"], b"", **fields) + data[:500_000])
        wait_until(10, "some of it has come", lambda: office.offset(begun["url"]) > 300_000)
        code, _, error = office.daemon.ctl_said("restart-workers")
        assert code == 0, error
    asyncio.run(after())


def test_pages_of_listed_origins_may_upload_and_others_may_not(tmp_path_factory: pytest.TempPathFactory) -> None:
    page = "https://app.example"
    office = Office(tmp_path_factory.mktemp("origins"), http={"origins": [page]})

    async def scene() -> None:
        ann = await office.colleague()
        begun = await ann.announce(b"hello")
        fields = {
            "Access_Control_Request_Method": "PATCH",
            "Access_Control_Request_Headers": "upload-offset,content-type",
        }
        allowed = office.ask("OPTIONS", begun["url"], Origin=page, **fields)
        assert (allowed.status, allowed.headers["access-control-allow-origin"]) == (200, page)
        assert "PATCH" in allowed.headers["access-control-allow-methods"]
        answer = office.put(begun["url"], b"hello", Origin=page)
        assert answer.headers["access-control-allow-origin"] == page
        assert "Upload-Offset" in answer.headers["access-control-expose-headers"]
        foreign = office.ask("OPTIONS", begun["url"], Origin="https://evil.example", **fields)
        assert foreign.status == 400
        assert "access-control-allow-origin" not in foreign.headers

    asyncio.run(scene())
    assert office.daemon.discard() == []


def test_a_server_without_a_place_takes_no_files(tmp_path_factory: pytest.TempPathFactory) -> None:
    office = Office(tmp_path_factory.mktemp("without"), {"dir": ""})

    async def scene() -> None:
        ann = await office.colleague()
        assert (await ann.ask("files.limits"))["max_bytes"] == 0
        assert await refused(ann.announce(b"x")) == ErrorCode.NOT_ALLOWED
        assert await refused(ann.ask("files.link", with_=ann.name, seq=1)) == ErrorCode.NOT_ALLOWED
        assert await refused(ann.say(ann, "x", (NOBODYS,))) == ErrorCode.UNKNOWN_FILE
        assert office.fetch(f"/files/{NOBODYS}/x?expires=1&signature=x").code == ErrorCode.UNKNOWN_ROUTE
        assert office.put(f"/files/{NOBODYS}?expires=1&signature=x", b"x" * 300_000).status in (404, 413)

    asyncio.run(scene())
    assert office.daemon.discard() == []
