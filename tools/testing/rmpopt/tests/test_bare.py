# SPDX-License-Identifier: GPL-2.0-only
"""
The bare kernel tries each instruction, MSR, fault and firmware command on the emulated SNP
host. Linux could not: it keeps to the rules, and does not let a test do otherwise.

Each test of the kernel is a judgement. So is each comparison of what the kernel expects with
what the referee of the emulator has counted. QEMU may say nothing but what is provoked.
BARE_FLAGS go to the kernel, such as toggles=COUNT for longer races, and seed=NUMBER and
steps=COUNT for the random walk, sev-steps=COUNT for random guests, messages=COUNT for random
messages of them.
"""
import dataclasses
import hashlib
import os
import pathlib
import queue
import re
import shlex
import subprocess
import tempfile
import threading
import time
import tomllib

import pytest

import attestation
from host import qemu_paths
from judge import BUILD, slug
from qmp import Qmp

DATA = tomllib.loads((pathlib.Path(__file__).parent / 'bare/configurations.toml').read_text(encoding='utf-8'))
SNP = '/machine/peripheral/snp0'
PSP = '/machine/peripheral/psp0'
# Options of the devices that the kernel has to know
TOLD = re.compile(r'(audit|journal|rmpopt-[a-z-]+|shutdown-rmpopt-en|x86-shutdown|message-count)=[a-z0-9]+')
# Counters of the machine that survive a reset, besides those of the vCPUs
SURVIVE = (
    'violations',
    'violations-rule',
    'violations-write',
    'violations-table',
    'violations-tlb',
    'dma-checked',
    'dma-blocked',
)
# Seconds for QEMU to end
END = 20


@dataclasses.dataclass
class Configuration:
    """As configurations.toml describes it"""

    name: str
    limit: int
    smp: str
    cpu: str = 'EPYC-SNP'
    accel: str = 'tcg,thread=multi'
    iommu: bool = False
    snp: list[str] | None = None
    psp: list[str] | None = None
    flags: list[str] = dataclasses.field(default_factory=list)
    resets: int = 0
    provokes: list[str] = dataclasses.field(default_factory=list)

    def provoked(self):
        """Regular expressions of what QEMU may say"""
        return [regex for name in ('always', *self.provokes) for regex in DATA['provoked'][name]]

    def command_line(self):
        devices = ['edu,dma_mask=0xffffffffffffffff']
        flags = list(self.flags)
        if self.iommu:
            devices.append('amd-iommu,snp=on')
            flags.append('iommu=on')
        if self.psp is not None:
            flags.append('psp=on')
        for device, options in (('amd-snp-host,id=snp0', self.snp), ('amd-psp,id=psp0', self.psp)):
            if options is not None:
                devices.append(','.join([device, *options]))
                flags += [option for option in options if TOLD.fullmatch(option)]
        # Of two flags with the same name the kernel takes the last one.
        flags.append(os.environ.get('BARE_FLAGS', ''))
        line = [*qemu_paths(), '-machine', 'q35', '-cpu', self.cpu, '-accel', self.accel, '-smp', self.smp]
        line += ['-m', '6G', '-display', 'none', '-nodefaults', '-serial', 'stdio']
        for device in devices:
            line += ['-device', device]
        if not self.resets:
            line.append('-no-reboot')
        return line + ['-kernel', f'{BUILD}/bare/bare.elf', '-append', ' '.join(flags)]


class Qemu:
    """QEMU with the bare kernel, from its start to its end."""

    def __init__(self, command):
        self.directory = tempfile.TemporaryDirectory()
        self.path = pathlib.Path(self.directory.name)
        self.lines: queue.Queue[str | None] = queue.Queue()
        self.monitor: Qmp | None = None
        command = [*command, '-qmp', f'unix:{self.path}/qmp,server=on,wait=off']
        command += ['-d', 'guest_errors,unimp', '-D', f'{self.path}/log']
        # QEMU must not outlive a test that was killed.
        with (self.path / 'stderr').open('wb') as stderr:
            self.process = subprocess.Popen(
                ['setpriv', '--pdeathsig', 'KILL', *command],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=stderr,
            )
        assert self.process.stdin and self.process.stdout
        self.input = self.process.stdin
        threading.Thread(target=self._read, args=(self.process.stdout,), daemon=True).start()

    def _read(self, stream):
        for line in stream:
            self.lines.put(line.decode('utf-8', 'replace').rstrip('\r\n'))
        self.lines.put(None)

    def __enter__(self):
        return self

    def __exit__(self, *exception):
        self.kill()
        self.directory.cleanup()

    def kill(self):
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()

    def said(self):
        """What QEMU itself has said, line by line."""
        for name in ('stderr', 'log'):
            path = self.path / name
            if path.exists():
                yield from path.read_text(encoding='utf-8', errors='replace').splitlines()

    def qmp(self, command, **arguments):
        # Not earlier: QEMU listens before it prints the first line.
        if not self.monitor:
            self.monitor = Qmp(f'{self.path}/qmp')
        return self.monitor.command(command, **arguments)

    def get(self, path, name):
        return self.qmp('qom-get', path=path, property=name)

    def memory(self, address, size):
        self.qmp('pmemsave', val=address, size=size, filename=f'{self.path}/memory')
        return (self.path / 'memory').read_bytes()

    def send(self, data):
        self.input.write(data)
        self.input.flush()


