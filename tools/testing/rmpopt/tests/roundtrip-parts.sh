# SPDX-License-Identifier: GPL-2.0-only
# shellcheck shell=bash disable=SC2154
#
# The part of roundtrip-test that only a series with parts needs. Sourced by it.

# The parts of the series. Here the first step is a fix, and the last two are for testing.
in_tree branch -f fixes "series~$((n - 1))"
in_tree branch -f functional series~2
mkdir -p "$copy/patches/testing"
for part in "$copy/patches" "$copy/patches/testing"; do
	[ -s "$part/cover-letter.txt" ] || printf 'x86: Test\n\nText.\n' >"$part/cover-letter.txt"
done
ends() { in_tree rev-parse fixes functional series; }
# parts_numbered DIRECTORY: each part has its own, from 1 on
parts_numbered()
{
	[ "$(numbers "$1/fixes")" = '0001 ' ] && [ "$(numbers "$1/testing")" = '0001 0002 ' ] &&
		[ "$(numbers "$1")" = "$(seq -f %04.0f -s ' ' $((n - 3))) " ]
}
parts_survive()
{
	local before
	before=$(ends)
	run_export && parts_numbered "$copy/patches" && new_tree && run_make &&
		[ "$(ends)" = "$before" ] && same_hash
}
check "the parts of the series survive export and make $dev_make" parts_survive

test_mails 3
mails_numbered()
{
	parts_numbered "$mails" &&
		grep -q '^Subject: \[PATCH\] ' "$mails"/fixes/0001-*.patch && [ ! -e "$mails/fixes/0000-cover-letter.patch" ] &&
		grep -q "^Subject: \[PATCH $(printf "%0${#n}d" 1)/$((n - 3))\] " "$mails"/0001-*.patch &&
		grep -q '^Subject: \[PATCH 2/2\] ' "$mails"/testing/0002-*.patch
}
check "each part of the mails has its own numbers, the fixes none" mails_numbered
covers()
{
	local fix series
	fix=$(git -C "$tree" log -1 --format='  %s' fixes)
	series="  the series \"$(head -n 1 "$copy/patches/cover-letter.txt")\""
	grep -qxF "$fix" "$mails/0000-cover-letter.patch" && ! grep -qxF "$series" "$mails/0000-cover-letter.patch" &&
		grep -qxF "$fix" "$mails/testing/0000-cover-letter.patch" &&
		grep -qxF "$series" "$mails/testing/0000-cover-letter.patch"
}
check "the cover letters say what their patches apply to" covers

# A rebase moves the branches along, or export says how.
rebase_moves()
{
	local subjects
	subjects=$(in_tree log --no-walk=unsorted --format=%s fixes functional series)
	in_tree rebase -q --force-rebase base && [ "$(ends)" != "$before" ] &&
		[ "$(in_tree log --no-walk=unsorted --format=%s fixes functional series)" = "$subjects" ] && run_export &&
		[ "$(ends)" = "$before" ]
}
before=$(ends)
if [ "$(printf '%s\n' 2.38 "$(git version | cut -d ' ' -f 3)" | sort -V | head -n 1)" = 2.38 ]; then
	check "git rebase moves the ends of the parts along" rebase_moves
else
	say "# skipped: git before 2.38 does not move the ends of the parts along"
fi
in_tree -c rebase.updateRefs=false rebase -q --force-rebase base
mends()
{
	local part command
	for part in fixes functional; do
		if run_export 2>"$work/err"; then return 1; fi
		command=$(sed -n "s/.*'\(git branch -f $part [0-9a-f]*\)' there.*/\1/p" "$work/err")
		[ "$command" ] && (cd "$tree" && eval "$command") || return
	done
	run_export && [ "$(ends)" = "$before" ]
}
refuses "export refuses parts that a rebase has left behind" 'fixes .* that the series does not have' run_export
check "... and says the commands that mend it" mends
in_tree branch -f functional base
refuses "export refuses parts in the wrong order" 'functional .* does not come after fixes' run_export
in_tree branch -q -D functional
refuses "export refuses a part without an end" 'no branch functional' run_export
in_tree branch functional series~3
git -C "$copy" add -A
git -C "$copy" commit -q --allow-empty -m before
other_patches
refuses "make $dev_make refuses to move the end of a part back" 'has its branch functional at another' run_make
git -C "$copy" checkout -q .
in_tree branch -f functional series
moved()
{
	run_export && [ "$(numbers "$copy/patches/fixes")" = '0001 ' ] && [ ! "$(numbers "$copy/patches/testing")" ] &&
		git -C "$copy" add -A && git -C "$copy" commit -q -m moved &&
		in_tree branch -f fixes base && run_export && [ ! -e "$copy/patches/fixes" ] &&
		[ "$(numbers "$copy/patches")" = "$(seq -f %04.0f -s ' ' "$n") " ] && same_hash
}
check "moving the ends of the parts moves the patches" moved
old_tree()
{
	local stamp=$tree/.git/rmpopt-stamp
	sed -i '/^fixes=/d; /^functional=/d' "$stamp"
	in_tree branch -q -D fixes functional
	run_make && [ "$(in_tree rev-parse fixes functional)" = "$(in_tree rev-parse base series)" ] && grep -q '^functional=' "$stamp"
}
check "a tree made before there were parts gets their branches" old_tree
git -C "$copy" add -A
git -C "$copy" commit -q --allow-empty -m 'No parts'
