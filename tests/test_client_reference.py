"""The reference of the Python client has all that a program meets: compared with the library as it is imported."""

from __future__ import annotations

import inspect
import re
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import chatd_client
from chatd_client import chatserver, errors, events, results
from chatd_client.operations import Operations

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT / "docs"))

import client_reference  # noqa: E402

PAGE = (ROOT / "docs" / "python-client.md").read_text()
FOREIGN = {
    *("Any", "AsyncIterator", "Awaitable", "Callable", "Exception", "False", "Iterable", "Literal", "Mapping", "None"),
    *("NoReturn", "OSError", "Path", "SSLContext", "Sequence", "T", "TaskGroup", "TimeoutError", "Unpack", "IntEnum"),
    *("Enum", "True", "Protocol"),
}
"""Words with a capital letter in types that are Python's."""


def sections(page: str) -> dict[str, str]:
    """What stands below each heading, by the name in it."""
    parts = re.split(r"^### (.+)\n", page, flags=re.MULTILINE)
    return dict(zip(parts[1::2], parts[2::2], strict=True))


def met_by_programs() -> Iterator[tuple[str, type]]:
    """The heading and the class of all that is exported, and of what these hold."""
    for package, prefix in ((chatd_client, ""), (chatserver, "chatserver.")):
        for name in package.__all__:
            yield f"{prefix}{name}", getattr(package, name)
    for module, prefix in ((results, "results."), (events, "events."), (errors, "")):
        for name, kind in vars(module).items():
            if inspect.isclass(kind) and kind.__module__ == module.__name__ and not name.startswith("_"):
                yield f"{prefix}{name}", kind
    made = re.findall(r"self\.\w+ = (\w+)\(", inspect.getsource(Operations))
    assert len(made) == 10
    for name in made:
        yield name, getattr(sys.modules[Operations.__module__], name)


NOT_FOR_PROGRAMS = {"results.Nothing", "Untrusted", "BadFrame", "chatserver.Happening"}
CLASSES = {heading: kind for heading, kind in met_by_programs() if heading not in NOT_FOR_PROGRAMS}


@pytest.mark.parametrize("heading", CLASSES)
def test_every_class_has_all_its_methods_and_fields(heading: str) -> None:
    text = sections(PAGE)[heading]
    public = [name for name in vars(CLASSES[heading]) if not name.startswith("_")]
    public += [name for name in getattr(CLASSES[heading], "__annotations__", {}) if not name.startswith("_")]
    assert [name for name in public if not re.search(rf"(?:def |^|\| `){name}\b", text, re.MULTILINE)] == []


def test_every_type_that_is_named_is_explained() -> None:
    headings = set(sections(PAGE))
    code = [
        *re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL),
        *re.findall(r"^\| `\w+` \| `([^`]+)` \|", PAGE, re.MULTILINE),
    ]
    text = re.sub(r"\"[^\"]*\"", "", "\n".join(code))
    named = set(re.findall(r"(?<![\w.])(?:results\.|events\.)?[A-Z]\w*", text))
    assert {"Sent", "results.Head", "PresenceChanged", "Literal"} <= named, "the page looks different now"
    known = headings | {heading.rpartition(".")[2] for heading in headings} | FOREIGN
    assert sorted(named - known) == []


def test_a_change_of_the_library_makes_the_page_stale(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    package = shutil.copytree(client_reference.PACKAGE, tmp_path / "chatd_client")
    monkeypatch.setattr(client_reference, "PACKAGE", package)
    before = client_reference.reference()
    account = package / "account.py"
    account.write_text(
        f'{account.read_text()}\n    async def fly(self, *, far: bool = False) -> None:\n        """Off."""\n'
    )
    added = set(client_reference.reference()) - set(before)
    assert added == {"async def fly(*, far: bool = False) -> None", "Off."}


def test_a_class_that_has_gone_is_noticed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    package = shutil.copytree(client_reference.PACKAGE, tmp_path / "chatd_client")
    monkeypatch.setattr(client_reference, "PACKAGE", package)
    state = package / "state.py"
    state.write_text(state.read_text().replace("class State(", "class Phase("))
    with pytest.raises(KeyError):
        client_reference.reference()
