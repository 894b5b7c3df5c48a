"""`chatctl`: the operator's command.

Owns: the command line, asking the master over its control socket and waiting for the result, the pid file and signals
where there is no socket, and how answers are printed.
Not here: what the master does (master.master), accounts (chatctl_user).
Fails: exit codes of sysexits; `status` has those of LSB (0 running, 1 dead with a pid file, 3 not running, 4 unknown),
`check` those of monitors (0 good, 1 degraded, 2 critical).
"""

from __future__ import annotations

import argparse
import contextlib
import getpass
import os
import signal
import socket
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, get_args

import msgspec
import shtab

from chatd import __version__
from chatd.arguments import Parser
from chatd.chatctl import render as chatctl_render
from chatd.config import load as config_load
from chatd.config import render as config_render
from chatd.config.schema import Config, LogLevel, ServerOptions
from chatd.errors import BootError, ConfigError, Exit, Refused, Unavailable
from chatd.master import directories, instance_lock, privileges
from chatd.master.directories import CONTROL
from chatd.master.status import Status

CONNECT_S = 5.0
GONE_S = 10.0
STATUS_S = 3.0
SCALE_S = 30.0
NEED_THE_FILE = ("reload", "user", "migrate", "copy-store", "import-chatserver")
DEAD_WITH_PIDFILE, NOT_RUNNING, UNKNOWN = 1, 3, 4


class NoSocket(Exception):
    """Nobody answers on the control socket."""


class Master:
    """The server of one runtime directory, as seen from outside."""

    def __init__(self, runtime_dir: str, certain: bool = True) -> None:
        self.certain = certain
        """Whether the configuration could be read, so that this is the directory."""
        self.server = ServerOptions(runtime_dir=runtime_dir)
        self.path = str(Path(runtime_dir, CONTROL))

    def ask(self, cmd: str, limit_s: float | None = 30.0, **fields: Any) -> dict[str, Any]:
        """The answer to one request. limit_s None: for as long as it takes. Raises NoSocket."""
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as asking:
            asking.settimeout(CONNECT_S)
            try:
                asking.connect(self.path)
                with contextlib.suppress(BrokenPipeError):  # answered and cut before it was asked: too many
                    asking.sendall(msgspec.json.encode({"v": 1, "cmd": cmd, **fields}) + b"\n")
                asking.settimeout(limit_s)
                received = b""
                while not received.endswith(b"\n") and (chunk := asking.recv(65536)):
                    received += chunk
                return msgspec.json.decode(received, type=dict[str, Any])
            except (OSError, msgspec.DecodeError) as error:
                raise NoSocket(str(error) or type(error).__name__) from None

    def status(self) -> dict[str, Any]:
        """Raises NoSocket also where the master is too busy to say."""
        answer = self.ask("status", STATUS_S)
        if not answer.get("ok"):
            raise NoSocket(str(answer.get("error")))
        found: dict[str, Any] = answer["status"]
        return found

    def running(self) -> tuple[bool, int]:
        """From the pid file: is its lock held?, and its number."""
        return instance_lock.holder(self.server)

    def signal_instead(self, number: signal.Signals) -> int:
        """Where the socket does not answer. Raises NoSocket where no server runs."""
        running, pid = self.running()
        if not running or not pid:
            raise NoSocket("no server is running")
        note(f"the control socket {self.path} does not answer; sending {number.name} to process {pid} instead")
        os.kill(pid, number)
        return pid

    def wait_gone(self, limit_s: float) -> bool:
        """Until the lock is free, so that the next start finds it free."""
        until = time.monotonic() + limit_s
        while self.running()[0]:
            if time.monotonic() > until:
                return False
            time.sleep(0.02)
        return True


def note(text: str) -> None:
    sys.stderr.write(f"chatctl: {text}\n")


def finish(answer: dict[str, Any]) -> int:
    if not answer.get("ok"):
        note(str(answer.get("error", "refused")))
    return int(answer.get("exit", Exit.BUG))


# ---------------------------------------------------------------- commands


