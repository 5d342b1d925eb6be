# SPDX-License-Identifier: LGPL-2.1-or-later
"""The state of a guest, kept by vfioapd in its domain: that it is there, true, and goes where the guest goes."""
import signal
import subprocess
import xml.etree.ElementTree as ET

import dbus

from cases import check, test
from guest import MDEV, NAMESPACE, queues_of, state_in
from node import SOURCE, Bus, wait_for

QUEUES = ["05.0004", "05.0047", "06.0004", "06.0047"]
FEWER = ["05.0004", "06.0004"]

# Keeps the domain that libvirt shows to hooks, by operation.
KEEP_XML = """#!/bin/sh
exec cat >"/run/e2e/hook-$2.xml"
"""


def fewer_queues(node):
    node.sysfs.assign(MDEV, {0x05, 0x06}, {0x04})


def started(case):
    """Two hosts, and a guest at the first one whose state is there."""
    a, b = case.nodes()
    guest = case.guest()
    guest.start(a)
    guest.wait_state(a, mdev=MDEV, host="host-a", queues=QUEUES)
    return a, b, guest


def wait_mdev(node, **expected):
    """Once the object of the mdev has these properties."""
    def as_expected():
        return {name: node.bus.mdev(MDEV, name) for name in expected} == expected
    wait_for(as_expected, f"{node.name}: mdev with {expected}")


def check_no_detached(state):
    check(state.get("detached", "no") == "no", f"detached: {state.attrib}")


def session(node):
    """Has changes of the mdev abort a migration, for as long as this process is on the bus."""
    return node.bus.call(Bus.ROOT, "Manager", "OpenMigration", MDEV, "source",
                         dbus.Dictionary({"abort_job": True}, signature="sv"))


@test("state-written")
def written(case):
    a, _, guest = started(case)
    state = guest.state(a)
    check(state.get("layout"), state.attrib)
    check_no_detached(state)
    check(guest.state(a, "--inactive") is None, "it is in the persistent definition, too")
    file = case.directory / "state.xml"
    file.write_text(ET.tostring(state, encoding="unicode"))
    found = subprocess.run(["xmllint", "--noout", "--relaxng", SOURCE / "xml/vfioap-domain.rng", file],
                           capture_output=True, text=True, check=False)
    check(found.returncode == 0, found.stderr)
    # libvirt finds it by its namespace, and prints it without.
    check(f'mdev="{MDEV}"' in a.virsh("metadata", guest.name, NAMESPACE).stdout, "virsh metadata")
    wait_mdev(a, Guest=guest.name, InUse=True, Queues=QUEUES)
    # Who asks without being root is answered too, by polkit's leave; but may not manage.
    caller = ["setpriv", "--reuid", "nobody", "--regid", "nogroup", "--clear-groups",
              "busctl", "call", Bus.NAME, Bus.ROOT, f"{Bus.NAME}.Manager"]
    check("vfioap-snapshot/1" in a.run(*caller, "GetInventory").stdout, "GetInventory as nobody")
    refused = a.run(*caller, "OpenMigration", "ssa{sv}", MDEV, "source", "0", check=False)
    check(refused.returncode != 0, "OpenMigration as nobody")
    a.virsh("destroy", guest.name)
    wait_mdev(a, InUse=False)
    check(guest.state(a) is None, "a guest that does not run has a state")


@test("state-migrates")
def migrates(case):
    a, b = case.nodes()
    for node in (a, b):
        node.install_hook("10-keep", KEEP_XML)
    guest = case.guest()
    guest.start(a)
    there_and_back = ((a, b), (b, a))
    for source, destination in there_and_back:
        guest.wait_state(source, host=source.name, queues=QUEUES)
        guest.migrate(source, destination, "--persistent", "--undefinesource")
        arrived = state_in(ET.parse(destination.run_directory / "e2e/hook-migrate.xml").getroot())
        check(arrived is not None, "no state in what the hook was given")
        check(arrived.get("host") == source.name and queues_of(arrived) == QUEUES, ET.tostring(arrived))
        guest.wait_alive()
        guest.check_gapless()
        state = guest.wait_state(destination, mdev=MDEV, host=destination.name, queues=QUEUES)
        check_no_detached(state)
        check(guest.state(destination, "--inactive") is None, "it is in the persistent definition, too")
        wait_mdev(source, Guest="", InUse=False)
        wait_mdev(destination, Guest=guest.name, InUse=True)
        check(guest.name not in source.virsh("list", "--all", "--name").stdout, "it is still at the source")


@test("state-migrates-source-keeps-definition")
def migrates_and_stays_defined(case):
    a, b, guest = started(case)
    guest.migrate(a, b)
    guest.wait_state(b, host="host-b", queues=QUEUES)
    guest.wait_alive()
    guest.check_gapless()
    check(guest.state(a) is None, "the definition that stays has a state")
    wait_mdev(a, InUse=False)
    wait_mdev(b, Guest=guest.name, InUse=True)


