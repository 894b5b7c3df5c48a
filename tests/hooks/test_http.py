"""The plug-in that asks a backend, against a real one: what its answers mean, and that no answer is never a yes."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Awaitable, Callable
from typing import Any

import msgspec
import pytest
from aiohttp import web
from standardwebhooks import Webhook

from chatd.errors import ChatdError, ErrorCode
from chatd.hooks import LoginAttempt, OutgoingMessage, Reply, Request, Rewrite, User, Veto
from chatd.hooks.http import BadAnswer, Http
from chatd.outbound import ForbiddenTarget, OutboundFailed
from tests.test_outbound import served

SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSwMfKQ9r8GKYqr"
MESSAGE = OutgoingMessage(User(1, "ann"), "bob", 0, 0, "hello", 0, "fp", "mobileimsdk", "192.0.2.1", User(2, "bob"))
LOGIN = LoginAttempt("ann", 0, "her password", "mobileimsdk", "192.0.2.1", User(1, "ann"))
Serve = Callable[[web.BaseRequest], Awaitable[web.StreamResponse]]


def ask(serve: Serve, point: str = "before_message", event: Any = MESSAGE, **options: Any) -> Any:
    async def run() -> Any:
        async with served(serve) as port:
            given = {
                "url": f"http://127.0.0.1:{port}/decide",
                "points": [point],
                "secret": SECRET,
                "allow_private": ["127.0.0.1"],
                **options,
            }
            plugin: Any = Http(given)
            try:
                return await getattr(plugin, point)(event)
            finally:
                await plugin.close()

    return asyncio.run(run())


def answering(content: object = None, status: int = 200, **more: Any) -> Serve:
    async def serve(_request: web.BaseRequest) -> web.Response:
        body = content if isinstance(content, bytes) else json.dumps(content).encode()
        return web.Response(body=body, status=status, **more)

    return serve


@pytest.mark.parametrize(
    ("content", "verdict"),
    [
        ({"allow": True}, None),
        ({}, None),
        ({"allow": False}, Veto()),
        ({"allow": False, "text": "not today", "code": 2001}, Veto("not today", 2001)),
        ({"body": "h*llo"}, Rewrite("h*llo")),
        ({"typeu": 7}, Rewrite(None, 7)),
        ({"allow": False, "body": "ignored"}, Veto()),
    ],
)
def test_an_answer_is_a_verdict(content: object, verdict: object) -> None:
    assert ask(answering(content)) == verdict


def test_no_content_means_yes() -> None:
    assert ask(answering(b"", 204)) is None


def test_a_request_can_be_answered() -> None:
    request = Request(User(1, "ann"), "weather", 0, "fp", "", "mobileimsdk")
    assert ask(answering({"reply": "sunny"}), "before_request", request) == Reply("sunny")


@pytest.mark.parametrize(
    "serve",
    [
        answering({"allow": True}, 500),
        answering({"allow": True}, 302, headers={"Location": "/yes"}),
        answering({"allow": True}, 404),
        answering(b"yes"),
        answering({"allow": "yes"}),
        answering([]),
        answering(b'{"allow": true, "text": "' + b"x" * 300_000 + b'"}'),
    ],
    ids=["500", "redirect", "404", "no json", "no bool", "list", "too long"],
)
def test_whatever_is_no_answer_is_no_yes(serve: Serve) -> None:
    with pytest.raises(BadAnswer):
        ask(serve)
    assert ask(serve, open=["before_message"]) is None, "unless the operator said so, at this point"


def test_a_backend_that_hangs_is_waited_for_no_longer_than_said() -> None:
    async def serve(_request: web.BaseRequest) -> web.Response:
        await asyncio.sleep(30)
        return web.Response()

    begun = time.monotonic()
    with pytest.raises((TimeoutError, OutboundFailed)):
        ask(serve, timeout_ms=200)
    assert time.monotonic() - begun < 5


def test_a_backend_that_is_away_is_no_yes() -> None:
    with pytest.raises(OutboundFailed):
        ask(answering({}), url="http://127.0.0.1:1/")


def test_a_private_backend_must_be_listed() -> None:
    with pytest.raises(ForbiddenTarget):
        ask(answering({}), allow_private=[])


def test_the_backend_can_verify_who_asks_and_is_told_no_password() -> None:
    seen: list[dict[str, Any]] = []

    async def serve(request: web.BaseRequest) -> web.Response:
        body = await request.read()
        Webhook(SECRET).verify(body, {name.lower(): value for name, value in request.headers.items()})
        seen.append(json.loads(body))
        return web.Response(status=204)

    ask(serve)
    ask(serve, "before_login", LOGIN)
    ask(serve, "before_login", LOGIN, send_secrets=True)
    assert seen[0] == {"point": "before_message", "event": msgspec.to_builtins(MESSAGE)}
    assert [one["event"].get("secret") for one in seen[1:]] == [None, "her password"]


def test_requests_at_once_are_limited() -> None:
    under_way, most = 0, 0

    async def serve(_request: web.BaseRequest) -> web.Response:
        nonlocal under_way, most
        under_way += 1
        most = max(most, under_way)
        await asyncio.sleep(0.02)
        under_way -= 1
        return web.Response(status=204)

    async def run() -> None:
        async with served(serve) as port:
            options = {"url": f"http://127.0.0.1:{port}/", "points": ["before_message"], "secret": SECRET}
            plugin: Any = Http({**options, "allow_private": ["127.0.0.1"], "concurrency": 3, "timeout_ms": 5000})
            await asyncio.gather(*(plugin.before_message(MESSAGE) for _ in range(20)))
            await plugin.close()

    asyncio.run(run())
    assert most == 3


@pytest.mark.parametrize(
    "wrong",
    [
        {"points": []},
        {"points": ["after_login"]},
        {"points": ["before_mesage"]},
        {"open": ["before_login"]},
        {"secret": "short"},
        {"url": "ftp://host/"},
        {"timeout_ms": 0},
        {"colour": "red"},
    ],
)
def test_a_wrong_option_is_found_when_it_is_loaded(wrong: dict[str, Any]) -> None:
    good = {"url": "https://backend.example/", "points": ["before_message"], "secret": SECRET}
    Http(good)
    with pytest.raises((ValueError, ChatdError)):
        Http({**good, **wrong})


def test_a_refusal_without_a_code_has_that_of_a_plug_in() -> None:
    assert ask(answering({"allow": False})).code == ErrorCode.NOT_ALLOWED
