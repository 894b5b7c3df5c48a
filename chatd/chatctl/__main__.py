"""`chatctl`: the operator's command.

Owns: the command line, finding the server's runtime directory, and the one place where a failure becomes an exit code
and a line on standard error.
Elsewhere: the commands (chatctl.commands).
Fails: exit codes of sysexits; `status` has those of LSB (0 running, 1 dead with a pid file, 3 not running, 4 unknown),
`check` those of monitors (0 good, 1 degraded, 2 critical).
"""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Callable, Sequence

from chatd import __version__, completion
from chatd.arguments import Parser
from chatd.chatctl import acting, commands, manual, rolling, tokens, upgrading
from chatd.chatctl.add_command import AS_JSON, Add, Command, epilog
from chatd.chatctl.administrators import arguments as administrator_arguments
from chatd.chatctl.bridges import arguments as bridge_arguments
from chatd.chatctl.control_client import ControlClient, NotAllowed, RequestFailed, ServerUnreachable, note
from chatd.chatctl.keys import arguments as key_arguments
from chatd.chatctl.maintenance import arguments as maintenance
from chatd.chatctl.push import arguments as push_arguments
from chatd.chatctl.show import arguments as show_arguments
from chatd.chatctl.webhooks import arguments as webhook_arguments
from chatd.config import load as config_load
from chatd.errors import BootError, ConfigError, Exit, Refused, Unavailable

NEED_THE_FILE = (
    "user",
    "token",
    "invite",
    "key",
    "admin",
    "bridge",
    "ban",
    "unban",
    "bans",
    "backup",
    "restore",
    "verify",
    "vacuum",
    "files",
    "migrate",
    "copy-store",
    "import-chatserver",
    "doctor",
)
"""Commands that work on the store, and so cannot do without the configuration."""
MOST = 100_000
"""Highest number of uses, and of days, of an invite code."""
REFUSED = 1
"""Exit code when a change of an account is refused."""


def parser() -> argparse.ArgumentParser:
    """The whole command line. Each command sets `run`, the function that main() calls."""
    made = Parser(prog="chatctl", description="Operate a chatd server.")
    file = made.add_argument(
        "-c",
        "--config",
        metavar="FILE",
        help=f"the configuration the server was started with (default: {config_load.DEFAULT_FILE})",
    )
    file.complete = completion.FILE  # type: ignore[attr-defined]
    made.add_argument("--version", action="version", version=f"chatctl {__version__}")
    completion.add_option(made)
    added = made.add_subparsers(dest="command", required=True, metavar="COMMAND", parser_class=Parser)

    def add(name: str, run: Command, text: str, example: str = "") -> argparse.ArgumentParser:
        one: argparse.ArgumentParser = added.add_parser(name, help=text, description=text, epilog=epilog(example))
        one.set_defaults(run=run)
        return one

    _add_server_commands(add)
    acting.add_commands(add)
    show_arguments.add_commands(add)
    _add_account_commands(add)
    key_arguments.add_commands(add)
    administrator_arguments.add_commands(add)
    webhook_arguments.add_commands(add)
    bridge_arguments.add_commands(add)
    push_arguments.add_commands(add)
    maintenance.add_commands(add)
    _add_store_commands(add)
    manual.add_texts(made)
    return made


