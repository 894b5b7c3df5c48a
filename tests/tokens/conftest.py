"""One daemon for all tests of tokens over sockets, with a backend beside it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from tests.harness.certificates import Certificate
from tests.harness.daemon import Daemon
from tests.harness.switches import with_switches
from tests.tokens.backend import Backend
from tests.tokens.keys import SECRET, key_set, pair

AUDIENCE, ISSUER = "chat.example", "https://app.example"
BACKEND_SECRET = "by which the backend knows the server"


class House(NamedTuple):
    daemon: Daemon
    backend: Backend

    def write(self, *keys: dict[str, Any]) -> None:
        """keys: [[token_key]], besides the key set."""
        self.daemon.config["token_key"] = [*keys, {"jwks": self.backend.url("/jwks.json")}]
        self.daemon.write_config()


def secret_key(root: Path) -> dict[str, Any]:
    return {"kid": "s", "algorithm": "HS256", "secret": f"file:{root / 'token.secret'}", "mints": True}


@pytest.fixture(scope="package")
def house(tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    root = tmp_path_factory.mktemp("tokens")
    backend = Backend()
    backend.key_set = 200, key_set(pair("RS256"), pair("ES256"), pair("EdDSA"))
    daemon = Daemon(
        root / "chatd",
        workers=2,
        entry=("-m", "tests.tokens.planted", "switches"),
        certificate=Certificate(root / "certificate"),
        accounts={
            "login": ["token", "password", "http"],
            "end_at_expiry": True,
            "number_names": True,
        },
        tokens={
            "audience": [AUDIENCE],
            "issuer": [ISSUER],
            "leeway_s": 0,
            "allow_private": ["127.0.0.1"],
        },
        login_http={
            "url": backend.url("/login"),
            "secret": f"file:{daemon_file(root, 'http.secret', BACKEND_SECRET)}",
            "time_limit_s": 1.0,
            "cache_s": 0,
            "allow_private": ["127.0.0.0/8"],
        },
    )
    daemon_file(daemon.root, "token.secret", SECRET)
    made = House(daemon, backend.start())
    made.write(secret_key(daemon.root))
    with_switches(daemon).start()
    yield made
    complaints = daemon.discard()
    backend.stop()
    assert complaints == []


def daemon_file(root: Path, name: str, text: str) -> Path:
    root.mkdir(parents=True, exist_ok=True)
    path = root / name
    path.touch(mode=0o600)
    path.write_text(text + "\n")
    return path
