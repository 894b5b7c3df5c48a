"""Completion: commands, and after a command what each of its parameters may be.

Owns: NameCompleter. Elsewhere: the parameters (grammar), the names (contacts). Fails: never.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from prompt_toolkit.completion import CompleteEvent, Completer, Completion
from prompt_toolkit.document import Document

from chatd.client.grammar import COMMANDS, OPTIONAL_WORDS, Kind, Parameter, quoted

if TYPE_CHECKING:
    from chatd.client.app import App
    from chatd.client.commands import Commands


class NameCompleter(Completer):
    """Names with spaces are completed in quotes. In a message to a group, @ completes members."""

    def __init__(self, app: App, commands: Commands) -> None:
        self._app = app
        self._commands = commands

    def get_completions(self, document: Document, complete_event: CompleteEvent) -> Iterable[Completion]:
        line = document.text_before_cursor
        verb, space, rest = line.partition(" ")
        if not verb.startswith("/"):
            return self._mentions(line)
        if not space:
            return _those(verb, (f"/{name}" for name in COMMANDS))
        command = COMMANDS.get(verb[1:])
        if command is None:
            return ()
        if command.verb == "help":
            return _those(rest, COMMANDS)
        words, typed = split(rest)
        return self._for_parameter(command.parameters, words, typed)

    def _mentions(self, line: str) -> Iterable[Completion]:
        _, at, typed = line.rpartition("@")
        to = self._commands.selected
        if not at or to is None or not to.group_id:
            return ()
        return _those(typed, self._app.contacts.member_names(to.group_id))

    def _for_parameter(self, parameters: tuple[Parameter, ...], words: list[str], typed: str) -> Iterable[Completion]:
        """The words before the cursor belong to the first parameters; optional ones may have been left out."""
        expected = list(parameters)
        for word in words:
            if expected and expected[0].kind is Kind.THAT_GROUP and not word.startswith("#"):
                expected.pop(0)
            if expected:
                expected.pop(0)
        choices: list[str] = []
        for parameter in expected:
            choices += self._choices(parameter, [word for word in words if word.startswith("#")])
            if parameter.kind not in OPTIONAL_WORDS:
                break
        return _those(typed, choices)

    def _choices(self, parameter: Parameter, groups: list[str]) -> Iterable[str]:
        contacts = self._app.contacts
        match parameter.kind:
            case Kind.USER:
                return map(quoted, contacts.names())
            case Kind.ASKER:
                return [*map(quoted, contacts.requests.values()), *map(str, contacts.requests)]
            case Kind.FRIEND:
                return [quoted(friend.name) for friend in contacts.friends.values()]
            case Kind.GROUP:
                return [*self._groups(""), *map(str, contacts.groups)]
            case Kind.THAT_GROUP:
                return self._groups("#")
            case Kind.PLACE:
                return [*map(quoted, contacts.names()), *self._groups("#")]
            case Kind.MEMBER:
                return map(quoted, contacts.member_names(self._group(groups)) or contacts.names())
            case Kind.CHOICE:
                return parameter.choices
        return ()

    def _groups(self, before: str) -> list[str]:
        return [quoted(f"{before}{group.name}") for group in self._app.contacts.groups.values()]

    def _group(self, words: list[str]) -> int:
        if words:
            return self._app.contacts.group_id_of(words[0])
        to = self._commands.selected
        return to.group_id if to is not None else 0


def split(rest: str) -> tuple[list[str], str]:
    """The whole words before the cursor, without quotes, and what is typed of the next one, with its quote."""
    words: list[str] = []
    while True:
        rest = rest.lstrip()
        if rest.startswith('"'):
            word, quote, after = rest[1:].partition('"')
            if not quote:
                return words, rest
            words.append(word)
            rest = after
        else:
            word, space, after = rest.partition(" ")
            if not space:
                return words, rest
            words.append(word)
            rest = after


def _those(typed: str, choices: Iterable[str]) -> Iterable[Completion]:
    """The choices that begin as typed; a name that needs quotes also if the quote is not typed yet."""
    for choice in sorted(set(choices)):
        if choice.startswith(typed) or choice.removeprefix('"').startswith(typed):
            yield Completion(choice, start_position=-len(typed))
