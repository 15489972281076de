// SPDX-License-Identifier: GPL-2.0-only
/* AES-256-GCM from FIPS 197 and NIST SP 800-38D, bit by bit: small, and slow. */
#include "gcm.h"

#define ROUNDS 14

static u8 sbox[256], keys[ROUNDS + 1][16];

/* Multiplication by x in the field of AES. */
static u8 times_x(u8 a)
{
	return a << 1 ^ (a >> 7) * 0x1b;
}

/* 3 generates the field: the inverse of its power i is its power 255 - i. */
static void make_sbox(void)
{
	u8 power[256], v = 1;

	for (u32 i = 0; i < 255; i++, v ^= times_x(v))
		power[i] = v;
	power[255] = 1;
	sbox[0] = 0x63;
	for (u32 i = 0; i < 255; i++) {
		u32 inverse = power[255 - i] * 0x101;

		sbox[power[i]] = 0x63 ^ inverse ^ inverse >> 4 ^ inverse >> 5 ^ inverse >> 6 ^ inverse >> 7;
	}
}

static void expand_key(const u8 key[GCM_KEY])
{
	u8 *k = keys[0], rcon = 1;

	if (!sbox[0])
		make_sbox();
	memcpy(k, key, GCM_KEY);
	for (u32 i = GCM_KEY; i < sizeof(keys); i += 4) {
		u8 t[4];

		for (u32 j = 0; j < 4; j++) {
			u8 last = k[i - 4 + j];

			if (i % 32 == 0)
				last = sbox[k[i - 4 + (j + 1) % 4]];
			else if (i % 32 == 16)
				last = sbox[last];
			t[j] = last;
		}
		if (i % 32 == 0) {
			t[0] ^= rcon;
			rcon = times_x(rcon);
		}
		for (u32 j = 0; j < 4; j++)
			k[i + j] = k[i + j - 32] ^ t[j];
	}
}

static void encrypt_block(const u8 in[16], u8 out[16])
{
	u8 s[16], t[16];

	for (u32 i = 0; i < 16; i++)
		s[i] = in[i] ^ keys[0][i];
	for (u32 round = 1; round <= ROUNDS; round++) {
		for (u32 i = 0; i < 16; i++)
			t[i] = sbox[s[(i + i % 4 * 4) % 16]];
		for (u32 i = 0; i < 16; i++) {
			const u8 *column = t + i / 4 * 4;
			u8 a = column[i % 4], b = column[(i + 1) % 4];

			if (round == ROUNDS)
				s[i] = a;
			else
				s[i] = times_x(a ^ b) ^ b ^ column[(i + 2) % 4] ^ column[(i + 3) % 4];
			s[i] ^= keys[round][i];
		}
	}
	memcpy(out, s, 16);
}

static u64 get_be64(const u8 *p)
{
	u64 v = 0;

	for (u32 i = 0; i < 8; i++)
		v = v << 8 | p[i];
	return v;
}

static void put_be64(u8 *p, u64 v)
{
	for (u32 i = 0; i < 8; i++)
		p[i] = v >> (56 - 8 * i);
}

/* The digest goes on by the data, with zeros up to the next 16 bytes. */
static void ghash(u64 y[2], const u64 h[2], const u8 *data, u32 len)
{
	for (u32 at = 0; at < len; at += 16) {
		u8 block[16] = { 0 };
		u64 high = h[0], low = h[1], z[2] = { 0, 0 };

		memcpy(block, data + at, len - at < 16 ? len - at : 16);
		y[0] ^= get_be64(block);
		y[1] ^= get_be64(block + 8);
		for (u32 i = 0; i < 128; i++) {
			u64 lost = low & 1;

			if (y[i / 64] >> (63 - i % 64) & 1) {
				z[0] ^= high;
				z[1] ^= low;
			}
			low = low >> 1 | high << 63;
			high = high >> 1 ^ lost * 0xe1ULL << 56;
		}
		y[0] = z[0];
		y[1] = z[1];
	}
}

/* Block n of the key stream. */
static void stream(const u8 iv[GCM_IV], u32 n, u8 out[16])
{
	u8 counter[16];

	memcpy(counter, iv, GCM_IV);
	for (u32 i = 0; i < 4; i++)
		counter[GCM_IV + i] = n >> (24 - 8 * i);
	encrypt_block(counter, out);
}

void gcm(bool encrypt, const u8 key[GCM_KEY], const u8 iv[GCM_IV], const void *known, u32 known_len,
	 void *data, u32 len, u8 tag[GCM_TAG])
{
	u8 zero[16] = { 0 }, block[16], *p = data;
	u64 h[2], y[2] = { 0, 0 };

	expand_key(key);
	encrypt_block(zero, block);
	h[0] = get_be64(block);
	h[1] = get_be64(block + 8);
	ghash(y, h, known, known_len);
	if (!encrypt)
		ghash(y, h, data, len);
	for (u32 i = 0; i < len; i++) {
		if (i % 16 == 0)
			stream(iv, i / 16 + 2, block);
		p[i] ^= block[i % 16];
	}
	if (encrypt)
		ghash(y, h, data, len);
	put_be64(block, known_len * 8ULL);
	put_be64(block + 8, len * 8ULL);
	ghash(y, h, block, 16);
	stream(iv, 1, block);
	put_be64(tag, y[0] ^ get_be64(block));
	put_be64(tag + 8, y[1] ^ get_be64(block + 8));
}
