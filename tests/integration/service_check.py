#!/usr/bin/python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""vfioapd on a bus of the test's own, as its clients meet it.

usage: service_check.py PART VFIOAPD VFIOAPCTL VFIOAP-CHECK SOURCE-DIRECTORY
PART: calls, watch, migration, clients, soak, large, lifetime, polkit, remote, files, guests, libvirt, destinations,
      status, spelling, hang, journal
Exit 77: something that the part needs is missing.
"""
import json
import os
import pathlib
import pwd
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import xml.etree.ElementTree as ET

try:
    import dbus
    import dbus.service
    from dbus.mainloop.glib import DBusGMainLoop
    from gi.repository import GLib
except ImportError as missing:
    print(f"skipped: {missing} (python3-dbus, python3-gi)")
    sys.exit(77)

NAME, ROOT = "org.vfioap1", "/org/vfioap1"
MDEV = "62177883-f1bb-47f0-914d-32a22e3a8804"
MDEV_PATH = f"{ROOT}/mdev/{MDEV.replace('-', '_')}"
ERROR = NAME + ".Error."
SANITIZER = 66  # what a program ends with of which ThreadSanitizer has something to say
failures = []


def expect(condition, what):
    if not condition:
        failures.append(str(what)[:2000])


def error_of(call, *arguments):
    """The name of the error that a call ends in, without the prefix."""
    try:
        call(*arguments)
    except dbus.DBusException as error:
        expect(error.get_dbus_message(), f"{error.get_dbus_name()} without a message")
        return error.get_dbus_name().removeprefix(ERROR)
    return None


def options(**words):
    return dbus.Dictionary(words, signature="sv")


class Bus:
    """A dbus-daemon, vfioapd on it, and a connection."""

    def __init__(self, programs, host="lpar-a", system=False, arguments=()):
        self.programs, self.system = programs, system
        self.directory = tempfile.mkdtemp(prefix="vfioap-test-")
        self.root = pathlib.Path(self.directory, "sys")
        self.children = []
        self.clients = []
        self.arguments = list(arguments)
        # One in the service itself: the host's own is none of a test's business.
        self.libvirt = None
        if host:
            subprocess.run([programs.control, "materialize", programs.hosts / f"{host}.json", self.root], check=True)
        kind = "system" if system else "session"
        config = pathlib.Path(self.directory, "bus.conf")
        config.write_text(f"""<!DOCTYPE busconfig PUBLIC "-//freedesktop//DTD D-Bus Bus Configuration 1.0//EN"
            "http://www.freedesktop.org/standards/dbus/1.0/busconfig.dtd">
            <busconfig><type>{kind}</type><listen>unix:path={self.directory}/socket</listen><auth>EXTERNAL</auth>
            <policy context="default"><allow user="*"/><allow send_destination="*" eavesdrop="true"/>
            <allow eavesdrop="true"/><allow own="*"/></policy>
            <limit name="max_connections_per_user">4096</limit><limit name="max_replies_per_connection">50000</limit>
            <limit name="max_completed_connections">4096</limit>
            </busconfig>""")
        self.address = f"unix:path={self.directory}/socket"
        self.environment = {k: v for k, v in os.environ.items() if not k.startswith(("DBUS_", "SYSFS_ROOT"))}
        self.environment[f"DBUS_{kind.upper()}_BUS_ADDRESS"] = self.address
        self.environment["TSAN_OPTIONS"] = (f"suppressions={programs.source / 'tests/tsan.supp'}:halt_on_error=1:"
                                            f"exitcode={SANITIZER}")
        self.start("dbus-daemon", "--nofork", "--nopidfile", f"--config-file={config}", stderr=subprocess.DEVNULL)
        # There is a socket some time before somebody listens to it.
        self.wait(self.listens)
        self.bus = self.connect()
        self.service = None

    def __enter__(self):
        return self

    def __exit__(self, *ignored):
        # A service that still runs ends well; what a sanitizer has to say, it says then, too.
        if self.service and self.service.poll() is None:
            self.service.terminate()
            try:
                expect(self.service.wait(60) == 0, f"the service ended with {self.service.returncode}")
            except subprocess.TimeoutExpired:
                expect(False, "the service does not end")
                self.service.kill()
        if self.service and self.service.wait() == SANITIZER:
            expect(False, self.service.stderr.read().decode())
        for child in self.children:
            if child.poll() is None:
                child.kill()
            child.wait()
        for client in self.clients:
            client.kill()
        shutil.rmtree(self.directory)

    def start(self, *command, **more):
        more = {"stdin": subprocess.DEVNULL, "stdout": subprocess.DEVNULL, **more}
        child = subprocess.Popen([str(word) for word in command], env=self.environment, **more)
        self.children.append(child)
        return child

    def listens(self):
        with socket.socket(socket.AF_UNIX) as probe:
            return probe.connect_ex(os.path.join(self.directory, "socket")) == 0

    def connect(self):
        bus = dbus.bus.BusConnection(self.address)
        bus.set_exit_on_disconnect(False)
        return bus

    def serve(self, *arguments):
        session = [] if self.system else ["--session"]
        libvirt = ["-c", self.libvirt] if self.libvirt else []
        self.service = self.start(self.programs.service, *session, "--sysfs-root", self.root, *libvirt,
                                  *self.arguments, *arguments, stderr=subprocess.PIPE)
        self.wait(lambda: self.bus.name_has_owner(NAME))
        return self.service

    def wait(self, condition, seconds=20):
        deadline = time.monotonic() + seconds
        while not condition():
            if time.monotonic() > deadline:
                raise TimeoutError("waited in vain")
            while GLib.MainContext.default().iteration(False):
                pass
            time.sleep(0.01)

    def object(self, path, interface, bus=None):
        return dbus.Interface((bus or self.bus).get_object(NAME, path, introspect=False), f"{NAME}.{interface}")

    def manager(self, bus=None):
        return self.object(ROOT, "Manager", bus)

    def get(self, path, interface, name):
        return self.bus.get_object(NAME, path, introspect=False).Get(
            f"{NAME}.{interface}", name, dbus_interface=dbus.PROPERTIES_IFACE)

    def record(self, path=None, interface=None):
        """A list to which signals are added as they come: (member, arguments, path)."""
        seen = []
        self.bus.add_signal_receiver(lambda *a, member=None, path=None: seen.append((member, a, path)), path=path,
                                     dbus_interface=interface, member_keyword="member", path_keyword="path")
        self.bus.get_name_owner("org.freedesktop.DBus")  # the rule has arrived
        return seen


class Programs:
    def __init__(self, service, control, check, source):
        self.service, self.control, self.check = service, control, check
        self.source = pathlib.Path(source)
        self.hosts = self.source / "tests/data/hosts"
        self.guest = (self.source / "xml/examples/guest1.xml").read_text()
        self.snapshot = {name: (self.hosts / f"{name}.json").read_text() for name in ("lpar-a", "lpar-b", "lpar-c")}


def members(interface):
    """{(kind, name): what a client has to know} of an <interface>."""
    found = {}
    for node in interface:
        if node.tag == "annotation":
            continue
        arguments = [(a.get("name"), a.get("type"), a.get("direction", "out" if node.tag == "signal" else "in"))
                     for a in node.findall("arg")]
        notes = {a.get("name"): a.get("value") for a in node.findall("annotation")
                 if not a.get("name").endswith("Method.Async")}
        found[node.tag, node.get("name")] = (arguments, node.get("type"), node.get("access"), notes)
    return found


def check_introspection(bus, programs):
    migration = bus.manager().OpenMigration(MDEV, "source", options())
    for path, name in ((ROOT, "Manager"), (MDEV_PATH, "Mdev"), (migration, "Migration")):
        live = ET.fromstring(bus.bus.get_object(NAME, path).Introspect(dbus_interface=dbus.INTROSPECTABLE_IFACE))
        file = ET.parse(programs.source / f"dbus/{NAME}.{name}.xml").getroot()
        interface = f"interface[@name='{NAME}.{name}']"
        expect(members(live.find(interface)) == members(file.find(interface)),
               f"{name}: {members(live.find(interface))} is not what the file says: {members(file.find(interface))}")
        expect({i.get("name") for i in live.findall("interface") if i.get("name").startswith(NAME)} ==
               {f"{NAME}.{name}"}, f"{path}: other interfaces")
    bus.object(migration, "Migration").Close()


def check_calls(programs):
    with Bus(programs) as bus:
        bus.serve()
        check_introspection(bus, programs)
        manager = bus.manager()
        inventory = json.loads(manager.GetInventory())
        expect(inventory["schema"] == "vfioap-snapshot/1" and len(inventory["queues"]) ==
               len(json.loads(programs.snapshot["lpar-a"])["queues"]), inventory)
        expect(bus.get(ROOT, "Manager", "SysfsRoot") == str(bus.root), "SysfsRoot")
        expect(bus.get(ROOT, "Manager", "Version") in
               subprocess.run([programs.service, "--version"], capture_output=True, text=True, check=True).stdout,
               "Version")
        expect([str(q) for q in bus.get(MDEV_PATH, "Mdev", "Queues")] == ["05.0004", "05.0047", "06.0004", "06.0047"],
               "Queues")
        expect([str(d) for d in bus.get(MDEV_PATH, "Mdev", "ControlDomains")] == ["0004", "0047"], "ControlDomains")
        expect(bool(bus.get(MDEV_PATH, "Mdev", "InUse")), "InUse")
        for source in ("lpar-b", "lpar-c"):
            for words in ({}, {"mode": "native"}, {"mode": "native", "profile": "compare"}, {"strict": True}):
                verdict, rules, report = manager.CheckXml(programs.guest, programs.snapshot[source], options(**words))
                command = [programs.check, "--format", "json", "-s", programs.hosts / f"{source}.json", "-d", bus.root,
                           *(f"--{k}={v}" for k, v in words.items() if k != "strict"),
                           *(["--strict"] if words.get("strict") else []), "-"]
                told = json.loads(subprocess.run(command, input=programs.guest, capture_output=True, text=True,
                                                 check=False).stdout)
                report = json.loads(report)
                expect(report["verdict"] == verdict == told["verdict"], f"{words}: {verdict}, {told['verdict']}")
                expect(report["findings"] == told["findings"], f"{words}: other findings")
                expect(list(map(str, rules)) == list(dict.fromkeys(f["rule"] for f in told["findings"])), rules)
        plain = (programs.source / "xml/examples/guest-without-crypto.xml").read_text()
        expect(manager.CheckXml(plain, "", options())[0] == "compatible", "a guest without crypto")
        verdict, rules, _ = manager.CheckXml(programs.guest, "", options())
        expect(verdict != "compatible" and "guest.state-missing" in rules, (verdict, rules))
        state = (f"<metadata><v:config xmlns:v='urn:vfioap:domain:1' mdev='{MDEV}' host='lpar-x' layout='l3'>"
                 "<v:queues tapq='0x928000000e000000'>05.0004 05.0047</v:queues>"
                 "<v:control-domains>0004</v:control-domains></v:config></metadata>")
        verdict, rules, report = manager.CheckXml(programs.guest.replace("<devices>", state + "<devices>"), "",
                                                  options(mode="detached"))
        expect(json.loads(report)["source"]["name"] == "lpar-x", report)
        expect(len(json.loads(report)["configuration"]["queues"]) == 2, report)
        # What nobody should send.
        for arguments, name in (
                (("", programs.snapshot["lpar-b"], options()), "InvalidInput"),
                (("<domain>", programs.snapshot["lpar-b"], options()), "InvalidInput"),
                ((programs.guest, "{", options()), "InvalidInput"),
                ((programs.guest, "{}", options()), "InvalidInput"),
                ((programs.guest, programs.snapshot["lpar-b"], options(mode="fast")), "InvalidInput"),
                ((programs.guest, programs.snapshot["lpar-b"], options(mode=dbus.Int32(1))), "InvalidInput"),
                ((programs.guest, programs.snapshot["lpar-b"], options(mode="live-update")), "InvalidInput"),
                ((programs.guest, programs.snapshot["lpar-b"], options(speed="fast")), "InvalidInput"),
                ((programs.guest, programs.snapshot["lpar-b"], options(strict="yes")), "InvalidInput"),
                (("x" * (5 << 20), "", options()), "LimitsExceeded")):
            found = error_of(manager.CheckXml, *arguments)
            expect(found == name, f"CheckXml: {found} instead of {name}")
        for arguments, name in ((("nonsense", "source", options()), "InvalidInput"),
                                ((MDEV, "sideways", options()), "InvalidInput"),
                                ((MDEV, "source", options(layout="l4")), "InvalidInput"),
                                ((MDEV[::-1].replace("-", "0")[:8] + MDEV[8:], "source", options()), "NoSuchMdev")):
            found = error_of(manager.OpenMigration, *arguments)
            expect(found == name, f"OpenMigration: {found} instead of {name}")
        expect(error_of(manager.CheckGuest, "guest", "lpar-b", options()) == "NoLibvirt", "CheckGuest")
        expect(error_of(manager.OpenMigration, MDEV, "source", options(abort_job=True)) == "InvalidInput", "abort_job")
        expect("UnknownMethod" in error_of(manager.Explode), "an unknown method")
        expect("InvalidArgs" in error_of(lambda: manager.get_dbus_method("CheckXml")(dbus.Int32(1))), "wrong types")
        expect(error_of(lambda: bus.object(ROOT + "/mdev/nothing", "Mdev").get_dbus_method("X")()) is not None, "path")
        manager.GetInventory()
        expect(bus.service.poll() is None, "the service has ended")


def check_watch(programs):
    with Bus(programs) as bus:
        bus.serve("-d", programs.hosts / "lpar-b.json")
        properties = bus.record(MDEV_PATH, dbus.PROPERTIES_IFACE)
        changes = bus.record(MDEV_PATH, f"{NAME}.Mdev")
        objects = bus.record(ROOT, "org.freedesktop.DBus.ObjectManager")
        managed = bus.bus.get_object(NAME, ROOT).GetManagedObjects(
            dbus_interface="org.freedesktop.DBus.ObjectManager")
        expect(MDEV_PATH in managed, managed.keys())
        destination = str(programs.hosts / "lpar-b.json")
        bus.wait(lambda: bus.get(MDEV_PATH, "Mdev", "Verdicts").get(destination) == "incompatible")
        mdev = bus.root / "devices/vfio_ap/matrix" / MDEV
        (mdev / "guest_matrix").write_text("05.0004\n05.0047\n")
        start = time.monotonic()
        bus.wait(lambda: any("Queues" in a[1] for m, a, _ in properties if m == "PropertiesChanged"))
        expect(time.monotonic() - start < 10, "a change of the matrix was told late")
        told = [a[1] for m, a, _ in properties if m == "PropertiesChanged" and "Queues" in a[1]]
        expect([str(q) for q in told[0]["Queues"]] == ["05.0004", "05.0047"], told)
        bus.wait(lambda: changes)
        expect(changes[0][0] == "ConfigurationChanged" and changes[0][1][1], changes)
        # A new mdev, and one that goes.
        other = MDEV.replace("6217", "7317")
        shutil.copytree(mdev, mdev.parent / other, symlinks=True)
        link = bus.root / "bus/mdev/devices"
        (link / other).symlink_to(os.readlink(link / MDEV).replace(MDEV, other))
        path = f"{ROOT}/mdev/{other.replace('-', '_')}"
        bus.wait(lambda: any(m == "InterfacesAdded" and a[0] == path for m, a, _ in objects))
        added = [a[1] for m, a, _ in objects if m == "InterfacesAdded" and a[0] == path]
        expect(str(added[0][f"{NAME}.Mdev"]["Uuid"]) == other, added)
        (link / other).unlink()
        shutil.rmtree(mdev.parent / other)
        bus.wait(lambda: any(m == "InterfacesRemoved" and a[0] == path for m, a, _ in objects))
        expect(error_of(bus.get, path, "Mdev", "Uuid") is not None, "an object of an mdev that is gone")
        # Nothing changes: nothing is told.
        count = len(properties) + len(changes) + len(objects)
        (mdev / "guest_matrix").write_text("05.0004\n05.0047\n")
        end = time.monotonic() + 3
        bus.wait(lambda: time.monotonic() > end)
        expect(len(properties) + len(changes) + len(objects) == count, "told without a change")


def read_all(fd):
    data = b""
    while piece := os.read(fd, 65536):
        data += piece
    os.close(fd)
    return data


def check_migration(programs):
    with Bus(programs) as bus:
        bus.serve()
        saved = subprocess.run([programs.control, "-s", bus.root, "stream", "save", MDEV], capture_output=True,
                               check=True).stdout
        manager = bus.manager()
        path = manager.OpenMigration(MDEV, "source", options())
        expect(error_of(manager.OpenMigration, MDEV, "destination", options()) == "Busy", "a second one")
        source = bus.object(path, "Migration")
        seen = bus.record(path, dbus.PROPERTIES_IFACE)
        expect(error_of(source.TakeStream) == "System", "a stream without a transfer")
        expect(error_of(source.SetState, "RESUMING") == "WrongRole", "RESUMING at the source")
        expect(error_of(source.SetState, "ERROR") == "NoSuchTransition", "ERROR")
        expect(error_of(source.SetState, "FLYING") == "InvalidInput", "FLYING")
        expect(error_of(source.GetReport) == "NoReport", "a report")
        source.SetState("STOP_COPY")
        data = read_all(source.TakeStream().take())
        expect(data == saved, "not what vfioapctl saves")
        expect(error_of(source.TakeStream) == "Busy", "a second reader")
        bus.wait(lambda: any("State" in a[1] for _, a, _ in seen))
        expect([str(a[1]["State"]) for _, a, _ in seen if "State" in a[1]] == ["STOP_COPY"], seen)
        expect(int(bus.get(path, "Migration", "BytesTransferred")) == len(saved), "BytesTransferred")
        expect(str(bus.get(path, "Migration", "Layout")) == "l3", "Layout")
        stranger = bus.connect()
        expect(error_of(bus.object(path, "Migration", stranger).Reset) == "NotAuthorized", "a stranger")
        source.SetState("RUNNING")
        source.Close()
        expect(error_of(source.Reset) is not None, "a closed migration")
        # The destination: the guest's own mdev is in use, and therefore not taken.
        destination = bus.object(manager.OpenMigration(MDEV, "destination", options()), "Migration")
        destination.SetState("RESUMING")
        fd = destination.TakeStream().take()
        os.write(fd, saved)
        expect(error_of(destination.SetState, "STOP") == "Incompatible", "an mdev in use")
        expect(json.loads(destination.GetReport())["verdict"] == "incompatible", "the report")
        os.close(fd)
        expect(error_of(destination.SetState, "RUNNING") == "NoSuchTransition", "out of ERROR")
        destination.Reset()
        destination.SetState("RUNNING")
        destination.Close()
        # The same for the guest that is on its way in; piece by piece, and the file it becomes.
        attribute = bus.root / "devices/vfio_ap/matrix" / MDEV / "ap_config"
        whole = attribute.read_text()
        attribute.write_text(",".join(["0x" + "0" * 64] * 3) + "\n")
        path = manager.OpenMigration(MDEV, "destination", options(incoming=True))
        destination = bus.object(path, "Migration")
        destination.SetState("RESUMING")
        fd = destination.TakeStream().take()
        for byte in saved:
            os.write(fd, bytes([byte]))
        destination.SetState("RUNNING")
        os.close(fd)
        expect(attribute.read_text() == whole, "ap_config was not written")
        expect(str(bus.get(path, "Migration", "State")) == "RUNNING", "State")
        destination.Close()
        # Cut, and wrong from some byte on: the writer learns it from the pipe.
        destination = bus.object(manager.OpenMigration(MDEV, "destination", options(incoming=True)), "Migration")
        destination.SetState("RESUMING")
        fd = destination.TakeStream().take()
        os.write(fd, saved[:-1])
        os.close(fd)
        expect(error_of(destination.SetState, "STOP") == "TransitionFailed", "a cut stream")
        destination.Reset()
        destination.SetState("RESUMING")
        fd = destination.TakeStream().take()
        os.write(fd, b"nonsense")
        signal.signal(signal.SIGPIPE, signal.SIG_IGN)

        def refused():
            try:
                os.write(fd, b"x")
            except BrokenPipeError:
                return True
            return False
        bus.wait(refused)
        os.close(fd)
        expect(error_of(destination.SetState, "STOP") == "TransitionFailed", "nonsense")
        destination.Close()
        # A client that goes takes its migrations along.
        client = bus.connect()
        removed = bus.record(ROOT, "org.freedesktop.DBus.ObjectManager")
        path = bus.manager(client).OpenMigration(MDEV, "source", options())
        bus.object(path, "Migration", client).SetState("STOP_COPY")
        client.close()
        bus.wait(lambda: any(m == "InterfacesRemoved" and a[0] == path for m, a, _ in removed))
        bus.object(manager.OpenMigration(MDEV, "source", options()), "Migration").Close()
        expect(bus.service.poll() is None, "the service has ended")


def check_guests(programs):
    """Guests, by libvirt's test driver: which has the mdev, and whether it can go."""
    with Bus(programs) as bus:
        node = pathlib.Path(bus.directory, "node.xml")
        node.write_text(f"<node>{programs.guest[programs.guest.index('<domain'):]}</node>")
        destination = str(programs.hosts / "lpar-b.json")
        bus.serve("-c", f"test://{node}", "-d", destination)
        bus.wait(lambda: bus.get(MDEV_PATH, "Mdev", "Guest") == "guest1")
        verdict, rules, report = bus.manager().CheckGuest("guest1", destination, options())
        told = json.loads(subprocess.run(
            [programs.check, "--format", "json", "-s", bus.root, "-d", destination, "-"], input=programs.guest,
            capture_output=True, text=True, check=False).stdout)
        expect(json.loads(report)["findings"] == told["findings"] and verdict == told["verdict"], "other findings")
        expect(error_of(bus.manager().CheckGuest, "nobody", destination, options()) == "InvalidInput", "nobody")
        # It stays here, with a new QEMU.
        verdict, rules, report = bus.manager().CheckGuest("guest1", "", options(mode="live-update"))
        told = json.loads(subprocess.run(
            [programs.check, "--format", "json", "-s", bus.root, "--mode", "live-update", "-"], input=programs.guest,
            capture_output=True, text=True, check=False).stdout)
        expect(json.loads(report)["findings"] == told["findings"] and verdict == told["verdict"] and "live-update.iommufd"
               in rules, (rules, told))
        expect(error_of(bus.manager().CheckGuest, "guest1", destination, options(mode="live-update"))
               == "InvalidInput", "live-update elsewhere")
        bus.manager().OpenMigration(MDEV, "source", options(abort_job=True))
        bus.service.terminate()
        expect(bus.service.wait(20) == 0, "the end")


