/*
 * AMD SEV-SNP host: the device
 *
 * Stands for what the firmware of such a machine does: reserving memory for the
 * reverse map table (RMP) and programming its MSRs. What CPUs and IOMMU share
 * is in amd_snp_rmp.c, what tests are told in amd_snp_referee.c.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "qemu/error-report.h"
#include "qapi/error.h"
#include "qapi/visitor.h"
#include "qemu/cutils.h"
#include "exec/address-spaces.h"
#include "exec/memory.h"
#include "hw/acpi/aml-build.h"
#include "hw/boards.h"
#include "hw/i386/amd_snp.h"
#include "hw/i386/pc.h"
#include "hw/i386/x86.h"
#include "hw/qdev-properties.h"
#include "migration/vmstate.h"
#include "system/numa.h"
#include "system/reset.h"
#include "system/tcg.h"
#include "cpu.h"
#include "e820_memory_layout.h"

/* Between the start of the RMP and its first segment: RST and bookkeeping */
#define RMP_HEADER_SIZE         RMP_PAGE_2M

/* Reserved on AMD for HyperTransport, see pc_memory_init() */
#define AMD_HT_START            0xfd00000000ULL
#define AMD_HT_END              0x10000000000ULL

/* Kept free for an RMP with memory of its own */
#define OWN_RMP_SIZE            (32 * GiB)

/* Linux has struct pages for whole sections only */
#define RAM_ALIGN               (128 * MiB)

AMDSNPHost *amd_snp;

/* Places the RMP and further pieces of RAM */

static uint64_t machine_ram_end(void)
{
    X86MachineState *x86ms = X86_MACHINE(qdev_get_machine());
    uint64_t end = x86ms->below_4g_mem_size;

    if (x86ms->above_4g_mem_size) {
        end = x86ms->above_4g_mem_start + x86ms->above_4g_mem_size;
    }
    return end;
}

/* With memory encryption some of them are not for addresses */
static unsigned cpu_address_bits(void)
{
    return X86_CPU(first_cpu)->phys_bits - CPUID_8000_001F_EBX_REDUCED_BITS;
}

/* Within the address space, and not what AMD has reserved of it */
static bool range_is_usable(hwaddr address, uint64_t size)
{
    uint64_t limit = 1ULL << cpu_address_bits();

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

/* @move: the properties by which it can be somewhere else */
static bool add_piece(AMDSNPHost *s, uint64_t address, uint64_t size,
                      unsigned node, const char *move, Error **errp)
{
    AmdSnpPiece piece = { address, size, node };
    MemoryRegion *mr = g_new0(MemoryRegion, 1);
    g_autofree char *name = g_strdup_printf("sparse-ram%u", s->pieces->len);

    g_array_append_val(s->pieces, piece);
    if (!range_is_usable(address, size) || !range_is_free(address, size)) {
        error_setg(errp, "RAM of 0x%" PRIx64 " bytes at 0x%" PRIx64 " is in "
                   "the way of something else: move %s", size, address, move);
        return false;
    }
    if (!memory_region_init_ram_flags_nomigrate(mr, OBJECT(s), name, size,
                                                RAM_NORESERVE, errp)) {
        return false;
    }
    memory_region_add_subregion(get_system_memory(), address, mr);
    e820_add_entry(address, size, E820_RAM);
    return true;
}

static unsigned machine_nodes(void)
{
    return MACHINE(qdev_get_machine())->numa_state->num_nodes;
}

/* Property "ram": ADDRESS:SIZE[:NODE]/... */
static bool add_ram(AMDSNPHost *s, Error **errp)
{
    g_auto(GStrv) pieces = g_strsplit(s->ram ?: "", "/", -1);
    unsigned i;

    for (i = 0; pieces[i]; i++) {
        g_auto(GStrv) part = g_strsplit(pieces[i], ":", -1);
        unsigned parts = g_strv_length(part), node = 0;
        uint64_t address, size;

        if (parts < 2 || parts > 3 ||
            qemu_strtosz(part[0], NULL, &address) < 0 ||
            qemu_strtosz(part[1], NULL, &size) < 0 ||
            (parts == 3 && qemu_strtoui(part[2], NULL, 10, &node) < 0)) {
            error_setg(errp, "ram takes ADDRESS:SIZE[:NODE]/..., not '%s'",
                       pieces[i]);
            return false;
        }
        if (!size || size % RAM_ALIGN || address % RAM_ALIGN) {
            error_setg(errp, "addresses and sizes of ram must be multiples of "
                       "128M, and no size 0: not '%s'", pieces[i]);
            return false;
        }
        if (node >= MAX(machine_nodes(), 1)) {
            error_setg(errp, "ram '%s' wants a node that is not there: add "
                       "-numa node,nodeid=%u", pieces[i], node);
            return false;
        }
        if (!add_piece(s, address, size, node, "it by ram", errp)) {
            return false;
        }
    }
    return true;
}

static bool add_sparse_ram(AMDSNPHost *s, Error **errp)
{
    uint64_t limit = 1ULL << cpu_address_bits();
    unsigned i;

    if (!s->sparse_chunks) {
        return true;
    }
    if (!s->sparse_size || s->sparse_size % RAM_ALIGN ||
        s->sparse_stride % RAM_ALIGN || s->sparse_start % RAM_ALIGN) {
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
                   s->sparse_chunks, cpu_address_bits());
        return false;
    }
    for (i = 0; i < s->sparse_chunks; i++) {
        /* Neighbours go to the same node */
        if (!add_piece(s, s->sparse_start + i * s->sparse_stride,
                       s->sparse_size,
                       (uint64_t)i * machine_nodes() / s->sparse_chunks,
                       "sparse-start or sparse-stride", errp)) {
            return false;
        }
    }
    return true;
}

