"""`chatctl broadcast` and `chatctl kick`: telling everybody something, and ending sessions.

Owns: what each asks and prints.
Elsewhere: the command line (chatctl.acting), carrying it out (master.questions.broadcast, master.questions.kick).
Fails: the exceptions of control_client, which __main__ reports.
"""

from __future__ import annotations

import argparse
import sys

from chatd.chatctl import render
from chatd.chatctl.control_client import ControlClient, RequestFailed, note
from chatd.errors import Exit
from chatd.master.replies import BroadcastReply, ControlReply, KickReply
from chatd.master.requests import BROADCAST_S, BroadcastRequest, KickRequest

STDIN = "-"


def broadcast(client: ControlClient, options: argparse.Namespace) -> int:
    """Waits until all have been told, at most BROADCAST_S. Exit code: 1 if there is no such user or group, 75 if a host
    did not answer."""
    text = sys.stdin.read().rstrip("\n") if options.text == STDIN else options.text
    request = BroadcastRequest(text=text, wire=options.wire, user=options.user, group_id=options.group)
    return _ask(client, request, BroadcastReply, options, limit_s=BROADCAST_S + 5)


def kick(client: ControlClient, options: argparse.Namespace) -> int:
    """Exit code: 1 if there is no such user, 75 if a host did not answer, which is then asked again by the server."""
    if (options.user is None) is (options.address is None):
        note("kick: give a user, or --address, but not both")
        return Exit.USAGE
    request = KickRequest(
        user=options.user or "", network=str(options.address or ""), wire=options.wire, reason=options.reason
    )
    return _ask(client, request, KickReply, options)


def _ask(
    client: ControlClient,
    request: BroadcastRequest | KickRequest,
    kind: type[BroadcastReply | KickReply],
    options: argparse.Namespace,
    limit_s: float = 30.0,
) -> int:
    try:
        reply = client.ask(request, kind, limit_s)
    except RequestFailed as error:
        if not options.json:
            raise
        print(error.data.decode().strip())
        return error.exit_code
    if options.json:
        render.print_json(reply)
    else:
        print(_shown(reply))
    return Exit.OK


def _shown(reply: ControlReply) -> str:
    if isinstance(reply, KickReply):
        return f"sessions ended: {reply.sessions}"
    assert isinstance(reply, BroadcastReply)
    more = f"\nsessions that read too slowly to be told: {reply.skipped}" if reply.skipped else ""
    return f"sessions told: {reply.told}{more}"
