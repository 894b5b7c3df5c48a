"""Requests that chatd makes: what may be reached, and what an answer costs at most."""

from __future__ import annotations

import asyncio
import gzip
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import pytest
from aiohttp import web

from chatd.outbound import (
    Answer,
    ForbiddenTarget,
    OutboundClient,
    OutboundFailed,
    OutboundLimits,
    check_url,
    is_allowed,
    networks_of,
)

LOOPBACK = OutboundLimits(allow_private=("127.0.0.0/8", "::1"), total_s=5, answer_bytes=1000)
Serve = Callable[[web.BaseRequest], Awaitable[web.StreamResponse]]


@asynccontextmanager
async def served(serve: Serve) -> AsyncIterator[int]:
    """A server on a free port of loopback that answers everything with `serve`."""
    runner = web.ServerRunner(web.Server(serve), shutdown_timeout=0.1)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    try:
        yield site._server.sockets[0].getsockname()[1]  # type: ignore[union-attr]  # aiohttp says it in no other way
    finally:
        await runner.cleanup()


def ask(serve: Serve, limits: OutboundLimits = LOOPBACK, url: str = "http://127.0.0.1:{port}/path") -> Answer:
    async def run() -> Answer:
        async with served(serve) as port:
            client = OutboundClient(limits)
            try:
                return await client.request("POST", url.format(port=port), body=b"text", headers={"X-One": "1"})
            finally:
                await client.close()

    return asyncio.run(run())


@pytest.mark.parametrize(
    ("address", "allowed"),
    [
        ("93.184.216.34", True),
        ("2606:2800:220:1:248:1893:25c8:1946", True),
        ("127.0.0.1", False),
        ("127.9.9.9", False),
        ("0.0.0.0", False),
        ("10.0.0.1", False),
        ("172.16.5.4", False),
        ("192.168.1.1", False),
        ("169.254.169.254", False),
        ("100.64.0.1", False),
        ("224.0.0.1", False),
        ("255.255.255.255", False),
        ("::1", False),
        ("::", False),
        ("fe80::1%eth0", False),
        ("fd00::1", False),
        ("ff02::1", False),
        ("::ffff:127.0.0.1", False),
        ("::ffff:93.184.216.34", True),
        ("64:ff9b::7f00:1", False),
        ("64:ff9b::5db8:d822", True),
        ("2002:7f00:1::", False),
        ("not an address", False),
    ],
)
def test_only_public_addresses_are_reached(address: str, allowed: bool) -> None:
    assert is_allowed(address, ()) is allowed


def test_a_listed_network_may_be_private() -> None:
    allowed = networks_of(["10.1.0.0/16", "fd00::/8"])
    assert is_allowed("10.1.2.3", allowed)
    assert is_allowed("::ffff:10.1.2.3", allowed)
    assert is_allowed("fd00::7", allowed)
    assert not is_allowed("10.2.0.1", allowed)


@pytest.mark.parametrize(
    "url",
    [
        "ftp://host/",
        "host/path",
        "http://",
        "http:///path",
        "https://user:secret@host/",
        "https://host/#part",
        "http://h:0/",
    ],
)
def test_a_url_that_cannot_be_used_is_refused(url: str) -> None:
    with pytest.raises(ValueError, match=r"URL|host|fragment"):
        check_url(url)


async def _echo(request: web.BaseRequest) -> web.Response:
    return web.Response(text=f"{request.method} {request.path} {await request.text()} {request.headers['X-One']}")


def test_an_answer_has_its_status_headers_and_body() -> None:
    answer = ask(_echo)
    assert (answer.status, answer.body, answer.is_cut, answer.is_success) == (200, b"POST /path text 1", False, True)
    assert answer.headers["content-type"] == "text/plain; charset=utf-8"


