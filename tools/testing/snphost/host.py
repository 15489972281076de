# SPDX-License-Identifier: GPL-2.0-only
"""
An emulated SNP host that a script starts, gives commands, asks and ends:

	with Host('name') as host:
		status, output = host.run('cat /proc/cpuinfo')
		vms = host.program('snp_vm --vms 3')
		vms.wait_line('ready')
		print(host.snp('regions'))
		host.end()

The kernel's console is ttyS0, kept in build/log/NAME.log. ttyS1 belongs to commands.c,
which executes the commands.
"""
import contextlib
import os
import pathlib
import re
import secrets
import shlex
import socket
import subprocess
import sys
import tempfile
import threading
import time

from judge import BUILD, LOGS, TOP
from qmp import Qmp

# Two threads of eight cores, and a PSP with which SNP is set up.
SMP = '16,sockets=1,cores=8,threads=2'
DEVICES = ('amd-snp-host,id=snp0,journal=on', 'amd-iommu,snp=on', 'amd-psp,id=psp0')

# -icount: an instruction takes 2^3 ns. Boots faster than other values.
VIRTUAL_TIME_SHIFT = 3

# What the kernel prints if it has found something wrong with itself. Reports begin a
# line; "Spectre V2 : WARNING:" is none.
COMPLAINT = re.compile(
    r'^(WARNING: |BUG: |Oops|general protection|UBSAN|KASAN|DEBUG_LOCKS_WARN'
    r'|INFO: (task|rcu|trying|possible|lockdep))'
    r'|cut here|Call Trace|detected stall|soft lockup|hard LOCKUP|Kernel panic'
    r'|Leaking PFN|RMPUPDATE failed|RMPOPT faulted'
)
# What the series says when RMPOPT is set up: cores, first and last byte
RMPOPT_ENABLED = re.compile(r'RMPOPT enabled on (\d+) cores for \[0x([0-9a-f]+) - 0x([0-9a-f]+)\]')
# Nanoseconds. RMPOPT of the cores that go first in two passes is at least as far apart, that of
# one is closer.
PASS_GAP = 5_000_000_000
# Regions per tick or IPI: RMPOPT_BATCH
BATCH = 16
# Milliseconds, with CONFIG_HZ_250
TICK = 4
LOAD = 'modprobe ccp && modprobe kvm-amd'
# Taint of an oops, a warning and a soft lockup
TAINT = 1 << 7 | 1 << 9 | 1 << 14

# Seconds. Nothing takes that long, unless the machine is shared with others.
TIMEOUT = 300

# Bytes. The buffer of commands.c has room for more, and so has the tty.
COMMAND_MAX = 30000
# Characters of a file that fit into one command, quoted
PIECE = COMMAND_MAX // 6


class HostError(Exception):
    pass


def qemu_paths() -> list[str]:
    """QEMU and its firmware directories, which lib.sh knows."""
    script = '''. "$1/lib.sh"; . "$1/qemu.sh"
		printf '%s\\n' "$qemu_bin" "${qemu_firmware[@]}"'''
    return subprocess.run(
        ['bash', '-c', script, 'bash', TOP / 'scripts'], check=True, text=True, stdout=subprocess.PIPE
    ).stdout.splitlines()


def kernel_dir(name) -> pathlib.Path:
    """Where one of the kernels of scripts/kernel is built, as lib.sh has it."""
    return BUILD / name if name.startswith('full') else BUILD / name / 'kernel'


