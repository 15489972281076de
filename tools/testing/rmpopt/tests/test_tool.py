# SPDX-License-Identifier: GPL-2.0-only
"""
Tests of tools/arch/x86/rmpopt with files that are made up, in place of those of debugfs, sysfs,
/proc and tracefs. The tool is built with sanitizers, and each run is a fork of one process: to
start a program with sanitizers takes longer than most of these tests.
"""
import dataclasses
import fcntl
import itertools
import json
import os
import pathlib
import pty
import random
import re
import shutil
import signal
import struct
import subprocess
import tempfile
import termios
import time
import xml.etree.ElementTree

import pytest

import rmpopt_map
from judge import TOP

SOURCE = TOP / 'tools/arch/x86/rmpopt'
SANITIZERS = ('-g', '-O1', '-fsanitize=address,undefined', '-fno-sanitize-recover=all')
# Seconds after which a run hangs
LIMIT = 20
# The exit status of the sanitizers, which the tool does not have
FOUND = 99
GB = 1 << 30

# Includes the tool. With "serve" as its only argument, it takes a line from stdin for each run: a
# number, by which files are named, "!" if leaks are to be looked for, which takes longer than
# everything else, and arguments. The answer is the exit status. A run that takes too long ends by
# SIGALRM. mkdir() and rmdir() do what those of tracefs do.
DRIVER = r'''
#define _GNU_SOURCE
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

static int driver_mkdir(const char *name, mode_t mode)
{
	char a[4096], b[4096];

	if (mkdir(name, mode))
		return -1;
	snprintf(a, sizeof(a), "%s/../../pipe", name);
	snprintf(b, sizeof(b), "%s/trace_pipe", name);
	if (link(a, b) && errno != ENOENT)
		abort();
	snprintf(a, sizeof(a), "%s/../../enable", name);
	snprintf(b, sizeof(b), "%s/events", name);
	if (access(a, F_OK))
		return 0;
	mkdir(b, 0700);
	strcat(b, "/rmpopt");
	mkdir(b, 0700);
	strcat(b, "/enable");
	return link(a, b);
}

static int driver_rmdir(const char *name)
{
	static const char *const names[] = { "trace_pipe", "events/rmpopt/enable" };
	char a[4096], b[4096];
	int i, fd;

	for (fd = 0; fd < 64; fd++) {
		snprintf(a, sizeof(a), "/proc/self/fd/%d", fd);
		memset(b, 0, sizeof(b));
		if (readlink(a, b, sizeof(b) - 1) > 0 && !strncmp(b, name, strlen(name))) {
			errno = EBUSY;
			return -1;
		}
	}
	for (i = 0; i < 2; i++) {
		snprintf(a, sizeof(a), "%s/%s", name, names[i]);
		unlink(a);
	}
	snprintf(a, sizeof(a), "%s/events/rmpopt", name);
	rmdir(a);
	snprintf(a, sizeof(a), "%s/events", name);
	rmdir(a);
	return rmdir(name);
}

#define main rmpopt_main
#define mkdir driver_mkdir
#define rmdir driver_rmdir
#include "rmpopt.c"
#undef main

static int leaks;

int __lsan_is_turned_off(void);
int __lsan_is_turned_off(void)
{
	return !leaks;
}

static FILE *reopen(const char *number, const char *name, const char *mode, FILE *file)
{
	char path[256];

	snprintf(path, sizeof(path), "%s.%s", number, name);
	return freopen(path, mode, file);
}

static void serve(char *line)
{
	char *args[64] = { "rmpopt" }, **arg = args + 1, *number;

	line[strlen(line) - 1] = '\0';
	number = strtok(line, "\x1f");
	leaks = !strcmp(strtok(NULL, "\x1f"), "!");
	for (*arg = strtok(NULL, "\x1f"); *arg; *arg = strtok(NULL, "\x1f"))
		arg++;
	if (!reopen(number, "in", "r", stdin) || !reopen(number, "out", "w", stdout) ||
	    !reopen(number, "err", "w", stderr))
		abort();
	exit(rmpopt_main(arg - args, args));
}

int main(int argc, char **argv)
{
	char line[65536];
	int status;
	pid_t pid;

	if (argc != 2 || strcmp(argv[1], "serve")) {
		alarm(LIMIT);
		return rmpopt_main(argc, argv);
	}
	while (fgets(line, sizeof(line), stdin)) {
		pid = fork();
		if (!pid) {
			alarm(LIMIT);
			serve(line);
		}
		waitpid(pid, &status, 0);
		printf("%d\n", WIFEXITED(status) ? WEXITSTATUS(status) : -WTERMSIG(status));
		fflush(stdout);
	}
	return 0;
}
'''

EXAMPLE = '''\
version 1
window 0-2047 cores 128 cpus 0-127,256-383
window 4096-6143 cores 128 cpus 128-255,384-511
0-1 node 0 assigned
4-512 node 0 optimized
513-513 node 0 stale
514-1011 node 0 optimized
1024-2047 node 0 optimized
2048-2061 node 0 outside
4096-6143 node 1 optimized
'''
EXAMPLE_NODES = {0: '0-127,256-383', 1: '128-255,384-511'}

# One window for two nodes with CPUs, and one node without
SHARED = '''\
version 1
window 0-2047 cores 4 cpus 0-7
0-2 node 0 optimized
3-3 node 1 assigned
4-6 node 1 optimized
7-8 node 2 optimized
'''

NOT_SET_UP = 'version 1\n'

# What prints all of a file
OUTPUTS: list[list[str]] = [[], ['-m'], ['-j'], ['-s', '-']]


@dataclasses.dataclass
class Done:
    status: int
    out: str
    err: str


class Tool:
    """A process that runs the tool in forks of itself, and its directory."""

    def __init__(self, directory: pathlib.Path):
        self.directory = directory
        self.program = directory / 'rmpopt'
        driver = directory / 'driver.c'
        driver.write_text(DRIVER, encoding='utf-8')
        options = [*SANITIZERS, f'-DLIMIT={LIMIT}', f'-I{SOURCE}']
        subprocess.run(['cc', *options, '-o', self.program, driver], check=True)
        found = f'exitcode={FOUND}'
        self.environment = {**os.environ, 'ASAN_OPTIONS': found, 'UBSAN_OPTIONS': found}
        self.environment.pop('NO_COLOR', None)
        self.process = self.popen('serve', cwd=directory, stdin=subprocess.PIPE)

    def popen(self, *args, **options):
        """The tool as a process of its own."""
        command = ['setpriv', '--pdeathsig', 'KILL', self.program, *args]
        options = {'stdout': subprocess.PIPE, 'text': True, 'env': self.environment, **options}
        return subprocess.Popen(command, **options)  # pylint: disable=consider-using-with

    def run(self, *args, stdin='', leaks=False):
        return self.run_all([(args, stdin)], leaks)[0]

    def run_all(self, runs, leaks=False):
        """What becomes of each of many runs, given their arguments and what they read from stdin."""
        lines = []
        for number, (args, stdin) in enumerate(runs):
            (self.directory / f'{number}.in').write_bytes(stdin.encode('latin-1'))
            lines.append('\x1f'.join(map(str, (number, '!' if leaks else '.', *args))) + '\n')
        self.process.stdin.write(''.join(lines))
        self.process.stdin.flush()
        # All of them, before anything may fail.
        statuses = [int(self.process.stdout.readline()) for _ in runs]
        return [self.done(number, status) for number, status in enumerate(statuses)]

    def done(self, number, status):
        paths = [self.directory / f'{number}.{name}' for name in ('out', 'err')]
        out, err = (path.read_bytes().decode('latin-1') for path in paths)
        assert status in (0, 1, 2), err
        # A message is one line, which says who has failed.
        assert re.fullmatch('rmpopt: .+\n' if status == 2 else '', err), err
        return Done(status, out, err)


@pytest.fixture(scope='session', name='tool')
def fixture_tool():
    with tempfile.TemporaryDirectory() as directory:
        # Other users must be able to run it.
        os.chmod(directory, 0o755)
        tool = Tool(pathlib.Path(directory))
        yield tool
        tool.process.stdin.close()
        assert tool.process.wait(LIMIT) == 0


