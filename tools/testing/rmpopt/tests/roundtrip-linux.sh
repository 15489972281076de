# SPDX-License-Identifier: GPL-2.0-only
# shellcheck shell=bash disable=SC2034,SC2154
#
# The part of roundtrip-test that is about kernels other than the base, and about what is
# fetched. Sourced by it.

wrong_base "a file that is no tarball" "$work/file" 'is not a tarball'

# Other kernels with RMPOPT, see "other".
run_other() { OTHER=$1 "$copy/scripts/other"; }
wrong_other() { refuses "make bench refuses OTHER= with $1" "$3" run_other "$2"; }
wrong_other "a path that is not there" "$work/none" 'no such directory: give'
wrong_other "a directory that is no kernel" "$work/empty" 'is not a Linux source tree'
: >"$work/has/Kbuild"
brought() { run_other "$work/has" && [ "$(realpath "$copy/build/other/linux")" = "$(realpath "$work/has")" ]; }
check "OTHER= takes a directory as it is" brought
: >"$work/has/.config"
wrong_other "a directory that has been built in" "$work/has" 'built in place'
rm "$work/has/.config"
git init -q "$work/has"
git -C "$work/has" add -A
git -C "$work/has" commit -q -m RMPOPT
checked_out()
{
	run_other "$work/has" && [ ! -L "$copy/build/other/linux" ] &&
		[ "$(git -C "$copy/build/other/linux" rev-parse HEAD)" = "$(git -C "$work/has" rev-parse HEAD)" ]
}
check "... and of a git checkout HEAD" checked_out
say '/* none */' >"$work/has/arch/x86/include/asm/cpufeatures.h"
git -C "$work/has" commit -q -a -m 'Without RMPOPT'
wrong_other "a kernel without RMPOPT" "$work/has" 'has no RMPOPT: take'
# Another base kernel: the first patch finds two lines before its change as they are,
# and the one before these not.
older_base()
{
	local first=$work/first path line
	git -C "$copy" show "HEAD:$(cd "$copy" && patch_files . | sed -n '1s,^\./,,p')" >"$first"
	path=$(sed -n 's,^--- a/,,p' "$first" | sed -n 1p)
	line=$(sed -n 's/^@@ -\([0-9]*\),.*/\1/p' "$first" | sed -n 1p)
	rm -rf "$work/older" "$tree"
	git clone -q --shared --no-checkout --no-tags "$work/base" "$work/older"
	git -C "$work/older" checkout -q --detach "$base"
	sed -i "${line}s,\$, /* as it was */," "$work/older/$path"
	git -C "$work/older" add -A
	tag_base "$work/older" "$(git -C "$work/older" write-tree)" "$1"
	git clone -q --shared --no-checkout "$work/older" "$tree"
	git -C "$tree" checkout -q -B series base
	git -C "$tree" remote remove origin
	stamp_set "$tree" none "$(git -C "$tree" rev-parse base base base | tr '\n' ' ')" test
}
git -C "$copy" checkout -q -- .
git -C "$copy" clean -qfd
older_base 'Linux 7.4.0' >"$work/log" 2>&1
refuses "make $dev_make refuses a patch whose context differs" 'does not apply to Linux 7.4.0' run_make
older_base 'Linux 7.2.99' >"$work/log" 2>&1
less_context()
{
	run_make 2>&1 | grep 'Note: patches/.* applies to Linux 7.2.99 by one line of context' &&
		in_tree grep -q 'as it was' series &&
		[ "$(in_tree rev-list --count base..series)" -eq "$(patch_files "$copy" | wc -l)" ]
}
check "... but takes it on the older base, and says so" less_context
before=$(project_state "$project")
in_tree commit -q --allow-empty -m 'x86/sev: Do something'
refuses "export refuses to write back from the older base" 'on Linux 7.3 only' run_export
in_tree reset -q --hard HEAD^
refuses "... and with BASE=7.2" 'on Linux 7.3 only' env BASE=7.2 "$copy/scripts/export"
check "... and writes nothing" same_project
mkdir "$copy/build/7.2"
mv "$tree" "$copy/build/7.2/linux"
older()
{
	local out
	out=$(BASE=7.2 "$copy/scripts/linux") &&
		[[ $out == "build/7.2/linux: up to date"* ]] && [ ! -e "$tree" ] &&
		BASE=7.2 "$copy/scripts/series" && [ -e "$copy/build/7.2/series/0000-cover-letter.patch" ]
}
check "with BASE=7.2 all of the kernel is in build/7.2" older
say '/* Not tracked. */' >"$copy/build/7.2/linux/arch/x86/virt/svm/untracked.c"
refuses "make clean refuses an untracked file there" 'build/7.2/linux, but .* untracked' \
	"$copy/scripts/clean"
