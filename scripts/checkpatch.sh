# SPDX-License-Identifier: GPL-2.0-only
# shellcheck shell=bash
#
# What the kernel's checkpatch says of the mails of the series. Sourced, not run.

# What it says without being able to know better: file, type and line of these are as the
# kernel has them elsewhere.
checkpatch_allowed=(
	# The columns of that file.
	'^(tools/)?arch/x86/include/asm/cpufeatures\.h SPACING #define X86_FEATURE_'
	# How all trace events are laid out.
	'^include/trace/events/rmpopt\.h (OPEN_ENDED_LINE|PARENTHESIS_ALIGNMENT) '
	# Memory that a guest, and the program that runs it, write to.
	'^tools/testing/selftests/rmpopt/(guest_code|snp_guest)\.c VOLATILE '
	# Takes the name of an asm operand, "%[...]", for a division.
	'^arch/x86/virt/svm/sev\.c SPACING .*_ASM_EXTABLE_TYPE_REG\('
)

# That the sender signs off, that this tree has no history to find commits in, and that the
# maintainers of arch/x86 have the new files anyway.
checkpatch_ignored=MISSING_SIGN_OFF,UNKNOWN_COMMIT_ID,FILE_PATH_CHANGES

# checkpatch TREE COMMIT MAIL: what it says of this commit of TREE, as which MAIL was written.
checkpatch()
{
	local tree=$1 commit=$2 mail=$3 said file line type text allowed
	(cd "$tree" || exit; ./scripts/checkpatch.pl --strict --no-summary --terse --showfile \
		--show-types --ignore "$checkpatch_ignored" "$mail" 2>&1 || :) |
	while IFS= read -r said; do
		IFS=: read -r file line _ type _ <<<"$said"
		text=$(git -C "$tree" show "$commit:$file" 2>/dev/null | sed -n "${line}p" 2>/dev/null) || :
		for allowed in "${checkpatch_allowed[@]}"; do
			! grep -qE "$allowed" <<<"$file $type $text" || continue 2
		done
		say "$said"
	done
}