class Run:
    """Judges what the kernel says, and what the referee does."""

    def __init__(self, judge, qemu):
        self.judge = judge
        self.qemu = qemu
        self.start = time.monotonic()
        self.owner = attestation.Owner(qemu.path)
        self.seen = 0
        self.plan: int | None = None
        # A test that has failed, until all is read that the kernel says of it
        self.failed = ''
        self.notes: list[str] = []
        # Kind, core or vCPU, name and value
        self.expected: list[tuple] = []
        # What was written to RMPOPT_BASE, as the journal must have it
        self.bases: list[tuple] = []
        # The next comparison is the last of the journal, until a reset.
        self.journal_ends = False
        # The referee's counters at the last reset
        self.before: dict[tuple, int] = {}
        self.handlers = (
            (r'1\.\.(\d+)$', self.planned),
            (r'# (expect|expect-min) (?:vcpu (\d+) )?([a-z-]+) (\d+)$', self.counter),
            (r'# expect core (\d+) regions ([\d,]*)$', self.core_regions),
            (r'# expect core (\d+) base (\d+)$', self.core_base),
            (r'# expect regions ([\d,:]*)$', self.regions),
            (r'# expect journal (\S+) (-?\d+) (-?\d+) (\d+) (\d+)$', self.base),
            (r'# expect psp (.*)$', self.psp),
            (r'# journal off$', self.last_journal),
            (r'# sync ', self.sync),
            (r'# sha384 (\d+) (\d+)$', self.sha384),
            (r'# report (\d+)$', self.report),
            (r'# id-block (\d+)$', self.id_block),
            (r'Bail out!.*', self.bail_out),
        )

    def write(self, line):
        print(line, file=self.judge.out)

    # What the kernel says

    def line(self, line):
        match = re.match(r'(not )?ok (\d+) (?:- )?(.*)', line)
        if match:
            self.fail()
            self.result(match)
            return
        if line.startswith(('# sync ', '# race')):
            self.write(f'# {time.monotonic() - self.start:.1f} s')
        self.write(line)
        if line.startswith('#   '):
            # A test that has failed is followed by the values, others come before.
            if not line.startswith('#   got '):
                self.fail()
            self.notes.append(line[1:].strip())
            return
        self.fail()
        for regex, handler in self.handlers:
            match = re.match(regex, line)
            if match:
                handler(match)
                return
        if line.startswith('# expect'):
            self.judge.judge(f'not understood: {line}', False)

    def fail(self):
        """Judges the test that has failed, if there is one."""
        if self.failed:
            self.judge.judge(self.failed, False, '\n    '.join(self.notes))
            self.failed, self.notes = '', []

    def result(self, match):
        self.seen += 1
        if int(match[2]) != self.seen:
            self.judge.judge(f'test {match[2]} came as number {self.seen}', False)
        if match[1]:
            self.failed = match[3]
        else:
            self.judge.judge(match[3], True)
            self.notes = []

    def planned(self, match):
        self.plan = int(match[1])

    def counter(self, match):
        cpu = None if match[2] is None else int(match[2])
        self.expected.append((match[1], cpu, match[3], int(match[4])))

    def core_regions(self, match):
        self.expected.append(('core', int(match[1]), 'regions', [int(r) for r in match[2].split(',') if r]))

    def core_base(self, match):
        self.expected.append(('core', int(match[1]), 'base', int(match[2])))

    def regions(self, match):
        self.expected.append(('regions', None, None, [r for r in match[1].split(',') if r]))

    def base(self, match):
        self.bases.append((match[1], *map(int, match.groups()[1:])))

    def psp(self, match):
        self.expected.append(('psp', None, None, match[1]))

    def last_journal(self, _match):
        self.journal_ends = True

    def sync(self, _match):
        self.compare()
        self.qemu.send(b'.')

    def sha384(self, match):
        self.qemu.send(hashlib.sha384(self.qemu.memory(*map(int, match.groups()))).digest())

    def report(self, match):
        report = self.qemu.memory(int(match[1]), attestation.REPORT_SIZE)
        self.qemu.send(b'1' if attestation.signed(report, self.qemu.get(PSP, 'vcek')) else b'0')

    def id_block(self, match):
        block = self.qemu.memory(int(match[1]), attestation.ID_BLOCK_SIZE)
        self.qemu.send(b''.join(self.owner.numbers(block)))

    def bail_out(self, match):
        self.judge.judge(match[0], False)

    # What the referee says

    def found(self, cpus, cores, kind, index, name):
        """What the referee has where the kernel expects a value, and the name of that."""
        get = self.qemu.get
        if kind == 'core':
            return cores.get(index, {}).get(name), f'core {index}: {name}'
        if kind == 'regions':
            return [
                ':'.join(str(r[k]) for k in ('address', 'assigned', 'optimized'))
                for r in get(SNP, 'regions')
                if r['assigned'] or r['optimized']
            ], 'regions'
        if kind == 'psp':
            state = get(PSP, 'state')
            return f"{state['legacy']} {state['snp']} {len(get(PSP, 'guests'))}", 'PSP state and guests'
        value = get(SNP, name) if index is None else cpus.get(index, {}).get(name)
        if isinstance(value, int):
            value -= self.before.get((index, name), 0)
        return value, name if index is None else f'vCPU {index}: {name}'

    def compare(self):
        """The expectations since the last time."""
        cpus = {c['index']: c for c in self.qemu.get(SNP, 'vcpus')}
        cores = {c['core']: c for c in self.qemu.get(SNP, 'cores')}
        if not self.expected:
            self.judge.judge('referee: nothing to compare', False)
        for kind, index, name, value in self.expected:
            found, what = self.found(cpus, cores, kind, index, name)
            least = kind == 'expect-min'
            self.judge.judge(
                f'referee: {what} is {"at least " if least else ""}{value}',
                found is not None and (found >= value if least else found == value),
                f'it is {found}',
            )
        self.expected = []
        if self.qemu.get(SNP, 'journal'):
            self.compare_journal()

    def compare_journal(self):
        """All writes to RMPOPT_BASE since the last time, in order."""
        found = [
            tuple(e[k] for k in ('what', 'cpu', 'core', 'address', 'value'))
            for e in self.qemu.get(SNP, 'journal-entries')
            if e['what'].startswith('base')
        ]
        differ = [f'expected {w}, found {g}' for w, g in zip(self.bases, found) if w != g]
        if len(found) != len(self.bases):
            differ.append(f'there are {len(found)}')
        self.judge.judge(
            f'referee: journal: {len(self.bases)} entries of RMPOPT_BASE', not differ, '; '.join(differ[:2])
        )
        self.judge.judge('referee: the journal is complete', not self.qemu.get(SNP, 'journal-lost'))
        self.bases = []
        if self.journal_ends:
            self.qemu.qmp('qom-set', path=SNP, property='journal', value=False)

    def reset(self):
        self.plan, self.seen = None, 0
        for cpu in self.qemu.get(SNP, 'vcpus'):
            for name, value in cpu.items():
                if name not in ('index', 'core', 'rmpopt-failed-at'):
                    self.before[cpu['index'], name] = value
        self.before |= {(None, name): self.qemu.get(SNP, name) for name in SURVIVE}
        if self.journal_ends:
            self.qemu.qmp('qom-set', path=SNP, property='journal', value=True)
            self.journal_ends = False
        self.write('# reset')
        self.qemu.qmp('system_reset')

    # From the start to the end

    def follow(self, end, resets):
        """Reads to the end of the kernel's tests, and then ends QEMU."""
        while self.plan is None:
            line = self.qemu.lines.get(timeout=max(0, end - time.monotonic()))
            if line is None:
                return
            self.line(line)
            if line.startswith('Bail out!'):
                return
            if self.plan is not None and self.plan == self.seen and resets:
                resets -= 1
                self.reset()
        self.qemu.qmp('quit')
        self.qemu.process.wait(END)

    def finish(self, provoked):
        """Judges what only the end shows."""
        self.fail()
        if self.plan is None:
            self.judge.judge('the kernel comes to its end', False)
        elif self.plan != self.seen:
            self.judge.judge(f'the plan says {self.plan} tests', False, f'there were {self.seen}')
        elif self.qemu.process.returncode:
            self.judge.judge('QEMU ends well', False, f'status {self.qemu.process.returncode}')
        # What is provoked would bury the end of the kernel's log.
        said = list(self.qemu.said())
        pathlib.Path(self.judge.out.name).with_suffix('.qemu.txt').write_text(
            '\n'.join(said), encoding='utf-8'
        )
        for line in said:
            if not any(re.search(regex, line) for regex in provoked):
                self.judge.judge('QEMU says only what is provoked', False, line)
        if self.expected or self.bases:
            self.judge.judge('referee: all expectations are compared', False)


def parameters():
    """Each configuration. Where vCPUs run in parallel, no other test may take their cores."""
    for configuration in (Configuration(**data) for data in DATA['configuration']):
        parallel = configuration.smp != '1' and 'thread=multi' in configuration.accel
        yield pytest.param(
            configuration,
            id=slug(configuration.name),
            marks=[pytest.mark.all_cores] if parallel else [],
        )


@pytest.mark.needs('bare')
@pytest.mark.parametrize('configuration', parameters())
def test_bare(judge, configuration):
    judge.logs.append(pathlib.Path(judge.out.name))
    command = configuration.command_line()
    with Qemu(command) as qemu:
        run = Run(judge, qemu)
        run.write(f'# {shlex.join(command)}')
        try:
            run.follow(time.monotonic() + configuration.limit, configuration.resets)
        except queue.Empty:
            judge.judge(f'the tests end within {configuration.limit} s', False)
        except (OSError, subprocess.TimeoutExpired) as error:
            judge.judge('QEMU answers', False, error)
        qemu.kill()
        run.finish(configuration.provoked())
