# SPDX-License-Identifier: LGPL-2.1-or-later
"""The hook in real libvirtds: who may come, who may not, what the user is told, and that no guest is ever lost."""
import json
import signal
import subprocess
import time
import xml.etree.ElementTree as ET

from cases import check, test
from guest import MDEV, NAMESPACE
from node import HERE, SOURCE, wait_for

QUEUES = ["05.0004", "05.0047", "06.0004", "06.0047"]
# A kernel and a QEMU of the days to come; of the first patch version; of today.
NATIVE, FIRST, TODAY = ("z16-migratable",) * 2, ("z16-v1",) * 2, ("lpar-a", "lpar-b")
IDLE = "4e5d2b90-7e61-4be8-a1c2-57f06d9e1a44"
MOST_LINES = 30
KEYS = "[05.0004]\nAES CUR: valid 0x{:016x}\n"


# A host is a snapshot, of which a row of a table changes one thing.

def host(name):
    """Nothing in it is in use: guests do not run yet."""
    found = json.loads((SOURCE / f"tests/data/hosts/{name}.json").read_text())
    for queue in found["queues"]:
        if queue.get("status") == "in use":
            queue["status"] = "assigned"
    return found


def queues(of, *names):
    return [queue for queue in of["queues"] if queue["apqn"] in names]


def mdev(of, name=MDEV):
    return next(each for each in of["mdevs"] if each["uuid"] == name)


def assign(of, name, adapters, domains):
    mdev(of, name).update(adapters=adapters, domains=domains, control_domains=domains,
                          guest_matrix=[f"{a}.{d}" for a in adapters for d in domains])


def without_queue(of):
    of["queues"] = [queue for queue in of["queues"] if queue["apqn"] != "06.0047"]


def unbound_queue_of(name):
    def change(of):
        queue = queues(of, name)[0]
        queue.update(driver="cex4queue", online=True)
        for key in ("status", "driver_override"):
            queue.pop(key, None)
    return change


unbound_queue = unbound_queue_of("06.0047")


def queue_elsewhere(of):
    assign(of, MDEV, [], [])
    assign(of, IDLE, ["05"], ["0047"])


def functions(bits, adapter="05"):
    """Other facilities of an adapter: these bits the other way round."""
    def change(of):
        for each in of["cards"] + of["queues"]:
            if each.get("adapter", each.get("apqn", "")[:2]) == adapter and "ap_functions" in each:
                each["ap_functions"] = f"0x{int(each['ap_functions'], 16) ^ bits:08X}"
    return change


def older_card(of):
    card = of["cards"][0]
    card.update(hwtype=13, raw_hwtype=13, type="CEX7C")


def bound_to_secure_guest(of):
    queues(of, "06.0004")[0]["ap_functions"] = "0x06804000"


def without_control_domain(of):
    of["ap"]["ap_control_domain_mask"] = of["ap"]["ap_usage_domain_mask"].replace("01", "00", 1)


def without_mdev(of):
    of["mdevs"] = [each for each in of["mdevs"] if each["uuid"] != MDEV]
    for queue in queues(of, *QUEUES):
        queue["status"] = "unassigned"


def mdev_in_use(of):
    for queue in queues(of, *QUEUES):
        queue["status"] = "in use"


def without_migration(of):
    of["vfio_ap"]["features"].remove("migratable")


def without_driver(of):
    del of["vfio_ap"]
    of["mdevs"] = []
    for queue in of["queues"]:
        for key in ("driver", "status"):
            queue.pop(key, None)


def secure_host(of):
    of["prot_virt_guest"] = True


def fewer_in_mdev(of):
    assign(of, MDEV, ["05", "06"], ["0004"])
    for queue in queues(of, "05.0047", "06.0047"):
        queue["status"] = "unassigned"


