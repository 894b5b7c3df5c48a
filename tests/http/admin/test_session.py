"""Administrators log in with a second factor, and their sessions end; and what others try.

One daemon with two workers, in which each guard can be switched off: the attack that it stops must then succeed."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest

from chatd.errors import ErrorCode
from tests.harness.api import path_of
from tests.harness.switches import stops
from tests.http.admin.operator import PASSWORD, AdminHouse, Attack, Codes, Operator
from tests.http.raw import Raw

pytestmark = pytest.mark.xdist_group("http admin")
STRANGER, ANOTHER = "127.7.1.3", "127.7.1.4"
REFUSED = "unknown administrator, wrong password, or wrong code"


# ---------------------------------------------------------------- the good path


def test_a_visit(house: AdminHouse) -> None:
    """From logging in to logging out."""
    name, operator = house.administrator(), Operator(house)
    said = operator.log_in(name.upper(), house.codes[name].next())
    assert said.json() == {"name": name, "role": "admin"}
    cookie, *attributes = said.headers["set-cookie"].split("; ")
    assert sorted(attributes) == ["HttpOnly", "Path=/admin", "SameSite=Strict"], "until the browser ends"
    operator = operator._replace(cookie=cookie)
    me = operator.get("me").json()
    assert (me["name"], me["role"], me["idle_s"]) == (name, "admin", 1800)
    gone = operator.post("logout")
    assert "Max-Age=0" in gone.headers["set-cookie"]
    assert operator.get("live").code == ErrorCode.NOT_LOGGED_IN, "the old cookie is of no use to anybody"
    trail = [one for one in house.daemon.records() if one.get("name") == name and "security" in one]
    assert [one["security"] for one in trail] == ["account_created", "admin_added", "admin_login"]
    assert not house.daemon.logged(cookie.partition("=")[2])


def test_over_tls_the_cookie_is_another_one_and_secure(house: AdminHouse) -> None:
    name = house.administrator()
    body = json.dumps({"name": name, "password": PASSWORD, "code": house.codes[name].next()}).encode()
    head = b"POST /admin/login HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: %d\r\n"
    with Raw(house.daemon.ports["https"], tls=house.certificate.client()) as raw:
        found = raw.ask(head % len(body) + b"Origin: https://localhost\r\n\r\n" + body).headers["set-cookie"]
    assert found.startswith("__Secure-chatd-admin=")
    assert "Secure" in found.split("; ")


def test_chatctl_shows_and_revokes_them(house: AdminHouse) -> None:
    operator = house.operator("read")
    (shown,) = [one for one in house.ctl("list")["administrators"] if one["name"] == operator.get("me").json()["name"]]
    assert (shown["role"], shown["used_at_ms"] > 0) == ("read", True)
    assert house.daemon.ctl_said("admin", "add", shown["name"])[0] == 1, "it is one already"
    old = house.codes[shown["name"]]
    house.codes[shown["name"]] = Codes(house.ctl("reset", shown["name"])["secret"])
    assert operator.get("live").code == ErrorCode.NOT_LOGGED_IN
    assert operator.log_in(shown["name"], old.next()).code == ErrorCode.BAD_CREDENTIALS
    operator = operator.logged_in(shown["name"])
    assert house.ctl("revoke", shown["name"])["revoked"]
    assert operator.get("live").code == ErrorCode.NOT_LOGGED_IN
    assert house.daemon.ctl_said("admin", "revoke", shown["name"])[0] == 1
    house.administrator()
    assert "ROLE" in house.daemon.ctl_said("admin", "list")[1]


def test_the_second_factor_is_shown_as_a_picture_and_an_address(house: AdminHouse) -> None:
    name = house.account()
    code, out, _ = house.daemon.ctl_said("admin", "add", name)
    assert code == 0
    assert re.search(rf"^otpauth://totp/chatd:{name}%40\S+\?secret=[A-Z2-7]{{32}}&issuer=chatd$", out, re.MULTILINE)
    assert "▀" in out


def test_an_account_without_a_password_is_no_administrator(house: AdminHouse) -> None:
    name = house.account()
    api = house.api(house.admin)
    assert api.call("PUT", path_of("users", f"{name}x"), {}).status == 200
    api.close()
    code, _, err = house.daemon.ctl_said("admin", "add", f"{name}x")
    assert (code, "no password" in err) == (1, True)


# ---------------------------------------------------------------- refused


def test_whatever_is_wrong_is_answered_alike(house: AdminHouse) -> None:
    name, nobody = house.administrator(), house.account()
    codes = house.codes[name]
    tries = [
        {"name": name, "password": PASSWORD, "code": codes.wrong()},
        {"name": name, "password": "wrong", "code": codes.next()},
        {"name": nobody, "password": PASSWORD, "code": codes.next()},
        {"name": "nobody at all", "password": PASSWORD, "code": codes.wrong()},
    ]
    answers = []
    for number, one in enumerate(tries):
        said = Operator(house, source=f"127.7.1.{number + 10}").post("login", **one)
        assert (said.status, said.code, said.json()["detail"]) == (403, ErrorCode.BAD_CREDENTIALS, REFUSED), one
        answers.append({**said.json(), "instance": ""})
    assert all(one == answers[0] for one in answers)
    failed = [one for one in house.daemon.records() if one.get("security") == "login_failed"][-4:]
    assert [one["reason"] for one in failed] == [
        "wrong_code", "wrong_password", "not_an_administrator", "unknown_user",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("given", "status", "code"),
    [
        ({"name": "alice", "password": "x"}, 422, ErrorCode.BAD_FIELD),
        ({"name": "alice", "password": "x", "code": ""}, 422, ErrorCode.BAD_FIELD),
        ({"name": "alice", "password": "x", "code": "1", "more": 1}, 422, ErrorCode.BAD_FIELD),
        ({"name": "alice", "password": "x", "code": "1" * 33}, 422, ErrorCode.BAD_FIELD),
    ],
)
def test_a_bad_login(house: AdminHouse, given: dict[str, Any], status: int, code: ErrorCode) -> None:
    said = Operator(house).post("login", **given)
    assert (said.status, said.code) == (status, code), said


def test_without_a_session_nothing_is_told(house: AdminHouse) -> None:
    for cookie in ("", "chatd-admin=x", f"chatd-admin={'x' * 43}", f"chatd={'x' * 43}"):
        said = Operator(house, cookie).get("live")
        assert (said.status, said.code) == (401, ErrorCode.NOT_LOGGED_IN), cookie
        assert {*Operator(house, cookie).get("me").json().values()} == {"", 0}, "neither the version nor the host"


def test_a_form_of_another_page_cannot_even_be_read(house: AdminHouse) -> None:
    for content_type in (b"text/plain", b"application/x-www-form-urlencoded", b"multipart/form-data; boundary=x"):
        with Raw(house.daemon.ports["admin"]) as raw:
            head = b"POST /admin/logout HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\nContent-Type: "
            assert raw.ask(head + content_type + b"\r\n\r\n{}").status == 415


def test_the_page_is_served_where_it_is_wanted_alone(house: AdminHouse) -> None:
    found = {
        (port, path): Raw(house.daemon.ports[port]).ask(b"GET %s HTTP/1.1\r\nHost: a\r\n\r\n" % path).status
        for port in ("admin", "http")
        for path in (b"/v1/users", b"/admin/live")
    }
    assert [*found.values()] == [404, 401, 401, 404]


# ---------------------------------------------------------------- attacks, with the guard and without


def attack_with_a_code_twice(house: AdminHouse) -> None:
    """Who has looked over the operator's shoulder."""
    name = house.administrator()
    code = house.codes[name].next()
    assert Operator(house).log_in(name, code).status == 200
    assert Operator(house).log_in(name, code).code == ErrorCode.BAD_CREDENTIALS


