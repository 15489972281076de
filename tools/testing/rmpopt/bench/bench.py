#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-only
"""
bench.py [--quick]: what RMPOPT costs and gains, without the series, with the core of it and
with all of it, on the emulated SNP host. Leaves build/bench/bench.json, and a page for a reader,
bench.html; the table in it is also in bench.txt, that of the cover letter in cover.txt. The
last line is the sum of what was judged. The status is 3 if the full series did more than it
promises.

--quick: only the full series, and such cases as fit into two minutes; no page.

BENCH=WORD: only the cases that have that in their name and kernel, as in BENCH=starved-full;
then there is no page.
With OTHER= set there is one more kernel, "other", that brings RMPOPT in its own way. Of it
nothing is promised: what goes wrong there is in its rows.

Started by bench, which builds what is needed. What is counted comes from the emulator's
referee, and from trace events in the guest that the kernel has without RMPOPT. Nothing has
to be known of how a kernel uses RMPOPT. Times are modelled, see MODEL.
"""
import base64
import bisect
import collections
import concurrent.futures
import contextlib
import html
import itertools
import json
import os
import re
import subprocess
import sys
import threading
import time
import zlib

import host
import numa
from host import BATCH, BUILD, CPUS, LOAD, NODES, TICK, HostError, home
from judge import Judge
import rmpopt_map

GB = rmpopt_map.GB
# Entries of the RMP that the emulator reads for a region, one for each 2 MB
ENTRIES = 512

# The kernels of scripts/kernel that are compared
ALL = ('without', 'core', 'full', *(('other',) if os.environ.get('OTHER') else ()))

SOME = os.environ.get('BENCH')

# What AMD has published in review of RMPOPT, for a machine with 2 TB and several hundred
# threads: the cycles of one RMPOPT; and the milliseconds of whole passes over 2048 regions,
# one core first and then one broadcast for each region. The clock is assumed.
CYCLES_FIRST_FAILS = 60
CYCLES_CACHED = 5700
CLOCK_GHZ = 2.0
PASS_CLEAN_MS = 311
PASS_FIRST_FAILS_MS = 95
PASS_REGIONS = 2048
# In microseconds. The last one is an assumption: function 1 does not scan.
US_FIRST_FAILS = CYCLES_FIRST_FAILS / CLOCK_GHZ / 1000
US_CACHED = CYCLES_CACHED / CLOCK_GHZ / 1000
US_ROUND = PASS_FIRST_FAILS_MS * 1000 / PASS_REGIONS
US_SCAN = (PASS_CLEAN_MS - PASS_FIRST_FAILS_MS) * 1000 / PASS_REGIONS - US_CACHED
US_QUERY = US_FIRST_FAILS
# What the full series promises: microseconds with interrupts off, if no verdict is lost; and
# seconds until a stale region is optimized, whatever guests do, with some for the pass
US_IRQ_OFF = 50
DEADLINE = 30
SLACK = 2

MODEL = [
    f'RMPOPT that fails at the first entry: {CYCLES_FIRST_FAILS} cycles; with a cached verdict: {CYCLES_CACHED} '
    f'cycles, the upper figure published. The clock is taken to be {CLOCK_GHZ} GHz.',
    f'One that scans a region: {US_SCAN:.1f} us, from the {PASS_CLEAN_MS} ms of a pass over '
    f'{PASS_REGIONS} clean regions and the {PASS_FIRST_FAILS_MS} ms of one where each fails at its '
    f'first entry, less a cached one. One that fails later is charged for the part of the {ENTRIES} '
    'entries that it reads.',
    f'A round of IPIs: {US_ROUND:.1f} us of the core that goes first, from the {PASS_FIRST_FAILS_MS} ms. Taking an '
    'interrupt is not charged to the other cores, which the IPIs per core are for.',
    'That another core is told of a region, for its next tick, is not charged to the core that goes first.',
    'RMPOPT function 1: as one that fails at the first entry. Nothing has been published.',
    'Longest stretch with interrupts off: the RMPOPT that a core executed in one IPI, each charged as above.',
]

VM = 'snp_vm --vms 1 --memory 1M </dev/null >/dev/null'

SECOND = 1_000_000_000
TRACING = '/sys/kernel/tracing/instances/bench'
# Functions that an IPI has asked for. Those that a CPU has asked itself for have no csd.
ASKED = re.compile(r'\[(\d+)\] \S+ +(\d+): csd_function_(entry|exit): func=(.+), csd=(\S+)$')
# Timers that a CPU looks after, and whether it sleeps
EVENTS = (
    'csd/csd_function_entry',
    'csd/csd_function_exit',
    'irq/softirq_entry',
    'irq/softirq_exit',
    'power/cpu_idle',
)
TIMERS = re.compile(r'\[(\d+)\] \S+ +(\d+): softirq_(entry|exit): vec=1 ')
SLEEP = re.compile(r'\[(\d+)\] \S+ +(\d+): cpu_idle: state=(\d+) ')
AWAKE = 2**32 - 1
NO_CSD = re.compile(r'0+|\(null\)')
# No pass comes later than that after what it is for, or after another one. A pass of
# some kernels is 10 seconds late.
QUIET = 12
# After that what is lost is lost for good, but for a guest that ends
FOR_GOOD = 300
HELD_NONE = 2**64 - 1
OOPS = re.compile(r'^(Oops|BUG: |general protection)|Kernel panic')


class LeftOut(Exception):
    """A kernel cannot do this case. Why is the text."""


def cost(entries, failed, cached, queries):
    """Microseconds for so many RMPOPT"""
    return entries / ENTRIES * US_SCAN + failed * US_FIRST_FAILS + cached * US_CACHED + queries * US_QUERY


def cost_of(e):
    """The same for an RMPOPT of the journal"""
    verify = not e['value']
    return cost(e['entries'], verify and not e['result'], verify and e['result'] == 1, not verify)


def windows(trace):
    """By CPU the functions that it was asked for, in order: begin, end, function, whether by an IPI"""
    found: dict[int, list[tuple]] = {}
    begun = {}
    for line in trace.splitlines():
        match = ASKED.search(line)
        if not match:
            continue
        cpu, at, what, function, csd = match.groups()
        if what == 'entry':
            begun[cpu] = int(at)
        elif cpu in begun:
            found.setdefault(int(cpu), []).append(
                (begun.pop(cpu), int(at), function, not NO_CSD.fullmatch(csd))
            )
    return found


def timers(trace):
    """By CPU the times at which it looked after its timers, in order: begin, end"""
    found: dict[int, list[tuple]] = {}
    begun = {}
    for match in filter(None, map(TIMERS.search, trace.splitlines())):
        cpu, at, what = match.groups()
        if what == 'entry':
            begun[cpu] = int(at)
        elif cpu in begun:
            found.setdefault(int(cpu), []).append((begun.pop(cpu), int(at)))
    return found


def sleeps(trace):
    """By CPU when it fell asleep or woke up, in order: time, whether it sleeps from then on"""
    found: dict[int, list[tuple]] = {}
    for match in filter(None, map(SLEEP.search, trace.splitlines())):
        cpu, at, state = map(int, match.groups())
        found.setdefault(cpu, []).append((at, state != AWAKE))
    return found


def last_of(found, cpu, at):
    """What began last on the CPU by then, None if nothing did"""
    mine = found.get(cpu, [])
    index = bisect.bisect(mine, at, key=lambda entry: entry[0]) - 1
    return mine[index] if index >= 0 else None


