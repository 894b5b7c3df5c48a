"""The OpenAPI 3.1 document of the API, made from the table of routes and the structs of their bodies.

Owns: document().
Elsewhere: the routes (http.table), the page for people (http.pages), the reference in docs/api.md (docs/generate.py).
Fails: TypeError for a struct that has no JSON schema, which a test finds.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from http import HTTPStatus
from typing import Any

import msgspec

from chatd import __version__
from chatd.api_keys import SCOPES
from chatd.errors import MEANINGS, ErrorCode
from chatd.http.problems import STATUSES, Problem
from chatd.http.route import NoInput, NoOutput, Route, ZipOutput

_REF = "#/components/schemas/{name}"
_JSON = "application/json"
_FORM = "application/x-www-form-urlencoded"
_ZIP = "application/zip"
_PROBLEM = "application/problem+json"
EVERY_KEYED = (
    ErrorCode.UNKNOWN_KEY,
    ErrorCode.SCOPE_MISSING,
    ErrorCode.TOO_FAST,
    ErrorCode.BUSY,
    ErrorCode.UNAVAILABLE,
    ErrorCode.INTERNAL,
)
"""Every route that needs a key may answer with these."""
_WITH_BODY = (ErrorCode.NOT_JSON, ErrorCode.BAD_FIELD, ErrorCode.UNKNOWN_CONTENT_TYPE)
_DESCRIPTION = """\
The HTTP API of chatd, for the backends of applications. Every request needs a key in its Authorization header; \
`chatctl key add` makes one. A request with an Idempotency-Key may be repeated: it is carried out once, and answered \
as the first time. Every answer that is not a success is a problem (RFC 9457)."""


def document(routes: Sequence[Route]) -> dict[str, Any]:
    """As JSON-like data. Cost: some milliseconds."""
    kinds = _kinds(routes)
    schemas, components = msgspec.json.schema_components(kinds, ref_template=_REF)
    for one in components.values():
        if "description" in one:
            one["description"] = " ".join(one["description"].split())
    by_kind = dict(zip(kinds, schemas, strict=True))
    paths: dict[str, dict[str, Any]] = {}
    for route in routes:
        paths.setdefault(route.path, {})[route.method.lower()] = _operation(route, by_kind, components)
    made = {
        "openapi": "3.1.0",
        "info": {
            "title": "chatd",
            "version": __version__,
            "description": _DESCRIPTION,
            "license": {"name": "Apache License 2.0", "identifier": "Apache-2.0"},
        },
        "servers": [{"url": "/"}],
        "tags": [{"name": name} for name in dict.fromkeys(tag_of(route) for route in routes)],
        "paths": paths,
        "components": {
            "schemas": components,
            "securitySchemes": {"key": {"type": "http", "scheme": "bearer", "description": _scopes()}},
        },
    }
    return msgspec.json.decode(msgspec.json.encode(made), type=dict[str, Any])  # defaults are tuples


def refusals_of(route: Route) -> tuple[ErrorCode, ...]:
    """Every error that the route may answer with, each once."""
    if route.is_form:
        return ()
    every = EVERY_KEYED if route.scope else ()
    body = _WITH_BODY if route.has_body else (ErrorCode.BAD_FIELD,)
    return tuple(dict.fromkeys((*every, *body, *route.refusals)))


def tag_of(route: Route) -> str:
    """The resource that a route belongs to: the first part of its path after /v1."""
    return next(part for part in route.path.split("/") if part and part != "v1")


def _kinds(routes: Sequence[Route]) -> list[Any]:
    found: dict[Any, None] = {Problem: None}
    for route in routes:
        for kind in (route.parameters, route.input, route.output):
            if kind not in (NoInput, NoOutput, ZipOutput):
                found[kind] = None
    return list(found)


def _operation(route: Route, schemas: dict[Any, Any], components: dict[str, Any]) -> dict[str, Any]:
    parameters = _parameters(route.parameters, "path", schemas, components)
    if not route.has_body:
        parameters += _parameters(route.input, "query", schemas, components)
    if route.idempotent:
        parameters.append(_IDEMPOTENCY_KEY)
    made: dict[str, Any] = {
        "operationId": operation_id(route),
        "tags": [tag_of(route)],
        "summary": route.text,
        "responses": _responses(route, schemas),
        "security": [{"key": []}] if route.scope else [],
    }
    if route.scope:
        made["description"] = f"Needs the scope `{route.scope}`."
    if route.is_form:
        made["description"] = "The parameters may be in the query, too. The status is 200 whatever happens."
    if parameters:
        made["parameters"] = parameters
    if route.has_body:
        media_type = _FORM if route.is_form else _JSON
        made["requestBody"] = {"required": True, "content": {media_type: {"schema": schemas[route.input]}}}
    return made


def operation_id(route: Route) -> str:
    """get_users_name_sessions, for GET /v1/users/{name}/sessions."""
    words = [word for word in re.split(r"\W+", route.path) if word and word != "v1"]
    return "_".join((route.method.lower(), *words))


_IDEMPOTENCY_KEY = {
    "name": "Idempotency-Key",
    "in": "header",
    "required": False,
    "description": "The request is carried out once for each key, and answered as the first time.",
    "schema": {"type": "string", "minLength": 1, "maxLength": 64, "pattern": "^[!#-~]+$"},
}


def _parameters(kind: type, where: str, schemas: dict[Any, Any], components: Any) -> list[dict[str, Any]]:
    if kind is NoInput:
        return []
    schema = components[schemas[kind]["$ref"].rpartition("/")[2]]
    required = schema.get("required", ())
    found = []
    for name, one in schema["properties"].items():
        parameter = {"name": name, "in": where, "required": where == "path" or name in required, "schema": one}
        if "description" in one:
            parameter["description"] = one["description"]
        found.append(parameter)
    return found


def _responses(route: Route, schemas: dict[Any, Any]) -> dict[str, Any]:
    success: dict[str, Any] = {"description": HTTPStatus(route.status).phrase}
    if route.output is NoOutput:
        responses: dict[str, Any] = {str(int(HTTPStatus.NO_CONTENT)): {"description": "Done"}}
    else:
        is_file = route.output is ZipOutput
        success["content"] = {_ZIP: {}} if is_file else {_JSON: {"schema": schemas[route.output]}}
        responses = {str(int(route.status)): success}
    by_status: dict[int, list[ErrorCode]] = {}
    for code in refusals_of(route):
        by_status.setdefault(int(STATUSES[code]), []).append(code)
    if route.has_body:
        by_status.setdefault(int(HTTPStatus.REQUEST_ENTITY_TOO_LARGE), [ErrorCode.TOO_LONG])
    problem = {_PROBLEM: {"schema": schemas[Problem]}}
    for status, codes in sorted(by_status.items()):
        texts = "; ".join(f"{int(code)} {code.name.lower()}: {MEANINGS[code].text}" for code in codes)
        responses[str(status)] = {"description": texts, "content": problem}
    return responses


def _scopes() -> str:
    return "A key made by `chatctl key add NAME --scope …`. Scopes: " + "; ".join(
        f"`{name}`: {text}" for name, text in SCOPES.items()
    )
