// SPDX-License-Identifier: GPL-2.0-only
/*
 * kexec [-p] KERNEL INITRD COMMAND-LINE: boots another kernel, or with -p loads it for
 * the event of a panic.
 */
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>
#include <linux/kexec.h>
#include <linux/reboot.h>
#include <sys/reboot.h>
#include <sys/syscall.h>

int main(int argc, char **argv)
{
	int on_panic = argc > 1 && !strcmp(argv[1], "-p");
	int kernel, initrd;

	argv += on_panic;
	if (argc - on_panic != 4) {
		fprintf(stderr, "usage: kexec [-p] KERNEL INITRD COMMAND-LINE\n");
		return 1;
	}
	kernel = open(argv[1], O_RDONLY);
	initrd = open(argv[2], O_RDONLY);
	if (kernel < 0 || initrd < 0) {
		perror(kernel < 0 ? argv[1] : argv[2]);
		return 1;
	}
	if (syscall(SYS_kexec_file_load, kernel, initrd, strlen(argv[3]) + 1, argv[3],
		    on_panic ? KEXEC_FILE_ON_CRASH : 0)) {
		perror("kexec_file_load");
		return 1;
	}
	if (on_panic)
		return 0;
	/* Devices are shut down on the way. */
	reboot(LINUX_REBOOT_CMD_KEXEC);
	perror("reboot");
	return 1;
}
