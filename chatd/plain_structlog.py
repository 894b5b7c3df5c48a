"""structlog, loaded without rich.

Owns: the import. Where rich is installed, structlog loads it and pygments for an output that chatd does not use: 50 ms
of every start, and some megabytes of every process.
Elsewhere: the use of structlog (chatd.log).
Fails: never; in a process that has loaded rich already, structlog uses it.
"""

from __future__ import annotations

import sys

if "rich" in sys.modules:
    import structlog
else:
    sys.modules["rich"] = None  # type: ignore[assignment]  # an import of it fails now
    try:
        import structlog
    finally:
        del sys.modules["rich"]

__all__ = ["structlog"]
