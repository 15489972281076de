# SPDX-License-Identifier: GPL-2.0-only
"""
Scenarios in which the core of the series, the patches up to KVM's call, loses regions until the
next guest ends, or for good. The full series does not: once the RMP has been quiet for 10
seconds, every region of RAM either holds an assigned page or is optimized on every core before
the core has run for two ticks.
"""
import random
import re

from host import BATCH, CPUS, NODES, nodes_of
from snp_host import (
    CORES_4,
    DEADLINE,
    DELAY,
    GB,
    MATRIX,
    NO_HOLD,
    PSP,
    SECOND,
    TRACE,
    SnpHost,
    names,
    scenario,
)

# What is not of node 0 of NODES
OTHER_NODES = {pa * GB for pa in range(6, 10)}

# What borrows pages for the firmware, or might
IOCTLS = (
    'platform_status',
    'pek_gen',
    'pdh_gen',
    'pek_csr',
    'pdh_cert_export',
    'get_id2',
    'snp_platform_status',
    'snp_commit',
    'snp_set_config',
    'snp_vlek_load',
)


class Stale(SnpHost):
    """Counts what a case costs, from the end of the first pass on."""

    # When the case began, and the counters then
    begun = 0
    counted: dict[str, int] = {}

    def start_case(self):
        self.set_up()
        self.nothing_is_lost('all is optimized before')
        self.trace_ipis()
        self.begun = self.now()
        self.counted = self.counters()

    @property
    def full(self):
        return self.arguments['kernel'] != 'core'

    def counters(self):
        total = {
            key: sum(vcpu[f'rmpopt-{key}'] for vcpu in self.snp('vcpus'))
            for key in ('uncached', 'cached', 'failed', 'queries')
        }
        total['IPIs'] = self.ipis()
        return total

    def lost(self):
        """Regions that could be optimized and are not, on any core that has them in its window."""
        wanted, tables, _ = self.now_optimized()
        return {pa for core, table in tables.items() for pa in wanted & set(self.in_window(core)) - table}

    def nothing_is_lost(self, text='nothing is lost'):
        """Once the RMP has been quiet for the delay."""
        self.settle()
        self.equal(text, set(), self.lost())

    def check_case(self, lost=None):
        """
        At a quiet moment: the full series has lost nothing, and has done no more than it
        had to. The core has lost a region of LOST, which proves that the case is one.
        """
        self.settle()
        found = self.lost()
        now = self.counters()
        counts = {key: now[key] - self.counted[key] for key in now}
        passes = self.passes(self.begun)
        visited = sum(len({e['address'] for e in entries}) for entries in passes)
        self.note(
            f'{self.name}: {len(passes)} passes, {visited} regions, '
            + ', '.join(f'{number} {key}' for key, number in counts.items())
            + f', lost at the end: {names(sorted(found)) or "none"}'
        )
        if not self.full:
            if lost:
                self.judge(
                    'the core of the series loses a region for good',
                    found & lost,
                    f'expected any of {names(lost)}, lost {names(found)}',
                )
            return counts
        self.equal('nothing is lost', set(), found)
        touched = {e['address'] for e in self.events('clear', since=self.begun)}
        may_visit = touched | self.never_optimizable()
        for entries in passes:
            regions = {e['address'] for e in entries}
            self.judge(
                'a pass visits only what has lost something',
                regions <= may_visit,
                f'{names(sorted(regions))}, touched {names(sorted(touched))}',
            )
            self.judge(
                'and no cell twice',
                len(entries) <= len(regions) * self.cores(),
                f'{len(entries)} RMPOPT for {len(regions)} regions',
            )
        self.equal('no IPI on account of RMPOPT', 0, counts['IPIs'])
        return counts


def tell_snp_vm(vms, *lines):
    """Has snp_vm do what it must be able to."""
    for line in lines:
        answer = vms.ask(line)
        if answer != 'ok':
            raise vms.host.error(f'snp_vm: {line}: {answer}')


