# SPDX-License-Identifier: GPL-2.0-only
# shellcheck shell=bash disable=SC2034,SC2154
#
# Sourced by lib.sh: what a script tells of its steps, and what it counts.

# step LOG TEXT COMMAND...: runs COMMAND, its output to build/log/LOG.log. Shows
# how far it is on a terminal, one line at the start and one at the end elsewhere.
# A failure names the log and shows its end.
step()
{
	local name=$1 text=$2 file=$logs/$1.log start=$SECONDS ticker='' rc=0 made before
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
		disk_full
		return 3
	fi
	made=$(objects "$file")
	before=$(cat "$logs/$name.count" 2>/dev/null || :)
	# An incremental build says nothing about the size of a whole one.
	[ "$made" -le "${before:-0}" ] || echo "$made" >"$logs/$name.count"
	say "$text: done, $((SECONDS - start)) s"
}

# Programs that cannot write fail in ways that do not tell so.
disk_full()
{
	local free
	free=$(df --output=avail -B 1M "$logs" | tail -n 1)
	[ "$free" -ge 1024 ] || say "The disk of $build has $((free)) MB left: make room there, and try again"
}

# Number of objects a kernel build has made, from its log.
objects()
{
	grep -cE '^  (CC|AS|LD|AR)' "$1" 2>/dev/null || :
}

step_ticker()
{
	local text=$1 file=$2 start=$SECONDS estimate made last
	estimate=$(cat "$3" 2>/dev/null || :)
	# Until the script that started it has gone, by whatever way.
	while kill -0 $$ 2>/dev/null; do
		made=$(objects "$file")
		last=$(tail -n 1 "$file" 2>/dev/null | tr -d '\r\033' | cut -c 1-40)
		if [ "${made:-0}" -gt 0 ]; then
			last="$made objects"
			[ "${estimate:-0}" -le "$made" ] || last="$made of about $estimate objects"
		fi
		printf '\r\033[K%s: %d s %s' "$text" $((SECONDS - start)) "$last"
		sleep 1
	done
}

# show LOG COMMAND...: runs COMMAND with its output on the terminal and in the log.
show()
{
	local name=$1
	shift
	mkdir -p "$logs"
	"$@" </dev/null 2>&1 | tee "$logs/$name.log"
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