def check_hang(programs):
    """A libvirt that never answers: who asks for a guest is told so, everybody else is answered as ever, and the service
    ends when it is to."""
    with Bus(programs) as bus, socket.socket(socket.AF_UNIX) as silent:
        directory = pathlib.Path(bus.directory)
        silent.bind(str(directory / "silent"))
        silent.listen(50)
        bus.libvirt = f"qemu+unix:///system?socket={directory}/silent"
        destination = directory / "destination.json"
        destination.write_text("{}")
        # A check of this one ends in an exception that is nobody's error: no other verdict is lost by that.
        odd = json.loads(programs.snapshot["lpar-b"])
        odd["unreadable"] = [{"path": "devices/ap/card05/05.0004/ap_functions", "error": "errno 4711"}]
        (directory / "odd.json").write_text(json.dumps(odd))
        service = bus.serve("-d", destination, "-d", directory / "odd.json")

        def verdict(name=destination):
            return bus.get(MDEV_PATH, "Mdev", "Verdicts").get(str(name))
        bus.wait(lambda: verdict() == "undetermined")
        expect(verdict(directory / "odd.json"), "no verdict for the odd one")
        replies, errors = [], []

        def ask():
            bus.manager().CheckGuest("a-guest", str(destination), options(), timeout=60, error_handler=errors.append,
                                     reply_handler=lambda *answer: replies.append(answer))
        ask()
        ask()
        shutil.copy(programs.hosts / "lpar-c.json", destination)
        bus.wait(lambda: verdict() == "incompatible", 12)
        expect(not errors and not replies, (errors, replies))
        json.loads(bus.manager().GetInventory())
        bus.wait(lambda: len(errors) == 2, 40)
        expect({error.get_dbus_name() for error in errors} == {ERROR + "TimedOut"}, errors)
        expect("libvirt did not answer" in errors[0].get_dbus_message(), errors)
        expect(not replies, replies)
        ask()
        bus.get(ROOT, "Manager", "Version")
        begin = time.monotonic()
        service.terminate()
        expect(service.wait(20) == 0 and time.monotonic() - begin < 8, f"{time.monotonic() - begin} s to end")


