# SPDX-License-Identifier: GPL-2.0-only
"""
Programs of others, unmodified, on the emulated SNP host: snphost, cpuid and rdmsr as Debian
builds them, and the kernel's selftests of KVM. What they say has to be what the referee and
the command line say. Each line of theirs passes, or it names a limit that the emulator's
documentation lists, and fails for no other reason.
"""
import dataclasses
import re

import pytest

import numa
from judge import TOP
from snp_host import GB, scenario
from test_buffers import pattern
from test_windows import Windows

DOCUMENTATION = TOP / 'tools/testing/qemu-snp/docs/system/i386/amd-snp-host.rst'

DEBIAN = pytest.mark.needs('client debian')
MACHINE = {'kernel': 'full', 'virtual_time': False, 'initramfs': 'clients'}

# EPYC-SNP is newer than the processors that snphost knows. This one is Turin. What snphost reads
# of the RMP only an RMP without segments has.
TURIN = 'EPYC-SNP,model=2,-segmented-rmp'

# amd_psp.h: PSP_CURRENT_TCB
TCB = {'Microcode': 72, 'SNP': 2, 'TEE': 1, 'Boot Loader': 1, 'FMC': 1}
# AMD64 APM, volume 2: bits of SYSCFG, and what precedes the entries of the RMP
SYSCFG, MEM_ENC, SNP_EN, VMPL_EN = 0xC0010010, 1 << 23, 1 << 24, 1 << 25
RMP_BASE, RMP_END, RMP_CFG, RMPOPT_BASE = 0xC0010132, 0xC0010133, 0xC0010136, 0xC0010139
RMP_BOOKKEEPING, RMP_ENTRY = 16 << 10, 16


@dataclasses.dataclass
class Limit:
    """What a program says that fails, and where the documentation says why"""

    regex: str
    documented: str


SEGMENTED = Limit('RMP table was not read successfully', '``snphost ok`` looks for RMP_END')
UNKNOWN_CPU = Limit('processor is not of a known SEV-SNP model', '``-cpu EPYC-SNP,model=2``')
LBR = Limit(r'\(&l1_branch\)->from != 0', 'no branch is recorded')


def snphost(m, arguments):
    """Status, and lines without colors"""
    status, output = m.run(f'/usr/bin/snphost {arguments}')
    return status, re.sub('\x1b\\[[0-9;]*m', '', output).splitlines()


def limited(m, text, limit, output):
    """The program has failed as documented, and that is still documented."""
    m.judge(f'{text}: a known limit', re.search(limit.regex, output), output[-500:])
    known = ' '.join(DOCUMENTATION.read_text(encoding='utf-8').split())
    m.judge(f'{text}: the limit is documented', limit.documented in known, limit.documented)


def answer(m, arguments):
    """What snphost prints if it succeeds"""
    status, lines = snphost(m, arguments)
    m.equal(f'snphost {arguments}', 0, status)
    return '\n'.join(lines)


def tcbs(m):
    """The reported TCB, and that of the platform"""
    parts = answer(m, 'show tcb').split('Platform TCB')
    return [{key.strip(): int(n) for key, n in re.findall(r'^(.*): +(\d+)$', part, re.M)} for part in parts]


def snphost_ok(m, limits=()):
    """All checks pass, but for LIMITS."""
    status, lines = snphost(m, 'ok')
    checks = {}
    for line in lines:
        found = re.match(r'\[ *(PASS|FAIL|SKIP) *\] +- ([^:]*)(?:: (.*))?$', line)
        if found:
            checks[found[2]] = (found[1], found[3])
    for name, (result, value) in checks.items():
        if name in limits:
            limited(m, name, limits[name], f'{result} {value}')
        else:
            m.equal(f'snphost ok: {name}', 'PASS', result)
    m.equal(
        'snphost ok: it found the limits only',
        set(limits),
        {n for n, (r, _) in checks.items() if r == 'FAIL'},
    )
    m.equal('snphost ok: status', int(bool(limits)), status)
    m.judge('snphost ok: all checks are there', len(checks) >= 30, sorted(checks))
    m.equal('snphost ok: C-bit', '51', checks['C-bit location'][1])
    m.equal('snphost ok: bits that are not for addresses', '6', checks['Physical address bit reduction'][1])


def commands(m, name):
    """Status of each of these commands that the PSP has got"""
    return [e['result'] for e in m.events('psp-done') if e.get('command') == name]