class Host:
    """What the tool finds on a machine."""

    def __init__(self, tool, directory):
        self.tool = tool
        self.directory = directory
        self.sysfs = directory / 'sys'
        self.sysfs.mkdir()
        self.proc = directory / 'proc'
        self.tracing = directory / 'tracing'

    def write(self, path, content):
        path = self.directory / path
        path.parent.mkdir(parents=True, exist_ok=True)
        if isinstance(content, bytes):
            path.write_bytes(content)
        else:
            path.write_text(content, encoding='utf-8')
        return path

    def nodes(self, nodes, online=None):
        """The CPUs of each node. All of them are online unless told otherwise."""
        for node, cpus in nodes.items():
            self.write(f'sys/devices/system/node/node{node}/cpulist', f'{cpus}\n')
        online = ','.join(filter(None, nodes.values())) if online is None else online
        self.write('sys/devices/system/cpu/online', f'{online}\n')

    def kernel(self, text):
        return self.write('sys/kernel/debug/x86/rmpopt', text)

    def run(self, *args, **options):
        return self.tool.run('--sysfs', self.sysfs, *args, **options)

    def good(self, *args, text=None, status=0, **options):
        """The output of a run that must succeed."""
        if text is not None:
            self.kernel(text)
        done = self.run(*args, **options)
        assert done.status == status, done
        return done.out

    def fails(self, message, *args, stdin=''):
        done = self.run(*args, stdin=stdin)
        assert (done.status, done.out) == (2, '')
        assert message in done.err


@pytest.fixture(name='host')
def fixture_host(tool, tmp_path):
    return Host(tool, tmp_path)


@pytest.fixture(name='example')
def fixture_example(host):
    host.nodes(EXAMPLE_NODES)
    host.kernel(EXAMPLE)
    return host


# What the tool has to make of a file, by other means


class Model:
    """A file without errors."""

    def __init__(self, text):
        self.windows = []
        self.ranges = []
        for line in text.splitlines()[1:]:
            words = line.split()
            if words[0] == 'window':
                first, last = map(int, words[1].split('-'))
                self.windows.append((first, last, int(words[3]), words[5]))
            elif words[0][0].isdigit():
                first, last = map(int, words[0].split('-'))
                self.ranges.append((first, last, int(words[2]), words[3]))

    def regions(self):
        """The node and the state of each region."""
        return {
            region: (node, state)
            for first, last, node, state in self.ranges
            for region in range(first, last + 1)
        }

    def states(self):
        """The number of regions by node and state."""
        nodes: dict[int, dict[str, int]] = {}
        for node, state in self.regions().values():
            sums = nodes.setdefault(node, dict.fromkeys(('outside', 'optimized', 'stale', 'assigned'), 0))
            sums[state] += 1
        return nodes

    def optimized(self, window):
        """The number of regions that are optimized in a window, by node."""
        nodes: dict[int, int] = {}
        for region, (node, state) in self.regions().items():
            if state == 'optimized' and self.windows[window][0] <= region <= self.windows[window][1]:
                nodes[node] = nodes.get(node, 0) + 1
        return nodes


def cpu_list(text):
    cpus: list[int] = []
    for part in text.split(','):
        first, _, last = part.partition('-')
        cpus += range(int(first), int(last or first) + 1)
    return cpus


def random_host(rng):
    """A file and the CPUs of its nodes. Each node has 16 CPUs on 8 cores, and one or two windows."""
    count = rng.randint(1, 5)
    nodes = {node: f'{node * 16}-{node * 16 + 15}' for node in range(count)}
    firsts = rng.sample(range(0, 12000, 50), rng.randint(1, 4))
    cpus: dict[int, list[int]] = {first: [] for first in firsts}
    for half in range(2 * count):
        cpus[rng.choice(firsts)] += range(half * 8, half * 8 + 8)
    lines = ['version 1']
    for first in firsts:
        if cpus[first]:
            text = ','.join(map(str, cpus[first]))
            lines.append(f'window {first}-{first + 2047} cores {len(cpus[first]) // 2} cpus {text}')
    last = -1
    for _ in range(rng.randint(0, 120)):
        first = last + 1 + rng.choice((0, 0, rng.randint(1, 300)))
        last = first + rng.choice((0, rng.randint(0, 10), rng.randint(0, 600)))
        reached = any(word <= last and first <= word + 2047 for word in firsts)
        state = rng.choice(('optimized', 'optimized', 'stale', 'assigned')) if reached else 'outside'
        lines.append(f'{first}-{last} node {rng.randrange(count)} {state}')
    return '\n'.join(lines) + '\n', nodes


# The table


def test_table(example):
    assert (
        example.good()
        == '''\
node  cores       window  own memory     optimized  other memory     optimized
   0    128       0-2047     2048 GB    2031 GB  99.1 %       2048 GB       0 GB   0.0 %
   1    128    4096-6143     2048 GB    2048 GB 100.0 %       2048 GB       0 GB   0.0 %
not optimized: 2 GB assigned, 1 GB stale, 14 GB outside of all windows
'''
    )


def rows(out):
    """The words of each line of the table but the first."""
    return [line.replace(' GB', '').replace(' %', '').split() for line in out.splitlines()[1:]]


def test_table_of_shared_window(host):
    host.nodes({0: '0-1', 1: '2-7', 2: ''})
    assert rows(host.good(text=SHARED)) == [
        ['0', '1', '0-2047', '3', '3', '100.0', '6', '5', '83.3'],
        ['1', '3', '0-2047', '4', '3', '75.0', '5', '5', '100.0'],
        ['2', '0', '-', '2'],
        ['not', 'optimized:', '1', 'assigned'],
    ]


def test_table_of_node_with_two_windows(host):
    host.nodes({0: '0-7'})
    text = 'version 1\nwindow 0-9 cores 2 cpus 0,4,1,5\nwindow 5-14 cores 2 cpus 2,6,3,7\n0-14 node 0 optimized\n'
    assert rows(host.good(text=text)) == [
        ['0', '2', '0-9', '15', '10', '66.6', '0', '0', '-'],
        ['0', '2', '5-14', '15', '10', '66.6', '0', '0', '-'],
        ['not', 'optimized:', 'nothing'],
    ]


def test_cores_are_rounded(host):
    """One of the cores has one CPU."""
    host.nodes({0: '0-3', 1: '4-6'})
    assert [row[1] for row in rows(host.good(text=SHARED.replace('0-7', '0-6')))[:2]] == ['2', '2']


def test_without_nodes_all_is_node_0(host):
    assert rows(host.good(text=SHARED))[0][:4] == ['0', '4', '0-2047', '3']


def test_percentage_is_cut_off(host):
    text = 'version 1\nwindow 0-2047 cores 1 cpus 0\n0-1999 node 0 optimized\n2000-2000 node 0 stale\n'
    assert rows(host.good(text=text)) == [
        ['0', '1', '0-2047', '2001', '2000', '99.9', '0', '0', '-'],
        ['not', 'optimized:', '1', 'stale'],
    ]


def test_cpus_without_window(example):
    example.nodes(EXAMPLE_NODES, online='0-511,520-523,530')
    assert (
        example.good().splitlines()[-1] == 'CPUs 520-523,530 have no window: all that they write is checked'
    )


@pytest.mark.parametrize('options', [[], ['-m']])
def test_not_set_up(host, options):
    assert (
        host.good(*options, text=NOT_SET_UP) == "RMPOPT is not set up: 'dmesg | grep SEV-SNP' may tell why\n"
    )


def test_unknown_words_are_ignored(example):
    before = example.good()
    lines = EXAMPLE.splitlines()
    lines[1:1] = ['windows 3', 'Pass 12 of 13', 'x', 'versions', 'window2 0-3 cores 1 cpus 0', 'a\x80\x1b']
    lines.append('cores_behind 3')
    assert example.good(text='\n'.join(lines) + '\n') == before


def test_copy(example):
    before = example.good()
    example.kernel('')
    copy = example.write('copy', EXAMPLE)
    assert example.good('-i', copy) == before
    assert example.good('--input', copy) == before
    done = example.run('-i', '-', stdin=EXAMPLE)
    assert (done.status, done.out) == (0, before)


# Errors of the file