def check_journal(programs):
    """Where the journal reads what the service has to say, each line has a priority."""
    with Bus(programs) as bus:
        reader, writer = os.pipe()
        # What systemd makes standard error of, and how a service knows it.
        bus.environment["JOURNAL_STREAM"] = f"{os.fstat(writer).st_dev}:{os.fstat(writer).st_ino}"
        config = pathlib.Path(bus.directory, "vfioap.conf")
        config.write_text("colour = blue\n")
        for arguments, priority in ((["--sysfs-root", "/nonexistent"], b"<3>"), (["--sysfs-root", bus.root], b"<4>")):
            child = bus.start(programs.service, "--session", "--config", config, *arguments, stderr=writer)
            expect(os.read(reader, 4096).startswith(priority + b"vfioapd: "), arguments)
            child.terminate()
            child.wait(20)
        os.close(reader)
        os.close(writer)


def check_files(programs):
    """The configuration, and master keys: remembered while they can be seen, given, kept over damage."""
    with Bus(programs, host="z16-override") as bus:
        directory = pathlib.Path(bus.directory)
        config, keys = directory / "vfioap.conf", directory / "known-keys.json"
        config.write_text(f"destinations = {programs.hosts / 'lpar-b.json'}\ncolour = blue\n")
        bus.serve("--config", config, "--state-directory", directory)
        bus.wait(keys.exists)
        known = json.loads(keys.read_text())
        expect(known["schema"] == "vfioap-known-keys/1" and keys.stat().st_mode & 0o777 == 0o600, known)
        path = next(p for p in bus.bus.get_object(NAME, ROOT).GetManagedObjects(
            dbus_interface="org.freedesktop.DBus.ObjectManager") if "/mdev/" in p)
        bus.wait(lambda: str(programs.hosts / "lpar-b.json") in bus.get(path, "Mdev", "Verdicts"))
        before = {q["apqn"]: q.get("mkvps") for q in json.loads(bus.manager().GetInventory())["queues"]}
        shown = next(apqn for apqn, mkvps in before.items() if mkvps)
        attribute = next(bus.root.glob(f"devices/ap/card*/{shown}/mkvps"))
        # What cannot be seen any more is remembered, over a restart, too.
        attribute.unlink()
        config.write_text(f"destinations = {programs.hosts / 'lpar-a.json'}\n")
        bus.service.send_signal(signal.SIGHUP)
        bus.wait(lambda: list(bus.get(path, "Mdev", "Verdicts")) == [str(programs.hosts / "lpar-a.json")])
        after = {q["apqn"]: q.get("mkvps") for q in json.loads(bus.manager().GetInventory())["queues"]}
        expect(after[shown] == before[shown], f"{shown}: {after[shown]}")
        bus.service.kill()
        bus.service.wait()
        expect(b"colour" in bus.service.stderr.read(), "an unknown key is not said")
        keys.write_text(keys.read_text()[:-20])
        bus.wait(lambda: not bus.bus.name_has_owner(NAME))
        bus.serve("--config", config, "--state-directory", directory)
        bus.wait(keys.exists)
        bus.service.terminate()
        expect(bus.service.wait(10) == 0 and b"known-keys.json.damaged" in bus.service.stderr.read(), "damage")
        expect((directory / "known-keys.json.damaged").exists(), "the damaged file is gone")


