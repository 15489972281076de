# SPDX-License-Identifier: GPL-2.0-only
"""
Entries of the RMP for 2 MB, and what PSMASH makes of them. KVM has neither, so a module of the
selftests stands in for guests.
"""
from snp_host import CORES_4, GB, TRACE, scenario
from test_catch_up import EVENT
from test_field import COMPLAINTS
from test_stale import Stale

# 4 KB pages of 2 MB
PAGES = 512
# The module's node, with all of its memory in a region, and another one
NODE, OTHER_NODE = 2, 1
REGION = 5 * GB

PARAMETERS = '/sys/module/rmp_split/parameters'
ASSIGN = f'echo {PAGES} >{PARAMETERS}/private'
SPLIT = f'echo 1 >{PARAMETERS}/split'


class Large(Stale):
    # What is optimized by core, and pages that are assigned in the region, before the module has any
    optimized: dict[int, set[int]] = {}
    others = 0

    def start_case(self):
        super().start_case()
        # The clock of the journal
        self.check(f'cd {TRACE} && echo x86-tsc >trace_clock && echo 1 >events/rmpopt/rmpopt_stale/enable')
        self.load_module()

    def load_module(self):
        self.all_optimized('all is optimized before the module is loaded')
        self.optimized = self.tables()
        self.others = self.assigned_in(REGION)
        since = self.console_position()
        self.check(f'modprobe rmp_split node={NODE}')
        pa = int(self.wait_console(r'rmp_split: 0x([0-9a-f]+)$', since=since)[1], 16)
        self.judge('memory of the module', REGION <= pa < REGION + GB, hex(pa))

    @staticmethod
    def keep(pages):
        """Returns pieces until only so many are left."""
        return f'echo {pages} >{PARAMETERS}/private'

    def psmashed(self):
        """How often PSMASH was executed"""
        return sum(vcpu['psmash'] for vcpu in self.snp('vcpus'))

    def stale(self):
        """When the kernel has noted that a region is to be visited, which one, and why"""
        events = EVENT.findall(self.check(f"grep 'rmpopt_stale: ' {TRACE}/trace || :"))
        fields = [(int(at), dict(field.split('=') for field in says.split())) for _, _, at, _, says in events]
        return [(at, int(says['pa'], 16), says['reason']) for at, says in fields]

    def marked(self, text, before):
        """Since BEFORE the kernel has noted the region, once, because of a page returned. When that was."""
        new = self.stale()[len(before) :]
        self.equal(
            f'{text}: the region is to be visited, noted once',
            [(REGION, 'return')],
            [(pa, reason) for _, pa, reason in new],
        )
        return new[0][0] if new else 0

    def region_lost(self, text, pages):
        """So many pages of the module are assigned. On each core this one region is not optimized, and all others are."""
        self.run_all_cpus()
        with self.stopped():
            tables, assigned = self.tables(), self.assigned_in(REGION)
        self.equal(f'{text}: pages are assigned', self.others + pages, assigned)
        self.equal(
            f'{text}: on no core this region is optimized, and all others are',
            {core: table - {REGION} for core, table in self.optimized.items()},
            tables,
        )

    def region_back(self, text):
        """All cores have optimized the region again."""
        self.equal(f'{text}: it is optimized on each core', self.optimized, self.tables())
        self.all_optimized(f'{text}: all is as before')

    def assign(self):
        begun, stale = self.now(), self.stale()
        self.check(ASSIGN)
        self.equal(
            '2 MB are assigned: each core loses the region, once, and no other',
            [(core, REGION) for core in range(self.cores())],
            sorted((e['core'], e['address']) for e in self.events('clear', since=begun)),
        )
        self.region_lost('2 MB are assigned', PAGES)
        self.equal('2 MB are assigned: no region is to be visited', stale, self.stale())

    def changes_nothing(self, text, change, pages):
        """No core loses or gains anything by it, and no pass follows."""
        begun, stale = self.now(), self.stale()
        change()
        self.settle()
        self.equal(f'{text}: no region is to be visited', stale, self.stale())
        self.equal(f'{text}: nothing is visited or lost', [], self.events('rmpopt', 'clear', since=begun))
        self.region_lost(text, pages)

    def split(self):
        def split():
            executed = self.psmashed()
            self.check(SPLIT)
            self.equal('PSMASH: it was executed', executed + 1, self.psmashed())

        self.changes_nothing('PSMASH', split, PAGES)

    def the_pass(self, text, since):
        """What was visited by the pass that follows within the delay"""
        self.settle()
        passes = self.passes(since)
        self.equal(f'{text}: a pass follows', 1, len(passes))
        return passes[0] if passes else []

    def fails_in_region(self, text, since, pages):
        """The pass that follows visits the region: one core does, in vain, and has the others left alone."""
        self.the_pass(text, since)
        self.equal(
            f'{text}: RMPOPT fails, on one core',
            [0],
            [e['result'] for e in self.verified(since) if e['address'] == REGION],
        )
        self.region_lost(text, pages)

    def guest_ends(self, text, pages):
        """A guest of another node, which has a pass look at all that is not optimized"""
        self.guests(f'--memory 16M --node {OTHER_NODE}').close()
        end = self.now()
        self.fails_in_region(f'{text}, a guest has ended', end, pages)

    def return_some(self, text, left):
        begun, stale = self.now(), self.stale()
        self.check(self.keep(left))
        self.marked(text, stale)
        self.fails_in_region(text, begun, left)

    def return_all(self, text, command):
        """What is left is returned."""
        begun, stale = self.now(), self.stale()
        self.check(command)
        returned = self.marked(text, stale)
        visits = self.the_pass(text, begun)
        if visits:
            self.one_pass(text, visits, returned, regions=[REGION])
        self.equal(
            f'{text}: RMPOPT succeeds on each core',
            {core: True for core in range(self.cores())},
            {e['core']: bool(e['result']) for e in visits},
        )
        self.region_back(text)


