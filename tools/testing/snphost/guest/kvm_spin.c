// SPDX-License-Identifier: GPL-2.0-only
/*
 * kvm_spin CPU MS: runs a plain KVM guest on a CPU for MS milliseconds, all of whose code is a
 * jump to itself. Only the host's interrupts end VMRUN.
 */
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <linux/kvm.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/time.h>

#define CODE	0x1000
#define SIZE	0x2000

static volatile sig_atomic_t over;

static void end(int sig)
{
	(void)sig;
	over = 1;
}

static int check(int ret, const char *what)
{
	if (ret < 0) {
		fprintf(stderr, "kvm_spin: %s: %s\n", what, strerror(errno));
		exit(1);
	}
	return ret;
}

int main(int argc, char **argv)
{
	static const unsigned char code[] = { 0xeb, 0xfe };
	struct kvm_userspace_memory_region memory = { .memory_size = SIZE };
	struct sigaction action = { .sa_handler = end };
	struct itimerval timer = {};
	struct kvm_sregs sregs;
	struct kvm_regs regs = { .rip = CODE, .rflags = 2 };
	int kvm, vm, vcpu;
	cpu_set_t set;
	char *ram;
	long ms;

	if (argc != 3) {
		fprintf(stderr, "usage: kvm_spin CPU MS\n");
		return 1;
	}
	ms = atol(argv[2]);
	CPU_ZERO(&set);
	CPU_SET(atoi(argv[1]), &set);
	check(sched_setaffinity(0, sizeof(set), &set), "sched_setaffinity");

	ram = mmap(NULL, SIZE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	check(ram == MAP_FAILED ? -1 : 0, "mmap");
	memcpy(ram + CODE, code, sizeof(code));
	memory.userspace_addr = (unsigned long)ram;

	kvm = check(open("/dev/kvm", O_RDWR), "/dev/kvm");
	vm = check(ioctl(kvm, KVM_CREATE_VM, 0), "KVM_CREATE_VM");
	check(ioctl(vm, KVM_SET_USER_MEMORY_REGION, &memory), "KVM_SET_USER_MEMORY_REGION");
	vcpu = check(ioctl(vm, KVM_CREATE_VCPU, 0), "KVM_CREATE_VCPU");
	check(ioctl(vcpu, KVM_GET_SREGS, &sregs), "KVM_GET_SREGS");
	sregs.cs.base = 0;
	sregs.cs.selector = 0;
	check(ioctl(vcpu, KVM_SET_SREGS, &sregs), "KVM_SET_SREGS");
	check(ioctl(vcpu, KVM_SET_REGS, &regs), "KVM_SET_REGS");

	check(sigaction(SIGALRM, &action, NULL), "sigaction");
	timer.it_value.tv_sec = ms / 1000;
	timer.it_value.tv_usec = ms % 1000 * 1000;
	/* The first one may be too early for KVM_RUN to see it. */
	timer.it_interval.tv_usec = 10000;
	check(setitimer(ITIMER_REAL, &timer, NULL), "setitimer");
	while (!over) {
		if (ioctl(vcpu, KVM_RUN, 0) < 0 && errno == EINTR)
			continue;
		fprintf(stderr, "kvm_spin: the guest has ended\n");
		return 1;
	}

	return 0;
}