/* Lets the RMP of every segment reach as far as there is memory in it */
static bool size_segments(AMDSNPHost *s, uint64_t address, uint64_t size,
                          Error **errp)
{
    uint64_t end = MIN(address + size, s->rmp_coverage ?: UINT64_MAX);
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
    AmdSnpPiece *piece;
    unsigned i;

    if (!size_segments(s, 0, x86ms->below_4g_mem_size, errp) ||
        !size_segments(s, x86ms->above_4g_mem_start, x86ms->above_4g_mem_size,
                       errp)) {
        return false;
    }
    for (i = 0; i < s->pieces->len; i++) {
        piece = &g_array_index(s->pieces, AmdSnpPiece, i);
        if (!size_segments(s, piece->address, piece->size, errp)) {
            return false;
        }
    }
    return true;
}

static uint64_t rmp_table_size(AMDSNPHost *s)
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
    uint64_t end = machine_ram_end();

    s->rmp_size = rmp_table_size(s);
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
            s->rmp_size = rmp_table_size(s);
            if (!size_segments(s, s->rmp_base, s->rmp_size, errp)) {
                return false;
            }
        } while (s->rmp_size != rmp_table_size(s));
        if (!range_is_usable(s->rmp_base, s->rmp_size)) {
            error_setg(errp, "an RMP at 0x%" PRIx64 " that covers itself has "
                       "0x%" PRIx64 " bytes, which do not fit: choose another "
                       "rmp-address", s->rmp_base, s->rmp_size);
            return false;
        }
    }
    if (s->rmp_base % MiB) {
        error_setg(errp, "rmp-address must be a multiple of 1M");
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

static void rmp_find_segments(AMDSNPHost *s)
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

static void rmp_write_header(AMDSNPHost *s)
{
    RMPSegmentTable *rst = (void *)(s->rmp_host + RMP_BOOKKEEPING_SIZE);
    unsigned i;

    memset(s->rmp_host, 0, RMP_BOOKKEEPING_SIZE);
    if (!(s->rmp_cfg & RMP_CFG_SEGMENTED)) {
        return;
    }
    memset(rst, 0, sizeof(*rst));
    for (i = 0; i < s->segments; i++) {
        uint64_t base = s->rmp_base + (s->segment_host[i] - s->rmp_host);

        if (s->segment_pages[i]) {
            uint64_t size = s->segment_pages[i] / (GiB / RMP_PAGE_4K);

            rst->entry[i] = cpu_to_le64(base | size);
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
    rmp_write_header(s);
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
    if (s->rmp_coverage % GiB) {
        error_setg(errp, "rmp-coverage must be a multiple of 1G");
        return;
    }
    if (segmented) {
        s->segment_shift = ctz64(s->segment_size);
        s->rmp_cfg = RMP_CFG_SEGMENTED |
                     (uint64_t)s->segment_shift << RMP_CFG_SHIFT_BIT;
    } else {
        s->segment_shift = TARGET_PHYS_ADDR_SPACE_BITS;
    }

    s->pieces = g_array_new(false, false, sizeof(AmdSnpPiece));
    if (!add_ram(s, errp) || !add_sparse_ram(s, errp) ||
        !cover_memory(s, errp) || !place_rmp(s, errp)) {
        return;
    }
    rmp_find_segments(s);

    s->regions = DIV_ROUND_UP(s->segments == 1 ?
                              s->segment_pages[0] * RMP_PAGE_4K :
                              (uint64_t)s->segments << s->segment_shift,
                              RMPOPT_REGION_SIZE);
    s->verified = bitmap_new(s->regions);

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

void amd_snp_build_srat(GArray *table_data)
{
    AMDSNPHost *s = amd_snp;
    unsigned i;

    for (i = 0; s && i < s->pieces->len; i++) {
        AmdSnpPiece *piece = &g_array_index(s->pieces, AmdSnpPiece, i);

        build_srat_memory(table_data, piece->address, piece->size, piece->node,
                          MEM_AFFINITY_ENABLED);
    }
}

static const VMStateDescription vmstate_amd_snp = {
    .name = TYPE_AMD_SNP_HOST,
    .unmigratable = 1,
};

/* Properties with named values. The error says which values there are. */

static void snp_get_named(Object *obj, Visitor *v, const char *name,
                          void *opaque, Error **errp)
{
    const Property *prop = opaque;

    visit_type_enum(v, name, object_field_prop_ptr(obj, prop),
                    prop->info->enum_table, errp);
}

static void snp_set_named_default(ObjectProperty *op, const Property *prop)
{
    object_property_set_default_str(op, qapi_enum_lookup(prop->info->enum_table,
                                                         prop->defval.i));
}

static void snp_set_named(Object *obj, Visitor *v, const char *name,
                          void *opaque, Error **errp)
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
        .get = snp_get_named,                                               \
        .set = snp_set_named,                                               \
        .set_default_value = snp_set_named_default,                         \
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
    DEFINE_PROP_SIZE("rmp-coverage", AMDSNPHost, rmp_coverage, 0),
    DEFINE_PROP_STRING("ram", AMDSNPHost, ram),
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

static void amd_snp_init(Object *obj)
{
    qemu_spin_init(&AMD_SNP_HOST(obj)->lock);
    amd_snp_referee_init(AMD_SNP_HOST(obj));
}

static void amd_snp_finalize(Object *obj)
{
    amd_snp_referee_finalize(AMD_SNP_HOST(obj));
}

static void amd_snp_class_init(ObjectClass *oc, void *data)
{
    DeviceClass *dc = DEVICE_CLASS(oc);
    ResettableClass *rc = RESETTABLE_CLASS(oc);

    dc->desc = "AMD SEV-SNP host: RMP and RMPOPT";
    dc->vmsd = &vmstate_amd_snp;
    dc->realize = amd_snp_realize;
    dc->hotpluggable = false;
    dc->user_creatable = true;
    set_bit(DEVICE_CATEGORY_MISC, dc->categories);
    device_class_set_props(dc, amd_snp_properties);
    object_class_property_set_description(oc, "segmented",
        "segmented RMP; auto: if the CPU has segmented-rmp");
    object_class_property_set_description(oc, "segment-size",
        "bytes that a segment of the RMP covers, a power of two from 1G to "
        "4T");
    object_class_property_set_description(oc, "rmp-address",
        "physical address of the RMP, a multiple of 1M; 0: at the top of "
        "RAM above 4 GB, or in memory of its own");
    object_class_property_set_description(oc, "rmp-coverage",
        "physical address where the RMP ends to cover memory, a multiple of "
        "1G; 0: it covers all RAM");
    object_class_property_set_description(oc, "ram",
        "further pieces of RAM: ADDRESS:SIZE[:NODE]/..., multiples of 128M, "
        "NODE as -numa has it");
    object_class_property_set_description(oc, "sparse-chunks",
        "number of further pieces of RAM");
    object_class_property_set_description(oc, "sparse-size",
        "bytes of each piece of sparse RAM, a multiple of 128M");
    object_class_property_set_description(oc, "sparse-start",
        "physical address of the first piece of sparse RAM, a multiple of "
        "128M; 0: a multiple of sparse-stride behind all other memory");
    object_class_property_set_description(oc, "sparse-stride",
        "bytes from the start of one piece of sparse RAM to the next, a "
        "multiple of 128M");
    object_class_property_set_description(oc, "rmpopt-ud-snp-off",
        "RMPOPT raises #UD while SYSCFG.SNP_EN is clear; off: returns CF = "
        "0");
    object_class_property_set_description(oc, "rmpopt-ud-base-off",
        "RMPOPT raises #UD while RMPOPT_EN is clear; off: returns CF = 0");
    object_class_property_set_description(oc, "rmpopt-gp-unaligned",
        "RMPOPT of an address that is not 1 GB aligned raises #GP; off: "
        "rounds it down");
    object_class_property_set_description(oc, "rmpopt-gp-function",
        "RMPOPT with a function above 1 raises #GP; off: returns CF = 0");
    rc->phases.hold = amd_snp_reset_hold;
    amd_snp_referee_class_init(oc);
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
};

DEFINE_TYPES(amd_snp_types)
