#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-only
"""
bench.py DIRECTORY: what RMPOPT costs and gains, without the series, with the base series
and with all of it, on the emulated SNP host. Leaves bench.json, and a page for a reader,
bench.html; the table in it is also in bench.txt. The status is 3 if the full series did
more than it promises.

bench.py --quick COUNTS: only such cases as fit into two minutes, no page. The numbers of
judgements passed and failed go to the file COUNTS.

Started by bench, which builds what is needed. What is counted comes from the emulator's
referee, and from rmpopt_stat.sh in the guest, which reads trace events and counters that the
kernel has without the series. Times are modelled, see MODEL.
"""
import concurrent.futures
import html
import json
import os
import pathlib
import re
import subprocess
import sys
import threading
import time

sys.dont_write_bytecode = True
sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / 'qemu-snp'))

import coverage  # noqa: E402
import host  # noqa: E402
from host import BATCH, BUILD, CPUS, LOAD, NODES, HostError  # noqa: E402

GB = coverage.GB
# Entries of the RMP that the emulator reads for a region, one for each 2 MB
ENTRIES = 512

SERIES = {
	'without': BUILD / 'base' / 'kernel',
	'base': BUILD / 'early' / 'kernel',
	'full': BUILD / 'kernel',
}

# What AMD has published in review of RMPOPT, for a machine with 2 TB and several hundred
# threads: the cycles of one RMPOPT; and the milliseconds of whole passes over 2048 regions,
# one core first and then one broadcast for each region. The clock is assumed.
CYCLES_FIRST_FAILS = 60
CYCLES_CACHED = 5700
CLOCK_GHZ = 2.0
PASS_CLEAN_MS = 311
PASS_FIRST_FAILS_MS = 95
PASS_REGIONS = 2048
# In microseconds. The last one is an assumption: function 1 does not scan.
US_FIRST_FAILS = CYCLES_FIRST_FAILS / CLOCK_GHZ / 1000
US_CACHED = CYCLES_CACHED / CLOCK_GHZ / 1000
US_ROUND = PASS_FIRST_FAILS_MS * 1000 / PASS_REGIONS
US_SCAN = (PASS_CLEAN_MS - PASS_FIRST_FAILS_MS) * 1000 / PASS_REGIONS - US_CACHED
US_STATUS = US_FIRST_FAILS
# The promise of the full series
US_IRQ_OFF = 50

MODEL = [
	f'RMPOPT that fails at the first entry: {CYCLES_FIRST_FAILS} cycles; with a cached verdict: {CYCLES_CACHED} '
	f'cycles, the upper figure published. The clock is taken to be {CLOCK_GHZ} GHz.',
	f'One that scans a region: {US_SCAN:.1f} us, from the {PASS_CLEAN_MS} ms of a pass over {PASS_REGIONS} clean regions '
	f'and the {PASS_FIRST_FAILS_MS} ms of one where each fails at its first entry, less a cached one. One that fails '
	f'later is charged for the part of the {ENTRIES} entries that it reads.',
	f'A round of IPIs: {US_ROUND:.1f} us of the core that goes first, from the {PASS_FIRST_FAILS_MS} ms. Taking an '
	'interrupt is not charged to the other cores, which the IPIs per core are for.',
	'RMPOPT function 1: as one that fails at the first entry. Nothing has been published.',
	'Longest stretch with interrupts off: the most RMPOPT that a core executed in one IPI, each with a cached verdict.',
]

VM = 'snp_vm --vms 1 --memory 1M </dev/null >/dev/null'


