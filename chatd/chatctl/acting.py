"""The command line of what an operator does to people: broadcast, kick, ban, unban, bans.

Owns: their arguments.
Elsewhere: the commands (chatctl.announce, chatctl.bans), the other arguments (chatctl.__main__).
Fails: argparse ends the process, with the exit code of a wrong argument.
"""

from __future__ import annotations

import argparse

from chatd.arguments import duration_s
from chatd.chatctl import announce
from chatd.chatctl.add_command import AS_JSON, NETWORK, Add, network
from chatd.chatctl.control_client import ControlClient
from chatd.errors import Refused
from chatd.master.requests import REASON_CHARS, WIRES
from chatd.texts import fields


def reason(text: str) -> str:
    """One line of at most REASON_CHARS. Raises argparse.ArgumentTypeError."""
    if len(text) > REASON_CHARS:
        raise argparse.ArgumentTypeError(f"has {len(text)} characters, the limit is {REASON_CHARS}")
    try:
        return fields.line("it", text, REASON_CHARS)
    except Refused as refused:
        raise argparse.ArgumentTypeError(refused.text) from None


def _group(text: str) -> int:
    try:
        return int(text.removeprefix("#"))
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is not the number of a group") from None


def _bans(client: ControlClient, options: argparse.Namespace) -> int:
    """Imported when it is needed: the other commands need no store."""
    from chatd.chatctl import bans

    return bans.bans(client, options)


def add_commands(add: Add) -> None:
    """Add broadcast, kick, ban, unban and bans."""
    _add_broadcast(add)
    _add_kick(add)
    one = add(
        "ban",
        _bans,
        "keep an address or a network out, on every wire and host; its connections end",
        "chatctl ban 203.0.113.0/24 --for 1h --reason 'guesses passwords'",
    )
    one.add_argument("network", metavar="ADDRESS|NETWORK", type=network, help=NETWORK)
    text = "how long, such as 30m, 12h or 7d (default: until `chatctl unban`)"
    one.add_argument("--for", dest="for_s", metavar="TIME", type=duration_s, default=0.0, help=text)
    text = "why; shown by `chatctl bans`, and to the users whose sessions end"
    one.add_argument("--reason", metavar="TEXT", type=reason, default="", help=text)
    text = "do not ask, even if it contains this host, your own address, or one of penalties.allow"
    one.add_argument("--force", action="store_true", help=text)
    one.add_argument("--json", action="store_true", help=AS_JSON)
    one = add("unban", _bans, "let a banned address or network in again", "chatctl unban 203.0.113.0/24")
    one.add_argument("network", metavar="ADDRESS|NETWORK", type=network, help="as `chatctl bans` shows it")
    one.add_argument("--json", action="store_true", help=AS_JSON)
    one = add("bans", _bans, "show who is kept out: since when, until when, by whom, and why", "chatctl bans")
    one.add_argument("--json", action="store_true", help=AS_JSON)


def _add_broadcast(add: Add) -> None:
    one = add(
        "broadcast",
        announce.broadcast,
        "tell all connected users something; it is not stored",
        "chatctl broadcast 'The server restarts at 22:00 UTC.'",
    )
    text = "what to say, at most 500 characters; - = read it from standard input"
    one.add_argument("text", metavar="TEXT", help=text)
    one.add_argument("--wire", choices=WIRES, default="", help="only to sessions on this wire")
    whom = one.add_mutually_exclusive_group()
    whom.add_argument("--user", metavar="USER", default="", help="only to this user, by name or id")
    whom.add_argument("--group", metavar="NUMBER", type=_group, default=0, help="only to the members of this group")
    one.add_argument("--json", action="store_true", help=AS_JSON)


def _add_kick(add: Add) -> None:
    one = add(
        "kick",
        announce.kick,
        "end sessions of a user or from an address; the account may log in again",
        "chatctl kick alice --reason 'please update your client'",
    )
    one.add_argument("user", metavar="USER", nargs="?", default=None, help="name or id of the user")
    text = f"end the sessions of everybody from there instead: {NETWORK}"
    one.add_argument("--address", metavar="ADDRESS|NETWORK", type=network, default=None, help=text)
    one.add_argument("--wire", choices=WIRES, default="", help="only sessions on this wire")
    one.add_argument("--reason", metavar="TEXT", default="", help="text that the user's client is told")
    one.add_argument("--json", action="store_true", help=AS_JSON)
