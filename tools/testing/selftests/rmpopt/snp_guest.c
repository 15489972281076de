// SPDX-License-Identifier: GPL-2.0
/*
 * Runs a guest whose vCPUs do one thing at a time, each as it is told on stdin.
 * The guest may be plain, SEV, SEV-ES or SEV-SNP.
 *
 *	do VCPU COMMAND...	has the vCPU execute a command, and waits for its end
 *	start VCPU COMMAND...	has the vCPU execute a command
 *	wait VCPU		until what was started has ended
 *	stop VCPU		ends what would go on, and waits
 *	progress VCPU		tells how much of it is done
 *	pin VCPU CPU		lets the vCPU run on this CPU only
 *	bind VCPU NODE		binds memory that the vCPU causes to be allocated from
 *				now on, -1 for any node
 *	punch GPA SIZE		gives back private memory, of which the guest knows nothing
 *	close-vm		closes VM and vCPUs, but not the memory
 *	close-memory		closes the memory only
 *	close			destroys the VM
 *	quit
 *
 * Commands of a vCPU, see guest_code.h. Addresses are guest physical ones from 1 MB
 * on. Memory there is private at first, but neither allocated nor validated.
 *
 *	nop
 *	private GPA SIZE [list]	asks the host to make pages private, and validates them
 *	shared GPA SIZE [list]	takes their validation away, and asks the host to make
 *				them shared
 *	psc private|shared GPA SIZE [list]	asks the host only
 *	pvalidate GPA SIZE 0|1
 *	rmpadjust GPA OPERAND
 *	write private|shared GPA SIZE [STRIDE [COUNT]]
 *	read private|shared GPA SIZE [STRIDE [COUNT]]
 *	convert GPA SIZE [STRIDE [COUNT [list]]]
 *				makes each page shared, and private again
 *	create VCPU GPA		creates that vCPU anew, whose VMSA this page becomes
 *	destroy VCPU
 *	end			ends the guest
 *
 * The host is asked page by page by the MSR protocol, or with "list" by lists in the
 * GHCB. STRIDE leads from one page of a range to the next one. COUNT is how often to
 * go through the range: once if it is missing, until "stop" if it is 0.
 *
 * A line is answered by "ok" and results, or by "error: ...". Once all vCPUs wait for
 * a command, the program says "ready".
 */
#include <cpuid.h>
#include <errno.h>
#include <getopt.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <linux/kvm.h>
#include <linux/kvm_para.h>
#include <sys/ioctl.h>
#include <sys/mman.h>

#include "guest_code.h"
#include "kselftest.h"
#include "snp_vm.h"

#define CPUID_SEV		0x8000001f
#define MAX_CPUID		256
#define MAX_WORDS		8
/* How often a vCPU may ask for the same page, with nothing changed meanwhile */
#define MAX_SAME_FAULTS		8

/* Bits of page tables: present, writable, accessed, dirty, 1 GB */
#define PT_TABLE		0x23ULL
#define PT_LARGE		0xe3ULL
#define PT_ENTRIES		512

#define GDT_CODE		0x00af9b000000ffffULL
#define GDT_DATA		0x00cf93000000ffffULL
#define SEGMENT_CODE		11
#define SEGMENT_DATA		3
#define SEGMENT_TSS		11

/* PE, MP, ET, NE, WP and PG; PAE; LME, LMA and NXE */
#define CR0_GUEST		0x80010033ULL
#define CR4_GUEST		0x20ULL
#define EFER_GUEST		0xd00ULL
#define RFLAGS_GUEST		0x2ULL

#define SEV_POLICY_ES		0x4

enum vcpu_state {
	VCPU_RUNS,
	VCPU_WAITS,
	/* It never runs again. */
	VCPU_ENDED,
};

/**
 * struct vcpu - A vCPU and its thread
 * @index:	Number of the vCPU
 * @fd:		Descriptor of the vCPU
 * @run:	What KVM_RUN tells of its exits
 * @box:	What the guest is told, and tells
 * @thread:	Calls KVM_RUN
 * @started:	Whether there is a thread
 * @state:	Whether it runs. Protected by @lock, as all below.
 * @closing:	The thread has to end.
 * @node:	NUMA node that memory comes from, or -1
 * @asked:	Whether the guest was told to end
 * @implicit:	Pages converted because of an access, without PSC
 * @problem:	Why the vCPU has ended
 */
struct vcpu {
	unsigned int index;
	int fd;
	struct kvm_run *run;
	volatile struct guest_mailbox *box;
	pthread_t thread;
	bool started;
	enum vcpu_state state;
	volatile bool closing;
	int node;
	bool asked;
	unsigned int implicit;
	char problem[160];
};

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t changed = PTHREAD_COND_INITIALIZER;

