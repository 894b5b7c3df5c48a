"""A plug-in that looks words up: the text `translate hello` to the server is answered with the word's translation.

Owns: Translate. Options: `file`, a dictionary of lines `word = translation` (default: the one that comes with chatd),
and `command`, the word that begins a question (default "translate"). Other texts are not answered.
Elsewhere: the contract of plug-ins (core.plugins.contract).
Fails: ValueError or OSError when it is loaded, for an option it does not know or a file it cannot read. If the file
becomes unreadable later, the call fails.

Its function is not async on purpose: such functions run in threads, so it may read a file.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from chatd.hooks import Reply, Request

_SHIPPED = Path(__file__).with_name("dictionary.txt")


class Translate:
    def __init__(self, options: Mapping[str, Any]) -> None:
        unknown = options.keys() - {"file", "command"}
        if unknown:
            raise ValueError(f"unknown option: {', '.join(sorted(unknown))}")
        self._file = Path(options.get("file", _SHIPPED))
        self._command = str(options.get("command", "translate"))
        self._read_at = 0
        self._words: dict[str, str] = {}
        self._look()

    def before_request(self, request: Request) -> Reply | None:
        command, _, word = request.body.partition(" ")
        word = word.strip()
        if request.op or command != self._command or not word:
            return None
        self._look()
        found = self._words.get(word.casefold())
        return Reply(f"{word} = {found}" if found else f"{word} is not in the dictionary")

    def _look(self) -> None:
        """Read the file again if it has changed. Two threads that do so at once read the same."""
        changed_at = self._file.stat().st_mtime_ns
        if changed_at == self._read_at:
            return
        words = {}
        for line in self._file.read_text(encoding="utf-8").splitlines():
            word, equals, translation = line.partition("=")
            if equals and not line.startswith("#"):
                words[word.strip().casefold()] = translation.strip()
        self._words, self._read_at = words, changed_at
