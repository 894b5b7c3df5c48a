"""What lines mean, which addresses are addresses, and what may reach a terminal."""

from __future__ import annotations

from pathlib import Path

import pytest

from chatd.client.grammar import COMMANDS, ParsedLine, Usage, understand, usage
from chatd.client.screen import clean
from chatd_client.address import ServerAddress, parse_address
from chatd_client.timing import Backoff


@pytest.mark.parametrize(
    ("line", "request_"),
    [
        ("/help", ParsedLine("help", ())),
        ("/chat bob", ParsedLine("chat", ("bob",))),
        ("/chat bob hi  there ", ParsedLine("chat", ("bob", "hi  there "))),
        ("/login alice", ParsedLine("login", ("alice",))),
        ("/login alice pass word", ParsedLine("login", ("alice", "pass word"))),
        ("/creategroup team what it is", ParsedLine("creategroup", ("team", "what it is"))),
        ('/chat "ca rol"', ParsedLine("chat", ("ca rol",))),
        ('/chat "ca rol" hi  there', ParsedLine("chat", ("ca rol", "hi  there"))),
        ('/login "ca rol" pass word', ParsedLine("login", ("ca rol", "pass word"))),
        ('/register "ca rol"', ParsedLine("register", ("ca rol",))),
        ('/accept "ca rol"', ParsedLine("accept", ("ca rol",))),
        ('/say "not a name" at all', ParsedLine("say", ('"not a name" at all',))),
        ('/chat bob "quoted text"', ParsedLine("chat", ("bob", '"quoted text"'))),
        ("/quit now", ParsedLine("quit", ())),
        ("hello /all", ParsedLine("say", ("hello /all",))),
        ("/say /quit", ParsedLine("say", ("/quit",))),
        ("chat:5:a:b", ParsedLine("chat", ("5", "a:b"))),
        ("chat:bob:hi", ParsedLine("say", ("chat:bob:hi",))),
        ("addfriend:5", ParsedLine("addfriend", ("5",))),
        ("creategroup:my team:a: b", ParsedLine("creategroup", ("my team", "a: b"))),
        ("addgroup:3", ParsedLine("joingroup", ("3",))),
        ("groupchat:3:hi all", ParsedLine("g", ("3", "hi all"))),
        ("loginout", ParsedLine("logout", ())),
        ("help", ParsedLine("help", ())),
        ("helpful", ParsedLine("say", ("helpful",))),
    ],
)
def test_lines_are_understood(line: str, request_: ParsedLine) -> None:
    assert understand(line) == request_


@pytest.mark.parametrize(
    ("line", "told"),
    [
        ("/nonsense", "unknown command /nonsense; /help lists all commands"),
        ("/", "unknown command /; /help lists all commands"),
        ("/chat", "/chat NAME|ID [TEXT]"),
        ("/chat  ", "/chat NAME|ID [TEXT]"),
        ("/say", "/say TEXT"),
        ("/accept", "/accept ID|NAME"),
        ("/register ca rol", '/register NAME: a name with spaces stands in quotes, as in /register "ca rol"'),
        ("/accept ca rol", '/accept ID|NAME: a name with spaces stands in quotes, as in /accept "ca rol"'),
        ('/chat "ca rol', '/chat NAME|ID [TEXT]: a name in quotes ends with "'),
        ('/chat "" hi', '/chat NAME|ID [TEXT]: a name in quotes ends with "'),
    ],
)
def test_lines_that_cannot_be_understood(line: str, told: str) -> None:
    with pytest.raises(Usage, match="^" + told.replace("|", r"\|").replace("[", r"\[")):
        understand(line)


def test_the_page_lists_every_command() -> None:
    page = (Path(__file__).parents[2] / "docs" / "chat.md").read_text()
    for command in COMMANDS.values():
        assert f"`/{command.verb}" in page


