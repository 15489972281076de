# SPDX-License-Identifier: GPL-2.0-only
"""
Machines with memory beyond what one RMPOPT table covers, of several nodes, and what the
guest's sysfs says of them.
"""
import dataclasses
import itertools

import host

GB = 1 << 30
# Of a node and itself, and of two nodes that have no other
LOCAL = 10
DISTANCE = 32


@dataclasses.dataclass
class Machine:
    """
    NODES: of each its CPUs, and GB of -m. RAM: by node, the GB at which it has one more GB
    each. DISTANCES: of pairs of nodes, if not DISTANCE.
    """

    nodes: list[tuple[str, int]]
    ram: dict[int, tuple[int, ...]]
    distances: dict[tuple[int, int], int]

    def distance(self, a, b):
        return self.distances.get((min(a, b), max(a, b)), DISTANCE) if a != b else LOCAL

    def arguments(self):
        """Of a host, but for "ram" of amd-snp-host"""
        options = host.node_options(*((size, cpus) for cpus, size in self.nodes))
        for a, b in itertools.combinations(range(len(self.nodes)), 2):
            options += ['-numa', f'dist,src={a},dst={b},val={self.distance(a, b)}']
        sockets = sum(bool(cpus) for cpus, _ in self.nodes)
        return {
            'memory': f'{sum(size for _, size in self.nodes)}G',
            'options': tuple(options),
            'smp': f'{4 * sockets},sockets={sockets},cores=2,threads=2',
        }

    def pieces(self):
        """The property "ram" """
        return ',ram=' + '/'.join(f'{gb}G:1G:{node}' for node, starts in self.ram.items() for gb in starts)


# Two nodes with cores, and one without
M1 = Machine(
    [('0-3', 6), ('4-7', 0), ('', 0)],
    {0: (512, 1472), 1: (1664, 1792, 3008, 3136), 2: (2304, 2432, 5184)},
    {(0, 2): 20, (1, 2): 20},
)
# Four nodes, up to 12 TB
M2 = Machine(
    [('0-3', 3), ('4-7', 0), ('8-11', 0), ('12-15', 0)],
    {0: (1216,), 1: (3072, 3584, 4608), 2: (6144, 6656, 7680), 3: (9216, 10240, 11200)},
    {(0, 1): 12, (2, 3): 12},
)
# A node with cores and without memory, and one the other way round
M3 = Machine(
    [('0-3', 6), ('4-7', 0), ('', 0)],
    {2: tuple(range(3008, 3393, 64))},
    {(1, 2): 12},
)

SYSFS = (
    'cd /sys/devices/system/node && block=$((0x$(cat ../memory/block_size_bytes))) && '
    'for n in node[0-9]*; do echo $n distance $(cat $n/distance); '
    'for c in $n/cpu[0-9]*; do [ ! -e $c ] || echo $n cpu ${c##*/cpu}; done; '
    'for b in $n/memory[0-9]*; do [ ! -e $b ] || echo $n ram $((${b##*/memory} * block)) $block; done; done'
)


def topology(m):
    """The node of each GB that has RAM, the node of each core, and distances by node and node"""
    ram: dict[int, int] = {}
    cores: dict[int, int] = {}
    distances: dict[int, dict[int, int]] = {}
    # A block of memory may have holes.
    there = {region for first, last in m.system_ram() for region in range(first // GB, last // GB + 1)}
    for line in m.check(SYSFS).splitlines():
        name, kind, *values = line.split()
        node = int(name.removeprefix('node'))
        numbers = [int(value) for value in values]
        if kind == 'distance':
            distances[node] = dict(enumerate(numbers))
        elif kind == 'cpu':
            # Two threads each, side by side, see arguments()
            cores[numbers[0] // 2] = node
        else:
            start, size = numbers
            for region in there.intersection(range(start // GB, (start + size - 1) // GB + 1)):
                ram[region] = min(node, ram.get(region, node))
    # Distances are in the order of nodes that are online.
    order = sorted(distances)
    return ram, cores, {a: {order[i]: d for i, d in row.items()} for a, row in distances.items()}
