# SPDX-License-Identifier: GPL-2.0-only
"""The KUnit tests of the series, run by the kernel's kunit.py. Each of them is a judgement."""
import json
import subprocess

import pytest

from judge import LOGS, TOP


def cases(group):
    for case in group.get('test_cases', []):
        yield f'{group["name"]}: {case["name"]}', case['status']
    for sub in group.get('sub_groups', []):
        yield from cases(sub)


@pytest.mark.needs('kunit')
def test_kunit(judge):
    log = LOGS / 'kunit.txt'
    judge.logs.append(log)
    with log.open('w', encoding='utf-8') as out:
        status = subprocess.run(
            [TOP / 'scripts' / 'kunit'], stdout=out, stderr=subprocess.STDOUT, check=False
        ).returncode
    for name, outcome in cases(json.loads((LOGS / 'kunit.json').read_text(encoding='utf-8'))):
        judge.judge(name, outcome == 'PASS', outcome)
    # Not if the kernel has died, or a test was skipped.
    judge.equal('scripts/kunit ends well', 0, status)
