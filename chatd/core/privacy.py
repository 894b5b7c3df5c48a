"""What a connection must be like before secrets and messages are trusted to it.

Owns: the checks of accounts.require_tls, and of clients whose wire leaves it to them whether they acknowledge.
Elsewhere: what a connection is like (net.connection, net.udp), logging in (core.sessions.login).
Fails: Refused, before anything was looked at: the password has crossed the network, but its answer tells nobody more.
"""

from __future__ import annotations

from chatd.config.schema import Config
from chatd.core.sessions.session import Peer
from chatd.errors import ErrorCode, Refused
from chatd.protocol import Login

ACKS_NEEDED = 'over TLS a client must acknowledge messages: log in with "framing":"nul" and "acks":true'


def check_private(peer: Peer, config: Config) -> None:
    """Before a password is used. Raises Refused TLS_NEEDED if the network can read it and accounts.require_tls is
    on."""
    if config.accounts.require_tls and not peer.is_private:
        raise Refused(ErrorCode.TLS_NEEDED)


def check_acknowledges(peer: Peer, command: Login) -> None:
    """Before a login: something must tell which messages the client has received. Raises Refused NOT_ALLOWED."""
    if not (peer.has_receipts or peer.traits.acknowledges or command.acks):
        raise Refused(ErrorCode.NOT_ALLOWED, ACKS_NEEDED)
