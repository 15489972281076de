# SPDX-License-Identifier: GPL-2.0-only
"""
Tests that nothing is lost between the project, its two trees and the mails. They run the scripts
behind make linux, export, series and clean, and those for QEMU. Each test has a copy of the project
with a small tree, see project.py.
"""
import fcntl
import os
import re
import shutil
import subprocess

import pytest

from project import KINDS, Project, append, environment, git, numbers, project_for, read, run, write

pytestmark = [
    pytest.mark.scripts,
    pytest.mark.skipif(
        os.environ.get('BASE', '7.3') != '7.3',
        reason='the round trip is that of 7.3, from which make export writes back',
    ),
]
linux_only = pytest.mark.parametrize('p', ['linux'], indirect=True)
qemu_only = pytest.mark.parametrize('p', ['qemu'], indirect=True)


@pytest.fixture(name='p', params=sorted(KINDS))
def make_project(request, judge):
    project = project_for(request.node.originalname, KINDS[request.param], judge)
    yield project
    # The copy of a test that failed stays until the next run, to look at.
    if not judge.failures:
        shutil.rmtree(project.room)


def test_materialise(p: Project) -> None:
    with p.check('two materialisations give the same commit'):
        assert p.head() == p.want
    with p.check('a materialised tree is clean'):
        assert p.git('status', '--porcelain') == ''
    before = p.project_state()
    with p.check('exporting an unchanged series changes nothing'):
        p.export()
        assert p.project_state() == before
        # With other committers, as a rebase leaves them
        p.git('rebase', '-q', '--force-rebase', 'base')
        p.export()
        assert p.project_state() == before
        assert p.head() == p.want
    with p.check(f'make {p.make} leaves an unchanged tree alone'):
        old = p.changed.stat()
        p.bring()
        new = p.changed.stat()
        assert (new.st_mtime_ns, new.st_ino) == (old.st_mtime_ns, old.st_ino)


# The mails


def apply_mails(p: Project) -> int:
    """Applies the mails as a reader of the list does. Returns the number of commands that takes."""
    commands = re.findall(r'^  (git am .*)$', p.series(), re.MULTILINE)
    p.small_tree(p.room / 'am')
    for command in commands:
        run('bash', '-c', f'{command} -q', cwd=p.room / 'am')
    return len(commands)


def check_mails(p: Project, parts: int) -> None:
    n = p.commits()
    with p.check(f'the mails applied with git am give the tree of {p.tree_name}'):
        assert apply_mails(p) == parts
        applied = p.room / 'am'
        assert int(git(applied, 'rev-list', '--count', 'base..HEAD')) == n
        assert git(applied, 'rev-parse', 'HEAD^{tree}') == p.head(f'{p.want}^{{tree}}')
    with p.check(f'make {p.scripts["series"]} signs every mail off'):
        p.series(SIGNOFF='Zoë Test <zoe@localhost>')
        mails = [mail for mail in p.mails.rglob('*.patch') if not mail.name.startswith('0000-')]
        assert len(mails) == n
        for mail in mails:
            # Above the first "---", where git am reads it
            message = read(mail).split('\n---\n')[0]
            assert 'Signed-off-by: Zoë Test <zoe@localhost>' in message.split('\n')
    cover = 'patches/cover-letter.txt' if parts == 1 else 'patches/testing/cover-letter.txt'
    (p.project / cover).rename(p.room / 'cover')
    refusal = f'make {p.scripts["series"]} refuses'
    p.refuses(f'{refusal} a part without a cover letter', f'{p.where}{cover} is missing', p.series)
    (p.room / 'cover').rename(p.project / cover)
    p.refuses(f'{refusal} a sign-off without an address', 'is not of the form', p.series, SIGNOFF='Zoë Test')


@qemu_only
def test_mails(p: Project) -> None:
    check_mails(p, 1)


# The parts of the series. QEMU's series has none.


