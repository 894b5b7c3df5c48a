"""The command line of `chatctl bridge`.

Owns: its verbs and their arguments.
Elsewhere: what the verbs do (chatctl.bridges.command), the other commands (chatctl.__main__).
Fails: argparse ends the process, with the exit code of a wrong argument.
"""

from __future__ import annotations

import argparse

from chatd.chatctl.add_command import Add, verbs_of
from chatd.chatctl.control_client import ControlClient


def _bridges(client: ControlClient, options: argparse.Namespace) -> int:
    """Imported when it is needed: the other commands need no store."""
    from chatd.chatctl.bridges import command

    return command.bridges(client, options)


def add_commands(add: Add) -> None:
    """Add bridge."""
    verb = verbs_of(add("bridge", _bridges, "show bridges to other servers, test them, and end them"))
    verb("list", "show every bridge: its state, its users, what waits, and its last failure", "chatctl bridge list")
    one = verb("test", "connect to the RabbitMQ of a bridge from this host", "chatctl bridge test java")
    one.add_argument("name", metavar="NAME", help="as in [[bridge]]")
    one = verb(
        "forget",
        "end a bridge that is no longer configured: nobody can write to its users any more",
        "chatctl bridge forget java",
    )
    one.add_argument("name", metavar="NAME", help="as `chatctl bridge list` shows it")
