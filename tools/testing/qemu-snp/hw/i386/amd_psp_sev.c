/*
 * AMD Platform Security Processor (PSP): the commands for SEV and SEV-ES guests
 *
 * From the "Secure Encrypted Virtualization API" (55766). What that leaves open
 * is marked as an assumption in docs/system/i386/amd-snp-host.rst. Nothing is
 * encrypted, so that a certificate and a session of the guest owner are
 * accepted unread.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "qemu/bswap.h"
#include "qapi/error.h"
#include "crypto/hash.h"
#include "crypto/hmac.h"
#include "hw/i386/amd_psp.h"
#include "cpu.h"

/* Guest policy */
#define POLICY_NODBG            (1U << 0)
#define POLICY_NOKS             (1U << 1)
#define POLICY_ES               (1U << 2)
#define POLICY_RESERVED         MAKE_64BIT_MASK(6, 10)
#define POLICY_API_MAJOR(p)     extract32(p, 16, 8)
#define POLICY_API_MINOR(p)     extract32(p, 24, 8)

/* Of data that is encrypted */
#define BLOCK_SIZE              16

#define VMSA_SIZE               4096

void psp_sev_free_guest(gpointer data)
{
    SEVGuest *guest = data;

    qcrypto_hash_free(guest->hash);
    g_free(guest);
}

static SEVGuest *sev_find_guest(AMDPSP *s, uint32_t handle)
{
    return g_hash_table_lookup(s->sev_guests, GUINT_TO_POINTER(handle));
}

/* Whether a guest is in that state, and has an ASID if it needs one */
static uint32_t sev_check_guest(const SEVGuest *guest,
                                AmdPspSevGuestState state)
{
    if (!guest) {
        return PSP_INVALID_GUEST;
    }
    if (guest->state != state) {
        return PSP_INVALID_GUEST_STATE;
    }
    return guest->asid ? PSP_SUCCESS : PSP_INACTIVE;
}

/* SEV API (55766): command buffer of commands that take nothing but a handle */
typedef struct QEMU_PACKED SEVDataHandle {
    uint32_t handle;
} SEVDataHandle;
QEMU_BUILD_BUG_ON(sizeof(SEVDataHandle) != 4);

static void sev_deactivate_guest(AMDPSP *s, SEVGuest *guest)
{
    if (guest->asid) {
        set_bit(guest->asid, s->asids_dirty);
        guest->asid = 0;
    }
}

static gboolean sev_remove_guest(gpointer key, gpointer value, gpointer opaque)
{
    sev_deactivate_guest(opaque, value);
    return true;
}

void psp_sev_remove_guests(AMDPSP *s)
{
    g_hash_table_foreach_remove(s->sev_guests, sev_remove_guest, s);
}

static uint32_t sev_decommission(AMDPSP *s, void *buf, uint64_t pa)
{
    const SEVDataHandle *data = buf;
    SEVGuest *guest = sev_find_guest(s, le32_to_cpu(data->handle));

    if (!guest) {
        return PSP_INVALID_GUEST;
    }
    if (guest->asid) {
        return PSP_ACTIVE;
    }
    g_hash_table_remove(s->sev_guests, GUINT_TO_POINTER(guest->handle));
    if (!g_hash_table_size(s->sev_guests)) {
        s->legacy = PSP_INIT;
    }
    return PSP_SUCCESS;
}

/* SEV API (55766): command buffer of ACTIVATE */
typedef struct QEMU_PACKED SEVDataActivate {
    uint32_t handle;
    uint32_t asid;
} SEVDataActivate;
QEMU_BUILD_BUG_ON(sizeof(SEVDataActivate) != 8);

static uint32_t sev_activate(AMDPSP *s, void *buf, uint64_t pa)
{
    const SEVDataActivate *data = buf;
    SEVGuest *guest = sev_find_guest(s, le32_to_cpu(data->handle));
    uint32_t asid = le32_to_cpu(data->asid);
    uint32_t min_sev_asid, max_asid;

    if (!guest) {
        return PSP_INVALID_GUEST;
    }
    psp_asid_range(&min_sev_asid, &max_asid);
    if (!asid || asid > max_asid ||
        !(guest->policy & POLICY_ES) != (asid >= min_sev_asid)) {
        return PSP_INVALID_ASID;
    }
    return psp_activate(s, &guest->asid, asid);
}

