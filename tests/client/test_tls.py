"""`chat` over TLS, as a process: it verifies the server before it sends anything, and says what is wrong."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import Callable
from pathlib import Path

from tests.harness.certificates import Certificate
from tests.harness.daemon import Daemon

from .process import run

MakeDaemon = Callable[..., Daemon]


def test_two_scripts_talk_over_tls(make_daemon: MakeDaemon, tmp_path: Path) -> None:
    certificate = Certificate(tmp_path / "certificate", "127.0.0.1")
    daemon = make_daemon(certificate=certificate).start()
    address = f"127.0.0.1:{daemon.ports['chatserver-tls']}"
    trust = ["--ca", str(certificate.pem)]

    async def scenario() -> None:
        for name in ("alice", "bob"):
            code, printed = await run(tmp_path / name, ["--tls", *trust, address], f"/register {name}\npw\n")
            assert code == 0, printed
        lines = "/login alice pw\n/chat bob over TLS\n"
        code, printed = await run(tmp_path / "alice", [f"tls://{address}", *trust], lines)
        assert code == 0, printed
        password = tmp_path / "password"
        password.write_text("pw\n")
        options = ["--name", "bob", "--password-file", str(password), "--wait", "1"]
        code, printed = await run(tmp_path / "bob", [*options, *trust, "--tls", address])
        assert code == 0, printed
        assert any(line.endswith("alice(1): over TLS") for line in printed), printed

    asyncio.run(scenario())


def test_a_server_that_is_not_trusted(make_daemon: MakeDaemon, tmp_path: Path) -> None:
    """It is told at once, with what to do, and nothing was sent: not even a password on the command line's way."""
    certificate = Certificate(tmp_path / "certificate", "127.0.0.1")
    daemon = make_daemon(certificate=certificate)
    daemon.expect_error("a certificate has expired")
    daemon.start()
    port = daemon.ports["chatserver-tls"]
    expired = Certificate(tmp_path / "expired", "127.0.0.1", days=-1, from_days=-3)

    async def refused(*arguments: str) -> str:
        code, printed = await asyncio.wait_for(run(tmp_path / "home", [*arguments], "/login alice pw\n"), 30)
        assert code == 1, printed
        return "\n".join(printed)

    async def scenario() -> None:
        trust = ["--ca", str(certificate.pem)]
        assert "signed by itself" in await refused(f"tls://127.0.0.1:{port}")
        assert "its certificate is not for localhost" in await refused("--tls", *trust, f"localhost:{port}")
        plain = daemon.ports["chatserver"]
        assert "no TLS with this server" in await refused("--tls", *trust, f"127.0.0.1:{plain}")
        for file in ("chat.pem", "chat.key"):
            shutil.copy(tmp_path / "expired" / file, tmp_path / "certificate" / file)
        await asyncio.to_thread(daemon.ctl, "reload")
        assert "has expired" in await refused("--tls", "--ca", str(expired.pem), f"127.0.0.1:{port}")
        code, printed = await run(tmp_path / "home", ["--ca", "x.pem", f"127.0.0.1:{port}"])
        assert code == 2
        assert "--ca is for --tls" in "".join(printed)

    asyncio.run(scenario())
    assert not daemon.logged('"security": "login"')
