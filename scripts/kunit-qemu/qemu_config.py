# SPDX-License-Identifier: GPL-2.0-only
#
# kunit.py's x86_64 machine, run by bin/qemu-system-x86_64-tcg.
from ..qemu_config import QemuArchParams

QEMU_ARCH = QemuArchParams(
    linux_arch='x86_64',
    kconfig='''
CONFIG_SERIAL_8250=y
CONFIG_SERIAL_8250_CONSOLE=y''',
    qemu_arch='x86_64-tcg',
    kernel_path='arch/x86/boot/bzImage',
    kernel_command_line='console=ttyS0',
    extra_qemu_params=['-bios', 'qboot.rom'],
)
