"""The requests of `chatctl` to the master.

Owns: one struct per request. On the control socket each is one JSON object with "v": 1 that names its command as "cmd".
Fields are added within version 1, never renamed.
Elsewhere: the replies (master.replies), the socket (master.control), carrying requests out (master.master), asking
(chatctl.control_client).
Fails: MalformedMessage for bytes that are not a request.
"""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal, Union, get_args

import msgspec
from msgspec import Meta

from chatd.client_list import ClientQuery
from chatd.config.schema import LogLevel
from chatd.errors import MalformedMessage
from chatd.orders import REASON_CHARS as REASON_CHARS
from chatd.security_events import SecurityEvent

MOST_TRACED_S = 24 * 3600.0
"""Longest time for which a user is traced."""
BROADCAST_S = 130.0
"""Longest time that a broadcast takes; a worker needs less (core.sessions.broadcast.LIMIT_S)."""
RECORDED_CHARS = 1000
Wire = Literal["", "chatserver", "mobileimsdk"]
"""A wire that has sessions; "" = every one."""
WIRES = tuple(filter(None, get_args(Wire)))

# ---------------------------------------------------------------- requests


class ControlRequest(msgspec.Struct, tag_field="cmd", frozen=True, kw_only=True):
    """v: the version of the protocol. administrator: the account for which a worker asks, "" = it is no worker
    (http.admin.orders).

    is_order: it is recorded in the security trail, with the person who gave it and the result (master.control). True
    unless a kind of request says otherwise. recorded: the fields whose values are recorded with it; name none that may
    hold a secret.
    """

    is_order: ClassVar[bool] = True
    recorded: ClassVar[tuple[str, ...]] = ()

    v: Literal[1] = 1
    administrator: Annotated[str, Meta(max_length=200)] = ""


class StatusRequest(ControlRequest, tag="status", frozen=True):
    """Replied to with StatusReply (master.status). Monitoring asks every few seconds."""

    is_order: ClassVar[bool] = False


class ReloadRequest(ControlRequest, tag="reload", frozen=True):
    """Replied to with ReloadReply."""


class ReopenRequest(ControlRequest, tag="reopen", frozen=True):
    """Open the log files again."""


class StopRequest(ControlRequest, tag="stop", frozen=True):
    """Replied to when the last worker has left."""

    recorded: ClassVar[tuple[str, ...]] = ("fast",)

    fast: bool = False


class DrainRequest(ControlRequest, tag="drain", frozen=True):
    """All workers of this host leave, and new clients are refused. Replied to when the last one has left."""


class UndrainRequest(ControlRequest, tag="undrain", frozen=True):
    """This host serves again. Replied to when every worker is ready."""


class RestartWorkersRequest(ControlRequest, tag="restart-workers", frozen=True):
    """Replace all workers, one after the other. Replied to with RestartReply, when the last old one has left."""


class UpgradeRequest(ControlRequest, tag="upgrade", frozen=True):
    """Replied to with UpgradeReply when all workers run the installed code."""


class ConfigRequest(ControlRequest, tag="config", frozen=True):
    """Replied to with ConfigReply."""


class ConfigDiffRequest(ControlRequest, tag="config-diff", frozen=True):
    """Replied to with ConfigDiffReply."""


class LogLevelRequest(ControlRequest, tag="log-level", frozen=True):
    """Until the next reload. workers: only these slots, until such a worker is replaced; None = every process. Replied
    to with LogLevelReply."""

    recorded: ClassVar[tuple[str, ...]] = ("level", "workers")

    level: LogLevel
    workers: tuple[int, ...] | None = None


class LogLevelsRequest(ControlRequest, tag="log-levels", frozen=True):
    """What is logged now. Replied to with LogLevelReply."""

    is_order: ClassVar[bool] = False


class ScaleRequest(ControlRequest, tag="scale", frozen=True):
    """Replied to with ScaleReply. step: how many more workers, or (negative) fewer; or else `workers`: how many there
    are to be. force: also above the limit per core."""

    recorded: ClassVar[tuple[str, ...]] = ("step", "workers", "force")

    step: int = 0
    workers: Annotated[int, Meta(ge=0)] = 0
    force: bool = False


class KickRequest(ControlRequest, tag="kick", frozen=True):
    """Replied to with KickReply. user: a name, or an id in digits; or else user_id, which may be a deleted account; or
    else everybody in `network` (address_bans.network_named). credentials: if not 0, the account's credentials were
    changed and have this version: only sessions with an earlier one end. wire: only sessions on it; "" = on all."""

    recorded: ClassVar[tuple[str, ...]] = ("user", "user_id", "network", "wire", "reason")

    user: Annotated[str, Meta(max_length=200)] = ""
    user_id: Annotated[int, Meta(ge=0, lt=1 << 62)] = 0
    reason: Annotated[str, Meta(max_length=REASON_CHARS)] = ""
    credentials: Annotated[int, Meta(ge=0, lt=1 << 62)] = 0
    wire: Wire = ""
    network: Annotated[str, Meta(max_length=200)] = ""


class BroadcastRequest(ControlRequest, tag="broadcast", frozen=True):
    """Replied to with BroadcastReply. text: to be told to all connected users. wire: only on it; user: only to this
    one, by name or id; group_id: only to its members."""

    recorded: ClassVar[tuple[str, ...]] = ("text", "wire", "user", "group_id")

    text: Annotated[str, Meta(max_length=20_000)]
    wire: Wire = ""
    user: Annotated[str, Meta(max_length=200)] = ""
    group_id: Annotated[int, Meta(ge=0, lt=1 << 62)] = 0


