/*
 * QTest testcase for the emulated AMD SEV-SNP host
 *
 * What can be tested without software on a vCPU: options that are refused, the
 * place of the reverse map table (RMP), properties, and the mailbox of the PSP.
 * vCPUs halt at their first instruction.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "qemu/units.h"
#include "libqtest.h"
#include "libqos/pci-pc.h"
#include "qobject/qdict.h"
#include "qobject/qlist.h"
#include "qobject/qnum.h"

#define MACHINE         "-machine q35 -cpu EPYC-SNP -nodefaults " \
                        "-global apic-common.vapic=off"
#define SNP_PATH        "/machine/peripheral/snp0"
#define PSP_PATH        "/machine/peripheral/psp0"
#define PSP_DEVICES     "-device amd-snp-host,id=snp0,journal=on " \
                        "-device amd-psp,id=psp0,addr=05.0"

/* From the start of the RMP */
#define RST_OFFSET      (16 * KiB)
#define SEGMENTS_OFFSET (2 * MiB)
#define ENTRY_SIZE      16

#define PSP_BAR         2
#define PSP_CMDRESP     0x10980
#define PSP_CMDBUF_LO   0x109e0
#define PSP_CMDBUF_HI   0x109e4
#define PSP_RESPONSE    (1U << 31)
#define PSP_BUFFER      MiB

#define PLATFORM_STATUS 0x04
#define SNP_INIT        0x81
#define INVALID_CONFIG  0x03

static char *bios;

static void make_bios(void)
{
    g_autofree char *halt = g_malloc(64 * KiB);
    int fd = g_file_open_tmp("qtest-snp-XXXXXX", &bios, NULL);

    g_assert_cmpint(fd, >=, 0);
    /* HLT */
    memset(halt, 0xf4, 64 * KiB);
    g_assert_cmpint(write(fd, halt, 64 * KiB), ==, 64 * KiB);
    close(fd);
}

static QTestState *start(const char *options)
{
    return qtest_initf(MACHINE " -accel tcg -m 6G -bios %s %s", bios, options);
}

static uint64_t get_uint(const QDict *dict, const char *key)
{
    return qnum_get_uint(qobject_to(QNum, qdict_get(dict, key)));
}

static QDict *qom_get(QTestState *qts, const char *path, const char *property)
{
    QDict *response = qtest_qmp(qts, "{ 'execute': 'qom-get', 'arguments': "
                                "{ 'path': %s, 'property': %s } }",
                                path, property);

    g_assert(qdict_haskey(response, "return"));
    return response;
}

static uint64_t qom_get_uint(QTestState *qts, const char *path,
                             const char *property)
{
    QDict *response = qom_get(qts, path, property);
    uint64_t value = get_uint(response, "return");

    qobject_unref(response);
    return value;
}

/* The start of the first of @n regions that have memory of the RMP */
static uint64_t rmp_region(QTestState *qts, unsigned n)
{
    QDict *response = qom_get(qts, SNP_PATH, "regions");
    QList *regions = qdict_get_qlist(response, "return");
    QDict *region = qobject_to(QDict, qlist_peek(regions));
    uint64_t address = get_uint(region, "address");

    g_assert_cmpint(qlist_size(regions), ==, n);
    g_assert_true(qdict_get_bool(region, "rmp"));
    g_assert_cmpuint(get_uint(region, "assigned"), ==, 0);
    g_assert_cmpuint(get_uint(region, "optimized"), ==, 0);
    qobject_unref(response);
    return address;
}

static void expect_error(QDict *response, const char *text)
{
    QDict *error = qdict_get_qdict(response, "error");

    g_assert_nonnull(error);
    g_assert_nonnull(strstr(qdict_get_str(error, "desc"), text));
    qobject_unref(response);
}

/* By default the RMP is at the top of RAM above 4 GB */
static void test_placed_in_ram(void)
{
    QTestState *qts = start("-device amd-snp-host,id=snp0");
    /* 2 GB of RAM are below 4 GB */
    uint64_t end = 8 * GiB;
    uint64_t size = SEGMENTS_OFFSET + end / (4 * KiB) * ENTRY_SIZE;
    uint64_t base = end - size;

    g_assert_cmphex(rmp_region(qts, 1), ==, 7 * GiB);
    /* One segment, of which 8 GB are covered */
    g_assert_cmphex(qtest_readq(qts, base + RST_OFFSET), ==,
                    (base + SEGMENTS_OFFSET) | 8);
    g_assert_cmphex(qtest_readq(qts, base + RST_OFFSET + 8), ==, 0);
    qtest_quit(qts);
}

