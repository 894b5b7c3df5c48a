"""The pages: what a browser loads of them.

Owns: assets(): the files of chatd/web/static that a page needs as applications, by path; CHAT and ADMIN, the pages; the
policy that the browser enforces on them.
Elsewhere: the files themselves (chatd.web), serving one (http.page), the chat behind the one (net.websocket.mount), the
calls behind the other (http.admin).
Fails: FileNotFoundError at the first call: an installation without its files.

All files but the page itself are below a path with a digest of all of them, so that browsers keep them for good, and
never mix those of two versions.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator
from hashlib import sha256
from importlib import resources
from importlib.resources.abc import Traversable
from typing import NamedTuple

from chatd.http.page import PageApp

TYPES = {
    "js": "text/javascript; charset=utf-8",
    "css": "text/css; charset=utf-8",
    "svg": "image/svg+xml",
}
"""By the ending of a file's name; other files are not served."""
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob:; connect-src 'self'; "
    "worker-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'; "
    "require-trusted-types-for 'script'; trusted-types chatd chatd-worker"
)
"""No script and no style in the page itself, nothing of other hosts, no frame around it."""
_HEADERS = (
    (b"content-security-policy", POLICY.encode()),
    (b"cross-origin-opener-policy", b"same-origin"),
    (b"cross-origin-resource-policy", b"same-origin"),
    (b"permissions-policy", b"camera=(), geolocation=(), microphone=()"),
)
_NO_CACHE = b"no-cache"
_FOR_GOOD = b"public, max-age=31536000, immutable"
_WORKER = "sw.js"
"""A script that is no part of the page. It is at the root, because it may serve only pages below its own path; browsers
ask for it again by themselves."""
_OF_ADMIN = "admin/"
"""Where the files are that only the operator's page needs."""
_SHARED = (
    *("dialog.js", "icon.svg", "look.js", "refusals.js", "style.css", "texts.js", "ui.js"),
    *("vendor/hooks.js", "vendor/htm.js", "vendor/preact.js"),
)
"""What both pages need."""


class Page(NamedTuple):
    """path: of the page. below: of its files. file: the one that is the page."""

    path: str
    below: str
    file: str

    def has(self, name: str) -> bool:
        """Whether a file belongs to it."""
        if name.startswith((_OF_ADMIN, "vendor/uplot.")):
            return self == ADMIN
        return self == CHAT or name in _SHARED


CHAT = Page("/", "/chat", "index.html")
ADMIN = Page("/admin", "/admin/files", "admin/index.html")
BY_SERVES = {"chat": CHAT, "admin": ADMIN}
"""Which page is served for which word of listen.serves."""


def _files(folder: Traversable, prefix: str = "") -> Iterator[tuple[str, bytes]]:
    """(name, content) of every file, also in the directories below."""
    for one in sorted(folder.iterdir(), key=lambda one: one.name):
        if one.is_dir():
            yield from _files(one, f"{prefix}{one.name}/")
        else:
            yield prefix + one.name, one.read_bytes()


@functools.cache
def assets(page: Page) -> dict[str, PageApp]:
    """By path. Cost: some milliseconds, at the first call."""
    files = {name: body for name, body in _files(resources.files("chatd.web") / "static") if page.has(name)}
    digest = sha256()
    for name, body in files.items():
        digest.update(b"%s %d " % (name.encode(), len(body)) + body)
    base = f"{page.below}/{digest.hexdigest()[:16]}"
    served = {name: body for name, body in files.items() if name.rpartition(".")[2] in TYPES and name != _WORKER}
    scripts = [name for name in served if name.endswith(".js")]
    preloads = "\n    ".join(f'<link rel="modulepreload" href="{base}/{name}" />' for name in scripts)
    text = files[page.file].decode().replace("<!-- MODULES -->", preloads).replace("BASE", base)
    found = {page.path: PageApp(text.encode(), "text/html; charset=utf-8", _HEADERS, cache=_NO_CACHE)}
    for name, body in served.items():
        found[f"{base}/{name}"] = PageApp(body, TYPES[name.rpartition(".")[2]], _HEADERS, cache=_FOR_GOOD)
    if _WORKER in files:
        found[f"/{_WORKER}"] = PageApp(files[_WORKER], TYPES["js"], _HEADERS, cache=_NO_CACHE)
    return found
