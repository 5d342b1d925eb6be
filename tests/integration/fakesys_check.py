#!/usr/bin/python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""The mounted fake kernel: what follows a write, each errno, and the programs on it.

usage: fakesys_check.py FAKESYS VFIOAPCTL VFIOAP-CHECK HOSTS EXAMPLES
"""
import contextlib
import errno
import json
import os
import pathlib
import shutil
import subprocess
import sys
import tempfile
import threading
import time

MDEV = "62177883-f1bb-47f0-914d-32a22e3a8804"
OTHER = "11111111-2222-3333-4444-555555555555"
IDLE = "4e5d2b90-7e61-4be8-a1c2-57f06d9e1a44"
SKIP = 77
ALL = "0x" + "f" * 64
failures = []


def expect(found, wanted, what):
    if found != wanted:
        failures.append(what)
        print(f"FAILED: {what}: expected {wanted!r}, found {found!r}")


def why_not(program):
    """What is missing for a mount, or nothing."""
    if not os.access(program, os.X_OK):
        return "fakesys was not built: libfuse3 was not found"
    if not shutil.which("fusermount3"):
        return "there is no fusermount3"
    try:
        os.close(os.open("/dev/fuse", os.O_RDWR))
    except OSError as error:
        return f"/dev/fuse: {error.strerror}"
    return ""


class Mount:
    """A mounted host, with what people write to it."""

    def __init__(self, root):
        self.root = pathlib.Path(root)

    def write(self, path, text):
        """The name of the errno, or nothing."""
        try:
            descriptor = os.open(self.root / path, os.O_WRONLY | os.O_TRUNC)
            try:
                os.write(descriptor, (text + "\n").encode())
            finally:
                os.close(descriptor)
        except OSError as error:
            return errno.errorcode[error.errno]
        return ""

    def read(self, path):
        try:
            return (self.root / path).read_text()
        except OSError as error:
            return errno.errorcode[error.errno]

    def control(self, line):
        return self.write(".fakesys/control", line)

    def mdev(self, uuid, attribute, text):
        return self.write(f"devices/vfio_ap/matrix/{uuid}/{attribute}", text)

    def create(self, uuid):
        return self.write("devices/vfio_ap/matrix/mdev_supported_types/vfio_ap-passthrough/create", uuid)

    def matrix(self, uuid, attribute="guest_matrix"):
        return self.read(f"devices/vfio_ap/matrix/{uuid}/{attribute}").split()

    def driver(self, queue):
        try:
            return os.path.basename(os.readlink(self.root / f"devices/ap/card{queue[:2]}/{queue}/driver"))
        except OSError:
            return ""

    def has(self, queue, attribute):
        return (self.root / f"devices/ap/card{queue[:2]}/{queue}/{attribute}").exists()


@contextlib.contextmanager
def mounted(fakesys, snapshot):
    with tempfile.TemporaryDirectory() as directory:
        subprocess.run([fakesys, snapshot, directory], check=True)
        try:
            yield Mount(directory)
        finally:
            subprocess.run(["fusermount3", "-u", directory], check=True)


def check_masks(host):
    """lpar-b: cards 05, 06, 07 and domains 0004, 0047, 00ab; adapter 05 and domain 0004 are free."""
    expect(host.driver("06.0047"), "cex4queue", "reserved by both masks")
    expect([host.has("06.0047", name) for name in ("online", "mkvps", "op_modes", "status")],
           [True, True, True, False], "attributes of zcrypt")
    expect(host.write("bus/ap/aqmask", "-0x47"), "", "aqmask list")
    expect(host.driver("06.0047"), "vfio_ap", "left by aqmask")
    expect([host.has("06.0047", name) for name in ("online", "mkvps", "op_modes", "status")],
           [False, False, False, True], "attributes of vfio_ap")
    expect((host.root / "bus/ap/drivers/vfio_ap/06.0047").is_symlink(), True, "listed at its driver")
    expect((host.root / "bus/ap/drivers/cex4queue/06.0047").is_symlink(), False, "and not at the other")
    expect(host.read("bus/ap/bindings"), "9/9 (complete)\n", "bindings")
    expect(host.write("bus/ap/aqmask", "+0x40-0x50"), "", "a range; apmask leaves 05.0047 to its mdev")
    expect(host.driver("05.0047"), "vfio_ap", "05.0047")
    expect(host.write("bus/ap/apmask", "+5"), "EBUSY", "05.0047 is an mdev's")
    expect(host.mdev(IDLE, "unassign_adapter", "5"), "", "unassign")
    expect(host.driver("06.0047"), "cex4queue", "taken back")
    expect(host.has("06.0047", "mkvps"), True, "keys can be read again")
    expect(host.write("bus/ap/apmask", ALL), "", "a whole mask")
    expect(host.driver("05.0047"), "cex4queue", "05.0047 went to the host")
    expect(host.mdev(IDLE, "assign_adapter", "5"), "EADDRNOTAVAIL", "reserved for the host")
    expect(host.write("bus/ap/apmask", "-5"), "", "free again")
    for text in ("x", "+256", "-3-", ""):
        expect(host.write("bus/ap/apmask", text), "EINVAL", f"apmask takes {text!r}")


def check_binding(host):
    """By hand, on a kernel without driver_override."""
    expect(host.write("devices/ap/card05/05.0004/driver/unbind", "05.0004"), "", "unbind")
    expect(host.driver("05.0004"), "", "no driver")
    expect(host.read("bus/ap/bindings"), "8/9\n", "bindings are not complete")
    expect(host.write("bus/ap/drivers/cex4queue/bind", "05.0004"), "ENODEV", "masks leave it to vfio_ap")
    expect(host.write("bus/ap/drivers/vfio_ap/bind", "05.0004"), "", "bind")
    expect(host.write("bus/ap/drivers/vfio_ap/bind", "05.0004"), "ENODEV", "bind twice")
    expect(host.write("bus/ap/drivers/vfio_ap/unbind", "06.0047"), "ENODEV", "unbind from another's driver")
    expect(host.write("bus/ap/drivers/vfio_ap/unbind", "05.0004"), "", "unbind")
    expect(host.write("bus/ap/drivers_probe", "05.0004"), "", "probe")
    expect(host.driver("05.0004"), "vfio_ap", "probed")
    expect(host.write("bus/ap/drivers_probe", "09.0004"), "ENODEV", "probe nothing")
    expect(host.write("devices/ap/card05/config", "0"), "", "configure off")
    expect(host.read("devices/ap/card05/05.0004/config"), "0\n", "queues go with their card")
    expect(host.write("devices/ap/card05/config", "1"), "", "configure on")
    expect(host.write("devices/ap/card07/07.0047/online", "0"), "", "offline")
    expect(host.read("devices/ap/card07/07.0047/online"), "0\n", "offline")
    expect(host.write("devices/ap/card07/07.0047/online", "2"), "EINVAL", "online takes 0 and 1")


def check_mdevs(host):
    expect(host.create(MDEV), "", "create")
    expect(host.create(MDEV), "EEXIST", "create twice")
    expect(host.create("guest1"), "EINVAL", "create what is no UUID")
    expect((host.root / "bus/mdev/devices" / MDEV / "matrix").exists(), True, "listed on its bus")
    expect(host.mdev(MDEV, "assign_adapter", "0x05"), "", "assign an adapter")
    expect(host.matrix(MDEV, "matrix"), ["05."], "adapters only")
    expect(host.mdev(MDEV, "assign_domain", "4"), "", "assign a domain")
    expect(host.matrix(MDEV), ["05.0004"], "a matrix")
    expect(host.read("devices/ap/card05/05.0004/status"), "assigned\n", "status")
    expect(host.mdev(MDEV, "assign_control_domain", "0xab"), "", "assign a control domain")
    expect(host.matrix(MDEV, "control_domains"), ["00ab"], "control domains")
    expect(host.mdev(MDEV, "assign_adapter", "6"), "", "06.0004 is free too")
    expect(host.mdev(MDEV, "assign_domain", "0x47"), "EADDRNOTAVAIL", "06.0047 is the host's")
    expect(host.mdev(MDEV, "unassign_adapter", "6"), "", "unassign")
    expect(host.mdev(IDLE, "assign_adapter", "5"), "", "idle has domain 0047 and gets 05")
    expect(host.mdev(MDEV, "assign_domain", "0x47"), "EADDRINUSE", "05.0047 is another's")
    expect(host.mdev(MDEV, "assign_domain", "0xac"), "ENODEV", "above ap_max_domain_id")
    expect(host.mdev(MDEV, "assign_adapter", "256"), "ENODEV", "above ap_max_adapter_id")
    expect(host.mdev(MDEV, "assign_adapter", "five"), "EINVAL", "no number")
    masks = host.read(f"devices/vfio_ap/matrix/{MDEV}/ap_config").strip().split(",")
    expect(masks, ["0x04" + "0" * 62, "0x08" + "0" * 62, "0x" + "0" * 42 + "1" + "0" * 21], "ap_config")
    expect(host.mdev(MDEV, "ap_config", ",".join([masks[0], "0x0800000000000000" + "01", masks[2]])), "EADDRINUSE",
           "ap_config of another's")
    expect(host.matrix(MDEV), ["05.0004"], "nothing of it was done")
    expect(host.mdev(MDEV, "ap_config", ",".join(["0x06", "0x08", "0x00"])), "", "ap_config")
    expect(host.matrix(MDEV), ["05.0004", "06.0004"], "ap_config is done")
    expect(host.mdev(MDEV, "ap_config", "0x06,0x08"), "EINVAL", "two masks of three")
    expect(host.mdev(MDEV, "assign_adapter", "0x63"), "", "more than there is")
    expect(host.matrix(MDEV), ["05.0004", "06.0004"], "filtered")
    expect(host.control(f"in-use {MDEV}"), "", "a guest starts")
    expect(host.control(f"in-use {MDEV}"), "EBUSY", "another guest wants it")
    expect(host.read("devices/ap/card05/05.0004/status"), "in use\n", "status")
    expect(host.mdev(MDEV, "remove", "1"), "EBUSY", "a guest has it")
    expect(host.mdev(IDLE, "unassign_adapter", "5"), "", "unassign")
    expect(host.write("bus/ap/apmask", "+5"), "", "05.0004 stays, domain 0004 being free")
    expect(host.write("bus/ap/aqmask", "+4"), "EBUSY", "now it would not")
    expect(host.write("bus/ap/apmask", "-5"), "", "as before")
    expect(host.control(f"free {MDEV}"), "", "the guest stops")
    expect(host.mdev(MDEV, "remove", "1"), "", "remove")
    expect(host.matrix(MDEV), ["ENOENT"], "gone")


def check_vanishing(host):
    expect(host.create(MDEV), "", "create")
    expect(host.mdev(MDEV, "ap_config", "0x06,0x08,0x08"), "", "two queues")
    expect(host.control("vanish 05.0004"), "", "a queue goes")
    expect(host.matrix(MDEV), ["06.0004"], "the adapter with it")
    expect(host.control("vanish 05.0004"), "ENODEV", "gone already")
    expect(host.control("return 05.0004"), "", "it comes back")
    expect(host.matrix(MDEV), ["05.0004", "06.0004"], "all back")
    status = open(host.root / "devices/ap/card06/06.0004/status", encoding="ascii")
    expect(host.control("vanish card06"), "", "a card goes")
    try:
        status.read()
        found = ""
    except OSError as error:
        found = errno.errorcode[error.errno]
    expect(found, "ENODEV", "read of a device that went away")
    expect((host.root / "devices/ap/card06").exists(), False, "no card")
    expect(host.read("bus/ap/ap_adapter_mask"), "0x05" + "0" * 62 + "\n", "no adapter")
    expect(host.matrix(MDEV), ["05.0004"], "no queue")
    expect(host.read("bus/ap/bindings"), "6/6 (complete)\n", "bindings without it")
    expect(host.control("return card06"), "", "the card comes back")
    expect(host.matrix(MDEV), ["05.0004", "06.0004"], "with its queues")
    expect(host.driver("06.00ab"), "cex4queue", "also the host's")
    expect(host.control("check-stop card06"), "", "the card breaks")
    expect(host.read("devices/ap/card06/chkstop"), "1\n", "check-stopped")
    expect(host.control("check-start card06"), "", "the card is repaired")
    expect(host.control("vanish everything"), "EINVAL", "no such thing")
    expect(host.mdev(MDEV, "remove", "1"), "", "remove")


def check_troubles(host):
    expect(host.control("fail bus/ap/apm* EIO write skip=1 times=1"), "", "a failure is asked for")
    expect([host.write("bus/ap/apmask", "+9") for _ in range(3)], ["", "EIO", ""], "the second write fails")
    expect(host.read("bus/ap/apmask").startswith("0x"), True, "reading does not")
    expect(host.control("fail bus/ap/bindings EACCES read"), "", "a failure is asked for")
    expect(host.read("bus/ap/bindings"), "EACCES", "reading fails")
    expect(host.control("delay bus/ap/scans 600000"), "", "a delay is asked for")
    expect(host.read(".fakesys/control").splitlines()[-1], "delay bus/ap/scans 600000", "what is in force")
    texts = []
    slow = threading.Thread(target=lambda: texts.append(host.read("bus/ap/scans")))
    slow.start()
    expect(host.read("bus/ap/aqmask").startswith("0x"), True, "others go on")
    time.sleep(0.1)
    expect(texts, [], "the reader waits")
    expect(host.control("clear"), "", "no more of it")
    slow.join(60)
    expect(texts, ["12345\n"], "who waited goes on")
    expect(host.read("bus/ap/bindings"), "9/9 (complete)\n", "and nothing fails")
    for line in ("fail bus/ap/apmask ENOTHING", "delay bus/ap/apmask soon", "dance", "in-use nobody"):
        expect(host.control(line), "EINVAL", line)
    expect(host.control("clear-log"), "", "clear-log")
    host.write("bus/ap/apmask", "+300")
    expect(host.read(".fakesys/log"), "bus/ap/apmask: +300: EINVAL\n", "the log")


def check_permissions(host):
    expect(host.write("bus/ap/bindings", "1"), "EACCES", "an attribute for reading")
    expect(host.read("bus/ap/drivers_probe"), "EACCES", "an attribute for writing")
    expect(host.write("bus/ap/nothing", "1"), "ENOENT", "no attribute")
    try:
        (host.root / "bus/ap/new").write_text("1")
        found = ""
    except OSError as error:
        found = errno.errorcode[error.errno]
    expect(found, "EACCES", "a new file")
    expect(sorted(os.listdir(host.root)), ["bus", "class", "devices", "firmware", "kernel", "vfioap-host.json"],
           "what is at the top")


def check_overrides(host):
    """z16-override: everything by driver_override, domain 0054 is the host's."""
    queue = "devices/ap/card05/05.0054"
    expect(host.write("bus/ap/apmask", "-5"), "EINVAL", "masks while an override is set")
    expect(host.write(f"{queue}/driver_override", "vfio_ap"), "", "override")
    expect(host.driver("05.0054"), "cex4queue", "an override waits for the next probe")
    expect(host.write("bus/ap/drivers/vfio_ap/bind", "05.0054"), "ENODEV", "bound already")
    expect(host.write(f"{queue}/driver/unbind", "05.0054"), "", "unbind")
    expect(host.write("bus/ap/drivers_probe", "05.0054"), "", "probe")
    expect(host.driver("05.0054"), "vfio_ap", "it is vfio_ap's")
    expect(host.read(f"{queue}/driver_override"), "vfio_ap\n", "override is kept")
    expect(host.write(f"{queue}/driver_override", ""), "", "no override")
    expect(host.read(f"{queue}/driver_override"), "(null)\n", "no override")
    expect(host.write(f"{queue}/driver/unbind", "05.0054"), "", "unbind")
    expect(host.write("bus/ap/drivers_probe", "05.0054"), "", "probe")
    expect(host.driver("05.0054"), "cex4queue", "it is the host's")


