"""How a listener marks group messages, so that a stock client shows from which group they come.

Owns: GroupMark: the prefix of the text and the `typeu` that the operator has chosen (listen.group_prefix,
listen.group_typeu).
Elsewhere: checking the options (config.validate), writing the packet (wire.mobileimsdk.messages).
Fails: never.

COMPAT: the callback of a stock client is not given `to`, so without a mark a group message looks like a private one.
"""

from __future__ import annotations

import re
from typing import NamedTuple

from chatd.model import GroupId

_PLACEHOLDER = re.compile(r"\{(group|number)\}")


class GroupMark(NamedTuple):
    """prefix: before the text; {group} is the group's name and {number} its number. typeu: replaces the sender's;
    None = it stays."""

    prefix: str
    typeu: int | None

    def text(self, group_id: GroupId, name: str, text: str) -> str:
        """The marked text."""
        values = {"group": name, "number": str(group_id)}
        return _PLACEHOLDER.sub(lambda found: values[found[1]], self.prefix) + text
