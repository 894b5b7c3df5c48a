"""Orders from the master to its workers, and their answers.

Owns: one struct per order and per answer, and their form on the wire: one JSON object per datagram of the
SOCK_SEQPACKET socket between master and worker, whose field `order` or `answer` says which one it is.
Elsewhere: sending them (master.workers), carrying them out (worker, operator_orders), acting on the answers
(master.reload, master.questions).
Fails: MalformedMessage for bytes that are none of these. The receiver logs it and goes on; it never ends a process.

A stop is not an order but SIGTERM, so that it also reaches a worker that does not read.
"""

from __future__ import annotations

from typing import Literal

import msgspec

from chatd.client_list import ClientPage, ClientQuery
from chatd.client_list import ShownSession as ShownSession
from chatd.config.schema import Config, LogLevel
from chatd.errors import MalformedMessage as MalformedMessage
from chatd.tls.certificates import Certificate

MAX_BYTES = 256 * 1024
"""Maximum size of one order or answer. A larger one is not received whole."""
MAX_CERTIFICATE_BYTES = 96 * 1024
"""Maximum size of the certificates of one listener together, with their keys: base64 of it fits into an order, which
must fit into the kernel's buffer of a socket."""
WHY_CHARS = 4096
CONTROL = "control.sock"
"""The master's socket for orders, in the runtime directory."""
REASON_CHARS = 200
"""Longest reason that an operator gives for ending sessions."""


# ---------------------------------------------------------------- master to worker


class ReloadOrder(msgspec.Struct, tag_field="order", tag="reload", frozen=True):
    """Apply what a running worker can change. Answered by ReloadDone or ReloadRefused."""

    generation: int
    config: Config


class DrainOrder(msgspec.Struct, tag_field="order", tag="drain", frozen=True):
    """Leave within this time from now, even if an earlier order or SIGTERM allowed more. Not answered."""

    within_s: float


class HandOverOrder(msgspec.Struct, tag_field="order", tag="hand-over", frozen=True, kw_only=True):
    """A successor accepts: hand over to it what can be handed over, drain the rest, and leave within this time. Not
    answered.

    Comes with one descriptor (SCM_RIGHTS): the socket whose other end is the successor's WorkerContext.predecessor.
    successor: its slot.
    """

    successor: int
    within_s: float


class LogLevelOrder(msgspec.Struct, tag_field="order", tag="log", frozen=True):
    """Set the minimum level logged. Not answered."""

    level: LogLevel


class CertificatesOrder(msgspec.Struct, tag_field="order", tag="certificates", frozen=True):
    """Use these for new handshakes at the listener with this address. Answered by CertificatesRefused, if at all."""

    address: str
    certificates: tuple[Certificate, ...]


class KickOrder(msgspec.Struct, tag_field="order", tag="kick", frozen=True, kw_only=True):
    """End a user's sessions on every worker and host. Answered by KickDone or OrderFailed with the same ref.

    user: a name, or an id in digits; "" = the account is user_id, which may be a deleted one; if that is 0, everybody
    in `network`. credentials: only sessions with an earlier version of the account's credentials; 0 = all. wire: only
    sessions on it, a name of model.Protocol in lower case; "" = on all. age_s: seconds since the operator gave it;
    later sessions stay. repeat_s: it is repeated, and workers that do not answer are asked for this long before the
    answer; 0 = not. unanswered: as in KickDone, those that have not answered before.
    """

    ref: int
    user: str
    user_id: int
    reason: str
    credentials: int = 0
    wire: str = ""
    network: str = ""
    age_s: float = 0.0
    repeat_s: float = 0.0
    unanswered: dict[str, str] = {}


class ClearPenaltiesOrder(msgspec.Struct, tag_field="order", tag="clear-penalties", frozen=True, kw_only=True):
    """Remove penalties on every worker and host. Answered by PenaltiesCleared or OrderFailed with the same ref.

    subject: an address, a network, or a user's name or id; "" = every record.
    """

    ref: int
    subject: str


class SessionsOrder(msgspec.Struct, tag_field="order", tag="sessions", frozen=True, kw_only=True):
    """Find a user's sessions on every worker and host. Answered by SessionsDone with the same ref."""

    ref: int
    user_id: int


class BroadcastOrder(msgspec.Struct, frozen=True, kw_only=True, tag_field="order", tag="broadcast"):
    """Tell all connected users, on every worker and host. Answered by BroadcastDone or OrderFailed with the same
    ref.

    at_ms: epoch. wire: only sessions on it; "" = on all. user: only those of this user; group_id: only those of the
    members of this group; "" and 0 = of everybody.
    """

    ref: int
    text: str
    at_ms: int
    wire: str = ""
    user: str = ""
    group_id: int = 0


class ApplyBansOrder(msgspec.Struct, frozen=True, kw_only=True, tag_field="order", tag="apply-bans"):
    """The store has other address bans: apply them on every worker and host. Answered by BansApplied or OrderFailed
    with the same ref."""

    ref: int


class ClientsOrder(msgspec.Struct, tag_field="order", tag="clients", frozen=True, kw_only=True):
    """List the sessions that match: of this worker, or (everywhere) of every worker of every host. Answered by
    ClientsDone with the same ref."""

    ref: int
    query: ClientQuery
    everywhere: bool = False


class FindUserOrder(msgspec.Struct, tag_field="order", tag="find-user", frozen=True, kw_only=True):
    """Find an account by its name, or by its id in digits. Answered by UserFound or OrderFailed with the same ref."""

    ref: int
    user: str


