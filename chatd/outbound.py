"""HTTP requests that chatd makes to other servers: the one client for webhooks, key sets, and backends that are asked.

Owns: OutboundClient: time limits, the size of an answer, which addresses may be reached, and what an error means.
Elsewhere: what is sent, and when it is tried again (the callers).
Fails: ForbiddenTarget when the target may not be reached, NoAnswerInTime, and OutboundFailed for everything else: the
name is not found, the connection is refused or breaks, TLS fails. Nothing is retried here.

A URL is an operator's choice, but the addresses that its name has are not: whoever runs its DNS could direct requests
into the operator's own network. So every address is checked after the name was resolved, and exactly that address is
connected to; one that is private, link-local or otherwise not public must be listed. Redirects are never followed,
proxies of the environment are not used, cookies are not kept.

Imported only where a configuration needs it (preload): it loads aiohttp.
"""

from __future__ import annotations

import asyncio
import functools
import ipaddress
from collections.abc import Iterable, Mapping, Sequence
from typing import Any
from urllib.parse import urlsplit

import aiohttp
import msgspec
from aiohttp.abc import AbstractResolver, ResolveResult
from aiohttp.client_proto import ResponseHandler
from yarl import URL

from chatd.errors import ChatdError

Address = ipaddress.IPv4Address | ipaddress.IPv6Address
Network = ipaddress.IPv4Network | ipaddress.IPv6Network

USER_AGENT = "chatd"
_SOCK_STREAM = 1
"""socket.SOCK_STREAM; the core, which uses this module, knows no sockets."""
_NAMES_KEPT_S = 10
"""How long a resolved name is used again."""
_IDLE_S = 15.0
"""How long an unused connection is kept. Servers usually close theirs after a minute or later."""
_NAT64 = ipaddress.IPv6Network("64:ff9b::/96")
_UNICAST = ipaddress.IPv6Network("2000::/3")
"""All public IPv6 addresses. The standard library also takes some outside it for global, ::127.0.0.1 and fec0::1 for
example."""
_HEADER_BYTES = 32 * 1024
"""Of one answer, interim answers (1xx) included."""
_FRAMED = 2
"""Times the length of a body that it may have with its chunk sizes."""
_SCHEMES = ("http", "https")
_WHY_CHARS = 300
"""Longest text of an error."""


class OutboundFailed(ChatdError):
    """There is no answer. It is not known whether the other server has acted on the request."""


class ForbiddenTarget(OutboundFailed):
    """The target may not be reached; nothing was sent."""


class NoAnswerInTime(OutboundFailed):
    """The time is over."""


class OutboundLimits(msgspec.Struct, frozen=True, kw_only=True):
    """total_s: longest time from the call to the last byte of the answer that is read. connect_s: of this, for
    resolving the name, connecting and TLS. answer_bytes: how much of an answer is read. connections: at once, to all
    targets. allow_private: networks or addresses that may be reached although they are not public."""

    total_s: float = 10.0
    connect_s: float = 5.0
    answer_bytes: int = 64 * 1024
    connections: int = 32
    allow_private: tuple[str, ...] = ()


class Answer(msgspec.Struct, frozen=True, kw_only=True):
    """body: at most OutboundLimits.answer_bytes; headers: the names in lower case, of repeated ones the first."""

    status: int
    headers: Mapping[str, str]
    body: bytes
    is_cut: bool = False
    """The body was longer, or did not come in time; the status is certain nevertheless."""

    @property
    def is_success(self) -> bool:
        return 200 <= self.status < 300


def networks_of(texts: Iterable[str]) -> tuple[Network, ...]:
    """Raises ValueError for one that is neither an address nor a network."""
    return tuple(ipaddress.ip_network(text) for text in texts)


def check_url(url: str) -> None:
    """Raises ValueError, with a text for the operator, unless requests can be made to it. Its addresses are not looked
    at."""
    parts = urlsplit(url)
    if parts.scheme not in _SCHEMES:
        raise ValueError(f"{url!r} is not a URL with http:// or https://")
    if not parts.hostname or parts.port == 0:
        raise ValueError(f"{url!r} has no host")
    if parts.username is not None or parts.password is not None:
        raise ValueError("the URL must not have a user or a password")
    if parts.fragment:
        raise ValueError(f"{url!r} has a fragment, which is never sent")