def command_line(
    kernel='full',
    *,
    append='',
    options=(),
    devices=DEVICES,
    cpu='EPYC-SNP',
    memory='6G',
    smp=SMP,
    serial=('stdio',),
    initramfs='',
) -> list[str]:
    """
    QEMU's command line. The kernel is one of those of scripts/kernel, its initramfs that of
    host-kernel, or of the script that INITRAMFS names, "clients" or "guest". The clock
    watchdog misjudges emulated CPUs, whose TSCs run as the host lets them. On a busy machine
    the first timer interrupts may come too late for the kernel's check.
    """
    line = [
        *qemu_paths(),
        '-machine',
        'q35',
        '-accel',
        'tcg',
        '-cpu',
        cpu,
        '-m',
        memory,
        '-smp',
        smp,
        '-nodefaults',
        '-display',
        'none',
        '-no-reboot',
    ]
    for device in devices:
        line += ['-device', device]
    for port in serial:
        line += ['-serial', port]
    line += [
        '-kernel',
        f'{kernel_dir(kernel)}/arch/x86/boot/bzImage',
        '-initrd',
        f'{kernel_dir(kernel)}{initramfs and f"-{initramfs}"}.cpio',
        '-append',
        f'console=ttyS0 panic=-1 tsc=reliable lpj=5000000 no_timer_check {append}'.strip(),
    ]
    return line + list(options)


def node_options(*sizes_and_cpus) -> list[str]:
    """
    Nodes of so many GB with these CPUs, as in '0-3', or with none. A node of 0 GB has what
    "ram" of amd-snp-host gives it.
    """
    options = []
    for node, (size, cpus) in enumerate(sizes_and_cpus):
        if size:
            options += ['-object', f'memory-backend-ram,id=m{node},size={size}G']
        options += [
            '-numa',
            f'node,nodeid={node}' + (f',memdev=m{node}' if size else '') + (f',cpus={cpus}' if cpus else ''),
        ]
    return options


def nodes_of(cpus, *sizes) -> list[str]:
    """Nodes of so many GB, all but the first without CPUs."""
    return node_options(*((size, '' if node else f'0-{cpus - 1}') for node, size in enumerate(sizes)))


def nodes(cpus, gigabytes=4) -> list[str]:
    """
    A node for each GB above 4 GB, so that guests can be told apart by the region that
    they are in. The 2 GB below are node 0.
    """
    return nodes_of(cpus, 2, *[1] * gigabytes)


# Three nodes with a core each, of 4, 2 and 2 GB. One of the latter has no page that the
# firmware keeps for long: some are the IOMMU's, from the node where the kernel happened to
# initialize it. The GB with the RMP, which cannot be optimized either, is a node by itself.
NODES = {
    'smp': '6,sockets=3,cores=1,threads=2',
    'memory': '9G',
    'append': 'host.modules=no',
    'options': tuple(node_options((4, '0-1'), (2, '2-3'), (2, '4-5'), (1, ''))),
}
# One of each of these nodes
CPUS = 0, 2, 4
# The CPUs of those besides the first, and their regions
HOMES = {'2-3': (6, 7), '4-5': (8, 9)}


def home(seen) -> str | None:
    """
    The CPUs of a node of NODES in which every region can be lost, as all cores have optimized it.

    seen: the Map of now
    """
    for cpus, regions in HOMES.items():
        if {(core, region) for core in seen.cores for region in regions} <= seen.optimized():
            return cpus
    return None


def can_be_optimized(region) -> bool:
    """Of what the referee tells of a region: it holds nothing that RMPOPT has to respect."""
    return not any(region.get(key) for key in ('assigned', 'fixed', 'rmp'))


def passes_of(journal) -> list[list[dict]]:
    """
    Entries of RMPOPT, a list for each pass. The core that goes first makes a pass. The others
    catch up as soon as they run, be it after the next pass has begun: they execute RMPOPT for
    regions that it has optimized. That they owe no more if one of them goes first itself, as
    then the region has lost a page since, or if the firmware initializes the RMP or SNP ends.
    """
    result: list[list[dict]] = []
    # By core and address: the pass that a core has yet to follow, and whether the region was
    # cleared since
    owed: dict[tuple[int, int], list] = {}
    cores = {e['core'] for e in journal if e['what'] in ('rmpopt', 'base')}
    # The core that went first the last time, and when
    leader, last = -1, -PASS_GAP
    for e in journal:
        if e['what'] in ('clear-all', 'base-off'):
            owed.clear()
        elif e['what'] == 'clear':
            for core in cores:
                if (core, e['address']) in owed:
                    owed[core, e['address']][1] = True
        if e['what'] != 'rmpopt' or e['value']:
            continue
        near = e['at'] <= last + PASS_GAP
        follows, cleared = owed.pop((e['core'], e['address']), (None, False))
        # RMPOPT of a follower fails in a region that was cleared, or it leaves the region out
        # as one for the next pass. So if it succeeds, or is one of many, it goes first.
        if follows is not None and not (cleared and (e['result'] or near and e['core'] == leader)):
            follows.append(e)
            continue
        if not near:
            result.append([])
        result[-1].append(e)
        leader, last = e['core'], e['at']
        if e['result']:
            for core in cores - {e['core']}:
                owed[core, e['address']] = [result[-1], False]
    return result


