#!/usr/bin/python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""vfioapd carries out plans on the mounted fake kernel, and takes them back: whoever asks, fails, dies or comes between.

usage: service_plan_check.py VFIOAPD VFIOAPCTL VFIOAP-CHECK FAKESYS SOURCE-DIRECTORY
Exit 77: something that is needed is missing.
"""
import contextlib
import json
import os
import pathlib
import shutil
import signal
import subprocess
import sys
import xml.etree.ElementTree as ET

try:
    import jsonschema
except ImportError:
    jsonschema = None

sys.dont_write_bytecode = True
from fakesys_check import IDLE, SKIP, mounted, why_not  # noqa: E402
from service_check import (MDEV, NAME, ROOT, Authority, Bus, DBusGMainLoop, Programs, dbus, error_of,  # noqa: E402
                           expect, failures, members, options)


class Destination:
    """lpar-b on a fake kernel with its service, where guest1 of lpar-a is to go."""

    def __init__(self, programs, bus, host):
        self.programs, self.bus, self.host = programs, bus, host
        self.state = pathlib.Path(bus.directory, "state")
        self.state.mkdir()
        self.lock = pathlib.Path(bus.directory, "ap.lock")
        schema = json.loads((programs.source / "xml/vfioap-apply.schema.json").read_text())
        self.validator = jsonschema and jsonschema.Draft202012Validator(schema)
        bus.root = host.root
        self.serve()
        self.before = self.inventory()

    def serve(self):
        self.bus.serve("--state-directory", self.state, "--ap-lock", self.lock)

    def inventory(self):
        """What is there, but what only counts time."""
        told = json.loads(subprocess.run([self.programs.control, "snapshot", self.host.root], capture_output=True,
                                         check=True).stdout)
        told.pop("taken", None)
        return told

    def apply(self, bus=None, guest=None, source="lpar-a", **words):
        manager = self.bus.manager(bus)
        return str(manager.ApplyPlan(guest or self.programs.guest, self.programs.snapshot[source],
                                     options(mode="detached", **words)))

    def undo(self, guest="guest1"):
        return str(self.bus.manager().UndoPlan(guest, options()))

    def state_of(self, path):
        return str(self.bus.get(path, "Plan", "State"))

    def finish(self, path):
        """The report, when it is finished; the object is gone then."""
        self.bus.wait(lambda: self.state_of(path) != "running")
        plan = self.bus.object(path, "Plan")
        report = json.loads(plan.GetReport())
        expect(report["state"] == self.state_of(path), report)
        if self.validator:
            for error in self.validator.iter_errors(report):
                expect(False, f"{error.json_path}: {error.message}")
        plan.Close()
        self.bus.wait(lambda: error_of(self.state_of, path))
        return report

    def judge(self):
        return subprocess.run([self.programs.check, "-q", "--mode", "detached", "-s", self.programs.hosts / "lpar-a.json",
                               "-d", self.host.root, "-"], input=self.programs.guest, text=True, check=False).returncode

    def records(self):
        return sorted(path.name for path in self.state.glob("plans/*"))

    def expect_as_before(self, what):
        now = self.inventory()
        for name in now:
            expect(now[name] == self.before[name], f"{what}: {name}: {now[name]} was {self.before[name]}")
        expect(not self.records(), f"{what}: {self.records()}")
        expect(not self.lock.exists(), f"{what}: the lock is held")


@contextlib.contextmanager
def destination(programs, fakesys, system=False):
    with Bus(programs, host=None, system=system) as bus, mounted(fakesys, programs.hosts / "lpar-b.json") as host:
        there = Destination(programs, bus, host)
        try:
            yield there
        finally:
            # The service has the mount open, and waits for what the kernel does.
            host.control("clear")
            if bus.service.poll() is None:
                bus.service.terminate()
                expect(bus.service.wait(60) == 0, "the service does not end well")


def check_apply(programs, fakesys):
    with destination(programs, fakesys) as there:
        bus = there.bus
        seen = bus.record(None, dbus.PROPERTIES_IFACE)
        expect(there.judge() == 1, "ready before anything was done")
        path = there.apply()
        live = ET.fromstring(bus.bus.get_object(NAME, path).Introspect(dbus_interface=dbus.INTROSPECTABLE_IFACE))
        file = ET.parse(programs.source / f"dbus/{NAME}.Plan.xml").getroot()
        find = f"interface[@name='{NAME}.Plan']"
        expect(members(live.find(find)) == members(file.find(find)), "not what the file says")
        expect([str(bus.get(path, "Plan", name)) for name in ("Guest", "Mdev")] == ["guest1", MDEV], "whose plan")
        stranger = bus.connect()
        for member in ("GetReport", "Cancel", "Close"):
            expect(error_of(bus.object(path, "Plan", stranger).get_dbus_method(member)) == "NotAuthorized", member)
        report = there.finish(path)
        expect((report["state"], report["verdict"], report["plan"]) == ("done", "compatible", "complete"), report)
        expect([step["step"] for step in report["steps"]] == ["release", "reserve", "wait", "create", "fill"], report)
        expect({step["outcome"] for step in report["steps"]} == {"done"}, report)
        expect(report["left"] and report["left"][0]["commands"], "what a fake root cannot keep is not said")
        expect(there.judge() == 0, "not ready afterwards")
        bus.wait(lambda: any("State" in a[1] for _, a, where in seen if where == path))
        told = [a[1] for _, a, where in seen if where == path]
        expect([str(t["State"]) for t in told if "State" in t] == ["done"], told)
        done = [int(t["StepsDone"]) for t in told if "StepsDone" in t]
        expect(done and done == sorted(done) and done[-1] == 5, (done, seen))
        expect(any("Step" in t and "create mdev" in str(t["Step"]) for t in told), told)
        # Again: nothing to do. What is in use stays; what is not goes.
        expect(there.finish(there.apply())["plan"] == "nothing-to-do", "again")
        there.host.control(f"in-use {MDEV}")
        there.host.control("clear-log")
        report = there.finish(there.undo())
        expect(report["state"] == "refused" and "a guest" in report["reason"], report)
        expect(there.host.read(".fakesys/log") == "", "refused, and written all the same")
        there.host.control(f"free {MDEV}")
        # The hook was called for a guest that comes: it has a name.
        bus.manager().HookCalled("guest1", MDEV, "migrate")
        report = there.finish(there.undo(MDEV))
        expect(report["state"] == "refused" and "guest guest1" in report["reason"], report)
        bus.manager().HookCalled("guest1", MDEV, "stopped")
        report = there.finish(there.undo())
        expect(report["state"] == "undone" and not report["failed"], report)
        there.expect_as_before("after unplan")
        expect(error_of(there.undo) == "NoSuchPlan", "taken back twice")
        # What nobody should send.
        manager = bus.manager()
        source = programs.snapshot["lpar-a"]
        plain = (programs.source / "xml/examples/guest-without-crypto.xml").read_text()
        for arguments, name in ((("<domain>", source, options()), "InvalidInput"),
                                ((plain, source, options()), "InvalidInput"),
                                ((programs.guest, "{}", options()), "InvalidInput"),
                                ((programs.guest, source, options(mode="fast")), "InvalidInput"),
                                ((programs.guest, source, options(leave_unused="yes")), "InvalidInput"),
                                ((programs.guest, source, options(commands="rm")), "InvalidInput"),
                                (("x" * (5 << 20), "", options()), "LimitsExceeded")):
            found = error_of(manager.ApplyPlan, *arguments)
            expect(found == name, f"ApplyPlan: {found} instead of {name}")
        expect(error_of(manager.UndoPlan, "guest1", options(x=True)) == "InvalidInput", "UndoPlan")
        expect(error_of(manager.UndoPlan, "../../etc/passwd", options()) == "NoSuchPlan", "UndoPlan")
        damaged = there.state / f"plans/{MDEV}.json"
        damaged.write_text("{}")
        expect(error_of(there.undo) == "Failed", "a record that cannot be read is taken for none")
        damaged.unlink()
        # Blocked, also where no state says what the guest has: nothing is begun.
        report = there.finish(there.apply(leave_unused=True))
        expect((report["state"], report["plan"]) == ("refused", "blocked") and report["remaining"], report)
        path = str(manager.ApplyPlan(programs.guest, "", options(mode="detached")))
        report = there.finish(path)
        expect((report["state"], report["plan"]) == ("refused", "undetermined"), report)
        there.expect_as_before("after refusals")


def check_failures(programs, fakesys):
    """Each write fails once; the bus binds too late; somebody cancels."""
    with destination(programs, fakesys) as there:
        there.host.control("clear-log")
        expect(there.finish(there.apply())["state"] == "done", "apply")
        paths = [line.split(":")[0] for line in there.host.read(".fakesys/log").splitlines()]
        expect(len(paths) >= 6, paths)
        there.finish(there.undo())
        for path in sorted(set(paths)):
            for skip in range(paths.count(path)):
                there.host.control(f"fail {path} EIO write skip={skip} times=1")
                report = there.finish(there.apply())
                there.host.control("clear")
                expect(report["state"] == "undone" and path in report["reason"], report)
                there.expect_as_before(f"{path} failed")
        # While a write lasts the service answers; Cancel is heard after it.
        there.host.control("delay bus/ap/apmask 1500 write times=1")
        path = there.apply()
        expect(error_of(there.apply) == "Busy", "two for one mdev")
        expect(error_of(there.bus.object(path, "Plan").GetReport) == "NoReport", "a report of what is not finished")
        there.bus.manager().GetInventory()
        expect(there.state_of(path) == "running", "it did not last")
        there.bus.object(path, "Plan").Cancel()
        report = there.finish(path)
        expect(report["state"] == "undone" and "cancelled" in report["reason"], report)
        there.expect_as_before("cancelled")
        # Somebody else holds the lock; he who is gone does not.
        there.lock.write_text(f"{os.getpid()}\n")
        path = there.apply()
        there.bus.wait(lambda: "lock" in str(there.bus.get(path, "Plan", "Step")))
        there.lock.unlink()
        expect(there.finish(path)["state"] == "done", "after the lock")
        with subprocess.Popen(["true"]) as gone:
            pass
        there.lock.write_text(f"{gone.pid}\n")
        expect(there.finish(there.undo())["state"] == "undone", "a stale lock")
        there.expect_as_before("with locks")


def check_deaths(programs, fakesys):
    """The client dies: it goes on. The service ends: it is undone; the service is killed: undone at its next start."""
    with destination(programs, fakesys) as there:
        there.host.control("delay bus/ap/apmask 1000 write times=1")
        client = there.bus.connect()
        path = there.apply(client)
        client.close()
        there.bus.wait(lambda: error_of(there.state_of, path))
        expect(there.judge() == 0, "it did not come to its end without its client")
        there.finish(there.undo())
        there.expect_as_before("after the client's death")
        there.host.control("delay bus/ap/apmask 1000 write times=1")
        path = there.apply()
        there.bus.wait(lambda: there.records())
        there.bus.service.terminate()
        expect(there.bus.service.wait(20) == 0, "the service does not end")
        there.expect_as_before("ended")
        for attribute, step in (("bus/ap/apmask", "leave adapter"),
                                (f"devices/vfio_ap/matrix/{IDLE}/unassign_adapter", "unassign"),
                                (f"devices/vfio_ap/matrix/{MDEV}/assign_domain", "assign")):
            there.serve()
            there.host.control(f"delay {attribute} 600 write times=1")
            path = there.apply()
            there.bus.wait(lambda: str(there.bus.get(path, "Plan", "Step")).startswith(step) and there.records())
            there.bus.service.kill()
            there.bus.service.wait()
            there.bus.wait(lambda: not there.bus.bus.name_has_owner(NAME))
            expect(there.records(), f"{attribute}: nothing is written down")
            there.serve()
            there.bus.wait(lambda: not there.records())
            there.bus.wait(lambda: not there.lock.exists())
            there.expect_as_before(f"killed at {attribute}")
            there.bus.service.terminate()
            expect(there.bus.service.wait(20) == 0, "the service does not end")
            expect(b"undo: undone" in there.bus.service.stderr.read(), "the undo is not said")


def check_polkit(programs, fakesys):
    with destination(programs, fakesys, system=True) as there:
        name = dbus.service.BusName("org.freedesktop.PolicyKit1", there.bus.bus)
        authority = Authority(there.bus.bus)
        answers = []

        def call(member, *arguments):
            answers.clear()
            getattr(there.bus.manager(), member)(*arguments, reply_handler=lambda *a: answers.append(a[0]),
                                                 error_handler=lambda e: answers.append(e.get_dbus_name()))
            there.bus.wait(lambda: answers)
            return str(answers[0])
        calls = (("ApplyPlan", programs.guest, programs.snapshot["lpar-a"], options(mode="detached")),
                 ("UndoPlan", "guest1", options()))
        there.host.control("clear-log")
        authority.allowed = {"org.vfioap1.inspect"}
        for arguments in calls:
            expect(call(*arguments) == NAME + ".Error.NotAuthorized", arguments[0])
        expect(there.host.read(".fakesys/log") == "", "refused, and written all the same")
        expect({asked[2] for asked in authority.asked} == {"org.vfioap1.manage"}, authority.asked)
        authority.allowed = {"org.vfioap1.manage"}
        for arguments in calls:
            path = call(*arguments)
            expect(path.startswith(f"{ROOT}/plan/"), path)
            expect(there.finish(path)["state"] in ("done", "undone"), arguments[0])
        there.expect_as_before("allowed")
        del name


def check_commands(programs, fakesys):
    """vfioapctl plan --apply and unplan, by the system bus."""
    with destination(programs, fakesys, system=True) as there:
        name = dbus.service.BusName("org.freedesktop.PolicyKit1", there.bus.bus)
        authority = Authority(there.bus.bus)

        def control(*arguments, guest=programs.guest):
            # A file: who refuses its arguments reads nothing.
            file = pathlib.Path(there.bus.directory, "guest.xml")
            file.write_text(guest)
            with file.open() as text:
                child = there.bus.start(programs.control, *arguments, stdin=text, stdout=subprocess.PIPE,
                                        stderr=subprocess.PIPE, text=True)
            there.bus.wait(lambda: child.poll() is not None)
            return child.returncode, child.stdout.read(), child.stderr.read()
        apply = ("plan", "--apply", "--mode", "detached", "-s", programs.hosts / "lpar-a.json", "-d", there.host.root)
        undo = ("unplan", "-d", there.host.root)
        code, out, err = control(*apply, "-")
        expect(code == 2 and not out and "polkit refused" in err, (code, out, err))
        authority.allowed = {"org.vfioap1.manage"}
        authority.asked.clear()
        code, out, err = control(*apply, "-")
        expect((code, err) == (0, "") and out.startswith("DONE: guest1 can come to lpar-b\n"), (code, out, err))
        expect(out.count("\n  done ") == 5 and "not kept for the next boot" in out, out)
        expect([asked[3] for asked in authority.asked] == [1], f"whether a password may be asked for: {authority.asked}")
        expect(there.judge() == 0, "not ready afterwards")
        code, out, err = control(*apply, "-")
        expect((code, out) == (0, "NOTHING TO DO: lpar-b has all that guest1 needs\n"), (code, out, err))
        there.host.control(f"in-use {MDEV}")
        code, out, err = control(*undo, "guest1")
        expect(code == 1 and out.startswith("REFUSED: nothing was changed") and "a guest" in out, (code, out, err))
        there.host.control(f"free {MDEV}")
        code, out, err = control(*undo, "--format", "json", "-")
        expect(code == 0 and json.loads(out)["state"] == "undone", (code, out, err))
        there.expect_as_before("unplan")
        code, out, err = control(*undo, MDEV)
        expect(code == 1 and not out and "nothing was applied" in err, (code, out, err))
        # A step that fails, an undo that fails, a plan that is blocked.
        there.host.control(f"fail devices/vfio_ap/matrix/{MDEV}/assign_domain EIO write")
        code, out, err = control(*apply, "-")
        expect(code == 1 and out.startswith("NOT DONE: lpar-b is as before: ") and "undone   " in out, (code, out, err))
        there.expect_as_before("not done")
        there.host.control("fail bus/ap/apmask EBUSY write skip=1 times=1")
        code, out, err = control(*apply, "-")
        expect(code == 3 and out.startswith("NEEDS YOU") and "failed   " in out, (code, out, err))
        there.host.control("clear")
        code, out, err = control(*undo, "guest1")
        expect(code == 0 and out.startswith("TAKEN BACK: "), (code, out, err))
        there.expect_as_before("what failed is taken back later")
        code, out, err = control(*apply, "--leave-unused", "--format", "json", "-")
        expect(code == 1 and json.loads(out)["plan"] == "blocked", (code, out, err))
        # A name is only a name.
        odd = programs.guest.replace("<name>guest1<", "<name>&lt;a&gt; &amp; 'b\"<")
        code, out, err = control(*apply, "-", guest=odd)
        expect(code == 0 and "<a> & 'b\" can come" in out, (code, out, err))
        code, out, err = control(*undo, "<a> & 'b\"")
        expect(code == 0, (code, out, err))
        # What is no place to apply anything.
        snapshot = programs.hosts / "lpar-b.json"
        for arguments, word in (((*apply[:-1], snapshot, "-"), "snapshot"), ((*undo[:-1], snapshot, "x"), "snapshot"),
                                ((*apply, "--script", "-"), "--script"), (("unplan", "x"), "--destination"),
                                ((*apply[:-1], there.bus.directory, "-"), "serves")):
            code, out, err = control(*arguments)
            expect(code == 2 and not out and word in err, (arguments, code, out, err))
        plain = (programs.source / "xml/examples/guest-without-crypto.xml").read_text()
        expect(control(*apply, "-", guest=plain)[0] == 2, "a guest without a device")
        there.expect_as_before("all of it")
        del name


def check_migrate(programs, fakesys):
    """vfioapctl migrate --prepare. libvirt's test driver cannot detach a device: the guest stays where it is."""
    with destination(programs, fakesys, system=True) as there:
        name = dbus.service.BusName("org.freedesktop.PolicyKit1", there.bus.bus)
        authority = Authority(there.bus.bus)
        node = pathlib.Path(there.bus.directory, "node.xml")
        node.write_text(f"<node>{programs.guest[programs.guest.index('<domain'):]}</node>")
        journal = pathlib.Path(there.bus.directory, "moves")

        def start(*arguments):
            return there.bus.start(programs.control, "migrate", "--journal", journal, *arguments, stdout=subprocess.PIPE,
                                   stderr=subprocess.PIPE, text=True)

        def end(child):
            there.bus.wait(lambda: child.poll() is not None, 90)
            return child.returncode, child.stdout.read(), child.stderr.read()
        move = ("--detached", "--prepare", "-c", f"test://{node}", "-s", programs.hosts / "lpar-a.json", "-d",
                there.host.root, "--desturi", "test:///default", "guest1")

        def journals():
            return list(journal.glob("*.json"))
        code, out, err = end(start(*move))
        expect(code == 1 and "polkit refused" in out and "unplan" not in out, (code, out, err))
        expect(not journals(), "a journal of what was not begun")
        authority.allowed = {"org.vfioap1.manage", "org.vfioap1.inspect"}
        there.host.control("clear-log")
        code, out, err = end(start("--dry-run", *move))
        expect(code == 0 and out.count("would    at lpar-b: ") == 5 and "would    migrate" in out, (code, out, err))
        expect(there.host.read(".fakesys/log") == "", "a dry run writes")
        code, out, err = end(start(*move))
        # Whether the guest still releases it nobody knows; until somebody has looked, the destination stays ready.
        expect(code == 3 and "prepare  done" in out and "cannot detach" in out, (code, out, err))
        expect(there.judge() == 0 and journals(), "not ready, or no journal")
        code, out, err = end(start("--recover", "guest1"))
        expect(code == 1 and "NOT MOVED" in out and "unplan   " in out, (code, out, err))
        there.expect_as_before("not moved")
        expect(not journals(), "a journal stays")
        # A plan that fails, and one that nobody can make.
        there.host.control("fail bus/ap/apmask EIO write times=1")
        code, out, err = end(start(*move))
        expect(code == 1 and "could not be made ready" in out and "detaching" not in out, (code, out, err))
        there.expect_as_before("not prepared")
        there.host.control(f"in-use {IDLE}")
        code, out, err = end(start(*move))
        expect(code == 1 and "BLOCKED" in out and "prepare" not in out.split("BLOCKED")[0], (code, out, err))
        there.host.control(f"free {IDLE}")
        # Ctrl-C, and the death of the mover, while the destination is made ready.
        for number in (signal.SIGINT, signal.SIGKILL):
            there.host.control("delay bus/ap/apmask 1500 write times=1")
            child = start(*move)
            there.bus.wait(lambda: there.records() and journals())
            child.send_signal(number)
            code, out, err = end(child)
            if number == signal.SIGINT:
                expect(code == 1 and "cancelled" in out, (code, out, err))
            else:
                there.bus.wait(lambda: there.judge() == 0)
                expect(journals(), "no journal of what a dead mover has begun")
                there.bus.wait(lambda: not there.lock.exists())
                code, out, err = end(start("--recover", "guest1"))
                expect(code == 1 and "ended at the step prepare" in out and "unplan" in out, (code, out, err))
            there.expect_as_before(f"signal {number}")
            expect(not journals(), f"signal {number}: a journal stays")
        code, out, err = end(start("--keep-prepared", *move))
        code, out, err = end(start("--recover", "--keep-prepared", "guest1"))
        expect(code == 1 and "NOT MOVED" in out and there.judge() == 0, (code, out, err))
        del name


def check_no_state(programs, fakesys):
    with Bus(programs) as bus:
        bus.serve()
        expect(error_of(bus.manager().ApplyPlan, programs.guest, programs.snapshot["lpar-b"], options()) ==
               "NoStateDirectory", "ApplyPlan")
        expect(error_of(bus.manager().UndoPlan, "guest1", options()) == "NoStateDirectory", "UndoPlan")


def main(service, control, check, fakesys, source):
    reason = why_not(fakesys) or ("" if shutil.which("dbus-daemon") else "dbus-daemon is missing")
    if reason:
        print(f"skipped: {reason}")
        return SKIP
    DBusGMainLoop(set_as_default=True)
    programs = Programs(service, control, check, source)
    for part in (check_apply, check_failures, check_deaths, check_polkit, check_commands, check_migrate,
                 check_no_state):
        try:
            part(programs, fakesys)
        except (AssertionError, TimeoutError, ValueError, dbus.DBusException) as error:
            failures.append(f"{part.__name__}: {error!r}")
    if not jsonschema:
        print("without python3-jsonschema the reports are not held against their schema")
    print("\n".join(failures[:20]) or "plans are carried out and taken back")
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