def descriptors(pid):
    return len(os.listdir(f"/proc/{pid}/fd"))


def resident(pid):
    """In KiB."""
    return int(next(line for line in pathlib.Path(f"/proc/{pid}/status").read_text().splitlines()
                    if line.startswith("VmRSS:")).split()[1])


def check_clients(programs):
    with Bus(programs) as bus:
        bus.serve()
        snapshot = programs.snapshot["lpar-b"]
        clients = [bus.connect() for _ in range(200)]
        answers = []
        for client in clients:
            bus.manager(client).CheckXml(programs.guest, snapshot, options(), reply_handler=lambda *a: answers.append(a),
                                         error_handler=answers.append, timeout=60)
        bus.wait(lambda: len(answers) == 200, 60)
        expect({str(a[0]) for a in answers if isinstance(a, tuple)} == {"compatible"} or
               len({a[0] for a in answers if isinstance(a, tuple)}) == 1, f"{answers[0]}")
        expect(all(isinstance(a, tuple) for a in answers), [a for a in answers if not isinstance(a, tuple)][:3])
        # One that floods gets errors; another is answered before the flood is through.
        flood, other, refused = [], [], []
        for _ in range(2000):
            bus.manager(clients[0]).CheckXml(programs.guest, snapshot, options(),
                                             reply_handler=lambda *a: flood.append(a),
                                             error_handler=refused.append, timeout=60)
        clients[0].flush()
        bus.manager(clients[1]).GetInventory(reply_handler=lambda a: other.append(len(flood)),
                                             error_handler=refused.append, timeout=60)
        bus.wait(lambda: len(flood) + len(refused) == 2000 and other, 60)
        expect(refused and all(e.get_dbus_name() == ERROR + "LimitsExceeded" for e in refused), refused[:2])
        # Clients that go in the middle of it, again and again: neither memory nor descriptors.
        for client in clients:
            client.close()
        bus.manager().GetInventory()
        before, memory = descriptors(bus.service.pid), []
        for turn in range(40):
            client = bus.connect()
            manager = bus.manager(client)
            for _ in range(20):
                manager.CheckXml(programs.guest, snapshot, options(), ignore_reply=True)
            path = manager.OpenMigration(MDEV, "source", options())
            bus.object(path, "Migration", client).SetState("STOP_COPY")
            stream = bus.object(path, "Migration", client).TakeStream()
            client.close()
            del stream
            bus.manager().GetInventory()
            memory.append(resident(bus.service.pid))
        bus.wait(lambda: descriptors(bus.service.pid) <= before)
        # What waits to be answered comes and goes; what never goes would be there in the least of them.
        if not is_sanitized(programs.service):
            grown = min(memory[30:]) - min(memory[10:20])
            expect(grown < 2048, f"{grown} KiB more in memory: {memory}")
        expect(bus.service.poll() is None, "the service has ended")


