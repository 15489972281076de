/*
 * AMD Platform Security Processor (PSP): messages of SNP guests
 *
 * With SNP_GUEST_REQUEST a guest asks the firmware for an attestation report or
 * for a key. The hypervisor passes the message on, and can neither read nor
 * change it. From the "SEV Secure Nested Paging Firmware ABI Specification"
 * (56860). What that leaves open is marked as an assumption here, and listed in
 * docs/system/i386/amd-snp-host.rst.
 *
 * Ciphers and signatures are those of GnuTLS.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include <gnutls/abstract.h>
#include <gnutls/crypto.h>
#include <gnutls/gnutls.h>
#include "qemu/bswap.h"
#include "qemu/cutils.h"
#include "qapi/error.h"
#include "hw/i386/amd_psp.h"
#include "cpu.h"

/* Numbers of the curve P-384 */
#define P384_SIZE               48

/**
 * PSPSigner: what makes this chip different from others
 * @secret: keys for guests are derived from it, and it from the private key
 */
struct PSPSigner {
    gnutls_privkey_t key;
    uint8_t secret[PSP_DIGEST_SIZE];
};

void psp_free_signer(PSPSigner *signer)
{
    if (signer) {
        gnutls_privkey_deinit(signer->key);
        g_free(signer);
    }
}

static int psp_load_key(gnutls_privkey_t key, const char *file, Error **errp)
{
    g_autoptr(GError) error = NULL;
    g_autofree char *text = NULL;
    gnutls_datum_t pem;
    gsize size;

    if (!file) {
        return gnutls_privkey_generate(
            key, GNUTLS_PK_ECDSA,
            GNUTLS_CURVE_TO_BITS(GNUTLS_ECC_CURVE_SECP384R1), 0);
    }
    if (!g_file_get_contents(file, &text, &size, &error)) {
        error_setg(errp, "vcek-key: %s", error->message);
        return GNUTLS_E_FILE_ERROR;
    }
    pem = (gnutls_datum_t) { (unsigned char *)text, size };
    return gnutls_privkey_import_x509_raw(key, &pem, GNUTLS_X509_FMT_PEM, NULL,
                                          0);
}

PSPSigner *psp_new_signer(const char *file, Error **errp)
{
    PSPSigner *signer = g_new0(PSPSigner, 1);
    gnutls_ecc_curve_t curve;
    gnutls_datum_t k;
    Error *error = NULL;
    int ret = gnutls_privkey_init(&signer->key);

    if (ret < 0) {
        g_free(signer);
        error_setg(errp, "vcek-key: %s", gnutls_strerror(ret));
        return NULL;
    }
    ret = psp_load_key(signer->key, file, &error);
    if (ret < 0) {
        if (!error) {
            error_setg(&error, "vcek-key: %s", gnutls_strerror(ret));
        }
        error_propagate(errp, error);
        psp_free_signer(signer);
        return NULL;
    }
    ret = gnutls_privkey_export_ecc_raw(signer->key, &curve, NULL, NULL, &k);
    if (ret < 0 || curve != GNUTLS_ECC_CURVE_SECP384R1) {
        if (ret >= 0) {
            gnutls_free(k.data);
        }
        error_setg(errp, "vcek-key: not a private key on the curve P-384");
        psp_free_signer(signer);
        return NULL;
    }
    psp_hash384(k.data, k.size, signer->secret);
    gnutls_free(k.data);
    return signer;
}

char *psp_public_key(const PSPSigner *signer)
{
    gnutls_datum_t pem;
    gnutls_pubkey_t key;
    char *text = NULL;

    if (!signer || gnutls_pubkey_init(&key) < 0) {
        return g_strdup("");
    }
    if (gnutls_pubkey_import_privkey(key, signer->key, 0, 0) >= 0 &&
        gnutls_pubkey_export2(key, GNUTLS_X509_FMT_PEM, &pem) >= 0) {
        text = g_strndup((char *)pem.data, pem.size);
        gnutls_free(pem.data);
    }
    gnutls_pubkey_deinit(key);
    return text ?: g_strdup("");
}

