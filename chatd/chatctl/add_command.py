"""How a command is added to the command line of chatctl.

Owns: the form of a command's help, which ends with an example, and texts that several commands share.
Elsewhere: the commands themselves (chatctl.__main__, chatctl.show.arguments).
Fails: never.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from typing import Protocol

from chatd.chatctl.control_client import ControlClient

AS_JSON = "print JSON, for programs"
Command = Callable[[ControlClient, argparse.Namespace], int]


class Add(Protocol):
    """Adds a command. example: how it is used, at the end of its help."""

    def __call__(self, name: str, run: Command, text: str, example: str = "") -> argparse.ArgumentParser: ...


def epilog(example: str) -> str | None:
    """The last line of a command's help; None: it has no example."""
    return f"example: {example}" if example else None
