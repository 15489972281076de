// SPDX-License-Identifier: GPL-2.0-only
/*
 * commands: executes what host.py sends. A shell would start six processes for each command, which
 * takes longer on an emulated CPU than most commands.
 *
 * stdin and stdout are ttyS1, raw. A request is a line of a token and the number of bytes, and then
 * the command. The answer is a line of the token, the command's status and the number of bytes, and
 * then its output, stderr included. What runs in the background may keep the output open.
 */
#include <errno.h>
#include <fcntl.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <sys/stat.h>
#include <sys/wait.h>

/* host.py sends at most COMMAND_MAX bytes, which is less. */
static char command[1 << 16];

static void die(const char *what)
{
	fprintf(stderr, "host-init: %s: %s\n", what, strerror(errno));
	exit(1);
}

/* Reads SIZE bytes, and returns false at the end of the file. */
static int get(char *buffer, size_t size)
{
	while (size) {
		ssize_t n = read(STDIN_FILENO, buffer, size);

		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			return 0;
		buffer += n;
		size -= n;
	}

	return 1;
}

static int get_line(char *buffer, size_t size)
{
	for (; size > 1; buffer++, size--) {
		if (!get(buffer, 1))
			return 0;
		if (*buffer == '\n')
			break;
	}
	*buffer = 0;

	return 1;
}

static void put(const char *buffer, size_t size)
{
	while (size) {
		ssize_t n = write(STDOUT_FILENO, buffer, size);

		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			die("ttyS1");
		buffer += n;
		size -= n;
	}
}

/* Returns the status as a shell tells it: 128 and the signal, if one ended it. */
static int run(int output)
{
	char *argv[] = { "sh", "-c", command, NULL };
	posix_spawn_file_actions_t actions;
	int status;
	pid_t pid;

	posix_spawn_file_actions_init(&actions);
	posix_spawn_file_actions_addopen(&actions, STDIN_FILENO, "/dev/null", O_RDONLY, 0);
	posix_spawn_file_actions_adddup2(&actions, output, STDOUT_FILENO);
	posix_spawn_file_actions_adddup2(&actions, output, STDERR_FILENO);
	errno = posix_spawn(&pid, "/bin/sh", &actions, NULL, argv, environ);
	if (errno)
		die("/bin/sh");
	posix_spawn_file_actions_destroy(&actions);

	while (waitpid(pid, &status, 0) != pid) {
		if (errno != EINTR)
			die("waitpid");
	}

	return WIFSIGNALED(status) ? 128 + WTERMSIG(status) : WEXITSTATUS(status);
}

static void answer(const char *token, int status, int output)
{
	char buffer[4096];
	struct stat st;
	off_t at = 0;
	ssize_t n;

	if (fstat(output, &st))
		die("fstat");
	n = snprintf(buffer, sizeof(buffer), "%s %d %lld\n", token, status, (long long)st.st_size);
	put(buffer, n);
	/* No more than said, whatever is written meanwhile. */
	while (at < st.st_size) {
		n = st.st_size - at < (off_t)sizeof(buffer) ? st.st_size - at : (off_t)sizeof(buffer);
		n = pread(output, buffer, n, at);
		if (n <= 0)
			die("output of a command");
		put(buffer, n);
		at += n;
	}
}

int main(void)
{
	char line[80], token[sizeof(line)];

	while (get_line(line, sizeof(line))) {
		int output, status;
		size_t size;

		if (sscanf(line, "%79s %zu", token, &size) != 2 || size >= sizeof(command)) {
			errno = EINVAL;
			die(line);
		}
		if (!get(command, size))
			break;
		command[size] = 0;

		output = open("/tmp", O_TMPFILE | O_RDWR | O_APPEND | O_CLOEXEC, 0600);
		if (output < 0)
			die("/tmp");
		status = run(output);
		answer(token, status, output);
		close(output);
	}
	fprintf(stderr, "host-init: ttyS1 has ended\n");

	return 0;
}