def case(name, **arguments):
    """With the full series, and with its core to compare."""

    def register(function):
        arguments.setdefault('smp', CORES_4)
        scenario(f'{name}, core', kernel='core', kind=Stale, **arguments)(function)
        scenario(name, kernel='full', kind=Stale, **arguments)(function)
        return function

    return register


@case('boot')
def test_boot(m):
    m.start_case()
    m.check_case()


@case('teardown', nodes=True)
def test_teardown(m):
    """Three guests in as many regions, at once: what the passes cost is bounded by what they have touched."""
    m.start_case()
    before = m.regions()
    vms = m.guests('--vms 3 --memory 16M --node 1,2,3')
    touched = {
        pa for pa, region in m.regions().items() if region['assigned'] > before.get(pa, {}).get('assigned', 0)
    }
    m.equal('snp_vm ends well', 0, vms.close())
    counts = m.check_case()
    if not m.full:
        return
    touched |= {e['address'] for e in m.events('clear', since=m.begun)}
    k, c = len(touched), m.cores()
    executed = sum(counts[key] for key in ('uncached', 'cached', 'failed'))
    m.judge('RMPOPTs <= k * c', executed <= k * c, (k, c, counts))
    m.judge('queries <= n', counts['queries'] <= len(m.in_reach()), counts)


def load_on_node_0(m):
    """So what the driver keeps for long comes from there. What it borrows comes from where the CPU is."""
    m.check(f"taskset -c 0 sh -c '{m.load()}'")
    m.start_case()


@case('status ioctl', **NODES)
def test_status_ioctl(m):
    """Once from a CPU of each node"""
    load_on_node_0(m)
    for cpu in CPUS:
        m.check(f'taskset -c {cpu} sev_ioctl snp_platform_status')
    m.check_case(OTHER_NODES)


@scenario('all ioctls', kind=Stale, kernel='full', **NODES)
def test_ioctls(m):
    load_on_node_0(m)
    borrowing = set()
    for command in IOCTLS:
        for cpu in CPUS:
            begun = m.now()
            status, output = m.run(f'taskset -c {cpu} sev_ioctl {command}')
            m.judge(f'{command} from CPU {cpu}', status == 0, output)
            if m.events('clear', since=begun):
                borrowing.add(command)
            m.nothing_is_lost(f'nothing is lost after {command} from CPU {cpu}')
    m.judge(
        'those that borrow pages of other nodes did so',
        {'snp_platform_status', 'get_id2', 'pek_csr', 'pdh_cert_export'} <= borrowing,
        borrowing,
    )
    m.check_case()


@case('memory outlives the VM', nodes=True)
def test_outlives(m):
    m.start_case()
    vms = m.guests('--memory 16M --node 1')
    tell_snp_vm(vms, 'close-vm 0')
    m.check('sleep 30')
    tell_snp_vm(vms, 'close-memory 0')
    # KVM keeps the VM for the memory's sake, so that the core gets by.
    m.check_case()
    vms.close()


@case('holes in the memory of a VM', nodes=True)
def test_punched(m):
    m.start_case()
    vms = m.guests('--memory 16M --node 1')
    tell_snp_vm(vms, *(f'punch 0 {offset}M 4M' for offset in range(0, 16, 4)))
    m.equal('the VM lives', 1, len(m.psp('guests')))
    m.check_case({4 * GB})
    vms.close()


@case('conversion longer than the delay', nodes=True)
def test_slow(m):
    m.start_case()
    vms = m.guests('--memory 16M --node 1')
    tell_snp_vm(vms, 'close-vm 0')
    for offset in range(16):
        tell_snp_vm(vms, f'punch 0 {offset}M 1M')
        m.check('sleep 2')
    m.check_case({4 * GB})
    vms.close()


@case('50 VMs', nodes=True)
def test_many(m):
    many(m, '1,2,3,4')


