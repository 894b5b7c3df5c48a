"""The live screen of `chatctl top`.

Owns: the terminal (by prompt_toolkit), the keys, and when the server is asked again.
Elsewhere: what is shown (chatctl.show.top_text), asking (chatctl.show.top).
Fails: never; a server that cannot be asked is shown as such, and asked again.

One thread: the server is asked from the event loop, and answers in milliseconds. While a master hangs, keys wait for up
to control_client.STATUS_S.
"""

from __future__ import annotations

import asyncio
import contextlib
import shutil
from collections.abc import Callable

from prompt_toolkit.application import Application
from prompt_toolkit.formatted_text import StyleAndTextTuples
from prompt_toolkit.key_binding import KeyBindings, KeyPressEvent
from prompt_toolkit.layout import FormattedTextControl, Layout, Window
from prompt_toolkit.styles import Style

from chatd.chatctl.show.rates import ServerRates
from chatd.chatctl.show.top_text import COLUMNS, HELP, LEAST_COLUMNS, LEAST_LINES, View, lines_of

LEAST_S, MOST_S = 0.1, 60.0
STYLE = Style.from_dict({"head": "bold", "problem": "ansired bold", "keys": "reverse", "columns": "reverse"})

Ask = Callable[[], ServerRates | str]
"""Measure now; a text says why that was not possible."""


class TopScreen:
    """ask: blocks for milliseconds."""

    def __init__(self, ask: Ask, view: View) -> None:
        self._ask = ask
        self._view = view
        self._shown: ServerRates | str = "asking…"
        self._shows_help = False
        self._again = asyncio.Event()
        """The interval has changed."""
        window = Window(FormattedTextControl(self._text, show_cursor=False), wrap_lines=False)
        self._application: Application[None] = Application(
            layout=Layout(window), key_bindings=self._keys(), full_screen=True, style=STYLE
        )

    def run(self) -> None:
        """Until the person quits."""
        with contextlib.suppress(EOFError, KeyboardInterrupt):
            self._application.run(pre_run=self._begin)

    def _begin(self) -> None:
        self._application.create_background_task(self._measure())

    async def _measure(self) -> None:
        while True:
            if not self._view.is_paused:
                self._shown = self._ask()
                self._application.invalidate()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(self._view.interval_s):
                    await self._again.wait()
            self._again.clear()

    # ---------------------------------------------------------------- what is seen

    def _text(self) -> StyleAndTextTuples:
        columns, lines = shutil.get_terminal_size((LEAST_COLUMNS, LEAST_LINES))
        output = self._application.output.get_size()
        view = self._view._replace(columns=output.columns or columns, lines=output.rows or lines)
        if self._shows_help:
            return [("", "\n".join(line[: view.columns] for line in HELP[: view.lines]))]
        if isinstance(self._shown, str):
            return [("class:problem", self._shown[: view.columns * (view.lines - 1)])]
        return _styled(lines_of(self._shown, view))

    # ---------------------------------------------------------------- keys

    def _keys(self) -> KeyBindings:
        keys = KeyBindings()

        def on(*names: str) -> Callable[[Callable[[], None]], None]:
            def register(act: Callable[[], None]) -> None:
                def pressed(_event: KeyPressEvent) -> None:
                    if self._shows_help:
                        self._shows_help = False
                    else:
                        act()
                    self._application.invalidate()

                for name in names:
                    keys.add(name)(pressed)

            return register

        on("s", "right")(lambda: self._sort(1))
        on("S", "left")(lambda: self._sort(-1))
        on("r")(lambda: self._change(self._view._replace(descending=not self._view.descending)))
        on("p", "space")(lambda: self._change(self._view._replace(is_paused=not self._view.is_paused)))
        on("+")(lambda: self._pace(0.5))
        on("-")(lambda: self._pace(2.0))
        on("?", "h")(self._help)
        on("<any>")(lambda: None)
        keys.add("q")(_quit)
        keys.add("c-c")(_quit)
        keys.add("c-d")(_quit)
        return keys

    def _change(self, view: View) -> None:
        self._view = view

    def _sort(self, step: int) -> None:
        names = list(COLUMNS)
        self._change(self._view._replace(sort=names[(names.index(self._view.sort) + step) % len(names)]))

    def _pace(self, factor: float) -> None:
        interval_s = min(max(self._view.interval_s * factor, LEAST_S), MOST_S)
        self._change(self._view._replace(interval_s=interval_s))
        self._again.set()

    def _help(self) -> None:
        self._shows_help = True


def _quit(event: KeyPressEvent) -> None:
    event.app.exit()


def _styled(lines: list[str]) -> StyleAndTextTuples:
    """Each line with the style of its kind."""
    found: StyleAndTextTuples = []
    in_problem = False
    for index, line in enumerate(lines):
        in_problem = line.startswith("! ") or (in_problem and line.startswith("  "))
        style = "class:head" if index == 0 else "class:problem" if in_problem else ""
        if line.lstrip().startswith("SLOT"):
            style = "class:columns"
        if index == len(lines) - 1:
            style = "class:keys"
        found.append((style, line + ("" if index == len(lines) - 1 else "\n")))
    return found
