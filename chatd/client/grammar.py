"""What a line means: the table of commands, their parameters, and the old client's spellings.

Owns: COMMANDS, understand(), quoting. The kinds of parameters also say what completion offers.
Elsewhere: carrying commands out (commands), completion (completion).
Fails: Usage for a line that cannot be understood.
"""

from __future__ import annotations

import enum
import re

import msgspec


class Usage(Exception):
    """The line is not a command, or is incomplete; the text shows what it should look like."""


class Kind(enum.Enum):
    """What a parameter is. Each but TEXT is one word, or a text in double quotes."""

    USER = enum.auto()
    ASKER = enum.auto()
    """A user who asks to be a friend."""

    FRIEND = enum.auto()
    GROUP = enum.auto()
    """Name or number of a group, "#" before it or not."""

    THAT_GROUP = enum.auto()
    """The group, with "#" before it. Without it, the group to which plain lines go: then the word is ""."""

    MEMBER = enum.auto()
    PLACE = enum.auto()
    """A user, or a group with "#" before it."""

    SEQ = enum.auto()
    """The number of a message."""

    THAT_SEQ = enum.auto()
    """The same, if the word is a number; otherwise the command's own default: then the word is ""."""

    NUMBER = enum.auto()
    CHOICE = enum.auto()
    NAME = enum.auto()
    """A new name."""

    TEXT = enum.auto()
    """The rest of the line."""


OPTIONAL_WORDS = (Kind.THAT_GROUP, Kind.THAT_SEQ)
"""May be left out although other words follow."""


class Parameter(msgspec.Struct, frozen=True):
    """shown: as usage() shows it. needed: the command cannot do without. choices: of a CHOICE."""

    kind: Kind
    shown: str
    needed: bool = True
    choices: tuple[str, ...] = ()


class Command(msgspec.Struct, frozen=True):
    """secrets: what follows the first word is a password."""

    verb: str
    help: str
    parameters: tuple[Parameter, ...] = ()
    secrets: bool = False


class ParsedLine(msgspec.Struct, frozen=True):
    """One line, understood: a verb of COMMANDS (without the slash) and its words. Words at the end may be missing."""

    verb: str
    words: tuple[str, ...]


def _needs(kind: Kind, shown: str, *choices: str) -> Parameter:
    return Parameter(kind, shown, True, choices)


def _may(kind: Kind, shown: str, *choices: str) -> Parameter:
    return Parameter(kind, shown, False, choices)


_USER = _needs(Kind.USER, "NAME")
_MEMBER = _needs(Kind.MEMBER, "NAME")
_THAT_GROUP = _may(Kind.THAT_GROUP, "#GROUP")
_TEXT = _needs(Kind.TEXT, "TEXT")
_SEQ = _needs(Kind.SEQ, "SEQ")
AUDIENCES = ("everybody", "contacts", "friends", "nobody", "default")
PURPOSES = ("write", "ask", "see", "add")
PROFILE_FIELDS = ("nickname", "avatar", "status", "about")
GROUP_FIELDS = ("name", "about", "join", "history", "announcements")

