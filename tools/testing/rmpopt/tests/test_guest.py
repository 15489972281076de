# SPDX-License-Identifier: GPL-2.0-only
"""
A guest in use that does exactly one thing at a time: snp_guest of the selftests. What the guest
and KVM do to RMPOPT is judged by the referee, not by the guest's word.
"""
import contextlib
import os
import re
import shlex

from snp_host import DELAY, GB, NO_HOLD, PSP, SECOND, scenario
from test_life_cycle import STALE_EVENTS, kexec, sets_nothing_up, wait_boot
from test_stale import Stale

KB = 1 << 10
MB = 1 << 20
# GPA of memory that is free for tests, and a VMSA, which must not be at 2 MB
FREE = 0x100000
VMSA = 0x301000
PRIVATE, SHARED = 1, 0

# Conversions of the test that converts without end, at least
CONVERSIONS = int(os.environ.get('CONVERSIONS', 3000))

# A result of a command of snp_guest
RESULT = re.compile(r'([a-z-]+)=(\S+)')


# An instruction takes 2^6 ns: vCPUs that are busy take turns more often, and seconds pass sooner.
VIRTUAL_TIME_SHIFT = 6


class Guest:
    """snp_guest, and what it answers."""

    def __init__(self, m, *options, node=None):
        self.m = m
        where = (f'--node {node}',) if node else ()
        self.program = m.program(' '.join(('snp_guest', *where, *options)))
        self.program.wait_line('^ready$')
        # How many the program has printed
        self.lines = 1

    def ask(self, *lines) -> list[str]:
        """The answers as they are, all by one command of the host, as there are many of these."""
        first = self.lines + 1
        self.lines += len(lines)
        text = shlex.quote(''.join(f'{line}\n' for line in lines))
        answers = self.m.check(
            f'''cd {self.program.dir} && printf %s {text} >in
			until [ "$(sed -n {self.lines}p out)" ]; do [ ! -f status ] && usleep 500 || exit; done
			sed -n {first},{self.lines}p out'''
        )
        return answers.splitlines()

    def tell(self, *lines) -> list[dict[str, int]]:
        """The results of what must be possible"""
        answers = self.ask(*lines)
        for line, answer in zip(lines, answers):
            if not answer.startswith('ok'):
                raise self.m.error(f'snp_guest: {line}: {answer}')
        return [{key: int(value, 0) for key, value in RESULT.findall(answer)} for answer in answers]

    def by_shell(self, line):
        """A command of a shell that has this done, whose answer nobody wants"""
        self.lines += 1
        return f"echo '{line}' >{self.program.dir}/in"

    def do(self, *commands, vcpu=0):
        """The results of the last one"""
        return self.tell(*(f'do {vcpu} {command}' for command in commands))[-1]

    def done(self, vcpus=(0,)):
        """How much vCPUs have done"""
        return [result['done'] for result in self.tell(*(f'progress {vcpu}' for vcpu in vcpus))]

    def stop(self, vcpus=(0,)):
        """The same, and they do no more."""
        return [result['done'] for result in self.tell(*(f'stop {vcpu}' for vcpu in vcpus))]

    def wait_done(self, number, vcpus=(0,)):
        self.m.wait(lambda: min(self.done(vcpus)) >= number, f'progress of {self.program.command}')

    def close(self):
        return self.program.close()

    def kill(self):
        return self.program.kill('KILL')


class GuestHost(Stale):
    """A host on which each guest, or page of a guest, is in a region of its own: node N is region 3 + N."""

    def __init__(self, name, judge, *, virtual_time=VIRTUAL_TIME_SHIFT, **arguments):
        super().__init__(name, judge, nodes=True, virtual_time=virtual_time, **arguments)

    def guest(self, *options, node=None):
        return Guest(self, *options, node=node)

    def count(self, *keys):
        """Of all vCPUs of the host"""
        vcpus = self.snp('vcpus')
        return {key: sum(vcpu[key] for vcpu in vcpus) for key in keys}

    @contextlib.contextmanager
    def counts(self, text, **expected):
        """What is done inside counts so often. Keys have underscores instead of hyphens."""
        keys = [key.replace('_', '-') for key in expected]
        before = self.count(*keys)
        yield
        after = self.count(*keys)
        self.equal(text, dict(zip(keys, expected.values())), {key: after[key] - before[key] for key in keys})

    def optimized(self, region):
        """On how many cores"""
        return sum(region in table for table in self.tables().values())

    def cleared(self, since):
        return {e['address'] for e in self.events('clear', since=since)}

    def is_optimized_again(self, text, region):
        """A pass begins DELAY after a guest has given up its last page, and visits no other region."""
        returned = self.last('pvalidate')
        self.settle()
        passes = self.passes(returned)
        if self.judge(f'{text}: there is a pass', passes):
            self.one_pass(text, passes[0], returned)
        self.equal(f'{text}: on every core', self.cores(), self.optimized(region))


