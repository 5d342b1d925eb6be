# SPDX-License-Identifier: LGPL-2.1-or-later
"""A node: one host of the tests, with its own libvirtd, system bus, polkitd, vfioapd and fake sysfs.

It is a machine as far as these programs can see: same paths, same bus, same files. All of it lives below one
directory, and ends with close().
"""
import json
import os
import pathlib
import shutil
import signal
import subprocess
import tempfile
import time
import uuid

import dbus
import dbus.bus
from dbus.mainloop.glib import DBusGMainLoop
from gi.repository import GLib

from holder import SYSFS
from images import HERE
from namespaces import Namespaces

SOURCE = HERE.parent.parent
EMULATOR = "/usr/bin/qemu-system-s390x"
POLKITD = ("/usr/lib/polkit-1/polkitd", "/usr/lib/policykit-1/polkitd", "/usr/libexec/polkitd")
NETWORK = {"host-a": "192.0.2.1", "host-b": "192.0.2.2"}
# Generous: the machine may be busy with other things. What works takes a small part of it.
PATIENCE = 60

BUS_CONFIG = """<!DOCTYPE busconfig PUBLIC "-//freedesktop//DTD D-Bus Bus Configuration 1.0//EN"
 "http://www.freedesktop.org/standards/dbus/1.0/busconfig.dtd">
<busconfig>
  <type>system</type>
  <listen>unix:path=/run/dbus/system_bus_socket</listen>
  <auth>EXTERNAL</auth>
  <policy context="default">
    <allow user="*"/>
    <deny own="*"/>
    <deny send_type="method_call"/>
    <allow send_type="signal"/>
    <allow send_requested_reply="true" send_type="method_return"/>
    <allow send_requested_reply="true" send_type="error"/>
    <allow receive_type="method_call"/>
    <allow receive_type="method_return"/>
    <allow receive_type="error"/>
    <allow receive_type="signal"/>
    <allow send_destination="org.freedesktop.DBus"/>
  </policy>
  <include>{source}/dbus/org.vfioap1.conf</include>
  <include ignore_missing="yes">/usr/share/dbus-1/system.d/org.freedesktop.PolicyKit1.conf</include>
</busconfig>
"""
LIBVIRTD_CONFIG = """auth_unix_ro = "none"
auth_unix_rw = "none"
auth_tcp = "none"
listen_tls = 0
listen_tcp = 1
host_uuid = "{uuid}"
log_filters = "3:object 3:event 3:rpc 3:util"
log_outputs = "2:file:/var/log/libvirt/libvirtd.log"
"""
QEMU_CONFIG = """user = "root"
group = "root"
security_driver = "none"
remember_owner = 0
namespaces = []
cgroup_controllers = []
stdio_handler = "file"
"""


# Signals arrive in wait_for().
DBusGMainLoop(set_as_default=True)


class Failed(Exception):
    """What was expected did not happen."""


def wait_for(condition, what="", seconds=PATIENCE):
    """What the condition gives once that is true. Signals of the buses arrive meanwhile."""
    deadline = time.monotonic() + seconds
    while True:
        while GLib.MainContext.default().iteration(False):
            pass
        value = condition()
        if value:
            return value
        if time.monotonic() > deadline:
            raise Failed(f"waited {seconds} s in vain: {what}")
        time.sleep(0.05)


def tree_of(directory):
    """{path: what is there}: the text of a file, the target of a link, None for a directory."""
    tree = {}
    for path in directory.rglob("*"):
        name = str(path.relative_to(directory))
        if path.is_symlink():
            tree[name] = pathlib.Path(os.readlink(path))
        else:
            tree[name] = None if path.is_dir() else path.read_text(errors="surrogateescape")
    return tree


def remove(path):
    if path.is_dir() and not path.is_symlink():
        try:
            path.rmdir()
        except OSError:
            pass  # what is bound is in it
    else:
        path.unlink()


