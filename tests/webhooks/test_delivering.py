"""What a receiver is told, and what happens when it does not take it. One daemon for all."""

from __future__ import annotations

import contextlib
import json
import sqlite3
import time
from collections.abc import Iterator
from typing import Any

import pytest

from chatd.config.load import load
from chatd.store.open import configured, open_tables
from tests.harness.deadline import run, until
from tests.webhooks.house import House, cleared, made_house
from tests.webhooks.receiver import new_secret

INSIDE = {
    "name": "inside",
    "url": "http://localhost:1/",
    "secrets": [new_secret()],
    "events": ["message.stored"],
}
"""A name that is public for whoever reads it, and means an address of the own network."""


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    house = made_house(tmp_path_factory.mktemp("webhooks"), INSIDE)
    for text in ("webhook disabled", "degraded"):
        house.daemon.expect_error(text)
    try:
        house.daemon.start()
        yield house
    finally:
        cleared(house)


@pytest.fixture(autouse=True)
def _takes_everything(house: House) -> Iterator[None]:
    yield
    house.receiver.behave()
    if house.receiver.process is None:
        house.receiver.start()


def test_a_message_and_everything_around_it_is_told_in_order(house: House) -> None:
    async def story() -> None:
        ann, bob = await house.pair()
        await ann.say(bob.name, "first")
        group = await house.make_group("team", [ann.name, bob.name])
        await ann.say(f"#{group}", "second")
        await bob.leave()
        await ann.say(bob.name, "third")
        await house.came("third")

        def told() -> list[str]:
            names = {ann.name, bob.name}
            found = []
            for event in house.receiver.events():
                user, data = event["data"].get("user", {}).get("name"), event["data"]
                if user in names or data.get("sender", {}).get("name") in names or "users" in data:
                    found.append(event["type"])
            return found

        await until(10, "offline message", lambda: "user.offline_message" in told())
        kinds = told()
        assert kinds.index("user.registered") < kinds.index("user.login") < kinds.index("message.stored")
        assert kinds.index("group.created") < kinds.index("group.joined")
        assert kinds.count("message.stored") == 3
        assert "user.logout" in kinds

    run(story())


def test_a_failing_receiver_gets_the_same_request_again_and_keeps_nobody_else_waiting(house: House) -> None:
    async def story() -> None:
        ann, bob = await house.pair()
        house.receiver.behave(status=500)
        await ann.say(bob.name, "while it fails")
        await until(10, "two attempts", lambda: _failed(house) >= 2)
        begun = time.monotonic()
        for number in range(20):
            await ann.say(bob.name, f"behind {number}")
        assert time.monotonic() - begun < 10
        state = house.state()
        assert (state["state"], state["error"], state["waiting"] >= 21) == ("failing", "status 500", True)
        failed = [one["id"] for one in house.receiver.requests() if one["status"] == 500]
        house.receiver.behave()
        await house.came("while it fails")
        (one_id,) = set(failed)
        assert [one["status"] for one in house.receiver.requests() if one["id"] == one_id][-1] == 200
        await house.came("behind 19")
        await until(5, "it is well again", lambda: house.state()["state"] == "delivering")

    run(story())


def _failed(house: House) -> int:
    return sum(one["status"] == 500 for one in house.receiver.requests())


@pytest.mark.parametrize(
    "behaviour",
    [
        pytest.param({"delay_s": 3}, id="hangs", marks=pytest.mark.slow),
        pytest.param({"status": 302, "location": "/events"}, id="redirects"),
    ],
)
def test_no_answer_and_a_redirect_are_failures(house: House, behaviour: dict[str, Any]) -> None:
    async def story() -> None:
        ann, bob = await house.pair()
        house.receiver.behave(**behaviour)
        await ann.say(bob.name, f"told {behaviour}")
        await until(10, "it fails", lambda: house.state()["failures"] >= 1)
        house.receiver.behave()
        house.ctl("enable", "crm")  # without waiting for the next attempt
        await house.came(f"told {behaviour}")

    run(story())


def test_a_long_answer_is_an_answer(house: House) -> None:
    async def story() -> None:
        ann, bob = await house.pair()
        house.receiver.behave(body_bytes=20_000_000)
        await ann.say(bob.name, "answered at length")
        await house.came("answered at length")
        await ann.say(bob.name, "and the next")
        await house.came("and the next")
        assert house.state()["failures"] == 0

    run(story())


def test_410_disables_until_an_operator_enables(house: House) -> None:
    async def story() -> None:
        ann, bob = await house.pair()
        house.receiver.behave(status=410)
        await ann.say(bob.name, "gone")
        await until(10, "it is disabled", lambda: house.state()["state"] == "disabled")
        house.receiver.behave()
        await ann.say(bob.name, "still gone")
        await until(10, "check says so", lambda: "webhook-disabled" in house.daemon.ctl_said("check", "--json")[1])
        assert not any(e["data"].get("text") == "still gone" for e in house.receiver.events())
        house.ctl("enable", "crm")
        await house.came("gone")
        await house.came("still gone")

    run(story())


