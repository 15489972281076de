// SPDX-License-Identifier: GPL-2.0-only
/*
 * What the instructions must do, kept beside what they do: the RMP entries of the
 * pages that the tests use, the cores' tables, the cached verdicts, the counters.
 * Only one vCPU at a time may use it.
 */
#include "snp.h"

#define NR_2M 48
#define NR_REGIONS 16384
#define RAW_GPA 0x7fffffffff000ULL

struct entry {
	u64 gpa;
	u16 asid;
	u8 assigned, pagesize, immutable;
	/* VMSA and VALIDATED, which only firmware sets here. */
	u8 high;
};

static struct area {
	u64 pa;
	u32 assigned, fixed;
	/* By how much the count in memory is known to be wrong. */
	u64 skew;
	struct entry e[512];
} areas[NR_2M];

static u32 nr_areas;
static u8 verdicts[NR_REGIONS];
static struct { u64 base; u64 bits[32]; } cores[MAX_CPUS];
u64 rule_violations, write_violations, table_violations, dma_blocked;

static struct area *area_of(u64 pa)
{
	pa = ALIGN_DOWN(pa, SZ_2M);
	for (u32 i = 0; i < nr_areas; i++) {
		if (areas[i].pa == pa)
			return &areas[i];
	}
	return NULL;
}

static struct area *make_area(u64 pa)
{
	struct area *a = area_of(pa);

	if (a)
		return a;
	if (nr_areas == NR_2M)
		bail_out("the model has no room");
	a = &areas[nr_areas++];
	a->pa = ALIGN_DOWN(pa, SZ_2M);
	return a;
}

static struct entry *entry_of(u64 pa)
{
	return &make_area(pa)->e[pa >> 12 & 511];
}

static s64 bit_index(u32 core, u64 pa)
{
	u64 base = ALIGN_DOWN(cores[core].base, SZ_1G);

	if (pa < base || (pa - base) >> 30 >= 2048)
		return -1;
	return (pa - base) >> 30;
}

/* A disabled table has no bits, or is deaf. */
static void lose(u64 pa)
{
	verdicts[pa >> 30] = 0;
	for (u32 i = 0; i < nr_cpus; i++) {
		s64 n = bit_index(i, pa);

		if (cores[i].base & 1 && n >= 0)
			cores[i].bits[n / 64] &= ~BIT(n % 64);
	}
}

/* HV-Fixed. */
static bool is_fixed(const struct entry *e)
{
	return e->immutable && !e->assigned;
}

static void set_entry(struct area *a, u32 i, const struct entry *new)
{
	if ((new->assigned && !a->e[i].assigned) || (is_fixed(new) && !is_fixed(&a->e[i])))
		lose(a->pa);
	a->assigned += new->assigned - a->e[i].assigned;
	a->fixed += is_fixed(new) - is_fixed(&a->e[i]);
	a->e[i] = *new;
}

u32 model_update(u64 pa, const struct rmp_state *s, bool apply)
{
	u64 size = s->pagesize ? SZ_2M : SZ_4K;
	struct entry new = { s->gpa, s->asid, s->assigned, s->pagesize, s->immutable, 0 };
	struct area *a;
	struct entry *e;

	if (s->pagesize > 1 || pa & (size - 1) || !rmp_covers(pa, size) || is_rmp_memory(pa, size) ||
	    s->assigned > 1 || s->immutable > 1 || s->asid > 0x3ff ||
	    s->rsvd || (!s->assigned && (s->asid || s->immutable)) || s->gpa & (SZ_4K - 1) || s->gpa >> 51)
		return RMP_FAIL_INPUT;
	a = make_area(pa);
	e = entry_of(pa);
	if (s->pagesize) {
		for (u32 i = 0; i < 512; i++) {
			if (a->e[i].immutable)
				return RMP_FAIL_PERMISSION;
		}
		if (a->assigned && !a->e[0].pagesize)
			return RMP_FAIL_OVERLAP;
	} else {
		if (e->immutable)
			return RMP_FAIL_PERMISSION;
		if (a->e[0].assigned && a->e[0].pagesize)
			return RMP_FAIL_OVERLAP;
	}
	if (!apply)
		return RMP_OK;

	if (!new.assigned)
		memset(&new, 0, sizeof(new));
	if (!s->pagesize) {
		set_entry(a, pa >> 12 & 511, &new);
		return RMP_OK;
	}
	for (u32 i = 0; i < 512; i++) {
		set_entry(a, i, &new);
		if (new.assigned)
			new.gpa += SZ_4K;
	}
	return RMP_OK;
}

