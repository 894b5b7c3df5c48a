"""The chat page: what a browser loads of it.

Owns: assets(): the files of chatd/web/static as applications, by path, and the policy that the browser enforces on the
page.
Elsewhere: the files themselves (chatd.web), serving one (http.page), the chat behind it (net.websocket.mount).
Fails: FileNotFoundError as the module is loaded: an installation without its files.

All files but the page itself are below a path with a digest of all of them, so that browsers keep them for good, and
never mix those of two versions.
"""

from __future__ import annotations

from hashlib import sha256
from importlib import resources

from chatd.http.page import PageApp

TYPES = {
    "js": "text/javascript; charset=utf-8",
    "css": "text/css; charset=utf-8",
    "svg": "image/svg+xml",
}
"""By the ending of a file's name; other files are not served."""
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob:; connect-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'"
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


def _files() -> dict[str, bytes]:
    """By name, below the directory."""
    root = resources.files("chatd.web") / "static"
    found = {one.name: one.read_bytes() for one in root.iterdir() if one.is_file()}
    found |= {f"vendor/{one.name}": one.read_bytes() for one in (root / "vendor").iterdir()}
    return {name: found[name] for name in sorted(found)}


def assets() -> dict[str, PageApp]:
    """By path. Cost: some milliseconds."""
    files = _files()
    digest = sha256()
    for name, body in files.items():
        digest.update(b"%s %d " % (name.encode(), len(body)) + body)
    base = f"/chat/{digest.hexdigest()[:16]}"
    served = {name: body for name, body in files.items() if name.rpartition(".")[2] in TYPES}
    scripts = [name for name in served if name.endswith(".js")]
    preloads = "\n    ".join(f'<link rel="modulepreload" href="{base}/{name}" />' for name in scripts)
    page = files["index.html"].decode().replace("<!-- MODULES -->", preloads).replace("BASE", base)
    found = {"/": PageApp(page.encode(), "text/html; charset=utf-8", _HEADERS, cache=_NO_CACHE)}
    for name, body in served.items():
        found[f"{base}/{name}"] = PageApp(body, TYPES[name.rpartition(".")[2]], _HEADERS, cache=_FOR_GOOD)
    return found


ASSETS = assets()
"""Made when the module is loaded, before workers are forked."""