static uint32_t sev_deactivate(AMDPSP *s, void *buf, uint64_t pa)
{
    const SEVDataHandle *data = buf;
    SEVGuest *guest = sev_find_guest(s, le32_to_cpu(data->handle));

    if (!guest) {
        return PSP_INVALID_GUEST;
    }
    if (!guest->asid) {
        return PSP_INACTIVE;
    }
    sev_deactivate_guest(s, guest);
    return PSP_SUCCESS;
}

/* SEV API (55766): command buffer of GUEST_STATUS, which gets the answer */
typedef struct QEMU_PACKED SEVDataGuestStatus {
    uint32_t handle;
    uint32_t policy;
    uint32_t asid;
    uint8_t state;
} SEVDataGuestStatus;
QEMU_BUILD_BUG_ON(sizeof(SEVDataGuestStatus) != 13);

static uint32_t sev_guest_status(AMDPSP *s, void *buf, uint64_t pa)
{
    SEVDataGuestStatus *data = buf;
    SEVGuest *guest = sev_find_guest(s, le32_to_cpu(data->handle));
    uint32_t ret;

    if (!guest) {
        return PSP_INVALID_GUEST;
    }
    ret = psp_check_output(s, pa, sizeof(*data));
    if (ret == PSP_SUCCESS) {
        data->policy = cpu_to_le32(guest->policy);
        data->asid = cpu_to_le32(guest->asid);
        data->state = guest->state;
        psp_write(pa, data, sizeof(*data));
    }
    return ret;
}

/* SEV API (55766): command buffer of LAUNCH_START, which gets the handle */
typedef struct QEMU_PACKED SEVDataLaunchStart {
    uint32_t handle;
    uint32_t policy;
    uint64_t dh_cert_address;
    uint32_t dh_cert_len;
    uint32_t reserved;
    uint64_t session_address;
    uint32_t session_len;
} SEVDataLaunchStart;
QEMU_BUILD_BUG_ON(sizeof(SEVDataLaunchStart) != 36);

/* No session has a null address */
static bool sev_session_is_ram(uint64_t pa, uint32_t len)
{
    return !pa || psp_is_ram(pa, len, false);
}

/* A guest may use the key of another one, if both policies allow that */
static uint32_t sev_check_sharing(AMDPSP *s, uint32_t handle, uint32_t policy)
{
    const SEVGuest *other = sev_find_guest(s, handle);

    if (!handle) {
        return PSP_SUCCESS;
    }
    if (!other) {
        return PSP_INVALID_GUEST;
    }
    return other->policy != policy || (policy & POLICY_NOKS) ?
           PSP_POLICY_FAILURE : PSP_SUCCESS;
}

static uint32_t sev_launch_start(AMDPSP *s, void *buf, uint64_t pa)
{
    const SEVDataLaunchStart *data = buf;
    uint32_t policy = le32_to_cpu(data->policy);
    uint32_t handle, ret;
    SEVGuest *guest;

    if (data->reserved || (policy & POLICY_RESERVED)) {
        return PSP_INVALID_PARAM;
    }
    ret = psp_check_output(s, pa + offsetof(SEVDataLaunchStart, handle),
                           sizeof(data->handle));
    if (ret != PSP_SUCCESS) {
        return ret;
    }
    if (!sev_session_is_ram(le64_to_cpu(data->dh_cert_address),
                            le32_to_cpu(data->dh_cert_len)) ||
        !sev_session_is_ram(le64_to_cpu(data->session_address),
                            le32_to_cpu(data->session_len))) {
        return PSP_INVALID_ADDRESS;
    }
    ret = sev_check_sharing(s, le32_to_cpu(data->handle), policy);
    if (ret != PSP_SUCCESS) {
        return ret;
    }
    if ((POLICY_API_MAJOR(policy) << 8 | POLICY_API_MINOR(policy)) >
        (s->api_major << 8 | s->api_minor) ||
        ((policy & POLICY_ES) && !s->es)) {
        return PSP_POLICY_FAILURE;
    }
    if (g_hash_table_size(s->sev_guests) >= PSP_SEV_GUESTS_MAX) {
        return PSP_RESOURCE_LIMIT;
    }
    do {
        handle = ++s->last_handle;
    } while (!handle || sev_find_guest(s, handle));
    guest = g_new0(SEVGuest, 1);
    guest->handle = handle;
    guest->policy = policy;
    guest->state = PSP_SEV_GUEST_LUPDATE;
    guest->hash = qcrypto_hash_new(QCRYPTO_HASH_ALGO_SHA256, &error_abort);
    g_hash_table_insert(s->sev_guests, GUINT_TO_POINTER(handle), guest);
    s->legacy = PSP_WORKING;
    handle = cpu_to_le32(handle);
    psp_write(pa + offsetof(SEVDataLaunchStart, handle), &handle,
              sizeof(handle));
    return PSP_SUCCESS;
}

