"""Where lines go: the conversation that is selected, and what words mean in it.

Owns: Target: the selected conversation, and finding conversations, groups and messages that a command names.
Elsewhere: the commands (commands and its parts), sending (app, chatd_client).
Fails: Usage for a word that means nothing here.
"""

from __future__ import annotations

from chatd.client.app import App
from chatd.client.grammar import Usage
from chatd.client.screen import Screen
from chatd_client import results
from chatd_client.errors import ChatError, Code
from chatd_client.model import GONE, Destination, is_number

NOBODY = (Code.UNKNOWN_RECIPIENT, Code.UNKNOWN_GROUP, Code.NOT_A_MEMBER)
"""A destination whose message is refused with one of these accepts no message of ours."""
LOOK_BACK = 50
"""Messages that are looked at to find the last one of a kind."""


class Target:
    """selected: where plain lines go."""

    def __init__(self, app: App, screen: Screen) -> None:
        self.selected: Destination | None = None
        self._before: Destination | None = None
        """Where they went before; they go there again when `selected` turns out not to exist."""
        self._app = app
        self._client = app.client
        self._screen = screen
        app.on_refused = self._on_refused

    def forget(self) -> None:
        self.selected = self._before = None

    def select(self, to: Destination) -> None:
        if to != self.selected:
            self.selected, self._before = to, self.selected

    def needed(self) -> Destination:
        """Raises Usage."""
        if self.selected is None:
            raise Usage("nobody is selected: /chat NAME TEXT first, or /help")
        return self.selected

    def _on_refused(self, to: Destination, errno: int) -> None:
        """The server has refused a message for good. Plain lines must not go on to a destination that does not
        exist."""
        if errno not in NOBODY:
            return
        if to == self._before:
            self._before = None
        if to != self.selected:
            return
        self.selected, self._before = self._before, None
        now = f"to {self.selected} again" if self.selected else "nowhere until the next /chat or /g"
        self._screen.notice(f"what you write now goes {now}")
        self._screen.status()

    # ------------------------------------------------------------ what words mean

    def group(self, word: str) -> int:
        """The group that a word names, with or without "#"; "" = the selected one. Raises Usage."""
        if not word:
            if self.selected is None or not self.selected.group_id:
                raise Usage("no group is selected: name it with # before it, or select it with /g")
            return self.selected.group_id
        number = self._app.contacts.group_id_of(word)
        if not number:
            raise Usage(f"no group {word} known: give its number")
        return number

    def place(self, word: str) -> str:
        """A conversation as requests name it: a user's name or number, or "#" and a group's number; "" = the selected
        one. Raises Usage."""
        if word.startswith("#"):
            return f"#{self.group(word)}"
        return word or self.needed().place

    async def last_own(self) -> int:
        """The number of the user's last message in the selected conversation. Raises Usage, ChatError."""
        to = self.needed()
        await self._client.settle()
        return self._client.last_sent(to) or (await self._last(to.place, own=True)).seq

    async def last_seq(self, place: str) -> int:
        """The number of the last message of the conversation. Raises ChatError."""
        return (await self._last(place, own=False)).seq

    async def _last(self, place: str, *, own: bool) -> results.PastMessage:
        me = self._client.require_login().name
        async for message in self._client.conversations.history(place, limit=LOOK_BACK if own else 1):
            if not own or (message.sender == me and message.state not in GONE):
                return message
        raise ChatError("there is no such message: /history shows messages with their numbers")


def number_of(word: str) -> int:
    """The number of a message. Raises Usage."""
    if not is_number(word):
        raise Usage(f"{word} is not the number of a message: /history shows them")
    return int(word)
