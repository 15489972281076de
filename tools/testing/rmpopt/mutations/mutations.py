# SPDX-License-Identifier: GPL-2.0-only
"""
Ways to break the code of the series and around it, from *.toml of a directory:

	file = 'PATH'		in the kernel, of all entries without their own
	[[mutation]]		name, find and replace: re.sub() of the first place in the file
	  test			of those in host/: the test in tests/ that has to notice it
	[[unnoticed]]		what is left out because KUnit cannot notice it: a text in the
				file, and the reason

KUnit has to notice those beside this file, the tests of the host those in host/, and the
fuzzer those in ../fuzz.
"""
import dataclasses
import pathlib
import re
import tomllib

from judge import BUILD, slug

LINUX = BUILD / 'linux'
HERE = pathlib.Path(__file__).parent


@dataclasses.dataclass
class Mutation:
    name: str
    file: str
    find: str
    replace: str
    test: str = ''

    def slug(self):
        return slug(self.name)

    def original(self):
        return (LINUX / self.file).read_text(encoding='utf-8')

    def mutated(self):
        return re.sub(self.find, self.replace, self.original(), count=1)


@dataclasses.dataclass
class Unnoticed:
    text: str
    file: str
    reason: str

    def exists(self):
        return self.text in (LINUX / self.file).read_text(encoding='utf-8')


def load(kind, key, directory=HERE):
    found = []
    for path in sorted(directory.glob('*.toml')):
        data = tomllib.loads(path.read_text(encoding='utf-8'))
        common = {'file': data['file']} if 'file' in data else {}
        found += [kind(**common | entry) for entry in data.get(key, [])]
    return found


MUTATIONS = load(Mutation, 'mutation')
UNNOTICED = load(Unnoticed, 'unnoticed')
OF_HOST = load(Mutation, 'mutation', HERE / 'host')
OF_FUZZER = load(Mutation, 'mutation', HERE.parent / 'fuzz')
