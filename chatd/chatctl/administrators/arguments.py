"""The command line of `chatctl admin`.

Owns: its verbs and their arguments.
Elsewhere: what the verbs do (chatctl.administrators.command), the other commands (chatctl.__main__).
Fails: argparse ends the process, with the exit code of a wrong argument.
"""

from __future__ import annotations

import argparse

from chatd.chatctl.add_command import Add, verbs_of
from chatd.chatctl.control_client import ControlClient

ROLES = ("admin", "read")
"""store.administrator_contract.AdminRole, which would bring the store into every start of chatctl."""


def _administrators(client: ControlClient, options: argparse.Namespace) -> int:
    """Imported when it is needed: the other commands need no store."""
    from chatd.chatctl.administrators import command

    return command.administrators(client, options)


def add_commands(add: Add) -> None:
    """Add admin."""
    verb = verbs_of(add("admin", _administrators, "manage who may use the operator's page"))
    one = verb(
        "add",
        "let an account use the operator's page; prints its second factor, to be read by an app for codes",
        "chatctl admin add alice",
    )
    one.add_argument("user", metavar="USER", help="name or id of an account that has a password")
    text = "admin = may do everything (the default), read = may look and changes nothing"
    one.add_argument("--role", choices=ROLES, default="admin", help=text)
    verb("list", "show every administrator: name, role, age and last login", "chatctl admin list")
    one = verb(
        "reset",
        "give an administrator a new second factor, for a lost phone; the sessions on the page end",
        "chatctl admin reset alice",
    )
    one.add_argument("user", metavar="USER", help="name or id of the account")
    one = verb(
        "revoke",
        "take the right to use the operator's page back; the sessions there end, the account stays",
        "chatctl admin revoke alice",
    )
    one.add_argument("user", metavar="USER", help="name or id of the account")
