# SPDX-License-Identifier: GPL-2.0-only
"""
Scenarios of what ccp does with buffers that the firmware writes to, after SNP has been
initialized: each page of them becomes the firmware's for a legacy command, and returns.
Data have to arrive to the last byte, and pages to come back.
"""
import contextlib
import re

from snp_host import GB, PSP, RELOAD, SnpHost, scenario

# Commands of sev_ioctl, and their outputs in the order of amd-snp-host.rst
OUTPUTS = {'pek_csr': ('pek-csr',), 'pdh_cert_export': ('pdh-cert', 'cert-chain'), 'get_id2': ('id',)}
NUMBERS = {name: number for number, name in enumerate(('pek-csr', 'pdh-cert', 'cert-chain', 'id'), 1)}

ROUNDS = 1000
# More pages than what else goes on takes, and fewer than what many rounds lose if each
# loses its buffer
NOISE = 200
LEAKING = re.compile(r'Leaking PFN range 0x([0-9a-f]+)-0x([0-9a-f]+)')
LOST = 'Leaking PFN'
FIRMWARE_PAGE = 'SNP_PAGE_RECLAIM:0x1a'
POISON = 'page_poison=1'
LAUNCH_START, SEND_UPDATE_DATA = 0x30, 0x41
# As long as a buffer of a command may be: SEV_FW_BLOB_MAX_SIZE
BLOB_MAX = 16384


def pattern(number, size):
    """As amd-snp-host.rst describes it."""
    words = []
    for offset in range(0, size, 8):
        word = (number << 32 | offset) * 0x9E3779B97F4A7C15 % 2**64
        words.append((word ^ word >> 32).to_bytes(8, 'little'))
    return b''.join(words)[:size]


def fnv(content):
    value = 0xCBF29CE484222325
    for byte in content:
        value = (value ^ byte) * 0x100000001B3 % 2**64
    return value


class Buffers(SnpHost):
    def set_sizes(self, command, sizes):
        for output, size in zip(OUTPUTS[command], sizes):
            self.qom_set('psp0', f'{output}-pattern', size)

    @staticmethod
    def answer(command, sizes):
        """What sev_ioctl prints if each byte is right."""
        return [
            f'{size} {fnv(pattern(NUMBERS[output], size)):016x}'
            for output, size in zip(OUTPUTS[command], sizes)
        ]

    def lengths(self, command, sizes, repeat, lengths):
        """The command with buffers of each length, if the firmware writes that much."""
        self.set_sizes(command, sizes)
        status, output = self.run(f'sev_ioctl lengths {command} {repeat} {" ".join(map(str, lengths))}')
        return self.judge(
            f'{command}: {repeat} times {sizes} bytes into buffers of {lengths}',
            status == 0 and output.splitlines() == self.answer(command, sizes),
            f'status {status}: {output[-500:]}',
        )

    def well(self, text):
        """A command with two buffers of several pages, after another one has failed"""
        self.set_sizes('pdh_cert_export', (8193, 12288))
        status, output = self.run('sev_ioctl lengths pdh_cert_export 1 16384')
        return self.judge(
            f'{text}: the next command is well',
            status == 0 and output.splitlines() == self.answer('pdh_cert_export', (8193, 12288)),
            f'status {status}: {output[-500:]}',
        )

    def pages(self):
        """
        Pages that somebody has: allocated since boot, and not freed. Those of CPUs' lists are
        free. KASAN keeps what was freed, until its cache is shrunk.
        """
        return int(
            self.check(
                '''echo 3 >/proc/sys/vm/drop_caches
			for cache in /sys/kernel/slab/*; do echo 1 >$cache/shrink; done
			awk '/^pgalloc_/ { n += $2 } /^pgfree / { n -= $2 } END { print n }' /proc/vmstat'''
            )
        )

    @contextlib.contextmanager
    def returned(self, text, most=NOISE):
        """All pages that are taken inside. A process costs the debug kernel a page or two."""
        before = self.pages()
        yield
        after = self.pages()
        self.judge(f'{text}: all pages are returned', after - before < most, f'{after - before} more')

    def assigned(self):
        return sum(self.assigned_pages().values())

    def lost(self, since):
        """Pages that the kernel has said to be leaked, by region. What it says is taken for excused."""
        self.mark()
        found: dict[int, int] = {}
        for line in self.log.console[since:]:
            for first, last in LEAKING.findall(line):
                for pfn in range(int(first, 16), int(last, 16)):
                    found[(pfn << 12) & -GB] = found.get((pfn << 12) & -GB, 0) + 1
        return found

    def fails_once(self, text, command, error, leaked=0):
        """The command fails with that, and so many pages are lost with a message."""
        before, since = self.assigned(), self.console_position()
        with self.expect(LOST if leaked else 'nothing'):
            status, output = self.run(command)
        self.judge(
            f'{text}: the command fails', status == 1 and error in output, f'status {status}: {output[-500:]}'
        )
        found = self.lost(since)
        self.equal(f'{text}: pages are lost', leaked, sum(found.values()))
        self.equal(f'{text}: as many stay assigned', leaked, self.assigned() - before)
        for region, number in found.items():
            self.leaked[region] = self.leaked.get(region, 0) + number
        self.equal(f'{text}: has happened', '', self.psp('fail'))
        self.well(text)