static enum guest_type type = GUEST_SNP;
static struct snp_vm vm;
static struct vcpu vcpus[GUEST_MAX_VCPUS];
static unsigned int nr_vcpus = 1;
/* Whether a page of an SNP guest is private */
static bool *private_pages;
static size_t run_size;

static const struct {
	const char *name;
	unsigned long vm_type;
} types[] = {
	[GUEST_PLAIN] = { "plain", KVM_X86_DEFAULT_VM },
	[GUEST_SEV] = { "sev", KVM_X86_SEV_VM },
	[GUEST_SEV_ES] = { "sev-es", KVM_X86_SEV_ES_VM },
	[GUEST_SNP] = { "snp", KVM_X86_SNP_VM },
};

static const char usage[] =
	"usage: snp_guest [--type snp|sev-es|sev|plain] [--memory SIZE[K|M|G]]\n"
	"                 [--node N] [--vcpus N]\n";

static bool parse_number(const char *text, __s64 min, __s64 max, __s64 *number)
{
	char *end;

	errno = 0;
	*number = strtoll(text, &end, 0);
	return !errno && end != text && !*end && *number >= min && *number <= max;
}

static bool parse_type(const char *text)
{
	unsigned int i;

	for (i = 0; i < ARRAY_SIZE(types); i++) {
		if (!strcmp(text, types[i].name)) {
			type = i;
			return true;
		}
	}
	return false;
}

/* Guest memory */

static void *memory_at(__u64 gpa)
{
	return (char *)vm.shared + gpa;
}

static int set_private(__u64 gpa, __u64 size, bool private)
{
	struct kvm_memory_attributes attributes = {
		.address = gpa,
		.size = size,
		.attributes = private ? KVM_MEMORY_ATTRIBUTE_PRIVATE : 0,
	};

	if (SNP_IOCTL(vm.vm, KVM_SET_MEMORY_ATTRIBUTES, &attributes))
		return -1;
	pthread_mutex_lock(&lock);
	memset(private_pages + gpa / SNP_PAGE_SIZE, private, size / SNP_PAGE_SIZE);
	pthread_mutex_unlock(&lock);
	return 0;
}

/* What a VMM has to do. The half of the memory that is not used any more goes back. */
static int convert(__u64 gpa, __u64 size, bool private)
{
	if (gpa < GUEST_FREE || gpa >= vm.size || size > vm.size - gpa) {
		errno = EFAULT;
		return snp_step(-1, "conversion out of range");
	}
	if (set_private(gpa, size, private))
		return -1;
	if (!private)
		return snp_vm_punch(&vm, gpa, size);
	return snp_step(madvise(memory_at(gpa), size, MADV_DONTNEED), "madvise");
}

static bool page_is_private(__u64 gpa)
{
	bool private;

	pthread_mutex_lock(&lock);
	private = private_pages[gpa / SNP_PAGE_SIZE];
	pthread_mutex_unlock(&lock);
	return private;
}

static void fill_tables(__u64 c_bit)
{
	__u64 *pml4 = memory_at(GUEST_PML4), *gdt = memory_at(GUEST_GDT);
	__u64 *private = memory_at(GUEST_PDPT_PRIVATE), *shared = memory_at(GUEST_PDPT_SHARED);
	__u64 i;

	pml4[0] = GUEST_PDPT_PRIVATE | PT_TABLE | c_bit;
	pml4[1] = GUEST_PDPT_SHARED | PT_TABLE | c_bit;
	for (i = 0; i < PT_ENTRIES; i++) {
		private[i] = i << 30 | PT_LARGE | c_bit;
		shared[i] = i << 30 | PT_LARGE;
	}
	gdt[GUEST_CS / 8] = GDT_CODE;
	gdt[GUEST_DS / 8] = GDT_DATA;
}

/* Zero if the guest's memory is not encrypted */
static __u64 get_c_bit(void)
{
	unsigned int eax, ebx, ecx, edx;

	if (type == GUEST_PLAIN || !__get_cpuid(CPUID_SEV, &eax, &ebx, &ecx, &edx))
		return 0;
	return 1ULL << (ebx & 0x3f);
}

static int fill_memory(void)
{
	size_t size = guest_image_end - guest_image;

	if (size > GUEST_IMAGE_END - GUEST_IMAGE) {
		errno = EFBIG;
		return snp_step(-1, "guest_code.bin");
	}
	fill_tables(get_c_bit());
	memcpy(memory_at(GUEST_IMAGE), guest_image, size);
	return 0;
}

/* Ends of the two ranges that a guest is launched with. */
static __u64 image_end(void)
{
	__u64 size = guest_image_end - guest_image;

	return (GUEST_IMAGE + size + SNP_PAGE_SIZE - 1) & ~(SNP_PAGE_SIZE - 1);
}

