"""Measure chatd against its limit and write the figures into docs/benchmarks.md.

Owns: the scenarios, their targets, and what they become in the table. usage: run.py [--rounds N] [--seconds S]
[--no-write]. Exit 0 whatever the figures are: a missed target is a figure, not an error. A message that was lost,
given twice or out of order is an error: exit 70.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from statistics import median

from load import Group, Run, Storm, run
from report import ONE_HOST, Row, write
from servers import Chatd, Ideal, Server, build

IDLE_USERS = 10_000
STORM_USERS = 10_000
STORM_S = 10.0
Runs = dict[str, list[Run]]


def main() -> int:
    options = options_of(__doc__)
    busy = os.getloadavg()[0]
    build()
    runs: Runs = defaultdict(list)
    with running(Ideal) as ideal, running(lambda: Chatd(1)) as one, running(lambda: Chatd(2)) as two:
        group = Group(one)
        for number in range(options.rounds):
            print(f"round {number + 1} of {options.rounds}", flush=True)
            messages(runs, ideal, one, two, options.seconds)
            fan_out(runs, group, options.seconds)
        errors = one.errors_logged() + two.errors_logged()
    with running(lambda: Chatd(1)) as fresh:
        for number in range(options.rounds):
            print(f"storm {number + 1} of {options.rounds}", flush=True)
            storm = Storm(fresh, STORM_USERS, STORM_S)
            for logins in ("first", "repeated"):
                keep(runs, f"storm, {logins}", storm.blow())
        errors += fresh.errors_logged()
    for workers in (1, 2):
        with running(lambda workers=workers: Chatd(workers)) as fresh:
            keep(runs, f"idle, workers={workers}", run(fresh, "--idle", "--seconds", "5", users=IDLE_USERS))
            errors += fresh.errors_logged()
    for wire in ("mobileimsdk-ws", "page"):
        with running(lambda: Chatd(1)) as fresh:
            keep(runs, f"idle, {wire}", run(fresh, "--idle", "--seconds", "5", wire=wire, users=IDLE_USERS))
            errors += fresh.errors_logged()
    show(table(runs, errors), options, busy, ONE_HOST)
    return 70 if wrong(runs) or errors else 0


def show(rows: list[Row], options: argparse.Namespace, busy: float, page_table: str) -> None:
    """Print the figures and, unless told not to, write them into the page."""
    for row in rows:
        print(row.line())
    if options.write:
        write(rows, options.rounds, options.seconds, busy, page_table)


def options_of(usage: str) -> argparse.Namespace:
    """The command line of a benchmark, whose docstring is `usage`."""
    parser = argparse.ArgumentParser(description=usage.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=3, help="how often everything is repeated; the medians count")
    parser.add_argument("--seconds", type=float, default=5.0, help="how long one measurement takes")
    parser.add_argument("--no-write", dest="write", action="store_false", help="only print the figures")
    return parser.parse_args()


@contextmanager
def running(start: Callable[[], Server]) -> Iterator[Server]:
    server = start()
    try:
        yield server
    except RuntimeError:
        print(server.last_words(), file=sys.stderr)
        raise
    finally:
        server.stop()


def messages(runs: Runs, ideal: Server, one: Server, two: Server, seconds: float) -> None:
    """One round: everything that is compared runs next to what it is compared with."""
    last = ("--seconds", str(seconds))
    for window in ("1", "4"):
        for name, server in (("ideal", ideal), ("one", one)):
            keep(runs, f"{name}, window {window}", run(server, "--window", window, *last))
        keep(runs, f"one, udp, window {window}", run(one, "--window", window, *last, wire="mobileimsdk-udp"))
        keep(runs, f"one, ws, window {window}", run(one, "--window", window, *last, wire="mobileimsdk-ws"))
        keep(runs, f"one, tls, window {window}", run(one, "--window", window, *last, wire="mobileimsdk-tls"))
        keep(runs, f"one, wss, window {window}", run(one, "--window", window, *last, wire="mobileimsdk-wss"))
        keep(runs, f"two, window {window}", run(two, "--window", window, *last, cross=True))
    for name, server in (("ideal", ideal), ("one", one), ("two", two)):
        keep(runs, f"{name}, rate", run(server, "--rate", "5000", *last, cross=server is two))
        if name == "one":
            keep(runs, "one, udp, rate", run(server, "--rate", "5000", *last, wire="mobileimsdk-udp"))
            keep(runs, "one, ws, rate", run(server, "--rate", "5000", *last, wire="mobileimsdk-ws"))
    keep(runs, "one, chatserver", run(one, "--window", "4", *last, wire="chatserver"))


def fan_out(runs: Runs, group: Group, seconds: float) -> None:
    last = ("--seconds", str(seconds))
    keep(runs, "group, QoS", group.run("--window", "4", *last))
    keep(runs, "group, no QoS", group.run("--window", "4", "--qos", "false", *last))
    for rate in ("20", "60"):
        keep(runs, f"group, rate {rate}", group.run("--rate", rate, *last))


def keep(runs: Runs, name: str, one: Run) -> None:
    runs[name].append(one)
    figures = f"{one.per_s:.0f}/s, {one.cpu_us:.1f} µs, p99 {one.p99_us} µs"
    if one.sent == 0:
        figures = f"{one.logins_per_s:.0f} logins/s, {one.idle_kb:.2f} kB each"
    print(f"  {name}: {figures}", flush=True)
    if any(one.wrong.values()):
        print(f"  WRONG: {one.wrong}", flush=True)


def wrong(runs: Runs) -> int:
    """Messages that were lost, doubled, reordered or refused, and connections lost, in all runs."""
    return sum(sum(one.wrong.values()) for of in runs.values() for one in of)


def table(runs: Runs, errors: int) -> list[Row]:
    def mid(name: str, figure: str) -> float:
        return median(getattr(one, figure) for one in runs[name])

    def against(name: str, other: str) -> float:
        """The median over the rounds of this server's messages/s divided by the other's in the same round."""
        return median(a.per_s / b.per_s for a, b in zip(runs[name], runs[other], strict=True))

    def cost(name: str, other: str) -> float:
        """The same of the server's CPU per message."""
        return median(a.cpu_us / b.cpu_us for a, b in zip(runs[name], runs[other], strict=True))

    rows = []
    for window, least in (("1", 0.25), ("4", 0.15)):
        name = f"one, window {window}"
        what = f"window {window}, 1 worker"
        rows += [
            Row(f"{what}: messages/s", mid(name, "per_s"), "", digits=0),
            Row(f"{what}: share of `ideal`'s messages/s", against(name, f"ideal, window {window}"), f">= {least}"),
            Row(f"{what}: server CPU per message, µs", mid(name, "cpu_us"), "<= 45" if window == "4" else "", digits=1),
            Row(f"{what}: p99 latency, ms", mid(name, "p99_us") / 1000, "", digits=1),
            Row(f"`ideal`, window {window}: messages/s", mid(f"ideal, window {window}", "per_s"), "", digits=0),
            Row(
                f"`ideal`, window {window}: CPU per message, µs", mid(f"ideal, window {window}", "cpu_us"), "", digits=1
            ),
        ]
    rows += [
        Row("5,000 messages/s, 1 worker: p50 latency, ms", mid("one, rate", "p50_us") / 1000, "", digits=1),
        Row("5,000 messages/s, 1 worker: p99 latency, ms", mid("one, rate", "p99_us") / 1000, "< 25", digits=1),
        Row("5,000 messages/s, 1 worker: server CPU per message, µs", mid("one, rate", "cpu_us"), "", digits=1),
        Row("5,000 messages/s, 2 workers: p99 latency, ms", mid("two, rate", "p99_us") / 1000, "", digits=1),
        Row("2 workers, window 4: users whose partner is on the other worker", mid("two, window 4", "crossed"), ""),
        Row("2 workers, window 4: messages/s", mid("two, window 4", "per_s"), "", digits=0),
        Row("2 workers against 1, window 4: messages/s", against("two, window 4", "one, window 4"), ">= 1"),
        Row("2 workers against 1, window 1: messages/s", against("two, window 1", "one, window 1"), ""),
        Row("2 workers, window 4: server CPU per message, µs", mid("two, window 4", "cpu_us"), "", digits=1),
        Row(
            "chatserver wire, streaming, window 4, 1 worker: messages/s", mid("one, chatserver", "per_s"), "", digits=0
        ),
        Row("chatserver wire, window 4: server CPU per message, µs", mid("one, chatserver", "cpu_us"), "", digits=1),
    ]
    for load, words in (("window 1", "window 1"), ("window 4", "window 4"), ("rate", "5,000 messages/s")):
        for wire, short, target in (("UDP", "udp", "<= 1.5"), ("WebSocket", "ws", "<= 1.35")):
            name = f"one, {short}, {load}"
            rows += [
                Row(f"{wire}, {words}, 1 worker: server CPU per message, µs", mid(name, "cpu_us"), "", digits=1),
                Row(f"{wire} against TCP, {words}: server CPU per message", cost(name, f"one, {load}"), target),
            ]
    for window in ("1", "4"):
        target = "<= 1.5" if window == "4" else ""
        for wire, short, plain in (
            ("TLS", "tls", f"one, window {window}"),
            ("wss", "wss", f"one, ws, window {window}"),
        ):
            name = f"one, {short}, window {window}"
            than = "TCP" if short == "tls" else "ws"
            rows += [
                Row(
                    f"{wire}, window {window}, 1 worker: server CPU per message, µs", mid(name, "cpu_us"), "", digits=1
                ),
                Row(f"{wire} against {than}, window {window}: server CPU per message", cost(name, plain), target),
            ]
    rows.append(Row("TLS, window 4, 1 worker: messages/s", mid("one, tls, window 4", "per_s"), "", digits=0))
    rows.append(Row("UDP, window 4, 1 worker: messages/s", mid("one, udp, window 4", "per_s"), "", digits=0))
    rows.append(Row("WebSocket, window 4, 1 worker: messages/s", mid("one, ws, window 4", "per_s"), "", digits=0))
    for workers in (1, 2):
        name, of = f"idle, workers={workers}", f"{IDLE_USERS:,} first logins, {workers} worker{'s' * (workers > 1)}"
        rows += [
            Row(f"{of}: logins/s", mid(name, "logins_per_s"), ">= 1000", digits=0),
            Row(f"{of}: p99 of a login, ms", mid(name, "login_p99_us") / 1000, "", digits=0),
            Row(f"{of}, then idle: PSS per connection, kB", mid(name, "idle_kb"), "<= 6"),
        ]
    rows += _group_rows(mid) + _storm_rows(mid)
    for wire, of in (("mobileimsdk-ws", "WebSocket"), ("page", "chat page")):
        what = f"{of}, {IDLE_USERS:,} first logins, 1 worker, then idle: PSS per connection, kB"
        rows.append(Row(what, mid(f"idle, {wire}", "idle_kb"), "<= 4"))
    sent = sum(one.sent for of in runs.values() for one in of)
    rows.append(Row(f"lost, doubled, reordered or refused, of {sent:,} messages", wrong(runs), "<= 0", digits=0))
    rows.append(Row("errors logged", errors, "<= 0", digits=0))
    return rows


