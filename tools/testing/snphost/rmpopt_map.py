# SPDX-License-Identifier: GPL-2.0-only
"""
Draws which 1 GB regions RMPOPT has optimized on which core, from what the referee of
the emulated SNP host says: as text, and as SVG. Rows are regions, columns are cores.
"""
import dataclasses
import xml.sax.saxutils

GB = 1 << 30


@dataclasses.dataclass(frozen=True)
class Kind:
    """What a cell can be."""

    char: str
    ansi: str
    rgb: str
    text: str


OPTIMIZED = Kind('#', '42;30', '#2e9e4f', 'optimized: no RMP checks')
LOST = Kind('-', '41;97', '#d1372c', 'not optimized, though nothing is assigned')
ASSIGNED = Kind('a', '43;30', '#eda61c', 'pages are assigned to a guest or the firmware')
FIXED = Kind('F', '46;30', '#3fa7b5', 'HV-fixed pages')
RMP = Kind('R', '44;97', '#3b5fb0', 'holds the RMP')
NONE = Kind('.', '2', '#d9dce1', 'no RAM, or beyond the window of RMPOPT_BASE')
HOLE = Kind('!', '45;97;1', '#e10fd0', 'HOLE: optimized, though pages are assigned')

# In the order of the legend
KINDS = (OPTIMIZED, LOST, ASSIGNED, RMP, FIXED, NONE, HOLE)
# A cell that stands for several shows the first of these that is among them.
PRIORITY = (HOLE, ASSIGNED, LOST, RMP, FIXED, OPTIMIZED, NONE)

TEXT_ROWS = 48
TEXT_COLUMNS = 64
SVG_ROWS = 256
SVG_COLUMNS = 128
# Maps side by side in a picture; more begin a new row.
SVG_MAPS = 4


@dataclasses.dataclass
class Row:
    """One or more neighbouring regions, drawn as one."""

    first: int
    last: int
    cells: list
    optimized: int
    total: int
    notes: str

    @property
    def label(self):
        return f'{self.first}' if self.first == self.last else f'{self.first}-{self.last}'


def group(items, size):
    return [items[i : i + size] for i in range(0, len(items), size)]


def group_size(number, most):
    """The smallest power of two of which MOST groups are enough."""
    size = 1
    while number > size * most:
        size *= 2
    return size


