# SPDX-License-Identifier: GPL-2.0-only
"""
Copies of the project for the tests of the round trip. Each copy has one of the two trees,
build/linux or build/qemu-snp/src. To be quick, the tree of a copy has only those directories of
the base that the series touches.
"""
import contextlib
import dataclasses
import fcntl
import functools
import json
import os
import pathlib
import re
import shutil
import subprocess
import traceback
from typing import Any, Callable, Iterator

from judge import TOP, Judge

# Later than all patches, whatever the machine's clock says
DATE = '1893456000 +0000'
# Variables that a user may give to make. The commands under test see only those of the test.
OPTIONS = ('LINUX', 'QEMU', 'OTHER', 'SIGNOFF')
# Runs a function of lib.sh. $0 is the file of scripts/ that names another tree, or empty.
LIB = 'set -euo pipefail; . scripts/lib.sh; [ -z "$0" ] || . "scripts/$0"; "$@"'
# The variables of lib.sh that say where the parts of a tree are
SETTINGS = ('tree', 'where', 'mails', 'bring', 'make', 'export', 'series', 'variable')


class Failed(AssertionError):
    """A command that ended with another status than 0"""

    def __init__(self, done: 'subprocess.CompletedProcess[str]'):
        output = (done.stdout + done.stderr).splitlines()[-15:]
        super().__init__('\n'.join([f'{" ".join(done.args)}: exit status {done.returncode}', *output]))
        self.stderr = done.stderr


@dataclasses.dataclass(frozen=True)
class Kind:
    """What lib.sh and qemu.sh do not say about a tree"""

    # The file of scripts/ that names the tree, if lib.sh does not
    settings: str
    # Where the copies are
    work: pathlib.Path
    # Two files of the base in one directory, of which the series changes the first one
    changed: str
    other: str
    # Directories of the base besides those of the series
    directories: tuple[str, ...]
    # What the refusal of a wrong base says: it is something else, or has the series already
    no_tree: str
    has_series: str


KINDS = {
    'linux': Kind(
        settings='',
        work=TOP / 'build/roundtrip',
        changed='arch/x86/virt/svm/sev.c',
        other='arch/x86/virt/svm/cmdline.c',
        directories=('arch/x86/virt/svm/', 'arch/x86/include/asm/'),
        no_tree='is not a Linux .* source tree',
        has_series='has RMPOPT already',
    ),
    'qemu': Kind(
        settings='qemu.sh',
        work=TOP / 'build/qemu-roundtrip',
        changed='hw/i386/amd_iommu.c',
        other='hw/i386/monitor.c',
        directories=('hw/i386/',),
        no_tree='is not a QEMU source tree',
        has_series='has hw/i386/amd_snp.c already',
    ),
}


@functools.lru_cache(maxsize=None)
def environment() -> dict[str, str]:
    """The environment that lib.sh exports. Commits have the project's author, but another committer."""
    made = subprocess.run(
        ['bash', '-c', '. scripts/lib.sh; say "$author_name"; say "$author_email"; env -0'],
        cwd=TOP,
        check=True,
        stdout=subprocess.PIPE,
        encoding='utf-8',
    ).stdout
    name, email, variables = made.split('\n', 2)
    env = dict(variable.split('=', 1) for variable in variables.split('\0') if variable)
    for option in OPTIONS:
        env.pop(option, None)
    env.update(GIT_AUTHOR_NAME=name, GIT_AUTHOR_EMAIL=email, GIT_AUTHOR_DATE=DATE)
    env.update(GIT_COMMITTER_NAME='Some Committer', GIT_COMMITTER_EMAIL='some@localhost')
    return env


def run(*command: Any, cwd: pathlib.Path, **variables: str) -> 'subprocess.CompletedProcess[str]':
    done = subprocess.run(
        [str(word) for word in command],
        cwd=cwd,
        env={**environment(), **variables},
        check=False,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        encoding='utf-8',
        errors='surrogateescape',
    )
    if done.returncode:
        raise Failed(done)
    return done


def git(repository: pathlib.Path, *arguments: Any, **variables: str) -> str:
    return run('git', *arguments, cwd=repository, **variables).stdout.rstrip('\n')


def lib(settings: str, *command: Any, top: pathlib.Path = TOP) -> str:
    """Returns what a function of lib.sh prints."""
    return run('bash', '-c', LIB, settings, *command, cwd=top).stdout.rstrip('\n')


def numbers(directory: pathlib.Path) -> list[int]:
    """The numbers of the patches there, without the cover letter"""
    found = sorted(int(path.name[:4]) for path in directory.glob('*.patch'))
    return [number for number in found if number]


def read(path: pathlib.Path) -> str:
    return path.read_text(encoding='utf-8')


def append(path: pathlib.Path, text: str) -> None:
    with path.open('a', encoding='utf-8') as file:
        file.write(text)