/* A big-endian number, which may have zeros in front, or lack them */
static void psp_put_number(uint8_t *out, const gnutls_datum_t *number)
{
    unsigned i;

    for (i = 0; i < MIN(number->size, P384_SIZE); i++) {
        out[i] = number->data[number->size - 1 - i];
    }
}

static bool psp_sign(const PSPSigner *signer, const void *data, size_t size,
                     PSPSignature *signature)
{
    const gnutls_datum_t text = { (void *)data, size };
    gnutls_datum_t der, r, s;
    int ret;

    if (gnutls_privkey_sign_data2(signer->key, GNUTLS_SIGN_ECDSA_SHA384, 0,
                                  &text, &der) < 0) {
        return false;
    }
    ret = gnutls_decode_rs_value(&der, &r, &s);
    gnutls_free(der.data);
    if (ret < 0) {
        return false;
    }
    psp_put_number(signature->r, &r);
    psp_put_number(signature->s, &s);
    gnutls_free(r.data);
    gnutls_free(s.data);
    return true;
}

static void psp_get_number(uint8_t out[P384_SIZE], const uint8_t *number)
{
    int i;

    for (i = 0; i < P384_SIZE; i++) {
        out[i] = number[P384_SIZE - 1 - i];
    }
}

bool psp_verify(const PSPPublicKey *key, const PSPSignature *signature,
                const void *data, size_t size)
{
    const gnutls_datum_t text = { (void *)data, size };
    uint8_t numbers[4][P384_SIZE];
    gnutls_datum_t r = { numbers[0], P384_SIZE };
    gnutls_datum_t s = { numbers[1], P384_SIZE };
    gnutls_datum_t x = { numbers[2], P384_SIZE };
    gnutls_datum_t y = { numbers[3], P384_SIZE };
    gnutls_datum_t der;
    gnutls_pubkey_t pubkey;
    bool good = false;

    psp_get_number(numbers[0], signature->r);
    psp_get_number(numbers[1], signature->s);
    psp_get_number(numbers[2], key->qx);
    psp_get_number(numbers[3], key->qy);
    if (le32_to_cpu(key->curve) != PSP_CURVE_P384 ||
        gnutls_encode_rs_value(&der, &r, &s) < 0) {
        return false;
    }
    if (gnutls_pubkey_init(&pubkey) >= 0) {
        good = gnutls_pubkey_import_ecc_raw(
                   pubkey, GNUTLS_ECC_CURVE_SECP384R1, &x, &y) >= 0 &&
               gnutls_pubkey_verify_data2(pubkey, GNUTLS_SIGN_ECDSA_SHA384, 0,
                                          &text, &der) >= 0;
        gnutls_pubkey_deinit(pubkey);
    }
    gnutls_free(der.data);
    return good;
}

typedef enum SNPMessageType {
    MSG_KEY_REQ = 3,
    MSG_REPORT_REQ = 5,
} SNPMessageType;

/* A response has the type of its request + 1 */
#define MSG_RESPONSE            1
#define MSG_ALGO_AES_256_GCM    1
#define MSG_HDR_VERSION         1
#define MSG_VERSION             1

/* SNP Firmware ABI (56860): header of a message */
typedef struct QEMU_PACKED SNPMessageHeader {
    uint8_t authtag[32];
    uint64_t seqno;
    uint8_t reserved[8];
    /* From here on it is authenticated */
    uint8_t algo;
    uint8_t hdr_version;
    uint16_t hdr_size;
    uint8_t type;
    uint8_t version;
    uint16_t size;
    uint8_t reserved2[4];
    uint8_t vmpck;
    uint8_t reserved3[35];
} SNPMessageHeader;
QEMU_BUILD_BUG_ON(sizeof(SNPMessageHeader) != 0x60);
QEMU_BUILD_BUG_ON(offsetof(SNPMessageHeader, algo) != 0x30);

