/* SPDX-License-Identifier: GPL-2.0-only */
/* The small kernel under the tests: types, output, traps, vCPUs, memory. */
#ifndef BARE_KERNEL_H
#define BARE_KERNEL_H

#include "layout.h"

typedef unsigned char u8;
typedef signed char s8;
typedef unsigned short u16;
typedef unsigned int u32;
typedef unsigned long long u64;
typedef long long s64;
typedef _Bool bool;

#define true 1
#define false 0
#define NULL ((void *)0)
#define ARRAY_SIZE(a) (sizeof(a) / sizeof((a)[0]))
#define BIT(n) (1ULL << (n))
#define SZ_4K 0x1000ULL
#define SZ_1M 0x100000ULL
#define SZ_2M 0x200000ULL
#define SZ_1G 0x40000000ULL
#define ALIGN_DOWN(x, a) ((x) & ~((u64)(a) - 1))
#define __printf(a, b) __attribute__((format(printf, a, b)))
#define __unused __attribute__((unused))
#define __packed __attribute__((packed))
#define __aligned(n) __attribute__((aligned(n)))
#define __noreturn __attribute__((noreturn))

/*
 * Memory of the tests, whole regions of RAM above 4 GB. R0 and R1 are as they were
 * after each test; in R2 are immutable pages, which stay.
 */
#define R0 (4 * SZ_1G)
#define R1 (5 * SZ_1G)
#define R2 (6 * SZ_1G)

#define barrier() __asm__ volatile("" ::: "memory")

enum {
	VEC_NMI = 2,
	VEC_UD = 6,
	VEC_GP = 13,
	VEC_PF = 14,
	NO_TRAP = 256,
};

#define PF_P BIT(0)
#define PF_W BIT(1)
#define PF_U BIT(2)
#define PF_RMP BIT(31)

#define FL_CF BIT(0)
#define FL_PF BIT(2)
#define FL_AF BIT(4)
#define FL_ZF BIT(6)
#define FL_SF BIT(7)
#define FL_DF BIT(10)
#define FL_OF BIT(11)
#define FL_STATUS (FL_CF | FL_PF | FL_AF | FL_ZF | FL_SF | FL_OF)

struct regs {
	u64 rax, rcx, rdx, rbx, rbp, rsi, rdi;
	u64 r8, r9, r10, r11, r12, r13, r14, r15;
	u64 rflags;
};

_Static_assert(__builtin_offsetof(struct regs, rflags) == R_RFLAGS, "struct regs");

struct frame {
	u64 rax, rcx, rdx, rbx, rbp, rsi, rdi;
	u64 r8, r9, r10, r11, r12, r13, r14, r15;
	u64 vector, error, rip, cs, rflags, rsp, ss;
};

/* The last trap that was expected, or vector NO_TRAP. */
struct trap {
	u32 vector;
	u64 error;
	u64 cr2;
	u64 rip;
};

/* What a vCPU has done, by the names of the referee. */
struct counts {
	u64 uncached, entries, cached, failed, queries;
	/* Where the last verification has failed. */
	u64 failed_at;
	/* Violations of rules: all, and two kinds of them. */
	u64 rule, outside, base_refused;
	u64 rmpupdate, psmash, faults;
};

struct cpu {
	u32 index;
	u32 apicid;
	/* The first vCPU of the same core. */
	u32 core;
	u64 starts;
	struct trap trap;
	u64 saved_rsp;
	/* Length of the code in the block's code page; its RET is there. */
	u32 code_len;
	void (*volatile fn)(void *arg);
	void *volatile arg;
	volatile bool busy;
	/* The next NMI is none that the machine reports trouble with. */
	volatile bool nmi_expected;
	struct counts counts;
	u64 tss[13];
};

_Static_assert(sizeof(struct cpu) <= CPU_CODE, "struct cpu");

extern u8 cpu_blocks[];
extern u32 nr_cpus;

static inline struct cpu *cpu_ptr(u32 index)
{
	return (struct cpu *)(cpu_blocks + ((u64)index << CPU_SHIFT));
}

static inline struct cpu *this_cpu(void)
{
	u64 sp;

	__asm__ volatile("mov %%rsp, %0" : "=r"(sp));
	return (struct cpu *)ALIGN_DOWN(sp, CPU_SIZE);
}

/* boot.c */
extern const char *cmdline;
bool flag_is(const char *name, const char *value);
bool flag_off(const char *name);
bool flag_on(const char *name);
u64 flag_value(const char *name, u64 otherwise);
void *memset(void *p, int c, unsigned long n);
void *memcpy(void *to, const void *from, unsigned long n);
int memcmp(const void *a, const void *b, unsigned long n);
void print(const char *fmt, ...) __printf(1, 2);
void bail_out(const char *fmt, ...) __printf(1, 2) __noreturn;
void section(const char *name);
bool ok(bool good, const char *fmt, ...) __printf(2, 3);
/* is(): as ok(), and says both values if they differ. */
bool is(u64 got, u64 want, const char *fmt, ...) __printf(3, 4);
/* note(): a comment of a failure, at most a few of them in a section. */
void note(const char *fmt, ...) __printf(1, 2);
char serial_read(void);
/* Whether all of it is ordinary RAM by the loader's map. */
bool is_ram(u64 start, u64 size);
u64 ram_end(void);

