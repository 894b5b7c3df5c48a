"""What every route promises, whatever it does: a row that is added to the table is tested by this without being named.

On one store: none of it reaches the store."""

from __future__ import annotations

import re

import pytest

from chatd.api_keys import ADMIN, SCOPES
from chatd.errors import ErrorCode
from chatd.http.route import NoInput, Route
from chatd.http.table import ROUTES
from tests.harness.api import Answer, Api
from tests.http.resources.conftest import Server

KEYED = [route for route in ROUTES if route.scope]
METHODS = ("GET", "POST", "PUT", "PATCH", "DELETE")


def _id(route: Route) -> str:
    return f"{route.method} {route.path}"


def _path(route: Route) -> str:
    """With parameters that nothing has."""
    return re.sub(r"\{[^}]*\}", "987654321", route.path)


def _ask(api: Api, route: Route, **more: object) -> Answer:
    return api.call(route.method, _path(route), {} if route.has_body else None, **more)  # type: ignore[arg-type]


every_keyed = pytest.mark.parametrize("route", KEYED, ids=_id)
with_body = pytest.mark.parametrize("route", [one for one in KEYED if one.has_body], ids=_id)


def test_no_two_routes_are_the_same() -> None:
    assert len({_id(route) for route in ROUTES}) == len(ROUTES)
    assert {route.scope for route in KEYED} <= set(SCOPES)


@every_keyed
def test_without_a_key_with_a_wrong_one_and_without_the_scope(on_one: Server, route: Route) -> None:
    nobody = on_one.another()
    for wrong in ("", "Bearer chatd_" + "x" * 43, "Basic eDp4"):
        answer = _ask(nobody, route, headers={"Authorization": wrong})
        assert (answer.status, answer.code) == (401, ErrorCode.UNKNOWN_KEY), wrong
        assert answer.headers["www-authenticate"].startswith("Bearer")
    for scope in SCOPES:
        api = on_one.another(scope.replace(":", "_"))
        answer = _ask(api, route)
        if scope not in (route.scope, ADMIN):
            assert (answer.status, answer.code) == (403, ErrorCode.SCOPE_MISSING), scope
            assert route.scope in answer.body["detail"]
        else:
            assert answer.status not in (401, 403) or answer.code != ErrorCode.SCOPE_MISSING
        api.close()


@pytest.mark.parametrize("path", sorted({_path(route) for route in ROUTES}))
def test_a_path_has_its_methods_and_no_others(on_sqlite: Server, path: str) -> None:
    allowed = {route.method for route in ROUTES if _path(route) == path}
    for method in set(METHODS) - allowed:
        answer = on_sqlite.api.call(method, path)
        assert (answer.status, answer.code) == (405, ErrorCode.METHOD_NOT_ALLOWED)
        assert set(answer.headers["allow"].split(", ")) == allowed
    assert on_sqlite.api.call("GET", f"{path}/there/is/nothing").code == ErrorCode.UNKNOWN_ROUTE


@with_body
def test_a_body_that_is_not_json_or_not_an_object(on_sqlite: Server, route: Route) -> None:
    api, path = on_sqlite.api, _path(route)
    for content_type in ("", "text/plain", "application/x-www-form-urlencoded"):
        answer = api.call(route.method, path, raw=b"{}", headers={"Content-Type": content_type})
        assert (answer.status, answer.code) == (415, ErrorCode.UNKNOWN_CONTENT_TYPE), content_type
        assert ("{}" in answer.body.get("detail", "")) == (not content_type)
    json = {"Content-Type": "application/json"}
    for raw in (b"", b"{", b"nothing", b'{"a":1}{', b"\xff", b"[" * 100_000):
        answer = api.call(route.method, path, raw=raw, headers=json)
        assert (answer.status, answer.code) in ((400, ErrorCode.NOT_JSON), (422, ErrorCode.BAD_FIELD)), raw[:9]
    for raw in (b"[]", b"1", b"null", b'"text"'):
        answer = api.call(route.method, path, raw=raw, headers=json)
        assert (answer.status, answer.code) == (422, ErrorCode.BAD_FIELD), raw
    answer = api.call(route.method, path, raw=b"{" + b" " * 300_000 + b"}", headers=json)
    assert answer.status == 413


@pytest.mark.parametrize(
    "route", [one for one in KEYED if one.input is not NoInput and not one.has_body], ids=_id
)  # fmt: skip
def test_a_query_with_a_wrong_value(on_sqlite: Server, route: Route) -> None:
    for field in route.input.__struct_fields__:
        answer = on_sqlite.api.call(route.method, _path(route), **{field: "\u0000" * 300})
        assert (answer.status, answer.code) == (422, ErrorCode.BAD_FIELD), field


@pytest.mark.parametrize("route", [one for one in KEYED if one.parameters is not NoInput], ids=_id)
def test_a_path_with_a_wrong_value(on_sqlite: Server, route: Route) -> None:
    for wrong in ("%ff", "x" * 400):
        path = re.sub(r"\{[^}]*\}", wrong, route.path)
        answer = on_sqlite.api.call(route.method, path, {} if route.has_body else None)
        assert (answer.status, answer.code) == (422, ErrorCode.BAD_FIELD), wrong


def test_head_has_the_status_of_get_and_no_body(on_one: Server) -> None:
    for route in KEYED:
        if route.method == "GET":
            get, head = (on_one.api.call(method, _path(route)) for method in ("GET", "HEAD"))
            assert (head.status, head.body) == (get.status, None), route.path
            assert head.headers["content-type"] == get.headers["content-type"]
            nobody = on_one.another()
            assert nobody.call("HEAD", _path(route), headers={"Authorization": ""}).status == 401


@pytest.mark.parametrize("route", [one for one in KEYED if one.idempotent], ids=_id)
def test_an_idempotency_key_that_is_too_long_is_refused(on_sqlite: Server, route: Route) -> None:
    answer = _ask(on_sqlite.api, route, repeat="x" * 1000)
    assert 400 <= answer.status < 500
