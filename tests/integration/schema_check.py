#!/usr/bin/python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""Holds xml/vfioap-snapshot.schema.json, what is written and what is refused together.

usage: schema_check.py SCHEMA HOSTS-DIRECTORY BAD-DIRECTORY [SNAPSHOT...]
Exit 77: python3-jsonschema is missing.
"""
import copy
import json
import pathlib
import sys

try:
    import jsonschema
except ImportError:
    print("skipped: python3-jsonschema is missing")
    sys.exit(77)

# What only a reader can tell: see the description of the schema.
BEYOND_A_SCHEMA = {
    "card-doubled.json", "mdev-doubled.json", "queue-doubled.json",
    "member-doubled.json", "ap-member-doubled.json", "queue-member-doubled.json",
    "queue-inner-member-doubled.json", "unknown-member-doubled.json",
    "unknown-member-nested-deep.json", "queue-nested-deep.json", "mdev-huge.json", "member-name-long.json",
    "queue-se-associate-large.json", "unreadable-error-name.json",
}


def strict(schema):
    """The schema without its tolerance for members of later versions."""
    schema = copy.deepcopy(schema)
    for part in [schema, *schema["$defs"].values()]:
        if "properties" in part:
            part["additionalProperties"] = False
    return schema


def errors(validator, document):
    return [f"{error.json_path}: {error.message[:200]}" for error in validator.iter_errors(document)]


def main(schema_file, hosts, bad, *others):
    schema = json.loads(pathlib.Path(schema_file).read_text())
    jsonschema.Draft202012Validator.check_schema(schema)
    tolerant = jsonschema.Draft202012Validator(schema)
    exact = jsonschema.Draft202012Validator(strict(schema))
    failures = []

    written = sorted(pathlib.Path(hosts).glob("*.json")) + [pathlib.Path(other) for other in others]
    for file in written:
        for error in errors(exact, json.loads(file.read_text())):
            failures.append(f"{file.name}: {error}")
    if len(written) < 9:
        failures.append(f"{hosts}: only {len(written)} snapshots")

    refused = 0
    for file in sorted(pathlib.Path(bad).glob("*.json")):
        try:
            document = json.loads(file.read_text())
        except ValueError:  # not JSON, or not UTF-8
            continue
        wrong = errors(tolerant, document)
        if wrong:
            refused += 1
        if bool(wrong) == (file.name in BEYOND_A_SCHEMA):
            failures.append(f"{file.name}: " + (wrong[0] if wrong else "the schema takes it"))

    for failure in failures:
        print(failure)
    print(f"{len(written)} snapshots fit the schema, {refused} bad ones do not" if not failures else "failed")
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