class TraceOrder(msgspec.Struct, tag_field="order", tag="trace", frozen=True, kw_only=True):
    """Trace the user's messages for this time, 0 = no longer (core.tracing). tell_others: also the workers of other
    hosts are told. Not answered."""

    user_id: int
    for_s: float
    tell_others: bool = False


class ReadDatagramsOrder(msgspec.Struct, tag_field="order", tag="read-datagrams", frozen=True):
    """Read the UDP socket that comes with this, too, for the listener with this address: the worker that read it
    leaves, and nobody takes its place. Not answered."""

    address: str


Order = (
    ReloadOrder
    | DrainOrder
    | HandOverOrder
    | ReadDatagramsOrder
    | LogLevelOrder
    | CertificatesOrder
    | KickOrder
    | ClearPenaltiesOrder
    | SessionsOrder
    | BroadcastOrder
    | ApplyBansOrder
    | ClientsOrder
    | FindUserOrder
    | TraceOrder
)


# ---------------------------------------------------------------- worker to master


class ReloadDone(msgspec.Struct, tag_field="answer", tag="reload-done", frozen=True):
    """The worker has applied this configuration."""

    generation: int


class ReloadRefused(msgspec.Struct, tag_field="answer", tag="reload-refused", frozen=True):
    """The worker keeps the configuration it has."""

    generation: int
    why: str


class CertificatesRefused(msgspec.Struct, tag_field="answer", tag="certificates-refused", frozen=True):
    """The worker keeps the certificates that it has."""

    address: str
    why: str


class QuestionAnswer(msgspec.Struct, frozen=True):
    """The base of every answer to an operator's question. ref: that of the order (master.questions.asking)."""

    ref: int


class KickDone(QuestionAnswer, tag_field="answer", tag="kick-done", frozen=True, kw_only=True):
    """The sessions this worker found and ended.

    known: there is such an account; user_id: its id, where it was looked up. unanswered: workers that may still
    have sessions, by name, and where they are. cut_off: the bus is not whole, so there may be hosts that this worker
    does not know.
    """

    sessions: int
    known: bool
    unanswered: dict[str, str] = {}
    cut_off: bool = False
    user_id: int = 0


class PenaltiesCleared(QuestionAnswer, tag_field="answer", tag="penalties-cleared", frozen=True):
    """records: how many there were on this host."""

    records: int


class SessionsDone(QuestionAnswer, tag_field="answer", tag="sessions-done", frozen=True, kw_only=True):
    """complete: there are no more sessions."""

    sessions: tuple[ShownSession, ...]
    complete: bool


class WorkerReady(msgspec.Struct, tag_field="answer", tag="ready", frozen=True):
    """Sent unasked, once, when the worker's row says READY: a row cannot wake the master."""


class NotUnderstood(msgspec.Struct, tag_field="answer", tag="not-understood", frozen=True):
    """The worker does not know an order, because the master has newer code. It went on as before."""

    why: str


class BroadcastDone(QuestionAnswer, frozen=True, kw_only=True, tag_field="answer", tag="broadcast-done"):
    """As core.sessions.broadcast.BroadcastResult."""

    told: int
    skipped: int
    unanswered: tuple[str, ...] = ()
    cut_off: bool = False


class BansApplied(QuestionAnswer, frozen=True, kw_only=True, tag_field="answer", tag="bans-applied"):
    """As core.bans.BansResult."""

    ended: int
    unanswered: tuple[str, ...] = ()
    cut_off: bool = False


class OrderFailed(QuestionAnswer, frozen=True, kw_only=True, tag_field="answer", tag="order-failed"):
    """Nothing was done. unknown: there is nobody with the name in the order."""

    why: str
    unknown: bool = False


class ClientsDone(QuestionAnswer, tag_field="answer", tag="clients-done", frozen=True, kw_only=True):
    """complete: every worker that was to be asked has answered."""

    page: ClientPage
    complete: bool = True


class UserFound(QuestionAnswer, tag_field="answer", tag="user-found", frozen=True, kw_only=True):
    user_id: int
    name: str


class Trouble(msgspec.Struct, tag_field="answer", tag="trouble", frozen=True):
    """Sent unasked when it changes: why this worker cannot use the store, or the bus; "" = it can."""

    part: Literal["store", "bus"]
    why: str


class CannotStart(msgspec.Struct, tag_field="answer", tag="cannot-start", frozen=True):
    """Sent unasked by a worker that ends before it is ready; `why` is shown to the operator."""

    why: str


Answer = (
    ReloadDone
    | ReloadRefused
    | CertificatesRefused
    | KickDone
    | PenaltiesCleared
    | SessionsDone
    | WorkerReady
    | NotUnderstood
    | BroadcastDone
    | BansApplied
    | OrderFailed
    | ClientsDone
    | UserFound
    | Trouble
    | CannotStart
)


_encoder = msgspec.json.Encoder()
_orders: msgspec.json.Decoder[Order] = msgspec.json.Decoder(Order)
_answers: msgspec.json.Decoder[Answer] = msgspec.json.Decoder(Answer)


def encode(message: Order | Answer) -> bytes:
    """The message as one datagram. Its size is not checked: the kernel refuses one that is too large with EMSGSIZE."""
    return _encoder.encode(message)


def decode_order(data: bytes) -> Order:
    """Raises MalformedMessage, with the reason."""
    try:
        return _orders.decode(data)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise MalformedMessage(str(error)) from None


def decode_answer(data: bytes) -> Answer:
    """Raises MalformedMessage, with the reason."""
    try:
        return _answers.decode(data)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise MalformedMessage(str(error)) from None