/* It has a page to itself */
typedef struct QEMU_PACKED SNPMessage {
    SNPMessageHeader header;
    uint8_t payload[RMP_PAGE_4K - sizeof(SNPMessageHeader)];
} SNPMessage;
QEMU_BUILD_BUG_ON(sizeof(SNPMessage) != RMP_PAGE_4K);

#define MSG_TAG_SIZE            16
#define MSG_IV_SIZE             12

/* Encrypts the payload where it is, or decrypts it if its tag is right */
static bool snp_cipher(const PSPGuest *guest, SNPMessage *message, bool encrypt)
{
    SNPMessageHeader *header = &message->header;
    gnutls_datum_t key = {
        (unsigned char *)guest->vmpck[header->vmpck], PSP_VMPCK_SIZE
    };
    giovec_t known = {
        &header->algo, sizeof(*header) - offsetof(SNPMessageHeader, algo)
    };
    giovec_t payload = { message->payload, le16_to_cpu(header->size) };
    uint8_t iv[MSG_IV_SIZE] = { 0 };
    size_t tag_size = MSG_TAG_SIZE;
    gnutls_aead_cipher_hd_t cipher;
    int ret;

    memcpy(iv, &header->seqno, sizeof(header->seqno));
    if (gnutls_aead_cipher_init(&cipher, GNUTLS_CIPHER_AES_256_GCM, &key) < 0) {
        return false;
    }
    ret = encrypt ?
        gnutls_aead_cipher_encryptv2(cipher, iv, sizeof(iv), &known, 1,
                                     &payload, 1, header->authtag, &tag_size) :
        gnutls_aead_cipher_decryptv2(cipher, iv, sizeof(iv), &known, 1,
                                     &payload, 1, header->authtag, tag_size);
    gnutls_aead_cipher_deinit(cipher);
    return ret >= 0;
}

/* Which key signs a report, or is the root of a derived key */
typedef enum SNPKeySelect {
    KEY_SELECT_DEFAULT,
    KEY_SELECT_VCEK,
    KEY_SELECT_VLEK,
} SNPKeySelect;

/* There is no VLEK, whatever VLEK_LOAD has been told */
static uint32_t snp_check_key(const PSPGuest *guest, SNPKeySelect select)
{
    if (select > KEY_SELECT_VLEK) {
        return PSP_INVALID_PARAM;
    }
    return select == KEY_SELECT_VLEK || guest->vcek_disabled ?
           PSP_INVALID_KEY : PSP_SUCCESS;
}

/* A guest may speak for its own VMPL, which the number of the key stands for */
static bool snp_vmpl_is_good(const SNPMessageHeader *header, uint32_t vmpl)
{
    return vmpl >= header->vmpck && vmpl < RMP_VMPLS;
}

/* SNP Firmware ABI (56860): MSG_REPORT_REQ */
typedef struct QEMU_PACKED SNPReportRequest {
    uint8_t report_data[64];
    uint32_t vmpl;
    uint32_t key_select;
    uint8_t reserved[24];
} SNPReportRequest;
QEMU_BUILD_BUG_ON(sizeof(SNPReportRequest) != 0x60);

/* SNP Firmware ABI (56860): a version of the firmware */
typedef struct QEMU_PACKED SNPVersion {
    uint8_t build;
    uint8_t minor;
    uint8_t major;
    uint8_t reserved;
} SNPVersion;
QEMU_BUILD_BUG_ON(sizeof(SNPVersion) != 4);

