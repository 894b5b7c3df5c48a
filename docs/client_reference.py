"""The reference of the Python client: every class that a program meets, from its source.

Owns: which classes it has, in which order, and their form in Markdown.
Elsewhere: what is written by hand around it (docs/python-client.md), which pages there are (generate.py).
Fails: KeyError for a class that is no longer where PARTS says.
"""

from __future__ import annotations

import ast
import inspect
import re
import textwrap
from collections.abc import Iterable, Iterator
from pathlib import Path

PACKAGE = Path(__file__).parent.parent / "clients" / "python" / "chatd_client"

PARTS = {
    "The client": ["client.Client", "client.MessageFields", "state.State"],
    "Options": ["options.Options", "timing.Timing", "options.Secret"],
    "Messages and users": [
        *("model.Message", "model.Sent", "model.Attachment", "model.User", "model.PendingMessage"),
        *("model.Destination", "model.Mentions"),
    ],
    "Operations": [
        *("people.Friends", "people.Blocks", "people.Privacy", "people.Profiles", "people.Presence", "groups.Groups"),
        *("conversations.Conversations", "files.Files", "files.UploadFields", "account.Account", "push.Push"),
        *("people.Who", "groups.Join", "groups.Past", "groups.Role"),
        *("conversations.PAGE", "conversations.NEWEST", "people.MAX_WATCHED"),
    ],
    "Results of operations": ["results"],
    "Events": ["events"],
    "Errors": ["errors"],
    "The chatserver wire": [
        *("chatserver.client.Client", "chatserver.stock.Stock", "chatserver.events.Listener"),
        *("chatserver.events.Happening", "chatserver.events.LoggedIn", "chatserver.events.LoggedOut"),
        *("chatserver.events.ConnectionLost", "chatserver.events.Disagreement"),
        *("chatserver.frames.Chat", "chatserver.frames.Friend", "chatserver.frames.Group", "chatserver.frames.Member"),
        *("chatserver.frames.GroupAck", "chatserver.frames.FriendRequestNotice"),
        *("chatserver.frames.FriendReplyNotice", "chatserver.session.OpenMemory", "address.ServerAddress"),
        *("address.parse_url", "memory.Memory", "memory.open_journal", "memory.Notice"),
    ],
}
"""By heading: module.name, below the package; a module alone = all that is public in it."""

LEFT_OUT = {
    "results": {"Nothing"},
    "events": {"decode"},
    "errors": {"TEMPORARY", "is_temporary", "login_refusal", "refusal", "BadFrame", "Untrusted"},
    "memory.Memory": None,
}
"""Of a module, what is of no use to a program; None = the members of a class that a program only passes on."""

Definition = ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef | ast.Assign
Function = ast.FunctionDef | ast.AsyncFunctionDef


def reference() -> list[str]:
    """The lines of the page between its marks."""
    lines: list[str] = []
    for heading, names in PARTS.items():
        lines += [f"## {heading}", ""]
        for name in _expanded(names):
            lines += _entry(name)
    return lines[:-1]


def _expanded(names: Iterable[str]) -> Iterator[str]:
    for name in names:
        if (PACKAGE / f"{name}.py").exists():
            left_out = LEFT_OUT.get(name) or set()
            public = (one for one in _definitions(name) if not one.startswith("_") and one not in left_out)
            yield from (f"{name}.{one}" for one in public)
        else:
            yield name


def _definitions(module: str) -> dict[str, tuple[Definition, str]]:
    """What a module defines at its top level, each with its docstring."""
    body = ast.parse((PACKAGE / f"{module.replace('.', '/')}.py").read_text()).body
    found: dict[str, tuple[Definition, str]] = {}
    for at, node in enumerate(body):
        if isinstance(node, ast.ClassDef | Function):
            found[node.name] = node, ast.get_docstring(node) or ""
        elif isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name):
            found[node.targets[0].id] = node, _docstring_after(body, at)
    return found


def _docstring_after(body: list[ast.stmt], at: int) -> str:
    """That of an assignment or a field: the text that follows it."""
    match body[at + 1 : at + 2]:
        case [ast.Expr(ast.Constant(str(text)))]:
            return inspect.cleandoc(text)
    return ""


# ---------------------------------------------------------------- entries


def _entry(path: str) -> list[str]:
    module, _, name = path.rpartition(".")
    node, text = _definitions(module)[name]
    lines = [f"### {_heading(module, name)}", "", *_code(_where(module, name))]
    match node:
        case ast.ClassDef():
            shown = LEFT_OUT.get(path, set()) is not None
            return lines + _class(node, text, path) if shown else lines + _paragraphs(text)
        case ast.Assign():
            return lines + _code(f"{name} = {_alternatives(node.value)}") + _paragraphs(text)
    return lines + _code(_signature(node)) + _paragraphs(text)


def _heading(module: str, name: str) -> str:
    """As a program names it."""
    if module in ("results", "events"):
        return f"{module}.{name}"
    return f"chatserver.{name}" if _exports("chatserver", name) and module.startswith("chatserver.") else name


def _where(module: str, name: str) -> str:
    """How a program gets what cannot be imported from the package; "" = it can, or its heading says it."""
    if name in (subjects := _subjects()):
        return f"chat.{subjects[name]}" if module not in ("results", "events") else ""
    found = _heading(module, name) != name or _exports("", name)
    return "" if found else f"from chatd_client.{module} import {name}"


def _exports(package: str, name: str) -> bool:
    return f'"{name}"' in (PACKAGE / package / "__init__.py").read_text().partition("__all__")[2]


