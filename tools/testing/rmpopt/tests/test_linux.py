# SPDX-License-Identifier: GPL-2.0-only
"""
Linux boots on the emulated SNP host, once for each feature that can be turned off. What
the kernel says must be what its source predicts. None of these hosts has a PSP, so SNP is
prepared but not initialized, and kvm-amd need not load.
"""
import re

import pytest

import host
import numa
from judge import LOGS
from snp_host import GB, QUICK

RMP = 'amd-snp-host,id=snp0'
IOMMU = 'amd-iommu,snp=on'
TWO_NODES = {
    'memory': '6G',
    'smp': '8,sockets=2,cores=2,threads=2',
    'options': tuple(host.node_options((3, '0-3'), (3, '4-7'))),
}

IOMMU_ON = 'AMD-Vi: IOMMU SNP support enabled'
SEGMENTED = 'Segmented RMP base table physical range'
CONTIGUOUS = 'SEV-SNP: RMP table physical range'


def boot(*kernels, **arguments):
    """
    A decorator for tests of "m", which boots each of KERNELS on this machine. With QUICK=1 it is the
    full series, which the other tests need as well.
    """
    if QUICK:
        kernels = ('full',)

    def register(function):
        function.scenarios = [
            pytest.param(
                (Linux, {**arguments, 'kernel': kernel}), id=kernel, marks=pytest.mark.needs(f'host {kernel}')
            )
            for kernel in kernels
        ]
        return function

    return register


class Linux(host.Host):
    """A host, and the judgements on what Linux makes of it."""

    def __init__(self, name, judge, *, devices=(RMP, IOMMU), options=(), **arguments):
        self.judge = judge.judge
        self.equal = judge.equal
        self.note = judge.note
        self.guest_errors = LOGS / f'{name}-guest-errors.log'
        self.guest_errors.unlink(missing_ok=True)
        options = (*options, '-d', 'guest_errors,unimp', '-D', str(self.guest_errors))
        super().__init__(name, devices=devices, options=options, **arguments)

    def __enter__(self):
        super().__enter__()
        self.judge('boots', True)
        return self

    def said(self, text, regex):
        self.judge(
            text, any(re.search(regex, line) for line in self.log.console), f'no line matches: {regex}'
        )

    def silent(self, text, regex):
        self.equal(text, [], [line for line in self.log.console if re.search(regex, line)])

    def cpu_has_snp(self, expected):
        flags = self.check('grep -m 1 ^flags /proc/cpuinfo').split()
        self.equal('the CPU has SEV-SNP', expected, 'sev_snp' in flags)

    def snp_host(self):
        self.cpu_has_snp(True)
        self.said('the IOMMU supports it', IOMMU_ON)

    def no_snp_host(self):
        self.cpu_has_snp(False)
        self.silent('SNP is not set up', IOMMU_ON)

    def capable(self, text, expected):
        """
        Whether the series considers RMPOPT usable, before it asks the PSP: by CPUID, RMP and
        IOMMU.
        """
        if self.arguments['kernel'] == 'without':
            return
        symbols = (host.kernel_dir(self.arguments['kernel']) / 'System.map').read_text(encoding='ascii')
        address = next(line.split()[0] for line in symbols.splitlines() if line.endswith(' rmpopt_capable'))
        answer = self.qmp('human-monitor-command', **{'command-line': f'x /1bx 0x{address}'})
        self.equal(text, expected, bool(int(answer.split(':')[1], 16)))

    def topology(self):
        """Numbers of CPUs, cores, sockets and nodes"""
        cpu = '/sys/devices/system/cpu/cpu[0-9]*/topology'
        commands = (
            'nproc',
            f'cat {cpu}/core_cpus_list | sort -u | wc -l',
            f'cat {cpu}/physical_package_id | sort -u | wc -l',
            'cat /sys/devices/system/node/node[0-9]*/cpulist | wc -l',
        )
        return tuple(int(self.check(command)) for command in commands)

    def finish(self):
        """Conditions that hold at the end of every boot"""
        self.equal('the kernel is not tainted', 0, int(self.check('cat /proc/sys/kernel/tainted')))
        if any(device.startswith(RMP) for device in self.arguments['devices']):
            self.equal('no violation', 0, self.snp('violations'))
            self.equal('the tables agree with the RMP', 0, self.snp('audit-now'))
        # Both logs are complete now.
        self.quit()
        self.equal('no complaint of the kernel', [], self.complaints()[:10])
        errors = self.guest_errors.read_text(encoding='utf-8').splitlines()
        self.equal('no guest error, nothing unimplemented', [], errors[:10])