def check_exclusion(host):
    """z16-migratable with the masks of others: an override is refused while a mask is not all ones."""
    for queue in ("05.0004", "05.0047", "05.00ab", "06.0004", "06.0047", "06.00ab", "07.0004", "07.0047", "07.00ab"):
        expect(host.write(f"devices/ap/card{queue[:2]}/{queue}/driver_override", ""), "", "no override")
    expect(host.write("bus/ap/aqmask", "-0x47"), "", "masks again")
    expect(host.write("devices/ap/card05/05.0004/driver_override", "vfio_ap"), "EINVAL", "override beside masks")


def check_page(host):
    """z16-cex8 with more than a page of queues."""
    expect(host.create(MDEV), "", "create")
    expect(host.mdev("1c7b6ad4-3f0e-4c0e-8d6a-6d2b1f0a7e11", "remove", "1"), "EBUSY", "its guest runs")
    for uuid in ("1c7b6ad4-3f0e-4c0e-8d6a-6d2b1f0a7e11", "2f9e0c58-92aa-4f2b-b0f4-0a5c44d3b822"):
        expect(host.control(f"free {uuid}"), "", "the guest stops")
    for uuid in ("1c7b6ad4-3f0e-4c0e-8d6a-6d2b1f0a7e11", "2f9e0c58-92aa-4f2b-b0f4-0a5c44d3b822",
                 "3d1a7f36-5b7c-4a57-9f3d-8e21c7a5c933"):
        expect(host.mdev(uuid, "remove", "1"), "", "remove")
    expect(host.mdev(MDEV, "ap_config", "0xffff,0xffffffff,0x00"), "", "512 queues")
    for attribute in ("matrix", "guest_matrix"):
        text = host.read(f"devices/vfio_ap/matrix/{MDEV}/{attribute}")
        expect((len(text), text[-8:]), (4095, "\n0f.001f"), f"{attribute} is cut at a page")
    expect(host.mdev(MDEV, "assign_adapter", "0x63"), "", "more still")
    expect(len(host.read(f"devices/vfio_ap/matrix/{MDEV}/matrix")), 4095, "and reads the same")


