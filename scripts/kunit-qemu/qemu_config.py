# SPDX-License-Identifier: GPL-2.0-only
#
# kunit.py's x86_64 machine, run by bin/qemu-system-x86_64-tcg. By PVH QEMU boots vmlinux,
# which need not be compressed, nor decompressed by emulation. On a busy machine the first
# timer interrupts may come too late for the kernel's check.
from ..qemu_config import QemuArchParams

QEMU_ARCH = QemuArchParams(
    linux_arch='x86_64',
    kconfig='''
CONFIG_SERIAL_8250=y
CONFIG_SERIAL_8250_CONSOLE=y
CONFIG_HYPERVISOR_GUEST=y
CONFIG_PVH=y''',
    qemu_arch='x86_64-tcg',
    kernel_path='vmlinux',
    kernel_command_line='console=ttyS0 no_timer_check',
    extra_qemu_params=['-bios', 'qboot.rom'],
)