def begin(m):
    m.set_up()
    m.wait_pass(0)
    m.all_optimized('all is optimized at first')


def end(m):
    m.wait_pass(m.last('psp', value=PSP['SNP_PAGE_RECLAIM']))
    m.all_optimized('all is optimized at the end')


def compare(m):
    """Needs no RMPOPT, so that other kernels can be tried by hand."""
    m.said('SNP is enabled', r'kvm_amd: SEV-SNP enabled')
    sizes = (2084, 8193, 12288, 16384)
    with m.returned(f'{ROUNDS} rounds'):
        for index, size in enumerate(sizes):
            other = sizes[index - 1]
            m.lengths('pek_csr', (size,), ROUNDS // len(sizes), (size, 16384))
            m.lengths('get_id2', (size,), ROUNDS // len(sizes), (size, 16384))
            # Each pair of lengths: the shorter one is not enough for one of them.
            m.lengths('pdh_cert_export', (size, other), ROUNDS // len(sizes) // 2, (min(size, other), 16384))
    # The kernel has no limit of its own for this one.
    m.lengths('get_id2', (1 << 20,), 2, (1 << 20, (1 << 20) + 4096, 4 << 20))


@scenario('data', kind=Buffers, append=POISON)
def test_data(m):
    begin(m)
    compare(m)
    end(m)


@scenario('lengths', kind=Buffers, append=POISON)
def test_odd_lengths(m):
    """Most are too short, and then the needed one has to come back. Two at a time."""
    begin(m)
    sizes = {'pek_csr': (2084,), 'get_id2': (64,), 'pdh_cert_export': (2084, 6252)}
    for command in OUTPUTS:
        m.set_sizes(command, sizes[command])
    lengths = '0 1 7 8 63 2083 2084 16384'
    with m.returned('odd lengths'):
        for first, second in (('pek_csr', 'pdh_cert_export'), ('get_id2', 'pek_csr'), ('get_id2', 'get_id2')):
            output = m.check(
                f'''sev_ioctl lengths {first} 200 {lengths} >/tmp/first &
				sev_ioctl lengths {second} {25 if second == 'pdh_cert_export' else 200} {lengths} >/tmp/second
				wait; cat /tmp/first /tmp/second'''
            )
            m.equal(
                f'{first} and {second} with lengths of {lengths}',
                m.answer(first, sizes[first]) + m.answer(second, sizes[second]),
                output.splitlines(),
            )
    end(m)


@scenario('length of a header', kind=Buffers, kernel='full')
def test_header_length(m):
    """KVM_SEV_SEND_UPDATE_DATA of an SEV guest. The page allocator warns if it is asked for too much."""
    begin(m)
    for length, reaches in (BLOB_MAX, 1), (BLOB_MAX + 1, 0), (0xFFFFFFFF, 0):
        since = m.now()
        program = f'0 create_vm,0,2 sev_init,0,22 sev_start,0,0 sev_transport,0,9,{length},4096'
        m.check(f"echo '{program}' >/tmp/program && fuzz replay 1 /tmp/program")
        m.equal(
            f'{length} bytes: a guest was launched', 1, len(m.events('psp', since=since, value=LAUNCH_START))
        )
        m.equal(
            f'{length} bytes: the firmware is asked',
            reaches,
            len(m.events('psp', since=since, value=SEND_UPDATE_DATA)),
        )


@scenario('failures', kind=Buffers, kernel='full-debug', append=POISON)
def test_failures(m):
    """Each step of a command fails: what came before is undone, and the next command is well."""
    begin(m)
    m.check('modprobe rmp_fail')
    m.set_sizes('pek_csr', (2084,))
    m.runs('what the firmware does not write stays as it was', 'modprobe sev_rest')

    # sev_ioctl asks for the length first. That takes one page, of the command, so the
    # buffers' come second to fourth, and fifth to seventh if there are two.
    csr, pdh = 'sev_ioctl lengths pek_csr 1 12288', 'sev_ioctl lengths pdh_cert_export 1 12288'
    m.set_sizes('pek_csr', (12288,))
    m.set_sizes('pdh_cert_export', (8193, 12288))
    for command, what, last in ((csr, 'pek_csr', 5), (pdh, 'pdh_cert_export', 8)):
        for nth in range(1, last + 1):
            before = m.assigned()
            with m.returned(f'{what}, page {nth} does not become the firmware\'s'):
                m.runs(
                    f'{what}, page {nth} does not become the firmware\'s: the command fails each time',
                    f'''for i in $(seq 100); do
						echo {nth} >/sys/module/rmp_fail/parameters/nth
						{command} >/tmp/out && exit 1
						grep -q "(errno 14)" /tmp/out || {{ cat /tmp/out; exit 2; }}
						grep -qx 0 /sys/module/rmp_fail/parameters/nth || exit 3
				       done''',
                )
            m.equal(
                f'{what}, page {nth} does not become the firmware\'s: none stays assigned',
                before,
                m.assigned(),
            )
            m.well(f'{what}, page {nth}')

    for what, fail, command, error, leaked in (
        ('the firmware fails when asked for the length', 'PEK_CSR:0x16', csr, 'firmware error 0x16', 0),
        ('the firmware fails with buffers', 'PEK_CSR:0x16:2', csr, 'firmware error 0x16', 0),
        ('the firmware fails with two buffers', 'PDH_CERT_EXPORT:0x16:2', pdh, 'firmware error 0x16', 0),
        ('the command is not reclaimed', FIRMWARE_PAGE, csr, 'errno 14', 1),
        ('the command is not reclaimed, with buffers', f'{FIRMWARE_PAGE}:2', csr, 'errno 14', 1),
        ('the command is not reclaimed, with two buffers', f'{FIRMWARE_PAGE}:2', pdh, 'errno 14', 1),
        # The rest of a buffer is lost, too.
        ('the 1st page is not reclaimed', f'{FIRMWARE_PAGE}:3', csr, 'errno 14', 3),
        ('the 2nd page is not reclaimed', f'{FIRMWARE_PAGE}:4', csr, 'errno 14', 2),
        ('the 3rd page is not reclaimed', f'{FIRMWARE_PAGE}:5', csr, 'errno 14', 1),
        ('the 2nd page of the first buffer is not reclaimed', f'{FIRMWARE_PAGE}:4', pdh, 'errno 14', 2),
        ('the 2nd page of the second buffer is not reclaimed', f'{FIRMWARE_PAGE}:7', pdh, 'errno 14', 2),
        (
            'nor does a page become the firmware\'s',
            f'{FIRMWARE_PAGE}:2',
            f'echo 3 >/sys/module/rmp_fail/parameters/nth; {csr}',
            'errno 14',
            1,
        ),
    ):
        m.set_sizes('pek_csr', (12288,))
        m.qom_set('psp0', 'fail', fail)
        m.fails_once(what, command, error, leaked)
    m.check('rmmod sev_rest')
    # None of the lost pages may come into anybody's hands.
    m.set_sizes('pek_csr', (16384,))
    m.runs('many more commands', 'sev_ioctl lengths pek_csr 100 16384')
    end(m)
    m.forget_history()
    m.runs('the modules can be loaded again', RELOAD)
    m.wait_pass(m.last('psp-done', value=PSP['SNP_INIT_EX']))
    m.well('after that')


@scenario('reclaim times out', kind=Buffers, kernel='full-debug', append=POISON)
def test_reclaim_timeout(m):
    """The firmware does not return the page of a command in time. It may not be used by anybody."""
    begin(m)
    m.check('echo 2 >/sys/module/ccp/parameters/psp_cmd_timeout')
    m.qom_set('psp0', 'hold', 'SNP_PAGE_RECLAIM')
    with m.expect(LOST):
        status, output = m.run('sev_ioctl platform_status')
    m.judge('the command fails', status == 1, f'status {status}: {output[-500:]}')
    m.said('and says why', 'sev command 0xc7 timed out, disabling PSP')
    m.qom_set('psp0', 'hold', '')
    # Nobody returns the TMR either.
    with m.expect(LOST):
        m.runs('the modules can be unloaded', 'rmmod kvm_amd && rmmod ccp')
    m.runs('memory can be used', 'head -c 1073741824 /dev/zero >/tmp/zero && rm /tmp/zero')


@scenario('init failures', kind=Buffers, kernel='full-debug', append=f'{POISON} host.modules=no')
def test_init_failures(m):
    """Memory that the firmware gets for long does not become its: the TMR, 2 MB, and what INIT_EX keeps."""
    load = 'modprobe ccp psp_init_on_probe=0'
    nth = '/sys/module/rmp_fail/parameters/nth'
    # Once without a failure, for what the first time takes.
    m.check(
        f'modprobe rmp_fail && {load} && modprobe kvm-amd && sev_ioctl pdh_gen && rmmod kvm_amd && rmmod ccp'
    )
    with m.returned('the TMR'):
        m.runs(
            'a command initializes SEV without a TMR',
            f'''for i in 1 2 3; do
			{load} && modprobe kvm-amd && echo 300 >{nth} && sev_ioctl pdh_gen && grep -qx 0 {nth} &&
			rmmod kvm_amd && rmmod ccp || exit; done''',
        )
    m.said('there was no TMR', 'TMR allocation failed')
    m.check(f'{load} init_ex_path=/tmp/nv && modprobe kvm-amd')
    # The TMR comes before, and stays.
    m.runs('INIT_EX fails without its memory', f'echo 515 >{nth}; ! sev_ioctl pdh_gen && grep -qx 0 {nth}')
    # 200 processes, and each would lose 8 pages.
    with m.returned('the memory of INIT_EX', 800):
        m.runs(
            'again and again',
            f'''for i in $(seq 200); do
			echo 3 >{nth}; sev_ioctl pdh_gen && exit 1; grep -qx 0 {nth} || exit 3; done''',
        )
    m.runs('in the end it is well', 'sev_ioctl pdh_gen')
    m.check('rmmod kvm_amd && rmmod ccp')


@scenario('lost', kind=Buffers, kernel='full-debug', append=f'{POISON} host.modules=no')
def test_lost(m):
    """The page of a command is lost in each life of the module, which ends well, and its memory is nobody's."""
    for init_on_probe in (0, 1):
        for turn in range(25):
            text = f'psp_init_on_probe={init_on_probe}, {turn}'
            m.check(f'modprobe ccp psp_init_on_probe={init_on_probe} && modprobe kvm-amd')
            m.qom_set('psp0', 'fail', FIRMWARE_PAGE)
            m.fails_once(text, 'sev_ioctl platform_status', 'errno 14', 1)
            m.check('rmmod kvm_amd && rmmod ccp')
            m.equal(f'{text}: SNP is shut down', 'uninit', m.psp('state')['snp'])
