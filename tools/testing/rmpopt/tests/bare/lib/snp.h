/* SPDX-License-Identifier: GPL-2.0-only */
/* The SNP instructions and MSRs, and a model of what they must do. */
#ifndef BARE_SNP_H
#define BARE_SNP_H

#include "kernel.h"

#define MSR_SYSCFG 0xc0010010
#define MSR_HWCR 0xc0010015
#define MSR_VM_HSAVE_PA 0xc0010117
#define MSR_SEV_STATUS 0xc0010131
#define MSR_RMP_BASE 0xc0010132
#define MSR_RMP_END 0xc0010133
#define MSR_RMP_CFG 0xc0010136
#define MSR_RMPOPT_BASE 0xc0010139

#define RMPOPT_BASE_VALID 0xfffffc0000001ULL

#define SYSCFG_MFDM BIT(19)
#define SYSCFG_MEM_ENC BIT(23)
#define SYSCFG_SNP_EN BIT(24)
#define SYSCFG_VMPL_EN BIT(25)

enum {
	RMP_OK = 0,
	RMP_FAIL_INPUT = 1,
	RMP_FAIL_PERMISSION = 2,
	RMP_FAIL_INUSE = 3,
	RMP_FAIL_OVERLAP = 4,
	/* Not a code: the instruction trapped. */
	RMP_TRAPPED = 0x1000,
};

enum op { OP_RMPUPDATE, OP_PSMASH, OP_RMPREAD, OP_RMPOPT, OP_PVALIDATE, OP_RMPADJUST, OP_RMPQUERY,
	  NR_OPS };

extern const u8 op_bytes[NR_OPS][4];
extern const char *const op_names[NR_OPS];

struct rmp_state {
	u64 gpa;
	u8 assigned, pagesize, immutable, rsvd;
	u32 asid;
};

struct features {
	bool snp, rmpread, segmented, rmpopt;
	/* RMP_CFG bit 0. */
	bool segments;
	/* Firmware gave the position of an RMP. */
	bool rmp;
};

extern struct features has;

struct outcome {
	u32 vector;
	struct trap trap;
	u64 rax;
	bool cf;
};

/* Faults of the instructions' side effects, found by snp_run(). */
extern u32 bad_regs, bad_flags, bad_model;

/* snp.c: the bare instruction. Counts nothing and knows nothing of the model. */
u32 snp_run(enum op op, u64 rax, u64 rcx, enum mode mode, struct outcome *out);
void snp_detect(void);
bool snp_enabled(void);
void snp_enable(void *unused);
/* RMP geometry. */
extern u64 rmp_base, rmp_end, rmp_cfg, rmp_memory_end;
bool rmp_covers(u64 pa, u64 size);
bool is_rmp_memory(u64 pa, u64 size);
volatile u64 *rmp_raw(u64 pa);

/* model.c: the instruction and the model together; a difference is bad_model. */
u32 rmpupdate(u64 pa, const struct rmp_state *state);
/* The same with each field by itself. */
u32 update(u64 pa, u64 gpa, u32 assigned, u32 pagesize, u32 immutable, u32 asid);
u32 psmash(u64 pa);
bool rmpopt(u64 pa, u64 fn);
/* The same on a vCPU. */
bool rmpopt_on(u32 cpu, u64 pa, u64 fn);
/* As rmpopt(), and tells the trap. */
u32 rmpopt_trap(u64 pa, u64 fn, bool *cf);
/* WRMSR of RMPOPT_BASE. Returns the vector. */
u32 set_rmpopt_base(u64 value);
/* What a WRMSR of an enabled RMPOPT_BASE gets: a vector; and whether it works. */
u32 rmpopt_base_vector(void);
bool rmpopt_base_moves(void);
u64 model_rmpopt_base(void);
/* Only the model's part, of what was done with snp_run() or in a race. */
u32 model_update(u64 pa, const struct rmp_state *state, bool apply);
u32 model_psmash(u64 pa, bool apply);
u64 model_raw(u64 pa);
bool model_assigned(u64 pa);
u32 model_assigned_in_2m(u64 pa);
void model_read(u64 pa, struct rmp_state *state);
/* Number of the pages of the 2 MB that differ from the model. */
u32 check_raw(u64 pa);
/* What the firmware does: one entry; tables and verdicts cleared, and all entries. */
void model_put(u64 pa, u64 raw);
void model_snp_init(bool clear);
/* SNP_EN goes off on all vCPUs; the RMP is cleared. */
void model_x86_shutdown(void);
void model_clear_rmp(void);
/* As check_raw() of all that the model knows, with the counts; then takes what is there. */
u32 check_areas(void);
bool model_optimized(u32 cpu, u64 pa);

u32 assign_4k(u64 pa);
u32 free_4k(u64 pa);
u32 assign_2m(u64 pa);
u32 free_2m(u64 pa);
u32 free_all_4k(u64 pa);

extern u64 rule_violations, write_violations, table_violations, dma_blocked;
void print_rmpopt_expectations(void);
void print_expectations(void);

#endif
