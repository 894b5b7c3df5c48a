"""Completions in the real shells: what a person sees who presses Tab."""

from __future__ import annotations

import asyncio
import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import shtab

from chatd import completion
from chatd.chatctl.__main__ import parser as chatctl_parser
from chatd.chatctl.manual import subcommands
from chatd.setup.__main__ import main as chatd_setup
from tests.client.process import terminal

Completed = set[str]
Complete = Callable[[str], Completed]


@pytest.fixture(scope="module")
def prefix(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where chatd-setup has put the completions."""
    root = tmp_path_factory.mktemp("root")
    assert chatd_setup(["install", "--root", str(root), "--prefix", "/usr/local"]) == 0
    return root / "usr/local"


@pytest.fixture(scope="module")
def elsewhere(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The working directory of the shells: with two files and a directory."""
    folder = tmp_path_factory.mktemp("elsewhere")
    (folder / "mine.toml").write_text("")
    (folder / "more.toml").write_text("")
    (folder / "many").mkdir()
    return folder


def test_what_is_copied_from_shtab_is_as_there() -> None:
    """So that shtab need not be loaded at every start."""
    assert completion.FILE == shtab.FILE
    assert completion.FOLDER == shtab.DIRECTORY
    assert list(completion.SHELLS) == shtab.SUPPORTED_SHELLS


BASH = """
export BASH_COMPLETION_USER_DIR=$PREFIX/share/bash-completion XDG_DATA_DIRS=/nonexistent
. /usr/share/bash-completion/bash_completion
COMP_LINE=$LINE COMP_POINT=${#LINE}
read -ra COMP_WORDS <<<"$LINE"
[[ $LINE == *' ' ]] && COMP_WORDS+=('')
COMP_CWORD=$((${#COMP_WORDS[@]} - 1))
_completion_loader "${COMP_WORDS[0]}"
[[ $(complete -p "${COMP_WORDS[0]}") =~ -F\\ ([^ ]+) ]]
compopt() { :; }  # works only while a person presses Tab
"${BASH_REMATCH[1]}" "${COMP_WORDS[0]}" "${COMP_WORDS[COMP_CWORD]}" "${COMP_WORDS[COMP_CWORD - 1]}"
printf '%s\\n' "${COMPREPLY[@]}"
"""


def in_bash(prefix: Path, folder: Path, line: str) -> Completed:
    return run(["bash", "--norc", "-c", BASH], folder, {"PREFIX": str(prefix), "LINE": line})


def in_fish(prefix: Path, folder: Path, line: str) -> Completed:
    """Candidates come with explanations after a tab character. Only for commands in PATH are completions loaded."""
    where = prefix / "share/fish/vendor_completions.d"
    script = f"set -p fish_complete_path {where}; complete -C $LINE"
    path = f"{Path(sys.prefix, 'bin')}:{os.environ['PATH']}"
    shown = run(["fish", "--no-config", "-c", script], folder, {"LINE": line, "PATH": path})
    return {one.partition("\t")[0] for one in shown}


def run(command: list[str], folder: Path, env: dict[str, str]) -> Completed:
    ended = subprocess.run(
        command, cwd=folder, env={**os.environ, "HOME": str(folder), **env}, capture_output=True, text=True, check=True,
        timeout=60,
    )  # fmt: skip
    assert not ended.stderr, ended.stderr
    return set(filter(None, ended.stdout.splitlines()))


@pytest.fixture(scope="module", params=[in_bash, in_fish], ids=["bash", "fish"])
def complete(request: pytest.FixtureRequest, prefix: Path, elsewhere: Path) -> Complete:
    return lambda line: request.param(prefix, elsewhere, line)


COMMANDS = dict(subcommands(chatctl_parser()))
FIRST = {name for name in COMMANDS if " " not in name}


def test_every_command_of_chatctl_is_offered(complete: Complete) -> None:
    assert complete("chatctl ") >= FIRST
    assert len(FIRST) > 15


def test_a_command_is_completed_after_an_option_with_a_value(complete: Complete) -> None:
    assert complete("chatctl -c mine.toml relo") == {"reload"}


def test_verbs_are_offered_and_commands_are_not(complete: Complete) -> None:
    verbs = {name.removeprefix("user ") for name in COMMANDS if name.startswith("user ")}
    assert "passwd" in verbs
    offered = complete("chatctl user ")
    assert offered >= verbs
    assert not offered & (FIRST - verbs)


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("chatctl user passwd --f", {"--force"}),
        ("chatctl stop --f", {"--fast"}),
        ("chatctl log-level W", {"WARNING"}),
        ("chatctl import-chatserver --charset g", {"gbk"}),
        ("chatctl -c m", {"mine.toml", "more.toml", "many/"}),
        ("chatctl user add --file mi", {"mine.toml"}),
        ("chatd --allow", {"--allow-root"}),
        ("chatd -c mi", {"mine.toml"}),
        ("chatd --print-completion z", {"zsh"}),
        ("chat --no-h", {"--no-history"}),
        ("chat --ca mo", {"more.toml"}),
        ("chatd-setup un", {"uninstall"}),
        ("chatd-setup install --dr", {"--dry-run"}),
        ("chatd-setup install --root m", {"many/"}),
    ],
)
def test_options_choices_and_files_are_completed(complete: Complete, line: str, expected: Completed) -> None:
    assert {one.rstrip("/") for one in complete(line)} == {one.rstrip("/") for one in expected}


