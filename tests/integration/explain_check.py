#!/usr/bin/python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""vfioapctl explain as its users meet it: every log of tests/data/logs, the schema, the journal, inventories.

usage: explain_check.py VFIOAPCTL SCHEMA-DIRECTORY DATA-DIRECTORY
Exit 77: python3-jsonschema is missing.
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

MDEV = "62177883-f1bb-47f0-914d-32a22e3a8804"
JOURNALCTL = """#!/bin/sh
printf '%s\\n' "$@" > "$0.arguments"
cat "$0.log"
"""


def run(*command, stdin=b"", **more):
    return subprocess.run(command, input=stdin, capture_output=True, check=False, **more)


def main(program, schemas, data):
    logs = pathlib.Path(data) / "logs"
    hosts = pathlib.Path(data) / "hosts"
    schema = json.loads((pathlib.Path(schemas) / "vfioap-explanation.schema.json").read_text())
    jsonschema.Draft202012Validator.check_schema(schema)
    failures = []

    def expect(what, truth):
        if not truth:
            failures.append(what)

    def explained(*arguments, stdin=b"", **more):
        done = run(program, "explain", "--format", "json", *arguments, stdin=stdin, **more)
        expect(f"{arguments}: exit {done.returncode}, {done.stderr.decode()}", done.returncode in (0, 1))
        document = json.loads(done.stdout)
        for error in jsonschema.Draft202012Validator(schema).iter_errors(document):
            failures.append(f"{arguments}: {error.json_path}: {error.message}")
        return done.returncode, document["migrations"]

    index = [line.split() for line in (logs / "index.txt").read_text().splitlines() if not line.startswith("#")]
    listed = {"index.txt", *(name for name, *_ in index)}
    for name in listed ^ {file.name for file in logs.iterdir() if file.is_file()}:
        failures.append(f"{name}: not in both index.txt and the directory")
    for name, outcome, rule, host, confidence, _origin, *queues in index:
        status, (migration,) = explained(str(logs / name))
        expect(f"{name}: exit {status}", status == (outcome != "completed" and confidence in ("possible", "-")))
        causes = [(c["rule"], c["host"], c["confidence"], c["queues"]) for c in migration["causes"]]
        wanted = (rule, host, confidence, [queue for queue in queues if queue != "-"])
        expect(f"{name}: {migration['outcome']} {causes}",
               migration["outcome"] == outcome and (causes[0] == wanted if rule != "-" else not causes))
        text = run(program, "explain", str(logs / name)).stdout
        expect(f"{name}: a control character in the text", not any(c < 32 and c != 10 or c == 127 for c in text))
        expect(f"{name}: {rule} is not in the text", rule == "-" or rule.encode() in text)

    # Both hosts' inventories: lpar-b has 06.0047 bound to another driver.
    line = f"vfio_ap_mdev {MDEV}: Queue 06.0047 not available to vfio_ap driver on target host\n".encode()
    both = ("-s", str(hosts / "lpar-a.json"), "-d", str(hosts / "lpar-b.json"))
    _, (migration,) = explained(*both, "-", stdin=line)
    (cause,) = migration["causes"]
    expect(f"with inventories: {cause}", cause["rule"] == "queue.not-bound" and cause["confidence"] == "certain"
           and "apmask" in str(cause["remedies"]))
    _, (migration,) = explained(*both, "-", stdin=line.replace(b"06.0047", b"05.0004"))
    expect("nothing is said of a change", any("changed" in text for text in migration["missing"]))

    # The journal, of a stand-in for journalctl that tells how it was called.
    with tempfile.TemporaryDirectory() as directory:
        tool = pathlib.Path(directory) / "journalctl"
        tool.write_text(JOURNALCTL)
        tool.chmod(0o755)
        tool.with_suffix(".log").write_bytes((logs / "hook-veto-journal.json").read_bytes())
        environment = os.environ | {"PATH": f"{directory}:{os.environ['PATH']}"}
        status, (migration,) = explained("--guest", "guest1", "--since", "-2h; rm x", env=environment)
        given = tool.with_suffix(".arguments").read_text().splitlines()
        expect(f"journalctl is called with {given}", "--since=-2h; rm x" in given and "_TRANSPORT=kernel" in given)
        expect(f"the journal: {migration}", status == 0 and migration["guest"] == "guest1"
               and migration["causes"][0]["evidence"][0]["source"] == "journal")
        status, migrations = explained("--guest", "guest2", env=environment)
        expect(f"another guest: {migrations}", status == 1 and not migrations)
        # A bit of SIGPIPE in SigIgn would have every program that it starts write on when nobody reads.
        tool.write_text("#!/bin/sh\ngrep -q '^SigIgn:.*[02468ace]...$' /proc/self/status\n")
        expect("journalctl inherits an ignored SIGPIPE", run(program, "explain", env=environment).returncode == 1)
        tool.write_text("#!/bin/sh\nexit 1\n")
        expect("a failing journalctl", run(program, "explain", env=environment).returncode == 2)
    expect("no journalctl", run(program, "explain", env={"PATH": "/nonexistent"}).returncode == 2)
    expect("no such file", run(program, "explain", "/nonexistent/log").returncode == 2)
    expect("--since with a file", run(program, "explain", "--since", "-1h", "-").returncode == 2)
    expect("an empty log", run(program, "explain", "-").returncode == 1)

    # Constant memory: 200 MB through a limit of address space that could not hold them.
    script = 'ulimit -v 300000; yes "Nov 21 03:12:45 lpar-b systemd[1]: nothing" | head -c 200000000 | "$0" explain -'
    done = run("bash", "-c", script, program)
    if not os.environ.get("VFIOAP_SANITIZED"):
        expect(f"200 MB: exit {done.returncode} {done.stderr.decode()}", done.returncode == 1)
    print("\n".join(failures) or f"{len(index)} logs are explained")
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
