"""What is tried on the operator's page: on every route of the API that it has, with cookies of others, with sessions
that should have ended, by guessing, and what is told that should not be.

One daemon with two workers, in which each guard can be switched off: the attack that it stops must then succeed."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import sqlite3
import threading
from collections.abc import Iterator
from hashlib import sha256
from typing import Any

import pytest

from chatd.errors import ErrorCode
from chatd.http.admin.api import needs
from chatd.http.admin.requests import FRESH, READ
from chatd.http.route import Route
from chatd.http.table import ROUTES
from tests.harness.switches import stops
from tests.http.admin.operator import HOST, AdminHouse, Operator, fresh
from tests.http.raw import Raw, Said

pytestmark = pytest.mark.xdist_group("http admin")
ALLOWED = "https://app.example"
"""An origin whose pages may call the API."""
NUMBER = "4294967297"
THIEF = "127.7.3.3"


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> Iterator[AdminHouse]:
    house = AdminHouse(tmp_path_factory.mktemp("attacks"), http={"origins": [ALLOWED]})
    yield house
    assert house.daemon.discard() == []


# ---------------------------------------------------------------- every route of the API that the page has


def page_routes() -> list[Route]:
    left_out = {"messages:read", "messages:write", "tokens:write"}
    return [one for one in ROUTES if one.scope and one.scope not in left_out]


def path_of(route: Route) -> str:
    """Below /admin/."""
    return route.path.removeprefix("/").format(name="bob", other="alice", number=NUMBER)


API = [pytest.param(one, id=f"{one.method} {one.path}") for one in page_routes()]


@pytest.mark.parametrize("route", API)
def test_whom_a_route_of_the_api_refuses(house: AdminHouse, admin: Operator, reader: Operator, route: Route) -> None:
    """A stranger, a page of another origin, a reader who changes something, an administrator without a code, and bodies
    that are none."""
    method, path, body = route.method, path_of(route), {} if route.has_body else None
    assert Operator(house).ask(method, path, body).code == ErrorCode.NOT_LOGGED_IN
    for origin in ("http://evil.example", "null", ALLOWED):
        assert admin._replace(origin=origin).ask(method, path, body).code == ErrorCode.NOT_ALLOWED, origin
    if needs(route) != READ:
        assert reader.ask(method, path, body).code == ErrorCode.SCOPE_MISSING
    if needs(route) == FRESH:
        assert admin.ask(method, path, body).code == ErrorCode.CODE_NEEDED
    elif route.has_body:
        assert admin.ask(method, path, [1]).code == ErrorCode.BAD_FIELD
        form = _as_a_form(admin, method, path)
        assert (form.status, form.code) == (415, ErrorCode.UNKNOWN_CONTENT_TYPE)
    else:
        assert admin.ask(method, f"{path}?nothing=1", body).code == ErrorCode.BAD_FIELD


def _as_a_form(operator: Operator, method: str, path: str) -> Said:
    """What a form of another page could send."""
    head = f"{method} /admin/{path} HTTP/1.1\r\nHost: {HOST}\r\nContent-Type: text/plain\r\nContent-Length: 2\r\n"
    with Raw(operator.house.daemon.ports["admin"]) as raw:
        return raw.ask(f"{head}Cookie: {operator.cookie}\r\n\r\n{{}}".encode())


def test_the_page_has_no_other_routes_of_the_api() -> None:
    """A new route of the API is on the page only when somebody has thought about it."""
    scopes = {one.scope for one in page_routes()}
    assert scopes == {
        *("users:read", "users:write", "groups:read", "groups:write", "webhooks:read", "webhooks:write", "admin")
    }


def test_a_page_that_may_call_the_api_is_not_told_by_cors_that_it_may_call_this(house: AdminHouse) -> None:
    """CORS would have to allow cookies, and the header of a fresh code."""
    for path in (b"/admin/me", b"/admin/v1/users"):
        request = b"OPTIONS %s HTTP/1.1\r\nHost: a\r\nOrigin: %s\r\nAccess-Control-Request-Method: GET\r\n" % (
            path, ALLOWED.encode(),
        )  # fmt: skip
        with Raw(house.daemon.ports["admin"]) as raw:
            headers = raw.ask(request + b"Access-Control-Request-Headers: chatd-code\r\n\r\n").headers
        assert "access-control-allow-credentials" not in headers
        assert "chatd-code" not in headers.get("access-control-allow-headers", "").lower()


def test_no_answer_is_kept_or_taken_for_something_else(admin: Operator) -> None:
    """By a browser, which shows a page that others may not frame, or a cache."""
    for said in (
        admin.get("me"),
        admin.get("users"),
        admin.get("v1/users"),
        admin.get("v1/nothing"),
        admin.post("orders"),
    ):
        assert (said.headers["cache-control"], said.headers["x-content-type-options"]) == ("no-store", "nosniff")
        assert "json" in said.headers["content-type"]


@pytest.mark.parametrize(
    "path",
    [
        "v1/../v1/users",
        "..%2f..%2fetc%2fpasswd",
        "v1/users/..%2f..%2fme",
        "%2e%2e/v1/users",
        "/v1/users",
        "v1/users/%00",
    ],
)
def test_a_path_leads_nowhere_else(admin: Operator, path: str) -> None:
    said = admin.get(path)
    assert said.status in (404, 422), said
    assert said.code


# ---------------------------------------------------------------- the trail


def attack_unseen(house: AdminHouse, admin: Operator) -> None:
    """Changes that the API records for nobody: with the page, an operator is responsible for them."""
    begun = len(house.daemon.records())
    made = admin.ask("POST", "v1/groups", {"name": "team", "owner": "alice", "members": []})
    assert made.status in (200, 201), made
    number = made.json()["id"] if "id" in made.json() else made.json()["number"]
    changes: list[tuple[str, str, Any]] = [
        ("PUT", f"v1/groups/{number}/members/bob", {}),
        ("DELETE", f"v1/groups/{number}/members/bob", None),
        ("PATCH", "v1/users/bob", {"profile": {"nickname": "Bob"}}),
        ("PUT", "v1/users/bob/blocks/alice", None),
        ("DELETE", "v1/users/bob/blocks/alice", None),
    ]
    for method, path, body in changes:
        said = admin.ask(method, path, body)
        assert said.status in (200, 204), (path, said)
    assert admin.ask("PUT", "v1/users/bob/lock", {}).status == 200
    assert admin.ask("DELETE", "v1/users/bob/lock").status == 200
    me = admin.get("me").json()["name"]
    trail = [one for one in house.daemon.records()[begun:] if one.get("administrator") == me and "security" in one]
    orders = [one["order"] for one in trail if one["security"] == "order"]
    assert orders == ["POST /admin/v1/groups", *(f"{method} /admin/{path}" for method, path, _ in changes)]
    assert [one["security"] for one in trail][-2:] == ["account_locked", "account_unlocked"], "those are recorded once"


def test_every_change_is_in_the_trail_with_the_account(house: AdminHouse, admin: Operator) -> None:
    stops("changes_are_not_recorded", lambda: attack_unseen(house, admin), house.daemon)


# ---------------------------------------------------------------- sessions that should have ended


def store(house: AdminHouse) -> contextlib.closing[sqlite3.Connection]:
    path = house.daemon.root / "state" / "chatd.db"
    return contextlib.closing(sqlite3.connect(path, isolation_level=None, timeout=10))


def token_hash(operator: Operator) -> str:
    return sha256(operator.cookie.partition("=")[2].encode()).hexdigest()


def aged(operator: Operator, column: str, by_s: int) -> int:
    """Their session, as if this had been so much earlier. Returns the time that is there now."""
    with store(operator.house) as db:
        change = f"UPDATE admin_session SET {column} = {column} - ? WHERE token_hash = ? RETURNING {column}"
        return int(db.execute(change, (by_s * 1000, token_hash(operator))).fetchone()[0])


def attack_a_browser_left_alone(house: AdminHouse) -> None:
    operator = house.operator()
    assert operator.get("users").status == 200
    aged(operator, "seen_at_ms", 31 * 60)
    assert operator.get("users").code == ErrorCode.NOT_LOGGED_IN
    assert operator.post("orders", cmd="reopen").code == ErrorCode.NOT_LOGGED_IN


def attack_with_a_stolen_cookie_that_is_used_all_day(house: AdminHouse) -> None:
    operator = house.operator()
    aged(operator, "ends_at_ms", 12 * 3600)
    assert operator.get("users").code == ErrorCode.NOT_LOGGED_IN


def attack_by_an_open_page(house: AdminHouse) -> None:
    """Nobody is there, and the page asks for live data."""
    operator = house.operator()
    before = aged(operator, "seen_at_ms", 29 * 60)
    assert operator.get("live", "Chatd-Background: 1").status == 200
    assert aged(operator, "seen_at_ms", 0) == before
    assert operator.get("live").status == 200
    assert aged(operator, "seen_at_ms", 0) > before, "somebody has asked"


@pytest.mark.parametrize(
    ("bug", "attack"),
    [
        ("sessions_are_never_idle", attack_a_browser_left_alone),
        ("sessions_last_while_they_are_used", attack_with_a_stolen_cookie_that_is_used_all_day),
        ("polling_keeps_sessions_alive", attack_by_an_open_page),
    ],
)
def test_a_session_ends(house: AdminHouse, bug: str, attack: Any) -> None:
    stops(bug, lambda: attack(house), house.daemon)


def test_the_session_of_an_account_that_is_erased_is_over(house: AdminHouse, admin: Operator) -> None:
    operator = house.operator("read")
    name = operator.get("me").json()["name"]
    assert admin.ask("DELETE", f"v1/users/{name}", None, fresh(house, admin)).status == 200
    assert operator.get("users").code == ErrorCode.NOT_LOGGED_IN
    assert name not in [one["name"] for one in house.ctl("list")["administrators"]]


# ---------------------------------------------------------------- cookies


def test_a_cookie_that_somebody_else_has_set_becomes_no_session(house: AdminHouse) -> None:
    """Session fixation: a login begins another session, and ends the one whose cookie came with it."""
    theirs = house.operator()
    victim = Operator(house, cookie=theirs.cookie).logged_in(house.administrator())
    assert victim.cookie != theirs.cookie
    assert theirs.get("users").code == ErrorCode.NOT_LOGGED_IN
    made_up = Operator(house, cookie=f"chatd-admin={'A' * 43}").logged_in(house.administrator())
    assert made_up.cookie != f"chatd-admin={'A' * 43}"
    two = made_up._replace(cookie=f"{made_up.cookie}; chatd-admin={'A' * 43}")
    assert two.get("users").code == ErrorCode.NOT_LOGGED_IN, "another page of the same site has added its own"


def over_tls(house: AdminHouse, cookie: str, origin: str = "") -> Said:
    lines = [
        "GET /admin/users HTTP/1.1",
        "Host: localhost",
        f"Cookie: {cookie}",
        *([f"Origin: {origin}"] if origin else []),
    ]
    with Raw(house.daemon.ports["https"], tls=house.certificate.client()) as raw:
        return raw.ask("\r\n".join((*lines, "", "")).encode())


def attack_with_a_cookie_set_without_tls(house: AdminHouse) -> None:
    """Who is on the way of a request without TLS sets a cookie, of a session of their own."""
    cookie = house.operator().cookie
    assert over_tls(house, cookie).code == ErrorCode.NOT_LOGGED_IN
    assert over_tls(house, cookie, "https://localhost").code == ErrorCode.NOT_LOGGED_IN


def test_a_cookie_from_without_tls_is_none_over_tls(house: AdminHouse) -> None:
    stops("plain_cookies_count_over_tls", lambda: attack_with_a_cookie_set_without_tls(house), house.daemon)


def test_behind_a_proxy_with_tls_the_browser_reads_without_naming_its_origin(house: AdminHouse) -> None:
    """As browsers do: Origin comes with what changes something, and not with GET."""
    name = house.administrator()
    said = Operator(house, origin=f"https://{HOST}").log_in(name, house.codes[name].next())
    cookie = said.headers["set-cookie"].partition(";")[0]
    assert cookie.startswith("__Secure-chatd-admin=")
    request = f"GET /admin/users HTTP/1.1\r\nHost: {HOST}\r\nSec-Fetch-Site: same-origin\r\nCookie: {cookie}\r\n\r\n"
    with Raw(house.daemon.ports["admin"]) as raw:
        assert raw.ask(request.encode()).status == 200
    with Raw(house.daemon.ports["admin"]) as raw:
        assert raw.ask(request.replace("same-origin", "cross-site").encode()).code == ErrorCode.NOT_ALLOWED


# ---------------------------------------------------------------- codes


def attack_with_a_session_alone(house: AdminHouse) -> None:
    """Who has got hold of the cookie, or sits at the operator's desk, makes the account of somebody else their own."""
    operator, name = house.operator(), house.account()
    for method, path, body in (
        ("PUT", f"v1/users/{name}/password", {"password": "second-secret-2"}),
        ("POST", "keys", {"name": "theirs", "scopes": ["admin"]}),
        ("DELETE", f"v1/users/{name}", None),
    ):
        assert operator.ask(method, path, body).code == ErrorCode.CODE_NEEDED, path


