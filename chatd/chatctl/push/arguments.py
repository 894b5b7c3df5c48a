"""The command line of `chatctl push`.

Owns: its verbs and their arguments.
Elsewhere: what the verbs do (chatctl.push.command), the other commands (chatctl.__main__).
Fails: argparse ends the process, with the exit code of a wrong argument.
"""

from __future__ import annotations

import argparse

from chatd import completion
from chatd.chatctl.add_command import Add, verbs_of
from chatd.chatctl.control_client import ControlClient


def _push(client: ControlClient, options: argparse.Namespace) -> int:
    """Imported when it is needed: the other commands need no such libraries."""
    from chatd.chatctl.push import command

    return command.push(client, options)


def add_commands(add: Add) -> None:
    """Add push."""
    verb = verbs_of(add("push", _push, "make the key of Web Push, and show how many subscriptions there are"))
    one = verb("key", "make the key by which push services know this server", "chatctl push key /etc/chatd/push.pem")
    file = one.add_argument("file", metavar="FILE", help="a new file, which only its owner can read")
    file.complete = completion.FILE  # type: ignore[attr-defined]
    verb("show", "show the public key, the number of subscriptions, and who notifies", "chatctl push show")
