# SPDX-License-Identifier: LGPL-2.1-or-later
"""vfioapctl migrate, on hosts whose QEMU refuses to migrate the device as every released one does: however it ends, the
guest goes on at one host, with its device."""
import json
import signal
import time

from cases import check, test
from guest import MDEV
from node import wait_for
from state_tests import QUEUES, started, wait_mdev


def refusing(case):
    a, b, guest = started(case)
    for node in (a, b):
        guest.set_device(node, migration="refuse")
    return a, b, guest


def command(case, source, destination, guest, *options):
    """The libvirt of the other host is not reached over SSH here; and its sysfs is a directory of this machine."""
    return [case.programs / "vfioapctl", "migrate", "--format", "json", "--detached", "-d", destination.sysfs.directory,
            "--desturi", f"qemu+tcp://{destination.name}/system", *options, guest.name]


def move(case, source, destination, guest, *options):
    """Exit code and what was said of the one move."""
    done = source.run(*command(case, source, destination, guest, *options), check=False, seconds=200)
    check(done.stdout, done.stderr)
    return done.returncode, json.loads(done.stdout)["moves"][0], done.stderr


def check_whole(guest, at, away):
    """It runs there, with its device and a true state, and nowhere else."""
    check(guest.runs(at), f"{guest.name} does not run at {at.name}")
    check(not guest.runs(away), f"{guest.name} runs at {away.name}")
    check(guest.has_device(at), f"{guest.name} has no device")
    state = guest.wait_state(at, host=at.name, queues=QUEUES)
    wait_for(lambda: guest.state(at).get("detached", "no") == "no", "the mark is gone")
    check(state.get("mdev") == MDEV, state.attrib)
    wait_mdev(at, Guest=guest.name, InUse=True)
    guest.wait_alive()
    guest.check_gapless()
    check(not list(at.run("find", "/var/lib/vfioap/moves", "-name", "*.json", check=False).stdout.split()),
          "a journal stays")


def start(case, source, destination, guest, *options):
    return source.spawn(*command(case, source, destination, guest, *options), log="move.log")


def wait_job(node, guest):
    """A migration is under way."""
    wait_for(lambda: "Outgoing migration" in node.virsh("domjobinfo", guest.name, check=False).stdout,
             "a migration runs")


@test("move-there-and-back")
def there_and_back(case):
    a, b, guest = refusing(case)
    for source, destination in ((a, b), (b, a), (a, b), (b, a)):
        code, told, err = move(case, source, destination, guest, "--persistent", "--undefinesource")
        check((code, told["outcome"], told["host"]) == (0, "moved", destination.name), (code, told, err))
        check_whole(guest, destination, source)
        # The definition has the device, too.
        check(guest.domain(destination, "--inactive").find("devices/hostdev[@model='vfio-ap']") is not None,
              "the definition lost the device")


@test("move-detach-hangs")
def detach_hangs(case):
    a, b, guest = refusing(case)
    guest.set_device(a, migration="refuse", detach="hang")
    code, told, err = move(case, a, b, guest, "--detach-timeout", "7")
    check((code, told["outcome"], told["has_device"]) == (3, "needs-person", True), (code, told, err))
    check("did not release its device within 7 s" in told["reason"], told)
    code, told, err = move(case, a, b, guest)
    check((code, told["outcome"]) == (3, "needs-person") and "--recover" in told["to_do"][0], (code, told, err))
    done = a.run(case.programs / "vfioapctl", "migrate", "--recover", guest.name, check=False)
    check("NOT MOVED" in done.stdout, done.stdout)
    check_whole(guest, a, b)


@test("move-detach-fails")
def detach_fails(case):
    a, b, guest = refusing(case)
    guest.set_device(a, migration="refuse", detach="fail")
    code, told, err = move(case, a, b, guest, "--detach-timeout", "5")
    check(told["outcome"] != "moved" and told["has_device"] and code in (1, 3), (code, told, err))
    a.run(case.programs / "vfioapctl", "migrate", "--recover", check=False)
    check_whole(guest, a, b)


@test("move-attach-refused")
def attach_refused(case):
    a, b, guest = refusing(case)
    guest.set_device(b, migration="refuse", attach="fail")
    code, told, err = move(case, a, b, guest)
    check((code, told["outcome"], told["host"]) == (1, "not-moved", "this host"), (code, told, err))
    check("could not be attached" in told["reason"], told)
    check_whole(guest, a, b)


@test("move-destination-unfit")
def unfit(case):
    a, b, guest = refusing(case)
    b.sysfs.assign(MDEV, {0x05, 0x06}, {0x04})
    code, told, err = move(case, a, b, guest)
    check((code, told["outcome"]) == (1, "not-moved") and "the check says incompatible" in told["reason"], (code, told))
    check_whole(guest, a, b)


@test("move-interrupted")
def interrupted(case):
    a, b, guest = refusing(case)
    mover = start(case, a, b, guest, "--bandwidth", "1")
    wait_job(a, guest)
    mover.send_signal(signal.SIGINT)
    wait_for(lambda: mover.poll() is not None, "the end of the mover", seconds=90)
    check(mover.returncode == 1, a.text_of("move.log"))
    check_whole(guest, a, b)


@test("move-killed")
def killed(case):
    """Its death in the middle of the migration, which libvirt goes on with."""
    a, b, guest = refusing(case)
    mover = start(case, a, b, guest, "--bandwidth", "8")
    wait_job(a, guest)
    mover.kill()
    mover.wait()
    done = a.run(case.programs / "vfioapctl", "migrate", "--recover", guest.name, seconds=200)
    check("MOVED" in done.stdout, done.stdout)
    check_whole(guest, *((b, a) if guest.runs(b) else (a, b)))


@test("move-destination-libvirtd-killed")
def libvirtd_killed(case):
    a, b, guest = refusing(case)
    mover = start(case, a, b, guest, "--bandwidth", "1")
    wait_job(a, guest)
    b.stop_libvirtd(signal.SIGKILL)
    time.sleep(1)
    b.start_libvirtd()
    wait_for(lambda: mover.poll() is not None, "the end of the mover", seconds=200)
    check(mover.returncode in (0, 1), a.text_of("move.log"))
    check_whole(guest, *((b, a) if guest.runs(b) else (a, b)))


@test("move-network-cut")
def network_cut(case):
    a, b, guest = refusing(case)
    mover = start(case, a, b, guest, "--bandwidth", "1")
    wait_job(a, guest)
    b.set_network(False)
    wait_for(lambda: mover.poll() is not None, "the end of the mover", seconds=200)
    b.set_network(True)
    check(mover.returncode == 1, a.text_of("move.log"))
    check_whole(guest, a, b)


@test("move-without-services")
def without_services(case):
    """Nobody keeps the state but the mover."""
    a, b, guest = refusing(case)
    a.stop_service()
    b.stop_service()
    code, told, err = move(case, a, b, guest)
    check((code, told["outcome"]) == (0, "moved"), (code, told, err))
    a.start_service()
    b.start_service()
    check_whole(guest, b, a)


@test("move-drift")
def drift(case):
    """The destination loses a domain while the guest is on its way there."""
    a, b, guest = refusing(case)
    mover = start(case, a, b, guest, "--bandwidth", "8")
    wait_job(a, guest)
    b.sysfs.assign(MDEV, {0x05, 0x06}, {0x04})
    wait_for(lambda: mover.poll() is not None, "the end of the mover", seconds=200)
    told = a.text_of("move.log")
    check(mover.returncode == 1 and "queue.not-assigned" in told and "05.0047 06.0047" in told, told)
    check_whole(guest, a, b)
