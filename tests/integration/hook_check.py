#!/usr/bin/python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""vfioap-hook as libvirtd meets it: exit code, output, how long it is held, and what the log says.

usage: hook_check.py VFIOAP-HOOK HANG VFIOAPD VFIOAPCTL VFIOAP-CHECK SOURCE-DIRECTORY
Runs in a mount namespace of its own, with its own /dev/log, journal and buses. Exit 77: that cannot be had here.
"""
import os
import pathlib
import shutil
import signal
import socket
import stat
import subprocess
import sys
import tempfile
import time

try:
    from service_check import MDEV, Bus, DBusGMainLoop, Programs
except ImportError as missing:
    print(f"skipped: {missing}")
    sys.exit(77)

NODES = {"null": (1, 3), "zero": (1, 5), "full": (1, 7), "random": (1, 8), "urandom": (1, 9), "fuse": (10, 229)}
PLAIN = "<domain type='kvm'><name>guest1</name><title>no crypto</title></domain>"
DEVICE = (f"<devices><hostdev mode='subsystem' type='mdev' model='vfio-ap'><source><address uuid='{MDEV}'/></source>"
          "</hostdev></devices>")
GARBAGE = ("", "<", "vfio-ap", "\0vfioap\0" * 1000, "<domain>vfio-ap</domain>", PLAIN, PLAIN + DEVICE)
# For what must come at once or in a second, on a machine that does many other things.
LONG = 120
failures = []


def expect(condition, what):
    if not condition:
        failures.append(str(what)[:1500])


def mount(*arguments):
    subprocess.run(["mount", *map(str, arguments)], check=True)


def make_machine(directory):
    """Of all that the programs could talk to, only what the tests put there."""
    dev = directory / "dev"
    dev.mkdir()
    mount("-t", "tmpfs", "-o", "mode=755", "tmpfs", dev)
    for name, numbers in NODES.items():
        os.mknod(dev / name, stat.S_IFCHR | 0o666, os.makedev(*numbers))
    (dev / "fd").symlink_to("/proc/self/fd")
    (dev / "shm").mkdir()
    mount("--rbind", "/dev/shm", dev / "shm")
    mount("--move", dev, "/dev")
    mount("-t", "tmpfs", "-o", "mode=755", "tmpfs", "/run")


class Log:
    """A socket that takes messages, as the system's log does."""

    def __init__(self, path):
        path = pathlib.Path(path)
        path.parent.mkdir(parents=True, exist_ok=True)
        self.path, self.socket = path, socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.socket.bind(str(path))

    def next(self, seconds=LONG):
        """The next message; None: there is none."""
        self.socket.settimeout(seconds)
        try:
            data, fds, _, _ = socket.recv_fds(self.socket, 1 << 20, 4)
        except (TimeoutError, BlockingIOError):
            return None
        for fd in fds:
            # What is too long for a datagram comes in a file.
            with open(fd, "rb") as file:
                file.seek(0)
                data = file.read()
        return data

    def wait(self, *words):
        """The message that has all of them; those before it are taken, too."""
        while (found := self.next()) is not None:
            if all(word.encode() in found for word in words):
                return found
        expect(False, f"nothing in {self.path} with {words}")
        return b""

    def empty(self):
        while self.next(0) is not None:
            pass

    def fill(self):
        """Until it takes no more: who writes waits."""
        writer = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        writer.setblocking(False)
        try:
            while True:
                writer.sendto(b"x", str(self.path))
        except BlockingIOError:
            writer.close()

    def close(self):
        self.socket.close()
        self.path.unlink()


def fields(message):
    """[(name, value)] of what was sent to the journal: systemd, docs/JOURNAL_NATIVE_PROTOCOL.md."""
    found = []
    while message:
        line, _, message = message.partition(b"\n")
        name, equals, value = line.partition(b"=")
        if not equals:
            size = int.from_bytes(message[:8], "little")
            value, message = message[8:8 + size], message[9 + size:]
        found.append((name.decode(), value.decode()))
    return found


def judges():
    """The processes of the hook that go on."""
    found = []
    for entry in pathlib.Path("/proc").iterdir():
        try:
            if entry.name.isdigit() and (entry / "exe").readlink().name.startswith("vfioap-hook"):
                found.append(int(entry.name))
        except OSError:
            pass
    return found


def release(root):
    """No guest runs: a recorded host was taken while one did."""
    for status in root.glob("devices/ap/card*/*/status"):
        status.write_text(status.read_text().replace("in use", "assigned"))


