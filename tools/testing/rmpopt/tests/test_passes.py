# SPDX-License-Identifier: GPL-2.0-only
"""Tests of how host.py finds passes in a journal, with journals that are made up."""
import unittest

from host import passes_of

S = 1_000_000_000
TICK = 4_000_000


def rmpopt(at, core, address, result=1):
    return {'what': 'rmpopt', 'at': at, 'core': core, 'address': address, 'value': 0, 'result': result}


def clear(at, core, address):
    return {'what': 'clear', 'at': at, 'core': core, 'address': address, 'value': 0}


def clear_all(at):
    return {'what': 'clear-all', 'at': at, 'core': -1, 'address': 0, 'value': 0}


# Core 0 goes first for regions 4 and 5. Cores 1 and 2 follow.
FIRST = [rmpopt(10 * S, 0, 4, 2), rmpopt(10 * S + 10, 0, 5, 2)]
FOLLOW = [rmpopt(10 * S + TICK, 1, 4), rmpopt(10 * S + TICK, 1, 5)]
LATE = [rmpopt(90 * S, 2, 4), rmpopt(90 * S, 2, 5)]
# What says that there are these cores
BASES = [{'what': 'base', 'at': 0, 'core': core, 'address': 0, 'value': 1} for core in range(3)]


class Passes(unittest.TestCase):
    def passes(self, expected, *journal):
        self.assertEqual(expected, passes_of(BASES + list(journal)))

    def test_none(self):
        self.passes([], clear(S, 0, 4))

    def test_follow(self):
        self.passes([FIRST + FOLLOW], *FIRST, *FOLLOW)

    def test_follow_late(self):
        self.passes([FIRST + FOLLOW + LATE], *FIRST, *FOLLOW, *LATE)

    def test_ipi(self):
        """As the core of the series has it: the others follow before the next region"""
        entries = [rmpopt(10 * S + 10 * i + core, core, 4 + i) for i in range(3) for core in range(3)]
        self.passes([entries], *entries)

    def test_query(self):
        query = {**rmpopt(20 * S, 0, 4), 'value': 1}
        self.passes([FIRST], *FIRST, query)

    def test_two_passes(self):
        """One for a region that was cleared, and nothing but that is visited."""
        again = [rmpopt(30 * S, 0, 4, 2), rmpopt(30 * S + TICK, 1, 4)]
        self.passes([FIRST + FOLLOW, again], *FIRST, *FOLLOW, clear(15 * S, 0, 4), *again)

    def test_late_in_next_pass(self):
        """Core 2 has slept through two passes. Each region is one that it has to follow once."""
        again = [rmpopt(30 * S, 0, 4, 2), rmpopt(30 * S + TICK, 1, 4)]
        self.passes(
            [FIRST + FOLLOW + LATE[1:], again + LATE[:1]],
            *FIRST,
            *FOLLOW,
            clear(15 * S, 0, 4),
            *again,
            *LATE,
        )

    def test_missed(self):
        """Core 1 follows once a page is assigned, and fails."""
        fails = rmpopt(20 * S, 1, 4, 0)
        retry = rmpopt(30 * S, 0, 4, 0)
        self.passes([FIRST + [fails], [retry]], *FIRST, clear(15 * S, 0, 4), fails, retry)

    def test_another_goes_first(self):
        """Core 2 has never followed. Then a region loses a page, and core 2 goes first."""
        again = [rmpopt(30 * S, 2, 4, 2), rmpopt(30 * S + TICK, 0, 4)]
        self.passes([FIRST + FOLLOW, again], *FIRST, *FOLLOW, clear(15 * S, 0, 4), *again)

    def test_another_fails_first(self):
        """The same with two regions, one of which still has a page."""
        again = [rmpopt(30 * S, 2, 4, 2), rmpopt(30 * S + 10, 2, 5, 0)]
        self.passes(
            [FIRST + FOLLOW, again], *FIRST, *FOLLOW, clear(15 * S, 0, 4), clear(15 * S, 0, 5), *again
        )

    def test_set_up(self):
        """The firmware initializes the RMP, and nobody has to follow any more."""
        again = [rmpopt(30 * S, 2, 4, 2), rmpopt(30 * S + 10, 2, 5, 2)]
        self.passes([FIRST, again], *FIRST, clear_all(15 * S), *again)