static void test_placed_by_option(void)
{
    uint64_t base = 5 * GiB;
    QTestState *qts = start("-device amd-snp-host,id=snp0,segment-size=4G,"
                            "rmp-address=5G");

    g_assert_cmphex(rmp_region(qts, 1), ==, base);
    /* 2 GB below 4 GB, and 4 GB above, in segments of 4 GB */
    g_assert_cmphex(qtest_readq(qts, base + RST_OFFSET), ==,
                    (base + SEGMENTS_OFFSET) | 2);
    g_assert_cmphex(qtest_readq(qts, base + RST_OFFSET + 8), ==,
                    (base + SEGMENTS_OFFSET + 8 * MiB) | 4);
    g_assert_cmphex(qtest_readq(qts, base + RST_OFFSET + 16), ==, 0);
    qtest_quit(qts);
}

/* An RMP that is larger than half of that RAM has memory of its own */
static void test_placed_elsewhere(void)
{
    QTestState *qts = start("-device amd-snp-host,id=snp0,sparse-chunks=1,"
                            "sparse-start=1T,segment-size=2T");
    /* 32 GB above the RAM, and 4 MB for each of 1025 GB */
    uint64_t base = 8 * GiB + 32 * GiB;

    g_assert_cmphex(rmp_region(qts, 5), ==, base);
    g_assert_cmphex(qtest_readq(qts, base + RST_OFFSET), ==,
                    (base + SEGMENTS_OFFSET) | 1025);
    /* The sparse RAM */
    qtest_writeq(qts, 1 * TiB, 0x0123456789abcdefULL);
    g_assert_cmphex(qtest_readq(qts, 1 * TiB), ==, 0x0123456789abcdefULL);
    qtest_quit(qts);
}

/* RAM where it is wanted, and no RMP for what is between */
static void test_ram(void)
{
    QTestState *qts = start("-device amd-snp-host,id=snp0,"
                            "ram=0xb840000000:1G/12160G:128M,"
                            "segment-size=64G,rmp-address=16G");
    uint64_t base = 16 * GiB;

    /* Segments 0, 11 and 190: 8, 34 and 1 GB */
    g_assert_cmphex(qtest_readq(qts, base + RST_OFFSET), ==,
                    (base + SEGMENTS_OFFSET) | 8);
    g_assert_cmphex(qtest_readq(qts, base + RST_OFFSET + 8), ==, 0);
    g_assert_cmphex(qtest_readq(qts, base + RST_OFFSET + 8 * 11), ==,
                    (base + SEGMENTS_OFFSET + 8 * 4 * MiB) | 34);
    g_assert_cmphex(qtest_readq(qts, base + RST_OFFSET + 8 * 190), ==,
                    (base + SEGMENTS_OFFSET + 42 * 4 * MiB) | 1);
    qtest_writeq(qts, 12160 * GiB, 0x0123456789abcdefULL);
    g_assert_cmphex(qtest_readq(qts, 12160 * GiB), ==, 0x0123456789abcdefULL);
    qtest_quit(qts);
}

/* Nothing is encrypted: memory with the C-bit is the same memory */
static void test_c_bit(void)
{
    QTestState *qts = start("-device amd-snp-host,id=snp0");

    qtest_writeq(qts, MiB, 0x0123456789abcdefULL);
    g_assert_cmphex(qtest_readq(qts, MiB | 1ULL << 51), ==,
                    0x0123456789abcdefULL);
    qtest_quit(qts);
}

static void test_properties(void)
{
    static const char *const counters[] = {
        "violations", "violations-write", "violations-table", "violations-tlb",
        "violations-rule", "audit-now", "dma-checked", "dma-blocked",
        "journal-lost", "held-rmpopt",
    };
    QTestState *qts = start("-smp 4,cores=2,threads=2 "
                            "-device amd-snp-host,id=snp0");
    QDict *response;
    int i;

    for (i = 0; i < ARRAY_SIZE(counters); i++) {
        g_assert_cmpuint(qom_get_uint(qts, SNP_PATH, counters[i]), ==, 0);
    }
    g_assert_cmphex(qom_get_uint(qts, SNP_PATH, "hold-rmpopt"), ==, UINT64_MAX);

    response = qom_get(qts, SNP_PATH, "vcpus");
    g_assert_cmpint(qlist_size(qdict_get_qlist(response, "return")), ==, 4);
    qobject_unref(response);
    response = qom_get(qts, SNP_PATH, "cores");
    g_assert_cmpint(qlist_size(qdict_get_qlist(response, "return")), ==, 2);
    qobject_unref(response);
    response = qom_get(qts, SNP_PATH, "journal-entries");
    g_assert_cmpint(qlist_size(qdict_get_qlist(response, "return")), ==, 0);
    qobject_unref(response);
    qtest_quit(qts);
}

