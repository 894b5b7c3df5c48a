"""What holds for every command of chatctl: it can be read by programs, explains itself, and forgives a typing error."""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from chatd.chatctl.__main__ import parser
from chatd.errors import Exit
from tests.harness.daemon import Daemon

pytestmark = pytest.mark.xdist_group("every command")
"""They share a daemon."""

CHANGES = {
    "reload", "reopen", "stop", "drain", "undrain", "user add", "user passwd", "user lock", "user unlock", "user del",
    "user export", "user erase", "token", "invite add", "invite revoke", "penalties clear", "migrate", "copy-store",
    "import-chatserver", "scale",
}  # fmt: skip
"""Commands that change something, and whose exit code says what there is to know."""
SHOWING = {
    "status": (), "workers": (), "check": (), "config": (), "config diff": (), "top": ("--interval", "0.1"),
    "clients": (), "trace": (), "log-level": (), "doctor": ("--fast",), "penalties": (), "user show": ("alice",),
    "user sessions": ("alice",), "user list": (), "invite list": (), "bans": (), "verify": (), "files verify": (),
}  # fmt: skip
"""Commands that only show something, with what else they need."""


def leaves(made: argparse.ArgumentParser, words: tuple[str, ...] = ()) -> Iterator[tuple[str, argparse.ArgumentParser]]:
    """Every command, and every verb of a command that needs one."""
    below = [action for action in made._actions if isinstance(action, argparse._SubParsersAction)]
    if words and not any(action.required for action in below):
        yield " ".join(words), made
    for action in below:
        for name, one in action.choices.items():
            yield from leaves(one, (*words, name))


COMMANDS = dict(leaves(parser()))


def options_of(made: argparse.ArgumentParser) -> set[str]:
    return {option for action in made._actions for option in action.option_strings}


def test_the_walk_finds_the_commands() -> None:
    assert {"status", "user show", "penalties", "penalties clear", "doctor"} <= COMMANDS.keys()
    assert COMMANDS.keys() >= CHANGES
    assert {name.removesuffix(" diff") for name in SHOWING} <= COMMANDS.keys()


@pytest.mark.parametrize("name", sorted(COMMANDS))
def test_a_command_that_shows_something_has_json(name: str) -> None:
    assert name in CHANGES or "--json" in options_of(COMMANDS[name])


@pytest.fixture(scope="module")
def daemon(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Daemon]:
    made = Daemon(tmp_path_factory.mktemp("every"), workers=1, files={"dir": "files"}).start()
    made.ctl("user", "add", "alice", input="a password\n")
    made.ctl("invite", "add")
    yield made
    complaints = made.discard()
    assert complaints == []


@pytest.mark.parametrize("name", sorted(SHOWING))
def test_its_json_is_one_object_with_a_version(daemon: Daemon, name: str) -> None:
    _, out, said = daemon.ctl_said(*name.split(), *SHOWING[name], "--json")
    lines = out.splitlines()
    assert len(lines) == 1, said
    found = json.loads(lines[0])
    assert found["v"] == 1


@pytest.mark.parametrize(
    ("typed", "meant"),
    [
        (("statsu",), "status"),
        (("clinets",), "clients"),
        (("user", "shwo", "x"), "show"),
        (("status", "--jsno"), "--json"),
        (("clients", "--wrie", "udp"), "--wire"),
        (("clients", "--wire", "udpp"), "udp"),
        (("user", "lock", "x", "--raeson", "y"), "--reason"),
        (("log-level", "DEBGU"), "DEBUG"),
    ],
)
def test_a_typing_error_is_answered_with_what_was_meant(
    typed: tuple[str, ...], meant: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        parser().parse_args(typed)
    assert ended.value.code == Exit.USAGE
    assert f"; did you mean {meant}?" in capsys.readouterr().err


def test_nonsense_is_answered_without_a_guess(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        parser().parse_args(["status", "--qqqqqqqqqqqqqqqq"])
    assert "did you mean" not in capsys.readouterr().err


def test_all_mistakes_of_a_configuration_are_shown_at_once(tmp_path: Path) -> None:
    daemon = Daemon(tmp_path, limits={"conections": 7, "in_flight": "many"}, log={"level": "LOUD"})
    daemon.config["lisen"] = [{"protocol": "echo"}]
    daemon.config["listen"].append({"protocol": "ehco", "address": "tcp://127.0.0.1:1"})
    daemon.config["listen"].append({"protocol": "echo", "address": "tcp:/127.0.0.1"})
    daemon.config["hook"] = [{"name": ""}]
    daemon.write_config()
    done = daemon.test()
    assert done.returncode == Exit.CONFIG
    for text in (
        'limits.conections: unknown option, did you mean "connections"?',
        "limits.in_flight: expected",
        'log.level: expected "DEBUG" or',
        'lisen: unknown section, did you mean "listen"?',
        "protocol: expected",
    ):
        assert text in done.stderr, done.stderr
