# SPDX-License-Identifier: LGPL-2.1-or-later
"""vfioapctl migrate, on hosts whose QEMU refuses to migrate the device as every released one does: however it ends, the
guest goes on at one host, with its device.

A pair of hosts and a guest are made once for a group of failures: each finds the guest where the one before has left
it, and has it go to the other host.
"""
import json
import signal
import time

try:
    import jsonschema
except ImportError:
    jsonschema = None  # the test `moves` says so

from cases import ENDS, check, test
from guest import MDEV
from hook_tests import NATIVE, host, queue_elsewhere
from images import Missing
from node import SOURCE, Failed, wait_for
from state_tests import FEWER, QUEUES, started, wait_mdev

ALL = "0x" + "f" * 64
ADAPTERS, DOMAINS, FEWER_DOMAINS = {0x05, 0x06}, {0x04, 0x47}, {0x04}
# Group: failures in it, what each is called and what makes it.
FAILURES = {}


def refusing(case):
    a, b, guest = started(case)
    for node in (a, b):
        guest.set_device(node, migration="refuse")
    return a, b, guest


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
    for node in (at, away):
        check(not list((node.directory / "var-lib-vfioap").glob("moves/*.json")), f"a journal stays at {node.name}")


class Attempt:
    """A guest that is to be moved from one host to the other."""

    def __init__(self, case, nodes, guest, number=0):
        self.case, self.guest = case, guest
        self.source, self.destination = nodes if guest.runs(nodes[0]) else reversed(nodes)
        self.mover, self.log = None, f"move-{number}.log"
        self.ends = []

    mode = "--detached"
    environment = None

    def place(self):
        """Its sysfs is a directory of this machine."""
        return self.destination.sysfs.directory

    def command(self, *options):
        """The libvirt of the other host is not reached over SSH here."""
        return [self.case.programs / "vfioapctl", "migrate", "--format", "json", self.mode, "-d", self.place(),
                "--desturi", f"qemu+tcp://{self.destination.name}/system", *options, self.guest.name]

    def move(self, *options, expect, outcome):
        """What was said of the move, which has to end with that exit code."""
        done = self.source.run(*self.command(*options), check=False, seconds=200,
                               environment=self.environment)
        check(done.stdout, done.stderr)
        document = json.loads(done.stdout)
        if jsonschema:
            jsonschema.validate(document, json.loads((SOURCE / "xml/vfioap-moves.schema.json").read_text()))
        told = document["moves"][0]
        check((done.returncode, told["outcome"]) == (expect, outcome), (done.returncode, told, done.stderr))
        self.ends.append(str(done.returncode))
        return told

    def start(self, *options):
        """The running mover."""
        self.mover = self.source.spawn(*self.command(*options), log=self.log, environment=self.environment)
        return self.mover

    def said(self):
        return self.source.text_of(self.log)

    def end(self, mover, expect):
        wait_for(lambda: mover.poll() is not None, "the end of the mover", seconds=200)
        check(mover.returncode in expect, f"exit {mover.returncode}: {self.said()}")
        self.ends.append(str(mover.returncode))

    def kill(self, mover):
        mover.kill()
        mover.wait()
        self.ends.append("killed")

    def recover(self, expect):
        done = self.source.run(self.case.programs / "vfioapctl", "migrate", "--recover", self.guest.name, check=False,
                               seconds=200)
        check(done.returncode in expect, (done.returncode, done.stdout, done.stderr))
        self.ends.append(str(done.returncode))

    def wait_step(self, step):
        """It is written down that this has begun."""
        file = self.source.directory / f"var-lib-vfioap/moves/{self.guest.uuid}.json"
        wait_for(lambda: file.exists() and json.loads(file.read_text())["step"] == step, f"the step {step}")

    def wait_job(self):
        """A migration is under way."""
        def runs():
            check(self.mover.poll() is None, f"the mover has ended: {self.said()}")
            return "Outgoing migration" in self.source.virsh("domjobinfo", self.guest.name, check=False).stdout
        wait_for(runs, "a migration runs")

    def set_device(self, node, **behaviour):
        self.guest.set_device(node, migration="refuse", **behaviour)


