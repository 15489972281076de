# SPDX-License-Identifier: GPL-2.0-only
"""
QEMU must refuse wrong options of the emulated SNP host, and requests that a running host
cannot serve. The message must name the reason.
"""
import socket
import subprocess
import tempfile

import pytest

import host
from qmp import Qmp

# Seconds in which QEMU has to refuse its command line
LIMIT = 60

PC = '-machine q35 -accel tcg -cpu EPYC-SNP -m 2G'
SNP_HOST = f'{PC} -device amd-snp-host'

# Messages that several options share
SEGMENT_SIZE = 'segment-size must be a power of two from 1G to 4T'
RMP_ADDRESS = 'choose another rmp-address'
SPARSE_UNITS = 'sparse-size, sparse-stride and sparse-start must be multiples of 128M, and sparse-size not 0'
SPARSE_PLACE = 'is in the way of something else: move sparse-start or sparse-stride'
SPARSE_REACH = 'sparse-chunks reach beyond the 46 physical address bits'
RAM_SYNTAX = 'ram takes ADDRESS:SIZE[:NODE]/..., not '
RAM_UNITS = 'addresses and sizes of ram must be multiples of 128M, and no size 0: not '
RAM_PLACE = 'is in the way of something else: move it by ram'
PSP_ORDER = 'amd-psp needs an RMP: put -device amd-snp-host before it'
HOLD_RMPOPT = 'hold-rmpopt takes the start of a 1 GB region, or 0xffffffffffffffff for none'
RMPUPDATE_FAIL = 'rmpupdate-fail takes CODE:EVERY[:COUNT], none of them 0, or "" for none'
FAIL = 'fail takes COMMAND:STATUS[:NTH],... with a command of the PSP or any'

