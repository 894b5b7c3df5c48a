"""What an answer means for the events that were sent."""

from __future__ import annotations

import asyncio
import contextlib

import pytest
from aiohttp import web

from chatd.config.webhook_options import WebhookOptions
from chatd.webhooks.sender import Outcome, Sender
from tests.test_outbound import served
from tests.webhooks.receiver import new_secret


async def outcome_of(port: int, timeout_s: float = 5.0) -> Outcome:
    url, allowed = f"http://127.0.0.1:{port}/", ("127.0.0.1",)
    sender = Sender(
        WebhookOptions(name="crm", url=url, secrets=(new_secret(),), allow_private=allowed, timeout_s=timeout_s)
    )
    try:
        return await sender.send("msg_1", b"{}")
    finally:
        await sender.close()


def sent_to(status: int, **headers: str) -> Outcome:
    """The outcome with a receiver that answers so."""

    async def serve(_request: web.BaseRequest) -> web.Response:
        return web.Response(status=status, headers={name.replace("_", "-"): text for name, text in headers.items()})

    async def run() -> Outcome:
        async with served(serve) as port:
            return await outcome_of(port)

    return asyncio.run(run())


@pytest.mark.parametrize("status", [200, 201, 202, 204, 299])
def test_success_is_any_status_from_200_to_299(status: int) -> None:
    assert sent_to(status) == Outcome()


@pytest.mark.parametrize("status", [300, 301, 307, 400, 401, 404, 429, 500, 503])
def test_any_other_status_is_a_failure(status: int) -> None:
    assert sent_to(status, Location="/elsewhere") == Outcome(f"status {status}")


def test_a_receiver_that_is_gone_says_so() -> None:
    assert sent_to(410) == Outcome("status 410", gone=True)


@pytest.mark.parametrize("status", [429, 503])
def test_a_receiver_says_when_to_come_again(status: int) -> None:
    assert sent_to(status, Retry_After="120") == Outcome(f"status {status}", wait_s=120)
    assert sent_to(status, Retry_After="tomorrow") == Outcome(f"status {status}")


@pytest.mark.parametrize("hangs", [True, False])
def test_a_connection_that_breaks_is_not_the_same_as_no_answer_in_time(*, hangs: bool) -> None:
    """The first one may have been closed while it was not used, so it is tried again at once; slow ones are not."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError):
            await reader.readuntil(b"{}")
            if hangs:
                await reader.read()
        writer.close()

    async def run() -> Outcome:
        server = await asyncio.start_server(serve, "127.0.0.1", 0)
        async with server:
            return await outcome_of(server.sockets[0].getsockname()[1], timeout_s=0.2)

    outcome = asyncio.run(run())
    error = "no answer within 0.2 s" if hangs else "the connection was closed without an answer"
    assert outcome == Outcome(error, broke=not hangs)