def test_what_is_dangerous_is_not_done_with_a_session_alone(house: AdminHouse) -> None:
    stops("no_fresh_codes", lambda: attack_with_a_session_alone(house), house.daemon)


def guesses_at_once(house: AdminHouse, operator: Operator, count: int) -> list[int]:
    """The answers to as many requests with a wrong code. The workers are stopped while they are sent, so that all have
    arrived before the first is looked at."""
    name = operator.get("me").json()["name"]
    body = json.dumps({"name": "x", "scopes": ["admin"]}).encode()
    common = f"Host: {HOST}\r\nOrigin: http://{HOST}\r\nCookie: {operator.cookie}\r\n"
    first = f"GET /admin/me HTTP/1.1\r\n{common}\r\n".encode()
    guess = (
        f"POST /admin/keys HTTP/1.1\r\n{common}Chatd-Code: {house.codes[name].wrong()}\r\n"
        f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
    ).encode() + body
    workers = house.daemon.workers()
    with contextlib.ExitStack() as stack:
        raws = [stack.enter_context(Raw(house.daemon.ports["admin"], operator.source)) for _ in range(count)]
        assert {raw.ask(first).status for raw in raws} == {200}
        for pid in workers:
            os.kill(pid, signal.SIGSTOP)
        try:
            for raw in raws:
                raw.send(guess)
        finally:
            for pid in workers:
                os.kill(pid, signal.SIGCONT)
        return [raw.said().code for raw in raws]


