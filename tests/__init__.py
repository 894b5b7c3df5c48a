"""Bytecode is written, whatever the environment says: without it each of the many daemons and commands that the tests
start would compile all of chatd again."""

import os
import sys

os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
sys.dont_write_bytecode = False
