"""One request to this host's master over its control socket, from a worker.

Owns: ask().
Elsewhere: the requests, the replies and who may ask (master.control, master.requests), asking from chatctl, without an
event loop (chatctl.control_client).
Fails: Unavailable if there is no reply. A request that was sent may have been carried out.
"""

from __future__ import annotations

import asyncio
from pathlib import Path

from chatd.errors import Unavailable
from chatd.orders import CONTROL

CONNECT_S = 2.0
MAX_BYTES = 4 * 1024 * 1024
"""Of a reply."""


async def ask(runtime_dir: str, request: bytes, limit_s: float) -> bytes | None:
    """The reply, one JSON object. request: likewise. None: the request was sent, and there is no reply within limit_s;
    it is carried out nevertheless. Raises Unavailable."""
    path = Path(runtime_dir, CONTROL)
    try:
        async with asyncio.timeout(CONNECT_S):
            reader, writer = await asyncio.open_unix_connection(path, limit=MAX_BYTES)
            writer.write(request + b"\n")
    except (OSError, TimeoutError) as error:
        raise Unavailable(f"the master cannot be asked: {error or 'it takes too long'}") from None
    try:
        async with asyncio.timeout(limit_s):
            line = await reader.readline()
    except TimeoutError:
        return None
    except (OSError, ValueError) as error:
        raise Unavailable(f"the master does not reply: {error}") from None
    finally:
        writer.close()
    if not line.endswith(b"\n"):
        raise Unavailable("the master closed the connection without a reply")
    return line[:-1]