def attack_with_the_password_alone(house: AdminHouse) -> None:
    name = house.administrator()
    assert Operator(house).log_in(name, house.codes[name].wrong()).code == ErrorCode.BAD_CREDENTIALS


def test_who_is_no_administrator_is_let_in_by_no_code(house: AdminHouse) -> None:
    """Two guards: there is no second factor, and no row for a session to belong to."""
    name = house.account()
    assert Operator(house).log_in(name, "123456").code == ErrorCode.BAD_CREDENTIALS


def attack_with_what_is_old(house: AdminHouse) -> None:
    """At the very next use: after another password, and a lock."""
    api = house.api(house.admin)
    for what, body in (("password", {"password": "second-secret-2"}), ("lock", {})):
        name = house.administrator()
        operator = Operator(house).logged_in(name)
        assert api.call("PUT", path_of("users", name, what), body).status == 200
        assert [operator.get("live").status for _ in range(3)] == [401] * 3, what
    api.close()


def attack_from_another_page(house: AdminHouse) -> None:
    name = house.administrator()
    operator = Operator(house).logged_in(name)
    for origin in ("http://evil.example", "null", "http://admin.example", "https://admin.example:8080.evil.example"):
        foreign = operator._replace(origin=origin)
        assert foreign.get("live").status == 403, origin
        assert foreign.log_in("x", "123456").json()["code"] == ErrorCode.NOT_ALLOWED, origin


def attack_by_guessing(house: AdminHouse) -> None:
    """Codes, by somebody who knows the password."""
    name = house.administrator()
    codes = house.codes[name]
    stranger = Operator(house, source=STRANGER)
    found = [stranger.log_in(name, codes.wrong()).code for _ in range(8)]
    assert found[:4] == [ErrorCode.BAD_CREDENTIALS] * 4
    assert stranger.log_in(name, codes.next()).code == ErrorCode.TOO_MANY_ATTEMPTS
    Operator(house, source=ANOTHER).logged_in(name)


ATTACKS: dict[str, Attack] = {
    "codes_count_twice": attack_with_a_code_twice,
    "any_code_is_right": attack_with_the_password_alone,
    "sessions_outlive_changes": attack_with_what_is_old,
    "every_page_may_call": attack_from_another_page,
    "guesses_are_free": attack_by_guessing,
}


@pytest.mark.parametrize("bug", ATTACKS)
def test_the_attack_fails_and_succeeds_without_its_guard(house: AdminHouse, bug: str) -> None:
    stops(bug, lambda: ATTACKS[bug](house), house.daemon)