class Hook:
    def __init__(self, program, directory, programs):
        self.program, self.directory = program, directory
        self.config = directory / "vfioap.conf"
        self.environment = {"PATH": "/usr/sbin:/usr/bin", "LC_ALL": "C",
                            "DBUS_SYSTEM_BUS_ADDRESS": f"unix:path={directory}/none"}
        self.roots = {}
        for host in ("lpar-a", "lpar-b", "z16-migratable"):
            self.roots[host] = directory / host
            subprocess.run([programs.control, "materialize", programs.hosts / f"{host}.json", self.roots[host]],
                           check=True)
            release(self.roots[host])
        state = subprocess.run([programs.control, "state", "-s", self.roots["lpar-a"], MDEV], check=True,
                               capture_output=True, text=True).stdout
        detached = state.replace(" host=", " detached='yes' host=")
        self.guest = f"<domain type='kvm'><name>guest1</name><metadata>{detached}</metadata></domain>"
        self.unknown = f"<domain type='kvm'><name>guest1</name>{DEVICE}</domain>"

    def configure(self, root, *lines):
        self.config.write_text("".join(line + "\n" for line in (f"sysfs_root = {self.roots.get(root, root)}", *lines)))

    def call(self, operation, domain, part="begin", program=None, arguments=None, **more):
        """Exit code and what is on stderr, once nobody has stdout or stderr open any more."""
        arguments = ["--config", self.config, "guest1", operation, part, "-"] if arguments is None else arguments
        child = subprocess.Popen([program or self.program, *arguments],
                                 **{"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE,
                                    "env": self.environment, **more})
        domain = domain if isinstance(domain, bytes) else domain.encode()
        try:
            out, err = child.communicate(domain if child.stdin else None, timeout=LONG)
        except subprocess.TimeoutExpired:
            child.kill()
            expect(False, f"{operation}: somebody still holds its output")
            child.communicate()
            return None, ""
        expect(not out, f"{operation}: on stdout, which would replace the domain: {out[:200]}")
        return child.returncode, (err or b"").decode()


def check_answers(hook):
    hook.configure("lpar-b", "unknown = deny")
    code, err = hook.call("migrate", hook.guest)
    expect(code == 1 and "INCOMPATIBLE: guest1 cannot move from lpar-a to lpar-b" in err, (code, err))
    expect(err.startswith("\n") and len(err.splitlines()) <= 30, err)
    expect(hook.call("restore", hook.guest)[0] == 1, "restore")
    code, err = hook.call("prepare", hook.unknown)
    expect(code == 1 and "guest1 cannot start on lpar-b" in err, (code, err))
    for operation, part in (("start", "begin"), ("started", "begin"), ("stopped", "end"), ("release", "end"),
                            ("attach", "begin"), ("teleport", "begin"), ("migrate", "end"), ("", "")):
        for domain in (hook.guest, hook.unknown, *GARBAGE):
            expect(hook.call(operation, domain, part) == (0, ""), f"{operation} {part}: {domain[:60]}")
    for domain in (hook.guest, hook.unknown, *GARBAGE, "vfioap" * 2_000_000):
        expect(hook.call("reconnect", domain) == (0, ""), f"reconnect: {domain[:60]}")
    # A link is what libvirtd calls.
    link = hook.directory / "50-vfioap"
    link.symlink_to(hook.program)
    expect(hook.call("migrate", hook.guest, program=link)[0] == 1, "by a link")
    hook.configure("lpar-a")
    expect(hook.call("migrate", hook.guest) == (0, ""), "to where it came from")
    # A guest without crypto does not even need a configuration, or a hook that is whole.
    hook.config.write_bytes(os.urandom(4096))
    expect(hook.call("migrate", PLAIN) == (0, ""), "a guest without crypto")
    hook.config.unlink()
    for text in ("<title>vfio-ap</title>", "<!-- vfioap -->", f"<metadata><x xmlns='urn:x'>{DEVICE}</x></metadata>"):
        expect(hook.call("migrate", PLAIN.replace("<title>no crypto</title>", text)) == (0, ""), text)


