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

# What the shared functions act on, see lib.sh.
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

# What the guest gets besides busybox: the programs of the series' selftests, and kexec.
guest_tools=("$build/guest/snp_vm" "$build/guest/sev_ioctl" "$build/guest/rmpopt_test" "$build/guest/kexec")

build_guest_tools()
{
	local selftests=$top/tools/testing/selftests tests
	tests=$selftests/rmpopt
	# No libc knows yet what the selftests use.
	step guest-headers "Installing the kernel's headers" \
		make -C "$linux" "${kmake_vars[@]}" "O=$build/kernel" "INSTALL_HDR_PATH=$build/usr" headers_install
	mkdir -p "$build/guest"
	set -- gcc -static -O2 -Wall -Wextra -D_GNU_SOURCE= -isystem "$build/usr/include" \
		-isystem "$linux/tools/testing/selftests" -isystem "$linux/tools/include" -o
	step guest-snp_vm "Building snp_vm" \
		"$@" "${guest_tools[0]}" "$tests/snp_vm_tool.c" "$tests/snp_vm.c"
	step guest-sev_ioctl "Building sev_ioctl" "$@" "${guest_tools[1]}" "$tests/sev_ioctl.c"
	step guest-rmpopt_test "Building rmpopt_test" \
		"$@" "${guest_tools[2]}" "$tests/rmpopt_test.c" "$tests/snp_vm.c"
	step guest-kexec "Building kexec" "$@" "${guest_tools[3]}" "$snphost/guest/kexec.c"
}

# build_test_modules KERNEL: the modules of the selftests and of the tests here, for that
# build directory. They are put among the modules that are installed there.
build_test_modules()
{
	local dir out
	# If they cannot be built, those of an earlier build must not be taken for them.
	rm -rf "$1"/modules/lib/modules/*/updates
	for dir in "$top/tools/testing/selftests/rmpopt/test_modules" "$tests/test_modules"; do
		# The directory above tells them apart.
		out=$1/test_modules/$(basename "${dir%/*}")
		mkdir -p "$out"
		step guest-modules "Building the modules in ${dir#"$top"/} for ${1#"$top"/}" \
			make -C "$1" "${kmake_vars[@]}" "M=$dir" \
			"MO=$out" "INSTALL_MOD_PATH=$1/modules" modules modules_install
	done
}
