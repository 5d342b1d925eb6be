#!/usr/bin/python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""What the hook costs: prints rows as tools/bench does.

usage: hook.py VFIOAP-HOOK VFIOAP-BENCH-SERVICE
"""
import os
import pathlib
import re
import shutil
import statistics
import subprocess
import sys
import tempfile
import time

from service import row, run

SHELL = """#!/bin/bash
grep -q "model='vfio-ap'" && exit 1
exit 0
"""
PYTHON = """#!/usr/bin/python3
import sys
sys.exit("model='vfio-ap'" in sys.stdin.read())
"""
# As long as what libvirt prints of a usual guest.
DEVICES = 40


def guest_without(directory):
    disk = ("<disk type='file' device='disk'><driver name='qemu' type='qcow2'/><source file='/var/lib/libvirt/images/{0}'"
            "/><target dev='vd{0}' bus='virtio'/><address type='ccw' cssid='0xfe' ssid='0x0' devno='0x{0:04x}'/></disk>\n")
    file = directory / "plain.xml"
    file.write_text("<domain type='kvm'><name>guest1</name><devices>\n"
                    + "".join(disk.format(number) for number in range(DEVICES)) + "</devices></domain>\n")
    return file


def once(command, domain):
    """Milliseconds of a whole process."""
    with open(domain, "rb") as stdin:
        begin = time.perf_counter()
        child = os.posix_spawn(command[0], command, {"PATH": "/usr/bin:/bin", "LC_ALL": "C"},
                               file_actions=[(os.POSIX_SPAWN_DUP2, stdin.fileno(), 0),
                                             (os.POSIX_SPAWN_OPEN, 1, "/dev/null", os.O_WRONLY, 0),
                                             (os.POSIX_SPAWN_OPEN, 2, "/dev/null", os.O_WRONLY, 0)])
        os.waitpid(child, 0)
        return (time.perf_counter() - begin) * 1000


def instructions(command, domain):
    with open(domain, "rb") as stdin:
        done = subprocess.run(["valgrind", "--tool=callgrind", "--callgrind-out-file=/dev/null", *command], stdin=stdin,
                              capture_output=True, text=True, check=False)
    found = re.search(r"Collected : (\d+)", done.stderr)
    return int(found[1]) if found else None


def for_all_guests(hook, directory):
    domain = guest_without(directory)
    for name, text in (("shell", SHELL), ("python", PYTHON)):
        (directory / name).write_text(text)
        (directory / name).chmod(0o755)
    arguments = ["guest1", "prepare", "begin", "-"]
    commands = {"true": ["/bin/true", *arguments], "hook": [hook, *arguments],
                "shell": [str(directory / "shell"), *arguments], "python": [str(directory / "python"), *arguments]}
    times = {name: [] for name in commands}
    # In turn, so that whatever else the machine does, it does to all.
    for turn in range(400):
        for name, command in commands.items():
            if turn % 10 == 0 or name in ("true", "hook"):
                times[name].append(once(command, domain))
    middle = {name: statistics.median(found) for name, found in times.items()}
    for name, label in (("true", "/bin/true, a whole process, median"), ("hook", "the hook, a guest without vfio-ap"),
                        ("shell", "a hook of bash that greps"), ("python", "a hook of python")):
        row(label, middle[name], " ms", None)
    row("the hook to /bin/true", middle["hook"] / middle["true"], "x", 1)
    if shutil.which("valgrind"):
        counts = {name: instructions(commands[name], domain) for name in ("true", "hook")}
        row("instructions of /bin/true", counts["true"] / 1000, " k", None)
        row("instructions of the hook", counts["hook"] / 1000, " k", counts["true"] / 1000)


def for_guests_with(hook, bench, directory):
    for adapters, domains, made, label in ((60, 85, "make", "a guest with 20 queues, 60x85"),
                                           (256, 256, "make-all", "a guest with 65,536 queues")):
        host = directory / made
        host.mkdir()
        run(bench, made, adapters, domains, host)
        config = host / "vfioap.conf"
        config.write_text(f"sysfs_root = {host}/sys\ntimeout = 60\n")
        command = [hook, "--config", str(config), "guest1", "migrate", "begin", "-"]
        # In turn, and the least of each: what else the machine does only adds to it.
        found, loops = [], []
        for _ in range(200 if made == "make" else 7):
            found.append(once(command, host / "guest.xml"))
            if made == "make-all":
                loops.append(float(run(bench, "loop", host / "sys")))
        row(f"the hook, {label}, median", statistics.median(found), " ms", None)
        row(f"the hook, {label}, least", min(found), " ms", 5 if made == "make" else None)
        if loops:
            row("a plain loop over three attributes of each", min(loops), " ms", None)
            row("the hook to the loop", min(found) / min(loops), "x", 1.5)
        shutil.rmtree(host)


def main(hook, bench):
    memory = pathlib.Path("/dev/shm")
    with tempfile.TemporaryDirectory(dir=memory if memory.is_dir() else None) as name:
        for_all_guests(os.path.abspath(hook), pathlib.Path(name))
        for_guests_with(os.path.abspath(hook), bench, pathlib.Path(name))


if __name__ == "__main__":
    main(*sys.argv[1:])
