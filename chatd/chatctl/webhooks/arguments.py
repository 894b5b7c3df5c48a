"""The command line of `chatctl webhook`.

Owns: its verbs and their arguments.
Elsewhere: what the verbs do (chatctl.webhooks.command), the other commands (chatctl.__main__).
Fails: argparse ends the process, with the exit code of a wrong argument.
"""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from chatd.arguments import duration_s
from chatd.chatctl.add_command import Add, verbs_of
from chatd.chatctl.control_client import ControlClient

if TYPE_CHECKING:
    from chatd.store.event_contract import Position


def _webhooks(client: ControlClient, options: argparse.Namespace) -> int:
    """Imported when it is needed: the other commands need no store."""
    from chatd.chatctl.webhooks import command

    return command.webhooks(client, options)


def add_commands(add: Add) -> None:
    """Add webhook."""
    verb = verbs_of(add("webhook", _webhooks, "show webhooks, test them, and move them"))
    verb("list", "show every webhook: its state, what waits, and its last failure", "chatctl webhook list")
    one = verb("test", "send one signed event of no meaning from this host", "chatctl webhook test backend")
    one.add_argument("name", metavar="NAME", help="as in [[webhook]]")
    one = verb(
        "enable",
        "deliver again to a receiver that wanted no more, or without waiting for the next attempt",
        "chatctl webhook enable backend",
    )
    one.add_argument("name", metavar="NAME", help="as `chatctl webhook list` shows it")
    one = verb("replay", "send events again, or skip some", "chatctl webhook replay backend --since 2h")
    one.add_argument("name", metavar="NAME", help="as `chatctl webhook list` shows it")
    where = one.add_mutually_exclusive_group(required=True)
    text = "from so long ago on, such as 30m or 2d"
    where.add_argument("--since", dest="since_s", metavar="TIME", type=duration_s, default=None, help=text)
    where.add_argument("--now", action="store_true", help="only what happens from now on; what waits is skipped")
    text = "from a position MESSAGE:EVENT on, as `chatctl webhook list --json` shows it"
    where.add_argument("--position", metavar="POSITION", type=_position, default=None, help=text)
    one = verb(
        "forget",
        "delete what the store knows of a webhook that is no longer configured; its events are no longer recorded",
        "chatctl webhook forget backend",
    )
    one.add_argument("name", metavar="NAME", help="as `chatctl webhook list` shows it")


def _position(text: str) -> Position:
    """Imported when it is needed, as above."""
    from chatd.webhooks.overview import read_position

    try:
        return read_position(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None
