# SPDX-License-Identifier: LGPL-2.1-or-later
"""What a guest boots from: a kernel of the distribution for s390x, and an initial ramdisk with one program.

Both are kept, and made again only if what they are made of has changed.
"""
import gzip
import hashlib
import os
import pathlib
import shutil
import stat
import subprocess
import tempfile

HERE = pathlib.Path(__file__).resolve().parent


class Missing(Exception):
    """Something that this machine does not have: a reason to skip, not a failure."""


def call(*command, **more):
    try:
        done = subprocess.run([str(word) for word in command], stdin=subprocess.DEVNULL, capture_output=True, text=True,
                              check=False, **more)
    except FileNotFoundError:
        raise Missing(f"{command[0]} is missing") from None
    if done.returncode != 0:
        lines = (done.stderr or done.stdout).strip().splitlines() or ["no message"]
        raise Missing(f"{command[0]}: {lines[-1]}")
    return done.stdout


def release():
    for line in pathlib.Path("/etc/os-release").read_text().splitlines():
        if line.startswith("VERSION_CODENAME="):
            return line.partition("=")[2].strip('"')
    raise Missing("/etc/os-release names no release")


def apt_sources(directory):
    """The machine's own sources, for apt with another architecture and directories of its own: dpkg's list of
    architectures is the machine's, and no business of a test's."""
    suite = release()
    targets = call("apt-get", "indextargets", "--format", "$(REPO_URI) $(RELEASE) $(COMPONENT)",
                   "Created-By: Packages")
    wanted = {line for line in targets.splitlines()
              if line.split()[1] in (suite, f"{suite}-updates", f"{suite}-security")}
    if not wanted:
        raise Missing(f"apt has no sources for {suite}")
    keys = directory / "keys"
    for name in ("lists/partial", "archives/partial", "keys", "empty"):
        (directory / name).mkdir(parents=True)
    for source in ("/usr/share/keyrings", "/etc/apt/trusted.gpg.d"):
        for file in sorted(pathlib.Path(source).glob("*archive*")):
            if file.suffix in (".gpg", ".asc"):
                shutil.copy(file, keys / file.name)
    (directory / "status").touch()
    (directory / "sources.list").write_text("".join(f"deb {line}\n" for line in sorted(wanted)))
    settings = {"APT::Architecture": "s390x", "Dir::State": directory, "Dir::State::lists": directory / "lists",
                "Dir::State::status": directory / "status", "Dir::Cache": directory,
                "Dir::Cache::archives": directory / "archives", "Dir::Etc::sourcelist": directory / "sources.list",
                "Dir::Etc::sourceparts": directory / "empty", "Dir::Etc::trustedparts": keys,
                "APT::Sandbox::User": "root"}
    config = directory / "apt.conf"
    config.write_text("#clear APT::Architectures;\nAPT::Architectures { \"s390x\"; };\n"
                      + "".join(f'{key} "{value}";\n' for key, value in settings.items()))
    return {**os.environ, "APT_CONFIG": str(config)}


def make_kernel(file):
    with tempfile.TemporaryDirectory(dir=file.parent) as name:
        directory = pathlib.Path(name)
        environment = apt_sources(directory)
        call("apt-get", "-q", "update", env=environment)
        depends = call("apt-cache", "depends", "linux-image-s390x", env=environment)
        packages = [line.split()[-1] for line in depends.splitlines() if "Depends: linux-image-" in line]
        if not packages:
            raise Missing("linux-image-s390x depends on no kernel")
        call("apt-get", "-q", "download", packages[0], env=environment, cwd=directory)
        call("dpkg-deb", "-x", next(directory.glob("*.deb")), directory / "root")
        kernels = sorted((directory / "root/boot").glob("vmlinuz-*"))
        if not kernels:
            raise Missing(f"{packages[0]} has no kernel")
        os.replace(kernels[0], file)


def cpio_entry(number, name, mode, data=b"", device=(0, 0)):
    """One entry of the form newc (linux, Documentation/driver-api/early-userspace/buffer-format.rst)."""
    name = name.encode() + b"\0"
    fields = (number, mode, 0, 0, 1, 0, len(data), 0, 0, *device, len(name), 0)
    head = b"070701" + b"".join(b"%08x" % field for field in fields) + name
    return head + b"\0" * (-len(head) % 4) + data + b"\0" * (-len(data) % 4)


def make_initrd(file):
    with tempfile.TemporaryDirectory(dir=file.parent) as name:
        program = pathlib.Path(name, "init")
        call("s390x-linux-gnu-gcc", "-static", "-Os", "-Wall", "-Werror", "-o", program, HERE / "init.c")
        archive = (cpio_entry(1, "dev", stat.S_IFDIR | 0o755)
                   + cpio_entry(2, "dev/console", stat.S_IFCHR | 0o600, device=(5, 1))
                   + cpio_entry(3, "init", stat.S_IFREG | 0o755, program.read_bytes())
                   + cpio_entry(0, "TRAILER!!!", 0))
        new = pathlib.Path(name, "initrd")
        new.write_bytes(gzip.compress(archive))
        os.replace(new, file)


def make_memlock(file):
    new = file.with_name(file.name + ".new")
    call("cc", "-shared", "-fPIC", "-O2", "-Wall", "-Werror", "-o", new, HERE / "memlock.c", "-ldl")
    os.replace(new, file)


class Images:
    """The files, below a directory where they stay."""

    def __init__(self, directory):
        self.directory = pathlib.Path(directory).resolve()
        self.directory.mkdir(parents=True, exist_ok=True)
        self.kernel = self.directory / "kernel"
        if not self.kernel.exists():
            make_kernel(self.kernel)
        self.initrd = self._made_of("initrd", "init.c", make_initrd)
        self.memlock = self._made_of("memlock.so", "memlock.c", make_memlock)

    def _made_of(self, name, source, make):
        digest = hashlib.sha256((HERE / source).read_bytes()).hexdigest()[:12]
        file = self.directory / f"{digest}-{name}"
        if not file.exists():
            make(file)
        return file
