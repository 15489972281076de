# SPDX-License-Identifier: GPL-2.0-only
"""
What all tests have in common. A test that takes the fixture "judge" makes judgements, each
of which counts. One that does not is a judgement by itself. The last line is the sum.

@pytest.mark.needs('host full'): what "test" has to build before. See build_for() there.
@pytest.mark.all_cores: the test runs alone, because it is about vCPUs that run in parallel.
"""
import collections
import contextlib
import fcntl
import os
import pathlib
import time

import pytest

from judge import LOGS, TOP, FirstFailure, Judge, slug, tail

# When there is no time any more for tests, in seconds since 1970, and how much longer there is
# for those that run alone, which come last
UNTIL = float(os.environ.get('TESTS_UNTIL', 'inf'))
ALONE = 400
NO_TIME = 'there is no time for it'
# What the tests of each file took, for those who want to make them faster
TIMES = LOGS / 'tests.times'
# Failed judgements of a test that are shown: a bare kernel makes thousands.
SHOWN = 60


def pytest_addoption(parser):
    parser.addoption('--first', action='store_true', help='end a test with its first judgement that fails')
    parser.addoption('--needs', metavar='FILE', help='write what the chosen tests need to FILE, and run none')


def pytest_configure(config):
    config.addinivalue_line('markers', 'needs(WHAT, ...): what has to be built before')
    config.addinivalue_line('markers', 'all_cores: no other test may run at the same time')
    config.addinivalue_line('markers', 'variant: as another test, with other settings')
    config.addinivalue_line('markers', 'scripts: of what the project is made with, not of what it makes')
    # Of xdist's processes only the first one reports.
    if not hasattr(config, 'workerinput'):
        config.pluginmanager.register(Total(config), 'total')


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(config, items):
    # A test that has to run alone waits for those of the other processes to end. At the end
    # there are no others, and nobody waits. If time is short, tests of scripts are missed least,
    # and then variants.
    order = 'all_cores', 'scripts', 'variant'
    items.sort(key=lambda item: [item.get_closest_marker(name) is not None for name in order])
    needs = config.getoption('--needs')
    if needs:
        wanted = {what for item in items for mark in item.iter_markers('needs') for what in mark.args}
        pathlib.Path(needs).write_text(''.join(f'{what}\n' for what in sorted(wanted)), encoding='utf-8')


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item):
    if time.time() > UNTIL + (ALONE if item.get_closest_marker('all_cores') else 0):
        pytest.skip(NO_TIME)


def log_name(item):
    """As life-cycle-kdump-x86-shutdown: of the file, and of the parameters or else the function."""
    name = item.callspec.id if hasattr(item, 'callspec') else item.originalname.removeprefix('test_')
    return slug(f'{item.path.stem.removeprefix("test_")}-{name}')


@pytest.fixture(name='judge')
def judge_fixture(request):
    path = LOGS / f'{log_name(request.node)}.txt'
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open('w', encoding='utf-8') as out:
        yield Judge(out, request.config.getoption('--first'))


def pytest_generate_tests(metafunc):
    """The hosts of a scenario, see snp_host.py"""
    if 'm' in metafunc.fixturenames:
        metafunc.parametrize('m', getattr(metafunc.function, 'scenarios', []), indirect=True)


@pytest.fixture
def m(request, judge):
    kind, arguments = request.param
    with kind(log_name(request.node), judge, **arguments) as host:
        judge.logs.append(host.log.path)
        judge.at_end(host.finish)
        yield host


@pytest.hookimpl(tryfirst=True)
def pytest_pyfunc_call(pyfuncitem):
    """Fails a test that has come to its end with a judgement that failed."""
    made = pyfuncitem.funcargs.get('judge')
    if made is None:
        return None
    names = pyfuncitem._fixtureinfo.argnames  # pylint: disable=protected-access
    try:
        pyfuncitem.obj(**{name: pyfuncitem.funcargs[name] for name in names})
        made.end()
    except FirstFailure:
        pass
    except Exception as error:
        made.first = False
        made.judge('completes', False, f'{type(error).__name__}: {error}')
        raise
    else:
        made.first = False
        if not made.passed and not made.failures:
            made.judge('judges something', False)
    finally:
        pyfuncitem.user_properties += [('passed', made.passed), ('failed', len(made.failures))]
        pyfuncitem.user_properties += [('note', note) for note in made.notes]
    if made.failures:
        more = len(made.failures) - SHOWN
        rest = [f'... and {more} more, see {os.path.relpath(made.out.name, TOP)}'] if more > 0 else []
        pytest.fail('\n'.join(made.failures[:SHOWN] + rest), pytrace=False)
    return True


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item, call):
    outcome = yield
    report = outcome.get_result()
    made = getattr(item, 'funcargs', {}).get('judge')
    if report.failed and made:
        if call.excinfo and not call.excinfo.errisinstance(pytest.fail.Exception):
            report.sections += [('failed before', failure) for failure in made.failures[:-1]]
        report.sections += [('log', tail(path)) for path in made.logs]


@pytest.fixture(autouse=True)
def cores(request):
    """One lock for each of xdist's processes. A test holds its own one, or all of them in turn."""
    workers = int(os.environ.get('PYTEST_XDIST_WORKER_COUNT', 1))
    own = int(os.environ.get('PYTEST_XDIST_WORKER', 'gw0').removeprefix('gw'))
    wanted = range(workers) if request.node.get_closest_marker('all_cores') else (own,)
    LOGS.mkdir(parents=True, exist_ok=True)
    with contextlib.ExitStack() as stack:
        for number in wanted:
            lock = stack.enter_context((LOGS / f'core{number}.lock').open('w', encoding='utf-8'))
            fcntl.flock(lock, fcntl.LOCK_EX)
        yield


class Total:
    """The sum of judgements, as the last line."""

    def __init__(self, config):
        self.config = config
        self.passed = self.failed = 0
        self.notes = []
        self.left_out = []
        # Seconds by file, those of all processes together
        self.seconds: collections.Counter[str] = collections.Counter()

    def pytest_runtest_logreport(self, report):
        properties = dict(report.user_properties)
        self.seconds[pathlib.Path(report.location[0]).name] += report.duration
        if report.when == 'call' and 'passed' in properties:
            self.passed += properties['passed']
            self.failed += properties['failed']
            self.notes += [value for name, value in report.user_properties if name == 'note']
        elif report.failed:
            self.failed += 1
        elif report.skipped and NO_TIME in str(report.longrepr):
            self.left_out.append(report.nodeid)
        elif report.passed and report.when == 'call':
            self.passed += 1

    def pytest_collectreport(self, report):
        self.failed += report.failed

    def pytest_terminal_summary(self, terminalreporter):
        for title, lines in ('notes', self.notes), (f'left out, as {NO_TIME}', self.left_out):
            if lines:
                terminalreporter.section(title)
                for line in sorted(lines):
                    terminalreporter.write_line(line)
        times = [f'{name:<24} {seconds:6.0f} s' for name, seconds in self.seconds.most_common()]
        if self.left_out:
            times.append(f'left out, as {NO_TIME}: {len(self.left_out)} tests')
        TIMES.write_text(''.join(f'{line}\n' for line in times), encoding='utf-8')

    @pytest.hookimpl(trylast=True)
    def pytest_unconfigure(self):
        if self.config.option.collectonly:
            return
        print(f'{self.passed} passed, {self.failed} failed')
