# SPDX-License-Identifier: GPL-2.0-only
"""
A host of which a scenario judges what RMPOPT has done to it: by what the emulator has
seen. The kernel's word counts only where it complains. But for a few scenarios the
guest's clock jumps while it is idle, so what depends on time is one command of the guest.
"""
import contextlib
import itertools
import os
import re
import secrets
import zlib
from collections import Counter

import pytest

import host
from host import HostError
from judge import slug

GB = 1 << 30
# What a core's RMPOPT table covers
TABLE = 2048 * GB
SECOND = 1_000_000_000
NO_HOLD = 2**64 - 1
PSP = {'SNP_INIT_EX': 0x85, 'SNP_SHUTDOWN_EX': 0x86, 'SNP_DECOMMISSION': 0x90, 'SNP_PAGE_RECLAIM': 0xC7}
# The kernel's RMPOPT_WORK_TIMEOUT and RMPOPT_WORK_DEADLINE, and how long a pass may take to
# begin and to end
DELAY = 10 * SECOND
DEADLINE = 30 * SECOND
SLACK = 2 * SECOND
HALF_TICK = host.TICK * SECOND // 2000
# The same where the guest's clock is ours, and others may use this machine
SLACK_REAL = 8 * SECOND

TRACE = '/sys/kernel/tracing'
RELOAD = f'rmmod kvm_amd && rmmod ccp && {host.LOAD}'
CORES_4 = '8,sockets=1,cores=4,threads=2'

QUICK = bool(os.environ.get('QUICK'))
KCSAN = bool(os.environ.get('KCSAN'))
# The kernel of a test that names none
DEFAULT = 'full' if QUICK else 'full-debug'

# Properties of amd-snp-host where no public document tells how hardware is; the first is the default
PROPERTIES = {
    'rmpopt-base-locked': ('gp', 'ignore', 'off'),
    'rmpopt-disabled-table': ('clear', 'keep'),
    'shutdown-rmpopt-en': ('clear', 'keep'),
    'rmpopt-outside': ('cf0', 'gp'),
}


def settings(*values):
    return dict(zip(PROPERTIES, values))


# With the default each setting occurs, and the four ways in which disabled tables and shutdown can go.
MATRIX = (
    settings('ignore', 'keep', 'keep', 'gp'),
    settings('off', 'clear', 'keep', 'cf0'),
    settings('gp', 'keep', 'clear', 'gp'),
)

# How the properties are set for all scenarios that run: PROPERTY=VALUE,... or "all" for all ways
WANTED = os.environ.get('HOST_PROPERTIES')


def wanted_settings():
    if WANTED == 'all':
        return [settings(*values) for values in itertools.product(*PROPERTIES.values())]
    wanted = dict(part.partition('=')[::2] for part in (WANTED or '').split(','))
    for name, value in wanted.items():
        if value not in PROPERTIES.get(name, ()):
            raise pytest.UsageError(
                f'HOST_PROPERTIES: no {name}={value}, but '
                + ', '.join(f'{name}={"|".join(values)}' for name, values in PROPERTIES.items())
            )
    return [wanted]


def scenario(name, kind=None, others=(), kernel=DEFAULT, **arguments):
    """
    A decorator for tests of "m", a host of the class KIND that runs KERNEL, one of those of
    scripts/kernel. The test runs for each decorator, and with each of OTHERS, settings of
    PROPERTIES, once more, on a kernel that is fast. With QUICK=1 only with one of OTHERS, not
    the same for all tests, and tests are left out that need the debug kernel, or only show what
    the core of the series does. Without KCSAN=1, so are those that need the kernel with KCSAN.
    """
    if QUICK and others:
        others = (others[zlib.crc32(name.encode()) % len(others)],)

    def register(function):
        chosen = function.__dict__.setdefault('scenarios', [])

        def add(properties, kernel, *marks):
            chosen.append(
                pytest.param(
                    (kind or SnpHost, {**arguments, 'kernel': kernel, 'properties': properties}),
                    id=slug(' '.join((name, *properties.values()))),
                    marks=[pytest.mark.needs(f'host {kernel}'), *marks],
                )
            )

        if QUICK and kernel in ('full-debug', 'core') or not KCSAN and kernel == 'full-kcsan':
            return function
        if WANTED:
            for properties in wanted_settings():
                add(properties, kernel)
            return function
        add({}, kernel)
        for properties in others:
            add(properties, 'full', pytest.mark.variant)
        return function

    return register


