#!/usr/bin/python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""Runs the end-to-end tests; see tools/e2e for how it is called."""
import argparse
import fnmatch
import multiprocessing
import multiprocessing.connection
import os
import pathlib
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import traceback
import xml.etree.ElementTree as ET

HERE = pathlib.Path(__file__).resolve().parent
SOURCE = HERE.parent.parent
sys.path.insert(0, str(HERE))

import images  # noqa: E402

COMMANDS = ("unshare", "nsenter", "mount", "ip", "dbus-daemon", "busctl", "libvirtd", "virsh", "qemu-system-s390x",
            "xmllint", "setpriv")
PREFIX = "vfioap-e2e."
# For one test, s: nothing waits longer, whatever happens.
LONGEST = 300


def missing():
    """Why the tests cannot run here; empty: they can."""
    if os.geteuid() != 0:
        return "root is needed for namespaces"
    for command in COMMANDS:
        if not shutil.which(command, path=os.environ.get("PATH", "") + ":/usr/sbin:/sbin"):
            return f"{command} is missing"
    try:
        import cases  # noqa: F401
        from node import POLKITD
    except ImportError as error:
        return f"{error} (python3-dbus, python3-gi)"
    if not any(os.path.exists(path) for path in POLKITD):
        return "polkitd is missing"
    with tempfile.TemporaryDirectory() as empty:
        # What a container may forbid.
        tried = subprocess.run(["unshare", "--mount", "--net", "--uts", "--pid", "--fork", "--propagation", "private",
                                "mount", "-t", "overlay", "-o", f"lowerdir={empty}:/sys/bus", "overlay", "/sys/bus"],
                               stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)
    if tried.returncode != 0:
        return f"no namespaces or overlays here: {tried.stderr.strip().splitlines()[-1]}"
    return ""


def work_directory():
    """In memory where there is some; what an earlier run had to leave is taken away."""
    parent = pathlib.Path("/dev/shm" if os.access("/dev/shm", os.W_OK) else tempfile.gettempdir())
    parent = pathlib.Path(os.environ.get("TMPDIR", parent))
    for old in parent.glob(PREFIX + "*"):
        owner = old.name.removeprefix(PREFIX).partition(".")[0]
        if owner.isdigit() and not os.path.exists(f"/proc/{owner}") and not (old / "keep").exists():
            shutil.rmtree(old, ignore_errors=True)
    directory = pathlib.Path(tempfile.mkdtemp(prefix=f"{PREFIX}{os.getpid()}.", dir=parent))
    # polkitd is another user.
    directory.chmod(0o755)
    return directory


class Result:
    def __init__(self, name):
        self.name, self.state, self.seconds, self.detail, self.logs = name, "skipped", 0.0, "", {}


def interrupted(number, _):
    if number == signal.SIGALRM:
        raise TimeoutError(f"not done after {LONGEST} s")
    sys.exit(128 + number)


def run_test(test, directory, programs, files, keep):
    from cases import Case
    result = Result(test.name)
    case = Case(directory, programs, files)
    begin = time.monotonic()
    signal.alarm(LONGEST)
    try:
        directory.mkdir()
        test.function(case)
        result.state = "ok"
        if test.expected_failure:
            result.detail = "it was expected to fail: take the mark away"
    except images.Missing as error:
        result.detail = str(error)
    except Exception as error:  # pylint: disable=broad-except  # whatever it is, it is this test's
        signal.alarm(0)
        result.logs = case.logs()
        if test.expected_failure:
            result.detail = f"expected to fail: {test.expected_failure}"
            result.logs = {}
        else:
            result.state, result.detail = "FAILED", f"{type(error).__name__}: {error}"
            result.logs = {"traceback": traceback.format_exc(), **result.logs}
    finally:
        signal.alarm(0)
        case.close()
        if not keep:
            shutil.rmtree(directory, ignore_errors=True)
    result.seconds = time.monotonic() - begin
    return result


def run_apart(sender, test, *arguments):
    """In a process of its own: sends the result of a test, and what it adds to the table of ends."""
    from cases import ENDS
    ENDS.clear()
    sender.send((run_test(test, *arguments), list(ENDS)))


def run_tests(tests, reason, options, directory, files):
    """As they end: each result, with its rows for the table of ends."""
    if reason:
        for test in tests:
            result = Result(test.name)
            result.detail = reason
            yield result, []
        return
    # The longest are moves.
    waiting = sorted(tests, key=lambda test: not test.name.startswith("move-")) if options.jobs > 1 else list(tests)
    context = multiprocessing.get_context("fork")
    running = {}  # by where its result comes: the test and its process
    while waiting or running:
        while waiting and len(running) < options.jobs:
            test = waiting.pop(0)
            receiver, sender = context.Pipe(duplex=False)
            process = context.Process(target=run_apart, args=(sender, test, directory / test.name,
                                                              options.build.resolve(), files, options.keep))
            process.start()
            sender.close()
            running[receiver] = test, process
        for receiver in multiprocessing.connection.wait(running):
            test, process = running.pop(receiver)
            try:
                outcome = receiver.recv()
            except EOFError:
                result = Result(test.name)
                result.state, result.detail = "FAILED", "its process ended without a result"
                outcome = result, []
            process.join()
            yield outcome


