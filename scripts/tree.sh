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

# steps COMMAND ARGUMENT...: see there.
steps()
{
	"$scripts/steps.py" "${0##*/}" "$@"
}

# Paths of the files that the patches given bring as empty stubs.
stub_files()
{
	steps stubs "$@"
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
	local project=$1 patches=() list stubs=() f
	mapfile -t patches < <(patch_files "$project")
	list=$(stub_files ${patches[0]+"${patches[@]}"})
	for f in $list; do
		[ ! -f "$project/$f" ] || stubs+=("$project/$f")
	done
	{
		for f in ${patches[0]+"${patches[@]}"}; do
			say "${f#"$project/"}"
		done
		for f in ${stubs[0]+"${stubs[@]}"}; do
			if [ -x "$f" ]; then printf 'x '; fi
			say "${f#"$project/"}"
		done
		for f in ${patches[0]+"${patches[@]}"} ${stubs[0]+"${stubs[@]}"}; do
			say "$f"
		done | git hash-object --no-filters --stdin-paths
	} | sha256sum | cut -d ' ' -f 1
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

# Whether REPO stands on 7.2, of which some lines around those that the series changes differ.
on_older_base()
{
	[[ $(git -C "$1" log -1 --format=%s base) == 'Linux 7.2'* ]]
}

# series_commits REPO PROJECT FILES: one commit for each patch of PROJECT, see "commits"
# of steps.py.
series_commits()
{
	patch_files "$2" | steps commits "${1#"$top"/}" "$dev_export" "$@"
}

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
