#!/usr/bin/python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""Holds manual pages and completion against the programs.

usage: manual_check.py rules MANUALS LIST-RULES
       manual_check.py options MANUALS COMPLETION PROGRAM...
       manual_check.py snapshot MANUALS SCHEMA
       manual_check.py stream MANUALS SCHEMA VFIOAPCTL
       manual_check.py dbus MANUALS INTROSPECTION-FILES SERVICE-SOURCES
       manual_check.py state MANUALS RELAX-NG
"""
import json
import os
import pathlib
import re
import subprocess
import sys
import xml.etree.ElementTree as ET


MESSAGES = '.\\" from the catalogue\n'
MESSAGES_END = '.\\" end of the catalogue\n'


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
        if name.startswith("live-update.") != (rule["native"] == rule["detached"] == "none" != rule["live-update"]):
            yield f"{name}: the section of live update is for rules that speak in that mode only"
        if lines != expected:
            yield f"{name}: {' '.join(lines)} instead of {' '.join(expected)}"
    # The section of messages is made from the catalogue; VFIOAP_UPDATE_GOLDEN=1 writes it anew.
    page = manuals / "vfioap-rules.7"
    front, _, rest = page.read_text().partition(MESSAGES)
    written, end, behind = rest.partition(MESSAGES_END)
    made = output(list_rules, "messages")
    if os.environ.get("VFIOAP_UPDATE_GOLDEN") == "1" and end:
        page.write_text(front + MESSAGES + made + end + behind)
    elif not end or written != made:
        yield "the section MESSAGES is not what the catalogue says: VFIOAP_UPDATE_GOLDEN=1 writes it anew"


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


def check_entry(page, command, options):
    """The entry of a command names all options of its own."""
    entry = re.search(rf"^\.It Cm {command}(?: .*)?\n(?:(?!\.It Cm ).*\n)*", page.read_text(), re.M)
    if not entry:
        yield f"{page.name}: no entry for {command}"
        return
    for option in options.keys() - {"-h", "--help"}:
        if not re.search(rf"(?:Fl|,) {re.escape(option[1:])}\b", entry[0]):
            yield f"{page.name}: the entry of {command} does not name {option}"


def check_options(manuals, completion, *programs):
    for program in programs:
        name = pathlib.Path(program).name
        common, commands = options_of_help(output(program, "--help"))
        if "--help" not in common or "--destination" not in common:
            yield f"{name}: --help was not understood"
        everything = dict(common)
        page = manuals / f"{name}.1"
        # Commands may have commands of their own: each is a list of words.
        open_commands = [[command] for command in commands]
        while open_commands:
            words = open_commands.pop(0)
            command = " ".join(words)
            own, nested = options_of_help(output(program, *words, "--help"))
            everything |= own
            offered = complete(completion, name, *words, "-") | complete(completion, name, *words, "--")
            for option in (common | own).keys() - offered:
                yield f"{name} {command}: {option} is not completed"
            for option in offered - (common | own).keys():
                yield f"{name} {command}: completes {option}, which is not there"
            if nested and complete(completion, name, *words, "") != set(nested):
                yield f"{name} {command}: completes {complete(completion, name, *words, '')}, not {nested}"
            if not nested:
                yield from check_entry(page, command, own)
            for option, choices in own.items():
                if choices and complete(completion, name, *words, option, "") != set(choices):
                    yield f"{name} {command}: {option} takes {choices}, which is not what is completed"
            open_commands += [[*words, command] for command in nested]
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


def members_of(part):
    """The names of all members that a schema describes, at any depth."""
    if isinstance(part, list):
        return {name for item in part for name in members_of(item)}
    if not isinstance(part, dict):
        return set()
    properties = part.get("properties", {})
    deeper = [value for key, value in part.items() if key != "properties"]
    return set(properties) | members_of(deeper) | members_of(list(properties.values()))


def check_members(page, schema_file):
    members = members_of(json.loads(pathlib.Path(schema_file).read_text()))
    named = {name for name, _ in entries(page)}
    for name in sorted(members ^ named):
        yield f"{name}: " + ("not in the manual" if name in members else "not in the schema")


def check_snapshot(manuals, schema_file):
    yield from check_members(manuals / "vfioap-snapshot.5", schema_file)


def check_stream(manuals, schema_file, program):
    """The members of the JSON; and the example is a stream, of which the page says what decode says."""
    page = manuals / "vfioap-stream.5"
    yield from check_members(page, schema_file)
    dump = re.findall(r"^([0-9a-f]{4})  ((?:[0-9a-f]{2} )*[0-9a-f]{2})(?:  |$)", page.read_text(), re.M)
    stream = b""
    for offset, line in dump:
        if int(offset, 16) != len(stream):
            yield f"the example: {offset} comes after {len(stream)} bytes"
        stream += bytes.fromhex(line)
    done = subprocess.run([program, "stream", "decode"], input=stream, capture_output=True, check=False)
    if done.returncode != 0 or not stream:
        yield f"the example is refused: {done.stderr.decode()}"
    shown = page.read_text().split(".Bd -literal\nlayout", 1)[-1].split(".Ed", 1)[0].splitlines()
    found = done.stdout.decode().removeprefix("layout").splitlines()
    if len(shown) != len(found):
        yield f"the example: {len(shown)} lines are shown of {len(found)}"
    for here, there in zip(shown, found):
        if not (there.startswith(here[:-1]) if here.endswith("…") else here == there):
            yield f"the example: '{there}', not '{here}'"


def check_dbus(manuals, directory, source):
    """Each member of the interfaces, and each error that the service answers with, and nothing else."""
    page = manuals / "vfioap-dbus.7"
    named = {name.split(" Pq ")[0] for name, _ in entries(page)}
    members = {member.get("name") for file in pathlib.Path(directory).glob("org.vfioap1.*.xml")
               for member in ET.parse(file).find("interface") if member.tag in ("method", "property", "signal")}
    for name in sorted(members ^ named):
        yield f"{name}: " + ("not in the manual" if name in members else "not on the bus")
    text = "\n".join(file.read_text() for file in pathlib.Path(source).glob("*.cpp"))
    listed = set(re.findall(r"^\.It Sy (.*)$", page.read_text(), re.M))
    listed = {name for line in listed for name in line.split(" , ")}
    for name in sorted(listed):
        if f'"{name}"' not in text:
            yield f"{name}: the service has no such error"
    for name in re.findall(r'CallError\{\s*"(\w+)"', text):
        if name not in listed:
            yield f"{name}: an error that is not in the manual"


def check_state(manuals, grammar):
    named = {name for name, _ in entries(manuals / "vfioap-state.5")}
    text = pathlib.Path(grammar).read_text()
    root = set(re.findall(r'<attribute name="([\w-]+)"', text[:text.index("</start>")]))
    elements = set(re.findall(r'<element name="([\w-]+)"', text)) - {"config"}
    for name in sorted((root | elements) ^ named):
        yield f"{name}: " + ("not in the grammar" if name in named else "not in the manual")


def main(what, manuals, *rest):
    checks = {"rules": check_rules, "options": check_options, "snapshot": check_snapshot, "stream": check_stream,
              "dbus": check_dbus, "state": check_state}
    failures = list(checks[what](pathlib.Path(manuals), *rest))
    print("\n".join(failures) or "the manual is right")
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
