"""Write chatd/texts/unicode.txt from files of the Unicode Character Database and of UTS #39.

Owns: which properties chatd needs that Python's unicodedata does not have, and the form in which they are shipped.
usage: unicode_table.py CONFUSABLES SCRIPTS SCRIPT_EXTENSIONS DERIVED_CORE_PROPERTIES PROPERTY_VALUE_ALIASES
A new version of the table changes the skeletons of names: it needs a migration of the store that fills them again.
"""

from __future__ import annotations

import re
import sys
from collections import defaultdict
from collections.abc import Iterable, Iterator
from pathlib import Path

TARGET = Path(__file__).parent.parent / "chatd" / "texts" / "unicode.txt"

HEAD = """\
# Confusable characters, scripts and invisible characters of Unicode {version}, as chatd.texts.unicode reads them.
# Written by docs/unicode_table.py from confusables.txt (UTS #39), Scripts.txt, ScriptExtensions.txt and
# DerivedCoreProperties.txt (UAX #44). Do not edit.
#
# Copyright (c) 1991-2022 Unicode, Inc. All rights reserved. Distributed under the Terms of Use in
# https://www.unicode.org/copyright.html.
#
# Permission is hereby granted, free of charge, to any person obtaining a copy of the Unicode data files and any
# associated documentation (the "Data Files") or Unicode software and any associated documentation (the "Software") to
# deal in the Data Files or Software without restriction, including without limitation the rights to use, copy, modify,
# merge, publish, distribute, and/or sell copies of the Data Files or Software, and to permit persons to whom the Data
# Files or Software are furnished to do so, provided that either (a) this copyright and permission notice appear with
# all copies of the Data Files or Software, or (b) this copyright and permission notice appear in associated
# Documentation.
#
# THE DATA FILES AND SOFTWARE ARE PROVIDED "AS IS", WITHOUT WARRANTY OF ANY KIND, EXPRESS OR IMPLIED, INCLUDING BUT NOT
# LIMITED TO THE WARRANTIES OF MERCHANTABILITY, FITNESS FOR A PARTICULAR PURPOSE AND NONINFRINGEMENT OF THIRD PARTY
# RIGHTS. IN NO EVENT SHALL THE COPYRIGHT HOLDER OR HOLDERS INCLUDED IN THIS NOTICE BE LIABLE FOR ANY CLAIM, OR ANY
# SPECIAL INDIRECT OR CONSEQUENTIAL DAMAGES, OR ANY DAMAGES WHATSOEVER RESULTING FROM LOSS OF USE, DATA OR PROFITS,
# WHETHER IN AN ACTION OF CONTRACT, NEGLIGENCE OR OTHER TORTIOUS ACTION, ARISING OUT OF OR IN CONNECTION WITH THE USE OR
# PERFORMANCE OF THE DATA FILES OR SOFTWARE.
#
# Except as contained in this notice, the name of a copyright holder shall not be used in advertising or otherwise to
# promote the sale, use or other dealings in these Data Files or Software without prior written authorization of the
# copyright holder.
#
# = PROTOTYPE: CHARACTERS    characters that look like the prototype
# s SCRIPTS: RANGES          characters of this script, or used in these scripts
# i: RANGES                  Default_Ignorable_Code_Point
"""


def entries(text: str) -> Iterator[list[str]]:
    """The fields of each line, without comments."""
    for line in text.removeprefix("\ufeff").splitlines():
        if fields := line.partition("#")[0].strip():
            yield [field.strip() for field in fields.split(";")]


def numbers(field: str) -> range:
    first, _, last = field.partition("..")
    return range(int(first, 16), int(last or first, 16) + 1)


def ranges(found: Iterable[int]) -> str:
    """Neighbours together: 41-5a 61."""
    parts: list[list[int]] = []
    for number in sorted(found):
        if parts and number == parts[-1][1] + 1:
            parts[-1][1] = number
        else:
            parts.append([number, number])
    return " ".join(f"{low:x}" if low == high else f"{low:x}-{high:x}" for low, high in parts)


def confusables(text: str) -> Iterator[str]:
    sources: dict[str, list[int]] = defaultdict(list)
    for source, target, *_ in entries(text):
        sources[" ".join(f"{int(one, 16):x}" for one in target.split())].append(int(source, 16))
    for target, found in sorted(sources.items(), key=lambda item: [int(one, 16) for one in item[0].split()]):
        yield f"= {target}: {' '.join(f'{one:x}' for one in sorted(found))}"


def scripts(script_text: str, extension_text: str, alias_text: str) -> Iterator[str]:
    short = {fields[2]: fields[1] for fields in entries(alias_text) if fields[0] == "sc"}
    script_of = {number: short[name] for field, name in entries(script_text) for number in numbers(field)}
    script_of.update((number, names) for field, names in entries(extension_text) for number in numbers(field))
    members: dict[str, list[int]] = defaultdict(list)
    for number, names in script_of.items():
        members[" ".join(sorted(names.split()))].append(number)
    for names, found in sorted(members.items()):
        yield f"s {names}: {ranges(found)}"


def ignorable(text: str) -> str:
    found = [one for field, name in entries(text) if name == "Default_Ignorable_Code_Point" for one in numbers(field)]
    return f"i: {ranges(found)}"


def main() -> int:
    look_alikes, script, extension, core, alias = (Path(name).read_text(encoding="utf-8-sig") for name in sys.argv[1:])
    version = re.search(r"# Version: (\S+)", look_alikes)
    assert version is not None
    lines = [*confusables(look_alikes), *scripts(script, extension, alias), ignorable(core)]
    TARGET.write_text(HEAD.format(version=version[1]) + "\n".join(lines) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