# What is wrong at the destination; the rule; words of the message.
NATIVE_ROWS = (
    (without_queue, "queue.missing", "host-b: 1 queue does not exist", "06.0047"),
    (unbound_queue, "queue.not-bound", "06.0047", "vfio_ap"),
    (queue_elsewhere, "queue.assigned-elsewhere", "05.0047", IDLE),
    (older_card, "queue.type", "05.0004", "CEX7"),
    (functions(0x16000000, "06"), "queue.mode", "06.0004"),
    (functions(0x80000000), "queue.apsc", "05.0004"),
    (functions(0x40000000), "queue.ap4km", "05.0004"),
    (functions(0x20000000), "queue.ap4kc", "05.0004"),
    (functions(0x01000000), "queue.slcf", "05.0004"),
    (functions(0x02000000), "queue.apxa", "05.0004"),
    (functions(0x00c00000), "queue.class", "05.0004"),
    (bound_to_secure_guest, "queue.bs", "06.0004"),
    (without_control_domain, "control-domain.missing", "0047"),
    (without_mdev, "mdev.missing", MDEV),
    (mdev_in_use, "mdev.in-use", MDEV),
    (without_migration, "kernel.no-migration", "host-b"),
    (without_driver, "kernel.no-vfio-ap", "host-b"),
    (secure_host, "host.secure-execution", "host-b"),
)
FIRST_ROWS = (
    (fewer_in_mdev, "queue.not-assigned", "05.0047 06.0047"),
    (fewer_in_mdev, "queue.count", "4 queues at host-a", "2 at host-b"),
    (without_mdev, "mdev.missing", MDEV),
    (functions(0x80000000), "queue.apsc", "05.0004"),
)
DETACHED_ROWS = (
    (without_mdev, "mdev.missing", MDEV),
    (fewer_in_mdev, "queue.not-assigned", "05.0047 06.0047"),
    (functions(0x16000000, "06"), "queue.mode", "06.0004"),
    (mdev_in_use, "mdev.in-use", MDEV),
    (without_control_domain, "control-domain.missing", "0047"),
)


def nodes(case, kind=NATIVE, a=None, b=None):
    """Two hosts with the hook; configurations of the hook."""
    found = case.nodes(*kind, hook=True)
    for node, text in zip(found, (a, b)):
        if text is not None:
            node.configure(text)
    return found


def started(case, kind=NATIVE, b=None):
    """And a guest at the first one, whose state is there."""
    first, second = nodes(case, kind, b=b)
    guest = case.guest()
    guest.start(first)
    guest.wait_state(first, host="host-a", queues=QUEUES)
    return first, second, guest


def message_of(stderr):
    """What the hook has said of all that virsh prints."""
    start = stderr.find("unexpected exit status 1:")
    check(start >= 0, stderr)
    return stderr[start:].partition("\n")[2]


def check_message(stderr, rule, *words):
    message = message_of(stderr)
    lines = message.rstrip("\n").split("\n")
    check(len(lines) <= MOST_LINES, f"{len(lines)} lines: {message}")
    folded = " ".join(message.split())
    for word in (rule, *words):
        check(word in folded, f"no {word} in: {message}")
    check("journalctl -t vfioap-hook" in lines[-1], message)
    return message


def check_here(guest, node, destination):
    check(guest.runs(node), f"{guest.name} does not run on {node.name}")
    check(guest.name not in destination.virsh("list", "--all", "--name").stdout, f"it is on {destination.name}, too")
    guest.wait_alive(1)


def check_refused(guest, a, b, rule, *words, options=()):
    refused = guest.migrate(a, b, *options, check=False)
    check(refused.returncode != 0, f"{rule}: the guest has migrated")
    message = check_message(refused.stderr, rule, *words)
    check_here(guest, a, b)
    return message


def refuses(guest, a, b, name, rows):
    for change, rule, *words in rows:
        other = host(name)
        change(other)
        b.sysfs.become(other)
        message = check_refused(guest, a, b, rule, *words)
        check("guest1 cannot move from host-a to host-b" in message, message)
        # What went to the log is whole: with the reason, and what it would look like without the hook.
        wait_for(lambda rule=rule: rule in b.syslog().rpartition("refused: ")[2], f"{rule} in the log")
    b.sysfs.become(host(name))


def wait_log(node, *words):
    wait_for(lambda: all(word in node.syslog() for word in words), f"{words} in the log of {node.name}")


def hang(node):
    """A directory on which every access hangs."""
    place = node.run_directory / "e2e/hang"
    place.mkdir(exist_ok=True)
    server = node.spawn("/usr/bin/python3", HERE / "hang.py", "/run/e2e/hang", stdout=subprocess.PIPE)
    check(server.stdout.readline() == b"ready\n", "nothing to hang on: no FUSE?")
    server.stdout.close()
    return "/run/e2e/hang"


def arrivals(node):
    """What the object of the mdev says of guests on their way, as it changes."""
    return node.bus.record(path=node.bus.mdev_path(MDEV), signal_name="PropertiesChanged")


