"""Requests that chatd makes: what may be reached, and what an answer costs at most."""

from __future__ import annotations

import asyncio
import gzip
import ssl
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from aiohttp import web

from chatd.outbound import (
    Answer,
    ForbiddenTarget,
    NoAnswerInTime,
    OutboundClient,
    OutboundFailed,
    OutboundLimits,
    check_url,
    is_allowed,
    networks_of,
)
from tests.harness.certificates import Certificate
from tests.harness.deadline import until

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
        ("::127.0.0.1", False),
        ("::93.184.216.34", False),
        ("fec0::1", False),
        ("64:ff9b:1::7f00:1", False),
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
    "host",
    [
        "127.0.0.1",
        "localhost",
        "LOCALHOST",
        "[::ffff:7f00:1]",
        "[::ffff:7f00:1%25lo]",
        "0.0.0.0",
        "0x7f000001",
        "\N{FULLWIDTH DIGIT ONE}27.0.0.1",
        "127\N{IDEOGRAPHIC FULL STOP}0.0.1",
        "\N{CIRCLED DIGIT ONE}27.0.0.1",
    ],
)
def test_loopback_is_forbidden_unless_it_is_listed(host: str) -> None:
    url, reached = f"http://{host}:{{port}}/", []

    async def serve(request: web.BaseRequest) -> web.Response:
        reached.append(request.path)
        return web.Response()

    with pytest.raises(ForbiddenTarget, match="allow_private"):
        ask(serve, OutboundLimits(), url)
    assert not reached


@pytest.mark.parametrize("host", ["2130706433", "127.1", "0177.0.0.1", "0"])
def test_an_address_in_a_form_that_only_some_programs_know_is_not_reached(host: str) -> None:
    reached = []

    async def serve(request: web.BaseRequest) -> web.Response:
        reached.append(request.path)
        return web.Response()

    for limits in (OutboundLimits(), LOOPBACK):
        with pytest.raises(OutboundFailed):
            ask(serve, limits, f"http://{host}:{{port}}/")
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


def test_a_name_that_means_another_address_the_next_time_is_resolved_and_checked_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """DNS rebinding: the address that was found to be allowed is the one that is connected to."""
    reached, asked = [], []

    async def serve(request: web.BaseRequest) -> web.Response:
        reached.append(request.transport.get_extra_info("sockname")[0])  # type: ignore[union-attr]
        return web.Response()

    async def lie(_loop: object, host: str, port: int, **_more: object) -> list[object]:
        asked.append(host)
        return [(2, 1, 6, "", ("127.0.0.1" if len(asked) == 1 else "127.0.0.2", port))]

    async def attempt() -> bool:
        """False: the port is taken at the other address."""
        async with served(serve) as port:
            try:
                inside = await asyncio.start_server(lambda *_: reached.append("inside"), "127.0.0.2", port)
            except OSError:
                return False
            monkeypatch.setattr(asyncio.SelectorEventLoop, "getaddrinfo", lie)
            limits = OutboundLimits(total_s=5, allow_private=("127.0.0.1",))
            first, second = OutboundClient(limits), OutboundClient(limits)
            assert (await first.request("GET", f"http://rebinding.example:{port}/")).status == 200
            assert (reached, len(asked)) == (["127.0.0.1"], 1)
            with pytest.raises(ForbiddenTarget, match=r"127\.0\.0\.2"):
                await second.request("GET", f"http://rebinding.example:{port}/")
            await first.close()
            await second.close()
            inside.close()
            return True

    assert any(asyncio.run(attempt()) for _ in range(50))
    assert (reached, len(asked)) == (["127.0.0.1"], 2)


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


# -------------------------------------------------------------------- servers that mean harm

Answering = Callable[[asyncio.StreamWriter], Awaitable[None]]
OK = b"HTTP/1.1 200 OK\r\n"
CHUNKED = OK + b"Transfer-Encoding: chunked\r\n\r\n"
WRITTEN_MOST = 16 * 1024 * 1024
"""What the kernel takes from a server, and what is read until the answer is found to be too long."""