def _add_server_commands(add: Add) -> None:
    for name, text in (("status", "show the state of the server"), ("workers", "show one line per worker")):
        add(name, commands.status, text).add_argument("--json", action="store_true", help=AS_JSON)
    text = "for monitoring: whether the server is well, and if not, why; exit code 0 = good, 1 = degraded, 2 = critical"
    add("check", commands.check, text).add_argument("--json", action="store_true", help=AS_JSON)
    add("reload", commands.reload, "apply the changed configuration; no session ends")
    add("reopen", commands.reopen, "reopen the log files")
    stop = add("stop", commands.stop, "stop the server and wait until it has stopped")
    stop.add_argument("--fast", action="store_true", help="stop within 5 s instead of timeouts.drain_s")
    text = "replace all workers, one after the other; waits for it"
    restart = add("restart-workers", rolling.restart_workers, text, "chatctl reload && chatctl restart-workers")
    restart.add_argument("--json", action="store_true", help=AS_JSON)
    for name, run, text in (
        ("drain", rolling.drain, "let all workers leave and refuse new clients, until undrain; waits for it"),
        ("undrain", rolling.undrain, "serve again after drain; waits until every worker is ready"),
    ):
        add(name, run, text, f"chatctl {name}").add_argument(
            "--host", action="store_true", help="this host, which is the default"
        )
    text = (
        "let the installed code take over from the running one; sessions over plain TCP, UDP and WebSocket move to it, "
        "TLS sessions reconnect"
    )
    up = add("upgrade", upgrading.upgrade, text)
    up.add_argument("--json", action="store_true", help=AS_JSON)
    up.epilog, up.formatter_class = upgrading.EPILOG, argparse.RawDescriptionHelpFormatter
    what = add("config", commands.config, "show the configuration in effect, or (diff) the changes that are pending")
    what.add_argument("what", nargs="?", choices=("show", "diff"), default="show", help="default: %(default)s")
    what.add_argument("--json", action="store_true", help=AS_JSON)
    scale = add("scale", commands.scale, "set, add (+1) or remove (-1) workers, until a restart")
    text = "how many workers there are to be, or, with a sign, how many more or fewer"
    scale.add_argument("workers", type=_count, metavar="N|+N|-N", help=text)
    scale.epilog = "example: chatctl scale 4"
    scale.add_argument("--force", action="store_true", help="allow up to 256 workers, instead of eight per core")


def _add_account_commands(add: Add) -> None:
    penalties = add("penalties", commands.penalties, "show failures and penalties, or clear them")
    penalties.add_argument("--json", action="store_true", help=AS_JSON)
    clear = penalties.add_subparsers(dest="what", metavar="clear", parser_class=Parser).add_parser(
        "clear", help="remove penalties and counted failures, on every host", description="Remove penalties."
    )
    clear.add_argument("subject", nargs="?", default="", metavar="SOURCE|USER", help="address, network, name or id")
    clear.add_argument("--all", action="store_true", help="remove all")
    _add_user_verbs(add)
    tokens.add_commands(add)
    _add_invite_verbs(add)


FORCE = "accept a password that is too short or too common"


def _accounts(client: ControlClient, options: argparse.Namespace) -> int:
    """Imported when it is needed: the other commands need no store."""
    from chatd.chatctl import account_commands

    return account_commands.accounts(client, options)


def _add_user_verbs(add: Add) -> None:
    text = "manage accounts; passwords are read from the terminal or standard input"
    users = add("user", _accounts, text)
    verbs = users.add_subparsers(dest="what", required=True, metavar="VERB", parser_class=Parser)

    def verb(name: str, text: str, *, named: bool = True) -> argparse.ArgumentParser:
        one: argparse.ArgumentParser = verbs.add_parser(name, help=text, description=text)
        if named:
            one.add_argument("name", metavar="NAME", help="name of the user, or the id if nobody has it as a name")
        return one

    one = verb("add", "create an account, or one for each line of a file", named=False)
    one.add_argument("name", metavar="NAME", nargs="?", default="", help="name of the user")
    text = "create an account for each line, NAME PASSWORD, of this file; - = of standard input"
    one.add_argument("--file", metavar="FILE", default="", help=text).complete = completion.FILE  # type: ignore[attr-defined]
    one.add_argument("--csv", action="store_true", help="the lines of the file are CSV: NAME,PASSWORD")
    one.add_argument("--force", action="store_true", help=FORCE)
    one.add_argument("--reserved", action="store_true", help="allow a name of accounts.reserved_names")
    one = verb("passwd", "set a password; the user's sessions end")
    one.add_argument("--force", action="store_true", help=FORCE)
    one = verb("lock", "let nobody log in to an account; its sessions end")
    one.add_argument(
        "--reason", metavar="TEXT", type=acting.reason, default="", help="why, for operators; the user is not told"
    )
    text = "tell the reason to the user, whose sessions end; later logins only say that the account is locked"
    one.add_argument("--tell", action="store_true", help=text)
    verb("unlock", "let the user of a locked account log in again")
    verb("del", "delete an account; its sessions end")
    one = verb("export", "write everything of a person into one archive (ZIP), also while the server runs")
    text = "where to write it; - = standard output (default: NAME-DATE.zip here). The file must not exist"
    one.add_argument("--to", metavar="FILE", default="", help=text).complete = completion.FILE  # type: ignore[attr-defined]
    _add_erase(verb)
    verb("show", "show what is known of an account").add_argument("--json", action="store_true", help=AS_JSON)
    verb("sessions", "show an account's sessions, on all hosts").add_argument(
        "--json", action="store_true", help=AS_JSON
    )
    verb("list", "show id, name and creation time of every account", named=False).add_argument(
        "--json", action="store_true", help=AS_JSON
    )


