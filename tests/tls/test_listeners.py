"""Listeners with TLS: what they agree to, what a client gets that does not speak it, and that nobody is kept out by
handshakes that never end. Certificates by name, and passwords without TLS."""

from __future__ import annotations

import itertools
import socket
import ssl
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import pytest

import chatd.__main__ as chatd_main
from chatd.core.privacy import ACKS_NEEDED
from chatd.errors import Disconnect, ErrorCode
from tests.harness import chatserver
from tests.harness.certificates import Certificate
from tests.harness.daemon import Daemon
from tests.harness.deadline import run, wait_until
from tests.harness.link import LoginRefused, Seen
from tests.harness.mobileimsdk import MobilePeer
from tests.harness.network import own_address
from tests.harness.peer import NulPeer
from tests.harness.person import Town
from tests.net.proxy_headers import v1, v2
from tests.tokens.keys import SECRET, hs256

Make = Callable[..., Daemon]


@pytest.fixture
def certificate(tmp_path: Path) -> Certificate:
    return Certificate(tmp_path / "certificate", "127.0.0.1", "localhost")


def connect(daemon: Daemon, name: str, context: ssl.SSLContext, asked: str = "127.0.0.1") -> ssl.SSLSocket:
    raw = socket.create_connection(("127.0.0.1", daemon.ports[name]), 10)
    return context.wrap_socket(raw, server_hostname=asked)


def shown(daemon: Daemon, name: str, asked: str) -> list[str]:
    """The names in the certificate that a client is shown who asks for this one."""
    from cryptography import x509

    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    with connect(daemon, name, context, asked) as peer:
        data = peer.getpeercert(binary_form=True)
    assert data is not None
    found = x509.load_der_x509_certificate(data).extensions.get_extension_for_class(x509.SubjectAlternativeName)
    return found.value.get_values_for_type(x509.DNSName)


# ---------------------------------------------------------------- what is agreed to


def test_versions_ciphers_and_resumption(make_daemon: Make, certificate: Certificate) -> None:
    """TLS 1.2 and 1.3 with forward secrecy; older versions, and ciphers without it, are refused. A client may offer the
    session it had with another worker: it gets a new one."""
    daemon = make_daemon(workers=2, certificate=certificate, log={"level": "DEBUG"}).start()
    for version in (ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3):
        context = certificate.client()
        context.minimum_version = context.maximum_version = version
        session = None
        for _ in range(8):
            raw = socket.create_connection(("127.0.0.1", daemon.ports["echo-tls"]), 10)
            with context.wrap_socket(raw, server_hostname="127.0.0.1", session=session) as peer:
                peer.sendall(b"hello\n")
                assert b"hello" in peer.recv(100)
                session = peer.session
                name, _, _ = peer.cipher() or ("", "", 0)
                assert "GCM" in name or "CHACHA20" in name
                assert version is ssl.TLSVersion.TLSv1_3 or name.startswith("ECDHE")
                assert peer.compression() is None
    for old in (
        ["-tls1_1"],
        ["-tls1"],
        ["-tls1_2", "-cipher", "AES128-GCM-SHA256"],
        ["-tls1_2", "-cipher", "ECDHE-ECDSA-AES128-SHA"],
    ):
        asked = ["openssl", "s_client", "-connect", f"127.0.0.1:{daemon.ports['echo-tls']}", *old]
        if "-cipher" not in old:
            asked += ["-cipher", "DEFAULT@SECLEVEL=0"]
        done = subprocess.run(asked, input=b"", capture_output=True, timeout=20, check=False)
        assert done.returncode != 0, old
        assert b"alert" in done.stderr, done.stderr
    assert daemon.logged("UNSUPPORTED_PROTOCOL")
    assert daemon.logged("NO_SHARED_CIPHER")


def test_renegotiation_is_refused(make_daemon: Make, certificate: Certificate) -> None:
    daemon = make_daemon(certificate=certificate).start()
    asked = ["openssl", "s_client", "-tls1_2", "-connect", f"127.0.0.1:{daemon.ports['echo-tls']}"]
    done = subprocess.run(asked, input=b"R\n", capture_output=True, timeout=20, check=False)
    assert b"no renegotiation" in done.stderr, done.stderr


def test_plain_text_at_a_listener_with_tls(make_daemon: Make, certificate: Certificate) -> None:
    """A clear line in the log, an alert at most for the client, and no error."""
    daemon = make_daemon(certificate=certificate).start()
    for words in (b'{"msgid":1,"id":1,"password":"x"}\0', b"GET /websocket HTTP/1.1\r\nHost: x\r\n\r\n", b"\0" * 100):
        with socket.create_connection(("127.0.0.1", daemon.ports["mobileimsdk-wss"]), 10) as peer:
            peer.sendall(words)
            heard = b""
            while piece := peer.recv(1000):
                heard += piece
            assert heard[:1] in (b"", b"\x15")
    wait_until(5, "it is logged", lambda: len(daemon.logged("plain text at a listener with TLS")) >= 2)


