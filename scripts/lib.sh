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

# kernel_dir NAME: where that kernel is built, see scripts/kernel.
kernel_dir()
{
	case $1 in
	full | full-debug | full-kcsan) say "$build/$1" ;;
	core | without | other) say "$build/$1/kernel" ;;
	*) die "$1 is not a kernel: take full, full-debug, full-kcsan, core, without or other" ;;
	esac
}

# The repository that a developer works in, where its patches and new files stand, and
# where its mails go. The QEMU scripts name their own, see scripts/qemu.sh.
dev_tree=$linux
dev_project=$top
dev_where=
dev_mails=$build/series
# Scripts that bring the tree and write patches and mails, and the target of the first
dev_bring=linux
dev_make=linux
[ "$BASE" = 7.3 ] || dev_make="linux BASE=$BASE"
dev_export='export'
dev_series=series
dev_variable=LINUX
# Whether the series has parts: fixes, the functional part, and what is for testing only.
dev_parts=1

# Who has written the patches, whoever has.
author_name='RMPOPT developers'
author_email=rmpopt@localhost

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

# step LOG TEXT COMMAND...: runs COMMAND, its output to build/log/LOG.log. Shows
# how far it is on a terminal, one line at the start and one at the end elsewhere.
# A failure names the log and shows its end.
step()
{
	local name=$1 text=$2 file=$logs/$1.log start=$SECONDS ticker='' rc=0
	shift 2
	mkdir -p "$logs"
	if [ -t 1 ]; then
		step_ticker "$text" "$file" "$logs/$name.count" &
		ticker=$!
	else
		say "$text ..."
	fi
	"$@" >"$file" 2>&1 </dev/null || rc=$?
	if [ "$ticker" ]; then
		kill "$ticker" 2>/dev/null || :
		wait "$ticker" 2>/dev/null || :
		printf '\r\033[K'
	fi
	if [ "$rc" -ne 0 ]; then
		say "$text: failed after $((SECONDS - start)) s, log: ${file#"$top"/}, its end:"
		tail -n 25 "$file" | sed 's/^/    /'
		return 3
	fi
	objects "$file" >"$logs/$name.new"
	# An incremental build says nothing about the size of a whole one.
	if [ "$(cat "$logs/$name.new")" -gt "$(cat "$logs/$name.count" 2>/dev/null || echo 0)" ]; then
		mv "$logs/$name.new" "$logs/$name.count"
	else
		rm "$logs/$name.new"
	fi
	say "$text: done, $((SECONDS - start)) s"
}

# Number of objects a kernel build has made, from its log.
objects()
{
	grep -cE '^  (CC|AS|LD|AR)' "$1" 2>/dev/null || :
}

step_ticker()
{
	local text=$1 file=$2 start=$SECONDS estimate made last
	estimate=$(cat "$3" 2>/dev/null || echo 0)
	# Until the script that started it has gone, by whatever way.
	while kill -0 $$ 2>/dev/null; do
		made=$(objects "$file")
		last=$(tail -n 1 "$file" 2>/dev/null | tr -d '\r\033' | cut -c 1-40)
		if [ "${made:-0}" -gt 0 ]; then
			last="$made objects"
			[ "$estimate" -le "$made" ] || last="$made of about $estimate objects"
		fi
		printf '\r\033[K%s: %d s %s' "$text" $((SECONDS - start)) "$last"
		sleep 1
	done
}

# Paths of the files that the patches given bring as empty stubs.
stub_files()
{
	awk '
		FNR == 1 { file = ""; new = 0 }
		/^diff --git a\// { n = length($0); file = substr($0, 14, (n - 16) / 2); new = 0; next }
		/^new file mode / { new = 1; next }
		/^index 0+\.\.e69de29[0-9a-f]*$/ { if (new && file != "") print file; new = 0 }
	' "$@" </dev/null
}

# patch_files PROJECT: its patches, in order, one a line.
patch_files()
{
	local part
	for part in patches/fixes patches patches/testing; do
		[ -d "$1/$part" ] || continue
		find "$1/$part" -maxdepth 1 -name '[0-9][0-9][0-9][0-9]-*.patch' | sort
	done
}

