"""Logins with tokens that expire: the client gets a new one for each login, and an old one leaves nobody waiting."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

import jwt
import pytest

from chatd import errors as of_the_server
from chatd_client import Client, Code, EndReason, Kicked, LoginRefused, State, packets
from tests.chatd_client.people import People
from tests.harness.daemon import Daemon
from tests.harness.deadline import run

SECRET = "a secret of this test, and of nobody else"


class Issuer:
    """The application that signs tokens. issued: how many."""

    def __init__(self, name: str, lasts_s: int) -> None:
        self.name, self.lasts_s = name, lasts_s
        self.issued = 0

    def sign(self) -> str:
        self.issued += 1
        now = int(time.time())
        return jwt.encode({"sub": self.name, "iat": now, "exp": now + self.lasts_s, "jti": str(self.issued)}, SECRET)

    async def token(self) -> str:
        if self.issued == 1:
            self.issued += 1
            raise RuntimeError("the issuer is down for a moment")
        return self.sign()


@pytest.fixture
def people(make_daemon: Callable[..., Daemon]) -> People:
    daemon = make_daemon(
        workers=2, accounts={"login": ["password", "token"], "end_at_expiry": True}, tokens={"leeway_s": 0}
    )
    daemon.config["token_key"] = [{"algorithm": "HS256", "secret": SECRET}]
    daemon.write_config()
    return People(daemon.start())


def test_a_new_token_is_asked_for_when_one_expires(people: People) -> None:
    async def story() -> None:
        ann, bob, cy = [await people.user(name) for name in ("ann", "bob", "cy")]
        issuer = Issuer(ann, 2)
        old = Client(people.url(), cy, token=Issuer(cy, 5).sign(), options=people.options())
        async with (
            people.client(bob) as b,
            Client(people.url(), ann, token=issuer.token, options=people.options()) as a,
            old,
        ):
            sent = 0
            while issuer.issued < 4:
                await b.send(ann, str(sent))
                sent += 1
                await asyncio.sleep(0.02)
            assert [(await a.receive(10)).text for _ in range(sent)] == [str(number) for number in range(sent)]
            assert a.state is State.LIVE
            with pytest.raises(Kicked) as kicked:  # a text is the only token that there is
                await old.receive(10)
            assert kicked.value.why is EndReason.EXPIRED
        with pytest.raises(LoginRefused) as refused:
            async with Client(people.url(), cy, token=Issuer(cy, -60).sign(), options=people.options()):
                pass
        assert refused.value.code == Code.TOKEN_EXPIRED

    run(story())


def test_the_reason_is_that_of_the_server() -> None:
    assert of_the_server.Disconnect.TOKEN_EXPIRED.text == packets.EXPIRED
