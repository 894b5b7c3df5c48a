"""The client's side of the chatserver wire (port 6000 by default), in streaming mode.

Owns: Client, for programs in which a person logs in and out and sees everything at once, such as the terminal `chat`;
and, beneath it, session (stay logged in), stock (operations without requests), calls (commands that frames answer),
acknowledger, events (what is told), outgoing · frames (the bytes). Bots and services use the mobileimsdk wire
(chatd_client.Client), which has the same operations, a WebSocket and tokens.
Elsewhere: connections, sending, requests and memory, which both wires share (the modules beside this package).
"""

from chatd_client.chatserver.client import Client
from chatd_client.chatserver.events import ConnectionLost, Disagreement, Happening, Listener, LoggedIn, LoggedOut
from chatd_client.chatserver.frames import Chat, Friend, FriendReplyNotice, FriendRequestNotice, Group, GroupAck, Member

__all__ = [
    "Chat",
    "Client",
    "ConnectionLost",
    "Disagreement",
    "Friend",
    "FriendReplyNotice",
    "FriendRequestNotice",
    "Group",
    "GroupAck",
    "Happening",
    "Listener",
    "LoggedIn",
    "LoggedOut",
    "Member",
]
