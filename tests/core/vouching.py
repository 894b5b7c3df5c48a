"""Logins for which another program vouches, on a stage: keys, a backend, and what is fetched from it.

Owns: configure(), the web that a test makes up, and the verbs of such tests.
Elsewhere: cores and peers (tests.core.stage), keys and tokens (tests.tokens.keys).
"""

from __future__ import annotations

import asyncio
from typing import Any

import msgspec

from chatd.config.token_options import LoginHttpOptions, TokenKeyOptions
from chatd.core.backend_logins import BackendLogins
from chatd.core.fetching import Answer, Exchange
from chatd.core.tokens.current_keys import CurrentKeys
from chatd.errors import ErrorCode
from chatd.model import Protocol, User
from chatd.protocol import Login, LoginAccepted, Register, Registered
from chatd.store.contract import Tables
from tests.core.stage import Peer, Stage, Worker
from tests.tokens.keys import SECRET

KEY = TokenKeyOptions(algorithm="HS256", secret=SECRET)


class Web:
    """core.fetching.Fetch: other servers, as a test says. body: bytes, or an error. exchanges: what it was asked. gate:
    while it is not set, nothing is answered. under_way, most: questions now, and at once so far."""

    def __init__(self, body: bytes | Exception = b"", status: int = 200) -> None:
        self.body = body
        self.status = status
        self.exchanges: list[Exchange] = []
        self.under_way = self.most = 0
        self.gate = asyncio.Event()
        self.gate.set()

    async def __call__(self, exchange: Exchange) -> Answer:
        self.exchanges.append(exchange)
        self.under_way += 1
        self.most = max(self.most, self.under_way)
        try:
            await self.gate.wait()
        finally:
            self.under_way -= 1
        if isinstance(self.body, Exception):
            raise self.body
        return Answer(self.status, self.body)

    @property
    def asked(self) -> int:
        return len(self.exchanges)


def configure(
    stage: Stage, *keys: TokenKeyOptions, web: Web | None = None, login: Any = "token", **accounts: Any
) -> None:
    stage.account(login=login, insecure_open_login=False, registration="open", **accounts)
    stage.config = msgspec.structs.replace(stage.config, token_key=keys or (KEY,))
    stage.tokens = CurrentKeys(stage.config, web or Web(), stage.clock.time)


def configure_backend(
    stage: Stage, web: Web, login: Any = "http", options: dict[str, Any] | None = None, **accounts: Any
) -> None:
    """options: of [login_http]."""
    stage.account(login=login, insecure_open_login=False, registration="open", **accounts)
    asked = LoginHttpOptions(url="https://app.example/login", **(options or {}))
    stage.config = msgspec.structs.replace(stage.config, login_http=asked)
    stage.backend = BackendLogins(lambda: stage.config, web, stage.clock.time)


def names_only(tables: Tables) -> Tables:
    """As a worker opens its store with such logins."""
    tables.accounts.names_only = True
    return tables


async def log_in(worker: Worker, name: str | int, secret: str, protocol: Protocol = Protocol.MOBILEIMSDK) -> Peer:
    peer = worker.peer(protocol)
    await peer.do(Login("", name, secret) if isinstance(name, int) else Login(name, 0, secret))
    return peer


def user_of(peer: Peer) -> User:
    (accepted,) = peer.told(LoginAccepted)
    return accepted.user


async def register(worker: Worker, name: str, password: str) -> User:
    peer = worker.peer(Protocol.CHATSERVER)
    await peer.do(Register(name, password))
    (registered,) = peer.told(Registered)
    return registered.user


async def all_names(worker: Worker) -> list[str]:
    return [name for _, name, _ in await worker.core.store.read(lambda tables: tables.accounts.all())]


async def attempts(stage: Stage, worker: Worker, count: int, secret: str = "guess") -> list[ErrorCode]:
    """Attempts of one source, of which three may fail."""
    stage.config = msgspec.structs.replace(
        stage.config, penalties=msgspec.structs.replace(stage.config.penalties, failures=3, delay_s=0.0)
    )
    found = []
    for _ in range(count):
        peer = worker.peer()
        peer.remote = "192.0.2.1:5000"
        await peer.do(Login("alice", 0, secret))
        found += peer.failures
    return found
