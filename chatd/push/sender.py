"""Sending one notification, and what its answer means.

Owns: Sender, Outcome.
Elsewhere: HTTP and which addresses may be reached (outbound), the form of a request (web_push), when it is sent again
(push.delivery).
Fails: never; whatever goes wrong is an Outcome.
"""

from __future__ import annotations

import enum
from typing import NamedTuple

from chatd.config.push_options import PushOptions
from chatd.feeds.back_off import retry_after_s
from chatd.outbound import ForbiddenTarget, OutboundClient, OutboundFailed, OutboundLimits
from chatd.store.push_contract import DuePush
from chatd.web_push.encryption import browser_keys, encrypt
from chatd.web_push.endpoints import check_endpoint
from chatd.web_push.vapid import VapidKey

_GONE = (404, 410)
_TOO_MANY = 429
_ANSWER_BYTES = 4096
_CONNECT_S = 5.0


class Result(enum.Enum):
    SENT = "sent"
    GONE = "gone"
    """The subscription has ended."""
    AGAIN = "again"
    """It may work later."""
    REFUSED = "refused"
    """This request will never work."""


class Outcome(NamedTuple):
    """wait_s: how long the push service asked to be left alone. is_answered: whether it has said anything at all."""

    result: Result
    error: str = ""
    wait_s: float = 0.0
    is_answered: bool = True


class Sender:
    """To all push services."""

    def __init__(self, options: PushOptions, connections: int) -> None:
        """options: with a key that web_push.check has accepted."""
        self._options = options
        self._key = VapidKey(options.key)
        self._client = OutboundClient(
            OutboundLimits(
                total_s=options.timeout_s,
                connect_s=min(_CONNECT_S, options.timeout_s),
                answer_bytes=_ANSWER_BYTES,
                connections=connections,
                allow_private=options.allow_private,
            )
        )

    async def send(self, one: DuePush, content: bytes, ttl_s: int, topic: str) -> Outcome:
        """topic: a push service replaces what it has of the same one, for a browser that is off."""
        try:
            check_endpoint(one.endpoint, self._options.services, self._options.allow_private)
            body = encrypt(content, browser_keys(one.p256dh, one.auth))
        except ValueError as error:
            return Outcome(Result.GONE, str(error))
        headers = {
            "Authorization": self._key.authorization(one.endpoint, self._options.subject),
            "Content-Encoding": "aes128gcm",
            "Content-Type": "application/octet-stream",
            "TTL": str(ttl_s),
            "Urgency": "high",
            "Topic": topic,
        }
        try:
            answer = await self._client.request("POST", one.endpoint, headers=headers, body=body)
        except ForbiddenTarget as error:
            return Outcome(Result.REFUSED, str(error))
        except OutboundFailed as error:
            return Outcome(Result.AGAIN, str(error), is_answered=False)
        if answer.is_success:
            return Outcome(Result.SENT)
        why = f"status {answer.status}"
        if answer.status in _GONE:
            return Outcome(Result.GONE, why)
        if answer.status == _TOO_MANY or answer.status >= 500:
            return Outcome(Result.AGAIN, why, retry_after_s(answer.headers.get("retry-after", "")))
        return Outcome(Result.REFUSED, why)

    async def close(self) -> None:
        await self._client.close()
