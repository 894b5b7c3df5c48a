"""/openapi.json, and /docs, the same for people.

Owns: the pages, which are made once, from the OpenAPI document. No script runs in them, and nothing is loaded from
elsewhere: the Content-Security-Policy allows one style sheet of this server.
Elsewhere: the document (http.openapi), serving a page (http.page).
Fails: never.
"""

from __future__ import annotations

import html
from collections.abc import Iterator, Sequence
from typing import Any

import msgspec

from chatd.http.openapi import document
from chatd.http.page import PageApp
from chatd.http.route import Route

_POLICY = (
    b"content-security-policy",
    b"default-src 'none'; style-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
)


def pages(routes: Sequence[Route]) -> dict[str, PageApp]:
    """By path. Cost: some milliseconds for each."""
    made = document(routes)
    return {
        "/openapi.json": PageApp(msgspec.json.encode(made), "application/json", (_POLICY,)),
        "/docs": PageApp(page(made).encode(), "text/html; charset=utf-8", (_POLICY,)),
        "/docs/style.css": PageApp(STYLE.encode(), "text/css; charset=utf-8", (_POLICY,)),
    }


# -------------------------------------------------------------------- the page

STYLE = """\
:root { color-scheme: light dark; font: 16px/1.5 system-ui, sans-serif; }
body { max-width: 60rem; margin: 2rem auto; padding: 0 1rem; }
code, .path { font-family: ui-monospace, monospace; }
section { border-top: 1px solid #8885; margin-top: 2rem; }
.method { display: inline-block; min-width: 4.5rem; font-weight: bold; }
table { border-collapse: collapse; width: 100%; }
th, td { text-align: left; vertical-align: top; padding: .25rem .75rem .25rem 0; border-top: 1px solid #8883; }
"""


def page(made: dict[str, Any]) -> str:
    """The document as HTML."""
    head = f"{_text(made['info']['title'])} {_text(made['info']['version'])}"
    parts = [
        '<!doctype html><html lang="en"><meta charset="utf-8">',
        '<meta name="viewport" content="width=device-width">',
        f'<title>{head}: HTTP API</title><link rel="stylesheet" href="/docs/style.css">',
        f"<h1>{head}: HTTP API</h1><p>{_marked(made['info']['description'])}</p>",
        f"<p>{_marked(made['components']['securitySchemes']['key']['description'])}</p>",
        '<p>For programs: <a href="/openapi.json">openapi.json</a></p><nav><ul>',
    ]
    operations = [(path, method, one) for path, methods in made["paths"].items() for method, one in methods.items()]
    parts += [
        f'<li><a href="#{_text(one["operationId"])}"><span class="method">{method.upper()}</span>'
        f'<span class="path">{_text(path)}</span></a> {_text(one["summary"])}</li>'
        for path, method, one in operations
    ]
    parts.append("</ul></nav>")
    for path, method, one in operations:
        parts += _operation(path, method, one)
    parts.append("<h2>Bodies</h2>")
    for name, schema in made["components"]["schemas"].items():
        parts += _schema(name, schema)
    return "".join((*parts, "</html>"))


def _operation(path: str, method: str, one: dict[str, Any]) -> Iterator[str]:
    yield f'<section id="{_text(one["operationId"])}"><h2><span class="method">{method.upper()}</span>'
    yield f'<span class="path">{_text(path)}</span></h2><p>{_text(one["summary"])} '
    yield f"{_marked(one.get('description', ''))}</p>"
    if "parameters" in one:
        yield "<table><tr><th>parameter</th><th>in</th><th>type</th><th></th></tr>"
        for each in one["parameters"]:
            yield f"<tr><td><code>{_text(each['name'])}</code></td><td>{_text(each['in'])}</td>"
            yield f"<td>{_type(each['schema'])}</td><td>{_marked(each.get('description', ''))}</td></tr>"
        yield "</table>"
    if "requestBody" in one:
        yield f"<p>Body: {' or '.join(_type(body['schema']) for body in one['requestBody']['content'].values())}</p>"
    yield "<table><tr><th>status</th><th>body</th><th></th></tr>"
    for status, response in one["responses"].items():
        bodies = [
            _type(body["schema"]) if "schema" in body else kind for kind, body in response.get("content", {}).items()
        ]
        yield f"<tr><td>{status}</td><td>{', '.join(bodies)}</td><td>{_text(response['description'])}</td></tr>"
    yield "</table></section>"


def _schema(name: str, schema: dict[str, Any]) -> Iterator[str]:
    yield f'<section id="schema-{_text(name)}"><h3><code>{_text(name)}</code></h3>'
    yield f"<p>{_marked(schema.get('description', ''))}</p>"
    if "properties" not in schema:
        yield f"<p>{_type(schema)}</p></section>"
        return
    yield "<table><tr><th>field</th><th>type</th><th></th></tr>"
    for field, one in schema["properties"].items():
        needed = "" if field in schema.get("required", ()) else " (optional)"
        yield f"<tr><td><code>{_text(field)}</code>{needed}</td><td>{_type(one)}</td>"
        yield f"<td>{_marked(one.get('description', ''))}</td></tr>"
    yield "</table></section>"


def _type(schema: dict[str, Any]) -> str:
    """A schema in a few words."""
    if "$ref" in schema:
        name = schema["$ref"].rpartition("/")[2]
        return f'<a href="#schema-{_text(name)}"><code>{_text(name)}</code></a>'
    if "anyOf" in schema:
        return " or ".join(_type(one) for one in schema["anyOf"])
    if "enum" in schema:
        return " or ".join(f"<code>{_text(str(one))}</code>" for one in schema["enum"])
    if schema.get("type") == "array":
        return f"list of {_type(schema.get('items', {}))}"
    return _text(str(schema.get("type", "anything")))


def _text(text: str) -> str:
    return html.escape(text)


def _marked(text: str) -> str:
    """A text in which words between backquotes are code."""
    parts = _text(text).split("`")
    return "".join(f"<code>{part}</code>" if number % 2 else part for number, part in enumerate(parts))