/* SNP Firmware ABI (56860): the attestation report */
typedef struct QEMU_PACKED SNPReport {
    uint32_t version;
    uint32_t guest_svn;
    uint64_t policy;
    uint8_t family_id[PSP_ID_SIZE];
    uint8_t image_id[PSP_ID_SIZE];
    uint32_t vmpl;
    uint32_t signature_algo;
    uint64_t current_tcb;
    uint64_t platform_info;
    uint32_t flags;
    uint32_t reserved;
    uint8_t report_data[64];
    uint8_t measurement[PSP_DIGEST_SIZE];
    uint8_t host_data[PSP_HOST_DATA_SIZE];
    uint8_t id_key_digest[PSP_DIGEST_SIZE];
    uint8_t author_key_digest[PSP_DIGEST_SIZE];
    uint8_t report_id[PSP_REPORT_ID_SIZE];
    uint8_t report_id_ma[PSP_REPORT_ID_SIZE];
    uint64_t reported_tcb;
    uint8_t cpuid_family;
    uint8_t cpuid_model;
    uint8_t cpuid_stepping;
    uint8_t reserved2[21];
    uint8_t chip_id[PSP_CHIP_ID_SIZE];
    uint64_t committed_tcb;
    SNPVersion current_version;
    SNPVersion committed_version;
    uint64_t launch_tcb;
    uint8_t reserved3[168];
    PSPSignature signature;
} SNPReport;
QEMU_BUILD_BUG_ON(sizeof(SNPReport) != 0x4a0);
QEMU_BUILD_BUG_ON(offsetof(SNPReport, report_data) != 0x50);
QEMU_BUILD_BUG_ON(offsetof(SNPReport, report_id) != 0x140);
QEMU_BUILD_BUG_ON(offsetof(SNPReport, chip_id) != 0x1a0);
QEMU_BUILD_BUG_ON(offsetof(SNPReport, launch_tcb) != 0x1f0);
QEMU_BUILD_BUG_ON(offsetof(SNPReport, signature) != 0x2a0);

/* The version that has family, model and stepping */
#define REPORT_VERSION          3
#define REPORT_ALGO_ECDSA_P384  1
#define PLATFORM_SMT_EN         (1ULL << 0)
#define PLATFORM_ALIAS_CHECK    (1ULL << 5)
#define REPORT_AUTHOR_KEY       (1U << 0)
#define REPORT_MASK_CHIP_KEY    (1U << 1)
#define REPORT_SIGNING_NONE     (7U << 2)

/* SNP Firmware ABI (56860): MSG_REPORT_RSP */
typedef struct QEMU_PACKED SNPReportResponse {
    uint32_t status;
    uint32_t report_size;
    uint8_t reserved[24];
    SNPReport report;
} SNPReportResponse;
QEMU_BUILD_BUG_ON(sizeof(SNPReportResponse) != 0x4c0);

static void snp_fill_report(AMDPSP *s, const PSPGuest *guest,
                            const SNPReportRequest *request, SNPReport *report)
{
    CPUX86State *env = &X86_CPU(first_cpu)->env;
    uint32_t fms = env->cpuid_version;
    const SNPVersion version = {
        .build = s->build, .minor = s->api_minor, .major = s->api_major,
    };

    *report = (SNPReport) {
        .version = cpu_to_le32(REPORT_VERSION),
        .policy = cpu_to_le64(guest->policy),
        .vmpl = request->vmpl,
        .signature_algo = cpu_to_le32(REPORT_ALGO_ECDSA_P384),
        .current_tcb = cpu_to_le64(PSP_CURRENT_TCB),
        .platform_info = cpu_to_le64(
            PLATFORM_ALIAS_CHECK |
            (env->topo_info.threads_per_core > 1 ? PLATFORM_SMT_EN : 0)),
        .flags = cpu_to_le32(
            (guest->author_key ? REPORT_AUTHOR_KEY : 0) |
            (s->mask_chip_key ? REPORT_MASK_CHIP_KEY | REPORT_SIGNING_NONE :
                                0)),
        .reported_tcb = cpu_to_le64(s->reported_tcb),
        .cpuid_family = extract32(fms, 8, 4) + extract32(fms, 20, 8),
        .cpuid_model = extract32(fms, 16, 4) << 4 | extract32(fms, 4, 4),
        .cpuid_stepping = extract32(fms, 0, 4),
        .committed_tcb = cpu_to_le64(PSP_CURRENT_TCB),
        .current_version = version,
        .committed_version = version,
        .launch_tcb = cpu_to_le64(PSP_CURRENT_TCB),
    };
    report->guest_svn = cpu_to_le32(guest->guest_svn);
    memcpy(report->family_id, guest->family_id, PSP_ID_SIZE);
    memcpy(report->image_id, guest->image_id, PSP_ID_SIZE);
    memcpy(report->report_data, request->report_data,
           sizeof(report->report_data));
    memcpy(report->measurement, guest->digest, PSP_DIGEST_SIZE);
    memcpy(report->host_data, guest->host_data, PSP_HOST_DATA_SIZE);
    memcpy(report->id_key_digest, guest->id_key_digest, PSP_DIGEST_SIZE);
    memcpy(report->author_key_digest, guest->author_key_digest,
           PSP_DIGEST_SIZE);
    memcpy(report->report_id, guest->report_id, PSP_REPORT_ID_SIZE);
    /* There is no migration agent */
    memset(report->report_id_ma, 0xff, PSP_REPORT_ID_SIZE);
    if (!s->mask_chip_id) {
        psp_get_chip_id(s, report->chip_id);
    }
}

