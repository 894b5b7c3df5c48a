"""What serves metrics, put together. Imported only when they are served, because of the libraries behind it.

Owns: which parts there are.
Elsewhere: each part.
Fails: never.
"""

from __future__ import annotations

from chatd.master.metrics.gate import Gate
from chatd.master.metrics.pages import Pages
from chatd.master.metrics.samples import Sources, collect
from chatd.master.watcher import Watcher


def make_gate(watcher: Watcher, sources: Sources) -> Gate:
    pages = Pages(sources.health.health, lambda: collect(sources))
    return Gate(watcher, pages.answer)