/* main.c: what boot_main() starts when all vCPUs are up */
void run_tests(void);

/* host.c: what the test on the host does for the kernel */
/* Compares the expectations so far with the referee. */
void sync_referee(void);
/* Reads the kernel's memory, which is at the same physical address. */
void sha384(const void *data, u64 len, u8 out[48]);
/* Whether an attestation report is signed by the key that the machine says is its own. */
bool report_signed(const void *report);
/* R, S and public key of the ID block's signature, and of the signature of that key by another. */
void sign_id_block(const void *block, u8 numbers[8][48]);

/* trap.c */
void trap_init_cpu(struct cpu *cpu);
void trap_handler(struct frame *f);

/* smp.c */
void smp_init_bsp(void);
void smp_start(void);
void smp_restart(u32 index);
void ap_main(u32 index);
void boot_main(void);
void run_on(u32 index, void (*fn)(void *), void *arg);
void start_on(u32 index, void (*fn)(void *), void *arg);
void wait_for(u32 index);
void run_on_all(void (*fn)(void *), void *arg);
bool same_core(u32 a, u32 b);
/* A vCPU other than zero on the same core, or on another; 0 if there is none. */
u32 a_sibling(void);
u32 a_stranger(void);
u32 nr_cores(void);
/* The numbers by which the machine knows them: in the order of the APIC ids. */
u32 machine_index(u32 cpu);
u32 machine_core(u32 cpu);
void delay_us(u32 us);
/*
 * How often to ask whether something has happened, before it is given up: some minutes. Other
 * programs of the machine may keep a vCPU, or a device, from its work for seconds.
 */
#define PATIENCE	100000000
/* Pending until this vCPU opens interrupts: one now, or after so many ns, 0 for none; an NMI. */
void self_interrupt(void);
void timer_start(u32 count);
void self_nmi(void);
void take_interrupts(void);

/* mem.c */
#define PTE_P BIT(0)
#define PTE_W BIT(1)
#define PTE_U BIT(2)
#define PTE_A BIT(5)
#define PTE_D BIT(6)
#define PTE_PS BIT(7)
#define PTE_ALL (PTE_P | PTE_W | PTE_U | PTE_A | PTE_D)
void mem_init(void);
/* All by identity. Works for anything in the first terabytes. */
void *phys(u64 pa);
/* Maps into one of a few slots for the size and returns the address. */
void *map_4k(u32 slot, u64 pa, u64 flags);
void *map_2m(u32 slot, u64 pa, u64 flags);
void *map_1g(u32 slot, u64 pa, u64 flags);
/* A 2 MB slot that is mapped through the page table in the page given. */
void *map_table(u32 slot, u64 table_pa);
/* A 1 GB slot that is mapped through the page directory in the page given. */
void *map_directory(u32 slot, u64 table_pa);
void flush_tlb(void);
/* A clean 4 KB page of the kernel's own; never freed. */
void *new_page(void);

/* insn.c */
enum mode { KERNEL, USER, COMPAT };
u32 insn_run(const u8 *bytes, u32 len, struct regs *regs, enum mode mode);
void regs_fill(struct regs *regs);
/* The name of the first register other than RAX that differs, or NULL. */
const char *regs_differ(const struct regs *a, const struct regs *b);
u32 try_rdmsr(u32 msr, u64 *value);
u32 try_wrmsr(u32 msr, u64 value);
u64 rdmsr(u32 msr);

/* How memory is written in a test. */
enum store { STORE_8, STORE_1, STORE_CMPXCHG, STORE_XADD, STORE_MOVS, STORE_STOS, STORE_CMPXCHG16B,
	     NR_STORES };
extern const char *const store_names[];
/* All write the first bytes at p. The vector, NO_TRAP if the store was done. */
u32 try_store(void *p, u64 value, enum store how);
u32 try_store_user(void *p, u64 value);
u32 try_load(const void *p, u64 *value);
u32 try_load_user(const void *p, u64 *value);
u32 try_fetch(void *p);

static inline void outb(u16 port, u8 v)
{
	__asm__ volatile("outb %0, %1" :: "a"(v), "Nd"(port));
}

static inline u8 inb(u16 port)
{
	u8 v;

	__asm__ volatile("inb %1, %0" : "=a"(v) : "Nd"(port));
	return v;
}

static inline void outl(u16 port, u32 v)
{
	__asm__ volatile("outl %0, %1" :: "a"(v), "Nd"(port));
}

static inline u32 inl(u16 port)
{
	u32 v;

	__asm__ volatile("inl %1, %0" : "=a"(v) : "Nd"(port));
	return v;
}

static inline void outw(u16 port, u16 v)
{
	__asm__ volatile("outw %0, %1" :: "a"(v), "Nd"(port));
}

static inline void cpuid(u32 leaf, u32 sub, u32 r[4])
{
	__asm__ volatile("cpuid" : "=a"(r[0]), "=b"(r[1]), "=c"(r[2]), "=d"(r[3])
			 : "a"(leaf), "c"(sub));
}

static inline void pause(void)
{
	__asm__ volatile("pause" ::: "memory");
}

static inline void invlpg(const void *p)
{
	__asm__ volatile("invlpg (%0)" :: "r"(p) : "memory");
}

#define EXTABLE(from, to) \
	".pushsection .extable, \"a\"\n\t.quad " #from ", " #to "\n\t.popsection\n\t"

#endif