def check_input(hook):
    hook.configure("lpar-a", "unknown = deny")
    big = 9 * 1024 * 1024
    expect(hook.call("migrate", "x" * big) == (0, ""), "much of nothing")
    code, err = hook.call("migrate", hook.unknown + " " * big)
    expect(code == 1 and "UNDETERMINED" in err, (code, err))
    # Beyond what is read nobody looks: there is no domain of that size.
    expect(hook.call("migrate", "x" * big + DEVICE)[0] == 0, "the device after 9 MiB")
    # A word that is cut, at every place and in pieces.
    for cut in range(1, 7):
        expect(hook.call("migrate", "vfio-ap"[:cut]) == (0, ""), f"the first {cut} letters")
    slow = subprocess.Popen([hook.program, "--config", hook.config, "guest1", "migrate", "begin", "-"],
                            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                            env=hook.environment)
    for letter in hook.guest.replace(" detached='yes'", "").replace("</domain>", DEVICE + "</domain>"):
        os.write(slow.stdin.fileno(), letter.encode())
    _, err = slow.communicate(timeout=LONG)
    expect(slow.returncode == 1 and b"kernel.no-migration" in err, ("letter by letter", slow.returncode, err))
    # Whatever libvirtd or somebody in between has closed.
    for fd in (0, 1, 2):
        more = {"stdin": subprocess.DEVNULL} if fd == 0 else {}
        code, _ = hook.call("migrate", hook.unknown, preexec_fn=lambda fd=fd: os.close(fd), **more)
        expect(code == (0 if fd == 0 else 1), f"without descriptor {fd}: {code}")
    for name in ("/dev/full", "/dev/null"):
        with open(name, "wb") as file:
            expect(hook.call("migrate", hook.unknown, stderr=file)[0] == 1, f"stderr is {name}")
    reading, writing = os.pipe()
    os.close(reading)
    expect(hook.call("migrate", hook.unknown, stderr=writing)[0] == 1, "nobody reads stderr")
    os.close(writing)
    for arguments in ([], ["guest1"], ["guest1", "migrate"], ["guest1", "migrate", "begin"]):
        expect(hook.call("", PLAIN, arguments=arguments) == (0, ""), f"{len(arguments)} arguments")
        expect(hook.call("", hook.unknown, arguments=arguments)[0] == 2, f"{len(arguments)} arguments, a device")


def check_syslog(hook):
    # What the hook tells comes after its answer: nothing of earlier calls is to come to this log.
    wait_until_alone()
    log = Log("/dev/log")
    hook.configure("lpar-b", "unknown = deny", "nonsense")
    hook.call("migrate", hook.guest)
    log.wait("<27>", "vfioap-hook[", "guest guest1: migrate begin: refused: INCOMPATIBLE")
    log.wait("queue.assigned-elsewhere")
    log.wait("<28>", f"{hook.config}:3: ")
    log.empty()
    expect(hook.call("migrate", PLAIN) == (0, ""), "a guest without crypto")
    # Without its other half it can only tell.
    alone = hook.directory / "alone"
    alone.mkdir()
    shutil.copy(hook.program, alone)
    expect(hook.call("migrate", hook.guest, program=alone / "vfioap-hook") == (0, ""), "without the judge")
    line = log.wait("vfioap-hook")
    expect(b"guest guest1: migrate: not checked: vfioap-hook-judge cannot be run: No such file" in line, line)
    # Without the one that tells it judges all the same, and says all it has to say.
    shutil.copy(hook.program.parent / "vfioap-hook-judge", alone)
    code, said = hook.call("migrate", hook.guest, program=alone / "vfioap-hook")
    expect(code == 1 and "INCOMPATIBLE" in said, (code, said))
    log.wait("<27>", "vfioap-hook[", "guest guest1: migrate begin: refused: INCOMPATIBLE")
    log.wait("vfioap-hook-tell cannot be run: No such file")
    log.close()


def check_journal(hook):
    wait_until_alone()
    journal = Log("/run/systemd/journal/socket")
    hook.configure("lpar-b")
    hook.call("migrate", hook.guest)
    message = fields(journal.wait("VFIOAP_VERDICT"))
    one = dict(message)
    expect(one["VFIOAP_GUEST"] == "guest1" and one["VFIOAP_MDEV"] == MDEV and one["VFIOAP_OPERATION"] == "migrate"
           and one["VFIOAP_VERDICT"] == "incompatible" and one["SYSLOG_IDENTIFIER"] == "vfioap-hook"
           and one["PRIORITY"] == "3", one)
    rules = [value for name, value in message if name == "VFIOAP_RULE"]
    expect(sorted(rules) == ["mdev.missing", "queue.assigned-elsewhere", "queue.not-bound"], rules)
    expect("Migrated all the same, it would end with" in one["MESSAGE"], one["MESSAGE"])
    # A name is what somebody else says: no field comes of it.
    hook.call("migrate", hook.guest, arguments=["--config", hook.config, "x\nVFIOAP_RULE=forged", "migrate", "begin",
                                                "-"])
    message = fields(journal.wait("VFIOAP_VERDICT"))
    expect(("VFIOAP_RULE", "forged") not in message, message)
    # A journal that takes nothing holds up nobody but the process that tells it.
    journal.fill()
    expect(hook.call("migrate", hook.guest)[0] == 1, "while the journal is full")
    expect(judges(), "nobody waits for the journal")
    journal.empty()
    wait_until_alone()
    journal.close()


def wait_until_alone():
    deadline = time.monotonic() + LONG
    while judges():
        if time.monotonic() > deadline:
            expect(False, "a process of the hook goes on")
            return
        time.sleep(0.05)