def region_of(node):
    return (3 + node) * GB


@scenario('one page', kind=GuestHost, kernel='full')
def test_one_page(m):
    """
    A page is the only one of its region that is assigned. It is made private, touched before it is
    validated, made shared by the guest, and that twice: by the MSR protocol and by a list.
    """
    m.start_case()
    guest = m.guest(node=1)
    region = region_of(2)
    guest.tell('bind 0 2')
    m.settle()
    before = m.tables()
    for method in '', ' list':
        text = f'one page{method}'
        m.equal(f'{text}: no page of the region is assigned', 0, m.assigned_in(region))
        m.equal(f'{text}: it is optimized', m.cores(), m.optimized(region))
        begun = m.now()
        with m.counts(f'{text}: made private, and touched', rmpupdate=1, pvalidate=0, guest_not_validated=1):
            guest.do(f'psc private {FREE:#x} 4K{method}')
            (answer,) = guest.ask(f'do 0 read private {FREE:#x} 4K')
        m.equal(f'{text}: the guest gets #VC', f'error: not validated: page {FREE:#x}, value 0', answer)
        m.equal(f'{text}: the page is assigned', 1, m.assigned_in(region))
        with m.counts(f'{text}: validated', rmpupdate=0, pvalidate=1, guest_not_validated=0):
            guest.do(f'pvalidate {FREE:#x} 4K 1', f'write private {FREE:#x} 4K')
        m.equal(f'{text}: only its region has lost something', {region}, m.cleared(begun))
        m.equal(
            f'{text}: on every core',
            {core: table - {region} for core, table in before.items()},
            m.tables(),
        )
        m.settle()
        m.equal(f'{text}: it is not optimized while the page is private', 0, m.optimized(region))
        with m.counts(f'{text}: made shared', rmpupdate=1, pvalidate=1, guest_not_validated=0):
            guest.do(f'shared {FREE:#x} 4K{method}')
        m.equal(f'{text}: no page is assigned any more', 0, m.assigned_in(region))
        guest.do(f'write shared {FREE:#x} 4K')
        m.is_optimized_again(f'{text}: made shared', region)
        m.equal(f'{text}: the guest lives', 1, len(m.psp('guests')))
        m.equal(f'{text}: all is as before', before, m.tables())
        m.equal(f'{text}: the guest has its data', 0, guest.do(f'read shared {FREE:#x} 4K')['value'])
    m.equal('the guest ends well', 0, guest.close())
    m.check_case()


# Each guest on a CPU of its own, and commands on the first one
SIDE_BY_SIDE = {'smp': '5,sockets=1,cores=5,threads=1', 'append': 'isolcpus=1-4'}
TYPES = ('plain', 'sev', 'sev-es', 'snp')
# Pages, rounds, and how many writes more than these the host may make meanwhile
PAGES, ROUNDS = 256, 100
FILLS = PAGES * ROUNDS
NOISE = FILLS // 2


def writes(m, guest, cpu, half='private', gpa=FREE):
    """Has a guest write to many pages. What its CPU has counted meanwhile"""
    before = m.snp('vcpus')[cpu]
    done = guest.do(f'write {half} {gpa:#x} {PAGES * 4}K 4K {ROUNDS}')['done']
    after = m.snp('vcpus')[cpu]
    m.equal('the guest has written to each page', FILLS, done)
    return {key: after[key] - before[key] for key in ('skipped', 'checked', 'faults', 'guest-checked')}


def as_many(number, fills=FILLS):
    """As many as a guest has filled its TLB, and some that the host has made"""
    return fills <= number <= fills + NOISE


def skipped(m, text, found):
    m.judge(f'{text}: each write is skipped', as_many(found['skipped']), found)
    m.judge(f'{text}: hardly any is checked', found['checked'] < NOISE, found)


