# SPDX-License-Identifier: GPL-2.0-only
"""
How cores catch up with the one that goes first in a pass: one that runs does so at its own
tick, one that is idle is left alone, and one that runs without a tick gets an IPI after the
deadline. Whether a CPU is left alone is judged by the kernel's trace events, whose clock is that
of the journal here, by /proc/interrupts, and by what the emulator counts.
"""
import re

from host import BATCH, TICK
from snp_host import CORES_4, DEADLINE, GB, NO_HOLD, PSP, RELOAD, SECOND, SnpHost, scenario
from test_life_cycle import KEXEC, second_kernel

MS = SECOND // 1000
# CPUs of the core that goes first: of the kernel's worker, and of commands
WORKER, SHELL = 0, 1

TRACE = '/sys/kernel/tracing/instances/catch_up'
EVENTS = (
    'csd/csd_function_entry',
    'ipi',
    'irq_vectors',
    'power/cpu_idle',
    'rmpopt',
)
# Task, CPU, nanoseconds, event and what it says
EVENT = re.compile(r'^ *(\S+)-\d+ +\[(\d+)\] \S+ +(\d+): (\w+): (.*)$', re.M)
# What cpu_idle says of a CPU that is not idle any more: PWR_EVENT_EXIT
AWAKE = str(2**32 - 1)

PRIVATE = '/sys/module/rmp_place/parameters/private'
# Regions of rmp_place. The RMP is in the one above, the firmware has pages below.
PLACED = [pa * GB for pa in range(5, 7)]
# Returns pages of these, and waits until the pass is over that follows.
RETURN = f'echo 0 >{PRIVATE}; sleep 10.4'

# RAM at 2047 GB has the RMP cover 64 regions more than there is memory: several batches
MANY = ',sparse-chunks=1,sparse-start=2047G'


