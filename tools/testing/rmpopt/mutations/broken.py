# SPDX-License-Identifier: GPL-2.0-only
"""What all tests that break the code in build/linux have in common."""
import contextlib
import os
import signal
import subprocess

import pytest

from judge import TOP
from mutations import LINUX


def git(*arguments):
    return subprocess.run(
        ['git', '-C', LINUX, *arguments], check=True, text=True, stdout=subprocess.PIPE
    ).stdout


def whole(control):
    """
    For use before the first mutation. Ends pytest if the code has a change that would be lost, or
    does not pass without a mutation: CONTROL returns why, or nothing.
    """
    # So that the code is restored.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    if git('status', '--porcelain', '-uno'):
        pytest.exit(f'{os.path.relpath(LINUX, TOP)} has uncommitted changes: commit or stash them first', 3)
    why = control()
    if why:
        pytest.exit(f'the tests have to pass without a mutation\n{why}', 3)


@contextlib.contextmanager
def broken(mutation):
    """Inside, the code has the mutation."""
    original, mutated = mutation.original(), mutation.mutated()
    if mutated == original:
        pytest.fail(f'it changes nothing in {mutation.file}', pytrace=False)
    try:
        (LINUX / mutation.file).write_text(mutated, encoding='utf-8')
        yield
    finally:
        git('checkout', '-q', '--', mutation.file)


@contextlib.contextmanager
def group(*command, out, leave_out=('K',), **settings):
    """
    A command that ends with all that it has started, such as compilers and QEMU.

    out: where its output goes
    leave_out: variables that it does not get. K is what pytest was told, and others read it, too.
    """
    environment = {name: value for name, value in os.environ.items() if name not in leave_out}
    with subprocess.Popen(
        list(map(str, command)),
        env=environment | settings,
        stdout=out,
        stderr=subprocess.STDOUT,
        text=True,
        errors='replace',
        start_new_session=True,
    ) as process:
        try:
            yield process
        finally:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGTERM)
