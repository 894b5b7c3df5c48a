"""The runbook has every alarm of the code, and no other."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

from chatd.chatctl.commands import NOT_REACHABLE
from chatd.config.schema import SECTIONS
from chatd.master.health import Code
from chatd.security_log import EVENTS
from tests.harness.log_events import logged, of_module

ROOT = Path(__file__).parent.parent
PAGE = (ROOT / "docs" / "runbook.md").read_text()
APART = ("client", "chatctl", "importer", "log.py")
"""Packages that write for people, and the log itself, which writes what libraries say."""


def told_events() -> set[tuple[str, str]]:
    return set(re.findall(r"^\| ([^|`]+) \| (ERROR|FATAL) \|", PAGE, re.MULTILINE))


def test_every_event_at_error_is_told_and_no_other() -> None:
    found = {(one.text, one.level) for one in logged(ROOT / "chatd", apart=APART)}
    found |= {(kind.text, "ERROR") for kind in EVENTS.values() if kind.level == "error"}
    assert len(found) > 40
    assert told_events() - found == set(), "events that the code does not log"
    assert found - told_events() == set(), "events without a row"


def test_every_security_event_at_warning_is_told_and_no_other() -> None:
    section = PAGE.partition("## Security-relevant warnings")[2]
    told = set(re.findall(r"^\| `([a-z_]+)` \|", section, re.MULTILINE))
    assert told == {event.value for event, kind in EVENTS.items() if kind.level == "warning"}


def test_every_reason_of_check_is_told_and_no_other() -> None:
    section = PAGE.partition("## Reasons of `chatctl check`")[2].partition("\n## ")[0]
    assert set(re.findall(r"^\| `([a-z-]+)` \|", section, re.MULTILINE)) == {*Code, NOT_REACHABLE}


def test_every_row_says_what_to_do() -> None:
    rows = [line for line in PAGE.splitlines() if line.startswith("| ") and not line.startswith("|---")]
    assert [row for row in rows if any(not cell.strip() for cell in row.strip("|").split(" | "))] == []


def test_options_of_the_runbook_exist() -> None:
    """tests/test_docs.py checks `section.option`; here the sections in brackets."""
    named = re.findall(r"`\[([a-z]+)\]`", PAGE)
    assert named
    assert [name for name in named if name not in SECTIONS] == []


# ---------------------------------------------------------------- the search


def events_of(source: str) -> list[tuple[str, str]]:
    return [(one.level, one.text) for one in of_module(Path("x.py"), ast.parse(source))]


def test_the_search_follows_variables_and_parameters() -> None:
    assert events_of('def f():\n    log.get().error("a", x=1)\n    log.get(slot=1).critical("b")') == [
        ("ERROR", "a"),
        ("FATAL", "b"),
    ]
    assert events_of('def f(self):\n    text = "a" if self else "b"\n    self._log.exception(text)') == [
        ("ERROR", "a"),
        ("ERROR", "b"),
    ]
    calls = 'def f(self, event):\n    logger.error(event)\ndef g(self):\n    self.f("a")\n    self.f("b")'
    assert events_of(calls) == [("ERROR", "a"), ("ERROR", "b")]


@pytest.mark.parametrize(
    "source",
    [
        "def f(x):\n    log.get().error(x.text)",
        'def f(x):\n    log.get().error(f"a {x}")',
        'def f(x):\n    write = log.get().error\n    write("a")',
    ],
)
def test_the_search_refuses_what_it_cannot_follow(source: str) -> None:
    with pytest.raises(ValueError, match=r"x.py:\d"):
        events_of(source)


def test_other_methods_of_these_names_are_no_events() -> None:
    assert events_of('def f(parser, future):\n    parser.error("wrong")\n    future.exception()') == []
