"""What the command lines of chatd and chatctl have in common: a wrong argument ends with the exit code of sysexits."""

from __future__ import annotations

import argparse
import sys
from typing import NoReturn

from chatd.errors import Exit


class Parser(argparse.ArgumentParser):
    """argparse would end with 2, which means something else to monitors."""

    def error(self, message: str) -> NoReturn:
        self.print_usage(sys.stderr)
        self.exit(Exit.USAGE, f"{self.prog}: {message}\n")
