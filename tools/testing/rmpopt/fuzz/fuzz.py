#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-only
"""
fuzz.py SECONDS SEED: fuzzes /dev/sev, KVM_MEMORY_ENCRYPT_OP, guest_memfd and the files around
them on the emulated SNP host, with the kernel full-fuzz. fuzz.c makes up programs and executes
them there, in rounds. Meanwhile commands of the PSP and RMPUPDATE fail, or commands wait, and
after each round the referee is asked: nothing is lost, no ASID is in use, and no page is
assigned that nobody owns, but for what was leaked because something had to fail.

A line for each round, and a sum as the last line. What is found is minimised to a C program in
build/fuzz/finds. The status is 3 if there is something.

What a round does follows from the seed, its number, and the corpus. The corpus depends on how
threads get along with each other, so it is saved with each find.
"""
import bisect
import contextlib
import dataclasses
import os
import pathlib
import random
import re
import shutil
import subprocess
import sys
import threading
import time

import host
from judge import BUILD, TOP

HERE = pathlib.Path(__file__).parent
OUT = BUILD / 'fuzz'
PROGRAM = BUILD / 'guest/fuzz'
KERNEL = 'full-fuzz'
THREADS = 3
# Operations of a round
OPERATIONS = 3000
# Seconds that a round, or what asks for the state after one, may take
ROUND_TIMEOUT = 180
# Seconds that minimising may take
MINIMISE = 900
# A race may need more than one try.
TRIES = 3
GB = 1 << 30

MACHINE = {
    'kernel': KERNEL,
    'smp': '4,sockets=1,cores=2,threads=2',
    'memory': '6G',
    # A console takes time, so that it gets no more than warnings.
    'append': 'page_poison=1 loglevel=5',
    # The RMP stays when SNP ends, so that the referee can tell what was left in it.
    'devices': ('amd-snp-host,id=snp0', 'amd-iommu,snp=on', 'amd-psp,id=psp0,x86-shutdown=off'),
    'boot_timeout': 600,
}

# Lines of the console that begin a report. "Call Trace" and "cut here" are part of one.
REPORT = re.compile(
    r'^(WARNING: |BUG: |Oops|general protection|UBSAN|KASAN|DEBUG_LOCKS_WARN|INFO: (task|rcu|trying|possible'
    r'|lockdep)|list_(add|del) corruption)|detected stall|soft lockup|hard LOCKUP|Kernel panic'
    r'|Leaking PFN|RMPUPDATE failed|RMPOPT faulted|too many firmware commands'
)
LEAKING = re.compile(r'Leaking PFN range 0x([0-9a-f]+)-0x([0-9a-f]+)')
# What the kernel may report if pages could not be returned
LOST_PAGES = re.compile(
    r'Leaking PFN|RMPUPDATE failed|WARNING: .* at (kvm_rmp_make_shared|snp_page_reclaim|sev_gmem_make_shared)\+'
)
# RMPUPDATE has a code, all others are commands of the PSP. None of them shuts SNP down.
RMPUPDATE = 'RMPUPDATE'
EXCUSES = {
    RMPUPDATE: LOST_PAGES,
    'SNP_PAGE_RECLAIM': LOST_PAGES,
    # The area that the firmware still uses cannot be returned.
    'SHUTDOWN': LOST_PAGES,
    'SNP_DECOMMISSION': re.compile(r'WARNING: .* at snp_decommission_context\+'),
}
# Guests that the firmware does not let go of, until it is shut down
LASTING = 'DEACTIVATE', 'DECOMMISSION', 'SNP_DECOMMISSION', 'SHUTDOWN'
COMMANDS = (
    *('SNP_PAGE_RECLAIM', 'SNP_LAUNCH_UPDATE', 'SNP_LAUNCH_START', 'SNP_LAUNCH_FINISH', 'SNP_ACTIVATE'),
    *(
        'SNP_GCTX_CREATE',
        'SNP_DF_FLUSH',
        'SNP_PLATFORM_STATUS',
        'SNP_CONFIG',
        'SNP_COMMIT',
        'INIT',
        'PEK_CSR',
    ),
    *('PLATFORM_STATUS', 'PDH_CERT_EXPORT', 'GET_ID', 'PEK_GEN', 'FACTORY_RESET', 'LAUNCH_START', 'ACTIVATE'),
    *('LAUNCH_UPDATE_DATA', 'LAUNCH_UPDATE_VMSA', 'LAUNCH_MEASURE', 'LAUNCH_FINISH', 'DF_FLUSH'),
)
STATUSES = (1, 2, 3, 4, 8, 9, 0xC, 0xF, 0x10, 0x16, 0x17, 0x1A, 0x1C)

