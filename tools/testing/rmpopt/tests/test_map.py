# SPDX-License-Identifier: GPL-2.0-only
"""Tests of rmpopt_map.py with data that is made up."""
import re
import unittest
import xml.etree.ElementTree

import rmpopt_map
from rmpopt_map import ASSIGNED, FIXED, GB, HOLE, LOST, NONE, OPTIMIZED, RMP, Map


def region(number, assigned=0, fixed=0, rmp=False):
    return {'address': number * GB, 'assigned': assigned, 'fixed': fixed, 'rmp': rmp}


def table(core, regions, base=0):
    return {'core': core, 'base': base * GB, 'regions': list(regions)}


def window(first, last):
    return first * GB, (last + 1) * GB - 1


def small():
    """Each kind, on core 0 and 1, in regions of its own; RAM but for region 2."""
    regions = [
        region(3, assigned=5),
        region(4, fixed=7),
        region(5, assigned=9, rmp=True),
        region(6, assigned=1),
    ]
    return Map(
        regions,
        [table(0, [0, 1, 6]), table(1, [0])],
        window(0, 6),
        [(4096, 2 * GB - 1), (3 * GB, 7 * GB - 1)],
        'small <&>',
    )


def large():
    regions = [region(r, assigned=r) for r in range(100, 110)] + [region(2047, rmp=True)]
    tables = [table(core, set(range(2047)) - set(range(100, 110)) - {1000 + core}) for core in range(64)]
    return Map(regions, tables, window(0, 2047))


class Kinds(unittest.TestCase):
    def test_each_kind(self):
        kinds = [[small().kind(core, r) for core in (0, 1)] for r in range(7)]
        self.assertEqual(
            kinds,
            [
                [OPTIMIZED, OPTIMIZED],
                [OPTIMIZED, LOST],
                [NONE, NONE],
                [ASSIGNED, ASSIGNED],
                [FIXED, FIXED],
                [RMP, RMP],
                [HOLE, ASSIGNED],
            ],
        )

    def test_counts(self):
        self.assertEqual(small().count(LOST), 1)
        self.assertEqual(small().count(OPTIMIZED), 3)
        self.assertEqual(small().total(), 14)
        self.assertEqual(small().losses(), {1: LOST, 3: ASSIGNED, 4: FIXED, 5: RMP, 6: ASSIGNED})

    def test_cells(self):
        self.assertEqual(small().optimized(), {(0, 0), (0, 1), (0, 6), (1, 0)})
        self.assertEqual(small().cells(LOST), {(1, 1)})

    def test_base_and_window(self):
        one = Map([], [table(0, [0, 2], base=4)], window(4, 6), [(4 * GB, 9 * GB - 1)])
        self.assertEqual(one.optimized(), {(0, 4), (0, 6)})
        self.assertEqual([one.kind(0, r) for r in one.regions], [OPTIMIZED, LOST, OPTIMIZED, NONE, NONE])

    def test_fields_of_old(self):
        one = Map([{'address': 0, 'assigned': 2, 'optimized': 0}], [table(0, [])], window(0, 0))
        self.assertEqual(one.kind(0, 0), ASSIGNED)


class Text(unittest.TestCase):
    def test_small(self):
        lines = small().text().splitlines()
        self.assertEqual(len(lines), 2 + 7)
        self.assertIn('4 of 14', lines[0])
        self.assertRegex(lines[3], r'^ *1  # - +1/2$')
        self.assertRegex(lines[7], r'^ *5  R R +0/2  9 pages assigned, RMP$')

    def test_plain_text_is_plain(self):
        everything = small().text() + large().text() + rmpopt_map.legend([small(), large()])
        self.assertNotIn('\033', everything)
        self.assertTrue(everything.isascii())

    def test_colour(self):
        self.assertIn('\033[42', small().text(colour=True))
        self.assertIn('\033[0m', rmpopt_map.legend([small()], colour=True))

    def test_colour_does_not_move_anything(self):
        plain = re.sub('\033[^m]*m', '', small().text(colour=True))
        self.assertEqual(
            [len(line) for line in plain.splitlines()], [len(line) for line in small().text().splitlines()]
        )

    def test_large_fits(self):
        lines = large().text().splitlines()
        self.assertLess(len(lines), rmpopt_map.TEXT_ROWS + 3)
        self.assertLess(max(map(len, lines)), 120)

    def test_nothing_is_hidden(self):
        text = large().text()
        for char in '#-aR':
            self.assertRegex(text, rf'(?m)^ *[0-9-]+ .*[{char}]')
        rows = large().rows(rmpopt_map.TEXT_ROWS, rmpopt_map.TEXT_COLUMNS, merge=True)
        self.assertEqual(sum(row.optimized for row in rows), len(large().optimized()))
        self.assertEqual(sum(row.total for row in rows), large().total())

    def test_many_cores(self):
        one = Map([], [table(core, [0]) for core in range(300)], window(0, 1))
        row = one.rows(48, 64)[0]
        self.assertLessEqual(len(row.cells), 64)
        self.assertEqual(row.optimized, 300)

    def test_legend(self):
        text = rmpopt_map.legend([small()])
        for kind in rmpopt_map.KINDS:
            self.assertIn(kind.text, text)
        self.assertNotIn(HOLE.text, rmpopt_map.legend([large()]))


class Svg(unittest.TestCase):
    def test_well_formed(self):
        for maps in [small()], [large()], [small()] * 5:
            root = xml.etree.ElementTree.fromstring(rmpopt_map.svg(maps, 'a < b & "c"'))
            self.assertTrue(root.tag.endswith('svg'))

    def test_cells(self):
        picture = rmpopt_map.svg([small()])
        for kind in rmpopt_map.KINDS:
            self.assertIn(kind.rgb, picture)
        # A rectangle for each cell, seven in the legend, the background
        self.assertEqual(picture.count('<rect'), 14 + 7 + 1)

    def test_rows_of_maps(self):
        sizes = {
            number: [
                int(xml.etree.ElementTree.fromstring(rmpopt_map.svg([small()] * number)).attrib[side])
                for side in ('width', 'height')
            ]
            for number in (1, 4, 5, 8, 9)
        }
        self.assertEqual(sizes[4][1], sizes[1][1])
        self.assertEqual(sizes[5][0], sizes[4][0])
        self.assertEqual(sizes[8], sizes[5])
        # A row has a height of its own.
        self.assertEqual(sizes[9][1] - sizes[8][1], sizes[5][1] - sizes[4][1])
        self.assertGreater(sizes[9][1], sizes[8][1])
        # No map is drawn outside.
        for number, (width, height) in sizes.items():
            for place in xml.etree.ElementTree.fromstring(rmpopt_map.svg([small()] * number)).iter():
                self.assertLess(float(place.get('x', 0)), width)
                self.assertLess(float(place.get('y', 0)), height)

    def test_size(self):
        self.assertLess(len(rmpopt_map.svg([large()] * 5)), 1000000)