/* SEV API (55766): command buffer of LAUNCH_UPDATE_DATA and _VMSA */
typedef struct QEMU_PACKED SEVDataLaunchUpdate {
    uint32_t handle;
    uint32_t reserved;
    uint64_t address;
    uint32_t len;
} SEVDataLaunchUpdate;
QEMU_BUILD_BUG_ON(sizeof(SEVDataLaunchUpdate) != 20);

/* Applies @fn to @len bytes, which are RAM, in pieces */
static void sev_each_piece(uint64_t pa, uint64_t len,
                           void (*fn)(void *opaque, uint64_t offset,
                                      const uint8_t *data, size_t size),
                           void *opaque)
{
    uint8_t data[RMP_PAGE_4K];
    uint64_t offset;
    size_t size;

    for (offset = 0; offset < len; offset += size) {
        size = MIN(sizeof(data), len - offset);
        psp_read(pa + offset, data, size);
        fn(opaque, offset, data, size);
    }
}

static void sev_hash_piece(void *opaque, uint64_t offset, const uint8_t *data,
                           size_t size)
{
    SEVGuest *guest = opaque;

    qcrypto_hash_update(guest->hash, (const char *)data, size, &error_abort);
}

static uint32_t sev_launch_update_common(AMDPSP *s, SEVGuest *guest,
                                         const SEVDataLaunchUpdate *data,
                                         uint64_t align)
{
    uint64_t address = le64_to_cpu(data->address);
    uint32_t len = le32_to_cpu(data->len);
    uint32_t ret = sev_check_guest(guest, PSP_SEV_GUEST_LUPDATE);

    if (ret != PSP_SUCCESS) {
        return ret;
    }
    if (address % align) {
        return PSP_INVALID_ADDRESS;
    }
    ret = psp_check_output(s, address, len);
    if (ret == PSP_SUCCESS) {
        sev_each_piece(address, len, sev_hash_piece, guest);
    }
    return ret;
}

static uint32_t sev_launch_update_data(AMDPSP *s, void *buf, uint64_t pa)
{
    const SEVDataLaunchUpdate *data = buf;
    SEVGuest *guest = sev_find_guest(s, le32_to_cpu(data->handle));
    uint32_t len = le32_to_cpu(data->len);

    if (!len || len % BLOCK_SIZE) {
        return PSP_INVALID_LEN;
    }
    if (data->reserved) {
        return PSP_INVALID_PARAM;
    }
    return sev_launch_update_common(s, guest, data, BLOCK_SIZE);
}

static uint32_t sev_launch_update_vmsa(AMDPSP *s, void *buf, uint64_t pa)
{
    const SEVDataLaunchUpdate *data = buf;
    SEVGuest *guest = sev_find_guest(s, le32_to_cpu(data->handle));

    if (le32_to_cpu(data->len) != VMSA_SIZE) {
        return PSP_INVALID_LEN;
    }
    if (data->reserved) {
        return PSP_INVALID_PARAM;
    }
    if (guest && !(guest->policy & POLICY_ES)) {
        return PSP_POLICY_FAILURE;
    }
    return sev_launch_update_common(s, guest, data, VMSA_SIZE);
}