# inputs_hash PROJECT: one hash of everything that the series is made of.
inputs_hash()
{
	local project=$1 patches=() f
	mapfile -t patches < <(patch_files "$project")
	{
		for f in ${patches[0]+"${patches[@]}"}; do
			printf '%s ' "${f#"$project/patches/"}"
			git hash-object --no-filters -- "$f"
		done
		stub_files ${patches[0]+"${patches[@]}"} | while IFS= read -r f; do
			printf '%s ' "$f"
			if [ -x "$project/$f" ]; then printf 'x '; fi
			git hash-object --no-filters -- "$project/$f" 2>/dev/null || say missing
		done
	} | sha256sum | cut -d ' ' -f 1
}

# The message without the diffstat at its end, which would be wrong after an edit.
without_diffstat()
{
	awk '
		/^---$/ { cut = NR }
		{ line[NR] = $0 }
		END {
			stat = 0
			for (i = cut + 1; cut && i <= NR; i++) {
				if (line[i] ~ /^ .* \| +([0-9]+( [+-]*)?|Bin.*)$/ ||
				    line[i] ~ /^ [0-9]+ files? changed/)
					stat = 1
				else if (line[i] !~ /^( (create|delete|rename|copy|mode) .*)?$/)
					cut = 0
			}
			if (stat && cut)
				NR = cut - 1
			for (i = 1; i <= NR; i++)
				print line[i]
		}'
}

# as_author NAME EMAIL DATE COMMAND...: the committer is the author, so that the same
# commit has the same hash wherever it is made.
as_author()
{
	local name=$1 email=$2 date=$3
	shift 3
	env GIT_AUTHOR_NAME="$name" GIT_AUTHOR_EMAIL="$email" GIT_AUTHOR_DATE="$date" \
		GIT_COMMITTER_NAME="$name" GIT_COMMITTER_EMAIL="$email" \
		GIT_COMMITTER_DATE="$date" "$@"
}

# as_author_of REPO COMMIT COMMAND...
as_author_of()
{
	local who
	mapfile -t who < <(git -C "$1" log -1 --format='%an%n%ae%n%ad' --date=raw "$2")
	shift 2
	as_author "${who[@]}" "$@"
}

# patch_diff PATCH: the diff without the mail around it.
patch_diff()
{
	sed -n '/^diff --git /,$p' "$1"
}

# index_entries [PATH...]: "MODE BLOB PATH" of these in the index, or of all.
index_entries()
{
	git ls-files -s -- "$@" | sed 's/ 0\t/ /'
}