def anonymous(pid):
    """Memory that is not of files, in KiB."""
    return int(next(line for line in pathlib.Path(f"/proc/{pid}/status").read_text().splitlines()
                    if line.startswith("RssAnon:")).split()[1])


def is_sanitized(program):
    """It keeps what was freed, and looks for leaks by itself."""
    code = pathlib.Path(program).read_bytes()
    return b"__asan_init" in code or b"__tsan_init" in code


class OtherClient:
    """A client in a process of its own, in the middle of everything: a migration open, its stream taken, calls on
    their way of which it reads no answer. It goes no further until it is killed."""

    def __init__(self, bus, programs, calls, stalled):
        reader, writer = os.pipe()
        self.pid = os.fork()
        if self.pid == 0:
            try:
                os.close(reader)
                client = bus.connect()
                manager = bus.manager(client)
                migration = bus.object(manager.OpenMigration(MDEV, "source", options()), "Migration", client)
                if not stalled:
                    migration.SetState("STOP_COPY")
                    stream = migration.TakeStream()
                    os.read(stream.take(), 10)
                else:
                    # The mdev is for others, too.
                    migration.Close()
                for number in range(calls):
                    if number % 3:
                        manager.CheckXml(programs.guest, programs.snapshot["lpar-b"], options(),
                                         reply_handler=lambda *a: None, error_handler=lambda e: None)
                    else:
                        manager.GetInventory(reply_handler=lambda a: None, error_handler=lambda e: None)
                client.flush()
                os.write(writer, b"x")
                signal.pause()
            finally:
                os._exit(1)
        os.close(writer)
        bus.clients.append(self)
        expect(os.read(reader, 1) == b"x", "a client came to nothing")
        os.close(reader)

    def kill(self):
        if self.pid:
            os.kill(self.pid, signal.SIGKILL)
            os.waitpid(self.pid, 0)
            self.pid = 0


def check_soak(programs):
    """10,000 calls of all kinds, of clients that die, stall and flood. Nothing stays of them."""
    rounds = 50
    with Bus(programs) as bus:
        bus.serve()
        manager, pid = bus.manager(), bus.service.pid
        snapshot = programs.snapshot["lpar-b"]
        root = bus.bus.get_object(NAME, ROOT, introspect=False)
        made = 0

        def wrong(member, *arguments):
            expect(error_of(getattr(manager, member), *arguments) == "InvalidInput", member)

        def managed():
            return root.GetManagedObjects(dbus_interface="org.freedesktop.DBus.ObjectManager")

        def migrate():
            path = manager.OpenMigration(MDEV, "source", options())
            migration = bus.object(path, "Migration")
            migration.SetState("STOP_COPY")
            os.close(migration.TakeStream().take())
            bus.get(path, "Migration", "State")
            migration.SetState("RUNNING")
            migration.Close()
        mixed = (
            manager.GetInventory,
            lambda: manager.CheckXml(programs.guest, snapshot, options()),
            lambda: manager.CheckXml(programs.guest, "", options(mode="detached")),
            lambda: bus.get(MDEV_PATH, "Mdev", "Queues"),
            lambda: bus.get(MDEV_PATH, "Mdev", "InUse"),
            lambda: bus.get(ROOT, "Manager", "Version"),
            lambda: root.Introspect(dbus_interface=dbus.INTROSPECTABLE_IFACE),
            lambda: wrong("CheckXml", "<domain>", "", options()),
            lambda: wrong("CheckXml", programs.guest, "{", options()),
            lambda: wrong("OpenMigration", "nonsense", "source", options()),
            managed)
        # What is made at its first use, for good.
        for call in (*mixed, migrate):
            call()
        objects, memory = set(managed()), []
        # The least: it may be looking at its host just now.
        before = min(descriptors(pid) for _ in range(20))
        stalled = [OtherClient(bus, programs, 40, True) for _ in range(3)]
        made += len(mixed) + 6 + 3 * 42
        for _ in range(rounds):
            dying = OtherClient(bus, programs, 30, False)
            made += 33
            dying.kill()
            # His migration goes with him: until then the mdev is taken.
            bus.wait(lambda: set(managed()) == objects)
            flooder, answered = bus.connect(), []
            for _ in range(90):
                bus.manager(flooder).CheckXml(programs.guest, snapshot, options(), timeout=60,
                                              reply_handler=lambda *a: answered.append(None),
                                              error_handler=lambda e: answered.append(e.get_dbus_name()))
            bus.wait(lambda: len(answered) == 90, 60)
            expect(set(answered) <= {None, ERROR + "LimitsExceeded"}, set(answered))
            flooder.close()
            for call in mixed * 7:
                call()
            migrate()
            made += 90 + 7 * len(mixed) + 6
            memory.append(anonymous(pid))
        for client in stalled:
            client.kill()
        print(f"{made} calls; anonymous memory {memory[0]}, {memory[10]}, {memory[-1]} KiB; {before} descriptors")
        expect(made >= 10000, made)
        bus.wait(lambda: descriptors(pid) == before)
        expect(set(managed()) == objects, managed().keys())
        # The least of each: what waits to be answered comes and goes.
        if not is_sanitized(programs.service):
            grown = min(memory[-10:]) - min(memory[10:20])
            expect(grown < 512, f"{grown} KiB more in memory: {memory}")


def check_large(programs):
    """The largest host that there can be, in one guest: 65,536 queues."""
    maker = pathlib.Path(programs.control).parent / "tests/vfioap-make-hosts"
    with Bus(programs, host=None) as bus:
        largest = pathlib.Path(bus.directory, "largest.json")
        subprocess.run([maker, "largest", largest], check=True)
        subprocess.run([maker, "materialize", largest, bus.root], check=True)
        # With all its master keys it is more than a bus takes of anybody: such a client would be thrown out, and the
        # service must not do the like.
        whole = json.loads(largest.read_text())
        expect(largest.stat().st_size > 32 << 20, "the host is too small for this test")
        for queue in whole["queues"]:
            del queue["mkvps"]
        snapshot = json.dumps(whole)
        bus.serve()
        manager = bus.manager()
        slow = {"timeout": 300}
        inventory = manager.GetInventory(**slow)
        expect(len(json.loads(inventory)["queues"]) == 65536, "GetInventory")
        queues = bus.get(MDEV_PATH, "Mdev", "Queues")
        expect(len(queues) == 65536 and (queues[0], queues[-1]) == ("00.0000", "ff.00ff"), "Queues")
        managed = bus.bus.get_object(NAME, ROOT, introspect=False).GetManagedObjects(
            dbus_interface="org.freedesktop.DBus.ObjectManager", **slow)
        expect(len(managed[MDEV_PATH][f"{NAME}.Mdev"]["Queues"]) == 65536, "GetManagedObjects")
        verdict_here, rules, report = manager.CheckXml(programs.guest, snapshot, options(), **slow)
        report = json.loads(report)
        expect(len(report["configuration"]["queues"]) == 65536 and report["verdict"] == verdict_here, rules)
        # The same with queues that are all missing here: 65,536 reasons.
        other = snapshot.replace('"config": true', '"config": false')
        verdict, rules, report = manager.CheckXml(programs.guest, other, options(), **slow)
        expect(json.loads(report)["verdict"] == verdict, (verdict, rules))
        path = manager.OpenMigration(MDEV, "source", options())
        migration = bus.object(path, "Migration")
        migration.SetState("STOP_COPY", **slow)
        fd = migration.TakeStream().take()
        expect(len(read_all(fd)) > 65536 * 8, "the stream")
        migration.Close()
        # Meanwhile others are answered: between two of the answers, not after all of them.
        slow_answers, between = [], []
        patient, other = bus.connect(), bus.connect()
        for _ in range(8):
            bus.manager(patient).CheckXml(programs.guest, snapshot, options(), timeout=300,
                                          reply_handler=lambda *a: slow_answers.append(str(a[0])),
                                          error_handler=lambda e: slow_answers.append(e.get_dbus_name()))
        # Asked when the first is there; sending the others takes longer than that.
        bus.wait(lambda: slow_answers, 300)
        other.get_object(NAME, ROOT, introspect=False).Get(
            f"{NAME}.Manager", "Version", dbus_interface=dbus.PROPERTIES_IFACE, timeout=300,
            reply_handler=lambda a: between.append(len(slow_answers)), error_handler=between.append)
        bus.wait(lambda: len(slow_answers) == 8 and between, 300)
        expect(set(slow_answers) == {str(verdict_here)} and between[0] in range(8), (slow_answers, between))
        expect(bus.service.poll() is None, "the service has ended")