class Bench(host.Host):
	"""A host with one of the kernels. One thread per core, so that a CPU is a core."""

	def __init__(self, series, name, *, smp, memory='6G', sparse='', append='host.modules=no',
		     virtual_time=True, **machine):
		snp = f'amd-snp-host,id=snp0,journal=on{sparse}'
		self.series = series
		self.window = self.ram = None
		super().__init__(f'bench-{name}-{series}', kernel=SERIES[series], initrd=f'{BUILD}/bench/{series}.gz',
				 smp=smp, memory=memory, virtual_time=virtual_time, boot_timeout=600,
				 append=f'loglevel=7 {append}',
				 devices=(snp, 'amd-iommu,snp=on', 'amd-psp,id=psp0'), **machine)

	def map(self):
		"""Without the series nobody says what the window is; then it is all RAM."""
		if not self.ram:
			self.ram = self.system_ram()
			first = min(first for first, _ in self.ram) & -GB
			self.window = first, min(max(last for _, last in self.ram), first + 2048 * GB - 1)
		return coverage.Map(self.snp('regions'), self.snp('cores'), self.window, self.ram)

	def vcpus(self):
		return {vcpu['index']: vcpu for vcpu in self.snp('vcpus')}

	@staticmethod
	def longest(cores_executed):
		"""The most RMPOPT that another core than the first one has executed in a row."""
		longest = 0
		runs = {}
		for core in cores_executed:
			if core == cores_executed[0]:
				runs.clear()
			else:
				runs[core] = runs.get(core, 0) + 1
				longest = max(longest, runs[core])
		return longest

	def step(self, command, wait=30):
		"""What COMMAND costs, with the pass that it leads to."""
		position = len(self.journal())
		before = self.vcpus()
		since = time.monotonic()
		said = self.check(f'rmpopt_stat.sh -t {wait} {command} 2>/tmp/rmpopt_stat', 1800)
		wall = time.monotonic() - since
		said = json.loads(said.splitlines()[-1])
		delta = [{key: vcpu[key] - before[index][key] for key in vcpu if key not in ('index', 'core')}
			 for index, vcpu in self.vcpus().items()]
		executed = [e for e in self.journal()[position:] if e['what'] == 'rmpopt']
		verified = [e for e in executed if not e['value']]
		visited = {e['address'] for e in verified}
		optimized = {e['address'] for e in verified if e['result']}
		# Since boot: what is returned may have been assigned long before.
		touched = {e['address'] for e in self.journal() if e['what'] == 'clear'}
		us = [d['rmpopt-entries-read'] / ENTRIES * US_SCAN + d['rmpopt-failed'] * US_FIRST_FAILS
		      + d['rmpopt-cached'] * US_CACHED + d['rmpopt-status'] * US_STATUS for d in delta]
		# The work may move to another core from pass to pass
		first = max(range(len(us)), key=lambda cpu: us[cpu])
		rounds = max(said['ipis'], default=0)
		now = self.map()
		# That the last page of a region is not the firmware's can not be known.
		needless = visited - touched - {region * GB for region in now.losses()}
		total = {key: sum(d[f'rmpopt-{key}'] for d in delta)
			 for key in ('uncached', 'cached', 'failed', 'status', 'entries-read')}
		verify = total['uncached'] + total['cached'] + total['failed']
		return {
			'passes': said['passes'], 'needless': len(needless), 'visited': len(visited), 'optimized': len(optimized),
			**total, 'verify': verify, 'rmpopt': verify + total['status'],
			'ipis': rounds, 'ipis-all': sum(said['ipis']),
			'interrupts': max(said['interrupts'], default=0),
			'lost': len({region for _, region in now.cells(coverage.LOST)}),
			'first-us': us[first] + rounds * US_ROUND,
			'other-us': max((t for cpu, t in enumerate(us) if cpu != first), default=0),
			'irq-off-us': self.longest([e['core'] for e in executed]) * US_CACHED,
			'wall-s': wall, 'guest-ns': said['ns'], 'said': said['said'],
		}

	def load(self):
		return self.step(f"taskset -c 0 sh -c '{LOAD}'")

	def place(self, *arguments):
		"""Physical addresses of the pages that are private then."""
		since = self.console_position()
		self.check(f'modprobe rmp_place {" ".join(arguments)}')
		match = self.wait_console(r'rmp_place: (\d+) regions have a private page', 60, since)
		placed = [int(pa, 16) for pa in re.findall('^rmp_place: 0x([0-9a-f]+)$',
							   '\n'.join(self.log.console[since:]), re.M)]
		if len(placed) != int(match[1]):
			raise self.error(f'{len(placed)} addresses of {match[1]} pages')
		return placed

	def end_guest(self):
		return self.step(f"sh -c '{VM}'")

	def give_back(self):
		return self.step(f"sh -c 'rmmod rmp_place && {VM}'")


