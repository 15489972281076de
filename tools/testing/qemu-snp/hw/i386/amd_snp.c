/*
 * AMD SEV-SNP host: the reverse map table (RMP) of a machine
 *
 * Stands for what the firmware of such a machine does, reserving the RMP and
 * programming its MSRs, and for what CPUs and IOMMU share. The instructions are
 * in target/i386/tcg/system/snp_helper.c.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "qemu/error-report.h"
#include "qemu/rcu_queue.h"
#include "qapi/error.h"
#include "qapi/visitor.h"
#include "exec/address-spaces.h"
#include "exec/memory.h"
#include "hw/acpi/aml-build.h"
#include "hw/boards.h"
#include "hw/i386/amd_snp.h"
#include "hw/i386/pc.h"
#include "hw/i386/x86.h"
#include "hw/pci/pci_device.h"
#include "hw/qdev-properties.h"
#include "migration/vmstate.h"
#include "system/numa.h"
#include "system/reset.h"
#include "system/tcg.h"
#include "cpu.h"
#include "e820_memory_layout.h"
#include "trace.h"

/* Between the start of the RMP and its first segment: RST and bookkeeping */
#define RMP_HEADER_SIZE         RMP_PAGE_2M

/* Reserved on AMD for HyperTransport, see pc_memory_init() */
#define AMD_HT_START            0xfd00000000ULL
#define AMD_HT_END              0x10000000000ULL

/* Kept free for an RMP with memory of its own */
#define OWN_RMP_SIZE            (32 * GiB)

/* Linux has struct pages for whole sections only */
#define SPARSE_ALIGN            (128 * MiB)

#define VIOLATIONS_REPORTED     64

/* Somebody who wants the journal reads it before it has so many entries */
#define JOURNAL_MAX             (1024 * 1024)

AMDSNPHost *amd_snp;
SnpCoreList snp_cores = QTAILQ_HEAD_INITIALIZER(snp_cores);

uint64_t *amd_snp_entry(AMDSNPHost *s, hwaddr pa)
{
    uint64_t segment = pa >> s->segment_shift;
    uint64_t page = (pa & MAKE_64BIT_MASK(0, s->segment_shift)) / RMP_PAGE_4K;

    if (segment >= s->segments || page >= s->segment_pages[segment]) {
        return NULL;
    }
    return (uint64_t *)(s->segment_host[segment] + page * RMP_ENTRY_SIZE);
}

bool amd_snp_is_rmp(AMDSNPHost *s, hwaddr pa, uint64_t size)
{
    return pa < s->rmp_base + s->rmp_size && s->rmp_base < pa + size;
}

bool amd_snp_blocked(AMDSNPHost *s, hwaddr pa, uint64_t mapping)
{
    uint64_t *entry;

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

/* What an entry counts for in the one of its 2 MB aligned page */
static uint64_t entry_weight(uint64_t lo)
{
    if (lo & RMP_ASSIGNED) {
        /* A 2 MB page is no 4 KB page */
        return lo & RMP_PAGE_SIZE_2M ? 0 : 1ULL << RMP_COUNT_ASSIGNED_SHIFT;
    }
    return lo & RMP_IMMUTABLE ? 1ULL << RMP_COUNT_FIXED_SHIFT : 0;
}

static void add_to_counts(uint64_t *base, uint64_t n)
{
    if (n) {
        qatomic_set(&base[1],
                    cpu_to_le64(le64_to_cpu(qatomic_read(&base[1])) + n));
    }
}

void amd_snp_set_entry(AMDSNPHost *s, hwaddr pa, uint64_t lo)
{
    uint64_t *entry = amd_snp_entry(s, pa);
    uint64_t *base = amd_snp_entry(s, QEMU_ALIGN_DOWN(pa, RMP_PAGE_2M));
    uint64_t old = snp_entry_lo(entry);

    if ((lo & RMP_ASSIGNED) && !(old & RMP_ASSIGNED)) {
        amd_snp_clear_region(s, pa);
    }
    /* A large mapping must not miss what is assigned: the count is first */
    add_to_counts(base, entry_weight(lo));
    qatomic_set(&entry[0], cpu_to_le64(lo));
    add_to_counts(base, -entry_weight(old));
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
            amd_snp_journal("clear", -1, core->id, region, 0, 0);
        }
    }
}

static void clear_table(SnpCore *core)
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
        clear_table(core);
    }
    amd_snp_journal("clear-all", -1, -1, 0, 0, 0);
}

/* vCPUs' TLB entries stay: what has been checked holds until assigned */
void amd_snp_set_base(AMDSNPHost *s, SnpCore *core, uint64_t base)
{
    bool stays_enabled = core->base & base & RMPOPT_BASE_ENABLE;

    seqlock_write_begin(&core->seq);
    qatomic_set(&core->base, base);
    if (stays_enabled || s->rmpopt_disabled_table == RMPOPT_CLEAR) {
        clear_table(core);
    }
    seqlock_write_end(&core->seq);
}

void amd_snp_disabled(AMDSNPHost *s)
{
    bool any = false;
    SnpCore *core;

    qatomic_set(&s->enabled, false);
    amd_snp_journal("snp-en", -1, -1, 0, 0, 0);
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
        amd_snp_journal("base-off", -1, -1, 0, 0, 0);
    }
}

void amd_snp_journal(const char *what, int cpu, int core, uint64_t address,
                     uint64_t value, uint64_t result)
{
    amd_snp_journal_event((SnpEvent) {
        .what = what, .cpu = cpu, .core = core,
        .address = address, .value = value, .result = result,
    });
}

