"""Completion of command lines in shells, without loading shtab, which makes the scripts, at every start.

Owns: what shtab is told of an argument that is a file or a folder, and the option that prints a script.
Elsewhere: making the scripts (shtab), where they are put (chatd.setup.completions).
Fails: never; a shell that is not known is a usage error of argparse.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from typing import Any

FILE = {
    "bash": "_shtab_compgen_files",
    "zsh": "_files",
    "tcsh": "f",
    "fish": "(__fish_complete_path (commandline -ct))",
    "powershell": "_shtab_powershell_compgen_files",
}
"""shtab.FILE: the value of an argument's attribute `complete` if it names a file."""
FOLDER = {
    "bash": "_shtab_compgen_dirs",
    "zsh": "_files -/",
    "tcsh": "d",
    "fish": "(__fish_complete_directories)",
    "powershell": "_shtab_powershell_compgen_dirs",
}
"""shtab.DIRECTORY."""
SHELLS = ("bash", "zsh", "tcsh", "fish", "powershell")
"""shtab.SUPPORTED_SHELLS."""


class _PrintScript(argparse.Action):
    def __call__(
        self,
        parser: argparse.ArgumentParser,
        namespace: argparse.Namespace,
        values: str | Sequence[Any] | None,
        option_string: str | None = None,
    ) -> None:
        import shtab

        print(shtab.complete(parser, str(values)))
        parser.exit(0)


def add_option(parser: argparse.ArgumentParser) -> None:
    """--print-completion SHELL: print the script and exit."""
    parser.add_argument(
        "--print-completion", choices=SHELLS, action=_PrintScript, help="print a shell completion script"
    )