def attack_by_many_guesses_at_once(house: AdminHouse) -> None:
    """Also if none of them is answered before the last one is asked."""
    thief = house.operator()._replace(source=THIEF)
    answers = guesses_at_once(house, thief, 24)
    assert len(answers) == 24
    assert set(answers) == {ErrorCode.WRONG_CODE, ErrorCode.TOO_MANY_ATTEMPTS}
    assert answers.count(ErrorCode.WRONG_CODE) <= 7, (
        "failures = 5, the next begins the penalty, and one in the other worker"
    )


def test_many_guesses_at_once_are_not_more_than_one_by_one(house: AdminHouse) -> None:
    stops("guesses_at_once_are_free", lambda: attack_by_many_guesses_at_once(house), house.daemon)


def test_one_code_lets_one_in(house: AdminHouse) -> None:
    """Also if several come with it at the same moment, to several workers."""
    name = house.administrator()
    code, answers = house.codes[name].next(), []
    begin = threading.Barrier(6)

    def log_in() -> None:
        begin.wait(20)
        answers.append(Operator(house).log_in(name, code).status)

    threads = [threading.Thread(target=log_in) for _ in range(6)]
    for one in threads:
        one.start()
    for one in threads:
        one.join(30)
    assert sorted(answers) == [200, *[403] * 5]


# ---------------------------------------------------------------- what is told


def test_no_secret_is_told(house: AdminHouse, reader: Operator) -> None:
    """Of the configuration in force and in the file, of keys and administrators, and in the log."""
    daemon = house.daemon
    before = daemon.config.get("bus", {})
    daemon.config["bus"] = {**before, "keys": ["a secret key of the bus, in the file only"]}
    daemon.write_config()
    try:
        told = [reader.get("config"), reader.post("looks", cmd="config"), reader.post("looks", cmd="config-diff")]
        told += [reader.get("keys"), reader.get("log?lines=500"), reader.get("log?lines=500&file=error.log")]
    finally:
        daemon.config["bus"] = before
        daemon.write_config()
    assert {one.status for one in told} == {200}, told
    texts = b"".join(one.body for one in told).decode()
    assert "a secret key of the bus" not in texts
    for secret in (house.key, house.admin, *(codes.secret for codes in house.codes.values())):
        assert secret not in texts