# As in fuzz.c
MODULES = 'ccp', 'kvm', 'kvm_amd'
# What KCOV reports of, see scripts/kernel
OBJECTS = {
    'ccp': ('drivers/crypto/ccp/sev-dev.o',),
    'kvm_amd': ('arch/x86/kvm/svm/sev.o',),
    'kvm': ('virt/kvm/guest_memfd.o',),
    '': ('arch/x86/virt/svm/sev.o',),
}


def say(text):
    print(text, flush=True)


def first_line(error):
    return str(error).splitlines()[0]


def kind_of(text):
    """What two finds have in common if they are the same"""
    text = re.sub(r'CPU#?:? ?\d+.*|PID:? ?\d+.*|/\d+\b', '', text)
    return re.sub(r'\b(0x)?[0-9a-f]{5,}\b|\b\d+\b|\+0x[0-9a-f/x]+', 'N', text).strip()


@dataclasses.dataclass
class Faults:
    """What is made to fail from outside during a round, and which commands wait"""

    psp: dict = dataclasses.field(default_factory=dict)
    rmpupdate: str = ''
    holds: list = dataclasses.field(default_factory=list)

    @classmethod
    def make(cls, seed, number):
        rng = random.Random(f'{seed} {number}')
        faults = cls()
        if rng.random() < 0.5:
            for command in rng.sample(COMMANDS, rng.randint(1, 3)):
                nth = rng.randint(1, 400 if command == 'SNP_PAGE_RECLAIM' else 20)
                faults.psp[command] = f'{command}:{rng.choice(STATUSES):#x}:{nth}'
        if rng.random() < 0.05:
            command = rng.choice(LASTING)
            faults.psp[command] = f'{command}:{rng.choice(STATUSES):#x}:{rng.randint(1, 20)}'
        if rng.random() < 0.3:
            faults.rmpupdate = f'{rng.choice((2, 2, 3, 4))}:{rng.randint(50, 2000)}:{rng.randint(1, 3)}'
        if rng.random() < 0.4:
            faults.holds = [(rng.random(), rng.choice(COMMANDS), rng.random() / 2) for _ in range(4)]
        return faults

    def __str__(self):
        parts = list(self.psp.values())
        if self.rmpupdate:
            parts.append(f'{RMPUPDATE}:{self.rmpupdate}')
        parts += [f'{command} waits' for _, command, _ in self.holds[:1]]
        return ', '.join(parts)

    def settings(self):
        """The same as qom-set takes it"""
        found = []
        if self.psp:
            found.append(f"psp0.fail = {','.join(self.psp.values())}")
        if self.rmpupdate:
            found.append(f'snp0.rmpupdate-fail = {self.rmpupdate}')
        return found


