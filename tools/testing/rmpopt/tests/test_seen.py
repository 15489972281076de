# SPDX-License-Identifier: GPL-2.0-only
"""
What the kernel's file in debugfs and the tool rmpopt say, against what the emulator knows: region
by region and core by core, also while pages are converted. What the tool makes of a file is in
test_tool.py.
"""
import json
import re

import numa
from snp_host import DEFAULT, GB, TABLE, TRACE, scenario
from test_windows import Windows, machine

FILE = '/sys/kernel/debug/x86/rmpopt'
SEEN = 'rmpopt -j'
PAGE = 4096
# Of an entry of /proc/PID/pagemap
PFN = (1 << 55) - 1
# A VM that comes and goes. The firmware keeps no pages on a node without CPUs.
GUEST = 'snp_vm --vms 1 --memory 16M --node 2 </dev/null'


class Seen(Windows):
    def asked(self, since):
        """RMPOPT that changes nothing: function 1"""
        return self.events('rmpopt', since=since, value=1)

    def seen(self):
        return json.loads(self.check(SEEN))

    def says(self, text, seen):
        """What the tool has printed is right, of a host with nothing stale."""
        _, tables, _ = self.now_optimized()
        windows: dict[int, list[int]] = {}
        for core in range(self.cores()):
            windows.setdefault(self.window_of(core) // GB, []).append(core)
        self.equal(
            f'{text}: windows',
            [
                # Each core has two threads, side by side.
                {
                    'first': first,
                    'last': first + TABLE // GB - 1,
                    'cores': len(cores),
                    'cpus': f'{2 * cores[0]}-{2 * cores[-1] + 1}',
                }
                for first, cores in sorted(windows.items())
            ],
            seen['windows'],
        )
        wrong = {}
        found = states(seen)
        for region, node in self.ram.items():
            cores = [core for core in tables if region * GB in self.in_window(core)]
            if not cores:
                wanted = {'outside'}
            else:
                wanted = {'optimized' if region * GB in tables[core] else 'assigned' for core in cores}
            if {(node, state) for state in wanted} != {found.pop(region, None)}:
                wrong[region] = wanted
        self.judge(f'{text}: each core has it as the file says', not wrong, f'{wrong} in {seen["ranges"]}')
        self.equal(f'{text}: no more memory than there is', {}, found)


def states(seen):
    """Node and state of each region"""
    return {
        region: (entry['node'], entry['state'])
        for entry in seen['ranges']
        for region in range(entry['first'], entry['last'] + 1)
    }


def seen_machine(append='', kernel='full'):
    return machine(numa.M1, append, kernel) | {'kind': Seen}


@scenario('file, M1', **seen_machine(kernel=DEFAULT))
def test_file(m):
    m.set_up()
    m.first_pass()
    m.equal('only root may read it', '400 0:0', m.check(f'stat -c "%a %u:%g" {FILE}').strip())
    m.trace_ipis()

    begun = m.now()
    seen = m.seen()
    m.says('after the first pass', seen)
    asked = [e for e in m.asked(begun) if e['address'] in m.in_reach()]
    m.equal('one query for each region in reach', m.in_reach(), sorted(e['address'] for e in asked))
    m.equal('and no other', len(asked), len(m.asked(begun)))
    first = {pa: min(m.window_of(c) for c in range(m.cores()) if pa in m.in_window(c)) for pa in m.in_reach()}
    m.equal(
        'by a core of the first window that has it',
        [],
        [e for e in asked if m.window_of(e['core']) != first[e['address']]],
    )
    m.equal('by one core of each window', 2, len({e['core'] for e in asked}))
    m.check('rmpopt -c')

    vms = m.guests('--vms 2 --memory 16M --node 2')
    seen = m.seen()
    m.says('with guests', seen)
    m.judge('it is assigned', (2, 'assigned') in states(seen).values())
    m.check('rmpopt -c')
    m.equal('guests end well', 0, vms.close())
    m.settle()
    m.says('after they ended', m.seen())

    # In one command: the clock jumps meanwhile.
    begun = m.now()
    status, output = m.run(f'{GUEST} >/dev/null && {SEEN} && rmpopt -c')
    m.equal('rmpopt -c finds something', 1, status)
    seen, end = json.JSONDecoder().raw_decode(output)
    stale = {region for region, (_, state) in states(seen).items() if state == 'stale'}
    cleared = {e['address'] // GB for e in m.events('clear', since=begun)}
    never = {pa // GB for pa in m.never_optimizable()}
    m.equal('and says what', f'{len(stale)} GB stale', output[end:].strip())
    m.judge(
        'what was assigned is stale until the next pass',
        cleared <= stale <= cleared | never and cleared,
        f'{stale} stale, {cleared} cleared',
    )
    m.settle()
    m.says('after the pass', m.seen())
    m.equal('no IPI on account of RMPOPT', 0, m.ipis())


@scenario('file without RMPOPT set up', **seen_machine('host.modules=no'))
def test_not_set_up(m):
    m.equal('only the version', 'version 1\n', m.check(f'cat {FILE}'))
    m.equal('no RMPOPT', [], m.events('rmpopt'))
    m.equal('rmpopt -c finds that', (1, 'RMPOPT is not set up\n'), m.run('rmpopt -c'))


@scenario('no file without RMPOPT', kernel='full', append='clearcpuid=103')
def test_no_file(m):
    m.fails('there is no file', f'cat {FILE}', 'No such file')
    m.fails('the tool says why', 'rmpopt', 'CPU, BIOS or kernel have no RMPOPT')


def pages_of(m, pid):
    """By region, how many pages a process has there"""
    found: dict[int, int] = {}
    for line in m.check(f'cat /proc/{pid}/maps').splitlines():
        start, end = (int(address, 16) // PAGE for address in line.split()[0].split('-'))
        # Those of the kernel, as [vsyscall], have none.
        if start >= 1 << 51:
            continue
        dump = f'dd if=/proc/{pid}/pagemap bs=8 skip={start} count={end - start} 2>/dev/null | od -An -v -tx8'
        for entry in (int(word, 16) for word in m.check(dump).split()):
            if entry >> 63:
                region = (entry & PFN) * PAGE // GB
                found[region] = found.get(region, 0) + 1
    return found


@scenario('process, M1', **seen_machine())
def test_process(m):
    """How much of its memory is optimized depends on where it may run."""
    m.set_up()
    m.first_pass()
    for cpus, core in (('0-3', 0), ('4-7', 2)):
        program = m.program(f'taskset -c {cpus} sleep 2147483647')
        pid = m.check(f'cat {program.dir}/pid').strip()
        m.wait(lambda pid=pid: 'sleep' in m.check(f'cat /proc/{pid}/comm'), 'taskset to start sleep')
        pages, found = pages_of(m, pid), states(m.seen())
        reach = {pa // GB for pa in m.in_window(core)}
        sums = dict.fromkeys(('optimized', 'assigned', 'stale', 'outside'), 0)
        for region, number in pages.items():
            sums[found[region][1] if region in reach else 'outside'] += number
        megabytes = {state: f'{number * PAGE / (1 << 20):.1f} MB' for state, number in sums.items()}
        first = m.window_of(core) // GB
        m.judge(f'CPUs {cpus}: the process has memory', sum(sums.values()) > 100, sums)
        m.equal(
            f'CPUs {cpus}: how much of it is optimized',
            f'CPUs {cpus} (window {first}-{first + TABLE // GB - 1}): {megabytes["optimized"].split()[0]}'
            f' of {sum(sums.values()) * PAGE / (1 << 20):.1f} MB optimized'
            + ''.join(
                f'{"," if index else ";"} {megabytes[state]} {state}'
                for index, state in enumerate(
                    [state for state in ('assigned', 'stale', 'outside') if sums[state]]
                )
            ),
            m.check(f'rmpopt -p {pid} --exact').strip(),
        )
        program.kill()


@scenario('follow, M1', **seen_machine())
def test_follow(m):
    m.set_up()
    m.first_pass()
    # Nothing is due any more.
    m.settle()
    program = m.program('rmpopt -f')
    enabled = f'cat {TRACE}/instances/rmpopt-*/events/rmpopt/enable'
    m.wait(lambda: m.run(enabled) == (0, '1\n'), 'rmpopt -f')
    begun = m.now()
    m.check(GUEST)
    m.settle()
    cleared = {e['address'] // GB for e in m.events('clear', since=begun)}
    again = r'region (\d+) visited in window \d+: optimized, (\d+\.\d+) s after it became stale'
    found = [
        (int(region), float(seconds)) for region, seconds in re.findall(again, '\n'.join(program.output()))
    ]
    m.equal('what a guest has cost is optimized again', cleared, {region for region, _ in found})
    m.judge('after the delay', found and all(9.9 < seconds < 12 for _, seconds in found), found)
    m.equal('it ends well', 0, program.kill())
    m.equal('its tracing instance is gone', '', m.check(f'ls {TRACE}/instances').strip())


def seen_in_storm(m, conversions):
    """
    The file is read while pages of both nodes are converted on all CPUs, in vCPUs that run in
    parallel. No guest ends, so whoever asks is a reader.
    """
    m.set_up()
    m.first_pass()
    m.check('echo 20 >/sys/module/sev/parameters/rmpopt_delay_ms 2>/dev/null || :')
    begun = m.now()
    m.check(
        f'''(modprobe rmp_storm conversions={conversions} seed=7; echo $? >/tmp/calm) >/dev/null 2>&1 &
		while [ ! -f /tmp/calm ]; do {SEEN} >>/tmp/seen || exit; done''',
        900,
    )
    m.equal('the storm is over', '0', m.check('cat /tmp/calm').strip())
    seen, rest = [], m.check('cat /tmp/seen')
    while rest:
        one, end = json.JSONDecoder().raw_decode(rest)
        seen.append(states(one))
        rest = rest[end:].lstrip()
    asked = m.asked(begun)
    step = len(m.in_reach())
    m.equal(f'{len(seen)} times a query for each region in reach', step * len(seen), len(asked))
    wrong, kinds = [], set()
    for number, found in enumerate(seen):
        answers = {e['address'] // GB: e['result'] for e in asked[number * step : (number + 1) * step]}
        for region, (_, state) in found.items():
            kinds.add(state)
            if state in ('optimized', 'assigned') and bool(answers[region]) != (state == 'optimized'):
                wrong.append((number, region, state))
    m.equal('each time the file says what the hardware has answered', [], wrong)
    m.equal('all states are among it', {'optimized', 'assigned', 'stale', 'outside'}, kinds)
    m.check('rmmod rmp_storm')
    m.settle()
    m.says('when it is calm again', m.seen())


@scenario('file in a storm, M1', virtual_time=False, **seen_machine())
@scenario('file in a storm, M1, debug', virtual_time=False, **seen_machine('kunit.enable=0', 'full-debug'))
def test_storm(m):
    seen_in_storm(m, 20000)