VERSION = 'version 1\n'
WINDOW = 'window 0-2047 cores 2 cpus 0-3\n'
MEMORY = '0-1 node 0 assigned\n'
NOT_A_VERSION = "not 'version NUMBER'"
NOT_A_WINDOW = "not 'window FIRST-LAST cores NUMBER cpus LIST'"
NOT_CPUS = 'not a list of CPUs, or one of them has a window already'
NOT_MEMORY = "not 'FIRST-LAST node NODE STATE'"
NOT_IN_ORDER = 'overlaps with the line before, or is out of order'
NOT_A_WORD = 'neither a number nor a word that may be here'
# Message, lines before, and lines of which each is wrong after these
WRONG_LINES: list[tuple[str, str, list[str]]] = [
    (NOT_A_VERSION, '', ['', 'version', 'version ', 'version x', 'version 1 ', 'version 1x', ' version 1']),
    (
        NOT_A_VERSION,
        '',
        ['Version 1', 'version -1', 'version 4294967295', f'version {"9" * 30}', 'version 1\r'],
    ),
    (NOT_A_VERSION, '', ['windows 1', MEMORY[:-1], WINDOW[:-1]]),
    ('unknown version', '', ['version 0', 'version 2', 'version 10', 'version 4294967294']),
    (NOT_A_WINDOW, VERSION, ['window', 'window ', 'window 0', 'window 0-', 'window -5', 'window 5-4']),
    (NOT_A_WINDOW, VERSION, ['window 0-9', 'window 0-9 cores', 'window 0-9 cores 2 cpus', 'window:0-9']),
    (NOT_A_WINDOW, VERSION, ['window  0-9 cores 2 cpus 0-3', 'window 0-9  cores 2 cpus 0-3']),
    (NOT_A_WINDOW, VERSION, ['window\t0-9 cores 2 cpus 0-3', 'window 0-9 cores x cpus 0-3']),
    (NOT_A_WINDOW, VERSION, ['window 0-16777216 cores 2 cpus 0-3', 'window 0-9 cores 65536 cpus 0-3']),
    (NOT_CPUS, VERSION, [f'window 0-9 cores 2 cpus {cpus}' for cpus in ('', '0-', '-3', '3-0', '0,', ',0')]),
    (NOT_CPUS, VERSION, [f'window 0-9 cores 2 cpus {cpus}' for cpus in ('0,,1', '0-3 ', '0-3x', '0-3:1/2')]),
    (NOT_CPUS, VERSION, [f'window 0-9 cores 2 cpus {cpus}' for cpus in ('65536', '0-65536', '0-3,3')]),
    (NOT_CPUS, VERSION + WINDOW, ['window 5-2052 cores 1 cpus 4,3']),
    ('no cores, or more than CPUs', VERSION, ['window 0-9 cores 0 cpus 0-3', 'window 0-9 cores 5 cpus 0-3']),
    (NOT_MEMORY, VERSION, ['0', '0-', '0-1', '0-1 node', '0-1 node 0', '0-1 node x stale', '0x1-2']),
    (NOT_MEMORY, VERSION, ['1-0 node 0 stale', '0 node 0 stale', '0-1  node 0 stale', '0-1 node  0 stale']),
    (NOT_MEMORY, VERSION, ['0-16777216 node 0 stale', '0-4294967296 node 0 stale', '0-1 node 1024 stale']),
    (
        'unknown state',
        VERSION,
        [f'0-1 node 0 {state}' for state in ('', ' stale', 'stale ', 'Stale', 'stal')],
    ),
    ('unknown state', VERSION, [f'0-1 node 0 {state}' for state in ('stales', 'stale 1', 'stale\r', 'lost')]),
    (
        NOT_IN_ORDER,
        f'{VERSION}4-7 node 0 stale\n',
        [f'{r} node 0 stale' for r in ('4-7', '7-8', '0-3', '5-6', '3-8')],
    ),
    (NOT_A_WORD, VERSION, ['', ' 0-1 node 0 stale', '-', '#', '_x', '\x80', 'version 1']),
    (NOT_A_WORD, VERSION + MEMORY, ['version 2']),
    ('not text', VERSION, ['more\0', '0-1 node 0 stale\0']),
]
# Message, number of the line, file
WRONG = [
    *(
        (message, before.count('\n') + 1, f'{before}{line}\n')
        for message, before, lines in WRONG_LINES
        for line in lines
    ),
    ('cut off', 1, 'version 1'),
    ('cut off', 2, f'{VERSION}0-1 node 0 stale'),
    ('cut off', 2, f'{VERSION}more'),
]


def test_wrong_file(judge, tool):
    runs = [(['-i', '-'], text) for _, _, text in WRONG]
    for (message, number, text), done in zip(WRONG, tool.run_all(runs)):
        expected = (
            f'rmpopt: standard input:{number}: {message}: copy it again, or use the rmpopt of that kernel\n'
        )
        judge.equal(f'{text!r} is refused', (2, '', expected), (done.status, done.out, done.err))


def test_no_leaks(judge, example):
    """On each way to the end of the program, but for those of -f, which end with the process"""
    Process(example, '0-3,128', [(512, at(4) + at(5))])
    Process(example, '0', [(0, [PRESENT])], pid=8)
    process = ['--proc', example.proc]
    ways = [*OUTPUTS, ['-c'], ['-h'], ['-s', '/dev/null']]
    ways += [
        ['-p', '7', *process],
        ['-p', '8', *process],
        ['-p', '9', *process],
        ['-i', '/dev/null'],
        ['-i', '/'],
    ]
    for options in ways:
        done = example.run(*options, leaks=True)
        judge.judge(f'{options}', done.status in (0, 1, 2), done)
    # One file for each message
    texts = {message: text for message, _, text in WRONG}
    for message, done in zip(
        texts, example.tool.run_all([(['-i', '-'], text) for text in texts.values()], True)
    ):
        judge.equal(message, 2, done.status)


def test_message_names_file(host):
    copy = host.write('copy', 'version 1\n0-1 node 0 lost\n')
    host.fails(f'rmpopt: {copy}:2: unknown state', '-i', copy)


def test_empty_file(host):
    host.fails('empty: copy the file again', '-i', '-')


def test_last_of_what_is_allowed(host):
    text = 'version 1\nwindow 0-16777215 cores 65535 cpus 0-65535\n0-16777215 node 1023 optimized\n'
    done = json.loads(host.good('-j', text=text))
    assert done['nodes'][0]['optimized'] == 1 << 24
    assert done['shares'][0]['other_optimized'] == 1 << 24
    for options in OUTPUTS:
        host.good(*options)


def test_debugfs_not_mounted(host):
    (host.sysfs / 'kernel/debug').mkdir(parents=True)
    host.fails("No such file or directory: mount it: 'mount -t debugfs none /sys/kernel/debug'")


def test_kernel_without_file(host):
    (host.sysfs / 'kernel/debug/x86').mkdir(parents=True)
    host.fails("No such file or directory: CPU, BIOS or kernel have no RMPOPT, 'dmesg' may tell why")


def test_no_copy(host):
    host.fails('No such file or directory: make a copy of', '-i', host.directory / 'none')


def test_directory_is_no_copy(host):
    host.fails('Is a directory', '-i', host.directory)


def test_not_root(tool):
    with tempfile.TemporaryDirectory() as directory:
        host = Host(tool, pathlib.Path(directory))
        host.kernel(EXAMPLE).chmod(0o400)
        # As that of debugfs
        (host.sysfs / 'kernel/debug').chmod(0o700)
        os.chmod(directory, 0o755)
        user = {'user': 65534, 'group': 65534, 'extra_groups': []} if os.geteuid() == 0 else {}
        if not user:
            (host.sysfs / 'kernel/debug').chmod(0)
        with tool.popen('--sysfs', str(host.sysfs), stderr=subprocess.PIPE, **user) as process:
            out, err = process.communicate(timeout=LIMIT)
        (host.sysfs / 'kernel/debug').chmod(0o700)
    assert (process.returncode, out) == (2, '')
    assert 'Permission denied: run rmpopt as root' in err