def test_the_manual_page_has_every_command_and_option() -> None:
    page = (Path(__file__).parents[2] / "man" / "chat.1").read_text().replace("\\-", "-").replace("\\fR", "")
    for command in COMMANDS.values():
        assert f"\\fB{usage(command)}\n{command.help[0].upper()}{command.help[1:]}.\n" in page
    for option in ("--tls", "--ca", "--name", "--takeover", "--password-file", "--wait", "--no-history", "--version"):
        assert f"\\fB{option}" in page


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("/kick bob", ("", "bob")),
        ('/kick #12 "bob b"', ("#12", "bob b")),
        ('/kick "#The team" "bob b"', ("#The team", "bob b")),
        ("/mute bob 5", ("", "bob", "5")),
        ("/mute #12 bob", ("#12", "bob")),
        ('/role "bob b" admin', ("", "bob b", "admin")),
        ("/groupset #12 about all of  it", ("#12", "about", "all of  it")),
        ("/groupset name The team", ("", "name", "The team")),
        ("/edit new words", ("", "new words")),
        ("/edit 7 new words", ("7", "new words")),
        ("/edit 7", ("", "7")),
        ("/recall", ()),
        ("/recall 7", ("7",)),
        ("/remove 7", ("", "7")),
        ("/remove #12 7", ("#12", "7")),
        ("/reply 7 yes", ("7", "yes")),
        ('/history "bob b" 5', ("bob b", "5")),
        ("/history 5", ("5",)),
        ('/history "#The team"', ("#The team",)),
        ("/privacy", ()),
        ("/privacy write friends", ("write", "friends")),
        ("/profile status at  lunch", ("status", "at  lunch")),
        ("/takeover", ()),
        ("/help kick", ("kick",)),
    ],
)
def test_words_that_may_be_left_out(line: str, words: tuple[str, ...]) -> None:
    assert understand(line).words == words


@pytest.mark.parametrize(
    ("line", "told"),
    [
        ("/kick bob b", '/kick [#GROUP] NAME: a name with spaces stands in quotes, as in /kick "bob b"'),
        ("/kick #12 bob b", '/kick [#GROUP] NAME: a name with spaces stands in quotes, as in /kick #12 "bob b"'),
        ("/kick #12", "/kick [#GROUP] NAME"),
        ("/role bob b admin", "/role [#GROUP] NAME owner|admin|member"),
        ("/reply yes", "/reply SEQ TEXT"),
        ("/edit", "/edit [SEQ] TEXT"),
        ('/block "bob', '/block NAME: a name in quotes ends with "'),
    ],
)
def test_words_that_are_wrong(line: str, told: str) -> None:
    with pytest.raises(Usage) as raised:
        understand(line)
    assert str(raised.value) == told


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("localhost:6000", ServerAddress("localhost", 6000)),
        ("[::1]:6000", ServerAddress("::1", 6000)),
        ("10.0.0.1:1", ServerAddress("10.0.0.1", 1)),
    ],
)
def test_addresses(text: str, address: ServerAddress) -> None:
    assert parse_address(text) == address
    assert str(address) == text


@pytest.mark.parametrize("text", ["", "localhost", ":6000", "localhost:", "localhost:0", "localhost:65536", "a:1x"])
def test_no_addresses(text: str) -> None:
    with pytest.raises(ValueError, match="is not HOST:PORT"):
        parse_address(text)


def test_pauses_double_up_to_the_most_and_differ() -> None:
    pause = Backoff(0.2, 15.0)
    full = [0.2, 0.4, 0.8, 1.6, 3.2, 6.4, 12.8, 15.0, 15.0]
    pauses = [pause.next_s() for _ in full]
    assert all(most / 2 <= given <= most for given, most in zip(pauses, full, strict=True))
    pause.reset()
    assert pause.next_s() <= 0.2
    assert len({Backoff(1.0, 1.0).next_s() for _ in range(20)}) > 10


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("plain ü 漢 🙂", "plain ü 漢 🙂"),
        ("two\nlines\r", "two⏎lines\ufffd"),
        ("\x1b[2Jgone\x07\x9b", "\ufffd[2Jgone\ufffd\ufffd"),
        ("a\u202egnp.exe", "a\ufffdgnp.exe"),
        ("\ud800", "\ufffd"),
        ("tab\there", "tab here"),
    ],
)
def test_a_message_can_only_be_read(text: str, shown: str) -> None:
    assert clean(text) == shown
