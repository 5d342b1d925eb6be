#!/usr/bin/python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""vfioapd and the real polkitd, with the actions that are shipped, on a system bus of the test's own.

usage: polkitd_check.py VFIOAPD VFIOAPCTL VFIOAP-CHECK SOURCE-DIRECTORY
Exit 77: something that it needs is missing.
"""
import json
import os
import pathlib
import shutil
import subprocess
import sys

import service_check
from service_check import MDEV, NAME, ROOT, Bus, expect, failures

# Without logind every caller is one that allow_any is for. root is asked nothing by polkit.
RULES = """
polkit.addAdminRule(function(action, subject) { return ["unix-user:root"]; });
polkit.addRule(function(action, subject) {
    if (action.id.indexOf("org.vfioap1.") != 0) return;
    if (subject.user == "daemon" && action.id == "org.vfioap1.manage") return polkit.Result.YES;
    if (subject.user == "games") return polkit.Result.NO;
    if (subject.user == "bin")
        return action.id == "org.vfioap1.manage" ? polkit.Result.YES : polkit.Result.NO;
});
"""

# A client with an authentication agent of its own, which counts how often a password would be asked for, and knows
# none. Calls without the message's flag, then with it; prints what came of each.
CLIENT = """
import json, os, sys
from gi.repository import Gio, GLib
address, member, signature = sys.argv[1:4]
flags = Gio.DBusConnectionFlags
bus = Gio.DBusConnection.new_for_address_sync(
    address, flags.AUTHENTICATION_CLIENT | flags.MESSAGE_BUS_CONNECTION, None, None)
asked = []
agent = Gio.DBusNodeInfo.new_for_xml('''<node><interface name="org.freedesktop.PolicyKit1.AuthenticationAgent">
  <method name="BeginAuthentication"><arg type="s"/><arg type="s"/><arg type="s"/><arg type="a{ss}"/><arg type="s"/>
  <arg type="a(sa{sv})"/></method><method name="CancelAuthentication"><arg type="s"/></method></interface></node>''')


def called(connection, sender, path, interface, method, arguments, invocation):
    if method == "BeginAuthentication":
        asked.append(arguments.unpack()[0])
    invocation.return_dbus_error("org.freedesktop.PolicyKit1.Error.Failed", "nobody is there")


bus.register_object("/agent", agent.interfaces[0], called, None, None)
start = int(open("/proc/self/stat").read().rsplit(")", 1)[1].split()[19])
subject = ("unix-process", {"pid": GLib.Variant("u", os.getpid()), "start-time": GLib.Variant("t", start)})
bus.call_sync("org.freedesktop.PolicyKit1", "/org/freedesktop/PolicyKit1/Authority",
              "org.freedesktop.PolicyKit1.Authority", "RegisterAuthenticationAgent",
              GLib.Variant("((sa{sv})ss)", (subject, "C", "/agent")), None, Gio.DBusCallFlags.NONE, -1, None)
results = []
loop = GLib.MainLoop()
for interactive in (False, True):
    def done(connection, result):
        try:
            connection.call_finish(result)
            results.append([None, list(asked)])
        except GLib.Error as error:
            results.append([Gio.DBusError.get_remote_error(error), list(asked)])
        loop.quit()
    arguments = GLib.Variant(signature, tuple(json.loads(sys.argv[4]))) if signature else None
    bus.call("org.vfioap1", "/org/vfioap1", "org.vfioap1.Manager", member, arguments, None,
             Gio.DBusCallFlags.ALLOW_INTERACTIVE_AUTHORIZATION if interactive else Gio.DBusCallFlags.NONE, 60000,
             None, done)
    loop.run()