def many(m, nodes):
    m.start_case()
    order = random.Random(50)
    waves = []
    for _ in range(5):
        waves.append([m.guests(f'--vms 10 --memory 1M --node {nodes}'), list(range(10))])
        for _ in range(8):
            vms, left = order.choice([w for w in waves if w[1]])
            tell_snp_vm(vms, f'close {left.pop(order.randrange(len(left)))}')
            m.check(f'sleep {order.randrange(4)}')
    for vms, left in waves:
        tell_snp_vm(vms, *(f'close {number}' for number in left))
        m.equal('snp_vm ends well', 0, vms.close())
    m.equal(
        '50 VMs have come and gone',
        50,
        len(m.events('psp-done', since=m.begun, value=PSP['SNP_DECOMMISSION'])),
    )
    m.check_case()


def reload(m):
    m.check(f'rmmod kvm_amd && rmmod ccp && {m.load()}')


@scenario('reload', kind=Stale, nodes=True)
@scenario('reload, legacy shutdown', kind=Stale, kernel='full', nodes=True, x86_shutdown=False)
def test_reloaded(m):
    """Each of the above with a shutdown before the pass that it leads to."""
    m.start_case()
    for turn in range(2):
        m.check('sev_ioctl snp_platform_status 1 2')
        reload(m)
        vms = m.guests('--vms 2 --memory 16M --node 1,2')
        tell_snp_vm(vms, 'punch 0 0M 8M', 'close-vm 0', 'close-vm 1')
        m.fails('not while there is memory of a guest', 'rmmod kvm_amd', 'in use|unavailable')
        m.check('sleep 8')
        m.equal('snp_vm ends well', 0, vms.close())
        reload(m)
        m.check(f'sleep {turn * 5}')
        m.guests('--vms 5 --memory 1M --node 1,2,3,4').close()
        m.check(f'sleep {9 + turn}')
        reload(m)
    m.nothing_is_lost()


@scenario('shutdown fails', kind=Stale, kernel='full', nodes=True, others=MATRIX[1:])
def test_shutdown_fails(m):
    """A pass that was due is not forgotten."""
    m.start_case()
    m.check('sev_ioctl snp_platform_status 1 2')
    m.qom_set('psp0', 'fail', 'SNP_SHUTDOWN_EX:1')
    m.check('rmmod kvm_amd')
    m.equal('SNP_SHUTDOWN_EX has failed', '', m.psp('fail'))
    m.nothing_is_lost()


@scenario('legacy shutdown', kind=Stale, kernel='full', nodes=True, x86_shutdown=False)
def test_legacy(m):
    """SnpEn stays set, so checks are skipped again afterwards. No pass runs during SNP_SHUTDOWN_EX."""
    m.start_case()
    # A pass is due within the time that the firmware takes.
    m.check('sev_ioctl snp_platform_status 1 2; sleep 9')
    m.qom_set('psp0', 'hold', 'SNP_SHUTDOWN_EX')
    unloading = m.program('rmmod kvm_amd')
    m.wait(lambda: m.psp('held'), 'SNP_SHUTDOWN_EX')
    asked = m.last('psp', value=PSP['SNP_SHUTDOWN_EX'])
    m.settle()
    m.equal('no RMPOPT while the firmware shuts down', [], m.verified(asked))
    m.qom_set('psp0', 'hold', '')
    m.equal('unloading ends well', 0, unloading.close())
    m.equal('RMPOPT_BASE stays enabled on every core', [m.first | 1] * m.cores(), m.bases())
    m.nothing_is_lost()


SYSFS_MEMORY = '/sys/devices/system/memory'


def add_memory(m, start):
    """A GB, offline. Gives the files with the state of each block of it."""
    size = int(m.check(f'cat {SYSFS_MEMORY}/block_size_bytes'), 16)
    for pa in range(start, start + GB, size):
        m.check(f'echo {pa:#x} >{SYSFS_MEMORY}/probe')
    return [f'{SYSFS_MEMORY}/memory{pa // size}/state' for pa in range(start, start + GB, size)]


