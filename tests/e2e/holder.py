#!/usr/bin/python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""The first process of a node: what the node's programs see of a machine, and its log.

usage: holder.py DIRECTORY NAME WRAPPER EMULATOR, in namespaces of its own (mount, net, uts, pid). Says `ready` when
programs may start. The node ends with it: the kernel ends all that is left in its pid namespace.
"""
import os
import pathlib
import signal
import socket
import stat
import subprocess
import sys

# What sysfs of a machine without AP has not got. A fake tree can change while programs run, which the lower layer of
# an overlay may not: so the overlay has only empty places, on which the fake directories are bound.
SYSFS = ("bus/ap", "bus/mdev", "bus/matrix", "devices/ap", "devices/vfio_ap", "class/mdev_bus", "firmware/uv",
         "kernel/iommu_groups")
NODES = {"null": (1, 3), "zero": (1, 5), "full": (1, 7), "random": (1, 8), "urandom": (1, 9), "tty": (5, 0),
         "fuse": (10, 229), "vfio/vfio": (10, 196), **{f"vfio/{number}": (240, number) for number in range(8)}}


def mount(*arguments):
    subprocess.run(["mount", *map(str, arguments)], check=True)


def bind(source, target):
    mount("--rbind", source, target)


def overlay(target, *lower, upper=None, work=None):
    options = "lowerdir=" + ":".join(str(directory) for directory in lower)
    if upper:
        options += f",upperdir={upper},workdir={work}"
    mount("-t", "overlay", "-o", options, "overlay", target)


def make_writable(directory, name):
    """The machine's own is below, and stays as it is."""
    upper, work = directory / f"{name}-upper", directory / f"{name}-work"
    upper.mkdir()
    work.mkdir()
    overlay(f"/{name}", f"/{name}", upper=upper, work=work)


def mount_fakesys(directory):
    """The fake tree answers to writes as the kernel does, where the program for it is there."""
    program = directory / "fakesys"
    if program.exists():
        subprocess.run([program, directory / "host.json", directory / "sys"], check=True)
        (directory / "run/e2e/fakesys").symlink_to(directory / "sys/.fakesys")


def make_sysfs(directory):
    fake, places = directory / "sys", directory / "places"
    there = [name for name in SYSFS if (fake / name).is_dir()]
    for name in there:
        (places / name).mkdir(parents=True)
    for top in sorted({name.split("/")[0] for name in there}):
        overlay(f"/sys/{top}", places / top, f"/sys/{top}")
    for name in there:
        bind(fake / name, f"/sys/{name}")


def make_dev(directory):
    """Without /dev/kvm: the guests are of another architecture anyway."""
    dev = directory / "dev"
    dev.mkdir()
    mount("-t", "tmpfs", "-o", "mode=755", "tmpfs", dev)
    for name in ("pts", "shm", "vfio"):
        (dev / name).mkdir()
    for name, numbers in NODES.items():
        os.mknod(dev / name, stat.S_IFCHR | 0o666, os.makedev(*numbers))
        os.chmod(dev / name, 0o666)
    for name, target in (("ptmx", "pts/ptmx"), ("fd", "/proc/self/fd"), ("stdin", "fd/0"), ("stdout", "fd/1"),
                         ("stderr", "fd/2")):
        (dev / name).symlink_to(target)
    # The node's own directory may be below /dev/shm.
    for name in ("pts", "shm"):
        bind(f"/dev/{name}", dev / name)
    mount("--move", dev, "/dev")


def make_files(directory):
    make_writable(directory, "etc")
    make_writable(directory, "var")
    bind(directory / "run", "/run")
    for name in ("etc/libvirt", "etc/vfioap", "var/lib/libvirt", "var/lib/vfioap", "var/log/libvirt",
                 "var/cache/libvirt"):
        own = directory / name.replace("/", "-")
        own.mkdir(exist_ok=True)
        os.makedirs(f"/{name}", exist_ok=True)
        bind(own, f"/{name}")
    bind(directory / "actions", "/usr/share/polkit-1/actions")


def make_emulator(wrapper, emulator):
    """The wrapper is where libvirt looks for the emulator, which looks for its files beside its own directory."""
    home = pathlib.Path("/run/e2e")
    for name in ("lib", "share"):
        (home / name).symlink_to(pathlib.Path(emulator).parent.parent / name)
    real = home / "bin" / os.path.basename(emulator)
    real.parent.mkdir()
    real.touch()
    bind(emulator, real)
    bind(wrapper, emulator)


def main(directory, name, wrapper, emulator):
    # Daemons leave their children to it.
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    socket.sethostname(name)
    directory = pathlib.Path(directory)
    mount("-t", "proc", "proc", "/proc")
    make_dev(directory)
    mount_fakesys(directory)
    make_sysfs(directory)
    make_files(directory)
    make_emulator(wrapper, emulator)
    subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
    log = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    log.bind("/dev/log")
    os.chmod("/dev/log", 0o666)
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    print("ready", flush=True)
    with open(directory / "syslog", "ab", buffering=0) as lines:
        while True:
            # `<priority>date tag[pid]: text`; a message may have several lines.
            lines.write(log.recv(65536).rstrip(b"\n\0") + b"\n")


if __name__ == "__main__":
    main(*sys.argv[1:])
