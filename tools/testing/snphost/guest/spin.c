// SPDX-License-Identifier: GPL-2.0-only
/*
 * spin CPULIST MS: runs in user space for MS milliseconds on each CPU of a list like 0-3,6, one
 * after the other. The tick of a CPU that is not nohz_full interrupts that.
 *
 * spin -b CPULIST MS: the same, but sleeps for four fifths of each millisecond. The CPU is idle
 * whenever a tick would be due, as ticks are due at whole milliseconds.
 */
#include <errno.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <sys/prctl.h>

#define NS_PER_MS	1000000LL
#define NS_PER_S	1000000000LL
#define BURST		(NS_PER_MS / 5)
/* From a whole millisecond to a burst */
#define PHASE		(NS_PER_MS / 2)

static long long now(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return ts.tv_sec * NS_PER_S + ts.tv_nsec;
}

static void spin_until(long long end)
{
	volatile unsigned int i;

	/* The emulator executes this faster than it reads the clock. */
	while (now() < end)
		for (i = 0; i < 200; i++)
			;
}

static void sleep_until(long long end)
{
	struct timespec ts = { .tv_sec = end / NS_PER_S, .tv_nsec = end % NS_PER_S };

	while (clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &ts, NULL) == EINTR)
		;
}

static void run(long long end, int bursts)
{
	long long burst;

	if (!bursts) {
		spin_until(end);
		return;
	}

	for (burst = now() / NS_PER_MS * NS_PER_MS + PHASE; burst < end; burst += NS_PER_MS) {
		sleep_until(burst);
		spin_until(burst + BURST);
	}
}

static int pin(int cpu)
{
	cpu_set_t set;

	CPU_ZERO(&set);
	CPU_SET(cpu, &set);
	return sched_setaffinity(0, sizeof(set), &set);
}

int main(int argc, char **argv)
{
	int bursts = argc > 1 && !strcmp(argv[1], "-b");
	char *list, *end;
	long long ms;

	argv += bursts;
	if (argc - bursts != 3) {
		fprintf(stderr, "usage: spin [-b] CPULIST MS\n");
		return 1;
	}
	ms = atoll(argv[2]);
	/* Sleep for as long as said, not 50 us more. */
	prctl(PR_SET_TIMERSLACK, 1);

	for (list = argv[1]; *list; list = end + !!*end) {
		long cpu, last;

		last = cpu = strtol(list, &end, 10);
		if (end != list && *end == '-') {
			list = end + 1;
			last = strtol(list, &end, 10);
		}
		if (end == list || (*end && *end != ',' && *end != '\n')) {
			fprintf(stderr, "spin: %s: not a list of CPUs\n", argv[1]);
			return 1;
		}
		for (; cpu <= last; cpu++) {
			if (pin(cpu)) {
				fprintf(stderr, "spin: CPU %ld: %s\n", cpu, strerror(errno));
				return 1;
			}
			run(now() + ms * NS_PER_MS, bursts);
		}
	}

	return 0;
}
