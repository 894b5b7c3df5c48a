"""Key sets that are read from a real HTTP server: whatever it answers, the keys known last stay, and no others come."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

import pytest

from chatd.background import BackgroundTasks
from chatd.config.schema import Config
from chatd.config.token_options import TokenKeyOptions
from chatd.core.tokens import key_sets
from chatd.core.tokens.contract import KeysUnavailable
from chatd.core.tokens.current_keys import CurrentKeys
from chatd.tokens.contract import MAX_KEY_SET_BYTES
from chatd.vouched_logins import HttpClient
from tests.harness.deadline import run
from tests.tokens.backend import Backend
from tests.tokens.keys import claims, key_set, pair

KNOWN, FOREIGN = pair("ES256"), pair("EdDSA", 3)
GOOD = key_set(KNOWN, FOREIGN)
"""It has a key that none of the answers below may bring in."""


@pytest.fixture
def backend() -> Iterator[Backend]:
    made = Backend().start()
    made.key_set = 200, key_set(KNOWN)
    yield made
    made.stop()


def test_what_is_no_clear_answer_changes_no_key(backend: Backend, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(key_sets, "LIMIT_S", 0.4)
    now = 1000.0

    async def story() -> None:
        nonlocal now
        client = HttpClient(MAX_KEY_SET_BYTES, ("127.0.0.1",))
        config = Config(token_key=(TokenKeyOptions(jwks=backend.url("/jwks.json")),))
        keys = CurrentKeys(config, client, lambda: now)
        await keys.open(BackgroundTasks(asyncio.get_running_loop()))
        token = FOREIGN.sign(claims("mallory"), "key1")

        async def is_refused() -> None:
            nonlocal now
            now += 60
            with pytest.raises(KeysUnavailable):
                await keys.verify(token)
            assert (await keys.verify(KNOWN.sign(claims("alice"), "key0"))).name == "alice"

        for status, body in (
            (302, GOOD),
            (404, GOOD),
            (500, GOOD),
            (204, b""),
            (200, GOOD + b" " * MAX_KEY_SET_BYTES),
            (200, GOOD[:-1]),
            (200, b"\x1f\x8b" + GOOD),
            (200, b"\xef\xbb\xbf" + GOOD),
            (200, b""),
        ):
            backend.key_set = status, body
            asked = backend.fetched
            await is_refused()
            assert backend.fetched == asked + 1, "asked once; a redirect is not followed"
        backend.key_set = 200, GOOD
        backend.delay_s = 1.0
        await is_refused()
        backend.delay_s = 0.0
        backend.stop()
        await is_refused()
        backend.start()
        now += 60
        assert (await keys.verify(token)).name == "mallory", "a good answer is used"
        await client.close()

    run(story())