_ACCOUNT = (
    Command("help", "show this list, or what a command does", (_may(Kind.CHOICE, "COMMAND"),)),
    Command("register", "create an account; you are asked for the password", (_needs(Kind.NAME, "NAME"),)),
    Command(
        "login",
        "log in; you are asked for the password",
        (_needs(Kind.NAME, "NAME|ID"), _may(Kind.TEXT, "PASSWORD")),
        secrets=True,
    ),
    Command(
        "takeover",
        "log in and end your session at another terminal",
        (_may(Kind.NAME, "NAME|ID"), _may(Kind.TEXT, "PASSWORD")),
        secrets=True,
    ),
    Command("passwd", "change your password; you are asked for both"),
    Command("sessions", "list where you are logged in"),
    Command("logout", "log out without leaving chat"),
    Command("quit", "log out and leave chat"),
)
_MESSAGES = (
    Command(
        "chat",
        "write to a user; plain lines then go there, too",
        (_needs(Kind.USER, "NAME|ID"), _may(Kind.TEXT, "TEXT")),
    ),
    Command(
        "g", "write to a group; plain lines then go there, too", (_needs(Kind.GROUP, "ID"), _may(Kind.TEXT, "TEXT"))
    ),
    Command("send-file", "send a file where plain lines go", (_needs(Kind.TEXT, "PATH"),)),
    Command("save", "get the files of a message of this conversation", (_SEQ, _may(Kind.TEXT, "DIRECTORY"))),
    Command("say", "write a line that looks like a command", (_TEXT,)),
    Command("reply", "answer a message by its number", (_SEQ, _TEXT)),
    Command("edit", "change your last message, or an earlier one", (_may(Kind.THAT_SEQ, "SEQ"), _TEXT)),
    Command("recall", "take back your last message, or an earlier one", (_may(Kind.SEQ, "SEQ"),)),
    Command("delete", "delete a message, or all, from your own history", (_needs(Kind.SEQ, "SEQ|all"),)),
    Command("remove", "delete a message of a group for everybody", (_THAT_GROUP, _SEQ)),
    Command(
        "history",
        "show the last messages, with their numbers",
        (_may(Kind.PLACE, "NAME|#GROUP"), _may(Kind.NUMBER, "N")),
    ),
    Command("unread", "list the conversations with unread messages"),
    Command("read", "mark a conversation as read", (_may(Kind.PLACE, "NAME|#GROUP"),)),
)
_PEOPLE = (
    Command("friends", "list your friends, and who is online"),
    Command("addfriend", "ask a user to become your friend", (_needs(Kind.USER, "ID|NAME"),)),
    Command("accept", "accept a friend request", (_needs(Kind.ASKER, "ID|NAME"),)),
    Command("refuse", "refuse a friend request", (_needs(Kind.ASKER, "ID|NAME"),)),
    Command("unfriend", "end a friendship", (_needs(Kind.FRIEND, "NAME"),)),
    Command("block", "block a user", (_USER,)),
    Command("unblock", "end blocking a user", (_USER,)),
    Command("blocks", "list the users you block"),
    Command(
        "privacy",
        "show or set who may write to you, ask you, see you, add you to groups",
        (_may(Kind.CHOICE, "write|ask|see|add", *PURPOSES), _may(Kind.CHOICE, "|".join(AUDIENCES), *AUDIENCES)),
    ),
    Command(
        "profile",
        "show or change your profile",
        (_may(Kind.CHOICE, "|".join(PROFILE_FIELDS), *PROFILE_FIELDS), _may(Kind.TEXT, "TEXT")),
    ),
    Command("whois", "show the profile and presence of a user", (_USER,)),
)
_GROUPS = (
    Command("groups", "list your groups and their members"),
    Command("creategroup", "create a group", (_needs(Kind.NAME, "NAME"), _may(Kind.TEXT, "DESCRIPTION"))),
    Command("joingroup", "join a group, or ask to", (_needs(Kind.GROUP, "ID"),)),
    Command("leave", "leave a group", (_needs(Kind.GROUP, "#GROUP"),)),
    Command("groupinfo", "show a group's rules and members", (_may(Kind.GROUP, "#GROUP"),)),
    Command(
        "groupset",
        "change a group: its name, its text, how it is joined (open, approval, invite), who reads its past "
        "(joining, all), whether only admins write (on, off)",
        (_THAT_GROUP, _needs(Kind.CHOICE, "|".join(GROUP_FIELDS), *GROUP_FIELDS), _needs(Kind.TEXT, "VALUE")),
    ),
    Command("invite", "invite a user to a group", (_THAT_GROUP, _USER)),
    Command("invitations", "list your invitations"),
    Command("decline", "decline an invitation, or take back a request to join", (_needs(Kind.GROUP, "#GROUP"),)),
    Command("add", "make a user a member of a group", (_THAT_GROUP, _USER)),
    Command("requests", "list who asks to join a group", (_may(Kind.GROUP, "#GROUP"),)),
    Command("approve", "let a user join a group", (_THAT_GROUP, _USER)),
    Command("reject", "refuse a user's request to join a group", (_THAT_GROUP, _USER)),
    Command("kick", "remove a member from a group", (_THAT_GROUP, _MEMBER)),
    Command("ban", "keep a user out of a group", (_THAT_GROUP, _MEMBER)),
    Command("unban", "let a banned user join again", (_THAT_GROUP, _USER)),
    Command("bans", "list who is banned from a group", (_may(Kind.GROUP, "#GROUP"),)),
    Command("mute", "stop a member from writing", (_THAT_GROUP, _MEMBER, _may(Kind.NUMBER, "MINUTES"))),
    Command("unmute", "let a member write again", (_THAT_GROUP, _MEMBER)),
    Command(
        "role",
        "make a member owner, admin or member",
        (_THAT_GROUP, _MEMBER, _needs(Kind.CHOICE, "owner|admin|member", "owner", "admin", "member")),
    ),
    Command("dissolve", "end a group for all its members", (_needs(Kind.GROUP, "#GROUP"),)),
)
COMMANDS: dict[str, Command] = {command.verb: command for command in (*_MESSAGES, *_PEOPLE, *_GROUPS, *_ACCOUNT)}

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
    return ParsedLine(verb, _words(command, rest) if command.parameters else ())


def _words(command: Command, rest: str) -> tuple[str, ...]:
    """The words after the verb. Raises Usage."""
    words: list[str] = []
    rest = rest.lstrip()
    for parameter in command.parameters:
        if parameter.kind is Kind.TEXT:
            word, rest = rest, ""
        elif parameter.kind in OPTIONAL_WORDS and not _is_there(parameter.kind, rest):
            word = ""
        else:
            word, rest = _next_word(command, rest)
            rest = rest.lstrip()
        if not word and parameter.needed:
            raise Usage(usage(command))
        words.append(word)
    if rest:
        raise Usage(_too_many(command, words, rest))
    while words and not words[-1]:
        words.pop()
    return tuple(words)


def _is_there(kind: Kind, rest: str) -> bool:
    if kind is Kind.THAT_GROUP:
        return rest.startswith(("#", '"#'))
    number, space, _ = rest.partition(" ")
    return bool(space) and number.isascii() and number.isdigit()


def _next_word(command: Command, rest: str) -> tuple[str, str]:
    """Raises Usage for a name without its closing quote."""
    if not rest.startswith('"'):
        word, _, rest = rest.partition(" ")
        return word, rest
    word, quote, rest = rest[1:].partition('"')
    if not (quote and word):
        raise Usage(f'{usage(command)}: a name in quotes ends with "')
    return word, rest


def _too_many(command: Command, words: list[str], rest: str) -> str:
    last = command.parameters[-1]
    if last.kind in (Kind.NUMBER, Kind.CHOICE, Kind.SEQ):
        return usage(command)
    before = "".join(f"{quoted(word)} " for word in words[:-1] if word)
    example = f'/{command.verb} {before}"{words[-1]} {rest}"'
    return f"{usage(command)}: a name with spaces stands in quotes, as in {example}"


def quoted(name: str) -> str:
    """The name as one word of a line."""
    return f'"{name}"' if " " in name else name


def usage(command: Command) -> str:
    shown = (one.shown if one.needed else f"[{one.shown}]" for one in command.parameters)
    return f"/{command.verb} {' '.join(shown)}".rstrip()
