"""The command-line parser of chatd and chatctl.

Owns: the exit code of a wrong argument, that of sysexits; what may have been meant by a mistyped one; times with units;
the form of help texts; the warning about a password in an argument, and masking it.
Elsewhere: the arguments themselves (chatd.__main__, chatctl.__main__).
Fails: ends the process, as argparse does.
"""

from __future__ import annotations

import argparse
import re
import sys
import textwrap
from collections.abc import Sequence
from typing import Any, NoReturn

from chatd.errors import Exit

_IN_URL = re.compile(r"(://[^/@:\s]*):[^/?#\s]*@")
_IN_QUERY = re.compile(r"([?&]\w*password=)[^&\s]*")
PASSWORD_SEEN = (
    "an argument contains a password, which every user of this host can see in the list of processes while the command "
    "runs; give env:NAME or file:PATH instead"
)


_NO_CHOICE = re.compile(r"invalid choice: '(?P<word>[^']*)' \(choose from (?P<known>.*)\)", re.DOTALL)
_UNRECOGNIZED = re.compile(r"unrecognized arguments: (?P<words>.*)", re.DOTALL)
_UNITS_S = {"s": 1, "min": 60, "m": 60, "h": 3600, "d": 86_400, "w": 7 * 86_400}
_TIME = re.compile(r"(\d{1,9}(?:\.\d+)?)(s|min|m|h|d|w)")
_LONGEST_S = 100 * 365 * 86_400


def duration_s(text: str) -> float:
    """Seconds of a time such as 30s, 10min, 2h, 7d or 1d12h, more than none and at most a century; a number alone is
    seconds. Raises ArgumentTypeError."""
    try:
        total = float(text) if re.fullmatch(r"\d{1,9}(\.\d+)?", text) else _sum_of(text)
        if not 0 < total <= _LONGEST_S:
            raise ValueError(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"not a time: {text!r}; expected 30s, 10min, 2h, 7d or 1w") from None
    return total


def _sum_of(text: str) -> float:
    parts = _TIME.findall(text)
    if not parts or "".join(number + unit for number, unit in parts) != text:
        raise ValueError(text)
    return sum(float(number) * _UNITS_S[unit] for number, unit in parts)


def _suggestion(words: Sequence[str], known: Sequence[str]) -> str:
    """ "; did you mean …?", or "" if none of the words is like a known one."""
    import difflib  # only for a mistake

    meant = [close[0] for word in words if (close := difflib.get_close_matches(word, known, n=1, cutoff=0.5))]
    return f"; did you mean {' '.join(meant)}?" if meant else ""


def without_passwords(text: str) -> str:
    """With stars in place of the passwords of URLs."""
    return _IN_QUERY.sub(r"\1***", _IN_URL.sub(r"\1:***@", text))


class HelpText(argparse.HelpFormatter):
    """Fills each paragraph of a longer text on its own; indented lines, such as examples, and options stay whole."""

    def _fill_text(self, text: str, width: int, indent: str) -> str:
        return "\n".join(
            block
            if block[:1] in ("", " ")
            else textwrap.fill(block, width, initial_indent=indent, subsequent_indent=indent, break_on_hyphens=False)
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

    _given: Sequence[str] = ()
    """The arguments that are being parsed."""

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **{"formatter_class": HelpText, **options})

    def parse_args(self, args: Sequence[str] | None = None, namespace: Any = None) -> Any:  # type: ignore[override]
        """Warns on standard error if an argument contains a password."""
        given = self._given = sys.argv[1:] if args is None else args
        if any(without_passwords(one) != one for one in given):
            sys.stderr.write(f"{self.prog}: {PASSWORD_SEEN}\n")
        return super().parse_args(args, namespace)

    def error(self, message: str) -> NoReturn:
        self.print_usage(sys.stderr)
        self.exit(Exit.USAGE, f"{self.prog}: {without_passwords(message)}{self._meant(message)}\n")

    def _meant(self, message: str) -> str:
        """What the person may have meant, for the two mistakes of which argparse tells a word that it does not know."""
        if choice := _NO_CHOICE.search(message):
            known = re.findall(r"'([^']*)'", choice["known"]) or re.split(r",\s*", choice["known"])
            return _suggestion([choice["word"]], known)
        if unknown := _UNRECOGNIZED.search(message):
            words = [word.partition("=")[0] for word in unknown["words"].split() if word.startswith("-")]
            return _suggestion(words, self._all_options())
        return ""

    def _all_options(self) -> list[str]:
        """Those of this command, and of the commands in it that were named: argparse reports unknown options of a
        command from the parser above it."""
        return sorted({option for one in self._with_chosen() for option in one._option_string_actions})

    def _with_chosen(self) -> list[argparse.ArgumentParser]:
        chosen: list[argparse.ArgumentParser] = [self]
        for word in self._given:
            for action in chosen[-1]._actions:
                if isinstance(action, argparse._SubParsersAction) and word in action.choices:
                    chosen.append(action.choices[word])
                    break
        return chosen
