"""A plug-in that asks a backend over HTTP before something happens: whether it may, and with which text.

Owns: Http. Options: `url`; `points`, those at which the backend is asked, such as ["before_message"]; `secret`, which
signs as that of a webhook does ("whsec_…", or "file:PATH", "env:NAME"); `open`, those of the points at which a backend
that does not answer means yes (default: none); `timeout_ms` (default 400, to be below hook.time_limit_ms);
`concurrency`, requests at once per worker (default 16); `allow_private`, as of a webhook; `send_secrets`, whether
before_login sends the password or token (default false).
Elsewhere: the contract of plug-ins (core.plugins.contract), HTTP (outbound), signing (webhooks.signature).
Fails: ValueError or ConfigError when it is loaded, for a wrong option. A call without a valid answer raises, so that
hook.fail decides; at a point in `open` it means yes.
"""

from __future__ import annotations

import asyncio
import functools
import secrets
import time
from collections.abc import Mapping
from typing import Any

import msgspec

from chatd.config.load import secret as resolved
from chatd.core.plugins.contract import Point
from chatd.hooks import Reply, Rewrite, Veto
from chatd.outbound import OutboundClient, OutboundFailed, OutboundLimits, check_url
from chatd.webhooks.signature import Signer

ANSWER_BYTES = 256 * 1024
_OK, _NO_CONTENT = 200, 204
_ID_BYTES = 12


class Options(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """As above."""

    url: str
    points: tuple[Point, ...]
    secret: str
    open: tuple[Point, ...] = ()
    timeout_ms: int = 400
    concurrency: int = 16
    allow_private: tuple[str, ...] = ()
    send_secrets: bool = False


class Answer(msgspec.Struct, frozen=True, kw_only=True):
    """What the backend answers with status 200. allow false: refuse, with text and code. body, typeu: go on with these
    instead (before_message, before_request). reply: the answer to the request (before_request). Status 204 means
    allow."""

    allow: bool = True
    text: str = ""
    code: int = Veto().code
    body: str | None = None
    typeu: int | None = None
    reply: str | None = None


class BadAnswer(Exception):
    """The backend answers something else than it may."""


class Http:
    def __init__(self, options: Mapping[str, Any]) -> None:
        self._options = given = msgspec.convert(options, Options)
        check_url(given.url)
        if not given.points or not all(point.decides for point in given.points):
            raise ValueError('points: expected at least one of the points that decide, such as ["before_message"]')
        if set(given.open) - set(given.points):
            raise ValueError("open: names a point that is not in points")
        if given.timeout_ms < 1 or given.concurrency < 1:
            raise ValueError("timeout_ms and concurrency must be at least 1")
        self._signer = Signer([resolved(given.secret, "secret")])
        self._room = asyncio.Semaphore(given.concurrency)
        self._client = OutboundClient(
            OutboundLimits(
                total_s=given.timeout_ms / 1000,
                answer_bytes=ANSWER_BYTES,
                connections=given.concurrency,
                allow_private=given.allow_private,
            )
        )
        for point in given.points:
            setattr(self, point, functools.partial(self._decide, point))

    async def close(self) -> None:
        """Close the connections to the backend. The worker does not call it: they end with the process."""
        await self._client.close()

    async def _decide(self, point: Point, event: msgspec.Struct) -> Veto | Rewrite | Reply | None:
        try:
            async with asyncio.timeout(self._options.timeout_ms / 1000), self._room:
                answer = await self._ask(point, event)
        except (OutboundFailed, BadAnswer, TimeoutError):
            if point in self._options.open:
                return None
            raise
        if not answer.allow:
            return Veto(answer.text, answer.code)
        if answer.reply is not None:
            return Reply(answer.reply)
        if answer.body is not None or answer.typeu is not None:
            return Rewrite(answer.body, answer.typeu)
        return None

    async def _ask(self, point: Point, event: msgspec.Struct) -> Answer:
        """Raises OutboundFailed, BadAnswer."""
        told = msgspec.to_builtins(event)
        if "secret" in told and not self._options.send_secrets:
            del told["secret"]
        body = msgspec.json.encode({"point": str(point), "event": told})
        headers = self._signer.headers(f"msg_{secrets.token_urlsafe(_ID_BYTES)}", int(time.time()), body)
        headers["Content-Type"] = "application/json"
        found = await self._client.request("POST", self._options.url, headers=headers, body=body)
        if found.status == _NO_CONTENT:
            return Answer()
        if found.status != _OK or found.is_cut:
            raise BadAnswer(f"status {found.status}")
        try:
            return msgspec.json.decode(found.body, type=Answer)
        except msgspec.DecodeError:
            raise BadAnswer("its answer is not what docs/hooks.md says") from None