class Sysfs:
    """The fake tree of a node, changed as the kernel would change it."""

    def __init__(self, directory, vfioapctl):
        self.directory, self.vfioapctl = directory, vfioapctl

    def path(self, name):
        return self.directory / name.lstrip("/").removeprefix("sys/")

    def read(self, name):
        return self.path(name).read_text()

    def write(self, name, text):
        """The whole attribute at once: nobody reads half of it."""
        new = self.path(name).with_name(".new")
        new.write_text(text)
        os.replace(new, self.path(name))

    def queue_status(self, queue):
        return self.read(f"devices/ap/card{queue[:2]}/{queue}/status").strip()

    def set_queue_status(self, queue, status):
        name = f"devices/ap/card{queue[:2]}/{queue}/status"
        if self.path(name).exists():
            self.write(name, status + "\n")

    def queues(self, mdev):
        return self.read(f"bus/mdev/devices/{mdev}/matrix").split()

    def release(self):
        """No guest has any of it: a recorded host was taken while guests ran."""
        for mdev in self.path("bus/mdev/devices").iterdir():
            for queue in self.queues(mdev.name):
                self.set_queue_status(queue, "assigned")

    def become(self, host):
        """The host that this is from now on: what is in a snapshot. Where the tree is bound, directories stay."""
        with tempfile.TemporaryDirectory(dir=self.directory.parent) as work:
            snapshot, new = pathlib.Path(work, "host.json"), pathlib.Path(work, "sys")
            snapshot.write_text(json.dumps(host))
            subprocess.run([self.vfioapctl, "materialize", snapshot, new], check=True)
            before, after = tree_of(self.directory), tree_of(new)
            bound = {str(path) for name in SYSFS for path in (pathlib.Path(name), *pathlib.Path(name).parents)}
            for name in sorted(before.keys() - after.keys() - bound, reverse=True):
                remove(self.directory / name)
            for name, there in sorted(after.items()):
                old = before.get(name)
                if name in before and old == there:
                    continue
                if name in before and (old is None or there is None or isinstance(there, pathlib.Path)):
                    remove(self.directory / name)
                if there is None:
                    (self.directory / name).mkdir(exist_ok=True)
                elif isinstance(there, pathlib.Path):
                    (self.directory / name).symlink_to(there)
                else:
                    self.write(name, there)

    def assign(self, mdev, adapters, domains, control_domains=None):
        """Gives the mdev these and no others; all of them are taken to be there and bound to vfio_ap."""
        control_domains = domains if control_domains is None else control_domains
        before = self.queues(mdev)
        status = next((self.queue_status(queue) for queue in before), "assigned")
        queues = [f"{adapter:02x}.{domain:04x}" for adapter in sorted(adapters) for domain in sorted(domains)]
        masks = [f"0x{sum(1 << (255 - bit) for bit in bits):064x}" for bits in (adapters, domains, control_domains)]
        text = "".join(queue + "\n" for queue in queues)
        directory = f"bus/mdev/devices/{mdev}/"
        for queue in set(before) - set(queues):
            self.set_queue_status(queue, "unassigned")
        for queue in queues:
            self.set_queue_status(queue, status)
        self.write(directory + "ap_config", ",".join(masks) + "\n")
        self.write(directory + "control_domains", "".join(f"{domain:04x}\n" for domain in sorted(control_domains)))
        self.write(directory + "matrix", text)
        self.write(directory + "guest_matrix", text)


class Bus:
    """The node's system bus as a client sees it, and vfioapd's objects on it."""

    NAME, ROOT = "org.vfioap1", "/org/vfioap1"

    def __init__(self, address):
        self.connection = dbus.bus.BusConnection(address)
        self.connection.set_exit_on_disconnect(False)

    @classmethod
    def mdev_path(cls, mdev):
        return f"{cls.ROOT}/mdev/{mdev.replace('-', '_')}"

    def call(self, path, interface, method, *arguments):
        target = self.connection.get_object(self.NAME, path, introspect=False)
        return target.get_dbus_method(method, f"{self.NAME}.{interface}")(*arguments)

    def get(self, path, interface, name):
        target = self.connection.get_object(self.NAME, path, introspect=False)
        return target.Get(f"{self.NAME}.{interface}", name, dbus_interface=dbus.PROPERTIES_IFACE)

    def mdev(self, mdev, name):
        """A property of an mdev in words of Python."""
        value = self.get(self.mdev_path(mdev), "Mdev", name)
        if isinstance(value, dbus.Array):
            return [str(each) for each in value]
        return bool(value) if isinstance(value, dbus.Boolean) else str(value)

    def record(self, **match):
        """A list to which signals are added as they come: (member, arguments)."""
        seen = []
        self.connection.add_signal_receiver(lambda *a, member=None: seen.append((str(member), a)),
                                            member_keyword="member", **match)
        self.connection.get_name_owner("org.freedesktop.DBus")  # the rule has arrived
        return seen

    def has_service(self):
        return self.connection.name_has_owner(self.NAME)


