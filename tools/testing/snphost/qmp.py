#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-only
"""
qmp.py SOCKET COMMAND [NAME=VALUE...]: one command to a QEMU that runs with
-qmp unix:SOCKET,server,wait=off. Prints what it returns: a string as it is, else JSON.
"""
import json
import socket
import sys


class Qmp:
    def __init__(self, path):
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(120)
        self.sock.connect(path)
        self.file = self.sock.makefile('r', encoding='utf-8')
        self.file.readline()
        self.command('qmp_capabilities')

    def command(self, name, **arguments):
        self.sock.sendall(json.dumps({'execute': name, 'arguments': arguments}).encode())
        # Events may come in between.
        for line in self.file:
            answer = json.loads(line)
            if 'error' in answer:
                raise OSError(f"{name} {arguments}: {answer['error']['desc']}")
            if 'return' in answer:
                return answer['return']
        # QEMU may be gone before it has answered that.
        if name == 'quit':
            return {}
        raise OSError(f'{name}: QEMU has ended')


def main():
    if len(sys.argv) < 3 or not all('=' in a for a in sys.argv[3:]):
        sys.exit(__doc__.strip())
    try:
        result = Qmp(sys.argv[1]).command(sys.argv[2], **dict(a.split('=', 1) for a in sys.argv[3:]))
    except (OSError, ValueError) as error:
        sys.exit(f'qmp.py: {error}')
    if isinstance(result, str):
        print(result.rstrip('\r\n'))
    elif result != {}:
        print(json.dumps(result))


if __name__ == '__main__':
    main()