static void test_running(void)
{
    QTestState *qts = start(PSP_DEVICES);

    expect_error(qtest_qmp(qts, "{ 'execute': 'device_add', 'arguments': "
                           "{ 'driver': 'amd-snp-host', 'id': 'late' } }"),
                 "'amd-snp-host' does not support hotplugging");
    expect_error(qtest_qmp(qts, "{ 'execute': 'qom-set', 'arguments': "
                           "{ 'path': %s, 'property': 'rmpopt-base-locked',"
                           "  'value': 'off' } }", SNP_PATH),
                 "after it was realized");
    expect_error(qtest_qmp(qts, "{ 'execute': 'qom-set', 'arguments': "
                           "{ 'path': %s, 'property': 'hold-rmpopt',"
                           "  'value': 4096 } }", SNP_PATH),
                 "hold-rmpopt takes the start of a 1 GB region");
    expect_error(qtest_qmp(qts, "{ 'execute': 'qom-set', 'arguments': "
                           "{ 'path': %s, 'property': 'rmpupdate-fail',"
                           "  'value': '4:0' } }", SNP_PATH),
                 "rmpupdate-fail takes CODE:EVERY[:COUNT]");
    expect_error(qtest_qmp(qts, "{ 'execute': 'qom-set', 'arguments': "
                           "{ 'path': %s, 'property': 'fail',"
                           "  'value': 'SNP_RUN:1' } }", PSP_PATH),
                 "fail takes COMMAND:STATUS[:NTH]");
    expect_error(qtest_qmp(qts, "{ 'execute': 'qom-set', 'arguments': "
                           "{ 'path': %s, 'property': 'hold',"
                           "  'value': 'SNP_RUN' } }", PSP_PATH),
                 "hold takes a command of the PSP");
    qtest_quit(qts);
}

/* Returns the status */
static uint16_t psp_command(QPCIDevice *dev, QPCIBar bar, uint32_t command)
{
    gint64 end = g_get_monotonic_time() + 60 * G_TIME_SPAN_SECOND;
    uint32_t response;

    qpci_io_writel(dev, bar, PSP_CMDBUF_LO, PSP_BUFFER);
    qpci_io_writel(dev, bar, PSP_CMDBUF_HI, 0);
    qpci_io_writel(dev, bar, PSP_CMDRESP, command << 16);
    do {
        g_assert_cmpint(g_get_monotonic_time(), <, end);
        g_usleep(1000);
        response = qpci_io_readl(dev, bar, PSP_CMDRESP);
    } while (!(response & PSP_RESPONSE));
    return response;
}

static void check_entry(QList *entries, const char *what, const char *command,
                        uint64_t value, uint64_t result)
{
    QDict *entry = qobject_to(QDict, qlist_pop(entries));

    g_assert_nonnull(entry);
    g_assert_cmpstr(qdict_get_str(entry, "what"), ==, what);
    g_assert_cmpint(qdict_get_int(entry, "cpu"), ==, -1);
    g_assert_cmpint(qdict_get_int(entry, "core"), ==, -1);
    g_assert_cmphex(get_uint(entry, "value"), ==, value);
    g_assert_cmphex(get_uint(entry, "result"), ==, result);
    g_assert_cmpstr(qdict_get_try_str(entry, "command"), ==, command);
    qobject_unref(entry);
}

