# SPDX-License-Identifier: GPL-2.0-only
"""
The life of RMPOPT on a host, from the first pass to the last shutdown: set-up, guests, and
what may fail or come in between. HOST_PROPERTIES=NAME=VALUE,... runs all of it with these
settings of amd-snp-host, HOST_PROPERTIES=all with every setting of rmpopt-base-locked,
rmpopt-disabled-table, shutdown-rmpopt-en and rmpopt-outside.
"""
import contextlib
import re

from snp_host import DELAY, GB, MATRIX, NO_HOLD, PSP, SECOND, scenario

DFFLUSH_REQUIRED = 0x0F
# A failing SNP_DECOMMISSION is worth a WARN to KVM.
DECOMMISSION_WARN = 'snp_decommission_context|sev_vm_destroy|cut here|Call Trace'
LEAK = 'Leaking PFN'
# What the kernel says where a failure leaves SnpEn set
LEFT_BEHIND = r'failed rc .* CPU hotplug stays disabled$'
OFFLINE = 'echo 0 >/sys/devices/system/cpu/cpu3/online'


@scenario('life', nodes=True, others=MATRIX)
def test_life(m):
    """From boot through guests of all kinds to unload, x86 shutdown and reload."""
    m.set_up()
    enabled = m.last('base')
    first = m.wait_pass(0)
    m.one_pass('the first pass', first, m.last('psp-done', value=PSP['SNP_INIT_EX']), regions=m.in_reach())
    m.judge('RMPOPT comes after RMPOPT_BASE', enabled < first[0]['at'])
    m.all_optimized('the first pass optimizes all that can be')

    # Guests cost what they touch
    before, pages = m.tables(), m.regions()
    vms = m.guests('--vms 3 --memory 16M --node 1,2,3')
    touched = {
        pa for pa, region in m.regions().items() if region['assigned'] > pages.get(pa, {}).get('assigned', 0)
    }
    m.judge(
        'guests are where they were wanted',
        len(touched & m_regions(1, 2, 3)) == 3,
        sorted(pa // GB for pa in touched),
    )
    m.judge(
        'launching clears the regions touched, and only these, on all cores',
        all(m.tables()[core] == table - touched for core, table in before.items()),
        f'touched {touched}, tables {m.tables()}',
    )
    m.equal('ASIDs are taken', '3', m.asids())

    # Ends within 10 seconds of each other
    m.check(f'for i in 0 1 2; do echo close $i >{vms.dir}/in; sleep 4; done')
    m.wait(lambda: len(m.events('psp-done', value=PSP['SNP_DECOMMISSION'])) == 3, 'three teardowns')
    ends = [e['at'] for e in m.events('psp-done', value=PSP['SNP_DECOMMISSION'])]
    m.judge('the ends are apart', all(3 * SECOND < b - a < DELAY for a, b in zip(ends, ends[1:])), ends)
    again = m.wait_pass(ends[0])
    m.one_pass('after the last of three teardowns', again, ends[-1])
    m.all_optimized('teardown wins all back')
    vms.close()
    m.equal('ASIDs are free again', '0', m.asids())

    # A teardown while a pass is under way
    vms = m.guests('--vms 2 --memory 16M --node 1,2')
    m.qom_set('snp0', 'hold-rmpopt', *m_regions(1))
    vms.send('close 0')
    m.wait(lambda: m.snp('held-rmpopt'), 'the pass to be held')
    begun = m.now()
    vms.send('close 1')
    m.wait(lambda: m.events('psp-done', since=begun, value=PSP['SNP_DECOMMISSION']), 'the teardown')
    with m.stopped():
        end = m.last('psp-done', value=PSP['SNP_DECOMMISSION'])
        m.judge('the pass is still held', m.snp('held-rmpopt'))
        m.qom_set('snp0', 'hold-rmpopt', NO_HOLD)
    second = m.wait_pass(end + DELAY - SECOND // 50)
    m.one_pass('a teardown during a pass leads to another one', second, end, held=True)
    m.all_optimized('which wins all back')
    vms.close()

    for _ in range(2):
        m.fails('CPUs cannot go offline', OFFLINE, 'busy')
        m.runs('kvm-amd can be unloaded', 'rmmod kvm_amd && rmmod ccp')
        shutdown = m.last('psp', value=PSP['SNP_SHUTDOWN_EX'])
        m.x86_shut_down()
        m.check('sleep 15')
        m.run_all_cpus()
        m.equal('no RMPOPT after the shutdown', [], m.verified(shutdown))
        m.runs(
            'CPUs can go offline and come back',
            'cd /sys/devices/system/cpu/cpu3 && echo 0 >online && echo 1 >online',
        )
        m.forget_history()
        m.runs('kvm-amd can be loaded again', m.load())
        m.set_up()
        m.wait_pass(m.last('psp-done', value=PSP['SNP_INIT_EX']))
        m.all_optimized('and optimizes all again')
    m.runs('it works a third time', 'rmmod kvm_amd && rmmod ccp')
    m.no_leaks()


def m_regions(*numbers):
    """Node N is the Nth GB above 4 GB."""
    return {(3 + number) * GB for number in numbers}


@scenario('legacy shutdown', x86_shutdown=False, nodes=True, others=MATRIX)
def test_legacy(m):
    """SNP_EN stays set, and RMPOPT stays on. The next SNP_INIT clears the tables."""
    m.set_up()
    m.wait_pass(0)
    for _ in range(2):
        m.runs('kvm-amd can be unloaded', 'rmmod kvm_amd')
        m.equal('the firmware has shut down', 'uninit', m.psp('state')['snp'])
        m.fails('CPUs cannot go offline as long as SNP_EN is set', OFFLINE, 'busy')
        m.forget_history()
        m.runs('kvm-amd can be loaded again', m.load())
        init = m.last('psp-done', value=PSP['SNP_INIT_EX'])
        m.set_up()
        m.one_pass('after SNP_INIT', m.wait_pass(init), init, regions=m.in_reach())
        m.all_optimized('all is optimized again')
        vms = m.guests('--vms 2 --memory 16M --node 1,2')
        m.equal('guests can be closed', 0, vms.close())
        end = m.last('psp-done', value=PSP['SNP_DECOMMISSION'])
        m.one_pass('after the guests', m.wait_pass(end), end)
        m.all_optimized('and all is optimized again')
    m.no_leaks()


@scenario('hotplug', append='host.modules=no')
def test_hotplug(m):
    online = '/sys/devices/system/cpu/cpu3/online'
    m.runs('a CPU can go offline before SNP is initialized', f'echo 0 >{online}')
    m.runs('the modules load', m.load())
    m.said('SNP is not initialized with a CPU offline', 'SNP init failed|not all CPUs online')
    m.equal('no RMPOPT_BASE is enabled', [0] * m.cores(), m.bases())
    m.equal('the firmware was not asked', [], m.events('psp', value=PSP['SNP_INIT_EX']))
    m.rmpopt_is_unused()
    m.runs('hotplug works on', f'echo 1 >{online} && echo 0 >{online} && echo 1 >{online}')
    m.forget_history()
    m.runs('once the CPU is back the modules load', f'rmmod kvm_amd && rmmod ccp && {m.load()}')
    m.set_up()
    m.fails('now CPUs stay', f'echo 0 >{online}', 'busy')
    m.wait_pass(0)
    m.all_optimized('all is optimized')


def unload_during_pass(m, command, what):
    held = m.top - 3 * GB
    # The pass may be over before the script knows that the modules are loaded.
    m.qom_set('snp0', 'hold-rmpopt', held)
    m.runs('the modules load', m.load())
    m.set_up()
    m.wait(lambda: m.snp('held-rmpopt'), 'the pass to be held')
    m.check(f'({command}; echo $? >/tmp/unloaded) >/dev/null 2>&1 &')
    m.wait(
        lambda: m.run('grep -q snp_cleanup_rmpopt /proc/[0-9]*/stack 2>/dev/null || test -f /tmp/unloaded')[0]
        == 0,
        f'{what} to wait in snp_cleanup_rmpopt()',
    )
    m.judge(f'{what} waits for the pass', m.run('test -f /tmp/unloaded')[0])
    with m.stopped():
        m.judge('the pass is still held', m.snp('held-rmpopt'))
        m.equal(
            'the firmware is not asked while a pass runs', [], m.events('psp', value=PSP['SNP_SHUTDOWN_EX'])
        )
        m.judge('RMPOPT_BASE stays enabled as long', all(m.bases()), m.bases())
        m.qom_set('snp0', 'hold-rmpopt', NO_HOLD)
    m.wait(lambda: m.run('test -f /tmp/unloaded')[0] == 0, what)
    m.equal(f'{what} ends well', '0', m.check('cat /tmp/unloaded').strip())
    shutdown = m.last('psp', value=PSP['SNP_SHUTDOWN_EX'])
    caught_up = {e['core'] for e in m.verified() if e['address'] > held}
    m.judge('other cores have not caught up by then', len(caught_up) < m.cores(), caught_up)
    m.run_all_cpus()
    m.equal('no RMPOPT after the shutdown', [], m.verified(shutdown))


@scenario('unload during a pass', append='host.modules=no isolcpus=2-3', nodes=True, others=MATRIX[:1])
def test_unload_x86(m):
    """SNP_SHUTDOWN_EX would arrive in the middle of a pass."""
    unload_during_pass(m, 'rmmod kvm_amd && rmmod ccp', 'unloading')
    m.x86_shut_down()
    m.forget_history()
    m.runs('the modules load again', m.load())
    m.set_up()
    m.wait_pass(m.last('psp-done', value=PSP['SNP_INIT_EX']))
    m.all_optimized('and is optimized')


def shutdown_fails(m, begun):
    """kvm-amd has failed to shut SNP down, ccp is going to try again. RMPOPT goes on until then."""
    failed = [e['at'] for e in m.events('psp-done', since=begun, value=PSP['SNP_SHUTDOWN_EX']) if e['result']]
    m.equal('SNP_SHUTDOWN_EX has failed once', 1, len(failed))
    m.equal('RMPOPT_BASE stays enabled on every core', [m.first | 1] * m.cores(), m.bases())
    m.one_pass('after a failing SNP_SHUTDOWN_EX', m.wait_pass(failed[0]), failed[0], regions=m.in_reach())
    m.all_optimized('a failing SNP_SHUTDOWN_EX leaves all optimized')


def used_if_initialized(m, text, since):
    """Once there was time for a pass."""
    m.settle()
    if m.psp('state')['snp'] == 'init':
        wanted, tables, _ = m.now_optimized()
        m.equal(f'{text}: all is optimized', [wanted] * m.cores(), list(tables.values()))
    else:
        m.equal(f'{text}: no RMPOPT', [], m.verified(since))


@scenario('failures of init', append='host.modules=no', others=MATRIX[:1])
def test_init_failures(m):
    """Each command of the way to SNP fails once. Nothing is left half set up."""
    # A page that the firmware does not return is lost.
    leaking = ('SNP_PAGE_RECLAIM:0x1a', 'SHUTDOWN:1')
    for fail in (
        'SNP_PLATFORM_STATUS:1',
        'SNP_FEATURE_INFO:4',
        'PLATFORM_STATUS:1',
        'SNP_INIT_EX:3',
        'SNP_INIT_EX:0x26',
        'INIT:9',
        'INIT:0x18',
        'DF_FLUSH:1',
        'SNP_PLATFORM_STATUS:0x1a:2',
        'SNP_PAGE_RECLAIM:0x1a',
        'SHUTDOWN:1',
        'SNP_SHUTDOWN_EX:0x0f',
        'SNP_SHUTDOWN_EX:1',
    ):
        with m.expect(LEAK if fail in leaking else 'nothing'):
            m.forget_history()
            m.qom_set('psp0', 'fail', fail)
            begun = m.now()
            m.run(m.load())
            used_if_initialized(m, fail, begun)
            begun = m.now()
            m.run('rmmod kvm_amd')
            if fail == 'SNP_SHUTDOWN_EX:1':
                shutdown_fails(m, begun)
            used_if_initialized(m, f'{fail}, unloading', begun)
            begun = m.now()
            m.run('rmmod ccp')
            used_if_initialized(m, f'{fail}, unloaded', begun)
            m.equal(f'{fail}: has happened', '', m.psp('fail'))
            if fail.startswith('SNP_INIT_EX'):
                m.said(f'{fail}: the kernel says what is left behind', LEFT_BEHIND)
                m.fails(f'{fail}: which is true', OFFLINE, 'busy')
        m.runs(f'{fail}: the next time all is well', f'{m.load()} && rmmod kvm_amd && rmmod ccp')
    m.forget_history()
    m.runs('in the end the modules load', m.load())
    m.set_up()
    m.wait_pass(m.last('psp-done', value=PSP['SNP_INIT_EX']))
    m.all_optimized('and all is optimized')


@scenario('failure after SNP_INIT', append='host.modules=no')
def test_flush_failure(m):
    """The firmware has initialized SNP, but to the kernel that failed: it stays so until the next boot."""
    m.qom_set('psp0', 'fail', 'SNP_DF_FLUSH:1')
    for _ in range(2):
        m.run(m.load())
        m.equal('RMPOPT is not set up', [], m.events('base'))
        m.said('the kernel says what is left behind', LEFT_BEHIND)
        m.run('rmmod kvm_amd')
    m.equal('the failure has happened', '', m.psp('fail'))
    m.rmpopt_is_unused()
    m.fails('CPUs stay', OFFLINE, 'busy')


@scenario('failures of guests', nodes=True)
def test_guest_failures(m):
    """
    Each command of a guest's life fails once. The guest is gone, RMPOPT comes back. The
    ninth page is the first of a second call: of a call that has got somewhere, KVM
    lets user space repeat the rest.
    """
    m.set_up()
    m.wait_pass(0)
    m.all_optimized('all is optimized at first')
    for fail in (
        'SNP_GCTX_CREATE:0x1a',
        'SNP_LAUNCH_START:7',
        'SNP_ACTIVATE:0xd',
        'SNP_LAUNCH_UPDATE:0x1a',
        'SNP_LAUNCH_UPDATE:0x1c:9',
        'SNP_LAUNCH_FINISH:2',
        'SNP_DECOMMISSION:0x10',
        'SNP_PAGE_RECLAIM:0x1a',
        'SNP_PAGE_RECLAIM:0x1a:2',
    ):
        command, _ = fail.split(':', 1)
        complaint = {'SNP_DECOMMISSION': DECOMMISSION_WARN, 'SNP_PAGE_RECLAIM': LEAK}.get(command)
        with m.expect(complaint) if complaint else contextlib.nullcontext():
            m.qom_set('psp0', 'fail', fail)
            if complaint:
                m.equal(f'{fail}: the guest ends', 0, m.guests('--memory 16M --node 1').close())
                m.stay_assigned(fail, 1)
                m.warned |= complaint == DECOMMISSION_WARN
            else:
                status, output = m.run('snp_vm --memory 16M --node 1 </dev/null')
                m.judge(f'{fail}: user space is told', status == 1 and 'firmware error' in output, output)
        m.equal(f'{fail}: has happened', '', m.psp('fail'))
        # KVM has destroyed the guest in any case, and asks for a pass.
        end = m.last('psp-done')
        m.one_pass(f'{fail}: after it', m.wait_pass(end), end)
        m.all_optimized(f'{fail}: all is optimized again')
        m.equal(f'{fail}: the next guest is well', 0, m.guests('--memory 16M --node 1').close())
        end = m.last('psp-done', value=PSP['SNP_DECOMMISSION'])
        m.one_pass(f'{fail}: after the next guest', m.wait_pass(end), end)
        m.all_optimized(f'{fail}: all is optimized after the next guest')
    m.equal('ASIDs are free but for the one of the failed SNP_DECOMMISSION', '1', m.asids())


@scenario('kselftest', kernel='full', smp='8,sockets=1,cores=4,threads=2', nodes=True, virtual_time=False)
def test_kselftest(m):
    """The series' own user space tests, unchanged, and with them the next pass."""
    m.set_up()
    m.wait_pass(0)
    m.all_optimized('all is optimized before it')
    status, output = m.run('cd /tmp && rmpopt_test', 900)
    for line in re.findall(r'^(?:not )?ok \d+ .*$', output, re.M):
        m.judge(
            f'rmpopt_test {line.split(" ", 2)[2]}',
            line.startswith('ok') and ' # SKIP' not in line,
            output[-2000:],
        )
    m.judge('rmpopt_test ends well', status == 0, output[-2000:])
    end = m.last('psp-done', value=PSP['SNP_DECOMMISSION'])
    m.wait_pass(end)
    m.all_optimized('all is optimized after it')
    m.equal('no guest is left', [], m.psp('guests'))


def wait_boot(m):
    """A kernel that boots after forget_history()"""
    m.wait_console('^host-init: ready$', m.boot_timeout, m.history_start)
    m.booted = next(
        index
        for index, line in enumerate(m.log.console)
        if index > m.history_start and 'Linux version' in line
    )


def second_kernel(m, command, text, meanwhile=None):
    """Another kernel takes over, and does not stumble over what the first one has left."""
    m.forget_history()
    m.check(f'({command}) >/dev/null 2>&1 &')
    if meanwhile:
        meanwhile()
    wait_boot(m)
    m.judge(text, True)


def sets_nothing_up(m, text, end=None):
    """The kernel has not set RMPOPT up since forget_history(), until END on the console."""
    found = [
        line for line in m.log.console[m.history_start : end] if 'rmpopt_stale' in line and 'setup' in line
    ]
    m.equal(text, [], found)


def kexec(m, start, meanwhile=None):
    """
    start: starts a guest, which may still be there when the second kernel takes over
    meanwhile: is called while it does
    """
    m.set_up()
    m.wait_pass(0)
    m.all_optimized('all is optimized by the first kernel')
    start()
    begun = m.now()
    second_kernel(m, KEXEC, 'a second kernel boots', meanwhile)
    shutdown = m.events('psp', since=begun, value=PSP['SNP_SHUTDOWN_EX'])
    results = [e['result'] for e in m.events('psp-done', since=begun, value=PSP['SNP_SHUTDOWN_EX'])]
    # After a guest it is asked for SNP_DF_FLUSH first.
    m.judge('the first kernel shuts SNP down', results in ([0], [DFFLUSH_REQUIRED, 0]), results)
    m.judge(
        '... before the second one initializes it',
        shutdown[0]['at'] < m.last('psp', value=PSP['SNP_INIT_EX']),
    )
    sets_nothing_up(m, 'the first kernel does not set RMPOPT up for the second one', m.booted)
    m.equal(
        'no RMPOPT from the shutdown to the second SNP_INIT',
        [],
        [e for e in m.verified(shutdown[0]['at']) if e['at'] < m.last('psp-done', value=PSP['SNP_INIT_EX'])],
    )
    m.set_up()
    m.wait_pass(m.last('psp-done', value=PSP['SNP_INIT_EX']))
    m.all_optimized('all is optimized')
    m.equal('guests start and stop', 0, m.guests('--vms 2 --memory 16M --node 1,2').close())


# The kernel's trace events, on its console
STALE_EVENTS = 'trace_event=rmpopt:rmpopt_stale tp_printk'
KEXEC = 'kexec /bin/bzImage /bin/host.cpio "$(cat /proc/cmdline)"'


@scenario('kexec, x86 shutdown', kernel='full', nodes=True, append=STALE_EVENTS, others=MATRIX)
def test_kexec_x86(m):
    """With a guest, as checks of its memory are off for the second kernel."""
    kexec(m, lambda: m.guests('--memory 16M --node 1'))


@scenario(
    'kexec, legacy shutdown',
    kernel='full',
    nodes=True,
    x86_shutdown=False,
    append=STALE_EVENTS,
    others=MATRIX,
)
def test_kexec_legacy(m):
    """Pages of a guest would still be assigned, and no kernel could live with that."""
    kexec(m, lambda: m.guests('--memory 16M --node 1').close())


@scenario('kdump, x86 shutdown', append='crashkernel=512M', kernel='full', nodes=True)
@scenario('kdump, legacy shutdown', append='crashkernel=512M', x86_shutdown=False, kernel='full', nodes=True)
def test_kdump(m):
    m.set_up()
    m.wait_pass(0)
    m.guests('--memory 16M --node 1')
    m.runs(
        'a kernel for the event of a panic is loaded',
        'kexec -p /bin/bzImage /bin/host.cpio "$(sed "s/crashkernel=[^ ]*//" /proc/cmdline) host.modules=no nr_cpus=1"',
    )
    m.panics = True
    begun = m.now()
    m.equal('SNP is on until then', 'init', m.psp('state')['snp'])
    # Not at once, so that there is an answer to this.
    second_kernel(m, 'sleep 1; echo c >/proc/sysrq-trigger', 'it boots after a panic')
    m.excuse('Kernel panic - not syncing: sysrq triggered crash|Call Trace', m.history_start, m.booted)
    # The second one does not have the modules.
    m.equal(
        'the panicking kernel shuts SNP down',
        [0],
        [e['result'] for e in m.events('psp-done', since=begun, value=PSP['SNP_SHUTDOWN_EX'])],
    )
    m.equal('SNP is off', 'uninit', m.psp('state')['snp'])
    m.check('sleep 15')
    m.run_all_cpus()
    m.equal('no RMPOPT after the panic', [], m.verified(m.last('psp', value=PSP['SNP_SHUTDOWN_EX'])))


def set_snp_en(m):
    """SNP_INIT_EX fails, and SnpEn stays set."""
    m.qom_set('psp0', 'fail', 'SNP_INIT_EX:3')
    m.run(m.load())
    m.run('rmmod kvm_amd')
    m.judge('SnpEn is set', m.events('snp-en', value=1))
    m.equal('RMPOPT is not set up', [], m.events('base'))


@scenario('SMT', kernel='full', append='host.modules=no')
def test_smt(m):
    """A kernel boots with SnpEn set and without SMT. CPUs must not come online until SnpEn is clear."""
    set_snp_en(m)
    second_kernel(m, KEXEC.replace('/proc/cmdline)', '/proc/cmdline) nosmt'), 'a second kernel boots')
    control, online = '/sys/devices/system/cpu/smt/control', 'cat /sys/devices/system/cpu/online'
    for _ in range(2):
        m.fails('SMT cannot be turned on', f'echo on >{control}', 'busy')
        m.equal('SMT stays off', 'off', m.check(f'cat {control}').strip())
        m.equal('CPUs stay offline', '0,2', m.check(online).strip())
    m.runs('the modules load', m.load())
    m.set_up()
    m.fails('SMT can still not be turned on', f'echo on >{control}', 'busy')
    m.wait_pass(0)
    m.all_optimized('one thread of each core will do')
    m.runs('the modules can be unloaded', 'rmmod kvm_amd && rmmod ccp')
    m.x86_shut_down()
    m.runs('SMT can be turned on', f'echo on >{control}')
    m.equal('all CPUs are online', '0-3', m.check(online).strip())
    m.forget_history()
    m.runs('the modules load again', m.load())
    m.set_up()
    # The second attempt must not be taken for done.
    for _ in range(2):
        m.fails('SMT cannot be turned off', f'echo off >{control}', 'busy')
        m.equal('SMT stays on', 'on', m.check(f'cat {control}').strip())
    m.runs('the modules can be unloaded again', 'rmmod kvm_amd && rmmod ccp')
    m.x86_shut_down()
    m.runs('SMT can be turned off', f'echo off >{control}')
    m.equal('one thread of each core is online', '0,2', m.check(online).strip())


def enable_tables(m, first, cpus='all'):
    """
    What another kernel may have done with these CPUs before it booted this one by kexec: SnpEn
    is set, and so is RMPOPT_EN, but with other tables than this kernel would take.
    """
    m.check(f'modprobe rmpopt_window first={first // GB} cpus={cpus} && rmmod rmpopt_window')


@scenario(
    'kexec, other tables',
    kernel='full',
    nodes=True,
    x86_shutdown=False,
    append='host.modules=no',
    others=MATRIX,
)
def test_other_tables(m):
    """The first kernel's tables start at 4 GB. The second one has to live with that."""
    m.first = 4 * GB
    set_snp_en(m)
    enable_tables(m, m.first)
    second_kernel(m, KEXEC, 'a second kernel boots')
    m.runs('its modules load', m.load())
    init = m.last('psp-done', value=PSP['SNP_INIT_EX'])
    m.set_up()
    m.equal('RMPOPT_BASE was written by the first kernel alone', [], m.events('base', since=init))
    m.one_pass('the first pass', m.wait_pass(init), init, regions=m.in_reach())
    m.all_optimized('all that the tables cover is optimized')
    m.equal('guests come and go', 0, m.guests('--vms 2 --memory 16M --node 1,2').close())
    m.wait_pass(m.last('psp-done', value=PSP['SNP_DECOMMISSION']))
    m.all_optimized('all is optimized again')
    m.runs('the modules can be reloaded', f'rmmod kvm_amd && rmmod ccp && {m.load()}')
    m.set_up()
    m.wait_pass(m.last('psp-done', value=PSP['SNP_INIT_EX']))
    m.all_optimized('and once more')


@scenario('tables differ', kernel='full', nodes=True, append='host.modules=no')
def test_tables_differ(m):
    """A core whose RMPOPT_BASE is not as on the others, and cannot be changed, keeps its window."""
    m.windows = {0: 4 * GB, 1: GB}
    set_snp_en(m)
    for core, first in m.windows.items():
        enable_tables(m, first, f'{2 * core},{2 * core + 1}')
    begun = m.now()
    m.runs('the modules load', m.load())
    m.set_up()
    m.equal('RMPOPT_BASE stays as it was', [], m.events('base', since=begun))
    # The kernel's worker may be on either core.
    for cpu in range(4):
        begun = m.now()
        m.check(f'echo {1 << cpu:x} >/sys/devices/virtual/workqueue/cpumask')
        m.guests('--memory 16M --node 1').close()
        m.settle()
        m.all_optimized(f'CPU {cpu}: each core has optimized what its window has')
        m.equal(f'CPU {cpu}: ... and has worked for that', {0, 1}, {e['core'] for e in m.verified(begun)})


@scenario(
    'memory above the tables',
    kernel='full',
    snp_host=',sparse-chunks=2,sparse-start=2047G,sparse-stride=1G',
    others=MATRIX[:1],
)
def test_above(m):
    """RAM at 2047 and 2048 GB, and tables that end in between"""
    # Each segment of 64 GB is mapped up to its last piece of RAM.
    m.covered += range(1984 * GB, 2049 * GB, GB)
    m.set_up()
    m.said('the kernel says what is left out', r'RMPOPT enabled on .*, nodes 0, 7 of 8GB')
    init = m.last('psp-done', value=PSP['SNP_INIT_EX'])
    m.one_pass('the first pass', m.wait_pass(init), init, regions=m.in_reach())
    m.all_optimized('all that the tables cover is optimized')
    m.judge('the last one is', all(2047 * GB in t for t in m.tables().values()), m.tables())


@scenario('PSP timeout', kernel='full', nodes=True)
def test_psp_timeout(m):
    """The firmware shuts SNP down long after the kernel has given it up. Nobody may rely on SnpEn any more."""
    m.set_up()
    m.wait_pass(0)
    m.check('echo 2 >/sys/module/ccp/parameters/psp_cmd_timeout')
    m.qom_set('psp0', 'hold', 'SNP_SHUTDOWN_EX')
    # A pass is due. After a guest the firmware would ask for SNP_DF_FLUSH instead.
    m.check('sev_ioctl snp_platform_status 1 2')
    # The firmware is asked once. Without ccp the device could not read memory any more.
    m.run('rmmod kvm_amd')
    m.said('the command times out', 'sev command 0x86 timed out, disabling PSP')
    asked = m.last('psp', value=PSP['SNP_SHUTDOWN_EX'])
    m.judge('SnpEn is still set', m.psp('held') and not m.events('snp-en', since=asked))
    m.check('sleep 45')
    m.qom_set('psp0', 'hold', '')
    m.wait(lambda: m.events('snp-en', since=asked, value=0), 'the firmware to clear SnpEn')
    m.check('sleep 45')
    m.run_all_cpus()
    m.equal('no RMPOPT any more', [], m.verified(asked))
    m.equal(
        'the kernel says so once', 1, sum('RMPOPT is not used any more' in line for line in m.log.console)
    )
    m.equal('RMPOPT was set up once', 1, len(m.kernels_windows()))


@scenario('one CPU', smp='1', kernel='full')
@scenario('64 CPUs', smp='64,sockets=2,cores=16,threads=2', memory='10G', kernel='full', virtual_time=False)
@scenario('no threads', smp='8,sockets=2,cores=4,threads=1', kernel='full')
def test_works(m):
    m.set_up()
    m.wait_pass(0)
    m.all_optimized('all is optimized')
    m.equal('guests come and go', 0, m.guests('--vms 2 --memory 16M').close())
    end = m.last('psp-done', value=PSP['SNP_DECOMMISSION'])
    m.one_pass('after them', m.wait_pass(end), end)
    m.all_optimized('all is optimized again')


@scenario('clearcpuid', append='clearcpuid=103', kernel='full')
@scenario('no RMPOPT', cpu='EPYC-SNP,-rmpopt', kernel='full')
@scenario('contiguous RMP', cpu='EPYC-SNP,-segmented-rmp', kernel='full')
def test_works_without(m):
    m.said('SNP is enabled', r'kvm_amd: SEV-SNP enabled')
    m.equal('guests come and go', 0, m.guests('--vms 2 --memory 16M').close())
    m.rmpopt_is_unused()


@scenario('nosmt', append='nosmt', kernel='full')
def test_nosmt(m):
    m.said('SNP is not initialized with CPUs offline', 'not all CPUs online')
    m.rmpopt_is_unused()


@scenario('maxcpus', append='maxcpus=2', kernel='full')
def test_maxcpus(m):
    m.said('SNP is not initialized with CPUs offline', 'not all CPUs online')
    m.rmpopt_is_unused()
    m.runs(
        'the CPUs can be brought up',
        'for c in /sys/devices/system/cpu/cpu*/online; do grep -q 1 $c || echo 1 >$c || exit; done',
    )
    m.forget_history()
    m.runs('and then the modules load', f'rmmod kvm_amd && rmmod ccp && {m.load()}')
    test_works(m)