@pytest.mark.parametrize(
    "url", ["http://127.0.0.1:{port}/", "http://localhost:{port}/", "http://[::ffff:7f00:1]:{port}/"]
)
def test_loopback_is_forbidden_unless_it_is_listed(url: str) -> None:
    reached = []

    async def serve(request: web.BaseRequest) -> web.Response:
        reached.append(request.path)
        return web.Response()

    with pytest.raises(ForbiddenTarget, match="allow_private"):
        ask(serve, OutboundLimits(), url)
    assert not reached


@pytest.mark.parametrize("addresses", [("127.0.0.1",), ("127.0.0.1", "203.0.113.1")])
def test_whoever_runs_the_dns_of_a_name_cannot_direct_requests_into_the_own_network(
    addresses: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    """203.0.113.1, which is listed here, is an address at which nobody answers."""
    reached = []

    async def serve(request: web.BaseRequest) -> web.Response:
        reached.append(request.path)
        return web.Response()

    async def lie(_loop: object, _host: str, port: int, **_more: object) -> list[object]:
        return [(2, 1, 6, "", (address, port)) for address in addresses]

    monkeypatch.setattr(asyncio.SelectorEventLoop, "getaddrinfo", lie)
    limits = OutboundLimits(total_s=0.3, allow_private=("203.0.113.0/24",))
    with pytest.raises(OutboundFailed if len(addresses) > 1 else ForbiddenTarget):
        ask(serve, limits, "http://rebinding.example:{port}/")
    assert not reached


def test_a_redirect_is_not_followed() -> None:
    async def serve(request: web.BaseRequest) -> web.Response:
        assert request.path == "/path"
        return web.Response(status=307, headers={"Location": "/elsewhere"})

    answer = ask(serve)
    assert (answer.status, answer.headers["location"], answer.is_success) == (307, "/elsewhere", False)


def test_a_long_answer_is_cut_and_its_status_counts() -> None:
    async def serve(request: web.BaseRequest) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        for _ in range(1000):
            await response.write(b"x" * 65536)
        return response

    begun = time.monotonic()
    answer = ask(serve)
    assert (answer.status, len(answer.body), answer.is_cut) == (200, 1000, True)
    assert time.monotonic() - begun < 3


def test_a_body_that_does_not_end_does_not_change_the_status() -> None:
    async def serve(request: web.BaseRequest) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        await response.write(b"begun")
        await asyncio.sleep(30)
        return response

    answer = ask(serve, OutboundLimits(allow_private=("127.0.0.1",), total_s=0.3))
    assert (answer.status, answer.body, answer.is_cut) == (200, b"begun", True)


def test_a_compressed_answer_is_not_expanded() -> None:
    bomb = gzip.compress(b"0" * 500_000)

    async def serve(_request: web.BaseRequest) -> web.Response:
        return web.Response(body=bomb, headers={"Content-Encoding": "gzip"})

    assert ask(serve).body == bomb[:1000]


def test_no_answer_in_time_is_a_failure() -> None:
    async def serve(_request: web.BaseRequest) -> web.Response:
        await asyncio.sleep(30)
        return web.Response()

    with pytest.raises(OutboundFailed, match=r"no answer within 0\.3 s"):
        ask(serve, OutboundLimits(allow_private=("127.0.0.1",), total_s=0.3))


def test_nobody_listening_is_a_failure() -> None:
    async def serve(_request: web.BaseRequest) -> web.Response:
        return web.Response()

    with pytest.raises(OutboundFailed):
        ask(serve, url="http://127.0.0.1:1/{port}")


def test_an_answer_that_is_not_http_is_a_failure() -> None:
    async def run() -> None:
        async def serve(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            writer.write(b"SSH-2.0-OpenSSH\r\n\r\n")
            await writer.drain()
            writer.close()

        server = await asyncio.start_server(serve, "127.0.0.1", 0)
        client = OutboundClient(LOOPBACK)
        try:
            await client.request("GET", f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/")
        finally:
            await client.close()
            server.close()

    with pytest.raises(OutboundFailed):
        asyncio.run(run())
