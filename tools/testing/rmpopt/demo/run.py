#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-only
"""
run.py: boots the kernel of the series on the emulated SNP host, starts and stops SNP guests,
shows after each step which 1 GB regions are optimized on which core, and judges that. The
last line is the sum. The status is 3 if a judgement has failed. MAP=FILE.svg writes the maps
as a picture.

run.py --shell: the same machine with a shell.

Started by run, which builds what is needed.
"""
import json
import os
import pathlib
import sys

import host
import rmpopt_map
from judge import Judge

GUESTS = 3
GUEST_MEMORY = '64M'
SNP_DECOMMISSION = 0x90
# The kernel waits for 10 seconds before a pass. These are seconds of the guest's clock, of
# which timers may be a little off, and in which everything has to be optimized again.
DELAY = 10
DELAY_TOLERANCE = 0.2
AGAIN = 25
PASS_TIMEOUT = 90
# A pass says when it is over.
PASS = r'rmpopt_pass_end: .*'
APPEND = 'loglevel=8 trace_event=rmpopt:rmpopt_pass_end tp_printk'


def names(cells):
    """Cells, to be printed."""
    return (
        ', '.join(
            f'{region} GB on core {core}'
            for region, core in sorted((region, core) for core, region in cells)[:16]
        )
        or 'none'
    )


def more_pages(before, after):
    """The regions with more assigned pages than before, and how many more."""
    return {
        region: number - before.pages.get(region, 0)
        for region, number in after.pages.items()
        if number > before.pages.get(region, 0)
    }


