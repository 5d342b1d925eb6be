#!/usr/bin/python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""Holds manual pages and completion against the programs.

usage: manual_check.py rules MANUALS LIST-RULES
       manual_check.py options MANUALS COMPLETION PROGRAM...
       manual_check.py snapshot MANUALS SCHEMA
       manual_check.py state MANUALS RELAX-NG
"""
import json
import pathlib
import re
import subprocess
import sys


def output(*command):
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


def entries(page):
    """The names of .It Ic lines with the line after each."""
    lines = page.read_text().splitlines()
    return [(name.strip(), lines[i + 1:i + 3]) for i, line in enumerate(lines) if line.startswith(".It Ic ")
            for name in line[len(".It Ic "):].split(" , ")]


def check_rules(manuals, list_rules):
    table = {rule["name"]: rule for rule in json.loads(output(list_rules))}
    found = entries(manuals / "vfioap-rules.7")
    names = [name for name, _ in found]
    for name in table.keys() - set(names):
        yield f"{name}: no entry"
    for name in sorted({name for name in names if names.count(name) > 1}):
        yield f"{name}: more than one entry"
    for name, lines in found:
        if name not in table:
            yield f"{name}: no such rule"
            continue
        rule = table[name]
        expected = [f"Native: {rule['native']}.", f"Detached: {rule['detached']}."]
        if lines != expected:
            yield f"{name}: {' '.join(lines)} instead of {' '.join(expected)}"


def options_of_help(text):
    """{option: words it takes} and the subcommands."""
    options, commands, section = {}, [], ""
    for line in text.replace(" REQUIRED\n", "\n").splitlines():
        if not line.startswith(" "):
            section = line
        elif section == "Subcommands:" and re.match(r"  \w", line):
            commands.append(line.split()[0])
        elif match := re.match(r"  (-\S+)", line):
            spelled = match[1].split(",")
            words = re.search(r": ((?:\w+, )+\w+)$", line)
            for option in spelled:
                options[option] = words[1].split(", ") if words else []
    return options, commands


def options_of_page(page):
    options = set()
    for line in page.read_text().splitlines():
        if line.startswith(".It Fl "):
            options |= {"-" + word for word in re.findall(r"(?<=[ ])(-?[\w-]+)(?= ,| Ar|$)", line[len(".It Fl"):])
                        if word.startswith("-") or len(word) == 1}
    return options


def complete(completion, *words):
    function = "_" + words[0].replace("-", "_")
    script = ('source "$1"; shift; COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1)); '
              + function + '; printf "%s\\n" "${COMPREPLY[@]}"')
    return set(output("bash", "-c", script, "bash", completion, *words).split())


def check_options(manuals, completion, *programs):
    for program in programs:
        name = pathlib.Path(program).name
        common, commands = options_of_help(output(program, "--help"))
        if "--help" not in common or "--destination" not in common:
            yield f"{name}: --help was not understood"
        everything = dict(common)
        page = manuals / f"{name}.1"
        for command in commands:
            own, _ = options_of_help(output(program, command, "--help"))
            everything |= own
            offered = {o for o in complete(completion, name, command, "-") | complete(completion, name, command, "--")}
            for option in (common | own).keys() - offered:
                yield f"{name} {command}: {option} is not completed"
            for option in offered - (common | own).keys():
                yield f"{name} {command}: completes {option}, which is not there"
            if f".It Cm {command}" not in page.read_text():
                yield f"{page.name}: no entry for {command}"
        if commands and complete(completion, name, "") != set(commands):
            yield f"{name}: completes {complete(completion, name, '')}, not {commands}"
        offered = complete(completion, name, "-") | complete(completion, name, "--")
        if offered != set(common):
            yield f"{name}: completes or lacks {sorted(offered ^ set(common))}"
        for option, words in everything.items():
            if words and complete(completion, name, option, "") != set(words):
                yield f"{name}: {option} takes {words}, completed are {complete(completion, name, option, '')}"
        if not any(everything.values()):
            yield f"{name}: --help names no words"
        for option in everything.keys() ^ options_of_page(page):
            yield f"{page.name}: {option} is " + ("missing" if option in everything else "not an option")


def check_snapshot(manuals, schema_file):
    schema = json.loads(pathlib.Path(schema_file).read_text())
    members = set()
    for part in [schema, *schema["$defs"].values()]:
        members |= set(part.get("properties", {}))
    named = {name for name, _ in entries(manuals / "vfioap-snapshot.5")}
    for name in sorted(members ^ named):
        yield f"{name}: " + ("not in the manual" if name in members else "not in the schema")


def check_state(manuals, grammar):
    named = {name for name, _ in entries(manuals / "vfioap-state.5")}
    text = pathlib.Path(grammar).read_text()
    root = set(re.findall(r'<attribute name="([\w-]+)"', text[:text.index("</start>")]))
    elements = set(re.findall(r'<element name="([\w-]+)"', text)) - {"config"}
    for name in sorted((root | elements) ^ named):
        yield f"{name}: " + ("not in the grammar" if name in named else "not in the manual")


def main(what, manuals, *rest):
    checks = {"rules": check_rules, "options": check_options, "snapshot": check_snapshot, "state": check_state}
    failures = list(checks[what](pathlib.Path(manuals), *rest))
    print("\n".join(failures) or "the manual is right")
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
