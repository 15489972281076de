/*
 * AMD Platform Security Processor (PSP) without messages of SNP guests
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "qapi/error.h"
#include "hw/i386/amd_psp.h"

PSPSigner *psp_new_signer(const char *file, Error **errp)
{
    if (file) {
        error_setg(errp, "vcek-key needs a QEMU that is built with GnuTLS");
    }
    return NULL;
}

void psp_free_signer(PSPSigner *signer)
{
}

char *psp_public_key(const PSPSigner *signer)
{
    return g_strdup("");
}

bool psp_verify(const PSPPublicKey *key, const PSPSignature *signature,
                const void *data, size_t size)
{
    return true;
}

uint32_t snp_guest_request(AMDPSP *s, void *buf, uint64_t pa)
{
    return PSP_UNSUPPORTED;
}