class Run:
    def __init__(self, machine, judge):
        self.host = machine
        self.judge = judge.judge
        self.colour = sys.stdout.isatty() and 'NO_COLOR' not in os.environ
        self.maps = []
        self.window = self.ram = None

    def show(self, title, picture=True):
        one = rmpopt_map.Map(self.host.snp('regions'), self.host.snp('cores'), self.window, self.ram, title)
        print(f'\n{one.text(self.colour)}', flush=True)
        if picture:
            self.maps.append(one)
        return one

    # The journal

    def decommissioned(self):
        """When the firmware gave up guests, in the order of time."""
        return sorted(
            e['at']
            for e in self.host.journal()
            if e['what'] == 'psp-done' and e['value'] == SNP_DECOMMISSION and not e['result']
        )

    def passes(self, after):
        """When passes began, later than AFTER."""
        return [entries[0]['at'] for entries in self.host.passes(after + 1)]

    def wait_pass(self, since=0, after=-1):
        """
        Waits for the end of a pass that has begun later than AFTER, nanoseconds of the
        guest's clock. Looks at the console from SINCE on. Has all CPUs run then, as cores
        catch up at their own tick. Returns what the kernel says.
        """
        while True:
            match = self.host.wait_console(PASS, PASS_TIMEOUT, since)
            since = self.host.log.console.index(match.string, since) + 1
            if self.passes(after):
                self.host.run_all_cpus()
                return match[0]

    def last_set(self, after):
        """
        When a bit that was clear was set last, of what came later than AFTER. The tables
        are made up from the journal; to execute RMPOPT again sets nothing.
        """
        tables: dict[int, set[int]] = {}
        last = None
        for e in self.host.journal():
            table = tables.setdefault(e['core'], set())
            if e['what'] == 'clear':
                table.discard(e['address'])
            elif e['what'] == 'clear-all':
                tables.clear()
            elif e['what'] == 'base':
                table.clear()
            elif e['what'] == 'rmpopt' and e['result'] and e['address'] not in table:
                table.add(e['address'])
                if e['at'] > after:
                    last = e['at']
        return last

    @staticmethod
    def lost(one):
        """Cells that could be optimized and are not. A hole in the RAM is not an excuse: the window ends there."""
        return one.cells(rmpopt_map.LOST) | one.cells(rmpopt_map.NONE)

    def tool(self, text, one):
        """What the kernel reports, by the tool of the series, agrees with the map."""
        print(f'\n# rmpopt\n{self.host.check("rmpopt")}', flush=True)
        seen = {
            region
            for entry in json.loads(self.host.check('rmpopt -j'))['ranges']
            if entry['state'] == 'optimized'
            for region in range(entry['first'], entry['last'] + 1)
        }
        wrong = seen ^ {region for _, region in one.optimized()}
        self.judge(
            f'{text}: rmpopt reports what the maps show',
            not wrong,
            f'different: {", ".join(f"{region} GB" for region in sorted(wrong))}',
        )

    def executed(self):
        """Not those that only ask"""
        return sum(e['what'] == 'rmpopt' and not e['value'] for e in self.host.journal())

    # The steps

    def boot(self):
        match = self.host.wait_console(host.RMPOPT_ENABLED, 1)
        self.ram = self.host.system_ram()
        # The RMP reaches to the end of the RAM and covers holes in it.
        self.window = int(match[2], 16), min(int(match[3], 16), max(last for _, last in self.ram))
        print(f'{match[0]}')
        self.show('After boot')
        cores = self.host.snp('cores')
        bases = {core['base'] for core in cores}
        self.judge(
            f'RMPOPT_BASE is the same on all {len(cores)} cores',
            len(cores) == int(match[1]) and len(bases) == 1 and bases != {0},
            f'cores of the kernel: {match[1]}, bases: {sorted(map(hex, bases))}',
        )

    def first_pass(self):
        print('Waiting for the first pass, 10 seconds after SNP has been initialized ...', flush=True)
        said = self.wait_pass()
        before = self.show('After the first pass')
        lost = self.lost(before)
        self.judge(
            f'the first pass: {said}',
            before.optimized() and not lost,
            f'not optimized: {names(lost)}' if lost else 'no region is optimized',
        )
        self.tool('the first pass', before)
        return before

    def guests(self, before):
        # Node 0 has the kernel's own regions; the other nodes have one each.
        numbers = ','.join(str(1 + guest) for guest in range(GUESTS))
        command = f'snp_vm --vms {GUESTS} --memory {GUEST_MEMORY} --node {numbers}'
        print(f'Starting {GUESTS} guests: {command}', flush=True)
        vms = self.host.program(command)
        vms.wait_line('^ready$', 120)
        during = self.show(f'With {GUESTS} guests')
        lost = before.optimized() - during.optimized()
        regions = sorted({region for _, region in lost})
        # Exactly the regions that guests have pages in, and those on all cores
        expected = {cell for cell in before.optimized() if cell[1] in more_pages(before, during)}
        self.judge(
            f'{GUESTS} guests cost {len(lost)} cells, in {len(regions)} region(s): '
            + ', '.join(f'{region} GB' for region in regions),
            lost and lost == expected,
            f'still optimized: {names(expected - lost)}; lost without a page: {names(lost - expected)}',
        )
        self.tool('with guests', during)
        return vms, during

    def teardown(self, vms):
        """Returns where the console and the guest's clock are at the last one."""
        since = 0
        for guest in range(GUESTS):
            since = self.host.console_position()
            answer = vms.ask(f'close {guest}')
            self.judge(f'guest {guest} is torn down', answer == 'ok', answer)
            self.show(f'{guest + 1} of {GUESTS} guests stopped', picture=guest == GUESTS - 1)
        status = vms.close()
        self.judge('snp_vm ends well', status == 0, f'status {status}: {vms.output()[-3:]}')
        return since

    def again(self, before, since):
        ends = self.decommissioned()
        if not self.judge(
            f'the firmware has decommissioned {GUESTS} guests',
            len(ends) == GUESTS,
            f'it has decommissioned {len(ends)}',
        ):
            return None, None
        end = ends[-1]
        print('Waiting for the pass that follows the last teardown by 10 seconds ...', flush=True)
        said = self.wait_pass(since, end)
        after = self.show('In the end')
        missing = self.lost(after) | before.optimized() - after.optimized()
        left = more_pages(before, after)
        self.judge(
            f'all is optimized again: {said}',
            not missing and not left,
            f'not optimized: {names(missing)}; pages still assigned: '
            + (', '.join(f'{number} in {region} GB' for region, number in left.items()) or 'none'),
        )
        self.tool('in the end', after)
        begin = (self.passes(end)[0] - end) / 1e9
        last = self.last_set(end)
        seconds = None if last is None else (last - end) / 1e9
        self.judge(
            f'the pass has begun {begin:.3f} s after the last teardown',
            begin >= DELAY - DELAY_TOLERANCE and seconds is not None and seconds <= AGAIN,
            f'it has to wait for {DELAY} s, and to optimize all within {AGAIN} s, but '
            + ('optimized nothing' if seconds is None else f'was through after {seconds:.3f} s'),
        )
        return after, seconds

    def verdict(self):
        for name, text in (
            ('violations', 'no RMPOPT bit or TLB entry let a write through that it must not'),
            ('audit-now', 'the tables agree with the RMP'),
        ):
            number = self.host.snp(name)
            self.judge(text, number == 0, f'{name}: {number}')
        found = self.host.complaints()
        if not found and self.host.tainted():
            found = ['it is tainted']
        self.judge('no complaint of the kernel', not found, '\n    '.join(found[:10]))

    def summary(self, before, during, after, seconds):
        print(f'\n{rmpopt_map.legend(self.maps, self.colour)}')
        print(
            f'cells optimized (core x region), of {before.total()}: {len(before.optimized())} before, '
            f'{len(during.optimized())} with guests, {len(after.optimized()) if after else "?"} after'
        )
        losses = (after or before).losses()
        for region, reason in losses.items():
            print(f'{region} GB stays slow: {reason.text}')
        if not losses:
            print('no region with RAM stays slow')
        if seconds is not None:
            print(
                f'from the last teardown to the last region optimized: {seconds:.3f} s of the guest\'s clock'
            )
        print(f'RMPOPT executed: {self.executed()} times')

    def picture(self):
        name = os.environ.get('MAP')
        if name and self.maps:
            pathlib.Path(name).write_text(
                rmpopt_map.svg(self.maps, 'RMPOPT: regions optimized, core by core'), encoding='utf-8'
            )
            print(f'maps: {name}')

    def all(self):
        self.boot()
        before = self.first_pass()
        vms, during = self.guests(before)
        since = self.teardown(vms)
        after, seconds = self.again(before, since)
        self.summary(before, during, after, seconds)
        self.verdict()


def shell():
    print("Booting to a shell. 'poweroff' leaves it, or Ctrl-a x.", flush=True)
    line = host.command_line(options=host.nodes(16), serial=('mon:stdio',), append='loglevel=4 shell=1')
    os.execv(line[0], line)


def main():
    if sys.argv[1:] == ['--shell']:
        shell()
    if len(sys.argv) != 1:
        sys.exit(__doc__.strip())
    log = (host.LOGS / 'run.log').relative_to(host.TOP)
    print(f'Booting the kernel on the emulated SNP host (log: {log}) ...', flush=True)
    judge = Judge()
    try:
        with host.Host('run', options=host.nodes(16), append=APPEND) as machine:
            run = Run(machine, judge)
            try:
                run.all()
                machine.quit()
            except host.HostError as error:
                judge.judge('the run completes', False, error)
            run.picture()
    except host.HostError as error:
        judge.judge('the kernel boots', False, error)
    if judge.failures:
        print(f'run: {len(judge.failures)} checks failed, see above; log: {log}')
    print(judge.total())
    sys.exit(3 if judge.failures else 0)


if __name__ == '__main__':
    main()
