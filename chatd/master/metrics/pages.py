"""What is answered to each request: /metrics, /healthz and /readyz.

Owns: the paths, the status of each answer, and how often metrics are collected at most.
Elsewhere: bytes and connections (master.metrics.exchange, master.metrics.gate), the judgement (master.health), the
metrics (master.metrics.exposition).
Fails: never.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from http import HTTPStatus
from typing import NamedTuple

from chatd.master.health import Health
from chatd.master.metrics.exposition import Exposition
from chatd.master.metrics.samples import Samples

FRESH_S = 0.2
"""Metrics that were collected this short a time ago are answered again, whoever asks how often."""
TEXT = "text/plain; charset=utf-8"
METHODS = ("GET", "HEAD")


class Request(NamedTuple):
    """path: without the query. accept: that header, "" = there is none."""

    method: str
    path: str
    accept: str


class Answer(NamedTuple):
    """headers: besides those that every answer has."""

    status: HTTPStatus
    body: bytes
    content_type: str = TEXT
    headers: tuple[tuple[str, str], ...] = ()


def refusal(status: HTTPStatus, *headers: tuple[str, str]) -> Answer:
    return Answer(status, f"{status.phrase}\n".encode(), TEXT, headers)


class Pages:
    """health: the judgement of this moment. collect: the values of all metrics."""

    def __init__(self, health: Callable[[], Health], collect: Callable[[], Samples]) -> None:
        self._health = health
        self._exposition = Exposition(collect)
        self._rendered: dict[str, tuple[float, str, bytes]] = {}
        """By the Accept header: when, the content type, and the body. Only of the last moment."""
        self._pages = {"/metrics": self._metrics, "/healthz": self._healthz, "/readyz": self._readyz}

    def answer(self, request: Request) -> Answer:
        page = self._pages.get(request.path)
        if page is None:
            return refusal(HTTPStatus.NOT_FOUND)
        if request.method not in METHODS:
            return refusal(HTTPStatus.METHOD_NOT_ALLOWED, ("Allow", ", ".join(METHODS)))
        return page(request)

    def _metrics(self, request: Request) -> Answer:
        now = time.monotonic()
        self._rendered = {accept: one for accept, one in self._rendered.items() if now - one[0] < FRESH_S}
        if request.accept not in self._rendered:
            if len(self._rendered) >= len(METHODS):  # no scraper asks in so many ways at once
                self._rendered.clear()
            self._rendered[request.accept] = (now, *self._exposition.render(request.accept))
        _, content_type, body = self._rendered[request.accept]
        return Answer(HTTPStatus.OK, body, content_type)

    def _healthz(self, _request: Request) -> Answer:
        """200 while `chatctl check` is not critical."""
        health = self._health()
        return _judged(health, not health.is_dead)

    def _readyz(self, _request: Request) -> Answer:
        """200 while new clients can be served."""
        health = self._health()
        return _judged(health, health.is_ready)


def _judged(health: Health, is_good: bool) -> Answer:
    """The state, and the reasons by their codes: their texts are for operators, who ask chatctl."""
    lines = [health.state.value, *dict.fromkeys(reason.code for reason in health.reasons)]
    status = HTTPStatus.OK if is_good else HTTPStatus.SERVICE_UNAVAILABLE
    return Answer(status, "".join(f"{line}\n" for line in lines).encode())
