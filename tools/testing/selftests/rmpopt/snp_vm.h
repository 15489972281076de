/* SPDX-License-Identifier: GPL-2.0 */
/*
 * SEV-SNP VMs without a VMM: memory and vCPUs that the reverse map table (RMP)
 * knows of. Nothing here runs them: that is up to snp_guest.c.
 *
 * Functions return 0, or -1 and then say in snp_error what failed and why.
 */
#ifndef SELFTEST_RMPOPT_SNP_VM_H
#define SELFTEST_RMPOPT_SNP_VM_H

#include <stdbool.h>
#include <asm/kvm.h>
#include <linux/types.h>

#define SNP_PAGE_SIZE		4096ULL
#define SNP_MAX_VCPUS		64

/* The smallest memory: snp_vm_launch() measures as many pages as this. */
#define SNP_NR_NORMAL_PAGES	8
#define SNP_NR_ZERO_PAGES	8
#define SNP_MIN_MEMORY		((SNP_NR_NORMAL_PAGES + SNP_NR_ZERO_PAGES) * \
				 SNP_PAGE_SIZE)

/* Bit 16: SMT is allowed; bit 17 has to be one. */
#define SNP_POLICY		0x30000ULL

/**
 * struct snp_error - The last error of this thread
 * @step:	What failed, as a system call or KVM command
 * @error:	errno
 * @firmware:	Status of the firmware, 0 if it was not asked
 */
struct snp_error {
	const char *step;
	int error;
	__u32 firmware;
};

extern __thread struct snp_error snp_error;

const char *snp_strerror(void);

/* Notes a failure, and passes on any other result. */
int snp_step(int ret, const char *name);

#define SNP_IOCTL(fd, request, arg)	snp_step(ioctl((fd), (request), (arg)), #request)
#define SNP_CMD(vm, id, data)		snp_cmd((vm), (id), #id, (data))

struct snp_host {
	int kvm;
	int sev;
};

/* How far a VM gets. */
enum snp_stage {
	SNP_CREATED,
	SNP_STARTED,
	SNP_FINISHED,
};

/**
 * struct snp_vm_config - What kind of VM to create
 * @memory:	Bytes of guest memory from GPA 0 on, a multiple of the page size
 * @vcpus:	Number of vCPUs; pre-faulting takes one
 * @node:	NUMA node that guest memory comes from, or -1
 * @stage:	How far to get
 * @prefault:	Whether all memory is made private, not only the measured pages
 */
struct snp_vm_config {
	__u64 memory;
	unsigned int vcpus;
	int node;
	enum snp_stage stage;
	bool prefault;
};

/* A descriptor is -1 if it is closed. */
struct snp_vm {
	const struct snp_host *host;
	__u64 size;
	void *shared;
	int vm;
	int memory;
	unsigned int nr_vcpus;
	int vcpus[SNP_MAX_VCPUS];
};

/* A command of KVM_MEMORY_ENCRYPT_OP */
int snp_cmd(struct snp_vm *vm, __u32 id, const char *name, void *data);

/* Returns what is missing on this machine, or NULL. */
const char *snp_host_open(struct snp_host *host);

/* All of what @config asks for. Nothing stays behind on failure. */
int snp_vm_create(const struct snp_host *host, struct snp_vm *vm,
		  const struct snp_vm_config *config);

/* The steps of it. Without memory, snp_vm_open() makes a VM with an ASID only. */
int snp_vm_open(const struct snp_host *host, struct snp_vm *vm, __u64 memory,
		unsigned int vcpus);
int snp_vm_open_type(const struct snp_host *host, struct snp_vm *vm, unsigned long type,
		     __u64 memory, unsigned int vcpus);
int snp_vm_launch(struct snp_vm *vm, enum snp_stage stage);
int snp_vm_prefault(struct snp_vm *vm, __u64 gpa, __u64 size);

/* Binds memory that this thread allocates to @node, unless that is -1, and no longer. */
int snp_bind_memory(int node);
int snp_unbind_memory(int node);

/* The steps of a launch. */
int snp_launch_start(struct snp_vm *vm, __u64 policy);
int snp_launch_update(struct snp_vm *vm, struct kvm_sev_snp_launch_update *update);
int snp_launch_finish(struct snp_vm *vm);

int snp_vm_punch(struct snp_vm *vm, __u64 offset, __u64 length);

/*
 * The VM lives until the last descriptor is closed. Return whether there was
 * anything to close.
 */
bool snp_vm_close_vm(struct snp_vm *vm);
bool snp_vm_close_vcpus(struct snp_vm *vm);
bool snp_vm_close_memory(struct snp_vm *vm);
bool snp_vm_close(struct snp_vm *vm);

/* Such as 64M or 0x200000: a multiple of the page size */
bool snp_parse_size(const char *text, __u64 *size);

#endif /* SELFTEST_RMPOPT_SNP_VM_H */
