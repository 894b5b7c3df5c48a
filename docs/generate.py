"""Write what is generated from the code: the sample configuration, manual pages, and the tables in docs/.

Owns: which files are generated, and the tables. usage: generate.py [--check]; with --check nothing is written and the
exit code is 1 when a file is out of date. tests/test_docs.py checks the same.
"""

from __future__ import annotations

import ast
import sys
from pathlib import Path
from typing import get_type_hints

import client_reference
import manual_pages
import msgspec

from chatd.chatctl import __main__ as chatctl
from chatd.config import render as config_render
from chatd.config.options import allowed_values, options_of, toml
from chatd.config.schema import SECTIONS
from chatd.core.dispatcher import ASKS
from chatd.core.plugins.contract import ACTIONS, NotAsked, Point
from chatd.core.requests.notices import NOTICES
from chatd.core.requests.operations import described
from chatd.errors import MEANINGS, Disconnect, Exit
from chatd.http.table import ROUTES
from chatd.master.metrics import table as metrics_table
from chatd.master.status import WorkerStatus
from chatd.net.websocket.connection import CLOSE_CODES
from chatd.security_log import EVENTS
from chatd.setup import __main__ as chatd_setup

ROOT = Path(__file__).parent.parent

EXIT_MEANINGS = {
    Exit.OK: "success",
    Exit.USAGE: "wrong arguments",
    Exit.UNAVAILABLE: "the store, the bus or (chatctl) the server cannot be reached, or a worker cannot start",
    Exit.BUG: "a bug in chatd; the error log has the traceback",
    Exit.OS: "the operating system refused something: bind, fork, open files",
    Exit.CANNOT_CREATE: "a file or directory cannot be created",
    Exit.TRY_AGAIN: "not now: another server is running, the store is in use, or an operation is under way",
    Exit.PERMISSION: "permission denied: root without --allow-root, or the wrong user",
    Exit.CONFIG: "the configuration is wrong; one line `file: key: what` says where",
}


def generated() -> dict[Path, str]:
    """Every generated file with the content it should have."""
    return {
        ROOT / "etc" / "chatd.toml": config_render.sample(),
        ROOT / "man" / "chatd.toml.5": config_render.manual(),
        **_with_table("docs/internals/modules.md", "modules", modules()),
        **_with_table("docs/configuration.md", "options", options()),
        **_with_table("docs/hooks.md", "points", points()),
        **_with_tables("docs/protocols/mobileimsdk.md", {"operations": operations(), "notices": notices()}),
        **_with_tables("docs/protocols/errors.md", {"error codes": error_codes(), "ends": ends()}),
        **_with_table("docs/internals/errors-and-limits.md", "costs", costs()),
        **_with_tables("docs/operations.md", {"worker status": worker_status(), "exit codes": exit_codes()}),
        **_with_table("docs/security.md", "security events", security_events()),
        **_with_table("docs/api.md", "routes", routes()),
        **_with_table("docs/metrics.md", "metrics", metrics()),
        **_with_table("docs/python-client.md", "reference", client_reference.reference()),
        **_with_commands("man/chatctl.8", manual_pages.commands(chatctl.parser())),
        **_with_commands("man/chatd-setup.8", manual_pages.commands(chatd_setup.parser())),
    }


def modules() -> list[str]:
    """Every module with the first paragraph of its docstring; packages are bold."""
    lines = ["| module | |", "|---|---|"]
    for path in [*_modules_of(ROOT / "chatd"), *_modules_of(ROOT / "clients" / "python" / "chatd_client")]:
        paragraph = (ast.get_docstring(ast.parse(path.read_text())) or "").split("\n\n")[0]
        is_package = path.name == "__init__.py"
        name = f"{path.parent.relative_to(ROOT)}/" if is_package else str(path.relative_to(ROOT))
        lines.append(_row(f"**`{name}`**" if is_package else f"`{name}`", " ".join(paragraph.split())))
    return lines


