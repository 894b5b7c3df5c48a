"""The operator's page from outside: a daemon that serves it, and operators who call it.

Owns: AdminHouse, Operator, and codes of the second factor that are fresh.
Elsewhere: the bugs (tests.http.admin.planted).
"""

from __future__ import annotations

import itertools
import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import pyotp

from chatd.totp import STEP_S
from tests.harness.certificates import Certificate
from tests.harness.daemon import Daemon, free_ports
from tests.harness.switches import with_switches
from tests.http.conftest import House
from tests.http.raw import Raw, Said

ENTRY = ("-m", "tests.http.admin.planted", "switches")
HOST = "admin.example:8080"
PASSWORD = "first-secret-1"
_numbers = itertools.count()
PATIENCE_S = 3 * STEP_S


class Codes:
    """Of one second factor: each is used once, as the server wants it. Codes of the step before and after now count,
    too, so that two or three can be had at once."""

    def __init__(self, secret: str) -> None:
        self.secret = secret
        self._used = 0
        """The last step."""

    def next(self) -> str:
        """Waits until there is one that was not used, half a minute at most."""
        deadline = time.monotonic() + PATIENCE_S
        while True:
            now = int(time.time()) // STEP_S
            is_ending = time.time() % STEP_S > STEP_S / 2  # of what is typed now, the step before may be too old soon
            step = max(now if is_ending else now - 1, self._used + 1)
            if step <= now + 1:
                self._used = step
                return self.of(step)
            assert time.monotonic() < deadline
            time.sleep(0.2)

    def of(self, step: int) -> str:
        return str(pyotp.TOTP(self.secret).at(step * STEP_S))

    def wrong(self) -> str:
        """A code that is none of those around now."""
        now = int(time.time()) // STEP_S
        near = {self.of(now + step) for step in range(-3, 4)}
        return next(code for code in map("{:06}".format, itertools.count(123456)) if code not in near)


class Served(Protocol):
    """What an operator comes to. codes: by name of the administrator."""

    daemon: Daemon
    codes: dict[str, Codes]


class Operator(NamedTuple):
    """cookie: as the browser would send it. source: the address of its user. origin: "" = of this server."""

    house: Served
    cookie: str = ""
    source: str = ""
    origin: str = ""

    def ask(self, method: str, path: str, body: object = None, *more: str) -> Said:
        """Below /admin/."""
        text = "" if body is None else json.dumps(body)
        lines = [f"{method} /admin/{path} HTTP/1.1", f"Host: {HOST}", f"Origin: {self.origin or f'http://{HOST}'}"]
        if body is not None:
            lines += [f"Content-Length: {len(text)}", "Content-Type: application/json"]
        if self.cookie:
            lines.append(f"Cookie: theme=dark; {self.cookie}")
        with Raw(self.house.daemon.ports["admin"], self.source) as raw:
            return raw.ask(("\r\n".join((*lines, *more, "", "")) + text).encode())

    def get(self, path: str, *more: str) -> Said:
        return self.ask("GET", path, None, *more)

    def post(self, path: str, *more: str, **given: Any) -> Said:
        return self.ask("POST", path, given, *more)

    def log_in(self, name: str, code: str, password: str = PASSWORD) -> Said:
        return self.post("login", name=name, password=password, code=code)

    def logged_in(self, name: str) -> Operator:
        said = self.log_in(name, self.house.codes[name].next())
        assert said.status == 200, said
        return self._replace(cookie=said.headers["set-cookie"].partition(";")[0])


class AdminHouse(House):
    """codes: by name of the administrator."""

    def __init__(self, root: Path, **options: Any) -> None:
        self.certificate = Certificate(root / "certificate", "127.0.0.1", "localhost")
        self.codes: dict[str, Codes] = {}
        penalties = {"failures": 5, "delay_s": 0.0, "first_s": 30.0, "account_failures": 10_000}
        options.setdefault("entry", ENTRY)
        super().__init__(root / "chatd", 2, penalties=penalties, **options)

    def more(self) -> list[dict[str, object]]:
        with_switches(self.daemon)
        ports = self.daemon.ports
        ports["admin"], ports["https"] = free_ports(2)
        page = {"protocol": "http", "serves": ["admin"]}
        encrypted = {"address": f"https://127.0.0.1:{ports['https']}", "certificates": self.certificate.options()}
        return [{**page, "address": f"http://127.0.0.1:{ports['admin']}"}, {**page, **encrypted}]

    def account(self, like: str = "user") -> str:
        """The name of a new account, with PASSWORD."""
        name = f"{like}{next(_numbers)}"
        api = self.api(self.admin)
        assert api.put(f"/v1/users/{name}", {"password": PASSWORD}).status == 200
        api.close()
        return name

    def administrator(self, role: str = "admin", like: str = "root") -> str:
        name = self.account(like)
        self.codes[name] = Codes(self.ctl("add", name, "--role", role)["secret"])
        return name

    def operator(self, role: str = "admin", **how: Any) -> Operator:
        """Logged in."""
        return Operator(self, **how).logged_in(self.administrator(role))

    def ctl(self, *arguments: str) -> Any:
        """chatctl admin … --json."""
        code, out, err = self.daemon.ctl_said("admin", *arguments, "--json")
        assert code == 0, err
        return json.loads(out)


def fresh(house: AdminHouse, operator: Operator) -> str:
    """The header with a code that was not used."""
    name = operator.get("me").json()["name"]
    return f"Chatd-Code: {house.codes[name].next()}"


Attack = Callable[[AdminHouse], Any]
