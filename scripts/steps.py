#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-only
"""
Between the steps of a series as commits of a repository, and as the patches and new files of the
project. Run by tree.sh and export, as git alone takes several processes for each file of each
patch: here all commits are made by one git fast-import.

The project keeps new files as the series leaves them, and patches bring them empty. What a file
held at earlier steps follows from the diffs of later patches, undone from the last one on.
"""
import argparse
import contextlib
import email.errors
import email.header
import email.utils
import os
import pathlib
import re
import signal
import subprocess
import sys
import tempfile
from typing import Any, Iterable, Iterator, NamedTuple, NoReturn

# The blob of an empty file
EMPTY = 'e69de29bb2d1d6434b8b29ae775ad8c2e48c5391'
REGULAR = ('100644', '100755')
# fast-import wants the name of a branch. It is gone in the end.
REF = 'refs/rmpopt/series'

DIFF = 'diff --git '
NO_RENAMES = "write it with 'git format-patch --no-renames'"
STAT = re.compile(r' .* \| +([0-9]+( [+-]*)?|Bin.*)$| [0-9]+ files? changed')
SUMMARY = re.compile(r'( (create|delete|rename|copy|mode) .*)?$')

# Of a file: its mode and blob
Entry = tuple[str, str]


def die(*text: str) -> NoReturn:
    print(f'{ARGUMENTS.program}: {" ".join(text)}', file=sys.stderr)
    # The status of a failure that has been told, see lib.sh
    sys.exit(3)


def decode(data: bytes) -> str:
    return data.decode('utf-8', 'surrogateescape')


def encode(text: str) -> bytes:
    return text.encode('utf-8', 'surrogateescape')


class Repository:
    """A repository. Its index is left alone: commands use one in a directory of their own."""

    def __init__(self, path: str):
        self.path = path
        self.index: dict[str, str] = {}

    def call(self, *arguments: str, given: str = '') -> 'subprocess.CompletedProcess[bytes]':
        return subprocess.run(
            ['git', *arguments],
            cwd=self.path,
            env={**os.environ, **self.index},
            check=False,
            input=encode(given),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )

    def git(self, *arguments: str, given: str = '') -> str:
        done = self.call(*arguments, given=given)
        if done.returncode:
            die(f'git {" ".join(arguments[:3])} fails in {self.path}: {decode(done.stderr).strip()}')
        return decode(done.stdout)

    def listed(self, *arguments: str, given: str = '') -> list[str]:
        """What a command prints with -z"""
        return self.git(*arguments, given=given).split('\0')[:-1]

    @contextlib.contextmanager
    def own_index(self, path: pathlib.Path) -> Iterator[None]:
        """Commands inside use this index, which is empty at first."""
        self.index = {'GIT_INDEX_FILE': str(path)}
        try:
            yield
        finally:
            self.index = {}

    def add(self, entries: dict[str, Entry]) -> None:
        lines = ''.join(f'{mode} {blob}\t{path}\0' for path, (mode, blob) in entries.items())
        self.git('update-index', '-z', '--index-info', given=lines)

    def entries(self, paths: Iterable[str]) -> dict[str, Entry]:
        """Those of these paths that are in the index"""
        paths = list(paths)
        found = {}
        for line in self.listed('ls-files', '-s', '-z', '--', *paths) if paths else []:
            words, path = line.split('\t')
            mode, blob, _ = words.split()
            found[path] = mode, blob
        return found

    def blobs(self, files: list[str]) -> list[str]:
        """Stores the contents of these files."""
        given = ''.join(f'{file}\n' for file in files)
        return self.git('hash-object', '-w', '--no-filters', '--stdin-paths', given=given).split()

    def import_commits(self, stream: list[str], date_format: str, room: pathlib.Path) -> dict[str, str]:
        """The commits that fast-import makes of STREAM, by their marks"""
        marks = room / 'marks'
        self.git(
            # Loose objects, which others can borrow and clean up.
            *('-c', 'fastimport.unpackLimit=1000000', 'fast-import', '--quiet', '--force'),
            *(f'--date-format={date_format}', f'--export-marks={marks}'),
            given=''.join(stream) + f'reset {REF}\nfrom {"0" * 40}\n\n',
        )
        return dict(line.split() for line in decode(marks.read_bytes()).splitlines())