def is_allowed(text: str, allowed: Sequence[Network]) -> bool:
    """Whether this address may be connected to: it is public, or in one of the networks. An IPv6 address that means an
    IPv4 address is judged by that."""
    try:
        address: Address = ipaddress.ip_address(text.partition("%")[0])
    except ValueError:
        return False
    meant = _meant(address)
    if any(one.version == network.version and one in network for one in (address, meant) for network in allowed):
        return True
    return _is_public(meant) and (meant is address or _is_translated(address) or _is_public(address))


def _is_public(address: Address) -> bool:
    is_unicast = address.version == 4 or address in _UNICAST
    return is_unicast and address.is_global and not address.is_multicast


def _meant(address: Address) -> Address:
    """The IPv4 address that an IPv6 address stands for; any other one as it is."""
    if not isinstance(address, ipaddress.IPv6Address):
        return address
    if address.ipv4_mapped is not None:
        return address.ipv4_mapped
    if address.sixtofour is not None:
        return address.sixtofour
    if address.teredo is not None:
        return address.teredo[1]
    if address in _NAT64:
        return ipaddress.IPv4Address(int(address) & 0xFFFFFFFF)
    return address


def _is_translated(address: Address) -> bool:
    """Whether it is only another way to write an IPv4 address, so that only that matters."""
    return isinstance(address, ipaddress.IPv6Address) and (address.ipv4_mapped is not None or address in _NAT64)


class _CheckedResolver(AbstractResolver):
    """Gives only addresses that may be connected to."""

    def __init__(self, allowed: Sequence[Network]) -> None:
        self._allowed = allowed

    async def resolve(self, host: str, port: int = 0, family: Any = 0) -> list[ResolveResult]:
        """Raises ForbiddenTarget; OSError when the name is not found."""
        found = await asyncio.get_running_loop().getaddrinfo(host, port, family=family, type=_SOCK_STREAM)
        good: list[ResolveResult] = []
        bad: list[str] = []
        for kind, _, protocol, _, place in found:
            address = str(place[0])
            if is_allowed(address, self._allowed):
                good.append(
                    ResolveResult(hostname=host, host=address, port=port, family=kind, proto=protocol, flags=4)
                )  # 4: AI_NUMERICHOST
            else:
                bad.append(address)
        if not good:
            raise ForbiddenTarget(_forbidden(host, bad))
        return good

    async def close(self) -> None:
        pass


def _forbidden(host: str, addresses: Sequence[str]) -> str:
    meaning = ", ".join(dict.fromkeys(addresses)) or "no address"
    named = meaning if meaning == host else f"{host} is {meaning}, which"
    return f"{named} is not a public address; if it is meant, list it in allow_private"


class _BoundedAnswers(ResponseHandler):
    """A connection that is closed when the answer to one request is longer than `room` bytes, however it is made up:
    endless headers, interim answers or chunk sizes would keep the event loop busy for the whole time limit."""

    def __init__(self, loop: asyncio.AbstractEventLoop, room: int) -> None:
        super().__init__(loop=loop)
        self._most = self._left = room

    def set_response_params(self, **params: Any) -> None:
        """Called at the beginning of each request."""
        self._left = self._most
        super().set_response_params(**params)

    def data_received(self, data: bytes) -> None:
        left, self._left = self._left, self._left - len(data)
        if self._left >= 0:
            super().data_received(data)
        elif left > 0:
            super().data_received(data[:left])
            self.set_exception(aiohttp.ClientPayloadError("the answer is too long"))
            if self.transport is not None:
                self.transport.abort()


class _BoundedConnector(aiohttp.TCPConnector):
    """aiohttp has no option for the class of its connections; tests.test_outbound finds out if it no longer works."""

    def __init__(self, room: int, **options: Any) -> None:
        super().__init__(**options)
        self._factory = functools.partial(_BoundedAnswers, loop=self._loop, room=room)  # type: ignore[assignment]  # a partial of a subclass


