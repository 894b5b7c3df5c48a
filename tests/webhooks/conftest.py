"""One row of tests: each of them keeps both cores busy."""

from __future__ import annotations

from tests.faults.conftest import _many_sockets  # noqa: F401
