"""What the Debian package contains: the same as `chatd-setup install` puts in place, and the same in every build."""

from __future__ import annotations

import gzip
import hashlib
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from chatd.setup import plan
from chatd.setup.items import File, Link
from chatd.setup.place import Place
from tests.packages import builds

LIB = Path("/usr/lib/chatd")
MOVED = {
    "/etc/systemd/system": "/usr/lib/systemd/system",
    "/etc/sysusers.d": "/usr/lib/sysusers.d",
    "/etc/tmpfiles.d": "/usr/lib/tmpfiles.d",
    "/usr/share/zsh/site-functions": "/usr/share/zsh/vendor-completions",
    "/usr/share/fish/completions": "/usr/share/fish/vendor_completions.d",
}
"""Where a package of the distribution puts what an administrator puts into the former."""
OF_THE_PACKAGE = ("/usr/share/doc/chatd/", "/usr/share/lintian/")
"""What only a package has: its documents, but for the examples."""
EXAMPLES = "/usr/share/doc/chatd/examples/"


@pytest.fixture(scope="module")
def tree(package: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The package, extracted."""
    folder = tmp_path_factory.mktemp("tree")
    builds.run("dpkg-deb", "--extract", package, folder)
    return folder


def installed(root: Path) -> dict[str, bytes | str]:
    """By path, what chatd-setup would install with the prefix /usr on a host like Debian's: contents, or the target of
    a link."""
    for folder in ("etc/logrotate.d", "etc/fail2ban"):
        (root / folder).mkdir(parents=True)
    place = Place(root=root, prefix=Path("/usr"), commands=LIB / "bin")
    found: dict[str, bytes | str] = {}
    for one in plan.items(place, {}):
        path = str(one.path)
        if "chatd-setup" in path:
            continue  # who has the package does not need it
        for before, after in MOVED.items():
            if path.startswith(f"{before}/"):
                path = after + path.removeprefix(before)
        match one:
            case Link():
                found[path] = str(one.target)
            case File():
                found[path] = one.content
    return found


def packaged(tree: Path) -> dict[str, bytes | str]:
    """The same of the package, without the Python environment."""
    found: dict[str, bytes | str] = {}
    for path in _files(tree):
        name = "/" + str(path.relative_to(tree))
        if name.startswith("/lib/"):
            name = f"/usr{name}"
        if name.startswith(f"{LIB}/") or (name.startswith(OF_THE_PACKAGE) and not name.startswith(EXAMPLES)):
            continue
        if path.is_symlink():
            found[name] = os.path.normpath(Path(name).parent / path.readlink())
        else:
            content = path.read_bytes()
            found[name.removesuffix(".gz")] = gzip.decompress(content) if name.endswith(".gz") else content
    return found


def _files(tree: Path) -> Iterator[Path]:
    return (path for path in sorted(tree.rglob("*")) if path.is_symlink() or path.is_file())


@pytest.mark.slow
def test_the_package_has_what_chatd_setup_installs(tree: Path, tmp_path: Path) -> None:
    by_setup, by_package = installed(tmp_path), packaged(tree)
    assert sorted(by_setup) == sorted(by_package)
    different = [name for name, content in by_setup.items() if by_package[name] != content]
    assert different == []


def test_the_package_has_the_modules_of_the_wheel(tree: Path) -> None:
    (site,) = (tree / str(LIB)[1:] / "lib").glob("python3.*/site-packages")
    packages = ("chatd", "chatd_client")
    packaged = {
        str(path.relative_to(site)) for name in packages for path in (site / name).rglob("*") if path.suffix != ".pyc"
    }
    (wheel,) = builds.wheels().glob("chatd-*.whl")
    listed = builds.run(builds.PYTHON, "-m", "zipfile", "--list", wheel).splitlines()
    of_wheel = {line.split()[0] for line in listed if line.startswith(("chatd/", "chatd_client/"))}
    assert {name for name in packaged if (site / name).is_file()} == {
        name for name in of_wheel if not name.endswith("/")
    }


def sums(package: Path, folder: Path) -> dict[str, str]:
    """By path, the checksum of each file of a package, its control files included; links by their target."""
    builds.run("dpkg-deb", "--raw-extract", package, folder)
    return {
        str(path.relative_to(folder)): (
            f"-> {path.readlink()}" if path.is_symlink() else hashlib.sha256(path.read_bytes()).hexdigest()
        )
        for path in _files(folder)
    }


@pytest.mark.slow
def test_two_builds_are_the_same(package: Path, tmp_path: Path) -> None:
    """Later, in another directory, by another umask, and from a wheel that was built again."""
    (wheel,) = builds.wheels().glob("chatd-*.whl")
    first = hashlib.sha256(wheel.read_bytes()).hexdigest()
    builds.run("packaging/wheels", builds.PYTHON, "build/wheels")
    assert hashlib.sha256(wheel.read_bytes()).hexdigest() == first
    before = os.umask(0o077)
    try:
        again = builds.package(tmp_path / "again")
    finally:
        os.umask(before)
    assert again.name == package.name
    one, other = sums(package, tmp_path / "one"), sums(again, tmp_path / "other")
    assert {
        name: (one.get(name), other.get(name)) for name in one.keys() | other.keys() if one.get(name) != other.get(name)
    } == {}
    assert again.read_bytes() == package.read_bytes()
