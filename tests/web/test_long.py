"""Much on the page: a conversation of ten thousand messages, and a list of a thousand.

Fails: what takes the page longer than LONGEST_MS at once would be felt; measure on a machine that does nothing else.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.web.desk import Desk, Site, Stage
from tests.web.written import Sent, written_to

pytestmark = pytest.mark.slow
MESSAGES, PEOPLE = 10_000, 1_000
LONGEST_MS = 100
WATCH = """() => {
    window.long = [];
    new PerformanceObserver((list) => list.getEntries().forEach((one) => long.push(Math.round(one.duration))))
        .observe({ type: "longtask" });
}"""
LOAD = """async (count) => {
    const box = document.querySelector(".messages");
    while (document.querySelectorAll(".message").length < count) {
        box.scrollTop = 0;
        await new Promise((resolve) => requestAnimationFrame(resolve));
    }
}"""
SCROLL = """async () => {
    long.length = 0;
    const box = document.querySelector(".messages");
    const frames = [];
    for (let count = 0, last = performance.now(); count < 300; count += 1) {
        box.scrollTop += 900;
        await new Promise((resolve) => requestAnimationFrame(resolve));
        frames.push(performance.now() - last);
        last = performance.now();
    }
    return { median: frames.sort((one, other) => one - other)[150], long };
}"""


@pytest.fixture(scope="module")
def full(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """bob has written to alice, and everybody to carol."""
    people = [f"person{number}" for number in range(PEOPLE)]
    messages = [Sent("bob", "alice", f"message {n} {'lorem ' * (n % 40)}") for n in range(MESSAGES)]
    messages += [Sent(name, "carol", f"from {name}") for name in people]
    site = written_to(tmp_path_factory.mktemp("full"), ["alice", "bob", "carol", *people], messages)
    yield site
    assert site.discard() == []


def test_a_long_conversation_scrolls_smoothly(desk: Desk, full: Site) -> None:
    async def story(stage: Stage) -> None:
        alice = await stage.person("alice")
        await alice.page.locator(".row").click()
        await alice.page.wait_for_selector(".message")
        await alice.page.evaluate(WATCH)
        await alice.page.evaluate(LOAD, MESSAGES)
        found = await alice.page.evaluate(SCROLL)
        assert found["median"] < 1000 / 55
        assert [one for one in found["long"] if one > LONGEST_MS] == []
        await alice.page.evaluate("long.length = 0")
        await alice.write("one more")
        await alice.sees("one more")
        assert [one for one in await alice.page.evaluate("long") if one > LONGEST_MS] == []

    desk.play(full, story)


def test_a_long_list_is_shown(desk: Desk, full: Site) -> None:
    async def story(stage: Stage) -> None:
        carol = await stage.person("carol")
        await carol.page.locator(".row").nth(50).wait_for(state="attached")
        await carol.page.evaluate(WATCH)
        for count in range(100, PEOPLE, 100):
            await carol.page.locator(".sidebar .end").scroll_into_view_if_needed()
            await carol.page.locator(".row").nth(count).wait_for(state="attached")
        await carol.open("person7")
        await carol.sees("from person7")
        assert [one for one in await carol.page.evaluate("long") if one > LONGEST_MS] == []

    desk.play(full, story)