def _add_erase(verb: Callable[..., argparse.ArgumentParser]) -> None:
    text = "delete an account and the text of every message it has sent; cannot be undone"
    one = verb("erase", text, named=False)
    one.add_argument("name", metavar="NAME", nargs="?", default="", help="name of the user, or its id")
    text = "number of the account, also of one that was deleted before"
    one.add_argument("--id", metavar="NUMBER", type=int, help=text)
    one.add_argument("--yes", action="store_true", help="do not ask; for scripts")
    one.add_argument("--resume", action="store_true", help="finish erasures that were interrupted")


def _add_invite_verbs(add: Add) -> None:
    text = 'manage invite codes, with which accounts are registered if accounts.registration is "invite"'
    verbs = add("invite", _accounts, text).add_subparsers(
        dest="what", required=True, metavar="VERB", parser_class=Parser
    )
    text = "make a code and print it; only its hash is stored"
    one = verbs.add_parser("add", help=text, description=text)
    text = "how many accounts may be registered with it (default: %(default)s)"
    one.add_argument("--uses", metavar="N", type=_at_least_one, default=1, help=text)
    text = "how many days it is valid (default: %(default)s)"
    one.add_argument("--days", metavar="N", type=_at_least_one, default=7, help=text)
    one.add_argument("--note", metavar="TEXT", type=acting.reason, default="", help="for whom or what it is")
    text = "show every invite: its id, uses, expiry and note; the codes are not known"
    verbs.add_parser("list", help=text, description=text).add_argument("--json", action="store_true", help=AS_JSON)
    text = "make an invite invalid; accounts registered with it stay"
    verbs.add_parser("revoke", help=text, description=text).add_argument(
        "invite", metavar="ID", type=int, help="id of the invite, as `chatctl invite list` shows it"
    )


def _count(text: str) -> str:
    if not re.fullmatch(r"[+-]?\d{1,3}", text) or not int(text):
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of workers: write 4, +1 or -1")
    return text


def _at_least_one(text: str) -> int:
    number = int(text)
    if not 1 <= number <= MOST:
        raise argparse.ArgumentTypeError(f"must be 1 to {MOST}")
    return number


def _add_store_commands(add: Add) -> None:
    up = add("migrate", commands.store, "upgrade the store to the schema of this version; the server must be stopped")
    up.add_argument("--dry-run", action="store_true", help="print the plan and change nothing")
    backup = up.add_mutually_exclusive_group()
    backup.add_argument(
        "--no-backup", action="store_true", help="make no backup; required for MySQL, to confirm that you have one"
    )
    kept = backup.add_argument("--backup", metavar="FILE", default="", help="where to write the backup")
    kept.complete = completion.FILE  # type: ignore[attr-defined]
    text = (
        "do not rewrite an SQLite file that cannot give unused space back; it needs twice the file's size for a while"
    )
    up.add_argument("--no-vacuum", action="store_true", help=text)
    copied = add("copy-store", commands.store, "copy a whole store to an empty one; continues an interrupted copy")
    for name in ("source", "destination"):
        text = f"the {name}: sqlite:FILE, mysql://…, or env:NAME or file:PATH that contains one"
        copied.add_argument(name, metavar=name.upper(), help=text)
    _add_import(add)


