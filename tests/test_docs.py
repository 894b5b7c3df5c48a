"""The documentation is true: paths, modules, options, commands, exit codes and error codes exist.

What can be generated is generated (docs/generate.py) and compared; what is written by hand is searched for names.
"""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from chatd.config.options import options_of
from chatd.config.schema import SECTIONS
from chatd.errors import MEANINGS, Exit

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT / "docs"))

import generate  # noqa: E402

PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")])
TOP = {path.name for path in ROOT.iterdir()}
MODULES = {
    ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__"): path
    for path in (ROOT / "chatd").rglob("*.py")
}
OPTIONS = {f"{section}.{option.name}" for section, kind in SECTIONS.items() for option in options_of(kind)}
DECISIONS = ROOT / "docs" / "decisions"
LONGEST_FILE = 450
LONGEST_TEST = 550
"""A table of a protocol's rows, or a contract, may be a little longer."""


def page_id(path: Path) -> str:
    return str(path.relative_to(ROOT))


def code_words(text: str) -> Iterator[str]:
    """What stands between backquotes, word by word."""
    for span in re.findall(r"`([^`\n]+)`", text):
        yield from span.split()


def members(path: Path) -> set[str]:
    """Names a module defines at its top level, and `Class.method`."""
    found = set()
    for node in ast.parse(path.read_text()).body:
        if isinstance(node, ast.ClassDef):
            found |= {
                f"{node.name}.{inner.name}"
                for inner in node.body
                if isinstance(inner, ast.FunctionDef | ast.AsyncFunctionDef)
            }
        if isinstance(node, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            found.add(node.name)
        if isinstance(node, ast.Assign | ast.AnnAssign):
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            found |= {target.id for target in targets if isinstance(target, ast.Name)}
    return found


def is_in_package(name: str) -> bool:
    """`core.delivery`, `core.delivery.Delivery.catch_up`, with or without `chatd.` in front."""
    parts = name.removeprefix("chatd.").split(".")
    for length in range(len(parts), 0, -1):
        path = MODULES.get(".".join(["chatd", *parts[:length]]))
        if path is not None:
            return length == len(parts) or ".".join(parts[length:]) in members(path)
    return False


def is_in_subpackage(name: str) -> bool:
    """`store.append`: a method of some class in the package."""
    package, word = name.removeprefix("chatd.").split(".")[:2]
    paths = [path for module, path in MODULES.items() if module.startswith(f"chatd.{package}.")]
    return any(word in member.split(".") for path in paths for member in members(path))


def wrong_words(text: str) -> list[str]:
    """Words in backquotes that look like a path, a module or an option, and are none."""
    wrong = []
    packages = {name.split(".")[1] for name in MODULES if "." in name}
    for word in code_words(text):
        if re.fullmatch(r"[\w.-]+(/[\w.-]+)+/?", word) and word.split("/")[0] in TOP:
            if not (ROOT / word).exists():
                wrong.append(word)
        elif re.fullmatch(r"(chatd\.)?[a-z_]+(\.\w+)+", word):
            first = word.removeprefix("chatd.").split(".")[0]
            known = first in packages or first in SECTIONS
            if known and word not in OPTIONS and not is_in_package(word) and word not in FILES_WITH_DOTS | OPERATIONS:
                wrong.append(word)
    return wrong


FILES_WITH_DOTS = {"chatd.toml", "chatd.pid", "chatd.db", "worker.py"}
OPERATIONS = {f"files.{name}" for name in ("limits", "upload", "resume", "cancel", "link")}
OPERATIONS |= {f"push.{name}" for name in ("key", "subscribe", "unsubscribe")}
"""Requests that begin like a section of the configuration."""


@pytest.mark.parametrize("page", PAGES, ids=page_id)
def test_every_path_module_and_option_exists(page: Path) -> None:
    assert wrong_words(page.read_text()) == []


@pytest.mark.parametrize("page", PAGES, ids=page_id)
def test_every_link_leads_somewhere(page: Path) -> None:
    links = re.findall(r"\]\(([^)#]+)(?:#[^)]*)?\)", page.read_text())
    missing = [link for link in links if "://" not in link and not (page.parent / link).exists()]
    assert missing == []


@pytest.mark.parametrize(
    "text",
    [
        "`chatd/core/nowhere.py`",
        "`core.nowhere`",
        "`core.delivery.Nothing`",
        "`limits.nothing`",
        "`chatd.core.sessions.hub.Hub.fly`",
    ],
)
def test_the_search_finds_a_wrong_name(text: str) -> None:
    assert wrong_words(text) == [text.strip("`")]


@pytest.mark.parametrize(
    "text",
    [
        "`chatd/core/sessions/hub.py`",
        "`core.sessions.hub`",
        "`limits.in_flight`",
        "`core.sessions.hub.Hub.add`",
        "`docs/`",
    ],
)
def test_the_search_accepts_a_right_name(text: str) -> None:
    assert wrong_words(text) == []


def steps() -> dict[int, list[str]]:
    """The functions that each step of the tour names."""
    page = (ROOT / "docs" / "architecture.md").read_text()
    rows = re.findall(r"^\| (\d+) \| (.+?) \|", page.partition("## The path of one message")[2], re.MULTILINE)
    return {int(number): re.findall(r"`([^`]+)`", cell) for number, cell in rows}


def test_the_tour_follows_a_message_through_functions_that_exist() -> None:
    tour = steps()
    assert list(tour) == list(range(1, 11))
    for functions in tour.values():
        assert functions
        for name in functions:
            module, _, function = name.rpartition(".")
            assert is_in_package(name), name
            assert not is_in_package(f"{name}.anything"), name
            assert function[0].islower(), f"{name} is not a function"
            assert module


def test_the_page_on_concurrency_has_every_thread_and_owner_of_tasks() -> None:
    page = (ROOT / "docs" / "concurrency.md").read_text()
    sources = {name: path.read_text() for name, path in MODULES.items()}
    threads = [name for text in sources.values() for name in re.findall(r"name=f?\"([\w -{}.]+)\", daemon=True", text)]
    threads += [name for text in sources.values() for name in re.findall(r"thread_name_prefix=\"(\w+)\"", text)]
    assert {"store", "hash"} <= set(threads)
    shown = {re.sub(r"\{.*?\}", "NAME", name) for name in threads}
    assert sorted(name for name in shown if f"`{name}`" not in page) == []
    owners = [name for name, text in sources.items() if re.search(r"create_task\(|BackgroundTasks\(", text)]
    owners = [name.removeprefix("chatd.") for name in owners if not name.startswith("chatd.client")]
    missing = [name for name in owners if f"`{name}." not in page and name not in ("background", "worker")]
    assert missing == []


def test_generated_files_are_up_to_date() -> None:
    stale = [page_id(path) for path, text in generate.generated().items() if path.read_text() != text]
    assert stale == [], "run `make docs`"


def test_the_packages_name_every_module() -> None:
    page = (ROOT / "docs" / "internals" / "modules.md").read_text()
    names = [page_id(path.parent) + "/" if path.name == "__init__.py" else page_id(path) for path in MODULES.values()]
    assert [name for name in names if f"`{name}`" not in page] == []


def test_the_exit_codes_are_all_told() -> None:
    table = dict(re.findall(r"^\| (\d+) \| ([A-Z_]+) \|", (ROOT / "docs" / "operations.md").read_text(), re.MULTILINE))
    assert table == {str(int(code)): code.name for code in Exit}


def test_the_error_codes_are_all_told() -> None:
    text = (ROOT / "docs" / "protocols" / "errors.md").read_text()
    rows = re.findall(r"^\| (\d+) \| ([A-Z_]+) \| (.+?) \| (yes)? ?\|$", text, re.MULTILINE)
    told = {int(code): (name, meaning, bool(temporary)) for code, name, meaning, temporary in rows}
    assert told == {int(code): (code.name, *meaning) for code, meaning in MEANINGS.items()}


def test_commands_exist_in_the_makefile() -> None:
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    for page in PAGES:
        text = page.read_text()
        used = set(re.findall(r"(?:^    |`)make ([a-z-]+)", text, re.MULTILINE))
        assert used <= targets, page_id(page)
    assert {"run", "test"} <= set(re.findall(r"^    make ([a-z-]+)", (ROOT / "README.md").read_text(), re.MULTILINE))


@pytest.mark.parametrize("command", ["chatd", "chatctl"])
def test_what_the_pages_say_of_a_command_is_in_its_help(command: str) -> None:
    executable = Path(sys.executable).parent / command
    told = subprocess.run([executable, "--help"], capture_output=True, text=True, check=True, timeout=30).stdout
    words = set(re.findall(r"[\w-]+", told))
    for page in ("README.md", "docs/operations.md"):
        for line in re.findall(rf"(?:^    |`){command} ([^`\n]*)", (ROOT / page).read_text(), re.MULTILINE):
            arguments = re.sub(r"\[-c FILE\]|#.*|\b[A-Z]+\b|\\", " ", line)
            named = re.findall(r"(?<![\w-])-{0,2}[a-z][\w-]*|-[a-zA-Z]\b", arguments)
            unknown = [word for word in named if word.strip("[]|") not in words and command == "chatd"]
            unknown += [word for word in named[:1] if command == "chatctl" and word not in words]
            assert unknown == [], f"{page}: {command} {line}"


def test_every_command_of_chatctl_is_told() -> None:
    executable = Path(sys.executable).parent / "chatctl"
    told = subprocess.run([executable, "--help"], capture_output=True, text=True, check=True, timeout=30).stdout
    commands = set(re.findall(r"^    ([a-z][a-z-]*)", told, re.MULTILINE))
    assert "status" in commands, "the help looks different now"
    page = (ROOT / "docs" / "operations.md").read_text()
    assert [command for command in commands if not re.search(rf"^\|.*`{command}\b", page, re.MULTILINE)] == []


def test_every_decision_is_in_the_index() -> None:
    index = (DECISIONS / "README.md").read_text()
    assert [path.name for path in DECISIONS.glob("[0-9]*.md") if f"({path.name})" not in index] == []


SOURCES = sorted(
    path
    for folder in ("chatd", "clients", "tests", "bench", "docs")
    for path in (ROOT / folder).rglob("*")
    if path.suffix in (".py", ".cpp", ".hpp") and "build" not in path.parts
)


def test_no_file_is_two_nouns() -> None:
    lines = {page_id(path): len(path.read_text().splitlines()) for path in SOURCES}
    assert {
        name: count
        for name, count in lines.items()
        if count > (LONGEST_TEST if name.startswith("tests/") else LONGEST_FILE)
    } == {}


def test_every_module_says_what_it_is() -> None:
    silent = []
    for path in SOURCES:
        text = path.read_text()
        if path.suffix == ".py" and text.strip() and not ast.get_docstring(ast.parse(text)):
            silent.append(page_id(path))
    assert silent == []


def test_what_docstrings_name_exists() -> None:
    """`Elsewhere: passwords (core.accounts)` sends a reader somewhere; that place must exist."""
    packages = "|".join(
        sorted(path.name for path in (ROOT / "chatd").iterdir() if path.is_dir() and path.name[0] != "_")
    )
    wrong = []
    for path in MODULES.values():
        docstring = ast.get_docstring(ast.parse(path.read_text())) or ""
        names = re.findall(rf"(?<![\w./])((?:chatd\.)?(?:{packages})\.[a-z]\w+(?:\.\w+)*)(?![\w/])", docstring)
        pages = re.findall(r"docs/[\w/]+\.md", docstring)
        records = re.findall(r"docs/decisions/(\d{4})", docstring)
        wrong += [f"{page_id(path)}: decision {n}" for n in records if not list(DECISIONS.glob(f"{n}-*.md"))]
        wrong += [
            f"{page_id(path)}: {name}" for name in names if not is_in_package(name) and not is_in_subpackage(name)
        ]
        wrong += [f"{page_id(path)}: {page}" for page in pages if not (ROOT / page).exists()]
    assert wrong == []


def test_no_module_is_named_after_nothing() -> None:
    absent = {"utils", "util", "helpers", "helper", "common", "manager", "processor", "service", "misc"}
    assert [page_id(path) for path in SOURCES if path.stem in absent or absent & set(path.stem.split("_"))] == []
