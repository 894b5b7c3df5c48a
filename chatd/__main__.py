"""`chatd`: arguments, configuration, then the master.

Owns: the command line, and the one place where a failed start becomes an exit code and lines on standard error.
Elsewhere: the steps of a start (master.start), those of a program that takes over (master.upgrade.resume), whether
this program would serve in place of a running one (preflight).
Fails: exit codes of sysexits (errors.Exit).
"""

from __future__ import annotations

import gc

gc.disable()  # while modules are loaded: they leave next to no garbage, and looking for it takes a sixth of a start

import argparse
import os
import sys
import traceback
from collections.abc import Sequence

from chatd import __version__, completion, host_check, plugin_check
from chatd.arguments import Parser
from chatd.config import load as config_load
from chatd.config import metrics_options, strict
from chatd.config import render as config_render
from chatd.config.schema import Config
from chatd.config.validate import plain_passwords
from chatd.errors import BootError, ConfigError, Exit
from chatd.master import daemonize, privileges, start
from chatd.master.certificates import CertificatesOf, expiry_warnings, read_all
from chatd.master.upgrade import resume
from chatd.master.upgrade.execute import take_over
from chatd.master.upgrade.preflight import OPTION as PREFLIGHT
from chatd.master.upgrade.program import Program
from chatd.master.upgrade.state import MasterState
from chatd.worker_context import WorkerContext

gc.freeze()
gc.enable()


def parser() -> argparse.ArgumentParser:
    """The whole command line; also the source of the manual page and the completions."""
    made = Parser(prog="chatd", description="An instant-messaging server.")
    file = made.add_argument(
        "-c", "--config", metavar="FILE", help=f"configuration file (default: {config_load.DEFAULT_FILE})"
    )
    file.complete = completion.FILE  # type: ignore[attr-defined]
    made.add_argument("--daemon", action="store_true", help="run in the background; return when clients can connect")
    made.add_argument("-t", "--test", action="store_true", help="test the configuration and exit; change nothing")
    made.add_argument("-T", "--dump", action="store_true", help="test, print the configuration in effect and exit")
    made.add_argument("--allow-root", action="store_true", help="allow the server to run as root")
    made.add_argument(
        "--no-strict",
        action="store_true",
        help="do not check who else on this host may change or read the files of the server (for containers)",
    )
    made.add_argument(PREFLIGHT, type=int, metavar="DESCRIPTOR", help=argparse.SUPPRESS)
    made.add_argument("--version", action="version", version=f"chatd {__version__}")
    completion.add_option(made)
    return made


def prepare(config: Config) -> None:
    """Before the first fork: load all that workers need. Imported here, because `chatd -t` does not need it. Raises
    BootError."""
    gc.disable()
    try:
        from chatd import preload

        preload.load(config)
    finally:
        gc.freeze()
        gc.enable()


def serve(context: WorkerContext) -> int:
    """In a forked worker."""
    from chatd import worker

    return worker.run(context)


def main(arguments: Sequence[str] | None = None) -> int:
    """Test, dump or serve; returns the exit code. arguments: None = those of this process."""
    program = Program.of_this_process()
    options = parser().parse_args(arguments)
    try:
        if options.preflight is not None:
            return _preflight(options)
        state = take_over(os.environ)
        if state is not None:
            return _resume(state, options)
        loaded = config_load.load(options.config)
        _accept(loaded, options)
        if options.test or options.dump:
            _check_plugins(loaded, options.allow_root)
            return _test(loaded, options.dump)
        if loaded.file is None:
            daemonize.say(f"{config_load.DEFAULT_FILE} does not exist, using the built-in defaults", "NORMAL")
        privileges.identity(loaded.config.server, options.allow_root)
        if options.daemon:
            return _daemon(loaded, options.allow_root, program)
        prepare(loaded.config)
        return start.run(loaded, options.allow_root, serve, daemonize.StartReport(), program)
    except ConfigError as error:
        daemonize.say(str(error))
        return Exit.CONFIG
    except BootError as error:
        daemonize.say(str(error))
        return error.exit_code
    except KeyboardInterrupt:
        daemonize.say("interrupted while starting")
        return Exit.TRY_AGAIN
    except Exception:  # noqa: BLE001  a bug ends with its code, not with 1
        traceback.print_exc()
        return Exit.BUG


def _accept(loaded: config_load.Loaded, options: argparse.Namespace) -> None:
    """What a start checks of the configuration before it does anything. Raises ConfigError."""
    host_check.check(loaded.config, loaded.name)
    if options.daemon and loaded.config.server.log_dir == "-":
        raise ConfigError(f'{loaded.name}: server.log_dir: "-" (standard error) cannot be used with --daemon')
    if not options.no_strict:
        strict.check(loaded)


def _check_plugins(loaded: config_load.Loaded, allow_root: bool) -> None:
    """As the user that the server would run as. A start need not do this, because every worker does."""
    if loaded.config.hook:
        user = privileges.identity(loaded.config.server, allow_root)
        plugin_check.check(loaded.config, loaded.name, lambda: privileges.drop(user))


def _test(loaded: config_load.Loaded, dump: bool) -> int:
    """Raises ConfigError. The certificates are read as the server will read them."""
    owner = privileges.identity(loaded.config.server, allow_root=True) if os.geteuid() == 0 else None
    with privileges.acting_as(owner):
        found = read_all(loaded.config, loaded.name)
    for warning in _warnings(loaded.config, found):
        daemonize.say(f"{loaded.name}: warning: {warning}", "WARNING")
    for line in loaded.deprecated:
        daemonize.say(f"{loaded.name}: {line}", "WARNING")
    if dump:
        sys.stdout.write(config_render.effective(loaded))
    else:
        daemonize.say(f"{loaded.name}: the configuration is valid", "NORMAL")
    return Exit.OK


def _warnings(config: Config, found: CertificatesOf) -> list[str]:
    return [*plain_passwords(config), *metrics_options.opened(config.metrics), *expiry_warnings(found)]


def _preflight(options: argparse.Namespace) -> int:
    """Asked by a running server before an upgrade, with the arguments that it was started with. Raises BootError or
    ConfigError."""
    from chatd import preflight

    preflight.check(options.preflight, options.config, lambda loaded: _accept(loaded, options))
    return Exit.OK


def _resume(state: MasterState, options: argparse.Namespace) -> int:
    """The process has a new program. Raises BootError or ConfigError."""
    if options.daemon:
        os.chdir("/")
    return resume.run(state, options.config, prepare, serve)


def _daemon(loaded: config_load.Loaded, allow_root: bool, program: Program) -> int:
    report = daemonize.detach()
    try:
        prepare(loaded.config)
        return start.run(loaded, allow_root, serve, report, program)
    except BootError as error:
        report.send(error.exit_code, str(error))
        return error.exit_code


if __name__ == "__main__":
    sys.exit(main())
