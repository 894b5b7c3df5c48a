"""The commands of docs/install.md, for the tests that run them."""

from __future__ import annotations

import re
from pathlib import Path

PAGE = Path(__file__).parents[2] / "docs" / "install.md"
MOST = 10
"""Commands per way that the page promises at most."""


def commands(heading: str) -> list[str]:
    """The lines of the indented blocks below a heading, without comments."""
    text = PAGE.read_text()
    _, _, rest = text.partition(f"\n## {heading}\n")
    assert rest, f"{PAGE.name} has no {heading!r}"
    section = rest.partition("\n## ")[0]
    lines = re.findall(r"^ {4}(\S.*)$", section, re.MULTILINE)
    return [line.partition("  #")[0].rstrip() for line in lines]
