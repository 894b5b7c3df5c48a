"""The server as chatctl sees it: its control socket, its pid file, and signals where there is no socket.

Owns: one request and its reply, whether a server is running, and saying why it cannot be reached.
Elsewhere: what requests mean (master.requests), what is printed (chatctl.commands, chatctl.render).
Fails: ServerUnreachable when there is no reply, RequestFailed when the reply says that nothing was done.
"""

from __future__ import annotations

import contextlib
import os
import select
import signal
import socket
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import msgspec

from chatd.config.schema import ServerOptions
from chatd.errors import ChatdError
from chatd.master import instance_lock
from chatd.master.directories import CONTROL
from chatd.master.instance_lock import PIDFILE
from chatd.master.replies import ControlReply
from chatd.master.requests import ControlRequest, StatusRequest
from chatd.master.status import Status, StatusReply

CONNECT_S = 5.0
REPLY_S = 30.0
STATUS_S = 3.0
POLL_S = 0.02
MEANWHILE_S = 0.5

R = TypeVar("R", bound=ControlReply)


class _RawStatusReply(ControlReply, kw_only=True):
    status: msgspec.Raw


class ServerUnreachable(ChatdError):
    """There is no reply. asked: the request was sent, and may still be carried out."""

    def __init__(self, text: str, *, asked: bool = False) -> None:
        super().__init__(text)
        self.asked = asked


class RequestFailed(ChatdError):
    """The server refuses. data: the whole reply, as it came."""

    def __init__(self, reply: ControlReply, data: bytes) -> None:
        super().__init__(str(reply.error or "refused"))
        self.exit_code = reply.exit
        self.data = data


class NotAllowed(ChatdError):
    """This user may not use the control socket or the pid file; exit 77."""

    def __init__(self, path: Path) -> None:
        super().__init__(f"permission denied for {path}: only root, the server's user and its group may operate it")


def note(text: str) -> None:
    """Write one or more lines to standard error."""
    for line in text.splitlines():
        sys.stderr.write(f"chatctl: {line}\n")


