#!/usr/bin/python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""vfioapctl migrate as far as it goes on guests of libvirt's test driver, which cannot migrate: what it says, its exit
codes, and the schema of its report.

usage: moves_check.py VFIOAPCTL SCHEMA HOSTS
Exit 77: python3-jsonschema or libvirt is missing.
"""
import json
import os
import pathlib
import subprocess
import sys
import tempfile

try:
    import jsonschema
except ImportError:
    print("skipped: python3-jsonschema is missing")
    sys.exit(77)

sys.dont_write_bytecode = True
from report_schema_check import validator  # noqa: E402
from schema_check import errors  # noqa: E402

MDEV = "62177883-f1bb-47f0-914d-32a22e3a8804"
UUIDS = {"guest1": "6b8f5c1e-2d4a-4e0f-9b1c-7a3d5e8f1c20", "plain": "6b8f5c1e-2d4a-4e0f-9b1c-7a3d5e8f1c21"}
HOSTDEV = ("<devices><hostdev mode='subsystem' type='mdev' model='vfio-ap'><source>"
           f"<address uuid='{MDEV}'/></source></hostdev></devices>")
DOMAIN = ("<domain type='test'><name>{}</name><uuid>{}</uuid><memory>65536</memory><os><type arch='i686'>hvm</type>"
          "</os>{}</domain>")
RECORD = {"schema": "vfioap-move/1", "guest": "guest1", "guest_uuid": UUIDS["guest1"], "mdev": MDEV, "source": "local",
          "destination": "nowhere.json", "state": "", "was_persistent": True, "defined_there": False, "step": "migrate"}
EXIT = {"moved": 0, "not-moved": 1, "needs-person": 3, "would-move": 0}


def main(program, schema, hosts):
    hosts = pathlib.Path(hosts).resolve()
    valid = validator(pathlib.Path(schema))
    failures = []
    with tempfile.TemporaryDirectory() as name:
        directory = pathlib.Path(name)
        node = directory / "node.xml"
        node.write_text("<node>" + DOMAIN.format("guest1", UUIDS["guest1"], HOSTDEV) +
                        DOMAIN.format("plain", UUIDS["plain"], "") + "</node>")
        uri, journal = f"test://{node}", directory / "moves"

        def migrate(*options, form="json"):
            return subprocess.run([program, "migrate", "-c", uri, "--journal", journal, "--format", form, *options],
                                  stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False,
                                  env={**os.environ, "LC_ALL": "C.UTF-8"})

        def to(host, *options, **more):
            return migrate("-s", hosts / "lpar-a.json", "-d", hosts / f"{host}.json", "--desturi", uri, *options, **more)

        def expect(what, done, outcome, **members):
            """One move that has ended like that; outcome None: none was tried."""
            try:
                document = json.loads(done.stdout)
            except ValueError:
                failures.append(f"{what}: exit {done.returncode}: no JSON: {done.stdout} {done.stderr}")
                return
            failures.extend(f"{what}: {error}" for error in errors(valid, document))
            ended = [move["outcome"] for move in document["moves"]]
            if ended != ([outcome] if outcome else []) or done.returncode != EXIT.get(outcome, 0):
                failures.append(f"{what}: exit {done.returncode}: {document} {done.stderr}")
                return
            for member, wanted in members.items():
                found = document["moves"][0][member]
                if not (wanted(found) if callable(wanted) else found == wanted):
                    failures.append(f"{what}: {member} {found}")

        probe = to("lpar-a", "--dry-run", "guest1")
        if "cannot connect to libvirt" in probe.stderr or "libvirt is not installed" in probe.stderr:
            print(f"skipped: {probe.stderr.strip()}")
            return 77
        expect("a dry run", probe, "would-move", mode="detached", has_device=True, host="this host", reason="", rules=[],
               to_do=[])
        expect("a dry run of all", to("lpar-a", "--dry-run", "--all"), "would-move")
        expect("a dry run of all, none of which can go", to("lpar-b", "--detached", "--dry-run", "--all"), "not-moved")
        table = to("lpar-a", "--dry-run", "--all", form="text").stdout
        if not table.endswith("\n\nGUEST   OUTCOME\nguest1  would-move\n"):
            failures.append(f"the table of a dry run: {table!r}")
        expect("a destination that is not ready", to("lpar-b", "--detached", "guest1"), "not-moved", mode="detached",
               rules=lambda rules: "queue.not-bound" in rules, has_device=True,
               reason=lambda text: "the check says incompatible" in text)
        expect("a guest without a device", to("lpar-b", "--detached", "plain"), "not-moved", has_device=False, rules=[],
               guest={"name": "plain", "uuid": UUIDS["plain"], "mdev": None},
               reason=lambda text: "no vfio-ap device" in text)
        # The test driver's other connection has the same guests.
        expect("a guest that is there already", to("lpar-a", "--detached", "guest1"), "not-moved",
               reason=lambda text: "runs at the destination" in text)
        expect("nothing to recover", migrate("--recover"), None)
        asked = to("lpar-a", "guest1")
        if asked.returncode != 2 or "--detached" not in asked.stderr:
            failures.append(f"nobody to be asked: exit {asked.returncode}: {asked.stderr}")
        journal.mkdir(exist_ok=True)
        record = journal / f"{UUIDS['guest1']}.json"
        record.write_text(json.dumps({**RECORD, "source_uri": uri, "destination_uri": f"test://{directory}/nowhere"}))
        expect("an unfinished move", to("lpar-a", "--detached", "guest1"), "needs-person",
               to_do=["vfioapctl migrate --recover guest1"])
        expect("a recovery without the other host", migrate("--recover", "guest1"), "needs-person", host=None,
               has_device=False, to_do=lambda texts: "vfioapctl migrate --recover guest1" in texts[0])
        if not record.exists():
            failures.append("the journal is gone, but nothing is recovered")
        record.write_text("{}")
        damaged = migrate("--recover")
        if damaged.returncode != 3 or str(record) not in damaged.stderr:
            failures.append(f"a damaged journal: exit {damaged.returncode}: {damaged.stderr}")
        journal.rename(directory / "aside")
        journal.write_text("no directory")
        unreadable = migrate("--recover")
        if unreadable.returncode != 3 or f"{journal}: cannot read directory" not in unreadable.stderr:
            failures.append(f"a journal that cannot be listed: exit {unreadable.returncode}: {unreadable.stdout}"
                            f"{unreadable.stderr}")

    # Not a validator that takes all.
    move = {"guest": {"name": "a", "uuid": UUIDS["plain"], "mdev": None}, "mode": "native", "source": "local",
            "destination": "b", "outcome": "moved", "host": "b", "has_device": True, "reason": "", "rules": [],
            "to_do": []}
    if errors(valid, {"schema": "vfioap-moves/1", "moves": [move]}):
        failures.append("the schema refuses what is one")
    for change in ({"host": None}, {"has_device": False}, {"reason": "why"}, {"to_do": ["this"]}, {"mode": "auto"},
                   {"outcome": "needs-person"}, {"outcome": "not-moved"}, {"outcome": "would-move", "reason": "why"},
                   {"rules": ["x"]}, {"more": 1}):
        if not errors(valid, {"schema": "vfioap-moves/1", "moves": [{**move, **change}]}):
            failures.append(f"the schema takes {change}")
    print("\n".join(failures) or "all as expected")
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
