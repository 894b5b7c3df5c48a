"""Keys: made, shown once, used, rotated, revoked, expired; what a wrong one costs; who is recorded."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator

import pytest

from chatd.api_keys import PREFIX, SCOPES
from chatd.core.key_ring import CHECK_S
from chatd.errors import ErrorCode
from tests.harness.api import Api, path_of
from tests.harness.deadline import wait_until
from tests.http.conftest import House
from tests.http.raw import message, post

IN_FORCE_S = CHECK_S + 5
"""Generous: the machine may be busy."""


def made(house: House, name: str, *more: str) -> str:
    code, out, err = house.daemon.ctl_said("key", "add", name, "--scope", "messages:write", *more)
    assert code == 0, err
    return out.strip()


def status(house: House, key: str) -> int:
    """Of a request over a new connection, which may be with either worker."""
    with house.connect() as raw:
        return raw.ask(post(key, message("bob", "hi"))).status


def on_every_worker(house: House, key: str, wanted: int) -> None:
    """Ten connections in a row, so both workers have some."""
    wait_until(IN_FORCE_S, "the change is in force", lambda: status(house, key) == wanted)
    wait_until(IN_FORCE_S, "and everywhere", lambda: {status(house, key) for _ in range(10)} == {wanted})


@pytest.fixture
def key(pair: House) -> Iterator[str]:
    name = f"key {time.monotonic_ns()}"
    yield made(pair, name)
    pair.daemon.ctl_said("key", "revoke", name)


@pytest.fixture(scope="module")
def limited(tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    limits = {"commands_per_s": 1}
    house = House(tmp_path_factory.mktemp("rate"), 1, http={"requests_per_s": 2}, limits=limits)
    yield house
    assert house.daemon.discard() == []


def test_a_key_works_until_it_is_revoked_without_a_restart(pair: House) -> None:
    key = made(pair, "shop")
    assert key.startswith(PREFIX)
    assert len(key) == len(PREFIX) + 43
    on_every_worker(pair, key, 201)
    code, out, _ = pair.daemon.ctl_said("key", "revoke", "shop")
    assert (code, out) == (0, "revoked: 1 key\n")
    on_every_worker(pair, key, 401)
    assert pair.daemon.ctl_said("key", "revoke", "shop")[0] == 1


def test_a_kept_connection_does_not_keep_a_revoked_key(pair: House) -> None:
    key = made(pair, "kept")
    on_every_worker(pair, key, 201)
    api = Api(pair.port, key)
    assert api.post("/v1/messages", {"to": "bob", "text": "hi"}).status == 201
    pair.daemon.ctl_said("key", "revoke", "kept")
    wait_until(IN_FORCE_S, "refused", lambda: api.post("/v1/messages", {"to": "bob", "text": "hi"}).status == 401)
    api.close()


def test_a_rotated_key_works_beside_the_new_one_for_a_while(pair: House) -> None:
    old = made(pair, "rotating")
    on_every_worker(pair, old, 201)
    code, new, err = pair.daemon.ctl_said("key", "rotate", "rotating", "--overlap", "1h")
    assert code == 0
    assert "stays valid until" in err
    on_every_worker(pair, new.strip(), 201)
    assert status(pair, old) == 201
    newest = pair.daemon.ctl_said("key", "rotate", "rotating")[1].strip()
    on_every_worker(pair, newest, 201)
    on_every_worker(pair, old, 401)
    on_every_worker(pair, new.strip(), 401)


def test_a_key_expires_by_itself(pair: House) -> None:
    key = made(pair, "brief", "--for", "5s")
    wait_until(IN_FORCE_S, "it works on both workers", lambda: {status(pair, key) for _ in range(8)} == {201})
    wait_until(IN_FORCE_S, "it has expired", lambda: {status(pair, key) for _ in range(8)} == {401})
    found = json.loads(pair.daemon.ctl_said("key", "list", "--json")[1])["keys"]
    assert [one["state"] for one in found if one["name"] == "brief"] == ["expired"]


def test_the_list_shows_everything_but_the_key(pair: House, key: str) -> None:
    for options in ((), ("--json",)):
        code, out, _ = pair.daemon.ctl_said("key", "list", *options)
        assert code == 0
        assert "messages:write" in out
        assert key not in out
        assert key[len(PREFIX) :] not in out
    text = (pair.daemon.root / "state" / "chatd.db").read_bytes()
    assert key.encode() not in text
    assert not pair.daemon.logged(key[len(PREFIX) :])


def test_two_valid_keys_have_different_names(pair: House) -> None:
    made(pair, "twice")
    code, out, err = pair.daemon.ctl_said("key", "add", "twice", "--scope", "admin")
    assert (code, out) == (1, "")
    assert "there is a valid key twice" in err


@pytest.mark.parametrize("scopes", ["", "messages", "messages:write,everything"])
def test_a_scope_that_does_not_exist_is_refused_with_those_that_do(pair: House, scopes: str) -> None:
    answer = pair.daemon.ctl("key", "add", "typo", "--scope", scopes)
    assert answer.returncode == 64
    assert all(scope in answer.stderr for scope in SCOPES)


def test_the_trail_has_the_orders_and_the_refusals_with_the_name_of_the_key(pair: House) -> None:
    made(pair, "trailed")
    pair.daemon.ctl_said("key", "rotate", "trailed")
    pair.daemon.ctl_said("key", "revoke", "trailed")
    api = pair.api()
    answer = api.get("/v1/users")
    assert (answer.status, answer.code) == (403, ErrorCode.SCOPE_MISSING)
    api.close()

    def security() -> list[str]:
        return [one["security"] for one in pair.daemon.logged("trailed") if "security" in one]

    assert security() == ["api_key_added", "api_key_rotated", "api_key_revoked"]
    missing = [one for one in pair.daemon.records() if one.get("security") == "api_scope_missing"]
    assert {(one["api_key"], one["scope"]) for one in missing} >= {("messages", "users:read")}


def test_guesses_get_a_penalty_for_their_source_and_a_valid_key_from_there_still_works(pair: House) -> None:
    """From an address of its own, which is not exempt. While the penalty lasts, a wrong key is not looked at."""
    source, answers = "127.0.0.77", []
    with pair.connect(source) as raw:
        for number in range(60):
            answers.append(raw.ask(post(f"chatd_{number:043}", message("bob", "hi"))))
            if answers[-1].status == 429:
                break
    assert (answers[0].status, answers[0].code) == (401, ErrorCode.UNKNOWN_KEY)
    assert 'error="invalid_token"' in answers[0].headers["www-authenticate"]
    assert (answers[-1].status, answers[-1].code) == (429, ErrorCode.TOO_MANY_ATTEMPTS)
    assert len(answers) < 60
    wait_s = int(answers[-1].headers["retry-after"])
    assert wait_s > 1
    assert f"try again in {wait_s} s" in answers[-1].json()["detail"]
    with pair.connect(source) as raw:
        assert raw.ask(post(pair.key, message("bob", "hi"))).status == 201
    refused = [one for one in pair.daemon.records() if one.get("security") == "api_key_refused"]
    assert source in {one["source"] for one in refused}
    penalties = json.loads(pair.daemon.ctl_said("penalties", "--json")[1])
    assert source in json.dumps(penalties)


@pytest.mark.parametrize("path", ["/v1/users?key={}", "/v1/messages?access_token={}", "/v1/groups?limit=5&key=x{}"])
def test_a_key_in_the_url_is_refused_even_beside_a_valid_one(pair: House, path: str) -> None:
    """It is in the logs of everything on its way. What it was sent for is not done, and the answer says what to do."""
    for given in ("", pair.admin):
        api = Api(pair.port, given)
        for key in (pair.admin, PREFIX + "x" * 43):
            refused = api.call(
                "POST" if "messages" in path else "GET", path.format(key), {"to": "bob", "text": "in url"}
            )
            assert (refused.status, refused.code) == (401, ErrorCode.UNKNOWN_KEY)
            assert "chatctl key rotate" in refused.body["detail"]
            assert key not in str(refused)
        api.close()
    assert not pair.daemon.logged(pair.admin)


def test_parameters_that_mean_nothing_are_refused(pair: House) -> None:
    api = pair.api(pair.admin)
    for method, path, body in [
        ("POST", "/v1/messages?from=alice", {"to": "bob", "text": "hi"}),
        ("GET", "/v1/users/alice?full=1", None),
        ("GET", "/v1/webhooks?limit=1", None),
        ("GET", "/v1/users?limit=1&limit=2", None),
        ("GET", "/v1/users?after=&after=", None),
        ("GET", "/v1/users?unknown=1", None),
    ]:
        refused = api.call(method, path, body)
        assert (refused.status, refused.code) == (422, ErrorCode.BAD_FIELD), path
    api.close()


def test_requests_beyond_the_scope_spend_the_rate_of_the_key(limited: House) -> None:
    """So whoever has a key cannot ask without end for what it does not allow."""
    code, out, _ = limited.daemon.ctl_said("key", "add", "curious", "--scope", "users:read")
    assert code == 0
    api = limited.api(out.strip())
    wait_until(IN_FORCE_S, "the key is known", lambda: api.get("/v1/users").status == 200)
    found = [api.get("/v1/groups").status for _ in range(25)]
    assert found[0] == 403
    assert found[-1] == 429
    api.close()


def test_the_last_use_is_written_down(tmp_path_factory: pytest.TempPathFactory) -> None:
    """At the latest when the worker leaves."""
    house = House(tmp_path_factory.mktemp("used"), 1)
    try:
        before = int(time.time() * 1000)
        assert status(house, house.key) == 201
        assert house.daemon.stop() == 0
        found = json.loads(house.daemon.ctl_said("key", "list", "--json")[1])["keys"]
        used = {one["name"]: one["used_at_ms"] for one in found}
        assert before <= used["messages"] <= int(time.time() * 1000)
    finally:
        assert house.daemon.discard() == []


def test_a_key_has_a_rate_of_its_own(limited: House) -> None:
    with limited.connect() as raw:
        answers = [raw.ask(post(limited.key, message("bob", f"{n}"))) for n in range(25)]
    assert {one.status for one in answers} == {201, 429}
    refused = answers[-1]
    assert refused.code == ErrorCode.TOO_FAST
    assert "2 requests per second" in refused.json()["detail"]
    assert int(refused.headers["retry-after"]) >= 1
    api = limited.api(limited.admin)
    assert api.get("/v1/users").status == 200, "another key has its own rate"
    api.close()
    wait_until(5, "some come back", lambda: status(limited, limited.key) == 201)


def test_whoever_must_wait_is_told_for_how_long(limited: House) -> None:
    """A user's allowance, spent by messages and by other actions in their name: the header, the field and the text say
    the same, and it is true."""
    api, sent = limited.api(limited.admin), []
    while not sent or sent[-1].status == 201:
        assert len(sent) < 15
        sent.append(api.post("/v1/messages", {"from": "alice", "to": "bob", "text": "hi"}))
    blocked = api.put(path_of("users", "alice", "blocks", "bob"))
    for refused in (sent[-1], blocked):
        assert (refused.status, refused.code) == (429, ErrorCode.TOO_FAST)
        wait_s = refused.body["retry_after_s"]
        assert refused.headers["retry-after"] == str(wait_s)
        assert f"try again in {wait_s} s" in refused.body["detail"]
    time.sleep(blocked.body["retry_after_s"] + 1)  # topped up once a second
    assert api.put(path_of("users", "alice", "blocks", "bob")).status == 204
    api.close()
