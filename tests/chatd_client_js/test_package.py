"""What is published on npm: its files, its types, and that its errors and version are those of chatd."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

import chatd
from chatd_client import Code, errors
from tests.chatd_client_js import places
from tests.chatd_client_js.places import HOME, TOOLS
from tests.harness.daemon import TOP
from tests.harness.deadline import run

PROGRAM = """
import { Client, Code, IndexedDbJournal, Kicked, type Journal, type Message, type Options } from "chatd-client";

const token = async () => "a token";
const options: Options = { token, journal: new IndexedDbJournal("x"), timing: { send: Infinity } };
const chat: Client = await new Client("wss://chat.example.org/websocket", "alice", options).open();
const sent: { seq: number } = await chat.send("bob", "hello", { mentions: "all" });
for await (const message of chat.messages()) {
  const one: Message = message;
  await chat.reply(one, `number ${one.seq + sent.seq}`);
}
const journal: Journal = {
  entries: async () => [], set: async () => {}, delete: async () => {},
};
for await (const head of chat.conversations.list()) if (head.unread) console.log(head.with, journal, Code.BUSY);
const roles: ("owner" | "admin" | "member")[] = (await chat.groups.members(4)).map((member) => member.role);
try {
  console.log(roles, chat.state === "live");
} catch (error) {
  if (error instanceof Kicked) console.log(error.why);
}
"""
WRONG = ('chat.send("bob", 4)', 'chat.groups.role(4, "bob", "king")', "chat.nothing()")
"""Calls that no type allows."""


def do(*command: str, cwd: Path, fails: bool = False) -> str:
    done = subprocess.run(
        command, cwd=cwd, capture_output=True, text=True, check=False, timeout=60,
        env={**os.environ, "npm_config_offline": "true", "npm_config_update_notifier": "false"},
    )  # fmt: skip
    assert (done.returncode != 0) is fails, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project that has the package that is published, and nothing else."""
    root = tmp_path_factory.mktemp("npm")
    source = root / "clients" / "js"
    tracked = subprocess.check_output(["git", "ls-files", "clients/js"], cwd=TOP, text=True).splitlines()
    source.mkdir(parents=True)
    for name in tracked:
        shutil.copy(TOP / name, source)
    shutil.copy(TOP / "LICENSE", root)
    (source / "node_modules").symlink_to(TOOLS)
    (packed,) = json.loads(do("npm", "pack", "--json", "--pack-destination", str(root), cwd=source))
    project = root / "project"
    target = project / "node_modules" / "chatd-client"
    target.mkdir(parents=True)
    do("tar", "--extract", "--strip-components=1", f"--file={root / packed['filename']}", cwd=target)
    (project / "package.json").write_text('{"type": "module"}')
    return project


def test_it_has_these_files_and_no_other(installed: Path) -> None:
    package = installed / "node_modules" / "chatd-client"
    assert {path.name for path in package.iterdir()} == {
        "LICENSE", "README.md", "chatd.d.ts", "chatd.js", "package.json",
    }  # fmt: skip
    described = json.loads((package / "package.json").read_text())
    assert described["version"] == chatd.__version__
    assert not described.get("dependencies")
    assert "#session" not in (package / "chatd.d.ts").read_text()
    program = 'import("chatd-client").then((it) => console.log(it.VERSION, typeof it.Client))'
    assert do("node", "--eval", program, cwd=installed).split() == [chatd.__version__, "function"]


def test_its_types_are_those_of_the_readme(installed: Path) -> None:
    tsc = str(TOOLS / ".bin" / "tsc")
    strict = ("--noEmit", "--strict", "--target", "es2022", "--module", "nodenext", "--types", "")
    (installed / "right.ts").write_text(PROGRAM)
    do(tsc, *strict, "right.ts", cwd=installed)
    begin = 'import { Client } from "chatd-client";\nconst chat = new Client("wss://x", "a", { token: "t" });\n'
    (installed / "wrong.ts").write_text(begin + "".join(f"{call};\n" for call in WRONG))
    said = do(tsc, *strict, "wrong.ts", cwd=installed, fails=True)
    assert said.count("error TS") == len(WRONG), said


def test_codes_and_their_errors_are_those_of_the_python_client() -> None:
    async def story() -> Any:
        async with places.node() as place:
            return await place.run("""
                const kinds = Object.entries(Code).map(([name, code]) => {
                  const error = refusal(code, "");
                  return [name, [code, error.constructor.name, error.temporary]];
                });
                return { kinds: Object.fromEntries([...kinds, ["UNHEARD_OF", [0, refusal(4711, "").name, false]]]) };
                """)

    expected = {
        code.name: [int(code), type(errors.refusal(code, "")).__name__, errors.is_temporary(code)] for code in Code
    }
    assert run(story())["kinds"] == {**expected, "UNHEARD_OF": [0, "Refused", False]}


def test_the_lock_file_is_that_of_the_package() -> None:
    package, lock = (json.loads((HOME / name).read_text()) for name in ("package.json", "package-lock.json"))
    assert lock["packages"][""]["devDependencies"] == package["devDependencies"]
    assert {lock["version"], lock["packages"][""]["version"]} == {package["version"]}
