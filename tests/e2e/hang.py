#!/usr/bin/python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""A file system on which every access hangs for as long as this runs, as sysfs of a dying card may.

usage: hang.py DIRECTORY. Says `ready` when it is mounted. Its requests wait for a server that never says a word; when
it ends they fail.
"""
import ctypes
import os
import signal
import sys

LIBC = ctypes.CDLL(None, use_errno=True)


def main(directory):
    fd = os.open("/dev/fuse", os.O_RDWR)
    options = f"fd={fd},rootmode=40000,user_id=0,group_id=0"
    if LIBC.mount(b"hang", directory.encode(), b"fuse", 0, options.encode()) != 0:
        sys.exit(f"hang.py: mount: {os.strerror(ctypes.get_errno())}")
    print("ready", flush=True)
    signal.pause()


if __name__ == "__main__":
    main(*sys.argv[1:])