def failure(group, name):
    """A failure that is made with an Attempt, which then says where the guest has to be, or None: any host will do."""
    def add(function):
        FAILURES.setdefault(group, []).append((name, function))
        return function
    return add


def mend(node):
    """What the failure has left of the host."""
    if node.libvirtd.poll() is not None:
        node.start_libvirtd()
    if node.service.poll() is not None:
        node.start_service()
    if node.sysfs.queues(MDEV) != QUEUES:
        node.sysfs.assign(MDEV, ADAPTERS, DOMAINS)
    # Else it would see the change back during the next move.
    wait_mdev(node, Queues=QUEUES)


def make_failures(case, group, nodes, guest, kind=Attempt):
    a, b = nodes
    for number, (name, function) in enumerate(FAILURES[group]):
        attempt = kind(case, nodes, guest, number)
        try:
            place = function(attempt)
            at, away = (attempt.source, attempt.destination) if guest.runs(attempt.source) else (
                attempt.destination, attempt.source)
            check(place in (None, at), f"the guest is at {at.name}")
            for node in (a, b):
                mend(node)
            check_whole(guest, at, away)
        except Exception as error:
            ENDS.append((name, "not as promised", "", ", then ".join(attempt.ends)))
            raise Failed(f"{name}: {error}") from error
        for node in (a, b):
            attempt.set_device(node)
        ENDS.append((name, "source" if at is attempt.source else "destination",
                     "attached" if guest.has_device(at) else "away", ", then ".join(attempt.ends)))


@test("move-there-and-back")
def there_and_back(case):
    """Ten times."""
    a, b, guest = refusing(case)
    for number in range(20):
        attempt = Attempt(case, (a, b), guest, number)
        told = attempt.move("--persistent", "--undefinesource", expect=0, outcome="moved")
        check((told["host"], told["has_device"]) == (attempt.destination.name, True), told)
        # The definition has the device, too.
        check(guest.domain(attempt.destination, "--inactive").find("devices/hostdev[@model='vfio-ap']") is not None,
              "the definition lost the device")
        if number % 5 == 4:
            check_whole(guest, attempt.destination, attempt.source)
    check(guest.runs(a), "it is not back")


@test("move-failures")
def failures(case):
    a, b, guest = refusing(case)
    make_failures(case, "guest", (a, b), guest)


@test("move-host-failures")
def host_failures(case):
    a, b, guest = refusing(case)
    make_failures(case, "host", (a, b), guest)


@test("move-killed")
def killed(case):
    a, b, guest = refusing(case)
    make_failures(case, "mover", (a, b), guest)


class RemoteAttempt(Attempt):
    """The service of the other host is asked."""

    def __init__(self, *arguments):
        super().__init__(*arguments)
        self.environment = self.source.reach(self.destination)
        if not self.environment:
            raise Missing("systemd-stdio-bridge is missing")

    def place(self):
        return self.destination.name


class NativeAttempt(RemoteAttempt):
    """On a stack of the days to come, the device goes with the guest."""
    mode = "--native"

    def set_device(self, node, **behaviour):
        self.guest.set_device(node, **behaviour)


@test("move-native")
def native(case):
    a, b = case.nodes(*NATIVE)
    guest = case.guest()
    guest.start(a)
    guest.wait_state(a, host=a.name, queues=QUEUES)
    attempt = NativeAttempt(case, (a, b), guest)
    attempt.move(expect=0, outcome="moved")
    check_whole(guest, b, a)
    make_failures(case, "native", (a, b), guest, NativeAttempt)


def bare():
    """A host like the other one, of which nothing was given to guests yet."""
    found = host("lpar-a")
    found["ap"].update(apmask=ALL, aqmask=ALL)
    found["mdevs"] = []
    for queue in found["queues"]:
        queue.update(driver="cex4queue", online=True)
        queue.pop("status", None)
    return found


