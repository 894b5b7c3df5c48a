"""Plug-ins in a real daemon: those that come with chatd, and one that is installed beside it as anybody's would be."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from chatd.errors import ErrorCode, Exit
from tests.harness.daemon import Daemon
from tests.harness.deadline import run, until, wait_until
from tests.harness.mobileimsdk import ACK, DATA, ERROR, KEEP_ALIVE, KEPT_ALIVE, LOGIN_ANSWER, MobilePeer, content
from tests.harness.person import Town

PLUGIN = '''
import asyncio, os, time
from pathlib import Path
from chatd.hooks import Reply, Rewrite, Veto

def make(options):
    """What options say: crash while loading, or a plug-in."""
    print("loading")
    if options.get("crash"):
        raise RuntimeError("no licence")
    if options.get("exit"):
        os._exit(3)
    if options.get("hang"):
        time.sleep(60)
    return Moderator(options)

class Door:
    def __init__(self, options):
        pass

    async def before_login(self, attempt):
        return Veto() if attempt.name == "mallory" else None

class Moderator:
    def __init__(self, options):
        self.notes = Path(options["notes"])

    def note(self, text):
        with self.notes.open("a") as file:
            file.write(text + "\\n")

    def before_message(self, message):
        if message.body == "darn":
            return Veto("mind your words", 2000)
        if message.body == "hang":
            time.sleep(0.6)
        if message.body == "leave":
            raise SystemExit(1)
        return Rewrite(message.body.upper()) if message.body == "shout" else None

    async def before_request(self, request):
        if request.body == "block":
            time.sleep(4)

    def recipient_offline(self, event):
        self.note(f"{event.message.body} for {' and '.join(user.name for user in event.users)}")
'''


def install(folder: Path) -> str:
    """A distribution as pip leaves it behind: the module, and its metadata with the entry point."""
    (folder / "moderator.py").write_text(PLUGIN)
    info = folder / "chatd_moderator-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: chatd-moderator\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(
        "[chatd.hooks]\nmoderator = moderator:make\ndoor = moderator:Door\nbroken = moderator:nothing\n"
        "absent = no_such_module:make\n"
    )
    return str(folder)


def daemon_with(root: Path, *hooks: dict[str, Any], workers: int = 1) -> Daemon:
    (root / "site").mkdir(parents=True)
    daemon = Daemon(root, workers=workers)
    daemon.env["PYTHONPATH"] += os.pathsep + install(root / "site")
    daemon.config["hook"] = list(hooks)
    daemon.write_config()
    return daemon


@contextmanager
def serving(daemon: Daemon) -> Iterator[Town]:
    try:
        yield Town(daemon.start())
    finally:
        complaints = daemon.discard()
    assert not complaints, "the daemon logged errors:\n" + "\n".join(complaints[:20])


def ask(peer: MobilePeer, body: str, fp: str) -> None:
    peer.put({"type": DATA, "from": "", "to": "0", "dataContent": body, "fp": fp, "QoS": True, "typeu": -1})


async def answer(peer: MobilePeer) -> str:
    packet = await peer.find(type=DATA)
    assert packet["from"] == "0"
    peer.acknowledge(packet)
    return str(packet["dataContent"])


def test_both_plugins_that_come_with_chatd(tmp_path: Path) -> None:
    """translate first: what it does not answer is echoed."""
    hooks = (
        {"name": "words", "entry_point": "translate", "fail": "open"},
        {"name": "echo", "options.suffix": " (echo)", "fail": "open"},
    )

    async def story(town: Town) -> None:
        peer = await town.on_mobile(await town.newcomer("alice"))
        for number, (text, expected) in enumerate(
            [
                ("translate hello", "hello = 你好"),
                ("hello", "hello (echo)"),
                ("translate xyzzy", "xyzzy is not in the dictionary"),
                ('{"no":"op"}', '{"no":"op"} (echo)'),
            ]
        ):
            ask(peer, text, f"fp{number}")
            assert (await peer.find(type=ACK))["dataContent"] == f"fp{number}"
            assert await answer(peer) == expected
        ask(peer, '{"op":"whoami","ref":5}', "fp9")
        assert '"ref":5,"ok":true' in await answer(peer)

    with serving(daemon_with(tmp_path, *hooks)) as town:
        run(story(town))


def test_one_that_is_installed_beside_chatd(tmp_path: Path) -> None:
    notes = tmp_path / "notes.txt"
    hook = {"name": "moderator", "options.notes": str(notes), "fail": "closed"}

    async def story(town: Town) -> None:
        alice, bob = await town.newcomer("alice"), await town.newcomer("bob")
        sender, recipient = await town.on_mobile(alice), await town.on_mobile(bob)
        sender.say(alice, bob, "darn", "fp1")
        error = content(await sender.find(type=ERROR))
        assert error["errorCode"] == 2000
        assert '"fp":"fp1"' in error["errorMsg"]
        assert "mind your words" in error["errorMsg"]
        for number, text in enumerate(("one", "shout", "three")):
            sender.say(alice, bob, text, f"fp1{number}")
        heard = [(await recipient.find(type=DATA))["dataContent"] for _ in range(3)]
        assert heard == ["one", "SHOUT", "three"]
        recipient.close()
        await until(10, "bob is away", lambda: town.daemon.status()["workers"][0]["sessions"] == 1)
        sender.say(alice, bob, "later", "fp20")
        await sender.find(type=ACK, dataContent="fp20")
        await until(10, "the plug-in was told", notes.exists)
        assert notes.read_text() == f"later for {bob}\n"

    with serving(daemon_with(tmp_path, hook)) as town:
        run(story(town))


def counted(town: Town) -> tuple[int, int, int, int]:
    """Functions and users that are held back, failures, and workers that were replaced."""
    row = town.daemon.status()["workers"][0]
    return row["hooks_open"], row["hook_users_held"], row["hook_failures"], row["restarts"]


@pytest.mark.parametrize("fail", ["open", pytest.param("closed", marks=pytest.mark.slow)])
def test_one_that_hangs_leaves_the_worker_and_the_order_alone(tmp_path: Path, fail: str) -> None:
    hook = {
        "name": "moderator",
        "options.notes": str(tmp_path / "notes.txt"),
        "time_limit_ms": 200,
        "fail": fail,
        "breaker_failures": 2,
        "breaker_s": 4.0,
    }
    daemon = daemon_with(tmp_path, hook)
    daemon.expect_error("plug-in failed")
    daemon.expect_error("plug-in suspended")

    async def story(town: Town) -> None:
        alice, bob = await town.newcomer("alice"), await town.newcomer("bob")
        sender, recipient = await town.on_mobile(alice), await town.on_mobile(bob)
        for number, text in enumerate(("before", "hang", "still running")):
            sender.say(alice, bob, text, f"fp{number}")
        await until(10, "the call has failed, and then ended", lambda: failures(town) == 1 and held(town) == 0)
        for number, text in enumerate(("leave", "refused", "after")):
            sender.say(alice, bob, text, f"fp1{number}")
        if fail == "closed":
            codes = [content(await sender.find(type=ERROR))["errorCode"] for _ in range(5)]
            assert codes == [ErrorCode.BUSY] * 5
            assert (await recipient.take())["dataContent"] == "before"
        else:
            heard: dict[str, None] = {}
            while len(heard) < 6:  # one that is not acknowledged in time comes again
                packet = await recipient.find(type=DATA)
                recipient.acknowledge(packet)
                heard[packet["dataContent"]] = None
            assert list(heard) == ["before", "hang", "still running", "leave", "refused", "after"]
        await until(5, "the figures are up to date", lambda: counted(town) == (0, 1, 2, 0))
        assert "1 users held back" in town.daemon.ctl("status").stdout
        ask(sender, "block", "fp30")
        recipient.put({"type": KEEP_ALIVE, "from": bob, "to": "0", "dataContent": "{}"})
        await recipient.find(2.0, type=KEPT_ALIVE)
        await until(20, "it is tried again", lambda: works(sender, alice, bob))
        await until(10, "nobody is held back", lambda: held(town) == 0)

    with serving(daemon) as town:
        run(story(town))


def failures(town: Town) -> int:
    return int(town.daemon.status()["workers"][0]["hook_failures"])


def held(town: Town) -> int:
    return int(town.daemon.status()["workers"][0]["hook_users_held"])


def works(sender: MobilePeer, alice: str, bob: str) -> bool:
    """ "darn" is refused by the plug-in itself. Asked until it answers."""
    codes = [content(frame)["errorCode"] for frame in sender.frames if frame["type"] == ERROR]
    if 2000 not in codes:
        sender.say(alice, bob, "darn", None, qos=False)
    return 2000 in codes


def kill_the_worker(daemon: Daemon) -> Callable[[], bool]:
    """Returns the question whether there is another one."""
    (pid,) = daemon.workers()
    os.kill(pid, 9)
    return lambda: daemon.workers() != [pid] and daemon.all_ready()


def test_a_worker_that_is_started_anew_has_it_again(tmp_path: Path) -> None:
    daemon = daemon_with(
        tmp_path, {"name": "moderator", "options.notes": str(tmp_path / "notes.txt"), "fail": "closed"}
    )

    async def story(town: Town) -> None:
        alice = await town.newcomer("alice")
        for round_number in range(2):
            peer = await town.mobile_peer()
            peer.put(peer.login_packet(alice, town.secret))
            assert content(await peer.find(type=LOGIN_ANSWER))["code"] == 0
            peer.say(alice, alice, "shout", f"fp{round_number}")
            assert (await peer.find(type=DATA))["dataContent"] == "SHOUT"
            if not round_number:
                there_is_another = kill_the_worker(town.daemon)
                await peer.end()
                await until(20, "another worker", there_is_another)

    daemon.expect_error("worker died")
    with serving(daemon) as town:
        run(story(town))


@pytest.mark.parametrize(
    ("hook", "line"),
    [
        ({"name": "mod", "entry_point": "moderator", "options.crash": True}, "hook mod: RuntimeError: no licence"),
        ({"name": "mod", "entry_point": "moderator"}, "hook mod: KeyError: 'notes'"),
        (
            {"name": "mod", "entry_point": "moderator", "options.notes": "notes.txt"},
            "hook mod: fail is missing: the plug-in decides (before_message, before_request)",
        ),
        ({"name": "broken"}, "hook broken: AttributeError"),
        ({"name": "absent"}, "hook absent: ModuleNotFoundError"),
        ({"name": "echo", "fail": "open", "options.sufix": "!"}, "hook echo: ValueError: unknown option: sufix"),
        ({"name": "nobody"}, "hook[0].entry_point: no plug-in nobody is installed (installed: "),
    ],
    ids=lambda value: value["name"] if isinstance(value, dict) else "",
)
def test_what_cannot_be_loaded_ends_the_start(tmp_path: Path, hook: dict[str, Any], line: str) -> None:
    daemon = daemon_with(tmp_path, hook)
    daemon.launch()
    try:
        assert daemon.wait_gone() == Exit.CONFIG
        assert line in daemon.output.read_text()
    finally:
        daemon.clear()


def tried(daemon: Daemon, option: str = "-t") -> subprocess.CompletedProcess[str]:
    """`chatd -t` or -T."""
    command = [sys.executable, "-m", "chatd", "-c", str(daemon.config_file), option, "--allow-root"]
    return subprocess.run(command, env=daemon.env, capture_output=True, text=True, timeout=30, check=False)


def test_testing_a_configuration_names_every_plugin_that_cannot_be_used(tmp_path: Path) -> None:
    """Also those that come after one that ends its process would be named, once that one is mended."""
    notes = {"entry_point": "moderator", "options.notes": str(tmp_path / "notes.txt")}
    daemon = daemon_with(
        tmp_path,
        {"name": "absent"},
        {"name": "undecided", **notes},
        {"name": "good", "fail": "closed", **notes},
        {"name": "crash", "fail": "closed", **notes, "options.crash": True},
        {"name": "exit", "fail": "closed", **notes, "options.exit": True},
        {"name": "never", "fail": "closed", **notes},
    )
    result = tried(daemon)
    assert result.returncode == Exit.CONFIG
    lines = [line.rpartition("chatd.toml: ")[2] for line in result.stderr.splitlines() if "chatd.toml: " in line]
    assert [line.partition(" (")[0][:60] for line in lines] == [
        "hook[0]: cannot load absent: ModuleNotFoundError: No module named 'no_such_module'"[:60],
        "hook[1].fail: is missing: the plug-in decides",
        "hook[3]: cannot load crash: RuntimeError: no licence",
        "hook[4]: loading exit ends the process",
    ]


def test_testing_a_configuration_calls_no_method_and_prints_nothing_of_a_plugin(tmp_path: Path) -> None:
    notes = tmp_path / "notes.txt"
    daemon = daemon_with(tmp_path, {"name": "moderator", "fail": "closed", "options.notes": str(notes)})
    assert "is valid" in tried(daemon).stderr
    shown = tried(daemon, "-T")
    assert (shown.returncode, "loading" in shown.stdout, "loading" in shown.stderr) == (0, False, True)
    assert not notes.exists()


def test_testing_a_configuration_ends_if_a_plugin_does_not_load_in_time(tmp_path: Path) -> None:
    daemon = daemon_with(tmp_path, {"name": "mod", "entry_point": "moderator", "options.hang": True})
    daemon.config["timeouts"] = {"boot_s": 1.0}
    daemon.write_config()
    result = tried(daemon)
    assert result.returncode == Exit.CONFIG
    assert "hook[0]: loading mod takes longer than timeouts.boot_s, 1 s" in result.stderr


def test_open_login_needs_a_check_of_logins_that_fails_closed(tmp_path: Path) -> None:
    """Both when it is tested and when it is started."""
    daemon = daemon_with(tmp_path, {"name": "door", "fail": "open"})
    daemon.config["accounts"] |= {"login": "open", "insecure_open_login": True}
    daemon.write_config()
    assert 'hook[0].fail: must be "closed" while accounts.login is "open"' in tried(daemon).stderr
    daemon.launch()
    try:
        assert daemon.wait_gone() == Exit.CONFIG
        assert 'hook door: fail must be "closed" while accounts.login is "open"' in daemon.output.read_text()
    finally:
        daemon.clear()
    daemon.config["hook"] = [{"name": "door", "fail": "closed"}]
    daemon.write_config()
    assert tried(daemon).returncode == 0


def test_a_changed_plugin_comes_with_new_workers(tmp_path: Path) -> None:
    daemon = daemon_with(tmp_path, {"name": "echo", "fail": "open", "options.suffix": " 1"})

    async def said(town: Town, name: str) -> str:
        peer = await town.on_mobile(name)
        ask(peer, "hi", "fp")
        text = await answer(peer)
        peer.close()
        return text

    def change(daemon: Daemon) -> Callable[[], bool]:
        daemon.config["hook"] = [{"name": "echo", "fail": "open", "options.suffix": " 2"}]
        daemon.write_config()
        told = daemon.ctl("reload").stdout
        assert "in new workers (chatctl restart-workers): hook[echo].options" in told
        return kill_the_worker(daemon)

    daemon.expect_error("worker died")
    with serving(daemon) as town:
        name = run(town.newcomer("alice"))
        assert run(said(town, name)) == "hi 1"
        wait_until(20, "another worker", change(daemon))
        assert run(said(town, name)) == "hi 2"