static __u64 stacks_end(void)
{
	return GUEST_STACKS + nr_vcpus * GUEST_STACK_SIZE;
}

/* Launch */

static int launch_update_sev(__u64 start, __u64 end)
{
	struct kvm_sev_launch_update_data data = {
		.uaddr = (uintptr_t)memory_at(start),
		.len = end - start,
	};

	return SNP_CMD(&vm, KVM_SEV_LAUNCH_UPDATE_DATA, &data);
}

static int launch_sev(void)
{
	struct kvm_sev_launch_start start = {
		.policy = type == GUEST_SEV_ES ? SEV_POLICY_ES : 0,
	};
	struct kvm_enc_region region = {
		.addr = (uintptr_t)vm.shared,
		.size = vm.size,
	};
	__u8 measurement[256];
	struct kvm_sev_launch_measure measure = {
		.uaddr = (uintptr_t)measurement,
		.len = sizeof(measurement),
	};

	/* The kernel must not move encrypted pages. */
	if (SNP_CMD(&vm, KVM_SEV_LAUNCH_START, &start) ||
	    SNP_IOCTL(vm.vm, KVM_MEMORY_ENCRYPT_REG_REGION, &region) ||
	    launch_update_sev(GUEST_PML4, image_end()) ||
	    launch_update_sev(GUEST_STACKS, stacks_end()))
		return -1;
	if (type == GUEST_SEV_ES && SNP_CMD(&vm, KVM_SEV_LAUNCH_UPDATE_VMSA, NULL))
		return -1;
	return SNP_CMD(&vm, KVM_SEV_LAUNCH_MEASURE, &measure) ||
	       SNP_CMD(&vm, KVM_SEV_LAUNCH_FINISH, NULL) ? -1 : 0;
}

/* The contents come from the half of the memory that is shared, and leave it. */
static int launch_update_snp(__u64 start, __u64 end)
{
	struct kvm_sev_snp_launch_update update = {
		.gfn_start = start / SNP_PAGE_SIZE,
		.uaddr = (uintptr_t)memory_at(start),
		.len = end - start,
		.type = KVM_SEV_SNP_PAGE_TYPE_NORMAL,
	};

	if (snp_launch_update(&vm, &update))
		return -1;
	return snp_step(madvise(memory_at(start), end - start, MADV_DONTNEED), "madvise");
}

static int launch_snp(void)
{
	struct kvm_enable_cap hypercalls = {
		.cap = KVM_CAP_EXIT_HYPERCALL,
		.args = { 1 << KVM_HC_MAP_GPA_RANGE },
	};

	return SNP_IOCTL(vm.vm, KVM_ENABLE_CAP, &hypercalls) ||
	       set_private(GUEST_MAILBOXES, GUEST_SHARED_END - GUEST_MAILBOXES, false) ||
	       launch_update_snp(GUEST_PML4, image_end()) ||
	       launch_update_snp(GUEST_STACKS, stacks_end()) ||
	       snp_launch_finish(&vm) ? -1 : 0;
}

static int set_cpuid(struct vcpu *v)
{
	static struct {
		struct kvm_cpuid2 header;
		struct kvm_cpuid_entry2 entries[MAX_CPUID];
	} cpuid;

	cpuid.header.nent = MAX_CPUID;
	if (SNP_IOCTL(vm.host->kvm, KVM_GET_SUPPORTED_CPUID, &cpuid.header))
		return -1;
	return SNP_IOCTL(v->fd, KVM_SET_CPUID2, &cpuid.header);
}

static void set_segment(struct kvm_segment *segment, __u16 selector, __u8 segment_type)
{
	*segment = (struct kvm_segment) {
		.limit = ~0U,
		.selector = selector,
		.type = segment_type,
		.present = 1,
		.s = 1,
		.l = segment_type == SEGMENT_CODE,
		.db = segment_type != SEGMENT_CODE,
		.g = 1,
	};
}

