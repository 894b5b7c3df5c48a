"""Certificates while the server runs: renewed in place, by a reload, broken, expired. No session ends."""

from __future__ import annotations

import asyncio
import base64
import os
import ssl
from collections.abc import Callable
from pathlib import Path

import pytest

from chatd.errors import Exit
from tests.harness.certificates import Certificate, replace
from tests.harness.daemon import Daemon
from tests.harness.deadline import run, until, wait_until
from tests.harness.link import Seen
from tests.harness.person import Town
from tests.tls.test_listeners import connect, shown

P256 = bytes.fromhex("2a8648ce3d030107")
"""The object identifier of the curve."""
Make = Callable[..., Daemon]


@pytest.fixture
def certificate(tmp_path: Path) -> Certificate:
    return Certificate(tmp_path / "certificate", "127.0.0.1", "old.example.com")


def is_new(daemon: Daemon, context: ssl.SSLContext) -> bool:
    try:
        connect(daemon, "echo-tls", context).close()
    except ssl.SSLCertVerificationError:
        return False
    return True


def test_a_certificate_is_renewed_under_load(
    make_daemon: Make, certificate: Certificate, record_property: Callable[[str, object], None]
) -> None:
    """Several times, each file at its own moment, without a reload. Those who are connected stay and miss nothing, on
    every worker; every new client is shown a certificate that fits its key."""
    daemon = make_daemon(workers=2, certificate=certificate).start()

    async def story() -> None:
        town = Town(daemon)
        alice, bob = await town.settle("alice", "acking-tls"), await town.settle("bob", "web-tls")
        await alice.arrive()
        await bob.arrive()
        links = alice.link, bob.link
        sent, stop = 0, asyncio.Event()

        async def talk() -> None:
            nonlocal sent
            while not stop.is_set():
                await alice.say("bob", f"message {sent}")
                await bob.sees(Seen("alice", f"message {sent}"))
                sent += 1

        talking = asyncio.create_task(talk())
        for _ in range(2):
            certificate.issue()
            new = certificate.client()
            for _ in range(4):  # on both workers
                await until(10, "the new one is shown", lambda new=new: is_new(daemon, new))
        stop.set()
        await talking
        assert (alice.link, bob.link) == links
        assert not alice.away.is_set()
        assert not bob.away.is_set()
        record_property("verdict", f"2 renewals, no session ended, {sent} messages meanwhile")

    run(story())
    assert daemon.logged("certificate read again")
    assert daemon.status()["reloads"] == 0


def test_a_broken_certificate_leaves_the_old_one_in_use(make_daemon: Make, certificate: Certificate) -> None:
    """It is an ERROR, `status` and `check` show it, also a worker that is replaced meanwhile has the old one, and a
    reload is refused. Mended, everything is well again."""
    daemon = make_daemon(certificate=certificate).start()
    daemon.expect_error("cannot be used")
    daemon.expect_error("configuration rejected")
    daemon.expect_error("worker died")
    old, good_key = certificate.client(), certificate.key.read_bytes()
    stranger = Certificate(certificate.pem.parent / "other", "127.0.0.1")
    replace(certificate.key, stranger.key.read_bytes())
    wait_until(10, "it is noticed", lambda: daemon.logged("a changed certificate cannot be used"))
    assert "another certificate's" in daemon.status()["certificates"][0]["error"]
    checked = daemon.ctl("check")
    assert checked.returncode == 1
    assert "changed certificate not in use" in checked.stdout
    assert "the changed file is not in use" in daemon.ctl("status").stdout
    reload = daemon.ctl("reload")
    assert reload.returncode == Exit.CONFIG
    assert "another certificate's" in reload.stderr
    (worker,) = daemon.workers()
    os.kill(worker, 9)
    wait_until(20, "it is replaced", lambda: daemon.workers() not in ([], [worker]) and daemon.all_ready())
    assert is_new(daemon, old)
    replace(certificate.key, good_key)
    wait_until(10, "it is mended", lambda: not daemon.status()["certificates"][0]["error"])
    assert daemon.ctl("check").returncode == 1, "the last reload has failed"
    assert daemon.ctl("reload").returncode == 0
    assert daemon.ctl("check").returncode == 0
    replace(certificate.pem, with_an_unknown_curve(certificate.pem.read_bytes()))
    wait_until(10, "it is noticed", lambda: "not supported" in daemon.status()["certificates"][0]["error"])
    assert is_new(daemon, old)
    assert not any(b"PRIVATE" in path.read_bytes() for path in (daemon.root / "log").iterdir())


