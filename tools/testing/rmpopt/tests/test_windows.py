# SPDX-License-Identifier: GPL-2.0-only
"""
Hosts with memory beyond what one RMPOPT table covers: each node has a window of its own.
Which one that must be is found by trying all, from memory and distances as the guest's
sysfs has them.
"""
import numa
from snp_host import DEFAULT, GB, MATRIX, PSP, RELOAD, TABLE, scenario
from test_life_cycle import KEXEC, enable_tables, second_kernel, set_snp_en
import test_stale

# What the kernel divides by the square of a distance, and the share of the best window by
# which another one in use is good enough
WEIGHT = 65536
ENOUGH = 64


def score(ram, base, weights):
    """What the regions in a window are worth"""
    return sum(weights[node] for region, node in ram.items() if base <= region < base + TABLE // GB)


def choose(ram, distances, nodes):
    """By node, the first region of its window. RAM is the node of each region."""
    low = min(ram)
    high = max(low, max(ram) + 1 - TABLE // GB)
    used, windows = [low], {}
    for node in sorted(nodes):
        weights = {to: WEIGHT // distance**2 for to, distance in distances[node].items()}
        scores = [score(ram, base, weights) for base in range(low, high + 1)]
        enough = max(scores)
        # The lowest of equals
        best = low + scores.index(enough)
        enough -= enough // ENOUGH
        windows[node] = next((base for base in used if score(ram, base, weights) >= enough), best)
        if windows[node] not in used:
            used.append(windows[node])
    return windows


class Windows(test_stale.Stale):
    # Windows of cores that had one before this kernel
    adopted: dict[int, int] = {}
    # The node of each region of RAM
    ram: dict[int, int] = {}

    def set_up(self):
        """The same, with the windows that each core should have"""
        pieces = self.arguments['devices'][0].split('ram=')[1].split('/')
        self.covered = sorted({*self.covered, *(int(piece.split('G')[0]) * GB for piece in pieces)})
        self.ram, cores, distances = numa.topology(self)
        windows = choose(self.ram, distances, set(cores.values()))
        self.windows = {core: windows[node] * GB for core, node in cores.items()} | self.adopted
        super().set_up()

    def first_pass(self):
        entries = self.wait_pass(self.last('psp-done', value=PSP['SNP_INIT_EX']))
        cells = [(e['core'], e['address']) for e in entries]
        self.equal('the first pass: each core visits a region once', len(set(cells)), len(cells))
        self.equal(
            'the first pass visits all in reach',
            self.in_reach(),
            sorted({e['address'] for e in entries}),
        )
        self.all_optimized('the first pass optimizes all that can be, core by core')


def machine(m, append='', kernel='full'):
    return {'kind': Windows, 'kernel': kernel, 'snp_host': m.pieces(), 'append': append, **m.arguments()}


def expected(m, *windows):
    m.equal(
        'windows', [first * GB for first in windows], [m.window_of(core) for core in range(0, m.cores(), 2)]
    )


@scenario('M1', others=MATRIX[:1], **machine(numa.M1))
def test_two_nodes(m):
    m.set_up()
    expected(m, 0, 1089)
    m.first_pass()


@scenario('M2', **machine(numa.M2))
def test_four_nodes(m):
    m.set_up()
    expected(m, 0, 2561, 5633, 9153)
    m.first_pass()


@scenario('M3', **machine(numa.M3))
def test_node_without_memory(m):
    m.set_up()
    expected(m, 0, 1345)
    m.first_pass()


@scenario('M1, no NUMA', **machine(numa.M1, 'numa=off'))
def test_no_numa(m):
    m.set_up()
    expected(m, 0, 0)
    m.first_pass()


@scenario('M1, guests', others=MATRIX[:1], **machine(numa.M1, kernel=DEFAULT))
def test_guests(m):
    """Guests on each node come and go. Only cores whose windows have their memory work for it."""
    m.set_up()
    m.first_pass()
    m.trace_ipis()
    for node in range(3):
        before = m.regions()
        vms = m.guests(f'--vms 2 --memory 16M --node {node}')
        touched = {pa for pa, region in m.regions().items() if region['assigned'] > before[pa]['assigned']}
        wanted, tables, _ = m.now_optimized()
        m.judge(f'node {node}: guests have memory there', touched)
        m.equal(f'node {node}: it is not optimized meanwhile', set(), wanted & touched)
        m.equal(f'node {node}: on no core', set(), set.union(*tables.values()) & touched)
        begun = m.now()
        m.equal(f'node {node}: guests end well', 0, vms.close())
        m.settle()
        # The firmware's own pages may be in one of them.
        touched &= m.now_optimized()[0]
        m.equal(
            f'node {node}: cores work for what their windows have',
            {(core, pa) for core in range(m.cores()) for pa in touched if pa in m.in_window(core)},
            {(e['core'], e['address']) for e in m.verified(begun) if e['address'] in touched},
        )
        m.all_optimized(f'node {node}: all is optimized again, core by core')
    m.equal('no IPI on account of RMPOPT', 0, m.ipis())


@scenario('M1, kexec', x86_shutdown=False, **machine(numa.M1))
def test_kexec(m):
    """SnpEn stays set. The second kernel has the windows that the first one has chosen."""
    m.set_up()
    m.first_pass()
    bases = m.bases()
    begun = m.now()
    second_kernel(m, KEXEC, 'a second kernel boots')
    m.set_up()
    m.equal('RMPOPT_BASE is as before', bases, m.bases())
    m.equal('and was not written', [], m.events('base', since=begun))
    m.first_pass()


@scenario('M1, windows of another kernel', **machine(numa.M1, 'host.modules=no'))
def test_adopted(m):
    """A core that has a window keeps it. The others get those of their nodes."""
    set_snp_en(m)
    enable_tables(m, 2 * GB, '2,3')
    m.runs('the modules load', m.load())
    m.adopted = {1: 2 * GB}
    m.set_up()
    m.first_pass()


@scenario('M1, 50 VMs', **machine(numa.M1))
def test_many(m):
    test_stale.many(m, '0,1,2')


@scenario('M1, status ioctl', **machine(numa.M1))
def test_status_ioctl(m):
    m.start_case()
    for node in range(3):
        m.check(f'sev_ioctl snp_platform_status 1 {node}')
    m.check_case()


@scenario('M1, shutdown fails', others=MATRIX[1:], **machine(numa.M1))
def test_shutdown_fails(m):
    test_stale.test_shutdown_fails(m)


@scenario('M1, reload', **machine(numa.M1))
@scenario('M1, reload, legacy shutdown', x86_shutdown=False, **machine(numa.M1))
def test_reload(m):
    """Windows stay as they are, whether or not RMPOPT_BASE does."""
    m.start_case()
    for _ in range(2):
        m.equal('guests end well', 0, m.guests('--vms 3 --memory 16M --node 0,1,2').close())
        m.check(RELOAD)
        m.set_up()
        m.nothing_is_lost()


@scenario('M1, suspend', **machine(numa.M1, 'suspend.pm_test_delay=0'))
def test_suspend(m):
    test_stale.test_suspend(m)


@scenario('M1, memory hotplug', **machine(numa.M1, 'mem=1700G memhp_default_state=offline'))
def test_memory_hotplug(m):
    """Of what all nodes have in one window when it is chosen, and of what nobody has."""
    m.start_case()
    expected(m, 0, 0)
    test_stale.plug_and_unplug(m, 1792 * GB, [*range(m.cores())])
    test_stale.plug_and_unplug(m, 3008 * GB, [])


@scenario('M1, storm', virtual_time=False, **machine(numa.M1, 'kunit.enable=0', 'full-debug'))
def test_storm(m):
    """Pages of both nodes are in the windows of both."""
    test_stale.stormy(m, 125000, '0,1')
