"""The commands of the client: parsing a line, and carrying it out.

Owns: the table of commands, the old client's spellings, the selected conversation.
Elsewhere: reading lines and showing results (screen, terminal), talking to the server (session).
Fails: Usage for a line that cannot be understood; otherwise what session fails with. `run` tells both to the person.
"""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, Sequence

import msgspec

from chatd.client.frames import Destination, is_number
from chatd.client.screen import Screen
from chatd.client.sender import NotDone
from chatd.client.session import ClientSession, NotLoggedIn
from chatd.errors import ErrorCode

NOBODY = (ErrorCode.UNKNOWN_RECIPIENT, ErrorCode.UNKNOWN_GROUP, ErrorCode.NOT_A_MEMBER)
"""A destination whose message is refused with one of these accepts no message of ours."""

AskPassword = Callable[[str, bool], Awaitable[str | None]]
"""(prompt, new) -> the password, None if none is given. new: it is being chosen."""


class Usage(Exception):
    """The line is not a command, or is incomplete; the text shows what it should look like."""


class ParsedLine(msgspec.Struct, frozen=True):
    """One line, understood: a verb of COMMANDS (without the slash) and what follows it."""

    verb: str
    words: tuple[str, ...]


class Command(msgspec.Struct, frozen=True):
    """needs..takes: how many words; the last takes the rest of the line. first_is_name: the first word may stand in
    double quotes, for a name with spaces."""

    verb: str
    arguments: str
    help: str
    needs: int
    takes: int
    first_is_name: bool = True


COMMANDS: dict[str, Command] = {
    command.verb: command
    for command in (
        Command("help", "", "show this list", 0, 0),
        Command("register", "NAME", "create an account; you are asked for the password", 1, 1),
        Command("login", "NAME|ID", "log in; you are asked for the password", 1, 2),
        Command("chat", "NAME|ID [TEXT]", "write to a user; plain lines then go there, too", 1, 2),
        Command("g", "ID [TEXT]", "write to a group; plain lines then go there, too", 1, 2),
        Command("say", "TEXT", "write a line that looks like a command", 1, 1, first_is_name=False),
        Command("friends", "", "list your friends, and who is online", 0, 0),
        Command("addfriend", "ID|NAME", "ask a user to become your friend", 1, 1),
        Command("accept", "ID|NAME", "accept a friend request", 1, 1),
        Command("refuse", "ID|NAME", "refuse a friend request", 1, 1),
        Command("groups", "", "list your groups and their members", 0, 0),
        Command("creategroup", "NAME [DESCRIPTION]", "create a group", 1, 2),
        Command("joingroup", "ID", "join a group", 1, 1),
        Command("logout", "", "log out without leaving chat", 0, 0),
        Command("quit", "", "log out and leave chat", 0, 0),
    )
}

# COMPAT: the menu of the deployed C++ client, so that its users and their scripts need no changes.
OLD_SPELLINGS: tuple[tuple[re.Pattern[str], str], ...] = (
    (re.compile(r"chat:(\d+):(.+)", re.DOTALL), "chat"),
    (re.compile(r"addfriend:(\d+)"), "addfriend"),
    (re.compile(r"creategroup:([^:]+):(.*)", re.DOTALL), "creategroup"),
    (re.compile(r"addgroup:(\d+)"), "joingroup"),
    (re.compile(r"groupchat:(\d+):(.+)", re.DOTALL), "g"),
    (re.compile(r"loginout:?"), "logout"),
    (re.compile(r"help:?"), "help"),
)


def understand(line: str) -> ParsedLine:
    """Raises Usage. A line that is not a command is `say`."""
    for pattern, verb in OLD_SPELLINGS:
        match = pattern.fullmatch(line)
        if match:
            return ParsedLine(verb, match.groups())
    if not line.startswith("/"):
        return ParsedLine("say", (line,))
    verb, _, rest = line[1:].partition(" ")
    command = COMMANDS.get(verb)
    if command is None:
        raise Usage(f"unknown command /{verb}; /help lists all commands")
    words = _split(command, rest) if command.takes else ()
    if len(words) < command.needs:
        raise Usage(usage(command))
    return ParsedLine(verb, words)