def test_the_last_bytes_arrive_before_the_end(make_daemon: Make, certificate: Certificate) -> None:
    """A refused client reads its answer, then close_notify and not a reset, on every listener."""
    daemon = make_daemon(certificate=certificate, timeouts={"login_s": 1.0}).start()
    with connect(daemon, "chatserver-tls", certificate.client()) as peer:
        peer.sendall(b"this is not JSON\0")
        heard = b""
        while piece := peer.recv(1000):  # an end without close_notify raises SSLEOFError
            heard += piece
        assert str(int(ErrorCode.INVALID_PACKET)).encode() in heard
    with connect(daemon, "chatserver-tls", certificate.client()) as peer:
        assert peer.recv(100) == b""
    assert daemon.logged(Disconnect.LOGIN_TIMEOUT.text)


# ---------------------------------------------------------------- attacks


def test_handshakes_that_never_end_keep_nobody_out(
    make_daemon: Make, certificate: Certificate, record_property: Callable[[str, object], None]
) -> None:
    """Half are silent, half have sent part of a ClientHello. They count as connections and are gone when a login would
    be due; meanwhile others log in and talk."""
    strangers, login_s = 500, 4.0
    daemon = make_daemon(workers=2, certificate=certificate, timeouts={"login_s": login_s}).start()
    hello = b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + b"x" * 50
    began = time.monotonic()
    peers = [socket.create_connection(("127.0.0.1", daemon.ports["chatserver-tls"]), 10) for _ in range(strangers)]
    try:
        for peer in peers[::2]:
            peer.sendall(hello)

        def count() -> int:
            return sum(worker["connections"] for worker in daemon.status()["workers"])

        wait_until(10, "they count as connections", lambda: count() >= strangers)

        async def story() -> float:
            town = Town(daemon)
            alice, bob = await town.settle("alice", "acking-tls"), await town.settle("bob", "web-tls")
            asked = time.monotonic()
            await alice.arrive()
            await bob.arrive()
            await alice.say("bob", "nobody keeps us out")
            await bob.sees(Seen("alice", "nobody keeps us out"))
            return time.monotonic() - asked

        took = run(story())
        assert took < login_s
        wait_until(login_s + 10, "the strangers are gone", lambda: count() <= 2)
        record_property("verdict", f"{strangers} half-open handshakes: two others logged in and talked in {took:.2f} s")
        assert time.monotonic() - began < login_s + 15
    finally:
        for peer in peers:
            peer.close()


def test_a_client_that_does_not_acknowledge_is_refused(make_daemon: Make, certificate: Certificate) -> None:
    """What its kernel has acknowledged over TLS proves nothing, so a login without acks says what is missing."""
    daemon = make_daemon(certificate=certificate).start()

    async def story() -> None:
        town = Town(daemon)
        await town.register("bob")
        for more, errno in (({}, 1), ({"framing": "nul"}, 1), ({"framing": "nul", "acks": True}, 0)):
            peer = NulPeer()
            peer.tls = certificate.client()
            await peer.open(daemon.ports["chatserver-tls"])
            peer.put({"msgid": chatserver.LOGIN, "name": "bob", "password": town.secret, **more})
            answer = await peer.find(msgid=chatserver.LOGIN_ACK)
            assert answer["errno"] == errno
            assert errno == 0 or answer["errmsg"] == ACKS_NEEDED
            peer.close()
            await peer.end()

    run(story())


# ---------------------------------------------------------------- which certificate


def test_a_certificate_by_name(make_daemon: Make, tmp_path: Path) -> None:
    """By the name asked for, also with a wildcard and in capitals; otherwise the first."""
    first, second, wild = (
        Certificate(tmp_path / name[:3], name) for name in ("one.example.com", "two.example.com", "*.example.org")
    )
    daemon = make_daemon(certificate=first)
    for listener in daemon.config["listen"]:
        if "certificates" in listener:
            listener["certificates"] = [*first.options(), *second.options(), *wild.options()]
    daemon.write_config()
    daemon.start()
    for asked, given in (
        ("one.example.com", "one.example.com"),
        ("TWO.example.com", "two.example.com"),
        ("any.example.org", "*.example.org"),
        ("a.b.example.org", "one.example.com"),
        ("elsewhere.example.net", "one.example.com"),
    ):
        assert shown(daemon, "echo-tls", asked) == [given], asked


# ---------------------------------------------------------------- behind a balancer


def test_a_proxy_header_before_tls(make_daemon: Make, certificate: Certificate) -> None:
    """In clear, whole, in pieces, or byte by byte, and together with the client's first bytes."""
    listeners = ("chatserver-tls", "mobileimsdk-wss")
    listen = {name: {"proxy_from": ["127.0.0.1"]} for name in listeners}
    daemon = make_daemon(certificate=certificate, listen=listen, log={"level": "DEBUG"}).start()
    ways = list(itertools.product(listeners, (1, 3, 10_000), (v1, v2)))
    for number, (listener, pieces, header) in enumerate(ways):
        begin_with_a_header(daemon.ports[listener], header(client_of(number), 5000), pieces, certificate.client())
    for number, way in enumerate(ways):
        wait_until(5, f"the end is logged: {way}", lambda number=number: daemon.logged(f"{client_of(number)}:5000"))
    assert not daemon.logged("TLS handshake failed")


