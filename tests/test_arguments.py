"""Arguments: times, and passwords on command lines, of which the operator is warned and which no message repeats."""

from __future__ import annotations

import argparse
import os
import subprocess
from pathlib import Path

import pytest

from chatd.arguments import PASSWORD_SEEN, Parser, duration_s, without_passwords
from chatd.errors import Exit
from tests.harness import forked

SECRETS = (
    "mysql://chatd:hush@127.0.0.1:1/chatd",
    "mysql://chatd:hu@sh@127.0.0.1:1/chatd",
    "mysql://:hush@127.0.0.1/chatd",
    "unix:/run/redis.sock?db=1&password=hush&x=1",
)
HARMLESS = (
    "mysql://chatd@127.0.0.1:1/chatd",
    "sqlite:/a:b@c.db",
    "env:STORE",
    "file:/etc/chatd/store.url",
    "+1",
    "a@b:c",
)


@pytest.mark.parametrize("argument", SECRETS)
def test_a_password_is_masked(argument: str) -> None:
    shown = without_passwords(f"unrecognized arguments: {argument} next")
    assert "hush" not in shown.replace("@", "")
    assert "sh@" not in shown
    assert "***" in shown
    assert shown.endswith(" next")


@pytest.mark.parametrize("argument", HARMLESS)
def test_what_is_no_password_stays(argument: str) -> None:
    assert without_passwords(argument) == argument


@pytest.mark.parametrize("argument", [*SECRETS, *HARMLESS])
def test_a_warning_names_the_other_ways(argument: str, capsys: pytest.CaptureFixture[str]) -> None:
    parser = Parser(prog="chatctl")
    parser.add_argument("store")
    assert parser.parse_args([argument]).store == argument
    said = capsys.readouterr().err
    assert said == (f"chatctl: {PASSWORD_SEEN}\n" if argument in SECRETS else "")
    assert "env:NAME or file:PATH" in PASSWORD_SEEN


def run(directory: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    env = {**os.environ, "HUSHED": "mysql://chatd:hush@127.0.0.1:1/chatd"}
    return forked.run(["-c", str(directory / "chatd.toml"), *arguments], cwd=directory, env=env)


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    """Of a server that never ran."""
    (tmp_path / "chatd.toml").write_text('[server]\nstate_dir = "state"\nruntime_dir = "run"\nlog_dir = "log"\n')
    return tmp_path


@pytest.mark.parametrize(
    "arguments",
    [
        ("copy-store", SECRETS[0], "sqlite:other.db"),
        ("copy-store", "sqlite:other.db", SECRETS[0]),
        ("copy-store", SECRETS[0], SECRETS[0]),
        ("copy-store", SECRETS[0]),
        ("copy-store", SECRETS[0], "sqlite:other.db", SECRETS[0]),
        ("copy-store", "oracle://chatd:hush@h/db", "sqlite:other.db"),
        ("import-chatserver", SECRETS[0]),
        ("import-chatserver", "mysql://chatd:hush@h"),
    ],
)
def test_no_command_repeats_a_password(directory: Path, arguments: tuple[str, ...]) -> None:
    ended = run(directory, *arguments)
    assert ended.returncode != Exit.OK
    assert PASSWORD_SEEN in ended.stderr
    assert "hush" not in ended.stdout + ended.stderr
    for path in directory.rglob("*"):
        assert not path.is_file() or b"hush" not in path.read_bytes()


def test_a_password_from_the_environment_is_not_warned_of(directory: Path) -> None:
    ended = run(directory, "copy-store", "env:HUSHED", "sqlite:other.db")
    assert ended.returncode == Exit.UNAVAILABLE
    assert PASSWORD_SEEN not in ended.stderr
    assert "hush" not in ended.stdout + ended.stderr


def test_times_are_read_with_their_units() -> None:
    known = {"90": 90, "30s": 30, "10min": 600, "10m": 600, "1.5h": 5400, "1d12h": 129_600, "1w": 604_800}
    assert {text: duration_s(text) for text in known} == known


@pytest.mark.parametrize("text", ["", "0", "0s", "-5s", "5 min", "5y", "1h-", "999999999d", "nan", "1e3"])
def test_what_is_no_time_is_refused(text: str) -> None:
    with pytest.raises(argparse.ArgumentTypeError, match="not a time"):
        duration_s(text)