@scenario('side by side', kind=GuestHost, kernel='full', **SIDE_BY_SIDE)
def test_side_by_side(m):
    """
    RMPOPT makes the check of writes unnecessary that are made by the host, by guests that are no SNP
    guests, and by SNP guests to shared pages. It leaves the checks of an SNP guest's private pages.
    """
    m.start_case()
    guests = {kind: m.guest('--type', kind, node=1 + i) for i, kind in enumerate(TYPES)}
    plain, snp = guests['plain'], guests['snp']
    for i, guest in enumerate(guests.values()):
        guest.tell(f'pin 0 {1 + i}')
    snp.do(f'private {FREE:#x} {PAGES * 4}K list')
    snp.tell('bind 0 3')
    snp.do(f'psc shared {FREE + MB:#x} {PAGES * 4}K list', f'write shared {FREE + MB:#x} {PAGES * 4}K')
    m.settle()
    for i, kind in enumerate(TYPES[:3]):
        m.equal(f'{kind}: its region is optimized', m.cores(), m.optimized(region_of(1 + i)))
        skipped(m, kind, writes(m, guests[kind], 1 + i))
    skipped(m, 'shared pages of an SNP guest', writes(m, snp, 4, 'shared', FREE + MB))
    found = writes(m, snp, 4)
    # The page, and two page tables that lead to it
    m.judge('private pages: each write is checked', as_many(found['guest-checked'], 3 * FILLS), found)
    m.judge('private pages: none is skipped', found['skipped'] < NOISE, found)

    other = m.guest(node=1)
    m.equal('a page of its region is assigned: it is not optimized', 0, m.optimized(region_of(1)))
    found = writes(m, plain, 1)
    m.judge('... and each write of the plain guest is checked', as_many(found['checked']), found)
    m.judge('... none is skipped', found['skipped'] < NOISE, found)

    # Within one command, as the clock jumps while nobody writes.
    begun = m.now()
    start = f'start 0 write private {FREE:#x} {PAGES * 4}K 4K 0'
    starts = [guest.by_shell(start) for guest in guests.values()]
    m.check('; '.join([other.by_shell('quit'), 'sleep 9', *starts, 'sleep 3']))
    m.judge('there was a pass', m.passes(begun))
    m.equal('while all write, the region is optimized again', m.cores(), m.optimized(region_of(1)))
    for kind, guest in guests.items():
        m.judge(f'{kind}: it has written all the time', guest.stop()[0] > FILLS)
    skipped(m, 'plain again', writes(m, plain, 1))
    for kind, guest in (guests | {'the other': other}).items():
        m.equal(f'{kind}: the guest ends well', 0, guest.close())
    m.check_case()


# One core for the kernel's worker, commands and vCPUs, so that the others are idle
RACES = {'smp': '6,sockets=1,cores=3,threads=2', 'append': 'isolcpus=2-5'}
# Pages of the region that is raced for
P, Q = FREE, FREE + 4096
# Guests end, which puts off a pass. The last one does within DELAY of the deadline.
ENDS = 'for i in $(seq 7); do snp_vm --memory 2M --node 3 </dev/null >/dev/null || exit; sleep 3; done'


def hold_pass(m, guest, region, postponed, meanwhile):
    """
    P is made shared. The pass that follows is held where it has taken the mark of the region, and is
    about to execute RMPOPT. It comes DELAY later, or if ends of guests put it off, at the deadline.
    Returns what the core that goes first has found.
    """
    begun = m.now()
    m.qom_set('snp0', 'hold-rmpopt', region)
    guest.do(f'shared {P:#x} 4K')
    if postponed:
        m.check(ENDS)
        with m.stopped():
            m.judge('the pass was put off', not m.snp('held-rmpopt'))
    m.wait(lambda: m.snp('held-rmpopt'), 'the pass to be held')
    guest.do(*meanwhile)
    m.judge('the pass is still held', m.snp('held-rmpopt'))
    m.qom_set('snp0', 'hold-rmpopt', NO_HOLD)
    m.check('sleep 1')
    return [e for e in m.verified(begun) if e['address'] == region][0]


