"""The application: which route serves which path.

Owns: application(), a Starlette application over the table of routes; what an unknown path or method is answered; CORS.
Elsewhere: the routes (http.table), serving one (http.dispatch), bytes (http.parser).
Fails: never.

A path without parameters is found in a dictionary before Starlette sees it: these are the routes that must be quick.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from starlette.applications import Starlette
from starlette.middleware.cors import CORSMiddleware
from starlette.routing import Route as StarletteRoute
from starlette.types import ASGIApp

from chatd.config.schema import Config
from chatd.errors import ErrorCode, Refused
from chatd.http.chat import calls as chat
from chatd.http.chat.requests import PageCallApp
from chatd.http.counting import count
from chatd.http.demo import calls as demo
from chatd.http.demo.forms import FormApp
from chatd.http.dispatch import Receive, RouteApp, Scope, Send, Shared, problem, respond
from chatd.http.page import PageApp
from chatd.http.pages import pages
from chatd.http.problems import HttpRefused
from chatd.http.route import Route
from chatd.http.table import ROUTES
from chatd.scoreboard import Row

CORS_HEADERS = ("Authorization", "Content-Type", "Idempotency-Key", "Upload-Offset")
CORS_EXPOSED = ("Idempotency-Replayed", "Retry-After", "Upload-Length", "Upload-Offset")


PAGES: dict[str, PageApp] = pages(ROUTES)
"""Made when the module is loaded, before workers are forked."""


class PathApp:
    """One path: the routes that it has, by method."""

    __slots__ = ("_allowed", "_apps", "_row")

    def __init__(self, apps: Iterable[RouteApp], row: Row) -> None:
        self._row = row
        self._apps: dict[str, RouteApp] = {app.route.method: app for app in apps}
        self._allowed = ", ".join(sorted(self._apps))

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        method = "GET" if scope["method"] == "HEAD" else scope["method"]
        app = self._apps.get(method)
        if app is not None:
            await app(scope, receive, send)
            return
        text = f"{method} is not possible here, but {self._allowed}"
        allowed = ((b"allow", self._allowed.encode()),)
        await _refuse(HttpRefused(ErrorCode.METHOD_NOT_ALLOWED, text, headers=allowed), self._row, send)


class FastPaths:
    """In front of Starlette: the paths without parameters."""

    __slots__ = ("_others", "_paths")

    def __init__(self, paths: Mapping[str, ASGIApp], others: ASGIApp) -> None:
        self._paths = paths
        self._others = others

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        path = self._paths.get(scope["path"])
        if path is not None:
            await path(scope, receive, send)
        else:
            scope["path"] = scope["raw_path"].decode("ascii", "replace")  # a name may contain an encoded slash
            await self._others(scope, receive, send)


def serves_files(config: Config, serves: Sequence[str]) -> bool:
    """Whether a listener that serves this also serves files."""
    return config.files.on and ("files" in serves or "chat" in serves)


def application(shared: Shared, serves: Sequence[str] = ("api",)) -> ASGIApp:
    """The application of those listeners of one worker that serve the same."""
    routes: tuple[Route, ...] = ()
    if "api" in serves:
        routes = (*ROUTES, *demo.ROUTES) if shared.config().http.mobileimsdk_demo else ROUTES
    by_path: dict[str, list[RouteApp]] = {}
    for route in routes:
        app = FormApp(route, shared) if route.is_form else RouteApp(route, shared)
        by_path.setdefault(route.path, []).append(app)
    if "admin" in serves:
        from chatd.http.admin.calls import apps as admin_apps

        for one in admin_apps(shared):
            by_path.setdefault(one.route.path, []).append(one)
    file_apps = _file_apps(shared, serves)
    for app in file_apps:
        by_path.setdefault(app.route.path, []).append(app)
    paths = {path: PathApp(apps, shared.row) for path, apps in by_path.items()}
    others = Starlette(routes=[StarletteRoute(path, app) for path, app in paths.items() if "{" in path])
    others.router.redirect_slashes = False

    async def unknown(scope: Scope, _receive: Receive, send: Send) -> None:
        """Starlette's own answer would not be a problem."""
        await _refuse(Refused(ErrorCode.UNKNOWN_ROUTE, f"there is nothing at {scope['path']}"), shared.row, send)

    others.router.default = unknown
    exact: dict[str, ASGIApp] = {path: app for path, app in paths.items() if "{" not in path}
    if shared.config().http.docs and routes:
        exact |= PAGES if routes is ROUTES else pages(routes)
    if "chat" in serves:
        exact |= {route.path: PathApp([PageCallApp(route, shared)], shared.row) for route in chat.ROUTES}
    exact |= _assets(serves)
    front: ASGIApp = FastPaths(exact, others)
    origins = shared.config().http.origins
    if origins:
        methods = sorted({route.method for route in routes} | {one.route.method for one in file_apps})
        front = CORSMiddleware(
            front, allow_origins=origins, allow_methods=methods, allow_headers=CORS_HEADERS, expose_headers=CORS_EXPOSED
        )
    return front


def _assets(serves: Sequence[str]) -> dict[str, PageApp]:
    """Of the pages that are served, by path."""
    if not {"chat", "admin"}.intersection(serves):
        return {}
    from chatd.http.assets import BY_SERVES, assets

    found: dict[str, PageApp] = {}
    for what, page in BY_SERVES.items():
        if what in serves:
            found |= assets(page)
    return found


def _file_apps(shared: Shared, serves: Sequence[str]) -> list[RouteApp]:
    if not serves_files(shared.config(), serves):
        return []
    from chatd.http.files.requests import FileApp
    from chatd.http.files.routes import ROUTES as FILE_ROUTES

    return [FileApp(route, shared) for route in FILE_ROUTES]


async def _refuse(refused: Refused, row: Row, send: Send) -> None:
    answer = problem(refused)
    count(row, answer.status)
    await respond(answer, send)