def _class(node: ast.ClassDef, text: str, path: str) -> list[str]:
    bases = [name for base in node.bases if (name := ast.unparse(base)) not in ("msgspec.Struct", "Operations")]
    lines = _code(f"class {node.name}({', '.join(bases)})") if bases and path.startswith("errors.") else []
    lines += _paragraphs(text)
    if "Enum" in "".join(bases):
        lines += _values(node)
    else:
        lines += _fields(node)
    if any(ast.unparse(base) == "Operations" for base in node.bases):
        lines += ["| attribute | operations |", "|---|---|"]
        lines += [*(f"| `{field}` | [{name}](#{name.lower()}) |" for name, field in _subjects().items()), ""]
    constructed = path in ("client.Client", "chatserver.client.Client")
    for one in node.body:
        if isinstance(one, Function) and (constructed or one.name != "__init__"):
            lines += _method(one, node.name)
    return lines


def _values(node: ast.ClassDef) -> list[str]:
    lines = ["| name | value | |", "|---|---|---|"]
    for at, one in enumerate(node.body):
        if isinstance(one, ast.Assign):
            text = _inline(_docstring_after(node.body, at))
            lines.append(f"| `{ast.unparse(one.targets[0])}` | `{_source(one.value)}` | {text} |")
    return [*lines, ""]


def _fields(node: ast.ClassDef) -> list[str]:
    """Those of a struct or a TypedDict, and what an exception says of itself."""
    rows = []
    for at, one in enumerate(node.body):
        if isinstance(one, ast.AnnAssign):
            kind, default = _cell(_source(one.annotation)), _cell(_default(one.value))
            text = _inline(_docstring_after(node.body, at))
            rows.append(f"| `{ast.unparse(one.target)}` | {kind} | {default} | {text} |")
        elif isinstance(one, ast.Assign):
            rows.append(f"| `{ast.unparse(one.targets[0])}` | | {_cell(_source(one.value))} | |")
    return ["| field | type | default | |", "|---|---|---|---|", *rows, ""] if rows else []


def _cell(code: str) -> str:
    return f"`{_piped(code)}`" if code else ""


def _default(value: ast.expr | None) -> str:
    """Of a field; "" = it must be given. A field with another name on the wire has its default inside."""
    if isinstance(value, ast.Call) and ast.unparse(value.func) == "field":
        return next((_source(one.value) for one in value.keywords if one.arg == "default"), "")
    return "" if value is None else _source(value)


def _subjects() -> dict[str, str]:
    """The classes of operations, with the attribute of the client that has each."""
    node, _ = _definitions("operations")["Operations"]
    made = (one for one in ast.walk(node) if isinstance(one, ast.Assign) and isinstance(one.value, ast.Call))
    return {ast.unparse(one.value.func): ast.unparse(one.targets[0]).removeprefix("self.") for one in made}


ENTERED = {"__aenter__": "async with {name}(…) as chat: …", "__aexit__": "# leaving it"}


def _method(node: Function, owner: str) -> list[str]:
    """Nothing for what is private, or says nothing beyond the language."""
    text = ast.get_docstring(node) or ""
    if node.name in ENTERED:
        return _code(ENTERED[node.name].format(name=owner)) + _paragraphs(text)
    if node.name == "__init__":
        return _code(_signature(node).removesuffix(" -> None").replace("def __init__", owner)) + _paragraphs(text)
    if node.name.startswith("_"):
        return []
    return _code(_signature(node)) + _paragraphs(text)


# ---------------------------------------------------------------- text


def _signature(node: Function) -> str:
    arguments, decorators = _source(node.args), [ast.unparse(one) for one in node.decorator_list]
    result = _source(node.returns) if node.returns else "None"
    if "property" in decorators:
        return f"{node.name}: {result}"
    arguments = re.sub(r"^(self|cls)(, |$)", "", re.sub(r"(?<=[\w\]])=", " = ", arguments))
    arguments = re.sub(r"= _\w+", "= …", arguments)
    word = "async def" if isinstance(node, ast.AsyncFunctionDef) else "def"
    word = f"@{decorators[0]}\n{word}" if decorators else word
    return f"{word} {node.name}({arguments}) -> {result}"


def _source(node: ast.AST) -> str:
    """With the quotes of this project."""
    return ast.unparse(node).replace("'", '"')


def _alternatives(node: ast.expr) -> str:
    """Of a type; one on each line if they are many."""
    text = _source(node)
    return text if len(text) < 100 else "(\n    " + text.replace(" | ", "\n    | ") + "\n)"


def _code(text: str) -> list[str]:
    return ["```python", *text.splitlines(), "```", ""] if text else []


def _paragraphs(text: str) -> list[str]:
    lines: list[str] = []
    for block in filter(None, text.split("\n\n")):
        if block.startswith("    "):
            lines += _code(textwrap.dedent(block))
        elif block.startswith("* "):
            lines += [*(f"* {_inline(one)}" for one in re.split(r"(?:^|\n)\* ", block) if one), ""]
        else:
            lines += [_inline(block), ""]
    return lines


def _inline(text: str) -> str:
    """One line of Markdown that shows the text as it is; what stands between backquotes is code."""
    words = re.split(r"(`[^`]+`)", " ".join(text.split()))
    return _piped("".join(one if one.startswith("`") else re.sub(r"([*<>\[\]\\])", r"\\\1", one) for one in words))


def _piped(text: str) -> str:
    """In a table, a bar would end the cell."""
    return text.replace("|", "\\|")
