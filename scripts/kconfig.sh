# SPDX-License-Identifier: GPL-2.0-only
# shellcheck shell=bash disable=SC2034,SC2154
#
# Sourced by lib.sh: the configuration of a kernel.

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