/* SEV API (55766): command buffer of LAUNCH_MEASURE */
typedef struct QEMU_PACKED SEVDataLaunchMeasure {
    uint32_t handle;
    uint32_t reserved;
    uint64_t address;
    uint32_t len;
} SEVDataLaunchMeasure;
QEMU_BUILD_BUG_ON(sizeof(SEVDataLaunchMeasure) != 20);

/* SEV API (55766): what LAUNCH_MEASURE writes */
typedef struct QEMU_PACKED SEVMeasurement {
    uint8_t measure[SEV_DIGEST_SIZE];
    uint8_t mnonce[16];
} SEVMeasurement;
QEMU_BUILD_BUG_ON(sizeof(SEVMeasurement) != 48);

/* SEV API (55766): what the measurement is an HMAC of */
typedef struct QEMU_PACKED SEVMeasuredData {
    uint8_t context;
    uint8_t api_major;
    uint8_t api_minor;
    uint8_t build;
    uint32_t policy;
    uint8_t ld[SEV_DIGEST_SIZE];
    uint8_t mnonce[16];
} SEVMeasuredData;
QEMU_BUILD_BUG_ON(sizeof(SEVMeasuredData) != 56);

#define MEASURE_CONTEXT         4

/* The session would bring the key. No session is read, so the key is 0. */
static void sev_measure(AMDPSP *s, SEVGuest *guest, SEVMeasurement *out)
{
    static const uint8_t tik[16];
    SEVMeasuredData data = {
        .context = MEASURE_CONTEXT,
        .api_major = s->api_major,
        .api_minor = s->api_minor,
        .build = s->build,
        .policy = cpu_to_le32(guest->policy),
    };
    g_autoptr(QCryptoHmac) hmac = qcrypto_hmac_new(QCRYPTO_HASH_ALGO_SHA256,
                                                   tik, sizeof(tik),
                                                   &error_abort);
    uint8_t *ld = guest->digest, *measure = out->measure;
    size_t ld_len = SEV_DIGEST_SIZE, measure_len = SEV_DIGEST_SIZE;

    qcrypto_hash_finalize_bytes(guest->hash, &ld, &ld_len, &error_abort);
    memcpy(data.ld, ld, SEV_DIGEST_SIZE);
    memcpy(data.mnonce, ld, sizeof(data.mnonce));
    memcpy(out->mnonce, data.mnonce, sizeof(out->mnonce));
    qcrypto_hmac_bytes(hmac, (char *)&data, sizeof(data), &measure,
                       &measure_len, &error_abort);
}

static uint32_t sev_launch_measure(AMDPSP *s, void *buf, uint64_t pa)
{
    const SEVDataLaunchMeasure *data = buf;
    SEVGuest *guest = sev_find_guest(s, le32_to_cpu(data->handle));
    uint64_t address = le64_to_cpu(data->address);
    SEVMeasurement measurement;
    uint32_t ret;

    if (data->reserved) {
        return PSP_INVALID_PARAM;
    }
    ret = sev_check_guest(guest, PSP_SEV_GUEST_LUPDATE);
    if (ret == PSP_SUCCESS) {
        ret = psp_check_length(s, pa + offsetof(SEVDataLaunchMeasure, len),
                               le32_to_cpu(data->len), sizeof(measurement));
    }
    if (ret == PSP_SUCCESS) {
        ret = psp_check_output(s, address, sizeof(measurement));
    }
    if (ret == PSP_SUCCESS) {
        sev_measure(s, guest, &measurement);
        psp_write(address, &measurement, sizeof(measurement));
        guest->state = PSP_SEV_GUEST_LSECRET;
    }
    return ret;
}

static uint32_t sev_launch_finish(AMDPSP *s, void *buf, uint64_t pa)
{
    const SEVDataHandle *data = buf;
    SEVGuest *guest = sev_find_guest(s, le32_to_cpu(data->handle));
    uint32_t ret = sev_check_guest(guest, PSP_SEV_GUEST_LSECRET);

    if (ret == PSP_SUCCESS) {
        guest->state = PSP_SEV_GUEST_RUNNING;
    }
    return ret;
}