def plug_and_unplug(m, region, cores):
    """The kernel gets to know of a REGION that CORES have in their windows, and forgets it again."""

    def visits(change):
        begun = m.now()
        change()
        m.settle()
        m.equal('and nothing is lost', set(), m.lost())
        return sorted(e['core'] for e in m.verified(begun) if e['address'] == region)

    def all_states(state):
        m.check(f'for f in {" ".join(blocks)}; do echo {state} >$f; done')

    def place_page():
        m.check(f'modprobe rmp_place first={region // GB} regions=1')
        m.said('a page of it can be assigned', 'rmp_place: 1 regions have a private page')

    blocks = add_memory(m, region)
    m.equal('new memory needs no visit', [], visits(lambda: all_states('online_movable')))
    m.equal('nor does a page that is assigned', [], visits(place_page))
    m.judge(
        'it is not optimized then',
        region not in m.now_optimized()[0] and not any(region in t for t in m.tables().values()),
        m.tables(),
    )
    m.equal(
        'once a page of it is returned, cores that have it in their windows visit it',
        cores,
        visits(lambda: m.check('rmmod rmp_place')),
    )
    m.equal('memory that goes needs no visit', [], visits(lambda: all_states('offline')))


@scenario('memory hotplug', kind=Stale, kernel='full', append='mem=6G memhp_default_state=offline')
def test_memory_hotplug(m):
    """The RMP covers the GB from 6 GB on, whether or not the kernel knows of it."""
    region = 6 * GB
    m.start_case()
    m.judge(
        'before the kernel knows of it a region is optimized',
        all(region in t for t in m.tables().values()),
        m.tables(),
    )
    plug_and_unplug(m, region, [*range(m.cores())])
    # At the end no segment of the RMP begins, and finish() looks for RMPOPT there.
    add_memory(m, m.top)
    m.guests('--memory 1M').close()
    m.nothing_is_lost('memory that the RMP does not cover is left alone')


@scenario('starvation', kind=Stale, kernel='full', nodes=True)
def test_starvation(m):
    """An SNP VM ends every 5 s, for 120 s. Each end puts the pass off, but not for ever."""
    m.start_case()
    vm = 'snp_vm --memory 2M --node {} </dev/null >/dev/null'
    # Region 5 is stale from now on, region 4 again and again.
    m.check(f'{vm.format(2)}; for i in $(seq 24); do sleep 5; {vm.format(1)} || exit; done', 900)
    m.settle()
    ends = [e['at'] for e in m.events('psp-done', since=m.begun, value=PSP['SNP_DECOMMISSION'])]
    m.equal('VMs have come and gone', 25, len(ends))
    m.judge('each would put off the pass', all(b - a < DELAY for a, b in zip(ends, ends[1:])), ends)
    passes = m.passes(m.begun)
    begun = [m.begun] + [entries[0]['at'] for entries in passes]
    for last, at in zip(begun, begun[1:]):
        wait = at - min(end for end in ends if end > last)
        m.judge(
            'a pass begins within the deadline of the first request',
            wait <= DEADLINE + m.slack,
            f'{wait / SECOND:.3f} s',
        )
    optimized = [e for e in m.verified(ends[0]) if e['address'] == 5 * GB and e['result']]
    m.equal('every core has optimized region 5', m.cores(), len({e['core'] for e in optimized}))
    wait = optimized[-1]['at'] - ends[0]
    m.judge(
        'it has waited, until the deadline', 2 * DELAY < wait <= DEADLINE + m.slack, f'{wait / SECOND:.3f} s'
    )
    m.equal('nothing is lost', set(), m.lost())


