"""What an HTTP connection bears, and what it does not: sizes, times, broken and ambiguous requests, floods.

All of it is done over sockets to a running daemon; the chat of the same worker goes on meanwhile.
"""

from __future__ import annotations

import contextlib
import re
import socket
import time

import psutil
import pytest

from chatd.errors import ErrorCode
from tests.harness.deadline import wait_until
from tests.harness.phone import Phone
from tests.http.conftest import BODY_BYTES, CONCURRENT, HEADER_BYTES, IDLE_S, REQUEST_S, STALL_S, House
from tests.http.raw import Raw, message, post

GET = b"GET /docs HTTP/1.1\r\nHost: chat\r\n\r\n"
HELLO = message("bob", "hello")


def still_serves(house: House) -> None:
    with house.connect() as raw:
        assert raw.ask(post(house.key, HELLO)).status == 201


# ---------------------------------------------------------------- kept connections


def test_many_requests_on_one_connection_and_several_at_once(small: House) -> None:
    with small.connect() as raw:
        for _ in range(3):
            assert raw.ask(post(small.key, HELLO)).status == 201
        raw.send(b"".join(post(small.key, message("bob", f"piped {n}")) for n in range(10)) + GET)
        seqs = [raw.said().json()["seq"] for _ in range(10)]
        assert seqs == list(range(seqs[0], seqs[0] + 10)), "answered, and stored, in order"
        assert raw.said().headers["content-type"].startswith("text/html")


def test_a_broken_request_does_not_take_the_answer_of_the_one_before_it(small: House) -> None:
    with small.connect() as raw:
        long = b"X-Long: " + b"x" * HEADER_BYTES
        raw.send(post(small.key, HELLO) + GET.replace(b"\r\n\r\n", b"\r\n" + long + b"\r\n\r\n"))
        assert raw.said().status == 201
        assert raw.ended() == b""


def test_a_request_in_single_bytes(small: House) -> None:
    with small.connect() as raw:
        for byte in post(small.key, HELLO):
            raw.send(bytes((byte,)))
        assert raw.said().status == 201


def test_a_body_in_chunks_and_one_that_is_announced(small: House) -> None:
    head = post(small.key, b"").replace(b"Content-Length: 0", b"Transfer-Encoding: chunked")
    with small.connect() as raw:
        raw.send(head + b"5\r\n" + HELLO[:5] + b"\r\n%x\r\n" % (len(HELLO) - 5) + HELLO[5:] + b"\r\n0\r\n\r\n")
        assert raw.said().status == 201
        request = post(small.key, HELLO, b"Expect: 100-continue")
        raw.send(request.removesuffix(HELLO))
        assert raw.until(b"\r\n\r\n").startswith(b"HTTP/1.1 100 ")
        raw.send(HELLO)
        assert raw.said().status == 201


def test_a_client_that_closes_its_side_gets_its_answer(small: House) -> None:
    with small.connect() as raw:
        raw.send(post(small.key, HELLO))
        raw.sock.shutdown(socket.SHUT_WR)
        said = raw.said()
        assert (said.status, said.headers["connection"]) == (201, "close")
        assert raw.ended() == b""