/* These two return the status within the response, or that of the command */

static uint32_t snp_report(AMDPSP *s, const PSPGuest *guest,
                           const SNPMessage *message, void *payload,
                           uint32_t *status)
{
    const SNPReportRequest *request = (void *)message->payload;
    SNPReportResponse *response = payload;
    SNPReport *report = &response->report;

    *status = snp_check_key(guest, le32_to_cpu(request->key_select));
    if (!snp_vmpl_is_good(&message->header, le32_to_cpu(request->vmpl)) ||
        !buffer_is_zero(request->reserved, sizeof(request->reserved))) {
        *status = PSP_INVALID_PARAM;
    }
    if (*status != PSP_SUCCESS) {
        return PSP_SUCCESS;
    }
    response->report_size = cpu_to_le32(sizeof(*report));
    snp_fill_report(s, guest, request, report);
    return s->mask_chip_key ||
           psp_sign(s->signer, report, offsetof(SNPReport, signature),
                    &report->signature) ? PSP_SUCCESS : PSP_HARDWARE_ERROR;
}

/* SNP Firmware ABI (56860): MSG_KEY_REQ */
typedef struct QEMU_PACKED SNPKeyRequest {
    uint32_t key_select;
    uint32_t reserved;
    uint64_t field_select;
    uint32_t vmpl;
    uint32_t guest_svn;
    uint64_t tcb_version;
} SNPKeyRequest;
QEMU_BUILD_BUG_ON(sizeof(SNPKeyRequest) != 0x20);

#define KEY_ROOT_VMRK           (1U << 0)
#define KEY_SELECT_SHIFT        1

/* In field_select */
#define KEY_FIELD_POLICY        (1U << 0)
#define KEY_FIELD_IMAGE_ID      (1U << 1)
#define KEY_FIELD_FAMILY_ID     (1U << 2)
#define KEY_FIELD_MEASUREMENT   (1U << 3)
#define KEY_FIELD_GUEST_SVN     (1U << 4)
#define KEY_FIELD_TCB_VERSION   (1U << 5)
#define KEY_FIELDS              MAKE_64BIT_MASK(0, 6)

/* SNP Firmware ABI (56860): MSG_KEY_RSP */
typedef struct QEMU_PACKED SNPKeyResponse {
    uint32_t status;
    uint8_t reserved[28];
    uint8_t key[32];
} SNPKeyResponse;
QEMU_BUILD_BUG_ON(sizeof(SNPKeyResponse) != 0x40);

/* What a key is the digest of. Fields that are not selected are 0. */
typedef struct QEMU_PACKED SNPKeyInput {
    uint8_t root[PSP_DIGEST_SIZE];
    uint32_t root_select;
    uint32_t vmpl;
    uint64_t field_select;
    uint64_t policy;
    uint8_t image_id[PSP_ID_SIZE];
    uint8_t family_id[PSP_ID_SIZE];
    uint8_t measurement[PSP_DIGEST_SIZE];
    uint32_t guest_svn;
    uint64_t tcb_version;
} SNPKeyInput;

