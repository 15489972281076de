#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-only
"""
guest.py: boots the kernel of the series on the emulated SNP host, and an SNP guest in it:
Debian's QEMU and OVMF, and the same kernel. Shows the guest's console beside the map of what
is optimized, and judges what the guest costs while it lives, and that all is optimized again
after it has powered off. The last line is the sum. The status is 3 if a judgement has failed.

guest.py --shell: the same guest with a shell.

VCPUS=N gives the guest so many vCPUs. HASHES=1 has the firmware check kernel, initrd and
command line by hashes that are measured. ATTEST=1 does that as well, has the guest ask for an
attestation report, and verifies it as the guest's owner would. GUESTS=N has so many guests, one after the other.
KILL=1 kills the VMM while the guest runs.

Started by run, which builds what is needed.
"""
import base64
import contextlib
import os
import re
import secrets
import select
import signal
import socket
import sys
import tempfile
import termios
import threading
import time
import tty
from typing import Any

import attestation
import host
import rmpopt_map
from judge import Judge

VCPUS = os.environ.get('VCPUS') or '1'
ATTEST = bool(os.environ.get('ATTEST'))
HASHES = bool(os.environ.get('HASHES'))
GUESTS = os.environ.get('GUESTS') or '1'
KILL = bool(os.environ.get('KILL'))

# A core for each of three nodes. The first node is the kernel's. The VMM runs on the CPUs of
# one of the others, so that the guest's memory comes from there.
MACHINE: dict[str, Any] = {**host.NODES, 'append': 'loglevel=8', 'initramfs': 'guest'}
# A serial port of the host that is the guest's console. Ports of Linux share no interrupt.
PORT = ('-device', 'isa-serial,chardev=guest,index=2,irq=5')

# Megabytes, and pages of 4 KB
MEMORY = 256
PAGES = MEMORY << 8
GB = rmpopt_map.GB
# Pages that the firmware shares, and pages besides the memory: the firmware's flash, the VMSAs
OTHERS = 2560

# TCG has neither XSAVEC nor XSAVES. OVMF and Linux end a guest whose CPUID has XSAVE, but not
# these. So the guest has no XSAVE, nor what needs it.
CPU = 'EPYC-v4,-xsave,-avx,-avx2,-f16c,-fma,-xsaveopt,-xsavec,-xgetbv1,-xsaves,level=0xb'

# What CPUID has of that CPU: family 17h, model 1, stepping 2
SIGNATURE = 0x800F12

# Firmware, kernel and initrd of the guest, and the authority that takes AMD's place
GUEST = host.BUILD / 'snp-guest' / 'root' / 'guest'
AUTHORITY = host.BUILD / 'attestation'
# Bytes of the data that a report is about
NONCE = 64
POLICY = 0x30000
# Version of the guest, by its owner
SVN = 3
# A status in the response: invalid parameter
INVALID_PARAM = '16'

READY = 'guest-init: ready'
SWIOTLB = r'software IO TLB: mapped .*\((\d+)MB\)'

# Seconds. A guest lives for one minute or two, if the machine does nothing else.
LIFE = 600
# As in demo/run.py, but the clock is real, and others may use the machine.
AGAIN = 30


def guest_command_line(shell):
    return f'console=ttyS0 panic=-1 {"quiet shell=1" if shell else ""}'.strip()


def vmm(shell, more=''):
    """
    The VMM's command line. There is no I/O APIC in the host's KVM. Memory that is allocated
    in advance would be there twice once it is private.
    """
    append = guest_command_line(shell)
    hashes = ',kernel-hashes=on' if HASHES else ''
    return (
        f'/usr/bin/qemu-system-x86_64 -accel kvm -cpu {CPU} '
        '-machine q35,smm=off,kernel-irqchip=split,confidential-guest-support=sev0,memory-backend=ram1 '
        f'-object memory-backend-memfd,id=ram1,size={MEMORY}M,share=on,prealloc=off '
        f'-object sev-snp-guest,id=sev0,cbitpos=51,reduced-phys-bits=1,policy={POLICY:#x}{hashes}{more} '
        f'-m {MEMORY}M -smp {VCPUS} -nodefaults -display none -no-reboot '
        '-chardev serial,id=console,path=/dev/ttyS2 -serial chardev:console '
        f'-bios /guest/OVMF.fd -kernel /guest/bzImage -initrd /guest/initrd.cpio -append "{append}"'
    )