def answered_by(answer: Answering, limits: OutboundLimits = LOOPBACK) -> Answer:
    """What becomes of a request to a server that does this once it has the request. Raises as request()."""

    async def run() -> Answer:
        ended = asyncio.Event()

        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            try:
                await reader.readuntil(b"\r\n\r\n")
                await answer(writer)
            except (OSError, asyncio.IncompleteReadError):
                pass
            finally:
                writer.close()
                ended.set()

        server = await asyncio.start_server(serve, "127.0.0.1", 0)
        client = OutboundClient(limits)
        try:
            return await client.request("GET", f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/")
        finally:
            async with asyncio.timeout(5):
                await ended.wait()  # the connection is closed before the client is
            await client.close()
            server.close()

    return asyncio.run(run())


FLOODS = {
    "headers": (OK, b"X-Y: z\r\n" * 1000, None),
    "a long header": (OK + b"X: ", b"y" * 65536, None),
    "a long status": (b"HTTP/1.1 200 ", b"y" * 65536, None),
    "interim answers": (b"", b"HTTP/1.1 100 Continue\r\n\r\n" * 1000, None),
    "early hints": (b"", b"HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n" * 1000, None),
    "a body": (OK + b"\r\n", b"y" * 65536, 200),
    "small chunks": (CHUNKED, b"1\r\ny\r\n" * 10_000, 200),
    "a chunk extension": (CHUNKED + b"1;", b"y" * 65536, 200),
    "other answers": (OK + b"Content-Length: 2000\r\n\r\n" + b"y" * 2000, OK + b"Content-Length: 0\r\n\r\n", 200),
}
"""How an answer begins, how it goes on for ever, and its status, if it counts."""


@pytest.mark.parametrize("flood", FLOODS)
def test_an_answer_without_end_is_not_read_on(flood: str) -> None:
    """Well before the time limit, by its length."""
    begin, more, status = FLOODS[flood]
    written = 0

    async def answer(writer: asyncio.StreamWriter) -> None:
        nonlocal written
        writer.write(begin)
        while True:
            writer.write(more)
            written += len(more)
            await writer.drain()
            await asyncio.sleep(0)

    limits = OutboundLimits(allow_private=("127.0.0.1",), total_s=20, answer_bytes=1000)
    begun = time.monotonic()
    if status is None:
        with pytest.raises(OutboundFailed) as failed:
            answered_by(answer, limits)
        assert "yyyy" not in str(failed.value), "what another server writes is shown to nobody"
    else:
        found = answered_by(answer, limits)
        assert (found.status, found.is_cut, len(found.body) <= 1000) == (status, True, True)
    assert written < WRITTEN_MOST
    assert time.monotonic() - begun < 15


def test_one_answer_after_another_may_be_long_together() -> None:
    """The limit is for each request, also on a connection that is kept."""

    async def serve(request: web.BaseRequest) -> web.Response:
        peers.add(request.transport.get_extra_info("peername"))  # type: ignore[union-attr]
        return web.Response(body=b"x" * 1000)

    peers: set[object] = set()

    async def run() -> None:
        async with served(serve) as port:
            client = OutboundClient(LOOPBACK)
            for _ in range(100):
                assert len((await client.request("GET", f"http://127.0.0.1:{port}/")).body) == 1000
            await client.close()

    asyncio.run(run())
    assert len(peers) == 1


@pytest.mark.parametrize("text", [OK, b"", b"HTTP/1.1 200 OK\r\nX: "], ids=["headers", "status", "a header"])
def test_an_answer_that_drips_is_not_waited_for_beyond_the_limit(text: bytes) -> None:
    """Each byte comes in time, all together do not."""

    async def answer(writer: asyncio.StreamWriter) -> None:
        writer.write(text)
        for byte in (b"" if text else b"HTTP/1.1 200 ") + b"y" * 1000:
            writer.write(bytes([byte]))
            await writer.drain()
            await asyncio.sleep(0.02)

    begun = time.monotonic()
    with pytest.raises(OutboundFailed, match="no answer within"):
        answered_by(answer, OutboundLimits(allow_private=("127.0.0.1",), total_s=0.3))
    assert time.monotonic() - begun < 5


def test_a_server_that_never_reads_is_not_waited_for_and_nothing_is_left_behind() -> None:
    """Its end of the connection is full long before all of the body is sent."""

    async def run() -> None:
        ended = asyncio.Event()

        async def serve(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            writer.transport.pause_reading()  # type: ignore[attr-defined]  # of a socket, it has this
            await ended.wait()
            writer.transport.abort()

        server = await asyncio.start_server(serve, "127.0.0.1", 0, limit=1000)
        client = OutboundClient(OutboundLimits(allow_private=("127.0.0.1",), total_s=0.3))
        with pytest.raises(NoAnswerInTime):
            await client.request(
                "POST", f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/", body=b"x" * 50_000_000
            )
        ended.set()
        await client.close()
        server.close()
        await until(5, "no task is left", lambda: len(asyncio.all_tasks()) == 1)

    asyncio.run(run())


def test_a_server_that_does_not_begin_tls_is_not_waited_for_longer_than_for_a_connection() -> None:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while await reader.read(65536):
            pass
        writer.close()

    async def run() -> None:
        server = await asyncio.start_server(serve, "127.0.0.1", 0)
        client = OutboundClient(OutboundLimits(allow_private=("127.0.0.1",), total_s=20, connect_s=0.3))
        try:
            await client.request("GET", f"https://127.0.0.1:{server.sockets[0].getsockname()[1]}/")
        finally:
            await client.close()
            server.close()

    with pytest.raises(NoAnswerInTime, match=r"no connection within 0\.3 s"):
        asyncio.run(run())


def test_a_server_whose_certificate_nobody_vouches_for_gets_no_request(tmp_path: Path) -> None:
    certificate = Certificate(tmp_path, "localhost")
    tls = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    tls.load_cert_chain(certificate.pem, certificate.key)
    received = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        received.append(await reader.read(1000))
        writer.close()

    async def run() -> None:
        server = await asyncio.start_server(serve, "127.0.0.1", 0, ssl=tls)
        client = OutboundClient(LOOPBACK)
        try:
            await client.request("GET", f"https://localhost:{server.sockets[0].getsockname()[1]}/")
        finally:
            await client.close()
            server.close()

    with pytest.raises(OutboundFailed, match="CERTIFICATE_VERIFY_FAILED"):
        asyncio.run(run())
    assert not any(received)


@pytest.mark.parametrize(
    ("text", "status", "is_cut"),
    [
        (b"HTTP/1.0 200 OK\r\n\r\ndone", 200, False),
        (b"HTTP/1.0 204 No Content\r\n\r\n", 204, False),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhalf", 200, True),
        (b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", 200, False),
    ],
    ids=["HTTP/1.0", "HTTP/1.0 without a body", "half a body", "an interim answer"],
)
def test_an_answer_that_ends_with_the_connection_is_an_answer(text: bytes, status: int, is_cut: bool) -> None:
    async def answer(writer: asyncio.StreamWriter) -> None:
        writer.write(text)
        await writer.drain()

    found = answered_by(answer)
    assert (found.status, found.is_cut) == (status, is_cut)


@pytest.mark.parametrize("text", [b"", b"HTTP/1.1 2", b"HTTP/1.1 200 OK\r\nX: y\r\n", b"SSH-2.0-OpenSSH\r\n\r\n"])
def test_no_whole_answer_is_a_failure(text: bytes) -> None:
    async def answer(writer: asyncio.StreamWriter) -> None:
        writer.write(text)
        await writer.drain()

    with pytest.raises(OutboundFailed) as failed:
        answered_by(answer)
    assert "SSH" not in str(failed.value), "what another server writes is shown to nobody"
