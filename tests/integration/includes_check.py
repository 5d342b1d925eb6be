#!/usr/bin/python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""Holds that the folders include one another in one direction only.

usage: includes_check.py SOURCE-DIRECTORY
The order stands in ORDER, and nowhere else. What is against it today stands in KNOWN: a new include of that kind fails, and
so does a line of KNOWN whose include is gone, so that the list only ever becomes shorter.
"""
import collections
import pathlib
import re
import sys

# From below to above. A folder includes those of the lines above its own in this list, never one of its own line.
ORDER = [
    ["text"],
    ["ap"],
    ["file"],
    ["host", "domain"],
    ["compat"],
    ["config"],
    ["hosts"],
    ["stream", "plan", "explain", "move"],
    ["report"],
    ["cli", "service", "hooks"],
]

# By arrow: the file and the header that it includes.
KNOWN = {
    "hooks -> cli": [
        ("hooks/tell.cpp", "cli/service_client.h"),
    ],
    "move -> cli": [
        ("src/move/drift_watch.cpp", "cli/service_client.h"),
        ("src/move/drift_watch.h", "cli/host_location.h"),
        ("src/move/libvirt_host.h", "cli/libvirt_library.h"),
    ],
    "move -> service": [
        ("src/move/drift_watch.cpp", "service/host_glance.h"),
        ("src/move/drift_watch.h", "service/event.h"),
    ],
    "plan -> report": [
        ("src/plan/render.h", "report/text.h"),
    ],
    "service -> cli": [
        ("src/service/destinations.cpp", "cli/service_client.h"),
        ("src/service/destinations.h", "cli/host_location.h"),
        ("src/service/libvirt_link.h", "cli/libvirt_library.h"),
        ("src/service/service.cpp", "cli/libvirt_guest.h"),
        ("src/service/service.h", "cli/host_location.h"),
        ("src/service/service.h", "cli/service_client.h"),
        ("src/service/vfioapd.cpp", "cli/host_location.h"),
        ("src/service/vfioapd.cpp", "cli/program.h"),
    ],
}

RANK = {folder: rank for rank, folders in enumerate(ORDER) for folder in folders}
# Headers of the own folder of hooks, and those that are generated into the build, have no folder in their name.
INCLUDE = re.compile(r'^\s*#\s*include\s*"([^"/]+)/([^"]+)"')


def sources(top):
    """The folder and the path of each file of the library, the programs and the hook."""
    for path in sorted(top.glob("src/*/*")) + sorted(top.glob("hooks/*")):
        if path.suffix in (".h", ".cpp"):
            yield path.parent.name, path


def main(top):
    top = pathlib.Path(top)
    faults = []
    against = collections.defaultdict(list)
    files = includes = 0
    for folder, path in sources(top):
        files += 1
        name = str(path.relative_to(top))
        if folder not in RANK:
            faults.append(f"{name}: the folder {folder} has no place in the order")
            continue
        for number, line in enumerate(path.read_text().splitlines(), 1):
            match = INCLUDE.match(line)
            if not match or match.group(1) == folder:
                continue
            includes += 1
            target, header = match.groups()
            if target not in RANK:
                faults.append(f"{name}:{number}: the folder of {target}/{header} has no place in the order")
            elif RANK[target] >= RANK[folder]:
                against[f"{folder} -> {target}"].append((name, f"{target}/{header}"))
    for arrow in sorted(KNOWN.keys() | against.keys()):
        found = collections.Counter(against[arrow])
        known = collections.Counter(KNOWN.get(arrow, []))
        for name, header in sorted((found - known).elements()):
            faults.append(f"{name} includes {header}: {arrow} is against the order")
        for name, header in sorted((known - found).elements()):
            faults.append(f"{name} does not include {header} any more: take it off the list of {arrow}")
        print(f"{arrow}: {found.total()} includes against the order")
    if files < 150 or includes < 150:
        faults.append(f"only {files} files with {includes} includes were found")
    for fault in faults:
        print(fault)
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
