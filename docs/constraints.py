"""Write the constraints: every dependency, with its version and the hashes of all its files.

Owns: constraints.txt (what `make run` installs, and the build backend) and constraints-dev.txt (that, what tests and
checks need, and mysqlclient). usage: constraints.py UV [--upgrade], by `make constraints`; UV is the program that
resolves. Without --upgrade the versions in the files stay where they still fit pyproject.toml.

Both files are for every supported Python and for Linux on x86_64 and aarch64: the hashes are of all files of a release.
"""

from __future__ import annotations

import subprocess
import sys
import tomllib
from pathlib import Path

ROOT = Path(__file__).parent.parent
RUN, DEV = ROOT / "constraints.txt", ROOT / "constraints-dev.txt"
HEAD = "# Versions and hashes of what chatd {what}. Written by `make constraints`; do not edit.\n"


def main(arguments: list[str]) -> int:
    uv, *more = arguments
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    oldest = project["project"]["requires-python"].removeprefix(">=")
    build = "\n".join(project["build-system"]["requires"])

    def write(path: Path, what: str, *options: str) -> None:
        subprocess.run(
            [uv, "pip", "compile", "pyproject.toml", "-", "--universal", "--generate-hashes", "--no-header",
             "--no-annotate", "--quiet", "--python-version", oldest, "--output-file", path.name, *options, *more],
            cwd=ROOT, input=build, text=True, check=True,
        )  # fmt: skip
        lines = [line for line in path.read_text().splitlines(keepends=True) if not line.startswith("# Versions")]
        path.write_text(HEAD.format(what=what) + "".join(lines))

    write(RUN, "needs to run, and the build backend")
    write(DEV, "needs to be tested and checked", "--extra", "dev", "--extra", "mysql", "--constraints", RUN.name)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