@test("state-of-another-configuration")
def arrives_elsewhere(case):
    """What the guest has at the destination is what its state says there, whatever came with it."""
    a, b, guest = started(case)
    fewer_queues(b)
    wait_mdev(b, Queues=FEWER)
    guest.migrate(a, b)
    guest.wait_state(b, host="host-b", queues=FEWER)


@test("state-unplug")
def unplug(case):
    a, _, guest = started(case)
    guest.unplug(a)
    wait_for(lambda: not guest.has_device(a), "the device is gone")
    wait_mdev(a, Guest="", InUse=False)
    wait_for(lambda: guest.state(a) is None, "the state is gone", 20)


@test("state-plug")
def plug(case):
    a, _, guest = started(case)
    guest.unplug(a)
    wait_for(lambda: not guest.has_device(a), "the device is gone")
    wait_mdev(a, Guest="", InUse=False)
    fewer_queues(a)
    guest.plug(a)
    check_no_detached(guest.wait_state(a, host="host-a", queues=FEWER))
    wait_mdev(a, Guest=guest.name, InUse=True, Queues=FEWER)
    guest.wait_alive()
    guest.check_gapless()


@test("state-device-hangs")
def device_hangs(case):
    """A guest that does not let go of its device still has it, whatever virsh says."""
    a, _, guest = started(case)
    guest.set_device(a, detach="hang")
    guest.unplug(a)
    check(guest.has_device(a), "the device is gone")
    wait_mdev(a, Guest=guest.name, InUse=True)
    guest.wait_state(a, host="host-a", queues=QUEUES)
    guest.set_device(a, attach="fail")
    wait_for(lambda: not guest.has_device(a), "the device is gone")
    check(guest.plug(a, check=False).returncode != 0, "it was plugged")
    wait_mdev(a, Guest="", InUse=False)
    guest.set_device(a, detach="fail")
    guest.plug(a)
    guest.wait_state(a, host="host-a", queues=QUEUES)
    check(guest.unplug(a, check=False).returncode != 0, "it was unplugged")
    check(guest.has_device(a), "the device is gone")


@test("state-configuration-changes")
def configuration_changes(case):
    a, _, guest = started(case)
    changes = a.bus.record(path=Bus.mdev_path(MDEV), dbus_interface=f"{Bus.NAME}.Mdev")
    fewer_queues(a)
    guest.wait_state(a, host="host-a", queues=FEWER)
    wait_for(lambda: changes, "ConfigurationChanged")
    member, arguments = changes[0]
    check(member == "ConfigurationChanged" and all(arguments), changes)
    wait_mdev(a, Queues=FEWER, ControlDomains=["0004"])
    check(guest.state(a, "--inactive") is None, "it is in the persistent definition, too")


@test("state-change-aborts-migration")
def change_aborts(case):
    a, b, guest = started(case)
    session(a)
    # So slow that it would take minutes.
    virsh = guest.start_migration(a, b, "--bandwidth", "1")
    wait_for(lambda: "Data processed" in a.virsh("domjobinfo", guest.name, check=False).stdout or
             virsh.poll() is not None, "the migration runs")
    check(virsh.poll() is None, f"the migration has ended: {a.text_of('migrate.log')}")
    fewer_queues(a)
    wait_for(lambda: virsh.poll() is not None, "the end of the migration")
    check(virsh.returncode != 0, "the guest has migrated")
    check("abort" in a.text_of("migrate.log") or "cancel" in a.text_of("migrate.log"), a.text_of("migrate.log"))
    check("aborted" in a.text_of("vfioapd.log"), a.text_of("vfioapd.log"))
    check(guest.runs(a), "the guest does not run at the source")
    # Not before the migration has ended could it be written.
    guest.wait_state(a, host="host-a", queues=FEWER)
    guest.wait_alive()
    guest.check_gapless()
    wait_for(lambda: guest.name not in b.virsh("list", "--all", "--name").stdout, "it is gone from the destination")
    wait_mdev(b, Guest="", InUse=False)
    # A write that waits for the incoming migration would hold up for 30 s whatever else b has to tell libvirt.
    check("state change lock" not in b.text_of("vfioapd.log"), b.text_of("vfioapd.log"))


@test("state-libvirtd-restarts")
def libvirtd_restarts(case):
    a, _, guest = started(case)
    for number, domains in ((signal.SIGTERM, {0x04}), (signal.SIGKILL, {0x04, 0x47})):
        a.stop_libvirtd(number)
        # What changes meanwhile is not missed.
        a.sysfs.assign(MDEV, {0x05, 0x06}, domains)
        queues = QUEUES if len(domains) == 2 else FEWER
        wait_mdev(a, Guest=guest.name, Queues=queues)
        a.start_libvirtd()
        guest.wait_state(a, host="host-a", queues=queues)
        check(guest.runs(a), "the guest does not run")
        guest.wait_alive()
        wait_mdev(a, Guest=guest.name, InUse=True)
        # And it hears of what comes after.
        fewer_queues(a)
        guest.wait_state(a, host="host-a", queues=FEWER)
    guest.check_gapless()
    a.virsh("destroy", guest.name)
    a.virsh("undefine", guest.name)
    wait_mdev(a, Guest="", InUse=False)


