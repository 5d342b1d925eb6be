#!/usr/bin/python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""What the service costs: prints rows as tools/bench does.

usage: service.py VFIOAPD VFIOAPCTL VFIOAP-BENCH-SERVICE
"""
import os
import pathlib
import shutil
import statistics
import subprocess
import sys
import tempfile
import time


def row(what, value, unit, limit):
    verdict = "" if limit is None else f"  (at most {limit:g}{unit})" + ("" if value <= limit else "  EXCEEDED")
    print(f"{what:<52} {value:9.2f}{unit}{verdict}", flush=True)


def run(*command, **more):
    return subprocess.run([str(word) for word in command], check=True, capture_output=True, text=True, **more).stdout


def until(what):
    deadline = time.monotonic() + 60
    while not what():
        if time.monotonic() > deadline:
            raise TimeoutError("waited in vain")
        time.sleep(0.01)


class Host:
    """A bus and a service of a host of this size, with libvirt's test driver."""

    def __init__(self, programs, adapters, domains):
        self.programs, self.children = programs, []
        memory = pathlib.Path("/dev/shm")
        self.directory = pathlib.Path(tempfile.mkdtemp(dir=memory if memory.is_dir() else None))
        run(programs["bench"], "make", adapters, domains, self.directory)
        config = self.directory / "bus.conf"
        self.address = f"unix:path={self.directory}/socket"
        config.write_text(f"<busconfig><type>session</type><listen>{self.address}</listen><auth>EXTERNAL</auth>"
                          '<policy context="default"><allow send_destination="*" eavesdrop="true"/>'
                          '<allow eavesdrop="true"/><allow own="*"/></policy></busconfig>')
        self.environment = {**os.environ, "DBUS_SESSION_BUS_ADDRESS": self.address,
                            "DBUS_SYSTEM_BUS_ADDRESS": self.address}
        self.start("dbus-daemon", "--nofork", "--nopidfile", f"--config-file={config}")
        until((self.directory / "socket").exists)
        self.service = self.start(programs["service"], "--session", "--sysfs-root", self.directory / "sys", "-c",
                                  "test:///default")
        until(lambda: "org.vfioap1" in self.busctl("list", "--acquired"))

    def start(self, *command):
        child = subprocess.Popen([str(word) for word in command], env=self.environment, stdin=subprocess.DEVNULL,
                                 stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        self.children.append(child)
        return child

    def busctl(self, *words):
        return run("busctl", f"--address={self.address}", *words, env=self.environment)

    def call(self, member, *words):
        return self.busctl("call", "--timeout=60", "org.vfioap1", "/org/vfioap1", "org.vfioap1.Manager", member, *words)

    def resident(self):
        status = pathlib.Path(f"/proc/{self.service.pid}/status").read_text().splitlines()
        return int(next(line for line in status if line.startswith("VmRSS:")).split()[1]) / 1024

    def __enter__(self):
        return self

    def __exit__(self, *ignored):
        for child in self.children:
            child.kill()
            child.wait()
        shutil.rmtree(self.directory)


def main(service, control, bench):
    programs = {"service": service, "control": control, "bench": bench}
    for adapters, domains, limit in ((60, 85, 24), (256, 256, 48)):
        with Host(programs, adapters, domains) as host:
            if adapters == 60:
                empty, check = map(float, run(bench, "call", host.address, host.directory / "guest.xml", 2000).split())
                row("empty call of the service", empty, " us", None)
                row("CheckXml of a guest with 20 queues", check, " us", None)
                row("the same, to the empty call", check / empty, "x", 6)
                times = {"vfioapctl": [], "busctl": []}
                for _ in range(60):
                    for name, command in (
                            ("vfioapctl", (control, "--sysfs-root", host.directory / "sys", "status")),
                            ("busctl", ("busctl", f"--address={host.address}", "get-property", "org.vfioap1",
                                        "/org/vfioap1", "org.vfioap1.Manager", "Version"))):
                        begin = time.perf_counter()
                        subprocess.run([str(word) for word in command], env=host.environment, check=False,
                                       stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
                        times[name].append((time.perf_counter() - begin) * 1000)
                for name, label in (("busctl", "busctl, a whole call"), ("vfioapctl", "vfioapctl status, a whole process")):
                    row(label + ", median", statistics.median(times[name]), " ms", None)
                    row("the same, least", min(times[name]), " ms", None)
                row("vfioapctl status to busctl, medians",
                    statistics.median(times["vfioapctl"]) / statistics.median(times["busctl"]), "x", None)
            row(f"memory of the service, {adapters}x{domains}", host.resident(), " MiB", limit)
            host.call("GetInventory")
            row("the same, after GetInventory", host.resident(), " MiB", limit)


if __name__ == "__main__":
    main(*sys.argv[1:])