def status(master: Master, options: argparse.Namespace) -> int:
    try:
        answer = master.status()
    except NoSocket as error:
        return _dead(master, str(error), options.json)
    if options.json:
        print(msgspec.json.encode(answer).decode())
    else:
        told = msgspec.convert(answer, Status)
        print(chatctl_render.workers(told) if options.command == "workers" else chatctl_render.status(told))
    return Exit.OK


def _dead(master: Master, why: str, as_json: bool) -> int:
    try:
        running, pid = master.running()
    except PermissionError:
        running, pid = True, 0
    if running:
        state, code = "unknown", UNKNOWN
        text = f"a server is running (process {pid}), but its control socket does not answer: {why}"
    elif pid:
        state, code = "dead", DEAD_WITH_PIDFILE
        text = f"not running; process {pid} ended without removing its pid file"
    elif master.certain:
        state, code = "not running", NOT_RUNNING
        text = "not running"
    else:
        state, code = "unknown", UNKNOWN
        text = f"no server in {master.server.runtime_dir}, but the configuration cannot be read"
    if as_json:
        print(msgspec.json.encode({"v": 1, "state": state, "pid": pid, "workers": []}).decode())
    note(text)
    return code


def check(master: Master, _options: argparse.Namespace) -> int:
    try:
        told = _status(master)
    except NoSocket as error:
        print(f"CRITICAL: {error}")
        return 2
    code, text = chatctl_render.verdict(told)
    print(text)
    return code


def reload(master: Master, options: argparse.Namespace) -> int:
    loaded = config_load.load(options.config)
    config_load.check_host(loaded.config, loaded.name)
    try:
        answer = master.ask("reload")
    except NoSocket:
        master.signal_instead(signal.SIGHUP)
        note("sent; the result is in the log")
        return Exit.OK
    if answer.get("ok"):
        print(chatctl_render.reloaded(answer))
    return finish(answer)


def reopen(master: Master, _options: argparse.Namespace) -> int:
    try:
        return finish(master.ask("reopen"))
    except NoSocket:
        master.signal_instead(signal.SIGUSR1)
        return Exit.OK


def stop(master: Master, options: argparse.Namespace) -> int:
    try:
        answer = master.ask("stop", limit_s=None, fast=options.fast)
    except NoSocket:
        if not master.running()[0]:
            raise
        if not _already_ending(master):
            master.signal_instead(signal.SIGINT if options.fast else signal.SIGTERM)
            master.wait_gone(3700.0)
        return Exit.OK
    if not master.wait_gone(GONE_S):
        note("the workers have left, but the master is still there")
        return Exit.TRY_AGAIN
    return finish(answer)


def _already_ending(master: Master) -> bool:
    """The socket went away because the server was just leaving."""
    return not Path(master.path).exists() and master.wait_gone(1.0)


def config(master: Master, options: argparse.Namespace) -> int:
    if options.what == "diff":
        answer = master.ask("config-diff")
        if answer.get("ok"):
            print(chatctl_render.pending(answer))
        return finish(answer)
    answer = master.ask("config")
    if answer.get("ok"):
        running = msgspec.convert(answer["config"], Config)
        sys.stdout.write(config_render.sections(running))
    return finish(answer)


def log_level(master: Master, options: argparse.Namespace) -> int:
    return finish(master.ask("log-level", level=options.level))


def scale(master: Master, options: argparse.Namespace) -> int:
    try:
        answer = master.ask("scale", step=options.step)
    except NoSocket:
        for _ in range(abs(options.step)):
            master.signal_instead(signal.SIGTTIN if options.step > 0 else signal.SIGTTOU)
        return Exit.OK
    if not answer.get("ok"):
        return finish(answer)
    until = time.monotonic() + SCALE_S
    while (told := _status(master)).workers_ready != told.workers_wanted:
        if time.monotonic() > until:
            note(f"{told.workers_ready} of {told.workers_wanted} workers are ready; see `chatctl workers`")
            return Exit.TRY_AGAIN
        time.sleep(0.05)
    print(f"workers: {told.workers_ready}")
    return Exit.OK


def _status(master: Master) -> Status:
    return msgspec.convert(master.status(), Status)


# ---------------------------------------------------------------- accounts