def arriving(seen):
    return [str(arguments[1]["Arriving"]) for _, arguments in seen if "Arriving" in arguments[1]]


@test("hook-there-and-back")
def there_and_back(case):
    """Ten times, and never a wrong word."""
    a, b, guest = started(case)
    seen = arrivals(b)
    for source, destination in ((a, b), (b, a)) * 10:
        guest.wait_state(source, host=source.name, queues=QUEUES)
        guest.migrate(source, destination, "--persistent", "--undefinesource")
        guest.check_gapless()
    guest.wait_alive()
    check("refused" not in a.syslog() + b.syslog(), b.syslog())
    for node in (a, b):
        wait_for(lambda node=node: node.syslog().count("COMPATIBLE: guest1 can move") == 10, node.syslog)
        wait_for(lambda node=node: node.bus.mdev(MDEV, "Arriving") == "", f"{node.name}: nobody arrives any more")
    # It is told each time; whether it hears of it while it is busy is another matter.
    wait_for(lambda: "guest1" in arriving(seen) and arriving(seen)[-1] == "", "the arrival of guest1")


@test("hook-refuses-native")
def refuses_native(case):
    a, b, guest = started(case)
    refuses(guest, a, b, NATIVE[1], NATIVE_ROWS)
    # The destination's mdev may be empty: the guest brings its configuration.
    other = host(NATIVE[1])
    assign(other, MDEV, [], [])
    b.sysfs.become(other)
    guest.migrate(a, b)
    guest.wait_alive()
    guest.check_gapless()


@test("hook-refuses-first-version")
def refuses_first(case):
    a, b, guest = started(case, FIRST)
    refuses(guest, a, b, FIRST[1], FIRST_ROWS)
    guest.migrate(a, b)
    guest.wait_alive()
    guest.check_gapless()


@test("hook-refuses-other-keys")
def refuses_keys(case):
    """Nothing else notices: the guest would lose its secure keys."""
    a, b = nodes(case)
    for number, node in enumerate((a, b)):
        (node.directory / "etc-vfioap/master-keys").write_text(KEYS.format(number))
        node.restart_service()
    guest = case.guest()
    guest.start(a)
    guest.wait_state(a, host="host-a", queues=QUEUES)
    check_refused(guest, a, b, "masterkey.mismatch", "05.0004", "AES")
    (b.directory / "etc-vfioap/master-keys").write_text(KEYS.format(0))
    guest.migrate(a, b)
    guest.wait_alive()


def detach(guest, node):
    """As a mover does it: the state stays, and says that the device comes back."""
    state = guest.state(node)
    guest.unplug(node)
    wait_for(lambda: not guest.has_device(node), "the device is gone")
    wait_for(lambda: guest.state(node) is None, "its state is gone")
    state.set("detached", "yes")
    text = ET.tostring(state, encoding="unicode").replace("xmlns:ns0", "xmlns").replace("ns0:", "")
    node.virsh("metadata", guest.name, NAMESPACE, "--key", "vfioap", "--set", text, "--live")
    guest.wait_state(node, detached="yes", queues=QUEUES)


@test("hook-refuses-detached")
def refuses_detached(case):
    """Without its device, which could not be attached there again."""
    a, b, guest = started(case, ("lpar-a", "lpar-a"))
    detach(guest, a)
    refuses(guest, a, b, "lpar-a", DETACHED_ROWS)
    guest.migrate(a, b)
    guest.plug(b)
    state = guest.wait_state(b, host="host-b", queues=QUEUES)
    check(state.get("detached", "no") == "no", state.attrib)
    guest.wait_alive()
    guest.check_gapless()
    # Without the device and without the mark it is a guest like any other.
    guest.unplug(b)
    wait_for(lambda: guest.state(b) is None, "its state is gone")
    other = host("lpar-a")
    without_driver(other)
    a.sysfs.become(other)
    guest.migrate(b, a)
    guest.wait_alive()


def commands_of(message):
    """What the message says to type."""
    return [line.strip() for line in message.split("\n") if line.startswith(" " * 13)]


