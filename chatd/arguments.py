"""The command-line parser of chatd and chatctl.

Owns: the exit code of a wrong argument, that of sysexits; the form of help texts; the warning about a password in
an argument, and masking it.
Elsewhere: the arguments themselves (chatd.__main__, chatctl.__main__).
Fails: ends the process, as argparse does.
"""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Sequence
from typing import Any, NoReturn

from chatd.errors import Exit

_IN_URL = re.compile(r"(://[^/@:\s]*):[^/?#\s]*@")
_IN_QUERY = re.compile(r"([?&]\w*password=)[^&\s]*")
PASSWORD_SEEN = (
    "an argument contains a password, which every user of this host can see in the list of processes while the command "
    "runs; give env:NAME or file:PATH instead"
)


def without_passwords(text: str) -> str:
    """With stars in place of the passwords of URLs."""
    return _IN_QUERY.sub(r"\1***", _IN_URL.sub(r"\1:***@", text))


class HelpText(argparse.HelpFormatter):
    """Fills each paragraph of a longer text on its own; indented lines, such as examples, stay as they are."""

    def _fill_text(self, text: str, width: int, indent: str) -> str:
        return "\n".join(
            block if block[:1] in ("", " ") else super(HelpText, self)._fill_text(block, width, indent)
            for block in blocks(text)
        )


def blocks(text: str) -> list[str]:
    """The paragraphs of a text, each indented line, and "" for each empty line between them."""
    found: list[str] = []
    is_open = False
    for line in text.strip("\n").splitlines():
        is_text = line[:1] not in ("", " ")
        if is_text and is_open:
            found[-1] += f" {line}"
        else:
            found.append(line)
        is_open = is_text
    return found


class Parser(argparse.ArgumentParser):
    """argparse itself would exit with 2, which monitors take for "critical"."""

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **{"formatter_class": HelpText, **options})

    def parse_args(self, args: Sequence[str] | None = None, namespace: Any = None) -> Any:  # type: ignore[override]
        """Warns on standard error if an argument contains a password."""
        given = sys.argv[1:] if args is None else args
        if any(without_passwords(one) != one for one in given):
            sys.stderr.write(f"{self.prog}: {PASSWORD_SEEN}\n")
        return super().parse_args(args, namespace)

    def error(self, message: str) -> NoReturn:
        self.print_usage(sys.stderr)
        self.exit(Exit.USAGE, f"{self.prog}: {without_passwords(message)}\n")
