#!/usr/bin/python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""Holds that no code tells the real sysfs by its path, which has many spellings: SysfsRoot::is_real() does.

usage: sysfs_root_check.py SOURCE-DIRECTORY
"""
import pathlib
import re
import sys

PATH = re.compile(r'"/sys/?"')
# As the value that is taken where none is given it may stand.
DEFAULT = re.compile(r'(?<![=!<>])= "/sys";|\? variable : "/sys";')


def main(top):
    top = pathlib.Path(top)
    files = [path for folder in ("src", "hooks") for path in sorted((top / folder).rglob("*"))
             if path.suffix in (".h", ".cpp")]
    faults = [f"{path.relative_to(top)}:{number}: {line.strip()}" for path in files
              for number, line in enumerate(path.read_text().splitlines(), 1)
              if PATH.search(line.partition("//")[0]) and not DEFAULT.search(line)]
    for fault in faults:
        print(fault)
    if not files:
        faults.append("no sources")
    print(f"{len(files)} files, {len(faults)} comparisons with the path of sysfs")
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