def check_hanging_sysfs(hook, program):
    place = hook.directory / "hang"
    place.mkdir()
    server = subprocess.Popen(["/usr/bin/python3", program, place], stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    if server.stdout.readline() != b"ready\n":
        print(f"not tried: sysfs that hangs: {server.stderr.read().decode().strip()}")
        server.wait()
        return
    hook.configure(place, "timeout = 1", "unknown = deny")
    for operation, domain in (("migrate", hook.guest), ("restore", hook.guest), ("prepare", hook.unknown)):
        code, err = hook.call(operation, domain)
        expect(code == 1 and "UNDETERMINED" in err and "the check took longer than 1 s" in err, (operation, code, err))
    for operation, part in (("started", "begin"), ("stopped", "end"), ("release", "end"), ("reconnect", "begin")):
        expect(hook.call(operation, hook.guest, part) == (0, ""), operation)
    expect(hook.call("migrate", PLAIN) == (0, ""), "a guest without crypto")
    hook.configure(place, "timeout = 1")
    expect(hook.call("migrate", hook.guest) == (0, ""), "allowed")
    hook.configure(place, "timeout = 1", "unknown = deny", "policy = off")
    expect(hook.call("migrate", hook.guest) == (0, ""), "not looked at")
    server.kill()
    server.wait()
    subprocess.run(["umount", place], check=True)
    wait_until_alone()


def check_service(hook, programs):
    with Bus(programs, "z16-migratable") as bus:
        hook.environment["DBUS_SYSTEM_BUS_ADDRESS"] = bus.address
        hook.configure(bus.root)
        release(bus.root)
        expect(hook.call("migrate", hook.unknown) == (0, ""), "no service on the bus")
        bus.serve()
        path = f"/org/vfioap1/mdev/{MDEV.replace('-', '_')}"

        def arriving():
            target = bus.bus.get_object("org.vfioap1", path, introspect=False)
            return str(target.Get("org.vfioap1.Mdev", "Arriving", dbus_interface="org.freedesktop.DBus.Properties"))
        for begin, part, end in (("migrate", "begin", "started"), ("restore", "end", "release"),
                                 ("prepare", "end", "stopped")):
            expect(hook.call(begin, hook.unknown) == (0, ""), begin)
            bus.wait(lambda: arriving() == "guest1", LONG)
            expect(hook.call(end, hook.unknown, part) == (0, ""), end)
            bus.wait(lambda: arriving() == "", LONG)
        # Who is refused does not arrive.
        hook.configure("lpar-b")
        expect(hook.call("migrate", hook.guest)[0] == 1, "refused")
        wait_until_alone()
        expect(arriving() == "", "it was refused, and arrives")
        hook.configure(bus.root)
        bus.service.send_signal(signal.SIGSTOP)
        expect(hook.call("migrate", hook.unknown) == (0, ""), "a service that hangs")
        wait_until_alone()
        bus.service.send_signal(signal.SIGCONT)
    # A bus that accepts and says nothing.
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(str(hook.directory / "mute"))
    listener.listen()
    hook.environment["DBUS_SYSTEM_BUS_ADDRESS"] = f"unix:path={hook.directory}/mute"
    hook.configure("z16-migratable", "policy = off")
    expect(hook.call("migrate", hook.unknown) == (0, ""), "a bus that hangs")
    listener.settimeout(LONG)
    connection, _ = listener.accept()
    wait_until_alone()
    connection.close()
    listener.close()


def main(program, hang, service, control, check, source):
    if os.environ.get("VFIOAP_HOOK_CHECK") != "inside":
        inside = subprocess.run(["unshare", "--mount", "--pid", "--fork", "--mount-proc", "--kill-child=SIGKILL",
                                 "--propagation", "private", sys.executable, *sys.argv],
                                env={**os.environ, "VFIOAP_HOOK_CHECK": "inside"}, check=False,
                                stdin=subprocess.DEVNULL, capture_output=True, text=True)
        print(inside.stdout + inside.stderr)
        if inside.returncode == 1 and "unshare: " in inside.stderr:
            return 77
        return inside.returncode
    if not shutil.which("dbus-daemon"):
        print("skipped: dbus-daemon is missing")
        return 77
    DBusGMainLoop(set_as_default=True)
    programs = Programs(service, control, check, source)
    # Where a test ends early, something may still be mounted there.
    with tempfile.TemporaryDirectory(prefix="vfioap-hook-", ignore_cleanup_errors=True) as name:
        directory = pathlib.Path(name)
        try:
            make_machine(directory)
        except (OSError, subprocess.CalledProcessError) as error:
            print(f"skipped: {error}")
            return 77
        hook = Hook(pathlib.Path(program), directory, programs)
        check_answers(hook)
        check_input(hook)
        check_syslog(hook)
        check_journal(hook)
        check_hanging_sysfs(hook, hang)
        check_service(hook, programs)
    print("\n".join(failures[:20]) or "the hook does as it should")
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