class Console:
    """The guest's console, seen from outside of the host"""

    def __init__(self, path):
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.connect(path)
        self.lines = []

    def follow(self, tell):
        threading.Thread(target=self._read, args=(tell,), daemon=True).start()

    def _read(self, tell):
        with self.sock.makefile('r', encoding='utf-8', errors='replace', newline='\n') as stream:
            for raw in stream:
                # OVMF clears the screen and moves the cursor.
                line = re.sub('\033\\[[0-9;=?]*[A-Za-z]|[\r\n]', '', raw)
                if line.strip():
                    self.lines.append(line)
                    tell(line)

    def found(self, regex, since=0):
        return next(filter(None, (re.search(regex, line) for line in self.lines[since:])), None)

    def send(self, line):
        self.sock.sendall(f'{line}\n'.encode())

    def terminal(self, alive):
        """Has the user talk to the guest, until the guest has ended or the user types Ctrl-a x."""
        with contextlib.ExitStack() as stack:
            ends: list[Any] = [self.sock]
            if sys.stdin.isatty():
                before = termios.tcgetattr(sys.stdin)
                stack.callback(termios.tcsetattr, sys.stdin, termios.TCSADRAIN, before)
                tty.setraw(sys.stdin)
            ends.append(sys.stdin)
            last = b''
            checked = time.monotonic()
            while True:
                for end in select.select(ends, [], [], 1)[0]:
                    if end is self.sock:
                        data = self.sock.recv(4096)
                        if not data:
                            return
                        os.write(sys.stdout.fileno(), data)
                        continue
                    data = os.read(sys.stdin.fileno(), 4096)
                    if b'\1x' in last + data:
                        return
                    last = data[-1:]
                    if data:
                        self.sock.sendall(data)
                    else:
                        ends.remove(sys.stdin)
                if time.monotonic() - checked > 2:
                    checked = time.monotonic()
                    if not alive():
                        return