static uint32_t snp_derived_key(AMDPSP *s, const PSPGuest *guest,
                                const SNPMessage *message, void *payload,
                                uint32_t *status)
{
    const SNPKeyRequest *request = (void *)message->payload;
    SNPKeyResponse *response = payload;
    uint32_t select = le32_to_cpu(request->key_select);
    uint64_t fields = le64_to_cpu(request->field_select);
    uint64_t tcb = le64_to_cpu(request->tcb_version);
    SNPKeyInput input = {
        .root_select = cpu_to_le32(select & KEY_ROOT_VMRK),
        .vmpl = request->vmpl,
        .field_select = request->field_select,
    };
    uint8_t digest[PSP_DIGEST_SIZE];

    *status = select & KEY_ROOT_VMRK ? PSP_SUCCESS :
              snp_check_key(guest, select >> KEY_SELECT_SHIFT);
    if ((select >> KEY_SELECT_SHIFT) > KEY_SELECT_VLEK || request->reserved ||
        (fields & ~KEY_FIELDS) ||
        !snp_vmpl_is_good(&message->header, le32_to_cpu(request->vmpl)) ||
        le32_to_cpu(request->guest_svn) > guest->guest_svn ||
        !psp_tcb_is_reached(tcb)) {
        *status = PSP_INVALID_PARAM;
    }
    if (*status != PSP_SUCCESS) {
        return PSP_SUCCESS;
    }
    if (select & KEY_ROOT_VMRK) {
        memcpy(input.root, guest->vmrk, sizeof(guest->vmrk));
    } else {
        memcpy(input.root, s->signer->secret, sizeof(input.root));
    }
    if (fields & KEY_FIELD_POLICY) {
        input.policy = cpu_to_le64(guest->policy);
    }
    if (fields & KEY_FIELD_IMAGE_ID) {
        memcpy(input.image_id, guest->image_id, PSP_ID_SIZE);
    }
    if (fields & KEY_FIELD_FAMILY_ID) {
        memcpy(input.family_id, guest->family_id, PSP_ID_SIZE);
    }
    if (fields & KEY_FIELD_MEASUREMENT) {
        memcpy(input.measurement, guest->digest, PSP_DIGEST_SIZE);
    }
    if (fields & KEY_FIELD_GUEST_SVN) {
        input.guest_svn = request->guest_svn;
    }
    if (fields & KEY_FIELD_TCB_VERSION) {
        input.tcb_version = request->tcb_version;
    }
    psp_hash384(&input, sizeof(input), digest);
    memcpy(response->key, digest, sizeof(response->key));
    return PSP_SUCCESS;
}

typedef struct SNPMessageKind {
    SNPMessageType type;
    uint16_t size;
    uint16_t response_size;
    uint32_t (*answer)(AMDPSP *s, const PSPGuest *guest,
                       const SNPMessage *message, void *payload,
                       uint32_t *status);
} SNPMessageKind;

static const SNPMessageKind kinds[] = {
    { MSG_KEY_REQ, sizeof(SNPKeyRequest), sizeof(SNPKeyResponse),
      snp_derived_key },
    { MSG_REPORT_REQ, sizeof(SNPReportRequest), sizeof(SNPReportResponse),
      snp_report },
};

/* Which message that is, or NULL if anything in its header is wrong */
static const SNPMessageKind *snp_message_kind(const SNPMessageHeader *header)
{
    const uint8_t *tail = header->authtag + MSG_TAG_SIZE;
    int i;

    if (header->algo != MSG_ALGO_AES_256_GCM ||
        header->hdr_version != MSG_HDR_VERSION ||
        le16_to_cpu(header->hdr_size) != sizeof(*header) ||
        header->version != MSG_VERSION || header->vmpck >= RMP_VMPLS ||
        !buffer_is_zero(tail, sizeof(header->authtag) - MSG_TAG_SIZE) ||
        !buffer_is_zero(header->reserved, sizeof(header->reserved)) ||
        !buffer_is_zero(header->reserved2, sizeof(header->reserved2)) ||
        !buffer_is_zero(header->reserved3, sizeof(header->reserved3))) {
        return NULL;
    }
    for (i = 0; i < ARRAY_SIZE(kinds); i++) {
        if (kinds[i].type == header->type &&
            kinds[i].size == le16_to_cpu(header->size)) {
            return &kinds[i];
        }
    }
    return NULL;
}

