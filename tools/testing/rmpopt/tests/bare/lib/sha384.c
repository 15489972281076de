// SPDX-License-Identifier: GPL-2.0-only
/* SHA-384 (FIPS 180-4), its constants computed from the primes that define them. */
#include "psp.h"

typedef unsigned __int128 u128;

static u64 k[80], h[8];

static u64 ror(u64 x, u32 n)
{
	return x >> n | x << (64 - n);
}

/* The first 64 bits behind the point of the n-th root of p, n is 2 or 3. */
static u64 root(u32 p, u32 n)
{
	/* x = root * 2^64, below 2^68; its power in parts of 32 bits against p * 2^(64 * n). */
	u128 x = 0;

	for (s64 bit = 67; bit >= 0; bit--) {
		u128 t = x | (u128)1 << bit;
		u32 power[8] = { 1 }, i;

		for (u32 m = 0; m < n; m++) {
			u32 next[8] = {};

			for (u32 a = 0; a < 8; a++) {
				u64 carry = 0;

				for (u32 b = 0; a + b < 8; b++) {
					u64 digit = b < 3 ? (u32)(t >> (32 * b)) : 0;

					carry += next[a + b] + power[a] * digit;
					next[a + b] = carry;
					carry >>= 32;
				}
			}
			memcpy(power, next, sizeof(power));
		}
		/* Is power < p * 2^(64 * n)? Only one word of that is not zero. */
		for (i = 7; i > 2 * n && !power[i]; i--)
			;
		if (i == 2 * n && power[i] < p)
			x = t;
	}
	return x;
}

static void init(void)
{
	for (u32 n = 0, p = 2; n < 80; p++) {
		u32 d = 2;

		while (p % d)
			d++;
		if (d < p)
			continue;
		k[n] = root(p, 3);
		/* SHA-384 starts with the ninth to the sixteenth prime. */
		if (n >= 8 && n < 16)
			h[n - 8] = root(p, 2);
		n++;
	}
}

static void block(u64 s[8], const u8 *p)
{
	u64 w[80], v[8];

	for (u32 i = 0; i < 80; i++) {
		if (i < 16) {
			w[i] = 0;
			for (u32 b = 0; b < 8; b++)
				w[i] = w[i] << 8 | p[8 * i + b];
		} else {
			u64 a = w[i - 15], b = w[i - 2];

			w[i] = w[i - 16] + (ror(a, 1) ^ ror(a, 8) ^ a >> 7) + w[i - 7] +
			       (ror(b, 19) ^ ror(b, 61) ^ b >> 6);
		}
	}
	memcpy(v, s, sizeof(v));
	for (u32 i = 0; i < 80; i++) {
		u64 a = v[0], e = v[4];
		u64 t = v[7] + (ror(e, 14) ^ ror(e, 18) ^ ror(e, 41)) + ((e & v[5]) ^ (~e & v[6])) +
			k[i] + w[i];
		u64 u = (ror(a, 28) ^ ror(a, 34) ^ ror(a, 39)) +
			((a & v[1]) ^ (a & v[2]) ^ (v[1] & v[2]));

		for (u32 n = 7; n; n--)
			v[n] = v[n - 1];
		v[4] += t;
		v[0] = t + u;
	}
	for (u32 i = 0; i < 8; i++)
		s[i] += v[i];
}

void sha384(const void *data, u64 len, u8 out[48])
{
	const u8 *p = data;
	u64 s[8], n = len;
	u8 last[256] = {};
	u32 size;

	if (!k[0])
		init();
	memcpy(s, h, sizeof(s));
	for (; n >= 128; n -= 128, p += 128)
		block(s, p);
	memcpy(last, p, n);
	last[n] = 0x80;
	size = n < 112 ? 128 : 256;
	for (u32 i = 0; i < 8; i++)
		last[size - 1 - i] = len * 8 >> 8 * i;
	for (u32 i = 0; i < size; i += 128)
		block(s, last + i);
	for (u32 i = 0; i < 48; i++)
		out[i] = s[i / 8] >> (56 - i % 8 * 8);
}