def client_of(number: int) -> str:
    """Each its own: what one client repeats is held back in the log."""
    return f"203.0.113.{number + 1}"


def begin_with_a_header(port: int, head: bytes, pieces: int, context: ssl.SSLContext) -> None:
    """Shake hands, and say something that ends the connection."""
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    client = context.wrap_bio(incoming, outgoing, server_hostname="127.0.0.1")
    with pytest.raises(ssl.SSLWantReadError):
        client.do_handshake()
    first = head + outgoing.read()
    with socket.create_connection(("127.0.0.1", port), 10) as peer:
        peer.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        size = max(1, len(first) // pieces)
        for at in range(0, len(first), size):
            peer.sendall(first[at : at + size])
        while True:
            try:
                client.do_handshake()
                break
            except ssl.SSLWantReadError:
                incoming.write(peer.recv(65536))
        peer.sendall(outgoing.read())
        client.write(b"this is neither JSON nor HTTP\0\r\n\r\n")
        peer.sendall(outgoing.read())
        while data := peer.recv(65536):
            incoming.write(data)


# ---------------------------------------------------------------- passwords without TLS


@pytest.mark.parametrize("bug", ["", "passwords_in_clear"])
def test_passwords_and_tokens_without_tls_are_refused_where_the_network_could_read_them(
    make_daemon: Make, certificate: Certificate, bug: str
) -> None:
    """accounts.require_tls: not from this host, not over TLS. The other address of this machine stands for the network.
    bug: with the guard switched off, the same client gets in."""
    own = own_address()
    if own is None:
        pytest.skip("this machine has no address but loopback")
    entry = ("-m", "tests.tls.planted", bug) if bug else ("-m", "chatd")
    accounts = {"require_tls": True, "login": ["password", "token"]}
    key = [{"algorithm": "HS256", "secret": SECRET}]
    daemon = make_daemon(address="0.0.0.0", certificate=certificate, accounts=accounts, entry=entry, token_key=key)
    daemon.address = "127.0.0.1"
    daemon.start()

    async def login(host: str, name: str, secret: str = "open sesame", *, secure: bool = False) -> dict[str, object]:
        peer = NulPeer()
        peer.tls = certificate.client() if secure else None
        if peer.tls is not None:
            peer.tls.check_hostname = False
        await peer.open(daemon.ports["chatserver-tls" if secure else "chatserver"], host)
        peer.put({"msgid": chatserver.LOGIN, "name": name, "password": secret, "framing": "nul", "acks": True})
        answer = await peer.find(msgid=chatserver.LOGIN_ACK)
        if answer["errno"]:
            peer.put({"msgid": chatserver.REGISTER, "name": f"{name}2", "password": "open sesame"})
            answer["register"] = (await peer.find(msgid=chatserver.REGISTER_ACK))["errno"]
        peer.close()
        await peer.end()
        return answer

    async def story() -> None:
        town = Town(daemon)
        await town.register("alice")  # from this host
        refused = await login(own, "alice")
        by_token = await login(own, "tom", hs256("tom"))
        if bug:
            assert (refused["errno"], by_token["errno"]) == (0, 0)
            return
        assert (by_token["errno"], "TLS" in str(by_token["errmsg"])) == (1, True)
        assert (refused["errno"], refused["register"]) == (1, 1)
        assert "TLS" in str(refused["errmsg"])
        for name, secret in (("alice", town.secret), ("tom", hs256("tom"))):
            mobile = MobilePeer()
            await mobile.open(daemon.ports["mobileimsdk"], own)
            with pytest.raises(LoginRefused) as mobile_refused:
                await mobile.log_in(name, secret)
            assert mobile_refused.value.code == ErrorCode.TLS_NEEDED
        assert (await login("127.0.0.1", "alice"))["errno"] == 0
        assert (await login(own, "alice", secure=True))["errno"] == 0
        assert (await login(own, "tom", hs256("tom"), secure=True))["errno"] == 0

    run(story())


@pytest.mark.parametrize(
    ("address", "more", "warned"),
    [
        ("tcp://0.0.0.0:6000", "", True),
        ("tcp://127.0.0.1:6000", "", False),
        ("tcp://0.0.0.0:6000", 'proxy_from = ["192.0.2.1"]', False),
        ("unix:chat.sock", "", False),
    ],
)
def test_a_warning_of_passwords_in_clear(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], address: str, more: str, *, warned: bool
) -> None:
    """From `chatd -t`; the configuration is valid all the same."""
    file = tmp_path / "chatd.toml"
    folders = "".join(f'{name} = "{tmp_path}"\n' for name in ("state_dir", "runtime_dir", "log_dir"))
    file.write_text(f'[server]\n{folders}[[listen]]\nprotocol = "chatserver"\naddress = "{address}"\n{more}\n')
    assert chatd_main.main(["-c", str(file), "-t", "--no-strict"]) == 0
    assert ("passwords sent to it can be read" in capsys.readouterr().err) == warned
