"""The pages that chatd serves, behind nginx with the shipped configuration: TLS ends there, and the host knows from
where an operator comes all the same."""

from __future__ import annotations

import json
import re
import socket
import ssl
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from chatd.errors import ErrorCode
from tests.balancers.balancer import Nginx
from tests.harness.certificates import Certificate
from tests.harness.daemon import TOP, Daemon, free_ports
from tests.http.admin.operator import PASSWORD, AdminHouse
from tests.http.raw import Raw, Said

OPERATOR, GUESSER = "127.7.5.2", "127.7.5.3"
HOST = "localhost"
DOORS = {"page": (443, 3080), "admin": (8443, 3081)}
"""nginx's port in the shipped file, and that of the hosts."""


class Pages(Nginx):
    """Whose clients are browsers."""

    shipped = TOP / "etc" / "nginx" / "chatd-pages.conf"
    wires = tuple(DOORS)

    def text(self) -> str:
        return f"stream {{\n{self.shipped.read_text()}\n}}\n"

    def own_changes(self) -> dict[str, str]:
        assert self.certificate is not None
        ports = {f" listen {DOORS[one][0]}": f" listen {self.address}:{self.ports[one]}" for one in DOORS}
        return {**ports, " 10.0.0.0/8": " 127.0.0.0/8", **self.certificate.for_nginx()}

    def places(self) -> dict[str, str]:
        return {
            f" 10.0.0.{number}:{DOORS[one][1]}": f" 127.0.0.1:{host.ports[f'proxied {one}']}"
            for number, host in enumerate(self.hosts, 1)
            for one in DOORS
        }


class Proxied(AdminHouse):
    def more(self) -> list[dict[str, object]]:
        names = [f"proxied {one}" for one in DOORS]
        self.daemon.ports.update(zip(names, free_ports(len(names)), strict=True))
        listeners: list[dict[str, object]] = [
            {
                "protocol": "http",
                "address": f"http://127.0.0.1:{self.daemon.ports[name]}",
                "proxy_from": ["127.0.0.1"],
                "serves": [serves],
            }
            for name, serves in zip(names, ("chat", "admin"), strict=True)
        ]
        return [*super().more(), *listeners]


class Front:
    """The host, nginx in front of it, and a browser."""

    def __init__(self, root: Path) -> None:
        self.house = Proxied(root)
        self.certificate = Certificate(root / "front", "127.0.0.1", HOST)
        self.nginx = Pages(root / "nginx", [self.house.daemon] * 2, self.certificate)
        done = self.nginx.check(self.nginx.file)
        assert done.returncode == 0, done.stderr
        assert not re.search(r"warn|alert|emerg", done.stderr.lower()), done.stderr
        self.nginx.start()

    def raw(self, door: str, source: str) -> Raw:
        return Raw(self.nginx.ports[door], source, tls=self.certificate.client())

    def ask(self, method: str, path: str, body: Any = None, *, cookie: str = "", source: str = OPERATOR) -> Said:
        """As a browser does: with an Origin, unless it only reads."""
        text = "" if body is None else json.dumps(body)
        lines = [
            f"{method} /admin/{path} HTTP/1.1",
            f"Host: {HOST}",
            f"Cookie: {cookie}",
            "Sec-Fetch-Site: same-origin",
        ]
        if body is not None:
            lines += [f"Origin: https://{HOST}", f"Content-Length: {len(text)}", "Content-Type: application/json"]
        with self.raw("admin", source) as raw:
            return raw.ask(("\r\n".join((*lines, "", "")) + text).encode())

    def log_in(self, name: str, code: str, source: str = OPERATOR) -> Said:
        return self.ask("POST", "login", {"name": name, "password": PASSWORD, "code": code}, source=source)


@pytest.fixture(scope="module")
def front(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Front]:
    front = Front(tmp_path_factory.mktemp("pages"))
    yield front
    front.nginx.kill()
    assert front.house.daemon.discard() == []


def trail(daemon: Daemon, event: str) -> list[dict[str, Any]]:
    return [one for one in daemon.records() if one.get("security") == event]


def test_an_operator_behind_nginx(front: Front) -> None:
    """From logging in to an order, with the address of the operator in the trail."""
    house = front.house
    name = house.administrator()
    said = front.log_in(name, house.codes[name].next())
    cookie, *attributes = said.headers["set-cookie"].split("; ")
    assert (cookie.partition("=")[0], "Secure" in attributes) == ("__Secure-chatd-admin", True)
    assert front.ask("GET", "me", cookie=cookie).json()["name"] == name
    assert front.ask("GET", "live", cookie=cookie).json()["status"]["state"] == "running"
    assert front.ask("POST", "orders", {"cmd": "reload"}, cookie=cookie).json()["reply"]["ok"]
    assert front.ask("PUT", "v1/users/alice/lock", {}, cookie=cookie).status == 200
    assert front.ask("DELETE", "v1/users/alice/lock", {}, cookie=cookie).status == 200
    assert trail(house.daemon, "admin_login")[-1]["peer"].startswith(f"{OPERATOR}:")
    locked = trail(house.daemon, "account_locked")[-1]
    assert (locked["administrator"], locked["peer"].startswith(OPERATOR)) == (name, True)


def test_guesses_behind_nginx_cost_the_guesser_alone(front: Front) -> None:
    name = front.house.administrator()
    codes = front.house.codes[name]
    found = [front.log_in(name, codes.wrong(), GUESSER).code for _ in range(7)]
    assert found[-1] == ErrorCode.TOO_MANY_ATTEMPTS
    assert front.log_in(name, codes.next()).status == 200


def test_a_ban_on_the_page_keeps_no_balancer_and_not_the_operator_out(front: Front) -> None:
    house = front.house
    name = house.administrator()
    cookie = front.log_in(name, house.codes[name].next()).headers["set-cookie"].partition(";")[0]
    for network in ("127.0.0.1", OPERATOR):
        assert front.ask("POST", "bans", {"network": network}, cookie=cookie).code == ErrorCode.NOT_ALLOWED, network


def test_the_chat_page_behind_nginx(front: Front) -> None:
    """The page, and its WebSocket, which asks for the origin of the page."""
    with front.raw("page", OPERATOR) as raw:
        said = raw.ask(f"GET / HTTP/1.1\r\nHost: {HOST}\r\n\r\n".encode())
    assert (said.status, "frame-ancestors 'none'" in said.headers["content-security-policy"]) == (200, True)
    lines = ("Upgrade: websocket", "Connection: Upgrade", "Sec-WebSocket-Version: 13")
    upgrade = "\r\n".join((*lines, f"Sec-WebSocket-Key: {'A' * 22}==", ""))
    for origin, status in ((f"https://{HOST}", 101), ("https://elsewhere.example", 403)):
        head = f"GET /websocket HTTP/1.1\r\nHost: {HOST}\r\nOrigin: {origin}\r\n{upgrade}\r\n"
        with front.raw("page", OPERATOR) as raw:
            raw.send(head.encode())
            assert raw.until(b"\r\n").split()[1] == b"%d" % status, origin


def test_what_is_not_tls_reaches_no_host(front: Front) -> None:
    with socket.create_connection(("127.0.0.1", front.nginx.ports["admin"]), 5) as sock:
        sock.sendall(b"GET /admin HTTP/1.1\r\nHost: a\r\n\r\n")
        assert b"admin" not in sock.recv(4096)
    context = front.certificate.client()
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    with Raw(front.nginx.ports["admin"], OPERATOR, tls=context) as raw:
        assert raw.ask(f"GET /admin HTTP/1.1\r\nHost: {HOST}\r\n\r\n".encode()).status == 200