@test("hook-remedy")
def remedy(case):
    """What `tools/e2e --show` prints: refused, with the reason and the remedy; with that done, the guest moves."""
    a, b = nodes(case, TODAY)
    guest = case.guest()
    guest.start(a)
    guest.wait_state(a, host="host-a", queues=QUEUES)
    command = f"virsh migrate --live --p2p {guest.name} qemu+tcp://host-b/system"
    case.tell("host-a and host-b are two hosts with libvirtd, vfioapd and the hook; guest1 runs on host-a.\n"
              "Today's kernels do not migrate the device: it is detached first, and attached again at the end.\n\n"
              f"host-a# virsh detach-device {guest.name} crypto.xml --live")
    detach(guest, a)
    case.tell(f"host-a# {command}")
    refused = guest.migrate(a, b, check=False)
    check(refused.returncode != 0, "the guest has migrated")
    case.tell(refused.stderr.rstrip("\n"))
    message = check_message(refused.stderr, "mdev.missing", "queue.not-bound", "queue.assigned-elsewhere")
    check_here(guest, a, b)
    ticks = guest.ticks()
    case.tell(f"host-a# tail -n 1 {guest.name}.console     # it never left\ntick {ticks[-1]}\n")
    commands = commands_of(message)
    check(commands, f"nothing to type in {message}")
    for each in commands:
        case.tell(f"host-b# {each}")
    done = subprocess.run([case.programs / "vfioap-fake-kernel", b.sysfs.directory], input="\n".join(commands) + "\n",
                          capture_output=True, text=True, check=False)
    check(done.returncode == 0, done.stderr)
    case.tell(f"\nhost-a# {command}")
    begin = time.monotonic()
    guest.migrate(a, b)
    case.tell(f"exit status 0 after {time.monotonic() - begin:.1f} s\n\n"
              f"host-b# virsh attach-device {guest.name} crypto.xml --live")
    guest.plug(b)
    state = guest.wait_state(b, host="host-b", queues=QUEUES)
    check(state.get("detached", "no") == "no", state.attrib)
    guest.wait_alive()
    guest.check_gapless()
    case.tell(f"host-b# virsh list --name\n{b.virsh('list', '--name').stdout.strip()}\n"
              f"host-b# tail -n 1 {guest.name}.console     # it goes on, without a gap since host-a\n"
              f"tick {guest.ticks()[-1]}\n\nhost-b# journalctl -t vfioap-hook     # here: the system's log")
    case.tell("\n".join(line[:150] for line in b.syslog().splitlines() if "vfioap-hook" in line))


@test("hook-policy")
def policy(case):
    a, b, guest = started(case, b="policy = warn\n")
    other = host(NATIVE[1])
    without_queue(other)
    b.sysfs.become(other)
    guest.migrate(a, b, "--persistent", "--undefinesource")
    wait_log(b, "let in, since the policy is warn", "queue.missing")
    guest.wait_alive()
    # Back, where it is what the administrator says of this very guest, and does not look.
    without_queue(other := host(NATIVE[0]))
    a.sysfs.become(other)
    a.configure("[guest guest1]\npolicy = off\n")
    guest.wait_state(b, host="host-b")
    before = a.syslog()
    guest.migrate(b, a, "--persistent", "--undefinesource")
    guest.wait_alive()
    guest.check_gapless()
    check(a.syslog() == before, a.syslog())


@test("hook-unknown")
def unknown(case):
    """A guest of a host where nobody keeps its state."""
    a, b = nodes(case, b="unknown = deny\n")
    a.stop_service()
    guest = case.guest()
    guest.start(a)
    check(guest.state(a) is None, "it has a state")
    message = check_refused(guest, a, b, "guest.state-missing", "vfioapd")
    check("whether guest1 can move" in message and "0 queues" not in message, message)
    # The same for one that does not run.
    idle = case.guest("idle", mdev=IDLE)
    idle.define(a)
    to_b = ("migrate", "--offline", "--persistent", "--p2p", idle.name, "qemu+tcp://host-b/system")
    refused = a.virsh(*to_b, check=False)
    check(refused.returncode != 0 and "guest.state-missing" in refused.stderr, refused.stderr)
    # What somebody has written there is no reason to believe it.
    for text in ("<config mdev='nonsense' host='host-a' layout='l3'/>",
                 f"<config mdev='{IDLE}' host='host-a' layout='l3'/>"):
        a.virsh("metadata", guest.name, NAMESPACE, "--key", "vfioap", "--set", text, "--live")
        check_refused(guest, a, b, "guest.state-missing", "cannot be read" if "nonsense" in text else IDLE)
    b.configure("unknown = allow\n")
    guest.migrate(a, b)
    wait_log(b, "let in, since unknown is allow", "guest.state-missing")
    guest.wait_alive()
    a.virsh(*to_b)
    check("idle" in b.virsh("list", "--all", "--name").stdout, "it is not defined")


