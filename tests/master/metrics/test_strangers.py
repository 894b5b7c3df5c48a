"""Who may not read metrics, and scrapers that read nothing, with guards that can be switched off; and where metrics may
be served besides TCP over IPv4."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from chatd.master.metrics.gate import CONNECTIONS
from tests.harness.daemon import Daemon, free_port
from tests.harness.deadline import wait_until
from tests.harness.switches import switched_off, with_switches
from tests.http.raw import Raw
from tests.master.metrics.scraping import get

pytestmark = pytest.mark.xdist_group("metrics")
READY = b"GET /readyz HTTP/1.1\r\nHost: x\r\n\r\n"
SCRAPE = b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n"
SCRAPERS = 100
MEMORY_BYTES = 20_000_000
"""A page of metrics has some 50 kB; a hundred copies of it would be 5 MB, so this is far beyond what is kept."""


@pytest.fixture(scope="module")
def daemon(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Daemon]:
    metrics = {"address": f"tcp://0.0.0.0:{free_port()}", "allow": ["127.0.0.1"]}
    entry = ("-m", "tests.master.metrics.planted")
    made = with_switches(Daemon(tmp_path_factory.mktemp("strangers"), workers=1, entry=entry, metrics=metrics))
    try:
        yield made.start()
    finally:
        complaints = made.discard()
    assert complaints == []


def answer_to(port: int, source: str) -> bytes:
    with Raw(port, source) as client:
        with contextlib.suppress(OSError):
            client.send(SCRAPE)
        return client.ended()


def test_an_outsider_reads_nothing_and_everything_without_the_guard(daemon: Daemon, port: int) -> None:
    assert get(port, "/metrics").status == 200
    assert answer_to(port, "127.0.0.66") == b""
    refused = daemon.logged("its address is not in metrics.allow")
    assert {one["source"] for one in refused} == {"127.0.0.66"}
    with switched_off("everybody_may_ask", daemon):
        assert b"chatd_sessions" in answer_to(port, "127.0.0.66")
    assert answer_to(port, "127.0.0.66") == b""


def scrapers_that_read_nothing(port: int) -> list[socket.socket]:
    found = []
    for _ in range(SCRAPERS):
        client = socket.socket()
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1)
        client.settimeout(10)
        client.connect(("127.0.0.1", port))
        client.sendall(SCRAPE)
        found.append(client)
    return found


def test_a_hundred_scrapers_that_read_nothing_keep_nobody_from_reading_although_the_worker_hangs(
    daemon: Daemon, port: int
) -> None:
    """With one more that sends nothing; and the master keeps no more than its connections."""
    master = psutil.Process(daemon.pid)
    (worker,) = daemon.workers()
    memory, descriptors = master.memory_info().rss, master.num_fds()
    os.kill(worker, signal.SIGSTOP)
    deaf = []
    try:
        deaf = scrapers_that_read_nothing(port)
        page = get(port, "/metrics")
        assert (page.status, "chatd_sessions" in page.body) == (200, True)
        assert master.num_fds() <= descriptors + CONNECTIONS
        assert master.memory_info().rss < memory + MEMORY_BYTES
    finally:
        os.kill(worker, signal.SIGCONT)
        for client in deaf:
            client.close()
    wait_until(15, "ready again", lambda: get(port, "/readyz").status == 200, 0.1)


def test_without_the_limit_of_connections_they_are_all_kept(daemon: Daemon, port: int) -> None:
    master = psutil.Process(daemon.pid)
    descriptors = master.num_fds()
    with switched_off("connections_are_kept_for_ever", daemon):
        deaf = scrapers_that_read_nothing(port)
        wait_until(10, "more are open", lambda: master.num_fds() > descriptors + CONNECTIONS)
        for client in deaf:
            client.close()
    wait_until(15, "they are gone", lambda: master.num_fds() <= descriptors + 1, 0.1)


# ---------------------------------------------------------------- other places


class Places:
    """A daemon whose metrics are on a Unix socket, and whose API is on another one and on IPv6."""

    def __init__(self, root: Path) -> None:
        self.daemon = Daemon(root, workers=1)
        self.paths = [self.daemon.runtime_dir / name for name in ("metrics.sock", "api.sock")]
        self.metrics_port, self.port = free_port(), free_port()
        metrics, api = (f"unix:{one}" for one in self.paths)
        for address in (api, f"http://[::1]:{self.port}"):
            self.daemon.config["listen"].append({"protocol": "http", "address": address})
        self.serve_metrics_at(metrics)

    def serve_metrics_at(self, address: str) -> None:
        self.daemon.config["metrics"] = {"address": address}
        self.daemon.write_config()

    def answers(self) -> list[int]:
        """The status of /readyz, and of requests to the API without a key."""
        asked = b"GET /v1/users HTTP/1.1\r\nHost: x\r\n\r\n"
        metrics, api = map(str, self.paths)
        found = []
        for client, request in (
            (Raw(0, unix=metrics), READY),
            (Raw(0, unix=api), asked),
            (Raw(self.port, host="::1"), asked),
        ):
            with client:
                found.append(client.ask(request).status)
        return found


GOOD = [200, 401, 401]


@pytest.fixture(scope="module")
def places(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Places]:
    made = Places(tmp_path_factory.mktemp("places"))
    made.daemon.start()
    yield made
    assert made.daemon.discard() == []


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can act as another user")
def test_the_directory_of_a_unix_socket_decides_who_may_connect(places: Places) -> None:
    def another_user_connects() -> list[bool]:
        code = "import socket, sys; socket.socket(socket.AF_UNIX).connect(sys.argv[1])"
        asked = [["/usr/bin/python3", "-c", code, str(path)] for path in places.paths]
        nobody: dict[str, Any] = {"user": "nobody", "group": "nogroup", "extra_groups": [], "cwd": "/"}
        return [subprocess.run(one, check=False, stderr=subprocess.DEVNULL, **nobody).returncode == 0 for one in asked]

    folder = places.daemon.runtime_dir
    folder.chmod(0o750)  # as chatd makes it
    assert another_user_connects() == [False, False]
    folder.chmod(0o755)
    assert another_user_connects() == [True, True]


def test_metrics_and_api_on_unix_sockets_and_on_ipv6(places: Places) -> None:
    """An upgrade keeps them; sockets that a killed server left are replaced; a reload moves metrics to IPv6, and the
    socket that is not used any more is removed."""
    daemon, (metrics, api) = places.daemon, places.paths
    assert places.answers() == GOOD
    inodes = [path.stat().st_ino for path in places.paths]
    assert daemon.ctl("upgrade", limit_s=60).returncode == 0
    wait_until(10, "answered by the new program", lambda: places.answers() == GOOD)
    assert [path.stat().st_ino for path in places.paths] == inodes, "the same sockets"

    daemon.kill_all()
    assert metrics.is_socket()
    assert api.is_socket()
    daemon.start()
    assert places.answers() == GOOD

    places.serve_metrics_at(f"tcp://[::1]:{places.metrics_port}")
    moved = daemon.ctl("reload")
    assert moved.returncode == 0, moved.stderr
    assert not metrics.exists()
    with Raw(places.metrics_port, host="::1") as client:
        assert client.ask(READY).status == 200
    assert daemon.stop() == 0
    assert not api.exists()


def test_a_file_in_the_place_of_the_socket_is_not_lost(tmp_path: Path) -> None:
    places = Places(tmp_path)
    places.paths[0].write_text("precious")
    places.daemon.launch()
    try:
        assert places.daemon.wait_gone() == 71
        assert places.paths[0].read_text() == "precious"
        assert str(places.paths[0]) in places.daemon.tail()
    finally:
        places.daemon.expect_error("cannot listen on")
        assert places.daemon.discard() == []
