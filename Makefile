# SPDX-License-Identifier: GPL-2.0-only
#
# Every target is a script; see "make help".

SHELL := /bin/bash
S := scripts
T := tools/testing/rmpopt

# BASE=7.2            Debian's Linux 7.2 as base kernel instead of its 7.3
# LINUX=PATH          base kernel instead of Debian's: git checkout, directory or tarball
# BENCH=WORD          make bench: only the cases named like it, the kernel included
# OTHER=DIRECTORY     make bench: another kernel with RMPOPT to compare, git checkout or directory
# QEMU=DIRECTORY      QEMU 10.0 instead of Debian's: git checkout or directory
# QEMU_CONFIGURE=OPT  make qemu: more options for QEMU's configure
# SIGNOFF='NAME <M>'  make series, qemu-series: add that Signed-off-by
# K=EXPRESSION        make test, host-test, qemu-test, clients, roundtrip, mutate, host-mutate: only
#                     what has a name like it, as pytest -k; make kunit: these suites or tests, a glob
#                     of kunit.py
# HOST_PROPERTIES=P   make host-test: with NAME=VALUE,... of the emulator, or all of them in turn
# QUICK=1             make test, host-test: without the fuzzer, and with the kernel "full" only
#                     make check: each step applies, and what the series changes compiles,
#                     with BASE=7.2 after the last step; of QEMU's only checkpatch
#                     make bench: a few cases of that kernel, and whether they are within bounds
# SECONDS=N SEED=N    make fuzz: for how long, and with which numbers at random
# KCSAN=1             make test, host-test: also in a kernel that looks for data races
# MAP=FILE.svg        make run: the maps as a picture, too
# VCPUS=N             make guest: with so many vCPUs, instead of one
# GUESTS=N            make guest: so many guests, one after the other
# KILL=1              make guest: kill the VMM while the guest runs
# HASHES=1            make guest: with hashes of kernel, initrd and command line, which are measured
# ATTEST=1            make guest: and verify an attestation report of the guest
export BASE LINUX BENCH OTHER QEMU QEMU_CONFIGURE SIGNOFF K HOST_PROPERTIES QUICK KCSAN MAP VCPUS GUESTS KILL HASHES ATTEST

.PHONY: help deps other linux export series kernel kunit roundtrip lint test clients run shell guest guest-shell check check-linux bench mutate host-mutate fuzz fuzz-mutate qemu qemu-src qemu-check qemu-test host-test qemu-export qemu-series clean
.NOTPARALLEL:

help: ## List the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "make %-11s %s\n", $$1, $$2 }' Makefile
	@echo
	@sed -n 's/^# \([A-Z_]*=\)/  \1/p' Makefile

deps: ## Install the Debian packages that are missing
	@$S/deps

linux: deps ## Make or update build/linux: the base kernel and the series as commits
	@$S/linux

export: deps ## Write the commits of build/linux back to patches/ and the new files
	@$S/export

series: linux ## Write the mails of the series to build/series (SIGNOFF=..., BASE=...)
	@$S/series

kernel: linux ## Build build/full, the kernel that "make run" boots
	@$S/kernel

kunit: linux ## Run the KUnit tests in QEMU, by emulation (K=...)
	@$S/kunit

roundtrip: linux qemu-src ## Test that make linux, export and series lose nothing, nor those of QEMU
	@$T/test test_roundtrip.py

lint: linux qemu-src ## Read everything with shellcheck, black, pylint, mypy, codespell and checkpatch
	@$S/lint

test: linux qemu ## Run all tests: KUnit, the round trip, maps, qemu-test, host-test, clients (K=...)
	@$T/test

run: linux qemu ## Boot an emulated SNP host, start and stop guests, show what is optimized (MAP=...)
	@$T/demo/run

shell: linux qemu ## The same machine with a shell
	@$T/demo/run --shell

guest: linux qemu ## Boot an emulated SNP host and a Linux guest in it, show what the guest costs (VCPUS=...)
	@$T/guest/run

guest-shell: linux qemu ## The same guest with a shell
	@$T/guest/run --shell

check: check-linux qemu-check ## Build every step of both series and let their checkers read it (QUICK=1, BASE=...)

check-linux: linux
	@$S/check-series

bench: other linux qemu ## Count what RMPOPT costs and gains, with and without the series (OTHER=..., QUICK=1)
	@$T/bench/bench

other: deps
	@$S/other

mutate: linux ## Break the code on purpose and see the tests notice
	@$T/mutate

host-mutate: linux qemu ## Break the code on purpose and see the tests of the host notice (K=...)
	@$T/host-mutate

fuzz: linux qemu ## Fuzz /dev/sev, KVM's ioctls for SEV and guest_memfd on the emulated SNP host (SECONDS=..., SEED=...)
	@$T/fuzz/run $(or $(SECONDS),600) $(or $(SEED),1)

fuzz-mutate: linux qemu ## Break ccp and kvm-amd on purpose and see the fuzzer notice (K=..., SECONDS=...)
	@$T/fuzz/mutate $(or $(SECONDS),600)

qemu: deps ## Build QEMU with an emulated SNP host in build/qemu-snp
	@$S/qemu

qemu-src: deps
	@$S/qemu-src

qemu-check: qemu-src
	@$S/check-qemu

qemu-test: linux qemu ## Test the emulated SNP host: options, each rule on the bare machine, Linux
	@$T/test test_options.py test_bare.py test_linux.py

host-test: linux qemu ## Test the series on the emulated SNP host (K=..., QUICK=1, KCSAN=1)
	@$T/test test_life_cycle.py test_stale.py test_catch_up.py test_windows.py test_seen.py test_field.py test_psmash.py test_buffers.py test_guest.py

clients: linux qemu ## Run Debian's snphost, cpuid and rdmsr, and KVM's selftests, on the emulated host (K=...)
	@$T/test test_clients.py

qemu-export: deps ## Write the commits of build/qemu-snp/src back to tools/testing/qemu-snp
	@$S/qemu-export

qemu-series: qemu-src ## Write the mails for QEMU to build/qemu-series (SIGNOFF=...)
	@$S/qemu-series

clean: ## Remove build/, unless work in build/linux or build/qemu-snp/src would be lost
	@$S/clean
