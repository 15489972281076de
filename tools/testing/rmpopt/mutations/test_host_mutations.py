# SPDX-License-Identifier: GPL-2.0-only
"""
Breaks the code in build/linux in one way after the other, and runs the test of the host that
guards the line: a judgement of it has to fail. A host that does not boot is none. Takes long,
so that "make test" does not collect it.
"""
import re
import sys
import time

import pytest

from broken import broken, group, whole
from judge import LOGS, TOP, slug, tail
from mutations import OF_HOST, Mutation

TEST = re.compile(r'test_(\w+)\.py::\w+\[(.+)\]')
# What fails if a test is ended by an error
ERROR = 'completes'


def call(log, *command):
    """Whether it succeeds"""
    with log.open('a', encoding='utf-8') as out:
        # Properties would be part of the names of tests. Of the kernels there is but the one
        # called "full".
        with group(*command, out=out, leave_out=('K', 'HOST_PROPERTIES'), QUICK='1') as process:
            return process.wait() == 0


def build(log):
    """The kernel and its initramfs, with the programs and test modules that host-kernel has built"""
    return call(log, TOP / 'tools/testing/rmpopt/host-kernel', '--again', 'full')


def judged(test):
    """The file with the judgements of a test"""
    match = TEST.fullmatch(test)
    assert match, f'{test}: not like test_FILE.py::FUNCTION[SCENARIO]'
    return LOGS / f'{slug("-".join(match.groups()))}.txt'


def passes(test, log):
    """
    Whether the test passes, and which of its judgements have failed. That one has is enough: what
    is broken may hang after that.
    """
    judged(test).unlink(missing_ok=True)
    passed = call(
        log,
        *(sys.executable, '-m', 'pytest', '-p', 'no:cacheprovider', '-v', '--tb=short', '--first'),
        TOP / 'tools/testing/rmpopt/tests' / test,
    )
    try:
        text = judged(test).read_text(encoding='utf-8')
    except FileNotFoundError:
        text = ''
    failed = re.findall('^not ok - (.*)$', text, re.M)
    return passed, [judgement for judgement in failed if judgement != ERROR]


@pytest.fixture(autouse=True)
def cores():
    """The test that is run takes its core."""


@pytest.fixture(scope='module', autouse=True)
def safe(request):
    """In the end the kernel is as it was, too."""
    tests = dict.fromkeys(item.callspec.params['mutation'].test for item in request.session.items)
    log = LOGS / 'host-mutations.log'

    def control():
        log.unlink(missing_ok=True)
        if not build(log):
            return tail(log)
        for test in tests:
            start = time.monotonic()
            if not passes(test, log)[0]:
                return tail(log)
            print(f'without a mutation: {test}: {time.monotonic() - start:.0f} s')
        return None

    whole(control)
    yield
    build(log)


@pytest.mark.parametrize('mutation', OF_HOST, ids=Mutation.slug)
def test_mutation(mutation):
    log = LOGS / f'host-mutation-{mutation.slug()}.log'
    log.unlink(missing_ok=True)
    start = time.monotonic()
    with broken(mutation):
        if not build(log):
            pytest.fail(f'it does not build\n{tail(log)}', pytrace=False)
        built = time.monotonic()
        passed, failed = passes(mutation.test, log)
    print(
        f'{mutation.name}: {built - start:.0f} s to build, {time.monotonic() - built:.0f} s to test: '
        + (failed[0] if failed else 'no judgement fails')
    )
    if passed:
        pytest.fail(f'it survives: {mutation.test} does not notice it\n{tail(log)}', pytrace=False)
    if not failed:
        pytest.fail(f'{mutation.test} is ended by an error, and has not judged\n{tail(log)}', pytrace=False)