/* A SEV-ES or SNP vCPU has these until the end of the launch, which measures them. */
static int set_registers(struct vcpu *v)
{
	struct kvm_regs regs = {
		.rip = GUEST_IMAGE,
		.rdi = v->index,
		.rflags = RFLAGS_GUEST,
	};
	struct kvm_sregs sregs;

	if (SNP_IOCTL(v->fd, KVM_GET_SREGS, &sregs))
		return -1;
	set_segment(&sregs.cs, GUEST_CS, SEGMENT_CODE);
	set_segment(&sregs.ds, GUEST_DS, SEGMENT_DATA);
	sregs.es = sregs.ds;
	sregs.fs = sregs.ds;
	sregs.gs = sregs.ds;
	sregs.ss = sregs.ds;
	sregs.tr = (struct kvm_segment) { .limit = 0xffff, .type = SEGMENT_TSS, .present = 1 };
	sregs.gdt.base = GUEST_GDT;
	sregs.gdt.limit = SNP_PAGE_SIZE - 1;
	/* The guest brings one. Until then each exception is a shutdown. */
	sregs.idt.limit = 0;
	sregs.cr0 = CR0_GUEST;
	sregs.cr3 = GUEST_PML4 | get_c_bit();
	sregs.cr4 = CR4_GUEST;
	sregs.efer = EFER_GUEST;
	return SNP_IOCTL(v->fd, KVM_SET_SREGS, &sregs) ||
	       SNP_IOCTL(v->fd, KVM_SET_REGS, &regs) ? -1 : 0;
}

static int open_vcpu(struct vcpu *v, unsigned int index, int node)
{
	v->index = index;
	v->fd = vm.vcpus[index];
	v->node = node;
	v->box = memory_at(GUEST_MAILBOXES + index * GUEST_PAGE_SIZE);
	v->run = mmap(NULL, run_size, PROT_READ | PROT_WRITE, MAP_SHARED, v->fd, 0);
	if (v->run == MAP_FAILED)
		return snp_step(-1, "mmap of a vCPU");
	return set_cpuid(v) || set_registers(v) ? -1 : 0;
}

static int launch(const struct snp_host *host, __u64 memory, int node)
{
	unsigned int i;

	if (snp_vm_open_type(host, &vm, types[type].vm_type, memory, nr_vcpus))
		return -1;
	if (snp_step(mprotect(vm.shared, memory, PROT_READ | PROT_WRITE), "mprotect"))
		return -1;
	for (i = 0; i < nr_vcpus; i++) {
		if (open_vcpu(&vcpus[i], i, node))
			return -1;
	}
	/* Not the context page */
	if (type == GUEST_SNP && snp_launch_start(&vm, SNP_POLICY))
		return -1;
	if (snp_bind_memory(node) || fill_memory())
		return -1;
	if (type == GUEST_SNP ? launch_snp() : type != GUEST_PLAIN && launch_sev())
		return -1;
	/* What was shared before is garbage to an encrypted guest, and so the other way round. */
	for (i = 0; i < nr_vcpus; i++)
		vcpus[i].box->type = type;
	return snp_unbind_memory(node);
}

/* A vCPU at work */

static void ends(struct vcpu *v, const char *format, ...)
{
	va_list args;

	va_start(args, format);
	vsnprintf(v->problem, sizeof(v->problem), format, args);
	va_end(args);
}

/* The host program has to convert the page, as after PSC. Returns whether it was able to. */
static bool memory_fault(struct vcpu *v, unsigned int *same)
{
	bool private = v->run->memory_fault.flags & KVM_MEMORY_EXIT_FLAG_PRIVATE;
	__u64 gpa = v->run->memory_fault.gpa, size = v->run->memory_fault.size;

	if (gpa >= GUEST_FREE && gpa < vm.size && page_is_private(gpa) != private) {
		if (convert(gpa, size, private)) {
			ends(v, "%s", snp_strerror());
			return false;
		}
		v->implicit++;
		*same = 0;
		return true;
	}
	/* Another vCPU may have converted it meanwhile. */
	if (++*same < MAX_SAME_FAULTS)
		return true;
	ends(v, "no memory for the %s page %#llx", private ? "private" : "shared", gpa);
	return false;
}

static void hypercall(struct kvm_run *run)
{
	bool private = run->hypercall.args[2] & KVM_MAP_GPA_RANGE_ENCRYPTED;

	run->hypercall.ret = 0;
	if (run->hypercall.nr != KVM_HC_MAP_GPA_RANGE ||
	    convert(run->hypercall.args[0], run->hypercall.args[1] * SNP_PAGE_SIZE, private))
		run->hypercall.ret = EINVAL;
}

/* Whether the vCPU has told what it does next */
static bool guest_event(struct vcpu *v)
{
	struct kvm_run *run = v->run;
	__u32 event = 0;

	if (run->io.port == GUEST_PORT && run->io.direction == KVM_EXIT_IO_OUT && run->io.size == 4)
		memcpy(&event, (char *)run + run->io.data_offset, sizeof(event));
	if (event == GUEST_WAITS)
		return true;
	if (event == GUEST_DIED) {
		ends(v, "exception %llu, error code %#llx, CR2 %#llx, RIP %#llx", v->box->vector,
		     v->box->error, v->box->cr2, v->box->rip);
	} else if (event == GUEST_ENDED) {
		ends(v, "the guest has ended");
	} else {
		ends(v, "unexpected access to port %#x", run->io.port);
	}
	return false;
}

