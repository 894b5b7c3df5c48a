"""Where the memory of the terminal client is: one file per server and user.

Owns: the path. Elsewhere: the memory itself (chatd_client.memory).
Fails: never. If the file cannot be used, the memory lasts as long as the process, and the person is told.
"""

from __future__ import annotations

import re
from pathlib import Path

from chatd_client.address import ServerAddress
from chatd_client.journal import Journal
from chatd_client.memory import Memory, Notice


def open_memory(state_dir: Path, address: ServerAddress, user_id: int, notice: Notice) -> Memory:
    """The memory of user_id on the server at address; only of this process when its file cannot be used."""
    server = re.sub(r"[^A-Za-z0-9._-]", "_", str(address))
    try:
        return Memory(Journal(state_dir / server / f"{user_id}.journal"), notice)
    except BlockingIOError:
        notice("another chat of this user runs here: what was shown is remembered only until you leave")
    except OSError as error:
        notice(f"what was shown and sent is remembered only until you leave ({error.strerror or error})")
    return Memory(None, notice)
