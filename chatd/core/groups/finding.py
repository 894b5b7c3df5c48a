"""Finding the group that a command or request names.

Owns: existing().
Elsewhere: the rows (store).
Fails: Refused UNKNOWN_GROUP.
"""

from __future__ import annotations

from chatd.errors import ErrorCode, Refused
from chatd.model import Group, GroupId
from chatd.store.contract import Tables


def existing(tables: Tables, group_id: GroupId) -> Group:
    """Raises Refused UNKNOWN_GROUP."""
    group = tables.groups.find(group_id)
    if group is None:
        raise Refused(ErrorCode.UNKNOWN_GROUP)
    return group
