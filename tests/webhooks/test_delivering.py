"""What a receiver is told, and what happens when it does not take it. One daemon for all."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from typing import Any

import pytest

from tests.harness.daemon import Daemon
from tests.harness.deadline import run, until
from tests.harness.person import Person, Town
from tests.webhooks.receiver import Receiver


class House(Town):
    """A daemon with a receiver."""

    receiver: Receiver

    def ctl(self, *arguments: str, code: int = 0) -> Any:
        got, out, err = self.daemon.ctl_here("webhook", *arguments, "--json")
        assert got == code, err
        return json.loads(out)

    def state(self) -> dict[str, Any]:
        (found,) = self.ctl("list")["webhooks"]
        return found  # type: ignore[no-any-return]

    async def pair(self) -> tuple[Person, Person]:
        number = next(self.suffixes)
        ann, bob = await self.settle(f"ann{number}", "mobile"), await self.settle(f"bob{number}", "mobile")
        await ann.arrive()
        await bob.arrive()
        return ann, bob

    async def came(self, text: str, limit_s: float = 15.0) -> dict[str, Any]:
        """The request with a message of this text."""

        def found() -> dict[str, Any] | None:
            for request in self.receiver.requests():
                if any(event["data"].get("text") == text for event in request["events"]):
                    return request
            return None

        request = await until(limit_s, f"{text} came", found, step_s=0.02)
        assert request is not None
        return request


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    root = tmp_path_factory.mktemp("webhooks")
    receiver = Receiver(root / "receiver").start()
    daemon = Daemon(root / "daemon", bus={"lease_s": 2})
    daemon.config["webhook"] = [receiver.options(events=["*"], timeout_s=1)]
    daemon.write_config()
    try:
        house = House(daemon.start())
        house.receiver = receiver
        yield house
    finally:
        receiver.kill()
        daemon.expect_error("webhook disabled")
        complaints = daemon.discard()
    assert complaints == []


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
        request = await house.came("while it fails")
        assert set(failed) == {request["id"]}
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
        await until(10, "check says so", lambda: "webhook-disabled" in house.daemon.ctl_here("check", "--json")[1])
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
    assert house.daemon.ctl_here("webhook", "test", "nobody")[0] == 1
    assert house.daemon.ctl_here("webhook", "enable", "nobody")[0] == 1
    assert house.daemon.ctl_here("webhook", "forget", "crm")[0] == 1, "it is configured"
