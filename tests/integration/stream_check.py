#!/usr/bin/python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""vfioapctl stream as its users meet it: bytes, text, JSON, exit codes and pipes.

The streams of all example hosts are made here once more, field by field, and compared.

usage: stream_check.py VFIOAPCTL SCHEMA-DIRECTORY HOSTS-DIRECTORY STREAMS-DIRECTORY
Exit 77: python3-jsonschema is missing.
"""
import json
import os
import pathlib
import pty
import struct
import subprocess
import sys
import tempfile

try:
    import jsonschema  # noqa: F401
except ImportError:
    print("skipped: python3-jsonschema is missing")
    sys.exit(77)

sys.dont_write_bytecode = True
from report_schema_check import validator  # noqa: E402
from schema_check import errors  # noqa: E402

LAYOUTS = ("l1", "l2", "l2b", "l3")
failures = []


def expect(condition, what):
    if not condition:
        failures.append(what)


def run(*command, stdin=b""):
    return subprocess.run(command, input=stdin, capture_output=True, check=False)


def number(text):
    return int(text, 16)


def configuration(host, mdev):
    """(queues with TAPQ, words of adm) of the guest, from the snapshot alone; None where that does not tell."""
    cards = {card["adapter"]: card for card in host["cards"]}
    queues = {queue["apqn"]: queue for queue in host["queues"]}
    if "guest_matrix" not in mdev or len(mdev["guest_matrix"]) == 512:
        return None
    entries = []
    for apqn in sorted(mdev["guest_matrix"]):
        card = cards[apqn[:2]]
        functions = queues[apqn].get("ap_functions", card.get("ap_functions"))
        kind = card.get("raw_hwtype", card.get("hwtype"))
        if functions is None or kind is None:
            return None
        entries.append((number(apqn[:2]) << 8 | number(apqn[3:]), number(functions) << 32 | kind << 24))
    own = int(host["ap"].get("ap_control_domain_mask", "0x0")[2:].ljust(64, "0"), 16) \
        if host["ap"].get("ap_control_domain_mask") != "not supported" else (1 << 256) - 1
    assigned = int(mdev.get("control_domains_mask", "0x0")[2:].ljust(64, "0"), 16)
    for domain in mdev.get("control_domains", []):
        assigned |= 1 << (255 - number(domain))
    both = own & assigned
    return entries, [both >> shift & (1 << 64) - 1 for shift in (192, 128, 64, 0)]


def stream_of(layout, entries, adm):
    count = len(entries)
    head = {"l1": struct.pack(">II", count, 0),
            "l2": struct.pack(">IIQ", count, 0, 0),
            "l2b": struct.pack(">II4Q", count, 0, *adm),
            "l3": struct.pack(">4s3I4Q", b"vfap", 1, count, 0, *adm)}[layout]
    return head + b"".join(struct.pack(">QH6x", tapq, apqn) for apqn, tapq in entries)


def check_example_hosts(control, schema, hosts):
    streams = 0
    for file in sorted(pathlib.Path(hosts).glob("*.json")):
        host = json.loads(file.read_text())
        for mdev in host["mdevs"]:
            expected = configuration(host, mdev)
            if expected is None:
                continue
            entries, adm = expected
            for layout in LAYOUTS:
                where = f"{file.stem} {mdev['uuid']} {layout}"
                saved = run(control, "-s", file, "stream", "save", "--layout", layout, mdev["uuid"])
                expect(saved.returncode == 0 and not saved.stderr, f"{where}: {saved.stderr}")
                expect(saved.stdout == stream_of(layout, entries, adm), f"{where}: other bytes")
                done = run(control, "stream", "decode", "--format", "json", stdin=saved.stdout)
                expect(done.returncode == 0 and not done.stderr, f"{where}: {done.stderr}")
                decoded = json.loads(done.stdout)
                failures.extend(f"{where}: {error}" for error in errors(schema, decoded))
                expect((decoded["layout"], decoded["confidence"]) == (layout, "certain"), f"{where}: {decoded}")
                expect([(number(q["apqn"].replace(".", "")[:2]) << 8 | number(q["apqn"][3:]), number(q["tapq"]))
                        for q in decoded["queues"]] == entries, f"{where}: other queues")
                words = decoded["control_domains"]
                if layout in ("l1", "l2"):
                    expect(words is None, f"{where}: control domains {words}")
                else:
                    mask = sum(1 << (255 - number(word)) for word in words)
                    expect(mask == adm[0] << 192 | adm[1] << 128 | adm[2] << 64 | adm[3], f"{where}: {words}")
                text = run(control, "stream", "decode", stdin=saved.stdout).stdout.decode()
                expect(f"layout           {layout} (certain)" in text, f"{where}: {text}")
                for queue in decoded["queues"]:
                    expect(f"0x{queue['offset']:06x}  {queue['apqn']}  {queue['tapq']}" in text, f"{where}: {text}")
                streams += 1
    expect(streams >= 20, f"only {streams} streams")
    return streams


def check_bad_streams(control, schema, streams):
    bad = pathlib.Path(streams) / "bad"
    for line in (bad / "index.txt").read_text().splitlines():
        if line.startswith("#"):
            continue
        name, layout, fault = line.split(maxsplit=2)
        options = [] if layout == "-" else ["--layout", layout]
        done = run(control, "stream", "decode", *options, bad / name)
        expect(done.returncode == 2, f"{name}: exit code {done.returncode}")
        expect(done.stderr.decode() == f"vfioapctl: {bad / name}: {fault}\n", f"{name}: {done.stderr}")
        done = run(control, "stream", "decode", *options, "--format", "json", bad / name)
        decoded = json.loads(done.stdout)
        failures.extend(f"{name}: {error}" for error in errors(schema, decoded))
        error = decoded["error"]
        expect(f"offset 0x{error['offset']:x}: {error['field']}: " in fault, f"{name}: {error}")
        uuid = "62177883-f1bb-47f0-914d-32a22e3a8804"
        for command in (["verify", "-d", "/nonexistent.json"], ["verify", "-d", streams]):
            done = run(control, "stream", *command, *options, uuid, bad / name)
            expect(done.returncode == 2 and not done.stdout, f"{command}: exit code {done.returncode}")


def check_verify(control, hosts, report_schema):
    hosts = pathlib.Path(hosts)
    uuid = "62177883-f1bb-47f0-914d-32a22e3a8804"
    saved = run(control, "-s", hosts / "lpar-a.json", "stream", "save", uuid).stdout
    for destination, verdict, code in (("lpar-b", "incompatible", 1), ("lpar-c", "incompatible", 1)):
        where = hosts / f"{destination}.json"
        done = run(control, "stream", "verify", uuid, "-d", where, "--format", "json", stdin=saved)
        report = json.loads(done.stdout)
        failures.extend(f"verify: {error}" for error in errors(report_schema, report))
        expect((done.returncode, report["verdict"], report["mode"]) == (code, verdict, "native"), f"{done}")
        expect(len(report["configuration"]["queues"]) == 4, f"{report['configuration']}")
        quiet = run(control, "stream", "verify", "-q", uuid, "-d", where, stdin=saved)
        expect((quiet.returncode, quiet.stdout, quiet.stderr) == (code, b"", b""), f"{quiet}")
    shell = f"'{control}' -s lpar-a.json stream save {uuid} | '{control}' stream verify {uuid} -d lpar-b.json"
    piped = subprocess.run(["bash", "-c", f"set -o pipefail; {shell}"], cwd=hosts, capture_output=True, check=False)
    expect(piped.returncode == 1 and b"cannot move from source" in piped.stdout, f"{piped}")
    done = run(control, "-s", hosts / "z16-migratable.json", "stream", "verify", uuid, stdin=saved)
    expect(done.returncode == 2 and b"--destination is required" in done.stderr, f"{done}")


def check_restore(control, hosts, directory):
    """A host that can: lpar-a without its guest."""
    snapshot = json.loads((pathlib.Path(hosts) / "lpar-a.json").read_text())
    uuid = "62177883-f1bb-47f0-914d-32a22e3a8804"
    saved = run(control, "-s", pathlib.Path(hosts) / "lpar-a.json", "stream", "save", uuid).stdout
    for queue in snapshot["queues"]:
        if queue.get("status") == "in use":
            queue["status"] = "assigned"
    pathlib.Path(directory, "there.json").write_text(json.dumps(snapshot))
    root = pathlib.Path(directory, "there")
    expect(run(control, "materialize", f"{directory}/there.json", root).returncode == 0, "materialize")
    attribute = root / "devices/vfio_ap/matrix" / uuid / "ap_config"
    whole = attribute.read_text()
    attribute.write_text(",".join(["0x" + "0" * 64] * 3) + "\n")
    for part in ("matrix", "control_domains", "guest_matrix"):
        (attribute.parent / part).write_text("")
    empty = attribute.read_text()
    done = run(control, "stream", "restore", uuid, "-d", root, stdin=saved)
    expect((done.returncode, done.stdout.decode(), done.stderr) == (0, whole, b""), f"{done}")
    expect(attribute.read_text() == empty, "written without being asked to")
    done = run(control, "stream", "restore", "--write", uuid, "-d", root, stdin=saved[:-1])
    expect(done.returncode == 2 and not done.stdout and b"found the end" in done.stderr, f"{done}")
    expect(attribute.read_text() == empty, "written though the stream was cut")
    (root / "devices/ap/card06/06.0047/driver").unlink()
    (root / "bus/ap/drivers/vfio_ap/06.0047").unlink()
    done = run(control, "stream", "restore", "--write", uuid, "-d", root, stdin=saved)
    expect(done.returncode == 1 and b"queue.not-bound" in done.stdout and b"(ENODEV)" in done.stderr, f"{done}")
    expect(attribute.read_text() == empty, "written though a queue was not bound")
    (root / "bus/ap/drivers/vfio_ap/06.0047").symlink_to("../../../../devices/ap/card06/06.0047")
    (root / "devices/ap/card06/06.0047/driver").symlink_to("../../../../bus/ap/drivers/vfio_ap")
    done = run(control, "stream", "restore", "--write", uuid, "-d", root, stdin=saved)
    expect((done.returncode, done.stdout.decode(), done.stderr) == (0, whole, b""), f"{done}")
    expect(attribute.read_text() == whole, "not written")
    done = run(control, "stream", "restore", "--write", uuid, "-d", f"{directory}/there.json", stdin=saved)
    expect(done.returncode == 2 and b"only a sysfs root" in done.stderr, f"{done}")


def check_terminals(control, hosts):
    uuid = "62177883-f1bb-47f0-914d-32a22e3a8804"
    master, slave = pty.openpty()
    done = subprocess.run([control, "-s", pathlib.Path(hosts) / "lpar-a.json", "stream", "save", uuid],
                          stdout=slave, stderr=subprocess.PIPE, check=False)
    expect(done.returncode == 2 and b"is a terminal" in done.stderr, f"save: {done}")
    os.set_blocking(master, False)
    try:
        expect(not os.read(master, 1), "save wrote to the terminal")
    except BlockingIOError:
        pass
    done = subprocess.run([control, "stream", "decode"], stdin=slave, capture_output=True, check=False)
    expect(done.returncode == 2 and b"is a terminal" in done.stderr, f"decode: {done}")


def check_usage(control, hosts, directory):
    host = pathlib.Path(hosts) / "lpar-a.json"
    uuid = "62177883-f1bb-47f0-914d-32a22e3a8804"
    crypto = pathlib.Path(directory, "none.xml")
    crypto.write_text("<domain><name>plain</name></domain>")
    guest = pathlib.Path(directory, "guest.xml")
    guest.write_text("<domain><name>g</name><devices><hostdev mode='subsystem' type='mdev' model='vfio-ap'><source>"
                     f"<address uuid='{uuid}'/></source></hostdev></devices></domain>")
    same = run(control, "-s", host, "stream", "save", guest)
    expect(same.returncode == 0 and same.stdout == run(control, "-s", host, "stream", "save", uuid).stdout,
           f"by the guest's XML: {same}")
    for arguments, words in (
            (["stream"], "save, decode, verify or restore is required"),
            (["stream", "sav"], "sav"),
            (["stream", "save"], "MDEV is required"),
            (["stream", "save", "--layout", "l4", uuid], "l4"),
            (["-s", host, "stream", "save", crypto], "has no vfio-ap device"),
            (["-s", host, "-c", "test:///nonexistent", "stream", "save", uuid[::-1].replace("-", "0", 4)], ""),
            (["-s", host, "-c", "test:///default", "stream", "save", "00000000" + uuid[8:]], "has no mdev with this UUID"),
            (["stream", "decode", "/nonexistent"], "No such file or directory"),
            (["stream", "decode", directory], "Is a directory"),
            (["stream", "verify", "-d", host, "/nonexistent.xml"], "No such file or directory")):
        done = run(control, *arguments)
        expect(done.returncode == 2 and not done.stdout and words.encode() in done.stderr and
               done.stderr.count(b"\n") == 1, f"{arguments}: {done}")


def main(control, schemas, hosts, streams):
    schema = validator(pathlib.Path(schemas) / "vfioap-stream.schema.json")
    report_schema = validator(pathlib.Path(schemas) / "vfioap-report.schema.json")
    count = check_example_hosts(control, schema, hosts)
    check_bad_streams(control, schema, streams)
    check_verify(control, hosts, report_schema)
    check_terminals(control, hosts)
    with tempfile.TemporaryDirectory() as directory:
        check_restore(control, hosts, directory)
        check_usage(control, hosts, directory)
    expect(errors(schema, {"schema": "vfioap-stream/1"}), "the schema takes what is none")
    print("\n".join(failures[:40]) or f"{count} streams are as they should be")
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
