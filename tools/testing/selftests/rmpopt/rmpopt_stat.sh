#!/bin/sh
# SPDX-License-Identifier: GPL-2.0
#
# rmpopt_stat.sh [-t SECONDS] COMMAND [ARGUMENT]...
#
# Executes COMMAND, waits for the end of the RMPOPT pass that it leads to, has each CPU run
# for a while so that it catches up, and prints what that has cost, one line of JSON:
#
#	passes		passes that have ended
#	ns		how long they took
#	ticks		ticks at which each CPU has caught up
#	ipis		times that each CPU was interrupted on behalf of RMPOPT
#	interrupts	function call interrupts of each CPU since COMMAND began, whoever it was
#	said		what the kernel says of the last pass, if it has that trace event
#
# All but the last comes from trace events and counters which the kernel has without
# RMPOPT. What COMMAND prints goes to stderr. Gives up after SECONDS without a pass, 30 by
# default; a pass comes 10 seconds after what it is for.

tracing=/sys/kernel/tracing
wait=30

fail()
{
	echo "rmpopt_stat: $*" >&2
	exit 1
}

if [ "$1" = -t ]; then
	[ "$2" -gt 0 ] 2>/dev/null || fail "-t $2: not a number of seconds"
	wait=$2
	shift 2
fi
[ $# -gt 0 ] || fail "usage: rmpopt_stat.sh [-t SECONDS] COMMAND [ARGUMENT]..."
[ "$(id -u)" -eq 0 ] || fail "only root can trace: run it as root"
[ -d $tracing/events ] || mount -t tracefs none $tracing 2>/dev/null ||
	fail "no tracefs: the kernel needs CONFIG_FTRACE and one of its tracers"

# One set of buffers is read in the end. The other one has ends of passes only: a shell
# that waits for these would be too slow for all events.
all=$tracing/instances/rmpopt_stat
ends=$tracing/instances/rmpopt_stat_end
dir=$(mktemp -d) || exit 1
mkdir $all || { rmdir "$dir"; fail "$all is there: is another one running? Else rmdir it"; }
mkdir $ends || { rmdir "$dir" $all; fail "$ends is there: rmdir it"; }

end()
{
	for event in $events; do
		echo 0 >"$event/enable"
	done
	rmdir $all $ends
	rm -r "$dir"
}
events=
trap end EXIT
trap 'exit 1' INT TERM

# record INSTANCE EVENT [FILTER]: false if the kernel has no such event, or function
record()
{
	[ -d "$1/events/$2" ] || return 1
	[ -z "$3" ] || echo "$3" >"$1/events/$2/filter" || return 1
	echo 1 >"$1/events/$2/enable" && events="$events $1/events/$2"
}

# A kernel without RMPOPT has no pass.
{
	work='function.function == rmpopt_work_handler'
	record $all workqueue/workqueue_execute_start "$work" &&
	record $all workqueue/workqueue_execute_end "$work" &&
	record $ends workqueue/workqueue_execute_end "$work" &&
	record $all csd/csd_function_entry 'func.function == rmpopt_catch_up_now'
} 2>/dev/null
record $all rmpopt/rmpopt_pass_end
record $all rmpopt/rmpopt_catch_up

interrupts()
{
	awk '$1 == "CAL:" { for (i = 2; $i ~ /^[0-9]+$/; i++) print $i }' /proc/interrupts
}

interrupts >"$dir/before"
"$@" >&2 || fail "$1: status $?"
echo "rmpopt_stat: done" >$ends/trace_marker
# shellcheck disable=SC2016
timeout "$wait" sh -c '
	while read -r line; do
		case $line in
		*"rmpopt_stat: done"*) done=1 ;;
		*workqueue_execute_end*) [ ! "$done" ] || exit 0 ;;
		esac
	done' <$ends/trace_pipe 2>/dev/null
for cpu in /sys/devices/system/cpu/cpu[0-9]*; do
	# shellcheck disable=SC2016
	taskset -c "${cpu##*cpu}" sh -c 'i=0; while [ $i -lt 50000 ]; do i=$((i + 1)); done'
done
interrupts >"$dir/after"

cat $all/trace >"$dir/trace"
awk '/^# entries-in-buffer/ { split($3, n, "/"); exit n[1] != n[2] }' "$dir/trace" ||
	fail "events were lost: echo a larger number to $tracing/buffer_size_kb"
paste "$dir/before" "$dir/after" >"$dir/interrupts"
awk '
	function list(of, n,	text, i)
	{
		for (i = 0; i < n; i++)
			text = text (i ? "," : "") (of[i] + 0)
		return "[" text "]"
	}
	FILENAME ~ /interrupts$/ { total[nr++] = $2 - $1; next }
	# task-pid [cpu] flags seconds: event: ...
	!match($0, /\[[0-9]+\]/) { next }
	{
		cpu = substr($0, RSTART + 1, RLENGTH - 2)
		# Some would take it to be octal.
		sub(/^0+/, "", cpu)
		cpu += 0
		$0 = substr($0, RSTART + RLENGTH)
		at = $2 + 0
	}
	$3 == "csd_function_entry:" { ipis[cpu]++ }
	$3 == "rmpopt_catch_up:" && /ipi=0/ { ticks[cpu]++ }
	$3 == "workqueue_execute_start:" { begin = at }
	$3 == "workqueue_execute_end:" { passes++; ns += (at - begin) * 1e9 }
	$3 == "rmpopt_pass_end:" { said = $0; sub(/.*rmpopt_pass_end: /, "", said) }
	END {
		printf "{\"passes\": %d, \"ns\": %.0f, ", passes, ns
		printf "\"ticks\": %s, ", list(ticks, nr)
		printf "\"ipis\": %s, \"interrupts\": %s, ", list(ipis, nr), list(total, nr)
		printf "\"said\": \"%s\"}\n", said
	}' "$dir/interrupts" "$dir/trace"
