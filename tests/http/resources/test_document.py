"""The OpenAPI document is one, and says everything about every route."""

from __future__ import annotations

from typing import Any

from openapi_spec_validator import OpenAPIV31SpecValidator

from chatd.http.demo.calls import ROUTES as DEMO
from chatd.http.table import ROUTES

EVERY = (*ROUTES, *DEMO)


def test_it_is_an_openapi_document(document: Any) -> None:
    assert list(OpenAPIV31SpecValidator(document).iter_errors()) == []


def test_it_has_every_route_with_its_texts(document: Any) -> None:
    for route in EVERY:
        operation = document["paths"][route.path][route.method.lower()]
        assert operation["summary"] == route.text
        assert str(int(route.status)) in operation["responses"]
        if route.scope:
            assert route.scope in operation["description"]
    ids = [one["operationId"] for path in document["paths"].values() for one in path.values()]
    assert len(ids) == len(set(ids)) == len(EVERY)


def test_no_parameter_of_a_path_or_query_is_without_its_schema(document: Any) -> None:
    for path in document["paths"].values():
        for operation in path.values():
            for one in operation.get("parameters", ()):
                assert one["schema"], (operation["operationId"], one["name"])
