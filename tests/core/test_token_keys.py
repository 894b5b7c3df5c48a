"""Keys of login tokens that change while a worker runs: key sets that are read again, and a changed configuration."""

from __future__ import annotations

import asyncio
import json
import os
from pathlib import Path
from typing import Any

import msgspec
import pytest

from chatd.config.token_options import TokenKeyOptions, TokenOptions
from chatd.core.fetching import FetchFailed
from chatd.errors import ErrorCode
from tests.core.stage import Stage, play
from tests.core.vouching import Web, configure, log_in, names_only, register
from tests.tokens.keys import SECRET, claims, hs256, key_set, pair

# ---------------------------------------------------------------- key sets


def at_url(algorithm: Any = "") -> TokenKeyOptions:
    return TokenKeyOptions(jwks="https://app.example/jwks.json", algorithm=algorithm)


def test_a_rotated_key_is_fetched_when_it_is_first_used(tmp_path: Path) -> None:
    async def story(stage: Stage) -> None:
        old, new = pair("ES256"), pair("EdDSA")
        web = Web(key_set(old))
        configure(stage, at_url(), web=web)
        worker = await stage.worker(names_only)
        assert web.asked == 1
        (await log_in(worker, "alice", old.sign(claims("alice"), "key0"))).leave()
        web.body = key_set(old, new)
        token = new.sign(claims("alice"), "key1")
        assert (await log_in(worker, "alice", token)).failures == [ErrorCode.UNAVAILABLE], (
            "read a moment ago: try again"
        )
        assert web.asked == 1
        stage.clock.ahead_s += 3600
        peers = await asyncio.gather(
            *(log_in(worker, name, new.sign(claims(name), "key1")) for name in ("a1", "b1", "c1"))
        )
        assert all(peer.logged_in for peer in peers)
        assert web.asked == 2, "one fetch for all that wait"
        for _ in range(5):
            unknown = await log_in(worker, "dave", new.sign(claims("dave"), "no such key"))
            assert unknown.failures == [ErrorCode.UNAVAILABLE]
        assert web.asked == 2

    play(tmp_path, story)


@pytest.mark.parametrize(
    "body",
    [
        FetchFailed("no answer within 5 s"),
        b"",
        b"[]",
        b"{}",
        b"<html>login</html>",
        b'{"keys":[]}',
        b'{"keys":{}}',
        b'{"keys":[1,null,"x",{}]}',
        b'{"keys":[{"kty":"oct","k":"c2VjcmV0","alg":"HS256"}]}',
        b"[" * 50_000,
        json.dumps({"keys": [{"kty": "RSA", "n": "AQAB" * 5000, "e": "AQAB"}]}).encode(),
        json.dumps({"keys": [{"kty": "EC", "crv": "P-256", "x": "AA", "y": "AA"}]}).encode(),
        json.dumps({"keys": [{"kty": "RSA"}] * 100}).encode(),
        b" " * 200_000,
    ],
)
def test_the_keys_known_last_stay_while_the_set_cannot_be_read(tmp_path: Path, body: Any) -> None:
    async def story(stage: Stage) -> None:
        known = pair("ES256")
        web = Web(key_set(known))
        configure(stage, at_url(), web=web)
        worker = await stage.worker(names_only)
        web.body = body
        stage.clock.ahead_s += 3600
        worker.core.round()
        await stage.until("it was asked again", lambda: web.asked >= 2)
        assert (await log_in(worker, "alice", known.sign(claims("alice"), "key0"))).logged_in
        unknown = await log_in(worker, "bob", pair("EdDSA").sign(claims("bob"), "key1"))
        assert unknown.failures == [ErrorCode.UNAVAILABLE], "it cannot be known"

    play(tmp_path, story)


def test_a_set_that_was_never_read_lets_nobody_in_until_it_is(tmp_path: Path) -> None:
    async def story(stage: Stage) -> None:
        key = pair("EdDSA")
        web = Web(FetchFailed("connection refused"))
        configure(stage, at_url(), web=web, login=("token", "password"))
        worker = await stage.worker(names_only)
        await register(worker, "carol", "a password")
        token = key.sign(claims("alice"), "key0")
        assert (await log_in(worker, "alice", token)).failures == [ErrorCode.UNAVAILABLE]
        assert (await log_in(worker, "carol", "a password")).logged_in, "passwords need no keys"
        web.body = key_set(key)
        stage.clock.ahead_s += 3600
        worker.core.round()
        await stage.until("it was asked again", lambda: web.asked >= 2)
        assert (await log_in(worker, "alice", token)).logged_in

    play(tmp_path, story)


def test_keys_of_a_set_that_cannot_be_read_do_not_stay_for_ever(tmp_path: Path) -> None:
    """Or whoever keeps the server from reading it keeps a key in force that was taken out."""

    async def story(stage: Stage) -> None:
        known, keep_s = pair("ES256"), 7200.0
        web = Web(key_set(known))
        stage.config = msgspec.structs.replace(stage.config, tokens=TokenOptions(jwks_keep_s=keep_s))
        configure(stage, at_url(), web=web)
        worker = await stage.worker(names_only)

        async def tried_again() -> None:
            asked = web.asked
            worker.core.round()
            await stage.until("it was asked again", lambda: web.asked > asked)
            await stage.settled()

        web.body = FetchFailed("away")
        stage.clock.ahead_s += 3600
        await tried_again()
        stage.clock.ahead_s += keep_s - 60
        await tried_again()
        assert (await log_in(worker, "alice", known.sign(claims("alice"), "key0"))).logged_in
        stage.clock.ahead_s += 120
        await tried_again()
        assert (await log_in(worker, "bob", known.sign(claims("bob"), "key0"))).failures == [ErrorCode.UNAVAILABLE]
        web.body = key_set(known)
        stage.clock.ahead_s += 60
        await tried_again()
        assert (await log_in(worker, "bob", known.sign(claims("bob"), "key0"))).logged_in

    play(tmp_path, story)


