# SPDX-License-Identifier: LGPL-2.1-or-later
"""An s390x guest that really runs, with a vfio-ap device, somewhere on the nodes."""
import json
import pathlib
import re
import xml.etree.ElementTree as ET

from node import Failed, wait_for

MDEV = "62177883-f1bb-47f0-914d-32a22e3a8804"
NAMESPACE = "urn:vfioap:domain:1"
STATE = f"{{{NAMESPACE}}}config"

HOSTDEV = """<hostdev mode='subsystem' type='mdev' managed='no' model='vfio-ap'>
      <source><address uuid='{mdev}'/></source>
    </hostdev>"""
DOMAIN = """<domain type='qemu'>
  <name>{name}</name>
  <uuid>{uuid}</uuid>
  <memory unit='MiB'>256</memory>
  <vcpu>1</vcpu>
  <os>
    <type arch='s390x' machine='s390-ccw-virtio'>hvm</type>
    <kernel>{kernel}</kernel>
    <initrd>{initrd}</initrd>
    <cmdline>console=ttysclp0 quiet</cmdline>
  </os>
  <devices>
    <emulator>/usr/bin/qemu-system-s390x</emulator>
    <console type='file'>
      <source path='{console}' append='on'/>
      <target type='sclp'/>
    </console>
    <memballoon model='none'/>
    {devices}
  </devices>
</domain>
"""


class Guest:
    def __init__(self, directory, images, name="guest1", mdev=MDEV):
        self.directory, self.name, self.mdev = pathlib.Path(directory), name, mdev
        self.uuid = f"6b8f5c1e-2d4a-4e0f-9b1c-{sum(name.encode()):012x}"
        # The same on all nodes, so that it says whether anything of the guest was lost on the way.
        self.console = self.directory / f"{name}.console"
        self.xml = DOMAIN.format(name=name, uuid=self.uuid, kernel=images.kernel, initrd=images.initrd,
                                 console=self.console, devices=HOSTDEV.format(mdev=mdev) if mdev else "")

    # Its life.

    def define(self, node):
        node.virsh("define", "/dev/stdin", input=self.xml)

    def start(self, node):
        """Defined, started, and its first program runs."""
        self.define(node)
        node.virsh("start", self.name)
        self.wait_alive()

    def runs(self, node):
        found = node.virsh("domstate", self.name, check=False)
        return found.returncode == 0 and found.stdout.strip() == "running"

    def migrate(self, source, destination, *options, check=True, seconds=180):
        return source.virsh("migrate", "--live", "--p2p", *options, self.name,
                            f"qemu+tcp://{destination.name}/system", check=check, seconds=seconds)

    def start_migration(self, source, destination, *options):
        """The running virsh; its output goes to SOURCE/migrate.log."""
        return source.spawn("virsh", "-q", "-c", "qemu:///system", "migrate", "--live", "--p2p", *options, self.name,
                            f"qemu+tcp://{destination.name}/system", log="migrate.log")

    def plug(self, node, check=True):
        return node.virsh("attach-device", self.name, "/dev/stdin", "--live", input=HOSTDEV.format(mdev=self.mdev),
                          check=check)

    def unplug(self, node, check=True):
        return node.virsh("detach-device", self.name, "/dev/stdin", "--live", input=HOSTDEV.format(mdev=self.mdev),
                          check=check)

    def set_device(self, node, **behaviour):
        """How its device behaves on that node: see `emulator`."""
        new = node.run_directory / "e2e/device/new"
        new.write_text(json.dumps(behaviour))
        new.rename(new.with_name(f"{self.name}.json"))

    # Whether it goes on.

    def ticks(self):
        """What it has counted on its console so far. The last line may be half there."""
        try:
            text = self.console.read_text(errors="replace")
        except OSError:
            return []
        return [int(number) for number in re.findall(r"tick (\d+)\r?\n", text)]

    def wait_alive(self, more=2):
        """It counts on from where it is now."""
        before = len(self.ticks())
        wait_for(lambda: len(self.ticks()) >= before + more, f"{self.name} does not count")

    def check_gapless(self):
        """It was never started again, and nothing it has done was lost or done twice."""
        ticks = self.ticks()
        for before, after in zip(ticks, ticks[1:]):
            if after != before + 1:
                raise Failed(f"{self.name} went from {before} to {after}")

    # What libvirt says of it.

    def domain(self, node, *options):
        return ET.fromstring(node.virsh("dumpxml", self.name, *options).stdout)

    def has_device(self, node):
        return self.domain(node).find("devices/hostdev[@model='vfio-ap']") is not None

    def state(self, node, *options):
        """The element of the service in its metadata; None: there is none."""
        return state_in(self.domain(node, *options))

    def wait_state(self, node, **attributes):
        """Once the state has these attributes and, as `queues`, these."""
        queues = attributes.pop("queues", None)

        def there():
            state = self.state(node)
            if state is None or any(state.get(key) != value for key, value in attributes.items()):
                return None
            return state if queues is None or queues_of(state) == sorted(queues) else None
        return wait_for(there, f"{self.name} at {node.name}: state {attributes} {queues or ''}")


def state_in(domain):
    return domain.find(f"metadata/{STATE}")


def queues_of(state):
    """All queues of a state, ranges written out."""
    found = []
    for element in state:
        text = element.text if element.tag.endswith("}queues") else element.get("queues", "")
        for item in (text or "").split():
            adapters, domains = item.split(".")
            found += [f"{adapter:02x}.{domain:04x}" for adapter in numbers(adapters) for domain in numbers(domains)]
    return sorted(found)


def numbers(text):
    first, _, last = text.partition("-")
    return range(int(first, 16), int(last or first, 16) + 1)
