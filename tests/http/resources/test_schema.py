"""Requests that nobody has thought of: schemathesis makes them from the OpenAPI document of a real server, those that
the document allows and those that it does not, and judges the answers by it."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from schemathesis import GenerationMode, checks

from chatd.http.demo.calls import ROUTES as DEMO
from chatd.http.route import Route
from chatd.http.table import ROUTES
from tests.http.resources.conftest import Server

SLOWEST_S = 5.0
"""No answer takes longer; this machine may be busy."""
_NOT_JUDGED = [checks.ignored_auth, checks.unsupported_method, checks.positive_data_acceptance]
"""Another test asks every route without a key, and with every method (test_every_route); and which names and texts are
acceptable, no schema can say: core refuses them with an answer that is in the document."""

every_route = pytest.mark.parametrize("route", [*ROUTES, *DEMO], ids=lambda route: f"{route.method} {route.path}")


@pytest.fixture(scope="session")
def schema(document: Any) -> Any:
    """Without its keys: every request has one, so none is wrong because it has not."""
    found = copy.deepcopy(document)
    del found["components"]["securitySchemes"]
    for path in found["paths"].values():
        for operation in path.values():
            del operation["security"]
    return schemathesis.openapi.from_dict(found)


def _try(schema: Any, server: Server, route: Route, examples: int) -> None:
    chosen = settings(
        max_examples=examples,
        deadline=None,
        derandomize=True,
        database=None,
        phases=[Phase.explicit, Phase.generate],
        suppress_health_check=list(HealthCheck),
    )

    operation = schema[route.path][route.method]

    @chosen
    @given(
        case=operation.as_strategy(generation_mode=GenerationMode.POSITIVE)
        | operation.as_strategy(generation_mode=GenerationMode.NEGATIVE)
    )
    def ask(case: schemathesis.Case) -> None:
        response = case.call(
            base_url=f"http://127.0.0.1:{server.daemon.ports['http']}",
            headers={"Authorization": f"Bearer {server.keys['all']}"},
        )
        assert response.elapsed < SLOWEST_S
        assert response.status_code < 500, response.text
        # The calls of the demo refuse with status 200.
        excluded = [*_NOT_JUDGED, checks.negative_data_rejection] if route.is_form else _NOT_JUDGED
        case.validate_response(response, excluded_checks=excluded)

    ask()


@every_route
def test_no_request_breaks_the_server_or_its_document(schema: Any, on_sqlite: Server, route: Route) -> None:
    _try(schema, on_sqlite, route, 5)


@pytest.mark.slow
@every_route
def test_no_request_of_many_breaks_the_server_or_its_document(schema: Any, on_sqlite: Server, route: Route) -> None:
    _try(schema, on_sqlite, route, 200)
