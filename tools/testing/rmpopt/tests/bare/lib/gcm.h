/* SPDX-License-Identifier: GPL-2.0-only */
/* AES-256-GCM, by which guests and the secure processor exchange messages. */
#ifndef BARE_GCM_H
#define BARE_GCM_H

#include "kernel.h"

#define GCM_KEY 32
#define GCM_IV 12
#define GCM_TAG 16

/* Changes the data where it is, and tells its tag. To decrypt is to compare that, too. */
void gcm(bool encrypt, const u8 key[GCM_KEY], const u8 iv[GCM_IV], const void *known, u32 known_len,
	 void *data, u32 len, u8 tag[GCM_TAG]);

#endif
