"""The parts of manual pages that are generated: every command and option, from the parser.

Owns: their form in roff.
Elsewhere: the rest of a page, written by hand around the marks (man/); which pages there are (generate.py); the manual
page of the configuration (chatd.config.render).
"""

from __future__ import annotations

import argparse
import re

from chatd.arguments import blocks
from chatd.chatctl.manual import subcommands
from chatd.config.render import roff

Actions = list[argparse.Action]


def commands(parser: argparse.ArgumentParser) -> list[str]:
    """Every command with what it takes, what it does and its options."""
    lines: list[str] = []
    for name, one in subcommands(parser):
        if not _has_verbs(one) or one.epilog or _described(one):
            lines += [
                ".TP",
                f"{_bold(name)}{_usage(one)}",
                _sentence(one.description or ""),
                *_details(one),
                *_options(one),
            ]
    return lines


def options(parser: argparse.ArgumentParser) -> list[str]:
    """Every option of a command without subcommands."""
    return [line for action in _described(parser) for line in _option(action)]


def _usage(parser: argparse.ArgumentParser) -> str:
    given = [action for action in _described(parser) if action.option_strings]
    positional = list(parser._get_positional_actions())
    words = [_optional(f"{_bold(action.option_strings[-1])}{_value(action)}") for action in given]
    words += [_positional(action) for action in positional]
    return "".join(f" {word}" for word in words)


def _positional(action: argparse.Action) -> str:
    if isinstance(action, argparse._SubParsersAction):
        shown = _italic(str(action.metavar))
    elif action.choices:
        shown = "|".join(_bold(str(one)) for one in action.choices)
    else:
        shown = _italic(str(action.metavar or action.dest))
    return _optional(shown) if action.nargs == "?" or not action.required else shown


def _optional(text: str) -> str:
    return f"[{text}]"


def _value(action: argparse.Action) -> str:
    if action.nargs == 0:
        return ""
    if action.choices:
        return " " + "|".join(_bold(str(one)) for one in action.choices)
    return f" {_italic(str(action.metavar or action.dest))}"


def _details(parser: argparse.ArgumentParser) -> list[str]:
    """Paragraphs, and lines that stay as they are."""
    lines: list[str] = []
    for block in blocks(parser.epilog or ""):
        if block.startswith(" "):
            lines += [".br", f"\\&{_text(block, keep=True)}"]
        else:
            lines.append(_text(block) if block else ".sp")
    return lines


def _options(parser: argparse.ArgumentParser) -> list[str]:
    found = _described(parser)
    return [".RS", *(line for action in found for line in _option(action)), ".RE"] if found else []


def _option(action: argparse.Action) -> list[str]:
    names = ", ".join(_bold(one) for one in action.option_strings) or _positional(action).strip("[]")
    return [".TP", f"{names}{_value(action) if action.option_strings else ''}", _sentence(_expanded(action))]


def _described(parser: argparse.ArgumentParser) -> Actions:
    """Options and arguments that a page must explain: not --help, not the verbs."""
    return [
        action
        for action in parser._actions
        if action.help not in (None, argparse.SUPPRESS)
        and not isinstance(action, argparse._HelpAction | argparse._SubParsersAction)
    ]


def _has_verbs(parser: argparse.ArgumentParser) -> bool:
    return any(isinstance(action, argparse._SubParsersAction) for action in parser._actions)


def _expanded(action: argparse.Action) -> str:
    return str(action.help) % {"default": action.default, "prog": ""}


def _sentence(text: str) -> str:
    """With a capital and a full stop. A URL at its beginning is typed as it is."""
    begin = text[:1] if "://" in text.partition(" ")[0] else text[:1].upper()
    return _text(begin + text[1:] + ("" if text.endswith((".", "?")) else "."))


def _text(text: str, *, keep: bool = False) -> str:
    """keep: its spaces, too."""
    return re.sub(r"`([^`]+)`", r"\\fB\1\\fR", roff(text if keep else " ".join(text.split())))


def _bold(text: str) -> str:
    return f"\\fB{roff(text)}\\fR"


def _italic(text: str) -> str:
    return f"\\fI{roff(text)}\\fR"