/*
 * The guest's @request, which is a copy, and is decrypted here. The counter of
 * messages goes on if there is a @response, which may say that the firmware
 * does not do what it has been asked for.
 */
static uint32_t snp_answer(AMDPSP *s, PSPGuest *guest, SNPMessage *request,
                           SNPMessage *response)
{
    const SNPMessageHeader *header = &request->header;
    const SNPMessageKind *kind = snp_message_kind(header);
    uint64_t *count, seqno = le64_to_cpu(header->seqno);
    uint32_t ret, status;

    if (!kind) {
        return PSP_INVALID_PARAM;
    }
    count = &guest->message_count[header->vmpck];
    if (*count > UINT64_MAX - 2) {
        return PSP_AEAD_OFLOW;
    }
    if (seqno != *count + 1) {
        return PSP_INVALID_PARAM;
    }
    if (!snp_cipher(guest, request, false)) {
        return PSP_BAD_MEASUREMENT;
    }
    ret = kind->answer(s, guest, request, response->payload, &status);
    if (ret != PSP_SUCCESS) {
        return ret;
    }
    /* All responses begin with it */
    stl_le_p(response->payload, status);
    response->header = (SNPMessageHeader) {
        .seqno = cpu_to_le64(seqno + 1),
        .algo = MSG_ALGO_AES_256_GCM,
        .hdr_version = MSG_HDR_VERSION,
        .hdr_size = cpu_to_le16(sizeof(*header)),
        .type = header->type + MSG_RESPONSE,
        .version = header->version,
        .size = cpu_to_le16(kind->response_size),
        .vmpck = header->vmpck,
    };
    if (!snp_cipher(guest, response, true)) {
        return PSP_HARDWARE_ERROR;
    }
    *count += 2;
    return PSP_SUCCESS;
}

/* SNP Firmware ABI (56860): command buffer of SNP_GUEST_REQUEST */
typedef struct QEMU_PACKED SNPDataGuestRequest {
    uint64_t gctx_address;
    uint64_t request_address;
    uint64_t response_address;
} SNPDataGuestRequest;
QEMU_BUILD_BUG_ON(sizeof(SNPDataGuestRequest) != PSP_GUEST_REQUEST_SIZE);

uint32_t snp_guest_request(AMDPSP *s, void *buf, uint64_t pa)
{
    const SNPDataGuestRequest *data = buf;
    PSPGuest *guest = psp_find_guest(s, le64_to_cpu(data->gctx_address));
    uint64_t from = le64_to_cpu(data->request_address);
    uint64_t to = le64_to_cpu(data->response_address) & ~AMD_C_BIT;
    g_autofree SNPMessage *request = g_new0(SNPMessage, 1);
    g_autofree SNPMessage *response = g_new0(SNPMessage, 1);
    RMPEntry *entry = amd_snp_entry(amd_snp, to);
    uint32_t ret;

    if (!guest) {
        return PSP_INVALID_GUEST;
    }
    if (guest->state != PSP_GUEST_RUNNING) {
        return PSP_INVALID_GUEST_STATE;
    }
    if (from % RMP_PAGE_4K || to % RMP_PAGE_4K || !entry ||
        !psp_read(from, request, sizeof(*request))) {
        return PSP_INVALID_ADDRESS;
    }
    if (snp_entry_lo(entry) & RMP_PAGE_SIZE_2M) {
        return PSP_INVALID_PAGE_SIZE;
    }
    ret = psp_check_output(s, to, sizeof(*response));
    if (ret == PSP_SUCCESS) {
        ret = snp_answer(s, guest, request, response);
    }
    /* The page stays the firmware's: a hypervisor uses it again and again */
    if (ret == PSP_SUCCESS) {
        psp_write(to, response, sizeof(*response));
    }
    return ret;
}