class Log:
    """What a thread reads from the console and from QEMU, in memory and in a file."""

    def __init__(self, path):
        path.parent.mkdir(parents=True, exist_ok=True)
        self.path = path
        self.file = path.open('w', encoding='utf-8')
        self.start = time.monotonic()
        self.changed = threading.Condition()
        self.lines = []
        self.console = []
        self.panic = False
        self.open = 0
        self.threads = []

    def read(self, stream, prefix=''):
        """Lines of the kernel's have no prefix."""
        thread = threading.Thread(target=self._read, args=(stream, prefix), daemon=True)
        self.open += 1
        self.threads.append(thread)
        thread.start()

    def _read(self, stream, prefix):
        with stream:
            for raw in stream:
                text = raw.decode('utf-8', 'replace').rstrip('\r\n')
                with self.changed:
                    stamp = time.monotonic() - self.start
                    self.lines.append(prefix + text)
                    if not prefix:
                        self.console.append(text)
                        self.panic |= 'Kernel panic' in text
                    self.file.write(f'{stamp:9.3f} {prefix}{text}\n')
                    self.file.flush()
                    self.changed.notify_all()
        with self.changed:
            self.open -= 1
            self.changed.notify_all()

    def close(self):
        for thread in self.threads:
            thread.join()
        self.file.close()

    def tail(self, number=12):
        return ''.join(f'\n    {line}' for line in self.lines[-number:])


class Program:
    """A program in the guest that reads what it is told from a fifo. See Host.program()."""

    def __init__(self, host, command):
        self.host = host
        self.command = command
        self.dir = f'/tmp/program-{secrets.token_hex(4)}'
        self.seen = 0
        # The holder of both ends of the fifo: neither does an open wait, nor does the
        # program read an end of file before it shall.
        host.check(
            f'''mkdir {self.dir} && cd {self.dir} && mkfifo in && : >out
			sleep 2147483647 <>in >/dev/null 2>&1 & echo $! >holder
			(sh -c {shlex.quote(f'echo $$ >pid; exec {command}')} <in >out 2>&1
			echo $? >ended && mv ended status) >/dev/null 2>&1 &
			until [ -s pid ]; do usleep 1000; done'''
        )

    def output(self) -> list[str]:
        return self.host.check(f'cat {self.dir}/out').splitlines()

    def status(self):
        """None as long as it runs."""
        text = self.host.check(f'[ ! -f {self.dir}/status ] || cat {self.dir}/status')
        return int(text) if text else None

    def _await(self, size, what, deadline):
        """
        Waits until the output has more than so many bytes, or the program has ended. Returns its
        status or None, the number of bytes, and the output. After a timeout no other command can
        be run.
        """
        left = deadline - time.monotonic()
        if left <= 0:
            raise self.host.error(f'{self.command}: {what}: not in time')
        try:
            head, output = self.host.check(f'await {self.dir} {size}', left).split('\n', 1)
        except HostError as error:
            raise HostError(f'{self.command}: {what}: {error}') from None
        status, size = head.split()
        return None if status == '-' else int(status), int(size), output

    def wait_line(self, regex, timeout=TIMEOUT):
        """The match in the next line that has one. A program that ends before is an error."""
        deadline = time.monotonic() + timeout
        status, size = None, -1
        while status is None:
            status, size, output = self._await(size, f'"{regex}"', deadline)
            lines = output.splitlines()
            for index in range(self.seen, len(lines)):
                match = re.search(regex, lines[index])
                if match:
                    self.seen = index + 1
                    return match
        raise self.host.error(f'{self.command}: ended without "{regex}": ' + ' / '.join(lines[-5:]))

    def send(self, line):
        self.host.check(
            f'''[ ! -f {self.dir}/status ] &&
			printf '%s\\n' {shlex.quote(line)} >{self.dir}/in'''
        )

    def ask(self, line):
        """What snp_vm answers: "ok", or "error: " and why."""
        self.send(line)
        return self.wait_line('^(ok|error.*)$')[1]

    def _end(self, command, timeout):
        self.host.run(command)
        status, *_ = self._await(sys.maxsize, 'end', time.monotonic() + timeout)
        self.host.run(f'kill "$(cat {self.dir}/holder)"')
        return status

    def close(self, timeout=TIMEOUT):
        """Lets it read an end of file, and returns its status."""
        return self._end(f'kill "$(cat {self.dir}/holder)"', timeout)

    def kill(self, sig='TERM', timeout=TIMEOUT):
        return self._end(f'kill -{sig} "$(cat {self.dir}/pid)"', timeout)