def names(regions):
    return ', '.join(f'{pa // GB} GB' for pa in regions)


def pages_of(regions):
    """How many pages of these regions are assigned. Regions without any are left out."""
    return {pa: region['assigned'] for pa, region in regions.items() if region['assigned']}


class SnpHost(host.Host):
    """An emulated SNP host, judgements on it, and its journal in the terms of RMPOPT."""

    def __init__(
        self,
        name,
        judge,
        *,
        kernel=DEFAULT,
        smp='4,sockets=1,cores=2,threads=2',
        memory='6G',
        append='',
        nodes=False,
        virtual_time=True,
        x86_shutdown=True,
        properties=None,
        snp_host='',
        **arguments,
    ):
        self.properties = {key: values[0] for key, values in PROPERTIES.items()} | (properties or {})
        options = ''.join(f',{key}={value}' for key, value in self.properties.items())
        arguments['devices'] = (
            f'amd-snp-host,id=snp0,journal=on{options}{snp_host}',
            'amd-iommu,snp=on',
            f'amd-psp,id=psp0,x86-shutdown={"on" if x86_shutdown else "off"}',
        )
        self.judge = judge.judge
        self.equal = judge.equal
        self.note = judge.note
        # Positions on the console between which the kernel may say something
        self.excuses = []
        self.warned = False
        # The line of the console after which the kernel, or the modules, began anew
        self.history_start = 0
        # The same of the kernel, which may not be the first
        self.booted = 0
        # Optimized regions and assigned pages before the first guest, and how many
        # pages per region had to be leaked since then
        self.before = None
        self.leaked = {}
        self.nodes = nodes
        self.slack = SLACK if virtual_time else SLACK_REAL
        # QEMU's q35 puts 2 GB of the memory below 4 GB. The RMP is in the last one.
        self.top = 2 * GB + int(memory.removesuffix('G')) * GB
        # Regions that the RMP covers: all up to the end, be there memory or not
        self.covered = list(range(0, self.top, GB))
        # Where the tables start, but for cores with another window
        self.first = 0
        self.windows = {}
        if nodes:
            arguments['options'] = host.nodes(int(smp.split(',')[0]))
        super().__init__(
            name,
            kernel=kernel,
            smp=smp,
            memory=memory,
            virtual_time=virtual_time,
            append=f'loglevel=8 {append}',
            boot_timeout=600,
            **arguments,
        )

    def runs(self, text, command, timeout=host.TIMEOUT):
        status, output = self.run(command, timeout)
        return self.judge(text, status == 0, f'{command}: status {status}: {output[-500:]}')

    def fails(self, text, command, regex, timeout=host.TIMEOUT):
        status, output = self.run(command, timeout)
        return self.judge(
            text, status != 0 and re.search(regex, output), f'{command}: status {status}: {output[-500:]}'
        )

    def mark(self):
        """The position of a line on the console that the kernel has been asked for."""
        token = f'host-test: {secrets.token_hex(8)}'
        self.check(f'echo "{token}" >/dev/kmsg')
        self.wait_console(token)
        return next(index for index, line in enumerate(self.log.console) if token in line)

    def said(self, text, regex):
        """Since forget_history(). The line may be on its way to the log."""
        try:
            self.wait_console(regex, 20, self.history_start)
        except HostError:
            return self.judge(text, False, f'the kernel has not said: {regex}')
        return self.judge(text, True)

    def forget_history(self):
        """What the kernel has said, and what was optimized, does not count any more."""
        self.history_start = self.mark()
        self.before = None
        self.leaked = {}

    @contextlib.contextmanager
    def expect(self, regex):
        """Inside the kernel may complain of this."""
        start = self.mark()
        yield
        self.excuse(regex, start, self.mark())

    def excuse(self, regex, start, end):
        self.excuses.append((re.compile(regex), start, end))

    @contextlib.contextmanager
    def stopped(self):
        """The guest's clock stands still, no matter how long the script takes."""
        self.qmp('stop')
        try:
            yield
        finally:
            self.qmp('cont')

    def finish(self):
        """What has to hold at the end of every scenario."""
        self.mark()
        found = [
            line
            for index, line in self.numbered_complaints()
            if not any(start <= index < end and regex.search(line) for regex, start, end in self.excuses)
        ]
        self.judge('no complaint of the kernel', not found, '\n    '.join(found[:10]))
        self.equal('the kernel is tainted only if it had to warn', self.warned, self.tainted())
        self.equal('no violation', 0, self.snp('violations'))
        self.equal('the tables agree with the RMP', 0, self.snp('audit-now'))
        self.equal('no WRMSR of an enabled RMPOPT_BASE', [], self.base_rewritten())
        reach = {core: set(self.in_window(core)) for core in range(self.cores())}
        self.equal(
            "RMPOPT only where the RMP and the core's table reach",
            [],
            [e for e in self.events('rmpopt') if e['address'] not in reach[e['core']]],
        )
        self.equal('the journal is complete', 0, self.snp('journal-lost'))
        self.quit()

    # What the emulator has seen

    def events(self, *kinds, since=0, value=None):
        return [
            e
            for e in self.journal()
            if e['what'] in kinds and e['at'] >= since and value in (None, e['value'])
        ]

    def now(self):
        """The guest's clock as the journal has it: right after its last entry."""
        return self.journal()[-1]['at'] + 1 if self.journal() else 0

    # How many a core may need
    ticks_for_batch = 1

    def run_all_cpus(self, regions=None):
        """As a core may have to catch up with all regions, unless the test knows better"""
        super().run_all_cpus(self.ticks_for_batch * (len(self.in_reach()) if regions is None else regions))

    def work_on(self, worker, shell):
        """
        Has a pass go first on the CPU WORKER, and commands, interrupts of devices and the kernel's
        threads run on SHELL, so that other CPUs are idle until they are told to run.
        """
        self.check(
            f'echo {1 << worker:x} >/sys/devices/virtual/workqueue/cpumask && taskset -pc {shell} 1 && '
            f'for p in /proc/[0-9]*; do taskset -pc {shell} ${{p#/proc/}}; done >/dev/null 2>&1; '
            f'for i in /proc/irq/[0-9]*; do echo {shell} >$i/smp_affinity_list; done 2>/dev/null; '
            # Or threads for that wake up twice a second, all of them at once, and the load is balanced.
            'echo 0 >/proc/sys/vm/compaction_proactiveness'
        )

    @staticmethod
    def batches(entries):
        """Of entries of the journal: those of one tick or IPI of a CPU each, by the CPU"""
        found: dict[int, list[list[dict]]] = {}
        for e in entries:
            mine = found.setdefault(e['cpu'], [])
            # RMPOPT of a batch is closer than half a tick.
            if not mine or e['at'] > mine[-1][-1]['at'] + HALF_TICK:
                mine.append([])
            mine[-1].append(e)
        return found

    def verified(self, since=0):
        return self.events('rmpopt', since=since, value=0)

    def wait_pass(self, since):
        """Until the first pass has ended that began after SINCE, and all cores have caught up."""
        self.wait(lambda: self.passes(since), 'a pass')
        self.check('sleep 2')
        self.run_all_cpus()
        return self.passes(since)[0]

    def settle(self):
        """
        Nothing happens for a little longer than the delay: then all is to be as it should on a
        core that runs.
        """
        self.check('sleep 12')
        self.run_all_cpus()

    def window_of(self, core):
        return self.windows.get(core, self.first)

    def in_window(self, core):
        """Regions that the core's table has to care for, whatever the kernel says"""
        window = self.window_of(core)
        return [pa for pa in self.covered if window <= pa < window + TABLE]

    def in_reach(self):
        """The same of all cores"""
        windows = {self.window_of(core) for core in range(self.cores())}
        return [pa for pa in self.covered if any(first <= pa < first + TABLE for first in windows)]

    def trace_ipis(self):
        """
        Begins to count IPIs on account of RMPOPT: by the kernel's trace event of a function that
        an IPI has asked for.
        """
        # Not those of modules. grep takes a third of the time that awk does.
        functions = self.check(
            "grep -o ' t rmpopt_[a-z_]*$' /proc/kallsyms | cut -c 4- | grep -v 'test\\|kunit'"
        ).split()
        condition = ' || '.join(f'func.function == {name}' for name in sorted(set(functions)))
        self.check(
            f"cd {TRACE}/events/csd/csd_function_entry && echo '{condition}' >filter && echo 1 >enable"
        )

    def ipis(self):
        return int(self.check(f'grep -c csd_function_entry {TRACE}/trace || :'))

    def base_rewritten(self):
        """Writes to an RMPOPT_BASE that was enabled, also of the same value"""
        return [e for e in self.events('base', 'base-gp', 'base-ignored') if e['address'] & 1]

    def kernels_windows(self):
        """Cores and tables as this kernel has said it, the last byte made an end"""
        return [
            (int(match[1]), int(match[2], 16), int(match[3], 16) + 1)
            for match in map(host.RMPOPT_ENABLED.search, self.log.console[self.booted :])
            if match
        ]

    def cores(self):
        return len(self.snp('cores'))

    def tables(self):
        """Regions that are optimized, by core."""
        return {
            core['core']: {(core['base'] & -GB) + region * GB for region in core['regions']}
            for core in self.snp('cores')
        }

    def bases(self):
        return [core['base'] for core in self.snp('cores')]

    def regions(self):
        return {region['address']: region for region in self.snp('regions')}

    def assigned_pages(self):
        """How many are assigned, by region"""
        return pages_of(self.regions())

    def assigned_in(self, region):
        return self.assigned_pages().get(region, 0)

    def now_optimized(self):
        """
        What is optimizable, with nothing in it that RMPOPT would have to respect; the
        tables; and regions. All of the same moment, after each CPU has run.
        """
        self.run_all_cpus()
        return self.as_it_is()

    def as_it_is(self):
        """The same, whether or not CPUs have run"""
        with self.stopped():
            tables, regions = self.tables(), self.regions()
        return (
            {pa for pa in self.in_reach() if host.can_be_optimized(regions.get(pa, {}))},
            tables,
            regions,
        )

    def all_optimized(self, text):
        """
        All that can be. The first time after forget_history(), before there were guests, this
        is kept. From then on the same has to be optimized, and as many pages assigned, but
        for those in self.leaked.
        """
        wanted, tables, regions = self.now_optimized()
        pages = pages_of(regions)
        good = self.judge(
            text,
            wanted and all(table == wanted & set(self.in_window(core)) for core, table in tables.items()),
            f'{sorted(pa // GB for pa in wanted)} GB expected, found '
            f'{ {core: sorted(pa // GB for pa in t) for core, t in tables.items()} }',
        )
        if not self.before:
            self.before = wanted, pages
            if self.nodes:
                rmp = {pa for pa, region in regions.items() if region['rmp']}
                good &= self.equal(
                    f'{text}: above 4 GB that is all but the RMP',
                    set(range(4 * GB, self.top, GB)) - rmp,
                    {pa for pa in wanted if pa >= 4 * GB},
                )
            return good
        good &= self.equal(f'{text}: what was before', self.before[0] - set(self.leaked), wanted)
        return self.equal(f'{text}: assigned pages as before', self.expected_pages(), pages) and good

    def expected_pages(self):
        """How many pages have to be assigned, by region"""
        assert self.before
        return dict(Counter(self.before[1]) + Counter(self.leaked))

    def stay_assigned(self, text, number):
        """So many pages more than before stay assigned, in whatever region, and are leaked."""
        found = Counter(self.assigned_pages()) - Counter(self.expected_pages())
        self.equal(f'{text}: pages stay assigned', number, found.total())
        self.leaked = dict(Counter(self.leaked) + found)

    def one_pass(self, text, entries, start, held=False, regions=None):
        """
        A pass that visits these regions and no others, or only such as have lost
        something, at most once on each core, and not too early; nor too late, unless it
        had to wait for another one that the script has held.
        """
        seen = [(e['core'], e['address']) for e in entries]
        good = self.judge(
            f'{text}: in one pass',
            len(seen) == len(set(seen)),
            f'{len(seen)} RMPOPT for {len(set(seen))} cells',
        )
        visited = list(dict.fromkeys(e['address'] for e in entries))
        if regions is None:
            lost = {e['address'] for e in self.events('clear') if e['at'] < entries[-1]['at']}
            good &= self.judge(
                f'{text}: only what has lost something',
                visited and set(visited) <= lost | self.never_optimizable(),
                f'{names(visited)}, but only {names(lost)} had lost something',
            )
        else:
            good &= self.equal(f'{text}: the right regions in order', names(regions), names(visited))
        delay = entries[0]['at'] - start
        return (
            self.judge(
                f'{text}: 10 s later',
                DELAY - SECOND // 50 <= delay and (held or delay <= DELAY + self.slack),
                f'{delay / SECOND:.3f} s',
            )
            and good
        )

    def never_optimizable(self):
        return set(self.in_reach()) - self.now_optimized()[0]

    def set_up(self):
        """RMPOPT is set up, and what that has to look like. The kernel tells once per boot."""
        self.said('SNP is enabled', r'kvm_amd: SEV-SNP enabled')
        windows = [self.window_of(core) for core in range(self.cores())]
        self.equal(
            'cores and tables, said once',
            [(windows.count(first), first, first + TABLE) for first in sorted(set(windows))],
            self.kernels_windows(),
        )
        self.equal('RMPOPT_BASE on every core', [first | 1 for first in windows], self.bases())

    def x86_shut_down(self):
        """The firmware has shut SNP down, and what that leaves on the cores."""
        self.equal('SNP is off', 'uninit', self.psp('state')['snp'])
        enabled = int(self.properties['shutdown-rmpopt-en'] == 'keep')
        self.equal(
            'RMPOPT_BASE is as the firmware leaves it',
            [self.window_of(core) | enabled for core in range(self.cores())],
            self.bases(),
        )

    def last(self, *kinds, value=None):
        return self.events(*kinds, value=value)[-1]['at']

    def guests(self, *options):
        vms = self.program(' '.join(('snp_vm', *options)))
        vms.wait_line('^ready$')
        return vms

    def rmpopt_is_unused(self):
        """RMPOPT is not used. That there was time for a pass costs nothing, the clock jumps."""
        self.check('sleep 15')
        self.run_all_cpus()
        self.equal('RMPOPT is never executed', [], self.verified())
        self.judge(
            'RMPOPT_BASE is never enabled', not any(self.bases()) and not self.events('base'), self.bases()
        )

    @staticmethod
    def load():
        return host.LOAD

    def asids(self):
        return self.check("awk '$1 == \"sev_es\" { print $2 }' /sys/fs/cgroup/host/misc.current").strip()

    def no_leaks(self):
        """
        Asks kmemleak, which the debug kernel has. It wants to be sure, so it takes two scans.
        It does not look into the table of RMP segments, a page, and thinks they are lost.
        """
        if self.arguments['kernel'] != 'full-debug':
            return
        text = self.check(
            'cd /sys/kernel/debug && echo scan >kmemleak && echo scan >kmemleak && cat kmemleak'
        )
        self.equal(
            'nothing has leaked',
            [],
            [
                report
                for report in re.split('(?=unreferenced object)', text)
                if report.strip() and 'alloc_rmp_segment_desc' not in report
            ],
        )
