// SPDX-License-Identifier: GPL-2.0-only
/* CPUID: the features that the machine was made with. */
#include "tests.h"

void tests_cpuid(void)
{
	u32 r[4], a[4], max;
	const bool none = flag_on("no-snp");

	section("cpuid");
	cpuid(1, 0, r);
	is(r[2] >> 31, 0, "hypervisor bit is off");
	is((r[0] >> 8 & 0xf) + (r[0] >> 20 & 0xff), 0x1a, "family 1Ah");
	is((r[0] >> 4 & 0xf) | (r[0] >> 12 & 0xf0), 0x50, "model 50h");
	cpuid(0x80000008, 0, r);
	is(r[0] & 0xff, 52, "52 physical address bits");
	cpuid(0x80000000, 0, r);
	max = r[0];
	ok(max >= 0x8000001f, "leaf 8000_001F exists");
	cpuid(0x8000001f, 0, r);
	is(r[0] & (BIT(0) | BIT(1) | BIT(3) | BIT(10)), BIT(0) | BIT(1) | BIT(3) | BIT(10),
	   "SME, SEV, SEV-ES, coherency");
	is(r[1] & 0xfff, 51 | 6 << 6, "C-bit 51, 6 address bits less");
	is(has.snp, !none, "SEV-SNP as the machine was made");
	is(has.rmpread, !none && !flag_on("no-rmpread"), "RMPREAD as the machine was made");
	is(has.segmented, !none && !flag_on("no-segmented"), "segmented RMP as the machine was made");
	is(!!(r[0] & BIT(5)), !none, "VMPL with SEV-SNP");
	is(r[0] & ~(BIT(0) | BIT(1) | BIT(3) | BIT(4) | BIT(5) | BIT(10) | BIT(21) | BIT(23)), 0,
	   "8000_001F EAX: nothing else");
	is(r[1], 51 | 6 << 6 | 4 << 12, "8000_001F EBX: C-bit 51, reduction 6, 4 VMPLs");
	ok(r[2] >= r[3] && r[2] < 1024, "8000_001F ECX: highest ASID %u", r[2]);
	ok(r[3] >= 2, "8000_001F EDX: first ASID %u without SEV-ES", r[3]);
	if (has.segmented) {
		ok(max >= 0x80000025, "leaf 8000_0025 exists");
		cpuid(0x80000025, 0, r);
		is(r[0], 30 | 42 << 6, "8000_0025 EAX: segments from 1 GB to 4 TB");
		is(r[1], 64, "8000_0025 EBX: 64 segments are cached, no hard limit");
		is(r[2], 0, "8000_0025 ECX: reserved");
		is(r[3], !flag_on("no-rmpopt"), "8000_0025 EDX: RMPOPT as the machine was made");
	} else {
		cpuid(0x80000025, 0, r);
		is(max >= 0x80000025 ? r[0] | r[1] | r[2] : 0, 0, "8000_0025: no segments");
		is(has.rmpopt, 0, "8000_0025: no RMPOPT without segments");
	}
	cpuid(0x80000001, 0, a);
	ok(a[2] & BIT(2), "SVM");
	ok(a[2] & BIT(22), "topology extensions");
	cpuid(0xb, 0, r);
	cpuid(0x8000001e, 0, a);
	is((a[1] >> 8 & 0xff) + 1, r[1] & 0xffff, "8000_001E and B agree on the threads of a core");
	is(a[0], r[3], "and on the APIC id");
	cpuid(0x8000000a, 0, a);
	/* NPT, LBR virtualization, NRIP save, flush by ASID, decode assists. */
	is(a[3] & 0xcb, 0xcb, "SVM features that SEV-SNP hosts need");
}
