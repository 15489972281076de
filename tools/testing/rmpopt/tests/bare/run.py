#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-only
"""
run.py LIMIT LOG [--reset 1] [--provoked REGEX]... -- QEMU ARGUMENT...

Runs QEMU with the test kernel for at most LIMIT seconds. Where the kernel says
"# sync", compares its "# expect" lines with the referee of the emulator, through
QMP. All goes to LOG. Prints what failed and, last, "PASSED FAILED". What QEMU
itself says is a failure, unless a REGEX knows it. With --reset the machine is reset
at the end, and all is done once more.
"""
import os
import queue
import re
import subprocess
import sys
import tempfile
import threading
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), '../../../snphost'))
from qmp import Qmp

SNP = '/machine/peripheral/snp0'
PSP = '/machine/peripheral/psp0'


class Run:
    def __init__(self, log, provoked):
        self.log = open(log, 'w', encoding='utf-8')
        self.provoked = [re.compile(p) for p in provoked]
        self.passed = 0
        self.failed = 0
        self.seen = 0
        self.plan = None
        self.expected = []
        # What was written to RMPOPT_BASE, as the journal must have it.
        self.bases = []
        # The next comparison is the last of the journal, until a reset.
        self.journal_ends = False
        self.start = time.monotonic()
        # The referee's counters at the last reset, which they survive.
        self.before = {}

    def write(self, line):
        self.log.write(line + '\n')

    def judge(self, good, text):
        if good:
            self.passed += 1
            self.write(f'ok - {text}')
        else:
            self.failed += 1
            self.write(f'not ok - {text}')
            print(f'not ok - {text}')

    def from_qemu(self, name, text):
        for line in text.splitlines():
            if not any(p.search(line) for p in self.provoked):
                self.judge(False, f'{name}: {line}')
            else:
                self.write(f'# {name}: {line}')

    def compare(self, qmp):
        """The expectations since the last time."""
        cpus = {c['index']: c for c in qmp.command('qom-get', path=SNP, property='vcpus')}
        cores = {c['core']: c for c in qmp.command('qom-get', path=SNP, property='cores')}
        for kind, cpu, name, value in self.expected:
            if kind == 'core':
                got = cores.get(cpu, {}).get(name)
                text = f'referee: core {cpu}: {name}'
            elif kind == 'regions':
                got = [
                    ':'.join(str(r[k]) for k in ('address', 'assigned', 'optimized'))
                    for r in qmp.command('qom-get', path=SNP, property='regions')
                    if r['assigned'] or r['optimized']
                ]
                text = 'referee: regions'
            elif kind == 'psp':
                state = qmp.command('qom-get', path=PSP, property='state')
                guests = qmp.command('qom-get', path=PSP, property='guests')
                got = f"{state['legacy']} {state['snp']} {len(guests)}"
                text = 'referee: PSP state and guests'
            elif cpu is None:
                got = qmp.command('qom-get', path=SNP, property=name)
                text = f'referee: {name}'
            else:
                got = cpus.get(cpu, {}).get(name)
                text = f'referee: vCPU {cpu}: {name}'
            if isinstance(got, int):
                got -= self.before.get((cpu, name), 0) if kind != 'core' else 0
            if got is None:
                good = False
            elif kind == 'expect-min':
                good = got >= value
                text += f' at least {value}'
            else:
                good = got == value
                text += f' is {value}'
            self.judge(good, text if good else f'{text}, not {got}')
        if not self.expected:
            self.judge(False, 'referee: nothing to compare')
        self.expected = []
        if qmp.command('qom-get', path=SNP, property='journal'):
            self.compare_journal(qmp)

    def compare_journal(self, qmp):
        """All writes to RMPOPT_BASE since the last time, in order."""
        got = [
            tuple(e[k] for k in ('what', 'cpu', 'core', 'address', 'value'))
            for e in qmp.command('qom-get', path=SNP, property='journal-entries')
            if e['what'].startswith('base')
        ]
        text = f'referee: journal: {len(self.bases)} entries of RMPOPT_BASE'
        differ = [f'{w} expected, got {g}' for w, g in zip(self.bases, got) if w != g]
        if len(got) != len(self.bases):
            differ.append(f'number of entries {len(got)}')
        self.judge(not differ, '; '.join([text] + differ[:1]))
        self.judge(
            not qmp.command('qom-get', path=SNP, property='journal-lost'), 'referee: the journal is complete'
        )
        self.bases = []
        if self.journal_ends:
            qmp.command('qom-set', path=SNP, property='journal', value=False)

    def reset(self, qmp):
        self.plan = None
        self.seen = 0
        for cpu in qmp.command('qom-get', path=SNP, property='vcpus'):
            for name, value in cpu.items():
                if name not in ('index', 'core', 'rmpopt-failed-at'):
                    self.before[cpu['index'], name] = value
        for name in (
            'violations',
            'violations-rule',
            'violations-write',
            'violations-table',
            'violations-tlb',
            'dma-checked',
            'dma-blocked',
        ):
            self.before[None, name] = qmp.command('qom-get', path=SNP, property=name)
        if self.journal_ends:
            qmp.command('qom-set', path=SNP, property='journal', value=True)
            self.journal_ends = False
        self.write('# reset')
        qmp.command('system_reset')

    def line(self, line, qmp, guest):
        self.write(line)
        match = re.match(r'(not )?ok (\d+) ', line)
        if match:
            self.seen += 1
            if int(match[2]) != self.seen:
                self.judge(False, f'test {match[2]} came as number {self.seen}')
            if match[1]:
                self.failed += 1
                print(line)
            else:
                self.passed += 1
            return
        match = re.match(r'# (expect|expect-min) (?:vcpu (\d+) )?([a-z-]+) (\d+)$', line)
        if match:
            cpu = None if match[2] is None else int(match[2])
            self.expected.append((match[1], cpu, match[3], int(match[4])))
            return
        match = re.match(r'# expect core (\d+) regions ([\d,]*)$', line)
        if match:
            regions = [int(r) for r in match[2].split(',') if r]
            self.expected.append(('core', int(match[1]), 'regions', regions))
            return
        match = re.match(r'# expect core (\d+) base (\d+)$', line)
        if match:
            self.expected.append(('core', int(match[1]), 'base', int(match[2])))
            return
        match = re.match(r'# expect regions ([\d,:]*)$', line)
        if match:
            listed = [r for r in match[1].split(',') if r]
            self.expected.append(('regions', None, None, listed))
            return
        match = re.match(r'# expect journal (\S+) (-?\d+) (-?\d+) (\d+) (\d+)$', line)
        if match:
            self.bases.append((match[1], *map(int, match.groups()[1:])))
            return
        if line == '# journal off':
            self.journal_ends = True
            return
        match = re.match(r'# expect psp (.*)$', line)
        if match:
            self.expected.append(('psp', None, None, match[1]))
            return
        if line.startswith('# expect'):
            self.judge(False, f'not understood: {line}')
            return
        if line.startswith('# sync ') or line.startswith('# race'):
            self.write(f'# {time.monotonic() - self.start:.1f} s')
        if line.startswith('# sync '):
            self.compare(qmp())
            guest.write(b'.')
            guest.flush()
            return
        if line.startswith('Bail out!'):
            self.judge(False, line)
        elif line.startswith('#   '):
            print(line)
        match = re.match(r'1\.\.(\d+)$', line)
        if match:
            self.plan = int(match[1])