def test_http_1_0_and_a_client_that_wants_to_close(small: House) -> None:
    for request in (GET.replace(b"1.1", b"1.0"), GET.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n")):
        with small.connect() as raw:
            assert raw.ask(request).status == 200
            assert raw.ended() == b""


def test_a_connection_ends_after_its_number_of_requests(small: House) -> None:
    with small.connect() as raw:
        said = [raw.ask(GET) for _ in range(50)]
        assert [one.headers.get("connection") for one in said] == [None] * 49 + ["close"]
        assert raw.ended() == b""


def test_a_connection_without_requests_ends(small: House) -> None:
    """Empty lines are no requests."""
    with small.connect() as silent, small.connect() as raw, small.connect() as empty:
        begun = time.monotonic()
        assert raw.ask(GET).status == 200
        assert empty.ask(GET).status == 200
        with contextlib.suppress(OSError):
            while time.monotonic() - begun < IDLE_S + 5:
                empty.send(b"\r\n")
                time.sleep(0.2)
        for one in (silent, raw, empty):
            assert one.ended() == b""
        assert IDLE_S - 0.2 < time.monotonic() - begun < IDLE_S + 4


def test_head_has_the_headers_and_no_body(small: House) -> None:
    with small.connect() as raw:
        raw.send(GET.replace(b"GET", b"HEAD"))
        assert raw.until(b"\r\n\r\n").startswith(b"HTTP/1.1 200 ")
        assert raw.ask(GET).status == 200, "what follows the head is the next answer"


# ---------------------------------------------------------------- too large


@pytest.mark.parametrize(
    ("request_", "status"),
    [
        (b"GET /" + b"x" * HEADER_BYTES + b" HTTP/1.1\r\nHost: chat\r\n\r\n", 431),
        (b"GET / HTTP/1.1\r\nHost: chat\r\nX: " + b"x" * HEADER_BYTES + b"\r\n\r\n", 431),
        (b"GET / HTTP/1.1\r\n" + b"".join(b"X%d: y\r\n" % n for n in range(101)) + b"\r\n", 431),
        (b"GET / HTTP/1.1\r\nX: " + b"x" * 200_000, 431),
        (post("chatd_x", b"").replace(b"Length: 0", b"Length: %d" % (BODY_BYTES + 1)), 413),
        (post("chatd_x", b"").replace(b"Length: 0", b"Length: 99999999999999999999"), 400),
    ],
    ids=["line", "header", "headers", "no end", "body", "length"],
)
def test_what_is_too_large_is_refused_before_it_is_read(small: House, request_: bytes, status: int) -> None:
    with small.connect() as raw:
        raw.send(request_)
        said = raw.said()
        assert (said.status, said.headers["connection"]) == (status, "close")
        assert said.headers["content-type"] == "application/problem+json"
        assert raw.ended() == b""
    still_serves(small)


def test_chunks_that_become_too_much_are_refused(small: House) -> None:
    head = post(small.key, b"").replace(b"Content-Length: 0", b"Transfer-Encoding: chunked")
    with small.connect() as raw:
        raw.send(head)
        raw.send(b"1000\r\n" + b" " * 0x1000 + b"\r\n")
        for _ in range(BODY_BYTES // 0x1000):
            raw.send(b"1000\r\n" + b" " * 0x1000 + b"\r\n")
        said = raw.said()
        assert (said.status, said.code) == (413, ErrorCode.TOO_LONG)
        assert raw.ended() == b""


# ---------------------------------------------------------------- too slow


def test_a_request_that_takes_too_long_is_told_so(small: House) -> None:
    """However busy the client is: a byte now and then does not prolong it."""
    head, body = post(small.key, HELLO)[:-3], post(small.key, b" " * 1000)[:-900]
    with small.connect() as in_head, small.connect() as in_body:
        in_head.send(head[:30])
        in_body.send(body)
        begun = time.monotonic()
        while time.monotonic() - begun < REQUEST_S + 1.2:
            for raw in (in_head, in_body):
                with contextlib.suppress(OSError):
                    raw.send(b" " if raw is in_body else b"x")
            time.sleep(0.1)
        for raw in (in_head, in_body):
            said = raw.said()
            assert (said.status, said.code) == (408, ErrorCode.TOO_SLOW)


def test_a_busy_connection_on_which_a_request_is_always_half_there_is_not_too_slow(small: House) -> None:
    """Each request is due from its own first byte, not from that of the first one."""
    request = post(small.key, HELLO)
    half = len(request) // 2
    begun = time.monotonic()
    with small.connect() as raw:
        raw.send(request[:half])
        for _ in range(40):
            raw.send(request[half:] + request[:half])
            assert raw.said().status == 201
            time.sleep(0.06)
        assert time.monotonic() - begun > 2 * REQUEST_S
        raw.send(request[half:])
        assert raw.said().status == 201


def test_a_hundred_slow_clients_keep_nobody_out(small: House) -> None:
    slow = [small.connect() for _ in range(100)]
    try:
        for raw in slow:
            raw.send(GET[:20])
        still_serves(small)
        for raw in slow:
            assert raw.said().status == 408
    finally:
        for raw in slow:
            raw.sock.close()


# ---------------------------------------------------------------- broken, or with two meanings

HEAD = b"POST / HTTP/1.1\r\nHost: a\r\n"
CHUNKED = b"POST /v1/messages HTTP/1.1\r\nHost: chat\r\nTransfer-Encoding: chunked\r\n\r\n"
SMUGGLED = b"GET /docs/style.css HTTP/1.1\r\nHost: chat\r\n\r\n"
AMBIGUOUS = {
    "two lengths": HEAD + b"Content-Length: 0\r\nContent-Length: 46\r\n\r\n" + SMUGGLED,
    "list of lengths": HEAD + b"Content-Length: 0, 46\r\n\r\n" + SMUGGLED,
    "length with a sign": HEAD + b"Content-Length: +0\r\n\r\n" + SMUGGLED,
    "length in hexadecimal": HEAD + b"Content-Length: 0x0\r\n\r\n" + SMUGGLED,
    "length and chunks": HEAD + b"Content-Length: 6\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n" + SMUGGLED,
    "chunks and length": HEAD + b"Transfer-Encoding: chunked\r\nContent-Length: 6\r\n\r\n0\r\n\r\n" + SMUGGLED,
    "chunked is not last": HEAD + b"Transfer-Encoding: chunked, identity\r\n\r\n0\r\n\r\n" + SMUGGLED,
    "unknown coding": HEAD + b"Transfer-Encoding: xchunked\r\n\r\n0\r\n\r\n" + SMUGGLED,
    "space before the colon": HEAD + b"Transfer-Encoding : chunked\r\n\r\n0\r\n\r\n" + SMUGGLED,
    "folded header": HEAD + b"Transfer-Encoding:\r\n chunked\r\nX: y\r\n\r\n0\r\n\r\n" + SMUGGLED,
    "no host": b"POST / HTTP/1.1\r\nContent-Length: 0\r\n\r\n" + SMUGGLED,
    "two hosts": HEAD + b"Host: b\r\nContent-Length: 0\r\n\r\n" + SMUGGLED,
    "the same host twice": HEAD + b"Host: a\r\nContent-Length: 0\r\n\r\n" + SMUGGLED,
    "host in the trailer": CHUNKED.replace(b"Host: chat\r\n", b"") + b"0\r\nHost: chat\r\n\r\n" + SMUGGLED,
    "bare LF": b"POST / HTTP/1.1\nHost: a\nContent-Length: 0\n\n" + SMUGGLED,
    "NUL in a header": b"GET / HTTP/1.1\r\nHost: a\r\nX: y\0z\r\n\r\n" + SMUGGLED,
    "CR in a header": b"GET / HTTP/1.1\r\nHost: a\r\nX: y\rTransfer-Encoding: chunked\r\n\r\n" + SMUGGLED,
    "chunk without a size": CHUNKED + b"\r\nabc\r\n0\r\n\r\n" + SMUGGLED,
    "chunk with a bad size": CHUNKED + b"5x\r\nabcde\r\n0\r\n\r\n" + SMUGGLED,
    "chunk of negative size": CHUNKED + b"-5\r\nabcde\r\n0\r\n\r\n" + SMUGGLED,
    "chunk that is longer": CHUNKED + b"3\r\nabcdef\r\n0\r\n\r\n" + SMUGGLED,
    "chunk of 2^64": CHUNKED + b"10000000000000000\r\nabc\r\n0\r\n\r\n" + SMUGGLED,
    "another protocol": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + b"x" * 100,
    "HTTP/2": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    "no HTTP at all": b"login alice\r\n\r\n",
    "version 9": b"GET / HTTP/9.9\r\nHost: a\r\n\r\n",
    "upgrade": b"GET /docs HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n" + SMUGGLED,
    "tunnel": b"CONNECT example.org:443 HTTP/1.1\r\nHost: a\r\n\r\n" + SMUGGLED,
}


@pytest.mark.parametrize("sent", AMBIGUOUS.values(), ids=AMBIGUOUS.keys())
def test_a_request_of_which_others_may_see_another_end_is_the_last(small: House, sent: bytes) -> None:
    """What follows it is never taken for a request: no answer is the style sheet."""
    with small.connect() as raw:
        raw.send(sent)
        everything = raw.ended()
    assert b"text/css" not in everything
    answers = len(re.findall(rb"HTTP/1\.1 \d", everything))
    assert answers <= 1, everything
    if answers:
        assert everything.startswith((b"HTTP/1.1 4", b"HTTP/1.1 501 ")), everything
        assert b"connection: close" in everything.lower()


def test_a_broken_request_behind_others_takes_none_of_their_answers(small: House) -> None:
    """A balancer that sends several clients' requests over one connection must not give one of them the answer of
    another."""
    with small.connect() as raw:
        raw.send(post(small.key, HELLO) + post(small.key, HELLO) + b"rubbish\r\n\r\n")
        everything = raw.ended()
    assert everything.startswith(b"HTTP/1.1 201 ")
    assert b"HTTP/1.1 4" not in everything


def test_what_stands_behind_the_chunks_is_no_header(small: House) -> None:
    """A balancer removes or checks headers, and passes on a trailer: no key, and no Idempotency-Key, comes in one. All
    of it arrives at once, so it is parsed before the request is served."""
    chunks = b"%x\r\n" % len(HELLO) + HELLO + b"\r\n0\r\n"
    authorized = b"Authorization: Bearer " + small.key.encode() + b"\r\n"
    head = post(small.key, b"").replace(b"Content-Length: 0", b"Transfer-Encoding: chunked")
    with small.connect() as raw:
        said = raw.ask(head.replace(authorized, b"") + chunks + authorized + b"\r\n")
        assert (said.status, said.code) == (401, ErrorCode.UNKNOWN_KEY)
        for _ in range(2):
            said = raw.ask(head + chunks + b"Idempotency-Key: in the trailer\r\nContent-Type: text/plain\r\n\r\n")
            assert said.status == 201
            assert said.json()["id"] != "in the trailer"
        raw.send(head + chunks + b"X: " + b"y" * 500 + b"\r\n")
        for _ in range(HEADER_BYTES // 500 + 2):
            raw.send(b"X: " + b"y" * 500 + b"\r\n")
        assert raw.said().status == 431


@pytest.mark.parametrize("header", ["Authorization", "Idempotency-Key", "Content-Type"])
def test_a_header_that_a_request_has_once_is_not_taken_from_two(small: House, header: str) -> None:
    same = {
        "Authorization": f"Bearer {small.key}",
        "Idempotency-Key": "one",
        "Content-Type": "application/json",
    }[header]
    twice = f"{header}: {same}".encode()
    with small.connect() as raw:
        said = raw.ask(post(small.key, HELLO, *([twice] if header != "Idempotency-Key" else [twice, twice])))
    assert (said.status, said.code) == (400, ErrorCode.INVALID_PACKET)
    assert header.lower() in said.json()["detail"]


@pytest.mark.parametrize("way", ["never comes", "becomes too long", "is broken"])
def test_a_request_that_was_answered_early_is_not_answered_again(small: House, way: str) -> None:
    """A wrong key is refused before the body has come. What is wrong with the body later ends the connection without a
    word: behind a balancer, a second answer would be taken for that of the next request."""
    head = post("chatd_wrong", b"").replace(b"Content-Length: 0", b"Transfer-Encoding: chunked")
    with small.connect() as raw:
        said = raw.ask(head + b"1\r\n \r\n")
        assert (said.status, said.code) == (401, ErrorCode.UNKNOWN_KEY)
        if way == "is broken":
            raw.send(b"no chunk\r\n")
        while way == "becomes too long":
            try:
                raw.send(b"1000\r\n" + b" " * 0x1000 + b"\r\n")
            except OSError:
                break
        assert raw.ended() == b""
    still_serves(small)


@pytest.mark.parametrize(
    ("content_type", "status"),
    [
        (b"application/json; charset=utf-8", 201),
        (b"Application/JSON", 201),
        (b"application/jsonl", 415),
        (b"application/json-patch+json", 415),
        (b"text/plain; application/json", 415),
    ],
)
def test_only_json_is_taken_for_json(small: House, content_type: bytes, status: int) -> None:
    request = post(small.key, HELLO).replace(b"application/json", content_type)
    with small.connect() as raw:
        assert raw.ask(request).status == status


def test_options_and_trace_tell_nothing(small: House) -> None:
    with small.connect() as raw:
        for method in (b"OPTIONS", b"TRACE", b"PROPFIND"):
            request = post(small.key, b"", b"Cookie: secret").replace(b"POST", method)
            said = raw.ask(request)
            assert (said.status, said.code, said.headers["allow"]) == (405, ErrorCode.METHOD_NOT_ALLOWED, "POST")
            assert b"secret" not in said.body
            assert small.key.encode() not in said.body
        assert raw.ask(b"OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n").status == 404


def test_a_client_that_leaves_in_the_middle(small: House) -> None:
    for part in (10, 200, len(post(small.key, HELLO)) - 3):
        raw = small.connect()
        raw.send(post(small.key, HELLO)[:part])
        raw.sock.close()
    still_serves(small)


# ---------------------------------------------------------------- floods beside the chat


def floods(house: House) -> dict[str, bytes]:
    many = b"a:\r\n"
    return {
        "requests": GET * 5000,
        "headers": b"GET / HTTP/1.1\r\n" + many * 60_000,
        "chunks": post(house.key, b"").replace(b"Content-Length: 0", b"Transfer-Encoding: chunked")
        + b"1\r\n \r\n" * 40_000,
        "empty lines": b"\r\n" * 100_000,
        "nested": post(house.key, b"[" * (BODY_BYTES - 1)),
    }


def test_floods_do_not_hold_up_the_chat(small: House) -> None:
    """Each is sent over and over from several connections; every message of the chat beside it is answered in time.
    Measured on a quiet machine, a slice of a flood holds the loop for about a millisecond; the bound here allows for a
    machine that is busy with other tests."""
    phone = Phone(small.daemon.ports["mobileimsdk"], "alice", "secret of alice")
    slowest = 0.0
    for flood in floods(small).values():
        attackers = []
        for _ in range(8):
            attacker = small.connect()
            attacker.sock.setblocking(False)
            attackers.append(attacker)
        for number in range(5):
            for attacker in attackers:
                try:
                    attacker.sock.send(flood)
                except (BlockingIOError, BrokenPipeError, ConnectionResetError):
                    continue
            begun = time.monotonic()
            phone.say("bob", f"beside {number}")
            slowest = max(slowest, time.monotonic() - begun)
        for attacker in attackers:
            attacker.sock.close()
    phone.close()
    assert slowest < 0.5
    still_serves(small)


def test_requests_beyond_those_that_are_served_at_the_same_time_are_refused(small: House) -> None:
    """Each waits for its body, and holds up nobody but themselves."""
    head = post(small.key, HELLO).removesuffix(HELLO)
    waiting = [small.connect() for _ in range(CONCURRENT)]
    try:
        for raw in waiting:
            raw.send(head)
        with small.connect() as more:
            said = more.ask(post(small.key, HELLO))
            assert (said.status, said.code) == (503, ErrorCode.BUSY)
            assert int(said.headers["retry-after"]) >= 1
            waiting[0].send(HELLO)
            assert waiting[0].said().status == 201
            assert more.ask(post(small.key, HELLO)).status == 201, "there is room again"
        for raw in waiting[1:]:
            raw.send(HELLO)
            assert raw.said().status == 201
    finally:
        for raw in waiting:
            raw.sock.close()


def test_a_client_that_asks_for_much_and_reads_nothing_is_disconnected(small: House) -> None:
    """Its answers wait for it: the worker makes one at a time, and keeps no more than that."""
    process = psutil.Process(small.daemon.workers()[0])
    before, begun = process.memory_info().rss, time.monotonic()
    asking = GET.replace(b"/docs", b"/openapi.json") * 4
    with small.connect() as raw:
        raw.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        raw.sock.setblocking(False)
        while time.monotonic() - begun < STALL_S + 15:
            try:
                raw.sock.send(asking)
            except BlockingIOError:
                pass
            except (BrokenPipeError, ConnectionResetError):
                break
            time.sleep(0.02)
        else:
            raise AssertionError("it was not disconnected")
    assert time.monotonic() - begun > STALL_S
    assert process.memory_info().rss - before < 30_000_000
    still_serves(small)


def test_connections_without_a_key_make_room_for_logins(tmp_path_factory: pytest.TempPathFactory) -> None:
    """They are strangers like any others: a full worker ends the oldest of them, and none with a valid key."""
    house = House(tmp_path_factory.mktemp("full"), 1, limits={"unauthenticated": 20})
    try:
        with house.connect() as good:
            assert good.ask(post(house.key, HELLO)).status == 201
            strangers = [Raw(house.port, "127.0.0.9") for _ in range(40)]
            first = strangers[0].said()
            assert (first.status, first.code) == (503, ErrorCode.BUSY)
            assert good.ask(post(house.key, HELLO)).status == 201
            for raw in strangers:
                raw.sock.close()
            wait_until(5, "they are gone", lambda: house.daemon.status()["workers"][0]["connections"] < 20)
    finally:
        assert house.daemon.discard() == []
