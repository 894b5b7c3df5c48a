"""Logins that another program vouches for, put together for one worker: tokens, and the backend that is asked.

Owns: making them as the configuration says, with the HTTP client that they share; what the store must know of it. What
is not configured is not imported.
Elsewhere: what they do (core.tokens, core.backend_logins), HTTP (outbound).
Fails: ConfigError for a key that cannot be used when the worker starts, ValueError at a reload. The master has checked
the keys before, so both are rare.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from chatd.config import urls
from chatd.config.schema import Config
from chatd.core.backend_logins import MAX_ANSWER_BYTES, BackendLogins
from chatd.core.fetching import Answer, Exchange, FetchFailed
from chatd.core.tokens.contract import Tokens
from chatd.errors import ConfigError
from chatd.store.contract import Tables
from chatd.tokens.contract import MAX_KEY_SET_BYTES

if TYPE_CHECKING:
    from chatd.outbound import OutboundClient

_CONNECTIONS = 1000
"""At once, for each purpose: login_http.at_once is the limit that counts."""

_TOKEN_MODULES = ("chatd.core.tokens.current_keys", "cryptography.hazmat.backends.openssl.backend")
_HTTP_MODULES = ("chatd.outbound",)


def late_modules(config: Config) -> tuple[str, ...]:
    """What a worker with this configuration imports after it was forked."""
    return (
        *(_TOKEN_MODULES if config.token_key else ()),
        *(_HTTP_MODULES if "http" in config.accounts.kinds or _has_url(config) else ()),
    )


def _has_url(config: Config) -> bool:
    return any(urls.is_http(one.jwks) for one in config.token_key)


class HttpClient:
    """core.fetching.Fetch, for one purpose. The libraries are loaded, and the client is made, at the first request."""

    def __init__(self, answer_bytes: int, allow_private: tuple[str, ...]) -> None:
        self._answer_bytes = answer_bytes
        self._allow_private = allow_private
        self._client: OutboundClient | None = None

    async def __call__(self, exchange: Exchange) -> Answer:
        from chatd.outbound import OutboundClient, OutboundFailed, OutboundLimits

        if self._client is None:
            limits = OutboundLimits(
                answer_bytes=self._answer_bytes, allow_private=self._allow_private, connections=_CONNECTIONS
            )
            self._client = OutboundClient(limits)
        method = "GET" if exchange.body is None else "POST"
        try:
            answer = await self._client.request(
                method, exchange.url, headers=exchange.headers, body=exchange.body, total_s=exchange.limit_s
            )
        except OutboundFailed as error:
            raise FetchFailed(str(error)) from None
        if answer.is_cut:
            raise FetchFailed(f"its answer is longer than {self._answer_bytes} bytes, or breaks off")
        return Answer(answer.status, answer.body)

    async def close(self) -> None:
        """Requests under way fail."""
        if self._client is not None:
            await self._client.close()


class VouchedLogins:
    """tokens: None = there are no keys. backend: None = none is asked."""

    def __init__(self, tokens: Tokens | None, backend: BackendLogins | None, clients: Sequence[HttpClient]) -> None:
        self.tokens = tokens
        self.backend = backend
        self._clients = clients

    def replace(self, config: Config) -> None:
        """Apply a changed configuration. Raises ValueError, and then nothing is changed."""
        if self.tokens is not None:
            self.tokens.replace(config)

    async def close(self) -> None:
        for one in self._clients:
            await one.close()


def make(config: Callable[[], Config]) -> VouchedLogins:
    """config: the configuration in force. Raises ConfigError."""
    now = config()
    for_sets = HttpClient(MAX_KEY_SET_BYTES, now.tokens.allow_private)
    for_logins = HttpClient(MAX_ANSWER_BYTES, now.login_http.allow_private)
    try:
        tokens = _tokens(now, for_sets)
    except ValueError as error:
        raise ConfigError(str(error)) from None
    backend = BackendLogins(config, for_logins) if "http" in now.accounts.kinds else None
    return VouchedLogins(tokens, backend, (for_sets, for_logins))


def _tokens(config: Config, client: HttpClient) -> Tokens | None:
    if not config.token_key:
        return None
    from chatd.core.tokens.current_keys import CurrentKeys

    return CurrentKeys(config, client)


def names_only(config: Config, connections: Sequence[Tables]) -> Sequence[Tables]:
    """The same connections to the store, each told whether a name may be taken for the number of an account: not where
    another program decides who has which name."""
    for one in connections:
        one.accounts.names_only = config.accounts.has_vouched_names
    return connections
