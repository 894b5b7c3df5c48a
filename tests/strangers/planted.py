"""`python -m tests.strangers.planted BUG -c FILE …` is chatd with a guard against strangers switched off in its
workers.

Owns: the bugs, by name.
Elsewhere: planting one (tests.faults.planted).
"""

from __future__ import annotations

import sys
from typing import Any

from tests.faults.planted import main


def nobody_makes_room() -> None:
    """Who came first stays, whoever else wants to come in."""
    from chatd.net.admission import Admission

    Admission._dismiss_one = lambda self: None  # type: ignore[method-assign]
    Admission.make_room = lambda self, newcomer: False  # type: ignore[method-assign]


def the_newcomer_makes_room() -> None:
    """There is a limit, but it is the last one that goes."""
    from chatd.net.admission import Admission

    def dismiss(self: Any) -> None:
        newest = next(reversed([one for source in self._sources.values() for one in source.waiting]))
        self.stops_waiting(newest)
        newest.dismiss()

    Admission._dismiss_one = dismiss  # type: ignore[method-assign]


def no_share_of_a_source() -> None:
    """One source may have every connection."""
    from chatd.net.admission import Admission

    Admission.refusal = lambda self, remote: None  # type: ignore[method-assign]


def large_frames_before_login() -> None:
    """A stranger may send as much as a user."""
    import chatd.net.connection
    import chatd.net.websocket.connection
    import chatd.wire.chatserver.codec
    import chatd.wire.mobileimsdk.codec

    for module in (
        chatd.net.connection,
        chatd.net.websocket.connection,
        chatd.wire.chatserver.codec,
        chatd.wire.mobileimsdk.codec,
    ):
        module.MAX_BYTES_BEFORE_LOGIN = 1 << 30  # type: ignore[attr-defined]


def any_datagram_counts() -> None:
    """The token is cut off, and not compared."""
    from chatd.net.udp import listener

    def trusting(found: bytes, token: bytes) -> bool:
        return True

    listener.compare_digest = trusting  # type: ignore[assignment]


def a_login_needs_no_token() -> None:
    """Somebody who has an account of their own may log in from a client's address."""
    from chatd.net.udp.listener import UdpListener

    async def obliging(self: Any, peer: Any, session: Any, data: bytes, command: Any, reply_from: Any) -> None:
        self.begin_login(data, command, reply_from, peer.address)

    UdpListener._log_in_again = obliging  # type: ignore[method-assign]


def any_page_may_connect() -> None:
    from chatd.net.websocket import handshake

    handshake.is_same_host = lambda origin, host: True  # type: ignore[assignment]


BUGS = {
    bug.__name__: bug
    for bug in (
        nobody_makes_room,
        the_newcomer_makes_room,
        no_share_of_a_source,
        large_frames_before_login,
        any_datagram_counts,
        a_login_needs_no_token,
        any_page_may_connect,
    )
}


if __name__ == "__main__":
    sys.exit(main(BUGS))
