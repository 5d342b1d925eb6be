# SPDX-License-Identifier: LGPL-2.1-or-later
"""vfioapctl explain on the logs that real migrations leave, of virsh, libvirtd and QEMU."""
import json
import os
import re
import subprocess

from cases import check, test
from guest import MDEV
from hook_tests import NATIVE, host, without_queue
from move_tests import Attempt
from node import SOURCE, wait_for
from state_tests import QUEUES

# Said at every start, and of no use to anybody who reads of a migration.
NOISE = ("dnsmasq", "dmidecode", "udevGetDMIData", "virSecurityManagerNew", "virHostCPUGetCPUID", "virCPUCheckFeature",
         "virCgroupDetectControllers", "is tainted", "libvirt version", "hostname:", "starting up libvirt",
         "migration statistics are available only")
# What a migration is recorded as in tests/data/logs, with VFIOAP_UPDATE_LOGS=1 in the environment.
UPDATE = os.environ.get("VFIOAP_UPDATE_LOGS") == "1"


def lines_of(text):
    """Those that say what has happened, and what belongs to them: neither how QEMU was called nor noise."""
    found, wanted = [], False
    for line in text.splitlines():
        if line[:4].isdigit():
            wanted = not any(word in line for word in NOISE)
        if wanted:
            found.append(line)
    return found


class Logs:
    """What a migration writes, from now on."""

    def __init__(self, nodes, guest):
        self.nodes, self.names = nodes, ("var-log-libvirt/libvirtd.log", f"var-log-libvirt/qemu/{guest.name}.log")
        self.before = {(node.name, name): len(node.text_of(name)) for node in nodes for name in self.names}

    def take(self, virsh, directory):
        """Files: of virsh, and of libvirtd and QEMU of each host; as they are, but for noise."""
        found = {"virsh": virsh}
        for node in self.nodes:
            for name in self.names:
                kind = "libvirtd" if name.endswith("libvirtd.log") else "qemu"
                new = node.text_of(name)[self.before[node.name, name]:]
                found[f"{kind}-{'source' if node is self.nodes[0] else 'destination'}"] = "".join(
                    line + "\n" for line in lines_of(new))
        files = {}
        for name, text in found.items():
            if text:
                files[name] = directory / f"{name}.log"
                files[name].write_text(text)
        return files


def explained(case, *files):
    done = subprocess.run([case.programs / "vfioapctl", "explain", "--format", "json", *files],
                          stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)
    return done.returncode, json.loads(done.stdout)["migrations"], done.stdout + done.stderr


def record(case, name, files):
    """Of each file that says something, one in tests/data/logs; what explain must say of it stands in its index."""
    for kind, file in files.items():
        if UPDATE and explained(case, file)[1]:
            # The environment of the tests is nobody's business.
            text = re.sub(r"LD_PRELOAD=\S+ ", "", file.read_text())
            (SOURCE / f"tests/data/logs/recorded-{name}-{kind}.log").write_text(text)


def check_explained(case, name, files, outcome, rule, host_name, queues=()):
    record(case, name, files)
    code, migrations, said = explained(case, *files.values())
    check(code == 0 and len(migrations) == 1, said)
    (migration,) = migrations
    check(migration["outcome"] == outcome, said)
    cause = migration["causes"][0]
    check((cause["rule"], cause["host"], cause["confidence"]) == (rule, host_name, "certain"), said)
    check(cause["queues"] == list(queues) and cause["remedies"], said)


@test("explain-refused")
def refused(case):
    a, b = case.nodes(*NATIVE, hook=True)
    guest = case.guest()
    guest.start(a)
    guest.wait_state(a, host=a.name, queues=QUEUES)

    def refuse(name, *more):
        directory = case.directory / name
        directory.mkdir()
        logs = Logs((a, b), guest)
        done = guest.migrate(a, b, check=False)
        check(done.returncode != 0, "it has migrated")
        wait_for(lambda: guest.runs(a) and not guest.runs(b), "it is where it was")
        check_explained(case, name, logs.take(done.stderr, directory), "refused", *more)

    # As today: libvirt asks QEMU; and where it does not ask, QEMU says so.
    for behaviour in ("refuse", "refuse-late"):
        guest.set_device(a, migration=behaviour)
        refuse(behaviour, "qemu.no-migration", "source")
    guest.set_device(a, migration="native")
    other = host(NATIVE[1])
    without_queue(other)
    b.sysfs.become(other)
    refuse("veto", "queue.missing", "destination", ["06.0047"])
    other["mdevs"] = [mdev for mdev in other["mdevs"] if mdev["uuid"] != MDEV]
    b.configure("policy = off\n")
    b.sysfs.become(other)
    refuse("no-mdev", "mdev.missing", "destination")
    b.sysfs.become(host(NATIVE[1]))

    def record_and_explain(name, migrate):
        directory = case.directory / name
        directory.mkdir()
        logs = Logs((a, b), guest)
        files = logs.take(migrate(), directory)
        record(case, name, files)
        _, migrations, said = explained(case, *files.values())
        check(len(migrations) == 1 and not migrations[0]["causes"], said)
        return migrations[0]["outcome"]

    def abort():
        virsh = guest.start_migration(a, b, "--bandwidth", "1")
        wait_for(lambda: "Outgoing migration" in a.virsh("domjobinfo", guest.name, check=False).stdout, "it migrates")
        a.virsh("domjobabort", guest.name)
        wait_for(lambda: virsh.poll() is not None, "the end of the migration")
        wait_for(lambda: not guest.runs(b), "it is gone from the destination")
        return a.text_of("migrate.log")

    # What the destination says of it sounds as if a driver had refused the guest.
    check(record_and_explain("aborted", abort) == "failed", "it was not aborted")
    for node in (a, b):
        guest.set_device(node, migration="refuse")

    def move():
        Attempt(case, (a, b), guest).move(expect=0, outcome="moved")
        return ""

    check(record_and_explain("detached", move) == "completed", "it did not move")
