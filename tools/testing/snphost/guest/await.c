// SPDX-License-Identifier: GPL-2.0-only
/*
 * await DIRECTORY SIZE: waits until the file out there has more than SIZE bytes, or the file status
 * is there. Prints a line with what status holds, or -, and the size of out, and then out, to which
 * more may have come since.
 *
 * For Program of host.py: to have a shell look at both again and again would take more of the CPU
 * than what is waited for.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <sys/stat.h>

/* Between looks. If all that is waited for sleeps meanwhile, the clock may jump. */
#define LOOK_US	20000

static void die(const char *what)
{
	fprintf(stderr, "await: %s: %s\n", what, strerror(errno));
	exit(1);
}

static int read_status(void)
{
	FILE *file = fopen("status", "r");
	int status;

	if (!file)
		die("status");
	if (fscanf(file, "%d", &status) != 1) {
		errno = EINVAL;
		die("status");
	}
	fclose(file);

	return status;
}

static void print(const char *name)
{
	char buffer[4096];
	FILE *file;
	size_t n;

	file = fopen(name, "r");
	if (!file)
		die(name);
	while ((n = fread(buffer, 1, sizeof(buffer), file)))
		fwrite(buffer, 1, n, stdout);
	fclose(file);
}

int main(int argc, char **argv)
{
	struct stat st;
	long long size;
	int ended;

	if (argc != 3) {
		fprintf(stderr, "usage: await DIRECTORY SIZE\n");
		return 1;
	}
	size = atoll(argv[2]);
	if (chdir(argv[1]))
		die(argv[1]);

	for (;;) {
		/* Before its size: what is written before the end is seen. */
		ended = !access("status", F_OK);
		if (stat("out", &st))
			die("out");
		if (ended || st.st_size > size)
			break;
		usleep(LOOK_US);
	}

	if (ended)
		printf("%d", read_status());
	else
		printf("-");
	printf(" %lld\n", (long long)st.st_size);
	print("out");

	return 0;
}
