"""How long messages took: from the first attempt to the acknowledgement, and to whoever was to have them."""

from __future__ import annotations

from collections.abc import Sequence

from tests.harness.journal import Line


def delays_ms(lines: Sequence[Line]) -> tuple[list[float], list[float]]:
    """Of every message: until it was acknowledged to its sender, and until it was first shown to each recipient, both
    ascending and from the first time that it was sent."""
    sent: dict[str, int] = {}
    shown: set[tuple[str, str]] = set()
    acknowledged, received = [], []
    for line in lines:
        match line.event:
            case "send":
                sent.setdefault(line.id, line.at)
            case "ok" if line.id in sent:
                acknowledged.append((line.at - sent[line.id]) / 1e6)
            case "receive" if line.id in sent and (line.id, line.user) not in shown:
                shown.add((line.id, line.user))
                received.append((line.at - sent[line.id]) / 1e6)
    return sorted(acknowledged), sorted(received)


def quantile(ascending: Sequence[float], share: float) -> float:
    return ascending[min(len(ascending) - 1, int(len(ascending) * share))]


def summary(lines: Sequence[Line]) -> str:
    parts = []
    for name, found in zip(("acknowledged", "received"), delays_ms(lines), strict=True):
        figures = ", ".join(f"p{share:g} {quantile(found, share / 100):.0f} ms" for share in (50, 99, 99.9))
        parts.append(f"{len(found)} {name}: {figures}, at most {found[-1]:.0f} ms")
    return "; ".join(parts)