/* SEV API (55766): command buffer of DBG_DECRYPT and DBG_ENCRYPT */
typedef struct QEMU_PACKED SEVDataDbg {
    uint32_t handle;
    uint32_t reserved;
    uint64_t src_address;
    uint64_t dst_address;
    uint32_t len;
} SEVDataDbg;
QEMU_BUILD_BUG_ON(sizeof(SEVDataDbg) != 28);

static void sev_write_piece(void *opaque, uint64_t offset, const uint8_t *data,
                            size_t size)
{
    psp_write(*(uint64_t *)opaque + offset, data, size);
}

/* Ciphertext is plaintext here, so that both directions are a copy */
static uint32_t sev_dbg(AMDPSP *s, void *buf, uint64_t pa)
{
    const SEVDataDbg *data = buf;
    SEVGuest *guest = sev_find_guest(s, le32_to_cpu(data->handle));
    uint64_t src = le64_to_cpu(data->src_address);
    uint64_t dst = le64_to_cpu(data->dst_address);
    uint32_t len = le32_to_cpu(data->len);
    uint32_t ret;

    if (!len || len % BLOCK_SIZE) {
        return PSP_INVALID_LEN;
    }
    if (data->reserved) {
        return PSP_INVALID_PARAM;
    }
    if (!guest) {
        return PSP_INVALID_GUEST;
    }
    if (guest->policy & POLICY_NODBG) {
        return PSP_POLICY_FAILURE;
    }
    if (!guest->asid) {
        return PSP_INACTIVE;
    }
    if (src % BLOCK_SIZE || dst % BLOCK_SIZE || !psp_is_ram(src, len, false)) {
        return PSP_INVALID_ADDRESS;
    }
    ret = psp_check_output(s, dst, len);
    if (ret == PSP_SUCCESS) {
        sev_each_piece(src, len, sev_write_piece, &dst);
    }
    return ret;
}

#define SEV(id)         [(id) - PSP_SEV_GUEST_COMMANDS]

const PSPCommand
psp_sev_guest_commands[PSP_SNP_COMMANDS - PSP_SEV_GUEST_COMMANDS] = {
    SEV(0x20) = { "DECOMMISSION", sev_decommission, sizeof(SEVDataHandle),
                  PSP_NEEDS_LEGACY_WORKING },
    SEV(0x21) = { "ACTIVATE", sev_activate, sizeof(SEVDataActivate),
                  PSP_NEEDS_LEGACY_WORKING },
    SEV(0x22) = { "DEACTIVATE", sev_deactivate, sizeof(SEVDataHandle),
                  PSP_NEEDS_LEGACY_WORKING },
    SEV(0x23) = { "GUEST_STATUS", sev_guest_status, sizeof(SEVDataGuestStatus),
                  PSP_NEEDS_LEGACY_WORKING },
    SEV(0x30) = { "LAUNCH_START", sev_launch_start, sizeof(SEVDataLaunchStart),
                  PSP_NEEDS_LEGACY_UP },
    SEV(0x31) = { "LAUNCH_UPDATE_DATA", sev_launch_update_data,
                  sizeof(SEVDataLaunchUpdate), PSP_NEEDS_LEGACY_WORKING },
    SEV(0x32) = { "LAUNCH_UPDATE_VMSA", sev_launch_update_vmsa,
                  sizeof(SEVDataLaunchUpdate), PSP_NEEDS_LEGACY_WORKING },
    SEV(0x33) = { "LAUNCH_MEASURE", sev_launch_measure,
                  sizeof(SEVDataLaunchMeasure), PSP_NEEDS_LEGACY_WORKING },
    SEV(0x35) = { "LAUNCH_FINISH", sev_launch_finish, sizeof(SEVDataHandle),
                  PSP_NEEDS_LEGACY_WORKING },
    SEV(0x60) = { "DBG_DECRYPT", sev_dbg, sizeof(SEVDataDbg),
                  PSP_NEEDS_LEGACY_WORKING },
    SEV(0x61) = { "DBG_ENCRYPT", sev_dbg, sizeof(SEVDataDbg),
                  PSP_NEEDS_LEGACY_WORKING },
};
