"""Each guard of the HTTP API: the attack that it stops fails, and succeeds when the guard is switched off.

One daemon with two workers for all of them."""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable, Iterator

import pytest

from chatd.errors import ErrorCode
from tests.harness.deadline import wait_until
from tests.harness.switches import stops, with_switches
from tests.http.conftest import House
from tests.http.raw import Said, message, post
from tests.http.test_keys import IN_FORCE_S, made, status

STRANGER = "127.7.0.1"
BODY_BYTES, REQUESTS_PER_S, PAGE = 32 * 1024, 20, "https://app.example"
HELLO = message("bob", "hi")
NOBODYS = f"chatd_{'x' * 43}"
_numbers = itertools.count()


class GuardedHouse(House):
    def more(self) -> list[dict[str, object]]:
        with_switches(self.daemon)
        return []

    def once(self, key: str, *headers: bytes, body: bytes = HELLO, source: str = "") -> Said:
        """A request over a connection of its own."""
        with self.connect(source) as raw:
            return raw.ask(post(key, body, *headers))

    def limited_key(self, *more: str) -> tuple[str, str]:
        """A key of its own, that both workers know, and its name."""
        name = f"key {next(_numbers)}"
        key = made(self, name, *more)
        wait_until(IN_FORCE_S, "it is known", lambda: {status(self, key) for _ in range(6)} == {201})
        return name, key


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> Iterator[GuardedHouse]:
    options = {"body_bytes": BODY_BYTES, "requests_per_s": REQUESTS_PER_S, "origins": [PAGE]}
    entry = ("-m", "tests.http.planted", "switches")
    house = GuardedHouse(tmp_path_factory.mktemp("guards"), 2, entry=entry, http=options, penalties={"delay_s": 0.0})
    yield house
    assert house.daemon.discard() == []


def attack_with_a_key_that_nobody_made(house: GuardedHouse) -> None:
    assert [house.once(key).status for key in (NOBODYS, house.key[:-1] + "_", house.key.upper())] == [401] * 3


def attack_beyond_the_scope(house: GuardedHouse) -> None:
    api = house.api()
    asked = [api.get("/v1/users"), api.put("/v1/users/alice", {"password": "taken over 1"}), api.get("/v1/groups")]
    api.close()
    assert [(one.status, one.body.get("code")) for one in asked] == [(403, ErrorCode.SCOPE_MISSING)] * 3


def attack_with_a_revoked_key(house: GuardedHouse) -> None:
    """It is tried when both workers know a key that was made after it was revoked."""
    name, key = house.limited_key()
    assert house.daemon.ctl_said("key", "revoke", name)[0] == 0
    house.limited_key()
    assert {status(house, key) for _ in range(6)} == {401}


def attack_with_an_expired_key(house: GuardedHouse) -> None:
    name, key = house.limited_key("--for", "2s")

    def state() -> str:
        found = json.loads(house.daemon.ctl_said("key", "list", "--json")[1])["keys"]
        return next(str(one["state"]) for one in found if one["name"] == name)

    wait_until(IN_FORCE_S, "its time is over", lambda: state() == "expired")
    assert {status(house, key) for _ in range(6)} == {401}


def attack_by_guessing(house: GuardedHouse) -> None:
    found = [house.once(f"chatd_{number:043}", source=STRANGER).status for number in range(20)]
    assert found[0] == 401
    assert found[-1] == 429


def attack_by_repeating(house: GuardedHouse) -> None:
    repeat = b"Idempotency-Key: order %d" % next(_numbers)
    answers = [house.once(house.key, repeat).json() for _ in range(4)]
    assert answers == answers[:1] * 4


def attack_with_a_large_body(house: GuardedHouse) -> None:
    assert house.once(house.key, body=HELLO + b" " * BODY_BYTES).status == 413


def attack_with_many_requests(house: GuardedHouse) -> None:
    _, key = house.limited_key()
    with house.connect() as raw:
        found = [raw.ask(post(key, b"{}")).status for _ in range(REQUESTS_PER_S * 20)]
    assert found[0] == 422
    assert 429 in found


def attack_from_another_page(house: GuardedHouse) -> None:
    answers = [house.once(house.key, b"Origin: " + page.encode()).headers for page in (PAGE, "https://evil.example")]
    assert ["access-control-allow-origin" in one for one in answers] == [True, False]


ATTACKS: dict[str, Callable[[GuardedHouse], None]] = {
    "any_key_will_do": attack_with_a_key_that_nobody_made,
    "scopes_are_not_asked": attack_beyond_the_scope,
    "revoked_keys_are_kept": attack_with_a_revoked_key,
    "keys_never_expire": attack_with_an_expired_key,
    "guesses_are_free": attack_by_guessing,
    "repetitions_are_new": attack_by_repeating,
    "bodies_have_no_limit": attack_with_a_large_body,
    "rates_have_no_limit": attack_with_many_requests,
    "every_origin_may_call": attack_from_another_page,
}


@pytest.mark.parametrize("bug", ATTACKS)
def test_the_attack_fails_and_succeeds_without_its_guard(house: GuardedHouse, bug: str) -> None:
    stops(bug, lambda: ATTACKS[bug](house), house.daemon)