def _modules_of(package: Path) -> list[Path]:
    return sorted(package.rglob("*.py"), key=lambda path: (len(path.parts), path.parts[:-1], path.name))


def options() -> list[str]:
    lines = ["| option | values | default | takes effect | |", "|---|---|---|---|---|"]
    for section, kind in SECTIONS.items():
        for option in options_of(kind):
            default = "" if option.default is msgspec.NODEFAULT else f"`{toml(option.default)}`"
            cells = [f"`{section}.{option.name}`", allowed_values(option), default, option.effect]
            lines.append(_row(*cells, option.description))
    return lines


def error_codes() -> list[str]:
    lines = ["| code | name | text | temporary |", "|--:|---|---|---|"]
    for code, meaning in MEANINGS.items():
        lines.append(_row(str(int(code)), code.name, meaning.text, "yes" if meaning.temporary else ""))
    return lines


def ends() -> list[str]:
    lines = ["| reason | text | WebSocket | comes back |", "|---|---|--:|---|"]
    for reason in Disconnect:
        lines.append(_row(reason.name, reason.text, str(int(CLOSE_CODES[reason])), "yes" if reason.come_back else ""))
    return lines


def operations() -> list[str]:
    lines = ["| op | arguments | result | once | |", "|---|---|---|---|---|"]
    for name, op in sorted(described().items()):
        fields = msgspec.inspect.type_info(op.arguments).fields  # type: ignore[attr-defined]
        arguments = ", ".join(
            f"`{one.encode_name}{'' if one.required else '?'}`: "
            + ("conversation" if one.encode_name == "with" else _values(one.type))
            for one in fields
        )
        lines.append(_row(f"`{name}`", arguments, f"`{op.result}`", "once" if op.write else "", op.text))
    return lines


def costs() -> list[str]:
    """What operations take from their user's allowance, the request itself included."""
    by_cost: dict[tuple[int, int], list[str]] = {}
    for name, op in sorted(described().items()):
        by_cost.setdefault(tuple(op.cost), []).append(f"`{name}`")  # type: ignore[arg-type]
    lines = ["| commands | changes | requests |", "|--:|--:|---|"]
    return lines + [_row(str(cost[0]), str(cost[1] or ""), ", ".join(names)) for cost, names in sorted(by_cost.items())]


def points() -> list[str]:
    """What plug-ins are asked about, and what they are not asked about, with the reason."""
    named = {f"`{name}`": op.asks for name, op in sorted(described().items())}
    sent = {f"`{kind.__name__}`": asks for kind, asks in ASKS.items()}
    lines = ["| point | commands of the chatserver wire | requests of the mobileimsdk wire |", "|---|---|---|"]
    for point in (one for one in Point if one in ACTIONS):
        cells = [", ".join(name for name, asks in table.items() if asks is point) for table in (sent, named)]
        lines.append(_row(f"`{point}`", *cells))
    reasons: dict[str, list[str]] = {}
    for name, asks in (sent | named).items():
        if isinstance(asks, NotAsked):
            reasons.setdefault(asks, []).append(name)
    return lines + [_row("not asked", ", ".join(names), reason) for reason, names in reasons.items()]


def _values(kind: msgspec.inspect.Type) -> str:
    """A type in words, with its limits."""
    inspect = msgspec.inspect
    match kind:
        case inspect.StrType():
            return f"text ≤ {kind.max_length}" if kind.max_length else "text"
        case inspect.BoolType():
            return "true or false"
        case inspect.IntType():
            return f"{kind.ge}…{kind.le}" if kind.le is not None else "int"
        case inspect.LiteralType():
            return " or ".join(f'"{value}"' for value in sorted(kind.values))
        case inspect.StructType():
            return f"{{{', '.join(f'{one.encode_name}: {_values(one.type)}' for one in kind.fields)}}}"
        case inspect.ListType():
            return f"{kind.min_length}…{kind.max_length} of ({_values(kind.item_type)})"
        case inspect.DictType():
            return "{with: seq}"
        case inspect.UnionType():
            kinds = [one for one in kind.types if not isinstance(one, inspect.NoneType)]
            return "user" if len(kinds) > 1 else _values(kinds[0])
    raise ValueError(f"no words for {kind}")


