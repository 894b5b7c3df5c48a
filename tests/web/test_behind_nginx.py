"""Both pages in a browser, behind nginx with the shipped file: TLS ends there, and the WebSocket goes through."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, cast

import pytest

from tests.balancers.test_pages import Front
from tests.http.admin.operator import PASSWORD
from tests.web.admin.office import Operator
from tests.web.desk import Desk, Site, Stage

pytestmark = pytest.mark.slow


class Door:
    """What a stage needs of a site. url: of nginx."""

    def __init__(self, front: Front, door: str) -> None:
        self.url = f"https://127.0.0.1:{front.nginx.ports[door]}/"


@pytest.fixture(scope="module")
def front(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Front]:
    front = Front(tmp_path_factory.mktemp("front"))
    yield front
    front.nginx.kill()
    assert front.house.daemon.discard() == []


def play(desk: Desk, front: Front, door: str, story: Any) -> None:
    desk.play(cast(Site, Door(front, door)), story)


def test_two_people_chat_behind_nginx(desk: Desk, front: Front) -> None:
    async def story(stage: Stage) -> None:
        alice = await stage.person("alice", ignore_https_errors=True)
        bob = await stage.person("bob", ignore_https_errors=True)
        await alice.open("bob")
        await bob.open("alice")
        await alice.write("through nginx")
        await bob.sees("through nginx")
        await alice.state_of("through nginx", "read")
        (cookie,) = await alice.page.context.cookies()
        assert (cookie["name"], cookie["secure"], cookie["httpOnly"]) == ("__Secure-chatd", True, True)
        await alice.page.reload()
        await alice.is_live()

    play(desk, front, "page", story)


def test_an_operator_behind_nginx_sees_the_server(desk: Desk, front: Front) -> None:
    name = front.house.administrator()

    async def story(stage: Stage) -> None:
        operator = Operator(await stage.visitor(ignore_https_errors=True), name, front.house.codes[name])
        await operator.fill_in(PASSWORD, operator.codes.next())
        await operator.page.wait_for_selector(".figures dd:has-text('running')")
        await operator.page.reload()
        await operator.page.wait_for_selector(".operator")

    play(desk, front, "admin", story)
