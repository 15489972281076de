// SPDX-License-Identifier: GPL-2.0
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdalign.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <linux/kvm.h>
#include <linux/mempolicy.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/syscall.h>

#include "kselftest.h"
#include "snp_vm.h"

#define SNP_MAX_NODES	1024
#define BITS_PER_LONG	(CHAR_BIT * sizeof(unsigned long))

__thread struct snp_error snp_error;

int snp_step(int ret, const char *name)
{
	if (ret < 0) {
		snp_error.step = name;
		snp_error.error = errno;
		snp_error.firmware = 0;
	}
	return ret;
}

const char *snp_strerror(void)
{
	static __thread char text[256];

	snprintf(text, sizeof(text), "%s: %s (errno %d), firmware error %#x",
		 snp_error.step, strerror(snp_error.error), snp_error.error,
		 snp_error.firmware);
	return text;
}

int snp_cmd(struct snp_vm *vm, __u32 id, const char *name, void *data)
{
	struct kvm_sev_cmd cmd = {
		.id = id,
		.data = (uintptr_t)data,
		.sev_fd = vm->host->sev,
	};
	int ret;

	ret = snp_step(ioctl(vm->vm, KVM_MEMORY_ENCRYPT_OP, &cmd), name);
	if (ret)
		snp_error.firmware = cmd.error;
	return ret;
}

const char *snp_host_open(struct snp_host *host)
{
	static const struct {
		int cap;
		unsigned int bits;
		const char *name;
	} needed[] = {
		{ KVM_CAP_VM_TYPES, 1 << KVM_X86_SNP_VM,
		  "KVM_X86_SNP_VM in KVM_CAP_VM_TYPES" },
		{ KVM_CAP_USER_MEMORY2, ~0, "KVM_CAP_USER_MEMORY2" },
		{ KVM_CAP_GUEST_MEMFD, ~0, "KVM_CAP_GUEST_MEMFD" },
		{ KVM_CAP_MEMORY_ATTRIBUTES, KVM_MEMORY_ATTRIBUTE_PRIVATE,
		  "KVM_MEMORY_ATTRIBUTE_PRIVATE in KVM_CAP_MEMORY_ATTRIBUTES" },
		{ KVM_CAP_PRE_FAULT_MEMORY, ~0, "KVM_CAP_PRE_FAULT_MEMORY" },
	};
	static char missing[128];
	struct rlimit limit;
	unsigned int i;
	int ret;

	host->kvm = open("/dev/kvm", O_RDWR | O_CLOEXEC);
	if (host->kvm < 0) {
		snprintf(missing, sizeof(missing), "/dev/kvm: %s", strerror(errno));
		return missing;
	}

	for (i = 0; i < ARRAY_SIZE(needed); i++) {
		ret = ioctl(host->kvm, KVM_CHECK_EXTENSION, needed[i].cap);
		if (ret < 0 || !(ret & needed[i].bits)) {
			snprintf(missing, sizeof(missing), "no %s", needed[i].name);
			goto close_kvm;
		}
	}

	host->sev = open("/dev/sev", O_RDWR | O_CLOEXEC);
	if (host->sev < 0) {
		snprintf(missing, sizeof(missing), "/dev/sev: %s", strerror(errno));
		goto close_kvm;
	}

	/* A VM takes two descriptors and one for each vCPU. */
	if (!getrlimit(RLIMIT_NOFILE, &limit)) {
		limit.rlim_cur = limit.rlim_max;
		setrlimit(RLIMIT_NOFILE, &limit);
	}
	return NULL;

close_kvm:
	close(host->kvm);
	return missing;
}

