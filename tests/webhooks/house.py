"""A daemon with a receiver, and what tests ask both."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from tests.harness.daemon import Daemon
from tests.harness.deadline import until
from tests.harness.person import Town
from tests.webhooks.receiver import Receiver


class House(Town):
    """A daemon with a receiver."""

    receiver: Receiver

    def ctl(self, *arguments: str, code: int = 0) -> Any:
        got, out, err = self.daemon.ctl_said("webhook", *arguments, "--json")
        assert got == code, err
        return json.loads(out)

    def state(self, name: str = "crm") -> dict[str, Any]:
        (found,) = [one for one in self.ctl("list")["webhooks"] if one["name"] == name]
        return found  # type: ignore[no-any-return]

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


def made_house(root: Path, *more: dict[str, Any], timeout_s: float = 1, **options: Any) -> House:
    """Not started. more: further webhooks. timeout_s: of the webhook. options: of Daemon."""
    receiver = Receiver(root / "receiver").start()
    daemon = Daemon(root / "daemon", bus={"lease_s": 2}, **options)
    daemon.config["webhook"] = [receiver.options(events=["*"], timeout_s=timeout_s), *more]
    daemon.write_config()
    house = House(daemon)
    house.receiver = receiver
    return house


def cleared(house: House) -> None:
    """Nothing is left running. Raises: AssertionError if an error was logged that the test did not announce."""
    house.receiver.kill()
    complaints = house.daemon.discard()
    assert complaints == []