@DEBIAN
@scenario('snphost', **MACHINE)
def test_snphost(m):
    snphost_ok(m, {'Reading RMP table': SEGMENTED})
    version = '.'.join(str(m.psp(name)) for name in ('api-major', 'api-minor'))
    m.equal('the version', version, answer(m, 'show version'))
    m.equal('the TCBs', [TCB, TCB], tcbs(m))

    for number in (0, 3):
        vms = m.guests('--vms', str(number)) if number else None
        m.equal(f'{number} guests', str(len(m.psp('guests'))), answer(m, 'show guests'))
        m.equal(f'{number} guests: the referee sees as many', number, len(m.psp('guests')))
        if vms:
            vms.close()

    m.qom_set('psp0', 'id-pattern', 64)
    m.equal(
        'the identifier is what the firmware wrote',
        pattern(4, 64).hex().upper(),
        answer(m, 'show identifier'),
    )

    answer(m, 'commit')
    m.equal('the firmware has committed once', [0], commands(m, 'SNP_COMMIT'))

    for arguments in ('show vcek-url', 'config set 1 1 1 72 0 1'):
        status, lines = snphost(m, arguments)
        m.equal(f'snphost {arguments}: status', 1, status)
        limited(m, f'snphost {arguments}', UNKNOWN_CPU, '\n'.join(lines))
    m.equal('SNP_CONFIG was not asked for', [], commands(m, 'SNP_CONFIG'))


@DEBIAN
@scenario('snphost-turin', **MACHINE, cpu=TURIN)
def test_snphost_turin(m):
    """Without limits, on a processor that snphost knows"""
    snphost_ok(m)
    m.qom_set('psp0', 'id-pattern', 64)
    url = answer(m, 'show vcek-url')
    # snphost may leave out what follows the first 8 bytes, which Turin does not use.
    expected = f'/Turin/{pattern(4, 8).hex()}[0-9a-f]*\\?fmcSPL=01&blSPL=01&teeSPL=01&snpSPL=02&ucodeSPL=72$'
    m.judge('the URL of the certificate', re.search(expected, url, re.I), f'{url} does not match {expected}')

    answer(m, 'config set 1 1 1 72 3 1')
    m.equal('the TCBs once set', [{**TCB, 'SNP': 1}, TCB], tcbs(m))
    status, lines = snphost(m, 'ok')
    failed = [line for line in lines if 'FAIL' in line]
    m.judge('snphost ok finds that they differ', status == 1 and 'Comparing TCB' in str(failed), failed)
    m.judge('one above that of the platform is refused', snphost(m, 'config set 1 1 3 72 0 1')[0] != 0)
    m.equal('the TCBs are as they were', [{**TCB, 'SNP': 1}, TCB], tcbs(m))
    answer(m, 'config reset')
    m.equal('the TCBs once reset', [TCB, TCB], tcbs(m))
    results = [bool(result) for result in commands(m, 'SNP_CONFIG')]
    m.equal('the firmware has configured, refused and reset', [False, True, False], results)


def rdmsr(m, msr):
    """By CPU"""
    return [int(text, 16) for text in m.check(f'/usr/bin/rdmsr -a -0 {msr:#x}').split() if len(text) == 16]


def cpuid(m, leaf):
    """What cpuid calls the fields of a leaf, on the first CPU; all CPUs have the same."""
    raw = re.findall(r'eax=.*', m.check(f'/usr/bin/cpuid -r -l {leaf:#x}'))
    m.equal(f'{leaf:#x} of all CPUs', [raw[0]] * int(m.check('nproc')), raw)
    return dict(re.findall(r'^ +(.*?) += (.*)$', m.check(f'/usr/bin/cpuid -1 -l {leaf:#x}'), re.M))


