"""The JavaScript client uploads files, against the real server. In a page: tests/web/test_files.py, as a browser sends
files to its own origin only."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from tests.chatd_client.people import People
from tests.chatd_client_js import places
from tests.chatd_client_js.conftest import server
from tests.harness.daemon import Daemon
from tests.harness.deadline import run

SCRIPT = """
const made = Uint8Array.from({ length: 3000000 }, (_, at) => (at * 7) % 251);
const [a, b] = await Promise.all(names.map((name) => login(server, name)));
const read = async (url) => new Uint8Array(await (await fetch(url)).arrayBuffer());
const same = async (url, blob) => equal(Buffer.compare(await read(url), new Uint8Array(await blob.arrayBuffer())), 0);
const [ann, bob] = names;
Object.assign(globalThis, { server, ann, bob, a, b, same, content: new Blob([made], { type: "text/plain" }) });
"""


@pytest.fixture(scope="module")
def people(tmp_path_factory: pytest.TempPathFactory) -> Iterator[People]:
    listen = {"http": {"serves": ["files"]}}
    daemon = Daemon(tmp_path_factory.mktemp("server"), workers=2, api=True, listen=listen)
    url = f"http://127.0.0.1:{daemon.ports['http']}"
    daemon.config["files"] = {"dir": "files", "url": url, "max_bytes": 4_000_000}
    daemon.write_config()
    try:
        yield People(daemon.start())
    finally:
        complaints = daemon.discard()
    assert not complaints, "the daemon logged errors:\n" + "\n".join(complaints[:20])


def story(people: People, *sources: str, between: Any = None) -> None:
    async def told() -> None:
        names = [await people.user(name) for name in ("ann", "bob")]
        async with places.node() as place:
            await place.run(SCRIPT, server=server(people), names=names)
            await place.run(sources[0])
            for source in sources[1:]:
                between()
                await place.run(source)

    run(told(), 60)


def test_files_go_there_with_a_message(people: People) -> None:
    story(
        people,
        r"""
    const limits = await a.files.limits();
    equal([limits.max_bytes, limits.per_message], [4000000, 10]);
    const heard = [];
    const file = await a.files.upload(content, { name: "a.txt", onprogress: (sent, size) => heard.push([sent, size]) });
    equal([file.name, file.type, file.size], ["a.txt", "text/plain", 3000000]);
    equal(heard[0], [0, 3000000]);
    check(heard.length > 2 && heard.every(([sent], at) => at === 0 || sent > heard[at - 1][0]), JSON.stringify(heard));
    const second = await a.files.upload(new File(["x"], "b.txt", { type: "text/plain; charset=utf-8" }));
    equal(second.name, "b.txt");
    const sent = await a.send(bob, "", { files: [file.id, second.id] });
    const message = await b.receive({ timeout: 9000 });
    equal([message.text, message.files, message.filesCut], ["", [file, second], false]);
    const { urls, expires } = await b.files.links(ann, message.seq);
    await same(urls.get(file.id), content);
    check(expires > Date.now() + 60000, "it is good for a while");
    equal(await b.files.url(ann, message.seq, second.id), urls.get(second.id));
    const [past] = await all(a.conversations.history(bob));
    equal([past.seq, past.files], [sent.seq, [file, second]]);
    equal(await refused(a.send(bob, "again", { files: [file.id] })), ["NotFound", Code.UNKNOWN_FILE, false]);
    await a.conversations.recall(bob, sent.seq);
    equal(await refused(b.files.url(ann, message.seq, file.id)), ["NotFound", Code.UNKNOWN_FILE, false]);
    equal((await fetch(urls.get(file.id))).status, 404);
    """,
    )


def test_what_is_refused_says_why(people: People) -> None:
    story(
        people,
        r"""
    const upload = (text, options) => refused(a.files.upload(new Blob([text]), options));
    const large = await upload("x".repeat(4000001), { name: "a", type: "text/plain" });
    equal(large, ["LimitReached", Code.FILE_TOO_LARGE, false]);
    equal(await upload("x", { name: "a", type: "text/html" }), ["NotPermitted", Code.FILE_TYPE_NOT_ALLOWED, false]);
    equal(await upload("x", { name: "a", type: "image/png" }), ["NotPermitted", Code.FILE_TYPE_NOT_ALLOWED, false]);
    equal(await upload("", { name: "a", type: "text/plain" }), ["Invalid", Code.BAD_FIELD, false]);
    const stop = new AbortController();
    let id = "";
    const onprogress = (sent) => sent > 0 && stop.abort();
    const onbegin = (file) => void (id = file);
    const cancelled = a.files.upload(content, { name: "a", signal: stop.signal, onbegin, onprogress });
    equal((await refused(cancelled))[0], "DOMException");
    equal(await refused(a.request("files.resume", { file: id })), ["NotFound", Code.UNKNOWN_FILE, false]);
    const file = await a.files.upload(new Blob(["x"], { type: "text/plain" }), { name: "a" });
    await a.files.cancel(file.id);
    equal(await refused(a.send(bob, "", { files: [file.id] })), ["NotFound", Code.UNKNOWN_FILE, false]);
    """,
    )


def test_an_upload_goes_on_after_the_server_was_killed(people: People) -> None:
    """By the same client, and by its id after the client was closed."""
    daemon = people.daemon

    def restart() -> None:
        daemon.kill_all()
        daemon.start()

    story(
        people,
        r"""
    globalThis.heard = [];
    globalThis.ids = [];
    const stopped = new Promise((resolve) => (globalThis.more = resolve));
    const fetched = globalThis.fetch;
    globalThis.fetch = async (...given) => {
      if (heard.length === 2) { reached(); await stopped; }
      return fetched(...given);
    };
    const reaching = new Promise((resolve) => (globalThis.reached = resolve));
    const onbegin = (id) => ids.push(id);
    globalThis.file = a.files.upload(content, { name: "a.txt", onprogress: (sent) => heard.push(sent), onbegin });
    await reaching;
    """,
        r"""
    more();
    const done = await file;
    equal(done.size, 3000000);
    check(heard[1] > 0 && heard.slice(2).every((one) => one >= heard[1]), `it began anew: ${heard}`);
    const sent = await a.send(bob, "", { files: [done.id] });
    const message = await b.receive({ timeout: 9000 });
    await same(await b.files.url(ann, message.seq, done.id), content);
    const onbegin = (id) => ids.push(id);
    const close = (sent) => sent > 0 && a.close({ settle: false });
    const closing = a.files.upload(content, { name: "b.txt", onprogress: close, onbegin });
    equal((await refused(closing))[0], "ClientClosed");
    const again = await login(server, ann);
    const offsets = [];
    const onprogress = (sent) => offsets.push(sent);
    const next = await again.files.upload(content, { name: "b.txt", file: ids[1], onprogress });
    equal(next.id, ids[1]);
    check(offsets[0] > 0, "it goes on");
    """,
        between=restart,
    )
