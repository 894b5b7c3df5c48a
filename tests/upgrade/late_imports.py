"""`python -m tests.upgrade.late_imports -c FILE …` is chatd that tells which modules its workers import late.

Each worker writes those that it imported after its fork into a file of the directory LATE as it ends.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

import chatd.__main__ as entry
from chatd.worker_context import WorkerContext


def serve(context: WorkerContext) -> int:
    before = set(sys.modules)
    code = serve_as_ever(context)
    late = sorted(set(sys.modules) - before)
    Path(os.environ["LATE"], f"worker-{os.getpid()}").write_text("\n".join(late))
    return code


serve_as_ever = entry.serve
entry.serve = serve

if __name__ == "__main__":
    sys.exit(entry.main())
