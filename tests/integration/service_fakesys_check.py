#!/usr/bin/python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""vfioapd on the mounted fake kernel: it sees what follows a write, and survives devices that go and reads that fail.

usage: service_fakesys_check.py VFIOAPD VFIOAPCTL VFIOAP-CHECK FAKESYS SOURCE-DIRECTORY
Exit 77: something that is needed is missing.
"""
import shutil
import sys

sys.dont_write_bytecode = True
from fakesys_check import IDLE, SKIP, mounted, why_not  # noqa: E402
from service_check import MDEV, MDEV_PATH, NAME, ROOT, Bus, DBusGMainLoop, Programs, expect, failures  # noqa: E402

ALL = ["05.0004", "05.0047", "06.0004", "06.0047"]


def check(programs, fakesys):
    with Bus(programs) as bus, mounted(fakesys, programs.hosts / "lpar-a.json") as host:
        bus.root = host.root
        bus.serve()
        objects = bus.record(ROOT, "org.freedesktop.DBus.ObjectManager")

        def queues():
            return [str(queue) for queue in bus.get(MDEV_PATH, "Mdev", "Queues")]

        def in_use():
            return bool(bus.get(MDEV_PATH, "Mdev", "InUse"))

        expect(queues() == ALL and in_use(), (queues(), in_use()))
        # A card goes and comes back, with the guest running.
        host.control("vanish card06")
        bus.wait(lambda: queues() == ALL[:2])
        host.control("return card06")
        bus.wait(lambda: queues() == ALL)
        # One queue of an adapter takes the other with it.
        host.control("vanish 05.0047")
        bus.wait(lambda: queues() == ALL[2:])
        host.control("return 05.0047")
        bus.wait(lambda: queues() == ALL)
        host.control(f"free {MDEV}")
        bus.wait(lambda: not in_use())
        # What is assigned without an event is seen as well.
        expect(host.mdev(MDEV, "unassign_domain", "0x47") == "", "unassign")
        bus.wait(lambda: queues() == ["05.0004", "06.0004"])
        # Reads that fail or last: the service answers all the while, and goes on afterwards.
        host.control("fail devices/ap/card05/05.0004/* EIO read")
        host.control("delay devices/vfio_ap/matrix/*/ap_config 2000 read times=2")
        expect(str(bus.get(ROOT, "Manager", "SysfsRoot")) == str(host.root), "SysfsRoot")
        inventory = bus.manager().GetInventory(timeout=60)
        expect("EIO" in inventory, inventory)
        host.control("clear")
        expect(host.mdev(MDEV, "remove", "1") == "", "remove")
        bus.wait(lambda: any(member == "InterfacesRemoved" and arguments[0] == MDEV_PATH
                             for member, arguments, _ in objects))
        expect(host.create(IDLE) == "", "create")
        path = f"{ROOT}/mdev/{IDLE.replace('-', '_')}"
        bus.wait(lambda: any(member == "InterfacesAdded" and arguments[0] == path for member, arguments, _ in objects))
        expect(bus.service.poll() is None and bus.bus.name_has_owner(NAME), "the service is there")
        bus.service.terminate()
        bus.service.wait(20)


def main(service, control, check_program, fakesys, source):
    reason = why_not(fakesys) or ("" if shutil.which("dbus-daemon") else "dbus-daemon is missing")
    if reason:
        print(f"skipped: {reason}")
        return SKIP
    DBusGMainLoop(set_as_default=True)
    check(Programs(service, control, check_program, source), fakesys)
    print("\n".join(failures[:20]) or "the service follows a kernel that changes")
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
