# SPDX-License-Identifier: LGPL-2.1-or-later
"""The table of tests, and what each of them is given."""
import pathlib

from guest import Guest
from node import Failed, Pair

TESTS = {}
# How failures that a test made have ended: rows of a table, without its head.
ENDS = []


class Test:
    def __init__(self, name, function, expected_failure):
        self.name, self.function, self.expected_failure = name, function, expected_failure


def test(name, expected_failure=None):
    """A test of that name. expected_failure: why it cannot pass yet; it is run all the same, and says when it does."""
    def add(function):
        if name in TESTS:
            raise ValueError(f"two tests of the name {name}")
        TESTS[name] = Test(name, function, expected_failure)
        return function
    return add


def check(condition, what):
    if not condition:
        raise Failed(str(what)[:2000])


def table_of_ends():
    """What there is of it, aligned; nothing where no test made any."""
    rows = [("FAILURE", "THE GUEST RUNS AT", "DEVICE", "EXIT CODES"), *ENDS] if ENDS else []
    widths = [max(len(row[column]) for row in rows) for column in range(4)] if rows else []
    return ["  ".join(text.ljust(width) for text, width in zip(row, widths)).rstrip() for row in rows]


class Case:
    """One run of one test: nothing in it was there before, and nothing stays."""

    shows = False  # what a test tells is printed

    def __init__(self, directory, programs, images):
        self.directory, self.programs, self.images = pathlib.Path(directory), programs, images
        self._pair = None

    def nodes(self, *snapshots, hook=False):
        """Two hosts, running. snapshots: what they have, of tests/data/hosts; hook: vfioap-hook is installed."""
        self._pair = Pair(self.directory, self.programs, self.images, *([snapshots] if snapshots else []), hook=hook)
        return self._pair.nodes

    @staticmethod
    def tell(text):
        """Part of the session that `tools/e2e --show` prints."""
        if Case.shows:
            print(text, flush=True)

    def guest(self, name="guest1", **more):
        return Guest(self.directory, self.images, name, **more)

    def logs(self):
        found = {}
        for node in self._pair.nodes if self._pair else []:
            found.update({f"{node.name} {name}": text for name, text in node.logs().items()})
        for console in sorted(self.directory.glob("*.console")):
            found[console.name] = console.read_text(errors="replace")
        return found

    def close(self):
        if self._pair:
            self._pair.close()
            self._pair = None