def to_bare(case):
    """An attempt to move to it."""
    if not (case.programs / "fakesys").exists():
        raise Missing("fakesys was not built: libfuse3 was not found")
    a, b = case.nodes("lpar-a", bare())
    guest = case.guest()
    guest.start(a)
    guest.wait_state(a, host=a.name, queues=QUEUES)
    attempt = RemoteAttempt(case, (a, b), guest)
    for node in (a, b):
        attempt.set_device(node)
    return a, b, guest, attempt


@test("move-to-a-bare-host")
def to_a_bare_host(case):
    """All that it needs is in the script of the plan."""
    a, b, guest, attempt = to_bare(case)
    told = attempt.move(expect=1, outcome="not-moved")
    check("mdev.missing" in told["rules"], told)
    plan = [case.programs / "vfioapctl", "plan", "-d", b.name, "--mode", "detached"]
    script = a.run(*plan, "--script", guest.name, environment=attempt.environment).stdout
    for again in range(2):
        b.run("sh", "-", input=script, environment={"KEEP": "no"})
        log = b.run("cat", "/run/e2e/fakesys/log").stdout
        check((not log) == bool(again), f"run {again + 1}: {log}")
        b.run("sh", "-c", "echo clear-log >/run/e2e/fakesys/control")
    # Its service has to see that first.
    wait_for(lambda: a.run(*plan, guest.name, check=False, environment=attempt.environment).stdout.startswith(
        "NOTHING TO DO"), "a plan without steps")
    attempt.move(expect=0, outcome="moved")
    check_whole(guest, b, a)
    # The kernel keeps what a guest uses.
    refused = b.run("sh", "-c", f"echo 1 >/sys/bus/mdev/devices/{MDEV}/remove", check=False)
    log = b.run("cat", "/run/e2e/fakesys/log").stdout
    check(refused.returncode != 0 and "remove: 1: EBUSY" in log, log)


@test("move-prepared")
def prepared(case):
    """The service there makes it ready, and takes it back where the guest does not come."""
    a, b, guest, attempt = to_bare(case)
    before = b.run("cat", "/sys/bus/ap/apmask", "/sys/bus/ap/aqmask").stdout
    attempt.set_device(b, attach="fail")
    told = attempt.move("--prepare", expect=1, outcome="not-moved")
    check("could not be attached" in told["reason"], told)
    check_whole(guest, a, b)
    check(b.run("cat", "/sys/bus/ap/apmask", "/sys/bus/ap/aqmask").stdout == before, "the masks are as they were")
    check(b.run("ls", "/sys/bus/mdev/devices").stdout == "", "an mdev stays")
    attempt.set_device(b)
    attempt.move("--prepare", expect=0, outcome="moved")
    check_whole(guest, b, a)
    # What it uses now is not taken from it.
    done = a.run(case.programs / "vfioapctl", "unplan", "-d", b.name, guest.name, check=False,
                 environment=attempt.environment)
    check(done.returncode == 1 and f"is used by guest {guest.name}" in done.stdout + done.stderr, done)


# What the guest and its device do.

@failure("guest", "the guest lets go of its device too late")
def too_late(attempt):
    attempt.set_device(attempt.source, detach="hang")
    told = attempt.move("--detach-timeout", "6", expect=3, outcome="needs-person")
    check(told["has_device"] and "did not release its device within 6 s" in told["reason"], told)
    again = attempt.move(expect=3, outcome="needs-person")
    check("--recover" in again["to_do"][0], again)
    attempt.ends.pop()
    attempt.set_device(attempt.source)
    wait_for(lambda: not attempt.guest.has_device(attempt.source), "it lets go")
    attempt.recover([1])
    return attempt.source


@failure("guest", "the device cannot be detached")
def detach_fails(attempt):
    attempt.set_device(attempt.source, detach="fail")
    told = attempt.move("--detach-timeout", "5", expect=3, outcome="needs-person")
    check(told["has_device"], told)
    attempt.recover([1])
    return attempt.source


