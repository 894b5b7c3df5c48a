"""Applications: files over /v1, in messages, in webhooks and over bridges."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import msgspec

from chatd.bridges import packets
from chatd.errors import ErrorCode
from chatd.webhooks.payload import message_data
from tests.http.files.office import BASE, MAX_BYTES, Office
from tests.wire.test_files import LINES, LINKS, TOLD, message


def test_an_application_uploads_sends_and_finds_a_file(office: Office) -> None:
    async def scene() -> None:
        ann, bob = await office.colleague(), await office.colleague()
        api = office.api(office.admin)
        new = {"owner": ann.name, "name": "../report.txt", "size": 5, "type": "text/plain"}
        begun = api.call("POST", "/v1/files", new, repeat=f"{ann.name}-1")
        assert (begun.status, begun.body["offset"], begun.body["base"]) == (201, 0, BASE)
        assert api.call("POST", "/v1/files", new, repeat=f"{ann.name}-1").body == begun.body
        file = begun.body["id"]
        known = api.get(f"/v1/files/{file}").body
        assert (known["complete"], known["url"], known["name"]) == (False, None, "report.txt")
        unfinished = api.post("/v1/messages", {"from": ann.name, "to": bob.name, "text": "x", "files": [file]})
        assert (unfinished.status, unfinished.code) == (404, ErrorCode.UNKNOWN_FILE)
        assert office.put(begun.body["url"], b"hello").status == 200
        sent = api.post("/v1/messages", {"from": ann.name, "to": bob.name, "text": "", "files": [file]})
        assert sent.status == 201
        told = [{"id": file, "name": "report.txt", "size": 5, "type": "text/plain"}]
        assert (await bob.hears())["files"] == told
        known = api.get(f"/v1/files/{file}").body
        assert (known["conversation"], known["seq"], known["owner"]) == (sent.body["conversation"], 1, ann.id)
        assert office.fetch(known["url"]).body == b"hello"
        page = api.get(f"/v1/conversations/{sent.body['conversation']}/messages").body
        assert page["messages"][0]["files"] == told
        api.close()

    asyncio.run(scene())


def test_what_an_application_asks_for_may_be_refused(on_sqlite: Office) -> None:
    async def scene() -> None:
        ann, eve = await on_sqlite.colleague(), await on_sqlite.colleague()
        api, office = on_sqlite.api(on_sqlite.admin), on_sqlite
        file = await ann.upload(b"private")

        def told(answer: Any) -> tuple[int, int]:
            return answer.status, answer.code

        new = {"owner": ann.name, "name": "a.txt", "size": 5, "type": "text/plain"}
        assert told(api.post("/v1/files", {**new, "owner": "nobody"})) == (404, ErrorCode.UNKNOWN_RECIPIENT)
        assert told(api.post("/v1/files", {**new, "size": MAX_BYTES + 1})) == (413, ErrorCode.FILE_TOO_LARGE)
        assert told(api.post("/v1/files", {**new, "type": "text/html"})) == (415, ErrorCode.FILE_TYPE_NOT_ALLOWED)
        assert told(api.post("/v1/files", {**new, "name": "a\nb"})) == (422, ErrorCode.BAD_FIELD)
        assert told(api.get(f"/v1/files/{'x' * 22}")) == (404, ErrorCode.UNKNOWN_FILE)
        assert told(api.get("/v1/files/..%2F..%2Fetc")) == (422, ErrorCode.BAD_FIELD)
        foreign = {"from": eve.name, "to": ann.name, "text": "mine", "files": [file]}
        assert told(api.post("/v1/messages", foreign)) == (404, ErrorCode.UNKNOWN_FILE)
        assert told(api.post("/v1/messages", {"to": ann.name, "text": "x", "files": [file]}))[0] == 404
        assert told(api.post("/v1/messages", {"to": ann.name, "text": ""})) == (422, ErrorCode.BAD_FIELD)
        api.close()
        api = office.api()  # its key may only write messages
        assert told(api.get(f"/v1/files/{file}")) == (403, ErrorCode.SCOPE_MISSING)
        api.close()

    asyncio.run(scene())


def test_webhooks_tell_of_files() -> None:
    data = _plain(message_data(message()))
    assert data["files"] == TOLD
    assert "files" not in _plain(message_data(message(attachments=())))


def _plain(data: Any) -> Any:
    return msgspec.json.decode(msgspec.json.encode(data))


def test_bridges_carry_a_line_for_each_file() -> None:
    packet = json.loads(packets.write("b", message(), "bob", "7", LINKS))
    assert packet["dataContent"] == f"look\n{LINES}"
    assert json.loads(packets.write("b", message(attachments=()), "bob", "7"))["dataContent"] == "look"
