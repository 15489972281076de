/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * What the fuzzer does to /dev/sev, KVM and the files around them. Each operation is a function
 * of four numbers. A program that reproduces a find is made of the start of this file and of
 * the functions that it calls.
 */
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>
#include <linux/kvm.h>
#include <linux/psp-sev.h>
#include <sys/ioctl.h>
#include <sys/mman.h>

#pragma GCC diagnostic ignored "-Wunused-parameter"
typedef unsigned long long u64;
#define VMS	8
#define MEMORY	(1 << 20)
#define PAGES(n)	((n) * 4096ULL)
#define ADDR(p)	((u64)(unsigned long)(p))
/* Two VMs belong to each thread, any thread may take the others. */
#define V(a)	((a) < 2 ? 2 * me + (a) : (a) % VMS)
#define VM	vm[V(a)]
#define MEM(n)	(mem + PAGES(n) % MEMORY)

static int kvm, sev, readonly, vm[VMS], gmem[VMS], vcpu[VMS];
static __thread int me;
/* The thread's own, twice the size: lengths count from any page of the first half. */
static __thread unsigned char *mem;

static void put(int *slot, int fd)
{
	fd = __atomic_exchange_n(slot, fd, __ATOMIC_SEQ_CST);
	if (fd >= 0)
		close(fd);
}

