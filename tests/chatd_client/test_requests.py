"""Lists that the server gives in pages are read to their end."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence
from typing import Any

import msgspec

from chatd_client import results
from chatd_client.chatserver import outgoing
from chatd_client.model import Answer
from chatd_client.requests import Requests
from tests.harness.deadline import run


def server(requests: Requests, users: Sequence[int], per_page: int) -> list[dict[str, Any]]:
    """Answers block.list with these users. Returns what it is asked, as it is asked."""
    asked: list[dict[str, Any]] = []

    def answer(frame: bytes) -> None:
        request = json.loads(frame.rstrip(b"\0"))
        asked.append(request)
        left = [one for one in users if one > request["after"]]
        page = {"users": [{"id": one, "name": f"u{one}"} for one in left[:per_page]], "more": len(left) > per_page}
        told = Answer(request["ref"], True, msgspec.Raw(msgspec.json.encode(page)), 0, "")
        asyncio.get_running_loop().call_soon(requests.answered, told)

    requests.start(answer)
    return asked


def test_all_pages_are_read() -> None:
    async def story() -> None:
        requests = Requests(5.0, outgoing.request)
        asked = server(requests, range(1, 8), 3)
        found = await requests.rows("block.list", results.Users, lambda page: page.users, lambda user: user.id)
        assert [user.id for user in found] == [1, 2, 3, 4, 5, 6, 7]
        assert [request["after"] for request in asked] == [0, 3, 6]

    run(story())


def test_an_empty_list_is_asked_for_once() -> None:
    async def story() -> None:
        requests = Requests(5.0, outgoing.request)
        asked = server(requests, (), 3)
        assert not await requests.rows("block.list", results.Users, lambda page: page.users, lambda user: user.id)
        assert len(asked) == 1

    run(story())