print(json.dumps(results))
"""


def start_polkitd(bus, programs, polkitd):
    """With only our actions and rules: mounted over the system's, for it alone."""
    directory = pathlib.Path(bus.directory)
    os.chmod(directory, 0o711)
    for name in ("actions", "rules", "none"):
        (directory / name).mkdir(mode=0o755)
    shutil.copy(programs.source / "dbus/org.vfioap1.policy", directory / "actions")
    (directory / "rules/50-test.rules").write_text(RULES)
    script = """set -e
        mount --bind "$0/actions" /usr/share/polkit-1/actions
        mount --bind "$0/none" /usr/share/polkit-1/rules.d
        if test -d /etc/polkit-1/rules.d; then
            mount --bind "$0/rules" /etc/polkit-1/rules.d
        else
            mount --bind "$0/rules" /usr/share/polkit-1/rules.d
        fi
        exec "$1" --no-debug"""
    bus.start("unshare", "--mount", "--propagation", "private", "sh", "-c", script, directory, polkitd,
              stderr=subprocess.DEVNULL)
    bus.wait(lambda: bus.bus.name_has_owner("org.freedesktop.PolicyKit1"))


def call_as(bus, user, member, *arguments):
    """What it says of an error, or None; another program of another user."""
    child = bus.start("setpriv", "--reuid", user, "--regid", "nogroup", "--clear-groups", "busctl",
                      f"--address={bus.address}", "--quiet", "call", NAME, ROOT, f"{NAME}.Manager", member, *arguments,
                      stderr=subprocess.PIPE)
    error = child.communicate(timeout=60)[1].decode()
    return None if child.returncode == 0 else error


def main(service, control, check, source):
    polkitd = next((p for p in ("/usr/lib/polkit-1/polkitd", "/usr/libexec/polkitd") if os.access(p, os.X_OK)), None)
    missing = [name for name in ("dbus-daemon", "unshare", "setpriv", "busctl") if not shutil.which(name)]
    if os.geteuid() != 0:
        missing.append("root, who can become others,")
    if not polkitd:
        missing.append("polkitd")
    if missing:
        print(f"skipped: {missing[0]} is missing")
        return 77
    if subprocess.run(["unshare", "--mount", "true"], check=False, capture_output=True).returncode != 0:
        print("skipped: no mount namespace of its own is to be had")
        return 77
    programs = service_check.Programs(service, control, check, source)
    migrate = ("OpenMigration", "ssa{sv}", MDEV, "source", "0")
    with Bus(programs, system=True) as bus:
        start_polkitd(bus, programs, polkitd)
        bus.serve()
        expect(call_as(bus, "nobody", "GetInventory") is None, "everybody may inspect")
        expect("authentication is needed" in (call_as(bus, "nobody", *migrate) or ""), "nobody but admins may manage")
        expect(call_as(bus, "daemon", *migrate) is None, "a rule says yes")
        expect("polkit refused" in (call_as(bus, "games", "GetInventory") or ""), "a rule says no")
        expect("polkit refused" in (call_as(bus, "games", *migrate) or ""), "a rule says no to manage")
        expect(call_as(bus, "bin", "GetInventory") is None, "manage implies inspect")
        expect(call_as(bus, "root", *migrate) is None, "root")
        # Whether a person is asked, is said by the message's flag; for what is refused anyway, nobody is.
        for user, member, signature, arguments, asked in (
                ("nobody", "OpenMigration", "(ssa{sv})", [MDEV, "source", {}], ["org.vfioap1.manage"]),
                ("games", "GetInventory", "", [], [])):
            child = bus.start("setpriv", "--reuid", user, "--regid", "nogroup", "--clear-groups", sys.executable, "-c",
                              CLIENT, bus.address, member, signature, json.dumps(arguments), stdout=subprocess.PIPE,
                              stderr=subprocess.PIPE)
            out, error = child.communicate(timeout=120)
            expect(child.returncode == 0, error)
            refused = NAME + ".Error.NotAuthorized"
            expect(child.returncode == 0 and json.loads(out) == [[refused, []], [refused, asked]], (user, out))
        expect(bus.service.poll() is None, "the service has ended")
    print("\n".join(failures[:20]) or "polkitd: as it should be")
    return 1 if failures else 0


if __name__ == "__main__":
    service_check.DBusGMainLoop(set_as_default=True)
    sys.exit(main(*sys.argv[1:]))
