#!/usr/bin/python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""Holds the schemas of report and status against what the programs print for every pair of example hosts.

usage: report_schema_check.py VFIOAP-CHECK VFIOAPCTL LIST-RULES SCHEMA-DIRECTORY HOSTS-DIRECTORY GOLDEN-DIRECTORY
Exit 77: python3-jsonschema is missing.
"""
import json
import pathlib
import subprocess
import sys

try:
    import jsonschema
except ImportError:
    print("skipped: python3-jsonschema is missing")
    sys.exit(77)

sys.dont_write_bytecode = True
from schema_check import errors  # noqa: E402

DOMAIN = "<domain><name>guest</name><devices>{}</devices></domain>"
HOSTDEV = "<hostdev mode='subsystem' type='mdev' model='vfio-ap'><source><address uuid='{}'/></source></hostdev>"
MODES = (["--mode", "detached"], ["--mode", "native", "--profile", "compare"],
         ["--mode", "native", "--profile", "restore"], ["--strict"])
EXIT = {"compatible": 0, "incompatible": 1, "undetermined": 3}


def validator(file):
    schema = json.loads(file.read_text())
    jsonschema.Draft202012Validator.check_schema(schema)

    # Readers take members of later versions; what is printed today has none but those described.
    def close(part):
        if isinstance(part, dict):
            if part.get("type") == "object" and "properties" in part:
                part["additionalProperties"] = False
            for value in part.values():
                close(value)

    close(schema)
    return jsonschema.Draft202012Validator(schema)


def run(stdin, *command):
    return subprocess.run(command, input=stdin, capture_output=True, text=True, check=False)


def contradictions(report, exit_code, rules):
    """What a schema cannot say."""
    severities = [finding["severity"] for finding in report["findings"]]
    if EXIT[report["verdict"]] != exit_code:
        yield f"verdict {report['verdict']}, but exit code {exit_code}"
    if severities != sorted(severities, key=["error", "warning", "info"].index):
        yield f"findings are not in order: {severities}"
    if (report["verdict"] == "compatible") != ("error" not in severities):
        yield f"verdict {report['verdict']} with {severities}"
    if (report["mode"] == "native") != (report["profile"] is not None):
        yield f"mode {report['mode']}, profile {report['profile']}"
    for finding in report["findings"]:
        if finding["rule"] not in rules:
            yield f"no such rule: {finding['rule']}"
        for member in ("queues", "control_domains"):
            if finding[member] != sorted(finding[member]):
                yield f"{finding['rule']}: {member} are not sorted"
        if any("{" in line for line in finding["kernel_messages"]):
            yield f"{finding['rule']}: a placeholder is left in {finding['kernel_messages']}"


def main(check, control, list_rules, schemas, hosts, golden):
    report_schema = validator(pathlib.Path(schemas) / "vfioap-report.schema.json")
    status_schema = validator(pathlib.Path(schemas) / "vfioap-status.schema.json")
    rules = {rule["name"] for rule in json.loads(run("", list_rules).stdout)}
    files = sorted(pathlib.Path(hosts).glob("*.json"))
    failures, reports, states, verdicts, seen = [], 0, 0, set(), set()

    for source in files:
        mdevs = [mdev["uuid"] for mdev in json.loads(source.read_text())["mdevs"]]
        guests = [DOMAIN.format(HOSTDEV.format(uuid)) for uuid in mdevs[:1]] + [DOMAIN.format("")]
        guests += [DOMAIN.format("".join(map(HOSTDEV.format, mdevs)))] if len(mdevs) > 1 else []
        for destination in files:
            for guest in guests:
                for mode in MODES:
                    where = f"{source.stem} to {destination.stem} {' '.join(mode)}"
                    done = run(guest, check, "--format", "json", "-s", source, "-d", destination, *mode, "-")
                    if done.stderr or done.returncode not in EXIT.values():
                        failures.append(f"{where}: exit code {done.returncode}: {done.stderr}")
                        continue
                    report = json.loads(done.stdout)
                    found = errors(report_schema, report) + list(contradictions(report, done.returncode, rules))
                    failures += [f"{where}: {error}" for error in found]
                    reports += 1
                    verdicts.add(report["verdict"])
                    seen |= {finding["rule"] for finding in report["findings"]}
        for more in ([], ["-d", files[0]]):
            done = run("", control, "status", "--format", "json", "-s", source, *more)
            if done.returncode != 0:
                failures.append(f"status of {source.stem}: exit code {done.returncode}: {done.stderr}")
                continue
            status = json.loads(done.stdout)
            failures += [f"status of {source.stem}: {error}" for error in errors(status_schema, status)]
            states += 1

    for file in sorted(pathlib.Path(golden).glob("*.json")):
        failures += [f"{file.name}: {error}" for error in errors(report_schema, json.loads(file.read_text()))]
        reports += 1

    # Neither a validator that takes all, nor hosts that show nothing.
    if not errors(report_schema, {"schema": "vfioap-report/1"}) or not errors(status_schema, {}):
        failures.append("the schemas take what is none")
    if not {"compatible", "incompatible"} <= verdicts or len(seen) < 15 or len(files) < 9:
        failures.append(f"{len(files)} hosts show only {sorted(verdicts)} and {sorted(seen)}")
    print("\n".join(failures[:40]) or f"{reports} reports of {len(seen)} rules and {states} states fit their schemas")
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
