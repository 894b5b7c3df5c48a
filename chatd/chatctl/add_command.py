"""How a command is added to the command line of chatctl.

Owns: the form of a command's help, which ends with an example, and texts that several commands share.
Elsewhere: the commands themselves (chatctl.__main__, chatctl.show.arguments).
Fails: never.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from typing import Protocol

from chatd.address_bans import Network, network_named
from chatd.arguments import Parser
from chatd.chatctl.control_client import ControlClient

AS_JSON = "print JSON, for programs"
NETWORK = "address or network, such as 192.0.2.7, 192.0.2.0/24 or 2001:db8::/32; a single IPv6 address means its /64"
Command = Callable[[ControlClient, argparse.Namespace], int]


class Add(Protocol):
    """Adds a command. example: how it is used, at the end of its help."""

    def __call__(self, name: str, run: Command, text: str, example: str = "") -> argparse.ArgumentParser: ...


class AddVerb(Protocol):
    """Adds a verb of a command."""

    def __call__(self, name: str, text: str, example: str) -> argparse.ArgumentParser: ...


def verbs_of(command: argparse.ArgumentParser) -> AddVerb:
    """For a command of several verbs, each with its own help, an example and --json. The chosen one is options.what."""
    verbs = command.add_subparsers(dest="what", required=True, metavar="VERB", parser_class=Parser)

    def add(name: str, text: str, example: str) -> argparse.ArgumentParser:
        one: argparse.ArgumentParser = verbs.add_parser(name, help=text, description=text, epilog=epilog(example))
        one.add_argument("--json", action="store_true", help=AS_JSON)
        return one

    return add


def network(text: str) -> Network:
    """What --address means in every command. Raises argparse.ArgumentTypeError."""
    try:
        return network_named(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is neither an address nor a network") from None


def epilog(example: str) -> str | None:
    """The last line of a command's help; None: it has no example."""
    return f"example: {example}" if example else None
