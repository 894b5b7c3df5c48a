"""What the chat page asks over HTTP, and what others try with its calls.

One daemon with two workers, in which each guard can be switched off: the attack that it stops must then succeed."""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from chatd.errors import ErrorCode
from tests.harness.api import path_of
from tests.harness.certificates import Certificate
from tests.harness.daemon import free_ports
from tests.harness.phone import Phone
from tests.harness.switches import stops, with_switches
from tests.http.conftest import House
from tests.http.raw import Raw, Said

pytestmark = pytest.mark.xdist_group("http chat")
ENTRY = ("-m", "tests.http.chat.planted", "switches")
HOST = "chat.example:8080"
SECRET = "first-secret-1"
STRANGER, ANOTHER = "127.7.0.3", "127.7.0.4"
_numbers = itertools.count()


class ChatHouse(House):
    """With a listener that serves the page alone, and one with TLS."""

    def __init__(self, root: Path, **options: Any) -> None:
        self.certificate = Certificate(root / "certificate", "127.0.0.1", "localhost")
        penalties = {"failures": 5, "delay_s": 0.0, "first_s": 30.0, "account_failures": 10_000}
        super().__init__(root / "chatd", 2, entry=ENTRY, penalties=penalties, **options)

    def more(self) -> list[dict[str, object]]:
        with_switches(self.daemon)
        ports = self.daemon.ports
        ports["page"], ports["https"] = free_ports(2)
        page = {"protocol": "http", "serves": ["chat"]}
        encrypted = {"address": f"https://127.0.0.1:{ports['https']}", "certificates": self.certificate.options()}
        return [{**page, "address": f"http://127.0.0.1:{ports['page']}"}, {**page, **encrypted}]

    def user(self, like: str = "user") -> str:
        name = f"{like}{next(_numbers)}"
        api = self.api(self.admin)
        assert api.put(path_of("users", name), {"password": SECRET}).status == 200
        api.close()
        return name


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ChatHouse]:
    house = ChatHouse(tmp_path_factory.mktemp("chat"))
    yield house
    assert house.daemon.discard() == []


class Page(NamedTuple):
    """cookie: as the browser would send it. source: the address of its user. origin: "" = of this server."""

    house: ChatHouse
    cookie: str = ""
    source: str = ""
    origin: str = ""

    def call(self, what: str, *more: str, **given: Any) -> Said:
        body = json.dumps(given)
        lines = [f"POST /chat/{what} HTTP/1.1", f"Host: {HOST}", f"Content-Length: {len(body)}"]
        lines += ["Content-Type: application/json", f"Origin: {self.origin or f'http://{HOST}'}", *more]
        if self.cookie:
            lines.append(f"Cookie: theme=dark; {self.cookie}")
        with Raw(self.house.daemon.ports["page"], self.source) as raw:
            return raw.ask(("\r\n".join((*lines, "", "")) + body).encode())

    def logged_in(self, name: str, secret: str = SECRET) -> Page:
        said = self.call("login", name=name, secret=secret)
        assert said.status == 200, said
        return self._replace(cookie=said.headers["set-cookie"].partition(";")[0])

    def secret(self) -> str:
        """For a login over the WebSocket."""
        said = self.call("pass")
        assert said.status == 200, said
        found: str = said.json()["secret"]
        return found


def code_of(house: House, name: str, secret: str) -> int:
    """What a login on the mobileimsdk wire is answered."""
    phone = Phone(house.daemon.ports["mobileimsdk"], name, secret)
    phone.close()
    return phone.code


# ---------------------------------------------------------------- the good path


def test_a_visit(house: ChatHouse) -> None:
    """From the first look to logging out."""
    name, page = house.user(), Page(house)
    ways = page.call("ways").json()
    assert (ways["name"], ways["registration"], ways["login"], ways["path"]) == ("", "open", ["password"], "/websocket")
    said = page.call("login", name=name.upper(), secret=SECRET)
    assert said.json()["name"] == name
    attributes = said.headers["set-cookie"].split("; ")[1:]
    assert sorted(attributes) == ["HttpOnly", "Path=/chat", "SameSite=Strict"], "until the browser ends"
    page = page._replace(cookie=said.headers["set-cookie"].partition(";")[0])
    assert page.call("ways").json()["name"] == name
    assert code_of(house, name, page.secret()) == 0
    gone = page.call("logout").headers["set-cookie"]
    assert "chatd=;" in gone
    assert "Max-Age=0" in gone


