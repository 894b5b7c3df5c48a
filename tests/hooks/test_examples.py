"""The plug-ins that come with chatd, by themselves."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

import pytest

from chatd.hooks import Reply, Request, User
from chatd.hooks.echo import Echo
from chatd.hooks.translate import Translate


def asked(body: str, op: str = "") -> Request:
    return Request(User(1, "alice"), body, -1, "fp", op, "mobileimsdk")


@pytest.mark.parametrize(
    ("options", "answer"), [({}, "hello server[echo]"), ({"suffix": ""}, "hello"), ({"suffix": "!"}, "hello!")]
)
def test_echo(options: dict[str, str], answer: str) -> None:
    assert asyncio.run(Echo(options).before_request(asked("hello"))) == Reply(answer)


def test_echo_leaves_operations_alone() -> None:
    assert asyncio.run(Echo({}).before_request(asked('{"op":"echo"}', "echo"))) is None


@pytest.mark.parametrize(
    ("body", "answer"),
    [
        ("translate hello", "hello = 你好"),
        ("translate  World ", "World = 世界"),
        ("translate xyzzy", "xyzzy is not in the dictionary"),
        ("translate", None),
        ("translate ", None),
        ("translated hello", None),
        ("hello", None),
        ("", None),
    ],
)
def test_translate(body: str, answer: str | None) -> None:
    assert Translate({}).before_request(asked(body)) == (Reply(answer) if answer else None)


def test_translate_leaves_operations_alone() -> None:
    assert Translate({"command": '{"op":'}).before_request(asked('{"op": "echo"}', "echo")) is None


def test_a_dictionary_of_ones_own_is_read_again_when_it_changes(tmp_path: Path) -> None:
    file = tmp_path / "words.txt"
    file.write_text("# a = comment\nGood Morning = guten Morgen\nno equals sign\n")
    plugin = Translate({"file": str(file), "command": "/tr"})
    assert plugin.before_request(asked("/tr good morning")) == Reply("good morning = guten Morgen")
    assert plugin.before_request(asked("/tr # a")) == Reply("# a is not in the dictionary")
    file.write_text("good morning = guten Tag\n")
    os.utime(file, ns=(1, 1))
    assert plugin.before_request(asked("/tr good morning")) == Reply("good morning = guten Tag")


@pytest.mark.parametrize("kind", [Echo, Translate])
def test_an_unknown_option_is_told_at_the_start(kind: type[Echo | Translate]) -> None:
    with pytest.raises(ValueError, match="sufix"):
        kind({"sufix": "!"})


def test_a_dictionary_that_is_not_there_is_told_at_the_start(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        Translate({"file": str(tmp_path / "nowhere")})