static void test_psp(void)
{
    QTestState *qts = start(PSP_DEVICES);
    QPCIBus *bus = qpci_new_pc(qts, NULL);
    QPCIDevice *dev = qpci_device_find(bus, QPCI_DEVFN(5, 0));
    uint8_t status[12];
    QDict *response, *state;
    QList *entries;
    QPCIBar bar;

    g_assert_nonnull(dev);
    qpci_device_enable(dev);
    bar = qpci_iomap(dev, PSP_BAR, NULL);

    /* API 1.55, uninitialized */
    qtest_memset(qts, PSP_BUFFER, 0xff, sizeof(status));
    g_assert_cmphex(psp_command(dev, bar, PLATFORM_STATUS), ==, 0);
    qtest_memread(qts, PSP_BUFFER, status, sizeof(status));
    g_assert_cmpint(status[0], ==, 1);
    g_assert_cmpint(status[1], ==, 55);
    g_assert_cmpint(status[2], ==, 0);

    /* No vCPU has set SNP_EN */
    g_assert_cmphex(psp_command(dev, bar, SNP_INIT), ==, INVALID_CONFIG);

    /* Fails once */
    qtest_qmp_assert_success(qts, "{ 'execute': 'qom-set', 'arguments': "
                             "{ 'path': %s, 'property': 'fail',"
                             "  'value': 'PLATFORM_STATUS:0x18' } }", PSP_PATH);
    g_assert_cmphex(psp_command(dev, bar, PLATFORM_STATUS), ==, 0x18);
    g_assert_cmphex(psp_command(dev, bar, PLATFORM_STATUS), ==, 0);
    response = qom_get(qts, PSP_PATH, "fail");
    g_assert_cmpstr(qdict_get_str(response, "return"), ==, "");
    qobject_unref(response);

    response = qom_get(qts, PSP_PATH, "state");
    state = qdict_get_qdict(response, "return");
    g_assert_cmpstr(qdict_get_str(state, "legacy"), ==, "uninit");
    g_assert_cmpstr(qdict_get_str(state, "snp"), ==, "uninit");
    g_assert_false(qdict_get_bool(state, "rmp-initialized"));
    qobject_unref(response);

    response = qom_get(qts, SNP_PATH, "journal-entries");
    entries = qdict_get_qlist(response, "return");
    g_assert_cmpint(qlist_size(entries), ==, 8);
    check_entry(entries, "psp", "PLATFORM_STATUS", PLATFORM_STATUS, 0);
    check_entry(entries, "psp-done", "PLATFORM_STATUS", PLATFORM_STATUS, 0);
    check_entry(entries, "psp", "SNP_INIT", SNP_INIT, 0);
    check_entry(entries, "psp-done", "SNP_INIT", SNP_INIT, INVALID_CONFIG);
    check_entry(entries, "psp", "PLATFORM_STATUS", PLATFORM_STATUS, 0);
    check_entry(entries, "psp-done", "PLATFORM_STATUS", PLATFORM_STATUS, 0x18);
    qobject_unref(response);

    response = qom_get(qts, PSP_PATH, "commands");
    entries = qdict_get_qlist(response, "return");
    g_assert_cmpint(qlist_size(entries), ==, 2);
    state = qobject_to(QDict, qlist_peek(entries));
    g_assert_cmpstr(qdict_get_str(state, "name"), ==, "PLATFORM_STATUS");
    g_assert_cmpuint(get_uint(state, "count"), ==, 3);
    g_assert_cmpuint(get_uint(state, "failed"), ==, 1);
    qobject_unref(response);

    g_free(dev);
    qpci_free_pc(bus);
    qtest_quit(qts);
}

typedef struct Refusal {
    const char *name;
    const char *options;
    const char *text;
} Refusal;

