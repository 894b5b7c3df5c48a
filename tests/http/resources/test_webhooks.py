"""/v1/webhooks: how far they are, on whichever worker one asks, and as chatctl shows; trying, enabling, replaying."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest

from chatd.config.load import load
from chatd.errors import ErrorCode
from chatd.store.bridge_contract import BRIDGE_READER
from chatd.store.open import configured, open_tables
from tests.harness.deadline import wait_until
from tests.harness.mariadb import MariaDB
from tests.http.resources.conftest import Server, make_server
from tests.webhooks.receiver import Receiver, new_secret

DOWN = "http://127.0.0.1:9/events"
"""Nobody listens there."""


class Told(Server):
    """receiver: of the webhook "crm"; the webhook "down" has none that answers."""

    receiver: Receiver

    def list(self) -> dict[str, dict[str, Any]]:
        """By name, as any worker says."""
        answer = self.another("webhooks_read").get("/v1/webhooks")
        assert answer.status == 200, answer
        return {one["name"]: one for one in answer.body["webhooks"]}

    def until(self, name: str, wanted: Callable[[dict[str, Any]], bool]) -> dict[str, Any]:
        """How the webhook is, once it is so."""
        wait_until(20, f"{name} is as wanted", lambda: wanted(self.list()[name]), 0.1)
        return self.list()[name]

    def order(self, name: str, verb: str, body: Any = None, **more: Any) -> Any:
        return self.another("webhooks_write").post(f"/v1/webhooks/{name}/{verb}", body, **more)

    def say(self, *texts: str) -> None:
        for text in texts:
            assert self.api.post("/v1/messages", {"to": self.somebody, "text": text}).status == 201

    @property
    def somebody(self) -> str:
        return "somebody"


def _told(root: Path, stack: ExitStack, **options: dict[str, object]) -> Told:
    receiver = Receiver(root / "receiver").start()
    stack.callback(receiver.kill)
    down = {"name": "down", "url": DOWN, "secrets": [new_secret()], "allow_private": ["127.0.0.1"], "events": ["*"]}
    server = make_server(root / "chatd", stack, {"webhook": [receiver.options(), down]}, kind=Told, **options)
    server.receiver = receiver
    assert server.api.put("/v1/users/somebody", {}).status == 200
    return server


@pytest.fixture(scope="module")
def told(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Told]:
    with ExitStack() as stack:
        yield _told(tmp_path_factory.mktemp("told"), stack, bus={"lease_s": 2})


@pytest.fixture(scope="module")
def told_mysql(tmp_path_factory: pytest.TempPathFactory, mariadb: MariaDB) -> Iterator[Told]:
    with ExitStack() as stack:
        yield _told(tmp_path_factory.mktemp("told"), stack, store={"url": mariadb.url()})


def test_one_that_answers_and_one_that_does_not(told: Told) -> None:
    told.say("one", "two")
    crm = told.until("crm", lambda one: one["delivered"] >= 2 and not one["waiting"])
    assert (crm["state"], crm["configured"], crm["lag_ms"], crm["failures"]) == ("delivering", True, 0, 0)
    assert abs(crm["delivered_at_ms"] - time.time() * 1000) < 60_000
    assert (crm["disabled_at_ms"], crm["failed_at_ms"], crm["error"]) == (None, None, "")
    assert crm["events"] == ["message.edited", "message.recalled", "message.removed", "message.stored"]
    assert [one["data"]["text"] for one in told.receiver.events("message.stored")] == ["one", "two"]
    down = told.until("down", lambda one: one["failures"] > 1)
    assert (down["state"], down["delivered"]) == ("failing", 0)
    assert down["waiting"] >= 2
    assert down["error"]
    assert down["failed_at_ms"]
    lag_ms = down["lag_ms"]
    told.until("down", lambda one: one["lag_ms"] > lag_ms)
    _, out, _ = told.daemon.ctl_said("webhook", "list", "--json")
    listed = {one["name"]: one for one in json.loads(out)["webhooks"]}
    same = ("state", "configured", "events", "position", "delivered", "dropped")
    for name in ("crm", "down"):
        assert {key: listed[name][key] for key in same} == {key: told.list()[name][key] for key in same}


def test_events_are_sent_again_from_a_position_a_time_and_not_at_all(told: Told) -> None:
    told.say("before")
    told.until("crm", lambda one: not one["waiting"])
    position, since_ms = told.list()["crm"]["position"], int(time.time() * 1000)
    told.say("replayed")
    told.until("crm", lambda one: not one["waiting"])

    def came() -> int:
        return [one["data"]["text"] for one in told.receiver.events("message.stored")].count("replayed")

    assert came() == 1
    moved = told.order("crm", "replay", {"position": position})
    assert (moved.status, moved.body) == (200, {"position": position})
    wait_until(20, "once more", lambda: came() == 2)
    assert told.order("crm", "replay", {"since_ms": since_ms}).status == 200
    wait_until(20, "and once more", lambda: came() == 3)
    for _ in range(3):
        again = told.order("crm", "replay", {"position": position}, repeat="a key")
        assert (again.status, again.body) == (200, {"position": position})
    wait_until(20, "once for the key", lambda: came() == 4)
    assert told.order("crm", "replay", {"now": True}, repeat="a key").code == ErrorCode.FP_REUSED
    told.say("skipped by one, but not by the other")
    assert told.list()["down"]["waiting"] > 0
    assert told.order("down", "replay", {"now": True}).status == 200
    told.until("down", lambda one: (one["waiting"], one["lag_ms"]) == (0, 0))
    assert came() == 4
    orders = [(one["order"], one["arguments"]["name"], one["api_key"]) for one in told.trail("order")]
    assert orders.count(("webhook replay", "crm", "webhooks_write")) == 3, "a repetition is no order"
    assert ("webhook replay", "down", "webhooks_write") in orders


def test_one_is_tried_and_one_that_wanted_no_more_is_enabled(told: Told) -> None:
    tried = told.order("crm", "test")
    assert (tried.status, tried.body["ok"], tried.body["error"]) == (200, True, "")
    assert told.receiver.events("webhook.test")
    failed = told.order("down", "test").body
    assert (failed["ok"], bool(failed["error"])) == (False, True)
    told.receiver.behave(status=410)
    told.daemon.expect_error("wants no more events")
    told.say("refused for ever")
    crm = told.until("crm", lambda one: one["state"] == "disabled")
    assert crm["disabled_at_ms"]
    assert not told.order("crm", "test").body["ok"]
    told.receiver.behave()
    assert [told.order("crm", "enable").body["was_disabled"] for _ in range(2)] == [True, False]
    crm = told.until("crm", lambda one: one["state"] == "delivering" and not one["waiting"])
    assert crm["disabled_at_ms"] is None
    assert told.receiver.events("message.stored")[-1]["data"]["text"] == "refused for ever"
    assert told.order("crm", "enable", repeat="enabling").body == told.order("crm", "enable", repeat="enabling").body


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"now": False},
        {"now": True, "position": "1:1"},
        {"since_ms": 1, "position": "1:1"},
        {"since_ms": -1},
        {"since_ms": "yesterday"},
        {"position": "1"},
        {"position": "1:-1"},
        {"position": "9999999999999999999:0"},
        {"position": "\u0661:1"},
        {"now": True, "then": 1},
    ],
)
def test_where_a_replay_begins_must_be_clear(told: Told, body: dict[str, object]) -> None:
    before = told.list()["down"]["position"]
    refused = told.order("down", "replay", body)
    assert (refused.status, refused.code) == (422, ErrorCode.BAD_FIELD)
    assert told.list()["down"]["position"] == before


def test_what_does_not_exist_is_said(told: Told, on_one: Server) -> None:
    for server in (told, on_one):
        for verb, body in (("test", None), ("enable", None), ("replay", {"now": True})):
            refused = server.another().post(f"/v1/webhooks/nobody/{verb}", body)
            assert (refused.status, refused.code) == (404, ErrorCode.UNKNOWN_WEBHOOK), verb
            assert "nobody" in refused.body["detail"]
    assert on_one.api.get("/v1/webhooks").body == {"webhooks": []}
    assert told.another("webhooks_read").post("/v1/webhooks/crm/enable").code == ErrorCode.SCOPE_MISSING
    assert told.another("webhooks_write").get("/v1/webhooks").code == ErrorCode.SCOPE_MISSING


def test_the_cursor_of_a_bridge_is_not_a_webhook(told: Told) -> None:
    tables = open_tables(configured(load(str(told.daemon.config_file)).config), 10.0, create=False)
    tables.begin()
    tables.webhooks.register(f"{BRIDGE_READER}legacy", ["message.stored"])
    tables.commit()
    tables.close()
    assert set(told.list()) == {"crm", "down"}
    for verb, body in (("test", None), ("enable", None), ("replay", {"now": True})):
        assert told.order(quote(f"{BRIDGE_READER}legacy", safe=""), verb, body).code == ErrorCode.UNKNOWN_WEBHOOK, verb


def test_on_mysql(told_mysql: Told) -> None:
    """A new webhook delivers nothing in its first seconds there (decision 44), so what waits is known."""
    told_mysql.say("one", "two", "three")
    crm = told_mysql.until("crm", lambda one: one["waiting"] >= 3)
    assert crm["lag_ms"] > 0
    replayed = told_mysql.order("crm", "replay", {"now": True})
    assert replayed.status == 200
    crm = told_mysql.until("crm", lambda one: one["waiting"] == 0)
    assert (crm["position"], crm["lag_ms"]) == (replayed.body["position"], 0)
    assert told_mysql.order("crm", "replay", {"since_ms": 0}).status == 200
    assert told_mysql.until("crm", lambda one: one["waiting"] >= 3)["lag_ms"] > 0
    assert not told_mysql.order("crm", "enable").body["was_disabled"]
    assert told_mysql.order("crm", "test").body["ok"]
