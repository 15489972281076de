/*
 * AMD SEV-SNP host: the reverse map table (RMP) and the tables of RMPOPT
 *
 * What CPUs, IOMMU and PSP share. The instructions are in
 * target/i386/tcg/system/snp_helper.c.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "qemu/rcu_queue.h"
#include "hw/i386/amd_snp.h"
#include "cpu.h"
#include "trace.h"

SnpCoreList snp_cores = QTAILQ_HEAD_INITIALIZER(snp_cores);

RMPEntry *amd_snp_entry(AMDSNPHost *s, hwaddr pa)
{
    uint64_t segment = pa >> s->segment_shift;
    uint64_t page = (pa & MAKE_64BIT_MASK(0, s->segment_shift)) / RMP_PAGE_4K;

    if (segment >= s->segments || page >= s->segment_pages[segment]) {
        return NULL;
    }
    return (RMPEntry *)s->segment_host[segment] + page;
}

bool amd_snp_is_rmp(AMDSNPHost *s, hwaddr pa, uint64_t size)
{
    return pa < s->rmp_base + s->rmp_size && s->rmp_base < pa + size;
}

bool amd_snp_blocked(AMDSNPHost *s, hwaddr pa, uint64_t mapping)
{
    RMPEntry *entry;

    if (amd_snp_is_rmp(s, pa, 1)) {
        return true;
    }
    entry = amd_snp_entry(s, pa);
    if (!entry) {
        return false;
    }
    if (snp_entry_lo(entry) & RMP_ASSIGNED) {
        return true;
    }
    if (mapping < RMP_PAGE_2M) {
        return false;
    }
    entry = amd_snp_entry(s, QEMU_ALIGN_DOWN(pa, RMP_PAGE_2M));
    return snp_entry_count(entry);
}

static void snp_add_to_counts(RMPEntry *base, uint64_t n)
{
    if (n) {
        uint64_t hi = le64_to_cpu(qatomic_read(&base->hi));

        qatomic_set(&base->hi, cpu_to_le64(hi + n));
    }
}

void amd_snp_set_entry_perms(AMDSNPHost *s, hwaddr pa, uint64_t lo,
                             uint64_t perms)
{
    RMPEntry *entry = amd_snp_entry(s, pa);
    RMPEntry *base = amd_snp_entry(s, QEMU_ALIGN_DOWN(pa, RMP_PAGE_2M));
    uint64_t old = snp_entry_lo(entry);
    uint64_t hi;

    if ((lo & RMP_ASSIGNED) && !(old & RMP_ASSIGNED)) {
        amd_snp_clear_region(s, pa);
    }
    /* A large mapping must not miss what is assigned: the count is first */
    snp_add_to_counts(base, snp_entry_weight(lo));
    hi = le64_to_cpu(qatomic_read(&entry->hi)) & ~RMP_PERMS_MASK;
    qatomic_set(&entry->hi, cpu_to_le64(hi | perms));
    qatomic_set(&entry->lo, cpu_to_le64(lo));
    snp_add_to_counts(base, -snp_entry_weight(old));
}

void amd_snp_clear_rmp(AMDSNPHost *s)
{
    unsigned i;

    for (i = 0; i < s->segments; i++) {
        memset(s->segment_host[i], 0, s->segment_pages[i] * RMP_ENTRY_SIZE);
    }
}

bool amd_snp_dma_check(hwaddr pa, bool is_write)
{
    AMDSNPHost *s = amd_snp;
    bool blocked;

    if (!s || !qatomic_read(&s->enabled)) {
        return true;
    }
    blocked = amd_snp_blocked(s, pa & ~AMD_C_BIT, RMP_PAGE_4K);
    if (is_write) {
        qatomic_inc(&s->dma_checked);
        if (blocked) {
            qatomic_inc(&s->dma_blocked);
            trace_amd_snp_dma_blocked(pa);
        }
    }
    return !blocked;
}

void amd_snp_clear_region(AMDSNPHost *s, hwaddr pa)
{
    SnpCore *core;

    clear_bit(pa / RMPOPT_REGION_SIZE, s->verified);
    QTAILQ_FOREACH_RCU(core, &snp_cores, next) {
        uint64_t index = snp_table_index(core->base, pa);

        /* A table that is disabled may have bits, and does not listen */
        if ((core->base & RMPOPT_BASE_ENABLE) && index < RMPOPT_REGIONS &&
            test_bit(index, core->table)) {
            uint64_t region = QEMU_ALIGN_DOWN(pa, RMPOPT_REGION_SIZE);

            clear_bit_atomic(index, core->table);
            trace_amd_snp_core_clear(core->id, region);
            amd_snp_journal(SNP_JOURNAL_CLEAR, -1, core->id, region, 0, 0);
        }
    }
}

static void snp_clear_table(SnpCore *core)
{
    int i;

    for (i = 0; i < BITS_TO_LONGS(RMPOPT_REGIONS); i++) {
        qatomic_set(&core->table[i], 0);
    }
}

void amd_snp_clear_tables(AMDSNPHost *s)
{
    SnpCore *core;

    bitmap_zero(s->verified, s->regions);
    QTAILQ_FOREACH_RCU(core, &snp_cores, next) {
        snp_clear_table(core);
    }
    amd_snp_journal(SNP_JOURNAL_CLEAR_ALL, -1, -1, 0, 0, 0);
}

/* vCPUs' TLB entries stay: what has been checked holds until assigned */
void amd_snp_set_base(AMDSNPHost *s, SnpCore *core, uint64_t base)
{
    bool stays_enabled = core->base & base & RMPOPT_BASE_ENABLE;

    seqlock_write_begin(&core->seq);
    qatomic_set(&core->base, base);
    if (stays_enabled || s->rmpopt_disabled_table == RMPOPT_CLEAR) {
        snp_clear_table(core);
    }
    seqlock_write_end(&core->seq);
}

void amd_snp_disabled(AMDSNPHost *s)
{
    bool any = false;
    SnpCore *core;

    qatomic_set(&s->enabled, false);
    amd_snp_journal(SNP_JOURNAL_SNP_EN, -1, -1, 0, 0, 0);
    if (s->shutdown_rmpopt_en == RMPOPT_KEEP) {
        return;
    }
    QTAILQ_FOREACH_RCU(core, &snp_cores, next) {
        if (core->base & RMPOPT_BASE_ENABLE) {
            amd_snp_set_base(s, core, core->base & ~RMPOPT_BASE_ENABLE);
            any = true;
        }
    }
    if (any) {
        amd_snp_journal(SNP_JOURNAL_BASE_OFF, -1, -1, 0, 0, 0);
    }
}

SnpCore *amd_snp_get_core(uint32_t id)
{
    SnpCore *core;

    QTAILQ_FOREACH(core, &snp_cores, next) {
        if (core->id == id) {
            return core;
        }
    }
    core = g_new0(SnpCore, 1);
    core->id = id;
    seqlock_init(&core->seq);
    QTAILQ_INSERT_TAIL_RCU(&snp_cores, core, next);
    return core;
}