static const Refusal refusals[] = {
    { "segment-size-odd", "-device amd-snp-host,segment-size=3G",
      "segment-size must be a power of two from 1G to 4T" },
    { "segment-size-large", "-device amd-snp-host,segment-size=8T",
      "segment-size must be a power of two from 1G to 4T" },
    { "segmented", "-cpu EPYC-SNP,-segmented-rmp "
      "-device amd-snp-host,segmented=on",
      "segmented=on needs a CPU with segmented-rmp" },
    { "segments-do-not-reach", "-device amd-snp-host,segment-size=1G,"
      "sparse-chunks=1,sparse-start=1T", "take a larger segment-size" },
    { "rmp-unaligned", "-device amd-snp-host,rmp-address=0x100001000",
      "rmp-address must be a multiple of 2M" },
    { "rmp-over-device", "-device amd-snp-host,rmp-address=0xfec00000",
      "choose another rmp-address" },
    { "rmp-wraps", "-device amd-snp-host,rmp-address=0xffffffffffe00000",
      "choose another rmp-address" },
    { "sparse-size", "-device amd-snp-host,sparse-chunks=1,sparse-size=64M",
      "must be multiples of 128M" },
    { "sparse-stride", "-device amd-snp-host,sparse-chunks=2,sparse-size=1G,"
      "sparse-stride=512M", "sparse-stride must not be less than sparse-size" },
    { "sparse-over-ram", "-device amd-snp-host,sparse-chunks=1,sparse-start=1G",
      "is in the way of something else" },
    { "sparse-too-far", "-device amd-snp-host,sparse-chunks=10,"
      "sparse-stride=16T", "reach beyond the 46 physical address bits" },
    { "ram-syntax", "-device amd-snp-host,ram=64G",
      "ram takes ADDRESS:SIZE[:NODE]/..., not '64G'" },
    { "ram-empty", "-device amd-snp-host,ram=64G:1G/128G:0",
      "and no size 0: not '128G:0'" },
    { "ram-node", "-device amd-snp-host,ram=64G:1G:1",
      "wants a node that is not there: add -numa node,nodeid=1" },
    { "ram-overlaps", "-device amd-snp-host,ram=64G:2G/65G:1G",
      "RAM of 0x40000000 bytes at 0x1040000000 is in the way of something "
      "else: move it by ram" },
    { "base-locked", "-device amd-snp-host,rmpopt-base-locked=on",
      "rmpopt-base-locked takes gp|ignore|off, not 'on'" },
    { "outside", "-device amd-snp-host,rmpopt-outside=ud",
      "rmpopt-outside takes cf0|gp, not 'ud'" },
    { "maxmem", "-m 2G,slots=1,maxmem=4G -device amd-snp-host",
      "leave out maxmem of -m" },
    { "two", "-device amd-snp-host -device amd-snp-host",
      "at most one amd-snp-host is possible" },
    { "accelerator", "-accel qtest -device amd-snp-host",
      "amd-snp-host is emulated: it needs -accel tcg" },
    { "machine", "-accel tcg -machine none -device amd-snp-host",
      "amd-snp-host needs a PC" },
    { "psp-alone", "-device amd-psp",
      "needs an RMP: put -device amd-snp-host before it" },
    { "psp-before", "-device amd-psp -device amd-snp-host",
      "needs an RMP: put -device amd-snp-host before it" },
    { "psp-fail", "-device amd-snp-host -device amd-psp,fail=SNP_RUN:1",
      "fail takes COMMAND:STATUS[:NTH]" },
};

static void test_refused(const void *opaque)
{
    const Refusal *refusal = opaque;
    const char *machine = strstr(refusal->options, "-machine") ? "" : MACHINE;
    const char *accel = strstr(refusal->options, "-accel") ? "" : "-accel tcg";
    /* A machine that comes up although it should not ends with success */
    g_autofree char *command = g_strdup_printf(
        "echo quit | %s %s %s -m 2G -S -display none -monitor stdio -bios %s "
        "%s", g_getenv("QTEST_QEMU_BINARY"), machine, accel, bios,
        refusal->options);
    const char *argv[] = { "/bin/sh", "-c", command, NULL };
    g_autofree char *output = NULL;
    int status;

    g_assert_true(g_spawn_sync(NULL, (char **)argv, NULL,
                               G_SPAWN_STDOUT_TO_DEV_NULL, NULL, NULL, NULL,
                               &output, &status, NULL));
    g_test_message("%s", output);
    g_assert_true(WIFEXITED(status));
    g_assert_cmpint(WEXITSTATUS(status), ==, 1);
    g_assert_nonnull(strstr(output, refusal->text));
}

int main(int argc, char **argv)
{
    int i, ret;

    g_test_init(&argc, &argv, NULL);
    make_bios();

    qtest_add_func("/amd-snp-host/place/ram", test_placed_in_ram);
    qtest_add_func("/amd-snp-host/place/option", test_placed_by_option);
    qtest_add_func("/amd-snp-host/place/elsewhere", test_placed_elsewhere);
    qtest_add_func("/amd-snp-host/ram", test_ram);
    qtest_add_func("/amd-snp-host/c-bit", test_c_bit);
    qtest_add_func("/amd-snp-host/properties", test_properties);
    qtest_add_func("/amd-snp-host/running", test_running);
    qtest_add_func("/amd-snp-host/psp", test_psp);
    for (i = 0; i < ARRAY_SIZE(refusals); i++) {
        g_autofree char *path = g_strdup_printf("/amd-snp-host/refused/%s",
                                                refusals[i].name);

        qtest_add_data_func(path, &refusals[i], test_refused);
    }

    ret = g_test_run();
    unlink(bios);
    g_free(bios);
    return ret;
}