def check_driver(host):
    """z15-no-vfio-ap."""
    expect((host.root / "devices/vfio_ap").exists(), False, "no driver")
    expect(host.control("load vfio_ap"), "", "modprobe")
    expect(host.create(MDEV), "", "create")
    expect(host.matrix(MDEV, "matrix"), [], "an empty mdev")


def check_programs(host, control, check, examples):
    """The programs, on lpar-b; guest1's configuration is that of lpar-a."""
    def run(*command):
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        return done.returncode, done.stdout + done.stderr
    status, text = run(control, "status", "-s", host.root)
    expect((status, IDLE in text), (0, True), "vfioapctl status")
    status, text = run(control, "snapshot", host.root)
    expect(status, 0, "vfioapctl snapshot")
    snapshot = json.loads(text)
    expect((snapshot["name"], len(snapshot["queues"])), ("lpar-b", 9), "the snapshot")
    expect(snapshot.get("unreadable", []), [], "all of it is readable")
    guest = examples / "guest1.xml"
    source = examples.parent.parent / "tests/data/hosts/lpar-a.json"
    judge = [check, "-s", source, "-d", host.root, "--format", "json", guest]
    for _ in range(5):
        status, text = run(*judge)
        if status == 0:
            break
        commands = [command for finding in json.loads(text)["findings"] for remedy in finding["remedies"]
                    for command in remedy["commands"]
                    if command.startswith("echo ") and " > /sys/" in command]
        for command in commands:
            text, path = command[len("echo "):].split(" > /sys/")
            expect(host.write(path, text), "", command)
    expect(run(*judge)[0], 0, "the remedies' commands make the destination fit")


def main():
    fakesys, control, check, hosts, examples = sys.argv[1:]
    reason = why_not(fakesys)
    if reason:
        print(f"skipped: {reason}")
        return SKIP
    hosts = pathlib.Path(hosts)
    for name, checks in {"lpar-b": [check_masks, check_permissions], "z16-override": [check_overrides],
                         "z16-migratable": [check_exclusion], "z16-cex8": [check_page],
                         "z15-no-vfio-ap": [check_driver]}.items():
        with mounted(fakesys, hosts / f"{name}.json") as host:
            for part in checks:
                part(host)
    for part in (check_binding, check_mdevs, check_vanishing, check_troubles):
        with mounted(fakesys, hosts / "lpar-b.json") as host:
            part(host)
    with mounted(fakesys, hosts / "lpar-b.json") as host:
        check_programs(host, control, check, pathlib.Path(examples))
    print(f"{len(failures)} failures" if failures else "the fake kernel does what a kernel does")
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
