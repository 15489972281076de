# SPDX-License-Identifier: GPL-2.0-only
"""
Whether each mutation still does what it is made for. That the tests notice it takes hours: "make
mutate", "make host-mutate" and "make fuzz-mutate".
"""
import os
import pathlib
import subprocess
import sys

import pytest

from mutations import MUTATIONS, OF_FUZZER, OF_HOST, UNNOTICED, Mutation

KINDS = {'KUnit': MUTATIONS, 'host': OF_HOST, 'fuzzer': OF_FUZZER}


@pytest.mark.parametrize('kind', KINDS)
def test_mutations_apply(judge, kind):
    made: dict[tuple[str, str], Mutation] = {}
    for mutation in KINDS[kind]:
        mutated = mutation.mutated()
        judge.judge(
            f'{mutation.name}: it changes the code',
            mutated != mutation.original(),
            f'nothing in {mutation.file} matches',
        )
        other = made.setdefault((mutated, mutation.test), mutation)
        judge.judge(f'{mutation.name}: no other mutation does the same', other is mutation, other.name)


@pytest.mark.parametrize('kind', KINDS)
def test_mutations_have_different_names(judge, kind):
    slugs = [mutation.slug() for mutation in KINDS[kind]]
    judge.equal('names', sorted(set(slugs)), sorted(slugs))


def test_unnoticed_code_exists(judge):
    for code in UNNOTICED:
        judge.judge(f'{code.file}: {code.text}', code.exists(), 'it is not there any more')


def test_scenarios_have_mutations(judge):
    """If one test of a file has a mutation that makes it fail, all have."""
    here = pathlib.Path(__file__).parent
    tests = {mutation.test for mutation in OF_HOST}
    files = sorted({test.partition('::')[0] for test in tests})
    # As the mutations name them
    environment = {name: value for name, value in os.environ.items() if name != 'HOST_PROPERTIES'}
    lines = subprocess.run(
        [sys.executable, '-m', 'pytest', '-p', 'no:cacheprovider', '-q', '--collect-only', *files],
        cwd=here,
        env=environment | {'QUICK': '1'},
        check=True,
        text=True,
        stdout=subprocess.PIPE,
    ).stdout.splitlines()
    found = {line[line.index(file) :] for line in lines for file in files if f'{file}::' in line}
    judge.equal('tests without a mutation', [], sorted(found - tests))
    judge.equal('mutations for tests that do not exist', [], sorted(tests - found))