# Command lines with which no machine must start: ID, message, command line
REFUSED = [
    ('segment-size-3G', SEGMENT_SIZE, f'{SNP_HOST},segment-size=3G'),
    ('segment-size-512M', SEGMENT_SIZE, f'{SNP_HOST},segment-size=512M'),
    ('segment-size-8T', SEGMENT_SIZE, f'{SNP_HOST},segment-size=8T'),
    (
        'segmented-RMP-without-CPU-feature',
        'segmented=on needs a CPU with segmented-rmp',
        f'{SNP_HOST},segmented=on -cpu EPYC-SNP,-segmented-rmp',
    ),
    (
        'segments-end-below-RAM',
        'do not reach memory at 0x10000000000: take a larger segment-size',
        f'{SNP_HOST},segment-size=1G,sparse-chunks=1,sparse-start=1T',
    ),
    ('RMP-not-aligned', 'rmp-address must be a multiple of 1M', f'{SNP_HOST},rmp-address=0x100001000'),
    ('RMP-covers-half-a-GB', 'rmp-coverage must be a multiple of 1G', f'{SNP_HOST},rmp-coverage=1536M'),
    ('RMPUPDATE-fails-never', RMPUPDATE_FAIL, f'{SNP_HOST},rmpupdate-fail=4:0'),
    ('RMP-over-device', RMP_ADDRESS, f'{SNP_HOST},rmp-address=0xfec00000'),
    ('RMP-partly-outside-RAM', RMP_ADDRESS, f'{SNP_HOST},rmp-address=0x7fe00000'),
    ('RMP-beyond-address-space', RMP_ADDRESS, f'{SNP_HOST},rmp-address=0x400000000000'),
    ('RMP-wraps-around', RMP_ADDRESS, f'{SNP_HOST},rmp-address=0xffffffffffe00000'),
    (
        'contiguous-RMP-beyond-address-space',
        RMP_ADDRESS,
        f'{SNP_HOST},segmented=off,rmp-address=0x3fffc0000000',
    ),
    ('RMP-over-HyperTransport', RMP_ADDRESS, f'{SNP_HOST},rmp-address=0xfd00000000'),
    ('sparse-half-a-section', SPARSE_UNITS, f'{SNP_HOST},sparse-chunks=1,sparse-size=64M'),
    ('sparse-chunk-empty', SPARSE_UNITS, f'{SNP_HOST},sparse-chunks=1,sparse-size=0'),
    (
        'sparse-chunks-overlap',
        'sparse-stride must not be less than sparse-size',
        f'{SNP_HOST},sparse-chunks=2,sparse-size=1G,sparse-stride=512M',
    ),
    ('sparse-over-RAM', SPARSE_PLACE, f'{SNP_HOST},sparse-chunks=1,sparse-start=1G'),
    ('sparse-over-HyperTransport', SPARSE_PLACE, f'{SNP_HOST},sparse-chunks=1,sparse-start=0xfd00000000'),
    ('sparse-beyond-address-space', SPARSE_REACH, f'{SNP_HOST},sparse-chunks=10,sparse-stride=16T'),
    ('sparse-chunks-overflow', SPARSE_REACH, f'{SNP_HOST},sparse-chunks=4294967295'),
    ('ram-without-size', f"{RAM_SYNTAX}'64G'", f'{SNP_HOST},ram=64G'),
    ('ram-ends-with-a-slash', f"{RAM_SYNTAX}''", f'{SNP_HOST},ram=64G:1G/'),
    ('ram-of-half-a-node', f"{RAM_SYNTAX}'64G:1G:0.5'", f'{SNP_HOST},ram=64G:1G:0.5'),
    ('ram-with-too-much', f"{RAM_SYNTAX}'64G:1G:0:0'", f'{SNP_HOST},ram=64G:1G:0:0'),
    ('ram-half-a-section', f"{RAM_UNITS}'64G:64M'", f'{SNP_HOST},ram=128G:1G/64G:64M'),
    ('ram-empty', f"{RAM_UNITS}'64G:0'", f'{SNP_HOST},ram=64G:0'),
    ('ram-between-sections', f"{RAM_UNITS}'0x1000001000:1G'", f'{SNP_HOST},ram=0x1000001000:1G'),
    ('ram-of-no-node', 'add -numa node,nodeid=1', f'{SNP_HOST},ram=64G:1G:1'),
    ('ram-over-RAM', RAM_PLACE, f'{SNP_HOST},ram=1G:1G'),
    ('ram-over-ram', RAM_PLACE, f'{SNP_HOST},ram=64G:2G/65G:1G'),
    ('ram-over-sparse-RAM', SPARSE_PLACE, f'{SNP_HOST},ram=64G:2G,sparse-chunks=1,sparse-start=65G'),
    ('ram-beyond-address-space', RAM_PLACE, f'{SNP_HOST},ram=64T:1G'),
    ('ram-wraps-around', RAM_PLACE, f'{SNP_HOST},ram=64G:0xfffffffff8000000'),
    (
        'memory-hotplug',
        'the RMP cannot cover memory that comes later: leave out maxmem',
        f'{SNP_HOST} -m 2G,slots=1,maxmem=4G',
    ),
    ('unknown-option', "Property 'amd-snp-host.rmp-size' not found", f'{SNP_HOST},rmp-size=1G'),
    ('two-SNP-hosts', 'at most one amd-snp-host is possible', f'{SNP_HOST} -device amd-snp-host'),
    (
        'other-accelerator',
        'amd-snp-host is emulated: it needs -accel tcg',
        '-machine q35 -accel qtest -cpu EPYC-SNP -device amd-snp-host',
    ),
    (
        'other-machine',
        'amd-snp-host needs a PC: -machine q35',
        '-machine none -accel tcg -device amd-snp-host',
    ),
    ('hold-rmpopt-not-aligned', HOLD_RMPOPT, f'{SNP_HOST},hold-rmpopt=0x1000'),
    (
        'PSP-unknown-option',
        "Property 'amd-psp.firmware' not found",
        f'{SNP_HOST} -device amd-psp,firmware=1',
    ),
    ('PSP-unknown-command', FAIL, f'{SNP_HOST} -device amd-psp,fail=SNP_RUN:1'),
    ('PSP-key-missing', 'vcek-key: Failed to open file', f'{SNP_HOST} -device amd-psp,vcek-key=/nowhere'),
    ('PSP-key-empty', 'vcek-key: The requested data', f'{SNP_HOST} -device amd-psp,vcek-key=/dev/null'),
    ('PSP-before-SNP-host', PSP_ORDER, f'{PC} -device amd-psp -device amd-snp-host'),
    ('PSP-without-SNP-host', PSP_ORDER, f'{PC} -device amd-psp'),
    ('unknown-CPU-feature', "rmpoptimal' not found", '-machine q35 -accel tcg -cpu EPYC-SNP,+rmpoptimal'),
]

# Options that take one of a few names: these names, and wrong values
NAMED = {
    'rmpopt-base-locked': ('gp|ignore|off', ('', 'on', 'true', 'GP', 'gpx', '1', 'off,ignore')),
    'rmpopt-disabled-table': ('clear|keep', ('', 'off', '0', 'Keep', 'kept')),
    'shutdown-rmpopt-en': ('clear|keep', ('', 'off', '0', 'Keep', 'kept')),
    'rmpopt-outside': ('cf0|gp', ('', 'off', '0', 'cf1', 'CF0', 'ud')),
}
REFUSED += [
    (
        f'{name}-{value.replace(",", "-") or "empty"}',
        # The end of the line
        f"{name} takes {known}, not '{value}'\n",
        # QEMU reads two commas as one that is part of the value.
        f'{SNP_HOST},{name}={value.replace(",", ",,")}',
    )
    for name, (known, values) in NAMED.items()
    for value in values
]


@pytest.fixture(scope='module', name='qemu')
def fixture_qemu():
    return [*host.qemu_paths(), '-S', '-nodefaults', '-display', 'none']


@pytest.mark.parametrize('message, options', [pytest.param(*case, id=slug) for slug, *case in REFUSED])
def test_refused(qemu, message, options):
    """A machine that starts nevertheless would wait until the limit, because of -S."""
    done = subprocess.run(
        [*qemu, *options.split()],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=LIMIT,
        check=False,
    )
    assert message in done.stdout
    assert done.returncode == 1