static int add_memory(struct snp_vm *vm, __u64 size)
{
	struct kvm_create_guest_memfd create = { .size = size };
	struct kvm_memory_attributes attributes = {
		.size = size,
		.attributes = KVM_MEMORY_ATTRIBUTE_PRIVATE,
	};
	struct kvm_userspace_memory_region2 region = {
		.flags = KVM_MEM_GUEST_MEMFD,
		.memory_size = size,
	};

	/*
	 * A slot needs addresses for its shared half, which stays empty. Nothing
	 * else may be there: KVM would take note of each change to it.
	 */
	vm->shared = mmap(NULL, size, PROT_NONE,
			  MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	if (vm->shared == MAP_FAILED)
		return snp_step(-1, "mmap");
	vm->size = size;

	vm->memory = SNP_IOCTL(vm->vm, KVM_CREATE_GUEST_MEMFD, &create);
	if (vm->memory < 0)
		return -1;

	region.userspace_addr = (uintptr_t)vm->shared;
	region.guest_memfd = vm->memory;
	if (SNP_IOCTL(vm->vm, KVM_SET_USER_MEMORY_REGION2, &region))
		return -1;

	return SNP_IOCTL(vm->vm, KVM_SET_MEMORY_ATTRIBUTES, &attributes);
}

static int add_vcpus(struct snp_vm *vm, unsigned int nr)
{
	int fd;

	while (vm->nr_vcpus < nr) {
		fd = SNP_IOCTL(vm->vm, KVM_CREATE_VCPU, (unsigned long)vm->nr_vcpus);
		if (fd < 0)
			return -1;
		vm->vcpus[vm->nr_vcpus++] = fd;
	}
	return 0;
}

/* Memory of a VM that is not an SNP VM: there is one kind only. */
static int add_plain_memory(struct snp_vm *vm, __u64 size)
{
	struct kvm_userspace_memory_region region = { .memory_size = size };

	vm->shared = mmap(NULL, size, PROT_READ | PROT_WRITE,
			  MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	if (vm->shared == MAP_FAILED)
		return snp_step(-1, "mmap");
	vm->size = size;

	region.userspace_addr = (uintptr_t)vm->shared;
	return SNP_IOCTL(vm->vm, KVM_SET_USER_MEMORY_REGION, &region);
}

static int open_memory(struct snp_vm *vm, unsigned long type, __u64 size)
{
	if (!size)
		return 0;
	return type == KVM_X86_SNP_VM ? add_memory(vm, size) : add_plain_memory(vm, size);
}

int snp_vm_open_type(const struct snp_host *host, struct snp_vm *vm, unsigned long type,
		     __u64 memory, unsigned int vcpus)
{
	struct kvm_sev_init init = {};
	struct snp_error error;

	*vm = (struct snp_vm) {
		.host = host,
		.shared = MAP_FAILED,
		.vm = -1,
		.memory = -1,
	};

	vm->vm = SNP_IOCTL(host->kvm, KVM_CREATE_VM, type);
	if (vm->vm < 0)
		return -1;

	if ((type == KVM_X86_DEFAULT_VM || !SNP_CMD(vm, KVM_SEV_INIT2, &init)) &&
	    !open_memory(vm, type, memory) &&
	    !add_vcpus(vm, vcpus))
		return 0;

	error = snp_error;
	snp_vm_close(vm);
	snp_error = error;
	return -1;
}

int snp_vm_open(const struct snp_host *host, struct snp_vm *vm, __u64 memory,
		unsigned int vcpus)
{
	return snp_vm_open_type(host, vm, KVM_X86_SNP_VM, memory, vcpus);
}

int snp_launch_start(struct snp_vm *vm, __u64 policy)
{
	struct kvm_sev_snp_launch_start start = { .policy = policy };

	return SNP_CMD(vm, KVM_SEV_SNP_LAUNCH_START, &start);
}

int snp_launch_update(struct snp_vm *vm, struct kvm_sev_snp_launch_update *update)
{
	int ret;

	/* KVM moves the start on by what it got done. */
	do {
		ret = SNP_CMD(vm, KVM_SEV_SNP_LAUNCH_UPDATE, update);
	} while (!ret && update->len);
	return ret;
}

int snp_launch_finish(struct snp_vm *vm)
{
	struct kvm_sev_snp_launch_finish finish = {};

	return SNP_CMD(vm, KVM_SEV_SNP_LAUNCH_FINISH, &finish);
}

static int load(struct snp_vm *vm)
{
	static alignas(SNP_PAGE_SIZE) __u8
		source[SNP_NR_NORMAL_PAGES * SNP_PAGE_SIZE];
	struct kvm_sev_snp_launch_update normal = {
		.uaddr = (uintptr_t)source,
		.len = sizeof(source),
		.type = KVM_SEV_SNP_PAGE_TYPE_NORMAL,
	};
	struct kvm_sev_snp_launch_update zero = {
		.gfn_start = SNP_NR_NORMAL_PAGES,
		.len = SNP_NR_ZERO_PAGES * SNP_PAGE_SIZE,
		.type = KVM_SEV_SNP_PAGE_TYPE_ZERO,
	};

	memset(source, 0xa5, sizeof(source));
	return snp_launch_update(vm, &normal) || snp_launch_update(vm, &zero) ? -1 : 0;
}

int snp_vm_prefault(struct snp_vm *vm, __u64 gpa, __u64 size)
{
	struct kvm_pre_fault_memory range = { .gpa = gpa, .size = size };
	int ret = 0;

	/* KVM moves the range on by what it got done. */
	while (!ret && range.size) {
		ret = SNP_IOCTL(vm->vcpus[0], KVM_PRE_FAULT_MEMORY, &range);
		if (ret && (errno == EINTR || errno == EAGAIN))
			ret = 0;
	}
	return ret;
}

int snp_bind_memory(int node)
{
	unsigned long mask[SNP_MAX_NODES / BITS_PER_LONG] = {};

	if (node < 0)
		return 0;

	if (node >= SNP_MAX_NODES) {
		errno = EINVAL;
		return snp_step(-1, "set_mempolicy");
	}
	mask[node / BITS_PER_LONG] = 1UL << node % BITS_PER_LONG;
	/* The kernel takes the number of bits to be one too high. */
	return snp_step(syscall(SYS_set_mempolicy, MPOL_BIND, mask, SNP_MAX_NODES + 1),
			"set_mempolicy");
}

int snp_unbind_memory(int node)
{
	if (node < 0)
		return 0;

	return snp_step(syscall(SYS_set_mempolicy, MPOL_DEFAULT, NULL, 0), "set_mempolicy");
}

/*
 * KVM allocates guest memory under the policy of the calling thread. What it
 * needs besides, like the context page, is not to come from there.
 */
static int launch(struct snp_vm *vm, const struct snp_vm_config *config)
{
	if (config->stage >= SNP_STARTED &&
	    (snp_launch_start(vm, SNP_POLICY) || snp_bind_memory(config->node) ||
	     load(vm) || snp_unbind_memory(config->node)))
		return -1;

	/* KVM gives memory to the guest only after the launch. */
	if (config->stage >= SNP_FINISHED &&
	    (snp_launch_finish(vm) ||
	     (config->prefault && (snp_bind_memory(config->node) ||
				   snp_vm_prefault(vm, 0, config->memory)))))
		return -1;

	return 0;
}

int snp_vm_launch(struct snp_vm *vm, enum snp_stage stage)
{
	const struct snp_vm_config config = { .stage = stage, .node = -1 };

	return launch(vm, &config);
}

int snp_vm_create(const struct snp_host *host, struct snp_vm *vm,
		  const struct snp_vm_config *config)
{
	struct snp_error error;
	int ret;

	if (snp_vm_open(host, vm, config->memory, config->vcpus))
		return -1;

	ret = launch(vm, config);
	error = snp_error;
	snp_unbind_memory(config->node);
	if (ret)
		snp_vm_close(vm);
	snp_error = error;
	return ret;
}

int snp_vm_punch(struct snp_vm *vm, __u64 offset, __u64 length)
{
	return snp_step(fallocate(vm->memory, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE,
				  offset, length), "fallocate");
}

static bool close_fd(int *fd)
{
	if (*fd < 0)
		return false;

	close(*fd);
	*fd = -1;
	return true;
}

bool snp_vm_close_vm(struct snp_vm *vm)
{
	return close_fd(&vm->vm);
}

bool snp_vm_close_vcpus(struct snp_vm *vm)
{
	bool closed = false;
	unsigned int i;

	for (i = 0; i < vm->nr_vcpus; i++)
		closed |= close_fd(&vm->vcpus[i]);
	return closed;
}

bool snp_vm_close_memory(struct snp_vm *vm)
{
	return close_fd(&vm->memory);
}

bool snp_vm_close(struct snp_vm *vm)
{
	bool closed;

	closed = snp_vm_close_vcpus(vm);
	closed |= snp_vm_close_vm(vm);
	closed |= snp_vm_close_memory(vm);
	if (vm->shared != MAP_FAILED)
		munmap(vm->shared, vm->size);
	vm->shared = MAP_FAILED;
	return closed;
}

bool snp_parse_size(const char *text, __u64 *size)
{
	static const char units[] = "KMG";
	const char *unit;
	unsigned int shift = 0;
	char *end;

	if (*text < '0' || *text > '9')
		return false;
	errno = 0;
	*size = strtoull(text, &end, 0);
	if (*end) {
		unit = strchr(units, *end++);
		if (!unit)
			return false;
		shift = 10 * (unit - units + 1);
	}
	if (errno || *end || *size << shift >> shift != *size)
		return false;
	*size <<= shift;
	return !(*size % SNP_PAGE_SIZE);
}
