# SPDX-License-Identifier: GPL-2.0-only
# shellcheck shell=bash disable=SC2034
#
# Common ground of the scripts beside it. Sourced, not run.

# A command that fails in $(...) ends the script as well, and none without a word.
# 3 is the status of a failure that has been told.
shopt -s inherit_errexit
set -E
trap 'rc=$?; [ "$rc" -eq 3 ] || echo "${0##*/}: line $LINENO: failed ($rc): $BASH_COMMAND" >&2; exit 3' ERR

top=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd -P)
scripts=$top/scripts
# What drives an emulated host, and what judges one
snphost=$top/tools/testing/snphost
tests=$top/tools/testing/rmpopt/tests
# Debian's kernel that the series stands on. What is made of the older one has a
# directory of its own, which the Python scripts learn from the environment.
export BASE=${BASE:-7.3}
case $BASE in
7.3) build=$top/build ;;
7.2) build=$top/build/7.2 ;;
*)
	echo "${0##*/}: BASE=$BASE: it is 7.3, the default, or 7.2" >&2
	exit 3
	;;
esac
export RMPOPT_BUILD=$build
linux=$build/linux
logs=$build/log
cache=${XDG_CACHE_HOME:-$HOME/.cache}/rmpopt
jobs=$(nproc)
# What host-init and host.py need in an initramfs, besides busybox
host_programs=("$build/guest/commands" "$build/guest/await")

# kernel_dir NAME: where that kernel is built, see scripts/kernel.
kernel_dir()
{
	case $1 in
	full | full-debug | full-kcsan | full-fuzz) say "$build/$1" ;;
	core | without | other) say "$build/$1/kernel" ;;
	*) die "$1 is not a kernel: take full, full-debug, full-kcsan, full-fuzz, core, without or other" ;;
	esac
}

# The kernel's make must see neither the variables nor the flags given to the
# project's own make.
unset MAKEFLAGS MFLAGS MAKELEVEL MAKEOVERRIDES MAKEFILES
unset ARCH CROSS_COMPILE KBUILD_OUTPUT O V C W KCFLAGS
unset "${!GIT_@}"
export LC_ALL=C.UTF-8 TZ=UTC
# Debian's python first, whose modules "make deps" installs.
export PATH=/usr/bin:/bin:$PATH PYTHONDONTWRITEBYTECODE=1

# What git writes must not depend on who runs it. safe.directory lets a checkout
# that belongs to another user be read.
export GIT_CONFIG_GLOBAL=/dev/null GIT_CONFIG_NOSYSTEM=1 GIT_CONFIG_COUNT=0
gitconfig()
{
	export "GIT_CONFIG_KEY_$GIT_CONFIG_COUNT=$1"
	export "GIT_CONFIG_VALUE_$GIT_CONFIG_COUNT=$2"
	export GIT_CONFIG_COUNT=$((GIT_CONFIG_COUNT + 1))
}
gitconfig safe.directory '*'
gitconfig core.abbrev 12
gitconfig core.autocrlf false
gitconfig core.quotePath true
gitconfig i18n.commitEncoding utf-8
gitconfig i18n.logOutputEncoding utf-8
gitconfig diff.algorithm histogram
gitconfig diff.noprefix false
gitconfig diff.mnemonicPrefix false
gitconfig commit.gpgSign false
gitconfig gc.auto 0
gitconfig advice.detachedHead false
gitconfig init.defaultBranch series

# Fixed, so that the same source gives the same kernel and ccache finds it.
export KBUILD_BUILD_TIMESTAMP='Thu Jan  1 00:00:00 UTC 2026'
export KBUILD_BUILD_USER=rmpopt KBUILD_BUILD_HOST=localhost KBUILD_BUILD_VERSION=1
export CCACHE_BASEDIR=$build CCACHE_NOHASHDIR=1
# "+" after the version would come and go with the state of the git tree.
kmake_vars=(ARCH=x86_64 LOCALVERSION= "CC=ccache gcc" "HOSTCC=ccache gcc")

say()
{
	printf '%s\n' "$*"
}

die()
{
	printf '%s: %s\n' "${0##*/}" "$*" >&2
	exit 3
}

# shellcheck source=scripts/progress.sh
. "$scripts/progress.sh"
# shellcheck source=scripts/tree.sh
. "$scripts/tree.sh"
# shellcheck source=scripts/kconfig.sh
. "$scripts/kconfig.sh"