def ends(p: Project) -> list[str]:
    return p.git('rev-parse', 'fixes', 'functional', 'series').split()


def split(p: Project) -> int:
    """Makes the first step a fix, and the last two for testing. Returns the number of all steps."""
    n = p.commits()
    p.git('branch', '-f', 'fixes', f'series~{n - 1}')
    p.git('branch', '-f', 'functional', 'series~2')
    for part in (p.copy / 'patches', p.copy / 'patches/testing'):
        if not (part / 'cover-letter.txt').exists():
            write(part / 'cover-letter.txt', 'x86: Test\n\nText.\n')
    return n


def check_numbers(directory, n: int) -> None:
    """The numbers of each part start at 1."""
    assert numbers(directory / 'fixes') == [1]
    assert numbers(directory) == list(range(1, n - 2))
    assert numbers(directory / 'testing') == [1, 2]


@linux_only
def test_mails_of_parts(p: Project) -> None:
    n = split(p)
    before = ends(p)
    with p.check(f'the parts of the series survive export and make {p.make}'):
        p.export()
        check_numbers(p.copy / 'patches', n)
        p.new_tree()
        p.bring()
        assert ends(p) == before
        assert p.head() == p.want
    check_mails(p, 3)
    with p.check('each part of the mails has its own numbers, the fixes none'):
        check_numbers(p.mails, n)
        assert not (p.mails / 'fixes/0000-cover-letter.patch').exists()
        first = str(1).zfill(len(str(n - 3)))
        for name, number in {'fixes/0001': '', '0001': f' {first}/{n - 3}', 'testing/0002': ' 2/2'}.items():
            (mail,) = p.mails.glob(f'{name}-*.patch')
            assert f'\nSubject: [PATCH{number}] ' in read(mail)
    with p.check('the cover letters say what their patches apply to'):
        fix = p.git('log', '-1', '--format=  %s', 'fixes')
        letter = read(p.copy / 'patches/cover-letter.txt')
        series = f'  the series "{letter.splitlines()[0]}"'
        functional, testing = [
            read(p.mails / name / '0000-cover-letter.patch').splitlines() for name in ('.', 'testing')
        ]
        assert fix in functional and series not in functional
        assert fix in testing and series in testing


@linux_only
def test_ends_of_parts(p: Project) -> None:
    n = split(p)
    p.export()
    p.save()
    before = ends(p)
    # An older git does not move them.
    if tuple(map(int, re.findall(r'\d+', git(p.copy, 'version'))[:2])) >= (2, 38):
        with p.check('git rebase moves the ends of the parts along'):
            names = ('log', '--no-walk=unsorted', '--format=%s', 'fixes', 'functional', 'series')
            subjects = p.git(*names)
            p.git('rebase', '-q', '--force-rebase', 'base')
            assert ends(p) != before
            assert p.git(*names) == subjects
            p.export()
            assert ends(p) == before
    p.git('-c', 'rebase.updateRefs=false', 'rebase', '-q', '--force-rebase', 'base')
    p.refuses(
        'export refuses parts that a rebase has left behind',
        'fixes .* that the series does not have',
        p.export,
    )
    with p.check('... and says the commands that mend it'):
        for part in ('fixes', 'functional'):
            refusal = p.refusal(p.export).stderr
            command = re.search(f"'(git branch -f {part} [0-9a-f]*)' there", refusal)
            assert command, refusal
            run(*command.group(1).split(), cwd=p.tree)
        p.export()
        assert ends(p) == before
    p.git('branch', '-f', 'functional', 'base')
    p.refuses('export refuses parts in the wrong order', 'functional .* does not come after fixes', p.export)
    p.git('branch', '-q', '-D', 'functional')
    p.refuses('export refuses a part without an end', 'no branch functional', p.export)
    p.git('branch', 'functional', 'series~3')
    p.save()
    p.change_patches()
    p.refuses(
        f'make {p.make} refuses to move the end of a part back',
        'has its branch functional at another',
        p.bring,
    )
    git(p.copy, 'checkout', '-q', '.')
    p.git('branch', '-f', 'functional', 'series')
    with p.check('moving the ends of the parts moves the patches'):
        p.export()
        assert numbers(p.copy / 'patches/fixes') == [1]
        assert not numbers(p.copy / 'patches/testing')
        p.save()
        p.git('branch', '-f', 'fixes', 'base')
        p.export()
        assert not (p.copy / 'patches/fixes').exists()
        assert numbers(p.copy / 'patches') == list(range(1, n + 1))
        assert p.head() == p.want
    with p.check('a tree made before there were parts gets their branches'):
        stamp = p.tree / '.git/rmpopt-stamp'
        kept = re.sub('^(fixes|functional)=.*\n', '', read(stamp), flags=re.MULTILINE)
        write(stamp, kept)
        p.git('branch', '-q', '-D', 'fixes', 'functional')
        p.bring()
        assert ends(p) == p.git('rev-parse', 'base', 'series', 'series').split()
        assert '\nfunctional=' in read(stamp)


