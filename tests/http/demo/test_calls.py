"""/api/loginConnect and /api/sendMsg: what the page of MobileIMSDK's demo does, and what others try with its calls.

One daemon with two workers, in which each guard can be switched off: the attack that it stops must then succeed."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import urlencode

import pytest

from tests.harness.api import path_of
from tests.harness.certificates import Certificate
from tests.harness.daemon import free_port
from tests.harness.mariadb import MariaDB
from tests.harness.phone import Phone
from tests.harness.switches import stops, with_switches
from tests.http.conftest import House
from tests.http.raw import Raw, Said

pytestmark = pytest.mark.xdist_group("http demo")
OK, NOT_LOGGED_IN, WRONG, FAILED = 200, 401, 402, -1
ENTRY = ("-m", "tests.http.demo.planted", "switches")
SECRET = "first-secret-1"
STRANGER, ANOTHER = "127.7.0.1", "127.7.0.2"
_numbers = itertools.count()


class Page(NamedTuple):
    """A page in a browser. cookie: as it would send it. source: the address of its user. origin: of the page; "" = of
    this server; None = it is no browser."""

    house: DemoHouse
    cookie: str = ""
    source: str = ""
    origin: str | None = ""

    def call(self, path: str, query: str = "", *more: str, **form: str) -> tuple[int, Said]:
        """The code of the answer, and all of it."""
        body = urlencode(form)
        lines = [f"POST {path}{query} HTTP/1.1", "Host: chat.example:8080", f"Content-Length: {len(body)}", *more]
        if body:
            lines.append("Content-Type: application/x-www-form-urlencoded; charset=UTF-8")
        if self.origin is not None:
            lines.append(f"Origin: {self.origin or 'http://chat.example:8080'}")
        if self.cookie:
            lines.append(f"Cookie: theme=dark; {self.cookie}")
        with self.house.connect(self.source) as raw:
            said = raw.ask(("\r\n".join((*lines, "", "")) + body).encode())
        assert said.status == 200, said
        told = said.json()
        assert sorted(told) == ["code", "data", "message"]
        assert told["data"] is None
        assert (told["message"] == "SUCCESS") == (told["code"] == OK)
        return told["code"], said

    def code(self, path: str, query: str = "", *more: str, **form: str) -> int:
        return self.call(path, query, *more, **form)[0]

    def logged_in(self, name: str, secret: str = SECRET) -> Page:
        code, said = self.call("/api/loginConnect", username=name, password=secret)
        assert code == OK, said
        return self._replace(cookie=said.headers["set-cookie"].partition(";")[0])

    def say(self, to: str, text: str) -> int:
        return self.code("/api/sendMsg", friendId=to, msg=text)


class DemoHouse(House):
    def __init__(self, root: Path, **options: Any) -> None:
        self.certificate = Certificate(root / "certificate", "127.0.0.1", "localhost")
        penalties = {"failures": 5, "delay_s": 0.0, "first_s": 30.0, "account_failures": 10_000}
        demo = {"mobileimsdk_demo": True}
        super().__init__(root / "chatd", 2, entry=ENTRY, http=demo, penalties=penalties, **options)

    def more(self) -> list[dict[str, object]]:
        with_switches(self.daemon)
        self.daemon.ports["https"] = port = free_port()
        address = f"https://127.0.0.1:{port}"
        return [{"protocol": "http", "address": address, "certificates": self.certificate.options()}]

    def user(self, like: str = "user") -> str:
        name = f"{like}{next(_numbers)}"
        api = self.api(self.admin)
        assert api.put(path_of("users", name), {"password": SECRET}).status == 200
        api.close()
        return name

    def heard(self, name: str) -> list[str]:
        """Texts of the messages to this user, oldest first."""
        api = self.api(self.admin)
        found = api.get(path_of("users", name, "conversations")).body["conversations"]
        texts = []
        for one in found:
            messages = api.get(path_of("conversations", one["id"], "messages"), limit=100).body["messages"]
            texts += [each["text"] for each in messages]
        api.close()
        return texts


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> Iterator[DemoHouse]:
    made = DemoHouse(tmp_path_factory.mktemp("demo"))
    yield made
    assert made.daemon.discard() == []


# ---------------------------------------------------------------- what the page does


def test_a_user_logs_in_and_a_friend_receives_what_the_page_sends(house: DemoHouse) -> None:
    """On the mobileimsdk wire, whichever worker has the friend and whichever serves the page; the parameters come as a
    form or in the query."""
    friend = house.user("friend")
    phone = Phone(house.daemon.ports["mobileimsdk"], friend, SECRET)
    page = Page(house).logged_in("alice", "secret of alice")
    for number in range(4):
        assert page.say(friend, f"number {number} 你好 & = +") == OK
        got = phone.message(f"number {number} 你好 & = +")
        assert (got["from"], got["to"], got["QoS"]) == ("alice", friend, True)
    query = "?" + urlencode({"friendId": friend, "msg": "in the query"})
    assert page.code("/api/sendMsg", query) == OK
    assert phone.message("in the query")["from"] == "alice"
    query = "?" + urlencode({"username": "alice", "password": "secret of alice"})
    assert page.code("/api/loginConnect", query) == OK
    phone.close()


def test_the_same_twice_is_sent_twice_and_once_with_a_key(house: DemoHouse) -> None:
    friend, page = house.user(), Page(house).logged_in("alice", "secret of alice")
    assert [page.say(friend, "twice") for _ in range(2)] == [OK, OK]
    for _ in range(2):
        assert page.code("/api/sendMsg", "", "Idempotency-Key: once", friendId=friend, msg="once") == OK
    assert page.code("/api/sendMsg", "", "Idempotency-Key: once", friendId=friend, msg="other") == FAILED
    assert house.heard(friend) == ["twice", "twice", "once"]


def test_the_cookie_is_for_this_server_alone(house: DemoHouse) -> None:
    _, said = Page(house).call("/api/loginConnect", username="alice", password="secret of alice")
    value, *attributes = said.headers["set-cookie"].split("; ")
    assert value.startswith("chatd_demo=1.")
    assert sorted(attributes) == ["HttpOnly", "Max-Age=43200", "Path=/api", "SameSite=Strict"]
    assert said.headers["cache-control"] == "no-store"
    _, behind_a_balancer = Page(house, origin="https://chat.example:8080").call(
        "/api/loginConnect", username="alice", password="secret of alice"
    )
    assert "Secure" in behind_a_balancer.headers["set-cookie"].split("; ")
    body = urlencode({"username": "alice", "password": "secret of alice"})
    head = f"POST /api/loginConnect?{body} HTTP/1.1\r\nHost: localhost\r\nContent-Length: 0\r\n\r\n"
    with Raw(house.daemon.ports["https"], tls=house.certificate.client()) as raw:
        assert "Secure" in raw.ask(head.encode()).headers["set-cookie"].split("; ")
        told = raw.ask(head.replace("\r\n\r\n", "\r\nOrigin: http://localhost\r\n\r\n").encode()).json()
        assert told["code"] == FAILED, "a page that somebody on the network can change"


def test_logins_are_in_the_trail(house: DemoHouse) -> None:
    name = house.user("trailed")
    assert Page(house).code("/api/loginConnect", username=name, password="wrong") == WRONG
    Page(house).logged_in(name)
    found = [one for one in house.daemon.records() if one.get("name") == name and "security" in one]
    assert [(one["security"], one["wire"]) for one in found if one["security"].startswith("login")] == [
        ("login_failed", "http"),
        ("login", "http"),
    ]
    assert not house.daemon.logged(SECRET)


def test_the_document_has_the_calls(house: DemoHouse) -> None:
    with house.connect() as raw:
        found = raw.ask(b"GET /openapi.json HTTP/1.1\r\nHost: a\r\n\r\n").json()
        assert b"/api/sendMsg" in raw.ask(b"GET /docs HTTP/1.1\r\nHost: a\r\n\r\n").body
    call = found["paths"]["/api/sendMsg"]["post"]
    assert call["security"] == []
    assert list(call["requestBody"]["content"]) == ["application/x-www-form-urlencoded"]
    assert list(call["responses"]) == ["200", "413"]


# ---------------------------------------------------------------- refused


def test_without_a_login_nothing_is_sent(house: DemoHouse) -> None:
    friend = house.user()
    for cookie in ("", "chatd_demo=", "chatd_demo=1.1.0.99999999999.0.x", "other=1", "chatd_demo"):
        assert Page(house, cookie).say(friend, "hi") == NOT_LOGGED_IN, cookie
    assert house.heard(friend) == []


@pytest.mark.parametrize(
    ("path", "form", "code", "said"),
    [
        ("/api/loginConnect", {"username": "alice", "password": "wrong"}, WRONG, "wrong password"),
        ("/api/loginConnect", {"username": "nobody", "password": "wrong"}, WRONG, "wrong password"),
        ("/api/loginConnect", {"username": "alice"}, FAILED, "password"),
        ("/api/loginConnect", {"username": "", "password": "x"}, FAILED, "username"),
        ("/api/loginConnect", {"username": "alice", "password": "x", "more": "y"}, FAILED, "more"),
        ("/api/sendMsg", {"friendId": "bob"}, FAILED, "msg"),
        ("/api/sendMsg", {"friendId": "bob", "msg": ""}, FAILED, "msg"),
        ("/api/sendMsg", {"friendId": "nobody", "msg": "hi"}, FAILED, "no such user"),
        ("/api/sendMsg", {"friendId": "1", "msg": "hi"}, FAILED, "no such user: 1"),
        ("/api/sendMsg", {"friendId": "0", "msg": "hi"}, FAILED, "no such user"),
        ("/api/sendMsg", {"friendId": "#1", "msg": "hi"}, FAILED, "no such user"),
        ("/api/sendMsg", {"friendId": "bob", "msg": "é" * 4000}, FAILED, "at most"),
    ],
)
def test_what_is_wrong_is_said(house: DemoHouse, path: str, form: dict[str, str], code: int, said: str) -> None:
    page = Page(house).logged_in("alice", "secret of alice")
    found, answer = page.call(path, **form)
    assert found == code
    assert said in answer.json()["message"]
    assert "set-cookie" not in answer.headers


@pytest.mark.parametrize(
    ("content_type", "body", "said"),
    [
        ("application/json", b'{"friendId":"bob","msg":"hi"}', "must be application/x-www-form-urlencoded"),
        ("multipart/form-data; boundary=x", b"--x\r\n\r\n--x--", "must be application/x-www-form-urlencoded"),
        ("application/x-www-form-urlencoded", b"friendId=bob&msg=%ff", "cannot be read"),
        ("application/x-www-form-urlencoded", b"friendId=bob&msg=a&msg=b", "more than once"),
        ("application/x-www-form-urlencoded", b"\xff", "cannot be read"),
        ("application/x-www-form-urlencoded", b"&".join(b"%d=1" % n for n in range(50)), "cannot be read"),
    ],
)
def test_a_body_that_is_no_form(house: DemoHouse, content_type: str, body: bytes, said: str) -> None:
    head = f"POST /api/sendMsg HTTP/1.1\r\nHost: a\r\nContent-Type: {content_type}\r\nContent-Length: {len(body)}"
    with house.connect() as raw:
        told = raw.ask(head.encode() + b"\r\n\r\n" + body).json()
    assert (told["code"], said in told["message"]) == (FAILED, True), told


def test_only_post_is_possible(house: DemoHouse) -> None:
    for method in (b"GET", b"PUT", b"OPTIONS"):
        with house.connect() as raw:
            said = raw.ask(method + b" /api/sendMsg?friendId=bob&msg=hi HTTP/1.1\r\nHost: a\r\n\r\n")
        assert (said.status, said.headers["allow"]) == (405, "POST")


def test_the_user_s_rules_hold(house: DemoHouse) -> None:
    """Whom somebody blocks cannot write to them from a page either."""
    friend, name = house.user(), house.user()
    api = house.api(house.admin)
    assert api.put(path_of("users", friend, "blocks", name)).status == 204
    api.close()
    assert Page(house).logged_in(name).say(friend, "hi") == FAILED
    assert house.heard(friend) == []


# ---------------------------------------------------------------- attacks, with the guard and without


Attack = Callable[[DemoHouse], Any]


def attack_from_another_page(house: DemoHouse) -> None:
    """A page of somebody else sends in the name of a user who is logged in here, or logs their browser in. (The cookie
    is not sent by a browser that knows SameSite; here it is.)"""
    friend, page = house.user(), Page(house).logged_in("alice", "secret of alice")
    for origin in ("http://evil.example", "null", "http://chat.example", "https://chat.example:8080.evil.example"):
        foreign = page._replace(origin=origin)
        assert foreign.say(friend, "not by alice") == FAILED, origin
        login = {"username": "alice", "password": "secret of alice"}
        assert foreign.code("/api/loginConnect", **login) == FAILED, origin
    hidden = page._replace(origin=None)
    assert hidden.code("/api/sendMsg", "", "Sec-Fetch-Site: cross-site", friendId=friend, msg="x") == FAILED
    twice = "Origin: http://evil.example"
    assert page.code("/api/sendMsg", "", twice, friendId=friend, msg="x") == FAILED
    assert house.heard(friend) == []
    assert page.say(friend, "by alice") == OK


def attack_with_forged_cookies(house: DemoHouse) -> None:
    friend, page = house.user(), Page(house).logged_in("alice", "secret of alice")
    name, _, value = page.cookie.partition("=")
    version, user, credentials, expires, ends, mac = value.split(".")
    other = "B" if mac[0] == "A" else "A"
    for forged in (
        (version, str(int(user) + 1), credentials, expires, ends, mac),
        (version, user, str(int(credentials) + 1), expires, ends, mac),
        (version, user, credentials, str(int(expires) + 1), ends, mac),
        (version, user, credentials, expires, ends, other + mac[1:]),
        (version, user, credentials, expires, ends),
    ):
        stranger = page._replace(cookie=f"{name}={'.'.join(forged)}")
        assert stranger.say(friend, "forged") == NOT_LOGGED_IN, forged
    both = page._replace(cookie=f"{page.cookie}; {Page(house).logged_in('bob', 'secret of bob').cookie}")
    assert both.say(friend, "whose?") == NOT_LOGGED_IN
    assert house.heard(friend) == []


def attack_with_an_old_cookie(house: DemoHouse) -> None:
    """At the very next call, on each worker: after another password, a lock, and the end of the account."""
    friend, api = house.user(), house.api(house.admin)
    changes: tuple[tuple[str, str, dict[str, str] | None], ...] = (
        ("PUT", "password", {"password": "second-secret-2"}),
        ("PUT", "lock", {}),
        ("DELETE", "", None),
    )
    for method, what, body in changes:
        name = house.user("changed")
        page = Page(house).logged_in(name)
        assert page.say(friend, "before") == OK
        assert api.call(method, path_of("users", name, *filter(None, [what])), body).status == 200
        assert [page.say(friend, "after") for _ in range(4)] == [NOT_LOGGED_IN] * 4
    api.close()
    assert len(house.heard(friend)) == 3, "one message before each change"


def attack_by_guessing(house: DemoHouse) -> None:
    """Also with a header that names another address. Afterwards even the right password is not looked at from there;
    from elsewhere it lets the user in."""
    name = house.user("guessed")
    page = Page(house, source=STRANGER)
    forwarded = "X-Forwarded-For: 203.0.113.{}"
    codes = [
        page.code("/api/loginConnect", "", forwarded.format(number), username=name, password=f"guess {number}")
        for number in range(12)
    ]
    assert codes[:5] == [WRONG] * 5
    assert FAILED in codes
    code, said = page.call("/api/loginConnect", username=name, password=SECRET)
    assert (code, "too many attempts" in said.json()["message"]) == (FAILED, True)
    assert int(said.headers["retry-after"]) > 1
    Page(house, source=ANOTHER).logged_in(name)


ATTACKS: dict[str, Attack] = {
    "every_page_may_call": attack_from_another_page,
    "any_seal_is_good": attack_with_forged_cookies,
    "cookies_outlive_changes": attack_with_an_old_cookie,
    "guesses_are_free": attack_by_guessing,
}


@pytest.mark.parametrize("bug", ATTACKS)
def test_the_attack_fails_and_succeeds_without_its_guard(house: DemoHouse, bug: str) -> None:
    stops(bug, lambda: ATTACKS[bug](house), house.daemon)


def test_on_mysql_too_a_cookie_ends_at_the_very_next_call(
    tmp_path_factory: pytest.TempPathFactory, mariadb: MariaDB
) -> None:
    """On either worker, of which each reads over a connection of its own."""
    house = DemoHouse(tmp_path_factory.mktemp("mysql"), store={"url": mariadb.url()})
    try:
        attack_with_an_old_cookie(house)
        attack_with_forged_cookies(house)
    finally:
        assert house.daemon.discard() == []


def test_a_connection_ends_after_a_few_wrong_passwords(tmp_path_factory: pytest.TempPathFactory) -> None:
    limits = {"attempts_per_connection": 3, "delay_s": 0.0}
    house = House(tmp_path_factory.mktemp("few"), 1, http={"mobileimsdk_demo": True}, penalties=limits)
    wrong = b"POST /api/loginConnect?username=alice&password=x HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n"
    try:
        with house.connect() as raw:
            assert [raw.ask(wrong).json()["code"] for _ in range(3)] == [WRONG] * 3
            assert raw.ended() == b""
    finally:
        assert house.daemon.discard() == []