def user(master: Master, options: argparse.Namespace) -> int:
    """Works on the store, with or without a running server, as the user who owns it."""
    from chatd.chatctl import accounts

    loaded = config_load.load(options.config)
    become_owner(loaded.config)
    try:
        match options.what:
            case "add":
                number = accounts.add(loaded.config, options.name, read_password(confirm=True))
                print(f"{options.name} has the id {number}")
            case "passwd":
                accounts.set_password(loaded.config, options.name, read_password(confirm=True))
            case "del":
                user_id = accounts.delete(loaded.config, options.name)
                return _end_sessions(master, user_id)
            case _:
                print(chatctl_render.users(accounts.list_users(loaded.config)))
    except Refused as error:
        note(f"{options.name}: {error.text}" if getattr(options, "name", "") else error.text)
        return 1
    except Unavailable as error:
        note(str(error))
        return Exit.UNAVAILABLE
    return Exit.OK


def become_owner(config: Config) -> None:
    """Of the store. There may not have been a first start yet."""
    os.umask(0o027)
    who = privileges.identity(config.server, allow_root=True)
    directories.prepare(config.server, who)
    privileges.drop(who)


def _end_sessions(master: Master, user_id: int) -> int:
    """Of an account that has been deleted."""
    try:
        return finish(master.ask("kick", user_id=user_id, reason="this account has been deleted"))
    except NoSocket as error:
        if master.running()[0]:
            note(f"the account is deleted, but its sessions may still be there: the server does not answer: {error}")
            return Exit.TRY_AGAIN
        return Exit.OK


def kick(master: Master, options: argparse.Namespace) -> int:
    answer = master.ask("kick", user=options.user, reason=options.reason)
    if options.json:
        print(msgspec.json.encode({"v": 1, **answer}).decode())
        return int(answer.get("exit", Exit.BUG))
    if answer.get("ok"):
        print(f"sessions ended: {answer['sessions']}")
    return finish(answer)


def read_password(confirm: bool) -> str:
    """From the terminal without echo, or the first line of standard input. Never an argument: those are public."""
    if not sys.stdin.isatty():
        return sys.stdin.readline().rstrip("\r\n")
    password = getpass.getpass("password: ")
    if confirm and getpass.getpass("again: ") != password:
        raise ConfigError("the two passwords differ")
    return password


# ---------------------------------------------------------------- whole stores


def store(master: Master, options: argparse.Namespace) -> int:
    """Of the commands that need a store for themselves."""
    from chatd.chatctl import stores

    config = config_load.load(options.config).config
    for name in ("source", "destination"):  # while we may still read what root may read
        if name in options:
            setattr(options, name, config_load.secret(getattr(options, name), name))
    become_owner(config)
    if options.command == "copy-store":
        return stores.copy_store(config, options.source, options.destination)
    if options.command == "import-chatserver":
        return stores.import_chatserver(config, options.source, options.charset, options.dry_run, options.rejected)
    try:
        running = _status(master)
    except NoSocket:
        running = None
    return stores.migrate(config, running, options.dry_run, not options.no_backup, options.backup)


# ---------------------------------------------------------------- command line


Command = Callable[[Master, argparse.Namespace], int]