@pytest.mark.parametrize('path', ['cpu/online', 'node/node0/cpulist'])
@pytest.mark.parametrize('text', ['x\n', '0-\n', '0-511 \n', '0-3,3\n', '65536\n', ' \n'])
def test_wrong_list_in_sysfs(example, path, text):
    example.write(f'sys/devices/system/{path}', text)
    if path == 'node/node0/cpulist' and text == '0-3,3\n':
        # Node 0 is no news for a CPU.
        example.good()
    else:
        example.fails(f'{path}: not a list of CPUs')


def test_other_files_among_nodes(example):
    before = example.good()
    for name in ('node', 'nodes', 'node1x', 'node1024', 'possible', 'has_cpu'):
        example.write(f'sys/devices/system/node/{name}/cpulist', 'x\n')
    assert example.good() == before


# Maps


def test_map(example):
    assert (
        example.good('-m')
        == '''\
window 0: 0-2047 GB, 128 cores
window 1: 4096-6143 GB, 128 cores

         GB  0 1   GB optimized
        0-1  a .   0/2
      4-512  # .   509/509
        513  - .   0/1
   514-1011  # .   498/498
  1024-2047  # .   1024/1024
  2048-2061  . .   0/14
  4096-6143  . #   2048/2048

  a  pages are assigned to a guest or the firmware
  -  stale: the next pass visits it
  #  optimized: no RMP checks
  .  not in this window
'''
    )


def test_map_cuts_at_windows(host):
    """A range may reach beyond a window, if another one has the rest."""
    text = (
        'version 1\nwindow 0-99 cores 1 cpus 0\nwindow 50-149 cores 1 cpus 1\nwindow 120-130 cores 1 cpus 2\n'
        'window 0-0 cores 1 cpus 3\n0-120 node 0 optimized\n121-140 node 0 stale\n'
    )
    out = host.good('-m', text=text)
    assert re.findall(r'^ +(\S+)  (. . . .)   (\S+)$', out, re.M) == [
        ('0', '# . . #', '1/1'),
        ('1-49', '# . . .', '49/49'),
        ('50-99', '# # . .', '50/50'),
        ('100-119', '. # . .', '20/20'),
        ('120', '. # # .', '1/1'),
        ('121-130', '. - - .', '0/10'),
        ('131-140', '. - . .', '0/10'),
    ]


MAP_ROW = re.compile(r'^ *([0-9]+)(?:-([0-9]+))?  ([#.a -]+?)  ([0-9]+)/([0-9]+)$', re.M)


def map_rows(out):
    return [
        (int(first), int(last or first), cells.replace(' ', ''), int(part), int(whole))
        for first, last, cells, part, whole in MAP_ROW.findall(out)
    ]


def many_ranges(count=3000):
    """A long range, many short ones of which one is not optimized, and a long one."""
    lines = ['version 1', 'window 0-8191 cores 1 cpus 0', '0-999 node 0 optimized']
    for region in range(1000, 1000 + count):
        lines.append(f'{region}-{region} node {region % 2} optimized')
    lines[2 + 1500] = lines[2 + 1500].replace('optimized', 'assigned')
    lines.append(f'{1000 + count}-8000 node 0 stale')
    return '\n'.join(lines) + '\n'


def test_map_merges_rows(host):
    out = map_rows(host.good('-m', text=many_ranges()))
    assert 24 < len(out) <= rmpopt_map.TEXT_ROWS
    # The long ranges have rows of their own, but for their ends.
    assert any(row[0] == 0 and row[1] == 895 and row[3] == row[4] for row in out)
    assert any(row[0] == 4096 and row[1] == 7935 and row[2] == '-' for row in out)
    # Nothing is hidden, and nothing counts twice.
    assert [row[2] for row in out if row[0] <= 2499 <= row[1]] == ['a']
    assert sum(row[2] == 'a' for row in out) == 1
    assert sum(row[3] for row in out) == 3999
    assert sum(row[4] for row in out) == 8001
    assert all(before[1] < row[0] for before, row in itertools.pairwise(out))


def test_map_does_not_merge_without_need(host):
    lines = [f'{2 * i}-{2 * i} node 0 optimized' for i in range(rmpopt_map.TEXT_ROWS)]
    text = '\n'.join([VERSION + WINDOW.rstrip(), *lines, ''])
    assert len(map_rows(host.good('-m', text=text))) == rmpopt_map.TEXT_ROWS
    assert len(map_rows(host.good('-m', text=f'{text}200-200 node 0 stale\n'))) < rmpopt_map.TEXT_ROWS


def test_map_wraps_columns(host):
    lines = ['version 1', *(f'window {i}-{i} cores 1 cpus {i}' for i in range(130)), '0-129 node 0 stale']
    out = host.good('-m', text='\n'.join(lines) + '\n')
    assert max(map(len, out.splitlines())) < 100
    heads = [line for line in out.splitlines() if 'GB optimized' in line]
    assert [head.split()[1] for head in heads] == ['0', '64', '128']
    # One stale cell for each window, in its column of its row
    by_part = [list(group) for _, group in itertools.groupby(map_rows(out), key=lambda row: len(row[2]))]
    assert {len(row[2]) for row in map_rows(out)} == {64, 2}
    assert sum(row[2].count('-') for part in by_part for row in part) == 130


@pytest.mark.parametrize('no_color', [{}, {'NO_COLOR': '1'}], ids=['terminal', 'NO_COLOR'])
def test_colours(example, no_color):
    master, slave = pty.openpty()
    environment = {**example.tool.environment, **no_color}
    with example.tool.popen('--sysfs', example.sysfs, '-m', stdout=slave, env=environment) as process:
        os.close(slave)
        out = b''
        while True:
            try:
                out += os.read(master, 65536)
            except OSError:
                # Linux says so at the end.
                break
    os.close(master)
    assert process.returncode == 0
    text = out.decode().replace('\r\n', '\n')
    if no_color:
        assert text == example.good('-m')
        return
    for kind in SHARED_KINDS.values():
        assert f'\033[{kind.ansi}m{kind.char * 2}\033[0m' in text
    plain = re.sub('\033[^m]*m', '', text)
    assert [len(line) for line in plain.splitlines()] == [
        len(line) for line in example.good('-m').splitlines()
    ]


# The states, and as what rmpopt_map.py draws them
SHARED_KINDS = {
    'assigned': rmpopt_map.ASSIGNED,
    'stale': rmpopt_map.LOST,
    'optimized': rmpopt_map.OPTIMIZED,
    'outside': rmpopt_map.NONE,
}


def svg(text):
    """Width, height, the rectangles and the texts. No two rectangles are at the same place."""
    root = xml.etree.ElementTree.fromstring(text)
    space = '{http://www.w3.org/2000/svg}'
    assert root.tag == f'{space}svg'
    places = [(r.get('x'), r.get('y')) for r in root.iter(f'{space}rect')]
    assert len(set(places)) == len(places)
    return (
        int(root.attrib['width']),
        int(root.attrib['height']),
        [(r.get('fill'), getattr(r.find(f'{space}title'), 'text', None)) for r in root.iter(f'{space}rect')],
        [t.text for t in root.iter(f'{space}text')],
    )


def test_svg(example):
    path = example.directory / 'map.svg'
    assert example.good('-s', path) == ''
    _, _, rects, texts = svg(path.read_text())
    cells = [(fill, title) for fill, title in rects if title]
    assert len(cells) == 7 * 2
    for fill, title in cells:
        assert fill == SHARED_KINDS[title.rpartition(' ')[2]].rgb
    assert (SHARED_KINDS['stale'].rgb, '513 GB, window 0-2047: stale') in cells
    assert (SHARED_KINDS['outside'].rgb, '513 GB, window 4096-6143: outside') in cells
    assert {'509/509', '1024-2047', 'window 1: 4096-6143 GB, 128 cores'} <= set(texts)
    # The legend
    assert [fill for fill, title in rects if not title][1:] == [kind.rgb for kind in SHARED_KINDS.values()]
    assert example.good('--svg', '-') == path.read_text()


