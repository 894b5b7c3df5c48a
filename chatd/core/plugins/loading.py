"""Making the plug-ins that a configuration names.

Owns: finding and calling an entry point, and what a plug-in's options must say, given what it does.
Elsewhere: who loads plug-ins: every worker (worker), and `chatd -t` (plugin_check).
Fails: PluginNotLoaded, with a text that says why and in which option.
"""

from __future__ import annotations

import asyncio
from collections.abc import Collection
from importlib.metadata import entry_points

from chatd.config.schema import Config, PluginOptions
from chatd.config.validate import HOOK_GROUP
from chatd.core.plugins.contract import Point, functions_of
from chatd.core.plugins.plugin import Plugin
from chatd.errors import ChatdError

_SHOWN_POINTS = 3


class PluginNotLoaded(ChatdError):
    """A plug-in cannot be used. option: of its [[hook]] that is wrong, "" = none in particular. Caught in worker and
    plugin_check."""

    def __init__(self, option: str, text: str) -> None:
        super().__init__(text)
        self.option = option


def load(hook: PluginOptions, config: Config, loop: asyncio.AbstractEventLoop) -> Plugin:
    """The plug-in that hook names, ready to be called from this loop. Raises PluginNotLoaded."""
    made = make(hook, config)
    return Plugin(hook, made, loop)


def make(hook: PluginOptions, config: Config) -> object:
    """What the entry point of hook returns, which is a plug-in whose options say what they must. Runs the plug-in's own
    code. Raises PluginNotLoaded."""
    name = hook.entry_point or hook.name
    try:
        found = tuple(entry_points(group=HOOK_GROUP, name=name))
        if not found:
            raise ValueError(f"no plug-in {name} is installed")
        made: object = found[0].load()(hook.options)
        points = functions_of(made).keys()
    except (Exception, SystemExit) as error:
        raise PluginNotLoaded("", f"{type(error).__name__}: {error}") from error
    if problem := problem_of(hook, points, is_open="open" in config.accounts.kinds):
        raise PluginNotLoaded("fail", problem)
    return made


def problem_of(hook: PluginOptions, points: Collection[Point], *, is_open: bool) -> str:
    """What is wrong with hook.fail for a plug-in with these points; "" = nothing. is_open: anybody may log in."""
    deciding = sorted(point for point in points if point.decides)
    if deciding and not hook.fail:
        shown = ", ".join(deciding[:_SHOWN_POINTS]) + (", …" if len(deciding) > _SHOWN_POINTS else "")
        return (
            f'is missing: the plug-in decides ({shown}), so say what a failure means: "closed" refuses what '
            'it was asked about (for a check that must hold), "open" goes on as if the plug-in were not there (for a '
            "service that may be missing)"
        )
    if is_open and hook.fail == "open" and Point.BEFORE_LOGIN in points:
        return (
            'must be "closed" while accounts.login is "open": nothing but this plug-in\'s before_login keeps anybody '
            "out, and whoever makes it fail would be let in"
        )
    return ""