def reader(stream, lines):
    for line in stream:
        lines.put(line.decode('utf-8', 'replace').rstrip('\r\n'))
    lines.put(None)


def main():
    limit, log = float(sys.argv[1]), sys.argv[2]
    split = sys.argv.index('--')
    options = list(zip(sys.argv[3:split:2], sys.argv[4:split:2]))
    run = Run(log, [v for k, v in options if k == '--provoked'])
    resets = sum(int(v) for k, v in options if k == '--reset')
    end = time.monotonic() + limit
    connection: list[Qmp] = []

    with tempfile.TemporaryDirectory() as tmp:
        path = os.path.join(tmp, 'qmp')
        noise = os.path.join(tmp, 'log')

        def qmp():
            if not connection:
                connection.append(Qmp(path))
            return connection[0]

        command = sys.argv[split + 1 :] + [
            '-qmp',
            f'unix:{path},server=on,wait=off',
            '-serial',
            'stdio',
            '-d',
            'guest_errors,unimp',
            '-D',
            noise,
        ]
        run.write('# ' + ' '.join(command))
        with open(os.path.join(tmp, 'stderr'), 'w+', encoding='utf-8') as stderr:
            with subprocess.Popen(
                command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=stderr
            ) as qemu:
                lines: queue.Queue[str | None] = queue.Queue()
                threading.Thread(target=reader, args=(qemu.stdout, lines), daemon=True).start()
                try:
                    while run.plan is None:
                        line = lines.get(timeout=max(0, end - time.monotonic()))
                        if line is None:
                            break
                        run.line(line, qmp, qemu.stdin)
                        if line.startswith('Bail out!'):
                            break
                        if run.plan is not None and run.plan == run.seen and resets:
                            resets -= 1
                            run.reset(qmp())
                    if run.plan is not None:
                        qmp().command('quit')
                        qemu.wait(20)
                except queue.Empty:
                    run.judge(False, f'no end after {limit:.0f} s')
                except (OSError, subprocess.TimeoutExpired) as error:
                    run.judge(False, f'QMP: {error}')
                if qemu.poll() is None:
                    qemu.kill()
                qemu.wait()
            if run.plan is None:
                run.judge(False, 'the kernel did not come to its end')
            elif run.plan != run.seen:
                run.judge(False, f'{run.seen} tests, the plan says {run.plan}')
            elif qemu.returncode:
                run.judge(False, f'QEMU ended with {qemu.returncode}')
            stderr.seek(0)
            run.from_qemu('QEMU', stderr.read())
        if os.path.exists(noise):
            with open(noise, encoding='utf-8', errors='replace') as f:
                run.from_qemu('QEMU log', f.read())
    if run.expected or run.bases:
        run.judge(False, 'referee: expectations without a comparison')
    print(run.passed, run.failed)


main()
