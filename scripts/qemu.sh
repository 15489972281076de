# SPDX-License-Identifier: GPL-2.0-only
# shellcheck shell=bash disable=SC2034,SC2154
#
# Common ground of the QEMU scripts and their tests. Sourced after lib.sh.

qemu_snp=$top/tools/testing/qemu-snp
# The same QEMU with each base kernel.
qemu_top=$top/build/qemu-snp
qemu_src=$qemu_top/src
qemu_build=$qemu_top/b
# QEMU_BIN=PATH tests another one.
qemu_bin=${QEMU_BIN:-$qemu_build/qemu-system-x86_64}
# Firmware as Debian installs it: QEMU's own build has none.
qemu_firmware=(-L /usr/share/seabios -L /usr/share/qemu)

# What the shared functions act on, see tree.sh.
dev_tree=$qemu_src
dev_project=$qemu_snp
dev_where=tools/testing/qemu-snp/
dev_mails=$top/build/qemu-series
dev_bring=qemu-src
dev_make=qemu
dev_export=qemu-export
dev_series=qemu-series
dev_variable=QEMU
dev_parts=

# source_id DIR: what QEMU=DIR means now, its commit included.
source_id()
{
	local commit=
	if [ "$(git -C "$1" rev-parse --show-cdup 2>/dev/null || echo none)" = "" ]; then
		commit=$(git -C "$1" rev-parse HEAD)
	fi
	say "$(realpath -m "$1")${commit:+ $commit}"
}
