# SPDX-License-Identifier: GPL-2.0-only
"""
Breaks ccp or kvm-amd in build/linux in one way after the other, and fuzzes each time. Takes
long, so that "make test" does not collect it. See mutations.py for the format of mutations.toml.
"""
import os
import subprocess
import time

import pytest

import fuzz
import host
from broken import broken, whole
from judge import TOP
from mutations import OF_FUZZER, Mutation

SEED = 1
# Seconds for which nothing may be found without a mutation
CONTROL = 60


def build():
    """The kernel and its initramfs, with the programs that host-kernel has built"""
    subprocess.run(
        [TOP / 'tools/testing/rmpopt/host-kernel', '--again', fuzz.KERNEL],
        check=True,
        stdout=subprocess.DEVNULL,
    )


def control():
    fuzzer = fuzz.Fuzzer(SEED, CONTROL)
    fuzzer.minimise = False
    fuzzer.run()
    return ', '.join(fuzzer.finds)


@pytest.fixture(scope='module', autouse=True)
def safe():
    """In the end the kernel is as it was, too."""
    whole(control)
    yield
    build()


@pytest.mark.parametrize('mutation', OF_FUZZER, ids=Mutation.slug)
def test_mutation(mutation):
    fuzzer = fuzz.Fuzzer(SEED, int(os.environ['FUZZ_SECONDS']))
    fuzzer.minimise = False
    with broken(mutation):
        build()
        start = time.monotonic()
        try:
            fuzzer.run(until_find=True)
        except host.HostError as error:
            # It does not even boot, or not for long.
            print(f'{mutation.name}: {str(error).splitlines()[0]}')
            return
    print(f'{mutation.name}: {time.monotonic() - start:.0f} s, {", ".join(fuzzer.finds) or "not found"}')
    assert fuzzer.finds, f'not found in {fuzzer.operations} operations'