@scenario(
    'verdicts lost',
    kind=Stale,
    kernel='full',
    memory='23G',
    smp=CORES_4,
    options=nodes_of(8, 3, 1, 19),
)
def test_verdicts_lost(m):
    """
    Before the other cores catch up, a page of each region of a batch is assigned, and in one
    case returned. Hardware has forgotten the verdicts then, and each RMPOPT has to read the
    RMP: a tick may cost one of these. What the other cores have missed that way they get
    later.
    """
    m.start_case()
    # The other cores are idle until they are told to run.
    m.work_on(0, 1)
    # That region is node 1. The firmware has pages in the one below.
    first = 5
    m.check(f'modprobe rmp_place first={first} regions={BATCH}')
    m.said('a page of each region is assigned', f'rmp_place: {BATCH} regions have a private page')
    regions = [pa * GB for pa in range(first, first + BATCH)]
    private = '/sys/module/rmp_place/parameters/private'
    # All at once: while the script thinks the clock runs ahead, and other cores may run.
    after_return = f'echo 0 >{private}; sleep 10.4;'

    def lose(text, lost, change):
        """Returns what CHANGE does, and how many regions a tick of a core has read the RMP for, at most."""
        m.check(f'echo 1 >{private}')
        m.settle()
        begun = m.now()
        m.qom_set('snp0', 'hold-rmpopt', regions[-1])
        result = change()
        m.judge(f'{text}: the first core is held', m.snp('held-rmpopt'))
        clear = m.events('clear', since=begun)
        m.equal(
            f'{text}: the verdicts are lost', set(lost), {e['address'] for e in clear} & set(regions[:-1])
        )
        before = [e for e in m.verified(begun) if e['result'] and e['at'] < clear[0]['at']]
        m.equal(
            f'{text}: by then the first core has verified the regions but the last',
            regions[:-1],
            [e['address'] for e in before if e['core'] == 0],
        )
        # To launch a guest may have a core run.
        m.judge(f'{text}: and not all others have', len({e['core'] for e in before}) < m.cores(), before)
        m.qom_set('snp0', 'hold-rmpopt', NO_HOLD)
        m.check('sleep 1')
        # As many ticks as there are regions
        m.run_all_cpus(BATCH * BATCH)
        m.check('sleep 24')
        m.run_all_cpus()
        others = [e for e in m.verified(begun) if e['core']]
        m.equal(
            f'{text}: ticks execute RMPOPT with interrupts enabled',
            [],
            [e for e in others if not e['irqs']],
        )
        read = [sum(e['entries'] > 0 for e in batch) for mine in m.batches(others).values() for batch in mine]
        m.judge(f'{text}: no tick reads the RMP for more than one region', max(read) <= 1, read)
        m.equal(f'{text}: nothing is lost', set(), m.lost())
        return result, max(read)

    lose(
        'all returned',
        regions[:-1],
        lambda: m.check(f'{after_return} echo 1 >{private} && echo 0 >{private}'),
    )
    _, read = lose('all kept', regions[:-1], lambda: m.check(f'{after_return} echo 1 >{private}'))
    m.equal('all kept: one had to read it', 1, read)
    m.check(f'echo 0 >{private}')
    m.nothing_is_lost('they are optimized once they are returned')
    m.check(f'echo 1 >{TRACE}/events/rmpopt/enable')

    def launch():
        vms = m.program(f"sh -c '{after_return} exec snp_vm --memory 2M --node 1'")
        vms.wait_line('^ready$')
        return vms

    vms, read = lose('first one kept', regions[:1], launch)
    m.equal('first one kept: one had to read it', 1, read)
    m.equal('no IPI on account of RMPOPT', 0, m.ipis())
    events = traced(m)
    m.equal(
        'first one kept: the kernel says what was missed, once',
        [hex(regions[0])],
        [e['pa'] for e in events if e['event'] == 'rmpopt_stale' and e['reason'] == 'missed'],
    )
    retried = [e for e in events if e['event'] == 'rmpopt_pass_end'][-1]
    m.judge('... and retries it', 'missed' in retried['reason'] and retried['regions'] == '1', retried)
    vms.close()
    m.check('rmmod rmp_place')
    m.nothing_is_lost()


