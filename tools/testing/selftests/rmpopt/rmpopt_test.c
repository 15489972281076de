// SPDX-License-Identifier: GPL-2.0
/*
 * The life cycle of SEV-SNP VMs, in all ways in which memory gets into and out
 * of the hands of a guest. With RMPOPT the kernel has to follow each of them.
 *
 * Whether it does, user space cannot see: that takes the eyes of the hardware.
 * What is judged here is that everything works, that nothing is left behind and
 * that the kernel does not complain.
 */
#include <cpuid.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdalign.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <linux/kvm.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/sysinfo.h>
#include <sys/wait.h>

#include "kselftest_harness.h"
#include "snp_vm.h"

#define SZ_1M		(1024 * 1024ULL)
#define SZ_1G		(1024 * SZ_1M)

/* Seconds, long enough for emulated machines. */
#define TIMEOUT		300
#define TIMEOUT_LONG	900

/* Bits 7 and 9: an oops, a warning. See admin-guide/tainted-kernels.rst. */
#define TAINT_BITS	0x280

/* Of enum sev_ret_code, which the kernel passes on as it is. */
#define SEV_RET_POLICY_FAILURE	0x7U

#define ASSERT_OK(expr)		ASSERT_EQ(0, report(expr))
#define EXPECT_OK(expr)		EXPECT_EQ(0, report(expr))

#define EXPECT_FAILS(errnum, expr) do {		\
	EXPECT_EQ(-1, (expr));			\
	EXPECT_EQ((errnum), snp_error.error)	\
		TH_LOG("%s", snp_strerror());	\
} while (0)

static const struct snp_vm_config small = {
	.memory = 16 * SZ_1M,
	.vcpus = 1,
	.node = -1,
	.stage = SNP_FINISHED,
	.prefault = true,
};

static const struct snp_vm_config tiny = {
	.memory = SNP_MIN_MEMORY,
	.vcpus = 1,
	.node = -1,
	.stage = SNP_FINISHED,
};

/* Says why a function of snp_vm.h failed. */
static int report(int ret)
{
	if (ret)
		ksft_print_msg("%s\n", snp_strerror());
	return ret;
}

/* How many ASIDs there are for SNP VMs, at most: KVM may reserve some. */
static unsigned int nr_asids(void)
{
	unsigned int eax, ebx, ecx, edx;

	if (!__get_cpuid_count(0x8000001f, 0, &eax, &ebx, &ecx, &edx) || edx < 2)
		return 0;
	return edx - 1;
}

static bool read_line(const char *path, char *line, int size)
{
	FILE *file = fopen(path, "r");
	bool ok;

	if (!file)
		return false;
	ok = fgets(line, size, file);
	fclose(file);
	line[strcspn(line, "\n")] = 0;
	return ok;
}

/*
 * ASIDs that this cgroup uses, or -1 if nobody counts. Other VMs of the machine
 * are in a cgroup of their own, unless they are part of the same session.
 */
static long asids_in_use(void)
{
	char line[512], path[600];
	long count = -1;
	FILE *file;

	/* The line of cgroup v2 is the last one, and the only one without v1. */
	file = fopen("/proc/self/cgroup", "r");
	if (!file)
		return -1;
	path[0] = 0;
	while (fgets(line, sizeof(line), file)) {
		line[strcspn(line, "\n")] = 0;
		if (!strncmp(line, "0::", 3))
			snprintf(path, sizeof(path),
				 "/sys/fs/cgroup%s/misc.current", line + 3);
	}
	fclose(file);

	file = fopen(path, "r");
	if (!file)
		return -1;
	while (fgets(line, sizeof(line), file) &&
	       sscanf(line, "sev_es %ld", &count) != 1)
		;
	fclose(file);
	return count;
}

static unsigned long taint(void)
{
	char line[32] = "";

	read_line("/proc/sys/kernel/tainted", line, sizeof(line));
	return strtoul(line, NULL, 0);
}

/*
 * Reads the kernel log after record @after, and returns the last record's number.
 * @complaint gets the last complaint, if there is any.
 */