def slept(states, cpu, at):
    """Whether the CPU slept until then"""
    state = last_of(states, cpu, at)
    return bool(state and state[1])


def window_of(asked, cpu, at):
    """The function that was running, or the timers, None if none was"""
    window = last_of(asked, cpu, at)
    return window if window and at <= window[1] else None


def stretches(executed, asked):
    """
    Lists of RMPOPT that a CPU has executed without being able to take an interrupt in between.
    Those in one function that an IPI has asked for are one list. Where else interrupts
    are off nobody knows when they were on in between, so the list goes on, until an
    RMPOPT has found them on, or something else is executed in an IPI.
    """
    done: list[list[dict]] = []
    current: dict[int, tuple] = {}
    for e in executed:
        cpu = e['cpu']
        if e['irqs']:
            current.pop(cpu, None)
            continue
        window = window_of(asked, cpu, e['at'])
        if cpu not in current or current[cpu][0] != window:
            current[cpu] = window, []
            done.append(current[cpu][1])
        current[cpu][1].append(e)
    return done


def in_softirq(executed, looked_after):
    """Lists of RMPOPT that a CPU has executed while it looked after its timers, with interrupts on"""
    found: dict[tuple, list[dict]] = {}
    for e in executed:
        window = window_of(looked_after, e['cpu'], e['at']) if e['irqs'] else None
        if window:
            found.setdefault((e['cpu'], window), []).append(e)
    return list(found.values())


def late(verified):
    """Nanoseconds from the first core's RMPOPT for a region to that of each other one, at most"""
    first: dict[int, dict] = {}
    done: dict[int, set] = {}
    most = 0
    for e in verified:
        pa = e['address']
        # Once more: another pass
        if pa not in first or e['core'] in done[pa]:
            first[pa], done[pa] = e, set()
        done[pa].add(e['core'])
        if e['result']:
            most = max(most, e['at'] - first[pa]['at'])
    return most