u32 model_psmash(u64 pa, bool apply)
{
	struct area *a;

	if (pa & (SZ_2M - 1) || !rmp_covers(pa, SZ_2M))
		return RMP_FAIL_INPUT;
	a = make_area(pa);
	if (!a->e[0].assigned || !a->e[0].pagesize)
		return RMP_FAIL_INPUT;
	if (a->e[0].immutable)
		return RMP_FAIL_PERMISSION;
	if (apply) {
		for (u32 i = 0; i < 512; i++)
			a->e[i].pagesize = 0;
	}
	return RMP_OK;
}

u64 model_raw(u64 pa)
{
	const struct entry *e = entry_of(pa);

	return e->assigned | e->pagesize << 1 | e->immutable << 2 | e->gpa | (u64)e->asid << 51 |
	       (u64)e->high << 61;
}

void model_put(u64 pa, u64 raw)
{
	struct entry new = {
		.gpa = raw & RAW_GPA, .asid = raw >> 51 & 0x3ff, .assigned = raw & 1,
		.pagesize = raw >> 1 & 1, .immutable = raw >> 2 & 1, .high = raw >> 61 & 3,
	};

	set_entry(make_area(pa), pa >> 12 & 511, &new);
}

void model_clear_rmp(void)
{
	for (u32 i = 0; i < nr_areas; i++) {
		areas[i].assigned = areas[i].fixed = areas[i].skew = 0;
		memset(areas[i].e, 0, sizeof(areas[i].e));
	}
}

void model_snp_init(bool clear)
{
	memset(verdicts, 0, sizeof(verdicts));
	for (u32 i = 0; i < MAX_CPUS; i++)
		memset(cores[i].bits, 0, sizeof(cores[i].bits));
	if (clear)
		model_clear_rmp();
}

static bool tables_are_kept(void)
{
	return flag_is("rmpopt-disabled-table", "keep");
}

static void change_base(u32 core, u64 value)
{
	bool stays_enabled = cores[core].base & value & 1;

	cores[core].base = value;
	if (stays_enabled || !tables_are_kept())
		memset(cores[core].bits, 0, sizeof(cores[core].bits));
}

void model_x86_shutdown(void)
{
	bool any = false;

	if (flag_is("shutdown-rmpopt-en", "keep"))
		return;
	for (u32 i = 0; i < nr_cpus; i++) {
		if (!(cores[i].base & 1))
			continue;
		change_base(i, cores[i].base & ~1ULL);
		any = true;
	}
	if (any && flag_on("journal"))
		print("# expect journal base-off -1 -1 0 0\n");
}

u32 check_raw(u64 pa)
{
	u32 bad = 0;

	pa = ALIGN_DOWN(pa, SZ_2M);
	for (u32 i = 0; i < 512; i++, pa += SZ_4K) {
		u64 raw = *rmp_raw(pa);

		if (raw == model_raw(pa))
			continue;
		if (!bad++)
			note("entry of %llx is %llx, expected %llx", pa, raw, model_raw(pa));
	}
	return bad;
}

static u64 count_of(const struct area *a)
{
	return ((u64)a->fixed << 32 | (a->e[0].pagesize ? 0 : a->assigned)) + a->skew;
}

u32 check_areas(void)
{
	u32 all = 0;

	for (u32 i = 0; i < nr_areas; i++) {
		struct area *a = &areas[i];
		u64 count = rmp_raw(a->pa)[1];
		u32 bad = check_raw(a->pa);

		if (count != count_of(a)) {
			note("count of %llx is %llx, expected %llx", a->pa, count, count_of(a));
			all++;
		}
		/* So that one fault does not show as many. */
		for (u32 k = 0; bad && k < 512; k++)
			model_put(a->pa + k * SZ_4K, *rmp_raw(a->pa + k * SZ_4K));
		a->skew += count - count_of(a);
		all += bad;
	}
	return all;
}

bool model_assigned(u64 pa)
{
	struct area *a = area_of(pa);

	return a && a->e[pa >> 12 & 511].assigned;
}

u32 model_assigned_in_2m(u64 pa)
{
	struct area *a = area_of(pa);

	return a ? a->assigned : 0;
}

