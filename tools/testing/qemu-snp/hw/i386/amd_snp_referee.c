/*
 * AMD SEV-SNP host: the referee
 *
 * Tells what the emulated hardware has in its tables and what it was asked to
 * do, as properties of the device. It does not rely on what software says: what
 * is assigned is read from the entries in RMP memory each time.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "qemu/cutils.h"
#include "qemu/error-report.h"
#include "qemu/rcu_queue.h"
#include "qapi/error.h"
#include "qapi/qapi-visit-amd-snp.h"
#include "qapi/visitor.h"
#include "hw/i386/amd_snp.h"
#include "cpu.h"

#define VIOLATIONS_REPORTED     64

/* Somebody who wants the journal reads it before it has so many entries */
#define JOURNAL_MAX             (1024 * 1024)

void amd_snp_journal(AmdSnpJournalKind what, int cpu, int core,
                     uint64_t address, uint64_t value, uint64_t result)
{
    amd_snp_journal_event((AmdSnpJournalEntry) {
        .what = what, .cpu = cpu, .core = core,
        .address = address, .value = value, .result = result,
    });
}

void amd_snp_journal_event(AmdSnpJournalEntry event)
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

void amd_snp_violation(SnpViolation kind, int cpu_index, uint64_t pc,
                       hwaddr pa)
{
    static const char *const text[SNP_VIOLATION__MAX] = {
        [SNP_VIOLATION_WRITE] = "RMPOPT let a write to an assigned page pass",
        [SNP_VIOLATION_TABLE] = "region is optimized but has an assigned page",
        [SNP_VIOLATION_TLB] = "TLB allows writes to an assigned page",
        [SNP_VIOLATION_GUEST] = "TLB allows a guest what the RMP does not",
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

static void snp_region_pages(AMDSNPHost *s, uint64_t region, uint64_t *assigned,
                             uint64_t *fixed)
{
    uint64_t pa = region * RMPOPT_REGION_SIZE;
    uint64_t end = pa + RMPOPT_REGION_SIZE;

    *assigned = 0;
    *fixed = 0;
    for (; pa < end; pa += RMP_PAGE_4K) {
        RMPEntry *entry = amd_snp_entry(s, pa);
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

    snp_region_pages(s, region, &assigned, &fixed);
    return assigned;
}

/* Whether the counts that large mappings are checked with agree with the RMP */
static bool snp_region_counts_agree(AMDSNPHost *s, uint64_t region)
{
    uint64_t pa = region * RMPOPT_REGION_SIZE;
    uint64_t end = pa + RMPOPT_REGION_SIZE;

    for (; pa < end; pa += RMP_PAGE_2M) {
        RMPEntry *entry = amd_snp_entry(s, pa);
        uint64_t counts = 0;
        int i;

        if (!entry) {
            break;
        }
        for (i = 0; i < RMP_ENTRIES_2M; i++) {
            counts += snp_entry_weight(snp_entry_lo(entry + i));
        }
        if (counts != (le64_to_cpu(entry->hi) & RMP_COUNTS_MASK)) {
            return false;
        }
    }
    return true;
}

static unsigned snp_region_optimized(hwaddr pa)
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

static uint64_t snp_audit_regions(AMDSNPHost *s)
{
    uint64_t region, wrong = 0;

    for (region = 0; region < s->regions; region++) {
        uint64_t pa = region * RMPOPT_REGION_SIZE;
        uint64_t n = 0;

        qemu_spin_lock(&s->lock);
        /* Before it is enabled the RMP is just memory */
        if (s->enabled && amd_snp_entry(s, pa)) {
            unsigned optimized = snp_region_optimized(pa);

            if (optimized && (amd_snp_region_assigned(s, region) ||
                amd_snp_is_rmp(s, pa, RMPOPT_REGION_SIZE))) {
                n = optimized;
            } else if (!snp_region_counts_agree(s, region)) {
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

static void snp_get_audit_now(Object *obj, Visitor *v, const char *name,
                              void *opaque, Error **errp)
{
    uint64_t wrong = snp_audit_regions(AMD_SNP_HOST(obj));

    visit_type_uint64(v, name, &wrong, errp);
}

/* @opaque: the SnpViolation to begin with */
static void snp_get_violations(Object *obj, Visitor *v, const char *name,
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
static void snp_get_counter(Object *obj, Visitor *v, const char *name,
                            void *opaque, Error **errp)
{
    uint64_t *counter = (void *)AMD_SNP_HOST(obj) + (uintptr_t)opaque;
    uint64_t value = qatomic_read(counter);

    visit_type_uint64(v, name, &value, errp);
}

static void snp_get_vcpus(Object *obj, Visitor *v, const char *name,
                          void *opaque, Error **errp)
{
    g_autoptr(AmdSnpVcpuList) list = NULL;
    AmdSnpVcpuList **tail = &list;
    CPUState *cs;

    CPU_FOREACH(cs) {
        SnpCpu *snp = X86_CPU(cs)->snp;
        AmdSnpVcpu *vcpu;

        if (!snp) {
            continue;
        }
        vcpu = g_new0(AmdSnpVcpu, 1);
        vcpu->index = cs->cpu_index;
        vcpu->core = snp->core->id;
        vcpu->rmpopt_uncached = qatomic_read(&snp->stats.rmpopt_uncached);
        vcpu->rmpopt_entries_read =
            qatomic_read(&snp->stats.rmpopt_entries_read);
        vcpu->rmpopt_cached = qatomic_read(&snp->stats.rmpopt_cached);
        vcpu->rmpopt_failed = qatomic_read(&snp->stats.rmpopt_failed);
        vcpu->rmpopt_failed_at = qatomic_read(&snp->stats.rmpopt_failed_at);
        vcpu->rmpopt_queries = qatomic_read(&snp->stats.rmpopt_queries);
        vcpu->rmpopt_outside = qatomic_read(&snp->stats.rmpopt_outside);
        vcpu->rmpopt_base_refused =
            qatomic_read(&snp->stats.rmpopt_base_refused);
        vcpu->violations_rule = qatomic_read(&snp->stats.violations_rule);
        vcpu->rmpupdate = qatomic_read(&snp->stats.rmpupdate);
        vcpu->psmash = qatomic_read(&snp->stats.psmash);
        vcpu->checked = qatomic_read(&snp->stats.checked);
        vcpu->skipped = qatomic_read(&snp->stats.skipped);
        vcpu->faults = qatomic_read(&snp->stats.faults);
        vcpu->interrupts = qatomic_read(&snp->stats.interrupts);
        vcpu->vmrun_sev = qatomic_read(&snp->stats.vmrun_sev);
        vcpu->vmrun_sev_es = qatomic_read(&snp->stats.vmrun_sev_es);
        vcpu->vmrun_snp = qatomic_read(&snp->stats.vmrun_snp);
        vcpu->vc = qatomic_read(&snp->stats.vc);
        vcpu->pvalidate = qatomic_read(&snp->stats.pvalidate);
        vcpu->rmpadjust = qatomic_read(&snp->stats.rmpadjust);
        vcpu->guest_checked = qatomic_read(&snp->stats.guest_checked);
        vcpu->guest_faults = qatomic_read(&snp->stats.guest_faults);
        vcpu->guest_not_validated =
            qatomic_read(&snp->stats.guest_not_validated);
        QAPI_LIST_APPEND(tail, vcpu);
    }
    visit_type_AmdSnpVcpuList(v, name, &list, errp);
}

static void snp_get_cores(Object *obj, Visitor *v, const char *name,
                          void *opaque, Error **errp)
{
    AMDSNPHost *s = AMD_SNP_HOST(obj);
    g_autoptr(AmdSnpCoreList) list = NULL;
    AmdSnpCoreList **tail = &list;
    SnpCore *core;

    QTAILQ_FOREACH_RCU(core, &snp_cores, next) {
        AmdSnpCore *entry = g_new0(AmdSnpCore, 1);
        uint32List **regions = &entry->regions;
        DECLARE_BITMAP(table, RMPOPT_REGIONS);
        long index;

        entry->core = core->id;
        qemu_spin_lock(&s->lock);
        entry->base = core->base;
        bitmap_copy(table, core->table, RMPOPT_REGIONS);
        qemu_spin_unlock(&s->lock);

        for (index = find_first_bit(table, RMPOPT_REGIONS);
             index < RMPOPT_REGIONS;
             index = find_next_bit(table, RMPOPT_REGIONS, index + 1)) {
            QAPI_LIST_APPEND(regions, index);
        }
        QAPI_LIST_APPEND(tail, entry);
    }
    visit_type_AmdSnpCoreList(v, name, &list, errp);
}

static void snp_get_regions(Object *obj, Visitor *v, const char *name,
                            void *opaque, Error **errp)
{
    AMDSNPHost *s = AMD_SNP_HOST(obj);
    g_autoptr(AmdSnpRegionList) list = NULL;
    AmdSnpRegionList **tail = &list;
    uint64_t region;

    for (region = 0; region < s->regions; region++) {
        g_autofree AmdSnpRegion *entry = g_new0(AmdSnpRegion, 1);

        entry->address = region * RMPOPT_REGION_SIZE;
        entry->rmp = amd_snp_is_rmp(s, entry->address, RMPOPT_REGION_SIZE);
        qemu_spin_lock(&s->lock);
        if (s->enabled) {
            snp_region_pages(s, region, &entry->assigned, &entry->fixed);
            entry->optimized = snp_region_optimized(entry->address);
        }
        qemu_spin_unlock(&s->lock);
        if (entry->assigned || entry->fixed || entry->optimized ||
            entry->rmp) {
            QAPI_LIST_APPEND(tail, g_steal_pointer(&entry));
        }
    }
    visit_type_AmdSnpRegionList(v, name, &list, errp);
}

/* Reading takes the entries away */
static void snp_get_journal_entries(Object *obj, Visitor *v, const char *name,
                                    void *opaque, Error **errp)
{
    AMDSNPHost *s = AMD_SNP_HOST(obj);
    g_autofree AmdSnpJournalEntryList *nodes = NULL;
    AmdSnpJournalEntryList *list;
    g_autoptr(GArray) events = NULL;
    unsigned i;

    qemu_spin_lock(&s->journal_lock);
    events = g_steal_pointer(&s->events);
    s->events = g_array_new(false, false, sizeof(AmdSnpJournalEntry));
    qemu_spin_unlock(&s->journal_lock);

    /* A list of what is in the array: there may be very many entries */
    nodes = g_new0(AmdSnpJournalEntryList, events->len);
    for (i = 0; i < events->len; i++) {
        nodes[i].value = &g_array_index(events, AmdSnpJournalEntry, i);
        nodes[i].next = i + 1 < events->len ? &nodes[i + 1] : NULL;
    }
    list = events->len ? nodes : NULL;
    visit_type_AmdSnpJournalEntryList(v, name, &list, errp);
}

static void snp_get_held_rmpopt(Object *obj, Visitor *v, const char *name,
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

static void snp_set_hold_rmpopt(Object *obj, Visitor *v, const char *name,
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

uint32_t amd_snp_rmpupdate_failure(AMDSNPHost *s)
{
    SnpFailure *failure = &s->rmpupdate_failure;

    if (!failure->left || ++failure->seen < failure->every) {
        return 0;
    }
    failure->seen = 0;
    failure->left--;
    return failure->code;
}

static char *snp_get_rmpupdate_fail(Object *obj, Error **errp)
{
    AMDSNPHost *s = AMD_SNP_HOST(obj);
    SnpFailure failure;

    qemu_spin_lock(&s->lock);
    failure = s->rmpupdate_failure;
    qemu_spin_unlock(&s->lock);
    if (!failure.left) {
        return g_strdup("");
    }
    return g_strdup_printf("%u:%u:%u", failure.code, failure.every,
                           failure.left);
}

static void snp_set_rmpupdate_fail(Object *obj, const char *value,
                                   Error **errp)
{
    g_auto(GStrv) part = g_strsplit(value, ":", -1);
    SnpFailure failure = { .left = UINT_MAX };
    unsigned parts = g_strv_length(part);
    AMDSNPHost *s = AMD_SNP_HOST(obj);

    if (!parts) {
        failure.left = 0;
    } else if (parts < 2 || parts > 3 || strchr(value, '-') ||
               qemu_strtoui(part[0], NULL, 0, &failure.code) ||
               qemu_strtoui(part[1], NULL, 0, &failure.every) ||
               (parts == 3 && qemu_strtoui(part[2], NULL, 0, &failure.left)) ||
               !failure.code || !failure.every || !failure.left) {
        error_setg(errp, "rmpupdate-fail takes CODE:EVERY[:COUNT], none of "
                   "them 0, or \"\" for none");
        return;
    }
    qemu_spin_lock(&s->lock);
    s->rmpupdate_failure = failure;
    qemu_spin_unlock(&s->lock);
}

static bool snp_get_audit(Object *obj, Error **errp)
{
    return AMD_SNP_HOST(obj)->audit;
}

static void snp_set_audit(Object *obj, bool value, Error **errp)
{
    qatomic_set(&AMD_SNP_HOST(obj)->audit, value);
}

static bool snp_get_journal(Object *obj, Error **errp)
{
    return AMD_SNP_HOST(obj)->journal;
}

static void snp_set_journal(Object *obj, bool value, Error **errp)
{
    qatomic_set(&AMD_SNP_HOST(obj)->journal, value);
}

void amd_snp_referee_init(AMDSNPHost *s)
{
    s->hold_rmpopt = UINT64_MAX;
    qemu_spin_init(&s->journal_lock);
    s->events = g_array_new(false, false, sizeof(AmdSnpJournalEntry));
}

void amd_snp_referee_finalize(AMDSNPHost *s)
{
    g_array_free(s->events, true);
}

void amd_snp_referee_class_init(ObjectClass *oc)
{
    static const struct {
        const char *name;
        size_t offset;
        const char *description;
    } counters[] = {
        { "violations-write",
          offsetof(AMDSNPHost, violations[SNP_VIOLATION_WRITE]),
          "number of writes to assigned pages that RMPOPT let pass" },
        { "violations-table",
          offsetof(AMDSNPHost, violations[SNP_VIOLATION_TABLE]),
          "number of RMPOPT bits set for regions with an assigned page" },
        { "violations-tlb",
          offsetof(AMDSNPHost, violations[SNP_VIOLATION_TLB]),
          "number of TLB entries that allow writes to an assigned page" },
        { "violations-guest",
          offsetof(AMDSNPHost, violations[SNP_VIOLATION_GUEST]),
          "number of TLB entries that allow an SNP guest what the RMP does "
          "not" },
        { "dma-checked",
          offsetof(AMDSNPHost, dma_checked),
          "number of writes of devices that were checked" },
        { "dma-blocked",
          offsetof(AMDSNPHost, dma_blocked),
          "number of writes of devices that were blocked" },
        { "journal-lost",
          offsetof(AMDSNPHost, journal_lost),
          "number of journal entries that did not fit" },
    };
    int i;

    object_class_property_add_bool(oc, "audit", snp_get_audit, snp_set_audit);
    object_class_property_set_description(oc, "audit",
        "search all TLBs after each instruction that takes rights to a page "
        "(default: off)");
    object_class_property_add_bool(oc, "journal", snp_get_journal,
                                   snp_set_journal);
    object_class_property_set_description(oc, "journal",
        "write RMPOPT, RMPOPT_BASE, PVALIDATE, RMPADJUST and the PSP's "
        "commands to journal-entries (default: off)");
    object_class_property_add(oc, "journal-entries", "list",
                              snp_get_journal_entries, NULL, NULL, NULL);
    object_class_property_set_description(oc, "journal-entries",
        "the journal, oldest entry first; reading takes the entries away");
    object_class_property_add(oc, "hold-rmpopt", "uint64", snp_get_counter,
                              snp_set_hold_rmpopt, NULL,
                              (void *)offsetof(AMDSNPHost, hold_rmpopt));
    object_class_property_set_description(oc, "hold-rmpopt",
        "address of the 1 GB region at which RMPOPT function 0 waits "
        "(default: 2^64-1, none)");
    object_class_property_add(oc, "held-rmpopt", "uint64", snp_get_held_rmpopt,
                              NULL, NULL, NULL);
    object_class_property_set_description(oc, "held-rmpopt",
        "number of vCPUs that wait at hold-rmpopt");
    object_class_property_add_str(oc, "rmpupdate-fail", snp_get_rmpupdate_fail,
                                  snp_set_rmpupdate_fail);
    object_class_property_set_description(oc, "rmpupdate-fail",
        "CODE:EVERY[:COUNT]: each EVERYth RMPUPDATE returns CODE instead of "
        "being executed, COUNT times (default: none)");
    object_class_property_add(oc, "audit-now", "uint64", snp_get_audit_now,
                              NULL, NULL, NULL);
    object_class_property_set_description(oc, "audit-now",
        "compare all tables with the RMP: number of differences");
    object_class_property_add(oc, "violations", "uint64", snp_get_violations,
                              NULL, NULL, NULL);
    object_class_property_set_description(oc, "violations",
        "sum of the violations of all kinds");
    object_class_property_add(oc, "violations-rule", "uint64",
                              snp_get_violations, NULL, NULL,
                              (void *)(uintptr_t)SNP_VIOLATION_RULE);
    object_class_property_set_description(oc, "violations-rule",
        "number of RMPOPT and of writes to RMPOPT_BASE that are against the "
        "rules");
    for (i = 0; i < ARRAY_SIZE(counters); i++) {
        object_class_property_add(oc, counters[i].name, "uint64",
                                  snp_get_counter, NULL, NULL,
                                  (void *)counters[i].offset);
        object_class_property_set_description(oc, counters[i].name,
                                              counters[i].description);
    }
    object_class_property_add(oc, "vcpus", "list", snp_get_vcpus, NULL, NULL,
                              NULL);
    object_class_property_set_description(oc, "vcpus",
        "per vCPU: number of RMPOPT, RMPUPDATE, PSMASH, of checked writes, "
        "and what guests did");
    object_class_property_add(oc, "cores", "list", snp_get_cores, NULL, NULL,
                              NULL);
    object_class_property_set_description(oc, "cores",
        "per core: RMPOPT_BASE and the regions that are optimized");
    object_class_property_add(oc, "regions", "list", snp_get_regions, NULL,
                              NULL, NULL);
    object_class_property_set_description(oc, "regions",
        "per 1 GB region: number of assigned and HV-fixed 4 KB pages and of "
        "cores that it is optimized on");
}