static bool exited(struct vcpu *v, bool *waits)
{
	struct kvm_run *run = v->run;

	switch (run->exit_reason) {
	case KVM_EXIT_IO:
		*waits = guest_event(v);
		return *waits;
	case KVM_EXIT_HYPERCALL:
		hypercall(run);
		return true;
	case KVM_EXIT_SYSTEM_EVENT:
		ends(v, "the guest has terminated itself: %#llx",
		     run->system_event.ndata ? run->system_event.data[0] : 0);
		return false;
	case KVM_EXIT_SHUTDOWN:
		ends(v, "shutdown");
		return false;
	case KVM_EXIT_FAIL_ENTRY:
		ends(v, "VMRUN has failed: %#llx",
		     run->fail_entry.hardware_entry_failure_reason);
		return false;
	}
	ends(v, "unexpected exit %u", run->exit_reason);
	return false;
}

/* Returns whether the vCPU waits for a command. Otherwise it has ended. */
static bool run_vcpu(struct vcpu *v)
{
	unsigned int same = 0;
	bool waits = false;
	int ret;

	while (!waits) {
		ret = ioctl(v->fd, KVM_RUN, 0);
		if (ret < 0 && errno == EFAULT && v->run->exit_reason == KVM_EXIT_MEMORY_FAULT) {
			if (!memory_fault(v, &same))
				return false;
			continue;
		}
		if (ret < 0 && (errno == EINTR || errno == EAGAIN)) {
			if (!v->closing)
				continue;
			ends(v, "closed");
			return false;
		}
		if (ret < 0) {
			ends(v, "KVM_RUN: %s", strerror(errno));
			return false;
		}
		same = 0;
		if (!exited(v, &waits))
			return false;
	}
	return true;
}

/* Memory comes from another node, or -1 for any, from now on. */
static bool rebind(struct vcpu *v, int from, int to)
{
	if (from == to || !(to < 0 ? snp_unbind_memory(from) : snp_bind_memory(to)))
		return true;
	ends(v, "%s", snp_strerror());
	return false;
}

static void *vcpu_thread(void *arg)
{
	struct vcpu *v = arg;
	int bound = -1, node;
	bool waits;

	pthread_mutex_lock(&lock);
	while (v->state == VCPU_RUNS) {
		node = v->node;
		pthread_mutex_unlock(&lock);

		waits = rebind(v, bound, node) && run_vcpu(v);
		bound = node;

		pthread_mutex_lock(&lock);
		v->state = waits ? VCPU_WAITS : VCPU_ENDED;
		pthread_cond_broadcast(&changed);
		while (v->state == VCPU_WAITS && !v->closing)
			pthread_cond_wait(&changed, &lock);
	}
	if (v->state == VCPU_WAITS)
		ends(v, "closed");
	v->state = VCPU_ENDED;
	pthread_cond_broadcast(&changed);
	pthread_mutex_unlock(&lock);
	return NULL;
}

static int start_threads(void)
{
	unsigned int i;

	for (i = 0; i < nr_vcpus; i++) {
		errno = pthread_create(&vcpus[i].thread, NULL, vcpu_thread, &vcpus[i]);
		if (errno)
			return snp_step(-1, "pthread_create");
		vcpus[i].started = true;
	}
	return 0;
}

/* A signal ends KVM_RUN, or @immediate_exit the next one. */
static void end_threads(void)
{
	unsigned int i;

	for (i = 0; i < nr_vcpus; i++) {
		if (!vcpus[i].started)
			continue;
		pthread_mutex_lock(&lock);
		vcpus[i].closing = true;
		vcpus[i].run->immediate_exit = 1;
		pthread_cond_broadcast(&changed);
		pthread_mutex_unlock(&lock);
		pthread_kill(vcpus[i].thread, SIGUSR1);
		pthread_join(vcpus[i].thread, NULL);
		vcpus[i].started = false;
		/* It holds the vCPU, and that the VM. */
		munmap(vcpus[i].run, run_size);
	}
}

static void interrupted(int sig)
{
	(void)sig;
}

/* Lines of stdin */

/* What follows "ok", and "error: " */
static char answer[256], reason[256];

