// SPDX-License-Identifier: GPL-2.0-only
/* What the test on the host is asked, by a line that it knows. */
#include "kernel.h"

void sync_referee(void)
{
	static u32 n;

	print("# sync %u\n", ++n);
	serial_read();
}
