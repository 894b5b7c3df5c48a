"""Sending one request, and what its answer means.

Owns: Sender, Outcome.
Elsewhere: HTTP (outbound), when it is sent again (webhooks.delivery).
Fails: never; whatever goes wrong is an Outcome.
"""

from __future__ import annotations

import time
from typing import NamedTuple

from chatd.config.webhook_options import WebhookOptions
from chatd.feeds.back_off import retry_after_s
from chatd.outbound import NoAnswerInTime, OutboundClient, OutboundFailed, OutboundLimits
from chatd.webhooks.signature import Signer

GONE = 410
_ANSWER_BYTES = 4096
"""Of an answer: only its status matters, and a short body leaves the connection open for the next request."""
_CONNECT_S = 5.0


class Outcome(NamedTuple):
    """error: "" = the receiver has the events. gone: it wants no more. wait_s: how long it asked to be left alone.
    broke: there was no connection, or it ended without an answer; the time was not over."""

    error: str = ""
    gone: bool = False
    wait_s: float = 0.0
    broke: bool = False


class Sender:
    """To one receiver."""

    def __init__(self, options: WebhookOptions) -> None:
        self._url = options.url
        self._signer = Signer(options.secrets)
        self._client = OutboundClient(
            OutboundLimits(
                total_s=options.timeout_s,
                connect_s=min(_CONNECT_S, options.timeout_s),
                answer_bytes=_ANSWER_BYTES,
                connections=2,
                allow_private=options.allow_private,
            )
        )

    async def send(self, message_id: str, body: bytes) -> Outcome:
        headers = self._signer.headers(message_id, int(time.time()), body)
        headers["Content-Type"] = "application/json"
        try:
            answer = await self._client.request("POST", self._url, headers=headers, body=body)
        except OutboundFailed as error:
            return Outcome(str(error), broke=not isinstance(error, NoAnswerInTime))
        if answer.is_success:
            return Outcome()
        return Outcome(
            f"status {answer.status}",
            gone=answer.status == GONE,
            wait_s=retry_after_s(answer.headers.get("retry-after", "")),
        )

    async def close(self) -> None:
        await self._client.close()