/* What RMPREAD must write. */
void model_read(u64 pa, struct rmp_state *s)
{
	const struct entry *e = entry_of(pa);
	struct area *a = area_of(pa);

	memset(s, 0, sizeof(*s));
	s->gpa = e->gpa;
	s->assigned = e->assigned;
	s->pagesize = e->pagesize;
	if (a->assigned && !a->e[0].pagesize)
		s->pagesize |= 2;
	s->immutable = e->immutable;
	s->asid = e->asid;
}

/* The number of 2 MB entries up to the first that shows an assigned page, or 0. */
static u32 first_assigned(u64 region)
{
	u32 first = 0;

	for (u32 i = 0; i < nr_areas; i++) {
		u64 n = (areas[i].pa - region) / SZ_2M + 1;

		if ((areas[i].assigned || areas[i].fixed) && ALIGN_DOWN(areas[i].pa, SZ_1G) == region &&
		    (!first || n < first))
			first = n;
	}
	return first;
}

static bool optimize(u32 core, u64 pa, u64 fn, struct counts *c)
{
	s64 n = bit_index(core, pa);
	u64 *word = &cores[core].bits[(n < 0 ? 0 : n) / 64];
	u64 mask = BIT((n < 0 ? 0 : n) % 64);
	u32 first;

	if (fn == 1) {
		c->queries++;
		return cores[core].base & 1 && n >= 0 && *word & mask;
	}
	if (!(cores[core].base & 1) || n < 0 || !rmp_covers(pa, SZ_4K) || is_rmp_memory(pa, SZ_1G)) {
		c->failed++;
		/* Not of a page: only the emulator's choice. */
		c->failed_at = pa;
		if (cores[core].base & 1 && n >= 0 && pa < rmp_base && is_rmp_memory(pa, SZ_1G))
			c->failed_at = rmp_base;
		return false;
	}
	if (*word & mask || verdicts[pa >> 30]) {
		c->cached++;
		*word |= mask;
		return true;
	}
	first = first_assigned(pa);
	c->entries += first ? first : 512;
	if (first) {
		c->failed++;
		c->failed_at = pa + (first - 1) * SZ_2M;
		return false;
	}
	c->uncached++;
	verdicts[pa >> 30] = 1;
	*word |= mask;
	return true;
}

static void count_rule(struct cpu *cpu)
{
	rule_violations++;
	cpu->counts.rule++;
}

/* Which rule of RMPOPT is broken. A rule that is relaxed makes it answer CF = 0. */
static u32 rmpopt_rules(struct cpu *cpu, u64 pa, u64 fn)
{
	u32 vector = NO_TRAP;

	if (!has.rmpopt || !has.rmp)
		return VEC_UD;
	if (!snp_enabled()) {
		if (!flag_off("rmpopt-ud-snp-off"))
			vector = VEC_UD;
	} else if (!(cores[cpu->core].base & 1) && !flag_off("rmpopt-ud-base-off")) {
		vector = VEC_UD;
	}
	if (vector == NO_TRAP && ((pa & (SZ_1G - 1) && !flag_off("rmpopt-gp-unaligned")) ||
				  (fn > 1 && !flag_off("rmpopt-gp-function"))))
		vector = VEC_GP;
	if (vector != NO_TRAP) {
		count_rule(cpu);
		return vector;
	}
	if (snp_enabled() && cores[cpu->core].base & 1 && bit_index(cpu->core, pa) < 0) {
		count_rule(cpu);
		cpu->counts.outside++;
		if (flag_is("rmpopt-outside", "gp"))
			vector = VEC_GP;
	}
	return vector;
}

u32 rmpopt_trap(u64 pa, u64 fn, bool *cf)
{
	struct cpu *cpu = this_cpu();
	bool want_cf = false;
	struct outcome out;
	u32 want;

	want = rmpopt_rules(cpu, pa, fn);
	if (want == NO_TRAP && snp_enabled() && fn <= 1)
		want_cf = optimize(cpu->core, ALIGN_DOWN(pa, SZ_1G), fn, &cpu->counts);
	snp_run(OP_RMPOPT, pa, fn, KERNEL, &out);
	if (out.vector != want || (want == NO_TRAP && out.cf != want_cf)) {
		note("RMPOPT %llx function %llu on vCPU %u: vector %u CF %u, expected %u %u", pa, fn,
		     cpu->index, out.vector, out.cf, want, want_cf);
		bad_model++;
	}
	*cf = out.vector == NO_TRAP && out.cf;
	return out.vector;
}

bool rmpopt(u64 pa, u64 fn)
{
	bool cf;

	rmpopt_trap(pa, fn, &cf);
	return cf;
}

