"""Guesses at the old password of password.change, and connections that end after as many failures as shipped."""

from __future__ import annotations

import json
from collections.abc import Callable
from itertools import count
from typing import Any

import pytest

from chatd.config.penalty_options import PenaltyOptions
from chatd.errors import ErrorCode
from tests.harness import chatserver
from tests.harness.daemon import Daemon
from tests.harness.deadline import run
from tests.harness.link import ConnectionGone
from tests.penalties.attacks import OPTIONS, PASSWORD, records, tried
from tests.trail.visitors import client_of, register

NEW = "another-Sesame-2"
MOST = PenaltyOptions().attempts_per_connection
FREE = int(OPTIONS["failures"]) + 1
"""The guess that begins a penalty is looked at too."""
LOGIN_REFUSED, TOO_MANY_ATTEMPTS = 4003, 4010
"""Codes of a WebSocket's close frame."""
_numbers = count(1)


@pytest.fixture(scope="module")
def daemon(share_daemon: Callable[..., Daemon]) -> Daemon:
    return share_daemon(workers=2, penalties={**OPTIONS, "attempts_per_connection": MOST})


class Asker:
    """A session of one user, from one address."""

    def __init__(self, daemon: Daemon, wire: str, name: str, source: str) -> None:
        self.daemon, self.wire, self.name = daemon, wire, name
        self.peer: Any = client_of(wire, source)

    async def log_in(self) -> Asker:
        """Raises LoginRefused."""
        await self.peer.open(self.daemon.ports[self.wire])
        await self.peer.log_in(self.name, PASSWORD)
        return self

    async def change(self, old: str) -> int:
        """The code of the answer, 0 = the password is changed. Raises ConnectionGone."""
        ref = next(_numbers)
        body = json.dumps({"op": "password.change", "ref": ref, "old": old, "new": NEW})
        self.peer.say(self.name, "0", body, f"change {ref}")
        while True:
            packet = await self.peer.find(type=2)
            self.peer.acknowledge(packet)
            answer = json.loads(packet["dataContent"])
            if answer.get("ref") == ref:
                return 0 if answer["ok"] else int(answer["error"]["code"])


async def guesses_until_closed(asker: Asker) -> list[int]:
    codes: list[int] = []
    try:
        for number in range(20):
            codes.append(await asker.change(f"wrong-{number}"))
    except ConnectionGone:
        return codes
    finally:
        asker.peer.close()
    raise AssertionError("it is still open")


async def counted(daemon: Daemon, source: str) -> int:
    """The failures of this source."""
    return round((await records(daemon))[source].offences)


@pytest.mark.parametrize(("wire", "number"), [("mobileimsdk", 1), ("mobileimsdk-ws", 2)])
def test_one_with_a_stolen_session_has_few_guesses_at_the_password(daemon: Daemon, wire: str, number: int) -> None:
    """Each guess is answered, also the one with which the connection ends. While the penalty lasts the right password
    tells them nothing either; the owner, elsewhere, is not concerned."""
    victim, other, source = f"victim{number}", f"other{number}", f"127.3.{number}.2"

    async def story() -> None:
        for name in (victim, other):
            assert await register(daemon, name, PASSWORD) == 0
        at_hand = await Asker(daemon, wire, other, source).log_in()
        codes = []
        for _ in range(FREE // MOST):
            thief = await Asker(daemon, wire, victim, source).log_in()
            codes.append(await guesses_until_closed(thief))
            if wire == "mobileimsdk-ws":
                assert thief.peer.close_code == TOO_MANY_ATTEMPTS
        assert codes == [[ErrorCode.BAD_CREDENTIALS] * MOST] * (FREE // MOST)
        assert await tried(daemon, wire, victim, PASSWORD, source) == ErrorCode.TOO_MANY_ATTEMPTS

        refused = [await at_hand.change(old) for old in (PASSWORD, "wrong", PASSWORD)]
        assert refused == [ErrorCode.TOO_MANY_ATTEMPTS] * MOST
        await at_hand.peer.end()

        owner = await Asker(daemon, wire, victim, f"127.3.{number}.3").log_in()
        assert await owner.change(PASSWORD) == 0
        owner.peer.close()
        assert await counted(daemon, source) == FREE

    run(story(), 60)


def test_datagrams_have_few_guesses_too_and_their_sender_keeps_its_streams(daemon: Daemon) -> None:
    source = "127.3.3.2"

    async def story() -> None:
        assert await register(daemon, "victim3", PASSWORD) == 0
        thief = await Asker(daemon, "mobileimsdk-udp", "victim3", source).log_in()
        codes = [await thief.change(f"wrong-{number}") for number in range(FREE + 2)]
        assert codes == [ErrorCode.BAD_CREDENTIALS] * FREE + [ErrorCode.TOO_MANY_ATTEMPTS] * 2
        assert await thief.change(PASSWORD) == ErrorCode.TOO_MANY_ATTEMPTS
        assert await tried(daemon, "chatserver", "victim3", PASSWORD, source) == 0
        thief.peer.close()

    run(story(), 60)


def test_a_connection_ends_after_its_failed_logins(daemon: Daemon) -> None:
    """Whatever was sent behind them is not looked at."""

    async def story() -> None:
        assert await register(daemon, "victim4", PASSWORD) == 0
        peer = client_of("chatserver", "127.3.4.2")
        await peer.open(daemon.ports["chatserver"])
        for number in range(2 * MOST):
            peer.put({"msgid": chatserver.LOGIN, "name": "victim4", "password": f"wrong-{number}"})
        frames = await peer.end()
        assert [(frame["msgid"], frame["errno"]) for frame in frames] == [(chatserver.LOGIN_ACK, 1)] * MOST
        assert await counted(daemon, "127.3.4.2") == MOST
        assert await tried(daemon, "chatserver", "victim4", PASSWORD, "127.3.4.2") == 0

    run(story(), 60)


@pytest.mark.parametrize(("wire", "number"), [("mobileimsdk", 5), ("mobileimsdk-ws", 6)])
def test_a_wire_that_closes_at_a_refusal_does_so_at_the_first(daemon: Daemon, wire: str, number: int) -> None:
    async def story() -> None:
        peer = client_of(wire, f"127.3.{number}.2")
        await peer.open(daemon.ports[wire])
        for guess in range(2 * MOST):
            peer.put(peer.login_packet("nobody", f"wrong-{guess}"))
        frames = await peer.end()
        assert [frame["type"] for frame in frames] == [50]
        if wire == "mobileimsdk-ws":
            assert peer.close_code == LOGIN_REFUSED

    run(story(), 60)