def with_an_unknown_curve(pem: bytes) -> bytes:
    """A certificate that can be read, but not used: OpenSSL does not know the kind of its key."""
    first, *lines, last = pem.splitlines()
    data = base64.b64decode(b"".join(lines))
    assert P256 in data
    return b"\n".join([first, base64.encodebytes(data.replace(P256, P256[:-1] + b"\x7f")).strip(), last, b""])


def test_a_reload_takes_other_files(make_daemon: Make, certificate: Certificate, tmp_path: Path) -> None:
    daemon = make_daemon(certificate=certificate).start()
    other = Certificate(tmp_path / "other", "new.example.com")
    for listener in daemon.config["listen"]:
        if "certificates" in listener:
            listener["certificates"] = [{"certificate": str(other.both)}]  # the key in the same file
    daemon.write_config()
    assert shown(daemon, "echo-tls", "new.example.com") == ["old.example.com"]
    done = daemon.ctl("reload")
    assert done.returncode == 0, done.stderr
    assert ".certificates" in done.stdout
    wait_until(5, "the worker uses it", lambda: shown(daemon, "echo-tls", "new.example.com") == ["new.example.com"])


@pytest.mark.parametrize(
    ("days", "code", "text"), [(5, 1, "certificate expires soon"), (-0.5, 2, "certificate expired"), (60, 0, "OK")]
)
def test_the_expiry_shows(make_daemon: Make, tmp_path: Path, days: float, code: int, text: str) -> None:
    certificate = Certificate(tmp_path / "certificate", "127.0.0.1", days=days, from_days=-2)
    daemon = make_daemon(certificate=certificate)
    daemon.expect_error("a certificate has expired")
    daemon.start()
    checked = daemon.ctl("check")
    assert (checked.returncode, text in checked.stdout) == (code, True), checked.stdout
    assert daemon.status()["certificates"][0]["expiry"] == {0: "good", 1: "expiring", 2: "expired"}[code]
    tested = daemon.test()
    assert (tested.returncode, "warning" in tested.stderr) == (0, code > 0), tested.stderr


def test_files_that_cannot_be_used(make_daemon: Make, certificate: Certificate, tmp_path: Path) -> None:
    """Found by `chatd -t` and at the start, all at once, each with what to do; never with a byte of a key."""
    other = Certificate(tmp_path / "other", "127.0.0.1")
    readable = Certificate(tmp_path / "readable", "127.0.0.1")
    readable.key.chmod(0o644)
    empty = tmp_path / "empty.pem"
    empty.write_text("nothing\n")
    wrong = {
        "chatserver-tls": ({"certificate": str(certificate.pem), "key": str(other.key)}, "is another certificate's"),
        "mobileimsdk-tls": ({"certificate": str(tmp_path / "none.pem")}, "none.pem: cannot be read: No such file"),
        "mobileimsdk-wss": ({"certificate": str(certificate.pem), "key": str(certificate.pem)}, "no private key"),
        "echo-tls": ({"certificate": str(empty), "key": str(certificate.key)}, "is not a certificate in PEM"),
    }
    daemon = make_daemon(certificate=certificate)
    for listener in daemon.config["listen"]:
        for name, (files, _) in wrong.items():
            if f":{daemon.ports[name]}" in listener["address"]:
                listener["certificates"] = [files]
    daemon.write_config()
    tested = daemon.test()
    assert tested.returncode == Exit.CONFIG
    for _, text in wrong.values():
        assert text in tested.stderr, tested.stderr
    assert len(tested.stderr.splitlines()) == len(wrong)
    for listener in daemon.config["listen"]:
        if "certificates" in listener:
            listener["certificates"] = readable.options()
    daemon.write_config()
    tested = daemon.test()
    assert tested.returncode == Exit.CONFIG
    assert "chat.key" in tested.stderr
    assert "PRIVATE" not in tested.stderr


def test_a_key_that_the_servers_user_cannot_read(make_daemon: Make, certificate: Certificate) -> None:
    """It would be readable for root at the start, and never again: found before the start, with what to do."""
    if os.geteuid() != 0:
        pytest.skip("only root can run as another user")
    daemon = make_daemon(certificate=certificate, server={"user": "nobody"})
    tested = daemon.test("--no-strict")
    assert tested.returncode == Exit.CONFIG
    assert "cannot be read by nobody" in tested.stderr, tested.stderr