@failure("guest", "the destination is not ready")
def unfit(attempt):
    attempt.destination.sysfs.assign(MDEV, ADAPTERS, FEWER_DOMAINS)
    told = attempt.move(expect=1, outcome="not-moved")
    check("the check says incompatible" in told["reason"] and "queue.not-assigned" in told["rules"], told)
    return attempt.source


@failure("guest", "the device is refused at the destination")
def attach_refused(attempt):
    attempt.set_device(attempt.destination, attach="fail")
    told = attempt.move(expect=1, outcome="not-moved")
    check(told["host"] == "this host" and "could not be attached" in told["reason"], told)
    return attempt.source


@failure("guest", "attaching hangs for a while")
def attach_hangs(attempt):
    attempt.set_device(attempt.destination, attach_seconds=8)
    attempt.move(expect=0, outcome="moved")
    return attempt.destination


@failure("guest", "the destination drifts during the migration")
def drift(attempt):
    mover = attempt.start("--bandwidth", "8")
    attempt.wait_job()
    attempt.destination.sysfs.assign(MDEV, ADAPTERS, FEWER_DOMAINS)
    attempt.end(mover, [1])
    check("queue.not-assigned" in attempt.said() and "05.0047 06.0047" in attempt.said(), attempt.said())
    return attempt.source


@failure("guest", "the source drifts during the migration")
def drift_at_source(attempt):
    """The device is away, and comes back elsewhere: it does not matter any more."""
    mover = attempt.start("--bandwidth", "32")
    attempt.wait_job()
    attempt.source.sysfs.assign(MDEV, ADAPTERS, FEWER_DOMAINS)
    attempt.end(mover, [0])
    return attempt.destination


@failure("guest", "the destination drifts when the guest is there")
def drift_too_late(attempt):
    attempt.set_device(attempt.destination, attach_seconds=4)
    mover = attempt.start()
    attempt.wait_step("attach")
    attempt.destination.sysfs.assign(MDEV, ADAPTERS, FEWER_DOMAINS)
    attempt.end(mover, [3])
    check("2 queues instead of 4" in attempt.said(), attempt.said())
    return attempt.destination


@failure("guest", "the guest never lets go of its device")
def never(attempt):
    """Last: from now on it would, as soon as it may."""
    attempt.set_device(attempt.source, detach="hang")
    attempt.move("--detach-timeout", "6", expect=3, outcome="needs-person")
    attempt.recover([1])
    return attempt.source


# What happens to the hosts.

@failure("host", "interrupted with Ctrl-C")
def interrupted(attempt):
    mover = attempt.start("--bandwidth", "1")
    attempt.wait_job()
    mover.send_signal(signal.SIGINT)
    attempt.end(mover, [1])
    return attempt.source


@failure("host", "libvirtd of the destination is killed")
def destination_libvirtd(attempt):
    mover = attempt.start("--bandwidth", "1")
    attempt.wait_job()
    attempt.destination.stop_libvirtd(signal.SIGKILL)
    time.sleep(1)
    attempt.destination.start_libvirtd()
    attempt.end(mover, [0, 1])


@failure("host", "libvirtd of the source is killed")
def source_libvirtd(attempt):
    mover = attempt.start("--bandwidth", "1")
    attempt.wait_job()
    attempt.source.stop_libvirtd(signal.SIGKILL)
    time.sleep(1)
    attempt.source.start_libvirtd()
    attempt.end(mover, [0, 1])


@failure("host", "vfioapd of the source is killed")
def source_service(attempt):
    mover = attempt.start("--bandwidth", "32")
    attempt.wait_job()
    attempt.source.stop_service(signal.SIGKILL)
    attempt.end(mover, [0])
    return attempt.destination


@failure("host", "vfioapd of the destination is killed")
def destination_service(attempt):
    mover = attempt.start("--bandwidth", "32")
    attempt.wait_job()
    attempt.destination.stop_service(signal.SIGKILL)
    attempt.end(mover, [0])
    return attempt.destination


@failure("host", "vfioapd runs at neither host")
def no_service(attempt):
    """Nobody keeps the state but the mover."""
    for node in (attempt.source, attempt.destination):
        node.stop_service()
    attempt.move(expect=0, outcome="moved")
    return attempt.destination