/* Tells what the guest has done, whether or not that has failed. The lock is held. */
static const char *result(struct vcpu *v)
{
	static const char * const reasons[] = {
		[GUEST_NOT_VALIDATED] = "not validated",
		[GUEST_PSC_FAILED] = "PSC failed",
		[GUEST_PVALIDATE_FAILED] = "PVALIDATE failed",
		[GUEST_PVALIDATE_UNCHANGED] = "PVALIDATE changed nothing",
		[GUEST_RMPADJUST_FAILED] = "RMPADJUST failed",
		[GUEST_AP_FAILED] = "AP creation failed",
	};
	volatile struct guest_mailbox *box = v->box;
	__u64 status = box->status;

	if (v->state == VCPU_ENDED && !v->asked)
		return v->problem;
	snprintf(answer, sizeof(answer),
		 "done=%llu page=%#llx value=%#llx not-validated=%llu implicit=%u", box->done,
		 box->page, box->value, box->not_validated, v->implicit);
	if (v->state == VCPU_ENDED || status == GUEST_OK)
		return NULL;
	if (status >= ARRAY_SIZE(reasons))
		return "unknown status";
	snprintf(reason, sizeof(reason), "%s: page %#llx, value %#llx", reasons[status],
		 box->page, box->value);
	return reason;
}

/* Returns what is wrong, or NULL. */
static const char *wait_for(struct vcpu *v)
{
	const char *problem;

	pthread_mutex_lock(&lock);
	while (v->state == VCPU_RUNS)
		pthread_cond_wait(&changed, &lock);
	problem = result(v);
	pthread_mutex_unlock(&lock);
	return problem;
}

static const char *progress(struct vcpu *v)
{
	const char *problem;

	pthread_mutex_lock(&lock);
	problem = result(v);
	pthread_mutex_unlock(&lock);
	return problem;
}

static bool parse_page(const char *word, __u64 *gpa)
{
	return word && snp_parse_size(word, gpa) && *gpa >= GUEST_FREE && *gpa < vm.size;
}

static bool parse_range(char **words, __u64 *gpa, __u64 *size)
{
	return parse_page(words[0], gpa) && words[1] && snp_parse_size(words[1], size) &&
	       *size && *size <= vm.size - *gpa;
}

static bool parse_half(const char *word, volatile struct guest_mailbox *box)
{
	box->shared = word && !strcmp(word, "shared");
	return word && (box->shared || !strcmp(word, "private"));
}

static bool parse_method(const char *word, volatile struct guest_mailbox *box)
{
	box->method = word ? GUEST_BY_LIST : GUEST_BY_MSR;
	return !word || !strcmp(word, "list");
}

static bool parse_repeat(char **words, volatile struct guest_mailbox *box)
{
	__u64 stride = SNP_PAGE_SIZE;
	__s64 count = 1;

	if (words[0] && (!snp_parse_size(words[0], &stride) || !stride))
		return false;
	if (words[0] && words[1] && !parse_number(words[1], 0, INT64_MAX, &count))
		return false;
	box->stride = stride;
	box->count = count;
	return true;
}

enum operands {
	NO_OPERANDS,
	RANGE_METHOD,
	HALF_RANGE_METHOD,
	RANGE_BIT,
	PAGE_OPERAND,
	HALF_RANGE_REPEAT,
	RANGE_REPEAT_METHOD,
	VCPU_PAGE,
	VCPU_ONLY,
};

static const struct {
	const char *name;
	enum guest_command command;
	enum operands operands;
	bool snp_only;
	unsigned int max_words;
} commands[] = {
	{ "nop", GUEST_NOP, NO_OPERANDS, false, 0 },
	{ "private", GUEST_MAKE_PRIVATE, RANGE_METHOD, true, 3 },
	{ "shared", GUEST_MAKE_SHARED, RANGE_METHOD, true, 3 },
	{ "psc", GUEST_PSC, HALF_RANGE_METHOD, true, 4 },
	{ "pvalidate", GUEST_PVALIDATE, RANGE_BIT, true, 3 },
	{ "rmpadjust", GUEST_RMPADJUST, PAGE_OPERAND, true, 2 },
	{ "convert", GUEST_CONVERT, RANGE_REPEAT_METHOD, true, 5 },
	{ "write", GUEST_WRITE, HALF_RANGE_REPEAT, false, 5 },
	{ "read", GUEST_READ, HALF_RANGE_REPEAT, false, 5 },
	{ "create", GUEST_AP_CREATE, VCPU_PAGE, true, 2 },
	{ "destroy", GUEST_AP_DESTROY, VCPU_ONLY, true, 1 },
	{ "end", GUEST_END, NO_OPERANDS, false, 0 },
};