def large(name):
    return scenario(name, kind=Large, kernel='full', nodes=True, smp=CORES_4, snp_host=',audit=on')


@large('2 MB entry')
def test_whole(m):
    """It is returned as it was assigned. Until then the CPU refuses the return of a part."""
    m.start_case()
    m.fails('PSMASH of what is shared is refused', SPLIT, 'Input/output error')
    m.equal('which costs nothing', m.optimized, m.now_optimized()[1])
    m.assign()
    m.changes_nothing(
        'return of a part of it',
        lambda: m.fails('return of a part of it is refused', m.keep(PAGES - 1), 'busy'),
        PAGES,
    )
    m.guest_ends('2 MB entry', PAGES)
    m.return_all('2 MB are returned', m.keep(0))
    m.assign()
    m.return_all('2 MB are returned by the end of the module', 'rmmod rmp_split')
    m.check_case()


@large('PSMASH')
def test_psmash(m):
    """The region stays as it is until the last piece is returned."""
    m.start_case()
    m.assign()
    m.split()
    m.changes_nothing(
        'PSMASH of a piece',
        lambda: m.fails('PSMASH of a piece is refused', SPLIT, 'Input/output error'),
        PAGES,
    )
    m.guest_ends('split', PAGES)
    m.return_some('one piece is returned', PAGES - 1)
    m.return_some('all pieces but one are returned', 1)
    m.return_all('the last piece is returned', m.keep(0))
    m.assign()
    m.guest_ends('2 MB entry', PAGES)
    m.split()
    begun = m.now()
    m.guests(f'--memory 16M --node {OTHER_NODE}').close()
    m.settle()
    m.judge('split after RMPOPT: there is a pass', m.passes(begun), m.events('rmpopt', since=begun))
    m.equal(
        'split after RMPOPT: as RMPOPT has failed already, it does not visit the region',
        [],
        [e for e in m.verified(begun) if e['address'] == REGION],
    )
    m.region_lost('split after RMPOPT', PAGES)
    m.return_all('all pieces are returned by the end of the module', 'rmmod rmp_split')
    m.check_case()


@large('a return fails')
def test_leaked(m):
    """What cannot be returned, all or a piece of it, is never used again."""
    m.start_case()
    for pages, commands in (1, (ASSIGN, SPLIT)), (PAGES, (ASSIGN,)):
        for command in commands:
            m.check(command)
        with m.expect(COMPLAINTS):
            m.qom_set('snp0', 'rmpupdate-fail', '2:1:1')
            m.check('rmmod rmp_split')
        m.equal(f'{pages}: an RMPUPDATE has failed', '', m.snp('rmpupdate-fail'))
        m.settle()
        m.region_lost(f'{pages}: the module has ended', pages)
        m.leaked = {REGION: m.leaked.get(REGION, 0) + pages}
        m.runs(f'{pages}: memory of the node can be used', f'snp_vm --memory 200M --node {NODE} </dev/null')
        m.settle()
        m.region_lost(f'{pages}: a guest has been there', pages)
        m.load_module()
    m.check('rmmod rmp_split')
    m.check_case()
