/*
 * AMD SEV-SNP host: reverse map table (RMP) and RMPOPT
 *
 * The RMP lives in guest memory and is the only record of what is assigned.
 * This is the part that CPUs, the IOMMU and the platform device share; the
 * terms are those of the AMD64 Architecture Programmer's Manual, Volume 2,
 * "Secure Nested Paging (SEV-SNP)".
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#ifndef HW_I386_AMD_SNP_H
#define HW_I386_AMD_SNP_H

#include "qemu/bitmap.h"
#include "qemu/queue.h"
#include "qemu/seqlock.h"
#include "qemu/thread.h"
#include "qemu/units.h"
#include "qapi/qapi-types-amd-snp.h"
#include "hw/qdev-core.h"
#include "qom/object.h"
#include "exec/memory.h"

#define TYPE_AMD_SNP_HOST "amd-snp-host"
OBJECT_DECLARE_SIMPLE_TYPE(AMDSNPHost, AMD_SNP_HOST)

/*
 * Raw RMP entry of a 4 KB page, little-endian. The format is not architectural:
 * it is that of the Processor Programming Reference (PPR) for family 19h, model
 * 01h.
 */
#define RMP_ENTRY_SIZE          16
#define RMP_ASSIGNED            (1ULL << 0)
#define RMP_PAGE_SIZE_2M        (1ULL << 1)
#define RMP_IMMUTABLE           (1ULL << 2)
#define RMP_GPA_MASK            MAKE_64BIT_MASK(12, 39)
#define RMP_ASID_SHIFT          51
#define RMP_ASID_MASK           MAKE_64BIT_MASK(RMP_ASID_SHIFT, 10)
#define RMP_VMSA                (1ULL << 61)
#define RMP_VALIDATED           (1ULL << 62)

/* What the instructions that change an entry return */
#define RMP_SUCCESS             0
#define RMP_FAIL_INPUT          1
#define RMP_FAIL_PERMISSION     2
#define RMP_FAIL_INUSE          3
#define RMP_FAIL_OVERLAP        4
#define RMP_FAIL_SIZEMISMATCH   6

#define RMP_BOOKKEEPING_SIZE    (16 * KiB)
#define RMP_RST_ENTRIES         512
#define RMP_PAGE_4K             (4 * KiB)
#define RMP_PAGE_2M             (2 * MiB)
#define RMP_ENTRIES_2M          (RMP_PAGE_2M / RMP_PAGE_4K)

typedef struct RMPEntry {
    uint64_t lo;
    /*
     * Permissions of VMPL1 to VMPL3. In the entry of a 2 MB aligned page the
     * counts besides. Where real hardware has the permissions is not known.
     */
    uint64_t hi;
} RMPEntry;
QEMU_BUILD_BUG_ON(sizeof(RMPEntry) != RMP_ENTRY_SIZE);

/*
 * RMP segment table (RST), little-endian, see APM volume 2 (24593), section
 * "Reverse Map Table". An entry has the address of a segment's part of the RMP
 * in bits 51:20, and in bits 19:0 how many GB that covers.
 */
typedef struct RMPSegmentTable {
    uint64_t entry[RMP_RST_ENTRIES];
} RMPSegmentTable;
QEMU_BUILD_BUG_ON(sizeof(RMPSegmentTable) != 4096);

/* The second quadword of the entry of a 2 MB aligned page counts 4 KB pages */
#define RMP_COUNT_ASSIGNED_SHIFT        0
#define RMP_COUNT_FIXED_SHIFT           32
#define RMP_COUNT_LENGTH                10
#define RMP_COUNTS_MASK \
    (MAKE_64BIT_MASK(RMP_COUNT_ASSIGNED_SHIFT, RMP_COUNT_LENGTH) | \
     MAKE_64BIT_MASK(RMP_COUNT_FIXED_SHIFT, RMP_COUNT_LENGTH))

/* Permissions of a VMPL in an RMP entry, those of RMPADJUST */
#define RMP_VMPLS                       4
#define RMP_PERM_READ                   (1 << 0)
#define RMP_PERM_WRITE                  (1 << 1)
#define RMP_PERM_EXEC_USER              (1 << 2)
#define RMP_PERM_EXEC_SUPERVISOR        (1 << 3)
#define RMP_PERM_SUPERVISOR_SHADOW_STACK (1 << 4)
#define RMP_PERM_ALL                    0x1f
#define RMP_PERM_SHIFT(vmpl)            (16 + 5 * ((vmpl) - 1))
#define RMP_PERMS_MASK                  MAKE_64BIT_MASK(RMP_PERM_SHIFT(1), 15)

/* RMP_CFG */
#define RMP_CFG_SEGMENTED       (1ULL << 0)
#define RMP_CFG_SHIFT_BIT       8