refuses "BASE= of another kernel is refused" 'BASE=7.1: it is 7.3, the default, or 7.2' \
	env BASE=7.1 "$copy/scripts/linux"
refuses "BASE= and LINUX= together are refused" 'give one of them' \
	env BASE=7.2 LINUX="$work/has" "$copy/scripts/linux"

# apt is busy: this apt-get finds a lock held as many times as a file says, then ends with
# the status of another one.
mkdir -p "$work/bin" "$work/cache/rmpopt"
cat >"$work/bin/apt-get" <<'END'
#!/bin/bash
echo "$*" >>"$APT_TEST.calls"
left=$(cat "$APT_TEST.locked")
[ "$left" -gt 0 ] || exit "$(cat "$APT_TEST.status")"
echo $((left - 1)) >"$APT_TEST.locked"
echo 'E: Could not get lock /var/lib/dpkg/lock-frontend. It is held by process 42 (apt-get)' >&2
exit 100
END
# shellcheck disable=SC2016
printf '#!/bin/bash\n[ "$1" != -n ] || shift\nexec "$@"\n' >"$work/bin/sudo"
chmod +x "$work/bin/apt-get" "$work/bin/sudo"
export APT_TEST=$work/apt
# apt_busy LOCKED STATUS: what deps says; the calls are in apt.calls.
apt_busy()
{
	say "$1" >"$APT_TEST.locked"
	say "$2" >"$APT_TEST.status"
	rm -f "$APT_TEST.calls"
	PATH=$work/bin:$PATH "$copy/scripts/deps" rmpopt-no-such-package
}
waits()
{
	apt_busy 2 0 >"$work/waited" && cat "$work/waited" && [ "$(wc -l <"$APT_TEST.calls")" -eq 3 ] &&
		[ "$(grep -c 'Waiting for another apt.*held by process 42 (apt-get)' "$work/waited")" -eq 1 ]
}
check "make deps waits for another apt, and says so once" waits
gives_up()
{
	if apt_busy 0 100 >"$work/waited" 2>&1; then return 1; fi
	[ "$(wc -l <"$APT_TEST.calls")" -eq 2 ] && ! grep -q 'Waiting' "$work/waited"
}
check "... but not when apt fails for another reason" gives_up
fetch()
{
	# shellcheck disable=SC2016
	XDG_CACHE_HOME=$work/cache bash -c '. "$1/lib.sh"; . "$1/debian.sh"
		private_apt() { say fetching; }
		apt-cache() { say "Package: package"; }
		download() { :; }
		"$2" suite package text' "$0" "$copy/scripts" "$1"
}
busy_cache()
{
	local lock=$work/cache/rmpopt/lock out
	flock "$lock" sleep 2 &
	while flock -n "$lock" true; do sleep 0.1; done
	out=$(fetch "$1") && wait $! &&
		[[ $out == 'Waiting for another make '*$'\n'fetching ]] && [ "$(fetch "$1")" = fetching ]
}
check "the fetch of a package waits for another make" busy_cache fetch_deb
check "... and so does that of a source package" busy_cache fetch_source
