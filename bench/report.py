"""The figures as tables in docs/benchmarks.md, with what is needed to judge them later.

Owns: the text between the two marks of each table. Everything outside them is written by hand.
"""

from __future__ import annotations

import operator
import os
import platform
import subprocess
import time
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from statistics import median

from servers import BUILD, LIMITS

PAGE = Path(__file__).parent.parent / "docs" / "benchmarks.md"
ONE_HOST, CLUSTER = "figures", "figures of a cluster"
"""Which table: its name between the marks."""
COMPARE = {">=": operator.ge, "<=": operator.le, "<": operator.lt}


@dataclass(frozen=True)
class Row:
    """One figure. target: "" (none), or a comparison and a number: "<= 45"."""

    what: str
    figure: float
    target: str
    digits: int = 2

    def verdict(self) -> str:
        if not self.target:
            return ""
        comparison, number = self.target.split()
        return "met" if COMPARE[comparison](self.figure, float(number)) else "**missed**"

    def line(self) -> str:
        return f"| {self.what} | {self.figure:,.{self.digits}f} | {self.target} | {self.verdict()} |"


def write(rows: list[Row], rounds: int, seconds: float, busy: float, table: str) -> None:
    """busy: the machine's load average before the run."""
    begin, end = f"<!-- {table}: written by `make bench` -->", f"<!-- end of {table} -->"
    before, rest = PAGE.read_text().split(begin)
    _, after = rest.split(end)
    lines = [begin, "", *_circumstances(rounds, seconds, busy), "", "| what | figure | target | |", "|---|--:|--:|---|"]
    lines += [row.line() for row in rows]
    PAGE.write_text(before + "\n".join([*lines, "", end]) + after)


def _circumstances(rounds: int, seconds: float, busy: float) -> list[str]:
    return [
        f"Measured on {datetime.now(UTC):%Y-%m-%d} at commit {_commit()}: {rounds} rounds of {seconds:g} s, medians.",
        f"Machine: {os.cpu_count()} cores, {_cpu_model()}; load average before the run: {busy:.1f}.",
        f"Linux {platform.release()}, Python {platform.python_version()}.",
        f"Limits: {LIMITS}.",
        f"A write of 4 KiB made durable (`fdatasync`) takes {_sync_ms():.2f} ms here (median).",
    ]


def _commit() -> str:
    def git(*words: str) -> str:
        return subprocess.run(
            ["git", *words], cwd=PAGE.parent, capture_output=True, text=True, check=True
        ).stdout.strip()

    changed = git("status", "--porcelain", "--untracked-files=no", "--", "../chatd")
    return f"`{git('rev-parse', '--short', 'HEAD')}`" + (" with uncommitted changes" if changed else "")


def _cpu_model() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.split(":", 1)[1].strip()
    return platform.machine()


def _sync_ms() -> float:
    path = BUILD / "sync"
    fd = os.open(path, os.O_CREAT | os.O_WRONLY | os.O_APPEND)
    times = []
    try:
        for _ in range(100):
            start = time.perf_counter()
            os.write(fd, bytes(4096))
            os.fdatasync(fd)
            times.append((time.perf_counter() - start) * 1000)
    finally:
        os.close(fd)
        path.unlink()
    return median(times)
