"""The page of the demo in a real browser: it logs in and sends, no script reads the cookie, and pages of others, opened
in the same browser, cannot use it."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from urllib.parse import urlencode

import pytest

from tests.harness.browser import Page, browse, visit
from tests.harness.deadline import run
from tests.harness.switches import switched_off
from tests.http.demo.test_calls import SECRET, DemoHouse

pytestmark = [pytest.mark.xdist_group("http demo"), pytest.mark.slow, pytest.mark.timeout(300)]

TELL = "const tell = one => fetch(%s, {method: 'POST', mode: 'no-cors', body: JSON.stringify(one)});"
OWN_PAGE = """<!doctype html><script>
%s
const asked = new URLSearchParams(location.search);
const call = (path, fields) => fetch(path, {method: 'POST', body: new URLSearchParams(fields)}).then(got => got.json());
(async () => {
  await tell({what: 'loaded'});
  const login = await call('/api/loginConnect', {username: asked.get('name'), password: asked.get('secret')});
  const sent = await call('/api/sendMsg', {friendId: asked.get('friend'), msg: 'by the page itself'});
  await tell({what: 'sent', login, sent, cookie: document.cookie});
  location = asked.get('next');
})();
</script>"""
OTHER_PAGE = """<!doctype html><iframe name="hidden"></iframe><script>
%s
const asked = new URLSearchParams(location.search), target = asked.get('target') + '/api/sendMsg';
(async () => {
  const fields = text => new URLSearchParams({friendId: asked.get('friend'), msg: text + ' from ' + location.origin});
  const options = {method: 'POST', mode: 'no-cors', credentials: 'include', body: fields('fetched')};
  await fetch(target, options).catch(() => null);
  navigator.sendBeacon(target, fields('by beacon'));
  const form = document.createElement('form');
  form.method = 'post'; form.action = target; form.target = 'hidden';
  for (const [name, value] of fields('by form')) {
    const input = document.createElement('input');
    input.name = name; input.value = value; form.append(input);
  }
  document.body.append(form);
  document.querySelector('iframe').onload = () => tell({what: 'tried', cookie: document.cookie});
  form.submit();
})();
</script>"""


class Front(Page):
    """A web server that serves the page, and passes on what is for the API as it is, with its Host."""

    def __init__(self, html: bytes, api: int) -> None:
        super().__init__(html)
        self._api = api

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            head = await reader.readuntil(b"\r\n\r\n")
        except (asyncio.IncompleteReadError, ConnectionError):
            writer.close()
            return
        lines = head.lower().split(b"\r\n")
        length = next((int(one.partition(b":")[2]) for one in lines if one.startswith(b"content-length:")), 0)
        body = await reader.readexactly(length)
        if b" /api/" not in head.partition(b"\r\n")[0]:
            whole = asyncio.StreamReader()
            whole.feed_data(head + body)
            whole.feed_eof()
            await super().serve(whole, writer)
            return
        from_api, to_api = await asyncio.open_connection("127.0.0.1", self._api)
        to_api.write(head.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n") + body)
        writer.write(await from_api.read())
        await writer.drain()
        for one in (to_api, writer):
            one.close()


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> Iterator[DemoHouse]:
    made = DemoHouse(tmp_path_factory.mktemp("browser"))
    yield made
    assert made.daemon.discard() == []


async def heard_after(house: DemoHouse, host: str) -> list[str]:
    """What a friend has received when a user has been on the page, and then on a page of somebody else. host: of that
    one, "localhost" for another site, "127.0.0.1" for another origin of the same site."""
    name, friend = house.user("visitor"), house.user("friend")
    proxy = Front(b"", house.port)
    server = await asyncio.start_server(proxy.serve, "127.0.0.1", 0)
    proxy.origin = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    async with server, browse(b"") as other:
        other_origin = other.origin.replace("127.0.0.1", host)
        proxy.html = (OWN_PAGE % (TELL % json.dumps(proxy.origin))).encode()
        other.html = (OTHER_PAGE % (TELL % json.dumps(other_origin))).encode()
        following = f"{other_origin}/?{urlencode({'friend': friend, 'target': proxy.origin})}"
        async with visit(proxy, name=name, secret=SECRET, friend=friend, next=following):
            told = await proxy.event("sent")
            assert (told["login"], told["sent"]) == ({"code": 200, "message": "SUCCESS", "data": None},) * 2
            assert told["cookie"] == "", "no script reads it"
            assert (await other.event("tried"))["cookie"] == ""
            await asyncio.sleep(1.0)  # for the beacon, which nobody tells of
    return await asyncio.to_thread(house.heard, friend)


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1"])
def test_a_page_of_somebody_else_sends_nothing(house: DemoHouse, host: str) -> None:
    assert run(heard_after(house, host), 120) == ["by the page itself"]


def test_without_the_check_of_the_origin_a_page_of_the_same_site_sends(house: DemoHouse) -> None:
    """So the check is what stopped it; and SameSite alone stops pages of other sites."""
    with switched_off("every_page_may_call", house.daemon):
        assert run(heard_after(house, "localhost"), 120) == ["by the page itself"]
        found = run(heard_after(house, "127.0.0.1"), 120)
    assert len(found) > 1
    assert any(text.startswith("by form from http://127.0.0.1:") for text in found)