@scenario('conversion during a pass', kind=GuestHost, kernel='full', **RACES)
def test_during_pass(m):
    """
    A conversion comes exactly between the time when a pass takes the mark of a region and its RMPOPT,
    of a pass that was not put off, and of one at the deadline.
    """
    m.start_case()
    m.work_on(0, 1)
    guest = m.guest(node=1)
    region = region_of(2)
    guest.tell('bind 0 2')

    def race(text, before, meanwhile, empty):
        for postponed in False, True:
            where = f'{text}, {"at the deadline" if postponed else "on time"}'
            guest.do(*(f'private {page:#x} 4K' for page in before))
            m.settle()
            m.equal(f'{where}: pages are assigned', len(before), m.assigned_in(region))
            first = hold_pass(m, guest, region, postponed, meanwhile)
            m.equal(f'{where}: RMPOPT finds what is there', empty, bool(first['result']))
            m.settle()
            m.equal(f'{where}: nothing is lost', set(), m.lost())
            m.equal(
                f'{where}: the region is optimized if it is empty',
                m.cores() if empty else 0,
                m.optimized(region),
            )
            if not empty:
                guest.do(f'shared {P:#x} 4K')
                m.is_optimized_again(f'{where}: made shared', region)

    race('the last page is returned', (P, Q), [f'shared {Q:#x} 4K'], True)
    race('a page is assigned', (P,), [f'private {P:#x} 4K'], False)
    race('a page is assigned and returned', (P,), [f'private {P:#x} 4K', f'shared {P:#x} 4K'], True)
    m.equal('the guest ends well', 0, guest.close())
    m.check_case()


@scenario('conversion before others catch up', kind=GuestHost, kernel='full', **RACES)
def test_before_catch_up(m):
    """
    A conversion comes when the first core has verified a region and the others have not, or when
    another one is about to execute RMPOPT.
    """
    m.start_case()
    m.work_on(0, 1)
    guest = m.guest(node=1)
    region = region_of(2)
    guest.tell('bind 0 2')

    def lead():
        """Only the first core has optimized the region."""
        guest.do(f'private {P:#x} 4K')
        m.settle()
        begun = m.now()
        guest.do(f'shared {P:#x} 4K')
        m.wait(lambda: m.passes(begun), 'a pass')
        m.equal('one core is ahead', 1, m.optimized(region))
        return m.now()

    def failed(text, begun):
        others = [e for e in m.verified(begun) if e['address'] == region and e['core']]
        m.judge(f'{text}: RMPOPT of the others fails', not any(e['result'] for e in others), others)
        m.equal(f'{text}: the region is not optimized', 0, m.optimized(region))
        m.settle()
        guest.do(f'shared {P:#x} 4K')
        m.is_optimized_again(f'{text}: made shared', region)
        m.equal(f'{text}: nothing is lost', set(), m.lost())

    begun = lead()
    guest.do(f'private {P:#x} 4K')
    m.run_all_cpus()
    failed('assigned', begun)

    begun = lead()
    guest.do(f'private {P:#x} 4K', f'shared {P:#x} 4K')
    m.run_all_cpus()
    m.is_optimized_again('assigned and returned', region)

    begun = lead()
    m.qom_set('snp0', 'hold-rmpopt', region)
    spin = m.program('spin 2 50')
    m.wait(lambda: m.snp('held-rmpopt'), 'a tick to be held')
    guest.do(f'private {P:#x} 4K')
    m.qom_set('snp0', 'hold-rmpopt', NO_HOLD)
    m.equal('held: spin ends well', 0, spin.close())
    failed('held', begun)
    m.equal('the guest ends well', 0, guest.close())
    m.check_case()