def parser() -> argparse.ArgumentParser:
    made = Parser(prog="chatctl", description="Operate a chatd server.")
    file = made.add_argument("-c", "--config", metavar="FILE", help="the configuration the server was started with")
    file.complete = shtab.FILE  # type: ignore[attr-defined]
    made.add_argument("--version", action="version", version=f"chatctl {__version__}")
    shtab.add_argument_to(made, "--print-completion", help="print a shell completion script")
    commands = made.add_subparsers(dest="command", required=True, metavar="COMMAND", parser_class=Parser)

    def add(name: str, run: Command, text: str) -> argparse.ArgumentParser:
        one: argparse.ArgumentParser = commands.add_parser(name, help=text, description=text)
        one.set_defaults(run=run)
        return one

    for name, text in (("status", "how the server is"), ("workers", "one line per worker")):
        add(name, status, text).add_argument("--json", action="store_true", help="for programs; versioned")
    add("check", check, "for monitors: 0 good, 1 degraded, 2 critical")
    add("reload", reload, "apply the changed configuration; ends no session")
    add("reopen", reopen, "open the log files again")
    add("stop", stop, "stop, and wait until it has stopped").add_argument("--fast", action="store_true", help="in 5 s")
    what = add("config", config, "the configuration in effect, or (diff) what is pending")
    what.add_argument("what", nargs="?", choices=("show", "diff"), default="show")
    level = add("log-level", log_level, "set the log level until the next reload")
    level.add_argument("level", type=str.upper, choices=get_args(LogLevel))
    step = add("scale", scale, "that many workers more (+1) or less (-1) until a restart")
    step.add_argument("step", type=int)
    out = add("kick", kick, "end a user's sessions; the account stays and may log in again")
    out.add_argument("user", metavar="USER", help="name or id")
    out.add_argument("--reason", metavar="TEXT", default="", help="what the user is told")
    out.add_argument("--json", action="store_true", help="for programs; versioned")
    users = add("user", user, "accounts; passwords are read from the terminal or standard input")
    verbs = users.add_subparsers(dest="what", required=True, metavar="VERB", parser_class=Parser)
    for verb, text in (("add", "make an account"), ("passwd", "set a password"), ("del", "delete an account")):
        verbs.add_parser(verb, help=text).add_argument("name")
    verbs.add_parser("list", help="id, name and age of every account")
    _add_store_commands(add)
    return made


def _add_store_commands(add: Callable[[str, Command, str], argparse.ArgumentParser]) -> None:
    up = add("migrate", store, "bring the store to the schema this chatd needs; the server must be stopped")
    up.add_argument("--dry-run", action="store_true", help="print the plan, touch nothing")
    backup = up.add_mutually_exclusive_group()
    backup.add_argument("--no-backup", action="store_true", help="make none; needed where the store is MySQL")
    kept = backup.add_argument("--backup", metavar="FILE", default="", help="where the backup goes")
    kept.complete = shtab.FILE  # type: ignore[attr-defined]
    copied = add("copy-store", store, "copy a whole store to an empty one; goes on where it was interrupted")
    for name in ("source", "destination"):
        text = f"the {name}: sqlite:FILE, mysql://…, or env:NAME, file:PATH that hold one"
        copied.add_argument(name, metavar=name.upper(), help=text)
    text = "take over the tables of the old C++ chat server into the configured store, which must be empty"
    old = add("import-chatserver", store, text)
    old.add_argument("source", metavar="URL", help="mysql://USER:PASSWORD@HOST:PORT/DB, or env:NAME, file:PATH")
    text = "what the old server told its database with SET NAMES (%(default)s)"
    old.add_argument("--charset", choices=("utf8mb4", "utf8", "gbk", "latin1", "big5"), default="utf8mb4", help=text)
    old.add_argument("--dry-run", action="store_true", help="apply the rules and report, write nothing")
    kept = old.add_argument("--rejected", metavar="FILE", default="", help="where rows are kept that are left out")
    kept.complete = shtab.FILE  # type: ignore[attr-defined]


def main(arguments: Sequence[str] | None = None) -> int:
    made = parser()
    options = made.parse_args(_signed(list(sys.argv[1:] if arguments is None else arguments)))
    try:
        return int(options.run(_master(options.config, options.command), options))
    except NoSocket as error:
        note(f"the server does not answer: {error}")
        return Exit.UNAVAILABLE
    except ConfigError as error:
        note(str(error))
        return Exit.CONFIG
    except BootError as error:
        note(str(error))
        return error.exit_code
    except PermissionError as error:
        note(str(error))
        return Exit.PERMISSION


def _signed(arguments: list[str]) -> list[str]:
    """`scale -1`: argparse takes -1 for an option in a parser that has options with one dash."""
    if arguments[-2:-1] == ["scale"] and arguments[-1].startswith("-"):
        return [*arguments[:-1], "--", arguments[-1]]
    return arguments


def _master(file: str | None, command: str) -> Master:
    try:
        return Master(config_load.load(file).config.server.runtime_dir)
    except ConfigError as error:  # the server is still to be asked: it has its own, good, configuration
        if command in NEED_THE_FILE:
            raise
        guess = config_load.runtime_dir_of(file)
        note(f"{error}; looking for the server in {guess}")
        return Master(guess, certain=False)


if __name__ == "__main__":
    sys.exit(main())