class Bench(host.Host):
    """A host with one of the kernels. One thread per core, so that a CPU is a core."""

    def __init__(
        self,
        series,
        name,
        *,
        smp,
        memory='6G',
        sparse='',
        append='host.modules=no',
        virtual_time=True,
        **machine,
    ):
        snp = f'amd-snp-host,id=snp0,journal=on{sparse}'
        self.series = series
        self.window = self.ram = None
        # What it is at, for a kernel that dies; complaints and violations told so far
        self.doing = 'boot'
        self.told = self.broken = 0
        self.stretches = []
        super().__init__(
            f'bench-{name}-{series}',
            kernel=series,
            smp=smp,
            memory=memory,
            virtual_time=virtual_time,
            boot_timeout=600,
            append=f'loglevel=7 {append}',
            devices=(snp, 'amd-iommu,snp=on', 'amd-psp,id=psp0'),
            **machine,
        )

    def map(self):
        """Without the series nobody says what the window is; then it is all RAM."""
        if not self.ram:
            self.ram = self.system_ram()
            first = min(first for first, _ in self.ram) & -GB
            self.window = first, min(max(last for _, last in self.ram), first + 2048 * GB - 1)
        return rmpopt_map.Map(self.snp('regions'), self.snp('cores'), self.window, self.ram)

    def vcpus(self):
        return {vcpu['index']: vcpu for vcpu in self.snp('vcpus')}

    def has(self, module):
        return any(host.kernel_dir(self.series).glob(f'modules/lib/modules/*/updates/{module}.ko'))

    def lost(self):
        """Regions that could be optimized on all cores and are not"""
        return len({region for _, region in self.map().cells(rmpopt_map.LOST)})

    def outcome(self):
        """What went wrong since the last call"""
        found = self.complaints()
        new, self.told = found[self.told :], len(found)
        rules = self.snp('violations') if self.alive() else self.broken
        broken, self.broken = rules > self.broken, rules
        if any(OOPS.search(line) for line in new):
            return 'oops'
        return 'breaks rules' if broken else 'complains' if new else 'ok'

    def died_by_oops(self):
        return any(OOPS.search(line) for line in self.complaints())

    def trace(self):
        """
        Begins with what IPIs ask for, when a CPU looks after timers, and when it sleeps. The clock is
        that of the journal: with -icount the TSC counts nanoseconds of virtual time.
        """
        self.check(
            f'mkdir -p {TRACING} && cd {TRACING} && echo x86-tsc >trace_clock && echo >trace && '
            'echo vec==1 >events/irq/softirq_entry/filter && echo vec==1 >events/irq/softirq_exit/filter && '
            + ' && '.join(f'echo 1 >events/{event}/enable' for event in EVENTS)
        )

    def traced(self):
        self.check(f'cd {TRACING} && ' + ' && '.join(f'echo 0 >events/{event}/enable' for event in EVENTS))
        kept, written = re.findall(
            r'entries-in-buffer/entries-written: (\d+)/(\d+)', self.check(f'head -n 20 {TRACING}/trace')
        )[0]
        if kept != written:
            raise self.error(f'trace events were lost: {kept} of {written} kept')
        packed = self.check(f"grep -v '^#' {TRACING}/trace | gzip -1 | base64", 600)
        return zlib.decompress(base64.b64decode(packed), wbits=31).decode()

    def executed(self, since=0):
        return [e for e in itertools.islice(self.journal(), since, None) if e['what'] == 'rmpopt']

    def settle(self):
        """Until no pass has come for so long that none will"""
        for _ in range(20):
            position = len(self.journal())
            self.check(f'sleep {QUIET}', 600)
            if not self.executed(position):
                return
        raise self.error('there is no end of passes')

    def with_ram(self):
        """Regions that have RAM"""
        return {region for first, last in self.system_ram() for region in range(first // GB, last // GB + 1)}

    def catch_up(self):
        """Cores may have slept, and have nothing to catch up with before they run."""
        self.run_all_cpus(len(self.with_ram()))

    def step(self, what):
        """What it costs, a command or a function, with the passes that it leads to."""
        self.doing = what if isinstance(what, str) else what.__name__
        self.trace()
        position = len(self.journal())
        begun = self.journal()[-1]['at'] + 1 if position else 0
        before = self.vcpus()
        since = time.monotonic()
        if isinstance(what, str):
            self.check(what, 1800)
        else:
            what()
        # Passes come 10 seconds after what they are for, or after a first one.
        self.check(f'sleep {QUIET}', 600)
        self.settle()
        self.catch_up()
        wall = time.monotonic() - since
        delta = [
            {key: vcpu[key] - before[index][key] for key in vcpu if key not in ('index', 'core')}
            for index, vcpu in self.vcpus().items()
        ]
        executed = self.executed(position)
        trace = self.traced()
        asked, looked_after, states = windows(trace), timers(trace), sleeps(trace)
        verified = [e for e in executed if not e['value']]
        visited = {e['address'] for e in verified}
        optimized = {e['address'] for e in verified if e['result']}
        # Since boot: what is returned may have been assigned long before.
        touched = {e['address'] for e in self.journal() if e['what'] == 'clear'}
        us = [
            cost(*(d[f'rmpopt-{key}'] for key in ('entries-read', 'failed', 'cached', 'queries')))
            for d in delta
        ]
        # The work may move to another core from pass to pass
        first = max(range(len(us)), key=lambda cpu: us[cpu])
        # IPIs on behalf of RMPOPT are those that ask for a function in which it is executed.
        functions = {
            window[2] for window in (window_of(asked, e['cpu'], e['at']) for e in executed) if window
        }
        taken = [
            (cpu, begin)
            for cpu, mine in asked.items()
            for begin, _, function, by_ipi in mine
            if by_ipi and function in functions
        ]
        ipis = collections.Counter(cpu for cpu, _ in taken)
        rounds = max(ipis.values(), default=0)
        self.stretches = stretches(executed, asked)
        softirqs = in_softirq(verified, looked_after)
        now = self.map()
        # That the last page of a region is not the firmware's cannot be known.
        needless = visited - touched - {region * GB for region in now.losses()}
        total = {
            key: sum(d[f'rmpopt-{key}'] for d in delta)
            for key in ('uncached', 'cached', 'failed', 'queries', 'entries-read')
        }
        verify = total['uncached'] + total['cached'] + total['failed']
        return {
            'passes': len(self.passes(begun)),
            'needless': len(needless),
            'visited': len(visited),
            'optimized': len(optimized),
            **total,
            'verify': verify,
            'rmpopt': verify + total['queries'],
            'journal': (len(executed), sum(e['entries'] for e in executed)),
            'ipis': rounds,
            'ipis-all': sum(ipis.values()),
            'woken': sum(slept(states, cpu, at) for cpu, at in taken),
            'softirq': max(map(len, softirqs), default=0),
            'softirq-reading': max((sum(e['entries'] > 0 for e in some) for some in softirqs), default=0),
            'late-ms': late(verified) / 1e6,
            'late-s': late(verified) / SECOND,
            'functions': sorted(functions),
            'lost': self.lost(),
            'first-us': us[first] + rounds * US_ROUND,
            'other-us': max((t for cpu, t in enumerate(us) if cpu != first), default=0),
            'irq-off': max(map(len, self.stretches), default=0),
            'irq-off-entries': max((sum(e['entries'] for e in some) for some in self.stretches), default=0),
            'irq-off-reading': max(
                (sum(e['entries'] > 0 for e in some) for some in self.stretches), default=0
            ),
            'irq-off-us': max((sum(map(cost_of, some)) for some in self.stretches), default=0),
            'wall-s': wall,
        }

    def for_good(self, row):
        """The same with what is lost in the end, if no guest ends"""
        self.check(f'sleep {FOR_GOOD}', 1800)
        return {**row, 'lost-for-good': self.lost()}

    def load(self):
        return self.step(f"taskset -c 0 sh -c '{LOAD}'")

    def talk(self, program, *lines):
        for line in lines:
            answer = program.ask(line)
            if answer != 'ok':
                raise self.error(f'{line}: {answer}')

    def place(self, *arguments):
        """Physical addresses of the pages that are private then."""
        if not self.has('rmp_place'):
            raise LeftOut('rmp_place cannot be built for it')
        since = self.console_position()
        self.check(f'modprobe rmp_place {" ".join(arguments)}')
        match = self.wait_console(r'rmp_place: (\d+) regions have a private page', 60, since)
        placed = [
            int(pa, 16)
            for pa in re.findall('^rmp_place: 0x([0-9a-f]+)$', '\n'.join(self.log.console[since:]), re.M)
        ]
        if len(placed) != int(match[1]):
            raise self.error(f'{len(placed)} addresses of {match[1]} pages')
        return placed

    def end_guest(self):
        return self.step(f"sh -c '{VM}'")

    def give_back(self):
        return self.step(f"sh -c 'rmmod rmp_place && {VM}'")


# The cases. Each yields rows: what is special about it, and what it cost.


def boot(b):
    """Pages that are kept come from node 0, what a status ioctl borrows from where the CPU is."""
    yield 'boot, SNP not initialized', b.step('true')
    yield 'kvm-amd is loaded', b.load()
    for cpu in CPUS:
        row = b.step(f'taskset -c {cpu} sev_ioctl snp_platform_status')
        yield f'a status ioctl of /dev/sev, node {cpu // 2}', b.for_good(row) if cpu == CPUS[-1] else row
    if b.series == 'full':
        # Cores have something to catch up with only where a region can be optimized.
        row = b.step(
            f'rmpopt_stat.sh taskset -c {home(b.map())} sev_ioctl snp_platform_status '
            '>/tmp/stat 2>/tmp/error'
        )
        yield 'an ioctl, counted by rmpopt_stat.sh', {**row, 'stat': json.loads(b.check('cat /tmp/stat'))}


def private(b):
    b.load()
    placed = b.place()
    yield 'a private page in each', {
        **b.end_guest(),
        'placed': len(placed),
        'pages-to-the-end': max(-pa % GB for pa in placed) // 4096,
    }
    yield 'empty', b.give_back()
    yield 'empty, again', b.end_guest()


def teardown(b, first, most):
    b.load()
    for k in most:
        placed = len(b.place(f'first={first}', f'regions={k}'))
        if placed != k:
            raise b.error(f'a private page in {placed} regions of {k}')
        yield f'{k} region{"s" if k > 1 else ""}', {**b.give_back(), 'k': k}


def many(b):
    b.load()
    for number in 1, 10, 50:
        yield f'{number} guest{"s" if number > 1 else ""}', b.step(
            f"sh -c 'snp_vm --vms {number} --memory 1M --node 1,2,3,4 </dev/null >/dev/null'"
        )


# Node N has the region N GB above this, see host.nodes().
NODE_0 = 3


def punched(b):
    """A guest that lives returns all of its memory. Nothing asks for a pass."""
    b.load()
    vms = b.program('snp_vm --memory 16M --node 1')
    vms.wait_line('^ready$')
    b.settle()

    def punch():
        b.talk(vms, *(f'punch 0 {offset}M 4M' for offset in range(0, 16, 4)))

    yield 'holes in all memory of a guest that lives', b.for_good(b.step(punch))
    yield 'it ends', b.step(vms.close)


def onlined(b):
    """The kernel has been told not to use the GB from 6 GB on. Now it gets to know of it."""
    b.load()
    region = 6 * GB
    sysfs = '/sys/devices/system/memory'
    size = int(b.check(f'cat {sysfs}/block_size_bytes'), 16)

    def online():
        for pa in range(region, region + GB, size):
            b.check(f'echo {pa:#x} >{sysfs}/probe && echo online_movable >{sysfs}/memory{pa // size}/state')
        b.ram = None

    yield '1 GB of memory comes online', b.for_good(b.step(online))
    yield 'a guest ends after that', b.end_guest()


# A guest ends every so many seconds, for so long
EVERY = 5
STARVED = 120


def starved(b):
    """
    Guests end all the time, in a region of their own. Two regions that no guest is in lose their
    optimization to the firmware in the first half, and are stale until a pass.
    """
    b.load()
    one = f'snp_vm --vms 1 --memory 1M --node 1 </dev/null; sleep {EVERY}'
    guests = f'for i in $(seq {STARVED // EVERY // 2}); do {one}; done'
    victims = {(NODE_0 + node) * GB: 0.0 for node in (2, 3)}
    position = len(b.journal())
    for node in 2, 3:
        b.check(f'sev_ioctl snp_platform_status 1 {node} && {guests}', 1800)
    # For the journal to have an entry of now
    b.check('sev_ioctl platform_status')
    events = b.journal()[position:]
    number, end = len(b.snp('cores')), events[-1]['at']
    for region in victims:
        lost = max((e['at'] for e in events if e['what'] == 'clear' and e['address'] == region), default=None)
        if lost is None:
            raise b.error(f'the firmware has borrowed no page at {region // GB} GB')
        have: set[int] = set()
        until = end
        for e in events:
            if (
                e['at'] > lost
                and e['what'] == 'rmpopt'
                and not e['value']
                and e['address'] == region
                and e['result']
            ):
                have.add(e['core'])
            if len(have) == number:
                until = e['at']
                break
        victims[region] = (until - lost) / SECOND
    yield f'a guest ends every {EVERY} s for {STARVED} s', {
        'passes-then': len(b.passes(events[0]['at'])),
        'stale-s': max(victims.values()),
        'span-s': (end - events[0]['at']) / SECOND,
    }
    yield 'after that', b.step('true')


PRIVATE = '/sys/module/rmp_place/parameters/private'
MANY = 2 * BATCH
GIVE_BACK = f'echo 0 >{PRIVATE} && {VM}'


def place_many(b, first):
    if len(b.place(f'first={first}', f'regions={MANY}')) != MANY:
        raise b.error('no private page in each region')


def lose_verdicts(b, first, lose):
    """
    LOSE has a command take the verdicts from hardware, and returns what the first core had
    executed before.
    """
    lost: list[list[dict]] = []

    def returned():
        lost.append(lose(f'echo 1 >{PRIVATE} && echo 0 >{PRIVATE}'))

    def kept():
        lost.append(lose(f'echo 1 >{PRIVATE}'))

    for what, text in (returned, 'assigned and returned'), (kept, 'assigned'):
        row = b.step(what)
        yield f'verdicts lost, pages {text}', {
            **row,
            'verdicts': len({e['address'] for e in lost[-1] if e['result'] and e['address'] >= first * GB}),
        }
    yield 'all returned', b.step(GIVE_BACK)


def asleep(b, first):
    """
    The same for cores that are not interrupted: one of them goes first while the others sleep. They
    come to it when the verdicts are lost.
    """
    b.load()
    awake = '1'
    b.check(
        f'echo {awake} >/sys/devices/virtual/workqueue/cpumask && taskset -p {awake} 1 && taskset -p {awake} 2'
    )
    place_many(b, first)
    yield f'a guest ends that was in {MANY} regions', b.step(GIVE_BACK)

    def lose(then):
        b.check(f'echo 1 >{PRIVATE}')
        b.settle()
        b.catch_up()
        position = len(b.journal())
        b.check(GIVE_BACK)
        b.settle()
        verified = b.executed(position)
        b.check(then)
        b.catch_up()
        return verified

    yield from lose_verdicts(b, first, lose)


def verdicts(b, first):
    """
    The core that goes first has verified regions. Before the others follow, a page of each region
    is assigned, and in one case returned. So what hardware remembers of the first one's
    verdicts is lost, and each of the others has to read the RMP, with interrupts off. The others wait
    in the IPI meanwhile, at the first region of it. Their SMT siblings do the rest.
    """
    if b.series == 'full':
        yield from asleep(b, first)
        return
    b.load()
    cpus = int(b.check('nproc'))
    # Threads that no IPI goes to: the worker of the pass, whose CPU waits for the others, and one or
    # more for commands, and for the interrupts and work that these take. That includes kthreadd,
    # which makes a worker for a work if none is idle.
    siblings = f'{sum(1 << cpu for cpu in range(1, cpus, 2)):x}'
    b.check(
        f'echo {siblings} >/sys/devices/virtual/workqueue/cpumask && '
        f'taskset -p {siblings} 1 && taskset -p {siblings} 2'
    )
    b.check(f'for irq in /proc/irq/[0-9]*; do echo {siblings} >$irq/smp_affinity; done 2>/dev/null; true')
    place_many(b, first)
    yield f'a guest ends that was in {MANY} regions', b.step(GIVE_BACK)
    longest: list[dict] = max(b.stretches, key=len, default=[])
    if len(longest) < 2:
        raise LeftOut('its IPIs are for one region')
    held = longest[0]['address']
    after = longest[1]['address']

    def lose(then):
        b.check(f'echo 1 >{PRIVATE}')
        b.settle()
        b.qom_set('snp0', 'hold-rmpopt', held)
        b.check(GIVE_BACK)
        b.wait(lambda: b.snp('held-rmpopt') == 1, 'the first core to be held')
        position = len(b.journal())
        # It alone goes on.
        b.qom_set('snp0', 'hold-rmpopt', after)
        b.wait(lambda: b.snp('held-rmpopt') == 1, 'the first core to be held again')
        b.qom_set('snp0', 'hold-rmpopt', held)
        b.wait(lambda: b.snp('held-rmpopt') >= cpus // 2 - 1, 'the others to be held')
        verified = b.executed(position)
        b.check(then, 60)
        b.qom_set('snp0', 'hold-rmpopt', HELD_NONE)
        return verified

    yield from lose_verdicts(b, first, lose)


def busy(b, first):
    """All CPUs run, some of them without a tick. A guest ends that was in many regions."""
    b.load()
    isolated = b.check('cat /sys/devices/system/cpu/nohz_full').strip().removeprefix('(null)')
    cpus = int(b.check('nproc'))
    place_many(b, first)
    b.settle()
    b.catch_up()
    spinning = [b.program(f"spin {cpu} 3600000") for cpu in range(1, cpus)]
    # What chases cores without a tick comes as late as a pass may.
    yield f'all cores run, {"without" if isolated else "with"} a tick', b.step(
        f'rmmod rmp_place && {VM} && spin 0 {(DEADLINE + QUIET) * 1000}'
    )
    for program in spinning:
        program.kill()


def unload(b):
    """SNP_SHUTDOWN_EX clears SnpEn. RMPOPT faults after that."""
    b.qom_set('snp0', 'hold-rmpopt', 5 * GB)
    b.check(LOAD)
    b.wait(lambda: b.snp('held-rmpopt'), 'a pass')
    b.check('(rmmod kvm_amd && rmmod ccp; echo $? >/tmp/unloaded) >/dev/null 2>&1 &')
    b.check('sleep 3')
    b.doing = 'unloaded during a pass'
    shutdown = any(e['what'] == 'snp-en' and not e['value'] for e in b.journal())
    b.qom_set('snp0', 'hold-rmpopt', HELD_NONE)
    b.check('for i in $(seq 60); do [ ! -f /tmp/unloaded ] || break; sleep 1; done')
    status = b.check('cat /tmp/unloaded 2>/dev/null || echo hangs').strip()
    yield 'unloaded during a pass', {
        'shutdown-during-pass': shutdown,
        'unload': {'0': 'ok'}.get(status, status),
    }


def contiguous(b):
    """The CPU could have a segmented RMP, the firmware has set up another one: RMPOPT cannot be enabled."""
    yield 'a contiguous RMP', b.load()
    yield 'a contiguous RMP, a guest ends', b.end_guest()


def conversions(b):
    """The clock ticks with each instruction."""
    if not b.has('rmp_place'):
        raise LeftOut('rmp_place cannot be built for it')
    b.load()
    since = b.console_position()
    b.check('modprobe rmp_place regions=0 measure=1')
    match = b.wait_console(r'rmp_place: (\d+) pages: (\d+) ns to private, (\d+) ns to shared', 60, since)
    pages, *ns = map(int, match.groups())
    private_insns, shared_insns = (n / pages / 2**INSN_SHIFT for n in ns)
    yield 'conversion', {'to-private': private_insns, 'to-shared': shared_insns}


# Nanoseconds of the clock for an instruction, as a power of two
INSN_SHIFT = 1
TARGETS = 8
WORKLOAD_MB = 64


def benefit(b):
    """Writes to a file that has its pages from TARGETS regions in turn, of which some are optimized."""
    b.load()
    b.check(
        f'mkdir /tmp/w && mount -t tmpfs -o size=1G,mpol=interleave:1-{TARGETS} tmpfs /tmp/w && '
        f'dd if=/dev/zero of=/tmp/w/file bs=1M count={WORKLOAD_MB} 2>/dev/null'
    )
    write = f'dd if=/dev/zero of=/tmp/w/file bs=4k count={WORKLOAD_MB * 256} conv=notrunc 2>/dev/null'
    for held in range(TARGETS, -1, -2):
        if held and len(b.place('first=4', f'regions={held}')) != held:
            raise b.error(f'no private page in each of {held} regions')
        b.check(write)
        before = b.vcpus()
        b.check(write)
        after = b.vcpus()
        checked, skipped = (
            sum(after[i][key] - before[i][key] for i in after) for key in ('checked', 'skipped')
        )
        table = b.map().tables[0]
        have = sum(region in table for region in range(4, 4 + TARGETS))
        yield f'{100 * have // TARGETS} % of the file optimized', {
            'coverage': 100 * have / TARGETS,
            'checked': checked,
            'skipped': skipped,
        }
        if held:
            b.give_back()


def coverage(b, text):
    """
    Of the memory that could be optimized, the share that is, on average over cores: of their own node,
    of all, and of all by the square of its distance.
    """
    b.check(LOAD)
    b.check(f'sleep {QUIET}', 600)
    b.settle()
    b.catch_up()
    ram, nodes, distances = numa.topology(b)
    states = {region['address'] // GB: region for region in b.snp('regions')}
    possible = {region for region in ram if host.can_be_optimized(states.get(region, {}))}
    total: dict[str, int] = collections.Counter()
    have: dict[str, int] = collections.Counter()
    for core in b.snp('cores'):
        node = nodes[core['core']]
        table = {core['base'] // GB + region for region in core['regions']}
        for region in possible:
            distance = distances[node][ram[region]]
            for kind, weight in ('local', ram[region] == node), ('near', 65536 // distance**2), ('all', 1):
                total[kind] += weight
                have[kind] += weight * (region in table)
    yield text, {kind: 100 * have[kind] / total[kind] for kind in total}


def cores(number):
    return f'{number},sockets=1,cores={number},threads=1'


# RAM in pieces, as SeaBIOS has room for no more than 32 ranges: 80 regions over 1 TB, and
# 256 over 2 TB and more. With those below them, and the first of them, in GB.
SPARSE = {
    '1 TB': (',sparse-chunks=16,sparse-size=5G,sparse-stride=64G', 64),
    '2 TB': (',sparse-chunks=16,sparse-size=16G,sparse-stride=128G', 128),
}
# Those with RMPOPT
MADE = tuple(series for series in ALL if series != 'without')
# Those of which all is promised, or all but what later patches bring
OURS = 'without', 'core', 'full'


def cases(quick):
    """Name, function, series, what it is told, and the machine"""

    def only(*series):
        """With --quick, these kernels only"""
        return tuple(s for s in ALL if s in series or s == 'other') if quick else ALL

    made = tuple(s for s in only('full') if s in MADE)
    regions = {'smp': cores(4), 'options': host.nodes(4), 'append': 'host.modules=no'}
    yield 'boot', boot, only('full'), (), NODES
    for space, (sparse, first) in SPARSE.items():
        if quick and space != '1 TB':
            continue
        yield f'private-{space}', private, made, (), {'smp': cores(8), 'sparse': sparse}
        for number in (8,) if quick else (2, 8, 32):
            yield (
                f'teardown-{space}-{number}',
                teardown,
                made,
                (first, (1, 17) if quick else (1, 4, 16, 64)),
                {'smp': cores(number), 'sparse': sparse},
            )
    yield 'guests', many, only('full'), (), {'smp': cores(4), 'options': host.nodes(4)}
    yield 'starved', starved, made, (), regions
    for name, machine in ('M1', numa.M1), ('M2', numa.M2), ('M3', numa.M3):
        if quick and name != 'M1':
            continue
        yield f'coverage-{name}', coverage, made, (name,), {
            'sparse': machine.pieces(),
            **machine.arguments(),
        }
    yield 'conversions', conversions, only('full'), (), {'smp': cores(2), 'virtual_time': INSN_SHIFT}
    if quick:
        return
    # The scenario "verdicts lost" judges this in every run.
    sparse, first = SPARSE['1 TB']
    yield 'verdicts', verdicts, made, (first,), {
        'smp': '8,sockets=1,cores=4,threads=2',
        'sparse': sparse,
        # Cores that wait with interrupts off are reported.
        'append': 'host.modules=no rcupdate.rcu_cpu_stall_suppress=1',
    }
    yield 'punched', punched, ALL, (), regions
    yield 'onlined', onlined, ALL, (), {
        'smp': cores(4),
        'append': 'host.modules=no mem=6G memhp_default_state=offline',
    }
    for name, append in ('tick', ''), ('tickless', ' nohz_full=1-3'):
        yield f'busy-{name}', busy, made, (first,), {
            'smp': cores(4),
            'sparse': sparse,
            'append': f'host.modules=no{append}',
        }
    yield 'unload', unload, MADE, (), regions
    yield 'contiguous', contiguous, ALL, (), {'smp': cores(4), 'sparse': ',segmented=off'}
    yield 'benefit', benefit, ALL, (), {
        'smp': cores(2),
        'memory': f'{2 + TARGETS + 1}G',
        'options': host.nodes(2, TARGETS + 1),
    }


class Runner:
    def __init__(self, quick):
        self.quick = quick
        self.rows = []
        self.failed = []
        self.left_out = []
        self.done = 0
        self.lock = threading.Lock()
        only = SOME or ''
        self.jobs = [
            (name, function, series, arguments, machine)
            for name, function, all_series, arguments, machine in cases(quick)
            for series in all_series
            if only in f'{name}-{series}'
        ]
        if not self.jobs:
            sys.exit(
                f'bench.py: no case matches BENCH={only}; there are '
                + ', '.join(dict.fromkeys(name for name, *_ in cases(quick)))
            )

    def progress(self, what):
        end = '\n' if not sys.stdout.isatty() else '\r'
        print(f'Bench: {self.done} of {len(self.jobs)}, {what}'.ljust(78), end=end, flush=True)

    def run(self, job):
        name, function, series, arguments, machine = job
        why = None
        found = []
        machine_is = {'case': function.__name__, 'series': series, 'cores': 0, 'regions': 0}
        with contextlib.ExitStack() as stack:
            b = None
            try:
                b = stack.enter_context(Bench(series, name, **machine))
                machine_is['cores'] = len(b.snp('cores'))
                machine_is['regions'] = len(b.with_ram())
                for text, row in function(b, *arguments):
                    found.append({**machine_is, 'text': text, 'outcome': b.outcome(), **row})
                why = self.judge(b)
                b.quit()
            except LeftOut as left_out:
                with self.lock:
                    self.left_out.append(f'{name}, {series}: {left_out}')
                why = self.judge(b)
            except HostError as error:
                if b and b.died_by_oops():
                    found.append({**machine_is, 'text': b.doing, 'outcome': 'oops'})
                if not found or found[-1]['outcome'] != 'oops' or series in OURS:
                    why = str(error)
            except Exception as error:  # pylint: disable=broad-except
                # For example an answer that is not JSON
                why = f'{type(error).__name__}: {error}'
        with self.lock:
            self.rows += found
            if why:
                self.failed.append(f'{name}, {series}: {why}')
            self.done += 1
            self.progress(f'{name}, {series}')

    @staticmethod
    def judge(b):
        """Why a machine is not as it should be. Of other kernels the rows say that."""
        for key in 'audit-now', 'journal-lost', *(('violations',) if b.series in OURS else ()):
            if b.snp(key):
                return f'{key}: {b.snp(key)}'
        return ' / '.join(b.complaints()[:3]) if b.series in OURS else None

    def all(self):
        # The vCPUs of a machine take turns.
        with concurrent.futures.ThreadPoolExecutor(os.cpu_count()) as pool:
            list(pool.map(self.run, self.jobs))
        order = [function.__name__ for _, function, *_ in cases(self.quick)]
        self.rows.sort(
            key=lambda r: (order.index(r['case']), r['regions'], r['cores'], ALL.index(r['series']))
        )


def bounds(rows):
    """What the full series promises of each row, and whether it is so."""
    insns = {r['series']: r for r in rows if r['case'] == 'conversions'}
    if 'full' in insns and 'without' in insns:
        for key, most in ('to-private', 4), ('to-shared', 16):
            more = insns['full'][key] - insns['without'][key]
            yield f'conversions, {key}: {most} instructions more at most', more <= most, f'{more} more'
    for r in rows:
        if r['case'] == 'benefit':
            yield (
                f'benefit, {r["text"]}, {r["series"]}: checks are skipped where it is optimized, and only there',
                (r['skipped'] > 0) == (r['coverage'] > 0),
                r,
            )
        name = f'{r["case"]}, {r["text"]}, {r["regions"]} regions, {r["cores"]} cores, {r["series"]}'
        if 'journal' in r:
            yield (
                f'{name}: the journal has what vCPUs have counted',
                r['journal'] == (r['rmpopt'], r['entries-read']),
                r,
            )
        if r['series'] == 'without' and 'rmpopt' in r:
            yield f'{name}: no RMPOPT and no IPI', not r['rmpopt'] + r['ipis-all'], r
        # What the series promises as a whole, none of it holds for other kernels
        if r['series'] != 'full':
            continue
        yield f'{name}: all is well', r['outcome'] == 'ok', r
        if 'local' in r:
            yield f'{name}: all local memory that can be optimized is', r['local'] == 100, r
        if 'stale-s' in r:
            yield (
                f'{name}: each stale region is optimized within {DEADLINE} s, and the pass',
                r['stale-s'] <= DEADLINE + SLACK,
                r,
            )
        if 'stat' in r:
            yield (
                f'{name}: it counts the same',
                (r['stat']['passes'], max(r['stat']['ipis'])) == (r['passes'], r['ipis'])
                and r['passes']
                and sum(r['stat']['ticks']) >= r['cores'] - 1,
                r,
            )
        if r['case'] == 'unload':
            yield f'{name}: unloading waits for the pass, and ends', not r['shutdown-during-pass'] and r[
                'unload'
            ] == 'ok', r
        if 'lost-for-good' in r:
            yield f'{name}: nothing is lost for good', not r['lost-for-good'], r
        if 'passes' not in r:
            continue
        if r['case'] == 'contiguous':
            yield f'{name}: RMPOPT is not used', not r['rmpopt'], r
            continue
        yield f'{name}: nothing that can be optimized is not', not r['lost'] or 'not initialized' in r[
            'text'
        ], r
        yield (f'{name}: at most one RMPOPT reads the RMP with interrupts off', r['irq-off-reading'] <= 1, r)
        yield f'{name}: at most one RMPOPT reads the RMP at a tick', r['softirq-reading'] <= 1, r
        # The next tick may be due before the end, as vCPUs take turns.
        yield f'{name}: at most {BATCH} RMPOPT at a tick', r['softirq'] <= 2 * BATCH, r
        lost_verdict = US_SCAN if 'verdicts' in r else 0
        yield (
            f'{name}: {US_IRQ_OFF + lost_verdict:.0f} us with interrupts off at most, by the model',
            r['irq-off-us'] <= US_IRQ_OFF + lost_verdict,
            r,
        )
        if 'verdicts' in r:
            yield f'{name}: verdicts of a whole batch were lost', r['verdicts'] >= BATCH, r
            continue
        if 'without a tick' in r['text']:
            yield (
                f'{name}: IPIs per core <= optimized / {BATCH}, rounded up for each pass',
                r['ipis'] <= r['optimized'] // BATCH + r['passes'],
                r,
            )
        else:
            yield f'{name}: no IPI', not r['ipis-all'], r
            yield f'{name}: no RMPOPT with interrupts off', not r['irq-off'], r
        yield f'{name}: no CPU is woken', not r['woken'], r
        if 'with a tick' in r['text']:
            yield (
                f'{name}: each core follows within 2 ticks, and one for each {BATCH} more regions',
                0 < r['late-ms'] <= TICK * (1 + -(-r['optimized'] // BATCH)),
                r,
            )
        yield f'{name}: no cell twice in a pass', r['verify'] <= r['visited'] * r['cores'] * max(
            1, r['passes']
        ), r
        # All is new to the kernel when it is set up, or comes online.
        if r['case'] not in ('boot', 'onlined') or 'ioctl' in r['text']:
            yield f'{name}: visits only what has lost something', not r['needless'], r
        if r['case'] == 'teardown':
            yield f'{name}: visits k regions, and those of the firmware', r['k'] <= r['visited'] <= r[
                'k'
            ] + 3, r
        if r['case'] == 'many':
            yield f'{name}: one pass', r['passes'] == 1, r
        if r['text'] == 'empty, again':
            yield f'{name}: nearly nothing is visited', r['visited'] <= 3, r


COLUMNS = (
    ('case', 'case', ''),
    ('text', 'what', ''),
    ('regions', 'regions', 'd'),
    ('cores', 'cores', 'd'),
    ('series', 'series', ''),
    ('passes', 'passes', 'd'),
    ('visited', 'visited', 'd'),
    ('uncached', 'uncached', 'd'),
    ('cached', 'cached', 'd'),
    ('failed', 'failed', 'd'),
    ('queries', 'queries', 'd'),
    ('entries-read', 'read', 'd'),
    ('ipis', 'IPIs/core', 'd'),
    ('woken', 'woken', 'd'),
    ('softirq', 'softirq', 'd'),
    ('late-ms', 'late ms', '.1f'),
    ('irq-off', 'irq-off', 'd'),
    ('irq-off-entries', 'read', 'd'),
    ('irq-off-us', 'us', '.1f'),
    ('first-us', 'first core', '.0f'),
    ('other-us', 'others', '.0f'),
    ('lost', 'lost', 'd'),
    ('outcome', 'outcome', ''),
)


def cells(row):
    return [format(row[key], form) for key, _, form in COLUMNS]


def text_table(rows):
    table = [[title for _, title, _ in COLUMNS]] + [cells(r) for r in rows if 'passes' in r]
    width = [max(len(line[i]) for line in table) for i in range(len(COLUMNS))]
    return '\n'.join(
        '  '.join(
            c.ljust(w) if not form else c.rjust(w) for c, w, (_, _, form) in zip(line, width, COLUMNS)
        ).rstrip()
        for line in table
    )


def chosen(rows, case, series, **only):
    return [
        r
        for r in rows
        if r['case'] == case and r['series'] == series and all(r[key] == value for key, value in only.items())
    ]


# A cover letter is a mail.
COVER_WIDTH = 76


def cover(rows):
    """The tables of the cover letter: the largest machines, all kernels with RMPOPT; and what is left behind."""
    most = max((r['regions'] for r in rows if r['case'] == 'teardown'), default=0)
    wanted: list[tuple[str, str, dict]] = [
        ('kvm-amd is loaded', 'boot', {'text': 'kvm-amd is loaded'}),
        ('a status ioctl of /dev/sev', 'boot', {'text': 'a status ioctl of /dev/sev, node 2'}),
        (
            'a private page at the end of each region',
            'private',
            {'regions': most, 'text': 'a private page in each'},
        ),
        ('all of these returned', 'private', {'regions': most, 'text': 'empty'}),
        (
            'a guest ends that was in none of the regions',
            'private',
            {'regions': most, 'text': 'empty, again'},
        ),
        *(
            (
                f'a guest ends that was in {k} region{"s" if k > 1 else ""}',
                'teardown',
                {'regions': most, 'cores': 32, 'k': k},
            )
            for k in (1, 4, 16, 64)
        ),
        ('50 guests end', 'many', {'text': '50 guests'}),
        (
            '16 verdicts lost before the others follow',
            'verdicts',
            {'text': 'verdicts lost, pages assigned and returned'},
        ),
        ('the same, and all fail', 'verdicts', {'text': 'verdicts lost, pages assigned'}),
    ]
    lines = [
        f'{"":31}{"ms of a core":>14}{"interrupts off, at most":>25}',
        f'{"":6} {"RMPOPT":>6} {"asked":>5} {"IPIs":>4} {"read":>7} {"first":>7} {"others":>6} {"count":>5} '
        f'{"read":>6} {"us":>7} {"lost":>4}',
    ]
    for title, case, only in wanted:
        found = [r for series in MADE for r in chosen(rows, case, series, **only)]
        if found:
            lines.append(f'{title}: {found[0]["regions"]} regions, {found[0]["cores"]} cores')
        lines += [
            f' {r["series"]:5} {r["verify"]:6} {r["queries"]:5} {r["ipis"]:4} {r["entries-read"]:7} '
            f'{r["first-us"] / 1000:7.2f} {r["other-us"] / 1000:6.2f} {r["irq-off"]:5} {r["irq-off-entries"]:6} '
            f'{r["irq-off-us"]:7.1f} {r["lost"]:4}'
            for r in found
        ]
    lines += ['', *left_behind(rows)]
    for line in lines:
        if len(line) > COVER_WIDTH:
            raise ValueError(f'wider than {COVER_WIDTH} columns: {line}')
    return '\n'.join(line.rstrip() for line in lines)


def left_behind(rows):
    """A line for each case, a column for each kernel"""
    wanted: tuple[tuple[str, ...], ...] = (
        ('regions lost for good after status ioctls', 'boot', 'lost-for-good', 'd'),
        ('... after holes in all memory of a guest', 'punched', 'lost-for-good', 'd'),
        ('... after 1 GB of memory came online', 'onlined', 'lost-for-good', 'd'),
        ('idle CPUs woken by the end of 50 guests', 'many', 'woken', 'd'),
        (f'{MANY} regions, all cores run: IPIs per core', 'busy', 'ipis', 'd', 'with a tick'),
        ('... ms until the last core has followed', 'busy', 'late-ms', '.1f', 'with a tick'),
        ('... without a tick: IPIs per core', 'busy', 'ipis', 'd', 'without'),
        ('... s until the last core has followed', 'busy', 'late-s', '.1f', 'without'),
        (f'a guest ends every {EVERY} s for {STARVED} s: passes', 'starved', 'passes-then', 'd'),
        ('... seconds that a region was stale', 'starved', 'stale-s', '.1f'),
        ('unloaded during a pass', 'unload', 'outcome', ''),
        ('... how that ended', 'unload', 'unload', ''),
        ('contiguous RMP, CPU that could do more', 'contiguous', 'outcome', ''),
        *(
            (f'{name}: % optimized of {of}', 'coverage', kind, '.1f', name)
            for name in ('M1', 'M2', 'M3')
            for of, kind in (('local memory', 'local'), ('memory, by distance', 'near'), ('all', 'all'))
        ),
    )
    yield f'{"":42}' + ''.join(f'{series:>8}' for series in ALL)
    for title, case, key, form, *text in wanted:
        line = f'{title:42}'
        for series in ALL:
            found = [
                r[key]
                for r in rows
                if r['case'] == case
                and r['series'] == series
                and key in r
                and all(t in r['text'] for t in text)
            ]
            # The worst of several
            worst = next((x for x in found if x != 'ok'), found[-1]) if found else '-'
            line += f'{format(worst, form if found else ""):>8}'
        yield line


def plot(path, title, xlabel, ylabel, series, logx=False):
    """SERIES: a title and points for each line."""
    script = [
        'set terminal svg size 640,380 background "white" font "sans,12"',
        f'set output "{path}"',
        f'set title "{title}"',
        f'set xlabel "{xlabel}"',
        f'set ylabel "{ylabel}"',
        'set key left top',
        'set grid',
        'set yrange [0:]',
    ]
    if logx:
        script.append('set logscale x 2')
    for index, (_, points) in enumerate(series):
        script += [f'$d{index} << END', *(f'{x} {y}' for x, y in points), 'END']
    script.append(
        'plot '
        + ', '.join(
            f'$d{index} with linespoints lw 2 pt 7 title "{name}"' for index, (name, _) in enumerate(series)
        )
    )
    subprocess.run(['gnuplot'], input='\n'.join(script), text=True, check=True)


def plots(rows, directory):
    def lines(case, key, value, **only):
        return [(s, [(r[key], r[value]) for r in chosen(rows, case, s, **only)]) for s in MADE]

    most = max(r['regions'] for r in rows if r['case'] == 'teardown' and r['cores'] == 32)
    plot(
        directory / 'ipis.svg',
        f'Teardown on {most} regions and 32 cores: IPIs',
        'regions the guest was in',
        'IPIs per core',
        lines('teardown', 'k', 'ipis', regions=most, cores=32),
        True,
    )
    plot(
        directory / 'first.svg',
        '... and time of the core that goes first (modelled)',
        'regions the guest was in',
        'microseconds',
        lines('teardown', 'k', 'first-us', regions=most, cores=32),
        True,
    )
    plot(
        directory / 'regions.svg',
        'Teardown of a guest in 4 regions, 8 cores: all RMPOPT',
        'regions with RAM',
        'executed, function 1 included',
        lines('teardown', 'regions', 'rmpopt', cores=8, k=4),
        True,
    )
    plot(
        directory / 'benefit.svg',
        f'Writing a file of {WORKLOAD_MB} MB',
        'part of its regions that is optimized, %',
        'RMP checks (TLB fills)',
        [
            (what, sorted((r['coverage'], r[what]) for r in chosen(rows, 'benefit', 'full')))
            for what in ('checked', 'skipped')
        ],
    )
    return ['ipis.svg', 'first.svg', 'regions.svg', 'benefit.svg']


HARDWARE = '''# As root, on a kernel with the series, CONFIG_FTRACE and CONFIG_COMPACTION, in its source:
make headers && make -C tools/testing/selftests TARGETS=rmpopt
cd tools/testing/selftests/rmpopt
insmod test_modules/rmp_place.ko                  # private pages at the ends of all regions
./rmpopt_stat.sh sh -c './snp_vm --vms 1 --memory 1M </dev/null'
./rmpopt_stat.sh sh -c 'rmmod rmp_place; ./snp_vm --vms 1 --memory 1M </dev/null'    # empty
./rmpopt_stat.sh sh -c './snp_vm --vms 1 --memory 1M </dev/null'                     # empty, again
./rmpopt_stat.sh sh -c 'modprobe -r kvm_amd; modprobe kvm_amd'                       # set-up
./rmpopt_stat.sh ./sev_ioctl snp_platform_status
insmod test_modules/rmp_place.ko first=8 regions=64    # a guest in 64 regions, from 8 GB on
./rmpopt_stat.sh sh -c 'rmmod rmp_place; ./snp_vm --vms 1 --memory 1M </dev/null'
./rmpopt_stat.sh sh -c './snp_vm --vms 50 --memory 1M </dev/null'
insmod test_modules/rmp_place.ko regions=0 measure=1; dmesg | grep rmp_place      # conversions
'''


def page(rows, directory, failures, left_out, seconds):
    e = html.escape
    out = [
        '<!DOCTYPE html><meta charset="utf-8"><title>What RMPOPT costs</title>',
        '<style>body{font:14px sans-serif;max-width:1200px;margin:2em auto;padding:0 1em}table{border-collapse:collapse}'
        'td,th{padding:.15em .6em;text-align:right;border-bottom:1px solid #ddd}td:nth-child(-n+2){text-align:left}'
        'tr.full td{background:#eef7ee}pre{background:#f4f4f4;padding:1em;overflow:auto}</style>',
        '<h1>What RMPOPT costs, and what it gains</h1>',
        '<p>The kernel without the series, with the core of it (up to the call in KVM), and with the full '
        f'series, on an emulated SNP host. Made by <code>make bench</code> in {seconds / 60:.0f} minutes.</p>',
    ]
    if 'other' in ALL:
        release = (
            (host.kernel_dir('other') / 'include/config/kernel.release').read_text(encoding='utf-8').strip()
        )
        out.append(f'<p>other: {e(release)}, of OTHER={e(os.environ["OTHER"])}.</p>')
    out += [f'<p>Left out: {e(text)}</p>' for text in left_out]
    for text in failures:
        out.append(f'<p><b>Not as it should be:</b> {e(text)}</p>')
    for name in plots(rows, directory):
        out.append((directory / name).read_text(encoding='utf-8').split('?>', 1)[-1])
    out.append('<h2>Passes</h2><table><tr>' + ''.join(f'<th>{e(title)}' for _, title, _ in COLUMNS))
    out += [
        f'<tr class="{r["series"]}">' + ''.join(f'<td>{e(c)}' for c in cells(r))
        for r in rows
        if 'passes' in r
    ]
    out.append(
        '</table><p>visited: regions; woken: IPIs that have found the CPU asleep; softirq: the most RMPOPT at one tick; late: from the '
        'RMPOPT of the first core to that of the last one; uncached, cached, failed: RMPOPT function 0 by outcome; queries: function 1; '
        'read: entries of the RMP; irq-off: the most RMPOPT, entries read and microseconds of one stretch with '
        'interrupts off; first core, others: microseconds; all microseconds modelled; lost: regions that could be '
        'optimized and are not, in the end; outcome: complaints of the kernel, rules of RMPOPT broken.</p>'
    )
    out.append(f'<h2>What is left behind</h2><pre>{e(chr(10).join(left_behind(rows)))}</pre>')
    out.append(
        '<h2>Conversions of a page, instructions</h2><table><tr><th>series<th><th>to private<th>to shared'
    )
    out += [
        f'<tr class="{r["series"]}"><td>{r["series"]}<td><td>{r["to-private"]:.1f}<td>{r["to-shared"]:.1f}'
        for r in rows
        if r['case'] == 'conversions'
    ]
    out.append(
        f'</table><h2>Writing a file of {WORKLOAD_MB} MB</h2><table><tr><th>series<th>optimized, %<th>checked<th>skipped'
    )
    out += [
        f'<tr class="{r["series"]}"><td>{r["series"]}<td>{r["coverage"]:.0f}<td>{r["checked"]}<td>{r["skipped"]}'
        for r in rows
        if r['case'] == 'benefit'
    ]
    out.append(
        '</table><h2>What is measured</h2><ul>'
        '<li>RMPOPT by outcome, entries read, checks and tables: by the emulator. It checks a page when the TLB is filled, so '
        'the number of checks depends on its TLB, not on the number of writes.'
        '<li>IPIs: by the kernel\'s trace events csd_function_entry and csd_function_exit, those in which a CPU executes '
        'RMPOPT, and others for the same function; the CPU with the most is shown.'
        '<li>Interrupts off: RMPOPT executed with RFLAGS.IF clear, in one function that an IPI has asked for.'
        '<li>Instructions: by the emulator\'s clock, which ticks with each; the least of 16 times 64 pages. An RMPUPDATE is one.'
        '<li>A private page in each of k regions stands in for a guest in k regions; a guest of 1 MB that ends makes the request.'
        '</ul><h2>What is modelled</h2><ul>'
    )
    out += [f'<li>{e(text)}' for text in MODEL]
    out.append(
        '</ul><h2>What only hardware can tell</h2><ul><li>All times; what RMPOPT on many cores at once does to each; '
        'how long a core that scans a region takes no interrupts; what RMP checks cost a workload.</ul>'
        f'<p>There, the same steps:</p><pre>{e(HARDWARE)}</pre>'
        '<p>Each prints passes, their duration, IPIs and interrupts of each CPU, and what rmpopt_pass_end has said.</p>'
    )
    slow = sum(r['wall-s'] for r in rows if 'wall-s' in r)
    out.append(f'<p>A remark: all steps took {slow:.0f} s of wall time in the emulator.</p>')
    (directory / 'bench.html').write_text('\n'.join(out) + '\n', encoding='utf-8')


def main():
    if sys.argv[1:] not in ([], ['--quick']):
        sys.exit(__doc__.strip())
    quick = bool(sys.argv[1:])
    since = time.monotonic()
    runner = Runner(quick)
    runner.all()
    seconds = time.monotonic() - since
    judge = Judge()
    for text, good, row in bounds(runner.rows):
        judge.judge(text, good, row)
    for text in runner.failed:
        judge.judge(text, False)
    for text in runner.left_out:
        print(f'# left out: {text}')
    print(text_table(runner.rows))
    print('\n'.join(left_behind(runner.rows)))
    if not quick and not SOME:
        directory = BUILD / 'bench'
        directory.mkdir(parents=True, exist_ok=True)
        (directory / 'bench.json').write_text(
            json.dumps(
                {
                    'rows': runner.rows,
                    'model': MODEL,
                    'failed': judge.failures,
                    'left-out': runner.left_out,
                },
                indent='\t',
            )
            + '\n',
            encoding='utf-8',
        )
        (directory / 'bench.txt').write_text(text_table(runner.rows) + '\n', encoding='utf-8')
        (directory / 'cover.txt').write_text(cover(runner.rows) + '\n', encoding='utf-8')
        page(runner.rows, directory, judge.failures, runner.left_out, seconds)
        print(f'{seconds:.0f} s; for a reader: {directory / "bench.html"}')
    print(judge.total())
    sys.exit(3 if judge.failures or not judge.passed else 0)


if __name__ == '__main__':
    main()