#define RMPOPT_REGION_SIZE      GiB
#define RMPOPT_REGIONS          2048
/* RMPOPT_EN of RMPOPT_BASE */
#define RMPOPT_BASE_ENABLE      (1ULL << 0)

/**
 * SnpCore: what the SMT siblings of a core share
 * @id: APIC id without the bits that number the siblings
 * @next: in snp_cores
 * @seq: readers of @base and @table without the RMP lock retry through it
 * @base: RMPOPT_BASE as the MSR reads
 * @table: bit N stands for the region N GB above the base. Means nothing while
 *         RMPOPT_EN is clear.
 *
 * Written under AMDSNPHost.lock. Bits of @table are cleared with atomics, so
 * that a reader needs no lock.
 */
typedef struct SnpCore {
    uint32_t id;
    QTAILQ_ENTRY(SnpCore) next;
    QemuSeqLock seq;
    uint64_t base;
    DECLARE_BITMAP(table, RMPOPT_REGIONS);
} SnpCore;

/* All cores. Made while vCPUs are realized, under the BQL, and never freed. */
typedef QTAILQ_HEAD(SnpCoreList, SnpCore) SnpCoreList;
extern SnpCoreList snp_cores;

/**
 * SnpCpuStats: what the referee counts for a vCPU
 *
 * Written by the vCPU alone, read from anywhere.
 */
typedef struct SnpCpuStats {
    uint64_t rmpopt_uncached;
    uint64_t rmpopt_entries_read;
    uint64_t rmpopt_cached;
    uint64_t rmpopt_failed;
    uint64_t rmpopt_failed_at;
    uint64_t rmpopt_queries;
    uint64_t rmpopt_outside;
    uint64_t rmpopt_base_refused;
    uint64_t violations_rule;
    uint64_t rmpupdate;
    uint64_t psmash;
    uint64_t checked;
    uint64_t skipped;
    uint64_t faults;
    uint64_t interrupts;
    uint64_t vmrun_sev;
    uint64_t vmrun_sev_es;
    uint64_t vmrun_snp;
    uint64_t vc;
    uint64_t pvalidate;
    uint64_t rmpadjust;
    uint64_t guest_checked;
    uint64_t guest_faults;
    uint64_t guest_not_validated;
} SnpCpuStats;

/* What a vCPU of a model with SEV-SNP has besides its MSRs */
typedef struct SnpCpu {
    SnpCore *core;
    SnpCpuStats stats;
    /* Waits at an RMPOPT, see hold-rmpopt. Under the BQL. */
    bool held;
} SnpCpu;

/*
 * Which bit of a core's table stands for the region of @pa, given its
 * RMPOPT_BASE; RMPOPT_REGIONS or more if none does.
 */
static inline uint64_t snp_table_index(uint64_t base, hwaddr pa)
{
    return pa / RMPOPT_REGION_SIZE - base / RMPOPT_REGION_SIZE;
}

static inline void snp_count(uint64_t *counter, uint64_t n)
{
    qatomic_set(counter, *counter + n);
}

typedef enum SnpViolation {
    /* A write was let through by an RMPOPT bit although the page is assigned */
    SNP_VIOLATION_WRITE,
    /* A bit was set while the region had an assigned page */
    SNP_VIOLATION_TABLE,
    /* A TLB still allowed writes to a page after its RMPUPDATE */
    SNP_VIOLATION_TLB,
    /* A TLB still allowed an SNP guest what the RMP does not any more */
    SNP_VIOLATION_GUEST,
    /* This and the next two are counted together. RMPOPT raised #UD or #GP */
    SNP_VIOLATION_RULE,
    /* RMPOPT of an address outside of the core's window */
    SNP_VIOLATION_OUTSIDE,
    /* A write that would have changed an enabled RMPOPT_BASE */
    SNP_VIOLATION_BASE,
    SNP_VIOLATION__MAX,
} SnpViolation;

/* A WRMSR that changes an enabled RMPOPT_BASE with SNP_EN set */
typedef enum RmpoptBaseLocked {
    RMPOPT_BASE_LOCKED_GP,
    RMPOPT_BASE_LOCKED_IGNORE,
    RMPOPT_BASE_LOCKED_OFF,
} RmpoptBaseLocked;

/* What becomes of a table when RMPOPT_EN is cleared, or of RMPOPT_EN itself */
typedef enum RmpoptClear {
    RMPOPT_CLEAR,
    RMPOPT_KEEP,
} RmpoptClear;

/* RMPOPT of an address outside of the window of 2048 regions */
typedef enum RmpoptOutside {
    RMPOPT_OUTSIDE_CF0,
    RMPOPT_OUTSIDE_GP,
} RmpoptOutside;

