# SPDX-License-Identifier: GPL-2.0-only
"""A minute of the fuzzer. "make fuzz" takes more time, and minimises what it finds."""
import pytest

import fuzz
from snp_host import QUICK

SECONDS = 60
SEED = 1
# Slow machines get to fewer operations than others.
OPERATIONS = 2000


@pytest.mark.skipif(QUICK, reason='QUICK=1 leaves out the kernels that take long to build')
@pytest.mark.needs(*() if QUICK else (f'host {fuzz.KERNEL}',))
@pytest.mark.all_cores
def test_fuzz(judge):
    fuzzer = fuzz.Fuzzer(SEED, SECONDS, tell=lambda line: print(line, file=judge.out, flush=True))
    fuzzer.minimise = False
    fuzzer.run()
    judge.equal('nothing is found', [], list(fuzzer.finds))
    judge.judge('there are operations', fuzzer.operations >= OPERATIONS, fuzzer.operations)
