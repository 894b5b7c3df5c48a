"""`chatctl ban`, `unban` and `bans`: keeping networks out.

Owns: what each changes in the store and prints; which networks are banned only after a confirmation; having the
server apply the change at once.
Elsewhere: the bans (address_bans), the command line (chatctl.acting), applying them (core.bans, net), their rows
(store.sql.address_bans).
Fails: the exceptions of control_client, ConfigError, BootError, Refused and Unavailable, which __main__ reports. A ban
that was written is in force, whatever the server says: workers find it within seconds, and at their start.
"""

from __future__ import annotations

import argparse
import contextlib
import ipaddress

import msgspec
import psutil

from chatd import wall_clock
from chatd.address_bans import FOREVER_MS, AddressBan, Network
from chatd.chatctl import render
from chatd.chatctl.accounts import StoredAccounts
from chatd.chatctl.asking import agreed
from chatd.chatctl.control_client import ControlClient, NotAllowed, RequestFailed, ServerUnreachable, note
from chatd.chatctl.store_command import begin
from chatd.chatctl.trail import StoreTrail
from chatd.config import load as config_load
from chatd.config.schema import Config
from chatd.core.bans import CHECK_S
from chatd.core.protected_networks import Protected, protected_in
from chatd.errors import Exit
from chatd.master.replies import ApplyBansReply
from chatd.master.requests import ApplyBansRequest

NOT_DONE = 1
"""Exit code: the network is protected, or is not banned."""


def bans(client: ControlClient, options: argparse.Namespace) -> int:
    """All three commands; on the store, as the user who owns it."""
    config = config_load.load(options.config).config
    own = operators_address() if options.command == "ban" else ""
    trail = begin(config, client)
    desk = BanCommands(client, config, trail)
    if options.command == "bans":
        return desk.show(as_json=options.json)
    if options.command == "unban":
        return desk.unban(options.network, as_json=options.json)
    return desk.ban(options, own)


class BanCommands:
    def __init__(self, client: ControlClient, config: Config, trail: StoreTrail) -> None:
        self._client = client
        self._config = config
        self._trail = trail
        self._store = StoredAccounts(config)

    # ---------------------------------------------------------------- the commands

    def ban(self, options: argparse.Namespace, own: str) -> int:
        """own: the address from which the operator is logged in."""
        network = options.network
        if not options.force and not _confirmed(protected_in(network, self._config, own), network):
            return NOT_DONE
        now_ms = wall_clock.now_ms()
        ban = AddressBan(
            network=str(network),
            reason=options.reason,
            by=self._trail.by,
            at_ms=now_ms,
            until_ms=now_ms + int(1000 * options.for_s) if options.for_s else FOREVER_MS,
        )
        arguments = {"network": ban.network, "for_s": options.for_s, "reason": ban.reason}
        with self._trail.ordered("ban", arguments):
            self._store.change(lambda tables: tables.address_bans.add(ban, now_ms))
        applied = self._apply()
        if options.json:
            _print_json({"ban": msgspec.to_builtins(ban), "ended": applied.ended if applied else None})
        else:
            print(f"banned: {_described(ban)}")
            if applied is not None:
                print(f"connections ended: {applied.ended}")
        return _code(applied)

    def unban(self, network: Network, *, as_json: bool) -> int:
        now_ms = wall_clock.now_ms()
        with self._trail.ordered("unban", {"network": str(network)}):
            removed = self._store.change(lambda tables: tables.address_bans.remove(str(network), now_ms))
        if not removed:
            note(f"{network} is not banned{self._hint(network, now_ms)}")
            return NOT_DONE
        applied = self._apply()
        if as_json:
            _print_json({"network": str(network)})
        else:
            print(f"no longer banned: {network}")
        return _code(applied)

    def show(self, *, as_json: bool) -> int:
        now_ms = wall_clock.now_ms()
        found = [one for one in self._all() if one.in_force(now_ms)]
        if as_json:
            _print_json({"bans": msgspec.to_builtins(found)})
        else:
            print(_table(found))
        return Exit.OK

    # ---------------------------------------------------------------- parts of them

    def _all(self) -> list[AddressBan]:
        with contextlib.closing(self._store.open()) as tables:
            return tables.address_bans.all()

    def _hint(self, network: Network, now_ms: int) -> str:
        """Which ban concerns it nevertheless."""
        for ban in self._all():
            other = ipaddress.ip_network(ban.network)
            if ban.in_force(now_ms) and other.version == network.version and other.overlaps(network):
                return f"; there is a ban of {ban.network}"
        return ""

    def _apply(self) -> ApplyBansReply | None:
        """Have the server apply the change at once. None: there is no server, or it cannot be asked."""
        try:
            return self._client.ask(ApplyBansRequest(), ApplyBansReply)
        except (ServerUnreachable, NotAllowed) as error:
            if isinstance(error, ServerUnreachable) and not self._client.running()[0]:
                note("no server is running here; it is in force when one starts")
            else:
                note(f"done; the server cannot be asked ({error}), its workers apply it within {CHECK_S:g} s")
        except RequestFailed as error:
            note(f"done; {error}. Workers apply it within {CHECK_S:g} s")
        return None


def _code(applied: ApplyBansReply | None) -> int:
    """The change is done; but whether every host has applied it may not be known."""
    if applied is None or not (applied.unanswered or applied.cut_off):
        return Exit.OK
    who = ", ".join(applied.unanswered) or "hosts that are not known here"
    note(f"no answer from {who}: they apply it when they can read the store")
    return Exit.TRY_AGAIN


# -------------------------------------------------------------------- what is protected


def operators_address() -> str:
    """The address from which whoever runs this is logged in by ssh, "" = nobody can tell. sudo hides the variable from
    its children, so the processes above are asked too, as far as that is allowed."""
    processes = [psutil.Process(), *psutil.Process().parents()]
    for process in processes:
        with contextlib.suppress(psutil.Error, OSError):
            words = str(process.environ().get("SSH_CONNECTION", "")).split()
            if words:
                return words[0]
    return ""


def _confirmed(hits: list[Protected], network: Network) -> bool:
    if not hits:
        return True
    for one in hits:
        note(f"{network} contains {one.network}: {one.why}")
    is_agreed = agreed(f"Ban {network} nevertheless?")
    if is_agreed is None:
        note("nothing was changed; if you mean it, add --force")
    return bool(is_agreed)


# -------------------------------------------------------------------- how it looks


def _described(ban: AddressBan) -> str:
    until = f"until {render.at(ban.until_ms)}" if ban.until_ms else "until `chatctl unban`"
    return f"{ban.network}, {until}" + (f" ({ban.reason})" if ban.reason else "")


def _table(found: list[AddressBan]) -> str:
    if not found:
        return "nobody is banned"
    rows = [
        [one.network, render.at(one.at_ms), render.at(one.until_ms) if one.until_ms else "-", one.by or "?", one.reason]
        for one in found
    ]
    return render.table(["NETWORK", "SINCE", "UNTIL", "BY", "REASON"], rows)


def _print_json(content: dict[str, object]) -> None:
    render.print_json({"v": 1, **content})
