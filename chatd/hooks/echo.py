"""A plug-in that answers every text to the server with the same text: the smallest useful one.

Owns: Echo. Options: `suffix`, appended to the text. Operations of chatd itself (friend.list …) are not answered.
Elsewhere: the contract of plug-ins (core.plugins.contract).
Fails: ValueError when it is loaded, for an option it does not know.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from chatd.hooks import Reply, Request


class Echo:
    def __init__(self, options: Mapping[str, Any]) -> None:
        unknown = options.keys() - {"suffix"}
        if unknown:
            raise ValueError(f"unknown option: {', '.join(sorted(unknown))}")
        self._suffix = str(options.get("suffix", " server[echo]"))

    async def before_request(self, request: Request) -> Reply | None:
        return None if request.op else Reply(request.body + self._suffix)
