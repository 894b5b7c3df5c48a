"""What core asks of other servers over HTTP, without knowing how.

Owns: Fetch, the contract of one exchange, and FetchFailed.
Elsewhere: the client with its limits (outbound), given to core by worker.
Fails: FetchFailed, whatever went wrong.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

import msgspec

from chatd.errors import ChatdError


class FetchFailed(ChatdError):
    """There is no usable answer: not reached, too slow, too large, or the target is not allowed. The text says which,
    and holds no secret. Caught by whoever has asked."""


class Exchange(msgspec.Struct, frozen=True, kw_only=True):
    """A request. body: JSON to be sent by POST; None = GET. limit_s: for the whole exchange."""

    url: str
    body: bytes | None = None
    headers: Mapping[str, str] = {}
    limit_s: float


class Answer(msgspec.Struct, frozen=True):
    status: int
    body: bytes


class Fetch(Protocol):
    """Follows no redirection, and takes an answer that is too long for a failure."""

    async def __call__(self, exchange: Exchange) -> Answer:
        """Raises FetchFailed."""
        ...
