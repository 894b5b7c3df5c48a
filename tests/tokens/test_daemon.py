"""Logins by token and by a backend, against a real daemon, over every transport."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from typing import Any

import pytest

from chatd.errors import ErrorCode, Exit
from tests.harness import chatserver
from tests.harness.datagrams import DatagramPeer
from tests.harness.deadline import run, until
from tests.harness.link import LoginRefused
from tests.harness.mobileimsdk import MobilePeer, content
from tests.harness.peer import NulPeer
from tests.harness.person import Town
from tests.harness.switches import switched_off
from tests.harness.websocket import WebPeer
from tests.tokens.attacks import ATTACKS, comes_in, entered, fresh_name, token
from tests.tokens.conftest import AUDIENCE, BACKEND_SECRET, ISSUER, House, daemon_file, secret_key
from tests.tokens.endings import TRANSPORTS, Guest
from tests.tokens.keys import SECRET, claims, key_set, pair, raw
from tests.tokens.planted import BUGS

pytestmark = pytest.mark.xdist_group("tokens")
"""They share a daemon."""
MOBILE: dict[str, type[MobilePeer]] = {
    "mobileimsdk": MobilePeer,
    "mobileimsdk-udp": DatagramPeer,
    "mobileimsdk-ws": WebPeer,
}


def at_application(algorithm: str, name: str, number: int = 0, kid: str = "", **more: Any) -> str:
    kids = {"RS256": "key0", "ES256": "key1", "EdDSA": "key2"}
    made = claims(name, aud=AUDIENCE, iss=ISSUER, **more)
    return pair(algorithm, number).sign(made, kid or kids[algorithm])


# ---------------------------------------------------------------- attacks


def test_every_bug_has_its_attack() -> None:
    assert {*ATTACKS, "the_end_is_left_behind"} == BUGS.keys()


@pytest.mark.parametrize("bug", sorted(ATTACKS))
def test_nobody_comes_in_who_should_not_and_a_planted_bug_is_found(house: House, bug: str) -> None:
    assert not run(ATTACKS[bug](house))
    with switched_off(bug, house.daemon):
        assert run(ATTACKS[bug](house)), "the attack does not find a daemon without its guard"


# ---------------------------------------------------------------- every wire


@pytest.mark.parametrize("transport", sorted(MOBILE))
@pytest.mark.parametrize("algorithm", ["HS256", "RS256", "EdDSA"])
def test_on_the_mobileimsdk_wire(house: House, transport: str, algorithm: str) -> None:
    async def story() -> None:
        name = fresh_name()
        secret = token(name) if algorithm == "HS256" else at_application(algorithm, name)
        peer = MOBILE[transport]()
        await peer.open(house.daemon.ports[transport])
        await peer.log_in(name, secret)
        peer.close()
        for bad in (secret[:-4] + "AAAA", token(name, aud="x"), "no token"):
            peer = MOBILE[transport]()
            await peer.open(house.daemon.ports[transport])
            with pytest.raises(LoginRefused) as refused:
                await peer.log_in(name, bad)
            assert refused.value.code == ErrorCode.BAD_CREDENTIALS
            peer.close()

    run(story())


@pytest.mark.parametrize(
    ("transport", "length"), [("mobileimsdk", 5600), ("mobileimsdk-udp", 5600), ("mobileimsdk-ws", 8000)]
)
def test_a_long_token_fits(house: House, transport: str, length: int) -> None:
    async def story() -> None:
        name = fresh_name()
        long = token(name, padding="x" * int((length - 350) * 3 / 4))
        assert abs(len(long) - length) < 200
        peer = MOBILE[transport]()
        await peer.open(house.daemon.ports[transport])
        await peer.log_in(name, long)
        peer.close()

    run(story())


async def on_chatserver(house: House, frame: dict[str, Any]) -> tuple[NulPeer, dict[str, Any]]:
    peer = NulPeer()
    await peer.open(house.daemon.ports["chatserver"])
    peer.put({"msgid": chatserver.LOGIN, **frame})
    return peer, await peer.find(msgid=chatserver.LOGIN_ACK)


def test_on_the_chatserver_wire_by_name_and_by_number(house: House) -> None:
    async def story() -> None:
        name = fresh_name()
        peer, first = await on_chatserver(house, {"name": name, "password": token(name)})
        assert first["errno"] == 0
        peer.close()
        peer, again = await on_chatserver(house, {"id": first["id"], "password": token(name), "framing": "nul"})
        assert (again["errno"], again["name"]) == (0, name)
        peer.close()
        number = str(first["id"])
        for secret in (token(number), token("mallory"), "", token(name, aud="x")):
            peer, refused = await on_chatserver(house, {"id": first["id"], "password": secret})
            assert (refused["errno"], refused["errmsg"]) == (1, "unknown user or wrong password")
            peer.close()
        peer, expired = await on_chatserver(house, {"name": name, "password": token(name, -5)})
        assert expired["errno"] == 1
        assert "token has expired" in expired["errmsg"]
        peer.close()
        peer, other = await on_chatserver(house, {"name": number, "password": token(number)})
        assert other["errno"] == 0
        assert other["id"] != first["id"], "the application's user of this number is somebody else"
        peer.close()

    run(story())


def test_in_the_terminal_client(house: House) -> None:
    name = fresh_name()
    file = daemon_file(house.daemon.root, "token.txt", token(name, padding="x" * 3000))
    address = f"127.0.0.1:{house.daemon.ports['chatserver']}"
    command = [sys.executable, "-m", "chatd.client", address, "--name", name, "--password-file", str(file)]
    answer = subprocess.run(
        command, input="/friends\n", capture_output=True, text=True, timeout=30, env=house.daemon.env
    )
    assert answer.returncode == 0, answer.stderr
    assert f"logged in as {name}" in answer.stdout


# ---------------------------------------------------------------- keys that change


@pytest.mark.slow
def test_a_new_key_of_the_application_is_fetched_when_it_is_used(house: House) -> None:
    async def story() -> None:
        name, backend = fresh_name(), house.backend
        backend.key_set = 200, key_set(pair("RS256"), pair("ES256"), pair("EdDSA"), pair("EdDSA", 5))
        secret = at_application("EdDSA", name, 5, "key3")
        codes = set()
        for _ in range(60):
            found = await entered(house.daemon, name, secret)
            if isinstance(found, MobilePeer):
                found.close()
                break
            codes.add(found)
            await asyncio.sleep(0.25)
        assert isinstance(found, MobilePeer), "within the 10 s between two fetches"
        assert codes <= {ErrorCode.UNAVAILABLE}
        backend.stop()
        assert await comes_in(house.daemon, fresh := fresh_name(), at_application("RS256", fresh)), "keys are kept"
        backend.start()

    run(story())


def test_keys_are_replaced_by_a_reload(house: House) -> None:
    async def story() -> None:
        daemon, root = house.daemon, house.daemon.root
        resident = await entered(daemon, home := fresh_name(), token(home))
        assert isinstance(resident, MobilePeer)
        daemon_file(root, "second.secret", SECRET[::-1])
        second = {"kid": "second", "algorithm": "HS256", "secret": f"file:{root / 'second.secret'}"}
        house.write(second)
        code, _, said = daemon.ctl_said("reload")
        assert code == 0, said
        name = fresh_name()
        assert await entered(daemon, name, token(name)) == ErrorCode.BAD_CREDENTIALS
        made = claims(name, aud=AUDIENCE, iss=ISSUER)
        assert await comes_in(daemon, name, raw({"alg": "HS256", "kid": "second"}, made, SECRET[::-1]))
        daemon.expect_error("configuration rejected, the previous one stays in force")
        daemon_file(root, "second.secret", "short")
        code, _, said = daemon.ctl_said("reload")
        assert code == Exit.CONFIG
        assert "token_key[0].secret: has 5 bytes, HS256 needs 32" in said
        assert "short" not in said
        assert await comes_in(daemon, name, raw({"alg": "HS256", "kid": "second"}, made, SECRET[::-1])), "as before"
        house.write(secret_key(root))
        code, _, said = daemon.ctl_said("reload")
        assert code == 0, said
        assert await comes_in(daemon, name, token(name))
        resident.say(home, "0", '{"op":"echo","ref":1,"text":"here"}', None, qos=False)
        assert content(await resident.find(5.0, type=2))["result"] == {"text": "here"}
        resident.close()

    run(story())


# ---------------------------------------------------------------- taking back what was given


def ctl(house: House, *arguments: str) -> str:
    code, out, said = house.daemon.ctl_said(*arguments)
    assert code == 0, said
    return out


def test_a_key_that_has_leaked_is_replaced_and_every_session_ends(house: House) -> None:
    """As docs/tokens.md says: sessions that were begun with it go on after the reload, until they are ended."""

    async def story() -> None:
        daemon, root = house.daemon, house.daemon.root
        guests = [Guest.of(daemon, transport, 600) for transport in TRANSPORTS]
        await asyncio.gather(*(guest.come() for guest in guests))
        daemon_file(root, "fresh.secret", SECRET[::-1])
        house.write({"kid": "fresh", "algorithm": "HS256", "secret": f"file:{root / 'fresh.secret'}"})
        try:
            ctl(house, "reload")
            assert not await comes_in(daemon, name := fresh_name(), token(name))
            assert not any(guest.peer.gone.is_set() for guest in guests)
            shown = ctl(house, "kick", "--address", "0.0.0.0/0", "--reason", "log in again")
            assert int(shown.removeprefix("sessions ended: ")) >= len(guests)
            for guest in guests:
                await (guest.peer.find(5.0, type=54) if isinstance(guest.peer, MobilePeer) else guest.peer.end(5.0))
            fresh = [
                raw({"alg": "HS256", "kid": "fresh"}, claims(guest.name, aud=AUDIENCE, iss=ISSUER), SECRET[::-1])
                for guest in guests
            ]
            for guest, secret in zip(guests, fresh, strict=True):
                with pytest.raises(LoginRefused):
                    await guest.come(token(guest.name))
                await guest.come(secret)
                guest.peer.close()
        finally:
            house.write(secret_key(root))
            ctl(house, "reload")

    run(story())


def test_a_user_who_is_locked_out_is_out_at_once_and_no_token_helps(house: House) -> None:
    async def story() -> None:
        mallory, other = (Guest.of(house.daemon, transport, 600) for transport in ("mobileimsdk-tls", "chatserver"))
        await mallory.come()
        await other.come()
        ctl(house, "user", "lock", mallory.name, "--reason", "stolen telephone")
        await mallory.peer.end(5.0)
        for secret in (token(mallory.name), token(mallory.name, jti="another")):
            with pytest.raises(LoginRefused) as refused:
                await mallory.come(secret)
            assert refused.value.code == ErrorCode.ACCOUNT_LOCKED
        assert not other.peer.gone.is_set()
        ctl(house, "user", "unlock", mallory.name)
        await mallory.come()
        for one in (mallory, other):
            one.peer.close()

    run(story())


# ---------------------------------------------------------------- the backend


def test_the_backend_decides(house: House) -> None:
    async def story() -> None:
        backend, name = house.backend, fresh_name()
        backend.asked.clear()
        assert await entered(house.daemon, name, "a cookie") == ErrorCode.BAD_CREDENTIALS
        backend.login = 200, b'{"allow":true}'
        assert await comes_in(house.daemon, name, "a cookie")
        question = {"name": name, "secret": "a cookie", "wire": "mobileimsdk", "address": "127.0.0.1"}
        assert backend.asked == [(question, f"Bearer {BACKEND_SECRET}")] * 2
        for login in (
            (200, b"true"),
            (500, b'{"allow":true}'),
            (302, b'{"allow":true}'),
            (200, b" " * 5000 + b'{"allow":true}'),
        ):
            backend.login = login
            assert await entered(house.daemon, name, "a cookie") == ErrorCode.UNAVAILABLE
        backend.login = 200, b'{"allow":false}'

    run(story())


def test_a_slow_backend_stalls_no_other_login(house: House) -> None:
    async def story() -> None:
        backend, town = house.backend, Town(house.daemon)
        name = await town.newcomer()
        backend.login, backend.delay_s = (200, b'{"allow":true}'), 3.0
        try:
            waiting = [asyncio.ensure_future(entered(house.daemon, fresh_name(), "x")) for _ in range(10)]
            await until(5.0, "it is asked", lambda: len(backend.asked) >= 10)
            assert await comes_in(house.daemon, name, town.secret)
            assert await comes_in(house.daemon, other := fresh_name(), token(other))
            assert not any(one.done() for one in waiting), "they did not wait for the backend"
            assert set(await asyncio.gather(*waiting)) == {ErrorCode.UNAVAILABLE}
        finally:
            backend.login, backend.delay_s = (200, b'{"allow":false}'), 0.0

    run(story())


# ---------------------------------------------------------------- chatctl token, and the trail


def test_an_operator_makes_a_token(house: House) -> None:
    name = fresh_name()
    code, out, said = house.daemon.ctl_said("token", name, "--for", "90s", "--json")
    assert code == 0, said
    found = json.loads(out)
    assert (found["name"], found["expires_in_s"]) == (name, 90)
    assert run(comes_in(house.daemon, name, found["token"]))
    assert house.daemon.ctl_said("token", name)[1].count(".") == 2
    code, _, said = house.daemon.ctl_said("token", name, "--for", "7d")
    assert (code, "a token lives 1 to 86400 seconds" in said) == (1, True)
    for odd in ("admin", "x" * 65, "0"):
        code, out, said = house.daemon.ctl_said("token", odd)
        assert (code, out.count(".")) == (0, 2)
        assert "it lets in only if there is an account with this name" in said
        assert run(entered(house.daemon, odd, out.strip())) in (ErrorCode.NAME_NOT_ALLOWED, ErrorCode.BAD_CREDENTIALS)
    records = [
        one for one in house.daemon.records() if one.get("security") == "token_minted" and one.get("name") == name
    ]
    assert len(records) == 2


def test_no_log_and_no_configuration_that_is_shown_holds_a_secret(house: House) -> None:
    async def story() -> list[str]:
        name = fresh_name()
        secrets = [
            token(name, jti="the-good-one"),
            token(name, aud="shop"),
            token(name, -5),
            token("somebody else"),
            at_application("ES256", name, 9),
            raw({"alg": "HS256", "kid": "s"}, claims(name), "x" * 40),
            "a secret cookie of the test",
        ]
        for secret in secrets:
            await entered(house.daemon, name, secret)
        return secrets

    secrets = [*run(story()), SECRET, BACKEND_SECRET]
    texts = [path.read_text(errors="replace") for path in (house.daemon.root / "log").glob("*.log*")]
    texts.append(house.daemon.output.read_text(errors="replace"))
    for secret in secrets:
        assert not any(part in text for text in texts for part in (secret, secret.split(".")[-1]) if part)
    for what in (("config", "--json"), ("config", "diff"), ("status", "--json")):
        _, out, said = house.daemon.ctl_said(*what)
        assert not any(secret in out + said for secret in secrets)
    dumped = house.daemon.test("-T").stdout
    assert "***" in dumped
    assert not any(secret in dumped for secret in secrets)
