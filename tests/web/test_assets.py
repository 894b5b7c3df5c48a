"""What a browser is given: sizes, headers, caching, and that every text is there in every language."""

from __future__ import annotations

import gzip
import json
import os
import re
import subprocess
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path

import pytest

from chatd.errors import MEANINGS
from chatd.http.assets import CHAT, POLICY, Page, assets
from tests.http.raw import Raw, Said
from tests.web.desk import Site

STATIC = Path(__file__).parents[2] / "chatd" / "web" / "static"
FIRST_LOAD_BYTES = 120_000
"""Everything that is loaded before people see something, compressed."""


def fetch(site: Site, path: str, *headers: bytes) -> Said:
    with Raw(site.ports["http"]) as raw:
        return raw.ask(b"\r\n".join((b"GET " + path.encode() + b" HTTP/1.1", b"Host: a", *headers, b"", b"")))


def own_scripts() -> list[Path]:
    """Of both pages, without the libraries."""
    return [*STATIC.glob("*.js"), *(STATIC / "admin").glob("*.js")]


def linked(page: bytes) -> list[str]:
    return re.findall(r'(?:src|href)="([^"]+)"', page.decode())


def test_the_first_load_is_small(site: Site) -> None:
    page = fetch(site, "/", b"Accept-Encoding: gzip")
    assert page.headers["content-encoding"] == "gzip"
    loaded = {path: fetch(site, path, b"Accept-Encoding: gzip, br") for path in linked(gzip.decompress(page.body))}
    assert {said.status for said in loaded.values()} == {200}
    assert len(page.body) + sum(len(said.body) for said in loaded.values()) < FIRST_LOAD_BYTES


def check_modules(fetched: Callable[[str], bytes], page: Page) -> None:
    """Every module is linked, so that none is loaded later than it could be, and imports only what is there."""
    modules = {path for path in linked(fetched(page.path)) if path.endswith(".js")}
    assert modules == {path for path in assets(page) if path.endswith(".js") and path != "/sw.js"}
    for path in modules:
        text = re.sub(r"/\*\*.*?\*/", "", fetched(path).decode(), flags=re.DOTALL)
        for name in re.findall(r'(?:from|^import) ?"(\.[^"]+)"', text, re.MULTILINE):
            whole = os.path.normpath(Path(path).parent / name)
            assert whole in modules, f"{path} imports {name}"
        assert not re.search(r'\bfrom ?"[a-z@/]|import ?\(|\beval\(|new Function|document\.write', text), path
        assert "/vendor/" in path or not re.search("innerHTML|insertAdjacentHTML", text, re.IGNORECASE), path


def test_every_module_is_linked_and_imports_only_what_is_there(site: Site) -> None:
    check_modules(lambda path: fetch(site, path).body, CHAT)


def test_the_page_has_a_strict_policy_and_no_inline_code(site: Site) -> None:
    said = fetch(site, "/")
    assert said.headers["content-security-policy"] == POLICY
    for directive in ("default-src 'none'", "script-src 'self'", "style-src 'self'", "frame-ancestors 'none'"):
        assert directive in POLICY.split("; ")
    assert "unsafe" not in POLICY
    assert said.headers["x-content-type-options"] == "nosniff"
    assert said.headers["cross-origin-opener-policy"] == "same-origin"
    page = said.body.decode()
    assert not re.search(r"<script(?![^>]* src=)|<style| style=| on[a-z]+=", page)


def test_files_are_kept_for_good_and_the_page_is_asked_for_again(site: Site) -> None:
    page = fetch(site, "/")
    assert page.headers["cache-control"] == "no-cache"
    assert fetch(site, "/", b"If-None-Match: " + page.headers["etag"].encode()).status == 304
    for path in linked(page.body):
        assert "immutable" in fetch(site, path).headers["cache-control"]
    assert fetch(site, linked(page.body)[0].replace("/chat/", "/chat/0")).status == 404


@pytest.mark.parametrize(
    "path", ["/../pyproject.toml", "/chat/../../etc/passwd", "/chat/%2e%2e/%2e%2e/x", "/index.html"]
)
def test_nothing_else_is_served(site: Site, path: str) -> None:
    assert fetch(site, path).status in (400, 404)


def test_every_text_is_there_in_every_language() -> None:
    """Also those whose keys are put together."""
    texts = (STATIC / "texts.js").read_text()
    all_texts = texts + (STATIC / "admin" / "texts.js").read_text()
    rows = re.findall(r'^  "([a-z_.]+)": (\[.*\]),$', all_texts, re.MULTILINE)
    assert len({key for key, _ in rows}) == len(rows), "a text is there twice"
    table = {key: json.loads(row) for key, row in rows}
    languages = re.search(r"LANGUAGES = (\[.*?\])", texts)
    assert languages is not None
    for key, row in table.items():
        assert len(row) == len(json.loads(languages[1])), key
        places = [sorted(re.findall(r"\{\w+\}", one)) for one in row]
        assert all(one == places[0] for one in places), key
        assert all(row), key
    used = set()
    for file in own_scripts():
        used |= set(re.findall(r'\bt\((?:[^()"`]*\? )?"([a-z_.]+)"', file.read_text()))
    assert used
    assert used <= set(table), used - set(table)


def test_every_refusal_is_there_in_every_language() -> None:
    """In English with the words of the server."""
    refusals = (STATIC / "refusals.js").read_text()
    rows = [(key, json.loads(row)) for key, row in re.findall(r"^  (\w+): (\[.*\]),$", refusals, re.MULTILINE)]
    assert all(len(row) == 2 and all(row) for _, row in rows)
    by_code = {int(key): english for key, (english, _) in rows if key.isdigit() and int(key)}
    assert by_code == {int(code): meaning.text for code, meaning in MEANINGS.items()}
    assert len(rows) == len({key for key, _ in rows})


def test_the_vendored_libraries_are_as_the_readme_says() -> None:
    told = (STATIC / "vendor" / "README.md").read_text()
    files = {file.name for file in (STATIC / "vendor").glob("*.*s")}
    assert files == set(re.findall(r"`(\w+\.(?:js|css))`[ ,]", told))
    licences = (STATIC / "vendor" / "LICENCES.txt").read_text()
    named = set(re.findall(r"\| \[(\w+)\]", told.lower()))
    assert set(re.findall(r"^==== (\w+) ====$", licences, re.MULTILINE)) == named


def test_scripts_are_correct() -> None:
    for file in map(str, own_scripts()):
        done = subprocess.run(["node", "--check", file], capture_output=True, text=True, check=False, timeout=30)
        assert done.returncode == 0, done.stderr


def test_a_digest_names_what_is_served() -> None:
    (base,) = {path.rpartition("/")[0] for path in assets(CHAT) if path.count("/") == 3}
    assert re.fullmatch(r"/chat/[0-9a-f]{16}", base)
    assert len({sha256(path.encode()).hexdigest() for path in assets(CHAT)}) == len(assets(CHAT))
