"""Completions of the commands for bash, zsh and fish.

Owns: where each shell looks for them below a prefix. `python -m chatd.setup.completions PREFIX` writes them there, for
packages.
Elsewhere: the arguments of the commands; making a script of them is shtab's.
Fails: OSError, by main.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Mapping
from pathlib import Path, PurePath

import shtab

from chatd import __main__ as chatd_command
from chatd.chatctl import __main__ as chatctl_command
from chatd.client import __main__ as chat_command

Parsers = Mapping[str, Callable[[], argparse.ArgumentParser]]

COMMANDS: Parsers = {
    "chatd": chatd_command.parser,
    "chatctl": chatctl_command.parser,
    "chat": chat_command.parser,
}
PLACES = {
    "bash": "share/bash-completion/completions/{}",
    "zsh": "share/zsh/site-functions/_{}",
    "fish": "share/fish/vendor_completions.d/{}.fish",
}
"""Below /usr/local and /usr. Debian's zsh has /usr/share/zsh/vendor-completions for packages."""
VENDOR_ZSH = "share/zsh/vendor-completions/_{}"


def completions(parsers: Parsers = COMMANDS, places: Mapping[str, str] = PLACES) -> dict[PurePath, str]:
    """Every script by its place below the prefix."""
    return {
        PurePath(place.format(name)): shtab.complete(make(), shell) + "\n"
        for name, make in parsers.items()
        for shell, place in places.items()
    }


def main(arguments: list[str]) -> int:
    """arguments: PREFIX. Raises: OSError."""
    if len(arguments) != 1:
        sys.stderr.write("usage: python -m chatd.setup.completions PREFIX\n")
        return 64
    for place, text in completions(places=PLACES | {"zsh": VENDOR_ZSH}).items():
        path = Path(arguments[0], place)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
