"""The manual pages: rendered without a warning, and complete: every option and command of each program."""

from __future__ import annotations

import argparse
import os
import re
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from chatd import __main__ as chatd_command
from chatd.chatctl import __main__ as chatctl_command
from chatd.chatctl.manual import TEXTS, subcommands
from chatd.client import __main__ as chat_command
from chatd.setup import __main__ as setup_command

PAGES = sorted((Path(__file__).parent.parent / "man").iterdir())
PARSERS: dict[str, Callable[[], argparse.ArgumentParser]] = {
    "chatd.8": chatd_command.parser,
    "chatctl.8": chatctl_command.parser,
    "chat.1": chat_command.parser,
    "chatd-setup.8": setup_command.parser,
}
NO_DATE = "missing date"
"""What mandoc says of a page that belongs to no release in particular."""


def page_id(page: Path) -> str:
    return page.name


def rendered(page: Path) -> str:
    """What a reader sees, on one very wide line per paragraph."""
    ended = subprocess.run(
        ["man", "--warnings=w", "--local-file", page],
        env={**os.environ, "MANWIDTH": "1000", "LC_ALL": "C.UTF-8", "MAN_KEEP_FORMATTING": ""},
        capture_output=True, text=True, check=True, timeout=60,
    )  # fmt: skip
    assert ended.stderr == ""
    return ended.stdout.replace("\N{HYPHEN}", "-").replace("\N{MINUS SIGN}", "-")


def test_there_is_a_page_for_every_command_and_the_configuration() -> None:
    assert {page.name for page in PAGES} == {*PARSERS, "chatd.toml.5"}


@pytest.mark.parametrize("page", PAGES, ids=page_id)
def test_a_page_is_rendered_without_a_warning(page: Path) -> None:
    name, section = page.name.rsplit(".", 1)
    text = rendered(page)
    assert f"{name.upper()}({section})" in text
    for heading in ("NAME", "DESCRIPTION", "SEE ALSO"):
        assert re.search(rf"^{heading}$", text, re.MULTILINE), heading


@pytest.mark.parametrize("page", PAGES, ids=page_id)
def test_mandoc_finds_nothing_wrong_with_a_page(page: Path) -> None:
    ended = subprocess.run(
        ["mandoc", "-Tlint", "-Wwarning", page], capture_output=True, text=True, check=False, timeout=60
    )
    assert [line for line in (ended.stdout + ended.stderr).splitlines() if NO_DATE not in line] == []


@pytest.mark.parametrize("name", PARSERS)
def test_every_option_is_explained(name: str) -> None:
    made = PARSERS[name]()
    text = rendered(next(page for page in PAGES if page.name == name))
    parsers = [made, *(one for _, one in subcommands(made))]
    options = {
        option
        for one in parsers
        for action in one._actions
        for option in action.option_strings
        if action.help != argparse.SUPPRESS and option not in ("-h", "--help")
    }
    assert options
    assert [one for one in sorted(options) if not re.search(rf"(?<![\w-]){re.escape(one)}(?![\w-])", text)] == []


def test_every_command_of_chatctl_has_an_entry() -> None:
    text = rendered(next(page for page in PAGES if page.name == "chatctl.8"))
    entries = re.findall(r"^ {7}([a-z][a-z -]*?)(?=$| [\[A-Z+0-9-]|  )", text, re.MULTILINE)
    verbs = [name for name, one in subcommands(chatctl_command.parser()) if not _only_groups_verbs(one)]
    assert [name for name in verbs if name not in entries] == []
    assert {"status", "user add", "invite revoke"} <= set(verbs)


def _only_groups_verbs(parser: argparse.ArgumentParser) -> bool:
    return any(isinstance(action, argparse._SubParsersAction) and action.required for action in parser._actions)


def test_what_a_command_does_is_in_its_help(capsys: pytest.CaptureFixture[str]) -> None:
    for name, text in TEXTS.items():
        with pytest.raises(SystemExit):
            chatctl_command.parser().parse_args([*name.split(), "--help"])
        assert " ".join(text.split()) in " ".join(capsys.readouterr().out.split())