class Map:
    """
    The tables at one moment. REGIONS and CORES are the properties of amd-snp-host, WINDOW
    the first and the last byte that the kernel wants optimized, RAM ranges of the same
    form. Without RAM it is taken to be everywhere.
    """

    def __init__(self, regions, cores, window, ram=None, title=''):
        self.title = title
        self.pages = {r['address'] // GB: r.get('assigned', 0) for r in regions}
        self.fixed = {r['address'] // GB: r.get('fixed', 0) for r in regions}
        self.rmp = {r['address'] // GB for r in regions if r.get('rmp')}
        self.tables = {c['core']: {c['base'] // GB + index for index in c['regions']} for c in cores}
        self.cores = sorted(self.tables)
        self.window = range(window[0] // GB, window[1] // GB + 1)
        self.ram = None
        if ram is not None:
            self.ram = {r for first, last in ram for r in range(first // GB, last // GB + 1)}
        # Memory beyond the window is shown, and what the referee knows of it.
        last = max(
            [
                self.window[-1],
                *(self.ram or ()),
                *self.pages,
                *(r for table in self.tables.values() for r in table),
            ]
        )
        self.regions = range(min(self.window[0], *(self.ram or (self.window[0],))), last + 1)

    def reason(self, region):
        """What a cell of that region is where it is not optimized."""
        if region in self.rmp:
            return RMP
        if self.pages.get(region):
            return ASSIGNED
        if self.fixed.get(region):
            return FIXED
        if region not in self.window or (self.ram is not None and region not in self.ram):
            return NONE
        return LOST

    def kind(self, core, region):
        if region not in self.tables[core]:
            return self.reason(region)
        return HOLE if self.pages.get(region) else OPTIMIZED

    def optimized(self):
        """All cells that are, as pairs of core and region."""
        return {(core, region) for core, table in self.tables.items() for region in table}

    def cells(self, kind):
        """All cells of that kind, in the same form."""
        return {
            (core, region)
            for core in self.cores
            for region in self.regions
            if self.kind(core, region) is kind
        }

    def count(self, kind):
        return len(self.cells(kind))

    def total(self):
        """The cells that the kernel wants."""
        return len(self.window) * len(self.cores)

    def losses(self):
        """Regions that are not optimized on all cores, with the reason, where RAM is."""
        return {
            region: self.reason(region)
            for region in self.regions
            if region in self.window
            and (self.ram is None or region in self.ram)
            and any(region not in table for table in self.tables.values())
        }

    def summary(self):
        return f'{len(self.optimized())} of {self.total()} cells optimized'

    # Rows

    def _row(self, regions, cores):
        cells = []
        for some in cores:
            kinds = {self.kind(core, region) for core in some for region in regions}
            cells.append(next(kind for kind in PRIORITY if kind in kinds))
        pages = sum(self.pages.get(region, 0) for region in regions)
        fixed = sum(self.fixed.get(region, 0) for region in regions)
        notes = []
        if pages:
            notes.append(f'{pages} pages assigned')
        if fixed:
            notes.append(f'{fixed} HV-fixed')
        if self.rmp.intersection(regions):
            notes.append('RMP')
        if self.ram is not None and not self.ram.intersection(regions):
            notes.append('no RAM')
        optimized = sum(region in table for region in regions for table in self.tables.values())
        return Row(
            regions[0], regions[-1], cells, optimized, len(regions) * len(self.cores), ', '.join(notes)
        )

    def rows(self, most_rows, most_columns, merge=False):
        """
        The rows to draw. Neighbours that look the same are one if MERGE is set and there
        is not room for each. Of the others, groups of equal size are one.
        """
        cores = group(self.cores, group_size(len(self.cores), most_columns))
        regions = [[region] for region in self.regions]
        if merge and len(regions) > most_rows:
            regions = self._merge(regions)
        if len(regions) > most_rows:
            regions = group(self.regions, group_size(len(self.regions), most_rows))
            regions = self._merge(regions) if merge else regions
        return [self._row(some, cores) for some in regions]

    def _merge(self, groups):
        merged: list[list[int]] = []
        before = None
        for some in groups:
            look = {tuple(self.kind(core, region) for core in self.cores) for region in some}
            noted = any(self.pages.get(r) or self.fixed.get(r) or r in self.rmp for r in some)
            if merged and not noted and look == before:
                merged[-1] = [*merged[-1], *some]
            else:
                merged.append(list(some))
            before = None if noted else look
        return merged

    # Text

    def text(self, colour=False, rows=TEXT_ROWS, columns=TEXT_COLUMNS):
        drawn = self.rows(rows, columns, merge=True)
        label = max(len('GB'), *(len(row.label) for row in drawn))
        count = max(len(f'{row.optimized}/{row.total}') for row in drawn)
        step = group_size(len(self.cores), columns)
        # A few cores can afford some air.
        wide = 2 if len(drawn[0].cells) <= 16 else 1
        lines = []
        if self.title:
            lines.append(f'{self.title}: {self.summary()}')
        lines.append(
            f'{"GB":>{label}}  '
            + self._ruler(len(drawn[0].cells), step, wide)
            + ('  core' if step == 1 else f'  core, {step} in each column')
        )
        for row in drawn:
            cells = ''.join(paint(kind, wide, colour) for kind in row.cells)
            counts = f'{row.optimized}/{row.total}'
            lines.append(f'{row.label:>{label}}  {cells}  {counts:>{count}}  {row.notes}'.rstrip())
        return '\n'.join(lines) + '\n'

    def _ruler(self, cells, step, wide):
        """Numbers of cores, as far as there is room for them."""
        ruler = ''
        for index in range(0, cells, 1 if wide > 1 else 8):
            name = str(self.cores[index * step])
            if not ruler or len(ruler) < index * wide:
                ruler = f'{ruler:<{index * wide}}{name}'
        return f'{ruler:<{cells * wide}}'


def paint(kind, wide, colour):
    plain = (kind.char * wide) if colour else f'{kind.char:<{wide}}'
    return f'\033[{kind.ansi}m{plain}\033[0m' if colour else plain


def legend(maps, colour=False):
    """The kinds that occur in these maps."""
    return ''.join(f'  {paint(kind, 2, colour)} {kind.text}\n' for kind in occurring(maps))


def occurring(maps):
    return [kind for kind in KINDS if any(m.count(kind) for m in maps)]


# SVG


def svg(maps, title='RMPOPT'):
    """The maps side by side, in rows, with one legend."""
    most = max(len(m.rows(SVG_ROWS, SVG_COLUMNS)) for m in maps)
    high = max(2, min(22, 640 // most))
    widest = max(len(group(m.cores, group_size(len(m.cores), SVG_COLUMNS))) for m in maps)
    wide = max(3, min(22, 220 // widest))
    left, top = 64, 74
    panel = max(left + widest * wide + 64, 190)
    panel_high = most * high + 60
    kinds = occurring(maps)
    legend_top = top + len(group(maps, SVG_MAPS)) * panel_high - 26
    width = max(24 + min(len(maps), SVG_MAPS) * panel, 460)
    height = legend_top + 20 * len(kinds) + 12
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}" '
        f'viewBox="0 0 {width} {height}" font-family="sans-serif" font-size="11" fill="#24292f">',
        f'<title>{escape(title)}</title>',
        '<rect width="100%" height="100%" fill="#ffffff"/>',
        text(12, 22, title, 'font-size="15" font-weight="bold"'),
    ]
    for number, one in enumerate(maps):
        row, column = divmod(number, SVG_MAPS)
        parts += panel_svg(one, 12 + column * panel, top + row * panel_high, left, wide, high)
    for number, kind in enumerate(kinds):
        y = legend_top + 20 * number
        parts += [
            f'<rect x="12" y="{y}" width="13" height="13" rx="2" fill="{kind.rgb}"/>',
            text(32, y + 11, kind.text),
        ]
    return '\n'.join([*parts, '</svg>', ''])


def panel_svg(one, x, top, left, wide, high):
    rows = one.rows(SVG_ROWS, SVG_COLUMNS)
    columns = len(rows[0].cells)
    parts = [
        text(x, top - 32, one.title, 'font-weight="bold"'),
        text(x, top - 17, one.summary(), 'fill="#57606a"'),
        text(x + left - 6, top - 4, 'GB', 'text-anchor="end" fill="#57606a"'),
    ]
    step = group_size(len(one.cores), SVG_COLUMNS)
    space = 0.5 if min(wide, high) < 6 else 1
    # As many labels as fit.
    every = max(1, -(-12 // high))
    for index in range(0, columns, max(1, -(-18 // wide))):
        parts.append(
            text(
                x + left + (index + 0.5) * wide,
                top - 4,
                str(one.cores[index * step]),
                'text-anchor="middle" fill="#57606a"',
            )
        )
    for number, row in enumerate(rows):
        y = top + number * high
        middle = y + high / 2 + 4
        if number % every == 0:
            parts += [
                text(x + left - 6, middle, row.label, 'text-anchor="end"'),
                text(x + left + columns * wide + 6, middle, f'{row.optimized}/{row.total}', 'fill="#57606a"'),
            ]
        # One rectangle for neighbours of a kind keeps large pictures small.
        start = 0
        for index in range(1, columns + 1):
            if space == 1 or index == columns or row.cells[index] is not row.cells[start]:
                parts.append(
                    f'<rect x="{x + left + start * wide}" y="{y}" '
                    f'width="{(index - start) * wide - space}" height="{high - space}" '
                    f'fill="{row.cells[start].rgb}">'
                    f'<title>{escape(hover(row, one.cores[start * step]))}</title></rect>'
                )
                start = index
    return parts


def hover(row, core):
    notes = f', {row.notes}' if row.notes else ''
    return f'{row.label} GB, core {core}{notes}'


def text(x, y, content, attributes=''):
    return f'<text x="{x:g}" y="{y:g}" {attributes}>{escape(content)}</text>'


def escape(content):
    return xml.sax.saxutils.escape(content)
