"""An attack on a session that others may not end (test_requests_on_chatserver), and bugs that it must find.

Owns: take_over_without_right(); BUGS: `python -m tests.conversations.takeovers BUG -c FILE …` is chatd with one of them
planted.
Elsewhere: planting one (tests.faults.planted).
"""

from __future__ import annotations

import sys
from typing import Any

from tests.conversations.asking import StreamingClient
from tests.faults.planted import main
from tests.harness.person import Town


async def take_over_without_right(town: Town) -> None:
    """A wrong password, a login that does not ask for it, and a client that is not streaming: the session stays."""
    name = await town.newcomer("bob")
    bob = StreamingClient(town, name)
    await bob.arrive()
    for login, errno in (
        ({"password": "guessed", "framing": "nul", "takeover": True}, 1),
        ({"password": town.secret, "framing": "nul"}, 2),
        ({"password": town.secret, "framing": "nul", "takeover": False}, 2),
        ({"password": town.secret, "takeover": True}, 2),
    ):
        peer = await town.nul_peer()
        peer.put({"msgid": 1, "name": name, **login})
        assert (await peer.find(msgid=2))["errno"] == errno, login
        peer.close()
    await bob.is_up_to_date()
    assert bob.errors == []


def every_login_takes_over() -> None:
    """Whoever logs in later stays."""
    from chatd.core.sessions import exclusive
    from chatd.core.sessions.duplicate_login import Ruling

    exclusive.decide = lambda new, holder: Ruling(new_stays=True, silent=False)  # type: ignore[assignment]


def takes_over_before_the_password_is_verified() -> None:
    """The other session ends for a guess."""
    from chatd.core.sessions.login import Logins, Which
    from chatd.errors import Disconnect

    login = Logins.login

    async def hasty(self: Logins, peer: Any, command: Any) -> None:
        if command.takeover:
            for session in tuple(self._services.hub.sessions()):
                if session.user.name == command.name:
                    self.kick(session.user.id, Which(), "logged in elsewhere", Disconnect.KICKED_DUPLICATE)
        await login(self, peer, command)

    Logins.login = hasty  # type: ignore[method-assign]


def old_clients_take_over() -> None:
    """Also a client that never promised to understand what a session's end says."""
    import msgspec

    from chatd.wire.chatserver import codec, reading

    decode = reading.decode

    class Eager(msgspec.Struct):
        frame: Any
        reply: Any = msgspec.UNSET
        mentions: Any = msgspec.UNSET

        def command(self, body_bytes: int, fp_bytes: int) -> Any:
            found = self.frame.command(body_bytes, fp_bytes)
            return msgspec.structs.replace(found, takeover=True) if self.frame.takeover else found

    def eager(frame: bytes) -> Any:
        read = decode(frame)
        return Eager(read) if hasattr(read, "takeover") else read

    codec.decode = eager  # type: ignore[assignment]


BUGS = {bug.__name__: bug for bug in (
    every_login_takes_over, takes_over_before_the_password_is_verified, old_clients_take_over,
)}  # fmt: skip


if __name__ == "__main__":
    sys.exit(main(BUGS))