# What export makes of commits


def end_part(p: Project) -> None:
    """The functional part ends with the series, which a test has given another last commit."""
    if p.variable == 'LINUX':
        p.git('branch', '-f', 'functional', 'series')


def test_authors(p: Project) -> None:
    """The series has one author, and its dates are in order."""
    p.git('commit', '-q', '--amend', '--no-edit', '--author=Zoë Test <zoe@localhost>')
    end_part(p)
    p.refuses(
        'export refuses a commit of another author',
        'the author of .* is Zoë Test <zoe@localhost>, not RMPOPT',
        p.export,
    )
    with p.check('... and says the command that mends it'):
        refusal = p.refusal(p.export).stderr
        command = re.search('to mend it, in [^ ]*: (.*)', refusal)
        assert command, refusal
        run('bash', '-c', command.group(1), cwd=p.tree)
        end_part(p)
        p.export()
        assert p.head() == p.want
    p.git('commit', '-q', '--amend', '--no-edit', '--date=978307200 +0000')
    end_part(p)
    p.refuses(
        'export refuses a commit that is older than the one before it',
        'has an older date than',
        p.export,
    )


def comes_back(p: Project) -> str:
    """The series survives export and make. Returns what export says."""
    before = p.messages()
    said = p.export()
    p.new_tree()
    p.bring()
    assert p.messages() == before
    return said


def test_edits(p: Project) -> None:
    """An edit in a step of the series, and a new step with new files"""
    new = p.project / p.directory.relative_to(p.tree)
    before = p.head('HEAD^{tree}')
    steps = p.git('rev-list', '--reverse', 'base..HEAD', '--', p.changed).split()
    # Near the top, where no later step gets in the way
    first, rest = read(p.changed).split('\n', 1)
    write(p.changed, f'{first}\n/* An edit. */\n{rest}')
    # The later steps come on top of it again.
    p.fixup(steps[0])
    write(p.directory / 'roundtrip.h', '/* SPDX-License-Identifier: GPL-2.0 */\n')
    write(p.directory / 'roundtrip.sh', '#!/bin/sh\n', 0o755)
    write(p.directory / '.roundtrip', 'CONFIG_X=y\n')
    p.commit(
        'x86/sev: Bring new files — "ä", with a long subject that no header line can hold\n\n'
        'Why it is so.\n\n    diff --git a/quoted b/quoted\n\nCc: x86@kernel.org\n---\nA note of the version.'
    )
    with p.check(f'an edited step, a new step and new files survive export and make {p.make}'):
        comes_back(p)
        assert p.head('HEAD^{tree}') != before
        assert os.access(new / 'roundtrip.sh', os.X_OK) and not os.access(new / 'roundtrip.h', os.X_OK)
        # The contents of a new file must not be in a patch.
        patches = [read(patch) for patch in p.patches()]
        assert not [patch for patch in patches if '\n+#!/bin/sh' in patch]
    with p.check("a project file may change on the project's side"):
        append(new / 'roundtrip.sh', 'more\n')
        # The project changed since: bring the tree along, then drop the step.
        p.bring()
        p.git('reset', '-q', '--hard', 'HEAD^')
    p.refuses(
        "export does not remove a file that the project's git does not hold", 'does not hold it', p.export
    )
    p.git('reset', '-q', '--hard', 'HEAD@{1}')
    with p.check('a dropped step takes its files along'):
        p.save()
        p.git('reset', '-q', '--hard', 'HEAD^')
        p.export()
        assert not (new / 'roundtrip.sh').exists()
        assert git(p.project, 'ls-files', '-o', '--', 'patches') == ''


