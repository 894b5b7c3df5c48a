"""A plug-in that serves a gateway: it writes down what it is to deliver.

Options: `journal`, a file. A token that begins with "gone" has ended, one that begins with "fails" is not served.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from chatd.hooks import Gone, PushNote, Taken


class Gateway:
    def __init__(self, options: Mapping[str, Any]) -> None:
        self._journal = Path(options["journal"])

    def push(self, note: PushNote) -> Taken | Gone | None:
        if note.gateway != "apns":
            return None
        with self._journal.open("a") as journal:
            journal.write(json.dumps([note.token, note.user.name, note.message.body, note.count]) + "\n")
        if note.token.startswith("fails"):
            raise OSError("the gateway is away")
        return Gone() if note.token.startswith("gone") else Taken()
