"""`chat` sends files and gets them, with a real chatd."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path

from tests.harness.daemon import Daemon

from .process import run

MakeDaemon = Callable[..., Daemon]


def test_files_are_sent_shown_and_saved(make_daemon: MakeDaemon, tmp_path: Path) -> None:
    daemon = make_daemon(api=True, listen={"http": {"serves": ["files"]}})
    daemon.config["files"] = {"dir": "files", "url": f"http://127.0.0.1:{daemon.ports['http']}"}
    daemon.write_config()
    daemon.start()
    address = f"127.0.0.1:{daemon.ports['chatserver']}"
    sent, into = tmp_path / "two words.txt", tmp_path / "into"
    sent.write_text("some notes")
    into.mkdir()

    def chat(name: str, *lines: str) -> list[str]:
        first = ("/register " + name, "pw") if lines[0] == "new" else ()
        script = "\n".join((*first, f"/login {name} pw", *lines[len(first) // 2 :], ""))
        return asyncio.run(run(tmp_path / name, [address], script))[1]

    chat("bob", "new")
    told = chat("alice", "new", "/chat bob", f"/send-file {sent}", "/send-file /nowhere", "and a text")
    assert "# sent to bob: [two words.txt, 10 B]" in told
    assert any("/nowhere: No such file" in line for line in told)
    order = (f"/save 1 {into}", f"/save 1 {into}", "/save 2", "/save 9", "/history")
    told = chat("bob", "/chat alice", *order)
    assert any(line.endswith("alice(2): [two words.txt, 10 B] (/save 1)") for line in told), told
    assert f"# saved {into / 'two words.txt'}" in told
    assert (into / "two words.txt").read_text() == "some notes"
    assert any("File exists" in line for line in told)
    assert "# message 2 has no files" in told
    assert any("there is no message 9" in line for line in told)
    assert any(line.endswith("alice: [two words.txt, 10 B]") for line in told)