@scenario('persistent memory', kind=Stale, kernel='full', append='memmap=1G!5G')
@scenario('Soft Reserved', kind=Stale, kernel='full', append='memmap=1G%5G-1+0xefffffff')
def test_described_as(m):
    """Whatever the firmware calls memory that the RMP covers, it is optimized."""
    m.start_case()
    ram = m.system_ram()
    m.judge(
        'the kernel takes the region for no RAM',
        all(last < 5 * GB or start >= 6 * GB for start, last in ram),
        ram,
    )
    m.judge('it is optimized on every core', all(5 * GB in t for t in m.tables().values()), m.tables())
    m.guests('--vms 2 --memory 16M').close()
    m.check_case()


@scenario(
    'suspend',
    kind=Stale,
    kernel='full',
    nodes=True,
    append='suspend.pm_test_delay=0',
    others=MATRIX[:2],
)
def test_suspend(m):
    """As far as that goes without powering anything off: all but one CPU go offline."""
    m.start_case()
    for modules in True, False:
        begun = m.now()
        if modules:
            m.check('sev_ioctl snp_platform_status 1 2')
            m.judge('a region is stale', m.lost(), m.tables())
        m.check('cd /sys/power && echo deep >mem_sleep && echo core >pm_test && echo mem >state')
        online = m.check('cat /sys/devices/system/cpu/online').strip()
        m.equal('CPUs have come back', f'0-{len(m.snp("vcpus")) - 1}', online)
        m.equal('no RMPOPT_BASE is written', [], m.events('base', 'base-gp', 'base-ignored', since=begun))
        if modules:
            m.nothing_is_lost()
            m.check('rmmod kvm_amd && rmmod ccp')
    m.x86_shut_down()
    m.settle()
    m.equal('without SNP there is no RMPOPT', [], m.verified(m.last('psp', value=PSP['SNP_SHUTDOWN_EX'])))


EVENT = re.compile(r'\[(\d+)\] .* (rmpopt_\w+): (.*)$')


def traced(m):
    """Events, each with its fields, since the last call."""
    text = m.check(f'cat {TRACE}/trace; echo >{TRACE}/trace')
    return [
        {'cpu': int(match[1]), 'event': match[2], **dict(field.split('=') for field in match[3].split())}
        for match in map(EVENT.search, text.splitlines())
        if match
    ]


@scenario('trace events', kind=Stale, kernel='full', nodes=True)
def test_trace(m):
    """The kernel's word, field by field, is what the referee has seen."""
    m.start_case()
    m.work_on(0, 1)
    m.check(f'echo 1 >{TRACE}/events/rmpopt/enable')
    queried = m.counters()['queries']
    begun = m.now()
    vms = m.guests('--vms 2 --memory 16M --node 1,2')
    m.equal('snp_vm ends well', 0, vms.close())
    m.settle()
    ipis = m.ipis()
    events = traced(m)
    (entries,) = m.passes(begun)
    visited = list(dict.fromkeys(e['address'] for e in entries))
    m.equal(
        'a pass begins and ends once',
        ['rmpopt_pass_begin', 'rmpopt_pass_end'],
        [e['event'] for e in events if 'pass' in e['event']],
    )
    begin, end = (e for e in events if 'pass' in e['event'])
    m.equal(
        '... with these reasons and cores',
        ['return|request', str(m.cores())] * 2,
        [
            '|'.join(sorted(e['reason'].split('|'), reverse=True)) if key == 'reason' else e['cores']
            for e in (begin, end)
            for key in ('reason', 'cores')
        ],
    )
    leader = entries[0]['core']
    m.equal(
        'verdicts are those of the first core',
        [(hex(e['address']), str(int(bool(e['result'])))) for e in entries if e['core'] == leader],
        [(e['pa'], e['optimized']) for e in events if e['event'] == 'rmpopt_verdict'],
    )
    m.equal('no other core has run by the end of the pass', str(m.cores() - 1), end['behind'])
    m.equal('regions', str(len(visited)), end['regions'])
    m.equal(
        'optimized regions',
        str(len({e['address'] for e in entries if e['core'] != leader})),
        end['optimized'],
    )
    m.equal('queries', m.counters()['queries'] - queried, int(end['queried']))
    m.equal('no IPI on account of RMPOPT', 0, ipis)
    led = [e for e in entries if e['core'] == leader]
    span = led[-1]['at'] - led[0]['at']
    m.judge('duration', span <= int(end['ns']) <= span + SECOND, (span, end['ns']))
    caught_up = [e for e in events if e['event'] == 'rmpopt_catch_up']
    m.equal(
        'cores catch up with as many regions at a tick',
        {
            cpu: [str(len(batch)) for batch in batches]
            for cpu, batches in m.batches(e for e in entries if e['core'] != leader).items()
        },
        {cpu: [e['regions'] for e in caught_up if e['cpu'] == cpu] for cpu in {e['cpu'] for e in caught_up}},
    )
    m.equal(
        '... none of them by an IPI, and leave none',
        [('0', '0')] * (m.cores() - 1),
        [(e['left'], e['ipi']) for e in caught_up],
    )
    stale = [e for e in events if e['event'] == 'rmpopt_stale']
    m.equal(
        'each region visited has become stale once',
        sorted(hex(pa) for pa in visited),
        sorted(e['pa'] for e in stale),
    )
    m.equal('... by a page that was returned', {'return'}, {e['reason'] for e in stale})

    reload(m)
    m.settle()
    stale = [e for e in traced(m) if e['event'] == 'rmpopt_stale']
    m.equal('set-up has all visited', {hex(pa) for pa in m.in_reach()}, {e['pa'] for e in stale})
    m.judge('... unless it was going to be', any(e['reason'] == 'setup' for e in stale), stale)
    m.check(f'echo 0 >{TRACE}/events/rmpopt/enable; echo >{TRACE}/trace')
    m.guests('--memory 16M --node 1').close()
    m.settle()
    m.equal('quiet when disabled', [], traced(m))