class OutboundClient:
    """Keeps connections open between requests. Made and used on one event loop."""

    def __init__(self, limits: OutboundLimits) -> None:
        """Raises ValueError for a network in limits.allow_private that is none."""
        self._limits = limits
        self._allowed = networks_of(limits.allow_private)
        self._session: aiohttp.ClientSession | None = None

    def _open(self) -> aiohttp.ClientSession:
        if self._session is None:
            connector = _BoundedConnector(
                _HEADER_BYTES + _FRAMED * self._limits.answer_bytes,
                resolver=_CheckedResolver(self._allowed),
                limit=self._limits.connections,
                ttl_dns_cache=_NAMES_KEPT_S,
                keepalive_timeout=_IDLE_S,
            )
            self._session = aiohttp.ClientSession(
                connector=connector,
                cookie_jar=aiohttp.DummyCookieJar(),
                auto_decompress=False,
                trust_env=False,
                headers={"User-Agent": USER_AGENT, "Accept-Encoding": "identity"},
            )
        return self._session

    async def request(
        self,
        method: str,
        url: str,
        *,
        headers: Mapping[str, str] | None = None,
        body: bytes | None = None,
        total_s: float | None = None,
    ) -> Answer:
        """One request. An answer with any status is an answer, a redirect too. total_s: instead of the limit.

        Raises: ForbiddenTarget, NoAnswerInTime, OutboundFailed. Cost: no thread, except to resolve a name.
        """
        limit_s = self._limits.total_s if total_s is None else total_s
        target = self._checked(url)
        deadline = asyncio.get_running_loop().time() + limit_s
        connect_s = min(self._limits.connect_s, limit_s)
        times = aiohttp.ClientTimeout(total=None, connect=connect_s)
        try:
            async with asyncio.timeout_at(deadline):
                response = await self._open().request(
                    method, target, data=body, headers=headers, allow_redirects=False, timeout=times
                )
        except ForbiddenTarget:
            raise
        except aiohttp.ConnectionTimeoutError:
            raise NoAnswerInTime(f"no connection within {connect_s:g} s") from None
        except TimeoutError:
            raise NoAnswerInTime(f"no answer within {limit_s:g} s") from None
        except (aiohttp.ClientError, OSError, ValueError) as error:
            raise OutboundFailed(_why(error)) from None
        return await self._read(response, deadline)

    def _checked(self, url: str) -> URL:
        """An address in the URL is never resolved, so the resolver does not see it. What is judged is the host as it
        will be connected to: full-width digits, for example, are translated by then."""
        try:
            check_url(url)
            target = URL(url)
            host = target.raw_host or ""
        except ValueError as error:
            raise ForbiddenTarget(str(error)) from None
        try:
            ipaddress.ip_address(host.partition("%")[0])
        except ValueError:
            return target
        if not is_allowed(host, self._allowed):
            raise ForbiddenTarget(_forbidden(host, (host,)))
        return target

    async def _read(self, response: aiohttp.ClientResponse, deadline: float) -> Answer:
        """As much of the body as is allowed. Nothing that happens to the body changes the status; a connection that
        still has some of the body is closed."""
        most, body, is_cut = self._limits.answer_bytes, b"", True
        try:
            async with asyncio.timeout_at(deadline):
                while len(body) <= most and (chunk := await response.content.read(most + 1 - len(body))):
                    body += chunk
                is_cut = len(body) > most
        except (TimeoutError, aiohttp.ClientError, OSError):
            pass
        finally:
            if is_cut:
                response.close()
            else:
                response.release()
        headers: dict[str, str] = {}
        for name, value in response.headers.items():
            headers.setdefault(name.lower(), value)
        return Answer(status=response.status, headers=headers, body=body[:most], is_cut=is_cut)

    async def close(self) -> None:
        """Close all connections. Requests under way fail."""
        session, self._session = self._session, None
        if session is not None:
            await session.close()


def _why(error: Exception) -> str:
    """One line, without what the other server wrote: people see it who may not see that."""
    if isinstance(error, aiohttp.ClientResponseError):
        return "the answer is not HTTP, or its headers are too long"
    if isinstance(error, aiohttp.ServerDisconnectedError):
        return "the connection was closed without an answer"
    text = " ".join(str(error).split()) or type(error).__name__
    return text[:_WHY_CHARS]
