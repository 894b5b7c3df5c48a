"""What chatctl changes in the store itself is recorded in the server's security trail.

Owns: who called chatctl, and the way of a record into the log: the server's files; or where the log is standard error,
the running server, which writes it; or without a server, the system log; or where this host has none, standard error.
Elsewhere: the events (security_log), the request to the server (master.requests).
Fails: never. A change that was made is reported as made; if the files cannot be written, the next way is taken.
"""

from __future__ import annotations

import contextlib
import json
import os
import pwd
import socket
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Literal

from chatd import log
from chatd.chatctl.control_client import ControlClient, NotAllowed, RequestFailed, ServerUnreachable, note
from chatd.config.schema import Config
from chatd.master.chatctl_records import write_record
from chatd.master.replies import ControlReply
from chatd.master.requests import RecordRequest
from chatd.security_events import SecurityEvent

SYSTEM_LOG = Path("/dev/log")
_SYSTEM_LOG_S = 2.0
"""Longest wait for a system log that is busy."""
WHY_CHARS = 500
Result = Literal["begun", "ok", "failed"]
_AUTH_NOTICE = 4 << 3 | 5
"""Facility auth, severity notice (RFC 3164)."""


class StoreTrail:
    """To be made before chatctl becomes the owner of the store, so that it knows who called it.

    sudo_user: as sudo says it in the environment; "" = chatctl was not called by sudo.
    """

    def __init__(self, config: Config, client: ControlClient) -> None:
        self._log, self._log_dir = config.log, config.server.log_dir
        self._client = client
        self._uid = os.getuid()
        self._sudo_user = os.environ.get("SUDO_USER", "")
        try:
            self._by = pwd.getpwuid(self._uid).pw_name
        except KeyError:
            self._by = ""

    @property
    def by(self) -> str:
        """Who called chatctl, for people: the user of sudo, or else the own one; "" = this host has no name for it."""
        return self._sudo_user or self._by

    def record(self, event: SecurityEvent, *, name: str = "", user: int = 0, detail: str = "") -> None:
        """A change that was made. name, user: of the account. detail: what else should be known; never a secret."""
        self._keep(RecordRequest(event=event, name=name, user=user, detail=detail, **self._caller()))

    def order(self, order: str, arguments: Mapping[str, str | int | bool], result: Result, why: str = "") -> None:
        """A command that works on the store itself. arguments: without secrets. result: "begun" for one that takes
        long, because it may be killed."""
        event = SecurityEvent.ORDER
        made = RecordRequest(
            event=event, order=order, arguments=dict(arguments), result=result, why=why[:WHY_CHARS], **self._caller()
        )
        self._keep(made)

    @contextlib.contextmanager
    def ordered(self, order: str, arguments: Mapping[str, str | int | bool]) -> Iterator[None]:
        """Around the command: record that it begins, and how it ends."""
        self.order(order, arguments, "begun")
        try:
            yield
        except BaseException as error:
            self.order(order, arguments, "failed", str(error) or type(error).__name__)
            raise
        self.order(order, arguments, "ok")

    def _caller(self) -> dict[str, Any]:
        return {"uid": self._uid, "by": self._by, "sudo_user": self._sudo_user, "caller_pid": os.getpid()}

    def _keep(self, made: RecordRequest) -> None:
        if not (self._write(made) or self._tell_server(made) or _tell_system(made)):
            write_record(made)

    def _write(self, made: RecordRequest) -> bool:
        """Into the files of the server, whether it is running or not: every process appends to them by itself."""
        if self._log_dir == "-":
            return False
        try:
            log.setup(self._log, self._log_dir, worker="chatctl")
        except OSError as error:
            note(f"cannot write to the log in {self._log_dir}: {error.strerror}")
            return False
        write_record(made)
        log.setup(self._log, "-", worker="chatctl")
        return True

    def _tell_server(self, made: RecordRequest) -> bool:
        try:
            self._client.ask(made, ControlReply)
        except (ServerUnreachable, NotAllowed, RequestFailed):
            return False
        return True


def _tell_system(made: RecordRequest) -> bool:
    left_out = {"v", "event", "socket_uid"}
    if made.event is not SecurityEvent.ORDER:
        left_out |= {"order", "arguments", "result", "why"}
    fields = {
        "security": made.event,
        **{key: getattr(made, key) for key in made.__struct_fields__ if key not in left_out},
    }
    line = f"<{_AUTH_NOTICE}>chatctl[{os.getpid()}]: {json.dumps(fields)}"
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sending:
            sending.settimeout(_SYSTEM_LOG_S)
            sending.connect(str(SYSTEM_LOG))
            sending.send(line.encode())
    except OSError:
        return False
    return True