# The project keeps new files as the series leaves them. What a file held at earlier steps
# follows from the diffs of later patches, undone from the last one on.
#
# new_file_versions REPO PROJECT FILES TMP: "MODE BLOB PATH" of each new file that the patch
# brings or changes, after it, in TMP/PATCH. At the last of these it is as FILES has it.
new_file_versions()
(
	repo=$1 project=$2 files=$3 tmp=$4
	# shellcheck disable=SC2030
	export GIT_INDEX_FILE=$tmp/new
	cd "$repo" || exit
	git read-tree --empty
	mapfile -t patches < <(patch_files "$project")
	for patch in ${patches[0]+"${patches[@]}"}; do
		mkdir -p "$(dirname "$tmp/${patch#"$project/"}")"
		: >"$tmp/${patch#"$project/"}"
		while IFS= read -r path; do
			[ -f "$files/$path" ] ||
				die "${patch#"$project/"} brings $path, which the project does not have"
			mode=100644
			if [ -x "$files/$path" ]; then mode=100755; fi
			blob=$(git hash-object -w --no-filters -- "$files/$path")
			printf '%s %s\t%s\n' "$mode" "$blob" "$path" >>"$tmp/entries"
		done < <(stub_files "$patch")
	done
	[ ! -e "$tmp/entries" ] || git update-index --index-info <"$tmp/entries"
	for ((i = ${#patches[@]} - 1; i >= 0; i--)); do
		patch=${patches[i]}
		# A patch that is none is told of when it is applied.
		mapfile -t paths < <({ patch_diff "$patch" | git apply --numstat -z 2>/dev/null || :; } |
			tr '\0' '\n' | cut -f 3-)
		[ "${#paths[@]}" -eq 0 ] || mapfile -t paths < <(git ls-files -- "${paths[@]}")
		[ "${#paths[@]}" -gt 0 ] || continue
		index_entries "${paths[@]}" >"$tmp/${patch#"$project/"}"
		mapfile -t stubs < <(stub_files "$patch")
		[ "${#stubs[@]}" -eq 0 ] || git update-index --force-remove -- "${stubs[@]}"
		mapfile -t paths < <(git ls-files -- "${paths[@]}")
		for path in ${paths[0]+"${paths[@]}"}; do
			patch_diff "$patch" | git apply -R --cached --whitespace=nowarn "--include=$path" 2>/dev/null ||
				undo_in_edited "$project" "$patch" "$path" "$tmp"
		done
	done
)

# undo_in_edited PROJECT PATCH PATH TMP: PATH in the index was edited in the project where
# PATCH changes it. Undoes the patch with what was edited there, which thus belongs to it.
undo_in_edited()
{
	local name=${2#"$1/"} path=$3 edited=$4/edited mode rc=0
	mode=$(index_entries "$path" | cut -d ' ' -f 1)
	git cat-file blob ":$path" >"$edited"
	patch_diff "$2" | awk -v start="diff --git a/$path b/$path" '/^diff --git / { on = $0 == start } on' \
		>"$edited.diff"
	patch -s -R --merge --no-backup-if-mismatch "$edited" "$edited.diff" >/dev/null 2>&1 || rc=$?
	[ "$rc" -le 1 ] ||
		die "$path was edited in the project, and $name, which changes it, cannot be undone in it: take the" \
			"edit back, make it in ${dev_tree#"$top"/} in the step that it belongs to" \
			"(git commit --fixup, git rebase -i --autosquash base), and 'make $dev_export'"
	# Of what it cannot merge it tells both sides; the second one is the patch's.
	awk '
		/^<<<<<<</ { skip = 1; next }
		/^=======$/ && skip { skip = 0; next }
		/^>>>>>>>/ { next }
		!skip' "$edited" >"$edited.undone"
	mode=$(sed -n 's/^old mode //p' "$edited.diff" | grep . || say "$mode")
	printf '%s %s\t%s\n' "$mode" "$(git hash-object -w --no-filters -- "$edited.undone")" "$path" |
		git update-index --index-info
	say "Note: $path was edited in the project where $name changes it; 'make $dev_export' writes that patch anew" >&2
}

# Whether REPO stands on 7.2, of which some lines around those that the series changes differ.
on_older_base()
{
	[[ $(git -C "$1" log -1 --format=%s base) == 'Linux 7.2'* ]]
}

# series_commits REPO PROJECT FILES: makes one commit for each patch of PROJECT on
# top of the tag base of REPO, and fills the empty new files from those in FILES.
# Objects only: no ref, index or file of REPO changes. Prints the last commit of the
# fixes, of the functional part, and of all. A part without patches ends where the one
# before it does.
series_commits()
(
	repo=$1 project=$2 files=$3
	tmp=$(mktemp -d "$(git -C "$repo" rev-parse --absolute-git-dir)/rmpopt.XXXXXX")
	trap 'rm -rf "$tmp"' EXIT
	# shellcheck disable=SC2031
	export GIT_INDEX_FILE=$tmp/index
	cd "$repo" || exit
	head=$(git rev-parse --verify -q 'base^{commit}') || die "${repo#"$top"/} has no tag base"
	fixes=$head functional=$head
	new_file_versions "$repo" "$project" "$files" "$tmp"
	git read-tree base
	while IFS= read -r patch; do
		name=${patch#"$project/"}
		# The message is everything up to the diff, byte for byte. git mailinfo
		# would end it at the first "---", which a version note needs.
		sed '/^$/q' "$patch" >"$tmp/header"
		{ cat "$tmp/header"; say x; } |
			git mailinfo -b --no-scissors --encoding=UTF-8 "$tmp/x" "$tmp/y" \
			>"$tmp/info" || die "$name: not a mail"
		subject=$(sed -n 's/^Subject: //p' "$tmp/info")
		author=$(sed -n 's/^Author: //p' "$tmp/info")
		email=$(sed -n 's/^Email: //p' "$tmp/info")
		date=$(sed -n 's/^Date: //p' "$tmp/info")
		if [ -z "$subject" ] || [ -z "$author" ] || [ -z "$date" ]; then
			die "$name: needs From:, Date: and Subject:"
		fi
		body=$(awk 'body && /^diff --git / { exit } body { print } /^$/ { body = 1 }' "$patch" |
			without_diffstat)
		{ printf '%s\n' "$subject"; [ -z "$body" ] || printf '\n%s\n' "$body"; } >"$tmp/message"
		patch_diff "$patch" >"$tmp/diff"
		# What it changes in new files has been found above.
		mapfile -t exclude < <(comm -23 <(cut -d ' ' -f 3 "$tmp/$name" | sort) <(stub_files "$patch" | sort))
		exclude=(${exclude[0]+"${exclude[@]/#/--exclude=}"})
		if ! git apply --cached --whitespace=nowarn "${exclude[@]}" "$tmp/diff" 2>"$tmp/error"; then
			# Not elsewhere: with less context a patch may find a wrong place.
			if ! on_older_base "$repo" ||
			   ! git apply -C1 --cached --whitespace=nowarn "${exclude[@]}" "$tmp/diff" 2>/dev/null; then
				die "$name does not apply to $(git log -1 --format=%s base): $(head -n 1 "$tmp/error")"
			fi
			say "Note: $name applies to $(git log -1 --format=%s base) by one line of context, not three" >&2
		fi
		while IFS= read -r path; do
			mode=$(index_entries "$path" | cut -d ' ' -f 1)
			grep -qE "^$mode [0-9a-f]+ $path\$" "$tmp/$name" ||
				die "$path has mode $(sed -n "s,^\([0-7]*\) [0-9a-f]* $path\$,\1,p" "$tmp/$name"), but $name says $mode"
		done < <(stub_files "$patch")
		[ ! -s "$tmp/$name" ] || sed 's/ /\t/2' "$tmp/$name" | git update-index --index-info
		tree=$(git write-tree)
		head=$(as_author "$author" "$email" "$date" \
			git commit-tree "$tree" -p "$head" -F "$tmp/message")
		case $name in
		patches/fixes/*) fixes=$head functional=$head ;;
		patches/testing/*) ;;
		*) functional=$head ;;
		esac
	done < <(patch_files "$project")
	say "$fixes $functional $head"
)

# What the branch series of the tree was last made from, or exported to.
stamp_get()
{
	sed -n "s/^$1=//p" "$(git -C "$dev_tree" rev-parse --absolute-git-dir)/rmpopt-stamp" 2>/dev/null || :
}

# stamp_set REPO INPUTS COMMITS SOURCE: COMMITS as series_commits prints them.
stamp_set()
{
	local fixes functional head
	read -r fixes functional head <<<"$3"
	printf '%s\n' "inputs=$2" "fixes=$fixes" "functional=$functional" "head=$head" "source=$4" \
		>"$(git -C "$1" rev-parse --absolute-git-dir)/rmpopt-stamp"
}

# set_parts REPO COMMITS: the branches fixes and functional of the tree are where these
# parts end. A rebase moves them along, with git 2.38 and later.
set_parts()
{
	local fixes functional
	[ "$dev_parts" ] || return 0
	read -r fixes functional _ <<<"$2"
	git -C "$1" config rebase.updateRefs true
	git -C "$1" update-ref -m "make $dev_make" refs/heads/fixes "$fixes"
	git -C "$1" update-ref -m "make $dev_make" refs/heads/functional "$functional"
}

# set_author REPO: what is committed there has the author that export asks for.
set_author()
{
	git -C "$1" config user.name "$author_name"
	git -C "$1" config user.email "$author_email"
}

# Says why the state of the tree must not be thrown away, nothing if it may be.
unsaved_work()
{
	local dir ref tip saved n
	[ -e "$dev_tree" ] || return 0
	dir=$(git -C "$dev_tree" rev-parse --absolute-git-dir 2>/dev/null) || dir=
	if [ "$dir" != "$dev_tree/.git" ]; then
		say "is not the git repository that make $dev_make makes"
		return 0
	fi
	if [ -d "$dir/rebase-merge" ] || [ -d "$dir/rebase-apply" ]; then
		say "is in the middle of a rebase or git am"
		return 0
	fi
	n=$(git -C "$dev_tree" status --porcelain | wc -l)
	if [ "$n" -gt 0 ]; then
		say "has $n uncommitted or untracked file(s)"
		return 0
	fi
	for ref in HEAD refs/heads/series refs/heads/fixes refs/heads/functional; do
		case $ref in
		*/fixes | */functional) [ "$dev_parts" ] || continue; saved=$(stamp_get "${ref##*/}") ;;
		*) saved=$(stamp_get head) ;;
		esac
		tip=$(git -C "$dev_tree" rev-parse --verify -q "$ref^{commit}") || continue
		[ "$tip" != "$saved" ] || continue
		# A branch of the developer's own keeps the work.
		if [ "$1" = keep ] && git -C "$dev_tree" for-each-ref --contains "$tip" \
			--format='%(refname)' | grep -qvxE 'refs/heads/(series|fixes|functional)'; then
			continue
		fi
		case $ref in
		*/fixes | */functional) say "has its branch ${ref##*/} at another commit than make $dev_export wrote back" ;;
		*) say "has commits that make $dev_export has not written back" ;;
		esac
		return 0
	done
}

# refuse_if_unsaved HOW WHY: HOW is "keep" where other branches of the tree stay.
refuse_if_unsaved()
{
	local why name=${dev_tree#"$top"/} how="commit it there and 'make $dev_export'"
	why=$(unsaved_work "$1")
	[[ $name != build/7.2/* ]] || how="commit it, and bring the commits to build/linux with 'git fetch' and 'git cherry-pick'"
	[ -z "$why" ] || die "$2, but $name $why." \
		"Nothing was touched. Keep the work first: $how," \
		"or set it aside with 'git stash -u' or 'git branch NAME' in $name."
}

# bring_tree SOURCE BASE: materialises the tree: the base that the command BASE makes
# of a directory (tag base), and on top of it the branch series with one commit for
# each patch. SOURCE is what the user wants as base, empty if anything will do. Never
# throws work away, and leaves files that do not change alone, so that builds stay
# incremental.
bring_tree()
{
	local wanted=$1 base=$2 name=${dev_tree#"$top"/} inputs count new commits source note why
	inputs=$(inputs_hash "$dev_project")
	count=$(patch_files "$dev_project" | wc -l)

	if [ -e "$dev_tree" ] && [ "$wanted" ] && [ "$(stamp_get source)" != "$wanted" ]; then
		refuse_if_unsaved drop "$dev_variable=${!dev_variable} is another base"
	elif [ -e "$dev_tree" ]; then
		if [ "$(stamp_get inputs)" = "$inputs" ]; then
			note=
			why=$(unsaved_work keep)
			[ -z "$why" ] || note=", left alone: it $why"
			if [ -z "$why" ] && [ "$dev_parts" ] && [ -z "$(stamp_get functional)" ]; then
				# It was made before the series had parts.
				commits=$(series_commits "$dev_tree" "$dev_project" "$dev_project")
				set_parts "$dev_tree" "$commits"
				stamp_set "$dev_tree" "$inputs" "$commits" "$(stamp_get source)"
			fi
			say "$name: up to date with a series of $count$note"
			return 0
		fi
		refuse_if_unsaved keep "The series changed"
		commits=$(series_commits "$dev_tree" "$dev_project" "$dev_project")
		git -C "$dev_tree" checkout -q --no-overwrite-ignore -B series "${commits##* }"
		set_parts "$dev_tree" "$commits"
		set_author "$dev_tree"
		stamp_set "$dev_tree" "$inputs" "$commits" "$(stamp_get source)"
		say "$name: brought to the series of $count"
		return 0
	fi

	mkdir -p "${dev_tree%/*}"
	new=$(mktemp -d "$dev_tree.XXXXXX")
	# shellcheck disable=SC2064
	trap "rm -rf '$new'" EXIT
	# mktemp keeps the directory from others, which a source tree does not need.
	chmod 755 "$new"
	"$base" "$new"
	source=$(cat "$new/.git/rmpopt-source")
	rm "$new/.git/rmpopt-source"
	commits=$(series_commits "$new" "$dev_project" "$dev_project")
	git -C "$new" checkout -q -B series "${commits##* }"
	set_parts "$new" "$commits"
	set_author "$new"
	stamp_set "$new" "$inputs" "$commits" "$source"
	if [ -e "$dev_tree" ]; then
		mv "$dev_tree" "$new.old"
		# shellcheck disable=SC2064
		trap "rm -rf '$new' '$new.old'" EXIT
	fi
	mv "$new" "$dev_tree"
	rm -rf "$new.old"
	trap - EXIT
	say "$name: $(git -C "$dev_tree" log -1 --format=%s base) and a series of $count"
}

# tag_base DIR TREE SUBJECT: the same tree gives the same commit.
tag_base()
{
	git -C "$1" tag base "$(as_author RMPOPT rmpopt@localhost '1767225600 +0000' \
		git -C "$1" commit-tree "$2" -m "$3")"
}

# What a test script counts; a line for each test.
passed=0
failed=0
ok()
{
	passed=$((passed + 1))
	say "ok - $1"
}

# not_ok TEXT [WHY]: WHY may be several lines.
not_ok()
{
	failed=$((failed + 1))
	say "not ok - $1"
	[ -z "${2-}" ] || printf '    %s\n' "${2//$'\n'/$'\n'    }"
}

# The sum, as the last line of a script that checks, and its status.
total()
{
	say "$passed passed, $failed failed"
	[ "$failed" -eq 0 ] && [ "$passed" -gt 0 ] || exit 3
}

# show LOG COMMAND...: runs COMMAND with its output on the terminal and in the log.
show()
{
	local name=$1
	shift
	mkdir -p "$logs"
	"$@" </dev/null 2>&1 | tee "$logs/$name.log"
}

# checkout NAME REPO COMMIT DIR: DIR becomes a tree of COMMIT that borrows the objects of
# REPO. Files that do not change keep their time.
checkout()
{
	local name=$1 repo=$2 commit=$3 dir=$4
	[ "$(git -C "$dir" rev-parse HEAD 2>/dev/null)" != "$commit" ] || return 0
	git -C "$dir" cat-file -e "$commit" 2>/dev/null || rm -rf "$dir"
	[ -d "$dir" ] || step "$name-clone" "Cloning ${dir#"$top"/}" \
		git clone -q --shared --no-checkout "$repo" "$dir"
	step "$name-checkout" "Checking out ${dir#"$top"/}" git -C "$dir" checkout -q -f --detach "$commit"
}

# known_symbols SOURCE: the names that its Kconfig files define, one a line, with CONFIG_.
known_symbols()
{
	grep -rhoE --include='Kconfig*' '^[[:space:]]*(menu)?config[[:space:]]+[A-Z0-9_]+' "$1" |
		awk '{ print "CONFIG_" $2 }' | sort -u
}

# configure SOURCE OUT FRAGMENT...: allnoconfig with the fragments, of which later ones
# win. Every wish of theirs is checked. An unchanged .config keeps its time. If foreign is
# set, SOURCE is not ours and may not have a symbol.
configure()
{
	local source=$1 out=$2 line name lost=() known=() hash
	shift 2
	mkdir -p "$out"
	# The last word about a symbol counts.
	sed -n 's/^\(CONFIG_[A-Z0-9_]*\)=.*/\1 &/p; s/^# \(CONFIG_[A-Z0-9_]*\) is not set$/\1 \1=n/p' "$@" |
		awk '{ v[$1] = substr($0, length($1) + 2) } END { for (s in v) print v[s] }' |
		sort >"$out/wanted"
	hash=$(sha256sum "$out/wanted" | cut -d ' ' -f 1)
	if [ ! -f "$out/.config" ] || [ "$(cat "$out/configured" 2>/dev/null)" != "$hash" ]; then
		step "${out##*/}-config" "Configuring ${out#"$top"/}" \
			make -C "$source" "${kmake_vars[@]}" "O=$out" \
			"KCONFIG_ALLCONFIG=$out/wanted" allnoconfig
	else
		step "${out##*/}-config" "Configuring ${out#"$top"/}" \
			make -C "$source" "${kmake_vars[@]}" "O=$out" olddefconfig
	fi
	while IFS= read -r line; do
		name=${line%%=*}
		if [ "${line#*=}" = n ]; then
			if grep -q "^$name=" "$out/.config"; then lost+=("$line"); fi
		else
			grep -qxF "$line" "$out/.config" || lost+=("$line")
		fi
	done <"$out/wanted"
	if [ "${foreign-}" ] && [ "${#lost[@]}" -gt 0 ]; then
		known_symbols "$source" >"$out/symbols"
		for line in "${lost[@]}"; do
			if grep -qxF "${line%%=*}" "$out/symbols"; then
				known+=("$line")
			else
				say "Note: this tree has no ${line%%=*}; it is built without"
			fi
		done
		lost=(${known[0]+"${known[@]}"})
	fi
	if [ "${#lost[@]}" -gt 0 ]; then
		rm -f "$out/configured"
		die "${out#"$top"/}: Kconfig did not give ${lost[*]}"
	fi
	say "$hash" >"$out/configured"
}