@test("state-service-restarts")
def service_restarts(case):
    a, b, guest = started(case)
    for number in (signal.SIGTERM, signal.SIGKILL):
        a.stop_service(number)
        a.sysfs.assign(MDEV, {0x05}, {0x04, 0x47} if number == signal.SIGTERM else {0x04})
        queues = ["05.0004", "05.0047"] if number == signal.SIGTERM else ["05.0004"]
        a.start_service()
        guest.wait_state(a, mdev=MDEV, host="host-a", queues=queues)
        wait_mdev(a, Guest=guest.name, InUse=True, Queues=queues)
    # A guest that came while the service was away, with the state of another host.
    b.stop_service(signal.SIGKILL)
    guest.migrate(a, b, "--persistent", "--undefinesource")
    check(guest.state(b).get("host") == "host-a", "somebody has written a state without the service")
    b.start_service()
    guest.wait_state(b, host="host-b", queues=QUEUES)
    wait_mdev(a, Guest="", InUse=False)
    guest.wait_alive()
    guest.check_gapless()


# Asks the service while libvirtd waits for the hook, and takes its time.
ASKS = """#!/bin/sh
cat >/dev/null
[ "$2" = prepare ] || exit 0
touch /run/e2e/asks
busctl call org.vfioap1 /org/vfioap1 org.vfioap1.Manager GetInventory >/run/e2e/answer 2>&1
sleep 3
touch /run/e2e/asked
"""


@test("state-hook-asks-service")
def hook_asks(case):
    """The service waits for libvirtd, which waits for a hook, which waits for the service: nobody must."""
    a, _ = case.nodes()
    a.install_hook("10-asks", ASKS)
    guest, other = case.guest(), case.guest("other", mdev=None)
    guest.define(a)
    wait_mdev(a, Guest=guest.name)
    begun, ended = a.run_directory / "e2e/asks", a.run_directory / "e2e/asked"
    for again in range(2):
        begun.unlink(missing_ok=True)
        ended.unlink(missing_ok=True)
        virsh = a.spawn("virsh", "-q", "-c", "qemu:///system", "start", guest.name, log="start.log")
        wait_for(begun.exists, "the hook")
        # The service wants to see this one, too, and waits for libvirtd meanwhile.
        define = a.spawn("virsh", "-q", "-c", "qemu:///system", "define", "/dev/stdin", stdin=subprocess.PIPE)
        define.stdin.write(other.xml.encode())
        define.stdin.close()
        answers = 0
        while not ended.exists():
            check(virsh.poll() is None, a.text_of("start.log"))
            a.bus.call(Bus.ROOT, "Manager", "GetInventory")
            check(a.bus.mdev(MDEV, "Queues") == QUEUES, "Queues")
            answers += not ended.exists()
        check(answers > 0, "the service has not answered while the hook ran")
        wait_for(lambda: virsh.poll() is not None, "virsh start")
        check(virsh.returncode == 0, a.text_of("start.log"))
        check("vfioap-snapshot/1" in a.text_of("run/e2e/answer"), a.text_of("run/e2e/answer"))
        guest.wait_state(a, host="host-a", queues=QUEUES)
        wait_for(lambda: define.poll() is not None, "virsh define")
        if not again:
            a.virsh("destroy", guest.name)


@test("state-saved-and-restored")
def saved(case):
    a, _, guest = started(case)
    a.virsh("managedsave", guest.name)
    wait_mdev(a, InUse=False)
    kept = state_in(ET.fromstring(a.virsh("managedsave-dumpxml", guest.name).stdout))
    check(kept is not None and kept.get("host") == "host-a" and queues_of(kept) == QUEUES, "no state was saved")
    check(guest.state(a) is None, "the definition has a state")
    # It is what the guest had. What it gets is what there is when it comes back.
    fewer_queues(a)
    wait_mdev(a, Queues=FEWER)
    a.virsh("start", guest.name)
    guest.wait_state(a, host="host-a", queues=FEWER)
    wait_mdev(a, Guest=guest.name, InUse=True)
    guest.wait_alive()
    guest.check_gapless()


@test("state-todays-refusal")
def refusal(case):
    """What every released QEMU does: nothing here must hide it."""
    a, b, guest = started(case)
    guest.set_device(a, migration="refuse")
    refused = guest.migrate(a, b, check=False)
    check(refused.returncode != 0 and
          "cannot migrate domain: non-migratable device: /1/vfio-ap" in refused.stderr, refused.stderr)
    saved_too = a.virsh("managedsave", guest.name, check=False)
    check(saved_too.returncode != 0 and "non-migratable device" in saved_too.stderr, saved_too.stderr)
    check(guest.runs(a), "the guest does not run at the source")
    guest.wait_alive()
    # And what works today: without the device.
    guest.unplug(a)
    wait_for(lambda: not guest.has_device(a), "the device is gone")
    guest.migrate(a, b)
    guest.plug(b)
    guest.wait_state(b, host="host-b", queues=QUEUES)
    wait_mdev(a, InUse=False)
    wait_mdev(b, Guest=guest.name, InUse=True)
    guest.wait_alive()
    guest.check_gapless()