def lines(first: int, last: int) -> str:
    return ''.join(f'/* Line {number}. */\n' for number in range(first, last + 1))


def test_later_steps(p: Project) -> None:
    """Later steps change what an earlier one brings."""
    file = p.directory / 'roundtrip.h'
    name = str(file.relative_to(p.tree))
    kept = p.project / name
    brought = lines(1, 40)
    write(file, brought)
    binary = p.directory / 'roundtrip.bin'
    binary.write_bytes(bytes(range(256)))
    p.commit('x86/sev: Bring a file')
    changed = brought.replace('Line 10.', 'Line ten.').replace(
        lines(20, 20), f'{lines(20, 20)}/* Inserted. */\n'
    )
    write(file, changed, 0o755)
    p.commit('x86/sev: Change it')
    write(file, changed.replace('Line ten', 'Line TEN').replace(lines(29, 29), ''))
    binary.write_bytes(bytes(range(255, -1, -1)))
    p.commit('x86/sev: Change it again')

    def check_brought() -> None:
        assert p.git('show', f'HEAD~2:{name}') + '\n' == brought
        assert p.git('ls-tree', 'HEAD~2', name).startswith('100644')

    with p.check(f'a new file that later steps change survives export and make {p.make}'):
        comes_back(p)
        assert file.read_bytes() == kept.read_bytes()
    with p.check('... with what it held when it was brought'):
        check_brought()
    with p.check('... and patches that hold what has changed'):
        patches = [read(patch) for patch in p.patches() if '-Change-it' in patch.name]
        # Two lines in one patch, one line in the other
        assert sum(patch.count('\n+/') for patch in patches) == 3
    with p.check('... also when one in the middle is changed'):
        p.save()
        write(file, read(file).replace('Line 25', 'Line 25 now'))
        p.fixup('HEAD^')
        comes_back(p)
        assert file.read_bytes() == kept.read_bytes()
        check_brought()
        assert '\n+/* Line 25 now' in p.git('show', 'HEAD^')
    with p.check('an edit in the project belongs to the step that brings the file'):
        p.save()
        write(kept, read(kept).replace('Line', 'The line', 1))
        p.bring()
        assert '\n+/* The line 1.' in p.git('show', 'HEAD~2')
    with p.check('an edit in the project of lines that a later patch changes belongs to that patch'):
        earlier = ('log', '-3', '--skip=1', '--format=%T')
        trees = p.git(*earlier)
        p.save()
        write(kept, read(kept).replace('TEN', 'Ten'))
        assert re.search(f'Note: {name} was edited .* where .*-Change-it-again.patch changes it', p.bring())
        assert p.git(*earlier) == trees
        assert file.read_bytes() == kept.read_bytes()
        assert '\n+/* Line Ten' in p.git('show', 'HEAD')
        assert re.search('wrote .*-Change-it-again.patch', comes_back(p))


