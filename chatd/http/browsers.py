"""Requests of pages in browsers: which page makes them, and the cookies that come with them.

Owns: BrowserApp, a route for pages; Head, what is read of the headers; whether the page is of another origin; reading
and setting cookies.
Elsewhere: the routes for pages (http.demo, http.chat, http.admin).
Fails: never.

A page of another origin must not act for a user who is logged in here, nor log a browser in or guess passwords with it.
Two guards stand against that, each by itself sufficient: cookies are SameSite=Strict, and a request whose Origin is not
this server's, or one that the configuration lists, is refused before anything is looked at.
"""

from __future__ import annotations

import msgspec

from chatd.errors import ErrorCode, Refused
from chatd.http.dispatch import Receive, RouteApp, Scope, Send, media_type


class Head(msgspec.Struct, kw_only=True):
    """What is read of the headers. More than one Origin or Host are no valid ones, and match nothing."""

    origins: list[bytes] = []
    hosts: list[bytes] = []
    cookies: list[bytes] = []
    sites: list[bytes] = []
    content_types: list[bytes] = []
    keys: list[bytes] = []
    codes: list[bytes] = []
    background: list[bytes] = []

    @property
    def media_type(self) -> bytes:
        """Of the body; b"" = none is given, or more than one."""
        return media_type(self.content_types[0]) if len(self.content_types) == 1 else b""


_FIELDS = {
    b"origin": "origins",
    b"host": "hosts",
    b"cookie": "cookies",
    b"sec-fetch-site": "sites",
    b"content-type": "content_types",
    b"idempotency-key": "keys",
    b"chatd-code": "codes",
    b"chatd-background": "background",
}


def is_foreign(head: Head, own: tuple[str, ...], *, is_encrypted: bool) -> bool:
    """Whether a browser says that a page of another origin makes this request. own: origins that count as this
    server's. is_encrypted: TLS ends here, so a page without it is another origin. Programs that are no browsers send
    none of these headers, and no cookie of somebody else's either."""
    if not head.origins:
        return any(one not in (b"same-origin", b"none") for one in head.sites)
    if len(head.origins) > 1 or len(head.hosts) != 1:
        return True
    origin = head.origins[0].decode("latin-1")
    if origin in own:
        return False
    scheme, _, place = origin.lower().partition("://")
    schemes = ("https",) if is_encrypted else ("http", "https")
    return scheme not in schemes or not place or place != head.hosts[0].decode("latin-1").lower()


def head_of(scope: Scope) -> Head:
    """Of a request."""
    head = Head()
    for name, value in scope["headers"]:
        if field := _FIELDS.get(name):
            getattr(head, field).append(value)
    return head


def cookie_in(headers: list[bytes], name: bytes) -> str:
    """Its value in headers Cookie; "" = it is not there, or there is more than one: then another page of the same site
    may have added its own."""
    found = []
    for header in headers:
        for pair in header.split(b";"):
            given, _, value = pair.strip().partition(b"=")
            if given == name:
                found.append(value.decode("latin-1"))
    return found[0] if len(found) == 1 else ""


class Cookie(msgspec.Struct, frozen=True, kw_only=True):
    """lifetime_s: 0 = as long as the browser runs; below 0, it is taken back."""

    name: bytes
    path: bytes
    lifetime_s: int

    def header(self, value: str, *, is_secure: bool) -> bytes:
        """Set-Cookie. is_secure: the browser is told to send it over TLS only."""
        parts = [self.name + b"=" + value.encode(), b"Path=" + self.path, b"HttpOnly", b"SameSite=Strict"]
        if self.lifetime_s:
            parts.append(b"Max-Age=%d" % max(0, self.lifetime_s))
        return b"; ".join([*parts, *([b"Secure"] if is_secure else [])])


def is_secure(head: Head, *, is_encrypted: bool) -> bool:
    """Whether the page came over TLS: to here, or to a proxy in front."""
    return is_encrypted or any(one.startswith(b"https:") for one in head.origins)


class BrowserApp(RouteApp):
    """A route that pages in browsers call, as an ASGI application: without a key, perhaps with a cookie."""

    __slots__ = ()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await super().__call__(scope, receive, send)
        self.shared.core.guard.answered(scope["state"]["connection"])

    @staticmethod
    def head(scope: Scope, origins: tuple[str, ...] | None = None) -> Head:
        """Of a request that a page of this server makes, or of one of these origins. None: of no other. Raises Refused
        NOT_ALLOWED."""
        head = head_of(scope)
        if is_foreign(head, origins or (), is_encrypted=scope["state"]["connection"].profile.is_encrypted):
            listed = "" if origins is None else " (http.origins)"
            raise Refused(ErrorCode.NOT_ALLOWED, f"a page of another origin may not call this{listed}")
        return head
