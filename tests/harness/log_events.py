"""The events that the code logs at ERROR and FATAL, read from the source.

Owns: finding the calls of a logger, and the fixed texts that their first argument can be.
Elsewhere: what is asked of each event (tests.test_runbook).
Fails: ValueError for a call whose text cannot be found out: an event must be a text that can be grepped.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

LEVELS = {"error": "ERROR", "exception": "ERROR", "critical": "FATAL"}
"""Methods of a logger, and the level of what they write."""
_Function = ast.FunctionDef | ast.AsyncFunctionDef


class LogEvent(NamedTuple):
    level: str
    text: str
    where: str


def logged(package: Path, apart: tuple[str, ...] = ()) -> list[LogEvent]:
    """Of every module of the package; apart: first parts of modules that do not log, such as programs for people."""
    found: list[LogEvent] = []
    for path in sorted(package.rglob("*.py")):
        if path.relative_to(package).parts[0] not in apart:
            found += of_module(path, ast.parse(path.read_text()))
    return found


def of_module(path: Path, tree: ast.Module) -> Iterator[LogEvent]:
    """Raises ValueError, also for a method of a logger that is not called where it is named."""
    parents = {child: node for node in ast.walk(tree) for child in ast.iter_child_nodes(node)}
    for node in ast.walk(tree):
        if not isinstance(node, ast.Attribute) or node.attr not in LEVELS or not _is_logger(node.value):
            continue
        where = f"{path.name}:{node.lineno}"
        call = parents[node]
        if not isinstance(call, ast.Call) or call.func is not node:
            raise ValueError(f"{where}: {ast.unparse(node)} is not called here, so its events cannot be found")
        for text in _texts(call.args[0], _function_of(node, parents), tree, where) if call.args else ():
            yield LogEvent(LEVELS[node.attr], text, where)


def _is_logger(node: ast.expr) -> bool:
    """`log.get()`, `log.get(...)`, `self._log`, `logger`, `get()` of the log itself."""
    text = ast.unparse(node)
    return text.startswith(("log.get(", "get(")) or text.endswith(("_log", "logger", ".log")) or text == "log"


def _function_of(node: ast.AST, parents: dict[ast.AST, ast.AST]) -> _Function | None:
    while node in parents:
        node = parents[node]
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            return node
    return None


def _texts(node: ast.expr, function: _Function | None, tree: ast.Module, where: str) -> list[str]:
    """What the expression can be: a text, one of two texts, a variable or a parameter that is one."""
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        return [node.value]
    if isinstance(node, ast.IfExp):
        return [text for one in (node.body, node.orelse) for text in _texts(one, function, tree, where)]
    if isinstance(node, ast.Name) and function is not None:
        assigned = [
            one.value
            for one in ast.walk(function)
            if isinstance(one, ast.Assign) and any(isinstance(t, ast.Name) and t.id == node.id for t in one.targets)
        ]
        passed = [] if assigned else _passed(node.id, function, tree)
        texts = [text for one in assigned or passed for text in _texts(one, function, tree, where)]
        if texts:
            return texts
    raise ValueError(f"{where}: the event is not a fixed text: {ast.unparse(node)}")


def _passed(name: str, function: _Function, tree: ast.Module) -> list[ast.expr]:
    """What callers in this module pass as the parameter."""
    parameters = [one.arg for one in function.args.args if one.arg != "self"]
    if name not in parameters:
        return []
    at = parameters.index(name)
    calls = [
        node
        for node in ast.walk(tree)
        if isinstance(node, ast.Call) and ast.unparse(node.func).split(".")[-1] == function.name
    ]
    return [call.args[at] for call in calls if len(call.args) > at]
