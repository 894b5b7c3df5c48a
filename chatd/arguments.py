"""The command-line parser of chatd and chatctl.

Owns: the exit code of a wrong argument, that of sysexits.
Elsewhere: the arguments themselves (chatd.__main__, chatctl.__main__).
Fails: ends the process, as argparse does.
"""

from __future__ import annotations

import argparse
import sys
from typing import NoReturn

from chatd.errors import Exit


class Parser(argparse.ArgumentParser):
    """argparse itself would exit with 2, which monitors take for "critical"."""

    def error(self, message: str) -> NoReturn:
        self.print_usage(sys.stderr)
        self.exit(Exit.USAGE, f"{self.prog}: {message}\n")