def registers(m, features, bases):
    """FEATURES of the CPU, those that are off included; RMPOPT_BASE of each core"""
    threads = int(m.check('nproc')) // len(bases)
    fields = cpuid(m, 0x8000001F) | cpuid(m, 0x80000025)
    for name, has in features.items():
        m.equal(f'cpuid: {name}', 'true' if has else 'false', fields.get(name))
    m.equal('cpuid: C-bit', '0x33 (51)', fields.get('encryption bit position in PTE'))
    m.equal('cpuid: other bits', '0x6 (6)', fields.get('physical address space width reduction'))
    for value in rdmsr(m, SYSCFG):
        m.equal('SYSCFG', MEM_ENC | SNP_EN | VMPL_EN, value & (MEM_ENC | SNP_EN | VMPL_EN))
    base, *others = rdmsr(m, RMP_BASE)
    m.equal('RMP_BASE of all CPUs', {base}, {base, *others})
    m.judge("RMP_BASE is where the referee's RMP is", m.regions()[base // GB * GB]['rmp'], hex(base))
    # On a CPU without RMPOPT there is no such MSR.
    if features['RMPOPT support']:
        found = rdmsr(m, RMPOPT_BASE)
        m.equal('RMPOPT_BASE', [base for base in bases for _ in range(threads)], found)
        m.equal('RMPOPT_BASE is what the referee has', bases, m.bases())


SNP = 'SEV-SNP: SEV secure nested paging'
FEATURES = {SNP: True, 'RMPREAD instruction': True, 'segmented RMP support': True, 'RMPOPT support': True}


@DEBIAN
@scenario('registers', kind=Windows, **MACHINE, snp_host=numa.M1.pieces(), **numa.M1.arguments())
def test_registers(m):
    """Of two nodes, each with an RMPOPT window of its own"""
    m.set_up()
    windows = [m.window_of(core) for core in range(m.cores())]
    m.equal('the nodes have different windows', 2, len(set(windows)))
    registers(m, FEATURES, [window | 1 for window in windows])
    m.equal('RMP_CFG: segments are on', {1}, {value & 1 for value in rdmsr(m, RMP_CFG)})
    m.equal('RMP_END', {0}, set(rdmsr(m, RMP_END)))

    m.check('rmmod kvm_amd && rmmod ccp')
    m.equal('SYSCFG: SNP_EN once the firmware has shut SNP down', {0}, {v & SNP_EN for v in rdmsr(m, SYSCFG)})
    m.x86_shut_down()
    m.equal('RMPOPT_BASE once it has', [base for base in m.bases() for _ in range(2)], rdmsr(m, RMPOPT_BASE))


@DEBIAN
@scenario('registers-contiguous', **MACHINE, cpu='EPYC-SNP,-segmented-rmp', snp_host=',rmp-address=6G')
def test_registers_contiguous(m):
    registers(m, {**FEATURES, 'segmented RMP support': False, 'RMPOPT support': False}, [0] * m.cores())
    base, end = rdmsr(m, RMP_BASE)[0], rdmsr(m, RMP_END)[0]
    m.equal('RMP_BASE is as configured', 6 * GB, base)
    covered = (end + 1 - base - RMP_BOOKKEEPING) // RMP_ENTRY << 12
    m.judge('RMP_END: the RMP covers all RAM', covered >= m.top, f'{covered / GB} GB of {m.top / GB} GB')


# KVM's selftests, by what they are about
SEV = (
    *('x86/sev_' + name for name in ('init2_tests', 'smoke_test', 'migrate_tests', 'dbg_test')),
    *('vm_types_test', 'x86/hwcr_msr_test', 'x86/feature_msrs_test', 'x86/cpuid_test'),
)
MEMORY = ('pre_fault_memory_test', 'kvm_create_max_vcpus')
NESTED = [
    'x86/state_test',
    *('x86/svm_' + name for name in ('int_ctl_test', 'nested_clear_efer_svme', 'nested_pat_test')),
    *('x86/svm_' + name for name in ('nested_shutdown_test', 'nested_soft_inject_test')),
    *('x86/svm_' + name for name in ('nested_vmcb12_gpa', 'vmcall_test')),
    *('x86/nested_' + name for name in ('close_kvm_test', 'dirty_log_test', 'invalid_cr3_test')),
    *('x86/nested_' + name for name in ('set_state_test', 'tdp_fault_test', 'tsc_adjust_test')),
]
# Those that fail
LIMITED_NESTED = {'x86/svm_lbr_nested_state': LBR}


def selftests(*tests):
    return pytest.mark.needs(*(f'client kvm/{test}' for test in tests))


def run_selftests(m, tests, limits):
    for test in (*tests, *limits):
        status, output = m.run(f'/kvm/{test.split("/")[-1]}')
        if test in limits:
            limited(m, test, limits[test], output)
            m.judge(f'{test} fails', status not in (0, 4), status)
        else:
            why = f'status {status}: {output[-500:]}'
            m.judge(f'{test} passes', status == 0 and 'SKIP' not in output, why)
    m.equal('no ASID is in use', '0', m.asids())


@selftests(*SEV)
@scenario('kvm-sev', **MACHINE)
def test_kvm_sev(m):
    run_selftests(m, SEV, {})


@selftests(*MEMORY)
@scenario('kvm-memory', **MACHINE)
def test_kvm_memory(m):
    run_selftests(m, MEMORY, {})


@selftests(*NESTED, *LIMITED_NESTED)
@scenario('kvm-nested', **MACHINE)
def test_kvm_nested(m):
    run_selftests(m, NESTED, LIMITED_NESTED)
