"""TLS that ends at the balancer, with the shipped configuration: every wire through it, wss:// for ws://, and the host
still knows its clients; and wss:// on the port of a web site, where nginx reads the HTTP request."""

from __future__ import annotations

import contextlib
import re
import socket
import ssl
from collections.abc import Callable
from pathlib import Path
from typing import cast

import pytest

from tests.balancers.balancer import Front, Nginx
from tests.balancers.conftest import MakeBalancer
from tests.balancers.test_serving import PROXIED
from tests.faults.ordeal import port_of
from tests.harness.certificates import Certificate
from tests.harness.crowd import Talker
from tests.harness.daemon import TOP, Daemon, address_of, free_port
from tests.harness.deadline import run
from tests.harness.link import ConnectionGone, Seen
from tests.harness.mobileimsdk import MobilePeer
from tests.harness.peer import NulPeer, Peer
from tests.harness.person import PORT_OF, AnyLink, Person, Town, Wire
from tests.harness.websocket import Refused, WebPeer

Make = Callable[..., Daemon]


class SecureFront(Front):
    """All but the deployed client of chatserver, which has no TLS, come by the doors that have it."""

    def address_of(self, name: str, wire: Wire) -> tuple[int, str]:
        if wire == "old":
            return super().address_of(name, wire)
        return self.daemon.secure[PORT_OF[wire]], self.daemon.address  # type: ignore[attr-defined]


class SecurePerson(Person):
    def __init__(self, town: Town, name: str, wire: Wire, context: ssl.SSLContext) -> None:
        super().__init__(town, name, wire)
        self.context = context

    def make_link(self) -> AnyLink:
        link = super().make_link()
        if isinstance(link, Peer):
            link.tls = self.context
        return link


async def everybody_talks(people: list[SecurePerson]) -> None:
    for person in people:
        await person.town.register(person.name)
        await person.arrive()
    for one, other in zip(people, people[1:] + people[:1], strict=True):
        await one.say(other.name, f"from {one.name}")
        await other.sees(Seen(one.name, f"from {one.name}"))


def quiet(daemon: Daemon) -> bool:
    return [one for one in daemon.records() if one["level"] not in ("DEBUG", "NORMAL")] == []


def test_every_wire_with_tls(make_daemon: Make, make_balancer: MakeBalancer, tmp_path: Path) -> None:
    """As shipped, in the very version the clients insist on; a client that fails the handshake costs the host nothing,
    not even a connection."""
    certificate = Certificate(tmp_path / "certificate", "127.0.0.1")
    daemon = make_daemon(workers=2, listen=PROXIED, log={"level": "DEBUG"}).start()
    balancer = make_balancer([daemon, daemon], certificate=certificate)
    done = balancer.check(balancer.file)
    assert done.returncode == 0, done.stderr
    assert not re.search(r"warn|alert|emerg", (done.stdout + done.stderr).lower()), done.stderr
    balancer.start()
    contexts = certificate.client(), certificate.client()
    contexts[0].maximum_version = ssl.TLSVersion.TLSv1_2
    contexts[1].minimum_version = ssl.TLSVersion.TLSv1_3

    async def story() -> None:
        town = SecureFront(balancer)
        wires: tuple[Wire, ...] = ("old", "streaming", "mobile", "web")
        people = [
            SecurePerson(town, f"{wire}_{number}", wire, context)
            for wire in wires
            for number, context in enumerate(contexts)
        ]
        await everybody_talks(people)
        for person in people:
            (record,) = [one for one in daemon.logged(f'"{person.name}"') if one["event"] == "logged in"]
            assert record["peer"] == f"127.0.0.1:{port_of(cast(Talker, person))}"

        for wire, port in balancer.secure.items():
            stranger = {"chatserver": NulPeer, "mobileimsdk": MobilePeer, "mobileimsdk-ws": WebPeer}[wire]()
            stranger.tls = ssl.create_default_context()  # knows no issuer of this certificate
            with pytest.raises(ConnectionGone):
                await stranger.open(port)
            own, heard = plain_words(port)
            assert heard in (b"", b"\x15"), "an alert at most"
            assert not daemon.logged(f'"127.0.0.1:{own}"')

    run(story())
    assert quiet(daemon)


def plain_words(port: int) -> tuple[int, bytes]:
    """Of a client without TLS at a listener with it: its own port, and the first byte it hears."""
    with socket.create_connection(("127.0.0.1", port), 10) as peer:
        peer.sendall(b'{"msgid":1,"id":1,"password":"x"}\0')
        own = int(peer.getsockname()[1])
        try:
            return own, peer.recv(1000)[:1]
        except ConnectionResetError:
            return own, b""


