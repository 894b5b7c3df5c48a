"""The security trail: its events, and the fields that programs rely on."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest

from chatd import log, security_log
from chatd.config.schema import LogOptions
from chatd.security_log import EVENTS, SecurityEvent


@pytest.fixture(autouse=True)
def put_back() -> Iterator[None]:
    yield
    log.setup(LogOptions(format="text"), "-")


def test_every_event_is_described() -> None:
    assert set(EVENTS) == set(SecurityEvent)
    assert len({kind.text for kind in EVENTS.values()}) == len(EVENTS)


def test_a_record_has_the_name_of_its_event_and_its_source(capfd: pytest.CaptureFixture[str]) -> None:
    log.setup(LogOptions(format="json"), "-")
    security_log.record(SecurityEvent.LOGIN_FAILED, source="192.0.2.1", name="anna", wire="chatserver")
    record = json.loads(capfd.readouterr().err.splitlines()[-1])
    assert record["security"] == "login_failed"
    assert record["source"] == "192.0.2.1"
    assert (record["event"], record["level"], record["name"]) == ("login failed", "WARNING", "anna")
