"""Signing requests as the Standard Webhooks specification says (standardwebhooks.com).

Owns: the three headers, and the id of a batch.
Elsewhere: the secrets' form (config.webhooks), sending (webhooks.sender).
Fails: never, with secrets that config.validate has accepted.
"""

from __future__ import annotations

import base64
import hmac
from collections.abc import Sequence
from hashlib import blake2b, sha256

from chatd.config.webhooks import secret_bytes
from chatd.store.event_contract import Position, WebhookState

_ID_BYTES = 18


class Signer:
    """With several secrets, each signs: a receiver that knows any of them accepts the request."""

    def __init__(self, secrets: Sequence[str]) -> None:
        self._secrets = [secret_bytes(one) for one in secrets]

    def headers(self, message_id: str, timestamp_s: int, body: bytes) -> dict[str, str]:
        """message_id: of the batch. timestamp_s: of this attempt, since the epoch."""
        signed = f"{message_id}.{timestamp_s}.".encode() + body
        signatures = (base64.b64encode(hmac.digest(secret, signed, sha256)).decode() for secret in self._secrets)
        return {
            "webhook-id": message_id,
            "webhook-timestamp": str(timestamp_s),
            "webhook-signature": " ".join(f"v1,{one}" for one in signatures),
        }


def batch_id(state: WebhookState, after: Position, upto: Position) -> str:
    """The same whenever, and by whomever, these events are sent; another one after a replay, so that a receiver that
    drops repetitions gets them again."""
    named = (state.name, state.created_at_ms, state.replays, *after, *upto)
    digest = blake2b(" ".join(map(str, named)).encode(), digest_size=_ID_BYTES).digest()
    return f"msg_{base64.urlsafe_b64encode(digest).decode()}"