def check_lifetime(programs):
    with Bus(programs) as bus:
        first = bus.serve()
        second = bus.start(programs.service, "--session", "--sysfs-root", bus.root, stderr=subprocess.PIPE)
        expect(second.wait(10) == 2, "a second service")
        expect(b"vfioapd: " in second.stderr.read(), "a second service says nothing")
        first.send_signal(signal.SIGHUP)
        bus.manager().GetInventory()
        first.kill()
        first.wait()
        bus.wait(lambda: not bus.bus.name_has_owner(NAME))
        again = bus.serve()
        expect(bus.get(MDEV_PATH, "Mdev", "Uuid") == MDEV, "after kill -9")
        again.terminate()
        expect(again.wait(10) == 0, "SIGTERM")
        expect(again.stderr.read() == b"", "something on standard error")
        for arguments, words in ((["--sysfs-root", "/nonexistent"], b"/nonexistent"),
                                 (["--sysfs-root", bus.directory], b"looks like sysfs"), (["--what"], b"--what")):
            child = bus.start(programs.service, "--session", *arguments, stderr=subprocess.PIPE)
            expect(child.wait(10) == 2 and b"vfioapd: " in child.stderr.read(), arguments)
        child = subprocess.run([programs.service, "--session", "--sysfs-root", bus.root], check=False,
                               env={**bus.environment, "DBUS_SESSION_BUS_ADDRESS": "unix:path=/nonexistent"},
                               capture_output=True, timeout=10)
        expect(child.returncode == 2 and child.stderr.startswith(b"vfioapd: session bus (DBUS_SESSION_BUS_ADDRESS="), child)
        # The bus goes away: the service has nobody to serve.
        last = bus.serve()
        bus.children[0].kill()
        expect(last.wait(20) != 0, "the bus has gone")


class Authority(dbus.service.Object):
    """Answers for polkit, and remembers what it was asked."""

    def __init__(self, bus):
        super().__init__(bus, "/org/freedesktop/PolicyKit1/Authority")
        self.allowed, self.asked = set(), []

    @dbus.service.method("org.freedesktop.PolicyKit1.Authority", in_signature="(sa{sv})sa{ss}us",
                         out_signature="(bba{ss})")
    def CheckAuthorization(self, subject, action, details, flags, cancellation):
        self.asked.append((str(subject[0]), str(subject[1].get("name")), str(action), int(flags)))
        return (str(action) in self.allowed, False, dbus.Dictionary({}, signature="ss"))


def check_polkit(programs):
    with Bus(programs, system=True) as bus:
        bus.serve()
        manager = bus.manager()
        answers = []

        def call(method, *arguments):
            answers.clear()
            getattr(manager, method)(*arguments, reply_handler=lambda *a: answers.append(None),
                                     error_handler=lambda e: answers.append(e.get_dbus_name()))
            bus.wait(lambda: answers)
            return answers[0]
        expect(call("GetInventory") == ERROR + "NotAuthorized", "nobody answers for polkit")
        name = dbus.service.BusName("org.freedesktop.PolicyKit1", bus.bus)
        authority = Authority(bus.bus)
        me = bus.bus.get_unique_name()
        expect(call("GetInventory") == ERROR + "NotAuthorized", "inspect refused")
        expect(authority.asked == [("system-bus-name", me, "org.vfioap1.inspect", 0),
                                   ("system-bus-name", me, "org.vfioap1.manage", 0)], authority.asked)
        authority.allowed = {"org.vfioap1.inspect"}
        expect(call("GetInventory") is None, "inspect allowed")
        expect(call("OpenMigration", MDEV, "source", options()) == ERROR + "NotAuthorized", "inspect is not manage")
        authority.allowed = {"org.vfioap1.manage"}
        expect(call("GetInventory") is None, "manage implies inspect")
        expect(call("OpenMigration", MDEV, "source", options()) is None, "manage allowed")
        # The flag of the message, and only for what is asked for itself.
        authority.asked.clear()
        message = dbus.lowlevel.MethodCallMessage(NAME, ROOT, f"{NAME}.Manager", "OpenMigration")
        message.append(MDEV, "source", options(), signature="ssa{sv}")
        try:
            message.set_allow_interactive_authorization(True)
        except AttributeError:
            done = bus.start("busctl", f"--address={bus.address}", "call", NAME, ROOT, f"{NAME}.Manager",
                             "OpenMigration", "ssa{sv}", MDEV, "source", "0", stdout=subprocess.PIPE,
                             stderr=subprocess.PIPE)
            bus.wait(lambda: done.poll() is not None)
        else:
            bus.bus.send_message(message)
        bus.wait(lambda: authority.asked)
        expect(authority.asked[0][2:] == ("org.vfioap1.manage", 1), authority.asked)
        del name


def check_remote(programs):
    """Another host, for which ssh is a program that ends on a bus of its own."""
    bridge = shutil.which("systemd-stdio-bridge")
    if not bridge:
        print("skipped: systemd-stdio-bridge is missing")
        sys.exit(77)
    with Bus(programs, host="lpar-b", system=True) as bus:
        bus.serve()
        name = dbus.service.BusName("org.freedesktop.PolicyKit1", bus.bus)
        authority = Authority(bus.bus)
        authority.allowed = {"org.vfioap1.inspect"}
        ssh = pathlib.Path(bus.directory, "ssh")
        ssh.write_text(f"#!/bin/sh\nprintf '%s\\n' \"$*\" >>'{bus.directory}/log'\nexec '{bridge}' "
                       f"--bus-path='{bus.address}'\n")
        ssh.chmod(0o755)
        environment = {**bus.environment, "PATH": f"{bus.directory}:{os.environ['PATH']}"}

        def run(*command):
            child = subprocess.Popen([str(word) for word in command], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                                     stderr=subprocess.PIPE, env=environment, text=True)
            out = []

            def finished():
                # The authority lives in this process: it has to answer meanwhile.
                if child.poll() is None:
                    return False
                out.extend(child.communicate())
                return True
            bus.wait(finished)
            return child.returncode, out[0], out[1]
        guest = programs.source / "xml/examples/guest1.xml"
        for place in ("lpar-b", "admin@lpar-b.example.com", "host:lpar-b", "lpar-b:2222", "::1", "[::1]",
                      "admin@[fe80::1%enc1]:2222"):
            code, out, err = run(programs.check, "--format", "json", "-s", programs.hosts / "lpar-a.json", "-d", place,
                                 guest)
            expect((code, err) == (1, ""), (place, code, err))
            there = json.loads(out)["destination"]
            expect(there == {"name": "lpar-b", "location": "host:" + place.removeprefix("host:")}, there)
        told = json.loads(out)["findings"]
        local = json.loads(run(programs.check, "--format", "json", "-s", programs.hosts / "lpar-a.json", "-d",
                               bus.root, guest)[1])["findings"]
        expect([f["rule"] for f in told] == [f["rule"] for f in local], "other findings from afar")
        asked = [line.removeprefix("-xT ").removesuffix(" systemd-stdio-bridge")
                 for line in pathlib.Path(bus.directory, "log").read_text().splitlines()]
        expect(asked == ["-- lpar-b", "-- admin@lpar-b.example.com", "-- lpar-b", "-p 2222 -- lpar-b", "-- ::1", "-- ::1",
                         "-p 2222 -- admin@fe80::1%enc1"], f"ssh was asked {asked}")
        code, out, err = run(programs.control, "status", "-s", "lpar-b")
        expect(code == 0 and MDEV.split("-")[0] not in err, (code, err))
        code, out, err = run(programs.control, "snapshot", "lpar-b")
        expect(code == 0 and json.loads(out)["name"] == "lpar-b", (code, err))
        authority.allowed = set()
        code, out, err = run(programs.control, "snapshot", "lpar-b")
        expect(code == 3 and "polkit refused" in err and err.count("\n") == 1, (code, err))
        bus.service.kill()
        bus.service.wait()
        code, out, err = run(programs.control, "snapshot", "lpar-b")
        expect(code == 3 and "ssh lpar-b vfioapctl snapshot > lpar-b.json" in err, (code, err))
        del name