static __u64 read_log(__u64 after, char *complaint, size_t size)
{
	static char record[16384];
	__u64 number = after;
	ssize_t length;
	int fd;

	fd = open("/dev/kmsg", O_RDONLY | O_NONBLOCK | O_CLOEXEC);
	if (fd < 0)
		return after;

	for (;;) {
		length = read(fd, record, sizeof(record) - 1);
		/* Records may get lost while they are read. */
		if (length < 0 && (errno == EPIPE || errno == EINTR))
			continue;
		if (length <= 0)
			break;
		record[length] = 0;
		if (sscanf(record, "%*u,%llu,", &number) == 1 && number > after &&
		    (strstr(record, "Leaking PFN") ||
		     strstr(record, "RMPUPDATE failed")))
			snprintf(complaint, size, "%.200s", record);
	}
	close(fd);
	return number;
}

FIXTURE(snp) {
	struct snp_host host;
	unsigned long taint;
	__u64 log;
	long asids;
};

FIXTURE_SETUP(snp)
{
	const char *missing = snp_host_open(&self->host);
	char complaint[256];

	if (missing)
		SKIP(return, "%s", missing);

	self->taint = taint();
	self->log = read_log(0, complaint, sizeof(complaint));
	self->asids = asids_in_use();
}

/* The process of the test is gone by now, and with it each descriptor it had. */
FIXTURE_TEARDOWN_PARENT(snp)
{
	char complaint[256] = "";
	int tries;

	/* The last reference may be dropped by a worker, as for sockets. */
	for (tries = 0; tries < 100 && asids_in_use() != self->asids; tries++)
		usleep(100000);
	EXPECT_EQ(self->asids, asids_in_use());

	EXPECT_EQ(0UL, taint() & ~self->taint & TAINT_BITS);

	read_log(self->log, complaint, sizeof(complaint));
	EXPECT_STREQ("", complaint);
}

/* That the VMs of this test use @count ASIDs now, if somebody counts. */
#define EXPECT_ASIDS(count)						\
	EXPECT_EQ(self->asids < 0 ? -1 : self->asids + (count), asids_in_use())

TEST_F_TIMEOUT(snp, one, TIMEOUT)
{
	struct snp_vm vm;

	ASSERT_OK(snp_vm_create(&self->host, &vm, &small));
	EXPECT_ASIDS(1);
	snp_vm_close(&vm);
	EXPECT_ASIDS(0);
}

TEST_F_TIMEOUT(snp, vcpus, TIMEOUT)
{
	struct snp_vm_config config = small;
	struct snp_vm vm;

	config.vcpus = 8;
	ASSERT_OK(snp_vm_create(&self->host, &vm, &config));
	snp_vm_close(&vm);
}

TEST_F_TIMEOUT(snp, many, TIMEOUT)
{
	struct snp_vm vms[8];
	unsigned int i, nr = ARRAY_SIZE(vms);

	if (nr_asids() < nr)
		nr = nr_asids();

	for (i = 0; i < nr; i++) {
		ASSERT_OK(snp_vm_create(&self->host, &vms[i], &small));
		EXPECT_ASIDS(i + 1);
	}

	/* The odd ones first, so that memory is freed between that of others. */
	for (i = 1; i < nr; i += 2)
		snp_vm_close(&vms[i]);
	for (i = 0; i < nr; i += 2)
		snp_vm_close(&vms[i]);
	EXPECT_ASIDS(0);
}

/* More than RMPOPT covers at once, which is 1 GB. */
TEST_F_TIMEOUT(snp, large, TIMEOUT_LONG)
{
	struct snp_vm_config config = small;
	struct sysinfo info;
	struct snp_vm vm;

	config.memory = SZ_1G + 64 * SZ_1M;
	ASSERT_EQ(0, sysinfo(&info));
	if (info.freeram * info.mem_unit < config.memory + config.memory / 4)
		SKIP(return, "%llu MB of free memory", config.memory / SZ_1M * 5 / 4);

	ASSERT_OK(snp_vm_create(&self->host, &vm, &config));
	snp_vm_close(&vm);
}

TEST_F_TIMEOUT(snp, nodes, TIMEOUT)
{
	struct snp_vm_config config = small;
	char line[256] = "", *range = line;
	int node, last, nr = 0, read;
	struct snp_vm vms[8];

	read_line("/sys/devices/system/node/has_memory", line, sizeof(line));
	if (!strpbrk(line, ",-"))
		SKIP(return, "only one NUMA node with memory");

	/* Such as "0-2,4" */
	while (sscanf(range, "%d%n", &node, &read) == 1) {
		range += read;
		last = node;
		if (sscanf(range, "-%d%n", &last, &read) == 1)
			range += read;
		range += *range == ',';

		for (; node <= last && nr < 8; node++, nr++) {
			config.node = node;
			ASSERT_OK(snp_vm_create(&self->host, &vms[nr], &config));
		}
	}
	while (nr--)
		snp_vm_close(&vms[nr]);
}