def _group_rows(mid: Callable[[str, str], float]) -> list[Row]:
    rows = []
    for name, load, target in (
        ("group, QoS", "QoS, window 4", ">= 60000"),
        ("group, no QoS", "no QoS, window 4", ">= 60000"),
        ("group, rate 20", "QoS, 20 messages/s", ""),
        ("group, rate 60", "QoS, 60 messages/s", ">= 60000"),
    ):
        what = f"1,000-member group, {load}"
        rows += [
            Row(f"{what}: deliveries per second and core", mid(name, "per_cpu_s"), target, digits=0),
            Row(f"{what}: server CPU per delivery, µs", mid(name, "cpu_us"), "", digits=1),
            Row(f"{what}: deliveries/s", mid(name, "per_s"), "", digits=0),
            Row(f"{what}: p50 latency of a delivery, ms", mid(name, "p50_us") / 1000, "", digits=0),
            Row(f"{what}: p99 latency of a delivery, ms", mid(name, "p99_us") / 1000, "", digits=0),
            Row(f"{what}: copies in one read of a member", mid(name, "per_read"), "", digits=1),
            Row(f"{what}: the generator's share of a core", mid(name, "generator_busy"), ""),
        ]
    return rows


def _storm_rows(mid: Callable[[str, str], float]) -> list[Row]:
    rows = []
    for logins in ("first", "repeated"):
        name, what = f"storm, {logins}", f"{STORM_USERS:,} {logins} logins over {STORM_S:g} s"
        rows += [
            Row(f"{what}: p50 of 2,000 messages/s of others, ms", mid(name, "p50_us") / 1000, "", digits=1),
            Row(f"{what}: p99 of 2,000 messages/s of others, ms", mid(name, "p99_us") / 1000, "< 100", digits=1),
            Row(f"{what}: logins/s", mid(name, "logins_per_s"), "", digits=0),
            Row(f"{what}: p99 of a login, ms", mid(name, "login_p99_us") / 1000, "", digits=0),
        ]
    return rows


if __name__ == "__main__":
    sys.exit(main())
