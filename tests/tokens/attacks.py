"""What somebody tries who should not come in, over real sockets. Each function returns True if it has succeeded.

Owns: the attacks, on a daemon and a backend as tests.tokens.conftest makes them.
Elsewhere: the bugs that let them succeed (tests.tokens.planted).
"""

from __future__ import annotations

import itertools
import json
import time
from typing import Any

from chatd.errors import ErrorCode
from tests.harness.daemon import Daemon
from tests.harness.link import ConnectionGone, LoginRefused
from tests.harness.mobileimsdk import MobilePeer, content
from tests.harness.person import Town
from tests.tokens.conftest import AUDIENCE, ISSUER, House
from tests.tokens.keys import hs256

_NUMBERS = itertools.count(time.time_ns() % 10**9)


def fresh_name(prefix: str = "user") -> str:
    """Nobody has it yet."""
    return f"{prefix}x{next(_NUMBERS)}"


def token(name: str, lives_s: float = 600, **more: Any) -> str:
    """A good one of the daemon, unless `more` says otherwise."""
    return hs256(name, lives_s, **{"kid": "s", "aud": AUDIENCE, "iss": ISSUER, **more})


async def entered(daemon: Daemon, name: str, secret: str) -> MobilePeer | int:
    """The client, logged in; or the code of the refusal."""
    peer = MobilePeer()
    await peer.open(daemon.ports["mobileimsdk"])
    try:
        await peer.log_in(name, secret)
    except LoginRefused as refused:
        peer.close()
        return refused.code
    return peer


async def comes_in(daemon: Daemon, name: str, secret: str) -> bool:
    found = await entered(daemon, name, secret)
    if isinstance(found, MobilePeer):
        found.close()
        return True
    return False


async def with_a_token_for_another_service(house: House) -> bool:
    name = fresh_name()
    return await comes_in(house.daemon, name, token(name, aud="shop.example"))


async def with_an_old_token(house: House) -> bool:
    name = fresh_name()
    return await comes_in(house.daemon, name, token(name, -5))


async def while_the_backend_is_down(house: House) -> bool:
    house.backend.stop()
    try:
        return await comes_in(house.daemon, fresh_name(), "anything")
    finally:
        house.backend.start()


async def as_a_user_who_is_called_like_a_number(house: House) -> bool:
    """Whether what is written to the application's user N, who has not come yet, is given to account N."""
    town = Town(house.daemon)
    victim = await town.newcomer("victim")
    owner = await town.on_mobile(victim)
    writer = await entered(house.daemon, name := fresh_name(), token(name))
    assert isinstance(writer, MobilePeer)
    writer.say(name, str(town.ids[victim]), "for your application's user of this number", "fp1")
    try:
        while True:
            packet = await writer.find(5.0)
            if packet["type"] == 52:
                return False
            if packet["type"] == 4:
                return bool(await owner.find(5.0, type=2))
    finally:
        owner.close()
        writer.close()


async def into_a_locked_account(house: House) -> bool:
    name = fresh_name()
    assert await comes_in(house.daemon, name, token(name))
    code, _, said = house.daemon.ctl_said("user", "lock", name)
    assert code == 0, said
    return await comes_in(house.daemon, name, token(name))


async def after_the_token_has_expired(house: House) -> bool:
    """Whether the session lives on."""
    name = fresh_name()
    peer = await entered(house.daemon, name, token(name, exp=time.time() + 1.2))
    assert isinstance(peer, MobilePeer)
    try:
        kicked = await peer.find(2.5, type=54)
    except (TimeoutError, ConnectionGone):
        return True
    finally:
        peer.close()
    assert content(kicked) == {"code": 2, "reason": "the login token has expired"}
    return False


async def after_the_account_was_deleted(house: House) -> bool:
    name = fresh_name()
    kept = token(name)
    assert await comes_in(house.daemon, name, kept)
    code, _, said = house.daemon.ctl_said("user", "del", name)
    assert code == 0, said
    return await comes_in(house.daemon, name, kept)


async def for_ever_with_a_stolen_token(house: House) -> bool:
    """Whether the token is enough to set a password."""
    name = fresh_name()
    peer = await entered(house.daemon, name, token(name))
    assert isinstance(peer, MobilePeer)
    body = {"op": "password.change", "ref": 1, "old": token(name), "new": "my own from now on"}
    peer.say(name, "0", json.dumps(body), "fp1")
    while "ok" not in (answer := content(await peer.find(5.0, type=2))):
        pass
    peer.close()
    assert answer["ok"] or answer["error"]["code"] == ErrorCode.BAD_CREDENTIALS
    return bool(answer["ok"])


ATTACKS = {
    "the_audience_is_not_checked": with_a_token_for_another_service,
    "the_expiry_is_not_checked": with_an_old_token,
    "a_failure_is_a_grant": while_the_backend_is_down,
    "a_name_may_be_a_number": as_a_user_who_is_called_like_a_number,
    "a_locked_account_is_opened": into_a_locked_account,
    "sessions_do_not_end": after_the_token_has_expired,
    "a_deleted_account_comes_back": after_the_account_was_deleted,
    "a_token_is_a_password": for_ever_with_a_stolen_token,
}
"""By the bug that lets it succeed."""
