"""The command line of `chatctl key`.

Owns: its verbs and their arguments.
Elsewhere: what the verbs do (chatctl.keys.command), the other commands (chatctl.__main__).
Fails: argparse ends the process, with the exit code of a wrong argument.
"""

from __future__ import annotations

import argparse

from chatd.api_keys import SCOPES, read_scopes
from chatd.arguments import duration_s
from chatd.chatctl.add_command import Add, verbs_of
from chatd.chatctl.control_client import ControlClient
from chatd.errors import Refused
from chatd.texts import fields

NAME_CHARS = 64


def _keys(client: ControlClient, options: argparse.Namespace) -> int:
    """Imported when it is needed: the other commands need no store."""
    from chatd.chatctl.keys import command

    return command.keys(client, options)


def _name(text: str) -> str:
    try:
        return fields.line("the name", text, NAME_CHARS)
    except Refused as refused:
        raise argparse.ArgumentTypeError(refused.text) from None


def _scopes(text: str) -> tuple[str, ...]:
    try:
        return read_scopes(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def add_commands(add: Add) -> None:
    """Add key."""
    verb = verbs_of(add("key", _keys, "manage the keys with which applications use the HTTP API"))
    one = verb(
        "add",
        "make a key and print it; only its hash is stored",
        "chatctl key add shop --scope messages:write,users:read --for 90d",
    )
    one.add_argument("name", metavar="NAME", type=_name, help="name of the application, for lists and the log")
    text = f"what it may be used for, a list with commas of: {', '.join(SCOPES)}"
    one.add_argument("--scope", dest="scopes", metavar="SCOPE,…", type=_scopes, required=True, help=text)
    text = "how long it is valid, such as 12h or 90d (default: until it is revoked)"
    one.add_argument("--for", dest="for_s", metavar="TIME", type=duration_s, default=0.0, help=text)
    verb("list", "show every key: its name, scopes, age, end and last use", "chatctl key list")
    one = verb(
        "rotate",
        "make another key with the name, the scopes and the end of a valid one, and print it",
        "chatctl key rotate shop --overlap 1h",
    )
    one.add_argument("name", metavar="NAME", type=_name, help="as `chatctl key list` shows it")
    text = "how long the earlier key stays valid (default: not at all)"
    one.add_argument("--overlap", dest="overlap_s", metavar="TIME", type=duration_s, default=0.0, help=text)
    one = verb("revoke", "make all keys with this name invalid, on every host", "chatctl key revoke shop")
    one.add_argument("name", metavar="NAME", type=_name, help="as `chatctl key list` shows it")