def _add_import(add: Add) -> None:
    text = (
        "import the tables of the legacy C++ chat server into the configured store, which must be empty; or undo that"
    )
    old = add("import-chatserver", commands.store, text)
    text = "mysql://USER:PASSWORD@HOST:PORT/DB, or env:NAME or file:PATH that contains one"
    old.add_argument("source", metavar="URL", nargs="?", default="", help=text)
    text = "the character set that the legacy server gave its database with SET NAMES; auto = guess it (default)"
    charsets = ("auto", "utf8mb4", "utf8", "gbk", "latin1", "big5")
    old.add_argument("--charset", choices=charsets, default="auto", help=text)
    old.add_argument(
        "--dry-run", action="store_true", help="report what would be imported, changed or left out; write nothing"
    )
    kept = old.add_argument("--rejected", metavar="FILE", default="", help="where to write the rows that are left out")
    kept.complete = completion.FILE  # type: ignore[attr-defined]
    text = "address of a legacy server that must not answer any more; may be given several times"
    old.add_argument("--old-server", metavar="HOST:PORT", action="append", default=[], help=text)
    text = "import although the legacy server seems to run: what it stores later will be missing"
    old.add_argument("--even-if-running", action="store_true", help=text)
    text = "take an import back, while nobody has used the store since; an SQLite file is kept under another name"
    old.add_argument("--undo", action="store_true", help=text)
    old.add_argument("--force", action="store_true", help="with --undo: also if the store was used since")
    old.epilog = "example: chatctl import-chatserver file:/etc/chatd/legacy.url --dry-run"


EXIT_CODES = {NotAllowed: Exit.PERMISSION, Unavailable: Exit.UNAVAILABLE, ConfigError: Exit.CONFIG}
"""Exit codes for errors that do not carry one."""


def _one_of(*given: object) -> bool:
    return sum(map(bool, given)) == 1


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command, and return its exit code. arguments: None = those of this process."""
    options = parser().parse_args(arguments)
    if options.command == "user" and options.what == "add" and bool(options.name) == bool(options.file):
        note("user add: give the name of the user, or --file with many")
        return Exit.USAGE
    if (
        options.command == "user"
        and options.what == "erase"
        and not _one_of(options.name, options.id is not None, options.resume)
    ):
        note("user erase: give the name of the user, --id with the number of an account, or --resume")
        return Exit.USAGE
    if options.command == "import-chatserver" and bool(options.source) is options.undo:
        note("import-chatserver: give the URL of the legacy database, or --undo")
        return Exit.USAGE
    client: ControlClient | None = None
    try:
        client = _client(options.config, options.command)
        return int(options.run(client, options))
    except ServerUnreachable as error:
        return _report_unreachable(client, error)
    except (RequestFailed, BootError) as error:
        note(str(error))
        return error.exit_code
    except (NotAllowed, Unavailable, ConfigError) as error:
        note(str(error))
        return next(code for kind, code in EXIT_CODES.items() if isinstance(error, kind))
    except Refused as error:
        name = getattr(options, "name", "")
        note(f"{name}: {error.text}" if name else error.text)
        return REFUSED
    except PermissionError as error:
        note(f"permission denied: {error.filename or error}")
        return Exit.PERMISSION
    except UnicodeEncodeError:
        note("the arguments are not valid UTF-8")
        return Exit.USAGE


def _report_unreachable(client: ControlClient | None, error: ServerUnreachable) -> int:
    try:
        note(client.explain(error) if client else str(error))
    except NotAllowed as denied:
        note(str(denied))
        return Exit.PERMISSION
    return Exit.UNAVAILABLE


def _client(file: str | None, command: str) -> ControlClient:
    """The server that the configuration names. With a broken configuration the server is still looked for, because it
    runs with the one it was started with. Raises ConfigError for commands that need the file."""
    try:
        return ControlClient(config_load.load(file).config.server.runtime_dir)
    except ConfigError as error:
        if command in NEED_THE_FILE:
            raise
        guess = config_load.runtime_dir_of(file)
        if command != "reload":  # which says itself what is wrong
            note(f"{error}; looking for the server in {guess}")
        return ControlClient(guess, certain=False)


if __name__ == "__main__":
    sys.exit(main())