def test_moved_line(p: Project) -> None:
    """A line that a step adds moves to another place, where the lines around it are the same."""
    file = p.directory / 'roundtrip.h'
    name = file.relative_to(p.tree)
    kept = p.project / name
    part = [f'/* {word}. */\n' for word in 'One Two Three Four Five Six Seven'.split()]
    here = '/* Here. */\n'
    twice = ''.join(part + part)
    write(file, twice)
    p.commit('x86/sev: Bring a file')
    write(file, ''.join([*part[:4], here, *part[4:], *part]))
    p.commit('x86/sev: Change it')
    p.export()
    p.save()
    with p.check('an edit in the project may move what a later patch adds'):
        write(kept, ''.join([*part, *part[:4], here, *part[4:]]))
        p.bring()
        assert file.read_bytes() == kept.read_bytes()
        assert p.git('show', f'HEAD~1:{name}') + '\n' == twice
        p.export()
        p.bring()
        assert file.read_bytes() == kept.read_bytes()


def test_refused_commits(p: Project) -> None:
    """Export refuses steps that patches and new files cannot hold, and merges."""
    file = p.directory / 'roundtrip.h'
    write(file, lines(1, 9))
    p.commit('x86/sev: Bring a file')
    p.export()
    added = p.head()
    before = p.project_state()

    def later(subject: str, does: str, pattern: str) -> None:
        p.commit(subject)
        p.refuses(f'export refuses a later commit that {does} a new file', pattern, p.export)
        with p.check('... and writes nothing'):
            assert p.project_state() == before
        p.git('reset', '-q', '--hard', added)

    file.unlink()
    later('x86/sev: Remove it', 'removes', 'removes or renames')
    file.rename(p.directory / 'renamed.h')
    later('x86/sev: Rename it', 'renames', 'removes or renames')
    file.unlink()
    file.symlink_to(p.changed.name)
    later('x86/sev: Link it', 'makes a link of', 'something else than a regular file')

    p.git('checkout', '-q', '-b', 'side', 'base')
    append(p.tree / p.kind.other, '/* Side. */\n')
    p.commit('x86: Side')
    p.git('checkout', '-q', 'series')
    p.git('merge', '-q', '-m', 'Merge side', 'side')
    p.refuses('export refuses a merge', 'merge', p.export)


# Work in the tree, and other patches


def test_work_is_kept(p: Project) -> None:
    append(p.changed, '/* Not committed. */\n')
    write(p.directory / 'untracked.c', '/* Not tracked. */\n')
    state = p.tree_state()

    def kept(what: str) -> None:
        with p.check(f'... and keeps {what}'):
            assert p.tree_state() == state

    with p.check(f'make {p.make} leaves uncommitted work alone while the series is the same'):
        p.bring()
        assert p.tree_state() == state
    p.change_patches()
    changed = 'when the series changed'
    p.refuses(f'make {p.make} refuses uncommitted changes {changed}', 'uncommitted', p.bring)
    kept('them')
    p.refuses('make clean refuses uncommitted changes', 'uncommitted', p.clean)
    kept('them')
    p.refuses('export refuses uncommitted changes', 'uncommitted', p.export)

    p.git('checkout', '-q', '--', '.')
    state = p.tree_state()
    p.refuses(f'make {p.make} refuses an untracked file {changed}', 'untracked', p.bring)
    kept('it')
    p.commit('x86/sev: Not exported')
    state = p.tree_state()
    p.refuses(f'make {p.make} refuses unexported commits {changed}', 'not written back', p.bring)
    kept('them')
    p.refuses('make clean refuses unexported commits', 'not written back', p.clean)
    kept('them')
    before = p.project_state()
    p.refuses('export refuses to undo changes made in the project', 'would undo', p.export)
    with p.check('... and writes nothing'):
        assert p.project_state() == before
    with p.check(f'make {p.make} goes on when a branch keeps the commits'):
        tip = p.head()
        p.git('branch', 'mine')
        p.bring()
        assert p.head('mine') == tip
        assert p.head() != tip