class Machine(host.Host):
    """The host under test, and what has to hold between rounds"""

    def __init__(self, name):
        super().__init__(name, **MACHINE)
        self.looked = 0
        # Pages that are assigned, guests, and ASIDs, as they should be
        self.pages = 0
        self.guests = 0
        self.asids: dict[str, int] = {}
        self.ram: set[int] = set()

    def set_up(self):
        self.ram = {pa for start, end in self.system_ram() for pa in range(start // GB * GB, end + 1, GB)}
        self.check('echo 20 >/sys/module/sev/parameters/rmpopt_delay_ms')
        why = self.settle()
        if why:
            raise self.error(why)
        self.pages, self.guests, self.asids = self.assigned(), self.number_of_guests(), self.used_asids()

    def settle(self):
        """
        Launches a guest, which takes SEV initialized, and makes SEV uninitialized, so that the
        firmware has no memory of its own. SNP stays as it is.
        """
        for command in ('snp_vm --memory 64K </dev/null', 'sev_ioctl factory_reset', 'sev_ioctl pek_gen'):
            status, output = self.run(command, ROUND_TIMEOUT)
            if status:
                return f'the host is of no use: {command}: {output.strip()[-200:]}'
        return None

    def assigned(self):
        return sum(region['assigned'] for region in self.snp('regions'))

    def number_of_guests(self):
        return len(self.psp('guests')) + len(self.psp('sev-guests'))

    def used_asids(self):
        return dict(
            (name, int(number))
            for name, number in (
                line.split() for line in self.check('cat /sys/fs/cgroup/host/misc.current').splitlines()
            )
        )

    def upload(self, path, lines):
        self.write(path, ''.join(f'{line}\n' for line in lines))

    @contextlib.contextmanager
    def failing(self, faults, consumed):
        """Adds to CONSUMED what has failed, and how often."""
        stop = threading.Event()

        def hold():
            # If the host dies, the thread that executes the command tells.
            with contextlib.suppress(host.HostError):
                for delay, command, duration in faults.holds:
                    if stop.wait(delay):
                        break
                    self.qom_set('psp0', 'hold', command)
                    stop.wait(duration)
                    self.qom_set('psp0', 'hold', '')

        self.qom_set('psp0', 'fail', ','.join(faults.psp.values()))
        numbers = [part.split(':')[0] for part in self.psp('fail').split(',')]
        self.qom_set('snp0', 'rmpupdate-fail', faults.rmpupdate)
        thread = threading.Thread(target=hold, daemon=True)
        thread.start()
        try:
            yield
        finally:
            stop.set()
            thread.join()
            if self.alive():
                left = [part.split(':')[0] for part in self.psp('fail').split(',')]
                for command, number in zip(faults.psp, numbers):
                    if number not in left:
                        consumed[command] = 1
                if faults.rmpupdate:
                    count = self.snp('rmpupdate-fail').split(':')[2:]
                    consumed[RMPUPDATE] = int(faults.rmpupdate.split(':')[2]) - int(count[0] if count else 0)
                self.qom_set('psp0', 'fail', '')
                self.qom_set('snp0', 'rmpupdate-fail', '')

    def reports(self):
        """Lines of the console since the last time that begin a report"""
        lines = [re.sub(r'^(\[[^]]*\] *)*', '', line) for line in list(self.log.console[self.looked :])]
        self.looked += len(lines)
        return [line for line in lines if REPORT.search(line)]

    def execute(self, command, faults):
        """Its output, and what is wrong afterwards, the cause first."""
        consumed: dict[str, int] = {}
        finds = []
        output = ''
        try:
            # What the kernel says once it says in each round.
            self.check('echo 1 >/sys/kernel/debug/clear_warn_once')
            with self.failing(faults, consumed):
                status, output = self.run(command, ROUND_TIMEOUT)
            if status:
                finds.append(f'the fuzzer ends with status {status}')
        except host.HostError as error:
            # It is the same find if other programs lead to it.
            finds.append(f'no end: {first_line(error).replace(command, "the fuzzer")}')
        consumed = {name: number for name, number in consumed.items() if number}
        if not finds:
            finds += self.wrong(consumed)
        if not finds and set(consumed) & set(LASTING):
            finds += self.reload()
        reports = self.reports()
        excused = [line for line in reports if any(e.search(line) for c in consumed if (e := EXCUSES.get(c)))]
        return output, [line for line in reports if line not in excused] + finds

    def wrong(self, consumed):
        """Judges the state, and takes it for what it should be."""
        finds = []
        try:
            settled = self.settle()
            if settled and not set(consumed) & set(LASTING):
                finds.append(settled)
            finds += self.wrong_numbers(consumed)
        except host.HostError as error:
            finds.append(f'no answer: {first_line(error)}')
        return finds

    def wrong_numbers(self, consumed):
        finds = []
        # Not all commands that fail leave a guest or ASID behind, and not all pages are
        # assigned that could not be returned.
        lasting = sum(consumed.get(name, 0) for name in LASTING)
        leaked = sum(
            int(match[2], 16) - int(match[1], 16)
            for match in map(LEAKING.search, self.log.console[self.looked :])
            if match
        )
        leaked += lasting + consumed.get(RMPUPDATE, 0)
        pages, guests, asids = self.assigned(), self.number_of_guests(), self.used_asids()
        if pages > self.pages + leaked:
            finds.append(f'assigned: {pages - self.pages - leaked} pages that nobody owns')
        if guests > self.guests + lasting:
            finds.append(f'guests: {guests - self.guests} that KVM does not know any more')
        for name, number in asids.items():
            if number > self.asids.get(name, 0) + lasting:
                finds.append(f'ASIDs: {number - self.asids.get(name, 0)} of {name} are leaked')
        for name in ('violations', 'audit-now'):
            if self.snp(name):
                finds.append(f'the referee: {self.snp(name)} {name}')
        lost = self.lost()
        if lost:
            finds.append(f'lost: {lost} are not optimized')
        self.pages, self.guests, self.asids = pages, guests, asids
        return finds

    def lost(self):
        """Regions that should be optimized on each core, and are not, even after some time"""
        deadline = time.monotonic() + 60
        while True:
            self.run_all_cpus()
            regions = {region['address']: region for region in self.snp('regions')}
            wanted = {pa for pa in self.ram if host.can_be_optimized(regions.get(pa, {}))}
            missing = {
                pa
                for core in self.snp('cores')
                for pa in wanted - {core['base'] // GB * GB + n * GB for n in core['regions']}
            }
            if not missing or time.monotonic() > deadline:
                return ', '.join(f'{pa // GB} GB' for pa in sorted(missing))

    def reload(self):
        """The firmware starts anew, and so does what should be. What is wrong with that."""
        try:
            self.check(f'rmmod kvm_amd && rmmod ccp && {host.LOAD}', ROUND_TIMEOUT)
            self.set_up()
        except host.HostError as error:
            return [f'not loaded anew: {first_line(error)}']
        return []

    def end_of_snp(self):
        """What is wrong once SNP is shut down: the firmware does not need more pages for that."""
        finds = []
        try:
            self.check('rmmod kvm_amd && rmmod ccp', ROUND_TIMEOUT)
            pages = self.assigned()
            if pages > self.pages:
                finds.append(f'assigned: {pages - self.pages} pages more without SNP')
        except host.HostError as error:
            finds.append(f'no end of SNP: {first_line(error)}')
        return self.reports() + finds


class Find:
    """Something that is wrong after a round, and what has led to it"""

    def __init__(self, fuzzer, number, finds, faults):
        self.fuzzer = fuzzer
        self.number = number
        self.finds = finds
        self.kind = kind_of(finds[0])
        self.faults = faults
        self.dir = OUT / 'finds' / f'{len(fuzzer.finds) + 1}'
        self.programs = fuzzer.programs(number)
        self.deadline = time.monotonic() + MINIMISE
        self.machine = None
        self.runs = 0

    def save(self, name, lines):
        self.dir.mkdir(parents=True, exist_ok=True)
        (self.dir / name).write_text('\n'.join(lines) + '\n', encoding='utf-8')

    def happens(self, programs, faults):
        """Whether the same kind of find comes up with these programs"""
        if time.monotonic() > self.deadline or not programs:
            return False
        for _ in range(TRIES):
            self.runs += 1
            if not self.machine:
                self.machine = self.fuzzer.boot()
            self.machine.upload('/tmp/programs', programs)
            _, finds = self.machine.execute('fuzz replay 1 /tmp/programs', faults)
            if finds:
                self.machine.kill()
                self.machine = None
            if any(kind_of(find) == self.kind for find in finds):
                return True
        return False

    def shrink(self, parts, works):
        """Leaves out what is not needed, in pieces that become smaller."""
        size = len(parts) // 2
        while size:
            at = 0
            while at < len(parts):
                fewer = parts[:at] + parts[at + size :]
                if works(fewer):
                    parts = fewer
                else:
                    at += size
            size //= 2
        return parts

    def minimise(self):
        """What is left of the programs, or None if they do not lead to the same again"""
        self.save('programs', self.programs)
        self.save('report', [*self.finds, '', *self.faults.settings()])
        if not self.happens(self.programs, self.faults):
            return None
        if self.faults.settings() and self.happens(self.programs, Faults()):
            self.faults = Faults()
        programs = self.programs
        for thread in sorted({line[0] for line in programs}):
            alone = [line for line in programs if line[0] == thread]
            if self.happens(alone, self.faults):
                programs = alone
                break
        programs = self.shrink(programs, lambda some: self.happens(some, self.faults))
        for index, program in enumerate(programs):
            thread, *operations = program.split(' ')

            def works(some, index=index, thread=thread):
                line = [' '.join([thread, *some])] if some else []
                return self.happens([*programs[:index], *line, *programs[index + 1 :]], self.faults)

            programs[index] = ' '.join([thread, *self.shrink(operations, works)])
        self.save('programs', programs)
        return programs

    def write_program(self, programs):
        source = c_program(self.finds, self.faults, programs)
        self.save('find.c', source.splitlines())
        return len(source.splitlines())

    def end(self):
        if self.machine:
            self.machine.kill()


# A function of ops.h, and a comment
FUNCTION = re.compile(r'(?ms)^static \w+ (\w+)\([^)]*\)\n\{.*?^\}\n\n?')
COMMENT = re.compile(r'(?ms)^/\*.*?\*/\n')


def c_program(finds, faults, programs):
    """The same as a C program of the functions in ops.h"""
    text = COMMENT.sub('', (HERE / 'ops.h').read_text(encoding='utf-8').split('\n', 1)[1])
    functions = {match[1]: match[0].rstrip() for match in FUNCTION.finditer(text)}
    calls: dict[str, list[str]] = {}
    for line in programs:
        thread, *words = line.split(' ')
        if thread in calls:
            words.insert(0, 'drop_all')
        for word in words:
            name, *arguments = word.split(',')
            arguments += ['0'] * (4 - len(arguments))
            calls.setdefault(thread, []).append(f"{name}({', '.join(arguments)});")
    threads = []
    if len(calls) == 1:
        thread, body = next(iter(calls.items()))
        body = ['open_all();', f'start({thread});', *body]
    else:
        body = ['pthread_t threads[4];', 'open_all();']
        for thread, lines in calls.items():
            threads.append(
                '\n\t'.join([f'static void *thread{thread}(void *unused)\n{{\n\tstart({thread});', *lines])
                + '\n\treturn NULL;\n}'
            )
            body.append(f'pthread_create(&threads[{thread}], NULL, thread{thread}, NULL);')
        body += [f'pthread_join(threads[{thread}], NULL);' for thread in calls]
    threads.append('\n\t'.join(['int main(void)\n{', *body, 'return 0;\n}']))
    # What these functions call, too
    used: set[str] = set()
    new = '\n'.join(threads)
    while True:
        more = {name for name in functions if name not in used and re.search(rf'\b{name}\(', new)}
        if not more:
            break
        used |= more
        new = '\n'.join(functions[name] for name in more)
    comment = [f'{find[:90]}' for find in finds[:3]]
    comment += [f'With {setting}' for setting in faults.settings()]
    return '\n'.join(
        [
            *('// SPDX-License-Identifier: GPL-2.0-only', '/*', *(f' * {line}' for line in comment), ' */'),
            *(['#include <pthread.h>'] if len(calls) > 1 else []),
            re.sub(r'\n\n+', '\n\n', FUNCTION.sub('', text)).strip() + '\n',
            '\n\n'.join([*(body for name, body in functions.items() if name in used), *threads]),
            '',
        ]
    )


class Fuzzer:
    def __init__(self, seed, seconds, tell=say):
        self.seed = seed
        self.seconds = seconds
        self.tell = tell
        self.corpus: list[str] = []
        # Places that were reached, as fuzz.c prints them, and where functions begin
        self.seen: list[str] = []
        self.functions: dict[str, list] = {}
        self.finds: dict[str, Find] = {}
        self.operations = 0
        self.booted = 0
        self.minimise = True

    def boot(self):
        """A host that is set up. Its log is build/log/fuzz-NUMBER.log"""
        self.booted += 1
        # pylint: disable-next=unnecessary-dunder-call  # It lives longer than a block.
        machine = Machine(f'fuzz-{self.booted}').__enter__()
        machine.set_up()
        return machine

    def programs(self, number):
        """The programs of a round, each after its thread: fuzz.c makes them up here in the same way."""
        OUT.mkdir(parents=True, exist_ok=True)
        path = OUT / 'corpus'
        path.write_text(''.join(f'{line}\n' for line in self.corpus), encoding='utf-8')
        return output_of(PROGRAM, 'print', self.seed, number, OPERATIONS, THREADS, path).splitlines()

    def round(self, machine, number):
        """Whether the host is still good"""
        faults = Faults.make(self.seed, number)
        output, finds = machine.execute(
            f'fuzz run {self.seed} {number} {OPERATIONS} {THREADS} /tmp/corpus /tmp/seen', faults
        )
        match = re.search(r'^(\d+) operations, .*$', output, re.M)
        self.tell(f'round {number}: {match[0] if match else "dead"}' + (f'; {faults}' if str(faults) else ''))
        self.operations += int(match[1]) if match else 0
        if not finds:
            try:
                self.learn(machine, output)
            except host.HostError as error:
                finds = [f'no answer: {first_line(error)}']
        if finds:
            machine.kill()
            self.found(number, finds, faults)
        return not finds

    def learn(self, machine, output):
        """Programs and places that are new become known, here and there."""
        lines = output.splitlines()
        self.seen += [line[2:] for line in lines if line.startswith('* ')]
        fresh = [line[2:] for line in lines if line.startswith('+ ')]
        if fresh:
            machine.upload('/tmp/fresh', fresh)
            machine.check('cat /tmp/fresh >>/tmp/corpus')
            self.corpus += fresh

    def found(self, number, finds, faults):
        find = Find(self, number, finds, faults)
        self.tell(f'  found: {finds[0]}' + (f' and {len(finds) - 1} more' if len(finds) > 1 else ''))
        if find.kind in self.finds:
            self.tell('  which is known')
            return
        self.finds[find.kind] = find
        programs = None
        try:
            if self.minimise:
                programs = find.minimise()
            else:
                find.save('programs', find.programs)
        except host.HostError as error:
            self.tell(f'  minimising has failed: {error}')
        finally:
            find.end()
        where = os.path.relpath(find.dir, TOP)
        if programs:
            lines = find.write_program(programs)
            self.tell(f'  {where}/find.c: {lines} lines, after {find.runs} runs')
        else:
            self.tell(f'  {where}/programs: not minimised, after {find.runs} runs')

    def run(self, until_find=False):
        """Rounds until the time is over, or something is found"""
        shutil.rmtree(OUT, ignore_errors=True)
        machine = self.boot()
        self.functions = {module: functions_at(machine, module) for module in OBJECTS}
        start = time.monotonic()
        number = 0
        try:
            while time.monotonic() < start + self.seconds and not (until_find and self.finds):
                if not machine:
                    machine = self.boot()
                    machine.upload('/tmp/corpus', self.corpus)
                    machine.upload('/tmp/seen', self.seen)
                number += 1
                if not self.round(machine, number):
                    machine = None
            self.cover()
            if machine:
                finds = machine.end_of_snp()
                if finds:
                    self.found(number, finds, Faults())
        finally:
            if machine:
                machine.kill()
        self.tell(f'{self.operations} operations in {number} rounds, {time.monotonic() - start:.0f} s')

    def cover(self):
        """How many places are reached in each of the files that KCOV knows"""
        reached = [int(line, 16) for line in self.seen]
        for module, objects in OBJECTS.items():
            for path in objects:
                places = places_of(path)
                counts = dict.fromkeys(places, 0)
                for place in reached:
                    name = name_at(self.functions[module], place)
                    if name in counts:
                        counts[name] += 1
                self.tell(
                    f'{path}: {sum(counts.values())} of {sum(places.values())} places, '
                    f'{sum(map(bool, counts.values()))} of {len(counts)} functions'
                )


def functions_at(machine, module):
    """Sorted places, as fuzz.c counts them, and names, of a module or of what is built in"""
    if not module:
        found = re.findall(r'^([0-9a-f]+) [tT] (\S+)$', output_of('nm', BUILD / KERNEL / 'vmlinux'), re.M)
        return sorted((int(address, 16), name) for address, name in found)
    start = int(machine.check(f"awk '$1 == \"{module}\" {{ print $6 }}' /proc/modules"), 16)
    text = machine.check(
        f"awk 'tolower($2) == \"t\" && $4 == \"[{module}]\" {{ print $1, $3 }}' /proc/kallsyms"
    )
    number = MODULES.index(module) + 1
    found = [line.split() for line in text.splitlines()]
    return sorted((int(address, 16) - start + (number << 32), name) for address, name in found)


def output_of(*command):
    return subprocess.run(list(map(str, command)), check=True, text=True, stdout=subprocess.PIPE).stdout


def name_at(functions, place):
    index = bisect.bisect(functions, (place, '\x7f'))
    return functions[index - 1][1] if index else ''


def places_of(path):
    """Places that KCOV can report, by function"""
    text = output_of('objdump', '-dr', '--no-show-raw-insn', BUILD / KERNEL / path)
    places: dict[str, int] = {}
    name = ''
    for line in text.splitlines():
        match = re.match(r'[0-9a-f]+ <(.*)>:$', line)
        if match:
            name = match[1]
        elif '__sanitizer_cov_trace_pc' in line:
            places[name] = places.get(name, 0) + 1
    return places


def main():
    seconds, seed = int(sys.argv[1]), int(sys.argv[2])
    fuzzer = Fuzzer(seed, seconds)
    fuzzer.run()
    say(f'{len(fuzzer.finds)} finds')
    return 3 if fuzzer.finds else 0


if __name__ == '__main__':
    sys.exit(main())
