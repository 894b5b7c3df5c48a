"""Connections of the API when workers leave; over TLS, behind a load balancer, and over a Unix socket; pages of
browsers."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.faults.ordeal import clients_of
from tests.harness.certificates import Certificate
from tests.harness.daemon import free_ports
from tests.harness.deadline import wait_until
from tests.http.conftest import WEBSOCKET_PATH, House
from tests.http.raw import Raw, message, post
from tests.net.proxy_headers import v1

GET = b"GET /docs HTTP/1.1\r\nHost: chat\r\n\r\n"
HELLO = message("bob", "hello")


def test_idle_connections_are_closed_at_once_and_the_others_after_their_answer(pair: House) -> None:
    """`chatctl restart-workers` while an application sends as fast as it can: each request that was sent is answered,
    or its connection was closed without a word of an answer, which a client repeats."""
    idle = [pair.connect() for _ in range(10)]
    for raw in idle:
        raw.ask(GET)
    done, statuses, unanswered = threading.Event(), [], []

    def talk() -> None:
        while not done.is_set():
            with pair.connect() as raw:
                try:
                    while not done.is_set():
                        said = raw.ask(post(pair.key, HELLO))
                        statuses.append(said.status)
                        if said.headers.get("connection") == "close":
                            break
                except (EOFError, OSError) as error:
                    unanswered.append(error)

    threads = [threading.Thread(target=talk) for _ in range(4)]
    for one in threads:
        one.start()
    begun = time.monotonic()
    answer = pair.daemon.ctl("restart-workers", limit_s=60)
    took_s = time.monotonic() - begun
    done.set()
    for one in threads:
        one.join()
    assert answer.returncode == 0, answer.stderr
    assert took_s < 15, "no connection of an application holds a worker up"
    assert set(statuses) == {201}
    assert not [error for error in unanswered if isinstance(error, EOFError) and error.args != (b"",)], "half an answer"
    for raw in idle:
        assert raw.ended() == b""
        raw.sock.close()


def test_a_request_that_is_half_there_when_its_worker_leaves_is_answered(pair: House) -> None:
    whole = post(pair.key, HELLO)
    with pair.connect() as raw:
        assert raw.ask(whole).status == 201
        raw.send(whole[:-5])
        port = raw.sock.getsockname()[1]
        (holder,) = [worker for worker in pair.daemon.workers() if port in clients_of(worker)]
        restart = threading.Thread(target=lambda: pair.daemon.ctl("restart-workers", limit_s=60))
        restart.start()
        wait_until(30, "its worker drains", lambda: any(one["pid"] == holder for one in pair.daemon.logged("draining")))
        time.sleep(0.3)  # the rest comes while it drains
        raw.send(whole[-5:])
        said = raw.said()
        assert (said.status, said.headers["connection"]) == (201, "close")
        assert raw.ended() == b""
    begun = time.monotonic()
    restart.join()
    assert time.monotonic() - begun < 15, "nothing is waited for any more"


# ---------------------------------------------------------------- other ways to come


class Ways(House):
    """With https, a Unix socket, and a listener for a load balancer, besides the usual one."""

    def __init__(self, root: Path) -> None:
        self.certificate = Certificate(root / "certificate", "127.0.0.1", "localhost")
        super().__init__(root, 1)

    def more(self) -> list[dict[str, object]]:
        ports, listen = self.daemon.ports, {"protocol": "http"}
        ports["https"], ports["balanced"] = free_ports(2)
        self.unix = self.daemon.runtime_dir / "api.sock"
        listen["websocket_path"] = WEBSOCKET_PATH
        encrypted, balanced = f"https://127.0.0.1:{ports['https']}", f"http://127.0.0.1:{ports['balanced']}"
        return [
            {**listen, "address": encrypted, "certificates": self.certificate.options()},
            {**listen, "address": balanced, "proxy_from": ["127.0.0.1"]},
            {**listen, "address": f"unix:{self.unix}"},
        ]


@pytest.fixture(scope="module")
def ways(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Ways]:
    house = Ways(tmp_path_factory.mktemp("ways"))
    yield house
    assert house.daemon.discard() == []


def test_over_tls(ways: Ways) -> None:
    context = ways.certificate.client()
    context.set_alpn_protocols(["h2", "http/1.1"])
    with Raw(ways.daemon.ports["https"], tls=context) as raw:
        assert raw.sock.selected_alpn_protocol() == "http/1.1"  # type: ignore[attr-defined]
        for _ in range(3):
            assert raw.ask(post(ways.key, HELLO)).status == 201
        long = raw.ask(b"GET /openapi.json HTTP/1.1\r\nHost: chat\r\n\r\n")
        assert len(long.body) > 64 * 1024
        assert json.loads(long.body)["openapi"] == "3.1.0"
    with Raw(ways.daemon.ports["https"]) as plain:
        plain.send(GET)
        assert b"HTTP/1.1 200" not in plain.ended()


def test_over_a_unix_socket(ways: Ways) -> None:
    with Raw(0, unix=str(ways.unix)) as raw:
        assert raw.ask(post(ways.key, HELLO)).status == 201


def test_behind_a_load_balancer_the_client_s_own_address_counts(ways: Ways) -> None:
    port = ways.daemon.ports["balanced"]
    with Raw(port, first=v1("203.0.113.9", 4711)) as raw:
        assert raw.ask(post("chatd_wrong", HELLO)).status == 401
        assert raw.ask(post(ways.key, HELLO)).status == 201
    refused = [one for one in ways.daemon.records() if one.get("security") == "api_key_refused"]
    assert refused[-1]["source"] == "203.0.113.9"
    with Raw(port) as raw:
        raw.send(GET)
        assert b"HTTP/1.1 200" not in raw.ended(), "a request without a header"


# ---------------------------------------------------------------- browsers


def test_only_listed_origins_may_call_from_a_page(small: House, pair: House) -> None:
    def preflight(house: House, origin: bytes) -> dict[str, str]:
        wanted = b"Access-Control-Request-Method: POST\r\nAccess-Control-Request-Headers: authorization\r\n\r\n"
        with house.connect() as raw:
            return raw.ask(b"OPTIONS /v1/messages HTTP/1.1\r\nHost: a\r\nOrigin: " + origin + b"\r\n" + wanted).headers

    allowed = preflight(small, b"https://app.example")
    assert allowed["access-control-allow-origin"] == "https://app.example"
    assert "authorization" in allowed["access-control-allow-headers"].lower()
    for house, origin in ((small, b"https://other.example"), (pair, b"https://app.example"), (small, b"null")):
        assert "access-control-allow-origin" not in preflight(house, origin)
    with small.connect() as raw:
        refused = raw.ask(post("chatd_wrong", HELLO, b"Origin: https://app.example"))
        assert refused.headers["access-control-allow-origin"] == "https://app.example", "its page may read the problem"
        assert "retry-after" in refused.headers["access-control-expose-headers"].lower()
        assert "access-control-allow-credentials" not in refused.headers
        assert (
            "access-control-allow-origin" not in raw.ask(post(small.key, HELLO, b"Origin: https://b.example")).headers
        )


def test_the_page_loads_nothing_from_elsewhere_and_runs_nothing(pair: House) -> None:
    with pair.connect() as raw:
        page = raw.ask(GET)
        style = raw.ask(GET.replace(b"/docs", b"/docs/style.css"))
        tagged = GET.replace(b"\r\n\r\n", b"\r\nIf-None-Match: " + page.headers["etag"].encode() + b"\r\n\r\n")
        unchanged = raw.ask(tagged)
    policy = page.headers["content-security-policy"]
    assert policy.startswith("default-src 'none'; style-src 'self'")
    text = page.body.decode()
    assert "<script" not in text
    assert " style=" not in text
    assert {*re.findall(r'(?:src|href)="([^"#][^"]*)"', text)} == {"/docs/style.css", "/openapi.json"}
    assert style.headers["content-type"].startswith("text/css")
    assert "POST" in text
    assert (unchanged.status, unchanged.body) == (304, b"")
    for said in (page, style):
        assert said.headers["x-content-type-options"] == "nosniff"


def test_the_calls_of_the_demo_are_off_unless_the_operator_wants_them(pair: House) -> None:
    for path in (b"/api/loginConnect", b"/api/sendMsg"):
        with pair.connect() as raw:
            assert raw.ask(b"POST " + path + b"?a=b HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n").status == 404
    with pair.connect() as raw:
        assert b"/api/" not in raw.ask(b"GET /openapi.json HTTP/1.1\r\nHost: a\r\n\r\n").body


def test_pages_are_not_served_if_the_operator_does_not_want_them(tmp_path_factory: pytest.TempPathFactory) -> None:
    house = House(tmp_path_factory.mktemp("no_pages"), 1, http={"docs": False})
    try:
        for path in (b"/docs", b"/openapi.json", b"/docs/style.css"):
            with house.connect() as raw:
                assert raw.ask(GET.replace(b"/docs", path)).status == 404
    finally:
        assert house.daemon.discard() == []


def test_a_server_without_the_api_loads_nothing_of_it() -> None:
    """In a process of its own: what a worker imports, and what a master loads for workers of the shipped file."""
    asked = (
        "import sys\nfrom chatd import preload\nfrom chatd.config.schema import Config\npreload.load(Config())\n"
        "print([name for name in sys.modules if name.partition('.')[0] in ('uvicorn', 'starlette', 'httptools')"
        " or name.startswith('chatd.http')])"
    )
    told = subprocess.run([sys.executable, "-c", asked], capture_output=True, text=True, check=True, timeout=60)
    assert told.stdout.strip() == "[]"