TEST_F_TIMEOUT(snp, punch, TIMEOUT)
{
	static const struct {
		__u64 offset;
		__u64 length;
	} holes[] = {
		{ 0, 16 * SZ_1M },
		{ 0, 8 * SZ_1M },
		{ 8 * SZ_1M, 8 * SZ_1M },
		/* Measured pages, and across a 2 MB boundary */
		{ SNP_PAGE_SIZE, SNP_NR_NORMAL_PAGES * SNP_PAGE_SIZE },
		{ 2 * SZ_1M - SNP_PAGE_SIZE, 3 * SNP_PAGE_SIZE },
	};
	bool refill = false;
	struct snp_vm vm;
	unsigned int i;

	/* With the hole left open, and filled with new memory. */
	do {
		for (i = 0; i < ARRAY_SIZE(holes); i++) {
			ASSERT_OK(snp_vm_create(&self->host, &vm, &small));
			EXPECT_OK(snp_vm_punch(&vm, holes[i].offset,
					       holes[i].length));
			if (refill) {
				EXPECT_OK(snp_vm_prefault(&vm, holes[i].offset,
							  holes[i].length));
			}
			snp_vm_close(&vm);
		}
		refill = !refill;
	} while (refill);
}

TEST_F_TIMEOUT(snp, close_orders, TIMEOUT)
{
	typedef bool (*close_t)(struct snp_vm *vm);
	static const close_t orders[][3] = {
		{ snp_vm_close_vm, snp_vm_close_vcpus, snp_vm_close_memory },
		{ snp_vm_close_vm, snp_vm_close_memory, snp_vm_close_vcpus },
		{ snp_vm_close_vcpus, snp_vm_close_vm, snp_vm_close_memory },
		{ snp_vm_close_vcpus, snp_vm_close_memory, snp_vm_close_vm },
		{ snp_vm_close_memory, snp_vm_close_vm, snp_vm_close_vcpus },
		{ snp_vm_close_memory, snp_vm_close_vcpus, snp_vm_close_vm },
	};
	struct snp_vm vm;
	unsigned int i;

	for (i = 0; i < ARRAY_SIZE(orders); i++) {
		ASSERT_OK(snp_vm_create(&self->host, &vm, &small));
		EXPECT_TRUE(orders[i][0](&vm));
		EXPECT_ASIDS(1);
		EXPECT_TRUE(orders[i][1](&vm));
		EXPECT_ASIDS(1);
		/* The memory can still be given back by halves. */
		if (vm.memory >= 0) {
			EXPECT_OK(snp_vm_punch(&vm, 0, vm.size / 2));
			EXPECT_ASIDS(1);
		}
		EXPECT_TRUE(orders[i][2](&vm));
		EXPECT_ASIDS(0);
		EXPECT_FALSE(snp_vm_close(&vm));
	}
}

/* The child dies with this process at the latest, whatever else fails. */
static pid_t fork_child(void)
{
	pid_t pid = fork();

	if (!pid)
		prctl(PR_SET_PDEATHSIG, SIGKILL);
	return pid;
}

/* The child is killed once it pre-faults, or after it did. */
static bool kill_child(const struct snp_host *host, bool early)
{
	int status, fds[2];
	struct snp_vm vm;
	char byte = 0;
	pid_t child;

	if (pipe(fds))
		return false;

	child = fork_child();
	if (child < 0)
		return false;
	if (!child) {
		struct snp_vm_config config = small;

		config.memory = 64 * SZ_1M;
		config.prefault = !early;
		if (report(snp_vm_create(host, &vm, &config)))
			_exit(1);
		if (write(fds[1], &byte, 1) == 1 && early)
			snp_vm_prefault(&vm, 0, config.memory);
		pause();
	}
	close(fds[1]);

	/* Without a byte, the child has failed. */
	if (read(fds[0], &byte, 1) == 1) {
		if (early)
			usleep(10000);
		kill(child, SIGKILL);
	}
	close(fds[0]);
	return waitpid(child, &status, 0) == child && WIFSIGNALED(status);
}

