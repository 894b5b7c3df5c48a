"""The guard in front of every route: a valid key, with the scope that the route needs, within its rate.

Owns: reading the Authorization header, refusing, counting refusals, the rate of each key on this worker.
Elsewhere: the keys (core.key_ring), what is done about guesses (core.penalties), which scope a route needs (the tables
of routes).
Fails: HttpRefused 401, 403 or 429, before anything of the request is read beyond its headers.

A key cannot be guessed, so a valid one is served whatever others at its source do. A source that tries wrong ones gets
a penalty like one that tries passwords; while it lasts, it is not even told that a key is wrong.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NoReturn

from chatd import security_log
from chatd.api_keys import ADMIN, PREFIX
from chatd.config.schema import Config
from chatd.core.core import Core
from chatd.core.penalties import Origin
from chatd.errors import MEANINGS, ErrorCode, Refused, Unavailable
from chatd.http.problems import HttpRefused
from chatd.rates import averaged
from chatd.security_log import SecurityEvent
from chatd.sources import address_of, source_of
from chatd.store.contract import ApiKey

WINDOW_S = 10
"""http.requests_per_s is averaged over this time."""
SUBJECT = "#api"
"""The account, in the penalty table, at which guessed keys from exempt sources are counted."""
_BEARER = b"bearer "
CHALLENGE = ((b"www-authenticate", b'Bearer realm="chatd"'),)
_WRONG = ((b"www-authenticate", b'Bearer realm="chatd", error="invalid_token"'),)
_PREFIX = PREFIX.encode()
_MAX_KEY_BYTES = 200


class Grant:
    """What a key may do on this worker. scopes: None = everything. left: requests, of its rate."""

    __slots__ = ("left", "name", "scopes")

    def __init__(self, key: ApiKey, left: float) -> None:
        self.name = key.name
        self.scopes = None if ADMIN in key.scopes else frozenset(key.scopes)
        self.left = left


class Guard:
    """Of one worker."""

    def __init__(self, core: Core, config: Callable[[], Config]) -> None:
        self._keys = core.keys
        self._penalties = core.penalties
        self._config = config
        self._rate = averaged(config().http.requests_per_s, 1, WINDOW_S)
        self._grants: dict[int, Grant] = {}
        """By id of the key."""

    def admit(self, authorization: bytes, scope: str, remote: str) -> Grant:
        """The key's grant, one request of which is spent. Raises: HttpRefused, Refused; Unavailable: no key is known
        yet. Cost: two microseconds."""
        if authorization[:7].lower() != _BEARER:
            raise HttpRefused(ErrorCode.UNKNOWN_KEY, "Authorization: Bearer chatd_… is needed", headers=CHALLENGE)
        secret = authorization[7:].strip()
        key = self._keys.find(secret) if len(secret) <= _MAX_KEY_BYTES and secret.startswith(_PREFIX) else None
        if key is None:
            self._refuse(remote)
        grant = self._grants.get(key.id)
        if grant is None:
            grant = self._grants[key.id] = Grant(key, self._rate.budget)
        if grant.left < 1:
            wait_s = self._rate.wait_s(grant.left, 1)
            per_s = self._config().http.requests_per_s
            text = f"the limit of a key is {per_s} requests per second, try again in {wait_s} s"
            raise Refused(ErrorCode.TOO_FAST, text, wait_s)
        grant.left -= 1
        if grant.scopes is not None and scope not in grant.scopes:
            reason = MEANINGS[ErrorCode.SCOPE_MISSING].text
            security_log.record(SecurityEvent.API_SCOPE_MISSING, peer=remote, api_key=grant.name, scope=scope)
            raise HttpRefused(ErrorCode.SCOPE_MISSING, f"{reason}: {scope}")
        return grant

    def _refuse(self, remote: str) -> NoReturn:
        """A guess."""
        if not self._keys.is_known:
            raise Unavailable("the keys are not known yet")
        origin = Origin(source_of(remote), address_of(remote), "http")
        self._penalties.check_source(origin)
        self._penalties.failed(SUBJECT, origin, known=True)
        security_log.record(SecurityEvent.API_KEY_REFUSED, peer=remote, wire="http")
        raise HttpRefused(ErrorCode.UNKNOWN_KEY, "this key is not valid", headers=_WRONG)

    def round(self) -> None:
        """Once a second: rates are topped up; a key that has its whole budget is forgotten, and found again."""
        rate = self._rate = averaged(self._config().http.requests_per_s, 1, WINDOW_S)
        for number, grant in list(self._grants.items()):
            if grant.left >= rate.budget:
                del self._grants[number]
            else:
                grant.left = rate.topped_up(grant.left)
