# SPDX-License-Identifier: GPL-2.0-only
"""
What hosts in the field have been reported to do: an RMP where and as large as BIOS makes it,
instructions and commands that fail now and then.
"""
from snp_host import GB, PSP, scenario
from test_life_cycle import KEXEC, second_kernel
from test_stale import IOCTLS, Stale

MB = 1 << 20
# Where the RMP begins: the last region, not at 2 MB
RMP_ADDRESS = 7 * GB + 31 * MB


@scenario(
    'RMP at 1 MB',
    kernel='full',
    nodes=True,
    snp_host=f',rmp-address={RMP_ADDRESS:#x}',
    # Of the node with the RMP a guest can have all that is left.
    append='memmap=896M$0x1c8000000',
)
def test_rmp_at_1_mb(m):
    """What is left of the 2 MB pages at its ends is reserved, so that nobody writes to large pages there."""
    m.set_up()
    for reserved in 0x1C1E00000, 0x1C4000000:
        m.said('the kernel keeps off', rf'Reserving start/end of RMP table .*\[{reserved:#018x}\]')
    m.wait_pass(0)
    m.all_optimized('all is optimized, up to the neighbours of the RMP')
    # All memory of the node that has the RMP
    free = int(m.check("awk '/MemFree/ { print $4 }' /sys/devices/system/node/node4/meminfo")) // 1024
    vms = m.guests(f'--memory {free - 16}M --node 4')
    region = m.regions()[7 * GB]
    m.judge('guests have what is around the RMP', region['assigned'] > (free - 16) * 256, region)
    m.equal('guests end well', 0, vms.close())
    end = m.last('psp-done', value=PSP['SNP_DECOMMISSION'])
    m.wait_pass(end)
    m.all_optimized('all is as before')
    second_kernel(m, KEXEC, 'a second kernel boots')
    m.set_up()
    m.wait_pass(m.last('psp-done', value=PSP['SNP_INIT_EX']))
    m.all_optimized('all is optimized by the second kernel')
    m.equal('guests start and stop there', 0, m.guests('--vms 2 --memory 16M --node 3,4').close())


@scenario('RMP too small', kernel='full', snp_host=',rmp-coverage=5G')
@scenario(
    'contiguous RMP too small', kernel='full', cpu='EPYC-SNP,-segmented-rmp', snp_host=',rmp-coverage=5G'
)
def test_rmp_too_small(m):
    """SNP stays off. All else works."""
    m.said('the kernel says why', 'does not cover full system RAM')
    m.equal('SNP is not initialized', 'uninit', m.psp('state')['snp'])
    m.rmpopt_is_unused()
    m.runs('plain VMs run', 'kvm_spin 0 100')
    m.runs('CPUs can be unplugged', 'cd /sys/devices/system/cpu/cpu1 && echo 0 >online && echo 1 >online')


@scenario('RMPUPDATE overlaps', kind=Stale, kernel='full', nodes=True)
def test_overlap(m):
    """Another CPU is at the same 2 MB: the kernel tries again."""
    m.start_case()
    m.qom_set('snp0', 'rmpupdate-fail', '4:3')
    m.equal('guests come and go', 0, m.guests('--vms 2 --memory 16M --node 1,2').close())
    m.check('sev_ioctl snp_platform_status 10 2')
    m.qom_set('snp0', 'rmpupdate-fail', '')
    m.check_case()


# What is said of a page that stays with the guest
COMPLAINTS = 'RMPUPDATE failed|Call Trace|WARNING|cut here|Leaking PFN'


def lose_pages(m, number, lose):
    """
    A guest of node 1 loses pages for good, as LOSE does it. They are never used again, but all that
    is around them is.
    """
    m.start_case()
    with m.expect(COMPLAINTS):
        lose()
        m.warned = True
    m.settle()
    m.equal('pages stay assigned', number, m.regions()[4 * GB]['assigned'])
    m.runs('memory of the node can be used', 'snp_vm --memory 200M --node 1 </dev/null')
    m.settle()
    m.equal('and comes back', number, m.regions()[4 * GB]['assigned'])
    m.judge('the region is optimized nowhere', all(4 * GB not in t for t in m.tables().values()), m.tables())
    m.check_case()


@scenario('RMPUPDATE fails', kind=Stale, kernel='full', nodes=True)
def test_rmpupdate_fails(m):
    def lose():
        vms = m.guests('--memory 16M --node 1')
        m.qom_set('snp0', 'rmpupdate-fail', '2:1000:3')
        m.equal('the guest ends', 0, vms.close())
        m.equal('three pages could not be returned', '', m.snp('rmpupdate-fail'))

    lose_pages(m, 3, lose)