def test_one_of_several_sets_has_the_key(tmp_path: Path) -> None:
    """Whichever of them may be read now, and whichever cannot be read."""

    async def story(stage: Stage) -> None:
        key, file = pair("EdDSA"), tmp_path / "jwks.json"
        file.write_bytes(key_set(pair("RS256")))
        web = Web(key_set(pair("ES256")))
        configure(stage, at_url(), TokenKeyOptions(jwks=str(file)), web=web)
        worker = await stage.worker(names_only)
        token = key.sign(claims("alice"), "key7")
        stage.clock.ahead_s += 5
        assert (await log_in(worker, "alice", token)).failures == [ErrorCode.UNAVAILABLE], "only the file is read again"
        assert web.asked == 1
        web.body = FetchFailed("away")
        file.write_bytes(json.dumps({"keys": [key.jwk("key7")]}).encode())
        stage.clock.ahead_s += 3600
        assert (await log_in(worker, "alice", token)).logged_in, "by the file"
        assert web.asked == 2
        web.body = key_set(pair("ES256"))
        stage.clock.ahead_s += 3600
        unknown = key.sign(claims("alice"), "no such key")
        assert (await log_in(worker, "alice", unknown)).failures == [ErrorCode.BAD_CREDENTIALS], "now it is certain"

    play(tmp_path, story)


def test_a_file_that_could_not_be_opened_is_read_when_it_can_be(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As after `chmod`, which changes neither its contents nor their time."""

    async def story(stage: Stage) -> None:
        key, file = pair("EdDSA"), tmp_path / "jwks.json"
        file.write_bytes(key_set(key))
        configure(stage, TokenKeyOptions(jwks=str(file)))
        with monkeypatch.context() as patched:
            patched.setattr(Path, "open", lambda *_: os.open("/dev/null/x", os.O_RDONLY))
            worker = await stage.worker(names_only)
        stage.clock.ahead_s += 60
        assert (await log_in(worker, "alice", key.sign(claims("alice"), "key0"))).logged_in

    play(tmp_path, story)


def test_a_private_key_in_a_set_is_not_used(tmp_path: Path) -> None:
    async def story(stage: Stage) -> None:
        key = pair("EdDSA")
        leaked = json.dumps({"keys": [{**key.jwk("key0"), "d": "AAAA"}]}).encode()
        configure(stage, at_url(), web=Web(leaked))
        worker = await stage.worker(names_only)
        assert (await log_in(worker, "alice", key.sign(claims("alice"), "key0"))).failures == [ErrorCode.UNAVAILABLE]

    play(tmp_path, story)


def test_a_file_is_read_again_when_it_has_changed(tmp_path: Path) -> None:
    async def story(stage: Stage) -> None:
        old, new = pair("RS256"), pair("RS256", 1)
        file = tmp_path / "jwks.json"
        file.write_bytes(key_set(old))
        configure(stage, TokenKeyOptions(jwks=str(file)))
        worker = await stage.worker(names_only)
        assert (await log_in(worker, "alice", old.sign(claims("alice"), "key0"))).logged_in
        file.write_bytes(key_set(new))
        stage.clock.ahead_s += 3600
        worker.core.round()

        for _ in range(500):
            bob = await log_in(worker, "bob", new.sign(claims("bob"), "key0"))
            if bob.logged_in:
                break
            await asyncio.sleep(0.01)
        assert bob.logged_in
        retired = await log_in(worker, "carol", old.sign(claims("carol"), "key0"))
        assert retired.failures == [ErrorCode.BAD_CREDENTIALS]
        file.unlink()
        stage.clock.ahead_s += 3600
        worker.core.round()
        await stage.settled()
        assert (await log_in(worker, "dave", new.sign(claims("dave"), "key0"))).logged_in

    play(tmp_path, story)


# ---------------------------------------------------------------- a changed configuration


def test_keys_are_replaced_while_sessions_stay(tmp_path: Path) -> None:
    async def story(stage: Stage) -> None:
        web = Web(key_set(pair("EdDSA")))
        configure(stage, TokenKeyOptions(kid="a", algorithm="HS256", secret=SECRET), at_url(), web=web)
        worker = await stage.worker(names_only)
        alice = await log_in(worker, "alice", hs256("alice", kid="a"))
        replaced = TokenKeyOptions(kid="b", algorithm="HS256", secret=SECRET[::-1], mints=True)
        stage.config = msgspec.structs.replace(stage.config, token_key=(replaced, at_url()))
        stage.tokens.replace(stage.config)  # type: ignore[union-attr]
        assert (await log_in(worker, "bob", hs256("bob", kid="a"))).failures == [ErrorCode.BAD_CREDENTIALS]
        minted = worker.core.tokens.mint("bob", 60)  # type: ignore[union-attr]
        assert (await log_in(worker, "bob", minted)).logged_in
        assert (await log_in(worker, "carol", pair("EdDSA").sign(claims("carol"), "key0"))).logged_in
        assert web.asked == 1, "a set that stays is not read again"
        assert alice.logged_in
        bad = TokenKeyOptions(algorithm="HS256", secret="short")
        with pytest.raises(ValueError, match="32"):
            stage.tokens.replace(msgspec.structs.replace(stage.config, token_key=(bad,)))  # type: ignore[union-attr]
        assert (await log_in(worker, "dave", worker.core.tokens.mint("dave", 60))).logged_in  # type: ignore[union-attr]

    play(tmp_path, story)