class Node:
    def __init__(self, name, directory, programs, images, snapshot="lpar-a"):
        """programs: the directory of a build. snapshot: one of tests/data/hosts, which says what the host has; or a
        host as such, whose sysfs then answers to writes, and is seen by the node alone."""
        self.name, self.programs, self.images = name, pathlib.Path(programs), images
        self.directory = pathlib.Path(directory, name)
        self.run_directory = self.directory / "run"
        self.children, self.files = [], []
        self.libvirtd = self.service = self.bus = None
        self.namespaces = None
        self._make_files(snapshot)
        self.namespaces = Namespaces(HERE / "holder.py", self.directory, name, HERE / "emulator", EMULATOR)

    def _make_files(self, snapshot):
        self.directory.mkdir(parents=True)
        for name in ("run/dbus", "run/lock", "run/e2e/device", "run/libvirt", "actions", "etc-libvirt", "etc-vfioap",
                     "var-lib-vfioap"):
            (self.directory / name).mkdir(parents=True)
        if isinstance(snapshot, dict):
            (self.directory / "host.json").write_text(json.dumps(snapshot))
            (self.directory / "sys").mkdir()
            (self.directory / "fakesys").symlink_to(self.programs / "fakesys")
            self.sysfs = None
        else:
            subprocess.run([self.programs / "vfioapctl", "materialize", SOURCE / f"tests/data/hosts/{snapshot}.json",
                            self.directory / "sys"], check=True)
            self.sysfs = Sysfs(self.directory / "sys", self.programs / "vfioapctl")
            self.sysfs.release()
        shutil.copy(SOURCE / "dbus/org.vfioap1.policy", self.directory / "actions")
        libvirt = self.directory / "etc-libvirt"
        (libvirt / "libvirtd.conf").write_text(LIBVIRTD_CONFIG.format(uuid=uuid.uuid4()))
        (libvirt / "qemu.conf").write_text(QEMU_CONFIG)
        (self.directory / "bus.conf").write_text(BUS_CONFIG.format(source=SOURCE))

    def close(self):
        if self.bus:
            self.bus.connection.close()
            self.bus = None
        if self.namespaces:
            self.namespaces.close()
            self.namespaces = None
        for child in self.children:
            child.wait()
        for file in self.files:
            file.close()

    # Programs.

    def spawn(self, *command, log=None, environment=None, **more):
        """A program that goes on; its output in a file of that name below the node's directory."""
        if log:
            file = open(self.directory / log, "ab")
            self.files.append(file)
            more = {"stdout": file, "stderr": subprocess.STDOUT, **more}
        child = self.namespaces.popen(command, env=self.environment(environment),
                                      **{"stdin": subprocess.DEVNULL, **more})
        self.children.append(child)
        return child

    def run(self, *command, check=True, input=None, seconds=PATIENCE, environment=None):
        """What it did: returncode, stdout, stderr."""
        child = self.namespaces.popen(command, env=self.environment(environment), text=True,
                                      stdin=subprocess.DEVNULL if input is None else subprocess.PIPE,
                                      stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        try:
            out, err = child.communicate(input, timeout=seconds)
        except subprocess.TimeoutExpired:
            child.kill()
            child.communicate()
            raise Failed(f"{self.name}: {' '.join(map(str, command))}: not done after {seconds} s") from None
        if check and child.returncode != 0:
            raise Failed(f"{self.name}: {' '.join(map(str, command))}: exit {child.returncode}: {err.strip()}")
        return subprocess.CompletedProcess(command, child.returncode, out, err)

    @staticmethod
    def environment(more=None):
        return {"PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL": "C.UTF-8",
                "HOME": "/root", **(more or {})}

    def virsh(self, *arguments, **more):
        return self.run("virsh", "-q", "-c", "qemu:///system", *arguments, **more)

    # What runs on it.

    def start(self):
        self.start_bus()
        self.start_libvirtd()
        self.start_service()

    def start_bus(self):
        self.spawn("dbus-daemon", "--nofork", "--nopidfile", "--nosyslog", f"--config-file={self.directory}/bus.conf",
                   log="dbus.log")
        socket = self.run_directory / "dbus/system_bus_socket"
        wait_for(socket.exists, "the bus")

        def connected():
            try:
                # The path within the node: the other one may be longer than an address of a socket can be.
                return Bus(f"unix:path=/proc/{self.namespaces.first}/root/run/dbus/system_bus_socket")
            except dbus.DBusException:
                return None  # the socket is there a moment before anybody listens
        self.bus = wait_for(connected, "the bus")
        self.spawn(next(path for path in POLKITD if os.path.exists(path)), "--no-debug", log="polkitd.log")

    def start_libvirtd(self):
        self.libvirtd = self.spawn("libvirtd", "--listen", "--pid-file", "/run/libvirtd.pid", log="libvirtd.out",
                                   environment={"LD_PRELOAD": str(self.images.memlock)})

        def answers():
            if self.libvirtd.poll() is not None:
                told = self.text_of("libvirtd.out") + self.text_of("var-log-libvirt/libvirtd.log")
                raise Failed(f"{self.name}: libvirtd has ended: {told}")
            return self.virsh("list", check=False).returncode == 0
        wait_for(answers, f"{self.name}: libvirtd")

    def stop_libvirtd(self, number=signal.SIGTERM):
        """Its guests go on."""
        self.libvirtd.send_signal(number)
        self.libvirtd.wait(PATIENCE)

    def restart_libvirtd(self, number=signal.SIGTERM):
        self.stop_libvirtd(number)
        self.start_libvirtd()

    def start_service(self, *arguments):
        self.service = self.spawn(self.programs / "vfioapd", "--state-directory", "/var/lib/vfioap", *arguments,
                                  log="vfioapd.log")

        def serves():
            if self.service.poll() is not None:
                raise Failed(f"{self.name}: vfioapd has ended: {self.text_of('vfioapd.log')}")
            return self.bus.has_service()
        wait_for(serves, f"{self.name}: vfioapd")

    def stop_service(self, number=signal.SIGTERM):
        self.service.send_signal(number)
        self.service.wait(PATIENCE)
        wait_for(lambda: not self.bus.has_service(), f"{self.name}: the end of vfioapd")

    def restart_service(self, number=signal.SIGTERM):
        self.stop_service(number)
        self.start_service()

    def install_hook(self, name, hook):
        """A hook for QEMU guests: a text, or the path of a program. A running libvirtd is started again, since it
        looks for hooks then."""
        installed = self.directory / "etc-libvirt/hooks/qemu.d" / name
        installed.parent.mkdir(parents=True, exist_ok=True)
        if isinstance(hook, pathlib.Path):
            # As it is installed: it looks for its other half beside itself.
            installed.symlink_to(hook)
        else:
            installed.write_text(hook)
            installed.chmod(0o755)
        if self.libvirtd and self.libvirtd.poll() is None:
            self.restart_libvirtd()

    def configure(self, text):
        """/etc/vfioap/vfioap.conf; the service reads it at SIGHUP."""
        (self.directory / "etc-vfioap/vfioap.conf").write_text(text)

    def reach(self, other):
        """The environment in which programs here find the bus of that node behind ssh, as systemd's bridge would show
        it; None: there is no such bridge."""
        bridge = shutil.which("systemd-stdio-bridge")
        if not bridge:
            return None
        directory = self.run_directory / "e2e/ssh"
        directory.mkdir(exist_ok=True)
        # The path itself may be longer than an address of a socket can be.
        (directory / "bus").unlink(missing_ok=True)
        (directory / "bus").symlink_to(other.run_directory / "dbus")
        ssh = directory / "ssh"
        ssh.write_text(f"#!/bin/sh\nexec {bridge} --bus-path=unix:path=/run/e2e/ssh/bus/system_bus_socket\n")
        ssh.chmod(0o755)
        return {"PATH": f"/run/e2e/ssh:{self.environment()['PATH']}"}

    def set_network(self, up):
        self.run("ip", "link", "set", "eth0", "up" if up else "down")

    # What it has written.

    def text_of(self, name):
        """Of a file below the node's directory; empty where there is none."""
        try:
            return (self.directory / name).read_text(errors="replace")
        except OSError:
            return ""

    def syslog(self):
        """What its programs have sent to the system's log."""
        return self.text_of("syslog")

    def logs(self):
        """{name: text} of all that helps to understand a failure."""
        names = ["vfioapd.log", "migrate.log", "start.log", "syslog", "libvirtd.out", "polkitd.log", "dbus.log",
                 "var-log-libvirt/libvirtd.log"]
        names += [str(file.relative_to(self.directory)) for pattern in ("var-log-libvirt/qemu/*.log",
                                                                        "run/e2e/device/*.log", "run/e2e/device/*.err")
                  for file in sorted(self.directory.glob(pattern))]
        return {name: text for name in names if (text := self.text_of(name).strip())}


class Pair:
    """Two nodes with a network between them, all running."""

    def __init__(self, directory, programs, images, snapshots=("lpar-a", "lpar-a"), hook=False):
        """hook: with vfioap-hook installed on both."""
        self.nodes = []
        try:
            for name, snapshot in zip(NETWORK, snapshots):
                self.nodes.append(Node(name, directory, programs, images, snapshot))
            self.a, self.b = self.nodes
            self._connect()
            for node in self.nodes:
                if hook:
                    node.install_hook("50-vfioap", node.programs / "vfioap-hook")
                node.start()
        except BaseException:
            self.close()
            raise

    def _connect(self):
        a, b = self.nodes
        subprocess.run(["nsenter", "-t", str(a.namespaces.first), "-n", "ip", "link", "add", "eth0", "type", "veth",
                        "peer", "name", "eth0", "netns", str(b.namespaces.first)], check=True)
        for node in self.nodes:
            node.run("ip", "address", "add", NETWORK[node.name] + "/24", "dev", "eth0")
            node.set_network(True)
            hosts = "127.0.0.1 localhost\n" + "".join(f"{address} {name}\n" for name, address in NETWORK.items())
            node.run("tee", "/etc/hosts", input=hosts)

    def close(self):
        for node in self.nodes:
            node.close()
