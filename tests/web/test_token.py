"""On a server whose users come with tokens of another program, the page asks for a token."""

from __future__ import annotations

from pathlib import Path

from tests.tokens.conftest import daemon_file, secret_key
from tests.tokens.keys import SECRET, hs256
from tests.web.desk import Desk, Site, Stage


def test_who_has_a_token_comes_in(tmp_path: Path, desk: Desk) -> None:
    daemon_file(tmp_path, "token.secret", SECRET)
    site = Site(
        tmp_path / "chatd",
        accounts={"login": ["token"], "registration": "closed"},
        tokens={"audience": ["chat.example"]},
        token_key=[secret_key(tmp_path)],
    )
    site.start()

    async def story(stage: Stage) -> None:
        visitor = await stage.visitor()
        page = visitor.page
        await page.goto(site.url)
        await page.get_by_label("Token").wait_for()
        assert await page.get_by_role("button", name="I have no account yet").count() == 0

        async def comes(token: str) -> None:
            await page.fill("input[name=name]", "alice")
            await page.fill("input[name=secret]", token)
            await page.click("button[type=submit]")

        await comes(hs256("alice", kid="s", aud="chat.example", lives_s=-1000.0))
        await page.get_by_role("alert").filter(has_text="token").wait_for()
        await comes(hs256("bob", kid="s", aud="chat.example"))
        await page.get_by_role("alert").filter(has_text="wrong").wait_for()
        visitor.errors.clear()  # the browser tells of the refusals itself
        await comes(hs256("alice", kid="s", aud="chat.example"))
        await visitor.is_live()
        await page.reload()
        await visitor.is_live()

    desk.play(site, story)
    assert site.discard() == []