TEST_F_TIMEOUT(snp, killed, TIMEOUT)
{
	EXPECT_TRUE(kill_child(&self->host, false));
	EXPECT_ASIDS(0);
	EXPECT_TRUE(kill_child(&self->host, true));
	EXPECT_ASIDS(0);
}

#define NR_PASSED	3

union passed_control {
	char buffer[CMSG_SPACE(NR_PASSED * sizeof(int))];
	struct cmsghdr align;
};

/* Sends VM, vCPU and memory over a socket. */
static bool send_vm(int fd, const struct snp_vm *vm)
{
	const int fds[NR_PASSED] = { vm->vm, vm->vcpus[0], vm->memory };
	union passed_control control = {};
	struct iovec iov = { .iov_base = "", .iov_len = 1 };
	struct msghdr message = {
		.msg_iov = &iov,
		.msg_iovlen = 1,
		.msg_control = &control,
		.msg_controllen = sizeof(control),
	};
	struct cmsghdr *header = CMSG_FIRSTHDR(&message);

	header->cmsg_level = SOL_SOCKET;
	header->cmsg_type = SCM_RIGHTS;
	header->cmsg_len = CMSG_LEN(sizeof(fds));
	memcpy(CMSG_DATA(header), fds, sizeof(fds));
	return sendmsg(fd, &message, 0) == 1;
}

static bool receive_vm(int fd, int *fds)
{
	union passed_control control;
	char byte;
	struct iovec iov = { .iov_base = &byte, .iov_len = 1 };
	struct msghdr message = {
		.msg_iov = &iov,
		.msg_iovlen = 1,
		.msg_control = &control,
		.msg_controllen = sizeof(control),
	};
	struct cmsghdr *header;

	if (recvmsg(fd, &message, 0) != 1)
		return false;
	header = CMSG_FIRSTHDR(&message);
	if (!header || header->cmsg_len != CMSG_LEN(NR_PASSED * sizeof(int)))
		return false;
	memcpy(fds, CMSG_DATA(header), NR_PASSED * sizeof(int));
	return true;
}

/* Another process has the VM when its maker is through with it. */
TEST_F_TIMEOUT(snp, passed_on, TIMEOUT)
{
	int i, status, sockets[2], fds[NR_PASSED];
	struct snp_vm vm;
	char byte = 0;
	pid_t child;

	ASSERT_EQ(0, socketpair(AF_UNIX, SOCK_STREAM, 0, sockets));
	child = fork_child();
	ASSERT_LE(0, child);
	if (!child) {
		close(sockets[0]);
		if (!receive_vm(sockets[1], fds) ||
		    write(sockets[1], &byte, 1) != 1)
			_exit(1);
		/* One descriptor for each byte. */
		for (i = 0; i < NR_PASSED; i++) {
			if (read(sockets[1], &byte, 1) != 1 || close(fds[i]) ||
			    write(sockets[1], &byte, 1) != 1)
				_exit(2);
		}
		_exit(0);
	}
	close(sockets[1]);

	ASSERT_OK(snp_vm_create(&self->host, &vm, &small));
	ASSERT_TRUE(send_vm(sockets[0], &vm));
	ASSERT_EQ(1, read(sockets[0], &byte, 1));
	snp_vm_close(&vm);

	for (i = 0; i < NR_PASSED; i++) {
		EXPECT_ASIDS(1);
		ASSERT_EQ(1, write(sockets[0], &byte, 1));
		ASSERT_EQ(1, read(sockets[0], &byte, 1));
	}
	EXPECT_ASIDS(0);
	ASSERT_EQ(child, waitpid(child, &status, 0));
	EXPECT_EQ(0, status);
}

/* Nobody has the VM any more: it sits in a socket that is closed as well. */
TEST_F_TIMEOUT(snp, in_flight, TIMEOUT)
{
	struct snp_vm vm;
	int sockets[2];

	ASSERT_EQ(0, socketpair(AF_UNIX, SOCK_STREAM, 0, sockets));
	ASSERT_OK(snp_vm_create(&self->host, &vm, &small));
	ASSERT_TRUE(send_vm(sockets[0], &vm));
	snp_vm_close(&vm);
	EXPECT_ASIDS(1);
	close(sockets[0]);
	close(sockets[1]);
}