/**
 * SnpFailure: which RMPUPDATE fails instead of being executed
 * @code: what it returns in EAX
 * @every: of so many, the last one
 * @left: how many are going to fail
 * @seen: how many there were since the last failure
 *
 * Under the RMP lock.
 */
typedef struct SnpFailure {
    uint32_t code;
    unsigned every;
    unsigned left;
    unsigned seen;
} SnpFailure;

/* RAM that the machine does not know */
typedef struct AmdSnpPiece {
    uint64_t address;
    uint64_t size;
    unsigned node;
} AmdSnpPiece;

struct AMDSNPHost {
    DeviceState parent_obj;

    /* Properties */
    OnOffAuto segmented;
    uint64_t segment_size;
    uint64_t rmp_address;
    uint64_t rmp_coverage;
    char *ram;
    uint32_t sparse_chunks;
    uint64_t sparse_size;
    uint64_t sparse_start;
    uint64_t sparse_stride;
    bool rmpopt_ud_snp_off;
    bool rmpopt_ud_base_off;
    bool rmpopt_gp_unaligned;
    bool rmpopt_gp_function;
    RmpoptBaseLocked rmpopt_base_locked;
    RmpoptClear rmpopt_disabled_table;
    RmpoptClear shutdown_rmpopt_en;
    RmpoptOutside rmpopt_outside;
    bool audit;

    /* Fixed once realized */
    MemoryRegion c_bit;
    MemoryRegion rmp;
    GArray *pieces; /* of AmdSnpPiece */
    uint8_t *rmp_host;
    uint64_t rmp_size;
    uint64_t rmp_base;
    uint64_t rmp_end;
    uint64_t rmp_cfg;
    /* Entries of each segment; a contiguous RMP is one segment */
    unsigned segment_shift;
    unsigned segments;
    uint8_t *segment_host[RMP_RST_ENTRIES];
    uint64_t segment_pages[RMP_RST_ENTRIES];

    /*
     * Serializes RMPUPDATE, PSMASH, RMPOPT function 0, writes to RMPOPT_BASE
     * and what the PSP does to the RMP. A spin lock because vCPUs take it
     * without the BQL; nothing under it may leave the helper.
     */
    QemuSpin lock;

    /*
     * Some vCPU has set SYSCFG.SNP_EN: devices are checked from then on, until
     * the PSP clears it on all vCPUs
     */
    bool enabled;

    /* Regions that some RMPOPT has found clean; under the lock */
    unsigned long *verified;
    uint64_t regions;

    uint64_t dma_checked;
    uint64_t dma_blocked;
    uint64_t violations[SNP_VIOLATION__MAX];
    uint64_t reported;

    /* RMPOPT of that region waits; UINT64_MAX for none */
    uint64_t hold_rmpopt;

    SnpFailure rmpupdate_failure;

    /* Nests inside of the RMP lock */
    QemuSpin journal_lock;
    bool journal;
    GArray *events;
    uint64_t journal_lost;
};

/* The machine's RMP, or NULL. Set once, before vCPUs run. */
extern AMDSNPHost *amd_snp;

/*
 * The C-bit of an address selects the same memory here. The RMP ignores it.
 */
#define AMD_C_BIT               (1ULL << CPUID_8000_001F_EBX_C_BIT)

/* Each returns NULL or false for an address that the RMP does not cover */
RMPEntry *amd_snp_entry(AMDSNPHost *s, hwaddr pa);
bool amd_snp_is_rmp(AMDSNPHost *s, hwaddr pa, uint64_t size);

/*
 * Assigned 4 KB pages of a region, from the entries and nothing else. The lock
 * is held.
 */
uint64_t amd_snp_region_assigned(AMDSNPHost *s, uint64_t region);

static inline uint64_t snp_entry_lo(const RMPEntry *entry)
{
    return le64_to_cpu(qatomic_read(&entry->lo));
}

/* What an entry adds to the counters in the entry of its 2 MB aligned page */
static inline uint64_t snp_entry_weight(uint64_t lo)
{
    if (lo & RMP_ASSIGNED) {
        /* Only 4 KB pages count, not a 2 MB page */
        return lo & RMP_PAGE_SIZE_2M ? 0 : 1ULL << RMP_COUNT_ASSIGNED_SHIFT;
    }
    return lo & RMP_IMMUTABLE ? 1ULL << RMP_COUNT_FIXED_SHIFT : 0;
}

/* In the entry of a 2 MB aligned page: number of assigned 4 KB entries */
static inline uint64_t snp_entry_count(const RMPEntry *entry)
{
    return extract64(le64_to_cpu(qatomic_read(&entry->hi)),
                     RMP_COUNT_ASSIGNED_SHIFT, RMP_COUNT_LENGTH);
}

