"""The example of docs/hooks.md is what it says: it is taken from the page, configured as there, and asked."""

from __future__ import annotations

import asyncio
import re
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec

from chatd import hooks
from chatd.config.schema import PluginOptions
from chatd.core.plugins.contract import ACTIONS, Point
from chatd.core.plugins.plugin import Plugin
from chatd.hooks import (
    Action,
    LoginAttempt,
    Message,
    MissedMessage,
    OutgoingMessage,
    ReadHistory,
    Registration,
    Reply,
    Request,
    Rewrite,
    User,
    Veto,
    ViewProfile,
)

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
            return await plugin.call(point, event, ALICE.id, 4096)

        banned = Veto("come back another day", 2001)
        mallory = User(7, "mallory")
        for name, number, user, answer in (
            ("Mallory", 0, mallory, banned), ("", 7, mallory, banned), ("7", 0, mallory, banned),
            ("MALLORY", 0, None, banned),
            ("alice", 0, ALICE, None), ("nobody", 0, None, None),
        ):  # fmt: skip
            attempt = LoginAttempt(name, number, "hush", "mobileimsdk", "h:1", user)
            assert await ask(Point.BEFORE_LOGIN, attempt) == answer
        assert await ask(Point.BEFORE_REGISTER, Registration(name="Mallory", wire="chatserver", remote="h:1"))
        for actor, refused in ((ALICE, False), (User(9, "guest9"), True)):
            action = ViewProfile(actor=actor, wire="chatserver", remote="h:1", user=ALICE)
            assert bool(await ask(Point.BEFORE_PROFILE_VIEW, action)) is refused
            history = ReadHistory(actor=actor, wire="chatserver", remote="h:1", user=ALICE)
            assert await ask(Point.BEFORE_HISTORY, history) is None
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
    table = PAGE.partition("## A complete example")[0]
    assert re.findall(r"^\| `(\w+)` \|", table, re.MULTILINE) == list(Point)


def test_the_page_gives_every_type_its_fields() -> None:
    for name, fields in re.findall(r"^\| `\w+` \|[^|]*\| `(\w+)\((.*?)\)`", PAGE, re.MULTILINE):
        kind = getattr(hooks, name)
        shared = Action.__struct_fields__ if issubclass(kind, Action) else ()
        own = [one for one in kind.__struct_fields__ if one not in shared]
        assert fields == ", ".join(own), name


def test_every_name_of_the_contract_can_be_imported_from_chatd_hooks() -> None:
    assert set(hooks.__all__) >= {kind.__name__ for kind in Action.__subclasses__()}
    assert {getattr(hooks, kind.__name__).point for kind in Action.__subclasses__()} == ACTIONS


def test_every_example_of_a_configuration_is_one() -> None:
    assert [hook.name for hook in configured()] == ["bouncer", "translate", "echo"]