@scenario('reclaim of guest memory fails', kind=Stale, kernel='full', nodes=True)
def test_reclaim_fails(m):
    def lose():
        m.qom_set('psp0', 'fail', 'SNP_LAUNCH_UPDATE:0x1a,SNP_PAGE_RECLAIM:0x1a')
        m.fails('the launch fails', 'snp_vm --memory 16M --node 1 </dev/null', 'firmware error')
        m.equal('and the reclaim', '', m.psp('fail'))

    lose_pages(m, 1, lose)


@scenario('RMPUPDATE after a reclaim fails', kind=Stale, nodes=True)
def test_rmpupdate_after_reclaim(m):
    """guest_memfd returns the page all the same. But it is on the list of leaked pages, so nobody may have it."""
    m.start_case()
    with m.expect(COMPLAINTS):
        m.qom_set('psp0', 'hold', 'SNP_LAUNCH_UPDATE')
        vm = m.program('snp_vm --memory 16M --node 1')
        m.wait(lambda: m.psp('held'), 'SNP_LAUNCH_UPDATE')
        m.qom_set('psp0', 'fail', 'SNP_LAUNCH_UPDATE:0x1a')
        m.qom_set('snp0', 'rmpupdate-fail', '2:1:1')
        m.qom_set('psp0', 'hold', '')
        m.equal('the launch fails', 1, vm.close())
        m.warned = True
    m.equal('so have command and RMPUPDATE', ('', ''), (m.psp('fail'), m.snp('rmpupdate-fail')))
    m.runs('memory of the node can be used', 'snp_vm --memory 200M --node 1 </dev/null')
    m.check_case()


@scenario('factory reset', kind=Stale, kernel='full', nodes=True)
def test_factory_reset(m):
    """SEV is uninitialized, and a command initializes it for as long as it takes. SNP guests are not concerned."""
    m.start_case()
    vms = m.guests('--vms 2 --memory 16M --node 1,2')
    m.check('sev_ioctl factory_reset')
    for command in 'pek_gen', 'pdh_cert_export':
        m.runs(f'{command} initializes SEV', f'sev_ioctl {command}')
        m.equal(f'{command}: as before, SEV is not initialized, and SNP is', 'uninit init', states(m))
        m.equal(f'{command}: the guests are still there', 2, len(m.psp('guests')))
    m.equal('guests end well', 0, vms.close())
    m.runs('a guest initializes SEV', 'snp_vm --memory 16M --node 1 </dev/null')
    m.equal('both are initialized', 'init init', states(m))
    m.check_case()


def states(m):
    """Of SEV and SNP, as the firmware has it"""
    state = m.psp('state')
    return f"{state['legacy']} {state['snp']}"


# MSR: the page that VMRUN keeps the host's state in. SNP_INIT_EX wants it to be 0.
VM_HSAVE_PA = 0xC0010117
# Ioctls that need SNP initialized
NEED_SNP = 'snp_set_config', 'snp_vlek_load'


def hsave(m):
    read = f'dd if=$c/msr bs=8 count=1 skip={VM_HSAVE_PA} iflag=skip_bytes 2>/dev/null | od -An -tx8'
    return [int(value, 16) for value in m.check(f'for c in /dev/cpu/[0-9]*; do {read}; done').split()]


@scenario('ioctls without SNP', kernel='full', append='host.modules=no')
def test_no_snp(m):
    """SNP_INIT_EX has failed, and plain VMs run. No ioctl tries it again under their feet."""
    m.qom_set('psp0', 'fail', 'SNP_INIT_EX:3')
    m.run(m.load())
    m.equal('SNP_INIT_EX has failed', '', m.psp('fail'))
    vm = m.program('kvm_spin 0 2000000000')
    m.wait(lambda: all(hsave(m)), 'KVM to enable virtualization')
    before, begun = hsave(m), m.now()
    for command in IOCTLS:
        loop = f'sev_ioctl {command} 1000'
        answers = m.check(
            f"""(taskset -c 1 {loop}; echo "status $?") >/tmp/one &
			(taskset -c 2 {loop}; echo "status $?") >/tmp/two; wait; cat /tmp/one /tmp/two"""
        )
        wanted = 'ok\nstatus 0\n'
        if command in NEED_SNP:
            wanted = f'{command}, 1 of 1000: No such device (errno 19), firmware error 0\nstatus 1\n'
        m.equal(f'{command}, from two CPUs', 2 * wanted, answers)
    m.equal('VM_HSAVE_PA stays as it is', before, hsave(m))
    m.equal('SNP_INIT_EX is not tried again', [], m.events('psp', since=begun, value=PSP['SNP_INIT_EX']))
    m.judge('the VM still runs', vm.status() is None, vm.output())
    vm.kill()