class Run:
    def __init__(self, machine, judge, console):
        self.host = machine
        self.judge = judge.judge
        self.console = console
        self.colour = sys.stdout.isatty() and 'NO_COLOR' not in os.environ
        self.start = time.monotonic()
        self.window = self.ram = None
        self.authority: attestation.Authority | None = None
        self.owner = attestation.Owner(AUTHORITY)
        # Since the guest was started
        self.samples: list[rmpopt_map.Map] = []
        self.now: rmpopt_map.Map

    # What is seen

    def sample(self, title=''):
        regions, cores = self.host.snp('regions'), self.host.snp('cores')
        self.now = rmpopt_map.Map(regions, cores, self.window, self.ram, title)
        self.samples.append(self.now)
        return self.now

    def show(self, title):
        one = self.sample(f'{time.monotonic() - self.start:.0f} s, {title}')
        print(f'\n{one.text(self.colour)}', flush=True)
        return one

    def tell(self, text):
        """Beside one line: a cell for each region, the first kind of PRIORITY among its cores"""
        one = self.now
        cells = ''
        for region in one.regions:
            kinds = {one.kind(core, region) for core in one.cores}
            cells += rmpopt_map.paint(next(k for k in rmpopt_map.PRIORITY if k in kinds), 1, self.colour)
        seconds = time.monotonic() - self.start
        print(f'{seconds:5.0f} s  {cells}  {self.pages():6}  | {text}'.rstrip(), flush=True)

    def pages(self):
        """As many as there are more than before the guest"""
        return sum(self.now.pages.values()) - sum(self.samples[0].pages.values())

    def terminated(self):
        """What the host's kernel says of guests that have ended themselves"""
        return [line for line in list(self.host.log.console) if 'requested termination' in line]

    def wait(self, enough, what, timeout):
        """
        Samples until that is so, and tells of what changes much. This VMM does not end if the
        guest has terminated itself.
        """
        told = self.now
        deadline = time.monotonic() + timeout
        while not enough():
            if self.terminated():
                raise self.host.error(f'{what}: {self.terminated()[0]}')
            if time.monotonic() > deadline:
                raise self.host.error(f'{what}: not within {timeout} s')
            time.sleep(1)
            self.sample()
            more = sum(self.now.pages.values()) - sum(told.pages.values())
            if abs(more) >= 8192 or self.now.optimized() != told.optimized():
                self.tell('')
                told = self.now

    # The steps

    def boot(self):
        match = self.host.wait_console(host.RMPOPT_ENABLED, 1)
        self.ram = self.host.system_ram()
        self.window = int(match[2], 16), min(int(match[3], 16), max(last for _, last in self.ram))
        print('Waiting for the first pass, 10 seconds after SNP has been initialized ...', flush=True)
        self.sample()
        self.wait_optimized(lambda: not self.now.cells(rmpopt_map.LOST), 'the first pass')
        return self.show('before the guest')

    def wait_optimized(self, enough, what):
        """Cores catch up as soon as they run."""

        def ran():
            self.sample()
            if enough():
                return True
            self.host.run_all_cpus()
            return False

        self.wait(ran, what, AGAIN)

    def why(self, vmm_program):
        """What may tell why a guest is not as it should be"""
        ends = self.terminated() + vmm_program.output()[-3:] + self.console.lines[-3:]
        return f'status {vmm_program.status()}: ' + ' / '.join(ends)

    def life(self, cpus, before):
        """A guest from its start to its end, and what the host's memory is like meanwhile"""
        self.samples = [before]
        position = len(self.console.lines)
        at = len(self.host.journal())
        command = f'taskset -c {cpus} {vmm(False, self.owned() if self.authority else "")}'
        print(f'Starting the guest on the CPUs {cpus}:\n{command}\n')
        print('Time, regions from 0 GB on, pages of the guest | its console', flush=True)
        started = time.monotonic()
        program = self.host.program(command)

        def ended():
            return program.status() is not None

        def peak():
            return max(sum(one.pages.values()) for one in self.samples) - sum(before.pages.values())

        self.wait(lambda: self.pages() or ended(), 'the guest is launched', LIFE)
        self.show('launched')
        self.wait(lambda: peak() >= PAGES - OTHERS or ended(), 'the firmware validates the memory', LIFE)
        self.show('validated')
        self.wait(lambda: self.console.found(SWIOTLB, position) or ended(), 'the kernel has a SWIOTLB', LIFE)
        match = self.console.found(SWIOTLB, position)
        swiotlb = int(match[1]) << 8 if match else 0
        self.wait(lambda: peak() - self.pages() >= swiotlb or ended(), 'the SWIOTLB is shared', LIFE)
        most, left = peak(), self.pages()
        self.show('SWIOTLB shared')
        self.wait(lambda: self.console.found(READY, position) or ended(), 'the guest runs', LIFE)
        if ended():
            raise self.host.error(f'the VMM has ended too early, {self.why(program)}')
        self.judge_guest(position, program)
        if self.authority:
            self.attest(self.authority)
        self.judge(
            f'the firmware has validated the memory: {most} pages are assigned',
            PAGES - OTHERS <= most <= PAGES + OTHERS,
            f'the guest has {PAGES}',
        )
        self.judge(
            f'the guest has shared {most - left} of these pages, the SWIOTLB of {swiotlb} among them',
            0 < swiotlb <= most - left <= swiotlb + OTHERS,
        )
        end, what = self.end_guest(program, position)
        after = self.show(f'the guest is {what}, {end - started:.0f} s after its start')
        after = self.show('powered off')
        self.judge(
            'all pages are returned',
            assigned(after) == assigned(before),
            f'assigned before: {assigned(before)}, after: {assigned(after)}',
        )
        self.judge_regions(before, at)
        self.again(before, at, end)

    def end_guest(self, program, position):
        """Returns when, and how."""
        if KILL:
            what = 'killed'
            status = program.kill('KILL')
            good = status == 128 + signal.SIGKILL
        else:
            what = 'powered off'
            self.console.send('')
            self.wait(lambda: program.status() is not None, 'the guest powers off', LIFE)
            good = program.status() == 0 and self.console.found('Power down', position)
        end = time.monotonic()
        self.judge(f'the guest is {what}', good, self.why(program))
        return end, what

    def judge_guest(self, position, program):
        for text, regex in (
            ('its kernel finds that it is an SNP guest', 'Memory Encryption Features active: .*SEV-SNP'),
            (f'it has reached user space, CPUs: {VCPUS}', f'{READY}, {VCPUS} CPUs'),
        ):
            self.judge(f'the guest runs: {text}', self.console.found(regex, position), self.why(program))

    # What the guest's owner does

    def expected_digest(self, command_line):
        files = [(GUEST / name).read_bytes() for name in ('OVMF.fd', 'bzImage', 'initrd.cpio')]
        hashes = attestation.hash_table(files[1], files[2], command_line)
        return attestation.measurement(files[0], hashes, int(VCPUS), SIGNATURE)

    def owned(self):
        """Options by which the firmware refuses to launch anything but what the owner has signed"""
        block = attestation.id_block(self.expected_digest(guest_command_line(False)), POLICY, SVN)
        text = base64.b64encode(self.owner.authentication(block)).decode()
        self.host.write('/tmp/id-auth', text)
        return (
            f',author-key-enabled=on,id-block={base64.b64encode(block).decode()},id-auth=$(cat /tmp/id-auth)'
        )

    def ask(self, nonce):
        """The report that the guest gets, and what else it says of that"""
        position = len(self.console.lines)
        self.console.send(f'attest {nonce.hex()}')
        self.wait(lambda: self.console.found('attest: end', position), 'the guest has a report', LIFE)
        lines = [
            line.removeprefix('attest: ')
            for line in list(self.console.lines[position:])
            if 'attest: ' in line
        ]
        return bytes.fromhex(''.join(line[5:] for line in lines if line.startswith('data '))), lines

    def attest(self, authority):
        nonce = secrets.token_bytes(NONCE)
        report, lines = self.ask(nonce)
        for text in (
            'report status 0',
            'key status 0, stays',
            'extended report status 0, no certificates',
            f'report of VMPL 4 status {INVALID_PARAM}',
            'end, status 0',
        ):
            self.judge(f'the driver sev-guest: {text}', text in lines, ' / '.join(lines[-6:]))
        if not self.judge('the guest has a report', len(report) == attestation.REPORT_SIZE, lines):
            return
        authority.endorse(bytes.fromhex(self.host.psp('chip-id').replace(' ', '')), report[0x180:0x188])
        digest = self.expected_digest(guest_command_line(False))
        self.judge(
            'the measurement is as computed',
            report[0x90:0xC0] == digest,
            f'{report[0x90:0xC0].hex()}, not {digest.hex()}',
        )
        found = attestation.faults(report, authority, self.owner, nonce, digest)
        text = 'the owner trusts the report: certificates, chip, signature, nonce, measurement, policy, owner'
        self.judge(text, not found, found)
        again, _ = self.ask(secrets.token_bytes(NONCE))
        changed = self.expected_digest(f'{guest_command_line(False)} debug')
        bad = bytearray(report)
        bad[0x90] ^= 1
        for text, wrong, why in (
            ('an old report', (report, again[0x50:0x90], digest), 'nonce'),
            ('a report of another command line', (report, nonce, changed), 'measurement'),
            ('a changed report', (bytes(bad), nonce, bytes(bad[0x90:0xC0])), 'not signed'),
        ):
            found = attestation.faults(wrong[0], authority, self.owner, *wrong[1:])
            refused = len(found) == 1 and why in found[0]
            self.judge(f'{text} is refused: {", ".join(found)}', refused, found)

    def judge_regions(self, before, at):
        """What was optimized while there was a guest"""
        lost = {
            region
            for one in self.samples
            for region, number in one.pages.items()
            if number > before.pages.get(region, 0)
        }
        text = ', '.join(f'{region} GB' for region in sorted(lost))
        others = {cell for cell in before.optimized() if cell[1] not in lost}
        with_pages = [one for one in self.samples if any(one.pages.get(r) for r in lost)]
        wrong = {cell for one in with_pages for cell in one.optimized() if one.pages.get(cell[1])}
        self.judge(
            f'launched: no core has {text} optimized any more, as long as pages are assigned',
            lost and not wrong and {cell[1] for cell in before.optimized()} >= lost,
            f'still optimized: {names(wrong)}',
        )
        missing = {cell for one in self.samples for cell in others - one.optimized()}
        self.judge('all other regions stay optimized', not missing, f'not always: {names(missing)}')
        cleared = {e['address'] // GB for e in self.host.journal()[at:] if e['what'] == 'clear'}
        self.judge(
            'the journal has no other region that lost its bit',
            cleared == lost,
            f'it has {sorted(cleared)}',
        )

    def again(self, before, at, end):
        print('Waiting for the pass that optimizes them again ...', flush=True)
        self.wait_optimized(lambda: self.now.optimized() >= before.optimized(), 'optimized again')
        seconds = time.monotonic() - end
        after = self.show('optimized again')
        self.judge(
            f'optimized again on all cores: {seconds:.0f} s after the guest has ended',
            after.optimized() == before.optimized(),
            f'different: {names(before.optimized() ^ after.optimized())}',
        )
        found = [e for e in self.host.journal()[at:] if e['what'] == 'psp-done' and e['result']]
        self.judge('the firmware has refused no command', not found, found[:3])

    def verdict(self):
        for name, text in (
            ('violations', 'no RMPOPT bit or TLB entry let a write through that it must not'),
            ('audit-now', 'the tables agree with the RMP'),
            ('journal-lost', 'the journal is complete'),
        ):
            number = self.host.snp(name)
            self.judge(text, number == 0, f'{name}: {number}')
        self.judge('the firmware has no guest left', not self.host.psp('guests'))
        found = self.host.complaints()
        if not found and self.host.tainted():
            found = ['it is tainted']
        self.judge('no complaint of the kernel', not found, '\n    '.join(found[:10]))

    def all(self):
        before = self.boot()
        cpus = host.home(before)
        if self.judge('a node is optimized on all cores', cpus, f'{sorted(before.optimized())}'):
            self.console.follow(self.tell)
            for guest in range(int(GUESTS)):
                print(f'\nGuest {guest + 1} of {GUESTS}')
                self.life(cpus, before)
        print(f'\n{rmpopt_map.legend(self.samples, self.colour)}')
        self.verdict()

    def shell(self):
        print("Starting the guest. 'poweroff' ends it, or Ctrl-a x.", flush=True)
        program = self.host.program(vmm(True))
        self.console.terminal(lambda: program.status() is None)
        if program.status():
            self.judge('the guest has powered off', False, self.why(program))


def assigned(one):
    return {region: number for region, number in one.pages.items() if number}


def names(cells):
    return ', '.join(f'{region} GB on core {core}' for core, region in sorted(cells)[:16]) or 'none'


def main():
    shell = sys.argv[1:] == ['--shell']
    if len(sys.argv) != 1 and not shell:
        sys.exit(__doc__.strip())
    if VCPUS not in ('1', '2', '3', '4'):
        sys.exit(f'guest.py: VCPUS={VCPUS}: it is a number from 1 to 4')
    if not re.fullmatch('[1-9][0-9]?', GUESTS):
        sys.exit(f'guest.py: GUESTS={GUESTS}: it is a number from 1 to 99')
    log = (host.LOGS / 'guest.log').relative_to(host.TOP)
    print(f'Booting the kernel on the emulated SNP host (log: {log}) ...', flush=True)
    judge = Judge()
    with tempfile.TemporaryDirectory() as directory:
        path = f'{directory}/guest'
        options = [*MACHINE['options'], '-chardev', f'socket,id=guest,path={path},server=on,wait=off', *PORT]
        settings = {**MACHINE, 'options': options}
        authority = attestation.Authority(AUTHORITY) if ATTEST else None
        if authority:
            key = authority.key('vcek')
            settings['devices'] = [
                f'{d},vcek-key={key}' if d.startswith('amd-psp') else d for d in host.DEVICES
            ]
        try:
            with host.Host('guest', **settings) as machine:
                run = Run(machine, judge, Console(path))
                run.authority = authority
                try:
                    if shell:
                        run.shell()
                    else:
                        run.all()
                    machine.quit()
                except host.HostError as error:
                    judge.judge('the run completes', False, error)
        except host.HostError as error:
            judge.judge('the host boots', False, error)
    if judge.failures:
        print(f'guest: {len(judge.failures)} checks failed, see above; log: {log}')
    if not shell:
        print(judge.total())
    sys.exit(3 if judge.failures else 0)


if __name__ == '__main__':
    main()