# Devices of machines that run. The state of a CPU with SEV-SNP cannot be saved even without any.
MACHINES = {
    'CPU-only': '',
    'SNP-host': '-device amd-snp-host,id=snp0',
    'PSP': '-device amd-snp-host,id=snp0 -device amd-psp,id=psp0',
}


@pytest.fixture(scope='module', name='machine', params=MACHINES)
def fixture_machine(request, qemu):
    """The name of a machine, and its monitor."""
    with tempfile.TemporaryDirectory() as directory, socket.socket(socket.AF_UNIX) as listener:
        # QEMU is given a socket that listens already, so that the test need not wait for QEMU.
        listener.bind(f'{directory}/qmp')
        listener.listen()
        fd = listener.fileno()
        monitor = f'-chardev socket,id=qmp,fd={fd},server=on,wait=off -mon chardev=qmp,mode=control'
        options = f'{PC} {monitor} {MACHINES[request.param]}'
        # QEMU must not outlive a test that is killed.
        command = ['setpriv', '--pdeathsig', 'KILL', *qemu, *options.split()]
        with subprocess.Popen(command, pass_fds=[fd], stdin=subprocess.DEVNULL) as process:
            try:
                listener.close()
                qmp = Qmp(f'{directory}/qmp')
                yield request.param, qmp
                qmp.command('quit')
                assert process.wait(LIMIT) == 0
            finally:
                process.kill()


def human(qmp, line):
    """The answer of QEMU's monitor for humans, which takes every value as text."""
    return qmp.command('human-monitor-command', **{'command-line': line})


def unsaved(name):
    if name == 'CPU-only':
        return 'a CPU with sev-snp cannot be migrated or saved'
    return "State blocked by non-migratable device 'amd-snp-host'"


def test_migration(machine):
    name, qmp = machine
    with pytest.raises(OSError, match=unsaved(name)):
        qmp.command('migrate', uri='exec:cat >/dev/null')


def test_snapshot(machine):
    name, qmp = machine
    assert unsaved(name) in human(qmp, 'savevm x')


def test_hotplug(machine):
    _, qmp = machine
    with pytest.raises(OSError, match="'amd-snp-host' does not support hotplugging"):
        qmp.command('device_add', driver='amd-snp-host', id='late')


# Values that a property of a running device must not take
WRONG_FAIL = (
    *('any', 'any:', ':1', 'SNP_RUN:1', '-1:1', '0x100:1', 'any:0', 'any:x', 'any:-1', 'any:0x10000'),
    *('any:1:', 'any:1:0', 'any:1:x', 'any:1:1:1', 'any:1,', ',any:1', 'any:1 2'),
)
WRONG_HOLD = ('any', 'SNP_RUN', '-1', '0x100', '1x', 'SNP_INIT,SNP_INIT_EX')
WRONG_REGION = ('1', '0x1000', '0x3fffffff', '0xfffffffffffffffe')
WRONG_RMPUPDATE = ('4', '0:1', '4:0', '4:1:0', '4:', ':4', '4:1:1:1', '-1:1', 'x:1', '4:1x', '0x100000000:1')
WRONG_SIZE = ('8388609', '9M', '0xffffffffffffffff')
# Device, property, and the message for each value
WRONG = [
    ('psp0', 'fail', dict.fromkeys(WRONG_FAIL, FAIL)),
    ('psp0', 'hold', dict.fromkeys(WRONG_HOLD, 'hold takes a command of the PSP, or "" for none')),
    ('snp0', 'rmpupdate-fail', dict.fromkeys(WRONG_RMPUPDATE, RMPUPDATE_FAIL)),
    ('snp0', 'hold-rmpopt', dict.fromkeys(WRONG_REGION, HOLD_RMPOPT)),
]
WRONG += [
    (
        'psp0',
        name,
        dict.fromkeys(WRONG_SIZE, f'{name} takes a size up to 8388608, 0 for none')
        | {'x': f"'{name}' expects a non-negative number below 2^64"},
    )
    for name in ('pek-csr-pattern', 'pdh-cert-pattern', 'cert-chain-pattern', 'id-pattern')
]
# The rules of the hardware must not change while the machine runs.
WRONG += [
    (
        'snp0',
        name,
        {value: f"set property '{name}' on device 'snp0' (type 'amd-snp-host') after it was realized"},
    )
    for name, value in (
        ('rmpopt-base-locked', 'off'),
        ('rmpopt-disabled-table', 'keep'),
        ('shutdown-rmpopt-en', 'keep'),
        ('rmpopt-outside', 'gp'),
    )
]


@pytest.mark.parametrize('machine', ['PSP'], indirect=True)
@pytest.mark.parametrize(
    'device, name, messages', [pytest.param(*case, id='-'.join(case[:2])) for case in WRONG]
)
def test_wrong_value(judge, machine, device, name, messages):
    _, qmp = machine
    where = {'path': f'/machine/peripheral/{device}', 'property': name}
    before = qmp.command('qom-get', **where)
    for value, message in messages.items():
        answer = human(qmp, f'qom-set {where["path"]} {name} {value}')
        judge.judge(f'"{value}" is refused', message in answer, f'expected: {message}\n    found: {answer}')
    judge.equal('the property keeps its value', before, qmp.command('qom-get', **where))
