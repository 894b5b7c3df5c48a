"""The beginning of a command that changes the store itself, with or without a running server.

Owns: begin(); StoreCommands, of a command with several verbs.
Elsewhere: whose the store is (chatctl.ownership), what is recorded of a change (chatctl.trail), the changes (accounts,
bans, keys, webhooks).
Fails: as become_owner: BootError.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Mapping

from chatd.chatctl.accounts import StoredAccounts
from chatd.chatctl.control_client import ControlClient, note
from chatd.chatctl.ownership import become_owner
from chatd.chatctl.trail import StoreTrail
from chatd.config.schema import Config
from chatd.store.open import configured


def begin(config: Config, client: ControlClient, *, create: bool = False) -> StoreTrail:
    """Become the user who owns the store, and say which store it is. create: create its directories if no server was
    ever started. What only the caller may do comes before; the trail knows who that was."""
    trail = StoreTrail(config, client)
    become_owner(config, create=create)
    note(f"store: {configured(config)}")
    return trail


class StoreCommands:
    """The verbs of one command. options: its arguments; the chosen verb is options.what."""

    def __init__(self, config: Config, trail: StoreTrail, options: argparse.Namespace) -> None:
        self._config = config
        self._trail = trail
        self._options = options
        self._store = StoredAccounts(config)

    def verbs(self) -> Mapping[str, Callable[[], int]]:
        """Each returns the exit code."""
        raise NotImplementedError

    def run(self) -> int:
        """Carry out the chosen one."""
        return self.verbs()[self._options.what]()