void amd_snp_journal_event(SnpEvent event)
{
    AMDSNPHost *s = amd_snp;

    if (!s || !qatomic_read(&s->journal)) {
        return;
    }
    qemu_spin_lock(&s->journal_lock);
    event.at = qemu_clock_get_ns(QEMU_CLOCK_VIRTUAL);
    if (s->events->len < JOURNAL_MAX) {
        g_array_append_val(s->events, event);
    } else {
        s->journal_lost++;
    }
    qemu_spin_unlock(&s->journal_lock);
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

void amd_snp_violation(SnpViolation kind, int cpu_index, uint64_t pc,
                       hwaddr pa)
{
    static const char *const text[SNP_VIOLATION__MAX] = {
        [SNP_VIOLATION_WRITE] = "RMPOPT let a write to an assigned page pass",
        [SNP_VIOLATION_TABLE] = "region is optimized but has an assigned page",
        [SNP_VIOLATION_TLB] = "TLB allows writes to an assigned page",
        [SNP_VIOLATION_RULE] = "RMPOPT outside its rules",
        [SNP_VIOLATION_OUTSIDE] = "RMPOPT outside the core's window",
        [SNP_VIOLATION_BASE] = "write that changes an enabled RMPOPT_BASE",
    };
    AMDSNPHost *s = amd_snp;
    uint64_t n;

    qatomic_inc(&s->violations[kind]);
    n = qatomic_fetch_inc(&s->reported);
    if (n < VIOLATIONS_REPORTED) {
        error_report(TYPE_AMD_SNP_HOST ": violation: %s: vCPU %d RIP 0x%" PRIx64
                     " address 0x%" HWADDR_PRIx, text[kind], cpu_index, pc, pa);
    } else if (n == VIOLATIONS_REPORTED) {
        error_report(TYPE_AMD_SNP_HOST
                     ": further violations are counted, not reported");
    }
}

/* The referee: derives everything from the entries in RMP memory */

static void region_pages(AMDSNPHost *s, uint64_t region, uint64_t *assigned,
                         uint64_t *fixed)
{
    uint64_t pa = region * RMPOPT_REGION_SIZE;
    uint64_t end = pa + RMPOPT_REGION_SIZE;

    *assigned = 0;
    *fixed = 0;
    for (; pa < end; pa += RMP_PAGE_4K) {
        uint64_t *entry = amd_snp_entry(s, pa);
        uint64_t lo;

        if (!entry) {
            break;
        }
        lo = snp_entry_lo(entry);
        *assigned += lo & RMP_ASSIGNED;
        *fixed += !(lo & RMP_ASSIGNED) && (lo & RMP_IMMUTABLE);
    }
}

uint64_t amd_snp_region_assigned(AMDSNPHost *s, uint64_t region)
{
    uint64_t assigned, fixed;

    region_pages(s, region, &assigned, &fixed);
    return assigned;
}

/* Whether the counts that large mappings are checked with agree with the RMP */
static bool region_counts_agree(AMDSNPHost *s, uint64_t region)
{
    uint64_t pa = region * RMPOPT_REGION_SIZE;
    uint64_t end = pa + RMPOPT_REGION_SIZE;

    for (; pa < end; pa += RMP_PAGE_2M) {
        uint64_t *entry = amd_snp_entry(s, pa);
        uint64_t counts = 0;
        int i;

        if (!entry) {
            break;
        }
        for (i = 0; i < RMP_ENTRIES_2M; i++) {
            counts += entry_weight(snp_entry_lo(entry + 2 * i));
        }
        if (counts != le64_to_cpu(entry[1])) {
            return false;
        }
    }
    return true;
}

static unsigned region_optimized(hwaddr pa)
{
    unsigned n = 0;
    SnpCore *core;

    QTAILQ_FOREACH_RCU(core, &snp_cores, next) {
        uint64_t index = snp_table_index(core->base, pa);

        n += (core->base & RMPOPT_BASE_ENABLE) && index < RMPOPT_REGIONS &&
             test_bit(index, core->table);
    }
    return n;
}

static uint64_t audit_regions(AMDSNPHost *s)
{
    uint64_t region, wrong = 0;

    for (region = 0; region < s->regions; region++) {
        uint64_t pa = region * RMPOPT_REGION_SIZE;
        uint64_t n = 0;

        qemu_spin_lock(&s->lock);
        /* Before it is enabled the RMP is just memory */
        if (s->enabled && amd_snp_entry(s, pa)) {
            unsigned optimized = region_optimized(pa);

            if (optimized && (amd_snp_region_assigned(s, region) ||
                amd_snp_is_rmp(s, pa, RMPOPT_REGION_SIZE))) {
                n = optimized;
            } else if (!region_counts_agree(s, region)) {
                n = 1;
            }
        }
        qemu_spin_unlock(&s->lock);
        wrong += n;
        while (n--) {
            amd_snp_violation(SNP_VIOLATION_TABLE, -1, 0, pa);
        }
    }
    return wrong;
}

static void get_audit_now(Object *obj, Visitor *v, const char *name,
                          void *opaque, Error **errp)
{
    uint64_t wrong = audit_regions(AMD_SNP_HOST(obj));

    visit_type_uint64(v, name, &wrong, errp);
}

/* @opaque: the SnpViolation to begin with */
static void get_violations(Object *obj, Visitor *v, const char *name,
                           void *opaque, Error **errp)
{
    AMDSNPHost *s = AMD_SNP_HOST(obj);
    uint64_t sum = 0;
    int i;

    for (i = (uintptr_t)opaque; i < SNP_VIOLATION__MAX; i++) {
        sum += qatomic_read(&s->violations[i]);
    }
    visit_type_uint64(v, name, &sum, errp);
}

/* @opaque: offset of a uint64_t in AMDSNPHost */
static void get_counter(Object *obj, Visitor *v, const char *name,
                        void *opaque, Error **errp)
{
    uint64_t *counter = (void *)AMD_SNP_HOST(obj) + (uintptr_t)opaque;
    uint64_t value = qatomic_read(counter);

    visit_type_uint64(v, name, &value, errp);
}

/*
 * The lists below are output only: no list or struct exists in memory, which
 * visitors call a virtual walk.
 */
static void visit_u64(Visitor *v, const char *name, uint64_t value)
{
    visit_type_uint64(v, name, &value, &error_abort);
}

static void get_vcpus(Object *obj, Visitor *v, const char *name,
                      void *opaque, Error **errp)
{
    static const struct {
        const char *name;
        size_t offset;
    } counters[] = {
        { "rmpopt-uncached", offsetof(SnpCpuStats, rmpopt_uncached) },
        { "rmpopt-entries-read", offsetof(SnpCpuStats, rmpopt_entries_read) },
        { "rmpopt-cached", offsetof(SnpCpuStats, rmpopt_cached) },
        { "rmpopt-failed", offsetof(SnpCpuStats, rmpopt_failed) },
        { "rmpopt-failed-at", offsetof(SnpCpuStats, rmpopt_failed_at) },
        { "rmpopt-status", offsetof(SnpCpuStats, rmpopt_status) },
        { "rmpopt-outside", offsetof(SnpCpuStats, rmpopt_outside) },
        { "rmpopt-base-refused", offsetof(SnpCpuStats, rmpopt_base_refused) },
        { "violations-rule", offsetof(SnpCpuStats, violations_rule) },
        { "rmpupdate", offsetof(SnpCpuStats, rmpupdate) },
        { "psmash", offsetof(SnpCpuStats, psmash) },
        { "checked", offsetof(SnpCpuStats, checked) },
        { "skipped", offsetof(SnpCpuStats, skipped) },
        { "faults", offsetof(SnpCpuStats, faults) },
    };
    CPUState *cs;
    int i;

    if (!visit_start_list(v, name, NULL, 0, errp)) {
        return;
    }
    CPU_FOREACH(cs) {
        SnpCpu *snp = X86_CPU(cs)->snp;

        if (!snp) {
            continue;
        }
        visit_start_struct(v, NULL, NULL, 0, &error_abort);
        visit_u64(v, "index", cs->cpu_index);
        visit_u64(v, "core", snp->core->id);
        for (i = 0; i < ARRAY_SIZE(counters); i++) {
            uint64_t *value = (void *)&snp->stats + counters[i].offset;

            visit_u64(v, counters[i].name, qatomic_read(value));
        }
        visit_end_struct(v, NULL);
    }
    visit_end_list(v, NULL);
}

static void get_cores(Object *obj, Visitor *v, const char *name,
                      void *opaque, Error **errp)
{
    AMDSNPHost *s = AMD_SNP_HOST(obj);
    SnpCore *core;

    if (!visit_start_list(v, name, NULL, 0, errp)) {
        return;
    }
    QTAILQ_FOREACH_RCU(core, &snp_cores, next) {
        DECLARE_BITMAP(table, RMPOPT_REGIONS);
        uint64_t base;
        long index;

        qemu_spin_lock(&s->lock);
        base = core->base;
        bitmap_copy(table, core->table, RMPOPT_REGIONS);
        qemu_spin_unlock(&s->lock);

        visit_start_struct(v, NULL, NULL, 0, &error_abort);
        visit_u64(v, "core", core->id);
        visit_u64(v, "base", base);
        visit_start_list(v, "regions", NULL, 0, &error_abort);
        for (index = find_first_bit(table, RMPOPT_REGIONS);
             index < RMPOPT_REGIONS;
             index = find_next_bit(table, RMPOPT_REGIONS, index + 1)) {
            visit_u64(v, NULL, index);
        }
        visit_end_list(v, NULL);
        visit_end_struct(v, NULL);
    }
    visit_end_list(v, NULL);
}

static void get_regions(Object *obj, Visitor *v, const char *name,
                        void *opaque, Error **errp)
{
    AMDSNPHost *s = AMD_SNP_HOST(obj);
    uint64_t region;

    if (!visit_start_list(v, name, NULL, 0, errp)) {
        return;
    }
    for (region = 0; region < s->regions; region++) {
        uint64_t pa = region * RMPOPT_REGION_SIZE;
        bool rmp = amd_snp_is_rmp(s, pa, RMPOPT_REGION_SIZE);
        uint64_t assigned = 0, fixed = 0;
        unsigned optimized = 0;

        qemu_spin_lock(&s->lock);
        if (s->enabled) {
            region_pages(s, region, &assigned, &fixed);
            optimized = region_optimized(pa);
        }
        qemu_spin_unlock(&s->lock);
        if (!assigned && !fixed && !optimized && !rmp) {
            continue;
        }
        visit_start_struct(v, NULL, NULL, 0, &error_abort);
        visit_u64(v, "address", pa);
        visit_u64(v, "assigned", assigned);
        visit_u64(v, "fixed", fixed);
        visit_u64(v, "optimized", optimized);
        visit_type_bool(v, "rmp", &rmp, &error_abort);
        visit_end_struct(v, NULL);
    }
    visit_end_list(v, NULL);
}

/* Reading takes the entries away */
static void get_journal_entries(Object *obj, Visitor *v, const char *name,
                                void *opaque, Error **errp)
{
    AMDSNPHost *s = AMD_SNP_HOST(obj);
    GArray *events;
    unsigned i;

    qemu_spin_lock(&s->journal_lock);
    events = g_steal_pointer(&s->events);
    s->events = g_array_new(false, false, sizeof(SnpEvent));
    qemu_spin_unlock(&s->journal_lock);

    if (visit_start_list(v, name, NULL, 0, errp)) {
        for (i = 0; i < events->len; i++) {
            SnpEvent *event = &g_array_index(events, SnpEvent, i);
            int64_t cpu = event->cpu, core = event->core;
            char *what = (char *)event->what;

            visit_start_struct(v, NULL, NULL, 0, &error_abort);
            visit_type_int64(v, "at", &event->at, &error_abort);
            visit_type_str(v, "what", &what, &error_abort);
            visit_type_int64(v, "cpu", &cpu, &error_abort);
            visit_type_int64(v, "core", &core, &error_abort);
            visit_u64(v, "address", event->address);
            visit_u64(v, "value", event->value);
            visit_u64(v, "result", event->result);
            visit_u64(v, "entries", event->entries);
            visit_type_bool(v, "irqs", &event->irqs, &error_abort);
            visit_end_struct(v, NULL);
        }
        visit_end_list(v, NULL);
    }
    g_array_free(events, true);
}

static void get_held_rmpopt(Object *obj, Visitor *v, const char *name,
                            void *opaque, Error **errp)
{
    uint64_t held = 0;
    CPUState *cs;

    CPU_FOREACH(cs) {
        SnpCpu *snp = X86_CPU(cs)->snp;

        held += snp && snp->held;
    }
    visit_type_uint64(v, name, &held, errp);
}

static void set_hold_rmpopt(Object *obj, Visitor *v, const char *name,
                            void *opaque, Error **errp)
{
    CPUState *cs;
    uint64_t pa;

    if (!visit_type_uint64(v, name, &pa, errp)) {
        return;
    }
    if (pa % RMPOPT_REGION_SIZE && pa != UINT64_MAX) {
        error_setg(errp, "%s takes the start of a 1 GB region, or 0x%" PRIx64
                   " for none", name, UINT64_MAX);
        return;
    }
    /* Under the BQL, as is what a vCPU does before it waits */
    qatomic_set(&AMD_SNP_HOST(obj)->hold_rmpopt, pa);
    CPU_FOREACH(cs) {
        SnpCpu *snp = X86_CPU(cs)->snp;

        if (snp && snp->held) {
            snp->held = false;
            cs->halted = 0;
            qemu_cpu_kick(cs);
        }
    }
}

/* Places the RMP and the sparse RAM */

static uint64_t ram_end(void)
{
    X86MachineState *x86ms = X86_MACHINE(qdev_get_machine());
    uint64_t end = x86ms->below_4g_mem_size;

    if (x86ms->above_4g_mem_size) {
        end = x86ms->above_4g_mem_start + x86ms->above_4g_mem_size;
    }
    return end;
}

static uint64_t chunk_address(AMDSNPHost *s, unsigned i)
{
    return s->sparse_start + i * s->sparse_stride;
}

/* With memory encryption some of them are not for addresses */
static unsigned address_bits(void)
{
    return X86_CPU(first_cpu)->phys_bits - CPUID_8000_001F_EBX_REDUCED_BITS;
}

/* Within the address space, and not what AMD has reserved of it */
static bool range_is_usable(hwaddr address, uint64_t size)
{
    uint64_t limit = 1ULL << address_bits();

    return address < limit && limit - address >= size &&
           (address >= AMD_HT_END || AMD_HT_START >= address + size);
}

/* Off RAM and the window for 64-bit PCI BARs, which is 32 GB by default */
static uint64_t own_rmp_address(void)
{
    return pc_pci_hole64_start() + 32 * GiB;
}

static bool range_is_free(hwaddr address, uint64_t size)
{
    MemoryRegionSection section = memory_region_find(get_system_memory(),
                                                     address, size);

    if (!section.mr) {
        return true;
    }
    memory_region_unref(section.mr);
    return false;
}

static bool add_sparse_ram(AMDSNPHost *s, Error **errp)
{
    uint64_t limit = 1ULL << address_bits();
    unsigned i;

    if (!s->sparse_chunks) {
        return true;
    }
    if (!s->sparse_size || s->sparse_size % SPARSE_ALIGN ||
        s->sparse_stride % SPARSE_ALIGN || s->sparse_start % SPARSE_ALIGN) {
        error_setg(errp, "sparse-size, sparse-stride and sparse-start must be "
                   "multiples of 128M, and sparse-size not 0");
        return false;
    }
    if (s->sparse_stride < s->sparse_size) {
        error_setg(errp, "sparse-stride must not be less than sparse-size");
        return false;
    }
    if (!s->sparse_start) {
        s->sparse_start = QEMU_ALIGN_UP(own_rmp_address() + OWN_RMP_SIZE,
                                        s->sparse_stride);
    }
    if (s->sparse_start >= limit ||
        s->sparse_chunks > (limit - s->sparse_start) / s->sparse_stride + 1) {
        error_setg(errp, "%u sparse-chunks reach beyond the %u physical "
                   "address bits: take fewer or a smaller sparse-stride",
                   s->sparse_chunks, address_bits());
        return false;
    }
    s->chunks = g_new0(MemoryRegion, s->sparse_chunks);
    for (i = 0; i < s->sparse_chunks; i++) {
        g_autofree char *name = g_strdup_printf("sparse-ram%u", i);
        uint64_t address = chunk_address(s, i);

        if (!range_is_usable(address, s->sparse_size) ||
            !range_is_free(address, s->sparse_size)) {
            error_setg(errp, "sparse RAM chunk %u at 0x%" PRIx64 " is in the "
                       "way of something else: move sparse-start or "
                       "sparse-stride", i, address);
            return false;
        }
        if (!memory_region_init_ram_flags_nomigrate(&s->chunks[i], OBJECT(s),
                                                    name, s->sparse_size,
                                                    RAM_NORESERVE, errp)) {
            return false;
        }
        memory_region_add_subregion(get_system_memory(), address,
                                    &s->chunks[i]);
        e820_add_entry(address, s->sparse_size, E820_RAM);
    }
    return true;
}

/* Lets the RMP of every segment reach as far as there is memory in it */
static bool size_segments(AMDSNPHost *s, uint64_t address, uint64_t size,
                          Error **errp)
{
    uint64_t end = address + size;
    uint64_t segment_size = 1ULL << s->segment_shift;

    while (address < end) {
        uint64_t segment = address >> s->segment_shift;
        uint64_t start = segment << s->segment_shift;
        uint64_t stop = MIN(end, start + segment_size);
        uint64_t pages = ROUND_UP(stop - start, GiB) / RMP_PAGE_4K;

        if (segment >= RMP_RST_ENTRIES) {
            error_setg(errp, "%u segments of 0x%" PRIx64 " bytes do not reach "
                       "memory at 0x%" PRIx64 ": take a larger segment-size",
                       RMP_RST_ENTRIES, segment_size, address);
            return false;
        }
        s->segment_pages[segment] = MAX(s->segment_pages[segment], pages);
        s->segments = MAX(s->segments, segment + 1);
        address = stop;
    }
    return true;
}

static bool cover_memory(AMDSNPHost *s, Error **errp)
{
    X86MachineState *x86ms = X86_MACHINE(qdev_get_machine());
    unsigned i;

    if (!size_segments(s, 0, x86ms->below_4g_mem_size, errp) ||
        !size_segments(s, x86ms->above_4g_mem_start, x86ms->above_4g_mem_size,
                       errp)) {
        return false;
    }
    for (i = 0; i < s->sparse_chunks; i++) {
        if (!size_segments(s, chunk_address(s, i), s->sparse_size, errp)) {
            return false;
        }
    }
    return true;
}

static uint64_t table_size(AMDSNPHost *s)
{
    uint64_t size = RMP_HEADER_SIZE;
    unsigned i;

    if (!(s->rmp_cfg & RMP_CFG_SEGMENTED)) {
        /* Contiguous: entries follow the bookkeeping at once */
        return ROUND_UP(RMP_BOOKKEEPING_SIZE +
                        s->segment_pages[0] * RMP_ENTRY_SIZE, RMP_PAGE_2M);
    }
    for (i = 0; i < s->segments; i++) {
        size += s->segment_pages[i] * RMP_ENTRY_SIZE;
    }
    return size;
}

/* Takes memory for the RMP: of the machine's RAM, or its own */
static bool place_rmp(AMDSNPHost *s, Error **errp)
{
    X86MachineState *x86ms = X86_MACHINE(qdev_get_machine());
    MemoryRegionSection section;
    uint64_t end = ram_end();

    s->rmp_size = table_size(s);
    s->rmp_base = s->rmp_address;
    if (!s->rmp_base) {
        /*
         * The end of low RAM is where firmware puts its own tables, so then
         * the RMP gets memory of its own.
         */
        if (x86ms->above_4g_mem_size >= 2 * s->rmp_size) {
            s->rmp_base = QEMU_ALIGN_DOWN(end - s->rmp_size, RMP_PAGE_2M);
        } else {
            s->rmp_base = own_rmp_address();
        }
    }
    if (!range_is_usable(s->rmp_base, s->rmp_size)) {
        error_setg(errp, "no RMP of 0x%" PRIx64 " bytes can be at 0x%" PRIx64
                   ": choose another rmp-address", s->rmp_size, s->rmp_base);
        return false;
    }
    if (!(s->rmp_cfg & RMP_CFG_SEGMENTED)) {
        /* A contiguous RMP covers itself, and grows by that */
        do {
            s->rmp_size = table_size(s);
            if (!size_segments(s, s->rmp_base, s->rmp_size, errp)) {
                return false;
            }
        } while (s->rmp_size != table_size(s));
        if (!range_is_usable(s->rmp_base, s->rmp_size)) {
            error_setg(errp, "an RMP at 0x%" PRIx64 " that covers itself has "
                       "0x%" PRIx64 " bytes, which do not fit: choose another "
                       "rmp-address", s->rmp_base, s->rmp_size);
            return false;
        }
    }
    if (s->rmp_base % RMP_PAGE_2M) {
        error_setg(errp, "rmp-address must be a multiple of 2M");
        return false;
    }
    if (range_is_free(s->rmp_base, s->rmp_size)) {
        if (!memory_region_init_ram_flags_nomigrate(&s->rmp, OBJECT(s), "rmp",
                                                    s->rmp_size, RAM_NORESERVE,
                                                    errp)) {
            return false;
        }
        memory_region_add_subregion(get_system_memory(), s->rmp_base, &s->rmp);
        s->rmp_host = memory_region_get_ram_ptr(&s->rmp);
    } else {
        section = memory_region_find(get_system_memory(), s->rmp_base,
                                     s->rmp_size);
        if (!memory_region_is_ram(section.mr) ||
            memory_region_is_rom(section.mr) ||
            section.offset_within_address_space != s->rmp_base ||
            int128_get64(section.size) < s->rmp_size) {
            memory_region_unref(section.mr);
            error_setg(errp, "the RMP, 0x%" PRIx64 " bytes at 0x%" PRIx64
                       ", must be wholly in RAM or wholly in free address "
                       "space: choose another rmp-address", s->rmp_size,
                       s->rmp_base);
            return false;
        }
        s->rmp_host = memory_region_get_ram_ptr(section.mr) +
                      section.offset_within_region;
        memory_region_unref(section.mr);
    }
    e820_add_entry(s->rmp_base, s->rmp_size, E820_RESERVED);
    return true;
}

static void find_segments(AMDSNPHost *s)
{
    uint8_t *host = s->rmp_host + RMP_HEADER_SIZE;
    unsigned i;

    if (!(s->rmp_cfg & RMP_CFG_SEGMENTED)) {
        s->rmp_end = s->rmp_base + s->rmp_size - 1;
        s->segment_host[0] = s->rmp_host + RMP_BOOKKEEPING_SIZE;
        s->segment_pages[0] = QEMU_ALIGN_DOWN(
            (s->rmp_size - RMP_BOOKKEEPING_SIZE) / RMP_ENTRY_SIZE,
            RMP_ENTRIES_2M);
        return;
    }
    for (i = 0; i < s->segments; i++) {
        s->segment_host[i] = host;
        host += s->segment_pages[i] * RMP_ENTRY_SIZE;
    }
}

static void write_header(AMDSNPHost *s)
{
    uint8_t *rst = s->rmp_host + RMP_BOOKKEEPING_SIZE;
    unsigned i;

    memset(s->rmp_host, 0, RMP_BOOKKEEPING_SIZE);
    if (!(s->rmp_cfg & RMP_CFG_SEGMENTED)) {
        return;
    }
    memset(rst, 0, RMP_RST_ENTRIES * 8);
    for (i = 0; i < s->segments; i++) {
        uint64_t base = s->rmp_base + (s->segment_host[i] - s->rmp_host);

        if (s->segment_pages[i]) {
            stq_le_p(rst + i * 8,
                     base | s->segment_pages[i] / (GiB / RMP_PAGE_4K));
        }
    }
}

static void amd_snp_reset_hold(Object *obj, ResetType type)
{
    AMDSNPHost *s = AMD_SNP_HOST(obj);
    SnpCore *core;

    /* vCPUs are stopped; counters go on, so that nothing seen is forgotten */
    s->enabled = false;
    bitmap_zero(s->verified, s->regions);
    QTAILQ_FOREACH(core, &snp_cores, next) {
        core->base = 0;
        bitmap_zero(core->table, RMPOPT_REGIONS);
    }
    write_header(s);
}

static void amd_snp_realize(DeviceState *dev, Error **errp)
{
    MachineState *machine = MACHINE(qdev_get_machine());
    AMDSNPHost *s = AMD_SNP_HOST(dev);
    bool cpu_segmented, segmented;

    if (amd_snp) {
        error_setg(errp, "at most one " TYPE_AMD_SNP_HOST " is possible");
        return;
    }
    if (!tcg_enabled()) {
        error_setg(errp, TYPE_AMD_SNP_HOST " is emulated: it needs -accel tcg");
        return;
    }
    if (!object_dynamic_cast(OBJECT(machine), TYPE_PC_MACHINE)) {
        error_setg(errp, TYPE_AMD_SNP_HOST " needs a PC: -machine q35");
        return;
    }
    if (machine->maxram_size != machine->ram_size) {
        error_setg(errp, "the RMP cannot cover memory that comes later: "
                   "leave out maxmem of -m");
        return;
    }
    if (!X86_CPU(first_cpu)->snp) {
        warn_report("the CPU has no SEV-SNP: take -cpu EPYC-SNP");
    }
    cpu_segmented = X86_CPU(first_cpu)->env.features[FEAT_8000_001F_EAX] &
                    CPUID_8000_001F_EAX_SEGMENTED_RMP;
    segmented = s->segmented == ON_OFF_AUTO_AUTO ? cpu_segmented :
                s->segmented == ON_OFF_AUTO_ON;
    if (segmented && !cpu_segmented) {
        error_setg(errp, "segmented=on needs a CPU with segmented-rmp");
        return;
    }
    if (!is_power_of_2(s->segment_size) ||
        ctz64(s->segment_size) < CPUID_8000_0025_EAX_SHIFT_MIN ||
        ctz64(s->segment_size) > CPUID_8000_0025_EAX_SHIFT_MAX) {
        error_setg(errp, "segment-size must be a power of two from 1G to 4T");
        return;
    }
    if (segmented) {
        s->segment_shift = ctz64(s->segment_size);
        s->rmp_cfg = RMP_CFG_SEGMENTED |
                     (uint64_t)s->segment_shift << RMP_CFG_SHIFT_BIT;
    } else {
        s->segment_shift = TARGET_PHYS_ADDR_SPACE_BITS;
    }

    if (!add_sparse_ram(s, errp) || !cover_memory(s, errp) ||
        !place_rmp(s, errp)) {
        return;
    }
    find_segments(s);

    s->regions = DIV_ROUND_UP(s->segments == 1 ?
                              s->segment_pages[0] * RMP_PAGE_4K :
                              (uint64_t)s->segments << s->segment_shift,
                              RMPOPT_REGION_SIZE);
    s->verified = bitmap_new(s->regions);
    qemu_spin_init(&s->lock);

    /*
     * Nothing is encrypted, so memory is the same with the C-bit set. CPUs,
     * IOMMU and devices all find it there.
     */
    if (X86_CPU(first_cpu)->phys_bits > CPUID_8000_001F_EBX_C_BIT) {
        memory_region_init_alias(&s->c_bit, OBJECT(s), "c-bit",
                                 get_system_memory(), 0, AMD_C_BIT);
        memory_region_add_subregion(get_system_memory(), AMD_C_BIT, &s->c_bit);
    }

    /* On no bus, so nothing else resets it */
    qemu_register_resettable(OBJECT(s));
    amd_snp = s;
}

void amd_snp_build_srat(GArray *table_data, unsigned nodes)
{
    AMDSNPHost *s = amd_snp;
    unsigned i;

    /* Neighbours go to the same node */
    for (i = 0; s && nodes && i < s->sparse_chunks; i++) {
        build_srat_memory(table_data, chunk_address(s, i), s->sparse_size,
                          i * nodes / s->sparse_chunks, MEM_AFFINITY_ENABLED);
    }
}

static const VMStateDescription vmstate_amd_snp = {
    .name = TYPE_AMD_SNP_HOST,
    .unmigratable = 1,
};

/* Properties with named values. The error says which values there are. */

static void get_named(Object *obj, Visitor *v, const char *name, void *opaque,
                      Error **errp)
{
    const Property *prop = opaque;

    visit_type_enum(v, name, object_field_prop_ptr(obj, prop),
                    prop->info->enum_table, errp);
}

static void set_named_default(ObjectProperty *op, const Property *prop)
{
    object_property_set_default_str(op, qapi_enum_lookup(prop->info->enum_table,
                                                         prop->defval.i));
}

static void set_named(Object *obj, Visitor *v, const char *name, void *opaque,
                      Error **errp)
{
    const Property *prop = opaque;
    const QEnumLookup *lookup = prop->info->enum_table;
    int *field = object_field_prop_ptr(obj, prop);
    g_autofree char *text = NULL;
    int value;

    if (!visit_type_str(v, name, &text, errp)) {
        return;
    }
    value = qapi_enum_parse(lookup, text, -1, NULL);
    if (value < 0) {
        g_autofree char *values = g_strjoinv("|", (char **)lookup->array);

        error_setg(errp, "%s takes %s, not '%s'", name, values, text);
        return;
    }
    *field = value;
}

#define NAMED_VALUES(_prop, _description, ...)                              \
    static const char *const _prop##_values[] = { __VA_ARGS__, NULL };      \
    static const QEnumLookup _prop##_lookup = {                             \
        .array = _prop##_values,                                            \
        .size = ARRAY_SIZE(_prop##_values) - 1,                             \
    };                                                                      \
    static const PropertyInfo _prop = {                                     \
        .type = "str",                                                      \
        .description = _description,                                        \
        .enum_table = &_prop##_lookup,                                      \
        .get = get_named,                                                   \
        .set = set_named,                                                   \
        .set_default_value = set_named_default,                             \
    }

NAMED_VALUES(prop_base_locked, "WRMSR that changes an enabled RMPOPT_BASE "
             "while SNP_EN is set: gp (raises #GP), ignore, off (works)",
             [RMPOPT_BASE_LOCKED_GP] = "gp",
             [RMPOPT_BASE_LOCKED_IGNORE] = "ignore",
             [RMPOPT_BASE_LOCKED_OFF] = "off");
NAMED_VALUES(prop_disabled_table, "a core's table when RMPOPT_EN is cleared: "
             "clear (becomes empty), keep (and no RMPUPDATE clears its bits)",
             [RMPOPT_CLEAR] = "clear", [RMPOPT_KEEP] = "keep");
NAMED_VALUES(prop_shutdown_en, "RMPOPT_EN of all cores when SNP_SHUTDOWN_EX "
             "clears SNP_EN: clear, keep",
             [RMPOPT_CLEAR] = "clear", [RMPOPT_KEEP] = "keep");
NAMED_VALUES(prop_outside, "RMPOPT of an address outside of the core's window: "
             "cf0 (CF = 0), gp (raises #GP)",
             [RMPOPT_OUTSIDE_CF0] = "cf0", [RMPOPT_OUTSIDE_GP] = "gp");

static const Property amd_snp_properties[] = {
    DEFINE_PROP_ON_OFF_AUTO("segmented", AMDSNPHost, segmented,
                            ON_OFF_AUTO_AUTO),
    DEFINE_PROP_SIZE("segment-size", AMDSNPHost, segment_size, 64 * GiB),
    DEFINE_PROP_SIZE("rmp-address", AMDSNPHost, rmp_address, 0),
    DEFINE_PROP_UINT32("sparse-chunks", AMDSNPHost, sparse_chunks, 0),
    DEFINE_PROP_SIZE("sparse-size", AMDSNPHost, sparse_size, 128 * MiB),
    DEFINE_PROP_SIZE("sparse-start", AMDSNPHost, sparse_start, 0),
    DEFINE_PROP_SIZE("sparse-stride", AMDSNPHost, sparse_stride, 64 * GiB),
    DEFINE_PROP_BOOL("rmpopt-ud-snp-off", AMDSNPHost, rmpopt_ud_snp_off, true),
    DEFINE_PROP_BOOL("rmpopt-ud-base-off", AMDSNPHost, rmpopt_ud_base_off,
                     true),
    DEFINE_PROP_BOOL("rmpopt-gp-unaligned", AMDSNPHost, rmpopt_gp_unaligned,
                     true),
    DEFINE_PROP_BOOL("rmpopt-gp-function", AMDSNPHost, rmpopt_gp_function,
                     true),
    DEFINE_PROP_SIGNED("rmpopt-base-locked", AMDSNPHost, rmpopt_base_locked,
                       RMPOPT_BASE_LOCKED_GP, prop_base_locked,
                       RmpoptBaseLocked),
    DEFINE_PROP_SIGNED("rmpopt-disabled-table", AMDSNPHost,
                       rmpopt_disabled_table, RMPOPT_CLEAR,
                       prop_disabled_table, RmpoptClear),
    DEFINE_PROP_SIGNED("shutdown-rmpopt-en", AMDSNPHost, shutdown_rmpopt_en,
                       RMPOPT_CLEAR, prop_shutdown_en, RmpoptClear),
    DEFINE_PROP_SIGNED("rmpopt-outside", AMDSNPHost, rmpopt_outside,
                       RMPOPT_OUTSIDE_CF0, prop_outside, RmpoptOutside),
};

static bool get_audit(Object *obj, Error **errp)
{
    return AMD_SNP_HOST(obj)->audit;
}

static void set_audit(Object *obj, bool value, Error **errp)
{
    qatomic_set(&AMD_SNP_HOST(obj)->audit, value);
}

static bool get_journal(Object *obj, Error **errp)
{
    return AMD_SNP_HOST(obj)->journal;
}

static void set_journal(Object *obj, bool value, Error **errp)
{
    qatomic_set(&AMD_SNP_HOST(obj)->journal, value);
}

static void amd_snp_init(Object *obj)
{
    AMDSNPHost *s = AMD_SNP_HOST(obj);

    s->hold_rmpopt = UINT64_MAX;
    qemu_spin_init(&s->journal_lock);
    s->events = g_array_new(false, false, sizeof(SnpEvent));
}

static void amd_snp_finalize(Object *obj)
{
    g_array_free(AMD_SNP_HOST(obj)->events, true);
}

static void amd_snp_class_init(ObjectClass *oc, void *data)
{
    DeviceClass *dc = DEVICE_CLASS(oc);
    ResettableClass *rc = RESETTABLE_CLASS(oc);
    static const struct {
        const char *name;
        size_t offset;
    } counters[] = {
        { "violations-write",
          offsetof(AMDSNPHost, violations[SNP_VIOLATION_WRITE]) },
        { "violations-table",
          offsetof(AMDSNPHost, violations[SNP_VIOLATION_TABLE]) },
        { "violations-tlb",
          offsetof(AMDSNPHost, violations[SNP_VIOLATION_TLB]) },
        { "dma-checked", offsetof(AMDSNPHost, dma_checked) },
        { "dma-blocked", offsetof(AMDSNPHost, dma_blocked) },
        { "journal-lost", offsetof(AMDSNPHost, journal_lost) },
    };
    int i;

    dc->desc = "AMD SEV-SNP host: RMP and RMPOPT";
    dc->vmsd = &vmstate_amd_snp;
    dc->realize = amd_snp_realize;
    dc->hotpluggable = false;
    dc->user_creatable = true;
    set_bit(DEVICE_CATEGORY_MISC, dc->categories);
    device_class_set_props(dc, amd_snp_properties);
    rc->phases.hold = amd_snp_reset_hold;

    object_class_property_add_bool(oc, "audit", get_audit, set_audit);
    object_class_property_set_description(oc, "audit",
        "search all TLBs after each RMPUPDATE that assigns");
    object_class_property_add_bool(oc, "journal", get_journal, set_journal);
    object_class_property_set_description(oc, "journal",
        "write RMPOPT, RMPOPT_BASE and the PSP's commands to journal-entries");
    object_class_property_add(oc, "journal-entries", "list",
                              get_journal_entries, NULL, NULL, NULL);
    object_class_property_add(oc, "hold-rmpopt", "uint64", get_counter,
                              set_hold_rmpopt, NULL,
                              (void *)offsetof(AMDSNPHost, hold_rmpopt));
    object_class_property_set_description(oc, "hold-rmpopt",
        "region at which RMPOPT waits");
    object_class_property_add(oc, "held-rmpopt", "uint64", get_held_rmpopt,
                              NULL, NULL, NULL);
    object_class_property_add(oc, "audit-now", "uint64", get_audit_now,
                              NULL, NULL, NULL);
    object_class_property_set_description(oc, "audit-now",
        "compare all tables with the RMP: number of differences");
    object_class_property_add(oc, "violations", "uint64", get_violations,
                              NULL, NULL, NULL);
    object_class_property_add(oc, "violations-rule", "uint64", get_violations,
                              NULL, NULL,
                              (void *)(uintptr_t)SNP_VIOLATION_RULE);
    for (i = 0; i < ARRAY_SIZE(counters); i++) {
        object_class_property_add(oc, counters[i].name, "uint64", get_counter,
                                  NULL, NULL, (void *)counters[i].offset);
    }
    object_class_property_add(oc, "vcpus", "list", get_vcpus, NULL, NULL, NULL);
    object_class_property_add(oc, "cores", "list", get_cores, NULL, NULL, NULL);
    object_class_property_add(oc, "regions", "list", get_regions, NULL, NULL,
                              NULL);
}

/*
 * Linux remaps interrupts only if the southbridge's IOAPIC is part of a PCI
 * function at the address that the IVRS gives, 00:14.0, and needs that for APIC
 * ids above 255. Its class is all that is looked at.
 */
#define TYPE_AMD_FCH_SMBUS "amd-fch-smbus"

static void amd_fch_smbus_realize(PCIDevice *dev, Error **errp)
{
    pci_config_set_interrupt_pin(dev->config, 0);
}

static void amd_fch_smbus_class_init(ObjectClass *oc, void *data)
{
    DeviceClass *dc = DEVICE_CLASS(oc);
    PCIDeviceClass *k = PCI_DEVICE_CLASS(oc);

    k->realize = amd_fch_smbus_realize;
    k->vendor_id = PCI_VENDOR_ID_AMD;
    k->device_id = 0x790b;
    k->class_id = PCI_CLASS_SERIAL_SMBUS;
    dc->desc = "AMD FCH SMBus function, without function";
    dc->hotpluggable = false;
    set_bit(DEVICE_CATEGORY_MISC, dc->categories);
}

static const TypeInfo amd_snp_types[] = {
    {
        .name = TYPE_AMD_SNP_HOST,
        .parent = TYPE_DEVICE,
        .instance_size = sizeof(AMDSNPHost),
        .instance_init = amd_snp_init,
        .instance_finalize = amd_snp_finalize,
        .class_init = amd_snp_class_init,
    },
    {
        .name = TYPE_AMD_FCH_SMBUS,
        .parent = TYPE_PCI_DEVICE,
        .instance_size = sizeof(PCIDevice),
        .class_init = amd_fch_smbus_class_init,
        .interfaces = (InterfaceInfo[]) {
            { INTERFACE_CONVENTIONAL_PCI_DEVICE },
            { },
        },
    },
};

DEFINE_TYPES(amd_snp_types)