def show(result, lines=25):
    print(f"{result.state:<7} {result.name:<40} {result.seconds:4.0f} s{'   ' + result.detail if result.detail else ''}",
          flush=True)
    for name, text in result.logs.items():
        print(f"    --- {name}")
        for line in text.strip().splitlines()[-lines:]:
            print(f"    {line[:400]}")


def write_logs(result, directory):
    """All of them; what is printed is only the end of each."""
    target = directory / result.name
    shutil.rmtree(target, ignore_errors=True)
    for name, text in result.logs.items():
        target.mkdir(parents=True, exist_ok=True)
        (target / name.replace("/", "-").replace(" ", "-")).write_text(text)


def write_junit(file, results):
    suite = ET.Element("testsuite", name="e2e", tests=str(len(results)),
                       failures=str(sum(r.state == "FAILED" for r in results)),
                       skipped=str(sum(r.state == "skipped" for r in results)))
    for result in results:
        case = ET.SubElement(suite, "testcase", name=result.name, classname="e2e", time=f"{result.seconds:.3f}")
        if result.state == "FAILED":
            # What a log has of control characters is nothing for XML.
            ET.SubElement(case, "failure", message=ascii(result.detail))
        elif result.state == "skipped":
            ET.SubElement(case, "skipped", message=ascii(result.detail))
    ET.ElementTree(suite).write(file, encoding="unicode")


def main():
    parser = argparse.ArgumentParser(prog="tools/e2e", description="Runs tests with real libvirtd, QEMU and guests.")
    parser.add_argument("name", nargs="*", help="a test, or a pattern such as 'state-*'; default: all")
    parser.add_argument("--show", action="store_true", help="print a session: a migration refused, mended and done")
    parser.add_argument("--list", action="store_true", help="print the names of the tests")
    parser.add_argument("--build", default=SOURCE / "build/release", type=pathlib.Path, metavar="DIR",
                        help="where the programs are (build/release)")
    parser.add_argument("--keep", action="store_true", help="leave the files of each test, and say where")
    parser.add_argument("--logs", default=SOURCE / "build/e2e/logs", type=pathlib.Path, metavar="DIR",
                        help="where the logs of what fails go (build/e2e/logs)")
    parser.add_argument("--jobs", type=int, default=1, metavar="N",
                        help="run so many tests side by side (1); most of their time is waiting")
    parser.add_argument("--images", action="store_true",
                        help="only make what the guests boot from, for a place that has no compiler and no apt")
    parser.add_argument("--junit", type=pathlib.Path, metavar="FILE", help="write the results there, too")
    options = parser.parse_args()
    if options.images:
        try:
            images.Images(SOURCE / "build/e2e")
        except images.Missing as error:
            print(f"skipped: {error}")
            return 77
        return 0

    reason = missing()
    if reason and "python3-" in reason:
        print(f"skipped: {reason}")
        return 77
    from cases import ENDS, TESTS, table_of_ends
    import explain_tests  # noqa: F401
    import hook_tests  # noqa: F401
    import move_tests  # noqa: F401
    import state_tests  # noqa: F401
    if options.show:
        from cases import Case
        Case.shows, options.name = True, ["hook-remedy"]
    for name in options.name:
        if not fnmatch.filter(TESTS, name):
            parser.error(f"no test {name}")
    tests = [test for test in TESTS.values()
             if not options.name or any(fnmatch.fnmatch(test.name, name) for name in options.name)]
    if options.list:
        print("\n".join(test.name for test in tests))
        return 0
    for program in ("vfioapd", "vfioapctl", "vfioap-check", "vfioap-hook", "vfioap-fake-kernel"):
        if not reason and not (options.build / program).exists():
            parser.error(f"{options.build} has no {program}")

    for number in (signal.SIGTERM, signal.SIGHUP, signal.SIGINT, signal.SIGALRM):
        signal.signal(number, interrupted)
    results = []
    directory = work_directory()
    try:
        if options.keep:
            (directory / "keep").touch()
        try:
            files = None if reason else images.Images(SOURCE / "build/e2e")
        except images.Missing as error:
            reason = str(error)
        for result, ends in run_tests(tests, reason, options, directory, files):
            results.append(result)
            ENDS.extend(ends)
            if options.jobs > 1 and not sys.stdout.isatty():
                print(f"[{len(results)}/{len(tests)}]")
            show(result)
            write_logs(result, options.logs)
    finally:
        # Each takes down what it has set up.
        for process in multiprocessing.active_children():
            process.terminate()
            process.join()
        if options.keep:
            print(f"kept: {directory}")
        else:
            shutil.rmtree(directory, ignore_errors=True)
    if options.junit:
        write_junit(options.junit, results)
    for line in table_of_ends():
        print(line)
    failed = sum(result.state == "FAILED" for result in results)
    skipped = sum(result.state == "skipped" for result in results)
    print(f"{len(results) - failed - skipped} passed, {failed} failed, {skipped} skipped")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