@failure("host", "the network is cut")
def network_cut(attempt):
    mover = attempt.start("--bandwidth", "1")
    attempt.wait_job()
    attempt.destination.set_network(False)
    attempt.end(mover, [1])
    attempt.destination.set_network(True)
    return attempt.source


# What changes while a guest migrates with its device.

@failure("native", "native: the destination gives a queue away")
def native_destination(attempt):
    mover = attempt.start("--bandwidth", "1")
    attempt.wait_job()
    other = host(NATIVE[1])
    queue_elsewhere(other)
    attempt.destination.sysfs.become(other)
    attempt.end(mover, [1])
    check("queue.assigned-elsewhere" in attempt.said() and "05.0047" in attempt.said(), attempt.said())
    attempt.destination.sysfs.become(host(NATIVE[1]))
    return attempt.source


@failure("native", "native: the source takes a domain away")
def native_source(attempt):
    mover = attempt.start("--bandwidth", "1")
    attempt.wait_job()
    attempt.source.sysfs.assign(MDEV, ADAPTERS, FEWER_DOMAINS)
    attempt.end(mover, [1])
    check("config.changed" in attempt.said() and "2 queues instead of 4" in attempt.said(), attempt.said())
    return attempt.source


@failure("native", "native: the same without services at the source")
def native_without_service(attempt):
    attempt.source.stop_service()
    native_source(attempt)
    return attempt.source


@failure("native", "native: the destination's mdev changes, harmlessly")
def native_replaced(attempt):
    """The guest brings its configuration with it; the driver sets it at the end of the migration."""
    mover = attempt.start("--bandwidth", "1")
    attempt.wait_job()
    attempt.destination.sysfs.assign(MDEV, ADAPTERS, FEWER_DOMAINS)
    wait_mdev(attempt.destination, Queues=FEWER)
    attempt.destination.sysfs.assign(MDEV, ADAPTERS, DOMAINS)
    wait_mdev(attempt.destination, Queues=QUEUES)
    attempt.source.virsh("migrate-setspeed", attempt.guest.name, "1000")
    attempt.end(mover, [0])
    return attempt.destination


# kill -9, and what the recovery makes of it.

@failure("mover", "killed while the guest lets go of its device")
def killed_detaching(attempt):
    attempt.set_device(attempt.source, detach_seconds=4)
    mover = attempt.start()
    attempt.wait_step("detach")
    attempt.kill(mover)
    attempt.recover([1])
    return attempt.source


@failure("mover", "killed after the device was detached")
def killed_detached(attempt):
    """The migration has been asked for, and the destination has not heard of it."""
    attempt.set_device(attempt.source, detach_seconds=1)
    mover = attempt.start()
    attempt.wait_step("detach")
    attempt.destination.libvirtd.send_signal(signal.SIGSTOP)
    try:
        attempt.wait_step("migrate")
        attempt.kill(mover)
    finally:
        attempt.destination.libvirtd.send_signal(signal.SIGCONT)
    check(not attempt.guest.has_device(attempt.source), "it has its device")
    attempt.recover([0, 1])


@failure("mover", "killed during the migration")
def killed_migrating(attempt):
    """libvirt goes on with it."""
    mover = attempt.start("--bandwidth", "16")
    attempt.wait_job()
    attempt.kill(mover)
    attempt.recover([0, 1])


@failure("mover", "killed while the device is attached")
def killed_attaching(attempt):
    attempt.set_device(attempt.destination, attach_seconds=4)
    mover = attempt.start()
    attempt.wait_step("attach")
    attempt.kill(mover)
    attempt.recover([0])
    return attempt.destination


@failure("mover", "killed before the device could be attached")
def killed_before_attaching(attempt):
    """The destination refuses it at first."""
    attempt.set_device(attempt.destination, attach="fail")
    mover = attempt.start()
    attempt.wait_step("attach")
    attempt.kill(mover)
    attempt.set_device(attempt.destination)
    attempt.recover([0])
    return attempt.destination
