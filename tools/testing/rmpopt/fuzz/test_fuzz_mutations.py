# SPDX-License-Identifier: GPL-2.0-only
"""
Breaks ccp or kvm-amd in build/linux in one way after the other, and fuzzes each time. Takes
long, so that "make test" does not collect it. See mutations.py for the format of mutations.toml.
"""
import os
import pathlib
import subprocess
import time
import tomllib

import pytest

import fuzz
import host
from judge import TOP
from mutations import LINUX, Mutation

SEED = 1
# Seconds for which nothing may be found without a mutation
CONTROL = 60
ENTRIES = tomllib.loads((pathlib.Path(__file__).parent / 'mutations.toml').read_text(encoding='utf-8'))
MUTATIONS = [Mutation(**entry) for entry in ENTRIES['mutation']]


def build():
    """The kernel and its initramfs, with the programs that host-kernel has built"""
    out = host.kernel_dir(fuzz.KERNEL)
    programs = [fuzz.PROGRAM.parent / name for name in ('fuzz', 'snp_vm', 'sev_ioctl', 'spin')]
    init = TOP / 'tools/testing/snphost/guest/host-init'
    for command in (
        [TOP / 'scripts/kernel', fuzz.KERNEL],
        [TOP / 'scripts/initramfs', out, init, f'{out}.gz', *programs],
    ):
        subprocess.run(list(map(str, command)), check=True, stdout=subprocess.DEVNULL)


@pytest.fixture(scope='module', autouse=True)
def whole():
    """Nothing is lost, and in the end the kernel is as it was."""
    status = subprocess.run(
        ['git', '-C', LINUX, 'status', '--porcelain', '-uno'], check=True, stdout=subprocess.PIPE
    )
    if status.stdout:
        pytest.exit(f'{os.path.relpath(LINUX, TOP)} has uncommitted changes: commit or stash them first', 3)
    yield
    build()


def test_without_mutation():
    fuzzer = fuzz.Fuzzer(SEED, CONTROL)
    fuzzer.minimise = False
    fuzzer.run()
    assert not fuzzer.finds, 'something is found although nothing is broken'


@pytest.mark.parametrize('mutation', MUTATIONS, ids=Mutation.slug)
def test_mutation(mutation):
    original, mutated = mutation.original(), mutation.mutated()
    assert mutated != original, f'it changes nothing in {mutation.file}'
    fuzzer = fuzz.Fuzzer(SEED, int(os.environ['FUZZ_SECONDS']))
    fuzzer.minimise = False
    try:
        (LINUX / mutation.file).write_text(mutated, encoding='utf-8')
        build()
        start = time.monotonic()
        try:
            fuzzer.run(until_find=True)
        except host.HostError as error:
            # It does not even boot, or not for long.
            print(f'{mutation.name}: {str(error).splitlines()[0]}')
            return
    finally:
        (LINUX / mutation.file).write_text(original, encoding='utf-8')
    print(f'{mutation.name}: {time.monotonic() - start:.0f} s, {", ".join(fuzzer.finds) or "not found"}')
    assert fuzzer.finds, f'not found in {fuzzer.operations} operations'