def _split(command: Command, rest: str) -> tuple[str, ...]:
    """The words after the verb. Raises Usage for a name without its closing quote, and for too many words."""
    if not command.first_is_name:
        return tuple(rest.split(maxsplit=command.takes - 1))
    name, rest = rest.lstrip(), ""
    if name.startswith('"'):
        name, quote, rest = name[1:].partition('"')
        if not (quote and name):
            raise Usage(f'{usage(command)}: a name in quotes ends with "')
    else:
        name, _, rest = name.partition(" ")
    rest = rest.lstrip()
    if rest and command.takes == 1:
        raise Usage(f'{usage(command)}: a name with spaces stands in quotes, as in /{command.verb} "{name} {rest}"')
    return tuple(word for word in (name, rest) if word)


def quoted(name: str) -> str:
    """The name as one word of a line."""
    return f'"{name}"' if " " in name else name


def usage(command: Command) -> str:
    return f"/{command.verb} {command.arguments}".rstrip()


class Commands:
    def __init__(self, session: ClientSession, screen: Screen, ask_password: AskPassword) -> None:
        self.selected: Destination | None = None
        """Where plain lines go."""
        self._selected_before: Destination | None = None
        """Where they went before; they go there again when `selected` turns out not to exist."""
        self.login_failed = False
        """The last login was refused, or something was asked for that needs one."""
        self._session = session
        self._screen = screen
        self._ask_password = ask_password
        session.sender.on_refused = self._on_refused
        self._verbs: dict[str, Callable[[Sequence[str]], Awaitable[None]]] = {
            "help": self._help,
            "register": self._register,
            "login": self._login,
            "chat": self._chat,
            "g": self._group_chat,
            "say": self._say,
            "friends": self._friends,
            "addfriend": self._add_friend,
            "accept": self._accept,
            "refuse": self._refuse,
            "groups": self._groups,
            "creategroup": self._create_group,
            "joingroup": self._join_group,
            "logout": self._logout,
        }

    async def run(self, line: str) -> bool:
        """Carry out the line; False if it says to leave."""
        if not line.strip():
            return True
        try:
            request = understand(line.rstrip("\r\n"))
            if request.verb == "quit":
                return False
            await self._verbs[request.verb](request.words)
        except NotLoggedIn as error:
            self.login_failed = True
            self._screen.notice(str(error))
        except (Usage, NotDone) as error:
            self._screen.notice(str(error))
        return True

    # ------------------------------------------------------------ accounts

    async def _help(self, words: Sequence[str]) -> None:
        width = max(len(usage(command)) for command in COMMANDS.values())
        for command in COMMANDS.values():
            self._screen.notice(f"{usage(command):{width}}  {command.help}")

    async def _register(self, words: Sequence[str]) -> None:
        name = words[0]
        password = await self._password(words, new=True)
        number = await self._session.register(name, password)
        self._screen.notice(f"registered {name}, your number is {number}; now: /login {quoted(name)}")

    async def _login(self, words: Sequence[str]) -> None:
        password = await self._password(words, new=False)
        self.login_failed = True
        await self._session.login(words[0], password)
        self.login_failed = False
        self.selected = self._selected_before = None

    async def _password(self, words: Sequence[str], new: bool) -> str:
        password = words[1] if len(words) > 1 else await self._ask_password(f"password of {words[0]}: ", new)
        if password is None:
            self.login_failed = True
            raise NotDone("no password given")
        return password

    async def _logout(self, words: Sequence[str]) -> None:
        was = self._session.user
        await self._session.logout()
        self.selected = self._selected_before = None
        self._screen.notice("logged out" if was else "not logged in")

    # ------------------------------------------------------------ messages

    async def _chat(self, words: Sequence[str]) -> None:
        to = Destination(user_id=int(words[0])) if is_number(words[0]) else Destination(user_name=words[0])
        await self._write(to, words)

    async def _group_chat(self, words: Sequence[str]) -> None:
        group_id = self._session.contacts.group_id_of(words[0])
        if not group_id:
            raise Usage(f"no group {words[0]} known: /g ID TEXT with its number")
        await self._write(Destination(group_id=group_id), words)

    async def _write(self, to: Destination, words: Sequence[str]) -> None:
        self._session.require_login()
        if to != self.selected:
            self.selected, self._selected_before = to, self.selected
        if len(words) > 1:
            self._session.send(to, words[1])
        else:
            self._screen.notice(f"what you write now goes to {to}")
        self._screen.status()

    def _on_refused(self, to: Destination, errno: int) -> None:
        """The server has refused a message for good. Plain lines must not go on to a destination that does not
        exist."""
        if errno not in NOBODY:
            return
        if to == self._selected_before:
            self._selected_before = None
        if to != self.selected:
            return
        self.selected, self._selected_before = self._selected_before, None
        now = f"to {self.selected} again" if self.selected else "nowhere until the next /chat or /g"
        self._screen.notice(f"what you write now goes {now}")
        self._screen.status()

    async def _say(self, words: Sequence[str]) -> None:
        self._session.require_login()
        if self.selected is None:
            raise Usage("nobody is selected: /chat NAME TEXT first, or /help")
        self._session.send(self.selected, words[0])

    # ------------------------------------------------------------ friends and groups

    async def _friends(self, words: Sequence[str]) -> None:
        contacts = self._session.contacts
        for friend in sorted(contacts.friends.values(), key=lambda friend: (not friend.online, friend.name)):
            self._screen.notice(f"{friend.name}({friend.id}) {'online' if friend.online else 'offline'}")
        for user_id, name in contacts.requests.items():
            self._screen.notice(
                f"{name or 'somebody'}({user_id}) asks to be your friend: /accept {user_id} or /refuse {user_id}"
            )
        if not contacts.friends and not contacts.requests:
            self._screen.notice("no friends yet: /addfriend ID")

    def _number_of(self, word: str) -> int:
        number = self._session.contacts.user_id_of(word)
        if not number:
            raise Usage(f"the number of {word} is not known here: give the number")
        return number

    async def _add_friend(self, words: Sequence[str]) -> None:
        number = self._number_of(words[0])
        await self._session.request_friend(number)
        self._screen.notice(f"asked {words[0]}")

    async def _accept(self, words: Sequence[str]) -> None:
        await self._session.answer_friend(self._number_of(words[0]), accept=True)

    async def _refuse(self, words: Sequence[str]) -> None:
        await self._session.answer_friend(self._number_of(words[0]), accept=False)

    async def _groups(self, words: Sequence[str]) -> None:
        groups = self._session.contacts.groups
        for group in groups.values():
            about = f": {group.description}" if group.description else ""
            self._screen.notice(f"{group.name}#{group.id}{about}")
            for member in group.members:
                state = "online" if member.online else "offline"
                role = ", made it" if member.role == "creator" else ""
                self._screen.notice(f"    {member.name}({member.id}) {state}{role}")
        if not groups:
            self._screen.notice("no groups yet: /creategroup NAME or /joingroup ID")

    async def _create_group(self, words: Sequence[str]) -> None:
        group = await self._session.create_group(words[0], words[1] if len(words) > 1 else "")
        self._screen.notice(f"made the group {words[0]}, its number is {group.group_id}")

    async def _join_group(self, words: Sequence[str]) -> None:
        if not is_number(words[0]):
            raise Usage("/joingroup ID: a group is joined by its number")
        group = await self._session.join_group(int(words[0]))
        self._screen.notice(f"joined the group {group.name}#{group.group_id}")
