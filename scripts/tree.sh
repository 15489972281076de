# SPDX-License-Identifier: GPL-2.0-only
# shellcheck shell=bash disable=SC2034,SC2154
#
# Sourced by lib.sh: between patches and new files in the project, and a repository with a commit
# for each step.

# The repository that a developer works in, where its patches and new files stand, and
# where its mails go. The QEMU scripts name their own, see scripts/qemu.sh.
dev_tree=$linux
dev_project=$top
dev_where=
dev_mails=$build/series
# Scripts that bring the tree and write patches and mails, and the target of the first
dev_bring=linux
dev_make=linux
# shellcheck disable=SC2153  # lib.sh sets it.
[ "$BASE" = 7.3 ] || dev_make="linux BASE=$BASE"
dev_export='export'
dev_series=series
dev_variable=LINUX
# Whether the series has parts: fixes, the functional part, and what is for testing only.
dev_parts=1

# Who has written the patches, whoever has.
author_name='RMPOPT developers'
author_email=rmpopt@localhost

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
		# A file that is not a patch is reported when it is applied.
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