/* ... and whether nothing there is assigned or fixed */
static inline bool snp_entry_clean(const RMPEntry *entry)
{
    return !(le64_to_cpu(qatomic_read(&entry->hi)) & RMP_COUNTS_MASK) &&
           !(snp_entry_lo(entry) & (RMP_ASSIGNED | RMP_IMMUTABLE));
}

/* What a VMPL may do with the page, RMP_PERM_* */
static inline unsigned snp_entry_perms(const RMPEntry *entry, unsigned vmpl)
{
    return vmpl ? extract64(le64_to_cpu(qatomic_read(&entry->hi)),
                            RMP_PERM_SHIFT(vmpl), 5) : RMP_PERM_ALL;
}

/* That may change for VMPL1 to VMPL3. The lock is held. */
static inline void snp_entry_set_perms(RMPEntry *entry, unsigned vmpl,
                                       unsigned perms)
{
    uint64_t hi = le64_to_cpu(qatomic_read(&entry->hi));

    qatomic_set(&entry->hi, cpu_to_le64(deposit64(hi, RMP_PERM_SHIFT(vmpl), 5,
                                                  perms)));
}

/**
 * amd_snp_set_entry_perms: Change an RMP entry, and what is derived from it
 * @s: the RMP; its lock is held
 * @pa: the page, which the RMP covers
 * @lo: the first quadword
 * @perms: what of the second one is in RMP_PERMS_MASK
 *
 * Takes the optimization of the region from all cores when the page becomes
 * assigned. TLBs have to be flushed then, once the lock has been released.
 */
void amd_snp_set_entry_perms(AMDSNPHost *s, hwaddr pa, uint64_t lo,
                             uint64_t perms);

/* The same, and VMPL1 to VMPL3 may do nothing */
static inline void amd_snp_set_entry(AMDSNPHost *s, hwaddr pa, uint64_t lo)
{
    amd_snp_set_entry_perms(s, pa, lo, 0);
}

/* The code with which the next RMPUPDATE fails, or 0. The lock is held. */
uint32_t amd_snp_rmpupdate_failure(AMDSNPHost *s);

/* All of the RMP becomes 0. Its lock is held. */
void amd_snp_clear_rmp(AMDSNPHost *s);

/**
 * amd_snp_blocked: Whether the RMP forbids the host to write
 * @s: the RMP
 * @pa: physical address
 * @mapping: size of the mapping that the write goes through. A large one may
 *           not cover any assigned 4 KB page within the 2 MB around @pa.
 */
bool amd_snp_blocked(AMDSNPHost *s, hwaddr pa, uint64_t mapping);

/**
 * amd_snp_dma_check: The same for a device; counts
 * @pa: physical address
 * @is_write: the device is writing now
 *
 * Returns: false if the page must not be written.
 */
bool amd_snp_dma_check(hwaddr pa, bool is_write);

/**
 * amd_snp_clear_region: Take the optimization of a region from all cores
 * @s: the RMP; its lock is held
 * @pa: an address in the region
 */
void amd_snp_clear_region(AMDSNPHost *s, hwaddr pa);

/* The same for all regions. RMPOPT_BASE stays as it is. The lock is held. */
void amd_snp_clear_tables(AMDSNPHost *s);

/**
 * amd_snp_set_base: Change the RMPOPT_BASE of a core, and its table with it
 * @s: the RMP; its lock is held
 * @core: the core
 * @base: what the MSR reads from now on
 */
void amd_snp_set_base(AMDSNPHost *s, SnpCore *core, uint64_t base);

/* SNP_EN is clear on all vCPUs now. The lock is held. */
void amd_snp_disabled(AMDSNPHost *s);

/* The core of the vCPU with that APIC id, made when it is the first of it */
SnpCore *amd_snp_get_core(uint32_t id);

/**
 * amd_snp_violation: The referee saw something that must not be
 * @kind: what
 * @cpu_index: the vCPU, or -1
 * @pc: its RIP
 * @pa: physical address concerned
 */
void amd_snp_violation(SnpViolation kind, int cpu_index, uint64_t pc,
                       hwaddr pa);

/*
 * Write an event to the journal if there is one. The time is filled in, and
 * @event.command must stay.
 */
void amd_snp_journal_event(AmdSnpJournalEntry event);

/* The same for an event of which only this matters */
void amd_snp_journal(AmdSnpJournalKind what, int cpu, int core,
                     uint64_t address, uint64_t value, uint64_t result);

/* SRAT entries of further pieces of RAM; from the ACPI table builder */
void amd_snp_build_srat(GArray *table_data);

/* The referee's properties, and what they need */
void amd_snp_referee_class_init(ObjectClass *oc);
void amd_snp_referee_init(AMDSNPHost *s);
void amd_snp_referee_finalize(AMDSNPHost *s);

#endif