def commit(mark: int, who: str, message: str, parent: str, changes: list[str]) -> str:
    """For fast-import. The committer is the author, so that the same commit has the same hash."""
    return (
        f'commit {REF}\nmark :{mark}\nauthor {who}\ncommitter {who}\n'
        f'data {len(encode(message))}\n{message}from {parent}\n'
        + ''.join(f'{change}\n' for change in changes)
        + '\n'
    )


@contextlib.contextmanager
def room_in(repo: Repository) -> Iterator[pathlib.Path]:
    directory = repo.git('rev-parse', '--absolute-git-dir').strip()
    with tempfile.TemporaryDirectory(prefix='rmpopt.', dir=directory) as room:
        yield pathlib.Path(room)


# From patches and new files to commits


class Patch:
    """A file of patches/"""

    def __init__(self, file: str, project: str = ''):
        self.name = os.path.relpath(file, project) if project else file
        lines = decode(pathlib.Path(file).read_bytes()).split('\n')
        first = next((i for i, line in enumerate(lines) if line.startswith(DIFF)), len(lines) - 1)
        self.mail, diff = lines[:first], lines[first:]
        self.diff = '\n'.join(diff)
        # Of each file that it changes: that part of the diff
        self.parts: dict[str, list[str]] = {}
        # Files that it brings as empty ones, and their modes
        self.stubs: dict[str, str] = {}
        path = mode = ''
        for line in diff:
            if line.startswith(DIFF):
                # a/PATH b/PATH
                names, mode = line.removeprefix(DIFF), ''
                path = names[2 : len(names) // 2]
                if names != f'a/{path} b/{path}':
                    die(f'{self.name} renames or copies a file, or one has an odd name:', NO_RENAMES)
                self.parts[path] = []
            elif line.startswith('new file mode '):
                mode = line.split()[-1]
            elif mode and re.match(r'index 0+\.\.e69de29[0-9a-f]*$', line):
                self.stubs[path] = mode
                mode = ''
            if path:
                self.parts[path].append(line)

    def part(self, path: str) -> str:
        return '\n'.join(self.parts[path]) + '\n'

    def message(self) -> tuple[str, str]:
        """
        The author with the date, and the message: everything up to the diff, byte for byte. git
        mailinfo would end it at the first "---", which a version note needs.
        """
        end = self.mail.index('') if '' in self.mail else len(self.mail)
        header = re.sub(r'\n[ \t]+', ' ', '\n'.join(self.mail[:end]))
        fields = dict(line.split(': ', 1) for line in header.split('\n') if ': ' in line)
        try:
            date, mail, subject = (
                str(email.header.make_header(email.header.decode_header(fields[name])))
                for name in ('Date', 'From', 'Subject')
            )
            name, address = email.utils.parseaddr(mail)
            # What git am leaves out, so that export refuses it
            subject = re.sub(r'^([Rr][Ee]:|[ \t:]|\[[^]]*PATCH[^]]*\])+', '', subject)
            subject = ' '.join(subject.split())
            if not name or not address or not subject:
                raise KeyError
            email.utils.parsedate_to_datetime(date)
        except KeyError:
            die(f'{self.name}: needs From:, Date: and Subject:')
        except (LookupError, TypeError, ValueError, email.errors.MessageError):
            die(f'{self.name}: not a mail')
        body = '\n'.join(without_diffstat(self.mail[end + 1 :])).rstrip('\n')
        return f'{name} <{address}> {date}', f'{subject}\n' + (f'\n{body}\n' if body else '')


def without_diffstat(lines: list[str]) -> list[str]:
    """The message without the diffstat at its end, which would be wrong after an edit."""
    if '---' not in lines:
        return lines
    cut = len(lines) - 1 - lines[::-1].index('---')
    rest = lines[cut + 1 :]
    stat = [bool(STAT.match(line)) for line in rest]
    if any(stat) and all(is_stat or SUMMARY.match(line) for is_stat, line in zip(stat, rest)):
        return lines[:cut]
    return lines


def new_files(repo: Repository, series: list[Patch], files: str) -> dict[str, Entry]:
    """New files, as the series leaves them."""
    paths = []
    for patch in series:
        for path in patch.stubs:
            if not os.path.isfile(f'{files}/{path}'):
                die(f'{patch.name} brings {path}, which the project does not have')
            if path in paths:
                die(f'{patch.name} brings {path}, which an earlier patch brings')
            paths.append(path)
    blobs = repo.blobs([os.path.abspath(f'{files}/{path}') for path in paths])
    modes = [REGULAR[os.access(f'{files}/{path}', os.X_OK)] for path in paths]
    return {path: (mode, blob) for path, mode, blob in zip(paths, modes, blobs)}


def new_file_versions(
    repo: Repository, series: list[Patch], files: str, room: pathlib.Path
) -> list[dict[str, Entry]]:
    """For each patch, the new files that it brings or changes, as they are after it."""
    versions = []
    with repo.own_index(room / 'new'):
        now = new_files(repo, series, files)
        repo.add(now)
        for patch in reversed(series):
            versions.append({path: now[path] for path in patch.parts if path in now})
            for path in patch.stubs:
                now.pop(path, None)
            later = [path for path in patch.parts if path in now]
            # All at once, unless one of them was edited.
            if later and not undo(repo, patch, later):
                for path in later:
                    if not undo(repo, patch, [path]):
                        repo.add({path: undo_in_edited(repo, patch, path, now[path], room)})
            now.update(repo.entries(later))
    return versions[::-1]


def undo(repo: Repository, patch: Patch, paths: list[str]) -> bool:
    text = ''.join(patch.part(path) for path in paths)
    return not repo.call('apply', '-R', '--cached', '--whitespace=nowarn', given=text).returncode


def undo_in_edited(repo: Repository, patch: Patch, path: str, entry: Entry, room: pathlib.Path) -> Entry:
    """
    The file was edited in the project where the patch changes it. Undoes the patch with what was
    edited there, which thus belongs to it.
    """
    edited, diff = room / 'edited', room / 'edited.diff'
    edited.write_bytes(encode(repo.git('cat-file', 'blob', entry[1])))
    diff.write_bytes(encode(patch.part(path)))
    done = subprocess.run(
        ['patch', '-s', '-R', '--merge', '--no-backup-if-mismatch', edited, diff],
        check=False,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    if done.returncode > 1:
        die(
            f'{path} was edited in the project, and {patch.name}, which changes it, cannot be undone in it:',
            f'take the edit back, make it in {ARGUMENTS.tree} in the step that it belongs to',
            "(git commit --fixup, git rebase -i --autosquash base), and 'make",
            f"{ARGUMENTS.export}'",
        )
    # Of what it cannot merge it tells both sides; the second one is the patch's.
    text = re.sub(
        r'^<<<<<<<.*?^=======\n(.*?)^>>>>>>>[^\n]*\n', r'\1', decode(edited.read_bytes()), flags=re.M | re.S
    )
    edited.write_bytes(encode(text))
    old_mode = re.search(r'^old mode (\d+)$', patch.part(path), re.M)
    print(
        f"Note: {path} was edited in the project where {patch.name} changes it; 'make {ARGUMENTS.export}'"
        ' writes that patch anew',
        file=sys.stderr,
    )
    return old_mode[1] if old_mode else entry[0], repo.blobs([str(edited)])[0]


def apply(repo: Repository, patch: Patch, left_out: list[str], base: str) -> None:
    """Applies a patch to the index, but for new files, whose contents are known."""
    exclude = [f'--exclude={path}' for path in left_out]
    command = ('apply', '--cached', '--whitespace=nowarn', *exclude)
    done = repo.call(*command, given=patch.diff)
    if not done.returncode:
        return
    # Not elsewhere: with less context a patch may find a wrong place.
    if not base.startswith('Linux 7.2') or repo.call(*command, '-C1', given=patch.diff).returncode:
        die(f'{patch.name} does not apply to {base}: {decode(done.stderr).splitlines()[0]}')
    print(f'Note: {patch.name} applies to {base} by one line of context, not three', file=sys.stderr)


def commits() -> None:
    """
    Makes one commit for each patch on top of the tag base, and fills the empty new files from
    those in FILES. Objects only: no ref, index or file of the repository changes. Prints the last
    commit of the fixes, of the functional part, and of all. A part without patches ends where the
    one before it does.
    """
    repo = Repository(ARGUMENTS.repository)
    done = repo.call('rev-parse', '--verify', '-q', 'base^{commit}')
    if done.returncode:
        die(f'{ARGUMENTS.tree} has no tag base')
    fixes = functional = head = decode(done.stdout).strip()
    base = repo.git('log', '-1', '--format=%s', 'base').strip()
    series = [Patch(line, ARGUMENTS.project) for line in sys.stdin.read().splitlines()]
    stream = []
    with room_in(repo) as room:
        versions = new_file_versions(repo, series, ARGUMENTS.files, room)
        paths = sorted({path for patch in series for path in patch.parts})
        # The index of a kernel takes longer to read and write than all patches, so that this
        # one has nothing but what they change. fast-import puts it on top of the base.
        with repo.own_index(room / 'index'):
            if paths:
                repo.git(
                    *('update-index', '-z', '--index-info'),
                    given=repo.git('ls-tree', '-r', '-z', 'base', '--', *paths),
                )
            for mark, (patch, known) in enumerate(zip(series, versions), 1):
                who, message = patch.message()
                for path, mode in patch.stubs.items():
                    if known[path][0] != mode:
                        die(f'{path} has mode {known[path][0]}, but {patch.name} says {mode}')
                apply(repo, patch, [path for path in known if path not in patch.stubs], base)
                now = repo.entries(path for path in patch.parts if path not in known) | known
                changes = [
                    f'M {" ".join(now[path])} {path}' if path in now else f'D {path}'
                    for path in sorted(patch.parts)
                ]
                stream.append(commit(mark, who, message, head, changes))
                head = f':{mark}'
                if not patch.name.startswith('patches/testing/'):
                    functional = head
                if patch.name.startswith('patches/fixes/'):
                    fixes = head
        marks = repo.import_commits(stream, 'rfc2822', room)
    print(*(marks.get(end, end) for end in (fixes, functional, head)))


# From commits to patches and new files


class Change(NamedTuple):
    """How a commit changes a file: its mode and blob afterwards, and a letter of git diff-tree"""

    mode: str
    blob: str
    status: str
    path: str


def changes_of(repo: Repository, names: list[str]) -> dict[str, list[Change]]:
    """Of each of these commits"""
    found: dict[str, list[Change]] = {name: [] for name in names}
    now: list[Change] = []
    given = ''.join(f'{name}\n' for name in names)
    fields = iter(repo.listed('diff-tree', '-r', '-z', '--no-renames', '--stdin', given=given))
    for field in fields:
        if field.startswith(':'):
            _, mode, _, blob, status = field.split()
            now.append(Change(mode, blob, status, next(fields)))
        else:
            now = found[field]
    return found


def written(repo: Repository, commits_of: str) -> Iterator[tuple[str, str, str, str]]:
    """Of each commit of a range: its hash, author with date, subject and message"""
    log = repo.git('log', '--reverse', '-z', '--date=raw', '--format=%H%n%an <%ae> %ad%n%s%n%B', commits_of)
    for record in log.split('\0'):
        if record:
            name, who, subject, message = record.split('\n', 3)
            yield name, who, subject, message


def check_change(subject: str, change: Change, added: dict[str, str]) -> None:
    """ADDED is what new files there are, and which step brings them."""
    path, mode = change.path, change.mode
    if change.status == 'A':
        if mode not in REGULAR:
            die(f"'{subject}' adds {path}, which is not a regular file")
        if not re.fullmatch(r'[A-Za-z0-9._/+,@%=-]+', path):
            die(f"'{subject}' adds a file with an odd name: {path}")
    elif path in added:
        # What the file was before follows from what it is in the end.
        if change.status == 'D':
            die(
                f"'{subject}' removes or renames {path}, which '{added[path]}' brings:",
                'the project keeps new files as they are in the end; bring it by its last name, or not at all',
            )
        if mode not in REGULAR:
            die(f"'{subject}' makes {path}, which '{added[path]}' brings, something else than a regular file")


def patches() -> None:
    """
    Writes each commit of each PART=RANGE as a patch to OUT/patches/PART, and each file that these
    add, as it is in the end, to OUT/files. Prints the number of patches of each part.
    """
    repo = Repository(ARGUMENTS.repository)
    out = pathlib.Path(ARGUMENTS.out)
    added: dict[str, str] = {}
    stream: list[str] = []
    counts = {}
    for part in ARGUMENTS.parts:
        directory, _, commits_of = part.partition('=')
        steps = list(written(repo, commits_of))
        counts[directory] = len(steps)
        changes = changes_of(repo, [name for name, *_ in steps])
        for name, who, subject, message in steps:
            if not changes[name]:
                die(f"'{subject}' changes nothing: drop it")
            # git am would end the message there.
            if re.search('^(diff -|Index: )', message, re.M):
                die(f"'{subject}': a line of the message looks like the start of a diff: indent it")
            # The same commit with its new files empty: what they hold stands in the project.
            lines = []
            for change in changes[name]:
                check_change(subject, change, added)
                blob = change.blob
                if change.status == 'A':
                    added[change.path] = subject
                    blob = EMPTY
                lines.append(
                    f'D {change.path}' if change.status == 'D' else f'M {change.mode} {blob} {change.path}'
                )
            message = message.rstrip('\n') + '\n'
            stream.append(commit(len(stream) + 1, who, message, f'{name}^', lines))
    repo.git('hash-object', '-w', '-t', 'blob', '--stdin')
    with room_in(repo) as room:
        marks = repo.import_commits(stream, 'raw', room)
        mark = 0
        for directory, count in counts.items():
            # From the last one to the first
            names = [marks[f':{mark + number}'] for number in range(count, 0, -1)]
            mark += count
            print(directory, count)
            if names:
                format_patches(repo, f'{out}/patches/{directory}', names)
    write_files(repo, out / 'files', list(added))


def write_files(repo: Repository, out: pathlib.Path, paths: list[str]) -> None:
    """Writes files as they are in the end, whatever .gitattributes says."""
    lines = repo.listed('ls-tree', '-r', '-z', ARGUMENTS.head, '--', *paths) if paths else []
    given = ''.join(f'{line.split()[2]}\n' for line in lines)
    data = repo.call('cat-file', '--batch', given=given).stdout
    for line in lines:
        words, path = line.split('\t')
        head, _, data = data.partition(b'\n')
        size = int(head.split()[2])
        file = out / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(data[:size])
        if words.startswith('100755'):
            file.chmod(0o755)
        data = data[size + 1 :]


def format_patches(repo: Repository, directory: str, names: list[str]) -> None:
    repo.git(
        # Without their number, a single one would mean all commits since.
        *('format-patch', '-q', f'-{len(names)}', '--no-walk=unsorted', '-p', '-o', directory),
        '--zero-commit',
        *('--no-signature', '--no-numbered', '--subject-prefix=PATCH', '--no-renames', '--no-attach'),
        *('--no-thread', '--no-cover-letter', '--no-notes', '--no-signoff', '--no-base', '--no-from'),
        *('--no-add-header', '--no-to', '--no-cc', '--no-ext-diff', '--no-textconv', '--unified=3'),
        *names,
    )


def changed() -> None:
    """Prints which files of OUT, as "patches" leaves it, differ from those of the project."""
    out, project = pathlib.Path(ARGUMENTS.out), pathlib.Path(ARGUMENTS.project)
    for root, kept in (out / 'patches', project / 'patches'), (out / 'files', project):
        for file in sorted(path for path in root.rglob('*') if path.is_file()):
            name = file.relative_to(root)
            there = kept / name
            if (
                not there.is_file()
                or file.read_bytes() != there.read_bytes()
                or root.name == 'files'
                and os.access(file, os.X_OK) != os.access(there, os.X_OK)
            ):
                print(f'{root.name}/{name}')


def stubs() -> None:
    """Prints the paths of the files that the patches bring as empty ones."""
    for file in ARGUMENTS.patches:
        for path in Patch(file).stubs:
            print(path)


def parse() -> Any:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('program', help='what messages begin with')
    parsers = parser.add_subparsers(required=True)
    one = parsers.add_parser('commits', help='of patches, whose names are read from stdin')
    one.add_argument('tree', help='what messages call the repository')
    one.add_argument('export', help='the target of make that writes patches')
    one.add_argument('repository')
    one.add_argument('project')
    one.add_argument('files')
    one.set_defaults(run=commits)
    one = parsers.add_parser('patches', help='of commits, and new files')
    one.add_argument('repository')
    one.add_argument('out')
    one.add_argument('head', help='the last commit')
    one.add_argument('parts', nargs='+', metavar='PART=RANGE')
    one.set_defaults(run=patches)
    one = parsers.add_parser('changed', help='of what "patches" has written')
    one.add_argument('out')
    one.add_argument('project')
    one.set_defaults(run=changed)
    one = parsers.add_parser('stubs', help='that patches bring')
    one.add_argument('patches', nargs='*')
    one.set_defaults(run=stubs)
    return parser.parse_args()


ARGUMENTS = parse()
# So that what is in the repository for the time being is removed.
signal.signal(signal.SIGTERM, lambda *_: sys.exit(3))
ARGUMENTS.run()
