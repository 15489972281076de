# SPDX-License-Identifier: GPL-2.0-only
"""
Whether each mutation still does what it is made for. That the tests notice it takes hours: "make
mutate" and "make fuzz-mutate".
"""
import pytest

from mutations import MUTATIONS, OF_FUZZER, UNNOTICED, Mutation

KINDS = {'KUnit': MUTATIONS, 'fuzzer': OF_FUZZER}


@pytest.mark.parametrize('kind', KINDS)
def test_mutations_apply(judge, kind):
    made: dict[str, Mutation] = {}
    for mutation in KINDS[kind]:
        mutated = mutation.mutated()
        judge.judge(
            f'{mutation.name}: it changes the code',
            mutated != mutation.original(),
            f'nothing in {mutation.file} matches',
        )
        other = made.setdefault(mutated, mutation)
        judge.judge(f'{mutation.name}: no other mutation does the same', other is mutation, other.name)


@pytest.mark.parametrize('kind', KINDS)
def test_mutations_have_different_names(judge, kind):
    slugs = [mutation.slug() for mutation in KINDS[kind]]
    judge.equal('names', sorted(set(slugs)), sorted(slugs))


def test_unnoticed_code_exists(judge):
    for code in UNNOTICED:
        judge.judge(f'{code.file}: {code.text}', code.exists(), 'it is not there any more')