def test_who_stays_has_a_cookie_that_outlives_the_browser(house: ChatHouse) -> None:
    said = Page(house).call("login", name=house.user(), secret=SECRET, stay=True)
    assert f"Max-Age={30 * 86_400}" in said.headers["set-cookie"]


def test_registering(house: ChatHouse) -> None:
    name = f"newcomer{next(_numbers)}"
    page = Page(house)
    assert page.call("register", name=name, password=SECRET).json()["name"] == name
    assert page.logged_in(name).call("ways").json()["name"] == name
    taken = page.call("register", name=name, password=SECRET)
    assert (taken.status, taken.code) == (409, ErrorCode.NAME_TAKEN)


def test_over_tls_the_cookie_is_another_one_and_secure(house: ChatHouse) -> None:
    body = json.dumps({"name": "alice", "secret": "secret of alice"}).encode()
    head = b"POST /chat/login HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: %d\r\n"
    with Raw(house.daemon.ports["https"], tls=house.certificate.client()) as raw:
        found = raw.ask(head % len(body) + b"Origin: https://localhost\r\n\r\n" + body).headers["set-cookie"]
        assert found.startswith("__Secure-chatd=")
        assert "Secure" in found.split("; ")
        assert raw.ask(head % len(body) + b"Origin: http://localhost\r\n\r\n" + body).status == 403, (
            "a page without TLS"
        )


def test_logins_are_in_the_trail_and_secrets_in_no_log(house: ChatHouse) -> None:
    name = house.user("trailed")
    assert Page(house).call("login", name=name, secret="wrong").status == 403
    secret = Page(house).logged_in(name).secret()
    assert code_of(house, name, secret) == 0
    found = [one for one in house.daemon.records() if one.get("name") == name and "security" in one]
    wanted = [("login_failed", "http"), ("login", "http"), ("login", "mobileimsdk")]
    assert [(one["security"], one["wire"]) for one in found if one["security"].startswith("login")] == wanted
    assert not house.daemon.logged(secret)
    assert not house.daemon.logged(SECRET)


# ---------------------------------------------------------------- refused


@pytest.mark.parametrize(
    ("what", "given", "status", "code"),
    [
        ("login", {"name": "alice", "secret": "wrong"}, 403, ErrorCode.BAD_CREDENTIALS),
        ("login", {"name": "nobody", "secret": "wrong"}, 403, ErrorCode.BAD_CREDENTIALS),
        ("login", {"name": "alice"}, 422, ErrorCode.BAD_FIELD),
        ("login", {"name": "alice", "secret": "x", "more": 1}, 422, ErrorCode.BAD_FIELD),
        ("register", {"name": "#1", "password": SECRET}, 422, ErrorCode.NAME_NOT_ALLOWED),
        ("register", {"name": "x" * 65, "password": SECRET}, 422, ErrorCode.BAD_FIELD),
        ("pass", {}, 401, ErrorCode.NOT_LOGGED_IN),
        ("nothing", {}, 404, ErrorCode.UNKNOWN_ROUTE),
    ],
)
def test_what_is_refused(house: ChatHouse, what: str, given: dict[str, Any], status: int, code: ErrorCode) -> None:
    said = Page(house).call(what, **given)
    assert (said.status, said.code) == (status, code), said
    assert "set-cookie" not in said.headers


def test_a_form_of_another_page_cannot_even_be_read(house: ChatHouse) -> None:
    """What browsers send for a form needs no permission of this server."""
    for content_type in (b"text/plain", b"application/x-www-form-urlencoded", b"multipart/form-data; boundary=x"):
        with Raw(house.daemon.ports["page"]) as raw:
            head = b"POST /chat/ways HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\nContent-Type: "
            assert raw.ask(head + content_type + b"\r\n\r\n{}").status == 415


