"""All operations, for the generated documentation and for tests.

Owns: described().
Elsewhere: the operations that run, put together in core.core.
Fails: never.
"""

from __future__ import annotations

from typing import Protocol

from chatd.core.requests.changes import ChangeOperations
from chatd.core.requests.consent import ConsentOperations
from chatd.core.requests.dispatch import OperationTable
from chatd.core.requests.files import FileOperations
from chatd.core.requests.friends import FriendOperations
from chatd.core.requests.group_admission import GroupAdmissionOperations
from chatd.core.requests.groups import GroupOperations
from chatd.core.requests.history import HistoryOperations
from chatd.core.requests.profile import ProfileOperations
from chatd.core.requests.push import PushOperations
from chatd.core.requests.sessions import SessionOperations
from chatd.core.requests.typing_notices import TypingOperations


class _HasTable(Protocol):
    def table(self) -> OperationTable: ...


_KINDS: tuple[type[_HasTable], ...] = (
    FriendOperations,
    GroupOperations,
    GroupAdmissionOperations,
    HistoryOperations,
    ChangeOperations,
    ProfileOperations,
    SessionOperations,
    ConsentOperations,
    TypingOperations,
    PushOperations,
    FileOperations,
)


def described() -> OperationTable:
    """Every operation by name, with its arguments and texts. Their functions belong to no worker and cannot be run."""
    return {name: operation for kind in _KINDS for name, operation in object.__new__(kind).table().items()}
