# SPDX-License-Identifier: LGPL-2.1-or-later
"""Processes in namespaces of their own, and processes that join them."""
import contextlib
import ctypes
import os
import signal
import subprocess

LIBC = ctypes.CDLL(None, use_errno=True)
CLONE_NEWPID = 0x20000000
PR_SET_PDEATHSIG = 1


def setns(fd, kind=0):
    if LIBC.setns(fd, kind) != 0:
        raise OSError(ctypes.get_errno(), "setns")


def end_with_parent():
    """However this process ends, its child does, too."""
    LIBC.prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


class Namespaces:
    """Made by its first process, which lives until close()."""

    def __init__(self, *command):
        self.process = subprocess.Popen(
            ["unshare", "--mount", "--net", "--uts", "--pid", "--fork", "--kill-child=SIGKILL",
             "--propagation", "private", *map(str, command)], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
            stderr=subprocess.PIPE, text=True, preexec_fn=end_with_parent)
        self._files, self._own = {}, None
        if self.process.stdout.readline() != "ready\n":
            message = self.process.stderr.read().strip()
            self.close()
            raise RuntimeError(message or "the first process did not start")
        children = f"/proc/{self.process.pid}/task/{self.process.pid}/children"
        with open(children, encoding="ascii") as file:
            self.first = int(file.read().split()[0])
        self._own = os.open("/proc/self/ns/pid", os.O_RDONLY)
        self._files = {kind: os.open(f"/proc/{self.first}/ns/{kind}", os.O_RDONLY)
                       for kind in ("mnt", "net", "uts", "pid")}

    def close(self):
        """Ends everything in them."""
        for file in (*self._files.values(), self._own):
            if file is not None:
                os.close(file)
        self._files, self._own = {}, None
        # The process that waits for the first one; with it the first one is killed, and with that all others.
        self.process.kill()
        self.process.wait()
        self.process.stdout.close()
        self.process.stderr.close()

    @contextlib.contextmanager
    def _children_here(self):
        """A process joins a pid namespace by being born into it."""
        setns(self._files["pid"], CLONE_NEWPID)
        try:
            yield
        finally:
            setns(self._own, CLONE_NEWPID)

    def _enter(self):
        for kind in ("net", "uts", "mnt"):
            setns(self._files[kind])
        os.chdir("/")

    def popen(self, command, **more):
        with self._children_here():
            return subprocess.Popen([str(word) for word in command], preexec_fn=self._enter, **more)