def stormy(m, conversions, nodes='3,4'):
    """
    RMPUPDATE on all CPUs against passes that run all the time, the firmware's pages and
    guests, on vCPUs that run in parallel. Only a kernel for tests lets the delay be set.
    """
    m.start_case()
    m.check('echo 20 >/sys/module/sev/parameters/rmpopt_delay_ms')
    m.check(
        f'''(modprobe rmp_storm conversions={conversions} seed=5; echo $? >/tmp/calm) >/dev/null 2>&1 &
		while [ ! -f /tmp/calm ]; do
			sev_ioctl snp_platform_status 10 2
			snp_vm --vms 2 --memory 1M --node {nodes} </dev/null
		done >/tmp/storm 2>&1''',
        900,
    )
    m.equal('the storm is over', '0', m.check('cat /tmp/calm').strip())
    m.judge('guests and ioctls got on with it', 'ready' in m.check('cat /tmp/storm'))
    m.said('nothing has failed', r'rmp_storm: .* 0 conversions failed, 0 pages leaked')
    visited = len(m.verified(m.begun))
    # A slow machine gets to fewer: 433 have been seen.
    m.judge('there were passes all the time', visited > 100, f'{visited} RMPOPT')
    m.check('sleep 2')
    m.equal('nothing is lost', set(), m.lost())
    m.check('rmmod rmp_storm')


@scenario('storm', kind=Stale, kernel='full-debug', nodes=True, virtual_time=False, append='kunit.enable=0')
def test_storm(m):
    stormy(m, 20000)


@scenario(
    'storm, KCSAN',
    kind=Stale,
    nodes=True,
    virtual_time=False,
    kernel='full-kcsan',
    append='kunit.enable=0 host.modules=no',
)
def test_storm_kcsan(m):
    """Of all functions only the series' and those that call them: KCSAN knows no files."""
    m.check(
        r"""cd /sys/kernel/debug && echo whitelist >kcsan
		awk '$2 ~ /^[tT]$/ && $3 ~ /rmpopt|^rmpupdate|^rmp_make_/ { print "!" $3 }' /proc/kallsyms |
		while read -r f; do echo "$f" >kcsan; done; echo on >kcsan"""
    )
    m.check(m.load())
    stormy(m, 30000)
    m.note(m.check('head -n 9 /sys/kernel/debug/kcsan'))