def test_wrong_patch(p: Project) -> None:
    """A patch in the project that cannot become a commit"""
    state = p.tree_state()
    nonsense = p.project / 'patches/9999-nonsense.patch'
    author = p.git('log', '-1', '--format=%an <%ae>')
    name, renamed = p.kind.changed, p.kind.changed[:-3] + 'w.c'
    diff = f'diff --git a/{name} b/{name}\n--- a/{name}\n+++ b/{name}\n@@ -1,3 +1,3 @@\n no\n-such\n+line\n here\n'
    rename = (
        f'diff --git a/{name} b/{renamed}\nsimilarity index 100%\nrename from {name}\nrename to {renamed}\n'
    )
    date = 'Sun, 22 Nov 2026 13:53:12 +0000'
    for text, subject, when, change, pattern in (
        ('does not apply', 'Do not apply', date, diff, '9999-nonsense.patch does not apply'),
        ('renames a file', 'Rename', date, rename, '9999-nonsense.patch renames .* --no-renames'),
        ('has no subject', '', date, diff, '9999-nonsense.patch: needs .* Subject:'),
        ('has no date', 'Have no date', 'today', diff, '9999-nonsense.patch: not a mail'),
    ):
        write(
            nonsense,
            f'From {"0" * 40} Mon Sep 17 00:00:00 2001\n'
            f'From: {author}\nDate: {when}\nSubject: [PATCH] {subject}\n\n{change}',
        )
        p.refuses(f'make {p.make} refuses a patch that {text}', pattern, p.bring)
        with p.check('... and leaves the tree as it is'):
            assert p.tree_state() == state


# Base trees and other kernels


def make_directories(p: Project) -> None:
    """An empty directory, a tree that has the series already, and a file that is not a tarball"""
    (p.room / 'empty').mkdir()
    has = p.room / 'has'
    write(has / p.kind.changed, '')
    write(has / 'arch/x86/include/asm/cpufeatures.h', '#define X86_FEATURE_RMPOPT\n')
    write(has / 'meson.build', "project('qemu')\n")
    write(has / 'VERSION', '10.0.0\n')
    write((has / p.kind.changed).parent / 'meson.build', '')
    write((has / p.kind.changed).parent / 'amd_snp.c', '')
    write(p.room / 'file', 'no tarball\n')


def test_wrong_base(p: Project) -> None:
    make_directories(p)
    shutil.rmtree(p.tree)
    wrong = [
        ('a path that is not there', p.room / 'none', 'no such (file|directory)'),
        ('a directory that is not a source tree', p.room / 'empty', p.kind.no_tree),
        ('a git repository of something else', p.copy, p.kind.no_tree),
        ('a tree that has the series already', p.room / 'has', p.kind.has_series),
    ]
    if p.variable == 'LINUX':
        wrong.append(('a file that is not a tarball', p.room / 'file', 'is not a tarball'))
    for what, path, pattern in wrong:
        p.refuses(
            f'make {p.make} refuses {p.variable}= with {what}', pattern, p.bring, **{p.variable: str(path)}
        )
        with p.check('... and leaves nothing'):
            assert not list(p.tree.parent.glob(f'{p.tree.name}*'))
    p.refuses(f'export says so when there is no {p.tree_name}', f"'make {p.make}' makes it", p.export)