class Host:
    """
    The machine, from the start of QEMU to its end. Other arguments are those of
    command_line(). With virtual_time, True or a shift of -icount, the guest's clock
    jumps to the next timer whenever all vCPUs are idle, so that a guest that waits for
    ten seconds has waited at once. Its vCPUs then take turns, and its clock runs ahead
    while the script thinks; qmp('stop') and qmp('cont') prevent that.
    """

    def __init__(self, name, *, virtual_time=False, options=(), boot_timeout=TIMEOUT, **arguments):
        self.name = name
        self.arguments = arguments
        self.options = list(options)
        self.boot_timeout = boot_timeout
        self.virtual_time = virtual_time
        if virtual_time:
            shift = VIRTUAL_TIME_SHIFT if virtual_time is True else virtual_time
            self.options += ['-icount', f'shift={shift},sleep=off']
        # Whether to go on after a panic, for another kernel
        self.panics = False
        self.entries: list[dict] = []
        self.process: subprocess.Popen | None = None
        self.control: socket.socket | None = None
        self.monitor: Qmp | None = None
        self.log: Log

    def __enter__(self):
        self.log = Log(LOGS / f'{self.name}.log')
        try:
            self._start()
            self.wait_console('^host-init: ready$', self.boot_timeout)
        except BaseException:
            self.kill()
            raise
        return self

    def __exit__(self, *exception):
        self.kill()

    def _start(self):
        with tempfile.TemporaryDirectory() as directory:
            with contextlib.ExitStack() as listeners:
                self._start_qemu(directory, listeners)
            # The sockets listen already, so that nobody has to wait for QEMU. They
            # are QEMU's alone now: if it has ended, this fails.
            try:
                self.control = socket.socket(socket.AF_UNIX)
                self.control.connect(f'{directory}/control')
                self.monitor = Qmp(f'{directory}/qmp')
            except (OSError, ValueError) as error:
                raise self.disconnected(f'QEMU does not start ({error})') from None

    def _start_qemu(self, directory, listeners):
        options = list(self.options)
        fds = []
        for name in ('qmp', 'control'):
            listener = listeners.enter_context(socket.socket(socket.AF_UNIX))
            listener.bind(f'{directory}/{name}')
            listener.listen()
            fds.append(listener.fileno())
            options += ['-chardev', f'socket,id={name},fd={fds[-1]},server=on,wait=off']
        options += ['-mon', 'chardev=qmp,mode=control']
        # pylint: disable-next=missing-kwoa  # It is in the dictionary.
        line = command_line(options=options, serial=('stdio', 'chardev:control'), **self.arguments)
        # QEMU must not outlive a script that was killed.
        self.process = subprocess.Popen(
            ['setpriv', '--pdeathsig', 'KILL', *line],
            pass_fds=fds,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        self.log.read(self.process.stdout)
        self.log.read(self.process.stderr, 'qemu: ')

    def kill(self):
        """Ends QEMU in whatever state it is."""
        if self.process:
            self.process.kill()
            self.process.wait()
            self.process = None
        for end in (self.control, self.monitor and self.monitor.file, self.monitor and self.monitor.sock):
            if end:
                end.close()
        self.control = self.monitor = None
        self.log.close()

    # Errors

    def error(self, what) -> HostError:
        """What to raise, with the log and the end of it."""
        path = os.path.relpath(str(self.log.path), TOP)
        if self.process and self.process.poll() is not None:
            # All that it has said is to be in the log.
            for thread in self.log.threads:
                thread.join()
            what += f'; QEMU has ended with status {self.process.returncode}'
        elif self.log.panic:
            what += '; the kernel has died'
        return HostError(f'{self.name}: {what}. Log: {path}, its end:{self.log.tail()}')

    def disconnected(self, what) -> HostError:
        """The same, after QEMU has closed a socket, which it does while it ends."""
        if self.process:
            with contextlib.suppress(subprocess.TimeoutExpired):
                self.process.wait(2)
        return self.error(what)

    def alive(self) -> bool:
        return (
            self.process is not None and self.process.poll() is None and (self.panics or not self.log.panic)
        )

    def numbered_complaints(self) -> list[tuple[int, str]]:
        """Lines of the console in which the kernel reports a mistake, with their positions."""
        # What printk may put before it: time and caller
        lines = [re.sub(r'^(\[[^]]*\] *)*', '', line) for line in list(self.log.console)]
        return [(index, line) for index, line in enumerate(lines) if COMPLAINT.search(line)]

    def complaints(self) -> list[str]:
        return [line for _, line in self.numbered_complaints()]

    def tainted(self) -> bool:
        """As complaints() from the kernel itself, in case that the console missed it."""
        return bool(int(self.check('cat /proc/sys/kernel/tainted')) & TAINT)

    def end(self):
        """Ends the machine, and raises HostError if the kernel has complained."""
        found = self.complaints() or (['it is tainted'] if self.tainted() else [])
        self.quit()
        if found:
            raise self.error('the kernel complained: ' + ' / '.join(found[:5]))

    def quit(self):
        self.qmp('quit')
        if self.process:
            self.process.wait()
        self.kill()

    # Waiting

    def wait(self, predicate, what, timeout=TIMEOUT):
        """
        Polls what no event tells of. The predicate should be cheap; the first of its
        results that is true is returned.
        """
        deadline = time.monotonic() + timeout
        while True:
            if not self.alive():
                raise self.error(f'waited for {what}')
            result = predicate()
            if result:
                return result
            if time.monotonic() > deadline:
                raise self.error(f'{what}: not within {timeout} s')
            time.sleep(0.02)

    def console_position(self) -> int:
        return len(self.log.console)

    def wait_console(self, regex, timeout=TIMEOUT, since=0):
        """The match in the first line of the console that has one, from a position on."""
        deadline = time.monotonic() + timeout
        pattern = re.compile(regex)
        index = since
        with self.log.changed:
            while True:
                for index in range(index, len(self.log.console)):
                    match = pattern.search(self.log.console[index])
                    if match:
                        return match
                index = max(since, len(self.log.console))
                left = deadline - time.monotonic()
                if not self.log.open or not self.alive() or left <= 0:
                    break
                self.log.changed.wait(left)
        if left > 0:
            raise self.error(f'waited for "{pattern.pattern}" on the console')
        raise self.error(f'no "{pattern.pattern}" on the console within {timeout} s')

    # The guest

    def run(self, command, timeout=TIMEOUT) -> tuple[int, str]:
        """
        Status and output, stderr included, of a command in a shell of its own. After a
        timeout no other command can be run.
        """
        token = secrets.token_hex(8)
        request = command.encode()
        if len(request) > COMMAND_MAX:
            raise HostError(f'{self.name}: too long a command: {command[:60]}...')
        control = self.control
        if not control:
            raise HostError(f'{self.name}: no machine to run {command[:60]}')
        deadline = time.monotonic() + timeout
        data = bytearray()

        def receive(control, enough):
            while not enough():
                # In pieces, to notice a kernel that has died.
                control.settimeout(min(1, max(0.001, deadline - time.monotonic())))
                try:
                    piece = control.recv(65536)
                except TimeoutError:
                    if self.alive() and time.monotonic() < deadline:
                        continue
                    raise
                if not piece:
                    raise ConnectionError
                data.extend(piece)

        try:
            control.sendall(f'{token} {len(request)}\n'.encode() + request)
            receive(control, lambda: b'\n' in data)
            head, _, rest = bytes(data).partition(b'\n')
            match = re.fullmatch(rf'{token} (\d+) (\d+)', head.decode('ascii', 'replace'))
            if not match:
                raise ConnectionError(f'unexpected answer {head[:80]!r}')
            status, size = int(match[1]), int(match[2])
            data = bytearray(rest)
            receive(control, lambda: len(data) >= size)
        except OSError as error:
            control.close()
            self.control = None
            if isinstance(error, TimeoutError) and self.alive():
                raise self.error(f'{command[:200]}: not within {timeout:.0f} s') from None
            raise self.disconnected(f'{command[:200]}: no answer: {error}') from None
        return status, data.decode('utf-8', 'replace')

    def check(self, command, timeout=TIMEOUT) -> str:
        """The output of a command that must succeed."""
        status, output = self.run(command, timeout)
        if status:
            raise self.error(f'{command[:200]}: status {status}, {output[-500:].strip()}')
        return output

    def write(self, path, text):
        """Makes a file of any length with that text."""
        self.check(f': >{path}')
        for at in range(0, len(text), PIECE):
            self.check(f'printf %s {shlex.quote(text[at : at + PIECE])} >>{path}')

    def system_ram(self) -> list[tuple[int, int]]:
        """RAM as the firmware has told the kernel, first and last bytes."""
        found = re.findall(r'^([0-9a-f]+)-([0-9a-f]+) : System RAM$', self.check('cat /proc/iomem'), re.M)
        if not found:
            raise self.error('/proc/iomem: no System RAM')
        return [(int(start, 16), int(end, 16)) for start, end in found]

    @staticmethod
    def catch_up_ms(regions) -> int:
        """For how long a core may have to run to catch up: two ticks, and one for each further batch"""
        return (1 + max(1, -(-regions // BATCH))) * TICK

    def run_all_cpus(self, regions=BATCH):
        """
        Has each online CPU run for as long as its core may take to catch up with so many regions.
        Without virtual time the host may stop a vCPU meanwhile, so that takes longer.
        """
        ms = self.catch_up_ms(regions) * (1 if self.virtual_time else 10)
        self.check(f'spin $(cat /sys/devices/system/cpu/online) {ms}')

    def program(self, command) -> Program:
        """Starts one program with arguments; it may use no other syntax of the shell."""
        return Program(self, command)

    # The machine

    def qmp(self, command, **arguments):
        if not self.monitor:
            raise HostError(f'{self.name}: no machine for {command}')
        try:
            return self.monitor.command(command, **arguments)
        except (ConnectionError, TimeoutError, ValueError) as error:
            raise self.disconnected(f'{command}: {error}') from None
        except OSError as error:
            raise self.error(str(error)) from None

    @staticmethod
    def _path(device):
        return device if device.startswith('/') else f'/machine/peripheral/{device}'

    def qom(self, device, name):
        """A property of a device, or of what has that path."""
        return self.qmp('qom-get', path=self._path(device), property=name)

    def qom_set(self, device, name, value):
        self.qmp('qom-set', path=self._path(device), property=name, value=value)

    def snp(self, name):
        return self.qom('snp0', name)

    def psp(self, name):
        return self.qom('psp0', name)

    def journal(self) -> list[dict]:
        """All that snp0 has noted since the start. Reading takes it from there."""
        self.entries += self.snp('journal-entries')
        return self.entries

    def passes(self, since=0) -> list[list[dict]]:
        """Those that began at SINCE or later: what RMPOPT was executed for, one after the other."""
        return [entries for entries in passes_of(self.journal()) if entries[0]['at'] >= since]
