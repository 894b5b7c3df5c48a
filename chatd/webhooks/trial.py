"""Trying a webhook: one signed event without a meaning, sent from here.

Owns: try_out(), and Trial, its outcome.
Elsewhere: sending (webhooks.sender), who asks for it (chatctl.webhooks, http.resources.webhooks).
Fails: never; whatever goes wrong is told in the outcome. Nothing is stored, and nothing that waits is touched.
"""

from __future__ import annotations

import time
from typing import NamedTuple

from chatd import wall_clock
from chatd.config.webhook_options import WebhookOptions
from chatd.webhooks.payload import test_body
from chatd.webhooks.sender import Sender


class Trial(NamedTuple):
    """error: why the receiver did not take the event; "" = it did. took_ms: how long that lasted."""

    error: str
    took_ms: int


async def try_out(options: WebhookOptions) -> Trial:
    """Takes at most options.timeout_s, and some seconds to connect."""
    sender, now_ms, begun = Sender(options), wall_clock.now_ms(), time.monotonic()
    try:
        outcome = await sender.send(f"msg_test_{now_ms}", test_body(options.name, now_ms))
    finally:
        await sender.close()
    return Trial(outcome.error, round((time.monotonic() - begun) * 1000))
