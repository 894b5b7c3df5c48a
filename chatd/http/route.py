"""A route: one row of the table of everything that the API offers.

Owns: Route, NoInput, NoOutput; what a handler may return besides a struct.
Elsewhere: the routes, in one module per resource (http.messages and others); the table (http.table); serving a request
(http.dispatch).
Fails: never.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import msgspec

from chatd.errors import ErrorCode

if TYPE_CHECKING:
    from chatd.core.exports import Archive

Method = Literal["GET", "POST", "PUT", "PATCH", "DELETE"]
Handler = Callable[[Any, Any, Any], Awaitable[Any]]
"""Called with the http.call.Call, the parameters of the path, and the input. Returns the output. Raises what
core.calls.Calls raises, or http.problems.HttpRefused."""


class NoInput(msgspec.Struct, frozen=True):
    """Of a route without parameters, or without a body and without a query."""


class NoOutput(msgspec.Struct, frozen=True):
    """Of a route that answers 204."""


class ZipOutput(msgspec.Struct, frozen=True):
    """Of a route that answers with a file: its handler returns a Download."""


class Download(NamedTuple):
    """A zip archive. name: of the file. opened: gives the archive, complete, and is left when it has been sent."""

    name: str
    opened: AbstractAsyncContextManager[Archive]


class Streamed(NamedTuple):
    """An answer whose body comes in parts. headers: content-length included. parts: raises Unavailable, Refused."""

    status: int
    headers: list[tuple[bytes, bytes]]
    parts: AsyncIterator[bytes]


class Route(msgspec.Struct, frozen=True, kw_only=True):
    """path: parts in braces are parameters, and are read into the fields of `parameters`. scope: that the key must have
    (api_keys.SCOPES); "" = no key is needed. input: of POST, PUT and PATCH the JSON body, of GET and DELETE the query
    (whose fields are texts, numbers and booleans). output: the JSON answer. status: of a success. text: one line for
    the documentation. refusals: the codes of errors that it may answer with, besides those that every route has.
    idempotent: its handler uses Call.fp, so the request may be repeated with the same Idempotency-Key. is_form: see
    http.demo.forms, which serves it.
    """

    method: Method
    path: str
    scope: str
    handler: Handler
    text: str
    parameters: type[msgspec.Struct] = NoInput
    input: type[msgspec.Struct] = NoInput
    output: type[Any] = NoOutput
    status: HTTPStatus = HTTPStatus.OK
    refusals: tuple[ErrorCode, ...] = ()
    idempotent: bool = False
    is_form: bool = False

    @property
    def has_body(self) -> bool:
        return self.method in ("POST", "PUT", "PATCH") and self.input is not NoInput