def test_a_listener_serves_what_it_is_for(house: ChatHouse) -> None:
    """The page where only the page is wanted; elsewhere the API, without the page."""
    page, api = house.daemon.ports["page"], house.daemon.ports["http"]
    found = {
        (port, path): Raw(port).ask(b"GET " + path.encode() + b" HTTP/1.1\r\nHost: a\r\n\r\n").status
        for port in (page, api)
        for path in ("/", "/docs", "/openapi.json", "/v1/users", "/chat/login")
    }
    assert [found[page, path] for path in ("/", "/docs", "/openapi.json", "/v1/users")] == [200, 404, 404, 404]
    assert [found[api, path] for path in ("/", "/docs", "/v1/users", "/chat/login")] == [404, 200, 401, 404]
    assert found[page, "/chat/login"] == 405


# ---------------------------------------------------------------- attacks, with the guard and without


Attack = Callable[[ChatHouse], Any]


def attack_from_another_page(house: ChatHouse) -> None:
    """It asks for a secret of the user who is logged in here, or logs the browser in as somebody else. (A browser that
    knows SameSite sends no cookie with it; here it does.)"""
    page = Page(house).logged_in("alice", "secret of alice")
    for origin in ("http://evil.example", "null", "http://chat.example", f"https://{HOST}.evil.example"):
        foreign = page._replace(origin=origin)
        assert foreign.call("pass").status == 403, origin
        assert foreign.call("login", name="bob", secret="secret of bob").status == 403, origin


def attack_with_forged_cookies(house: ChatHouse) -> None:
    page = Page(house).logged_in("alice", "secret of alice")
    name, _, value = page.cookie.partition("=")
    parts = value.split(".")
    for place in range(1, 5):
        forged = [*parts]
        forged[place] = str(int(forged[place]) + 1)
        assert page._replace(cookie=f"{name}={'.'.join(forged)}").call("pass").status == 401, place
    assert page._replace(cookie=f"{page.cookie}; {page.cookie}").call("pass").status == 401


def attack_with_a_cookie_as_secret(house: ChatHouse) -> None:
    """What is stolen of one kind is of no use as another."""
    page = Page(house).logged_in("alice", "secret of alice")
    value = page.cookie.partition("=")[2]
    assert code_of(house, "alice", value) == ErrorCode.BAD_CREDENTIALS
    assert page._replace(cookie=f"chatd={page.secret()}").call("pass").status == 401


def attack_under_another_name(house: ChatHouse) -> None:
    secret = Page(house).logged_in("alice", "secret of alice").secret()
    assert code_of(house, "bob", secret) == ErrorCode.BAD_CREDENTIALS
    assert code_of(house, "alice", secret) == 0


def attack_with_what_is_old(house: ChatHouse) -> None:
    """At the very next use: after another password, a lock, and the end of the account."""
    api = house.api(house.admin)
    for method, what, body in (
        ("PUT", "password", {"password": "second-secret-2"}),
        ("PUT", "lock", {}),
        ("DELETE", "", None),
    ):
        name = house.user("changed")
        page = Page(house).logged_in(name)
        secret = page.secret()
        assert api.call(method, path_of("users", name, *filter(None, [what])), body).status == 200
        assert [page.call("pass").status for _ in range(3)] == [401] * 3, what
        assert code_of(house, name, secret) == ErrorCode.BAD_CREDENTIALS, what
    api.close()


def attack_by_guessing(house: ChatHouse) -> None:
    """Passwords, and passes, count as failures of the same address."""
    name = house.user("guessed")
    page = Page(house, source=STRANGER)
    guesses = [f"guess {number}" if number % 2 else f"1.{number}.0.99999999999.0.{'x' * 43}" for number in range(12)]
    codes = [page.call("login", name=name, secret=guess).code for guess in guesses]
    assert codes[:4] == [ErrorCode.BAD_CREDENTIALS] * 4
    assert page.call("login", name=name, secret=SECRET).code == ErrorCode.TOO_MANY_ATTEMPTS
    Page(house, source=ANOTHER).logged_in(name)


ATTACKS: dict[str, Attack] = {
    "every_page_may_call": attack_from_another_page,
    "any_seal_is_good": attack_with_forged_cookies,
    "passes_are_for_everything": attack_with_a_cookie_as_secret,
    "passes_are_for_everybody": attack_under_another_name,
    "cookies_outlive_changes": attack_with_what_is_old,
    "guesses_are_free": attack_by_guessing,
}


@pytest.mark.parametrize("bug", ATTACKS)
def test_the_attack_fails_and_succeeds_without_its_guard(house: ChatHouse, bug: str) -> None:
    stops(bug, lambda: ATTACKS[bug](house), house.daemon)