@linux_only
def test_other(p: Project) -> None:
    """Other kernels with RMPOPT, see "other" """
    make_directories(p)
    other, has = p.copy / 'build/other/linux', p.room / 'has'

    def wrong(what: str, path, pattern: str) -> None:
        p.refuses(f'make bench refuses OTHER= with {what}', pattern, p.script, 'other', OTHER=str(path))

    wrong('a path that is not there', p.room / 'none', 'no such directory: give')
    wrong('a directory that is not a kernel', p.room / 'empty', 'is not a Linux source tree')
    write(has / 'Kbuild', '')
    with p.check('OTHER= takes a directory as it is'):
        p.script('other', OTHER=str(has))
        assert other.resolve() == has.resolve()
    write(has / '.config', '')
    wrong('a directory that has been built in', has, 'built in place')
    (has / '.config').unlink()
    git(has, 'init', '-q')
    git(has, 'add', '-A')
    git(has, 'commit', '-q', '-m', 'RMPOPT')
    with p.check('... and of a git checkout HEAD'):
        p.script('other', OTHER=str(has))
        assert not other.is_symlink()
        assert git(other, 'rev-parse', 'HEAD') == git(has, 'rev-parse', 'HEAD')
    write(has / 'arch/x86/include/asm/cpufeatures.h', '/* none */\n')
    git(has, 'commit', '-q', '-a', '-m', 'Without RMPOPT')
    wrong('a kernel without RMPOPT', has, 'has no RMPOPT: take')


def bring_older_base(p: Project, name: str) -> None:
    """
    Brings another base kernel. Of the three lines before the change of the first patch, the first
    one differs.
    """
    patch = read(p.patches()[0])
    path = re.findall('^--- a/(.*)$', patch, re.MULTILINE)[0]
    number = int(re.findall('^@@ -([0-9]*),', patch, re.MULTILINE)[0])
    older = p.room / 'older'
    shutil.rmtree(older, ignore_errors=True)
    p.small_tree(older)
    source = read(older / path).split('\n')
    source[number - 1] += ' /* as it was */'
    write(older / path, '\n'.join(source))
    git(older, 'add', '-A')
    git(older, 'tag', '-d', 'base')
    p.lib('tag_base', older, git(older, 'write-tree'), name)
    shutil.rmtree(p.tree)
    git(older, 'clone', '-q', '--shared', '--no-checkout', older, p.tree)
    p.git('checkout', '-q', '-B', 'series', 'base')
    p.git('remote', 'remove', 'origin')
    p.lib('stamp_set', p.tree, 'none', p.git('rev-parse', 'base', 'base', 'base').replace('\n', ' '), 'test')


@linux_only
def test_older_base(p: Project) -> None:
    bring_older_base(p, 'Linux 7.4.0')
    p.refuses(
        f'make {p.make} refuses a patch whose context differs', 'does not apply to Linux 7.4.0', p.bring
    )
    bring_older_base(p, 'Linux 7.2.99')
    with p.check('... but takes it on the older base, and says so'):
        said = p.bring()
        assert re.search('Note: patches/.* applies to Linux 7.2.99 by one line of context', said)
        p.git('grep', '-q', 'as it was', 'series')
        assert p.commits() == len(p.patches())
    before = p.project_state()
    p.git('commit', '-q', '--allow-empty', '-m', 'x86/sev: Do something')
    refusal = 'on Linux 7.3 only'
    p.refuses('export refuses to write back from the older base', refusal, p.export)
    p.git('reset', '-q', '--hard', 'HEAD^')
    p.refuses('... and with BASE=7.2', refusal, p.export, BASE='7.2')
    with p.check('... and writes nothing'):
        assert p.project_state() == before
    build = p.copy / 'build/7.2'
    build.mkdir()
    p.tree.rename(build / 'linux')
    with p.check('with BASE=7.2 all of the kernel is in build/7.2'):
        said = p.bring(BASE='7.2')
        assert said.startswith('build/7.2/linux: up to date')
        assert not p.tree.exists()
        p.series(BASE='7.2')
        assert (build / 'series/0000-cover-letter.patch').exists()
    write(build / 'linux/arch/x86/virt/svm/untracked.c', '/* Not tracked. */\n')
    p.refuses('make clean refuses an untracked file there', 'build/7.2/linux, but .* untracked', p.clean)
    p.refuses(
        'BASE= of another kernel is refused', 'BASE=7.1: it is 7.3, the default, or 7.2', p.bring, BASE='7.1'
    )
    p.refuses(
        'BASE= and LINUX= together are refused',
        'give one of them',
        p.bring,
        BASE='7.2',
        LINUX=str(p.room),
    )