def test_svg_does_not_grow(host):
    width, height, rects, _ = svg(host.good('-s', '-', text=many_ranges(6000)))
    assert width < 600 and height < 900
    assert 100 < len(rects) <= rmpopt_map.SVG_ROWS + 5
    lines = ['version 1', *(f'window {i}-{i} cores 1 cpus {i}' for i in range(130)), '0-129 node 0 stale']
    width, height, rects, _ = svg(host.good('-s', '-', text='\n'.join(lines) + '\n'))
    assert width < 1000
    # 130 rows in three parts, of 130 columns in all
    assert len(rects) == 130 * 130 + 5
    assert 3 * 130 * 4 < height < 3 * 700 + 200


def test_svg_not_set_up(host):
    assert 'RMPOPT is not set up' in svg(host.good('-s', '-', text=NOT_SET_UP))[3]


def test_svg_cannot_be_written(example):
    example.fails('No such file or directory', '-s', example.directory / 'none/map.svg')
    example.fails('No space left on device', '-s', '/dev/full')


@pytest.mark.parametrize('options', [*OUTPUTS, ['-h']])
def test_full_output(example, options):
    with open('/dev/full', 'w', encoding='utf-8') as full:
        with example.tool.popen(
            '--sysfs', example.sysfs, *options, stdout=full, stderr=subprocess.PIPE
        ) as process:
            _, err = process.communicate(timeout=LIMIT)
    assert process.returncode == 2
    assert 'standard output: No space left on device' in err


# JSON


def test_json(example):
    expected = {
        'version': 1,
        'windows': [
            {'first': 0, 'last': 2047, 'cores': 128, 'cpus': '0-127,256-383'},
            {'first': 4096, 'last': 6143, 'cores': 128, 'cpus': '128-255,384-511'},
        ],
        'nodes': [
            {'node': 0, 'outside': 14, 'optimized': 2031, 'stale': 1, 'assigned': 2},
            {'node': 1, 'outside': 0, 'optimized': 2048, 'stale': 0, 'assigned': 0},
        ],
        'shares': [
            {'node': 0, 'first': 0, 'last': 2047, 'cores': 128, 'own_optimized': 2031, 'other_optimized': 0},
            {
                'node': 1,
                'first': 4096,
                'last': 6143,
                'cores': 128,
                'own_optimized': 2048,
                'other_optimized': 0,
            },
        ],
        'ranges': [
            {'first': first, 'last': last, 'node': node, 'state': state}
            for first, last, node, state in Model(EXAMPLE).ranges
        ],
    }
    # As text, because the order of keys counts.
    assert json.dumps(json.loads(example.good('-j'))) == json.dumps(expected)


def test_json_not_set_up(host):
    expected = {'version': 1, 'windows': [], 'nodes': [], 'shares': [], 'ranges': []}
    assert json.loads(host.good('-j', text=NOT_SET_UP)) == expected