def test_a_renewed_certificate_is_shown_after_a_reload(
    make_daemon: Make, make_balancer: MakeBalancer, tmp_path: Path
) -> None:
    """Connected clients stay."""
    certificate = Certificate(tmp_path / "certificate", "127.0.0.1")
    daemon = make_daemon(listen=PROXIED).start()
    balancer = make_balancer([daemon, daemon], certificate=certificate).start()

    async def story() -> None:
        town = SecureFront(balancer)
        alice = SecurePerson(town, "alice", "streaming", certificate.client())
        renewed = Certificate(tmp_path / "certificate", "127.0.0.1")
        bob = SecurePerson(town, "bob", "web", renewed.client())
        await town.register("bob")
        with pytest.raises(ConnectionGone):
            await bob.arrive()
        await town.register("alice")
        await alice.arrive()
        balancer.reload()
        await bob.arrive()
        await bob.say("alice", "it is new")
        await alice.sees(Seen("bob", "it is new"))

    run(story())


# ---------------------------------------------------------------- on the port of a web site

SITE = "https://chat.example.com"


class Website(Nginx):
    shipped = TOP / "etc" / "nginx" / "chatd-website.conf"
    wires = ("mobileimsdk-ws",)

    def text(self) -> str:
        return self.shipped.read_text()

    def own_changes(self) -> dict[str, str]:
        assert self.certificate is not None
        (port,) = self.ports.values()
        return {" listen 443": f" listen {self.address}:{port}", **self.certificate.for_nginx()}

    def places(self) -> dict[str, str]:
        """The listener "website" of each host, and "http" for files; one that it has not is not used."""
        return {
            f" 10.0.0.{number}:{shipped}": f" {host.address}:{host.ports.get(name, 9)}"
            for number, host in enumerate(self.hosts, 1)
            for shipped, name in ((3001, "website"), (3002, "http"))
        }

    def main(self, file: Path) -> Path:
        main = super().main(file)
        text = main.read_text().replace(f"include {file};", f"http {{ include {file}; }}")
        main.write_text("\n".join(line for line in text.splitlines() if "load_module" not in line))
        return main


class WebsiteTown(Town):
    """Setting up goes to the host itself."""

    def __init__(self, daemon: Daemon, balancer: Website) -> None:
        super().__init__(daemon)
        self.balancer = balancer

    def address_of(self, name: str, wire: Wire) -> tuple[int, str]:
        return self.balancer.ports[PORT_OF[wire]], self.balancer.address


@pytest.mark.parametrize(
    ("origins", "site"), [([SITE], SITE), ([], "https://127.0.0.1:8443")], ids=["named", "the same host"]
)
def test_wss_on_the_port_of_a_web_site(make_daemon: Make, tmp_path: Path, origins: list[str], site: str) -> None:
    """The listener without proxy_from that its comments ask for, beside the others. Which pages may connect is decided
    by the Origin that the browser sends, and by the Host, both of which nginx passes on."""
    certificate = Certificate(tmp_path / "certificate", "127.0.0.1")
    door = {"proxy_from": ["127.0.0.1"]}
    daemon = make_daemon(listen={"mobileimsdk-ws": door}, log={"level": "DEBUG"})
    daemon.ports["website"] = free_port()
    address = address_of("mobileimsdk-ws", daemon.ports["website"])
    daemon.config["listen"].append({"protocol": "mobileimsdk", "address": address, "origins": origins})
    daemon.write_config()
    daemon.start()
    balancer = Website(tmp_path / "balancer", [daemon, daemon], certificate)

    async def story() -> None:
        town = WebsiteTown(daemon, balancer)
        await everybody_talks([SecurePerson(town, name, "web", certificate.client()) for name in ("alice", "bob")])
        for origin, status in ((site, 0), ("https://elsewhere.example.com", 403)):
            page = WebPeer()
            page.tls, page.origin = certificate.client(), origin
            with pytest.raises(Refused) if status else contextlib.nullcontext() as refused:
                await page.open(balancer.ports["mobileimsdk-ws"])
            assert refused is None or refused.value.status == status

    try:
        done = balancer.check(balancer.file)
        assert done.returncode == 0, done.stderr
        assert not re.search(r"warn|alert|emerg", done.stderr.lower()), done.stderr
        balancer.start()
        run(story())
    finally:
        balancer.kill()
    (refused,) = [one for one in daemon.records() if one["level"] not in ("DEBUG", "NORMAL")]
    assert (refused["reason"], refused["origin"]) == ("origin", "https://elsewhere.example.com")