@qemu_only
def test_links(p: Project) -> None:
    """In trees that an older version made, the new files are links to the project's, in no commit."""
    name = 'hw/i386/amd_snp.c'

    def old_tree() -> None:
        p.new_tree()
        write(p.tree / '.git/info/exclude', f'/{name}\n')

    old_tree()
    (p.tree / name).symlink_to(p.project / name)
    with p.check('a tree whose new files are links gets the files'):
        p.bring()
        assert not (p.tree / name).is_symlink()
        assert p.git('status', '--porcelain') == ''
    old_tree()
    shutil.copy(p.project / name, p.tree / name)
    p.refuses('make qemu refuses to overwrite a file in the place of a link', 'untracked', p.bring)


# What is fetched

# An apt-get that finds a lock held as many times as the file "locked" says, and then ends with
# the status in the file "status"
APT_GET = '''#!/bin/bash
echo "$*" >>"$APT_TEST/calls"
left=$(cat "$APT_TEST/locked")
[ "$left" -gt 0 ] || exit "$(cat "$APT_TEST/status")"
echo $((left - 1)) >"$APT_TEST/locked"
echo 'E: Could not get lock /var/lib/dpkg/lock-frontend. It is held by process 42 (apt-get)' >&2
exit 100
'''
SUDO = '''#!/bin/bash
[ "$1" != -n ] || shift
exec "$@"
'''


@linux_only
def test_apt_is_busy(p: Project) -> None:
    apt, programs = p.room / 'apt', p.room / 'bin'
    write(programs / 'apt-get', APT_GET, 0o755)
    write(programs / 'sudo', SUDO, 0o755)

    def deps(locked: int, status: int) -> str:
        write(apt / 'locked', f'{locked}\n')
        write(apt / 'status', f'{status}\n')
        write(apt / 'calls', '')
        path = f'{programs}:{environment()["PATH"]}'
        return p.script('deps', 'rmpopt-no-such-package', PATH=path, APT_TEST=str(apt))

    with p.check('make deps waits for another apt, and says so once'):
        said = deps(2, 0)
        assert len(re.findall(r'Waiting for another apt.*held by process 42 \(apt-get\)', said)) == 1
        assert len(read(apt / 'calls').splitlines()) == 3
    with p.check('... but not when apt fails for another reason'):
        assert 'Waiting' not in str(p.refusal(deps, 0, 100))
        assert len(read(apt / 'calls').splitlines()) == 2


FETCH = '''. scripts/lib.sh; . scripts/debian.sh
private_apt() { say fetching; }
apt-cache() { say "Package: package"; }
download() { :; }
"$0" suite package text'''


@linux_only
def test_cache_is_busy(p: Project) -> None:
    lock = write(p.room / 'cache/rmpopt/lock', '')

    def check_fetch(function: str) -> None:
        command = ['bash', '-c', FETCH, function]
        variables = {'XDG_CACHE_HOME': str(p.room / 'cache')}
        with lock.open('w', encoding='utf-8') as held:
            fcntl.flock(held, fcntl.LOCK_EX)
            with subprocess.Popen(
                command,
                cwd=p.copy,
                env={**environment(), **variables},
                stdout=subprocess.PIPE,
                encoding='utf-8',
            ) as fetch:
                assert fetch.stdout
                first = fetch.stdout.readline()
                fcntl.flock(held, fcntl.LOCK_UN)
                rest = fetch.stdout.read()
        assert first.startswith('Waiting for another make ')
        assert (rest, fetch.returncode) == ('fetching\n', 0)
        assert run(*command, cwd=p.copy, **variables).stdout == 'fetching\n'

    with p.check('the fetch of a package waits for another make'):
        check_fetch('fetch_deb')
    with p.check('... and so does that of a source package'):
        check_fetch('fetch_source')