TEST_F_TIMEOUT(snp, not_launched, TIMEOUT)
{
	struct snp_vm_config config = small;
	struct snp_vm vm;

	config.stage = SNP_CREATED;
	ASSERT_OK(snp_vm_create(&self->host, &vm, &config));
	EXPECT_FAILS(EOPNOTSUPP, snp_vm_prefault(&vm, 0, vm.size));
	snp_vm_close(&vm);
	EXPECT_ASIDS(0);
}

TEST_F_TIMEOUT(snp, not_finished, TIMEOUT)
{
	struct snp_vm_config config = small;
	struct snp_vm vm;

	config.stage = SNP_STARTED;
	ASSERT_OK(snp_vm_create(&self->host, &vm, &config));
	EXPECT_FAILS(EOPNOTSUPP, snp_vm_prefault(&vm, 0, vm.size));
	EXPECT_OK(snp_vm_punch(&vm, 0, SNP_PAGE_SIZE));
	snp_vm_close(&vm);
	EXPECT_ASIDS(0);
}

/* VMs come and go in several processes at once. */
TEST_F_TIMEOUT(snp, parallel, TIMEOUT)
{
	pid_t children[4];
	struct snp_vm vm;
	int i, j, status;

	for (i = 0; i < 4; i++) {
		children[i] = fork_child();
		ASSERT_LE(0, children[i]);
		if (children[i])
			continue;
		for (j = 0; j < 4; j++) {
			if (report(snp_vm_create(&self->host, &vm, &small)) ||
			    report(snp_vm_punch(&vm, 0, vm.size / 2)))
				_exit(1);
			snp_vm_close(&vm);
		}
		_exit(0);
	}

	for (i = 0; i < 4; i++) {
		ASSERT_EQ(children[i], waitpid(children[i], &status, 0));
		EXPECT_EQ(0, status);
	}
	EXPECT_ASIDS(0);
}

/* More VMs than ASIDs, so that each ASID has a second life. */
TEST_F_TIMEOUT(snp, asids_reused, TIMEOUT_LONG)
{
	unsigned int i, nr = nr_asids() + 4;
	struct snp_vm vm;

	for (i = 0; i < nr; i++) {
		ASSERT_OK(snp_vm_create(&self->host, &vm, &tiny));
		snp_vm_close(&vm);
	}
}

TEST_F_TIMEOUT(snp, asids_exhausted, TIMEOUT_LONG)
{
	unsigned int max = nr_asids() + 1, nr = 0;
	struct snp_vm *vms;

	vms = calloc(max, sizeof(*vms));
	ASSERT_NE(NULL, vms);

	while (nr < max && !snp_vm_open(&self->host, &vms[nr], 0, 0))
		nr++;
	ASSERT_LT(nr, max);
	if (snp_error.error == EMFILE)
		SKIP(return, "RLIMIT_NOFILE above %u", max);
	EXPECT_EQ(EBUSY, snp_error.error) TH_LOG("%s", snp_strerror());
	/* Others may have taken all. */
	if (!nr)
		SKIP(return, "a free ASID");
	EXPECT_ASIDS(nr);

	EXPECT_FAILS(EBUSY, snp_vm_open(&self->host, &vms[nr], 0, 0));

	/* A single one is enough for a VM that works. */
	snp_vm_close(&vms[--nr]);
	ASSERT_OK(snp_vm_create(&self->host, &vms[nr], &tiny));
	EXPECT_FAILS(EBUSY, snp_vm_open(&self->host, &vms[nr + 1], 0, 0));

	do {
		snp_vm_close(&vms[nr]);
	} while (nr--);
	EXPECT_ASIDS(0);
}

TEST_F_TIMEOUT(snp, bad_start, TIMEOUT)
{
	const struct snp_host no_sev = { .kvm = self->host.kvm, .sev = -1 };
	struct snp_vm vm;

	ASSERT_OK(snp_vm_open(&self->host, &vm, SNP_MIN_MEMORY, 1));
	EXPECT_FAILS(EINVAL, snp_launch_finish(&vm));

	EXPECT_FAILS(EINVAL, snp_launch_start(&vm, 0));
	EXPECT_FAILS(EINVAL, snp_launch_start(&vm, SNP_POLICY | 1ULL << 63));
	/* A firmware version of the far future */
	EXPECT_FAILS(EIO, snp_launch_start(&vm, SNP_POLICY | 0xffff));
	EXPECT_EQ(SEV_RET_POLICY_FAILURE, snp_error.firmware);

	vm.host = &no_sev;
	EXPECT_EQ(-1, snp_launch_start(&vm, SNP_POLICY));
	vm.host = &self->host;

	EXPECT_OK(snp_vm_launch(&vm, SNP_STARTED));
	EXPECT_FAILS(EINVAL, snp_launch_start(&vm, SNP_POLICY));
	EXPECT_OK(snp_launch_finish(&vm));
	snp_vm_close(&vm);
	EXPECT_ASIDS(0);
}