@test("hook-offline")
def offline(case):
    """A guest that does not run: what can be said without a state."""
    a, b = nodes(case)
    guest = case.guest()
    guest.define(a)
    other = host(NATIVE[1])
    without_mdev(other)
    b.sysfs.become(other)
    command = ("migrate", "--offline", "--persistent", "--p2p", guest.name, "qemu+tcp://host-b/system")
    refused = a.virsh(*command, check=False)
    check(refused.returncode != 0, "it was let in")
    check_message(refused.stderr, "mdev.missing", MDEV)
    check(guest.name not in b.virsh("list", "--all", "--name").stdout, "it is defined there")
    b.configure("mdev = on-demand\n")
    a.virsh(*command)
    check(guest.name in b.virsh("list", "--all", "--name").stdout, "it is not defined there")


@test("hook-restore")
def restore(case):
    a, b, guest = started(case)
    file = case.directory / "saved"
    other = host(NATIVE[0])
    for change, rule, *words in ((without_queue, "queue.missing", "06.0047"), (without_mdev, "mdev.missing", MDEV)):
        a.virsh("save", guest.name, file, seconds=120)
        before = guest.ticks()
        other = host(NATIVE[0])
        change(other)
        a.sysfs.become(other)
        refused = a.virsh("restore", file, check=False)
        check(refused.returncode != 0, "it was restored")
        check_message(refused.stderr, rule, *words)
        check(guest.ticks() == before, "it has run")
        a.sysfs.become(host(NATIVE[0]))
        a.virsh("restore", file, seconds=120)
        wait_log(a, "restore begin: COMPATIBLE")
        guest.wait_alive()
        guest.check_gapless()
        guest.wait_state(a, host="host-a", queues=QUEUES)
    # What it had is there, and somebody has changed the mdev meanwhile.
    a.virsh("save", guest.name, file, seconds=120)
    other = host(NATIVE[0])
    fewer_in_mdev(other)
    a.sysfs.become(other)
    a.virsh("restore", file, seconds=120)
    wait_log(a, "config.changed")
    guest.wait_alive()
    guest.check_gapless()


@test("hook-managed-save")
def managed_save(case):
    """virsh start restores it. Where that is refused, it must be there still."""
    a, _, guest = started(case)
    a.configure("unknown = deny\n")
    for change, rule, *words in ((without_queue, "queue.missing", "06.0047"), (without_mdev, "mdev.missing", MDEV)):
        a.virsh("managedsave", guest.name, seconds=120)
        before = guest.ticks()
        other = host(NATIVE[0])
        change(other)
        a.sysfs.become(other)
        refused = a.virsh("start", guest.name, check=False)
        check(refused.returncode != 0, "it was restored")
        check_message(refused.stderr, rule, *words)
        check("cannot be restored on host-a" in refused.stderr, refused.stderr)
        check(guest.ticks() == before and not guest.runs(a), "it has run")
        check("yes" in a.virsh("dominfo", guest.name).stdout.partition("Managed save:")[2], "its state is lost")
        a.sysfs.become(host(NATIVE[0]))
        a.virsh("start", guest.name, seconds=120)
        wait_log(a, "prepare begin: COMPATIBLE")
        guest.wait_alive()
        guest.check_gapless()
        guest.wait_state(a, host="host-a", queues=QUEUES)
    # A hook that hangs is no reason to lose it, either.
    a.virsh("managedsave", guest.name, seconds=120)
    a.configure(f"unknown = deny\ntimeout = 1\nsysfs_root = {hang(a)}\n")
    refused = a.virsh("start", guest.name, check=False)
    check(refused.returncode != 0 and "took longer than 1 s" in refused.stderr, refused.stderr)
    a.configure("")
    a.virsh("start", guest.name, seconds=120)
    guest.wait_alive()
    guest.check_gapless()