def notices() -> list[str]:
    lines = ["| event | fields | |", "|---|---|---|"]
    return lines + [_row(f"`{name}`", f"`{fields}`", text) for name, (fields, text) in NOTICES.items()]


def worker_status() -> list[str]:
    lines = ["| field | unit | meaning |", "|---|---|---|"]
    kinds = get_type_hints(WorkerStatus, include_extras=True)
    for name in WorkerStatus.__struct_fields__:
        field = kinds[name].__metadata__[0]
        lines.append(_row(f"`{name}`", field.unit, field.meaning))
    return lines


def security_events() -> list[str]:
    lines = ["| `security` | record | level | caused by | counted as | |", "|---|---|---|---|---|---|"]
    levels = {"info": "NORMAL", "warning": "WARNING", "error": "ERROR"}
    for event, kind in EVENTS.items():
        counter = f"`{kind.counter}`" if kind.counter else ""
        lines.append(_row(f"`{event}`", kind.text, levels[kind.level], kind.by.value, counter, kind.meaning))
    return lines


def metrics() -> list[str]:
    lines = ["| metric | kind | labels | |", "|---|---|---|---|"]
    for one in metrics_table.metrics():
        lines.append(
            _row(f"`{one.shown}`", one.kind.value, ", ".join(f"`{label}`" for label in one.labels), one.meaning)
        )
    return lines


def exit_codes() -> list[str]:
    lines = ["| exit code | name | meaning |", "|--:|---|---|"]
    return lines + [_row(str(int(code)), code.name, EXIT_MEANINGS[code]) for code in Exit]


def routes() -> list[str]:
    """What the HTTP API offers. The fields of requests and answers are in /openapi.json."""
    lines = ["| request | scope | repeatable | |", "|---|---|---|---|"]
    for one in ROUTES:
        repeatable = "by key" if one.idempotent else "" if one.method == "POST" else "yes"
        lines.append(_row(f"`{one.method} {one.path}`", f"`{one.scope}`" if one.scope else "", repeatable, one.text))
    return lines


def _row(*cells: str) -> str:
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"


def _with_table(page: str, name: str, table: list[str]) -> dict[Path, str]:
    return _with_tables(page, {name: table})


def _with_tables(page: str, tables: dict[str, list[str]]) -> dict[Path, str]:
    """The page with each table between its two marks. Raises ValueError when a mark is missing."""
    path = ROOT / page
    text = path.read_text()
    for name, table in tables.items():
        begin, end = f"<!-- {name}: written by `make docs` -->\n", f"<!-- end of {name} -->"
        before, rest = text.split(begin)
        _, after = rest.split(end)
        text = f"{before}{begin}\n" + "\n".join(table) + f"\n\n{end}{after}"
    return {path: text}


def _with_commands(page: str, lines: list[str]) -> dict[Path, str]:
    """The manual page with its commands between the two marks. Raises ValueError when a mark is missing."""
    path = ROOT / page
    begin, end = '.\\" commands: written by `make docs`\n', '.\\" end of commands\n'
    before, rest = path.read_text().split(begin)
    _, after = rest.split(end)
    return {path: before + begin + "".join(f"{line}\n" for line in lines) + end + after}


def main(arguments: list[str]) -> int:
    stale = [path for path, text in generated().items() if not path.exists() or path.read_text() != text]
    for path in stale:
        print(f"{'out of date' if arguments else 'written'}: {path.relative_to(ROOT)}")
        if not arguments:
            path.write_text(generated()[path])
    return 1 if stale and arguments else 0


if __name__ == "__main__":
    if sys.argv[1:] not in ([], ["--check"]):
        sys.exit("usage: generate.py [--check]")
    sys.exit(main(sys.argv[1:]))