TEST_F_TIMEOUT(snp, bad_update, TIMEOUT)
{
	static alignas(SNP_PAGE_SIZE) __u8 source[SNP_PAGE_SIZE];
	const struct kvm_sev_snp_launch_update good = {
		/* Beyond what snp_vm_launch() fills. */
		.gfn_start = 1024,
		.uaddr = (uintptr_t)source,
		.len = SNP_PAGE_SIZE,
		.type = KVM_SEV_SNP_PAGE_TYPE_NORMAL,
	};
	/* KVM takes neither 0, nor VMSA pages, nor what does not exist. */
	static const __u8 bad_types[] = { 0, 2, 7, 0xff };
	struct kvm_sev_snp_launch_update update = good;
	struct snp_vm vm;
	unsigned int i;

	ASSERT_OK(snp_vm_open(&self->host, &vm, small.memory, 1));
	EXPECT_FAILS(EINVAL, snp_launch_update(&vm, &update));
	ASSERT_OK(snp_vm_launch(&vm, SNP_STARTED));

	for (i = 0; i < ARRAY_SIZE(bad_types); i++) {
		update.type = bad_types[i];
		EXPECT_FAILS(EINVAL, snp_launch_update(&vm, &update));
	}

	update = good;
	update.flags = 1;
	EXPECT_FAILS(EINVAL, snp_launch_update(&vm, &update));

	update = good;
	update.len = 0;
	EXPECT_FAILS(EINVAL, snp_launch_update(&vm, &update));

	update = good;
	update.len += 1;
	EXPECT_FAILS(EINVAL, snp_launch_update(&vm, &update));

	update = good;
	update.uaddr += 1;
	EXPECT_FAILS(EINVAL, snp_launch_update(&vm, &update));

	update = good;
	update.gfn_start = vm.size / SNP_PAGE_SIZE;
	EXPECT_FAILS(EINVAL, snp_launch_update(&vm, &update));

	/* The guest has this page already. */
	update = good;
	update.gfn_start = 0;
	EXPECT_FAILS(EIO, snp_launch_update(&vm, &update));

	/* The firmware rejects a table this long, and KVM takes the page back. */
	update = good;
	update.type = KVM_SEV_SNP_PAGE_TYPE_CPUID;
	memset(source, 0xff, sizeof(source));
	EXPECT_FAILS(EIO, snp_launch_update(&vm, &update));
	EXPECT_NE(0U, snp_error.firmware);

	/* The page is still good for something else. */
	update = good;
	EXPECT_OK(snp_launch_update(&vm, &update));

	EXPECT_OK(snp_launch_finish(&vm));

	/* Too late. */
	update = good;
	update.gfn_start++;
	EXPECT_FAILS(EIO, snp_launch_update(&vm, &update));
	EXPECT_NE(0U, snp_error.firmware);

	EXPECT_OK(snp_vm_prefault(&vm, 0, vm.size));
	snp_vm_close(&vm);
	EXPECT_ASIDS(0);
}

TEST_F_TIMEOUT(snp, bad_finish, TIMEOUT)
{
	struct snp_vm vm;

	ASSERT_OK(snp_vm_create(&self->host, &vm, &small));
	/* KVM has measured the vCPU before. */
	EXPECT_FAILS(EINVAL, snp_launch_finish(&vm));
	EXPECT_OK(snp_vm_punch(&vm, 0, vm.size / 2));
	EXPECT_OK(snp_vm_prefault(&vm, 0, vm.size));
	snp_vm_close(&vm);

	/* Without a vCPU it is up to the firmware. */
	ASSERT_OK(snp_vm_open(&self->host, &vm, SNP_MIN_MEMORY, 0));
	ASSERT_OK(snp_vm_launch(&vm, SNP_FINISHED));
	EXPECT_FAILS(EIO, snp_launch_finish(&vm));
	EXPECT_NE(0U, snp_error.firmware);
	snp_vm_close(&vm);
	EXPECT_ASIDS(0);
}

TEST_HARNESS_MAIN