@boot('without', 'full', **TWO_NODES)
def test_all_on(m):
    m.snp_host()
    m.said('segmented RMP', SEGMENTED)
    m.said('its first segment covers all RAM', 'RMP segment 0 physical address.*covering')
    m.equal('CPUs, cores, sockets and nodes', (8, 4, 2, 2), m.topology())
    m.equal('CPUs of a node', '4-7', m.check('cat /sys/devices/system/node/node1/cpulist').strip())
    m.capable('RMPOPT can be used', True)


@boot('without', 'full', cpu='EPYC-SNP,-rmpopt', **TWO_NODES)
def test_no_rmpopt(m):
    m.snp_host()
    m.said('segmented RMP', SEGMENTED)
    m.capable('RMPOPT cannot be used', False)


@boot('without', 'full', cpu='EPYC-SNP,-segmented-rmp', **TWO_NODES)
def test_contiguous_rmp(m):
    m.snp_host()
    m.said('contiguous RMP', CONTIGUOUS)
    m.silent('no segmented RMP', SEGMENTED)
    m.capable('RMPOPT cannot be used', False)


@boot('without', cpu='EPYC-SNP,-rmpread', **TWO_NODES)
def test_no_rmpread(m):
    m.no_snp_host()


@boot('without', cpu='EPYC-SNP,family=25,model=17,-rmpread,-segmented-rmp', **TWO_NODES)
def test_zen4_without_rmpread(m):
    m.snp_host()
    m.said('contiguous RMP', CONTIGUOUS)


@boot('without', cpu='EPYC-SNP,-sev-snp', **TWO_NODES)
def test_no_sev_snp(m):
    m.no_snp_host()


@boot('without', cpu='EPYC-SNP,+hypervisor', **TWO_NODES)
def test_virtual_machine(m):
    m.no_snp_host()


@boot('without', 'full', devices=(RMP, 'amd-iommu'), **TWO_NODES)
def test_iommu_without_snp(m):
    m.said('the kernel says why', 'SNP: IOMMU SNP feature not enabled, SNP cannot be supported')
    m.silent('SNP is not set up', IOMMU_ON)
    m.capable('RMPOPT cannot be used', False)


@boot('without', devices=(RMP,), **TWO_NODES)
def test_no_iommu(m):
    m.silent('SNP is not set up', IOMMU_ON)


@boot('without', devices=(IOMMU,), **TWO_NODES)
def test_no_rmp(m):
    m.said('the kernel says why', 'SEV-SNP: Memory for the RMP table has not been reserved by BIOS')
    m.no_snp_host()


@boot('without', append='mem_encrypt=on', **TWO_NODES)
def test_sme(m):
    m.snp_host()
    m.said('memory is encrypted, as far as Linux can tell', 'Memory Encryption Features active: AMD SME')


@boot('without', memory='1G', smp='1')
def test_small(m):
    """Without RAM above 4 GB, the RMP gets memory of its own."""
    m.snp_host()


@boot('without', devices=(f'{RMP},sparse-chunks=20,sparse-stride=192G', IOMMU), **TWO_NODES)
def test_sparse(m):
    m.snp_host()
    m.said('RAM reaches beyond 3 TB', 'last_pfn = 0x3[0-9a-f]{7}')
    with open(f'/proc/{m.process.pid}/status', encoding='ascii') as status:
        kilobytes = next(line.split()[1] for line in status if line.startswith('VmRSS:'))
    m.note(f'sparse RAM: QEMU has {int(kilobytes) // 1024} MB of memory')


@boot('without', devices=(f'{RMP}{numa.M2.pieces()}', IOMMU), **numa.M2.arguments())
def test_nodes_of_12_tb(m):
    m.snp_host()
    nodes = range(len(numa.M2.nodes))
    ranges: dict[int, list[tuple[int, int]]] = {node: [] for node in nodes}
    for line in m.log.console:
        found = re.search(r'  node +(\d+): \[mem 0x([0-9a-f]+)-0x([0-9a-f]+)\]', line)
        if found and int(found[2], 16) >= 8 * GB:
            ranges[int(found[1])].append((int(found[2], 16), int(found[3], 16) + 1))
    m.equal(
        'each piece of RAM is where it was wanted',
        {node: [(gb * GB, (gb + 1) * GB) for gb in starts] for node, starts in numa.M2.ram.items()},
        ranges,
    )
    m.equal(
        'so are the distances',
        [[numa.M2.distance(a, b) for b in nodes] for a in nodes],
        [
            [int(text) for text in line.split()]
            for line in m.check('cat /sys/devices/system/node/node[0-9]/distance').splitlines()
        ],
    )


@boot('without', memory='6G', smp='64,sockets=2,cores=16,threads=2', boot_timeout=600)
def test_64_vcpus(m):
    m.snp_host()
    m.equal('CPUs, cores and sockets', (64, 32, 2), m.topology()[:3])
