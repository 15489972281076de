# SPDX-License-Identifier: GPL-2.0-only
"""
Ways to break the code of the series, from the *.toml beside this file:

	file = 'PATH'		in the kernel, of all entries without their own
	[[mutation]]		name, find and replace: re.sub() of the first place in the file
	[[unnoticed]]		what is left out because KUnit cannot notice it: a text in the
				file, and the reason
"""
import dataclasses
import pathlib
import re
import tomllib

from judge import BUILD, slug

LINUX = BUILD / 'linux'


@dataclasses.dataclass
class Mutation:
    name: str
    file: str
    find: str
    replace: str

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


def load(kind, key):
    found = []
    for path in sorted(pathlib.Path(__file__).parent.glob('*.toml')):
        data = tomllib.loads(path.read_text(encoding='utf-8'))
        found += [kind(**{'file': data['file']} | entry) for entry in data.get(key, [])]
    return found


MUTATIONS = load(Mutation, 'mutation')
UNNOTICED = load(Unnoticed, 'unnoticed')
