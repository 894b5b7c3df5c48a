"""The example of docs/hooks.md is what it says: it is taken from the page, configured as there, and asked."""

from __future__ import annotations

import asyncio
import re
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec

from chatd.config.schema import PluginOptions
from chatd.core.plugins.contract import Point
from chatd.core.plugins.plugin import Plugin
from chatd.hooks import LoginAttempt, Message, MissedMessage, OutgoingMessage, Reply, Request, Rewrite, User, Veto

PAGE = (Path(__file__).parents[2] / "docs" / "hooks.md").read_text(encoding="utf-8")
ALICE = User(1, "alice")


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)


def made(options: Mapping[str, Any]) -> Any:
    (source,) = blocks("python")
    entry = tomllib.loads(blocks("toml")[0])["project"]["entry-points"]["chatd.hooks"]["bouncer"]
    names: dict[str, Any] = {}
    exec(compile(source, "bouncer.py", "exec"), names)
    return names[entry.removeprefix("bouncer:")](options)


def configured() -> list[PluginOptions]:
    return [
        hook
        for block in blocks("toml")[1:]
        for hook in msgspec.convert(tomllib.loads(block)["hook"], list[PluginOptions])
    ]


def test_the_example_does_what_it_says(tmp_path: Path) -> None:
    hook = configured()[0]
    notes = tmp_path / "missed.txt"
    bouncer = made({**hook.options, "notes": str(notes)})

    async def story() -> None:
        plugin = Plugin(hook, bouncer, asyncio.get_running_loop())

        async def ask(point: Point, event: object) -> object:
            return await plugin.call(point, event, 4096)

        for name, answer in (("Mallory", Veto("come back another day", 2001)), ("alice", None)):
            assert await ask(Point.BEFORE_LOGIN, LoginAttempt(name, 0, "hush", "mobileimsdk", "h:1")) == answer
        for body, rewritten in (("darn it", Rewrite("**** it")), ("fine", None)):
            message = OutgoingMessage(ALICE, "bob", 0, 0, body, -1, "fp", "mobileimsdk")
            assert await ask(Point.BEFORE_MESSAGE, message) == rewritten
        for body, reply in (("ping", Reply("pong")), ("pang", None)):
            assert await ask(Point.BEFORE_REQUEST, Request(ALICE, body, -1, "fp", "", "mobileimsdk")) == reply
        stored = Message(
            conversation=1, seq=1, sender_id=1, sender_name="alice", to_id=2, to_name="bob", group_id=0, body="hi",
            fp="fp", qos=True, typeu=-1, sent_at_ms=0,
        )  # fmt: skip
        await ask(Point.RECIPIENT_OFFLINE, MissedMessage(stored, (User(2, "bob"),)))
        assert plugin.failures == 0
        plugin.close()

    asyncio.run(story())
    assert notes.read_text() == "bob has missed alice\n"


def test_the_page_names_every_point_and_no_other() -> None:
    assert re.findall(r"^\| `(\w+)` \|", PAGE, re.MULTILINE) == list(Point)


def test_every_example_of_a_configuration_is_one() -> None:
    assert [hook.name for hook in configured()] == ["bouncer", "translate", "echo"]