def test_a_replay_sends_the_same_events_in_other_requests(house: House) -> None:
    async def story() -> None:
        ann, bob = await house.pair()
        at = house.state()["position"]
        await ann.say(bob.name, "once and again")
        first = await house.came("once and again")
        before = len(house.receiver.requests())
        house.ctl("replay", "crm", "--position", at)

        def again() -> list[dict[str, Any]]:
            later = house.receiver.requests()[before:]
            return [one for one in later for event in one["events"] if event["data"].get("text") == "once and again"]

        await until(10, "it came again", again)
        assert again()[0]["id"] != first["id"]

        def ids(request: dict[str, Any]) -> set[str]:
            return {e["id"] for e in request["events"] if e["data"].get("text") == "once and again"}

        assert ids(again()[0]) == ids(first)

    run(story())


def test_a_test_event_shows_whether_the_receiver_takes_it(house: House) -> None:
    assert house.ctl("test", "crm")["ok"] is True
    assert house.receiver.events("webhook.test")
    house.receiver.behave(status=503)
    assert house.ctl("test", "crm", code=1)["error"] == "status 503"
    assert house.daemon.ctl_said("webhook", "test", "nobody")[0] == 1
    assert house.daemon.ctl_said("webhook", "enable", "nobody")[0] == 1
    assert house.daemon.ctl_said("webhook", "forget", "crm")[0] == 1, "it is configured"


@pytest.mark.slow
def test_a_receiver_is_left_alone_for_as_long_as_it_asks(house: House) -> None:
    async def story() -> None:
        ann, bob = await house.pair()
        house.receiver.behave(status=429, retry_after=2)
        await ann.say(bob.name, "later, please")

        def refused() -> list[dict[str, Any]]:
            return [one for one in house.receiver.requests() if one["status"] == 429]

        (first,) = await until(10, "it was refused", refused)
        house.receiver.behave()
        await house.came("later, please")
        (again,) = [one for one in house.receiver.requests() if one["id"] == first["id"] and one["status"] == 200]
        assert again["at"] - first["at"] >= 2

    run(story())


def test_a_name_that_means_a_private_address_is_not_connected_to(house: House) -> None:
    """The webhook "inside": whoever runs the DNS of a name cannot direct events into the own network."""

    async def story() -> None:
        ann, bob = await house.pair()
        await ann.say(bob.name, "for the inside")
        state = await until(10, "it fails", lambda: (one := house.state("inside"))["failures"] and one, 0.1)
        assert state["state"] == "failing"
        assert "localhost is " in state["error"]
        assert state["error"].endswith("is not a public address; if it is meant, list it in allow_private")
        await house.came("for the inside")

    run(story())


def test_a_webhook_that_is_behind_is_told_to_the_operator(house: House) -> None:
    """A message of an hour ago is sent again, to a receiver that does not take it."""

    async def story() -> None:
        ann, bob = await house.pair()
        at = house.state()["position"]
        await ann.say(bob.name, "an hour ago")
        await house.came("an hour ago")
        with contextlib.closing(sqlite3.connect(house.daemon.root / "state" / "chatd.db", timeout=10)) as db:
            db.execute("UPDATE message SET sent_at_ms = sent_at_ms - 3600000")
            db.execute("UPDATE event SET at_ms = at_ms - 3600000")
            db.commit()
        house.receiver.behave(status=500)
        house.ctl("replay", "crm", "--position", at)

        def behind() -> dict[str, Any] | None:
            reasons = json.loads(house.daemon.ctl_said("check", "--json")[1])["reasons"]
            return next((one for one in reasons if one["code"] == "webhook-behind"), None)

        reason = await until(15, "check says so", behind, 0.1)
        assert reason is not None
        assert "the oldest for 36" in reason["text"]
        assert 3600_000 <= house.state()["lag_ms"] < 3700_000
        house.receiver.behave()
        house.ctl("enable", "crm")
        await until(15, "check says no more", lambda: behind() is None, 0.1)

    run(story())


def test_a_webhook_that_is_not_configured_any_more_can_be_forgotten(house: House) -> None:
    with contextlib.closing(
        open_tables(configured(load(str(house.daemon.config_file)).config), 10.0, create=False)
    ) as tables:
        tables.begin()
        tables.webhooks.register("former", ["message.stored"])
        tables.commit()
    assert (house.state("former")["configured"], house.state("crm")["configured"]) == (False, True)
    assert house.ctl("forget", "former")["done"] is True
    assert "former" not in {one["name"] for one in house.ctl("list")["webhooks"]}
    assert house.ctl("forget", "former", code=1)["done"] is False