static void start(int thread)
{
	me = thread;
	/* Nothing else follows closely. */
	mem = mmap(NULL, 1 << 30, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	mprotect(mem, 2 * MEMORY, PROT_READ | PROT_WRITE);
}

static void open_all(void)
{
	kvm = open("/dev/kvm", O_RDWR);
	sev = open("/dev/sev", O_RDWR);
	readonly = open("/dev/sev", O_RDONLY);
	for (int i = 0; i < VMS; i++)
		vm[i] = gmem[i] = vcpu[i] = -1;
}

static void issue(int fd, unsigned int command, void *data)
{
	struct sev_issue_cmd arg = { .cmd = command, .data = ADDR(data) };

	ioctl(fd, SEV_ISSUE_CMD, &arg);
}

static void encrypt_op(int fd, unsigned int id, void *data)
{
	struct kvm_sev_cmd arg = { .id = id, .data = ADDR(data), .sev_fd = sev };

	ioctl(fd, KVM_MEMORY_ENCRYPT_OP, &arg);
}
/* Operations */

static void sev_command(u64 a, u64 b, u64 c, u64 d)
{
	issue(b ? readonly : sev, a, c ? MEM(d) : NULL);
}

static void sev_status(u64 a, u64 b, u64 c, u64 d)
{
	issue(readonly, a ? SNP_PLATFORM_STATUS : SEV_PLATFORM_STATUS, mem);
}

static void sev_csr(u64 a, u64 b, u64 c, u64 d)
{
	struct sev_user_data_pek_csr csr = { .address = ADDR(MEM(b)), .length = a };

	issue(sev, SEV_PEK_CSR, &csr);
}

static void sev_id(u64 a, u64 b, u64 c, u64 d)
{
	struct sev_user_data_get_id2 id = { .address = ADDR(MEM(b)), .length = a };

	issue(readonly, SEV_GET_ID2, &id);
}

static void sev_export(u64 a, u64 b, u64 c, u64 d)
{
	struct sev_user_data_pdh_cert_export export = {
		.pdh_cert_address = ADDR(MEM(c)), .pdh_cert_len = a,
		.cert_chain_address = ADDR(MEM(d)), .cert_chain_len = b,
	};

	issue(sev, SEV_PDH_CERT_EXPORT, &export);
}

static void sev_import(u64 a, u64 b, u64 c, u64 d)
{
	struct sev_user_data_pek_cert_import import = {
		.pek_cert_address = ADDR(MEM(c)), .pek_cert_len = a,
		.oca_cert_address = ADDR(MEM(d)), .oca_cert_len = b,
	};

	issue(sev, SEV_PEK_CERT_IMPORT, &import);
}

static void snp_config(u64 a, u64 b, u64 c, u64 d)
{
	struct sev_user_data_snp_config config = { .reported_tcb = a, .mask_chip_id = b,
						   .mask_chip_key = c, .rsvd = d };

	issue(sev, SNP_SET_CONFIG, &config);
}

static void snp_vlek(u64 a, u64 b, u64 c, u64 d)
{
	struct sev_user_data_snp_vlek_load load = {
		.len = a ? a : sizeof(load), .vlek_wrapped_version = b,
		.vlek_wrapped_address = ADDR(MEM(c)),
	};

	issue(sev, SNP_VLEK_LOAD, &load);
}

static void create_vm(u64 a, u64 b, u64 c, u64 d)
{
	put(&VM, ioctl(kvm, KVM_CREATE_VM, b));
}

static void create_vcpu(u64 a, u64 b, u64 c, u64 d)
{
	put(&vcpu[V(a)], ioctl(VM, KVM_CREATE_VCPU, b));
}

static void create_gmem(u64 a, u64 b, u64 c, u64 d)
{
	struct kvm_create_guest_memfd create = { .size = PAGES(b) + c, .flags = d };

	put(&gmem[V(a)], ioctl(VM, KVM_CREATE_GUEST_MEMFD, &create));
}

/* Of two VMs the memory of the second may be given to the first. */
static void set_region(u64 a, u64 b, u64 c, u64 d)
{
	struct kvm_userspace_memory_region2 region = {
		.flags = gmem[V(c)] < 0 ? 0 : KVM_MEM_GUEST_MEMFD, .slot = d,
		.memory_size = PAGES(b), .userspace_addr = ADDR(mem), .guest_memfd = gmem[V(c)],
	};

	ioctl(VM, KVM_SET_USER_MEMORY_REGION2, &region);
}

static void set_attributes(u64 a, u64 b, u64 c, u64 d)
{
	struct kvm_memory_attributes attributes = { .address = PAGES(b), .size = PAGES(c),
						    .attributes = d };

	ioctl(VM, KVM_SET_MEMORY_ATTRIBUTES, &attributes);
}

static void prefault(u64 a, u64 b, u64 c, u64 d)
{
	struct kvm_pre_fault_memory range = { .gpa = PAGES(b), .size = PAGES(c) };

	ioctl(vcpu[V(a)], KVM_PRE_FAULT_MEMORY, &range);
}

static void allocate(u64 a, u64 b, u64 c, u64 d)
{
	int mode = d ? FALLOC_FL_KEEP_SIZE : FALLOC_FL_KEEP_SIZE | FALLOC_FL_PUNCH_HOLE;

	fallocate(gmem[V(a)], mode, PAGES(b), PAGES(c));
}

static void sev_init(u64 a, u64 b, u64 c, u64 d)
{
	struct kvm_sev_init init = { .vmsa_features = c, .ghcb_version = d };

	encrypt_op(VM, b, &init);
}

static void snp_start(u64 a, u64 b, u64 c, u64 d)
{
	struct kvm_sev_snp_launch_start start = { .policy = b, .flags = c };

	encrypt_op(VM, KVM_SEV_SNP_LAUNCH_START, &start);
}

static void snp_update(u64 a, u64 b, u64 c, u64 d)
{
	struct kvm_sev_snp_launch_update update = { .gfn_start = b, .len = c, .type = d,
						    .uaddr = ADDR(MEM(b)) };

	encrypt_op(VM, KVM_SEV_SNP_LAUNCH_UPDATE, &update);
}

static void snp_finish(u64 a, u64 b, u64 c, u64 d)
{
	struct kvm_sev_snp_launch_finish finish = {
		.id_block_en = b, .auth_key_en = c, .flags = d,
		.id_block_uaddr = ADDR(mem), .id_auth_uaddr = ADDR(mem),
	};

	encrypt_op(VM, KVM_SEV_SNP_LAUNCH_FINISH, &finish);
}

static void sev_start(u64 a, u64 b, u64 c, u64 d)
{
	struct kvm_sev_launch_start start = { .policy = b, .handle = c };

	encrypt_op(VM, d ? KVM_SEV_RECEIVE_START : KVM_SEV_LAUNCH_START, &start);
}

static void sev_update(u64 a, u64 b, u64 c, u64 d)
{
	struct kvm_sev_launch_update_data update = { .uaddr = ADDR(MEM(b)), .len = c };

	encrypt_op(VM, KVM_SEV_LAUNCH_UPDATE_DATA, &update);
}

/* The structures of some commands begin like this one. */
static void sev_measure(u64 a, u64 b, u64 c, u64 d)
{
	struct kvm_sev_launch_measure measure = { .uaddr = ADDR(MEM(d)), .len = c };

	encrypt_op(VM, b, &measure);
}

/* Those of others like this one: header, guest's memory and data for transport */
static void sev_transport(u64 a, u64 b, u64 c, u64 d)
{
	struct kvm_sev_launch_secret secret = {
		.hdr_uaddr = ADDR(MEM(8)), .hdr_len = c, .guest_uaddr = ADDR(mem), .guest_len = d,
		.trans_uaddr = ADDR(MEM(16)), .trans_len = d,
	};

	encrypt_op(VM, b, &secret);
}

static void sev_debug(u64 a, u64 b, u64 c, u64 d)
{
	struct kvm_sev_dbg debug = { .src_uaddr = ADDR(mem) + b, .dst_uaddr = ADDR(MEM(32)) + b,
				     .len = c };

	encrypt_op(VM, d ? KVM_SEV_DBG_ENCRYPT : KVM_SEV_DBG_DECRYPT, &debug);
}

static void sev_region(u64 a, u64 b, u64 c, u64 d)
{
	struct kvm_enc_region region = { .addr = ADDR(MEM(b)), .size = PAGES(c) };

	ioctl(VM, d ? KVM_MEMORY_ENCRYPT_UNREG_REGION : KVM_MEMORY_ENCRYPT_REG_REGION, &region);
}

static void sev_context(u64 a, u64 b, u64 c, u64 d)
{
	struct kvm_enable_cap cap = {
		.cap = c ? KVM_CAP_VM_MOVE_ENC_CONTEXT_FROM : KVM_CAP_VM_COPY_ENC_CONTEXT_FROM,
		.args[0] = vm[V(b)],
	};

	ioctl(VM, KVM_ENABLE_CAP, &cap);
}

/* Registers of a vCPU, some of which are protected */
static void get_state(u64 a, u64 b, u64 c, u64 d)
{
	static const unsigned long requests[] = { KVM_GET_REGS, KVM_GET_SREGS, KVM_GET_FPU,
						  KVM_GET_LAPIC, KVM_SET_SREGS, KVM_SET_REGS };

	ioctl(vcpu[V(a)], requests[b % 6], mem);
}

static void touch(u64 a, u64 b, u64 c, u64 d)
{
	if (c)
		madvise(MEM(a), PAGES(b % 64), MADV_DONTNEED);
	else
		memset(MEM(a), d, PAGES(b % 64));
}

static void use_file(u64 a, u64 b, u64 c, u64 d)
{
	static const char *const files[] = {
		"/sys/kernel/debug/x86/rmpopt", "/sys/module/sev/parameters/rmpopt_delay_ms",
		"/sys/firmware/sev/vulnerabilities/supported_mitigations",
		"/sys/firmware/sev/vulnerabilities/verified_mitigations",
		"/sys/module/ccp/parameters/psp_init_on_probe",
		"/sys/module/kvm_amd/parameters/sev_snp",
		"/sys/bus/pci/devices/0000:00:02.0/bootloader_version",
		"/sys/bus/pci/devices/0000:00:02.0/fused_part",
		"/sys/fs/cgroup/host/misc.current", "/sys/fs/cgroup/misc.capacity",
	};
	int fd = open(files[a % 10], d ? O_RDWR : O_RDONLY);

	if (fd < 0)
		return;
	lseek(fd, c, SEEK_SET);
	if (d)
		dprintf(fd, "%llu\n", 20 + b % 64);
	else
		read(fd, mem, b % MEMORY);
	close(fd);
}

static void drop(u64 a, u64 b, u64 c, u64 d)
{
	int *slots[] = { vcpu, gmem, vm };

	put(&slots[b % 3][V(a)], -1);
}

/* At the end of a program */
static void drop_all(u64 a, u64 b, u64 c, u64 d)
{
	for (int i = 2 * me; i < 2 * me + 2; i++) {
		put(&vcpu[i], -1);
		put(&gmem[i], -1);
		put(&vm[i], -1);
	}
}