static bool parse_operands(enum operands operands, char **words,
			   volatile struct guest_mailbox *box)
{
	__u64 gpa = 0, size = 0;
	__s64 number = 0;
	bool ok = true;

	switch (operands) {
	case NO_OPERANDS:
		break;
	case RANGE_METHOD:
		ok = parse_range(words, &gpa, &size) && parse_method(words[2], box);
		break;
	case HALF_RANGE_METHOD:
		ok = parse_half(words[0], box) && parse_range(words + 1, &gpa, &size) &&
		     parse_method(words[3], box);
		break;
	case RANGE_BIT:
		ok = parse_range(words, &gpa, &size) && words[2] &&
		     parse_number(words[2], 0, 1, &number);
		break;
	case PAGE_OPERAND:
		ok = parse_page(words[0], &gpa) && words[1] &&
		     parse_number(words[1], 0, INT64_MAX, &number);
		break;
	case HALF_RANGE_REPEAT:
		ok = parse_half(words[0], box) && parse_range(words + 1, &gpa, &size) &&
		     parse_repeat(words + 3, box);
		break;
	case RANGE_REPEAT_METHOD:
		ok = parse_range(words, &gpa, &size) && parse_repeat(words + 2, box) &&
		     parse_method(words[2] && words[3] ? words[4] : NULL, box);
		break;
	case VCPU_PAGE:
		/* KVM refuses a VMSA at 2 MB, because of an erratum. */
		ok = words[0] && parse_number(words[0], 0, nr_vcpus - 1, &number) &&
		     parse_page(words[1], &gpa) && gpa % (2 << 20);
		box->vcpu = number;
		break;
	case VCPU_ONLY:
		ok = words[0] && parse_number(words[0], 0, nr_vcpus - 1, &number);
		box->vcpu = number;
		break;
	}
	box->gpa = gpa;
	box->size = size;
	box->operand = number;
	return ok;
}

static const char *start(struct vcpu *v, char **words, unsigned int nr)
{
	volatile struct guest_mailbox *box = v->box;
	unsigned int i;

	for (i = 0; i < ARRAY_SIZE(commands); i++) {
		if (nr && !strcmp(words[0], commands[i].name))
			break;
	}
	if (i == ARRAY_SIZE(commands))
		return "no such command of a vCPU";
	if (v->state == VCPU_RUNS)
		return "the vCPU runs, stop it first";
	if (v->state == VCPU_ENDED)
		return v->problem;
	if (commands[i].snp_only && type != GUEST_SNP)
		return "only an SNP guest can do that";
	if (nr - 1 > commands[i].max_words ||
	    !parse_operands(commands[i].operands, words + 1, box))
		return "bad operands";

	box->command = commands[i].command;
	box->stop = 0;
	box->done = 0;
	box->status = GUEST_OK;
	box->page = 0;
	box->value = 0;
	v->asked = commands[i].command == GUEST_END;

	pthread_mutex_lock(&lock);
	v->state = VCPU_RUNS;
	pthread_cond_broadcast(&changed);
	pthread_mutex_unlock(&lock);
	return NULL;
}

static const char *pin(struct vcpu *v, __s64 cpu)
{
	cpu_set_t set;

	CPU_ZERO(&set);
	CPU_SET(cpu, &set);
	errno = pthread_setaffinity_np(v->thread, sizeof(set), &set);
	return errno ? strerror(errno) : NULL;
}

static const char *bind(struct vcpu *v, int node)
{
	pthread_mutex_lock(&lock);
	v->node = node;
	pthread_mutex_unlock(&lock);
	return NULL;
}

static const char *obey_vcpu(struct vcpu *v, char **words, unsigned int nr)
{
	const char *command = words[0], *problem;
	__s64 number;

	if (!strcmp(command, "start"))
		return start(v, words + 2, nr - 2);
	if (!strcmp(command, "do")) {
		problem = start(v, words + 2, nr - 2);
		return problem ? problem : wait_for(v);
	}
	if (!strcmp(command, "wait") && nr == 2)
		return wait_for(v);
	if (!strcmp(command, "stop") && nr == 2) {
		v->box->stop = 1;
		return wait_for(v);
	}
	if (!strcmp(command, "progress") && nr == 2)
		return progress(v);
	if (!v->started)
		return "closed";
	if (!strcmp(command, "pin")) {
		if (nr != 3 || !parse_number(words[2], 0, CPU_SETSIZE - 1, &number))
			return "no such CPU";
		return pin(v, number);
	}
	if (!strcmp(command, "bind")) {
		if (nr != 3 || !parse_number(words[2], -1, INT32_MAX, &number))
			return "no such node";
		return bind(v, number);
	}
	return "bad operands";
}

static const char *punch(char **words, unsigned int nr)
{
	__u64 gpa, size;

	if (type != GUEST_SNP)
		return "only an SNP guest has private memory";
	if (nr != 3 || !parse_range(words + 1, &gpa, &size))
		return "bad range";
	return snp_vm_punch(&vm, gpa, size) ? snp_strerror() : NULL;
}

static const char *close_some(bool close_vm, bool close_memory)
{
	bool closed = false;

	if (close_vm) {
		end_threads();
		closed |= snp_vm_close_vcpus(&vm);
		closed |= snp_vm_close_vm(&vm);
	}
	if (close_memory)
		closed |= snp_vm_close_memory(&vm);
	return closed ? NULL : "closed already";
}

