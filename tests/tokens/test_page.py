"""The code of docs/tokens.md makes tokens that are accepted."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from chatd.config.token_options import TokenKeyOptions, TokenOptions
from chatd.tokens.keys import KeyRing, configured_keys
from chatd.tokens.verifier import Verifier
from tests.tokens.keys import SECRET

PAGE = (Path(__file__).parents[2] / "docs" / "tokens.md").read_text(encoding="utf-8")
PROGRAMS = {
    "python": ("token.py", [sys.executable]),
    "javascript": ("token.js", ["node"]),
    "php": ("token.php", ["php"]),
    "java": ("ChatToken.java", ["java", "-XX:TieredStopAtLevel=1"]),
}


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)


@pytest.mark.parametrize(
    "language", [pytest.param(one, marks=pytest.mark.slow) if one == "java" else one for one in PROGRAMS]
)
def test_the_code_of_the_page_makes_a_token(tmp_path: Path, language: str) -> None:
    name, command = PROGRAMS[language]
    if shutil.which(command[0]) is None:
        pytest.skip(f"{command[0]} is not installed")
    (source,) = blocks(language)
    (tmp_path / name).write_text(source)
    made = subprocess.run(
        [*command, name],
        cwd=tmp_path,
        env={"SECRET": SECRET, "PATH": "/usr/bin:/bin"},
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    options = tomllib.loads(blocks("toml")[0])
    tokens = TokenOptions(audience=tuple(options["tokens"]["audience"]), issuer=tuple(options["tokens"]["issuer"]))
    key = TokenKeyOptions(**{**options["token_key"][0], "secret": SECRET})
    assert Verifier(tokens).verify(made.stdout.strip(), KeyRing(configured_keys([key]))).name == "alice"
