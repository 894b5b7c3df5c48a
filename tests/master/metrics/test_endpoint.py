"""Metrics and health of a real daemon: what a monitor reads, what hangs, what attacks, what changes."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from chatd.master.metrics import table
from chatd.master.metrics.exchange import REQUEST_S
from chatd.master.metrics.gate import CONNECTIONS
from tests.harness.daemon import Daemon, free_port
from tests.harness.deadline import wait_until
from tests.master.metrics.scraping import get, raw, rest_of, samples, total

pytestmark = pytest.mark.xdist_group("metrics")


@pytest.fixture(scope="module")
def daemon(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Daemon]:
    made = Daemon(tmp_path_factory.mktemp("metrics"), workers=2, metrics={"address": f"tcp://127.0.0.1:{free_port()}"})
    try:
        yield made.start()
    finally:
        complaints = made.discard()
    assert complaints == []


def test_every_metric_is_there_under_its_name_and_no_other(port: int) -> None:
    """docs/metrics.md is made from the same table. Certificates this server has none."""
    kinds = dict(re.findall(r"^# TYPE (\S+) (\S+)$", get(port, "/metrics").body, re.MULTILINE))
    shown = {one.shown for one in table.metrics()} - {"chatd_certificate_expiry_timestamp_seconds"}
    assert kinds.keys() == shown
    found = samples(port)
    for metric in table.metrics():
        for (name, labels), _ in found.items():
            if name == metric.shown:
                assert {label for label, _ in labels} == set(metric.labels), name


def test_prometheus_own_tool_finds_nothing_wrong(port: int) -> None:
    checked = subprocess.run(
        ["promtool", "check", "metrics"], input=get(port, "/metrics").body, capture_output=True, text=True, check=False
    )
    assert (checked.returncode, checked.stdout + checked.stderr) == (0, "")


def test_a_scraper_gets_the_format_that_it_asks_for(port: int) -> None:
    assert get(port, "/metrics").headers["content-type"].startswith("text/plain; version=0.0.4")
    page = get(port, "/metrics", Accept="application/openmetrics-text; version=1.0.0")
    assert page.headers["content-type"].startswith("application/openmetrics-text")
    assert page.body.endswith("# EOF\n")
    assert get(port, "/metrics", "HEAD").body == ""
    assert total(port, "chatd_workers", state="ready") == 2


def test_real_prometheus_scrapes_it(daemon: Daemon, port: int, tmp_path: Path) -> None:
    own = free_port()
    config = tmp_path / "prometheus.yml"
    rules = Path(__file__).parents[3] / "etc" / "prometheus" / "chatd.rules.yml"
    config.write_text(
        f"global: {{scrape_interval: 1s}}\nrule_files: [{rules}]\nscrape_configs:\n"
        f"  - job_name: chatd\n    static_configs: [{{targets: ['127.0.0.1:{port}']}}]\n"
    )
    command = [
        "prometheus", f"--config.file={config}", f"--storage.tsdb.path={tmp_path / 'data'}",
        f"--web.listen-address=127.0.0.1:{own}",
    ]  # fmt: skip
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as prometheus:
        try:

            def answered() -> str:
                with contextlib.suppress(OSError):
                    return get(own, "/api/v1/query?query=chatd_workers_wanted").body
                return ""

            wait_until(20, "Prometheus has scraped", lambda: '"__name__":"chatd_workers_wanted"' in answered(), 0.1)
            assert re.search(r'"value":\[[\d.]+,"2"\]', answered())
        finally:
            prometheus.terminate()
            prometheus.wait(10)


def test_it_answers_while_every_worker_hangs(daemon: Daemon, port: int) -> None:
    assert (get(port, "/healthz").status, get(port, "/readyz").status) == (200, 200)
    pids = daemon.workers()
    try:
        for pid in pids:
            os.kill(pid, signal.SIGSTOP)
        wait_until(15, "nobody is ready", lambda: get(port, "/readyz").status == 503, 0.1)
        page = get(port, "/healthz")
        assert (page.status, page.body.splitlines()) == (503, ["degraded", "hung"])
        assert daemon.ctl("check").returncode == 2
        assert total(port, "chatd_problem", code="hung") == 1
        assert total(port, "chatd_ready") == 0
    finally:
        for pid in pids:
            os.kill(pid, signal.SIGCONT)
    wait_until(10, "ready again", lambda: get(port, "/readyz").status == 200, 0.1)


# ---------------------------------------------------------------- strangers


@pytest.mark.parametrize(
    ("request_", "status"),
    [
        (b"POST /metrics HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\n\r\nabc", b"405 Method Not Allowed"),
        (b"GET /etc/passwd HTTP/1.1\r\nHost: x\r\n\r\n", b"404 Not Found"),
        (b"GET /metrics/../healthz HTTP/1.1\r\nHost: x\r\n\r\n", b"404 Not Found"),
        (b"nonsense\r\n\r\n", b"400 Bad Request"),
        (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", b"400 Bad Request"),
        (b"GET /metrics HTTP/1.1\r\nX: " + b"a" * 9000, b"431 Request Header Fields Too Large"),
    ],
)
def test_other_requests_are_refused(port: int, request_: bytes, status: bytes) -> None:
    answer = raw(port, request_)
    assert answer.startswith(b"HTTP/1.1 " + status), answer[:200]
    assert (b"Allow: GET, HEAD" in answer) == status.startswith(b"405")


def test_slow_and_silent_connections_hold_nobody_up(daemon: Daemon, port: int) -> None:
    """More than there may be, each of which sends a byte now and then: the next scraper is answered at once, and they
    are disconnected in time."""
    began, before = time.monotonic(), descriptors(daemon)
    slow = [socket.create_connection(("127.0.0.1", port), 10) for _ in range(40)]
    try:
        for one in slow:
            one.send(b"GET /metr")
        asked = time.monotonic()
        assert get(port, "/healthz").status == 200
        assert time.monotonic() - asked < 3
        assert descriptors(daemon) <= before + CONNECTIONS, "the older ones made room"
        for one in slow[-16:]:
            with contextlib.suppress(OSError):
                one.send(b"i")
            rest_of(one)
        assert time.monotonic() - began < REQUEST_S + 5
    finally:
        for one in slow:
            one.close()


def test_a_scraper_that_does_not_read_is_dropped(daemon: Daemon, port: int) -> None:
    before = descriptors(daemon)
    deaf = []
    for _ in range(10):
        client = socket.socket()
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1)
        client.connect(("127.0.0.1", port))
        client.sendall(b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n")
        deaf.append(client)
    assert get(port, "/healthz").status == 200
    wait_until(15, "they are dropped", lambda: descriptors(daemon) <= before, 0.2)
    for client in deaf:
        client.close()


def test_a_flood_of_connections_leaves_the_master_its_work(daemon: Daemon, port: int) -> None:
    master = psutil.Process(daemon.pid)
    spent = master.cpu_times()
    began = time.monotonic()
    flood = []
    for _ in range(600):
        client = socket.socket()
        client.setblocking(False)
        client.connect_ex(("127.0.0.1", port))
        flood.append(client)
    asked = time.monotonic()
    assert daemon.status()["state"] == "running"
    assert time.monotonic() - asked < 2
    for client in flood:
        client.close()
    wait_until(20, "scrapers are answered", lambda: get(port, "/healthz").status == 200, 0.1)
    used = master.cpu_times()
    share = (used.user + used.system - spent.user - spent.system) / (time.monotonic() - began)
    assert share < 0.8


def descriptors(daemon: Daemon) -> int:
    return psutil.Process(daemon.pid).num_fds()


# ---------------------------------------------------------------- changes


def test_a_reload_moves_it_and_a_taken_address_changes_nothing(daemon: Daemon, port: int) -> None:
    taken = socket.create_server(("127.0.0.1", 0))
    address = daemon.config["metrics"]["address"]
    try:
        daemon.config["metrics"]["address"] = f"tcp://127.0.0.1:{taken.getsockname()[1]}"
        daemon.write_config()
        refused = daemon.ctl("reload")
        assert refused.returncode == 78
        assert "metrics.address: cannot listen on" in refused.stderr
        assert get(port, "/healthz").status == 200
        other = free_port()
        for changed, asked in ((f"tcp://127.0.0.1:{other}", other), (f"tcp://0.0.0.0:{other}", other), (address, port)):
            daemon.config["metrics"]["address"] = changed
            daemon.write_config()
            assert daemon.ctl("reload").returncode == 0
            assert get(asked, "/healthz").status == 200
        with pytest.raises(OSError, match="refused"):
            get(other, "/healthz")
        daemon.config["metrics"]["allow"] = ["192.0.2.1"]
        daemon.write_config()
        assert daemon.ctl("reload").returncode == 0
        assert raw(port, b"GET /healthz HTTP/1.0\r\n\r\n") == b""
    finally:
        taken.close()
        daemon.config["metrics"] = {"address": address}
        daemon.write_config()
        assert daemon.ctl("reload").returncode == 0
        daemon.expect_error("configuration rejected, the previous one stays in force")


def test_counters_go_on_and_the_port_stays_over_an_upgrade(daemon: Daemon, port: int) -> None:
    before = total(port, "chatd_commit_seconds_count")
    deaths = total(port, "chatd_worker_deaths_total")
    reloads = total(port, "chatd_reloads_total")
    assert before > 0
    assert daemon.ctl("upgrade", limit_s=60).returncode == 0
    wait_until(10, "answered by the new program", lambda: get(port, "/readyz").status == 200)
    assert total(port, "chatd_commit_seconds_count") >= before
    assert total(port, "chatd_worker_deaths_total") == deaths
    assert total(port, "chatd_reloads_total") == reloads
    os.kill(daemon.workers()[0], signal.SIGKILL)
    daemon.expect_error("worker died")
    wait_until(20, "a death is counted", lambda: total(port, "chatd_worker_deaths_total") == deaths + 1)
    assert total(port, "chatd_commit_seconds_count") >= before
    daemon.wait_ready()


def test_a_drained_host_is_alive_and_not_ready(daemon: Daemon, port: int) -> None:
    assert daemon.ctl("drain", limit_s=60).returncode == 0
    assert (get(port, "/healthz").status, get(port, "/readyz").status) == (200, 503)
    assert get(port, "/readyz").body.splitlines()[0] in ("draining", "drained")
    wait_until(5, "no worker is ready", lambda: total(port, "chatd_workers", state="ready") == 0)
    assert daemon.ctl("undrain", limit_s=60).returncode == 0
    wait_until(10, "ready again", lambda: get(port, "/readyz").status == 200)