struct rmpopt_arg {
	u64 pa, fn;
	bool cf;
};

static void remote_rmpopt(void *p)
{
	struct rmpopt_arg *a = p;

	a->cf = rmpopt(a->pa, a->fn);
}

bool rmpopt_on(u32 cpu, u64 pa, u64 fn)
{
	struct rmpopt_arg a = { .pa = pa, .fn = fn };

	run_on(cpu, remote_rmpopt, &a);
	return a.cf;
}

bool model_optimized(u32 cpu, u64 pa)
{
	u32 core = cpu_ptr(cpu)->core;
	s64 n = bit_index(core, pa);

	return cores[core].base & 1 && n >= 0 && cores[core].bits[n / 64] & BIT(n % 64);
}

u32 rmpopt_base_vector(void)
{
	return rmpopt_base_moves() || flag_is("rmpopt-base-locked", "ignore") ? NO_TRAP : VEC_GP;
}

bool rmpopt_base_moves(void)
{
	return flag_off("rmpopt-base-locked");
}

u64 model_rmpopt_base(void)
{
	return cores[this_cpu()->core].base;
}

/* Bits of the core's table that are wrong. The emulator looks when it enables a table. */
static u32 wrong_bits(u32 core)
{
	u64 base = ALIGN_DOWN(cores[core].base, SZ_1G);
	u32 wrong = 0;

	for (u32 n = 0; n < 2048; n++) {
		u64 pa = base + n * SZ_1G;
		bool assigned = is_rmp_memory(pa, SZ_1G);

		if (!(cores[core].bits[n / 64] & BIT(n % 64)))
			continue;
		for (u32 i = 0; i < nr_areas; i++)
			assigned |= areas[i].assigned && ALIGN_DOWN(areas[i].pa, SZ_1G) == pa;
		wrong += assigned;
	}
	return wrong;
}

/* The vector that a write must get, once the model has taken it. */
static u32 base_rules(struct cpu *cpu, u64 value)
{
	u64 old = cores[cpu->core].base;
	bool snp = snp_enabled(), refused;
	const char *what = "base";

	if (!has.rmpopt || value & ~RMPOPT_BASE_VALID || (value & 1 && !(snp && has.segments)))
		return VEC_GP;
	refused = old & 1 && snp && value != old && !rmpopt_base_moves();
	if (refused) {
		what = rmpopt_base_vector() == VEC_GP ? "base-gp" : "base-ignored";
		count_rule(cpu);
		cpu->counts.base_refused++;
	} else {
		change_base(cpu->core, value);
		if (value & ~old & 1 && flag_on("audit"))
			table_violations += wrong_bits(cpu->core);
	}
	if (flag_on("journal"))
		print("# expect journal %s %u %u %llu %llu\n", what, machine_index(cpu->index),
		      machine_core(cpu->core), old, value);
	return refused ? rmpopt_base_vector() : NO_TRAP;
}

u32 set_rmpopt_base(u64 value)
{
	struct cpu *cpu = this_cpu();
	u32 want = base_rules(cpu, value), vector = try_wrmsr(MSR_RMPOPT_BASE, value);
	u64 now = 0;

	if (has.rmpopt)
		now = rdmsr(MSR_RMPOPT_BASE);
	if (vector != want || now != cores[cpu->core].base) {
		note("RMPOPT_BASE %llx on vCPU %u: vector %u, then %llx, expected %u, %llx", value,
		     cpu->index, vector, now, want, cores[cpu->core].base);
		bad_model++;
	}
	return vector;
}

u32 rmpupdate(u64 pa, const struct rmp_state *state)
{
	u32 want = model_update(pa, state, true);
	struct outcome out;

	if (snp_run(OP_RMPUPDATE, pa, (u64)state, KERNEL, &out) != NO_TRAP)
		return RMP_TRAPPED | out.vector;
	this_cpu()->counts.rmpupdate++;
	if (out.rax != want) {
		note("RMPUPDATE %llx {gpa %llx assigned %u size %u immutable %u asid %u} is %llu, expected %u",
		     pa, state->gpa, state->assigned, state->pagesize, state->immutable, state->asid,
		     out.rax, want);
		bad_model++;
	}
	return out.rax;
}

u32 update(u64 pa, u64 gpa, u32 assigned, u32 pagesize, u32 immutable, u32 asid)
{
	struct rmp_state s = {
		.gpa = gpa, .assigned = assigned, .pagesize = pagesize, .immutable = immutable,
		.asid = asid,
	};

	return rmpupdate(pa, &s);
}