class CatchUp(SnpHost):
    # With nohz_full=, one CPU keeps the time for all others. A tick of theirs that comes before its
    # own is left out.
    ticks_for_batch = 2

    def begin(self, behind=()):
        """
        All is optimized, but on cores that have no tick. Other CPUs than WORKER and SHELL are idle
        from now on.
        """
        if 'sparse' in self.arguments['devices'][0]:
            self.covered += range(1984 * GB, 2048 * GB, GB)
        self.set_up()
        self.settle()
        found = {core: sorted(pa // GB for pa in regions) for core, regions in self.behind().items()}
        self.judge('all is optimized before', found.keys() == set(behind), found)
        self.trace_ipis()
        self.work_on(WORKER, SHELL)

    def place(self):
        """A page of each of PLACED is assigned."""
        self.check(f'modprobe rmp_place first={PLACED[0] // GB} regions={len(PLACED)}')
        self.said(
            'a page of some regions is assigned', f'rmp_place: {len(PLACED)} regions have a private page'
        )
        self.settle()

    def place_again(self):
        """The same once more. No core is behind, or it would miss the region, and ask for a pass."""
        self.run_all_cpus()
        self.check(f'echo 1 >{PRIVATE}')
        self.settle()

    def trace(self, *events):
        """
        Begins to trace, on a clock that counts nanoseconds of virtual time, once CPUs that have run
        have come to rest.
        """
        self.check(
            f'mkdir -p {TRACE} && cd {TRACE} && echo 0 >tracing_on && echo x86-tsc >trace_clock && '
            + ' && '.join(f'echo 1 >events/{event}/enable' for event in events or EVENTS)
            + ' && sleep 3 && echo >trace && echo 1 >tracing_on'
        )

    def traced(self):
        """Ends that. The events in order of time."""
        self.check(f'echo 0 >{TRACE}/tracing_on')
        lost = self.check(
            f"awk '/^(overrun|dropped)/ {{ n += $NF }} END {{ print n }}' {TRACE}/per_cpu/*/stats"
        )
        self.equal('no trace event is lost', '0', lost.strip())
        text = self.check(f'cat {TRACE}/trace', 600)
        self.check(f'echo 0 >{TRACE}/events/enable')
        found = [
            {
                'task': task,
                'cpu': int(cpu),
                'at': int(at),
                'event': event,
                # A mask has commas, and so has the end of a field.
                'says': {key: value.rstrip(',') for key, value in re.findall(r'(\w+)=(\S+)', says)},
            }
            for task, cpu, at, event, says in EVENT.findall(text)
        ]
        return sorted(found, key=lambda e: e['at'])

    def interrupts(self, cpus):
        """As the emulator counts them"""
        counts = {vcpu['index']: vcpu['interrupts'] for vcpu in self.snp('vcpus')}
        return {cpu: counts[cpu] for cpu in cpus}

    def behind(self):
        """By core, the regions that could be optimized and are not"""
        wanted, tables, _ = self.as_it_is()
        return {core: wanted - table for core, table in tables.items() if wanted - table}

    def behind_after_run(self):
        self.run_all_cpus()
        return self.behind()

    def behind_after_settling(self):
        self.settle()
        return self.behind()

    @staticmethod
    def asked(events):
        """IPIs on account of RMPOPT"""
        return [
            e
            for e in events
            if e['event'] == 'csd_function_entry' and e['says']['func'].startswith('rmpopt_')
        ]

    def left_alone(self, text, events, cpus):
        """No trace event says that one of these CPUs was interrupted, or has woken up."""
        self.equal(f'{text}: nothing happens there', [], [e for e in events if e['cpu'] in cpus])
        self.equal(
            f'{text}: and nobody asks for it',
            [],
            [e for e in events if e['event'].startswith('ipi_send') and cpus & targets(e['says'])],
        )

    def goes_first(self, events):
        """On which CPU, as the kernel says it"""
        cpus = {e['cpu'] for e in events if e['event'] == 'rmpopt_verdict'}
        self.equal('one core goes first, the one that is wanted', {WORKER}, cpus)

    def in_time(self, text, entries, cpu):
        """
        A CPU that runs catches up within two ticks of the core that goes first, with BATCH regions
        at a tick.
        """
        led = {e['address']: e['at'] for e in entries if e['cpu'] == WORKER and e['result']}
        mine = [e for e in entries if e['cpu'] == cpu]
        self.equal(f'{text}: CPU {cpu} catches up in order', list(led), [e['address'] for e in mine])
        self.equal(
            f'{text}: with a batch at a tick',
            batches_of(len(led)),
            [len(batch) for batch in self.batches(mine).get(cpu, [])],
        )
        self.judge(f'{text}: with interrupts enabled', all(e['irqs'] for e in mine))
        late = {
            e['address'] // GB: (e['at'] - led[e['address']]) / MS
            for i, e in enumerate(mine)
            if e['at'] - led[e['address']] > (2 + i // BATCH) * TICK * MS
        }
        self.judge(f'{text}: within two ticks, and one for each further batch', led and not late, late)


def batches_of(number):
    """How many regions are in each"""
    return [min(BATCH, number - first) for first in range(0, number, BATCH)]


def targets(says):
    """CPUs that an event says an IPI is sent to"""
    if 'cpu' in says:
        return {int(says['cpu'])}
    mask = int(says['cpumask'].replace(',', ''), 16)
    return {cpu for cpu in range(mask.bit_length()) if mask >> cpu & 1}


# The scheduler interrupts idle CPUs where several are busy, unless they are isolated.
ISOLATED = 'isolcpus=2-7'


@scenario('idle', kind=CatchUp, kernel='full', smp=CORES_4, append=ISOLATED)
def test_idle(m):
    """
    Cores that are idle during a pass, and long after its deadline, are left alone. Each catches up
    before it has run for two ticks.
    """
    m.begin()
    m.place()
    idle = set(range(2, 8))
    m.trace()
    begun, before = m.now(), m.interrupts(idle)
    status = 'cat /proc/interrupts'
    output = m.check(f'{status}; echo; {RETURN}; sleep {3 * DEADLINE // SECOND}; {status}')
    m.equal('no interrupt is taken on other cores, as the emulator counts', before, m.interrupts(idle))
    events = m.traced()
    # A row is a name, a number for each CPU, and a text.
    rows = [
        {
            row[0]: [row[1 + cpu] for cpu in idle]
            for row in map(str.split, table.splitlines()[1:])
            if len(row) > 8
        }
        for table in output.split('\n\n')
    ]
    m.equal('... and as the kernel counts', rows[0], rows[1])
    m.judge('... by their kinds', {'LOC:', 'RES:', 'CAL:', 'TLB:'} <= rows[0].keys(), rows[0].keys())
    m.left_alone('idle CPUs', events, idle)
    m.goes_first(events)
    (end,) = [e for e in events if e['event'] == 'rmpopt_pass_end']
    m.equal('the kernel counts the cores that are behind', str(m.cores() - 1), end['says']['behind'])
    behind = {core: set(PLACED) for core in range(1, m.cores())}
    m.equal('they are behind', behind, m.behind())
    for core in list(behind):
        # One thread will do, the first one or the second one.
        m.check(f'spin {2 * core + core % 2} {m.catch_up_ms(len(PLACED))}')
        del behind[core]
        m.equal(f'core {core} has caught up, and no other core', behind, m.behind())
    m.equal(
        'each core has executed RMPOPT once for each region',
        len(PLACED) * m.cores(),
        len(m.verified(begun)),
    )
    m.equal('no IPI on account of RMPOPT', 0, m.ipis())


@scenario('one thread', kind=CatchUp, kernel='full', smp=CORES_4, append=ISOLATED)
def test_thread(m):
    """A core catches up at the tick of the thread that runs. The other one may sleep."""
    m.begin()
    m.place()
    for busy, asleep in (2, 3), (3, 2):
        m.place_again()
        idle = set(range(2, 8)) - {busy}
        m.trace()
        begun, before = m.now(), m.interrupts(idle)
        m.check(f'echo 0 >{PRIVATE}; sleep 9.9; spin {busy} 500')
        m.equal(f'no interrupt is taken on CPU {asleep} and the others', before, m.interrupts(idle))
        events = m.traced()
        m.left_alone(f'CPU {asleep} and the others', events, idle)
        m.goes_first(events)
        (entries,) = m.passes(begun)
        m.in_time('one thread', entries, busy)
        m.equal('the other cores are behind', {core: set(PLACED) for core in (2, 3)}, m.behind())
    m.settle()
    m.equal('all have caught up in the end', {}, m.behind())
    m.equal('no IPI on account of RMPOPT', 0, m.ipis())


@scenario('busy', kind=CatchUp, kernel='full', smp=CORES_4, snp_host=MANY)
def test_busy(m):
    """A core that runs is two ticks late at most, plus one for each further batch of regions."""
    m.begin()
    begun = m.now()
    m.check(f'{RELOAD} && sleep 9.5 && spin 2 1500')
    (entries,) = m.passes(begun)
    m.judge('there are several batches', len({e['address'] for e in entries if e['result']}) > 4 * BATCH)
    m.in_time('busy', entries, 2)
    m.all_optimized('all is optimized in the end')
    m.equal('no IPI on account of RMPOPT', 0, m.ipis())


@scenario('guest', kind=CatchUp, kernel='full', smp=CORES_4, append=ISOLATED)
def test_guest(m):
    """The vCPU of a guest exits to the host for ticks that come anyhow, and for nothing else."""
    m.begin()
    m.place()
    m.trace(*EVENTS, 'kvm/kvm_exit')
    begun = m.now()
    m.check(f'echo 0 >{PRIVATE}; sleep 9.9; kvm_spin 2 600')
    events = m.traced()
    (entries,) = m.passes(begun)
    m.in_time('guest', entries, 2)
    start = entries[0]['at'] - 10 * TICK * MS
    ticks = 20
    during = [e for e in events if e['cpu'] == 2 and start <= e['at'] < start + ticks * TICK * MS]
    exits = [e for e in during if e['event'] == 'kvm_exit']
    m.judge('the guest runs', len(exits) >= ticks - 1, exits)
    m.judge('it exits once for each tick at most', len(exits) <= ticks + 1, exits)
    m.equal(
        'no other interrupt is taken',
        {'local_timer_entry', 'local_timer_exit'},
        {e['event'] for e in during} - {'kvm_exit', 'rmpopt_catch_up'},
    )
    m.equal('no IPI on account of RMPOPT', 0, m.ipis())


def after_reload(m, command, *events):
    """
    All regions have to be optimized again, and the command runs then. Returns how many batches of
    them there are, the entries of the pass, and events from its begin on.
    """
    m.trace(*events)
    begun = m.now()
    m.check(f'{RELOAD} && {command}', 900)
    events = m.traced()
    (entries,) = m.passes(begun)
    optimized = {e['address'] for e in entries if e['cpu'] == WORKER and e['result']}
    m.judge('there are several batches', len(optimized) > 4 * BATCH)
    return -(-len(optimized) // BATCH), entries, [e for e in events if e['at'] >= entries[0]['at']]


def by_ipi(m, text, cpus, batches, entries, events, latest=1):
    """Their core gets an IPI for each batch once the deadline is over, or the one that is the LATEST."""
    ipis = [e for e in m.asked(events) if e['cpu'] in cpus]
    m.equal(f'{text}: an IPI for each batch', batches, len(ipis))
    (end,) = [e['at'] for e in events if e['event'] == 'rmpopt_pass_end']
    late = [(e['at'] - end) / SECOND for e in ipis]
    m.judge(
        f'{text}: at the deadline',
        all(
            any(
                # A timer may be late by an eighth of its time.
                n * DEADLINE - SECOND // 50 <= s * SECOND <= n * (DEADLINE * 9 // 8 + m.slack)
                for n in range(1, latest + 1)
            )
            for s in late
        ),
        late,
    )
    mine = [e for e in entries if e['cpu'] in cpus]
    m.equal(f'{text}: no RMPOPT is executed before', [], [e for e in mine if e['irqs']])
    m.equal(f'{text}: once for each region', len({e['address'] for e in mine}), len(mine))
    m.equal(
        f'{text}: the kernel says the same',
        [(str(number), '1') for number in batches_of(len(mine))],
        [
            (e['says']['regions'], e['says']['ipi'])
            for e in events
            if e['event'] == 'rmpopt_catch_up' and e['cpu'] in cpus
        ],
    )


@scenario(
    'nohz_full',
    kind=CatchUp,
    kernel='full',
    smp=CORES_4,
    snp_host=MANY,
    append=f'nohz_full=2,4-5 {ISOLATED}',
)
def test_nohz_full(m):
    """
    A CPU that runs without a tick gets an IPI for each batch once the deadline is over, unless
    another thread of the core has a tick. One that is idle is left alone.
    """
    # Core 2 has no tick, so it runs for too short a time yet.
    m.begin(behind={2})
    m.equal('these CPUs need no tick', '2,4-5', m.check('cat /sys/devices/system/cpu/nohz_full').strip())
    _, entries, events = after_reload(m, 'sleep 9.5 && (spin 2 36000 & sleep 1.5; spin 3 40; wait)')
    m.equal('sibling: it catches up', {3}, {e['cpu'] for e in entries if e['core'] == 1})
    m.equal('sibling: only the other cores are behind', {2, 3}, set(m.behind()))
    m.left_alone('sibling: idle CPUs', events, set(range(4, 8)))
    m.equal('sibling: no IPI on account of RMPOPT', (0, []), (m.ipis(), m.asked(events)))

    batches, entries, events = after_reload(
        m, 'sleep 9.5 && (spin 2 36000 & spin 4 36000 & spin 5 36000 & wait)'
    )
    by_ipi(m, 'one thread', {2}, batches, entries, events)
    by_ipi(m, 'two threads', {4, 5}, batches, entries, events)
    m.left_alone('idle CPUs', events, {3, 6, 7})
    m.equal('no other IPI on account of RMPOPT', (2 * batches, 2 * batches), (m.ipis(), len(m.asked(events))))
    before = [e for e in events if e['cpu'] in (2, 4, 5) and e['at'] < entries[0]['at'] + DEADLINE - SECOND]
    m.judge('there is no tick before', len(before) < 60, before[:20])
    m.equal('only the other core is behind', {3}, set(m.behind()))
    m.all_optimized('all is optimized in the end')


@scenario('bursts', kind=CatchUp, kernel='full', smp=CORES_4, snp_host=MANY, append=f'nohz_full=2 {ISOLATED}')
def test_bursts(m):
    """
    A CPU runs for a fifth of each millisecond, and never has a tick. It writes memory all the
    same, and gets IPIs while it runs. If it is not seen to run at the deadline, that is 30 seconds
    later.
    """
    m.begin()
    batches, entries, events = after_reload(
        m,
        # These events are too many for more than a few seconds around each deadline.
        f'sleep 9.5 && (spin -b 2 70000 & sleep 28; echo 1 >{TRACE}/events/power/cpu_idle/enable; '
        f'sleep 8; echo 0 >{TRACE}/events/power/cpu_idle/enable; sleep 22; '
        f'echo 1 >{TRACE}/events/power/cpu_idle/enable; wait)',
        'csd/csd_queue_cpu',
        'csd/csd_function_entry',
        'rmpopt',
    )
    by_ipi(m, 'bursts', {2}, batches, entries, events, latest=2)
    m.equal('no other IPI on account of RMPOPT', (batches, batches), (m.ipis(), len(m.asked(events))))
    idle, sent = True, []
    for e in events:
        if e['event'] == 'cpu_idle' and e['cpu'] == 2:
            idle = e['says']['state'] != AWAKE
        elif e['event'] == 'csd_queue_cpu' and e['says']['func'].startswith('rmpopt_'):
            sent.append(idle)
    # It may be idle when the IPI arrives.
    m.equal('the CPU is not idle when an IPI is sent', [False] * batches, sent)
    m.equal('only the other cores are behind', {2, 3}, set(m.behind()))
    m.all_optimized('all is optimized in the end')


def missed(events):
    return [
        int(e['says']['pa'], 16) for e in events if e['says'].get('reason') == 'missed' and 'pa' in e['says']
    ]


@scenario('conversions', kind=CatchUp, smp=CORES_4)
def test_conversions(m):
    """Pages are converted after the core that goes first has verified their regions, before others do."""
    m.begin()
    m.place()
    begun = m.now()
    m.trace('rmpopt')
    m.check(f'{RETURN}; echo 1 >{PRIVATE}')
    m.check(f'spin 2 {2 * m.catch_up_ms(1)}')
    mine = [e for e in m.verified(begun) if e['core'] == 1]
    m.equal(
        'assigned: RMPOPT fails on a core that follows, once for each region',
        [(pa, 0) for pa in PLACED],
        [(e['address'], e['result']) for e in mine],
    )
    m.equal('assigned: it goes on at the next tick', [1, 1], [len(batch) for batch in m.batches(mine)[2]])
    m.settle()
    m.run_all_cpus(BATCH * BATCH)
    events = m.traced()
    m.equal('assigned: each region is missed once', PLACED, missed(events))
    m.equal(
        'assigned: and retried once',
        [[], PLACED],
        [
            [e['address'] for e in entries if not e['result'] and e['cpu'] == WORKER]
            for entries in m.passes(begun)
        ],
    )
    begun = m.now()
    m.settle()
    m.settle()
    m.equal('assigned: and then left alone', [], m.verified(begun))
    m.check(RETURN)
    m.equal('assigned: optimized once they are returned', {}, m.behind_after_run())

    m.place_again()
    begun = m.now()
    m.trace('rmpopt')
    m.check(f'{RETURN}; echo 1 >{PRIVATE}; echo 0 >{PRIVATE}; spin 2-7 8')
    m.equal(
        'returned: other cores leave the regions to the next pass',
        {0},
        {e['core'] for e in m.verified(begun)},
    )
    m.equal('returned: which optimizes them', {}, m.behind_after_settling())
    m.equal('returned: nothing is missed', [], missed(m.traced()))

    m.place_again()
    m.check(RETURN)
    m.qom_set('snp0', 'hold-rmpopt', PLACED[0])
    begun = m.now()
    m.trace('rmpopt')
    spin = m.program('spin 2 50')
    m.wait(lambda: m.snp('held-rmpopt'), 'a tick to be held')
    m.check(f'echo 1 >{PRIVATE}')
    m.qom_set('snp0', 'hold-rmpopt', NO_HOLD)
    m.equal('held: spin ends well', 0, spin.close())
    m.equal(
        'held: RMPOPT fails',
        [(2, pa, 0) for pa in PLACED],
        [(e['cpu'], e['address'], e['result']) for e in m.verified(begun) if e['core'] == 1],
    )
    m.settle()
    m.equal('held: each region is missed once', PLACED, missed(m.traced()))
    m.check(f'echo 0 >{PRIVATE}')
    m.equal('held: optimized once they are returned', {}, m.behind_after_settling())
    m.equal('no IPI on account of RMPOPT', 0, m.ipis())


# A CPU without a tick does not catch up on its way to go offline.
@scenario('suspend', kind=CatchUp, smp=CORES_4, append='suspend.pm_test_delay=0 nohz_full=4-5')
def test_suspend(m):
    """CPUs go offline while their core is behind. They catch up before, or a further pass visits what is left."""
    m.begin()
    m.place()
    m.trace('rmpopt')
    begun = m.now()
    m.check(f'{RETURN}; cd /sys/power && echo deep >mem_sleep && echo core >pm_test && echo mem >state')
    m.equal('CPUs have come back', '0-7', m.check('cat /sys/devices/system/cpu/online').strip())
    m.settle()
    # A CPU that goes offline may have a tick before.
    m.judge('no other regions are missed', set(missed(m.traced())) <= set(PLACED))
    m.check('(spin 4 36000 & spin 5 36000 & wait)')
    m.equal('all is optimized', {}, m.behind())
    m.equal(
        'each core has executed RMPOPT for each region',
        {(core, pa) for core in range(m.cores()) for pa in PLACED},
        {(e['core'], e['address']) for e in m.verified(begun) if e['result']},
    )


@scenario('kexec', kind=CatchUp, kernel='full', smp=CORES_4, append=ISOLATED)
def test_kexec(m):
    """Another kernel takes over while other cores have not caught up."""
    m.begin()
    m.place()
    begun = m.now()
    second_kernel(m, f'{RETURN}; {KEXEC}', 'a second kernel boots')
    shutdown = m.events('psp', since=begun, value=PSP['SNP_SHUTDOWN_EX'])[0]['at']
    init = m.last('psp-done', value=PSP['SNP_INIT_EX'])
    caught_up = {e['core'] for e in m.verified(begun) if e['at'] < shutdown}
    m.judge('other cores have not caught up', len(caught_up) < m.cores(), caught_up)
    m.equal(
        'no RMPOPT from the shutdown to the second SNP_INIT',
        [],
        [e for e in m.verified(shutdown) if e['at'] < init],
    )
    m.set_up()
    m.wait_pass(init)
    m.all_optimized('all is optimized')