@scenario('conversions without end', kind=GuestHost, kernel='full')
def test_without_end(m):
    """vCPUs convert a page of a region each, again and again. No region waits for that to end."""
    m.start_case()
    vcpus = range(3)
    pages = [f'{FREE + vcpu * MB:#x} 4K' for vcpu in vcpus]
    guest = m.guest(f'--vcpus {len(vcpus)}', node=1)
    for vcpu in vcpus:
        guest.tell(f'bind {vcpu} {1 + vcpu}', f'do {vcpu} private {pages[vcpu]}')
    m.settle()
    begun, before = m.now(), m.count('rmpupdate')['rmpupdate']
    guest.tell(*(f'start {vcpu} convert {pages[vcpu]} 4K 0' + ' list' * (vcpu % 2) for vcpu in vcpus))

    def enough():
        m.check('sleep 2')
        # For two passes, and some time before the first page is returned
        return m.now() > begun + 3 * DELAY and sum(guest.done(vcpus)) >= CONVERSIONS

    m.wait(enough, 'enough conversions', 900)
    m.judge('there were two passes meanwhile', len(m.passes(begun)) >= 2)
    done = guest.stop(vcpus)
    m.note(f'{m.name}: {done} conversions')
    m.judge('all vCPUs have converted', min(done) > sum(done) // 10, done)
    changed = m.events('pvalidate', since=begun)
    m.equal(
        'each conversion takes two RMPUPDATE, and two PVALIDATE that succeed',
        (2 * sum(done), 2 * sum(done), []),
        (
            m.count('rmpupdate')['rmpupdate'] - before,
            len(changed),
            [e for e in changed if e['result']],
        ),
    )
    # A page that is returned does not put off the pass that another one has asked for.
    begins = [changed[0]['at']] + [entries[0]['at'] for entries in m.passes(begun)]
    waits = [b - a for a, b in zip(begins, begins[1:])]
    m.judge(
        'a pass begins 10 s after the one before',
        all(DELAY - SECOND // 50 <= wait <= DELAY + m.slack for wait in waits),
        waits,
    )
    guest.tell(*(f'do {vcpu} shared {pages[vcpu]}' for vcpu in vcpus))
    m.settle()
    # The first one has other pages of the guest.
    m.equal(
        'once the pages are shared their regions are optimized',
        [m.cores()] * 2,
        [m.optimized(region_of(node)) for node in (2, 3)],
    )
    m.equal('the guest ends well', 0, guest.close())
    m.check_case()


def stands_still(m, guest, text, vcpu=1):
    before = guest.ask(f'progress {vcpu}')
    m.check('sleep 0.1')
    m.equal(text, before, guest.ask(f'progress {vcpu}'))


@scenario('vCPUs', kind=GuestHost, kernel='full')
def test_vcpus(m):
    """A guest creates and destroys a vCPU, whose VMSA is a page of the guest. In the end such pages are punched."""
    m.start_case()
    guest = m.guest('--vcpus 4', node=1)
    region = region_of(2)
    guest.tell('bind 0 2')
    guest.do(f'private {VMSA:#x} 4K')
    turns = 4
    write = f'start 1 write shared {FREE:#x} 64K 4K 0'
    with m.counts('each vCPU takes two RMPADJUST', rmpadjust=2 * turns, rmpupdate=0):
        for turn in range(turns):
            # The one before waits for a command, or for an end that never comes.
            guest.tell(f'do 0 create 1 {VMSA:#x}', 'wait 1' if turn else 'do 1 nop', write)
            guest.wait_done(1000, [1])
            guest.do('destroy 1')
            stands_still(m, guest, 'a vCPU that is destroyed does nothing')
    m.equal('the VMSA is assigned', 1, m.assigned_in(region))
    guest.do(f'rmpadjust {VMSA:#x} 1', f'shared {VMSA:#x} 4K')
    m.is_optimized_again('the VMSA is made shared', region)

    # KVM notices by itself if a vCPU exits at that moment, which not all of them do.
    for vcpu in 1, 2, 3:
        vmsa, page = VMSA + vcpu * 4 * KB, FREE + vcpu * 64 * KB
        guest.do(f'private {vmsa:#x} 4K', f'create {vcpu} {vmsa:#x}')
        before = 'wait 1' if vcpu == 1 else f'do {vcpu} nop'
        guest.tell(before, f'start {vcpu} write shared {page:#x} 64K 4K 0')
        guest.wait_done(1000, [vcpu])
        guest.tell(f'punch {vmsa:#x} 4K')
        m.check('sleep 0.1')
        stands_still(m, guest, 'a vCPU whose VMSA is gone does nothing', vcpu)
        (answer,) = guest.ask(f'wait {vcpu}')
        m.judge('a vCPU whose VMSA is gone does not run', answer.startswith('error: '), answer)
        m.note(f'{m.name}: {answer}')
    guest.do('nop')
    m.equal('the guest ends well', 0, guest.close())
    m.check_case()


def busy(m):
    """A guest whose vCPUs write, and convert pages of two regions without end"""
    guest = m.guest('--vcpus 3', node=1)
    pages = [f'{FREE + vcpu * MB:#x} 64K' for vcpu in range(3)]
    for vcpu in range(3):
        guest.tell(f'bind {vcpu} {1 + vcpu}', f'do {vcpu} private {pages[vcpu]}')
    guest.tell(
        f'start 0 write private {pages[0]} 4K 0',
        f'start 1 convert {pages[1]} 4K 0',
        f'start 2 convert {pages[2]} 4K 0 list',
    )
    guest.wait_done(20, range(3))
    return guest


@scenario('ends', kind=GuestHost, kernel='full')
def test_ends(m):
    """Guests end in the middle of their work, in all ways and orders."""
    m.start_case()
    before, pages = m.tables(), m.assigned_pages()

    def all_back(text):
        m.settle()
        m.equal(f'{text}: there is no guest any more', [], m.psp('guests'))
        m.equal(f'{text}: all is as before', before, m.tables())
        m.equal(f'{text}: assigned pages as before', pages, m.assigned_pages())

    for order in ('close-memory', 'close-vm'), ('close-vm', 'close-memory'), ('close',):
        text = ', '.join(order)
        guest = busy(m)
        for command in order:
            m.equal(f'{text}: {command}', ['ok'], guest.ask(command))
            m.check('sleep 0.1')
        m.equal(f'{text}: a vCPU does not run any more', 'error', guest.ask('progress 0')[0][:5])
        all_back(text)
        m.equal(f'{text}: snp_guest ends well', 0, guest.close())

    guest = busy(m)
    m.equal('SIGKILL ends a guest in KVM_RUN', 128 + 9, guest.kill())
    all_back('SIGKILL')

    guest = busy(m)
    _, answer = guest.ask('stop 0', 'do 0 end')
    m.judge('a guest may end by itself', answer.startswith('ok'), answer)
    m.equal('snp_guest ends well', 0, guest.close())
    all_back('terminated')

    one, two = busy(m), m.guest(node=1)
    m.equal('the one of two guests ends well', 0, one.close())
    m.settle()
    m.equal('the region of the other one is not optimized', 0, m.optimized(region_of(1)))
    m.equal('others are', [m.cores()] * 2, [m.optimized(region_of(node)) for node in (2, 3)])
    m.equal('the other one ends well', 0, two.close())
    all_back('two guests')
    m.check_case()


def busy_until_shutdown(m):
    """The same, and the firmware is going to take its time to shut SNP down: a pass is due meanwhile."""
    busy(m)
    m.qom_set('psp0', 'hold', 'SNP_SHUTDOWN_EX')


def hold_shutdown(m):
    """Until that pass would have run. The vCPUs go on when SNP is shut down, which they have to survive."""
    m.wait(lambda: m.psp('held') or is_down(m), 'SNP_SHUTDOWN_EX')
    if m.judge('the firmware is asked to shut SNP down', m.psp('held')):
        m.settle()
        m.qom_set('psp0', 'hold', '')


def is_down(m):
    return m.qmp('query-status')['status'] == 'shutdown'


@scenario('kexec with a guest in use', kind=GuestHost, kernel='full', append=STALE_EVENTS)
def test_kexec(m):
    """vCPUs are in KVM_RUN, and pages are being converted, when another kernel takes over."""
    kexec(m, lambda: busy_until_shutdown(m), lambda: hold_shutdown(m))


@scenario('reboot with a guest in use', kind=GuestHost, kernel='full', append=STALE_EVENTS)
@scenario(
    'reboot with a guest in use, legacy shutdown',
    kind=GuestHost,
    kernel='full',
    x86_shutdown=False,
    append=STALE_EVENTS,
)
def test_reboot(m):
    """The same when the machine is reset: the kernel shuts SNP down before, and sets all up again after."""
    m.set_up()
    m.wait_pass(0)
    m.all_optimized('all is optimized')
    busy_until_shutdown(m)
    begun = m.now()
    m.forget_history()
    # The machine stops before it is reset, so that there is time to look.
    m.qmp('set-action', shutdown='pause')
    m.check('(sleep 1; reboot -f) >/dev/null 2>&1 &')
    hold_shutdown(m)
    m.wait(lambda: is_down(m), 'the machine to be reset')
    results = [e['result'] for e in m.events('psp-done', since=begun, value=PSP['SNP_SHUTDOWN_EX'])]
    m.judge('the kernel shuts SNP down', results[-1:] == [0], results)
    m.equal('SNP is off', 'uninit', m.psp('state')['snp'])
    m.equal('no RMPOPT after that', [], m.verified(m.last('psp', value=PSP['SNP_SHUTDOWN_EX'])))
    sets_nothing_up(m, 'RMPOPT is not set up again')
    # Or -no-reboot makes another shutdown of that.
    m.qmp('set-action', reboot='reset')
    m.qmp('system_reset')
    m.wait(lambda: not is_down(m), 'the reset')
    m.qmp('cont')
    wait_boot(m)
    m.set_up()
    m.wait_pass(m.last('psp-done', value=PSP['SNP_INIT_EX']))
    m.all_optimized('all is optimized after the reset')
    m.equal('guests start and stop', 0, m.guests('--vms 2 --memory 16M --node 1,2').close())
