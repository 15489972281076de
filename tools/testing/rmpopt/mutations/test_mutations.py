# SPDX-License-Identifier: GPL-2.0-only
"""
Breaks the code in build/linux in one way after the other, and runs the KUnit tests each
time: they have to fail. Takes hours, so that "make test" does not collect it.
"""
import subprocess

import pytest

from broken import broken, group, whole
from judge import LOGS, TOP, tail
from mutations import MUTATIONS, Mutation

FAILED = '[FAILED]'


def kunit(log):
    """Whether the KUnit tests pass. The first one that fails is enough, and ends them."""
    with group(TOP / 'scripts/kunit', out=subprocess.PIPE) as process:
        assert process.stdout
        with log.open('w', encoding='utf-8') as out:
            for line in process.stdout:
                out.write(line)
                if FAILED in line:
                    return False
        return process.wait() == 0


def control():
    log = LOGS / 'mutations.log'
    LOGS.mkdir(parents=True, exist_ok=True)
    return None if kunit(log) else tail(log)


@pytest.fixture(scope='module', autouse=True)
def safe():
    whole(control)


@pytest.mark.parametrize('mutation', MUTATIONS, ids=Mutation.slug)
def test_mutation(mutation):
    log = LOGS / f'mutation-{mutation.slug()}.log'
    with broken(mutation):
        passed = kunit(log)
    if passed:
        pytest.fail(f'it survives: no KUnit test notices it\n{tail(log)}', pytrace=False)
    # kunit.py reports what has booted.
    if FAILED not in log.read_text(encoding='utf-8') and not (LOGS / 'kunit.json').exists():
        pytest.fail(f'it does not build\n{tail(log)}', pytrace=False)
