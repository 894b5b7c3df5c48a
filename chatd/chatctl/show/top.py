"""`chatctl top`: what is going on now.

Owns: measuring between two statuses; printing once, for scripts, or live on a terminal.
Elsewhere: the rates (chatctl.show.rates), the text (chatctl.show.top_text), the screen (chatctl.show.top_screen).
Fails: with --once as asking the server does (chatctl.control_client); on a terminal, it says so and goes on asking.
"""

from __future__ import annotations

import argparse
import sys
import time

from chatd.chatctl.control_client import ControlClient, NotAllowed, ServerUnreachable
from chatd.chatctl.render import print_json
from chatd.chatctl.show.rates import Sample, ServerRates, between
from chatd.chatctl.show.top_text import COLUMNS, View, lines_of
from chatd.errors import Exit

INTERVAL_S = 1.0
LEAST_S, MOST_S = 0.1, 60.0
SORTS = COLUMNS
_ALL_LINES = 400
"""Of --once, enough for every worker."""


class Meter:
    """The rates since the last call."""

    def __init__(self, client: ControlClient) -> None:
        self._client = client
        self._before: Sample | None = None

    def measure(self) -> ServerRates:
        """Raises: ServerUnreachable, NotAllowed."""
        now = Sample(time.monotonic(), self._client.status())
        before, self._before = self._before, now
        return between(before, now)

    def measure_or_say_why(self) -> ServerRates | str:
        try:
            return self.measure()
        except (ServerUnreachable, NotAllowed) as error:
            self._before = None
            try:
                return self._client.explain(error) if isinstance(error, ServerUnreachable) else str(error)
            except NotAllowed as denied:
                return str(denied)


def top(client: ControlClient, options: argparse.Namespace) -> int:
    """Live on a terminal; else, or with --once or --json, the rates of one interval."""
    meter = Meter(client)
    view = View(sort=options.sort, descending=options.sort != "slot", interval_s=options.interval)
    is_live = not (options.once or options.json) and sys.stdin.isatty() and sys.stdout.isatty()
    if is_live:
        from chatd.chatctl.show.top_screen import TopScreen

        TopScreen(meter.measure_or_say_why, view).run()
        return Exit.OK
    meter.measure()
    time.sleep(options.interval)
    rates = meter.measure()
    if options.json:
        print_json({"v": 1, **{name: getattr(rates, name) for name in rates.__struct_fields__}})
    else:
        shown = lines_of(rates, view._replace(lines=_ALL_LINES))[:-1]
        print("\n".join(shown).rstrip("\n"))
    return Exit.OK
