"""A daemon with a bridge, and the other side of it.

Owns: House, which has the daemon's people and those of the other side; the options of a bridge.
Elsewhere: RabbitMQ and what the other server does (harness.rabbitmq).
Fails: as its parts do.
"""

from __future__ import annotations

import json
from typing import Any

from tests.harness.deadline import until
from tests.harness.person import Person, Town
from tests.harness.rabbitmq import RabbitServer

NAME = "java"


def options(server: RabbitServer, **more: Any) -> dict[str, Any]:
    return {"name": NAME, "url": server.url, "users": ["*"], **more}


class House(Town):
    """The people of a daemon whose bridge is NAME."""

    def ctl(self, *arguments: str, code: int = 0) -> Any:
        got, out, err = self.daemon.ctl_said("bridge", *arguments, "--json")
        assert got == code, err
        return json.loads(out)

    def state(self) -> dict[str, Any]:
        (found,) = [one for one in self.ctl("list")["bridges"] if one["name"] == NAME]
        return found  # type: ignore[no-any-return]

    async def person(self, name: str, wire: Any = "mobile") -> Person:
        """A new account with this name and a number, who is there."""
        made = await self.settle(f"{name}{next(self.suffixes)}", wire)
        await made.arrive()
        return made

    async def says(self, person: Person, text: str, limit_s: float = 15.0) -> None:
        """The person is shown this text, at some time."""
        await until(limit_s, f"{person.name} sees {text}", lambda: any(one.text == text for one in person.seen))

    def figure(self, name: str) -> int:
        return sum(int(row[name]) for row in self.daemon.status()["workers"])
