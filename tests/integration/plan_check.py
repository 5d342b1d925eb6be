#!/usr/bin/python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""Plans for every guest and pair of example hosts: what they say, and what their scripts do on a fake kernel.

usage: plan_check.py VFIOAPCTL VFIOAP-CHECK FAKESYS HOSTS SCHEMA
Without a fake kernel (see fakesys_check.py) the scripts are not run, and the test counts as skipped. Without
python3-jsonschema or shellcheck those looks are left out, and it says so.
"""
import json
import os
import pathlib
import shutil
import subprocess
import sys
import tempfile

sys.dont_write_bytecode = True
from fakesys_check import SKIP, mounted, why_not  # noqa: E402

try:
    import jsonschema
except ImportError:
    jsonschema = None

DOMAIN = ("<domain><name>guest</name><devices><hostdev mode='subsystem' type='mdev' model='vfio-ap'><source>"
          "<address uuid='{}'/></source></hostdev></devices></domain>")
MODES = (["--mode", "detached"], ["--mode", "native", "--profile", "compare"],
         ["--mode", "native", "--profile", "restore"])
EXIT = {"nothing-to-do": 0, "complete": 0, "blocked": 1, "undetermined": 3}
# modprobe is the kernel's; the others remember what they were called with.
MODPROBE = '#!/bin/sh\n[ "$1" = vfio_ap ] && echo "load vfio_ap" >"$SYSFS_ROOT/.fakesys/control"\n'
TOOL = '#!/bin/sh\necho "${0##*/} $*" >>"$TOOL_LOG"\n'
failures = 0


def fail(text):
    global failures
    failures += 1
    print(f"FAILED: {text}")


class Case:
    """A guest of one host, and the host it is to go to."""

    def __init__(self, programs, source, destination, mdev, mode):
        self.control, self.check = programs
        self.source, self.destination, self.mdev, self.mode = source, destination, mdev, mode
        self.name = f"{mdev} {source.stem} -> {destination.stem} {' '.join(mode)}"

    def run(self, program, *options, destination=None, environment=None):
        return subprocess.run([*program, "-s", self.source, "-d", destination or self.destination, *self.mode, *options,
                               "-"], input=DOMAIN.format(self.mdev), capture_output=True, text=True, check=False,
                              env={**os.environ, **(environment or {})})

    def plan(self, *options):
        return self.run([self.control, "plan"], *options)

    def judge(self, destination=None):
        return self.run([self.check], "-q", destination=destination).returncode


def contradictions(case, done, plan, verdict):
    """What a schema cannot say."""
    state = plan["state"]
    if done.returncode != EXIT[state]:
        yield f"state {state}, but exit code {done.returncode}"
    if bool(plan["steps"]) != (state == "complete") or bool(plan["remaining"]) != (state in ("blocked", "undetermined")):
        yield f"state {state} with {len(plan['steps'])} steps and {len(plan['remaining'])} obstacles"
    if verdict == 0 and state in ("blocked", "undetermined"):
        yield f"the check is green, but the plan is {state}"
    if verdict != 0 and state == "nothing-to-do":
        yield f"the check ends with {verdict}, but there is nothing to do"
    for step in plan["steps"]:
        if not step["commands"]:
            yield f"a step without commands: {step['text']}"
        if step["persistent"] != bool(step["persistent_commands"]):
            yield f"persistent or not? {step['text']}"
    kinds = [step["step"] for step in plan["steps"]]
    order = ["load-driver", "configure", "release", "reserve", "wait", "create", "fill", "allow"]
    if kinds != sorted(kinds, key=order.index):
        yield f"order {kinds}"
    for obstacle in plan["remaining"]:
        if obstacle["rule"] == "queue.assigned-elsewhere" and not obstacle["owner"]:
            yield "queues of an owner without a name"


def run_script(case, fakesys, script, persistent, directory):
    """On a fake kernel: green after it, and no write the second time."""
    environment = {**os.environ, "PATH": f"{directory}/bin:{os.environ['PATH']}", "TOOL_LOG": f"{directory}/tools.log",
                   "WAIT": "5"}
    tools = pathlib.Path(directory, "tools.log")
    tools.write_text("")
    with mounted(fakesys, case.destination) as host:
        environment["SYSFS_ROOT"] = str(host.root)
        # A sysfs root is read in part, a snapshot is all there: the same plan all the same.
        steps = [[json.loads(case.run([case.control, "plan"], "--format", "json", destination=where).stdout)[member]
                  for member in ("state", "steps")] for where in (case.destination, host.root)]
        if steps[0] != steps[1]:
            fail(f"{case.name}: another plan for the sysfs root: {steps}")
        for attempt in (1, 2):
            done = subprocess.run(["sh", "-"], input=script, capture_output=True, text=True, check=False,
                                  env={**environment, "KEEP": "no"})
            if done.returncode != 0 or done.stderr:
                fail(f"{case.name}: run {attempt} of the script: {done.returncode}: {done.stdout}{done.stderr}")
                return
            if attempt == 2 and host.read(".fakesys/log"):
                fail(f"{case.name}: the second run writes: {host.read('.fakesys/log')}")
            if case.judge(host.root) != 0:
                fail(f"{case.name}: after run {attempt} of the script the check is not green:\n" + done.stdout +
                     case.run([case.check], destination=host.root).stdout)
                return
            host.control("clear-log")
        again = case.run([case.control, "plan"], destination=host.root)
        if not again.stdout.startswith("NOTHING TO DO"):
            fail(f"{case.name}: a plan after the script has more to do: {again.stdout}")
        if tools.read_text():
            fail(f"{case.name}: on a fake root it is kept all the same: {tools.read_text()}")
        # What is kept, in earnest, is what the plan says.
        subprocess.run(["sh", "-"], input=script, capture_output=True, text=True, check=False,
                       env={**environment, "KEEP": "yes"})
        for command in persistent:
            words = command.split(" 2>")[0].split()
            if words[0] in ("chzdev", "driverctl", "mdevctl") and " ".join(words) not in tools.read_text():
                fail(f"{case.name}: '{command}' is not run: {tools.read_text()}")


def main():
    control, check, fakesys, hosts, schema = sys.argv[1:]
    reason = why_not(fakesys)
    validator = jsonschema and jsonschema.Draft202012Validator(json.loads(pathlib.Path(schema).read_text()))
    shellcheck = shutil.which("shellcheck")
    states = dict.fromkeys(EXIT, 0)
    kinds = set()
    scripts = 0
    with tempfile.TemporaryDirectory() as directory:
        os.mkdir(f"{directory}/bin")
        for name, text in {"modprobe": MODPROBE, "mdevctl": TOOL, "chzdev": TOOL, "driverctl": TOOL}.items():
            pathlib.Path(directory, "bin", name).write_text(text)
            os.chmod(f"{directory}/bin/{name}", 0o755)
        files = sorted(pathlib.Path(hosts).glob("*.json"))
        mdevs = {file: [mdev["uuid"] for mdev in json.loads(file.read_text())["mdevs"]] for file in files}
        checked = set()
        for case in [Case((control, check), source, destination, mdev, mode) for source in files
                     for destination in files if source != destination for mdev in mdevs[source] for mode in MODES]:
            done = case.plan("--format", "json")
            try:
                plan = json.loads(done.stdout)
            except ValueError:
                fail(f"{case.name}: no plan: {done.stderr}")
                continue
            if validator:
                for error in validator.iter_errors(plan):
                    fail(f"{case.name}: {error.json_path}: {error.message}")
            for text in contradictions(case, done, plan, case.judge()):
                fail(f"{case.name}: {text}")
            states[plan["state"]] += 1
            kinds |= {step["step"] for step in plan["steps"]}
            if plan["state"] == "nothing-to-do" or (plan["state"] != "complete" and plan["state"] in checked):
                continue
            checked.add(plan["state"])
            script = case.plan("--script").stdout
            if shellcheck:
                found = subprocess.run([shellcheck, "-s", "sh", "-"], input=script, capture_output=True, text=True,
                                       check=False)
                if found.returncode != 0:
                    fail(f"{case.name}: {found.stdout}")
            if plan["state"] != "complete":
                done = subprocess.run(["sh", "-"], input=script, capture_output=True, text=True, check=False)
                if done.returncode != 1 or done.stdout or plan["remaining"][0]["rule"] not in done.stderr:
                    fail(f"{case.name}: the script of a plan that is {plan['state']}: {done}")
            elif not reason and all(step["host"] == "destination" for step in plan["steps"]):
                scripts += 1
                persistent = [command for step in plan["steps"] for command in step["persistent_commands"]]
                run_script(case, fakesys, script, persistent, directory)
    for state in ("nothing-to-do", "complete", "blocked"):
        if not states[state]:
            fail(f"no pair of hosts with a plan that is {state}")
    print(f"{states}, {scripts} scripts run, steps {sorted(kinds)}, {failures} failures")
    for name, there in {"python3-jsonschema": jsonschema, "shellcheck": shellcheck}.items():
        if not there:
            print(f"without {name}")
    if failures:
        return 1
    if reason:
        print(f"skipped: no script was run: {reason}")
        return SKIP
    return 0


if __name__ == "__main__":
    sys.exit(main())