ZSH_READY = "ready-for-tab"


async def zsh(prefix: Path, folder: Path, lines: list[tuple[str, list[str]]]) -> None:
    """A person at zsh types each line and Tab, and sees all of the words; then clears the line with Ctrl-U."""
    async with terminal(folder, command=("zsh", "-f", "-i")) as keyboard:
        keyboard.type(f"cd {folder}; fpath=({prefix}/share/zsh/site-functions $fpath); unsetopt list_ambiguous\r")
        keyboard.type("autoload -Uz compinit && compinit -u -D; setopt no_beep; LISTMAX=1000\r")
        keyboard.type(f"echo {ZSH_READY[:5]}''{ZSH_READY[5:]}\r")
        await keyboard.sees(ZSH_READY)
        for line, words in lines:
            keyboard.raw = ""
            keyboard.type(line + "\t\t")
            for word in words:
                await keyboard.sees(word)
            keyboard.type("\x15")
        keyboard.type("\x04")


def test_zsh_completes(prefix: Path, elsewhere: Path) -> None:
    lines = [
        ("chatctl ", sorted(FIRST)),
        ("chatctl -c mine.toml relo", ["reload"]),
        ("chatctl user ", sorted(name.removeprefix("user ") for name in COMMANDS if name.startswith("user "))),
        ("chatctl user passwd --f", ["--force"]),
        ("chatctl log-level W", ["WARNING"]),
        ("chatctl -c m", ["mine.toml", "more.toml", "many/"]),
        ("chatd --allow", ["--allow-root"]),
        ("chatd -c mi", ["mine.toml"]),
        ("chat --no-h", ["--no-history"]),
        ("chatd-setup un", ["uninstall"]),
        ("chatd-setup install --root m", ["many/"]),
    ]
    asyncio.run(zsh(prefix, elsewhere, lines))


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_the_scripts_have_no_errors_of_syntax(prefix: Path, shell: str) -> None:
    folder = {"bash": "bash-completion/completions", "zsh": "zsh/site-functions", "fish": "fish/vendor_completions.d"}
    scripts = sorted((prefix / "share" / folder[shell]).iterdir())
    assert len(scripts) == 4
    for script in scripts:
        subprocess.run([shell, "-n", script], check=True, timeout=30)


@pytest.mark.parametrize("command", ["chatd", "chatctl", "chat", "chatd-setup"])
def test_every_command_prints_its_completions(prefix: Path, command: str) -> None:
    printed = subprocess.run(
        [Path(sys.prefix, "bin", command), "--print-completion", "fish"],
        capture_output=True, text=True, check=True, timeout=30,
    ).stdout  # fmt: skip
    assert printed == (prefix / f"share/fish/vendor_completions.d/{command}.fish").read_text()
    assert len(re.findall(rf"^complete -c {command} ", printed, re.MULTILINE)) > 3
