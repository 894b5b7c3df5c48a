"""Libraries for tokens and HTTP are loaded only where they are configured, and before the workers are forked."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.harness.daemon import Daemon
from tests.harness.deadline import run
from tests.tokens.attacks import comes_in, fresh_name
from tests.tokens.backend import Backend
from tests.tokens.keys import SECRET, claims, hs256, key_set, pair

LIBRARIES = ("jwt", "cryptography", "aiohttp")
LOADED = """
import sys
from chatd import preload
from chatd.config import load
preload.load(load.load(sys.argv[1]).config)
print(*(one for one in sys.argv[2:] if one in sys.modules))
"""
WHSEC = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSwMfKQ9r8GKYqr"
KEY = f'[[token_key]]\nalgorithm = "HS256"\nsecret = "{SECRET}"\n'


@pytest.mark.parametrize(
    ("text", "loaded"),
    [
        ("", []),
        ('[accounts]\nlogin = ["password", "token"]\n' + KEY, ["jwt", "cryptography"]),
        ('[accounts]\nlogin = "http"\n[login_http]\nurl = "https://app.example/"', ["aiohttp"]),
        (f'[[webhook]]\nname = "crm"\nurl = "https://app.example/"\nsecrets = ["{WHSEC}"]', ["aiohttp"]),
        ('[[hook]]\nname = "http"\nfail = "closed"', ["aiohttp"]),
        ('[[hook]]\nname = "echo"', []),
    ],
)
def test_what_is_not_configured_is_not_loaded(tmp_path: Path, text: str, loaded: list[str]) -> None:
    file = tmp_path / "chatd.toml"
    file.write_text(text)
    command = [sys.executable, "-c", LOADED, str(file), *LIBRARIES]
    answer = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60)
    assert answer.stdout.split() == loaded


def test_a_worker_imports_nothing_after_its_fork(make_daemon: Callable[..., Daemon], tmp_path: Path) -> None:
    late = tmp_path / "late"
    late.mkdir()
    backend = Backend().start()
    backend.login = 200, b'{"allow":true}'
    backend.key_set = 200, key_set(pair("RS256"), pair("ES256"), pair("EdDSA"))
    daemon = make_daemon(
        workers=1,
        entry=("-m", "tests.upgrade.late_imports"),
        env={"LATE": str(late)},
        accounts={"login": ["token", "password", "http"]},
        tokens={"allow_private": ["127.0.0.1"]},
        login_http={"url": backend.url("/login"), "allow_private": ["127.0.0.1"]},
    )
    daemon.config["token_key"] = [{"jwks": backend.url("/jwks")}, {"algorithm": "HS256", "secret": SECRET}]
    daemon.write_config()
    daemon.start()

    async def story() -> None:
        assert await comes_in(daemon, name := fresh_name(), hs256(name))
        assert await comes_in(daemon, name := fresh_name(), "a cookie")
        for at, algorithm in enumerate(("RS256", "ES256", "EdDSA")):
            assert await comes_in(daemon, name := fresh_name(), pair(algorithm).sign(claims(name), f"key{at}"))

    run(story())
    assert daemon.ctl_said("reload")[0] == 0
    assert daemon.stop() == 0
    backend.stop()
    (file,) = late.glob("worker-*")
    assert file.read_text().split() == []