class Libvirtd:
    """A libvirtd of the test's own, with libvirt's test driver, and a virsh for whose life its domains last."""

    def __init__(self):
        self.directory = pathlib.Path(tempfile.mkdtemp(prefix="vfioap-test-"))
        self.socket = self.directory / "run/libvirt/libvirt-sock"
        self.uri = f"test+unix:///default?socket={self.socket}"
        self.daemon = self.virsh = None

    def __enter__(self):
        return self

    def start(self):
        # As a user other than root it keeps to that user's directories; as root it would take the host's.
        user = {}
        if os.geteuid() == 0:
            nobody = pwd.getpwnam("nobody")
            user = {"user": nobody.pw_uid, "group": nobody.pw_gid, "extra_groups": []}
            os.chown(self.directory, nobody.pw_uid, nobody.pw_gid)
        names = {"XDG_RUNTIME_DIR": "run", "XDG_CONFIG_HOME": "config", "XDG_CACHE_HOME": "cache", "HOME": "."}
        self.daemon = subprocess.Popen(
            ["sh", "-c", 'mkdir -p "$XDG_RUNTIME_DIR" && exec libvirtd --pid-file "$HOME/pid"'],
            env={"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", **{k: str(self.directory / v) for k, v in names.items()}},
            stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, **user)

    def run(self, command):
        if self.virsh is None:
            self.virsh = subprocess.Popen(["virsh", "-q", "-c", self.uri], stdin=subprocess.PIPE, text=True,
                                          stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        self.virsh.stdin.write(command + "\n")
        self.virsh.stdin.flush()

    def __exit__(self, *ignored):
        for child in (self.virsh, self.daemon):
            if child is not None:
                child.kill()
                child.wait()
        shutil.rmtree(self.directory)


def check_libvirt(programs):
    if not shutil.which("libvirtd", path="/usr/sbin:/usr/bin") or not shutil.which("virsh"):
        print("skipped: libvirtd or virsh is missing")
        sys.exit(77)
    with Libvirtd() as libvirtd, Bus(programs) as bus:
        bus.libvirt = libvirtd.uri
        service = bus.serve()
        expect(b"vfioapd: no libvirt: cannot connect" in service.stderr.readline(), "without libvirtd")
        expect(bus.get(MDEV_PATH, "Mdev", "Guest") == "", "a guest without libvirt")
        properties = bus.record(MDEV_PATH, dbus.PROPERTIES_IFACE)
        libvirtd.start()
        bus.wait(libvirtd.socket.exists)
        xml = pathlib.Path(bus.directory, "guest.xml")
        xml.write_text(f"""<domain type='test'><name>linux1</name><memory>1048576</memory>
            <os><type arch='i686'>hvm</type></os><devices><hostdev mode='subsystem' type='mdev' model='vfio-ap'>
            <source><address uuid='{MDEV}'/></source></hostdev></devices></domain>""")
        libvirtd.run(f"define {xml}")
        bus.wait(lambda: properties)
        libvirtd.run("start linux1")
        libvirtd.run("destroy linux1")
        libvirtd.run("undefine linux1")
        bus.wait(lambda: bus.get(MDEV_PATH, "Mdev", "Guest") == "")
        bus.wait(lambda: len(properties) == 2)
        told = [str(a[1].get("Guest")) for m, a, _ in properties]
        expect(told == ["linux1", ""], properties)
        # A libvirtd that hangs holds up nobody, and the end of the service neither.
        libvirtd.daemon.send_signal(signal.SIGSTOP)
        begin = time.monotonic()
        bus.manager().GetInventory()
        service.terminate()
        expect(service.wait(10) == 0, "SIGTERM while libvirtd hangs")
        expect(time.monotonic() - begin < 5, f"{time.monotonic() - begin} s to end")
        # The guest may have been gone before its state was there to be kept.
        rest = [line for line in service.stderr.readlines() if b"cannot store its state" not in line]
        expect(not rest, rest)


def check_destinations(programs):
    """Another host is followed over SSH: what changes there changes the verdict here, and what is lost is said."""
    bridge = shutil.which("systemd-stdio-bridge")
    if not bridge:
        print("skipped: systemd-stdio-bridge is missing")
        sys.exit(77)
    with Bus(programs, host="lpar-a", system=True) as there, Bus(programs) as here:
        # Nobody runs there yet.
        for status in there.root.glob("devices/ap/card*/*/status"):
            status.write_text("assigned\n")
        there.serve()
        name = dbus.service.BusName("org.freedesktop.PolicyKit1", there.bus)
        Authority(there.bus).allowed = {"org.vfioap1.inspect"}
        ssh = pathlib.Path(here.directory, "ssh")
        ssh.write_text(f"#!/bin/sh\nprintf '%s\\n' \"$*\" >>'{here.directory}/log'\n"
                       f"exec '{bridge}' --bus-path='{there.address}'\n")
        ssh.chmod(0o755)
        here.environment["PATH"] = f"{here.directory}:{os.environ['PATH']}"
        nowhere = str(pathlib.Path(here.directory, "nowhere.json"))
        here.serve("-d", "lpar-x", "-d", nowhere)

        def destination(location):
            return here.get(ROOT, "Manager", "Destinations").get(location, ("", 0, ""))
        here.wait(lambda: here.get(MDEV_PATH, "Mdev", "Verdicts").get("lpar-x") == "compatible")
        expect(destination("lpar-x")[0] == "reachable" and destination("lpar-x")[1] > 0, destination("lpar-x"))
        here.wait(lambda: destination(nowhere)[0] == "unreachable")
        expect(here.get(MDEV_PATH, "Mdev", "Verdicts")[nowhere] == "undetermined", "a file that is not there")
        expect("nowhere.json" in destination(nowhere)[2], destination(nowhere))
        asked = pathlib.Path(here.directory, "log").read_text()
        expect("BatchMode=yes" in asked and asked.rstrip().endswith("-- lpar-x systemd-stdio-bridge"), asked)
        # It changes there.
        queue = next((there.root / "bus/ap/drivers/vfio_ap").glob("05.*"))
        queue.unlink()
        here.wait(lambda: here.get(MDEV_PATH, "Mdev", "Verdicts").get("lpar-x") == "incompatible")
        # The same connection all the time.
        expect(pathlib.Path(here.directory, "log").read_text() == asked, "ssh was started again")
        # It goes, and comes back.
        properties = here.record(ROOT, dbus.PROPERTIES_IFACE)
        there.service.kill()
        there.service.wait()
        here.wait(lambda: here.get(MDEV_PATH, "Mdev", "Verdicts").get("lpar-x") == "undetermined")
        here.wait(lambda: destination("lpar-x")[0] == "unreachable")
        here.wait(lambda: any("Destinations" in a[1] for m, a, _ in properties))
        there.wait(lambda: not there.bus.name_has_owner(NAME))
        there.serve()
        here.wait(lambda: here.get(MDEV_PATH, "Mdev", "Verdicts").get("lpar-x") == "incompatible", 60)
        expect(destination("lpar-x")[0] == "reachable" and not destination("lpar-x")[2], destination("lpar-x"))
        # An ssh that hangs does not hold up the end.
        ssh.write_text("#!/bin/sh\nexec sleep 600\n")
        there.service.kill()
        here.wait(lambda: destination("lpar-x")[0] == "unreachable")
        here.service.terminate()
        expect(here.service.wait(10) == 0, "the end")
        del name


def check_status(programs):
    """vfioapctl status asks the service of this host, and reads the host itself where there is none."""
    with Bus(programs, system=True) as bus:
        name = dbus.service.BusName("org.freedesktop.PolicyKit1", bus.bus)
        Authority(bus.bus).allowed = {"org.vfioap1.inspect"}
        destination, nowhere = str(programs.hosts / "lpar-b.json"), str(pathlib.Path(bus.directory, "nowhere.json"))

        def status(*arguments):
            child = subprocess.Popen([programs.control, "status", *arguments], stdin=subprocess.DEVNULL,
                                     stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=bus.environment, text=True)
            bus.wait(lambda: child.poll() is not None)
            return (child.returncode, *child.communicate())
        read = status("--sysfs-root", bus.root, "--format", "json", "-d", destination)
        bus.serve("-d", destination, "-d", nowhere)
        bus.wait(lambda: bus.get(MDEV_PATH, "Mdev", "Verdicts").get(destination) == "incompatible")
        code, out, err = status("--format", "json")
        expect((code, err) == (0, ""), (code, err))
        asked, read = json.loads(out), json.loads(read[1])
        expect(asked["host"]["location"] == "local", asked["host"])
        for told, seen in zip(asked["mdevs"], read["mdevs"], strict=True):
            verdicts = told.pop("verdicts")
            expect(verdicts == {destination: "incompatible", nowhere: "undetermined"}, verdicts)
            expect(seen.pop("verdicts") == {"snapshot:" + os.path.realpath(destination): "incompatible"}, seen)
            expect({**told, "in_use": None} == {**seen, "in_use": None}, (told, seen))
        expect(asked["destinations"][nowhere]["state"] == "unreachable", asked["destinations"])
        code, out, err = status()
        lines = out.splitlines()
        # In the order of their names, which are paths that differ from machine to machine.
        columns = sorted([(destination, "lpar-b.json", "incompatible"), (nowhere, "nowhere.json", "undetermined")])
        headings = [word for _, short, _ in columns for word in ("TO", short)]
        expect((code, err) == (0, "") and lines[0].split()[-4:] == headings, out)
        expect(lines[1].split()[-2:] == [verdict for _, _, verdict in columns], out)
        expect(lines[-1].startswith("unreachable for ") and nowhere in lines[-1] and "No such file" in lines[-1], out)
        # None that runs, and one that hangs: what the host itself says.
        bus.service.send_signal(signal.SIGSTOP)
        hung = status()
        bus.service.send_signal(signal.SIGCONT)
        expect("service of this host cannot be asked: it does not answer" in hung[2], hung)
        bus.service.kill()
        bus.service.wait()
        bus.environment["SYSFS_ROOT"] = str(bus.root)
        code, out, err = status()
        expect(code == 0 and MDEV in out and "TO" not in out, (code, out, err))
        del name


def check_machine(programs):
    """Of a real host the inventory has what its QEMU and its iommufd can, as vfioapctl snapshot finds it."""
    with Bus(programs) as bus:
        bus.root = "/sys"
        bus.serve()
        taken = subprocess.run([programs.control, "snapshot", "--sysfs-root", "/sys"], capture_output=True, text=True,
                               check=True, env=bus.environment)
        taken = json.loads(taken.stdout)
        for _ in range(2):
            asked = json.loads(bus.manager().GetInventory())
            expect(asked.get("qemu") == taken.get("qemu"), (asked.get("qemu"), taken.get("qemu")))
            expect("iommufd" not in asked or asked["iommufd"] == taken["iommufd"], (asked, taken))
        if os.geteuid() == 0 and os.path.exists("/usr/bin/qemu-system-s390x"):
            expect("version" in asked.get("qemu", {}), asked.get("qemu"))


def check_spelling(programs):
    """However the real sysfs is called, nothing of it is written that the client did not ask for."""
    if os.geteuid() != 0 or subprocess.run(["unshare", "-m", "true"], check=False).returncode != 0:
        print("skipped: no mount namespace can be had")
        sys.exit(77)
    # A machine with the fake host's AP bus and mdevs in its own sysfs.
    enter = 'mount --bind "$1/bus" /sys/bus && mount --bind "$1/devices" /sys/devices && shift && exec "$@"'
    saved = None
    for spelling in ("/sys", "/sys/", "/sys/.", "//sys", "/proc/self/root/sys", "linked", "bound"):
        with Bus(programs) as bus:
            root = {"linked": f"{bus.directory}/linked", "bound": f"{bus.directory}/bound"}.get(spelling, spelling)
            os.symlink("/sys", f"{bus.directory}/linked")
            os.mkdir(f"{bus.directory}/bound")
            bound = f'{enter.rpartition("exec")[0]} mount --rbind /sys "{bus.directory}/bound" && exec "$@"'
            bus.service = bus.start(
                "unshare", "-m", "sh", "-c", bound if spelling == "bound" else enter, "sh", bus.root, programs.service,
                "--session", "--sysfs-root", root, stderr=subprocess.PIPE)
            bus.wait(lambda: bus.bus.name_has_owner(NAME))
            attribute = bus.root / "devices/vfio_ap/matrix" / MDEV / "ap_config"
            whole, nothing = attribute.read_text(), ",".join(["0x" + "0" * 64] * 3) + "\n"
            saved = saved or subprocess.run([programs.control, "-s", bus.root, "stream", "save", MDEV],
                                            capture_output=True, check=True).stdout
            for write in (False, True):
                attribute.write_text(nothing)
                given = options(incoming=True, write=True) if write else options(incoming=True)
                path = bus.manager().OpenMigration(MDEV, "destination", given)
                destination = bus.object(path, "Migration")
                destination.SetState("RESUMING")
                fd = destination.TakeStream().take()
                os.write(fd, saved)
                os.close(fd)
                error_of(destination.SetState, "STOP")
                expect(attribute.read_text() == (whole if write else nothing),
                       f"--sysfs-root {spelling}, write={write}: {attribute.read_text()}")
                destination.Close()


PARTS = {"machine": check_machine, "spelling": check_spelling, "hang": check_hang, "journal": check_journal, "libvirt": check_libvirt, "guests": check_guests, "files": check_files, "remote": check_remote,
         "calls": check_calls, "watch": check_watch, "migration": check_migration, "clients": check_clients,
         "soak": check_soak, "large": check_large, "lifetime": check_lifetime, "polkit": check_polkit,
         "destinations": check_destinations, "status": check_status}


def main(part, service, control, check, source):
    if not shutil.which("dbus-daemon"):
        print("skipped: dbus-daemon is missing")
        return 77
    # However it ends, what it started ends, too.
    signal.signal(signal.SIGTERM, lambda *ignored: sys.exit(1))
    DBusGMainLoop(set_as_default=True)
    PARTS[part](Programs(service, control, check, source))
    print("\n".join(failures[:20]) or f"{part}: as it should be")
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
