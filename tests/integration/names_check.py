#!/usr/bin/python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""Holds that within a folder a name means one thing.

usage: names_check.py SOURCE-DIRECTORY
Builds with VFIOAP_UNITY compile a folder as one file. There a function of an unnamed namespace would hide one of the same
name from the next file, silently: so no name of an unnamed namespace may be one of another file's in the folder, nor of a
function that headers declare.
"""
import collections
import pathlib
import re
import sys

# Definitions begin in the first column, as clang-format has them. Operators and constructors have no name of their own.
FUNCTION = re.compile(r"^(?!return|using|else|namespace|template|static_assert)(?:\[\[nodiscard\]\] )?[\w:][\w:<>,&* ]*?[\w>&*] ?[ &*](\w+)\(")
TYPE = re.compile(r"^(?:class|struct|enum class|enum) (\w+)\b[^;]*$|^using (\w+) =")
VALUE = re.compile(r"^(?:constexpr|const) [\w:<>, ]+?[ >](\w+)(?: =|\{|$)")


def unnamed(text):
    """The lines within unnamed namespaces of a file."""
    inside = False
    raw = False
    for line in text.splitlines():
        if raw:
            raw = ')sh"' not in line
            continue
        raw = 'R"sh(' in line and ')sh"' not in line
        if line == "namespace {":
            inside = True
        elif line == "}  // namespace":
            inside = False
        elif inside:
            yield line


def names_of(lines):
    found = {}
    for line in lines:
        for kind in (FUNCTION, TYPE, VALUE):
            match = kind.match(line)
            if match:
                name = next(group for group in match.groups() if group)
                found[name] = line, kind is FUNCTION
                break
    return found


def main(top):
    top = pathlib.Path(top)
    declared = collections.defaultdict(set)
    for header in list(top.glob("src/*/*.h")) + list(top.glob("hooks/*.h")):
        for line in header.read_text().splitlines():
            match = FUNCTION.match(line)
            if match:
                declared[match.group(1)].add(str(header.relative_to(top)))
    faults = []
    files = 0
    for folder in sorted({path.parent for path in top.glob("src/*/*.cpp")} | {top / "hooks", top / "tests/support"}):
        seen = collections.defaultdict(dict)
        for path in sorted(folder.glob("*.cpp")):
            files += 1
            text = path.read_text()
            # A program's own file is compiled by itself.
            if "\nint main(" not in text:
                for name, found in names_of(unnamed(text)).items():
                    seen[name][path.name] = found
        for name, places in sorted(seen.items()):
            lines = {line for line, _ in places.values()}
            same_alias = len(lines) == 1 and next(iter(lines)).startswith("using ")
            if len(places) > 1 and not same_alias:
                faults.append(f"{folder.relative_to(top)}: {name} stands in {', '.join(places)}")
            if name in declared and any(function for _, function in places.values()):
                faults.append(f"{folder.relative_to(top)}: {name} of {', '.join(places)} hides that of "
                              f"{', '.join(sorted(declared[name]))}")
    if files < 50:
        faults.append(f"only {files} files were found")
    print(*faults, sep="\n")
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
