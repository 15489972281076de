// SPDX-License-Identifier: GPL-2.0-only
/* What the test on the host is asked, by a line that it knows. */
#include "kernel.h"

void sync_referee(void)
{
	static u32 n;

	print("# sync %u\n", ++n);
	serial_read();
}

static void read_bytes(u8 *out, u32 len)
{
	for (u32 i = 0; i < len; i++)
		out[i] = serial_read();
}

void sha384(const void *data, u64 len, u8 out[48])
{
	barrier();
	print("# sha384 %llu %llu\n", (u64)data, len);
	read_bytes(out, 48);
}

bool report_signed(const void *report)
{
	barrier();
	print("# report %llu\n", (u64)report);
	return serial_read() == '1';
}

void sign_id_block(const void *block, u8 numbers[8][48])
{
	barrier();
	print("# id-block %llu\n", (u64)block);
	read_bytes(numbers[0], 8 * 48);
}