def write(path: pathlib.Path, text: str, mode: int = 0) -> pathlib.Path:
    """Writes a file, and makes its directories. A file that exists keeps its mode."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding='utf-8')
    if mode:
        path.chmod(mode)
    return path


class Project:
    """
    A copy of the project with a tree, in a directory of its own. "made" holds the base commit of
    all small trees, the last commit of the series on this base, and the settings of lib.sh.
    """

    def __init__(self, kind: Kind, room: pathlib.Path, judge: Judge, made: dict[str, Any]):
        self.kind = kind
        self.room = room
        self.judge = judge
        self.copy = room / 'project'
        self.base, self.want = made['base'], made['want']
        settings = made['settings']
        self.tree = self.copy / pathlib.Path(settings['tree']).relative_to(TOP)
        self.mails = self.copy / pathlib.Path(settings['mails']).relative_to(TOP)
        # What messages call the tree
        self.tree_name = str(self.tree.relative_to(self.copy))
        self.where = settings['where']
        self.make = settings['make']
        self.variable = settings['variable']
        # The directory that patches/ is in
        self.project = self.copy / self.where
        self.scripts = {name: settings[name] for name in ('bring', 'export', 'series')}
        self.changed = self.tree / kind.changed
        self.directory = self.changed.parent

    # Scripts of the project

    def script(self, name: str, *arguments: str, **variables: str) -> str:
        done = run(self.copy / 'scripts' / name, *arguments, cwd=self.copy, **variables)
        return done.stdout + done.stderr

    def bring(self, **variables: str) -> str:
        return self.script(self.scripts['bring'], **variables)

    def export(self, **variables: str) -> str:
        return self.script(self.scripts['export'], **variables)

    def series(self, **variables: str) -> str:
        return self.script(self.scripts['series'], **variables)

    def clean(self) -> str:
        return self.script('clean')

    def lib(self, *command: Any) -> str:
        return lib(self.kind.settings, *command, top=self.copy)

    # What is in the tree and in the project

    def git(self, *arguments: Any, **variables: str) -> str:
        return git(self.tree, *arguments, **variables)

    def commit(self, message: str, *options: str) -> None:
        """Commits everything in the tree, also files that its .gitignore hides."""
        self.git('add', '-A', '-f')
        self.git('commit', '-q', '-m', message, *options)

    def fixup(self, commit: str) -> None:
        """Moves the changes in the tree to that commit."""
        self.git('add', '-A', '-f')
        self.git('commit', '-q', f'--fixup={commit}')
        self.git('rebase', '-q', '-i', '--autosquash', 'base', GIT_SEQUENCE_EDITOR=':')

    def head(self, name: str = 'HEAD') -> str:
        return self.git('rev-parse', name)

    def commits(self) -> int:
        return int(self.git('rev-list', '--count', 'base..series'))

    def messages(self) -> str:
        """The tree, author and message of each commit"""
        return self.git('log', '--format=%T %an %ae %at %B', 'base..HEAD')

    def tree_state(self) -> list[Any]:
        """Everything in the tree that could be lost: commits, index, files, branch."""
        untracked = self.git('ls-files', '-o', '--exclude-standard').splitlines()
        return [
            self.head(),
            self.git('rev-parse', '--symbolic-full-name', 'HEAD'),
            self.git('status', '--porcelain'),
            self.git('diff'),
            *((name, (self.tree / name).read_bytes()) for name in untracked),
        ]

    def patches(self) -> list[pathlib.Path]:
        return [pathlib.Path(name) for name in self.lib('patch_files', self.project).splitlines()]

    def project_state(self) -> list[str]:
        """The project's patches and new files: their modes, and a hash of their contents"""
        files = [path for path in (self.project / 'patches').rglob('*') if path.is_file()]
        new = self.lib('stub_files', *self.patches()).splitlines()
        files += [self.project / name for name in new]
        modes = sorted(f'{path.stat().st_mode:o} {path.relative_to(self.project)}' for path in files)
        return [*modes, self.lib('inputs_hash', self.project)]

    def save(self) -> None:
        """Commits the project as it is."""
        git(self.copy, 'add', '-A')
        git(self.copy, 'commit', '-q', '--allow-empty', '-m', 'saved')

    def change_patches(self) -> None:
        """Changes the subject of the first patch."""
        first = self.patches()[0]
        write(first, read(first).replace('\nSubject: [PATCH] ', '\nSubject: [PATCH] Re-word: ', 1))

    # Trees

    def small_tree(self, path: pathlib.Path) -> None:
        """Makes a repository at the base."""
        path.parent.mkdir(parents=True, exist_ok=True)
        clone(self.kind.work / 'base', path, self.base)

    def new_tree(self) -> None:
        """Replaces the tree by one that has nothing of the series yet."""
        shutil.rmtree(self.tree, ignore_errors=True)
        self.small_tree(self.tree)
        self.lib('stamp_set', self.tree, 'none', f'{self.base} {self.base} {self.base}', 'test')

    # Judgements

    @contextlib.contextmanager
    def check(self, text: str) -> Iterator[None]:
        """What is asserted inside is one judgement. The test goes on after one that fails."""
        try:
            yield
        except (AssertionError, OSError) as error:
            frames = [f for f in traceback.extract_tb(error.__traceback__) if f.filename != __file__]
            why = ''.join(f'line {f.lineno}: {f.line}\n' for f in frames[:1]) + str(error)
            self.judge.judge(text, False, why.replace('\n', '\n    '))
        else:
            self.judge.judge(text, True)

    @staticmethod
    def refusal(command: Callable[..., str], *args: Any, **variables: str) -> Failed:
        """Returns the error of a command that must fail."""
        try:
            output = command(*args, **variables)
        except Failed as failed:
            return failed
        raise AssertionError(f'it was not refused:\n{output}')

    def refuses(
        self, text: str, pattern: str, command: Callable[..., str], *args: Any, **variables: str
    ) -> None:
        """The command must fail with one line like the pattern."""
        with self.check(text):
            said = self.refusal(command, *args, **variables).stderr
            if said.count('\n') != 1 or not re.search(pattern, said):
                raise AssertionError(f'expected one line like "{pattern}", found:\n{said}')


