"""The operations of the server, by subject: what both clients have.

Owns: Operations.
Elsewhere: the operations (people, groups, conversations, files, account, push), asking (requests).
Fails: each method raises Refused, NoAnswer, Overloaded and SessionEnded, as Requests.ask.
"""

from __future__ import annotations

from collections.abc import Callable

from chatd_client.account import Account
from chatd_client.conversations import Conversations
from chatd_client.files import Files, Home
from chatd_client.groups import Groups
from chatd_client.people import Blocks, Friends, Presence, Privacy, Profiles
from chatd_client.push import Push
from chatd_client.requests import Requests


class Operations:
    """friends, blocks, privacy, profiles, presence, groups, conversations, files, account, push."""

    def __init__(self, requests: Requests, password_changed: Callable[[str], None], home: Home) -> None:
        self.friends = Friends(requests)
        self.blocks = Blocks(requests)
        self.privacy = Privacy(requests)
        self.profiles = Profiles(requests)
        self.presence = Presence(requests)
        self.groups = Groups(requests)
        self.conversations = Conversations(requests)
        self.files = Files(requests, home)
        self.account = Account(requests, password_changed)
        self.push = Push(requests)
