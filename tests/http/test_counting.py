"""What the metrics say of the HTTP API is what was asked and answered, also while workers die and are replaced."""

from __future__ import annotations

import os
import re
import signal
import threading
from collections import Counter

import pytest

from chatd.http.problems import OF_A_PLUGIN, STATUSES
from chatd.http.table import ROUTES
from chatd.tallies import HTTP_STATUSES
from tests.harness.deadline import wait_until
from tests.http.conftest import House
from tests.http.raw import message, post
from tests.master.metrics.scraping import samples

HELLO = message("bob", "hi")
SHOWN_S = 5.0
"""Metrics are collected a few times a second."""
GET = b"GET %s HTTP/1.1\r\nHost: chat\r\n\r\n"


def counted(house: House) -> Counter[str]:
    """Answers by their status."""
    found = samples(house.metrics_port).items()
    return Counter({labels[0][1]: int(value) for (name, labels), value in found if name == "chatd_http_requests_total"})


def test_every_status_that_the_api_has_is_counted_alone() -> None:
    """Those of errors, of successes, and of requests that cannot be read (431, 501)."""
    known = {int(one) for one in HTTP_STATUSES}
    assert {int(one) for one in STATUSES.values()} | {int(OF_A_PLUGIN)} <= known
    assert {int(route.status) for route in ROUTES} <= known


def test_each_answer_is_counted_once_under_its_status(pair: House) -> None:
    requests = {
        "201": post(pair.key, HELLO),
        "401": post("chatd_wrong", HELLO),
        "403": post(pair.key, b"", path=b"/v1/users").replace(b"POST", b"GET", 1),
        "404": GET % b"/v1/nothing",
        "405": GET % b"/v1/messages",
        "413": post(pair.key, b"").replace(b"Content-Length: 0", b"Content-Length: 99999999"),
        "415": post(pair.key, HELLO).replace(b"application/json", b"text/plain"),
        "422": post(pair.key, b"{}"),
        "400": b"no request\r\n\r\n",
    }
    before = counted(pair)
    for request in requests.values():
        for _ in range(2):
            with pair.connect() as raw:
                raw.ask(request)
    with pair.connect() as raw:
        assert raw.ask(GET % b"/docs").status == 200
    wanted = Counter(dict.fromkeys(requests, 2))
    wait_until(SHOWN_S, "all are shown", lambda: (counted(pair) - before).total() >= wanted.total())
    assert counted(pair) - before == wanted


class Scraper(threading.Thread):
    """Reads all counters over and over. backwards: what has become smaller."""

    def __init__(self, port: int) -> None:
        super().__init__()
        self.port = port
        self.backwards: list[str] = []
        self.scrapes = 0
        self._is_over = threading.Event()

    def run(self) -> None:
        before: dict[tuple[str, tuple[tuple[str, str], ...]], float] = {}
        while not self._is_over.wait(0.02):
            now = samples(self.port)
            self.scrapes += 1
            for (name, labels), value in now.items():
                is_counter = re.search(r"_(total|bucket|sum|count)$", name) and not name.startswith("chatd_process_")
                if is_counter and value < before.get((name, labels), 0):
                    self.backwards.append(f"{name}{labels}: {before[name, labels]} -> {value}")
            before = now

    def end(self) -> None:
        self._is_over.set()
        self.join()


def test_counters_lose_nothing_and_never_go_back_when_workers_die_and_are_replaced(pair: House) -> None:
    """A worker is killed, all are replaced, and the program is, while messages are sent one by one. Only a request that
    was not answered may or may not be counted. Messages are counted twenty times a second, so the worker is killed when
    its own are."""
    scraper, before = Scraper(pair.metrics_port), samples(pair.metrics_port)
    answered, unanswered = Counter[str](), 0
    pair.daemon.expect_error("worker died")

    def send(count: int) -> None:
        nonlocal unanswered
        for _ in range(count):
            try:
                with pair.connect() as raw:
                    answered[str(raw.ask(post(pair.key, HELLO)).status)] += 1
            except (OSError, EOFError):
                unanswered += 1

    def during(what: str) -> None:
        order = threading.Thread(target=lambda: pair.daemon.ctl(what, limit_s=60))
        order.start()
        while order.is_alive():
            send(1)
        order.join()

    def grown(name: str) -> float:
        found = samples(pair.metrics_port)
        return sum(value - before.get(key, 0) for key, value in found.items() if key[0] == name)

    first = counted(pair)
    scraper.start()
    try:
        send(50)
        wait_until(SHOWN_S, "all are accepted", lambda: grown("chatd_messages_accepted_total") == answered["201"])
        os.kill(pair.daemon.workers()[0], signal.SIGKILL)
        send(50)
        pair.daemon.wait_ready()
        during("restart-workers")
        during("upgrade")
        pair.daemon.wait_ready()
        send(50)
    finally:
        scraper.end()
    assert scraper.backwards == []
    assert scraper.scrapes > 10
    wait_until(SHOWN_S, "every answer is counted", lambda: not answered - (counted(pair) - first))
    assert (counted(pair) - first - answered).total() <= unanswered

    sent = answered["201"]
    wait_until(SHOWN_S, "all are accepted", lambda: sent <= grown("chatd_messages_accepted_total") <= sent + unanswered)
    assert grown("chatd_commit_seconds_count") > 0
    assert 0 < grown("chatd_commit_seconds_sum") < 600


def test_histograms_agree_with_themselves(pair: House) -> None:
    found = samples(pair.metrics_port)
    for name in ("chatd_commit_seconds", "chatd_delivery_delay_seconds"):
        buckets = [(dict(key[1])["le"], value) for key, value in found.items() if key[0] == f"{name}_bucket"]
        buckets.sort(key=lambda one: float(one[0]))
        counts = [value for _, value in buckets]
        assert counts == sorted(counts)
        assert buckets[-1] == ("+Inf", found[f"{name}_count", ()])
        bounds = [0.0, *(float(le) for le, _ in buckets[:-1])]
        alone = [after - before for before, after in zip([0.0, *counts], counts, strict=False)]
        least = sum(count * bound for count, bound in zip(alone, bounds, strict=True))
        assert least <= found[f"{name}_sum", ()] + 1e-3, "each duration is longer than the bound below"


@pytest.fixture(autouse=True)
def _answers(pair: House) -> None:
    """Its metrics are served."""
    wait_until(10, "metrics are served", lambda: bool(counted(pair)))
