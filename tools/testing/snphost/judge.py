# SPDX-License-Identifier: GPL-2.0-only
"""Judgements: a test makes many, tells each as it is made, and goes on after one that fails."""
import os
import pathlib
import re
import sys
import threading
from typing import Any, Callable, TextIO

TOP = pathlib.Path(__file__).resolve().parents[3]
# lib.sh knows, unless this is run by hand.
BUILD = pathlib.Path(os.environ.get('RMPOPT_BUILD') or TOP / 'build')
LOGS = BUILD / 'log'


class FirstFailure(Exception):
    pass


class Judge:
    """
    The judgements of one test or program. Threads may share it.

    first: whether the first one that fails is enough, and raises FirstFailure
    """

    def __init__(self, out: TextIO = sys.stdout, first: bool = False):
        self.out = out
        self.first = first
        self.passed = 0
        # The text and reason of each that has failed
        self.failures: list[str] = []
        # Logs of what is judged: a report of a failure shows their ends
        self.logs: list[pathlib.Path] = []
        # For a reader, printed once all tests have run
        self.notes: list[str] = []
        # What has to be judged when the test has come to its end
        self.last: list[Callable[[], None]] = []
        self.lock = threading.Lock()

    def judge(self, text: str, good: Any, why: Any = '') -> bool:
        with self.lock:
            if good:
                self.passed += 1
                print(f'ok - {text}', file=self.out, flush=True)
            else:
                failure = text + (f'\n    {why}' if str(why) else '')
                self.failures.append(failure)
                print(f'not ok - {failure}', file=self.out, flush=True)
                if self.first:
                    raise FirstFailure(text)
        return bool(good)

    def equal(self, text: str, expected: Any, found: Any) -> bool:
        return self.judge(text, expected == found, f'expected {expected}, found {found}')

    def note(self, text: str) -> None:
        self.notes.append(text)

    def at_end(self, function: Callable[[], None]) -> None:
        self.last.append(function)

    def end(self) -> None:
        for function in self.last:
            function()

    def total(self) -> str:
        return f'{self.passed} passed, {len(self.failures)} failed'


def slug(text: str) -> str:
    """A name for files and for pytest -k"""
    return re.sub(r'[^A-Za-z0-9]+', '-', text).strip('-')


def tail(path: pathlib.Path, lines: int = 25) -> str:
    """The end of a log, with its name."""
    name = os.path.relpath(path, TOP)
    try:
        text = path.read_text(encoding='utf-8', errors='replace').splitlines()[-lines:]
    except OSError as error:
        return f'{name}: {error.strerror}'
    return '\n'.join([f'{name}, its end:', *(f'    {line}' for line in text)])