class ControlClient:
    """The server of one runtime directory. certain: the configuration could be read, so this is the directory."""

    def __init__(self, runtime_dir: str, *, certain: bool = True) -> None:
        self.runtime_dir = Path(runtime_dir)
        self.certain = certain
        self.path = self.runtime_dir / CONTROL

    def ask(
        self,
        request: ControlRequest,
        kind: type[R],
        limit_s: float | None = REPLY_S,
        meanwhile: Callable[[], None] | None = None,
    ) -> R:
        """The reply to one request. limit_s None: wait for as long as it takes. meanwhile: called every MEANWHILE_S
        while there is no reply.

        Raises: ServerUnreachable, NotAllowed, RequestFailed.
        """
        return self._decode(self.ask_raw(request, limit_s, meanwhile), kind)

    def ask_raw(
        self,
        request: ControlRequest,
        limit_s: float | None = REPLY_S,
        meanwhile: Callable[[], None] | None = None,
    ) -> bytes:
        """The reply as it came: one JSON object, a newline at its end. Raises ServerUnreachable or NotAllowed."""
        self._check_running()
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as asking:
            self._connect(asking)
            asking.settimeout(limit_s)
            received = bytearray()
            try:
                with contextlib.suppress(BrokenPipeError):  # replied and closed before it was asked: too many clients
                    asking.sendall(msgspec.json.encode(request) + b"\n")
                while meanwhile is not None and not select.select([asking], [], [], MEANWHILE_S)[0]:
                    meanwhile()
                while not received.endswith(b"\n") and (chunk := asking.recv(65536)):
                    received += chunk
            except TimeoutError:
                raise ServerUnreachable(f"no reply within {limit_s:g} s on {self.path}", asked=True) from None
            except OSError as error:
                raise ServerUnreachable(f"{self.path}: {error.strerror}", asked=True) from None
        if not received.endswith(b"\n"):
            raise ServerUnreachable(f"the server closed {self.path} without a reply", asked=True)
        return bytes(received)

    def _check_running(self) -> None:
        """A control socket of systemd would start the server, and no request makes sense to one that is started for it.
        Raises ServerUnreachable."""
        with contextlib.suppress(NotAllowed, PermissionError):
            if self.path.exists() and not self.running()[0]:
                raise ServerUnreachable("no server is running")

    def _connect(self, asking: socket.socket) -> None:
        asking.settimeout(CONNECT_S)
        try:
            asking.connect(str(self.path))
        except PermissionError:
            raise NotAllowed(self.path) from None
        except FileNotFoundError:
            raise ServerUnreachable(f"there is no control socket {self.path}") from None
        except ConnectionRefusedError:
            raise ServerUnreachable(f"no process listens on {self.path}") from None
        except TimeoutError:
            raise ServerUnreachable(f"cannot connect to {self.path} within {CONNECT_S:g} s") from None
        except OSError as error:
            raise ServerUnreachable(f"{self.path}: {error.strerror}") from None

    def _decode(self, data: bytes, kind: type[R]) -> R:
        try:
            reply = msgspec.json.decode(data, type=ControlReply)
            if not reply.ok:
                raise RequestFailed(reply, data)
            return msgspec.json.decode(data, type=kind)
        except msgspec.DecodeError as error:
            raise ServerUnreachable(f"the reply on {self.path} is not understood: {error}", asked=True) from None

    def status(self) -> Status:
        """Raises ServerUnreachable, also where the server is too busy to reply; NotAllowed."""
        return self._decode_status(self.ask_raw(StatusRequest(), STATUS_S), StatusReply).status

    def status_json(self) -> str:
        """The status as it came, also with the fields of a newer server. Raises as status()."""
        reply = self._decode_status(self.ask_raw(StatusRequest(), STATUS_S), _RawStatusReply)
        return bytes(reply.status).decode()

    def _decode_status(self, data: bytes, kind: type[R]) -> R:
        try:
            return self._decode(data, kind)
        except RequestFailed as error:
            raise ServerUnreachable(str(error), asked=True) from None

    def running(self) -> tuple[bool, int]:
        """From the pid file: whether its lock is held, and the number in it or 0. Raises NotAllowed."""
        try:
            return instance_lock.holder(ServerOptions(runtime_dir=str(self.runtime_dir)))
        except PermissionError:
            raise NotAllowed(self.runtime_dir / PIDFILE) from None

    def explain(self, error: ServerUnreachable) -> str:
        """Why there is no reply, for people. Raises NotAllowed."""
        running, pid = self.running()
        if not running:
            return f"chatd is not running in {self.runtime_dir}"
        return f"chatd is running{_pid(pid)}, but cannot be asked: {error}"

    def signal_instead(self, number: signal.Signals, error: ServerUnreachable, times: int = 1) -> None:
        """Send a signal because the socket does not answer. Raises ServerUnreachable if no server is running, or if the
        request itself may have arrived; NotAllowed."""
        running, pid = self.running()
        if error.asked or not running or not pid:
            raise error
        note(f"{error}; sending {number.name} to pid {pid} instead")
        for _ in range(times):
            try:
                os.kill(pid, number)
            except ProcessLookupError:  # it has just ended
                raise error from None
            except PermissionError:
                raise NotAllowed(self.runtime_dir / PIDFILE) from None
            time.sleep(POLL_S)  # signals of one kind that are still pending become one

    def wait_gone(self, limit_s: float) -> bool:
        """Wait until the lock is free, so that the next start succeeds. Raises NotAllowed."""
        until = time.monotonic() + limit_s
        while self.running()[0]:
            if time.monotonic() > until:
                return False
            time.sleep(POLL_S)
        return True


def _pid(pid: int) -> str:
    return f" (pid {pid})" if pid else ""