def clone(source: pathlib.Path, path: pathlib.Path, base: str) -> None:
    """Makes a repository that borrows the objects of the source."""
    git(source, 'clone', '-q', '--shared', '--no-checkout', '--no-tags', source, path)
    git(path, 'tag', 'base', base)
    git(path, 'remote', 'remove', 'origin')
    git(path, 'checkout', '-q', '-B', 'series', 'base')


def make_base(kind: Kind, tree: pathlib.Path, project: pathlib.Path) -> str:
    """Makes the repository that small trees are cloned from. Returns its base commit."""
    base = kind.work / 'base'
    directories = set(kind.directories)
    for patch in lib(kind.settings, 'patch_files', project).splitlines():
        text = read(pathlib.Path(patch))
        changed = re.findall(r'^diff --git a/(.*/)[^/]* b/', text, re.MULTILINE)
        directories.update(changed)
    git(TOP, 'clone', '-q', '--shared', '--no-checkout', tree, base)
    # The files at the top of the base, and those in the directories
    entries = git(tree, 'ls-tree', 'base') + '\n' + git(tree, 'ls-tree', 'base', '--', *sorted(directories))
    files = sorted({entry for entry in entries.split('\n') if ' blob ' in entry})
    write(kind.work / 'entries', ''.join(f'{entry}\n' for entry in files))
    git(base, 'read-tree', '--empty')
    run('bash', '-c', 'git update-index --index-info <"$0"', kind.work / 'entries', cwd=base)
    git(base, 'tag', '-d', 'base')
    lib('', 'tag_base', base, git(base, 'write-tree'), git(tree, 'log', '-1', '--format=%s', 'base'))
    return git(base, 'rev-parse', 'base^{commit}')


def make_original(kind: Kind, judge: Judge) -> dict[str, Any]:
    """Makes the copy that all others are copied from: the project as it is now, with a small tree."""
    names = [f'dev_{name}' for name in SETTINGS]
    values = lib(kind.settings, 'eval', ' '.join(f'say "${name}";' for name in names)).split('\n')
    settings = dict(zip(SETTINGS, values))
    tree, project = pathlib.Path(settings['tree']), TOP / settings['where']
    if not (tree / '.git').exists():
        raise AssertionError(f"there is no {tree.relative_to(TOP)}: 'make {settings['make']}' makes it")
    base = make_base(kind, tree, project)
    want = lib(kind.settings, 'series_commits', kind.work / 'base', project, project).split()[-1]
    made = {'base': base, 'want': want, 'settings': settings}
    original = Project(kind, kind.work / 'original', judge, made)
    original.copy.mkdir(parents=True)
    tar = 'tar -cf - --exclude=./build --exclude=./.git . | tar -C "$0" -xf -'
    run('bash', '-c', f'set -o pipefail; {tar}', original.copy, cwd=TOP)
    git(original.copy, 'init', '-q')
    git(original.copy, 'add', '-A', '-f')
    git(original.copy, 'commit', '-q', '-m', 'copy')
    original.new_tree()
    original.bring()
    return made


def project_for(name: str, kind: Kind, judge: Judge) -> Project:
    """Makes a copy for the test of that name. All processes of one run share the original."""
    run_id = os.environ.get('PYTEST_XDIST_TESTRUNUID') or f'process {os.getpid()}'
    record = kind.work / 'made'
    kind.work.mkdir(parents=True, exist_ok=True)
    with kind.work.with_suffix('.lock').open('w', encoding='utf-8') as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        made = json.loads(read(record)) if record.exists() else {}
        if made.get('run') != run_id:
            shutil.rmtree(kind.work)
            kind.work.mkdir()
            try:
                made = make_original(kind, judge)
            except AssertionError as error:
                # The other tests of this run would fail in the same way, each after as long.
                made = {'error': str(error)}
            made['run'] = run_id
            write(record, json.dumps(made))
    if 'error' in made:
        raise AssertionError(f'no copy of the project can be made: {made["error"]}')
    project = Project(kind, kind.work / name, judge, made)
    run('cp', '-a', kind.work / 'original', project.room, cwd=kind.work)
    # The files have new inodes. This makes git look at their contents, and remember the inodes.
    project.git('status', '--porcelain')
    return project
