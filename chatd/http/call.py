"""A call: one request to the API, as its handler sees it.

Owns: Call: whose key it came with, in whose name something is done, its Idempotency-Key, and the records of it.
Elsewhere: doing something in a user's name (core.calls), checking the key (http.guard), reading the request
(http.dispatch).
Fails: as core.calls.
"""

from __future__ import annotations

import enum
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar

import msgspec

from chatd import security_log
from chatd.config.schema import Config
from chatd.core.calls import Caller, Calls, raise_for_fp
from chatd.core.change import Change
from chatd.core.core import Core
from chatd.errors import ErrorCode, Refused
from chatd.http.problems import HttpRefused
from chatd.model import SYSTEM, UserId
from chatd.security_log import SecurityEvent
from chatd.store.contract import Tables, text_hash

if TYPE_CHECKING:
    from chatd.webhooks.webhooks import Webhooks

T = TypeVar("T")


class CallerKind(enum.StrEnum):
    """What names whoever makes a call. The values are fields of the security trail."""

    API_KEY = "api_key"
    ADMINISTRATOR = "administrator"


_encode = msgspec.json.Encoder().encode


class Call:
    """core: of this worker. key: the name of the key, or of the administrator (kind); "" = the route needs none.
    remote: the client's address. fp: the Idempotency-Key, "" = none was given. target: method and path. body: as it was
    received. replayed: set by once(), or by the handler, if this is the answer to an earlier request with the same
    Idempotency-Key. recorded: by record(). webhooks: those that this worker knows; None = none is configured.
    """

    __slots__ = ("body", "calls", "core", "fp", "key", "kind", "recorded", "remote", "replayed", "target", "webhooks")

    def __init__(self, core: Core, key: str, remote: str, target: str) -> None:
        self.core = core
        self.calls: Calls = core.calls
        self.key = key
        self.kind = CallerKind.API_KEY
        self.remote = remote
        self.target = target
        self.fp = ""
        self.body = b""
        self.replayed = False
        self.recorded = False
        self.webhooks: Webhooks | None = None

    @property
    def config(self) -> Config:
        """The configuration in force."""
        return self.calls.services.config()

    async def caller(self, who: str | UserId, field: str) -> Caller:
        """The user with this name or id, to act in their name. field: where the request names the user, for the
        refusal. Raises: HttpRefused 404, Refused ACCOUNT_LOCKED; Unavailable."""
        user = self.calls.remembered(who)
        if user is None:
            try:
                user = await self.calls.find(who)
            except Refused as refused:
                if refused.code == ErrorCode.UNKNOWN_RECIPIENT:
                    raise HttpRefused(ErrorCode.UNKNOWN_RECIPIENT, refused.text, field=field) from None
                raise
        return Caller(user, self.remote)

    def system(self) -> Caller:
        """The system itself."""
        return Caller(SYSTEM, self.remote)

    def own_fp(self) -> str:
        """The Idempotency-Key, or an fp of its own. Raises: Refused TOO_LONG."""
        if not self.fp:
            return self.calls.new_fp()
        raise_for_fp(self.fp, self.config.limits.fp_bytes)
        return self.fp

    async def once(self, work: Callable[[Tables, int], Any], kind: type[Any]) -> Any:
        """Change the store, once for each Idempotency-Key: see core.calls.Calls.once. work: called with the tables and
        the time (epoch, ms); returns the output. kind: its type. Raises: Refused, Unavailable."""
        who = self.key if self.kind is CallerKind.API_KEY else f"{self.kind} {self.key}"
        asked = f"{who} {self.target} {self.body.decode('utf-8', 'replace')}"
        answer, is_fresh = await self.calls.once(
            self.fp, text_hash(asked), lambda tables, now_ms: _encode(work(tables, now_ms))
        )
        self.replayed = not is_fresh
        return msgspec.json.decode(answer, type=kind)

    async def change(self, change: Change[T], shown: Callable[[T], Any], kind: type[Any]) -> Any:
        """As once(), for a change that is told to those it concerns. shown: makes the output of its result."""
        made: list[T] = []

        def work(tables: Tables, now_ms: int) -> Any:
            made[:] = [change.write(tables)]  # the transaction may be run again
            return shown(made[0])

        try:
            output = await self.once(work, kind)
            if not self.replayed:
                await change.tell(made[0])
        finally:
            change.over()
        return output

    def record(self, event: SecurityEvent, **fields: Any) -> None:
        """In the security trail, with the name of the key or the administrator. fields: as in security_log.record."""
        self.recorded = True
        fields = {str(self.kind): self.key, **fields}
        security_log.record(event, peer=self.remote, wire="http", **fields)