# The cases. Each yields rows: what is special about it, and what it cost.

def boot(b):
	"""Pages that are kept come from node 0, what a status ioctl borrows from where the CPU is."""
	yield 'boot, SNP not initialized', b.step('true', 15)
	yield 'kvm-amd is loaded', b.load()
	for cpu in CPUS:
		yield f'a status ioctl of /dev/sev, node {cpu // 2}', b.step(f'taskset -c {cpu} sev_ioctl snp_platform_status')


def private(b):
	b.load()
	placed = b.place()
	yield 'a private page in each', {**b.end_guest(), 'placed': len(placed),
					 'pages-to-the-end': max(-pa % GB for pa in placed) // 4096}
	yield 'empty', b.give_back()
	yield 'empty, again', b.end_guest()


def teardown(b, first, most):
	b.load()
	for k in most:
		placed = len(b.place(f'first={first}', f'regions={k}'))
		if placed != k:
			raise b.error(f'a private page in {placed} regions of {k}')
		yield f'{k} region{"s" if k > 1 else ""}', {**b.give_back(), 'k': k}


def many(b):
	b.load()
	for number in 1, 10, 50:
		yield f'{number} guest{"s" if number > 1 else ""}', b.step(
			f"sh -c 'snp_vm --vms {number} --memory 1M --node 1,2,3,4 </dev/null >/dev/null'")


def conversions(b):
	"""The clock ticks with each instruction."""
	b.load()
	since = b.console_position()
	b.check('modprobe rmp_place regions=0 measure=1')
	match = b.wait_console(r'rmp_place: (\d+) pages: (\d+) ns to private, (\d+) ns to shared', 60, since)
	pages, *ns = map(int, match.groups())
	private_insns, shared_insns = (n / pages / 2 ** INSN_SHIFT for n in ns)
	yield 'conversion', {'to-private': private_insns, 'to-shared': shared_insns}


# Nanoseconds of the clock for an instruction, as a power of two
INSN_SHIFT = 1
TARGETS = 8
WORKLOAD_MB = 64


def benefit(b):
	"""Writes to a file that has its pages from TARGETS regions in turn, of which some are optimized."""
	b.load()
	b.check(f'mkdir /tmp/w && mount -t tmpfs -o size=1G,mpol=interleave:1-{TARGETS} tmpfs /tmp/w && '
		f'dd if=/dev/zero of=/tmp/w/file bs=1M count={WORKLOAD_MB} 2>/dev/null')
	write = f'dd if=/dev/zero of=/tmp/w/file bs=4k count={WORKLOAD_MB * 256} conv=notrunc 2>/dev/null'
	for held in range(TARGETS, -1, -2):
		if held and len(b.place('first=4', f'regions={held}')) != held:
			raise b.error(f'no private page in each of {held} regions')
		b.check(write)
		before = b.vcpus()
		b.check(write)
		after = b.vcpus()
		checked, skipped = (sum(after[i][key] - before[i][key] for i in after) for key in ('checked', 'skipped'))
		table = b.map().tables[0]
		have = sum(region in table for region in range(4, 4 + TARGETS))
		yield f'{100 * have // TARGETS} % of the file optimized', {
			'coverage': 100 * have / TARGETS, 'checked': checked, 'skipped': skipped}
		if held:
			b.give_back()


def cores(number):
	return f'{number},sockets=1,cores={number},threads=1'


# RAM in pieces, as SeaBIOS has room for no more than 32 ranges: 80 regions over 1 TB, and
# 256 over 2 TB and more. With those below them, and the first of them, in GB.
SPARSE = {
	'1 TB': (',sparse-chunks=16,sparse-size=5G,sparse-stride=64G', 64),
	'2 TB': (',sparse-chunks=16,sparse-size=16G,sparse-stride=128G', 128),
}
ALL = tuple(SERIES)
BOTH = 'base', 'full'


def cases(quick):
	"""Name, function, series, what it is told, and the machine"""
	both = ('full',) if quick else BOTH
	yield 'boot', boot, ALL, (), NODES
	for space, (sparse, first) in SPARSE.items():
		if quick and space != '1 TB':
			continue
		yield f'private-{space}', private, both, (), {'smp': cores(8), 'sparse': sparse}
		for number in (8,) if quick else (2, 8, 32):
			yield (f'teardown-{space}-{number}', teardown, both, (first, (1, 17) if quick else (1, 4, 16, 64)),
			       {'smp': cores(number), 'sparse': sparse})
	yield 'guests', many, both if quick else ALL, (), {'smp': cores(4), 'options': host.nodes(4)}
	yield 'conversions', conversions, ALL, (), {'smp': cores(2), 'virtual_time': INSN_SHIFT}
	if not quick:
		yield 'benefit', benefit, ALL, (), {
			'smp': cores(2), 'memory': f'{2 + TARGETS + 1}G', 'options': host.nodes(2, TARGETS + 1)}


class Runner:
	def __init__(self, quick):
		self.quick = quick
		self.rows = []
		self.failed = []
		self.done = 0
		self.lock = threading.Lock()
		self.jobs = [(name, function, series, arguments, machine)
			     for name, function, all_series, arguments, machine in cases(quick) for series in all_series]

	def progress(self, what):
		end = '\n' if not sys.stdout.isatty() else '\r'
		print(f'Bench: {self.done} of {len(self.jobs)}, {what}'.ljust(78), end=end, flush=True)

	def run(self, job):
		name, function, series, arguments, machine = job
		why = None
		found = []
		try:
			with Bench(series, name, **machine) as b:
				number = len(b.snp('cores'))
				regions = len({r for first, last in b.system_ram() for r in range(first // GB, last // GB + 1)})
				for text, row in function(b, *arguments):
					found.append({'case': function.__name__, 'text': text, 'series': series, 'cores': number,
						      'regions': regions, **row})
				for key in 'violations', 'audit-now', 'journal-lost':
					if b.snp(key):
						why = f'{key}: {b.snp(key)}'
				found_complaints = b.complaints()
				if found_complaints:
					why = ' / '.join(found_complaints[:3])
				b.quit()
		except HostError as error:
			why = str(error)
		except Exception as error:  # pylint: disable=broad-except
			# Such as an answer that is no JSON
			why = f'{type(error).__name__}: {error}'
		with self.lock:
			self.rows += found
			if why:
				self.failed.append(f'{name}, {series}: {why}')
			self.done += 1
			self.progress(f'{name}, {series}')

	def all(self):
		# The vCPUs of a machine take turns.
		with concurrent.futures.ThreadPoolExecutor(os.cpu_count()) as pool:
			list(pool.map(self.run, self.jobs))
		order = [function.__name__ for _, function, *_ in cases(self.quick)]
		self.rows.sort(key=lambda r: (order.index(r['case']), r['regions'], r['cores'], ALL.index(r['series'])))


def bounds(rows):
	"""What the full series promises of each row, and whether it is so."""
	insns = {r['series']: r for r in rows if r['case'] == 'conversions'}
	if len(insns) == len(ALL):
		for key, most in ('to-private', 4), ('to-shared', 16):
			more = insns['full'][key] - insns['without'][key]
			yield f'conversions, {key}: {most} instructions more at most', more <= most, f'{more} more'
	for r in rows:
		if r['case'] == 'benefit':
			yield (f'benefit, {r["text"]}, {r["series"]}: checks are skipped where it is optimized, and only there',
			       (r['skipped'] > 0) == (r['coverage'] > 0), r)
		name = f'{r["case"]}, {r["text"]}, {r["regions"]} regions, {r["cores"]} cores, {r["series"]}'
		if 'passes' not in r:
			continue
		if r['series'] == 'without':
			yield f'{name}: no RMPOPT and no IPI', not r['rmpopt'] + r['ipis-all'], r
		if r['series'] != 'full':
			continue
		yield f'{name}: nothing that can be optimized is not', not r['lost'] or 'not initialized' in r['text'], r
		yield (f'{name}: IPIs per core <= optimized / {BATCH}, rounded up for each pass',
		       r['ipis'] <= r['optimized'] // BATCH + r['passes'], r)
		yield f'{name}: no cell twice in a pass', r['verify'] <= r['visited'] * r['cores'] * max(1, r['passes']), r
		yield (f'{name}: {US_IRQ_OFF} us with interrupts off at most, by the model',
		       r['irq-off-us'] <= US_IRQ_OFF, r)
		if r['case'] != 'boot' or 'ioctl' in r['text']:
			yield f'{name}: visits only what has lost something', not r['needless'], r
		if r['case'] == 'teardown':
			yield f'{name}: visits k regions, and those of the firmware', r['k'] <= r['visited'] <= r['k'] + 3, r
		if r['case'] == 'many':
			yield f'{name}: one pass', r['passes'] == 1, r
		if r['text'] == 'empty, again':
			yield f'{name}: nearly nothing is visited', r['visited'] <= 3, r


COLUMNS = (
	('case', 'case', ''), ('text', 'what', ''), ('regions', 'regions', 'd'), ('cores', 'cores', 'd'), ('series', 'series', ''),
	('passes', 'passes', 'd'), ('visited', 'visited', 'd'), ('uncached', 'uncached', 'd'), ('cached', 'cached', 'd'),
	('failed', 'failed', 'd'), ('status', 'queries', 'd'), ('ipis', 'IPIs/core', 'd'), ('lost', 'lost', 'd'),
	('irq-off-us', 'irq-off', '.1f'), ('first-us', 'first core', '.0f'), ('other-us', 'others', '.0f'),
)


def cells(row):
	return [format(row[key], form) for key, _, form in COLUMNS]


def text_table(rows):
	table = [[title for _, title, _ in COLUMNS]] + [cells(r) for r in rows if 'passes' in r]
	width = [max(len(line[i]) for line in table) for i in range(len(COLUMNS))]
	return '\n'.join('  '.join(c.ljust(w) if not form else c.rjust(w) for c, w, (_, _, form)
				   in zip(line, width, COLUMNS)).rstrip() for line in table)


def chosen(rows, case, series, **only):
	return [r for r in rows if r['case'] == case and r['series'] == series
		and all(r[key] == value for key, value in only.items())]


def digest(rows):
	"""The table for the cover letter and for Documentation: the largest machines, both series."""
	most = max(r['regions'] for r in rows if r['case'] == 'teardown')
	wanted = [
		('kvm-amd is loaded', 'boot', {'text': 'kvm-amd is loaded'}),
		('a status ioctl of /dev/sev', 'boot', {'text': 'a status ioctl of /dev/sev, node 2'}),
		('a private page in each', 'private', {'regions': most, 'text': 'a private page in each'}),
		('all returned', 'private', {'regions': most, 'text': 'empty'}),
		('the same again', 'private', {'regions': most, 'text': 'empty, again'}),
		*((f'teardown, {k} region{"s" if k > 1 else ""}', 'teardown', {'regions': most, 'cores': 32, 'k': k})
		  for k in (1, 4, 16, 64)),
		('teardown of 50 guests', 'many', {'text': '50 guests'}),
	]
	lines = ['                           regions cores series RMPOPT queries IPIs  first others irqs off lost']
	for title, case, only in wanted:
		for series in BOTH:
			lines += [f'{title if series == BOTH[0] else "":26} {r["regions"]:7} {r["cores"]:5} {series:>6} '
				  f'{r["verify"]:6} {r["status"]:7} {r["ipis"]:4} {r["first-us"] / 1000:6.2f} '
				  f'{r["other-us"] / 1000:6.2f} {r["irq-off-us"]:8.1f} {r["lost"]:4}'
				  for r in chosen(rows, case, series, **only)]
	return '\n'.join(lines)


def plot(path, title, xlabel, ylabel, series, logx=False):
	"""SERIES: a title and points for each line."""
	script = ['set terminal svg size 640,380 background "white" font "sans,12"', f'set output "{path}"',
		  f'set title "{title}"', f'set xlabel "{xlabel}"', f'set ylabel "{ylabel}"', 'set key left top', 'set grid',
		  'set yrange [0:]']
	if logx:
		script.append('set logscale x 2')
	for index, (_, points) in enumerate(series):
		script += [f'$d{index} << END', *(f'{x} {y}' for x, y in points), 'END']
	script.append('plot ' + ', '.join(f'$d{index} with linespoints lw 2 pt 7 title "{name}"'
					  for index, (name, _) in enumerate(series)))
	subprocess.run(['gnuplot'], input='\n'.join(script), text=True, check=True)


def plots(rows, directory):
	def lines(case, key, value, **only):
		return [(f'{s} series', [(r[key], r[value]) for r in chosen(rows, case, s, **only)]) for s in BOTH]
	most = max(r['regions'] for r in rows if r['case'] == 'teardown' and r['cores'] == 32)
	plot(directory / 'ipis.svg', f'Teardown on {most} regions and 32 cores: IPIs', 'regions the guest was in',
	     'IPIs per core', lines('teardown', 'k', 'ipis', regions=most, cores=32), True)
	plot(directory / 'first.svg', '... and time of the core that goes first (modelled)', 'regions the guest was in',
	     'microseconds', lines('teardown', 'k', 'first-us', regions=most, cores=32), True)
	plot(directory / 'regions.svg', 'Teardown of a guest in 4 regions, 8 cores: all RMPOPT', 'regions with RAM',
	     'executed, function 1 included',
	     lines('teardown', 'regions', 'rmpopt', cores=8, k=4), True)
	plot(directory / 'benefit.svg', f'Writing a file of {WORKLOAD_MB} MB', 'part of its regions that is optimized, %',
	     'RMP checks (TLB fills)',
	     [(what, sorted((r['coverage'], r[what]) for r in chosen(rows, 'benefit', 'full')))
	      for what in ('checked', 'skipped')])
	return ['ipis.svg', 'first.svg', 'regions.svg', 'benefit.svg']


HARDWARE = '''# As root, on a kernel with the series, CONFIG_FTRACE and CONFIG_COMPACTION, in its source:
make headers && make -C tools/testing/selftests TARGETS=rmpopt
cd tools/testing/selftests/rmpopt
insmod test_modules/rmp_place.ko                  # private pages at the ends of all regions
./rmpopt_stat.sh sh -c './snp_vm --vms 1 --memory 1M </dev/null'
./rmpopt_stat.sh sh -c 'rmmod rmp_place; ./snp_vm --vms 1 --memory 1M </dev/null'    # empty
./rmpopt_stat.sh sh -c './snp_vm --vms 1 --memory 1M </dev/null'                     # empty, again
./rmpopt_stat.sh sh -c 'modprobe -r kvm_amd; modprobe kvm_amd'                       # set-up
./rmpopt_stat.sh ./sev_ioctl snp_platform_status
insmod test_modules/rmp_place.ko first=8 regions=64    # a guest in 64 regions, from 8 GB on
./rmpopt_stat.sh sh -c 'rmmod rmp_place; ./snp_vm --vms 1 --memory 1M </dev/null'
./rmpopt_stat.sh sh -c './snp_vm --vms 50 --memory 1M </dev/null'
insmod test_modules/rmp_place.ko regions=0 measure=1; dmesg | grep rmp_place      # conversions
'''


def page(rows, directory, failed, broken, seconds):
	e = html.escape
	out = ['<!DOCTYPE html><meta charset="utf-8"><title>What RMPOPT costs</title>',
	       '<style>body{font:14px sans-serif;max-width:1200px;margin:2em auto;padding:0 1em}table{border-collapse:collapse}'
	       'td,th{padding:.15em .6em;text-align:right;border-bottom:1px solid #ddd}td:nth-child(-n+2){text-align:left}'
	       'tr.full td{background:#eef7ee}pre{background:#f4f4f4;padding:1em;overflow:auto}</style>',
	       '<h1>What RMPOPT costs, and what it gains</h1>',
	       '<p>The kernel without the series, with the base series (its first seven patches), and with the full '
	       f'series, on an emulated SNP host. Made by <code>make bench</code> in {seconds / 60:.0f} minutes.</p>']
	for text in failed + broken:
		out.append(f'<p><b>Not as it should be:</b> {e(text)}</p>')
	for name in plots(rows, directory):
		out.append((directory / name).read_text(encoding='utf-8').split('?>', 1)[-1])
	out.append('<h2>Passes</h2><table><tr>' + ''.join(f'<th>{e(title)}' for _, title, _ in COLUMNS))
	out += [f'<tr class="{r["series"]}">' + ''.join(f'<td>{e(c)}' for c in cells(r)) for r in rows if 'passes' in r]
	out.append('</table><p>visited: regions; uncached, cached, failed: RMPOPT function 0 by outcome; queries: function 1; '
		   'lost: regions that could be optimized and are not, in the end; the last three in microseconds, modelled.</p>')
	out.append('<h2>Conversions of a page, instructions</h2><table><tr><th>series<th><th>to private<th>to shared')
	out += [f'<tr class="{r["series"]}"><td>{r["series"]}<td><td>{r["to-private"]:.1f}<td>{r["to-shared"]:.1f}'
		for r in rows if r['case'] == 'conversions']
	out.append(f'</table><h2>Writing a file of {WORKLOAD_MB} MB</h2><table><tr><th>series<th>optimized, %<th>checked<th>skipped')
	out += [f'<tr class="{r["series"]}"><td>{r["series"]}<td>{r["coverage"]:.0f}<td>{r["checked"]}<td>{r["skipped"]}'
		for r in rows if r['case'] == 'benefit']
	out.append('</table><h2>What is measured</h2><ul>'
		   '<li>RMPOPT by outcome, entries read, checks and tables: by the emulator. It checks a page when the TLB is filled, so '
		   'the number of checks depends on its TLB, not on the number of writes.'
		   '<li>IPIs: the kernel\'s trace event csd_function_entry, by CPU; the largest is shown. /proc/interrupts is in bench.json.'
		   '<li>Instructions: by the emulator\'s clock, which ticks with each; the least of 16 times 64 pages. An RMPUPDATE is one.'
		   '<li>A private page in each of k regions stands in for a guest in k regions; a guest of 1 MB that ends makes the request.'
		   '</ul><h2>What is modelled</h2><ul>')
	out += [f'<li>{e(text)}' for text in MODEL]
	out.append('</ul><h2>What only hardware can tell</h2><ul><li>All times; what RMPOPT on many cores at once does to each; '
		   'how long a core that scans a region takes no interrupts; what RMP checks cost a workload.</ul>'
		   f'<p>There, the same steps:</p><pre>{e(HARDWARE)}</pre>'
		   '<p>Each prints passes, their duration, IPIs and interrupts of each CPU, and what rmpopt_pass_end has said.</p>')
	slow = sum(r['wall-s'] for r in rows if 'wall-s' in r)
	out.append(f'<p>A remark: all steps took {slow:.0f} s of wall time in the emulator.</p>')
	(directory / 'bench.html').write_text('\n'.join(out) + '\n', encoding='utf-8')


def main():
	if len(sys.argv) != 2 and sys.argv[1:2] != ['--quick'] or len(sys.argv) > 3:
		sys.exit(__doc__.strip())
	quick = sys.argv[1] == '--quick'
	since = time.monotonic()
	runner = Runner(quick)
	runner.all()
	seconds = time.monotonic() - since
	judged = list(bounds(runner.rows))
	broken = [f'{text}: {row}' for text, good, row in judged if not good]
	if quick:
		for text, good, row in judged:
			print(f'ok - {text}' if good else f'not ok - {text}\n    {row}')
	for text in runner.failed:
		print(f'not ok - {text}')
	print(text_table(runner.rows))
	if quick:
		pathlib.Path(sys.argv[2]).write_text(
			f'{len(judged) - len(broken)} {len(broken) + len(runner.failed)}\n', encoding='utf-8')
	else:
		directory = pathlib.Path(sys.argv[1])
		directory.mkdir(parents=True, exist_ok=True)
		(directory / 'bench.json').write_text(json.dumps(
			{'rows': runner.rows, 'model': MODEL, 'failed': runner.failed + broken}, indent='\t') + '\n', encoding='utf-8')
		(directory / 'bench.txt').write_text(text_table(runner.rows) + '\n\n' + digest(runner.rows) + '\n',
						     encoding='utf-8')
		page(runner.rows, directory, runner.failed, broken, seconds)
		for text in broken:
			print(f'not ok - {text}')
		print(f'{seconds:.0f} s; for a reader: {directory / "bench.html"}')
	sys.exit(3 if broken or runner.failed else 0)


if __name__ == '__main__':
	main()