@test("hook-start")
def start(case):
    a, b = nodes(case, a="this is no configuration\n[guest\npolicy = enforce\n")
    guest, plain = case.guest(), case.guest("plain", mdev=None)
    guest.define(a)
    for change, rule, *words in ((without_mdev, "mdev.missing", MDEV), (mdev_in_use, "mdev.in-use", MDEV),
                                 (without_driver, "kernel.no-vfio-ap", "host-a")):
        other = host(NATIVE[0])
        change(other)
        a.sysfs.become(other)
        refused = a.virsh("start", guest.name, check=False)
        check(refused.returncode != 0, f"{rule}: it was started")
        message = check_message(refused.stderr, rule, *words)
        check("guest1 cannot start on host-a" in message, message)
        check(not guest.runs(a), "it runs")
    # A guest without crypto has nothing to do with any of that, wherever it speaks of it.
    plain.xml = plain.xml.replace("<memory ", "<title>no vfio-ap here</title><!-- vfioap --><memory ")
    plain.start(a)
    plain.migrate(a, b)
    plain.wait_alive()
    plain.check_gapless()
    check("plain" not in a.syslog() + b.syslog(), a.syslog())
    # Queues that the kernel would keep from the guest are none of the hook's business, but worth a word.
    other = host(NATIVE[0])
    unbound_queue(other)
    a.sysfs.become(other)
    a.virsh("start", guest.name)
    guest.wait_alive()
    wait_log(a, "starts with mdev", "queue.not-bound: host-a: 1 queue is not bound")
    wait_log(a, "/etc/vfioap/vfioap.conf:1:")
    # The mdev is in use now, in truth.
    second = case.guest("second")
    second.define(a)
    refused = a.virsh("start", second.name, check=False)
    check(refused.returncode != 0, "two guests have it")
    check_message(refused.stderr, "mdev.in-use", MDEV)
    check_here(guest, a, b)


@test("hook-reconnect")
def reconnect(case):
    """libvirtd looks at its guests again; if the hook failed, it would end them."""
    a, _, guest = started(case)
    other = host(NATIVE[0])
    # Without its mdev libvirt itself would end the guest.
    for change in (without_migration, without_queue, unbound_queue_of("05.0004"), secure_host):
        change(other)
    a.sysfs.become(other)
    a.configure("policy = enforce\nunknown = deny\nbroken\n")
    for number in (signal.SIGTERM, signal.SIGKILL):
        a.restart_libvirtd(number)
        check(guest.runs(a), "the guest does not run")
        guest.wait_alive()
    a.configure(f"unknown = deny\ntimeout = 1\nsysfs_root = {hang(a)}\n")
    a.restart_libvirtd()
    check(guest.runs(a), "the guest does not run")
    guest.wait_alive()
    guest.check_gapless()


@test("hook-timeout")
def timeout(case):
    """Reading sysfs hangs."""
    a, b, guest = started(case)
    root = hang(b)
    b.configure(f"unknown = deny\ntimeout = 1\nsysfs_root = {root}\n")
    refused = guest.migrate(a, b, check=False)
    check(refused.returncode != 0 and "UNDETERMINED" in refused.stderr and "took longer than 1 s" in refused.stderr,
          refused.stderr)
    check_here(guest, a, b)
    b.configure(f"timeout = 1\nsysfs_root = {root}\n")
    guest.migrate(a, b)
    wait_log(b, "let in, since unknown is allow", "took longer than 1 s")
    guest.wait_alive()
    guest.check_gapless()


@test("hook-service")
def service(case):
    """The hook does not need it, and does not wait for it."""
    a, b, guest = started(case)
    b.service.send_signal(signal.SIGSTOP)
    other = host(NATIVE[1])
    without_queue(other)
    b.sysfs.become(other)
    check_refused(guest, a, b, "queue.missing", "06.0047")
    b.sysfs.become(host(NATIVE[1]))
    guest.migrate(a, b, "--persistent", "--undefinesource")
    b.service.send_signal(signal.SIGCONT)
    guest.wait_state(b, host="host-b", queues=QUEUES)
    a.stop_service()
    a.sysfs.become(other)
    check_refused(guest, b, a, "queue.missing", "06.0047")
    a.sysfs.become(host(NATIVE[0]))
    guest.migrate(b, a, "--persistent", "--undefinesource")
    guest.wait_alive()
    guest.check_gapless()


@test("hook-todays-stack")
def todays_stack(case):
    """libvirt asks QEMU first: with the device, the hook of the destination is not even called."""
    a, b, guest = started(case, ("lpar-a", "lpar-a"))
    guest.set_device(a, migration="refuse")
    refused = guest.migrate(a, b, check=False)
    check(refused.returncode != 0 and "non-migratable device: /1/vfio-ap" in refused.stderr, refused.stderr)
    check("migrate" not in b.syslog(), b.syslog())
    # Were QEMU able to, the kernel of today would still not be.
    guest.set_device(a, migration="native")
    check_refused(guest, a, b, "kernel.no-migration")