class ApplyBansRequest(ControlRequest, tag="apply-bans", frozen=True):
    """chatctl has changed the address bans in the store, and recorded that. Replied to with ApplyBansReply."""

    is_order: ClassVar[bool] = False


class SessionsRequest(ControlRequest, tag="sessions", frozen=True):
    """The sessions of the account with this id, on all hosts. Replied to with SessionsReply."""

    is_order: ClassVar[bool] = False

    user_id: Annotated[int, Meta(gt=0, lt=1 << 62)]


class ClientsRequest(ControlRequest, tag="clients", frozen=True):
    """One page of the sessions that match: of this host, or (everywhere) of all. Replied to with ClientsReply."""

    is_order: ClassVar[bool] = False

    query: ClientQuery
    everywhere: bool = False


class TraceRequest(ControlRequest, tag="trace", frozen=True):
    """Trace the messages of this user, a name or an id in digits, for this time; 0 = no longer. Replied to with
    TraceReply."""

    recorded: ClassVar[tuple[str, ...]] = ("user", "for_s")

    user: Annotated[str, Meta(min_length=1, max_length=200)]
    for_s: Annotated[float, Meta(ge=0, le=MOST_TRACED_S)]


class ListTracesRequest(ControlRequest, tag="list-traces", frozen=True):
    """Who is traced. Replied to with TraceReply."""

    is_order: ClassVar[bool] = False


class RecordRequest(ControlRequest, tag="record", frozen=True):
    """What chatctl did on the store itself, to be recorded in the security trail; sent where the log is the server's
    standard error.

    name, user: of the account. order, arguments, result, why: of a SecurityEvent.ORDER, as for a request on the control
    socket. uid, by, sudo_user, caller_pid: who called chatctl, as chatctl says; whoever may use the control socket
    could write the log as well. socket_uid: who sent this request, as the kernel says, set by master.control; chatctl
    has become the owner of the store by then. -1 = it came over no socket.
    """

    is_order: ClassVar[bool] = False

    event: SecurityEvent
    name: Annotated[str, Meta(max_length=RECORDED_CHARS)] = ""
    user: Annotated[int, Meta(ge=0, lt=1 << 62)] = 0
    detail: Annotated[str, Meta(max_length=RECORDED_CHARS)] = ""
    uid: Annotated[int, Meta(ge=0, lt=1 << 32)] = 0
    by: Annotated[str, Meta(max_length=RECORDED_CHARS)] = ""
    sudo_user: Annotated[str, Meta(max_length=RECORDED_CHARS)] = ""
    order: Annotated[str, Meta(max_length=RECORDED_CHARS)] = ""
    arguments: dict[str, str | int | bool] = msgspec.field(default_factory=dict)
    result: Literal["begun", "ok", "failed"] = "ok"
    why: Annotated[str, Meta(max_length=RECORDED_CHARS)] = ""
    caller_pid: Annotated[int, Meta(ge=0, lt=1 << 32)] = 0
    socket_uid: int = -1


class PenaltiesRequest(ControlRequest, tag="penalties", frozen=True):
    """Replied to with PenaltiesReply."""

    is_order: ClassVar[bool] = False


class ClearPenaltiesRequest(ControlRequest, tag="clear-penalties", frozen=True):
    """Replied to with ClearPenaltiesReply. subject: an address, a network, or a user's name or id; or else everything
    is true."""

    recorded: ClassVar[tuple[str, ...]] = ("subject", "everything")

    subject: Annotated[str, Meta(max_length=200)] = ""
    everything: bool = False


REQUESTS: tuple[type[ControlRequest], ...] = (
    StatusRequest,
    ReloadRequest,
    ReopenRequest,
    StopRequest,
    DrainRequest,
    UndrainRequest,
    RestartWorkersRequest,
    UpgradeRequest,
    ConfigRequest,
    ConfigDiffRequest,
    LogLevelRequest,
    LogLevelsRequest,
    ScaleRequest,
    KickRequest,
    RecordRequest,
    PenaltiesRequest,
    ClearPenaltiesRequest,
    SessionsRequest,
    BroadcastRequest,
    ApplyBansRequest,
    ClientsRequest,
    TraceRequest,
    ListTracesRequest,
)
COMMANDS = tuple(sorted(str(kind.__struct_config__.tag) for kind in REQUESTS))
_decoder: msgspec.json.Decoder[ControlRequest] = msgspec.json.Decoder(Union[REQUESTS])  # noqa: UP007  of a list


class _Version(msgspec.Struct):
    v: Literal[1]
    cmd: str


def decode(line: bytes) -> ControlRequest:
    """One request. Raises MalformedMessage, with a text for the person who asks."""
    try:
        asked = msgspec.json.decode(line, type=_Version)
        if asked.cmd not in COMMANDS:
            raise MalformedMessage(f'unknown command "{asked.cmd}"; version 1 has {", ".join(COMMANDS)}')
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise MalformedMessage(f'not a request like {{"v": 1, "cmd": "status"}}: {error}') from None
    try:
        return _decoder.decode(line)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise MalformedMessage(f"{asked.cmd}: {error}") from None