u32 psmash(u64 pa)
{
	u32 want = model_psmash(pa, true);
	struct outcome out;

	if (snp_run(OP_PSMASH, pa, 0, KERNEL, &out) != NO_TRAP)
		return RMP_TRAPPED | out.vector;
	this_cpu()->counts.psmash++;
	if (out.rax != want) {
		note("PSMASH %llx is %llu, expected %u", pa, out.rax, want);
		bad_model++;
	}
	return out.rax;
}

static u32 change(u64 pa, bool assigned, bool large)
{
	struct rmp_state s = { .assigned = assigned, .pagesize = large };

	if (assigned) {
		s.gpa = pa;
		s.asid = 1;
	}
	return rmpupdate(pa, &s);
}

u32 assign_4k(u64 pa)
{
	return change(pa, true, false);
}

u32 free_4k(u64 pa)
{
	return change(pa, false, false);
}

u32 assign_2m(u64 pa)
{
	return change(pa, true, true);
}

u32 free_2m(u64 pa)
{
	return change(pa, false, true);
}

u32 free_all_4k(u64 pa)
{
	u32 rc = 0;

	for (u32 i = 0; i < 512; i++)
		rc |= free_4k(pa + i * SZ_4K);
	return rc;
}

static void print_core(u32 core)
{
	u32 id = machine_core(core);
	const char *comma = "";

	print("# expect core %u base %llu\n", id, cores[core].base);
	print("# expect core %u regions ", id);
	for (u32 i = 0; i < 2048; i++) {
		if (!(cores[core].bits[i / 64] & BIT(i % 64)))
			continue;
		print("%s%u", comma, i);
		comma = ",";
	}
	print("\n");
}

/* All regions with an assigned page or a core that has it optimized. */
static void print_regions(void)
{
	const char *comma = "";

	print("# expect regions ");
	for (u64 pa = 0; pa < NR_REGIONS * SZ_1G; pa += SZ_1G) {
		u32 assigned = 0, optimized = 0;

		for (u32 i = 0; i < nr_areas; i++) {
			if (ALIGN_DOWN(areas[i].pa, SZ_1G) == pa)
				assigned += areas[i].assigned;
		}
		for (u32 i = 0; i < nr_cpus; i++) {
			if (cpu_ptr(i)->core == i)
				optimized += model_optimized(i, pa);
		}
		if (!assigned && !optimized)
			continue;
		print("%s%llu:%u:%u", comma, pa, assigned, optimized);
		comma = ",";
	}
	print("\n");
}

/* What the rules of RMPOPT have to do with. */
void print_rmpopt_expectations(void)
{
	for (u32 i = 0; i < nr_cpus; i++) {
		const struct counts *c = &cpu_ptr(i)->counts;
		u32 n = machine_index(i);

		print("# expect vcpu %u violations-rule %llu\n", n, c->rule);
		print("# expect vcpu %u rmpopt-outside %llu\n", n, c->outside);
		print("# expect vcpu %u rmpopt-base-refused %llu\n", n, c->base_refused);
		if (cpu_ptr(i)->core == i)
			print_core(i);
	}
}

void print_expectations(void)
{
	for (u32 i = 0; i < nr_cpus; i++) {
		const struct counts *c = &cpu_ptr(i)->counts;
		u32 n = machine_index(i);

		print("# expect vcpu %u core %u\n", n, machine_core(i));
		print("# expect vcpu %u rmpopt-uncached %llu\n", n, c->uncached);
		print("# expect vcpu %u rmpopt-entries-read %llu\n", n, c->entries);
		print("# expect vcpu %u rmpopt-cached %llu\n", n, c->cached);
		print("# expect vcpu %u rmpopt-failed %llu\n", n, c->failed);
		print("# expect vcpu %u rmpopt-failed-at %llu\n", n, c->failed_at);
		print("# expect vcpu %u rmpopt-queries %llu\n", n, c->queries);
		print("# expect vcpu %u rmpupdate %llu\n", n, c->rmpupdate);
		print("# expect vcpu %u psmash %llu\n", n, c->psmash);
		print("# expect vcpu %u faults %llu\n", n, c->faults);
		print("# expect-min vcpu %u checked %llu\n", n, c->faults);
	}
	print_rmpopt_expectations();
	print_regions();
	print("# expect violations-rule %llu\n", rule_violations);
}
