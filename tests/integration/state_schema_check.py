#!/usr/bin/python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""Holds xml/vfioap-domain.rng, the states that are written and those that are refused together.

usage: state_schema_check.py WRITE-STATES RELAX-NG STATES-DIRECTORY MANUAL
Exit 77: xmllint is missing.
"""
import pathlib
import re
import shutil
import subprocess
import sys
import tempfile

# What only a reader can tell: see the comment in the grammar.
BEYOND_A_GRAMMAR = {
    "control_domain_descending.xml", "control_domain_twice.xml", "descending_adapters.xml", "descending_domains.xml",
    "entity.xml", "everything_many_times.xml", "hwinfo_long.xml", "hwinfo_short.xml", "key_register_twice.xml",
    "keys_of_no_queue.xml", "keys_twice.xml", "queue_in_hwinfo_too.xml", "queue_twice.xml", "queue_twice_by_range.xml",
}
# Readers are more tolerant than what is written is.
READ_ONLY = {"later_version.xml", "without_namespace.xml"}
LIMIT = 1024 * 1024


def xmllint(*arguments, **options):
    return subprocess.run(["xmllint", *arguments], capture_output=True, text=True, check=False, **options)


def valid(grammar, file):
    return xmllint("--noout", "--nonet", "--relaxng", grammar, str(file))


def formatted(element):
    """As libvirt shows it: indented, inside of <metadata> of <domain>."""
    text = f"<domain><metadata>{element}</metadata></domain>"
    shown = xmllint("--format", "-", input=text).stdout
    return shown[shown.index("<metadata>"):shown.index("</metadata>")]


def main(write_states, grammar, states, manual):
    if not shutil.which("xmllint"):
        print("skipped: xmllint is missing (package libxml2-utils)")
        return 77
    failures = []
    with tempfile.TemporaryDirectory() as directory:
        subprocess.run([write_states, directory], check=True)
        written = sorted(pathlib.Path(directory).glob("*.xml"))
        if len(written) < 10:
            failures.append(f"only {len(written)} states were written")
        for file in written:
            done = valid(grammar, file)
            if done.returncode:
                failures.append(f"{file.name}: {done.stderr[:500]}")
            size = len(formatted(file.read_text()).encode())
            if size >= LIMIT:
                failures.append(f"{file.name}: {size} bytes once it is formatted")
        # The example of the manual is one, too.
        page = pathlib.Path(manual).read_text().replace("\\e", "\\")
        example = re.search(r"^<vfioap:config.*?^</vfioap:config>", page, re.S | re.M)
        shown = pathlib.Path(directory) / "manual.xml"
        shown.write_text(example[0] if example else "")
        done = valid(grammar, shown)
        if done.returncode:
            failures.append(f"{manual}: {done.stderr[:500]}")

    refused = 0
    for kind in ("good", "bad"):
        for file in sorted((pathlib.Path(states) / kind).glob("*.xml")):
            done = valid(grammar, file)
            expected = file.name not in READ_ONLY if kind == "good" else file.name in BEYOND_A_GRAMMAR
            refused += done.returncode != 0
            if (done.returncode == 0) != expected:
                failures.append(f"{kind}/{file.name}: " + (done.stderr[:500] or "the grammar takes it"))
    print("\n".join(failures) or f"{len(written)} states fit the grammar, {refused} bad ones do not")
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
