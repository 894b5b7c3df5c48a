"""[files]: what may be said there, and that a place that others could change is refused."""

from __future__ import annotations

from pathlib import Path

import pytest

from chatd.config import load, render, strict
from chatd.config.files_options import SAFE_TYPES, FilesOptions
from chatd.errors import ConfigError


def written(folder: Path, *lines: str) -> Path:
    file = folder / "chatd.toml"
    head = f'[server]\nstate_dir = "{folder}/state"\nruntime_dir = "{folder}/run"\nlog_dir = "-"\n'
    file.write_text("\n".join([head, "[files]", *lines]) + "\n")
    file.chmod(0o600)
    return file


def loaded(folder: Path, *lines: str) -> FilesOptions:
    return load.load(str(written(folder, *lines))).config.files


@pytest.mark.parametrize(
    ("line", "what"),
    [
        ('s3 = "https://bucket"', "expected s3://BUCKET/PREFIX"),
        ('s3 = "s3://B"', "expected s3://BUCKET/PREFIX"),
        ('dir = "files"\ns3 = "s3://bucket"', "one place"),
        ('dir = "state"', "a directory of its own"),
        ('dir = "."', "a directory of its own"),
        ('url = "chat.example.org"', "without a path"),
        ('url = "https://chat.example.org/"', "without a path"),
        ('url = "https://somebody@chat.example.org"', "without a path"),
        ('types = ["image"]', "expected media types"),
        ('types = ["IMAGE/PNG"]', "expected media types"),
        ('types = ["text/html; charset=utf-8"]', "expected media types"),
        ("quota_bytes = 1000", "less than files.max_bytes"),
        ("max_bytes = 0", "max_bytes"),
        ("per_message = 51", "per_message"),
    ],
)
def test_what_cannot_be_is_refused(tmp_path: Path, line: str, what: str) -> None:
    with pytest.raises(ConfigError, match=what):
        loaded(tmp_path, line)


def test_files_are_off_by_default_and_on_with_a_place(tmp_path: Path) -> None:
    assert not loaded(tmp_path).on
    options = loaded(tmp_path, 'dir = "state/files"')
    assert options.on
    assert options.dir == f"{tmp_path}/state/files"
    assert loaded(tmp_path, 's3 = "s3://bucket-1/some/prefix"').on


def test_settings_of_an_object_store_are_a_secret_in_a_file(tmp_path: Path) -> None:
    (tmp_path / "s3").write_text("AWS_SECRET_ACCESS_KEY=hidden\n")
    (tmp_path / "s3").chmod(0o600)
    found = load.load(str(written(tmp_path, 's3 = "s3://bucket"', 's3_settings = "file:s3"')))
    assert found.config.files.s3_settings == "AWS_SECRET_ACCESS_KEY=hidden"
    assert "files.s3_settings" in found.secrets
    assert not render.holds_secret(found)
    assert render.holds_secret(load.load(str(written(tmp_path, 's3_settings = "AWS_SECRET_ACCESS_KEY=hidden"'))))


def test_a_directory_that_others_can_change_is_refused(tmp_path: Path) -> None:
    place = tmp_path / "files"
    place.mkdir()
    found = load.load(str(written(tmp_path, 'dir = "files"')))
    place.chmod(0o750)
    assert not [line for line in strict.problems(found) if str(place) in line]
    place.chmod(0o777)
    assert [line for line in strict.problems(found) if str(place) in line]


def test_types_are_accepted_by_name_family_or_altogether() -> None:
    assert FilesOptions().accepts("image/png")
    assert not FilesOptions().accepts("image/svg+xml")
    assert not FilesOptions().accepts("text/html")
    assert FilesOptions(types=("image/*",)).accepts("image/svg+xml")
    assert FilesOptions(types=("*/*",)).accepts("text/html")
    assert not FilesOptions(types=()).accepts("image/png")
    assert not any("html" in one or "svg" in one or "javascript" in one for one in SAFE_TYPES)