def judge_json(judge, name, model, nodes, out):
    """Sums must be those of the model, in which each region counts by itself."""
    judge.equal(f'{name}: ranges', model.ranges, [tuple(r.values()) for r in out['ranges']])
    judge.equal(
        f'{name}: windows',
        [(first, last, cores, cpu_list(cpus)) for first, last, cores, cpus in model.windows],
        [(w['first'], w['last'], w['cores'], cpu_list(w['cpus'])) for w in out['windows']],
    )
    judge.equal(f'{name}: nodes', model.states(), {n.pop('node'): n for n in out['nodes']})
    expected = []
    for window, (first, last, _, cpus) in enumerate(model.windows):
        optimized = model.optimized(window)
        for node, here in nodes.items():
            count = len(set(cpu_list(cpus)) & set(cpu_list(here)))
            if count:
                own = optimized.get(node, 0)
                expected.append((node, first, last, count // 2, own, sum(optimized.values()) - own))
    judge.equal(f'{name}: shares', expected, [tuple(s.values()) for s in out['shares']])


SUMS: list[list[str]] = [['-j'], ['-m'], []]


def test_json_sums(judge, tool, tmp_path):
    rng = random.Random(1)
    hosts = [random_host(rng) for _ in range(40)]
    runs: list[tuple[list, str]] = []
    for number, (text, nodes) in enumerate(hosts):
        (tmp_path / str(number)).mkdir()
        host = Host(tool, tmp_path / str(number))
        host.nodes(nodes)
        runs += [(['--sysfs', host.sysfs, '-i', '-', *options], text) for options in SUMS]
    done = iter(tool.run_all(runs))
    for number, (text, nodes) in enumerate(hosts):
        model = Model(text)
        judge_json(judge, number, model, nodes, json.loads(next(done).out))
        # The other outputs have the same sums.
        states = model.states().values()
        whole = sum(sum(sums.values()) for sums in states)
        optimized = sum(sums['optimized'] for sums in states)
        drawn = map_rows(next(done).out)
        judge.equal(
            f'{number}: map', (optimized, whole), (sum(r[3] for r in drawn), sum(r[4] for r in drawn))
        )
        told = sum(int(word) for word in rows(next(done).out)[-1] if word.isdigit())
        judge.equal(f'{number}: what is not optimized', whole - optimized, told)


# The check


def test_check(example):
    assert example.good('-c', status=1) == '1 GB stale\n'
    assert example.good('-c', text=EXAMPLE.replace('stale', 'assigned')) == ''
    assert example.good('--check', text=NOT_SET_UP, status=1) == 'RMPOPT is not set up\n'


def test_check_finds_cpus_without_window(example):
    example.kernel(EXAMPLE.replace('stale', 'optimized'))
    example.nodes(EXAMPLE_NODES, online='0-511,600')
    expected = 'CPUs 600 have no window: all that they write is checked\n'
    assert example.good('-c', status=1) == expected
    assert example.good('-c', text=EXAMPLE, status=1) == f'{expected}1 GB stale\n'
    # Those that are offline need none.
    example.nodes(EXAMPLE_NODES, online='0-3')
    assert example.good('-c', text=EXAMPLE.replace('stale', 'optimized')) == ''


def test_check_needs_online(host):
    host.kernel(EXAMPLE)
    host.fails('devices/system/cpu/online: No such file or directory: --sysfs takes a copy of /sys', '-c')


def test_check_of_wrong_file(example):
    example.kernel('version 2\n')
    example.fails('unknown version', '-c')


# Processes

PRESENT = 1 << 63
SAMPLED_AND_EXACT: list[list[str]] = [[], ['--exact']]


class Process:
    """Files of /proc for a process. Mappings: start in pages, and an entry of pagemap for each page."""

    def __init__(self, host, allowed, mappings, pid=7):
        host.write(
            f'proc/{pid}/status', f'Name:\tx\nCpus_allowed:\tff\nCpus_allowed_list:\t{allowed}\nMems:\t0\n'
        )
        lines = [f'{s * 4096:08x}-{(s + len(e)) * 4096:08x} rw-p 00000000 00:00 0 \n' for s, e in mappings]
        host.write(f'proc/{pid}/maps', ''.join(lines))
        with host.write(f'proc/{pid}/pagemap', b'').open('wb') as file:
            for start, entries in mappings:
                file.seek(start * 8)
                file.write(struct.pack(f'<{len(entries)}Q', *entries))
        self.host = host
        self.pid = pid

    def run(self, *options):
        return self.host.good('-p', self.pid, '--proc', self.host.proc, *options)

    def fails(self, message, *options):
        self.host.fails(message, '-p', self.pid, '--proc', self.host.proc, *options)


def at(gb, pages=512, page=0):
    """Entries of pages that are present, one after the other from a page of that region on."""
    first = gb * GB // 4096 + page
    return [PRESENT | (first + i) for i in range(pages)]


def test_process(example):
    mappings = [
        # Optimized, assigned, stale, outside, in the other window, and in no range
        (512, at(4) + at(5) + at(1) + at(513)),
        (512 * 100, at(2048) + at(4096) + at(6143) + at(2)),
    ]
    process = Process(example, '0-3,128', mappings)
    expected = (
        'CPUs 0-3 (window 0-2047): 4.0 of 16.0 MB optimized; 2.0 MB assigned, 2.0 MB stale, '
        '6.0 MB outside, 2.0 MB not listed\n'
        'CPUs 128 (window 4096-6143): 4.0 of 16.0 MB optimized; 10.0 MB outside, 2.0 MB not listed\n'
    )
    assert process.run() == expected
    assert process.run('--exact') == expected


def test_process_in_gigabytes(example):
    """Of huge pages, one entry for each is enough."""
    process = Process(example, '0', [(0, at(4) * 512 + at(1) * 51)])
    assert process.run() == 'CPUs 0 (window 0-2047): 1.0 of 1.1 GB optimized; 0.1 GB assigned\n'


def test_process_samples(example):
    """The first page of each 2MB counts for all of it, from wherever the mapping starts."""
    # The second half of 2MB, all of the next ones, and half of the last ones
    process = Process(example, '0', [(256, at(1, 256) + at(4, 256) + at(1, 256) + at(4, 256))])
    assert process.run() == 'CPUs 0 (window 0-2047): 3.0 of 4.0 MB optimized; 1.0 MB assigned\n'
    assert process.run('--exact') == 'CPUs 0 (window 0-2047): 2.0 of 4.0 MB optimized; 2.0 MB assigned\n'


def test_process_counts_what_is_present(example):
    swapped = [1 << 62 | 5] * 512
    process = Process(example, '0', [(0, at(4) + swapped + [0] * 512), (512 * 8, [0] * 512 + at(4096))])
    for options in SAMPLED_AND_EXACT:
        assert process.run(*options) == 'CPUs 0 (window 0-2047): 2.0 of 4.0 MB optimized; 2.0 MB outside\n'


def test_process_ignores_flags_of_entries(example):
    """Soft-dirty, exclusive, and of a file"""
    process = Process(example, '0', [(0, [entry | 1 << 55 | 1 << 56 | 1 << 61 for entry in at(4)])])
    assert process.run() == 'CPUs 0 (window 0-2047): 2.0 of 2.0 MB optimized\n'


def test_process_ends_of_ranges(example):
    """The first and the last page of a range, and of a window"""
    last = GB // 4096 - 1
    mapping = [*at(4, 1), *at(512, 1, last), *at(513, 1), *at(3, 1, last), *at(2047, 1, last), *at(2048, 1)]
    process = Process(example, '0,128', [(0, mapping * 256)])
    assert process.run('--exact') == (
        'CPUs 0 (window 0-2047): 3.0 of 6.0 MB optimized; 1.0 MB stale, 1.0 MB outside, 1.0 MB not listed\n'
        'CPUs 128 (window 4096-6143): 0.0 of 6.0 MB optimized; 5.0 MB outside, 1.0 MB not listed\n'
    )


def test_process_on_cpus_without_window(example):
    example.nodes(EXAMPLE_NODES, online='0-511,600')
    process = Process(example, '3,600-700', [(0, at(4))])
    assert process.run() == (
        'CPUs 3 (window 0-2047): 2.0 of 2.0 MB optimized\n'
        'CPUs 600 (no window): 0.0 of 2.0 MB optimized; 2.0 MB outside\n'
    )


def test_process_if_nobody_knows_what_is_online(host):
    host.kernel(EXAMPLE)
    assert Process(host, '0-1,600', [(0, at(4))]).run() == (
        'CPUs 0-1 (window 0-2047): 2.0 of 2.0 MB optimized\n'
        'CPUs 600 (no window): 0.0 of 2.0 MB optimized; 2.0 MB outside\n'
    )


def test_process_not_set_up(host):
    host.kernel(NOT_SET_UP)
    assert (
        Process(host, '0', [(0, at(4))]).run()
        == 'CPUs 0 (no window): 0.0 of 2.0 MB optimized; 2.0 MB not listed\n'
    )


def test_process_without_memory(example):
    assert Process(example, '0', []).run() == 'CPUs 0 (window 0-2047): 0.0 of 0.0 MB optimized\n'


def test_process_with_vsyscall(example):
    """Its pages are behind the end of pagemap, as those of a mapping that has gone, which may be large."""
    process = Process(example, '0', [(0, at(4))])
    with (example.proc / '7/maps').open('a', encoding='utf-8') as maps:
        maps.write('ffffffffff600000-ffffffffff601000 --xp 00000000 00:00 0                  [vsyscall]\n')
        maps.write('100000000-7ffffffffffff000 rw-p 00000000 00:00 0 \n')
    for options in SAMPLED_AND_EXACT:
        assert process.run(*options) == 'CPUs 0 (window 0-2047): 2.0 of 2.0 MB optimized\n'


def test_process_without_capability(example):
    process = Process(example, '0', [(0, [PRESENT] * 512)])
    process.fails('7/pagemap: no page frame numbers: run rmpopt as root, with CAP_SYS_ADMIN')


def test_no_process(example):
    example.fails(
        '9/status: No such file or directory: there is no such process', '-p', 9, '--proc', example.proc
    )


WRONG_MAPS = [
    '',
    'x',
    '1000',
    '1000-',
    '1000-2000',
    '1000-2000x',
    '2000-1000 r',
    '1000-1001 r',
    '1-2000 r',
    '0-0 r',
]


@pytest.mark.parametrize('text', WRONG_MAPS)
def test_wrong_maps(example, text):
    process = Process(example, '0', [])
    example.write('proc/7/maps', f'{text}\n0-1000 rw-p\n')
    process.fails('7/maps: not mappings: --proc takes a copy of /proc')


@pytest.mark.parametrize(
    'text', ['', 'Cpus_allowed:\tff\n', 'Cpus_allowed_list:\t\n', 'Cpus_allowed_list:\tx\n']
)
def test_wrong_status(example, text):
    process = Process(example, '0', [])
    example.write('proc/7/status', text)
    process.fails('7/status: no list of CPUs: --proc takes a copy of /proc')


def test_pagemap_that_cannot_be_read(example):
    process = Process(example, '0', [(0, at(4))])
    (example.proc / '7/pagemap').unlink()
    (example.proc / '7/pagemap').mkdir()
    process.fails('7/pagemap: Is a directory')


def test_real_process(example):
    """That of the test itself, whose pages may be hidden from it."""
    example.kernel('version 1\nwindow 0-2047 cores 1 cpus 0-4095\n0-2047 node 0 optimized\n')
    done = example.run('-p', os.getpid())
    assert done.status == 0 or 'run rmpopt as root' in done.err
    if done.status == 0:
        assert re.fullmatch(r'CPUs .* \(window 0-2047\): [0-9.]+ of [0-9.]+ [MG]B optimized.*\n', done.out)


# Trace events


class Tracing:
    """A made-up tracefs. The tool finds TEXT in trace_pipe, and then that tracing is off."""

    def __init__(self, host, text=None):
        self.host = host
        self.directory = host.tracing
        self.enable = host.write('tracing/enable', '0\n')
        self.instances = self.directory / 'instances'
        self.instances.mkdir()
        self.pipe = self.directory / 'pipe'
        self.file = -1
        if text is None:
            os.mkfifo(self.pipe)
            # For writing as well, so that there is no end.
            self.file = os.open(self.pipe, os.O_RDWR)
        else:
            self.pipe.write_bytes(text.encode('latin-1'))

    def run(self):
        """The output of a run to the end of what is in trace_pipe."""
        done = self.host.tool.run('-f', '--tracing', self.directory)
        assert (done.status, done.err) == (0, '')
        self.gone()
        assert self.enable.read_text() == '1\n'
        return done.out

    def gone(self):
        assert not list(self.instances.iterdir())


def event(seconds, text, cpu=3, task='kworker/u8:1'):
    return f'{task:>16}-{1234:<7} [{cpu:03}] d..1. {seconds:12.6f}: rmpopt_{text}\n'


def test_follow(host):
    text = ''.join(
        [
            event(99.5, 'verdict: pa=0x40000000 optimized=1 window=0x0'),
            event(100, 'stale: pa=0x100000000 reason=return'),
            event(100.25, 'stale: pa=0x4000000000000 reason=setup|request', task='<idle>'),
            event(110.000001, 'pass_begin: reason=return cores=8'),
            event(110.5, 'verdict: pa=0x100000000 optimized=1 window=0x0'),
            event(110.75, 'verdict: pa=0x100000000 optimized=0 window=0x10040000000'),
            event(110.5, 'verdict: pa=0x4000000000000 optimized=1 window=0x0'),
            event(
                111, 'pass_end: reason=return cores=8 queried=1 regions=3 optimized=2 behind=7 ns=4 windows=2'
            ),
            event(112, 'catch_up: regions=16 left=5 ipi=0'),
            event(113, 'stale: pa=0x100000000 reason=return'),
            event(112.999, 'verdict: pa=0x100000000 optimized=1 window=0x0'),
            event(114.5, 'verdict: pa=0x100000000 optimized=1 window=0x0'),
            event(115, 'verdict: pa=0x3fffffff optimized=1'),
        ]
    )
    assert (
        Tracing(host, text).run()
        == """\
99.500000 region 1 visited in window 0: optimized
100.000000 region 4 stale: return
100.250000 region 1048576 stale: setup|request
110.000001 pass_begin: reason=return cores=8
110.500000 region 4 visited in window 0: optimized, 10.500000 s after it became stale
110.750000 region 4 visited in window 1025: assigned, 10.750000 s after it became stale
110.500000 region 1048576 visited in window 0: optimized, 10.250000 s after it became stale
111.000000 pass_end: reason=return cores=8 queried=1 regions=3 optimized=2 behind=7 ns=4 windows=2
112.000000 catch_up: regions=16 left=5 ipi=0
113.000000 region 4 stale: return
112.999000 region 4 visited in window 0: optimized
114.500000 region 4 visited in window 0: optimized, 1.500000 s after it became stale
115.000000 region 0 visited in window 0: optimized
"""
    )


def test_follow_is_not_confused(host):
    """Names of tasks, lost events, and lines that are not events"""
    text = ''.join(
        [
            event(1, 'stale: pa=0x40000000 reason=return', task=': rmpopt_stale:'),
            event(2, 'stale: pa=0x80000000 reason=return', task='CPU:1 [LOST 1]'),
            'CPU:2 [LOST 17 EVENTS]\n',
            '\n',
            ' x-1 [000] ..... 3.000000: sched_switch: pa=0x40000000\n',
            ': rmpopt_stale: pa=0x40000000\n',
            event(4, 'stale: pa=0xffffffffffffffff reason=return'),
            event(5, 'stale: pa=x reason=return'),
            event(6, 'new: x=1'),
            'no end of a line',
        ]
    )
    assert (
        Tracing(host, text).run()
        == """\
1.000000 region 1 stale: return
2.000000 region 2 stale: return
CPU:2 [LOST 17 EVENTS]: times may be wrong from now on
4.000000 stale: pa=0xffffffffffffffff reason=return
5.000000 stale: pa=x reason=return
6.000000 new: x=1
"""
    )


def test_follow_many_events(host):
    """More than fits into a buffer, with a line that is longer than one"""
    lines = [event(i, f'stale: pa={i * GB:#x} reason=return') for i in range(1, 1000)]
    lines.insert(500, 'x' * 20000 + '\n')
    out = Tracing(host, ''.join(lines)).run().splitlines()
    assert out == [f'{i}.000000 region {i} stale: return' for i in range(1, 1000)]


class Following:
    """The tool that follows a trace_pipe which has no end, and has printed an event"""

    def __init__(self, host, hangup=signal.SIG_DFL):
        self.tracing = Tracing(host)
        # Whoever started the tests may be after nohup.
        self.process = host.tool.popen(
            '-f',
            *('--tracing', self.tracing.directory),
            stderr=subprocess.PIPE,
            preexec_fn=lambda: signal.signal(signal.SIGHUP, hangup),
        )
        # Each line comes at once, though the output is a pipe.
        self.event(1)
        assert self.tracing.enable.read_text() == '1\n'
        assert [path.name for path in self.tracing.instances.iterdir()] == [f'rmpopt-{self.process.pid}']

    def write(self, text):
        os.write(self.tracing.file, text.encode())

    def event(self, region):
        self.write(event(region, f'stale: pa={region * GB:#x} reason=return'))
        assert self.process.stdout.readline() == f'{region}.000000 region {region} stale: return\n'

    def fill_output(self):
        """Have the tool wait for somebody who reads its output."""
        fcntl.fcntl(self.process.stdout, fcntl.F_SETPIPE_SZ, 4096)
        self.write(event(2, f'new: {"x" * 4000}') * 8)
        # Nobody tells when it has read that.
        while struct.unpack('i', fcntl.ioctl(self.tracing.file, termios.FIONREAD, b'....'))[0] > 30000:
            time.sleep(0.001)

    def end(self):
        self.process.kill()
        self.process.communicate(timeout=LIMIT)
        os.close(self.tracing.file)


@pytest.fixture(name='following')
def fixture_following(host):
    following = Following(host)
    yield following
    following.end()


@pytest.mark.parametrize('number', [signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT])
def test_follow_ends_by_signal(following, number):
    # Half a line must not be in the way.
    following.write(' x-1')
    following.process.send_signal(number)
    assert following.process.communicate(timeout=LIMIT) == ('', '')
    assert following.process.returncode == 0
    following.tracing.gone()


def test_follow_ends_by_signal_while_nobody_reads(following):
    following.fill_output()
    following.process.send_signal(signal.SIGTERM)
    assert following.process.wait(LIMIT) == 0
    following.tracing.gone()


def test_follow_ends_if_reader_has_gone(following):
    following.process.stdout.close()
    assert following.process.wait(LIMIT) == 0
    assert following.process.stderr.read() == ''
    following.tracing.gone()


def test_follow_ends_if_reader_goes(following):
    following.fill_output()
    following.process.stdout.close()
    assert following.process.wait(LIMIT) == 2
    assert 'standard output: Broken pipe' in following.process.stderr.read()
    following.tracing.gone()


def test_follow_goes_on_after_stop(following):
    following.process.send_signal(signal.SIGSTOP)
    following.process.send_signal(signal.SIGCONT)
    following.event(2)


def test_follow_after_nohup(host):
    following = Following(host, hangup=signal.SIG_IGN)
    following.process.send_signal(signal.SIGHUP)
    following.event(2)
    following.end()


def test_follow_with_full_output(host):
    tracing = Tracing(host)
    os.write(tracing.file, event(1, 'stale: pa=0x40000000 reason=return').encode())
    with open('/dev/full', 'w', encoding='utf-8') as full:
        with host.tool.popen(
            '-f', '--tracing', tracing.directory, stdout=full, stderr=subprocess.PIPE
        ) as process:
            _, err = process.communicate(timeout=LIMIT)
    os.close(tracing.file)
    assert process.returncode == 2
    assert 'standard output: ' in err
    tracing.gone()


def follow_fails(host, message):
    done = host.tool.run('-f', '--tracing', host.tracing)
    assert (done.status, done.out) == (2, '')
    assert message in done.err


def test_follow_without_tracefs(host):
    host.tracing.mkdir()
    follow_fails(host, f"No such file or directory: mount it by 'mount -t tracefs nodev {host.tracing}'")


def test_follow_without_events(host):
    tracing = Tracing(host, '')
    tracing.enable.unlink()
    follow_fails(host, 'events/rmpopt/enable: No such file or directory: the kernel needs CONFIG_KVM_AMD_SEV')
    tracing.gone()


def test_follow_without_trace_pipe(host):
    tracing = Tracing(host, '')
    tracing.pipe.unlink()
    follow_fails(host, 'trace_pipe: No such file or directory')
    tracing.gone()


def test_follow_reading_fails(host):
    tracing = Tracing(host, '')
    tracing.pipe.unlink()
    tracing.pipe.symlink_to(host.directory)
    # A hard link of it shows the directory.
    follow_fails(host, 'trace_pipe: Is a directory')
    tracing.gone()


def test_follow_leaves_others_alone(host):
    """An instance with its number that is there already is not its own."""
    tracing = Tracing(host, '')

    def occupy():
        (tracing.instances / f'rmpopt-{os.getpid()}').mkdir()

    with host.tool.popen(
        '-f', '--tracing', tracing.directory, stderr=subprocess.PIPE, preexec_fn=occupy
    ) as process:
        _, err = process.communicate(timeout=LIMIT)
    assert process.returncode == 2
    assert 'File exists: a process that was killed has left it, remove it with rmdir' in err
    assert [path.name for path in tracing.instances.iterdir()] == [f'rmpopt-{process.pid}']


# Options

MODES = {'-m': [], '-s': ['/dev/null'], '-j': [], '-p': ['1'], '-c': [], '-f': [], '-h': []}


def test_modes_exclude_each_other(judge, example):
    for one, other in itertools.permutations(MODES, 2):
        done = example.tool.run(one, *MODES[one], other, *MODES[other])
        refused = (
            'exclude each other: take one of them\n' in done.err and one in done.err and other in done.err
        )
        judge.judge(f'{one} and {other} exclude each other', done.status == 2 and refused, done)


NEEDS_P = '--exact and --proc need -p: add it, or leave them out'
NEEDS_F = '--tracing needs -f: add it, or leave it out'
NOT_WITH_F = '-f reads neither -i nor --sysfs: leave them out'


WRONG_OPTIONS = {
    NEEDS_P: ['--exact', '--proc /proc', '-m --exact', '-f --proc /proc'],
    NEEDS_F: ['--tracing /x', '-p 1 --tracing /x'],
    NOT_WITH_F: ['-f -i /dev/null', '-f --sysfs /sys'],
    **{
        f"-p takes the number of a process, not '{pid}'": [f'-p {pid}', f'--pid={pid}']
        for pid in ('x', '0', '-1', '1x', '2147483648')
    },
    "map: not an option: try 'rmpopt --help'": ['map', '-m map'],
    "-x: unknown, or lacks its argument: try 'rmpopt --help'": ['-x', '-mx', '-m -x'],
    '-V: unknown': ['-V'],
    '--mapp: unknown': ['--mapp'],
    '--map=1: unknown': ['--map=1'],
    '-s: unknown, or lacks its argument': ['-s'],
    '--pid: unknown, or lacks its argument': ['--pid'],
    '--sysfs: unknown, or lacks its argument': ['--sysfs'],
}


def test_wrong_options(judge, tool):
    for message, lines in WRONG_OPTIONS.items():
        for line in lines:
            done = tool.run(*line.split())
            judge.judge(
                f'"{line}" is refused', (done.status, done.out) == (2, '') and message in done.err, done
            )


@pytest.mark.parametrize('option', ['-h', '--help'])
def test_help(tool, option):
    done = tool.run(option)
    assert (done.status, done.err) == (0, '')
    assert done.out.startswith('Usage: rmpopt ')
    assert max(map(len, done.out.splitlines())) <= 80


@pytest.mark.parametrize('short, long', [('-m', '--map'), ('-j', '--json'), ('-s', '--svg'), ('-p', '--pid')])
def test_long_options(example, short, long):
    Process(example, '0', [(0, at(4))])
    rest = {'-s': ['-'], '-p': ['7', '--proc', example.proc]}.get(short, [])
    assert example.good(short, *rest) == example.good(long, *rest)


# Anything else


def test_make(tmp_path, example):
    """The Makefile, without sanitizers, and linked statically for an initramfs"""
    source = tmp_path / 'source'
    shutil.copytree(SOURCE, source)
    command = ['make', '-C', source, 'CFLAGS=-O2 -Werror', 'LDFLAGS=-static']
    command += [f'DESTDIR={tmp_path}/root', 'install']
    made = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False)
    assert made.returncode == 0, made.stdout
    assert (tmp_path / 'root/usr/share/man/man8/rmpopt.8').read_bytes() == (SOURCE / 'rmpopt.8').read_bytes()
    program = tmp_path / 'root/usr/sbin/rmpopt'
    for options in OUTPUTS:
        out = subprocess.check_output([program, '--sysfs', example.sysfs, *options], text=True)
        assert out == example.good(*options)
    subprocess.run(['make', '-s', '-C', source, 'clean'], check=True)
    assert {path.name for path in source.iterdir()} == {path.name for path in SOURCE.iterdir()} - {'rmpopt'}


def test_man_page(tool):
    page = (SOURCE / 'rmpopt.8').read_text(encoding='utf-8')
    for option in re.findall(r'--[a-z]+', tool.run('-h').out):
        assert '\\-\\-' + option[2:] in page
    if shutil.which('groff'):
        command = ['groff', '-man', '-ww', '-z', str(SOURCE / 'rmpopt.8')]
        assert subprocess.check_output(command, stderr=subprocess.STDOUT) == b''


WORDS = 'window version node cores cpus optimized stale outside assigned 0 1 2047 65535 65536'.split()
WORDS += '16777215 4294967295 4294967296 18446744073709551616 - -1 -0 0-0 0-65535 , %s%n \0 \x80'.split()
WORDS += [' ', '\n', '\r']


def mutate(rng, text):
    """TEXT with one to four things wrong, or right by luck"""
    for _ in range(rng.choice((1, 1, 1, 2, 4))):
        start = rng.randrange(len(text) + 1)
        end = min(len(text), start + rng.choice((0, 1, 1, 2, 5, 40)))
        lines = text.splitlines(keepends=True) or ['']
        tokens = re.split('([^a-z0-9]+)', text)
        number = rng.randrange(len(tokens))
        what = rng.randrange(7)
        if what == 0:
            text = text[:start] + chr(rng.randrange(256)) + text[end:]
        elif what == 1:
            text = text[:start] + text[end:]
        elif what == 2:
            text = text[:start] + rng.choice(WORDS) + text[end:]
        elif what == 3:
            text = ''.join(tokens[:number] + [rng.choice(WORDS)] + tokens[number + 1 :])
        elif what == 4:
            lines.insert(rng.randrange(len(lines) + 1), rng.choice(lines))
            text = ''.join(lines)
        elif what == 5:
            rng.shuffle(lines)
            text = ''.join(lines[: rng.randint(0, len(lines))])
        elif tokens[number].isdigit():
            other = str(max(0, int(tokens[number]) + rng.choice((-1, 1, -7, 600))))
            text = ''.join(tokens[:number] + [other] + tokens[number + 1 :])
    return text


# The judgement of each run is that of Tool.done(): a status of its own, and a message if that is 2.


def test_mutations(judge, example):
    rng = random.Random(2)
    Process(example, '0-3,128', [(512, at(4) + at(5)), (512 * 100, at(4096, 100))])
    modes: list[list] = [*OUTPUTS, ['-c'], ['-p', '7', '--proc', example.proc]]
    runs = []
    for number in range(2000):
        options = ['--sysfs', example.sysfs, '-i', '-', *modes[number % len(modes)]]
        runs.append((options, mutate(rng, rng.choice((EXAMPLE, EXAMPLE, SHARED)))))
    statuses = []
    for (options, _), done in zip(runs, example.tool.run_all(runs)):
        statuses.append(done.status)
        if '-j' in options and not done.status:
            json.loads(done.out)
    # Most are wrong, and many are not.
    judge.judge('mutations are refused', statuses.count(2) > 1000, statuses.count(2))
    judge.judge('mutations are accepted', statuses.count(0) > 100, statuses.count(0))


def test_mutations_of_other_files(judge, example):
    rng = random.Random(3)
    Process(example, '0-3,128', [(512, at(4) + at(5)), (512 * 100, at(4096, 100))])
    paths = ['proc/7/maps', 'proc/7/status', 'sys/devices/system/cpu/online']
    paths += ['sys/devices/system/node/node0/cpulist']
    runs = []
    for number in range(200):
        copy = example.directory / str(number)
        for name in ('sys', 'proc'):
            shutil.copytree(example.directory / name, copy / name)
        path = copy / paths[number % len(paths)]
        path.write_bytes(mutate(rng, path.read_text()).encode('latin-1'))
        options = ['-p', '7', '--proc', copy / 'proc', '--sysfs', copy / 'sys']
        runs.append((options + ['--exact'] * (number // len(paths) % 2), ''))
    statuses = [done.status for done in example.tool.run_all(runs)]
    judge.judge('mutations are refused', statuses.count(2) > 30, statuses.count(2))
    judge.judge('mutations are accepted', statuses.count(0) > 30, statuses.count(0))


def test_mutations_of_events(host):
    rng = random.Random(4)
    events = event(100, 'stale: pa=0x100000000 reason=return')
    events += event(110.5, 'verdict: pa=0x100000000 optimized=1 window=0x0')
    events += event(112, 'catch_up: regions=16 left=5 ipi=0')
    Tracing(host, ''.join(mutate(rng, events) for _ in range(3000))).run()
