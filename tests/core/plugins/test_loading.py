"""What the options of a plug-in must say, given what it does."""

from __future__ import annotations

import asyncio

import pytest

from chatd.config.schema import AccountOptions, Config, PluginOptions
from chatd.core.plugins import loading
from chatd.core.plugins.contract import Point
from chatd.core.plugins.loading import PluginNotLoaded, problem_of

OPEN = Config(accounts=AccountOptions(login="open", insecure_open_login=True))


@pytest.mark.parametrize("point", Point)
def test_one_that_decides_must_say_what_a_failure_means(point: Point) -> None:
    problem = problem_of(PluginOptions(name="it"), [point], is_open=False)
    if point.decides:
        assert '"closed" refuses' in problem
        assert '"open" goes on' in problem
        assert point in problem
    else:
        assert problem == ""
    for fail in ("open", "closed"):
        assert problem_of(PluginOptions(name="it", fail=fail), [point], is_open=False) == ""


def test_with_open_login_a_check_of_logins_may_not_fail_open() -> None:
    points = [Point.BEFORE_MESSAGE, Point.BEFORE_LOGIN]
    assert "accounts.login" in problem_of(PluginOptions(name="it", fail="open"), points, is_open=True)
    assert problem_of(PluginOptions(name="it", fail="closed"), points, is_open=True) == ""
    assert problem_of(PluginOptions(name="it", fail="open"), points[:1], is_open=True) == ""


@pytest.mark.parametrize(
    ("hook", "option", "why"),
    [
        (PluginOptions(name="echo"), "fail", "before_request"),
        (PluginOptions(name="echo", fail="open", options={"sufix": "!"}), "", "ValueError: unknown option: sufix"),
        (PluginOptions(name="nobody"), "", "no plug-in nobody is installed"),
    ],
)
def test_what_cannot_be_used_says_why(hook: PluginOptions, option: str, why: str) -> None:
    async def story() -> None:
        with pytest.raises(PluginNotLoaded, match=why) as caught:
            loading.load(hook, OPEN, asyncio.get_running_loop())
        assert caught.value.option == option

    asyncio.run(story())