static bool is_of_vcpu(const char *command)
{
	static const char * const names[] = {
		"do", "start", "wait", "stop", "progress", "pin", "bind",
	};
	unsigned int i;

	for (i = 0; i < ARRAY_SIZE(names); i++) {
		if (!strcmp(command, names[i]))
			return true;
	}
	return false;
}

/* Returns what is wrong, or NULL. */
static const char *obey(char *line)
{
	char *words[MAX_WORDS + 1] = {}, *rest = line;
	unsigned int nr = 0;
	__s64 number;

	while (nr < MAX_WORDS && (words[nr] = strtok_r(rest, " \t\n", &rest)))
		nr++;
	if (!nr)
		return "no command";
	answer[0] = 0;
	if (is_of_vcpu(words[0])) {
		if (nr < 2 || !parse_number(words[1], 0, nr_vcpus - 1, &number))
			return "no such vCPU";
		return obey_vcpu(&vcpus[number], words, nr);
	}
	if (!strcmp(words[0], "punch"))
		return punch(words, nr);
	if (!strcmp(words[0], "close-memory"))
		return close_some(false, true);
	if (!strcmp(words[0], "close-vm"))
		return close_some(true, false);
	if (!strcmp(words[0], "close"))
		return close_some(true, true);
	return "no such command";
}

static void serve(void)
{
	const char *problem;
	char line[256];

	while (fgets(line, sizeof(line), stdin)) {
		if (!strcmp(line, "quit\n"))
			return;
		problem = obey(line);
		if (problem)
			printf("error: %s\n", problem);
		else
			printf("ok%s%s\n", answer[0] ? " " : "", answer);
	}
}

/* All vCPUs wait for a command. */
static bool all_wait(void)
{
	unsigned int i;

	for (i = 0; i < nr_vcpus; i++) {
		wait_for(&vcpus[i]);
		if (vcpus[i].state == VCPU_ENDED) {
			fprintf(stderr, "vCPU %u: %s\n", i, vcpus[i].problem);
			return false;
		}
	}
	return true;
}

static bool prepare(const struct snp_host *host, __u64 memory)
{
	struct sigaction action = { .sa_handler = interrupted };
	int ret;

	/* No SA_RESTART, so that KVM_RUN ends. */
	sigaction(SIGUSR1, &action, NULL);
	ret = SNP_IOCTL(host->kvm, KVM_GET_VCPU_MMAP_SIZE, 0);
	if (ret < 0)
		return false;
	run_size = ret;
	private_pages = malloc(memory / SNP_PAGE_SIZE);
	if (!private_pages) {
		errno = ENOMEM;
		snp_step(-1, "malloc");
		return false;
	}
	memset(private_pages, type == GUEST_SNP, memory / SNP_PAGE_SIZE);
	return true;
}

int main(int argc, char **argv)
{
	static const struct option options[] = {
		{ "type", required_argument, NULL, 't' },
		{ "memory", required_argument, NULL, 'm' },
		{ "node", required_argument, NULL, 'N' },
		{ "vcpus", required_argument, NULL, 'c' },
		{}
	};
	__u64 memory = 16 << 20;
	__s64 node = -1, number = 1;
	const char *problem;
	struct snp_host host;
	bool ok = true;
	int option;

	while ((option = getopt_long(argc, argv, "", options, NULL)) != -1) {
		switch (option) {
		case 't':
			ok &= parse_type(optarg);
			break;
		case 'm':
			ok &= snp_parse_size(optarg, &memory) && memory > GUEST_FREE &&
			      memory <= GUEST_MAX_MEMORY;
			break;
		case 'N':
			ok &= parse_number(optarg, 0, INT32_MAX, &node);
			break;
		case 'c':
			ok &= parse_number(optarg, 1, GUEST_MAX_VCPUS, &number);
			break;
		default:
			ok = false;
		}
	}
	if (!ok || optind != argc) {
		fputs(usage, stderr);
		return KSFT_FAIL;
	}
	nr_vcpus = number;

	problem = snp_host_open(&host);
	if (problem) {
		fprintf(stderr, "skip: %s\n", problem);
		return KSFT_SKIP;
	}

	/* The answers are read by a script, one by one. */
	setvbuf(stdout, NULL, _IOLBF, 0);

	if (!prepare(&host, memory) || launch(&host, memory, node) || start_threads()) {
		fprintf(stderr, "%s\n", snp_strerror());
		return KSFT_FAIL;
	}
	ok = all_wait();
	if (ok) {
		printf("ready\n");
		serve();
	}
	end_threads();
	snp_vm_close(&vm);
	return ok ? KSFT_PASS : KSFT_FAIL;
}
