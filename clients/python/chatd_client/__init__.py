"""A client of chatd for programs: asynchronous, typed, and exactly once.

Owns: the public names. A tour, from the wire up: packets (bytes <-> structs), stream_link · websocket_link (one
connection), connector (one after the other), outbox · sender (messages until they are stored), seen · journal ·
memory · inbox (messages given once), requests · results · events (operations), state · session (stay logged in),
people · groups · conversations · account (the operations by subject), client (all of it). chatserver is the other wire
of chatd, for the terminal client `chat`.
Elsewhere: the server. Of it, nothing is used.
"""

from chatd_client.client import Client, MessageFields
from chatd_client.errors import (
    Broken,
    ChatError,
    ClientClosed,
    Code,
    EndReason,
    Invalid,
    JournalUnusable,
    Kicked,
    LimitReached,
    LoginRefused,
    NoAnswer,
    NotAcknowledged,
    NotFound,
    NotOffered,
    NotPermitted,
    Overloaded,
    Refused,
    SessionEnded,
    TryLater,
    Unreachable,
    UntrustedServer,
)
from chatd_client.files import UploadFields
from chatd_client.model import Attachment, Message, Sent, User
from chatd_client.options import Options
from chatd_client.state import State
from chatd_client.timing import Timing

__version__ = "0.1.0"

__all__ = [
    "Attachment",
    "Broken",
    "ChatError",
    "Client",
    "ClientClosed",
    "Code",
    "EndReason",
    "Invalid",
    "JournalUnusable",
    "Kicked",
    "LimitReached",
    "LoginRefused",
    "Message",
    "MessageFields",
    "NoAnswer",
    "NotAcknowledged",
    "NotFound",
    "NotOffered",
    "NotPermitted",
    "Options",
    "Overloaded",
    "Refused",
    "Sent",
    "SessionEnded",
    "State",
    "Timing",
    "TryLater",
    "Unreachable",
    "UntrustedServer",
    "UploadFields",
    "User",
]
